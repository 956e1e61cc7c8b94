"""An index as plain NumPy arrays in one .npz file, without pickle."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poeem.checks import as_path
from poeem.config import BuildConfig
from poeem.errors import CorruptIndexError, IndexFileError, NotAnIndexError
from poeem.files import UNREADABLE, atomic_write, reason
from poeem.index import Index
from poeem.interchange.plain import PlainArrays, encoding_of
from poeem.types import Array, Family, Metric

_NEEDED = ("codes", "codebooks")
_OPTIONAL = (
    *("ids", "lists", "centroids", "rotation", "metric", "family", "lineage"),
    *("error_metric", "encoding"),
)
_TITLES = ("title_bytes", "title_offsets")


def export_npz(index: Index, path: str | os.PathLike[str]) -> None:
    """Write an index as arrays named as the arguments of `build_index_from_codes`, atomically.

    codes, codebooks, ids, and as there are any lists, centroids, rotation, error_metric; metric,
    family, lineage and the numbers of `Encoding` (both JSON) as texts; titles as UTF-8 in
    `title_bytes`, that of item i from title_offsets[i] up to title_offsets[i + 1]. Items stand in
    storage order.

    Raises:
        SaveError: the system refused; what was at `path` is untouched.
    """
    plain = PlainArrays.of(index)
    arrays = {
        "codes": plain.codes,
        "codebooks": plain.codebooks,
        "ids": plain.ids,
        "lists": plain.lists,
        "centroids": plain.centroids,
        "rotation": plain.rotation,
        "metric": np.array(plain.metric.value),
        "family": np.array(str(plain.family)),
        "lineage": np.array(json.dumps(dict(plain.lineage))),
        "error_metric": plain.encoding.error_metric,
        "encoding": np.array(json.dumps(plain.encoding_values)),
        **_pack_titles(plain.titles),
    }
    there = {name: array for name, array in arrays.items() if array is not None}
    with atomic_write(as_path(path)) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **there)


def import_npz(path: str | os.PathLike[str], *, metric: str | None = None) -> Index:
    """Return an index of the arrays in a .npz file; see `export_npz` for their names.

    Args:
        path: the file; codes and codebooks must be in it, the rest may be.
        metric: None = that of the file, and where it has none, "ip".

    Raises:
        NotAnIndexError: no such file, or not a .npz file.
        CorruptIndexError: an array is damaged, holds Python objects, is unknown or missing.
        InputError: arrays that do not fit together, as in `build_index_from_codes`.
    """
    path = as_path(path)
    arrays = _load(path)
    unknown = sorted(set(arrays) - {*_NEEDED, *_OPTIONAL, *_TITLES})
    missing = [name for name in _NEEDED if name not in arrays]
    if unknown or missing:
        raise CorruptIndexError(
            f"{path}: arrays missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(unknown) or 'none'}; wanted {', '.join(_NEEDED)}, and if there are any "
            f"{', '.join((*_OPTIONAL, *_TITLES))}"
        )
    try:
        return PlainArrays(
            codes=arrays["codes"],
            codebooks=arrays["codebooks"],
            ids=arrays["ids"] if "ids" in arrays else np.arange(_num_rows(arrays["codes"])),
            lists=arrays.get("lists"),
            centroids=arrays.get("centroids"),
            rotation=arrays.get("rotation"),
            family=Family.of(_text(arrays, "family") or Family.PRODUCT),
            metric=Metric.of(metric or _text(arrays, "metric") or BuildConfig().metric),
            lineage=json.loads(_text(arrays, "lineage") or "{}"),
            titles=_unpack_titles(arrays),
            encoding=encoding_of(
                json.loads(_text(arrays, "encoding") or "{}"), arrays.get("error_metric")
            ),
        ).build()
    except (ValueError, IndexError, RecursionError) as error:
        if type(error).__module__.startswith("poeem"):
            raise
        raise CorruptIndexError(f"{path}: {error}") from None


def _num_rows(codes: Array) -> int:
    if codes.ndim != 2:
        raise CorruptIndexError(f"codes: got shape {codes.shape}, wanted [n, num_subspaces]")
    return len(codes)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:  # opened here: NumPy leaves it open where it fails
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise NotAnIndexError(f"{path}: one array, wanted a .npz file of several")
            with file:
                return {name: _member(path, file, name) for name in file.files}
    except FileNotFoundError:
        raise NotAnIndexError(f"{path}: no such file") from None
    except IndexFileError:
        raise
    except UNREADABLE as error:
        raise NotAnIndexError(f"{path}: not a .npz file: {reason(error)}") from None


def _member(path: Path, file: Mapping[str, Any], name: str) -> Array:
    try:
        array: Array = file[name]
    except UNREADABLE as error:
        raise CorruptIndexError(f"{path}: {name}: {reason(error)}") from None
    return array


def _text(arrays: Mapping[str, Array], name: str) -> str | None:
    if name not in arrays:
        return None
    array = arrays[name]
    if array.shape != () or array.dtype.kind != "U":
        raise CorruptIndexError(f"{name}: got {array.dtype} {array.shape}, wanted one text")
    return str(array)


def _pack_titles(titles: list[str] | None) -> dict[str, Array]:
    if titles is None:
        return {}
    encoded = [title.encode() for title in titles]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {
        "title_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "title_offsets": offsets,
    }


def _unpack_titles(arrays: Mapping[str, Array]) -> list[str] | None:
    if "title_bytes" not in arrays and "title_offsets" not in arrays:
        return None
    if not all(name in arrays for name in _TITLES):
        raise CorruptIndexError(f"wanted both of {' and '.join(_TITLES)}, or none")
    blob, offsets = arrays["title_bytes"].tobytes(), arrays["title_offsets"].astype(np.int64)
    if offsets.ndim != 1 or (np.diff(offsets) < 0).any() or offsets.min(initial=0) < 0:
        raise CorruptIndexError("title_offsets: they fall")
    if not len(offsets) or (offsets[0], offsets[-1]) != (0, len(blob)):
        raise CorruptIndexError(
            f"title_offsets: wanted 0 to the {len(blob)} bytes of title_bytes, got "
            f"{offsets[:1].tolist()} to {offsets[-1:].tolist()}"
        )
    return [blob[a:b].decode() for a, b in itertools.pairwise(offsets.tolist())]

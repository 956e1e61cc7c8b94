"""The index file of the authors' release (TensorFlow 1.15), read with care.

Little-endian, packed, without magic number, version or checksum:

    int8     use_residual                1: codes are of x - centroid; 0: of x
    int64    n, d, n_cluster, K, D       num_items, dim, num_lists, num_codewords, num_subspaces
    float32  codebook [D, K, d / D]
    int64    ids [n]
    float32  norms [n]
    uint8    codes [n, D]                uint16 where K > 256
    float32  centroids [n_cluster, d]
    uint32   assignments [n]             the list of each item

`docs/authors_index.md` says where its own search is wrong and what is done instead.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poeem.checks import as_path
from poeem.config import BuildConfig
from poeem.errors import (
    CorruptIndexError,
    IdError,
    IndexFileError,
    NotAnIndexError,
    TruncatedIndexError,
)
from poeem.index import Index, build_index_from_codes
from poeem.types import Array

_HEADER = struct.Struct("<b5q")
_MAX_CODEWORDS = 65_536


@dataclass(frozen=True)
class AuthorsHeader:
    """The six numbers in front, checked against each other; sizes are Python's, without end."""

    use_residual: bool
    num_items: int
    dim: int
    num_lists: int
    num_codewords: int
    num_subspaces: int

    def layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return name -> element type and shape of the arrays, in the order of the file."""
        codes = "|u1" if self.num_codewords <= 256 else "<u2"
        sub_dim = self.dim // self.num_subspaces
        return {
            "codebook": ("<f4", (self.num_subspaces, self.num_codewords, sub_dim)),
            "ids": ("<i8", (self.num_items,)),
            "norms": ("<f4", (self.num_items,)),
            "codes": (codes, (self.num_items, self.num_subspaces)),
            "centroids": ("<f4", (self.num_lists, self.dim)),
            "assignments": ("<u4", (self.num_items,)),
        }

    def file_bytes(self) -> int:
        """Return how long a file of these numbers is."""
        sizes = [np.dtype(t).itemsize * math.prod(shape) for t, shape in self.layout().values()]
        return _HEADER.size + sum(sizes)


def import_authors_index(
    path: str | os.PathLike[str],
    *,
    metric: str = BuildConfig().metric,
    rotation: Any = None,
) -> Index:
    """Return an index file of the authors' release as an index of this library.

    It is searched with one vector or several of a user, `[n, dim]` or `[n, num_heads, dim]`, as
    theirs is; each item comes at most once, with its best score. The three metrics are what their
    names say, lists are probed by the metric searched, and items whose stored norm is 0 are there;
    norms are computed from the codes, those of the file are only checked. Where codes are not of
    residuals, scores do not depend on the list: the index has none, and every search is exhaustive.
    Codewords are numbered anew (`build_index_from_codes`, renumber).

    Args:
        path: the file.
        metric: "ip", "l2" or "cosine": the file does not say; theirs is chosen at each search.
        rotation: float32 [dim, dim], x' = rotation @ x: the transpose of the release's
            `rotation_matrix`, which the file does not hold. None: queries are rotated already.

    Raises:
        NotAnIndexError: no such file, or it cannot be one by its numbers.
        TruncatedIndexError: it ends before its numbers say.
        CorruptIndexError: it goes on after them, or holds what cannot be: codes beyond the
            codebook, assignments beyond the centroids, an id twice, NaN.
        ShapeError, DtypeError, InputError, ConfigError: of rotation and metric.
    """
    path = as_path(path)
    try:
        header, arrays = _read(path)
        _check(header, arrays)
    except IndexFileError as error:
        raise type(error)(f"{path}: {error}") from None
    lineage: dict[str, Any] = {
        "imported_from": "the authors' index file",
        "use_residual": header.use_residual,
    }
    if dropped := int((arrays["norms"] == 0).sum()):
        lineage["items_of_norm_0"] = dropped  # the release never returns them
    lists: dict[str, Any] = {"lists": arrays["assignments"], "centroids": arrays["centroids"]}
    try:
        return build_index_from_codes(
            codes=arrays["codes"],
            codebooks=arrays["codebook"],
            ids=arrays["ids"],
            rotation=rotation,
            metric=metric,
            lineage=lineage,
            renumber=True,
            **(lists if header.use_residual else {}),
        )
    except IdError as error:
        raise CorruptIndexError(f"{path}: {error}") from None


def read_authors_header(path: Path) -> AuthorsHeader:
    """Return the numbers in front of a file that is exactly as long as they say.

    Raises:
        NotAnIndexError, TruncatedIndexError, CorruptIndexError: as in `import_authors_index`.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # asked first: opening a pipe would wait for a writer
            raise NotAnIndexError("not a regular file")
        with path.open("rb") as file:
            start = file.read(_HEADER.size)
    except FileNotFoundError:
        raise NotAnIndexError("no such file") from None
    except OSError as error:
        raise IndexFileError(f"cannot be read, {error}") from error
    if len(start) < _HEADER.size:
        raise TruncatedIndexError(f"ends after {len(start)} bytes, within its {_HEADER.size} first")
    residual, *counts = _HEADER.unpack(start)
    if residual not in (0, 1):
        raise NotAnIndexError(f"use_residual: got {residual}, wanted 0 or 1")
    header = AuthorsHeader(bool(residual), *counts)
    _check_counts(header)
    wanted = header.file_bytes()
    if size < wanted:
        raise TruncatedIndexError(f"{size} bytes, wanted {wanted} by its own numbers")
    if size > wanted:
        raise CorruptIndexError(f"{size} bytes, wanted {wanted} by its own numbers")
    return header


def _check_counts(header: AuthorsHeader) -> None:
    wanted = {
        "n": (header.num_items, 1),
        "d": (header.dim, 1),
        "n_cluster": (header.num_lists, 1 if header.use_residual else 0),
        "K": (header.num_codewords, 2),
        "D": (header.num_subspaces, 1),
    }
    for name, (got, least) in wanted.items():
        if got < least:
            raise NotAnIndexError(f"{name}: got {got}, wanted at least {least}")
    if header.num_codewords > _MAX_CODEWORDS:
        raise NotAnIndexError(f"K: got {header.num_codewords}, wanted at most {_MAX_CODEWORDS}")
    if header.dim % header.num_subspaces:
        raise NotAnIndexError(f"d: got {header.dim}, wanted a multiple of D={header.num_subspaces}")


def _read(path: Path) -> tuple[AuthorsHeader, dict[str, Array]]:
    header = read_authors_header(path)
    arrays = {}
    with path.open("rb") as file:
        file.seek(_HEADER.size)
        for name, (dtype, shape) in header.layout().items():
            found = np.fromfile(file, dtype=dtype, count=math.prod(shape))
            if found.size != math.prod(shape):
                raise TruncatedIndexError(f"{name}: the file became shorter")
            arrays[name] = found.reshape(shape)
    return header, arrays


def _check(header: AuthorsHeader, arrays: dict[str, Array]) -> None:
    """Check what the engine would trust."""
    for name in ("codebook", "norms", "centroids"):
        if not np.isfinite(arrays[name]).all():
            raise CorruptIndexError(f"{name}: NaN or infinity")
    if float(arrays["norms"].min()) < 0:
        raise CorruptIndexError("norms: some are negative")
    limits = {"codes": header.num_codewords, "assignments": max(header.num_lists, 1)}
    for name, limit in limits.items():
        if int(arrays[name].max()) >= limit:
            row = int(np.argmax((arrays[name] >= limit).reshape(header.num_items, -1).any(axis=1)))
            raise CorruptIndexError(
                f"{name}: got {arrays[name][row].max()} in row {row}, wanted below {limit}"
            )

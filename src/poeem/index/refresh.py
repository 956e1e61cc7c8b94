"""Yesterday's index and today's model: encode what changed, and say what that is. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poeem.checks import as_array, check_vectors
from poeem.config import BuildConfig
from poeem.errors import ConfigError, DtypeError, IdError, ShapeError
from poeem.files import UNREADABLE, atomic_write
from poeem.index.arguments import check_ids
from poeem.index.builder import build_index, build_index_from_codes
from poeem.index.index import Index
from poeem.types import Array, FloatArray, IntArray, Metric, QuantizerParts, TrainedQuantizer

CHECKSUMS_SUFFIX = ".vectors"
# Scores held at once by the exact search, in floats.
_BLOCK = 1 << 25


@dataclass(frozen=True)
class Refreshed:
    """A new index, and how it differs from the one before.

    index: the new one; nothing has been written.
    checksums: uint64 [num_items] of the vectors, in storage order; see `save_checksums`.
    num_kept, num_added, num_removed: items by id.
    num_encoded: vectors that were encoded; of the others codes were taken over.
    same_layer: whether rotation, centroids, codebooks and the way codes are found (`Encoding`) are
        those of the index before, to the bit.
    compared: whether checksums of the vectors of the index before were there to compare with.
    codes_changed, lists_changed: share of the items kept; of lists None where there are none.
    """

    index: Index
    checksums: Array
    num_kept: int
    num_added: int
    num_removed: int
    num_encoded: int
    same_layer: bool
    compared: bool
    codes_changed: float
    lists_changed: float | None


def refresh_index(
    index: Index,
    layer: TrainedQuantizer | QuantizerParts,
    ids: Any,
    vectors: Any,
    *,
    checksums: Array | None = None,
    titles: Iterable[str] | None = None,
    lineage: Mapping[str, Any] | None = None,
    sample_queries: Any = None,
    batch_size: int = BuildConfig().batch_size,
    progress: Callable[[int, int], None] | None = None,
    rows_before: IntArray | None = None,
) -> Refreshed:
    """Encode today's vectors with today's layer into an index with the metric of yesterday's.

    Where the layer is frozen, that is rotation, centroids, codebooks and the way codes are found
    (`Encoding`) are those of the index to the bit, only new and changed vectors are encoded. What
    has changed is known by 64-bit checksums of the vectors (a changed vector passes for an old one
    once in 2^64); without `checksums` of the vectors before, all are encoded.

    Args:
        index: of yesterday; it stays as it is.
        layer, ids, vectors, titles, lineage, batch_size, progress: of today, as in `build_index`.
        checksums: uint64 [index.num_items], in storage order, of the vectors that `index` was made
            of, such as `load_checksums` returns; None = not known.
        sample_queries: of today's model, for `Index.calibrated` with the k of `index`; None = what
            `index` knows of recall by lists visited still holds, as it does while the layer stays
            the same.
        rows_before: int64 [n], where in storage order an item stood, -1 = it is new; None = items
            are the same by their ids.

    Raises:
        ShapeError, DtypeError, NonFiniteError, IdError, ConfigError, NotWarmError: as in
            `build_index`, and of `checksums` and `rows_before`. ConfigError: `index` is calibrated,
            today's layer has lists and is another, and there are no `sample_queries`: searches for
            a `target_recall` would fail.
    """
    batch_size = BuildConfig(batch_size=batch_size).batch_size
    parts = layer if isinstance(layer, QuantizerParts) else layer.export_parts()
    array = as_array("vectors", vectors)
    if array.ndim != 2 or len(array) == 0:
        raise ShapeError(f"vectors: got shape {array.shape}, wanted [n, dim] with n > 0")
    ids = np.arange(len(array)) if ids is None else check_ids(ids, len(array))
    if rows_before is None:
        before = _rows_before(index, ids)
    else:
        before = _checked_rows(rows_before, len(ids), index.num_items)
    if checksums is not None:
        checksums = _checked("checksums", checksums, np.uint64, index.num_items)
    fresh = np.concatenate(
        [_checksums(array[i : i + batch_size], i) for i in range(0, len(array), batch_size)]
    )
    same_layer = same_parts(index, parts)
    _check_calibration(index, parts, same_layer, sample_queries)
    known_k = None if index.calibration is None else index.calibration.k
    known = np.zeros(len(array), dtype=bool)
    if same_layer and checksums is not None:
        known = (before >= 0) & (checksums[before] == fresh)
    changed = np.flatnonzero(~known)
    codes, lists = _codes_of(index, layer, array, before, changed, batch_size, progress)
    made = build_index_from_codes(
        codes=codes,
        codebooks=parts.codebooks,
        family=parts.family,
        lists=lists,
        centroids=parts.centroids,
        rotation=parts.rotation,
        ids=ids,
        metric=index.metric,
        titles=titles,
        lineage=lineage,
        encoding=parts.encoding,
    )
    if sample_queries is not None:
        made = made.calibrated(sample_queries, *(() if known_k is None else (known_k,)))
    elif same_layer:
        made = made.with_calibration_of(index)
    kept = np.flatnonzero(before >= 0)
    return Refreshed(
        index=made,
        checksums=in_storage_order(made, ids, fresh),
        num_kept=len(kept),
        num_added=len(ids) - len(kept),
        num_removed=index.num_items - len(kept),
        num_encoded=len(changed),
        same_layer=same_layer,
        compared=checksums is not None,
        codes_changed=_share_changed(index.codes, codes, before, kept) or 0.0,
        lists_changed=_share_changed(index.lists, lists, before, kept),
    )


def _checked(name: str, values: Any, dtype: type, count: int) -> Array:
    array = as_array(name, values)
    if array.dtype != dtype:
        raise DtypeError(f"{name}: got {array.dtype}, wanted {np.dtype(dtype)}")
    if array.shape != (count,):
        raise ShapeError(f"{name}: got shape {array.shape}, wanted ({count},)")
    return array


def _checked_rows(rows: Any, count: int, num_items: int) -> IntArray:
    array = _checked("rows_before", rows, np.int64, count)
    if len(array) and not -1 <= array.min() <= array.max() < num_items:
        raise IdError(
            f"rows_before: got {array.min()} to {array.max()}, wanted -1 to {num_items - 1}"
        )
    return array


def vector_checksums(vectors: Any) -> Array:
    """Return a 64-bit checksum of each row of float32 or float16 [n, dim]: uint64 [n]."""
    return _checksums(vectors, 0)


def _checksums(vectors: Any, first_row: int) -> Array:
    rows = check_vectors("vectors", vectors, first_row=first_row)
    digests = [hashlib.blake2b(row.data, digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def in_storage_order(index: Index, ids: IntArray | None, checksums: Array) -> Array:
    """Return checksums [n] of vectors by ids [n] (None = 0..n-1) in the order of an index."""
    return checksums[index.ids if ids is None else _rows_of(ids, index.ids)]


def save_checksums(path: str | os.PathLike[str], index: Index, checksums: Array) -> None:
    """Keep checksums uint64 [num_items], in storage order, beside the file of an index.

    They say which index they are of, so that none are better than those of another.

    Raises:
        SaveError: the system refused.
    """
    with atomic_write(_beside(path)) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, of=np.array(_identity(index)), checksums=checksums)


def load_checksums(path: str | os.PathLike[str], index: Index) -> Array | None:
    """Return what `save_checksums` kept beside a file; None: nothing, damaged, or of another."""
    try:
        with _beside(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            of, checksums = str(file["of"]), file["checksums"]
    except UNREADABLE:
        return None
    fits = checksums.shape == (index.num_items,) and checksums.dtype == np.uint64
    return checksums if fits and of == _identity(index) else None


def exact_rows(vectors: FloatArray, queries: FloatArray, k: int, metric: Metric) -> IntArray:
    """Return the rows of the k highest scores over float vectors, the best first.

    Args:
        vectors: float32 [n, dim].
        queries: float32 [num_queries, dim].
        k: rows per query, at most n.
        metric: what a score is.

    Returns:
        int64 [num_queries, k]; which of equal scores comes first is not defined.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors)
    found = np.zeros((len(queries), k), dtype=np.int64)
    step = max(1, _BLOCK // len(vectors))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ vectors.T
        if metric is Metric.L2:
            scores = 2 * scores - squares
        elif metric is Metric.COSINE:
            scores = scores / np.sqrt(np.where(squares > 0, squares, 1))
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found[start : start + step] = np.take_along_axis(best, order, axis=1)
    return found


def _rows_before(index: Index, ids: IntArray) -> IntArray:
    """Return where ids stand in an index, int64 [n], -1 = nowhere."""
    stored = index.ids
    rows = _rows_of(stored, ids)
    return np.where(stored[rows] == ids, rows, -1)


def _rows_of(ids: IntArray, wanted: IntArray) -> IntArray:
    """Return the row in `ids`, all different, of each id wanted; any row where there is none."""
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids[order], wanted).clip(max=len(ids) - 1)
    return np.asarray(order[places], dtype=np.int64)


def same_parts(index: Index, parts: QuantizerParts) -> bool:
    """Return whether parts are those of an index, and find codes in the same way, to the bit."""
    old, new = index.encoding, parts.encoding
    pairs = (
        (old.error_metric, new.error_metric),
        (index.rotation, parts.rotation),
        (index.centroids, parts.centroids),
        (index.codebooks, parts.codebooks),
    )
    alike = (old.beam, old.parallel_weight) == (new.beam, new.parallel_weight)
    if index.family != parts.family or not alike:
        return False
    return all(a is b if a is None or b is None else bool(np.array_equal(a, b)) for a, b in pairs)


def _check_calibration(
    index: Index, parts: QuantizerParts, same_layer: bool, sample_queries: Any
) -> None:
    """Refuse an index that would answer `target_recall` no longer."""
    if index.calibration is None or same_layer or sample_queries is not None:
        return
    if parts.centroids is not None:
        raise ConfigError(
            "sample_queries: got none, but the index is calibrated and its lists are others today; "
            "wanted queries of today's model, which target_recall is measured with"
        )


def _codes_of(
    index: Index,
    layer: TrainedQuantizer | QuantizerParts,
    vectors: Array,
    before: IntArray,
    changed: IntArray,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Array | None]:
    """Return codes and lists of all vectors: of the changed encoded, of the others taken over."""

    def encode(wanted: Array) -> tuple[Array, Array | None]:
        made = build_index(layer, None, wanted, batch_size=batch_size, progress=progress)
        rows = np.argsort(made.ids)  # an index stands by list, ids are rows
        return made.codes[rows], None if made.lists is None else made.lists[rows]

    if len(changed) == len(vectors):
        return encode(vectors)
    codes = index.codes[before]
    lists = None if index.lists is None else index.lists[before]
    if len(changed):
        codes[changed], changed_lists = encode(vectors[changed])
        if lists is not None:
            lists[changed] = changed_lists
    return codes, lists


def _share_changed(
    old: Array | None, new: Array | None, before: IntArray, kept: IntArray
) -> float | None:
    """Return the share of the items kept of which something differs; None: nothing to compare."""
    if (old is None and new is None) or not len(kept):
        return None
    if old is None or new is None or old.shape[1:] != new.shape[1:]:
        return 1.0
    differs = (old[before[kept]] != new[kept]).reshape(len(kept), -1).any(axis=1)
    return float(differs.mean())


def _identity(index: Index) -> str:
    """Return what differs for any two indexes of different items, codes or lists."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (index.ids, index.codes, index.lists):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _beside(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path.with_name(path.name + CHECKSUMS_SUFFIX)

"""An index as one of Faiss: tables are set, nothing is trained, and Faiss gives the same answers.

| here | Faiss |
|---|---|
| rotation | `IndexPreTransform` with a `LinearTransform` |
| product codes without lists | `IndexPQ` |
| product codes with lists | `IndexIVFPQ` over an `IndexFlat` of the centroids |
| residual codes | `IndexResidualQuantizer`, `IndexIVFResidualQuantizer`; l2: norms in float32 |
| ids | in the inverted lists; without lists an `IndexIDMap2` around it all |
| ip, l2 | `METRIC_INNER_PRODUCT`, `METRIC_L2` (its distances are minus our scores) |
| cosine | inner product behind a `NormalizationTransform`, where all items have one length |
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np

from poeem.checks import as_path
from poeem.errors import UnsupportedIndexError
from poeem.files import atomic_write
from poeem.index import Index
from poeem.index.codes import decode
from poeem.index.search_call import check_count
from poeem.interchange.bits import pack_bits
from poeem.interchange.faiss_module import require_faiss
from poeem.interchange.plain import PlainArrays
from poeem.types import Array, Family, FloatArray, Metric

# Items whose lengths differ by less are of one length: the rounding of float32 norms.
_SAME_LENGTH = 1e-5
_CHUNK = 1 << 16  # items decoded at a time


def to_faiss(index: Index, *, num_probes: int | None = None) -> Any:
    """Return an index of Faiss that gives the answers of this one, equal up to ties.

    Nothing is trained: Faiss's tables are set, and what it derives from them is derived. Where
    num_codewords is no power of two, the first codeword of a subspace fills its codebook up.
    Titles, lineage and calibration have no place in it. Vectors that Faiss then adds itself get the
    nearest codewords in the plain distance, as the layer would give them where its `encoding` is
    the plain one; for others add them with a `LiveIndex`, or refresh, and export again. With cosine
    Faiss chooses lists by inner product, so that answers are the same where all are visited.

    Args:
        index: with the metric ip or l2; cosine if all items have one length.
        num_probes: Faiss's `nprobe`, a field of its index; None = all lists, as here.

    Raises:
        UnsupportedIndexError: the metric is cosine and items differ in length.
        ConfigError: num_probes no integer of at least 1.
        MissingDependencyError: faiss is not installed.
    """
    faiss = require_faiss()
    if num_probes is not None:
        num_probes = check_count("num_probes", num_probes, 1, 2**63 - 1)
    arrays = PlainArrays.of(index)
    transforms = []
    if arrays.metric is Metric.COSINE:
        arrays = _of_length_one(arrays, index)
        transforms.append(faiss.NormalizationTransform(index.dim, 2.0))
    if arrays.rotation is not None:
        transforms.append(_linear_transform(faiss, arrays.rotation))
    if arrays.centroids is None:
        found = _flat(faiss, arrays)
    else:
        found = _inverted_lists(faiss, arrays, num_probes)
    for transform in reversed(transforms):
        found = _before(faiss, transform, found)
    if arrays.centroids is None and not _are_positions(arrays.ids):
        found = _with_ids(faiss, found, arrays.ids)
    return found


def export_faiss(
    index: Index, path: str | os.PathLike[str], *, num_probes: int | None = None
) -> None:
    """Write what `to_faiss` returns to a file for `faiss.read_index`, atomically.

    Raises:
        UnsupportedIndexError, ConfigError, MissingDependencyError: as in `to_faiss`.
        SaveError: the system refused; what was at `path` is untouched.
    """
    found = to_faiss(index, num_probes=num_probes)
    faiss = require_faiss()
    with atomic_write(as_path(path)) as temporary, open(temporary, "wb") as file:
        faiss.write_index(found, faiss.PyCallbackIOWriter(file.write))


def _of_length_one(arrays: PlainArrays, index: Index) -> PlainArrays:
    """Return the parts so scaled that every T(x) has length 1.

    Raises:
        UnsupportedIndexError: the lengths differ.
    """
    norms = index.norms
    low, high = float(norms.min()), float(norms.max())  # type: ignore[union-attr]
    if low <= 0 or high - low > _SAME_LENGTH * high:
        raise UnsupportedIndexError(
            f"metric cosine: the lengths of items go from {low:.6g} to {high:.6g}, and Faiss has "
            "no place for them: wanted one length, or an index with the metric ip or l2"
        )
    return arrays.scaled(1 / high)


def _linear_transform(faiss: ModuleType, rotation: FloatArray) -> Any:
    transform = faiss.LinearTransform(rotation.shape[1], rotation.shape[0], False)
    faiss.copy_array_to_vector(rotation.ravel(), transform.A)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform


def _before(faiss: ModuleType, transform: Any, index: Any) -> Any:
    """Return an index that transforms vectors before it hands them on."""
    if isinstance(index, faiss.IndexPreTransform):
        index.prepend_transform(transform)
        return index
    return faiss.IndexPreTransform(transform, index)


def _with_ids(faiss: ModuleType, index: Any, ids: Array) -> Any:
    index.ntotal = 0  # the constructor wants to see an empty one
    made = faiss.IndexIDMap2(index)
    index.ntotal = len(ids)
    faiss.copy_array_to_vector(ids, made.id_map)
    made.ntotal = len(ids)
    made.construct_rev_map()
    return made


def _are_positions(ids: Array) -> bool:
    return np.array_equal(ids, np.arange(len(ids)))


def _metric(faiss: ModuleType, metric: Metric) -> int:
    found: int = faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    return found


def _flat(faiss: ModuleType, arrays: PlainArrays) -> Any:
    """Return an `IndexPQ` or `IndexResidualQuantizer`."""
    kind = faiss.IndexResidualQuantizer if _is_residual(arrays) else faiss.IndexPQ
    index = kind(arrays.dim, *_code_arguments(faiss, arrays))
    _set_codebooks(faiss, index, arrays)
    faiss.copy_array_to_vector(_codes(arrays).ravel(), index.codes)
    index.ntotal = len(arrays.codes)
    return index


def _inverted_lists(faiss: ModuleType, arrays: PlainArrays, num_probes: int | None) -> Any:
    """Return an `IndexIVFPQ` or `IndexIVFResidualQuantizer`."""
    assert arrays.centroids is not None
    coarse = faiss.IndexFlat(arrays.dim, _metric(faiss, arrays.metric))
    coarse.add(arrays.centroids)
    num_lists = len(arrays.centroids)
    kind = faiss.IndexIVFResidualQuantizer if _is_residual(arrays) else faiss.IndexIVFPQ
    index = kind(coarse, arrays.dim, num_lists, *_code_arguments(faiss, arrays))
    _set_codebooks(faiss, index, arrays)
    index.by_residual = True
    _fill_lists(faiss, index, arrays, _codes(arrays))
    if not _is_residual(arrays):
        index.precompute_table()
    index.nprobe = min(num_probes or num_lists, num_lists)
    return index


def _is_residual(arrays: PlainArrays) -> bool:
    return arrays.family == Family.RESIDUAL


def _code_arguments(faiss: ModuleType, arrays: PlainArrays) -> list[Any]:
    """Return what Faiss's constructors want: codes, bits of each, metric, how norms are kept."""
    found = [arrays.num_subspaces, arrays.code_width, _metric(faiss, arrays.metric)]
    if _is_residual(arrays):
        kinds = faiss.AdditiveQuantizer
        found.append(kinds.ST_norm_float if _keeps_norms(arrays) else kinds.ST_LUT_nonorm)
    return found


def _keeps_norms(arrays: PlainArrays) -> bool:
    return _is_residual(arrays) and arrays.metric is Metric.L2


def _fill_lists(faiss: ModuleType, index: Any, arrays: PlainArrays, codes: Array) -> None:
    """Put codes and ids, which stand in storage order, into the inverted lists."""
    assert arrays.lists is not None
    stops = np.cumsum(np.bincount(arrays.lists, minlength=index.nlist))
    for number, stop in enumerate(stops.tolist()):
        start = 0 if number == 0 else int(stops[number - 1])
        ids, part = arrays.ids[start:stop], codes[start:stop]
        if len(ids):
            index.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(part))
    index.ntotal = len(codes)


def _set_codebooks(faiss: ModuleType, index: Any, arrays: PlainArrays) -> None:
    """Copy the codebooks, filled up to a power of two of codewords, in place of a training."""
    missing = (1 << arrays.code_width) - arrays.num_codewords
    first = np.repeat(arrays.codebooks[:, :1], missing, axis=1)
    flat = np.concatenate([arrays.codebooks, first], axis=1).ravel()
    if _is_residual(arrays):
        faiss.copy_array_to_vector(flat, index.rq.codebooks)
        index.rq.max_beam_size = arrays.encoding.beam  # for vectors that Faiss adds itself
        index.rq.is_trained = True
    else:
        faiss.copy_array_to_vector(flat, index.pq.centroids)
        index.do_polysemous_training = False
    index.is_trained = True


def _codes(arrays: PlainArrays) -> Array:
    """Return the codes as Faiss stores them, uint8 [num_items, bytes]."""
    widths = [arrays.code_width] * arrays.num_subspaces
    if not _keeps_norms(arrays):
        return pack_bits(arrays.codes, widths)
    norms = np.zeros((len(arrays.codes), 1), dtype=np.float32)
    for start in range(0, len(norms), _CHUNK):  # of the summed codewords, without the centroid
        codes = arrays.codes[start : start + _CHUNK]
        words = decode(codes, arrays.codebooks, arrays.family).astype(np.float64)
        norms[start : start + _CHUNK, 0] = np.einsum("ij,ij->i", words, words)
    columns = [arrays.codes.astype(np.uint32), norms.view(np.uint32)]
    return pack_bits(np.concatenate(columns, axis=1), [*widths, 32])

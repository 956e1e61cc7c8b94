"""An index of Faiss, from a file or in memory, as one of ours. Its answers stay, up to ties."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from poeem.errors import NotAnIndexError, UnsupportedIndexError
from poeem.index import Index
from poeem.interchange.bits import unpack_bits
from poeem.interchange.faiss_module import require_faiss
from poeem.interchange.plain import PlainArrays
from poeem.types import Array, Family, FloatArray, IntArray, Metric

_LENGTH_TOLERANCE = 1e-4


def import_faiss(source: Any, *, renumber: bool = True) -> Index:
    """Return an index of Faiss as one of this library: the same ids and scores, up to ties.

    Kinds: `IndexPQ`, `IndexIVFPQ`, and of residual quantizers (of local search too)
    `IndexResidualQuantizer` and `IndexIVFResidualQuantizer`, behind any number of orthonormal
    `LinearTransform`s (`OPQMatrix`, `RandomRotationMatrix`) of an `IndexPreTransform`, in an
    `IndexIDMap` or not; metrics inner product and L2, of which distances become scores by a minus.
    Inner product behind a `NormalizationTransform` of norm 2 becomes cosine.
    Fewer lists than all are here those that are best by the metric searched; Faiss asks the coarse
    quantizer's own.

    A residual quantizer may store norms in few bits, or none (`ST_LUT_nonorm`, where Faiss ranks
    L2 without them); here they are exact, so L2 scores differ by what Faiss rounds or leaves out.

    Where the codes of inverted lists are not of residuals (`by_residual = False`), scores do not
    depend on the list: it becomes an index without lists, and every search is that of all lists.

    Args:
        source: the path of a file that Faiss wrote, or an index of Faiss. A file is read by Faiss,
            with the care that Faiss takes.
        renumber: number codewords anew, for faster searches, as in `build_index_from_codes`.

    Raises:
        NotAnIndexError: Faiss cannot read the file.
        UnsupportedIndexError: a kind, transform or metric that is not one of the above, by name.
        IdError: an id twice, or -1.
        MissingDependencyError: faiss is not installed.
    """
    faiss = require_faiss()
    whole = _read(faiss, source)  # owns what is within it, so it is kept to the end
    ids, transforms, index = _unwrap(faiss, whole)
    name = type(index).__name__
    take_apart = _KINDS.get(name)
    if take_apart is None:
        raise UnsupportedIndexError(
            f"{name}: wanted one of {', '.join(_KINDS)}, behind linear transforms "
            "and an IndexIDMap or not"
        )
    if not index.is_trained or index.ntotal == 0:
        raise UnsupportedIndexError(f"{name}: it is empty, wanted at least one item")
    arrays = take_apart(faiss, index, _metric_of(faiss, index))
    rotation, normalised = _compose(faiss, transforms, arrays["metric"], index.d)
    if ids is not None:
        own = np.asarray(arrays["ids"])
        if len(own) and not 0 <= own.min() <= own.max() < len(ids):
            raise UnsupportedIndexError(
                f"{name}: its lists have ids up to {own.max()}, its id map {len(ids)} of them, as "
                "after Faiss's remove_ids; wanted one whose map fits"
            )
        arrays["ids"] = ids[own]
    arrays["lineage"] = {
        "imported_from": f"faiss {name}",
        "faiss": str(faiss.__version__),
        **arrays.pop("notes", {}),
    }
    found = PlainArrays(**arrays, rotation=rotation)
    build = _as_cosine if normalised else PlainArrays.build
    return build(found, renumber=renumber)


def _read(faiss: ModuleType, source: Any) -> Any:
    if isinstance(source, faiss.Index):
        return faiss.downcast_index(source)
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None:
        raise UnsupportedIndexError(
            f"{type(source).__name__}: wanted a path or an index of Faiss, of float vectors"
        )
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0]
        raise NotAnIndexError(f"{path}: Faiss cannot read it: {reason}") from None


def _unwrap(faiss: ModuleType, index: Any) -> tuple[IntArray | None, list[Any], Any]:
    """Return the ids of an id map, the transforms in their order, and what is within them."""
    ids: IntArray | None = None
    transforms: list[Any] = []
    while True:
        name = type(index).__name__
        if name in ("IndexIDMap", "IndexIDMap2"):
            mapped = faiss.vector_to_array(index.id_map)
            ids = mapped if ids is None else ids[mapped]
        elif name == "IndexPreTransform":
            chain = [index.chain.at(i) for i in range(index.chain.size())]
            transforms += [faiss.downcast_VectorTransform(one) for one in chain]
        else:
            return ids, transforms, index
        index = faiss.downcast_index(index.index)


def _metric_of(faiss: ModuleType, index: Any) -> Metric:
    known = {faiss.METRIC_INNER_PRODUCT: Metric.IP, faiss.METRIC_L2: Metric.L2}
    if index.metric_type not in known:
        raise UnsupportedIndexError(
            f"{type(index).__name__}: its metric_type is {index.metric_type}, wanted "
            "METRIC_INNER_PRODUCT or METRIC_L2"
        )
    return known[index.metric_type]


def _compose(
    faiss: ModuleType, transforms: list[Any], metric: Metric, dim: int
) -> tuple[FloatArray | None, bool]:
    """Return one rotation for all transforms, and whether queries are divided by their length."""
    rotation: FloatArray | None = None
    normalised = False
    for transform in transforms:
        name = type(transform).__name__
        if isinstance(transform, faiss.NormalizationTransform):
            # Anywhere in the chain: a rotation leaves lengths as they are.
            if transform.norm != 2 or metric is not Metric.IP:
                raise UnsupportedIndexError(f"{name}: wanted norm 2 before an inner product")
            normalised = True
            continue
        if not isinstance(transform, faiss.LinearTransform):
            raise UnsupportedIndexError(f"{name}: wanted rotations (LinearTransform) only")
        matrix = _matrix_of(faiss, transform, name, dim)
        rotation = matrix if rotation is None else matrix @ rotation
    return rotation, normalised


def _matrix_of(faiss: ModuleType, transform: Any, name: str, dim: int) -> FloatArray:
    if (transform.d_in, transform.d_out) != (dim, dim):
        raise UnsupportedIndexError(
            f"{name}: from {transform.d_in} to {transform.d_out} dimensions, wanted a rotation"
        )
    if transform.have_bias and np.any(faiss.vector_to_array(transform.b)):
        raise UnsupportedIndexError(f"{name}: it adds a bias, wanted a rotation")
    matrix: FloatArray = faiss.vector_to_array(transform.A).reshape(dim, dim)
    error = float(np.abs(matrix @ matrix.T - np.eye(dim, dtype=np.float32)).max())
    if not error <= 1e-3:
        raise UnsupportedIndexError(
            f"{name}: A A^T is off the identity by {error:.3g}, wanted a rotation"
        )
    return matrix


def _as_cosine(arrays: PlainArrays, *, renumber: bool) -> Index:
    """Build with the metric cosine where it means the same: every item has length 1."""
    index = dataclasses.replace(arrays, metric=Metric.COSINE).build(renumber=renumber)
    assert index.norms is not None
    error = float(np.abs(index.norms - 1).max())
    if not error <= _LENGTH_TOLERANCE:
        raise UnsupportedIndexError(
            f"NormalizationTransform: lengths of items are off 1 by {error:.3g}; only queries are "
            "normalised there, which no metric here does"
        )
    return index


def _flat(faiss: ModuleType, index: Any, metric: Metric) -> dict[str, Any]:
    packed = faiss.vector_to_array(index.codes).reshape(index.ntotal, index.code_size)
    return {
        "metric": metric,
        "ids": np.arange(index.ntotal, dtype=np.int64),
        **_quantizer(faiss, index, packed),
    }


def _lists(faiss: ModuleType, index: Any, metric: Metric) -> dict[str, Any]:
    packed, lists, ids = _from_lists(faiss, index)
    arrays = {"metric": metric, "ids": ids, **_quantizer(faiss, index, packed)}
    if not index.by_residual:
        return arrays | {"notes": {"lists": "dropped: codes are not of residuals"}}
    return arrays | {"lists": lists, "centroids": _centroids(faiss, index)}


def _quantizer(faiss: ModuleType, index: Any, packed: Array) -> dict[str, Any]:
    """Return codes, codebooks and family of packed codes uint8 [n, code_size]."""
    if hasattr(index, "pq"):
        pq = index.pq
        return {
            "codes": unpack_bits(packed, [pq.nbits] * pq.M),
            "codebooks": faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub),
        }
    summed = index.rq if hasattr(index, "rq") else index.lsq
    widths = faiss.vector_to_array(summed.nbits).tolist()
    offsets = np.cumsum([0, *(1 << width for width in widths)])
    words = faiss.vector_to_array(summed.codebooks).reshape(offsets[-1], -1)
    size = 1 << max(widths)
    rows = [  # smaller codebooks are filled up with their first codeword
        np.where(np.arange(size) < stop - start, start + np.arange(size), start)
        for start, stop in itertools.pairwise(offsets.tolist())
    ]
    return {
        "family": Family.RESIDUAL,
        "codes": unpack_bits(packed, widths),
        "codebooks": words[np.stack(rows)],
    }


def _centroids(faiss: ModuleType, index: Any) -> FloatArray:
    """Return what residuals are taken from, float32 [nlist, d]."""
    coarse = faiss.downcast_index(index.quantizer)
    try:
        centroids: FloatArray = coarse.reconstruct_n(0, index.nlist)
    except RuntimeError:
        raise UnsupportedIndexError(
            f"{type(coarse).__name__}: a coarse quantizer that cannot give its centroids"
        ) from None
    return centroids


def _from_lists(faiss: ModuleType, index: Any) -> tuple[Array, Array, IntArray]:
    """Return codes uint8 [n, code_size], lists int64 [n] and ids int64 [n]."""
    inverted = index.invlists
    sizes = np.array([inverted.list_size(number) for number in range(index.nlist)])
    codes = np.zeros((int(sizes.sum()), index.code_size), dtype=np.uint8)
    ids = np.zeros(len(codes), dtype=np.int64)
    stop = 0
    for number, size in enumerate(sizes.tolist()):
        if not size:
            continue
        start, stop = stop, stop + size
        place, id_place = inverted.get_codes(number), inverted.get_ids(number)
        codes[start:stop] = faiss.rev_swig_ptr(place, codes[start:stop].size).reshape(size, -1)
        ids[start:stop] = faiss.rev_swig_ptr(id_place, size)
        inverted.release_codes(number, place)
        inverted.release_ids(number, id_place)
    return codes, np.repeat(np.arange(index.nlist), sizes), ids


_KINDS: Mapping[str, Callable[[ModuleType, Any, Metric], dict[str, Any]]] = {
    "IndexPQ": _flat,
    "IndexIVFPQ": _lists,
    "IndexResidualQuantizer": _flat,
    "IndexIVFResidualQuantizer": _lists,
    "IndexLocalSearchQuantizer": _flat,
    "IndexIVFLocalSearchQuantizer": _lists,
}

"""Indexes that Faiss builds afterwards, from finished float vectors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from poeem.errors import ConfigError
from poeem.evaluation.rivals import Built
from poeem.interchange.faiss_module import require_faiss
from poeem.types import Array, FloatArray, IntArray, SearchResult

RIVALS = {
    "Faiss PQ": "PQ{num_bytes}x8np",
    "Faiss OPQ+PQ": "OPQ{num_bytes},PQ{num_bytes}x8np",
    "Faiss residual (RQ)": "RQ{num_bytes}x8",
}
"""Name -> Faiss's description of the index, for a code of `num_bytes` bytes.

np: without the reordering of codewords for Hamming distances, which takes longer than all the rest
of the training and serves a kind of search that is not used here.
"""

_WIDE_BEAM = 32
_NUM_CODEWORDS = 256


@dataclass(frozen=True, eq=False)
class FaissRival:
    """An index of Faiss over inner products.

    bytes_per_item: of code. train_seconds, add_seconds: wall-clock time of the two.
    """

    name: str
    bytes_per_item: int
    train_seconds: float
    add_seconds: float
    _parts: tuple[Any, Any]  # the index, and what it points to without owning it

    @property
    def build_seconds(self) -> float:
        """From vectors to an index that can be searched."""
        return self.train_seconds + self.add_seconds

    def search(self, queries: FloatArray, k: int) -> SearchResult:
        """Return row numbers of the k best vectors for queries float32 [n, dim]."""
        scores, ids = self._parts[0].search(np.ascontiguousarray(queries), k)
        return SearchResult(ids, scores)

    def reconstruct(self) -> FloatArray:
        """Return what the index knows of all vectors, float32 [num_items, dim]."""
        vectors: FloatArray = self._parts[0].reconstruct_n()
        return vectors


def build_rival(
    name: str, vectors: FloatArray, num_bytes: int, *, num_threads: int = 0
) -> FaissRival:
    """Let Faiss train an index on vectors and add them, with its own defaults.

    Args:
        name: one of `RIVALS`.
        vectors: float32 [n, dim].
        num_bytes: of an item's code; divides dim.
        num_threads: 0 = Faiss's default.

    Raises:
        ConfigError: an unknown name, or num_bytes does not divide dim.
        MissingDependencyError: faiss is not installed.
    """
    faiss = require_faiss()
    if name not in RIVALS:
        raise ConfigError(f"name: got {name!r}, wanted one of {', '.join(RIVALS)}")
    dim = vectors.shape[1]
    if num_bytes < 1 or dim % num_bytes:
        raise ConfigError(f"num_bytes: got {num_bytes}, wanted a divisor of dim ({dim})")
    description = RIVALS[name].format(num_bytes=num_bytes)
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    kept_alive = _allow_few_vectors(faiss, index)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(num_threads or before)
    try:
        start = time.perf_counter()
        index.train(vectors)
        trained = time.perf_counter()
        index.add(vectors)
        added = time.perf_counter()
    finally:
        faiss.omp_set_num_threads(before)
    size = int(index.sa_code_size())
    return FaissRival(name, size, trained - start, added - trained, (index, kept_alive))


def _allow_few_vectors(faiss: ModuleType, index: Any) -> Any:
    """Keep Faiss from writing to stderr that there are fewer than 39 vectors per codeword.

    Returns what must live as long as the index.
    """
    kept_alive = None
    if isinstance(index, faiss.IndexPreTransform):
        transform = faiss.downcast_VectorTransform(index.chain.at(0))
        kept_alive = faiss.ProductQuantizer(transform.d_in, transform.M, 8)
        kept_alive.cp.min_points_per_centroid = 1
        transform.pq = kept_alive
        index = faiss.downcast_index(index.index)
    quantizer = index.pq if hasattr(index, "pq") else index.rq
    quantizer.cp.min_points_per_centroid = 1
    return kept_alive


def build(name: str, vectors: FloatArray, num_bytes: int, num_threads: int) -> Built:
    """Build one of Faiss's indexes over inner products; see `poeem.evaluation.rivals`.

    Raises:
        ConfigError: there is none of this size; the message says what it needs.
        MissingDependencyError: faiss is not installed.
    """
    faiss = require_faiss()
    faiss.omp_set_num_threads(num_threads)
    index, how, id_bytes = _untrained(faiss, name, vectors.shape, num_bytes)
    start, cpu = time.perf_counter(), time.process_time()
    index.train(vectors)
    index.add(vectors)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu

    def search(queries: FloatArray, k: int) -> IntArray:
        ids: IntArray = index.search(np.ascontiguousarray(queries), k)[1]
        return ids

    return Built(_code_bytes(faiss, index) + id_bytes, seconds, cpu, how, search)


@dataclass(frozen=True, eq=False)
class OpqParts:
    """What Faiss's OPQ+PQ learned, for who goes on with it.

    rotation: float32 [dim, dim], x' = rotation @ x.
    codebooks: float32 [num_subspaces, 256, sub_dim], in rotated space.
    codes: uint8 [num_items, num_subspaces].
    """

    rotation: FloatArray
    codebooks: FloatArray
    codes: Array


def opq_parts(vectors: FloatArray, num_bytes: int, num_threads: int) -> OpqParts:
    """Let Faiss fit OPQ+PQ to float32 [n, dim] and encode them.

    Raises:
        ConfigError: num_bytes does not divide dim.
        MissingDependencyError: faiss is not installed.
    """
    faiss = require_faiss()
    faiss.omp_set_num_threads(num_threads)
    index = _untrained(faiss, "opq", vectors.shape, num_bytes)[0]
    kept_alive = _allow_few_vectors(faiss, index)
    index.train(vectors)
    index.add(vectors)
    del kept_alive
    dim = vectors.shape[1]
    turn = faiss.downcast_VectorTransform(index.chain.at(0))
    codes = faiss.downcast_index(index.index)
    return OpqParts(
        faiss.vector_to_array(turn.A).reshape(dim, dim),
        faiss.vector_to_array(codes.pq.centroids).reshape(num_bytes, 256, dim // num_bytes),
        faiss.vector_to_array(codes.codes).reshape(-1, num_bytes),
    )


def _untrained(
    faiss: ModuleType, name: str, shape: tuple[int, ...], num_bytes: int
) -> tuple[Any, str, int]:
    """Return an index, how it is made, and the bytes of an item's id (0 = none is kept)."""
    num_items, dim = shape
    if name == "rabitq":
        return _rabitq(faiss, dim, num_bytes)
    if name == "lsh":
        index = faiss.IndexLSH(dim, 8 * num_bytes, True, True)
        return index, f"LSH of {8 * num_bytes} bits, rotated, thresholds trained", 0
    if name in ("pq", "opq", "ivf-opq") and dim % num_bytes:
        raise ConfigError(f"{num_bytes} subspaces do not divide {dim} dimensions")
    if num_items < _NUM_CODEWORDS:
        raise ConfigError(
            f"Faiss fits {_NUM_CODEWORDS} codewords to no fewer vectors, there are {num_items}"
        )
    # As many lists as have the 39 vectors each that Faiss asks for.
    num_lists = max(1, min(256, num_items // 39))
    description = {
        "pq": f"PQ{num_bytes}x8np",
        "opq": f"OPQ{num_bytes},PQ{num_bytes}x8np",
        "ivf-opq": f"OPQ{num_bytes},IVF{num_lists},PQ{num_bytes}x8np",
        "rq": f"RQ{num_bytes}x8",
        "rq-wide": f"RQ{num_bytes}x8",
        "lsq": f"LSQ{num_bytes}x8",
    }[name]
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    if name == "ivf-opq":
        faiss.extract_index_ivf(index).nprobe = num_lists
        return index, f"{description}, all lists probed", np.dtype(np.int64).itemsize
    if name == "rq-wide":
        index.rq.max_beam_size = _WIDE_BEAM
        description += f", beam of {_WIDE_BEAM}"
        if num_items >= 256 * num_bytes:  # as Faiss wants
            index.rq.train_type |= faiss.ResidualQuantizer.Train_refine_codebook
            description += ", codebooks refined"
    return index, description, 0


def _rabitq(faiss: ModuleType, dim: int, num_bytes: int) -> tuple[Any, str, int]:
    """Return RaBitQ of as many bits per dimension as fit, behind a random rotation."""
    sizes = {
        bits: faiss.IndexRaBitQ(dim, faiss.METRIC_INNER_PRODUCT, bits).code_size
        for bits in range(1, 9)
    }
    fitting = [bits for bits, size in sizes.items() if size <= num_bytes]
    if not fitting:
        raise ConfigError(
            f"RaBitQ has no code of {num_bytes} bytes for {dim} dimensions: one bit for each and "
            f"its factors are {sizes[1]} bytes"
        )
    bits = max(fitting)
    codes = faiss.IndexRaBitQ(dim, faiss.METRIC_INNER_PRODUCT, bits)
    codes.qb = 8  # bits of a query's coordinate: answers as with floats, 28 times faster
    index = faiss.IndexPreTransform(faiss.RandomRotationMatrix(dim, dim), codes)
    return index, f"RaBitQ of {bits} bits a dimension, randomly rotated, queries of 8 bits", 0


def _code_bytes(faiss: ModuleType, index: Any) -> int:
    """Return the bytes of an item's code as it is kept; lists are told by place, not by byte."""
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return int(index.code_size)

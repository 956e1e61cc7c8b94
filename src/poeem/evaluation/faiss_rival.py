"""Indexes that Faiss builds afterwards, from finished float vectors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from poeem.errors import ConfigError
from poeem.interchange.faiss_module import require_faiss
from poeem.types import FloatArray, SearchResult

RIVALS = {
    "Faiss PQ": "PQ{num_bytes}x8np",
    "Faiss OPQ+PQ": "OPQ{num_bytes},PQ{num_bytes}x8np",
    "Faiss residual (RQ)": "RQ{num_bytes}x8",
}
"""Name -> Faiss's description of the index, for a code of `num_bytes` bytes.

np: without the reordering of codewords for Hamming distances, which takes longer than all the rest
of the training and serves a kind of search that is not used here.
"""


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

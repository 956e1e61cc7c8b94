"""Indexes that others build afterwards from finished float vectors: one list, one way to build."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from poeem.errors import ConfigError
from poeem.types import FloatArray, IntArray

ANY_SIZE = 0
"""Stands for the bytes of what has a size of its own and takes no budget."""


@dataclass(frozen=True, eq=False)
class Built:
    """An index that a rival built.

    bytes_per_item: everything that grows with the items: codes, and ids, factors, trees, vectors
        where the index cannot do without.
    build_seconds: from float vectors to an index that can be searched, wall-clock.
    build_cpu_seconds: the same, of all threads' processor time.
    how: what was built and how it is searched, in the rival's own words.
    search: takes queries float32 [n, dim] and a k; returns row numbers int64 [n, k], best first,
        -1 where there is nothing.
    """

    bytes_per_item: float
    build_seconds: float
    build_cpu_seconds: float
    how: str
    search: Callable[[FloatArray, int], IntArray]


@dataclass(frozen=True)
class Rival:
    """A way to index afterwards.

    name: as the command line has it. label: as tables have it.
    module: of `poeem.evaluation`, whose `build(name, vectors, num_bytes, num_threads)` does it.
    takes_budget: False for an index that has a size of its own.
    """

    name: str
    label: str
    module: str
    takes_budget: bool = True


_ALL = (
    Rival("pq", "Faiss PQ", "faiss_rival"),
    Rival("opq", "Faiss OPQ+PQ", "faiss_rival"),
    Rival("ivf-opq", "Faiss IVF+OPQ+PQ", "faiss_rival"),
    Rival("rq", "Faiss residual", "faiss_rival"),
    Rival("rq-wide", "Faiss residual, wide beam", "faiss_rival"),
    Rival("lsq", "Faiss local search (LSQ)", "faiss_rival"),
    Rival("rabitq", "Faiss RaBitQ", "faiss_rival"),
    Rival("lsh", "Faiss LSH", "faiss_rival"),
    Rival("scann", "ScaNN, 4-bit codes", "scann_rival"),
    Rival("scann-8bit", "ScaNN, 8-bit codes", "scann_rival"),
    Rival("annoy", "Annoy", "annoy_rival", takes_budget=False),
)

COMPARED = {rival.name: rival for rival in _ALL}
"""Name -> rival, in the order of tables."""


def build_afterwards(name: str, vectors: FloatArray, num_bytes: int, num_threads: int) -> Built:
    """Let a rival build its index over inner products.

    Args:
        name: one of `COMPARED`.
        vectors: float32 [n, dim].
        num_bytes: the budget per item; `ANY_SIZE` for a rival that takes none.
        num_threads: for building and searching.

    Raises:
        ConfigError: an unknown name, or the rival has no index of this size; says what it needs.
        MissingDependencyError: its package is not installed.
    """
    if name not in COMPARED:
        raise ConfigError(f"rival: got {name!r}, wanted one of {', '.join(COMPARED)}")
    module = importlib.import_module(f"poeem.evaluation.{COMPARED[name].module}")
    built: Built = module.build(name, vectors, num_bytes, num_threads)
    return built

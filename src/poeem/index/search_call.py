"""The arguments of a search, checked, and its results made as long as was asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from poeem.checks import check_vectors
from poeem.errors import ConfigError
from poeem.index.arguments import PADDING_ID
from poeem.index.calibration import Calibration, check_target
from poeem.index.kernels import wanted_kernel
from poeem.types import MAX_THREADS, FloatArray, IntArray, SearchResult

MAX_K = 2**31 - 1
# Results of one call where most are padding: 12 bytes each, so 3 GB.
MAX_PADDED = 1 << 28


@dataclass(frozen=True)
class SearchCall:
    """What the engine is asked.

    queries: float32 [n, num_heads, dim]. k: as asked for. num_found: results the engine returns,
    the rest of k is padding. num_probes: 0 = all lists. num_threads: at least 1.
    """

    queries: FloatArray
    k: int
    num_found: int
    num_probes: int
    num_threads: int

    def native_arguments(self) -> dict[str, Any]:
        """Return the arguments of `_native.search` that do not depend on items."""
        return {
            "queries": self.queries,
            "k": self.num_found,
            "num_probes": self.num_probes,
            "num_threads": self.num_threads,
            "kernel": wanted_kernel(),
        }


def check_search(
    queries: Any,
    k: Any,
    num_probes: Any,
    target_recall: Any,
    num_threads: Any,
    *,
    dim: int,
    num_items: int,
    num_lists: int,
    calibration: Calibration | None,
) -> SearchCall:
    """Check the arguments of `Index.search` for an index of such a size.

    Raises:
        ShapeError, DtypeError, NonFiniteError, ConfigError: as `Index.search` says.
    """
    array = check_vectors("queries", queries, dim, num_axes=(1, 2, 3), may_be_empty=True)
    if array.ndim < 3:
        array = array.reshape(-1, 1, dim)  # [n, num_heads = 1, dim]
    if target_recall is not None:
        num_probes = _probes_for(target_recall, num_probes, num_lists, calibration)
    probes = 0 if num_probes is None else check_count("num_probes", num_probes, 1, 2**63 - 1)
    threads = check_count("num_threads", num_threads, 0, MAX_THREADS)
    k = check_count("k", k, 1, MAX_K)
    if k > num_items and len(array) * k > MAX_PADDED:
        raise ConfigError(
            f"k: got {k} for {len(array)} queries of a catalogue of {num_items}, wanted "
            f"no more than {MAX_PADDED} results in all, or at most the catalogue"
        )
    return SearchCall(array, k, min(k, max(num_items, 1)), probes, threads or num_cores())


def check_count(name: str, value: Any, low: int, high: int) -> int:
    """Return an integer from low to high.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name}: got {value!r}, wanted an integer")
    if not low <= value <= high:
        wanted = f"at least {low}" if value < low else f"at most {high}"
        raise ConfigError(f"{name}: got {value}, wanted {wanted}")
    return int(value)


def padded(ids: IntArray, scores: FloatArray, k: int) -> SearchResult:
    """Return results [n, k]: ids -1 and scores -inf beyond those there are."""
    if ids.shape[1] == k:
        return SearchResult(ids, scores)
    all_ids = np.full((len(ids), k), PADDING_ID, dtype=np.int64)
    all_scores = np.full((len(ids), k), -np.inf, dtype=np.float32)
    all_ids[:, : ids.shape[1]], all_scores[:, : ids.shape[1]] = ids, scores
    return SearchResult(all_ids, all_scores)


def _probes_for(
    target_recall: Any, num_probes: Any, num_lists: int, calibration: Calibration | None
) -> int | None:
    """Return the lists to visit; None = all."""
    target = check_target(target_recall)
    if num_probes is not None:
        raise ConfigError(
            f"target_recall: got {target} beside num_probes {num_probes}, wanted one of them"
        )
    if not num_lists:
        return None
    if calibration is None:
        raise ConfigError(
            "target_recall: the index is not calibrated; build it with sample_queries, or use "
            "what index.calibrated(sample_queries) returns"
        )
    return calibration.probes_for(target)


def num_cores() -> int:
    """Return the cores this process may use, not those the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

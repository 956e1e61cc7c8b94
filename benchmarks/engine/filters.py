"""Filtered search at selectivity 50 %, 10 %, 1 % and 0.1 %, flat and with lists, beside no filter.

The filter is given once as flags and once as ids; answers are compared with each other and with
the scalar kernel. Times include what the library does with the filter.

python benchmarks/engine/filters.py --items 1000000
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from contest import summary
from datasets import random_index

from poeem.index import Index, active_kernel

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
DIM, NUM_SUBSPACES, NUM_QUERIES, K = 64, 8, 64, 100


def timed(index: Index, queries: np.ndarray, **arguments: Any) -> dict[str, list[float]]:
    """Return seconds a query, one at a time."""
    wall, cpu = [], []
    for row in range(len(queries)):
        cpu_start, start = time.process_time(), time.perf_counter()
        index.search(queries[row : row + 1], K, **arguments)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return {"wall": wall, "cpu": cpu}


def check(index: Index, queries: np.ndarray, probes: int | None, ways: list[Any]) -> int:
    """Return how many results a query has at least; all ways and the scalar kernel must agree."""
    os.environ["POEEM_KERNEL"] = "scalar"
    truth = index.search(queries[:4], K, num_probes=probes, allowed=ways[0])
    del os.environ["POEEM_KERNEL"]
    for allowed in ways:
        found = index.search(queries[:4], K, num_probes=probes, allowed=allowed)
        assert (found.ids == truth.ids).all()
        assert (found.scores == truth.scores).all()
    return int((truth.ids >= 0).sum(axis=1).min())


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="engine_filters")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((NUM_QUERIES, DIM), dtype=np.float32)
    figures: dict[str, Any] = {}
    for label, lists in (("flat", 0), (f"{options.lists} lists", options.lists)):
        index = random_index(options.items, DIM, NUM_SUBSPACES, lists, rng)
        probes = options.probes if lists else None
        for share in SHARES:
            flags = rng.random(options.items) < share
            ways = {"flags": flags, "ids": index.ids[flags]} if share < 1 else {"none": None}
            results = check(index, queries, probes, list(ways.values()))
            row: dict[str, Any] = {"allowed": int(flags.sum()), "results": results}
            times = {way: {"wall": [], "cpu": []} for way in ways}
            for _ in range(options.rounds):
                for way, allowed in ways.items():
                    got = timed(index, queries, num_probes=probes, allowed=allowed)
                    for key, values in got.items():
                        times[way][key] += values
            figures[f"{label}, {share:.1%}"] = row | {w: summary(t) for w, t in times.items()}
    settings = {"items": options.items, "bytes": NUM_SUBSPACES, "k": K, "probes": options.probes}
    write_result(options.name, {**settings, "kernel": active_kernel(), "figures": figures})


if __name__ == "__main__":
    main()

"""Two threads over one: batches of 256 queries, flat and with lists, and one, wall time, in turns.

What the codes are does not matter to it, so they are random. All rounds count, those too in which
somebody else used the cores. One call after the other, and with pauses as a server has them, from
which a thread wakes: new threads of its own may then be left waiting behind it. A turn is five
calls, as a program's number of threads does not change from call to call.

python benchmarks/engine/threads.py
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import random_index

from poeem.index import Index, active_kernel

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

DIM, NUM_QUERIES, K, PROBES = 64, 256, 100, 16
PAUSE = 0.005  # seconds
CALLS = 5  # of a turn


def measure(
    index: Index, queries: np.ndarray, probes: int | None, rounds: int, pause: float = 0.0
) -> dict[str, Any]:
    """Return milliseconds a query by threads, medians, and how many times faster two are.

    The latter is the median over rounds too, of the medians of two turns that follow each other.
    """
    turns: dict[int, list[list[float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, times in turns.items():
            times.append([])
            for _ in range(CALLS):
                if pause:
                    time.sleep(pause)
                start = time.perf_counter()
                index.search(queries, K, num_probes=probes, num_threads=threads)
                times[-1].append(time.perf_counter() - start)
    wall = {threads: np.median(times, axis=1) for threads, times in turns.items()}
    one, two = (float(np.median(times)) / len(queries) * 1e3 for times in wall.values())
    times_faster = float(np.median(wall[1] / wall[2]))
    return {
        "ms_1_thread": round(one, 5),
        "ms_2_threads": round(two, 5),
        "times_faster": round(times_faster, 3),
        "rounds": rounds,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--name", default="engine_threads")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((NUM_QUERIES, DIM), dtype=np.float32)
    figures: dict[str, Any] = {}
    for num_bytes in options.bytes:
        for lists in (0, options.lists):
            index = random_index(options.items, DIM, num_bytes, lists, rng)
            label = f"{num_bytes} bytes, " + (f"{PROBES} of {lists} lists" if lists else "flat")
            cases = {label: (queries, PROBES if lists else None)}
            if not lists:
                cases |= {f"{label}, one query": (queries[:1], None)}
            for case, (asked, probes) in cases.items():
                for pause in (0.0, PAUSE):
                    name = case + (", after pauses" if pause else "")
                    figures[name] = measure(index, asked, probes, options.rounds, pause)
    settings = {"items": options.items, "dim": DIM, "k": K, "batch": NUM_QUERIES}
    settings |= {"pause_s": PAUSE, "calls_of_a_turn": CALLS}
    write_result(options.name, {**settings, "kernel": active_kernel(), "figures": figures})


if __name__ == "__main__":
    main()

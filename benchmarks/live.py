"""A live index under change: updates, searches meanwhile, opening, compaction, the cost of changes.

Latencies are taken in turns, with and without what is measured, so that a busy machine is busy for
both. The cost of changes is the median over rounds of the ratio of medians; beside wall time stands
what a neighbour disturbs less, the searching thread's CPU time. Percentiles with and without
updates are of all searches of all rounds together; the updater is a thread of the same process that
keeps a pace of batches of 100, each durable before the next, made up beforehand. A machine of two
cores is needed for that alone: one searches, one updates.

python benchmarks/live.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

import poeem
from poeem.index.encode import encode

DIM, NUM_SUBSPACES, BATCH, K = 64, 8, 100, 100
CHUNK = 50_000
PACE = 20_500  # items a second while searches are timed


def make_index(num_items: int, num_lists: int, rng: np.random.Generator) -> poeem.Index:
    """Return an index of random vectors, 8 bytes an item, with a rotation and scattered ids."""
    parts: dict[str, Any] = {
        "codebooks": rng.standard_normal(
            (NUM_SUBSPACES, 256, DIM // NUM_SUBSPACES), dtype=np.float32
        ),
        "rotation": np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32),
    }
    if num_lists:
        parts["centroids"] = 2 * rng.standard_normal((num_lists, DIM), dtype=np.float32)
    one = np.zeros((1, NUM_SUBSPACES), dtype=np.uint8)
    quantizer = poeem.build_index_from_codes(
        codes=one, lists=np.zeros(1, dtype=np.int64) if num_lists else None, **parts
    )._contents
    # Encoded like those that come later: codes of another distribution would score differently.
    encoded = [encode(quantizer, vectors(CHUNK, rng)) for _ in range(0, num_items, CHUNK)]
    lists = [found for _, found in encoded if found is not None]
    return poeem.build_index_from_codes(
        codes=np.concatenate([codes for codes, _ in encoded])[:num_items],
        lists=np.concatenate(lists)[:num_items] if lists else None,
        ids=rng.permutation(2 * num_items)[:num_items],
        **parts,
    )


def vectors(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 [count, DIM]."""
    return 2 * rng.standard_normal((count, DIM), dtype=np.float32)


class Changer:
    """Changes random items, most of them there already, in batches; every fifth time it removes.

    The changes are made up beforehand, and made again from the first when they are all done.
    """

    def __init__(self, live: poeem.LiveIndex, num_items: int, seed: int, count: int = 3000) -> None:
        """`num_items`: of the catalogue; ids are below twice as many. count: changes made up."""
        self.live = live
        rng = np.random.default_rng(seed)
        pool = vectors(20_000, rng)
        self.batches: list[tuple[np.ndarray, np.ndarray | None]] = []
        for _ in range(count):
            ids = np.unique(rng.integers(2 * num_items, size=BATCH + 10))[:BATCH]
            first = int(rng.integers(len(pool) - BATCH))
            removes = rng.integers(5) == 0
            self.batches.append((ids, None if removes else pool[first : first + len(ids)]))
        self.next = 0

    def change(self) -> int:
        """Make one change of BATCH items and return how many."""
        ids, new = self.batches[self.next % len(self.batches)]
        self.next += 1
        if new is None:
            self.live.remove(ids, ignore_missing=True)
        else:
            self.live.update(ids, new)
        return len(ids)


def update_rate(live: poeem.LiveIndex, num_items: int, seconds: float) -> dict[str, float]:
    """Update as fast as it goes, nobody searching."""
    changer = Changer(live, num_items, 1)
    done, times = 0, []
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        start = time.perf_counter()
        done += changer.change()
        times.append(time.perf_counter() - start)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "items_per_second": round(done / wall),
        "items_per_cpu_second": round(done / cpu),
        "batch_p50_ms": round(1e3 * float(np.median(times)), 3),
        "batch_p99_ms": round(1e3 * float(np.quantile(times, 0.99)), 3),
    }


def latencies(search: Callable[[np.ndarray], Any], queries: np.ndarray, seconds: float) -> Any:
    """Search one query at a time; return wall and CPU seconds of each."""
    wall, cpu = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for query in queries:
            start, start_cpu = time.perf_counter(), time.thread_time()
            search(query)
            wall.append(time.perf_counter() - start)
            cpu.append(time.thread_time() - start_cpu)
    return np.array(wall), np.array(cpu)


def while_updating(
    live: poeem.LiveIndex,
    num_items: int,
    queries: np.ndarray,
    rounds: int,
    rate: int,
    **options: int,
) -> dict[str, Any]:
    """Compare searches with and without a thread that updates `rate` items a second."""
    running, stop, done = threading.Event(), threading.Event(), [0, 0.0]

    changer = Changer(live, num_items, 2)

    def change() -> None:
        while not stop.is_set():
            running.wait()
            start, count = time.perf_counter(), 0
            while running.is_set():
                count += changer.change()
                time.sleep(max(0.0, start + count / rate - time.perf_counter()))
            done[0] += count
            done[1] += time.perf_counter() - start

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    found: dict[str, list[Any]] = {"without": [], "with": []}

    def search(query: np.ndarray) -> None:
        live.search(query, K, **options)

    latencies(search, queries, 1.0)
    for _ in range(rounds):
        found["without"].append(latencies(search, queries, 1.0))
        running.set()
        found["with"].append(latencies(search, queries, 1.0))
        running.clear()
        time.sleep(0.05)
    stop.set()
    running.set()
    running.clear()
    figures: dict[str, Any] = {}
    for name, several in found.items():
        wall = np.concatenate([w for w, _ in several])
        figures[name] = {"searches": len(wall)}
        for q in (50, 90, 99):
            figures[name][f"p{q}_ms"] = round(1e3 * float(np.quantile(wall, q / 100)), 4)
        figures[name]["p99_ms_by_round"] = [
            round(1e3 * float(np.quantile(w, 0.99)), 4) for w, _ in several
        ]
    figures["p99_ratio"] = round(figures["with"]["p99_ms"] / figures["without"]["p99_ms"], 3)
    figures["p50_ratio"] = round(figures["with"]["p50_ms"] / figures["without"]["p50_ms"], 3)
    figures["items_per_second_meanwhile"] = round(done[0] / done[1])
    return figures


def cost_of_changes(
    path: Path,
    num_items: int,
    share: float,
    queries: np.ndarray,
    rounds: int,
    probes: list[int | None],
) -> dict[str, Any]:
    """Change a share of the items, and search against a fresh snapshot of the same items."""
    live = poeem.LiveIndex.open(path)
    rng = np.random.default_rng(3)
    ids = rng.permutation(live.ids)[: int(share * num_items)]
    for first in range(0, len(ids), BATCH):
        some = ids[first : first + BATCH]
        live.update(some, vectors(len(some), rng))
    view = live.view()
    live.compact()
    live.close()
    fresh = poeem.Index.open(path)
    figures: dict[str, Any] = {"segments": [one.num_alive for one in view.segments]}
    for num_probes in probes:
        name = "all lists" if num_probes is None else f"{num_probes} probes"
        figures[name] = in_turns(view, fresh, queries, rounds, num_probes)
    return figures


def in_turns(
    changed: Any, fresh: Any, queries: np.ndarray, rounds: int, num_probes: int | None
) -> dict[str, float]:
    """Search both, in turns; the answers must be the same."""
    pair = [lambda q, one=one: one.search(q, K, num_probes=num_probes) for one in (changed, fresh)]
    for a, b in zip(pair[0](queries), pair[1](queries), strict=True):
        assert np.array_equal(a, b)
    medians = []
    for turn in range(rounds + 1):
        both = [latencies(search, queries, 0.2) for search in pair]
        if turn:  # the first one warms up
            medians.append([[np.median(wall), np.median(cpu)] for wall, cpu in both])
    ((a_wall, a_cpu), (b_wall, b_cpu)) = np.array(medians).transpose(1, 2, 0)
    return {
        "changed_ms": round(1e3 * float(np.median(a_wall)), 4),
        "fresh_ms": round(1e3 * float(np.median(b_wall)), 4),
        "ratio": round(float(np.median(a_wall / b_wall)), 3),
        "cpu_ratio": round(float(np.median(a_cpu / b_cpu)), 3),
    }


def opening(path: Path, num_pending: int, rounds: int) -> dict[str, float]:
    """Leave so many changed items pending, and open the index again and again."""
    with poeem.LiveIndex.open(path) as live:
        rng = np.random.default_rng(4)
        ids = rng.permutation(live.ids)[:num_pending]
        for first in range(0, num_pending, BATCH):
            some = ids[first : first + BATCH]
            live.update(some, vectors(len(some), rng))
    times, read_only = [], []
    for _ in range(rounds):
        for only, into in ((False, times), (True, read_only)):
            start = time.perf_counter()
            with poeem.LiveIndex.open(path, read_only=only):
                into.append(time.perf_counter() - start)
    return {
        "writer_seconds": round(float(np.median(times)), 4),
        "reader_seconds": round(float(np.median(read_only)), 4),
    }


def compaction(path: Path, num_items: int, queries: np.ndarray, rounds: int) -> dict[str, Any]:
    """Compact while another thread searches."""
    live = poeem.LiveIndex.open(path)
    changer = Changer(live, num_items, 5)
    stop, wall = threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            for query in queries:
                start = time.perf_counter()
                live.search(query, K)
                wall.append(time.perf_counter() - start)

    times = []
    thread = threading.Thread(target=search)
    thread.start()
    for _ in range(rounds):
        for _ in range(500):
            changer.change()
        wall.clear()
        start = time.perf_counter()
        live.compact()
        times.append(time.perf_counter() - start)
        meanwhile = np.array(wall)
    stop.set()
    thread.join()
    live.close()
    return {
        "seconds": round(float(np.median(times)), 3),
        "max_seconds": round(max(times), 3),
        "searches_meanwhile": len(meanwhile),
        "search_p99_ms_meanwhile": round(1e3 * float(np.quantile(meanwhile, 0.99)), 3),
    }


def measure(folder: Path, num_items: int, num_lists: int, rounds: int) -> dict[str, Any]:
    """Take all figures for one index."""
    rng = np.random.default_rng(0)
    path = folder / f"{num_lists}.poeem"
    make_index(num_items, num_lists, rng).save(path)
    queries = vectors(50, rng)
    options = {"num_probes": 16} if num_lists else {}
    figures: dict[str, Any] = {}
    probes: list[int | None] = [16, 64, None] if num_lists else [None]
    figures["5 % changed"] = cost_of_changes(path, num_items, 0.05, queries, 5 * rounds, probes)
    print(figures, flush=True)
    with poeem.LiveIndex.open(path) as live:
        figures["updates"] = update_rate(live, num_items, 5.0)
        print(figures["updates"], flush=True)
        figures["searches while updating"] = while_updating(
            live, num_items, queries, rounds, PACE, **options
        )
        print(figures["searches while updating"], flush=True)
        live.compact()
    figures["opening with 100,000 pending"] = opening(path, 100_000, rounds)
    print(figures["opening with 100,000 pending"], flush=True)
    figures["compaction"] = compaction(path, num_items, queries, max(3, rounds // 2))
    print(figures["compaction"], flush=True)
    return figures


def main() -> None:
    """Measure without lists and with them, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, nargs="+", default=[0, 256])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", help="where the index is; its disk is part of the figures")
    parser.add_argument("--name", default="live")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for num_lists in options.lists:
            figures = measure(Path(place), options.items, num_lists, options.rounds)
            results[f"{num_lists} lists" if num_lists else "no lists"] = figures
    settings = {"items": options.items, "dim": DIM, "bytes": NUM_SUBSPACES, "batch": BATCH, "k": K}
    settings["niceness"] = os.nice(0)  # below 0: neighbours wait
    write_result(options.name, {**settings, "rounds": options.rounds, "results": results})


if __name__ == "__main__":
    main()

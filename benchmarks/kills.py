"""Kills the writer of a live index at random moments, and looks at what is left.

A child changes an index as fast as it can, and compacts it, now and then while it goes on changing;
it says when it begins a change and when the call returned. The parent ends it with SIGKILL, opens
the index and compares every item with a model: each acknowledged change must be there, and nothing
else but the one change in flight, wholly or not at all. Searches must equal those of a fresh index.

SIGKILL ends a process, not the machine: what the system had in its caches is not lost by it.

python benchmarks/kills.py --kills 500
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

import poeem

NUM_IDS, NUM_SUBSPACES, NUM_CODEWORDS, NUM_LISTS, SUB_DIM = 20_000, 8, 256, 16, 2
DIM = NUM_SUBSPACES * SUB_DIM
MAX_BATCH = 100
OPEN_SHARE = 0.9


class Model:
    """What the index should hold, by id."""

    def __init__(self) -> None:
        """Half of the ids are there."""
        rng = np.random.default_rng(0)
        self.there = rng.random(NUM_IDS) < 0.5
        self.codes = rng.integers(NUM_CODEWORDS, size=(NUM_IDS, NUM_SUBSPACES), dtype=np.uint8)
        self.lists = rng.integers(NUM_LISTS, size=NUM_IDS, dtype=np.int32)
        self.codebooks = rng.standard_normal((NUM_SUBSPACES, NUM_CODEWORDS, SUB_DIM))
        self.centroids = rng.standard_normal((NUM_LISTS, DIM))

    def copy(self) -> Model:
        """Return another that changes by itself."""
        other = object.__new__(Model)
        other.__dict__ = {name: value.copy() for name, value in self.__dict__.items()}
        return other

    def index(self) -> poeem.Index:
        """Return a fresh index of what there is."""
        ids = np.flatnonzero(self.there)
        return poeem.build_index_from_codes(
            ids=ids,
            codes=self.codes[ids],
            lists=self.lists[ids],
            codebooks=self.codebooks.astype(np.float32),
            centroids=self.centroids.astype(np.float32),
            metric="l2",
        )

    def holds(self, view: poeem.LiveView) -> bool:
        """Return whether a view has exactly these items with these codes and lists."""
        rows = view.rows()
        order = np.argsort(rows.ids)
        ids = np.flatnonzero(self.there)
        return (
            np.array_equal(rows.ids[order], ids)
            and np.array_equal(rows.codes[order], self.codes[ids])
            and np.array_equal(rows.lists[order], self.lists[ids])
        )


def change_of(number: int, seed: int) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    """Return the change of a number: whether it removes, ids, codes, lists."""
    rng = np.random.default_rng([seed, number])
    count = int(rng.integers(1, MAX_BATCH))
    ids = rng.permutation(NUM_IDS)[:count]
    codes = rng.integers(NUM_CODEWORDS, size=(count, NUM_SUBSPACES), dtype=np.uint8)
    return bool(rng.random() < 0.3), ids, codes, rng.integers(NUM_LISTS, size=count, dtype=np.int32)


def apply(model: Model, number: int, seed: int) -> None:
    """Do a change to the model."""
    removes, ids, codes, lists = change_of(number, seed)
    model.there[ids] = not removes
    if not removes:
        model.codes[ids], model.lists[ids] = codes, lists


def write(path: Path, number: int, seed: int, pipe: int, moment: int) -> None:
    """Be the writer, until killed. `number`: of the first change to make."""
    chance = random.Random(moment)

    def say(what: str, value: int = 0) -> None:
        os.write(pipe, f"{what} {value}\n".encode())

    live = poeem.LiveIndex.open(path)
    say("open")

    def compact() -> None:
        say("compact")
        live.compact()
        say("compacted")

    while True:
        if chance.random() < 0.1:
            if chance.random() < 0.5:
                compact()
            else:
                threading.Thread(target=compact).start()
        say("begin", number)
        removes, ids, codes, lists = change_of(number, seed)
        if removes:
            live.remove(ids, ignore_missing=True)
        else:
            live.update(ids, codes=codes, lists=lists)
        say("done", number)
        number += 1


def run_and_kill(
    path: Path, number: int, seed: int, moment: int, longest: float
) -> list[tuple[str, int]]:
    """Start a writer, kill it some time later, and return what it said."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            write(path, number, seed, send, moment)
        except BaseException as error:
            os.write(send, f"failed 0\n{error!r}\n".encode())
        finally:
            os._exit(1)
    os.close(send)
    said = b""
    chance = random.Random(moment + 1)
    if chance.random() < OPEN_SHARE:  # else it may be killed while it opens the index
        said = os.read(receive, 1 << 16)
    time.sleep(chance.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    while data := os.read(receive, 1 << 16):
        said += data
    os.close(receive)
    os.waitpid(child, 0)
    if b"failed" in said:
        raise SystemExit(f"the writer failed: {said[-500:].decode()}")
    words = [line.split() for line in said.decode().splitlines()]
    return [(what, int(value)) for what, value in words]


def phase_of(said: list[tuple[str, int]]) -> str:
    """Return what the writer was about when it was killed."""
    kinds = Counter(what for what, _ in said)
    if not said:
        return "opening"
    compacting = kinds["compact"] > kinds["compacted"]
    changing = kinds["begin"] > kinds["done"]
    if compacting:
        return "compacting and changing" if changing else "compacting"
    return "changing" if changing else "between changes"


def check(path: Path, model: Model, begun: int | None, seed: int, queries: np.ndarray) -> bool:
    """Compare the index with the model; return whether the change in flight is there.

    The model is left as the index is.
    """
    with poeem.LiveIndex.open(path, read_only=True) as reader:
        view = reader.view()
        in_flight = False
        if begun is not None and not model.holds(view):
            apply(model, begun, seed)
            in_flight = True
        if not model.holds(view):
            raise SystemExit(f"the index differs from what was acknowledged: {path}")
        fresh = model.index()
        for num_probes in (None, 3):
            got = view.search(queries, 20, num_probes=num_probes)
            wanted = fresh.search(queries, 20, num_probes=num_probes)
            if not all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True)):
                raise SystemExit("a search differs from that of a fresh index")
    return in_flight


def kill_often(folder: Path, kills: int, seed: int, longest: float) -> dict[str, Any]:
    """Kill so many writers of one index; return what was seen."""
    path = folder / "killed.poeem"
    model, number = Model(), 0
    model.index().save(path)
    queries = np.random.default_rng(1).standard_normal((4, DIM)).astype(np.float32)
    phases: Counter[str] = Counter()
    acknowledged = in_flight_kept = 0
    for kill in range(kills):
        said = run_and_kill(path, number, seed, seed * 1_000_003 + 2 * kill, longest)
        phases[phase_of(said)] += 1
        done = [value for what, value in said if what == "done"]
        begun = [value for what, value in said if what == "begin"]
        for one in done:
            apply(model, one, seed)
        acknowledged += len(done)
        number += len(done)
        open_one = begun[-1] if len(begun) > len(done) else None
        if check(path, model, open_one, seed, queries):
            in_flight_kept += 1
            number += 1
        if kill % 50 == 49:
            print(f"{kill + 1} kills, {acknowledged} changes acknowledged", flush=True)
    with poeem.LiveIndex.open(path) as live:  # the next writer tidies up, and can fold all of it
        live.compact()
    left = sorted(one.name for one in folder.iterdir())
    if left != ["killed.poeem", "killed.poeem.changes", "killed.poeem.writer"]:
        raise SystemExit(f"files were left: {left}")
    mark = poeem.Index.open(path)._contents.live
    return {
        "kills": kills,
        "killed_while": dict(sorted(phases.items())),
        "changes_acknowledged": acknowledged,
        "acknowledged_changes_lost": 0,
        "changes_in_flight_found_whole": in_flight_kept,
        "changes_found_in_part": 0,
        "snapshots_written": mark.generation if mark else 0,
    }


def main() -> None:
    """Kill, check, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=0.4, help="seconds a writer lives at most")
    parser.add_argument("--folder", help="where the index is")
    parser.add_argument("--only-check", action="store_true", help="write no result")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        figures = kill_often(Path(place), options.kills, options.seed, options.longest)
    figures["seconds"] = round(time.monotonic() - start)
    if options.only_check:
        sys.stdout.write(f"{figures}\n")
    else:
        write_result("kills", figures)


if __name__ == "__main__":
    main()

"""Searches against updates and compactions for as long as told; `scripts/tsan` runs it watched.

Items come, move and go in groups of 25 with one code each: whatever a search finds must be whole
groups, all of a group with one score. Ends with status 1 where that does not hold.

python scripts/soak.py --seconds 60
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import poeem

NUM_GROUPS, GROUP, NUM_LISTS, NUM_SUBSPACES = 200, 25, 8, 4


class Soak:
    """One live index, a writer, a compaction, and searches by threads and by a reader."""

    def __init__(self, path: Path) -> None:
        """Make an index of one item per codeword, which stays."""
        rng = np.random.default_rng(0)
        self.codebooks = rng.standard_normal((NUM_SUBSPACES, 256, 4)).astype(np.float32)
        self.queries = rng.standard_normal((64, 16)).astype(np.float32)
        poeem.build_index_from_codes(
            codes=rng.integers(256, size=(3000, NUM_SUBSPACES)),
            codebooks=self.codebooks,
            ids=np.arange(3000) + 10**6,
            lists=rng.integers(NUM_LISTS, size=3000),
            centroids=np.zeros((NUM_LISTS, 16), np.float32),
            metric="cosine",
        ).save(path)
        self.writer = poeem.LiveIndex.open(path)
        self.reader = poeem.LiveIndex.open(path, read_only=True)
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.counts = dict.fromkeys(("changes", "searches", "reader searches", "compactions"), 0)

    def change(self, rng: np.random.Generator) -> None:
        """Put groups with random codes, or remove them."""
        groups = rng.permutation(NUM_GROUPS)[: rng.integers(1, 8)]
        ids = (groups[:, None] * GROUP + np.arange(GROUP)).ravel()
        if rng.random() < 0.3:
            self.writer.remove(ids, ignore_missing=True)
        else:
            codes = np.repeat(rng.integers(256, size=(len(groups), NUM_SUBSPACES)), GROUP, axis=0)
            self.writer.update(ids, codes=codes, lists=rng.integers(NUM_LISTS, size=len(ids)))
        self.counts["changes"] += 1

    def search(self, rng: np.random.Generator) -> None:
        """Search in this process's writer."""
        self._check(self.writer, rng)
        self.counts["searches"] += 1

    def follow(self, rng: np.random.Generator) -> None:
        """Search in a reader that follows."""
        self._check(self.reader, rng)
        self.counts["reader searches"] += 1

    def compact(self, rng: np.random.Generator) -> None:
        """Fold, then leave the others alone for a moment."""
        self.counts["compactions"] += self.writer.compact()
        time.sleep(0.2 * rng.random())

    def _check(self, live: poeem.LiveIndex, rng: np.random.Generator) -> None:
        queries = self.queries[rng.integers(64, size=int(rng.integers(1, 4)))]
        found = live.search(queries, 10 * GROUP, num_threads=int(rng.integers(1, 3)))
        for ids, scores in zip(found.ids, found.scores, strict=True):
            above = scores > scores[-1]  # those that k may have cut are left out
            ids, scores = ids[above], scores[above]
            for group in np.unique(ids[ids < 10**6] // GROUP):
                mine = ids // GROUP == group
                if mine.sum() != GROUP or len(np.unique(scores[mine])) != 1:
                    raise AssertionError(f"group {group}: {mine.sum()} of {GROUP} items")

    def run(self, seconds: float) -> None:
        """Let all of it happen at once."""

        def guarded(work: Callable[[np.random.Generator], None], seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                while not self.stop.is_set():
                    work(rng)
            except BaseException as error:
                self.failures.append(error)
                self.stop.set()

        works = [self.change, self.search, self.search, self.follow, self.compact]
        threads = [
            threading.Thread(target=guarded, args=(work, seed)) for seed, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()
        self.reader.close()
        self.writer.close()


def main() -> None:
    """Soak, and say how much there was of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    if not 0 < options.seconds < math.inf:
        parser.error(f"--seconds: got {options.seconds:g}, wanted more than 0 and finite")
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder) / "soak.poeem")
        soak.run(options.seconds)
    sys.stdout.write(f"soak: {options.seconds:g} seconds, {soak.counts}\n")
    if soak.failures or not all(soak.counts.values()):
        raise SystemExit(f"soak: failed: {soak.failures}")


if __name__ == "__main__":
    main()

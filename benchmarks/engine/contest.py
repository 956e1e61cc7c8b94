"""Rivals in processes of their own that take turns, round by round.

So that a busy machine is busy for all; figures are medians over rounds of wall time, with CPU time
(of all threads of the process) beside it, which a neighbour on the machine disturbs less.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import NUM_QUERIES

CALLS = 20
"""Single queries of a turn."""
MORE_TURNS = 5
"""Single queries have so many times the turns of batches: a p99 wants hundreds of calls."""


class Rival:
    """A process that searches when it is told to."""

    def __init__(self, name: str, folder: Path, *, label: str = "", setting: int | None = None):
        """Start the process and wait until it has built its index."""
        self.name, self.label, self.folder = name, label or name, folder
        command = [sys.executable, str(Path(__file__).with_name("rivals.py")), str(folder), name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.num_bytes = self._read()["num_bytes"]
        self.choose(setting)

    def choose(self, setting: int | None) -> None:
        """Change its one setting; None = as it is. Then `ids` and `scores` are what it finds."""
        self._ask({"setting": setting})
        self.ids = np.load(self.folder / f"ids {self.name}.npy")
        self.scores = np.load(self.folder / f"scores {self.name}.npy")

    def time(self, rows: tuple[int, int], each: bool, threads: int) -> dict[str, list[float]]:
        """Return seconds per query, one figure per call of its search."""
        return self._ask({"rows": rows, "each": each, "threads": threads})

    def _ask(self, task: dict[str, Any]) -> Any:
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.name} ended")

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean share of b's ids that a has."""
    return float(np.mean([len(set(x) & set(y)) / len(y) for x, y in zip(a, b, strict=True)]))


def same_scores(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether ranks have equal scores but for rounding, whoever won a tie."""
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-4))


def summary(times: dict[str, list[float]]) -> dict[str, float]:
    """Return milliseconds per query."""
    wall, cpu = np.array(times["wall"]) * 1e3, np.array(times["cpu"]) * 1e3
    figures = {
        "p50_ms": np.median(wall),
        "p99_ms": np.quantile(wall, 0.99),
        "min_ms": wall.min(),
        "cpu_p50_ms": np.median(cpu),
    }
    rounded = {name: round(float(value), 4) for name, value in figures.items()}
    return {"calls": len(wall), **rounded}


def quality(rivals: list[Rival], truth: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return what each found, beside the truth and beside the first."""
    return {
        rival.label: {
            "recall10_at_100": round(overlap(rival.ids, truth), 4),
            "recall10_at_10": round(overlap(rival.ids[:, :10], truth), 4),
            "ids_as_ours": round(overlap(rival.ids, rivals[0].ids), 6),
            "scores_as_ours": same_scores(rival.scores, rivals[0].scores),
            "index_bytes": rival.num_bytes,
        }
        for rival in rivals
    }


def take_turns(
    rivals: list[Rival], threads: list[int], rounds: int, ways: tuple[str, ...] = ("one", "batch")
) -> dict[str, dict[str, Any]]:
    """Return figures per rival and case: "one, 1 thread" and so on.

    one: `CALLS` queries one by one in each turn, so that caches are those of who was there before.
    many ones: all queries one by one, as a server answers that does nothing else. batch: all at
    once.
    """
    figures: dict[str, dict[str, Any]] = {rival.label: {} for rival in rivals}
    for count in threads:
        for way in ways:
            times: dict[str, dict[str, list[float]]] = {
                rival.label: {"wall": [], "cpu": []} for rival in rivals
            }
            for turn in range(rounds * MORE_TURNS if way == "one" else rounds):
                for rival in rivals:
                    first = turn * CALLS % (NUM_QUERIES - CALLS)
                    rows = (first, first + CALLS) if way == "one" else (0, NUM_QUERIES)
                    got = rival.time(rows, way != "batch", count)
                    for key, values in got.items():
                        times[rival.label][key] += values
            for rival in rivals:
                figures[rival.label][f"{way}, {count} thread"] = summary(times[rival.label])
    return figures


def compare(
    folder: Path,
    names: list[str],
    truth: np.ndarray,
    threads: list[int],
    rounds: int,
    ways: tuple[str, ...] = ("one", "batch"),
    **extra: Any,
) -> dict[str, Any]:
    """Let rivals take turns in these ways (`take_turns`); return figures per rival."""
    rivals = [Rival(name, folder, **extra) for name in names]
    try:
        figures = quality(rivals, truth)
        for label, cases in take_turns(rivals, threads, rounds, ways).items():
            figures[label] |= cases
    finally:
        for rival in rivals:
            rival.close()
    return figures


def ratios(figures: dict[str, Any]) -> dict[str, Any]:
    """Return how many times faster the first is than each, by wall and by CPU time."""
    ours = next(iter(figures.values()))
    result: dict[str, Any] = {}
    for name, rival in figures.items():
        for case, values in rival.items():
            if isinstance(values, dict):
                result.setdefault(case, {})[name] = {
                    "wall": round(values["p50_ms"] / ours[case]["p50_ms"], 2),
                    "cpu": round(values["cpu_p50_ms"] / max(ours[case]["cpu_p50_ms"], 1e-6), 2),
                }
    return result

"""The engine against Faiss: one query at a time and batches, each rival in its own process.

All rivals search the same catalogue of the same bytes; `faiss pq8` the very same codes, whose ids
must come out the same but for ties. Rivals take turns, round by round, so that a busy machine is
busy for all; figures are medians over rounds of wall time, with CPU time (of all threads of the
process) beside it, which a neighbour on the machine disturbs less.

python benchmarks/engine/bench.py --items 1000000 --bytes 8 16 32
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

DIM, NUM_QUERIES = 64, 256
TRAINING_VECTORS = 65_536


class Rival:
    """A process that searches when it is told to."""

    def __init__(self, name: str, folder: Path) -> None:
        """Start the process and wait until it has built its index."""
        self.name = name
        command = [sys.executable, str(Path(__file__).with_name("rivals.py")), str(folder), name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._read() == "ready"
        self.ids = np.load(folder / f"ids {name}.npy")
        self.scores = np.load(folder / f"scores {name}.npy")

    def time(self, rows: tuple[int, int], each: bool, threads: int) -> dict[str, list[float]]:
        """Return seconds per query, one figure per call of its search."""
        task = {"rows": rows, "each": each, "threads": threads}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return json.loads(self._read())

    def _read(self) -> str:
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self.name} ended")
        return line

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def clustered_vectors(num_items: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 [num_items, DIM]: a thousand clusters of unequal size and shape."""
    centers = rng.standard_normal((1000, DIM), dtype=np.float32)
    spread = rng.uniform(0.3, 1.0, (1000, 1)).astype(np.float32)
    weights = rng.exponential(size=1000)
    chosen = rng.choice(1000, num_items, p=weights / weights.sum())
    vectors = rng.standard_normal((num_items, DIM), dtype=np.float32)
    vectors *= spread[chosen]
    vectors += centers[chosen]
    return vectors


def prepare(folder: Path, vectors: np.ndarray, num_bytes: int) -> None:
    """Train product codes of `num_bytes` and write what the rivals read."""
    import faiss

    quantizer = faiss.ProductQuantizer(DIM, num_bytes, 8)
    quantizer.cp.niter = 6
    quantizer.train(vectors[:TRAINING_VECTORS])
    codebooks = faiss.vector_to_array(quantizer.centroids).reshape(num_bytes, 256, -1)
    np.save(folder / "codebooks.npy", codebooks)
    np.save(folder / "codes.npy", quantizer.compute_codes(vectors))


def true_neighbours(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the 10 items of largest float inner product, [num_queries, 10]."""
    import faiss

    return faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]


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
    return {name: round(float(value), 4) for name, value in figures.items()}


def compare(
    folder: Path, names: list[str], truth: np.ndarray, threads: list[int], rounds: int
) -> dict[str, Any]:
    """Let rivals take turns; return figures per rival."""
    rivals = [Rival(name, folder) for name in names]
    figures: dict[str, Any] = {}
    try:
        for rival in rivals:
            figures[rival.name] = {
                "recall10_at_100": round(overlap(rival.ids, truth), 4),
                "recall10_at_10": round(overlap(rival.ids[:, :10], truth), 4),
                "ids_as_ours": round(overlap(rival.ids, rivals[0].ids), 6),
                "scores_as_ours": same_scores(rival.scores, rivals[0].scores),
            }
        for count in threads:
            for each, label in ((True, "one"), (False, "batch")):
                times: dict[str, dict[str, list[float]]] = {
                    name: {"wall": [], "cpu": []} for name in names
                }
                for turn in range(rounds):
                    for rival in rivals:
                        rows = (turn * 20 % NUM_QUERIES, turn * 20 % NUM_QUERIES + 20)
                        got = rival.time(rows if each else (0, NUM_QUERIES), each, count)
                        for key, values in got.items():
                            times[rival.name][key] += values
                for name in names:
                    figures[name][f"{label}, {count} thread"] = summary(times[name])
    finally:
        for rival in rivals:
            rival.close()
    return figures


def ratios(figures: dict[str, Any]) -> dict[str, Any]:
    """Return how many times faster our best kernel is than each rival, by wall and by CPU time."""
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


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_flat")
    options = parser.parse_args()

    from poeem.index import available_kernels

    kernels = [str(k["name"]) for k in available_kernels() if k["supported"]]
    names = [f"poeem {kernel}" for kernel in kernels if kernel != "scalar"]
    names += ["faiss pq8", "faiss 4-bit fast scan"]
    rng = np.random.default_rng(0)
    vectors = clustered_vectors(options.items, rng)
    queries = clustered_vectors(NUM_QUERIES, np.random.default_rng(0))
    truth = true_neighbours(vectors, queries)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        for num_bytes in options.bytes:
            prepare(folder, vectors, num_bytes)
            figures = compare(folder, names, truth, options.threads, options.rounds)
            results[f"{num_bytes} bytes"] = {"rivals": figures, "times_ours": ratios(figures)}
            print(f"{num_bytes} bytes: {json.dumps(results[f'{num_bytes} bytes']['times_ours'])}")
    settings = {"items": options.items, "dim": DIM, "k": 100, "batch": NUM_QUERIES}
    write_result(options.name, {**settings, "rounds": options.rounds, "results": results})


if __name__ == "__main__":
    main()

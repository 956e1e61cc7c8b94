"""Latency of one query against the size of the catalogue, 10,000 to 10,000,000 items.

python benchmarks/engine/sizes.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contest import compare
from datasets import prepare_flat, source_of, true_neighbours

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import RESULTS, write_result

NAMES = ["poeem best", "faiss pq8", "faiss 4-bit fast scan"]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw milliseconds of one query against items."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4.2))
    for name in NAMES:
        sizes = list(map(int, figures))
        for value, style in (("p50_ms", "-o"), ("p99_ms", ":")):
            times = [figures[str(size)][name]["one, 1 thread"][value] for size in sizes]
            axis.plot(sizes, times, style, label=f"{name}, {value[:3]}", alpha=0.9)
    axis.set(xscale="log", yscale="log", xlabel="items of 8 bytes", ylabel="ms, one query")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = [10_000, 100_000, 1_000_000, 10_000_000]
    parser.add_argument("--items", type=int, nargs="+", default=sizes)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_sizes")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for items in options.items:
        source = source_of("clustered", items, options.dim)
        queries = source.queries()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            source.save(folder)
            np.save(folder / "queries.npy", queries)
            prepare_flat(folder, source, 8)
            truth = true_neighbours(source, queries)
            figures[str(items)] = compare(folder, NAMES, truth, [1, 2], options.rounds)
        print(items, {n: f["one, 1 thread"] for n, f in figures[str(items)].items()}, flush=True)
    draw(figures, RESULTS / f"{options.name}.png")
    settings = {"data": "clustered", "dim": options.dim, "bytes": 8, "k": 100}
    write_result(options.name, {**settings, "rounds": options.rounds, "figures": figures})


if __name__ == "__main__":
    main()

"""The engine against Faiss: one query at a time and batches, each rival in its own process.

All rivals search the same catalogue of the same bytes; `faiss pq8` the very same codes, whose ids
must come out the same but for ties. `poeem, residual codes` searches codes of as many bytes that
find more of the true neighbours: for rivals with codes of their own.

python benchmarks/engine/bench.py --items 1000000 --bytes 8 16 32
python benchmarks/engine/bench.py --items 10000000 --bytes 8 --name engine_flat_10m
POEEM_DATA=data python benchmarks/engine/bench.py --data glove-6b-50d --bytes 10 25 --name ...
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contest import compare, ratios
from datasets import NUM_QUERIES, prepare_costly, prepare_flat, source_of, true_neighbours
from rivals import SUMS

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="clustered")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_flat")
    options = parser.parse_args()

    from poeem.index import available_kernels

    kernels = [str(k["name"]) for k in available_kernels() if k["supported"]]
    names = [f"poeem {kernel}" for kernel in kernels if kernel != "scalar"]
    names += ["faiss pq8", "faiss 4-bit fast scan", SUMS]
    source = source_of(options.data, options.items, options.dim)
    queries = source.queries()
    truth = true_neighbours(source, queries)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source.save(folder)
        np.save(folder / "queries.npy", queries)
        for num_bytes in options.bytes:
            prepare_flat(folder, source, num_bytes)
            prepare_costly(folder, source, num_bytes, "residual", 0.0)
            figures = compare(folder, names, truth, options.threads, options.rounds)
            results[f"{num_bytes} bytes"] = {"rivals": figures, "times_ours": ratios(figures)}
            print(f"{num_bytes} bytes: {json.dumps(results[f'{num_bytes} bytes']['times_ours'])}")
    settings = {"data": source.name, "items": source.items, "dim": source.dim, "k": 100}
    settings |= {"batch": NUM_QUERIES, "rounds": options.rounds}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

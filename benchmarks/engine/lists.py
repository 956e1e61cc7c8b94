"""The engine with lists against Faiss IVFPQ: same centroids, codes and probes, the same ids.

Faiss gets our parts: its coarse quantizer is an index of our centroids, by inner product, and its
lists are filled with our codes. Measured as in bench.py, rivals in turns.

python benchmarks/engine/lists.py --items 1000000 --bytes 8 16 --probes 16 64
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
from datasets import NUM_QUERIES, prepare_lists, prepare_residuals, source_of, true_neighbours

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="clustered")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_lists")
    options = parser.parse_args()

    from poeem.index import active_kernel

    names = [f"poeem {active_kernel()}", "faiss ivfpq"]
    source = source_of(options.data, options.items, options.dim)
    queries = source.queries()
    truth = true_neighbours(source, queries)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source.save(folder)
        np.save(folder / "queries.npy", queries)
        prepare_lists(folder, source, options.lists)
        for num_bytes in options.bytes:
            prepare_residuals(folder, source, num_bytes)
            for probes in options.probes:
                figures = compare(
                    folder,
                    names,
                    truth,
                    options.threads,
                    options.rounds,
                    ("one", "many ones", "batch"),
                    setting=probes,
                )
                case = f"{num_bytes} bytes, {probes} probes"
                results[case] = {"rivals": figures, "times_ours": ratios(figures)}
                print(f"{case}: {json.dumps(results[case]['times_ours'])}", flush=True)
    settings = {"data": source.name, "items": source.items, "dim": source.dim, "k": 100}
    settings |= {"batch": NUM_QUERIES, "lists": options.lists, "rounds": options.rounds}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

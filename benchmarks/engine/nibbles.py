"""4-bit codes: every kernel against Faiss' fast scan and IndexPQ over the very same codes.

python benchmarks/engine/nibbles.py --items 1000000 --bytes 8 16
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contest import compare, ratios
from datasets import NUM_QUERIES, prepare_flat, source_of, true_neighbours

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_nibbles")
    options = parser.parse_args()

    from poeem.index import available_kernels

    kernels = [str(k["name"]) for k in available_kernels() if k["supported"]]
    # The scan of 4-bit codes is the same with and without VBMI.
    wanted = [k for k in kernels if k not in ("scalar", "avx512-vbmi")]
    names = [f"poeem {kernel}" for kernel in wanted]
    names += ["faiss fast scan, same codes", "faiss pq"]
    source = source_of("clustered", options.items, options.dim)
    queries = source.queries()
    truth = true_neighbours(source, queries)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source.save(folder)
        np.save(folder / "queries.npy", queries)
        for num_bytes in options.bytes:
            prepare_flat(folder, source, num_bytes, num_codewords=16)
            figures = compare(folder, names, truth, options.threads, options.rounds)
            results[f"{num_bytes} bytes"] = {"rivals": figures, "times_ours": ratios(figures)}
    settings = {"data": source.name, "items": source.items, "dim": source.dim, "k": 100}
    settings |= {"batch": NUM_QUERIES, "rounds": options.rounds}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

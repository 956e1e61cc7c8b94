"""What an index takes: its file, and the peak of opening and searching it, beyond the interpreter.

Both over the bytes of codes and ids. What does not grow with the items (codebooks, centroids, the
working memory of a search) is among them, so of few items the ratios are larger.

    python benchmarks/search_memory.py
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
from common import write_result

import poeem
from poeem import Index

DIM, NUM_SUBSPACES, NUM_CODEWORDS, NUM_LISTS = 64, 8, 256, 1024
KINDS = ("running ids", "own ids", "lists", "residual codes")


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def measure(path: str, num_queries: int) -> dict[str, int]:
    """Open and search in this process, which does nothing else."""
    queries = np.random.default_rng(1).standard_normal((num_queries, DIM), dtype=np.float32)
    # Load what a first search loads besides the index.
    tiny = poeem.build_index_from_codes(
        codes=np.zeros((4, NUM_SUBSPACES), np.uint8),
        codebooks=np.zeros((NUM_SUBSPACES, NUM_CODEWORDS, DIM // NUM_SUBSPACES), np.float32),
    )
    tiny.search(queries[:1], 1)
    before = resident("VmRSS")
    index = poeem.Index.open(path)
    index.search(queries, 100)
    return {"before": before, "peak": resident("VmHWM")}


def index_of(kind: str, count: int, rng: np.random.Generator) -> tuple[Index, int]:
    """Return an index with random codes, and the bytes of its codes and ids."""
    width = DIM if kind == "residual codes" else DIM // NUM_SUBSPACES
    parts: dict[str, Any] = {
        "codes": rng.integers(256, size=(count, NUM_SUBSPACES), dtype=np.uint8),
        "codebooks": rng.standard_normal((NUM_SUBSPACES, NUM_CODEWORDS, width), dtype=np.float32),
    }
    if kind == "residual codes":
        parts["family"] = "residual"
    if kind == "lists":
        parts["centroids"] = rng.standard_normal((NUM_LISTS, DIM), dtype=np.float32)
        parts["lists"] = rng.integers(NUM_LISTS, size=count)
    if kind == "own ids":
        parts["ids"] = rng.permutation(count) + 7
    id_bytes = 4 if kind in ("own ids", "lists") else 0  # of lists items are not in their order
    return poeem.build_index_from_codes(**parts), count * (NUM_SUBSPACES + id_bytes)


def main() -> None:
    """Make indexes, search each in its own process, write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--measure")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.queries[0])))
        return
    rng = np.random.default_rng(0)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in options.items:
            for kind in KINDS:
                path = Path(folder) / "index.poeem"
                index, wanted = index_of(kind, count, rng)
                index.save(path)
                del index
                size = path.stat().st_size
                figure = {"codes_and_ids_bytes": wanted, "file_bytes": size}
                figure["file_ratio"] = round(size / wanted, 4)
                for num_queries in options.queries:
                    used = peak_of(path, num_queries)
                    figure[f"peak_ratio_{num_queries}_queries"] = round(used / wanted, 3)
                    figure[f"peak_bytes_{num_queries}_queries"] = used
                figures[f"{count} items, {kind}"] = figure
    settings = {"bytes": NUM_SUBSPACES, "dim": DIM, "num_lists": NUM_LISTS, "k": 100}
    write_result(
        "search_memory", {"settings": settings, "queries": options.queries, "figures": figures}
    )


def peak_of(path: Path, num_queries: int) -> int:
    """Return the bytes that a process of its own takes to open and search, beyond its start."""
    command = [sys.executable, __file__, "--measure", str(path), "--queries", str(num_queries)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return int(found["peak"] - found["before"])


if __name__ == "__main__":
    main()

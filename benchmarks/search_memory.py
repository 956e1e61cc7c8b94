"""Peak memory of opening an index and searching it, beyond the interpreter with its imports.

python benchmarks/search_memory.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import write_result

DIM, NUM_SUBSPACES, NUM_CODEWORDS = 64, 8, 256


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def measure(path: str, num_queries: int) -> dict[str, int]:
    """Open and search in this process, which does nothing else."""
    import poeem

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


def main() -> None:
    """Make indexes, search each in its own process, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--measure")
    parser.add_argument("--queries", type=int, default=16)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.queries)))
        return
    import poeem

    rng = np.random.default_rng(0)
    codebooks = rng.standard_normal(
        (NUM_SUBSPACES, NUM_CODEWORDS, DIM // NUM_SUBSPACES), dtype=np.float32
    )
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in options.items:
            for ids_name, ids in (("running ids", None), ("own ids", rng.permutation(count) + 7)):
                path = Path(folder) / "index.poeem"
                codes = rng.integers(256, size=(count, NUM_SUBSPACES), dtype=np.uint8)
                poeem.build_index_from_codes(codes=codes, codebooks=codebooks, ids=ids).save(path)
                command = [
                    sys.executable,
                    __file__,
                    "--measure",
                    str(path),
                    "--queries",
                    str(options.queries),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout)
                wanted = count * (NUM_SUBSPACES + (0 if ids is None else 4))
                used = found["peak"] - found["before"]
                figures[f"{count} items, {ids_name}"] = {
                    "codes_and_ids_bytes": wanted,
                    "peak_beyond_interpreter_bytes": used,
                    "ratio": round(used / wanted, 3),
                }
    settings = {"bytes": NUM_SUBSPACES, "queries": options.queries, "k": 100}
    write_result("search_memory", {"settings": settings, "figures": figures})


if __name__ == "__main__":
    main()

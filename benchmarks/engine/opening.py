"""Work of opening a memory-mapped index of 10,000,000 items, and of searching it from cold pages.

The file's pages are dropped from the page cache first, where the system lets a user do that.
python benchmarks/engine/opening.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

DIM, NUM_SUBSPACES = 64, 8


def measure(path: str, verify: bool) -> dict[str, Any]:
    """Open and search in this process, which does nothing else; seconds and page faults."""
    import poeem

    queries = np.random.default_rng(1).standard_normal((3, DIM), dtype=np.float32)
    figures: dict[str, Any] = {}
    index: Any = None

    def step(name: str, work: Any) -> Any:
        faults = resource.getrusage(resource.RUSAGE_SELF)
        cpu, start = time.process_time(), time.perf_counter()
        result = work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        figures[name] = {
            "wall_s": round(time.perf_counter() - start, 4),
            "cpu_s": round(time.process_time() - cpu, 4),
            "read_from_disk": after.ru_majflt - faults.ru_majflt,
            "page_faults": after.ru_minflt - faults.ru_minflt,
        }
        return result

    index = step("open", lambda: poeem.Index.open(path, verify=verify))
    step("first search", lambda: index.search(queries[:1], 100))
    step("second search", lambda: index.search(queries[1:2], 100))
    return figures


def drop_pages(path: Path) -> None:
    """Ask the system to forget the file's pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Make an index, open it in processes of their own, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "VERIFY"))
    parser.add_argument("--name", default="engine_opening")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], options.measure[1] == "verify")))
        return
    import poeem

    rng = np.random.default_rng(0)
    codebooks = rng.standard_normal((NUM_SUBSPACES, 256, DIM // NUM_SUBSPACES), dtype=np.float32)
    codes = rng.integers(256, size=(options.items, NUM_SUBSPACES), dtype=np.uint8)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.poeem"
        poeem.build_index_from_codes(codes=codes, codebooks=codebooks).save(path)
        for way in ("mapped", "verify"):
            for state in ("cold", "warm"):
                if state == "cold":
                    drop_pages(path)
                command = [sys.executable, __file__, "--measure", str(path), way]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures[f"{way}, {state}"] = json.loads(done.stdout)
        num_bytes = path.stat().st_size
    settings = {"items": options.items, "bytes": NUM_SUBSPACES, "file_bytes": num_bytes}
    write_result(options.name, {**settings, "figures": figures})


if __name__ == "__main__":
    main()

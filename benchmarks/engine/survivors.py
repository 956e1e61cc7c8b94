"""How many items a query scores in float: the first ones, and what passes the bounds.

At least k must be scored; each more is work that better bounds or an earlier good threshold would
save. Numbers of items, not times: they are the same on any machine, for the kernel that is named.

    python benchmarks/engine/survivors.py --items 1000000 --bytes 8 16 32
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from datasets import (
    NUM_QUERIES,
    prepare_costly,
    prepare_flat,
    prepare_lists,
    prepare_residuals,
    source_of,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

from poeem import _native
from poeem.index import active_kernel, build_index_from_codes


def scored(
    folder: Path,
    queries: np.ndarray,
    probes: list[int],
    family: str,
    kernel: str = "",
    metric: str = "ip",
) -> dict[str, Any]:
    """Return items scored in float by a query, for some k and probes."""
    names = ["codes", "codebooks", "lists", "centroids"]
    files = {name: folder / f"{name}.npy" for name in names}
    arrays = {name: np.load(file) for name, file in files.items() if file.exists()}
    index = build_index_from_codes(**arrays, family=family, metric=metric, renumber=True)
    found = {}
    for num_probes in probes:
        for k in (10, 100, 1000):
            count = _native.count_scored(
                index._arrays,
                queries=queries[:, None],
                k=k,
                num_probes=num_probes,
                num_threads=1,
                kernel=kernel,
            )
            label = f"k = {k}" + (f", {num_probes} probes" if num_probes else "")
            found[label] = {
                "scored": round(count / len(queries)),
                "of_k": round(count / len(queries) / k, 2),
            }
    return found


def main() -> None:
    """Count and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="clustered")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--name", default="engine_survivors")
    options = parser.parse_args()
    source = source_of(options.data, options.items, options.dim)
    queries = source.queries()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        flat, lists = Path(place) / "flat", Path(place) / "lists"
        flat.mkdir()
        lists.mkdir()
        prepare_lists(lists, source, options.lists)
        for num_bytes in options.bytes:
            prepare_flat(flat, source, num_bytes)
            results[f"{num_bytes} bytes"] = scored(flat, queries, [0], "product")
            prepare_residuals(lists, source, num_bytes)
            label = f"{num_bytes} bytes, {options.lists} lists"
            results[label] = scored(lists, queries, options.probes, "product")
            if num_bytes == options.bytes[0]:  # where there is no shortlist
                few = options.probes[:1]
                for kernel, metric in (("avx2", "ip"), ("", "l2"), ("", "cosine")):
                    other = f"{label}, {kernel or metric}"
                    results[other] = scored(lists, queries, few, "product", kernel, metric)
        prepare_costly(flat, source, options.bytes[0], "residual", 0.0)
        label = f"{options.bytes[0]} bytes, residual codes"
        results[label] = scored(flat / "residual", queries, [0], "residual")
    settings = {"data": source.name, "items": source.items, "dim": source.dim}
    settings |= {"queries": NUM_QUERIES, "kernel": active_kernel()}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

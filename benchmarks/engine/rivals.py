"""One adapter per rival: made from a folder of arrays, then `search(queries, num_threads)`.

A rival's process is started by bench.py and imports nothing of the others:

python benchmarks/engine/rivals.py FOLDER RIVAL
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 100

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # ids, scores [n, K]


def ours(folder: Path, kernel: str) -> Search:
    """Search with a kernel of this library, forced and checked."""
    os.environ["POEEM_KERNEL"] = kernel
    from poeem.index import active_kernel, build_index_from_codes

    assert active_kernel() == kernel
    names = ["codes", "codebooks"]
    num_probes = None
    if (folder / "lists.npy").exists():  # lists.py
        names += ["lists", "centroids"]
        num_probes = int(np.load(folder / "probes.npy"))
    index = build_index_from_codes(**{name: np.load(folder / f"{name}.npy") for name in names})

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        return index.search(queries, K, num_probes=num_probes, num_threads=threads)

    return search


def faiss_pq8(folder: Path) -> Search:
    """Search the same codes with IndexPQ, 8 bits."""
    import faiss

    codes, codebooks = np.load(folder / "codes.npy"), np.load(folder / "codebooks.npy")
    num_subspaces, _, sub_dim = codebooks.shape
    index = faiss.IndexPQ(num_subspaces * sub_dim, num_subspaces, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(codebooks.ravel(), index.pq.centroids)
    faiss.copy_array_to_vector(codes.ravel(), index.codes)
    index.is_trained, index.ntotal = True, len(codes)
    return with_threads(faiss, index)


def faiss_fast_scan(folder: Path) -> Search:
    """Search 4-bit codes of as many bytes, trained by Faiss on the same vectors."""
    import faiss

    vectors, num_bytes = np.load(folder / "vectors.npy"), len(np.load(folder / "codebooks.npy"))
    index = faiss.IndexPQFastScan(vectors.shape[1], 2 * num_bytes, 4, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:65_536])
    index.add(vectors)
    return with_threads(faiss, index)


def faiss_ivfpq(folder: Path) -> Search:
    """Search the same lists of the same codes with IndexIVFPQ, 8 bits."""
    import faiss

    codes, codebooks = np.load(folder / "codes.npy"), np.load(folder / "codebooks.npy")
    centroids, lists = np.load(folder / "centroids.npy"), np.load(folder / "lists.npy")
    num_lists, dim = centroids.shape
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centroids)
    index = faiss.IndexIVFPQ(
        quantizer, dim, num_lists, len(codebooks), 8, faiss.METRIC_INNER_PRODUCT
    )
    assert index.by_residual
    faiss.copy_array_to_vector(codebooks.ravel(), index.pq.centroids)
    order = np.argsort(lists, kind="stable")
    for number, ids in enumerate(
        np.split(order, np.searchsorted(lists[order], range(1, num_lists)))
    ):
        rows = np.ascontiguousarray(codes[ids])
        index.invlists.add_entries(
            number, len(ids), faiss.swig_ptr(np.ascontiguousarray(ids)), faiss.swig_ptr(rows)
        )
    index.is_trained, index.ntotal = True, len(codes)
    index.nprobe = int(np.load(folder / "probes.npy"))
    return with_threads(faiss, index)


def with_threads(faiss: Any, index: Any) -> Search:
    """Return a search that sets Faiss' threads first."""

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(threads)
        scores, ids = index.search(queries, K)
        return ids, scores

    return search


def make(name: str, folder: Path) -> Search:
    """Return the search of the rival called `name`."""
    if name.startswith("poeem "):
        return ours(folder, name.removeprefix("poeem "))
    rivals = {
        "faiss pq8": faiss_pq8,
        "faiss 4-bit fast scan": faiss_fast_scan,
        "faiss ivfpq": faiss_ivfpq,
    }
    return rivals[name](folder)


def main() -> None:
    """Answer lines of JSON: {"rows": [begin, end], "each": bool, "threads": n} -> times."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    search = make(name, folder)
    queries = np.load(folder / "queries.npy")
    search(queries[:2], 1)
    ids, scores = search(queries, 1)
    np.save(folder / f"ids {name}.npy", ids)
    np.save(folder / f"scores {name}.npy", scores)
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        begin, end = task["rows"]
        step = 1 if task["each"] else end - begin
        wall, cpu = [], []
        for row in range(begin, end, step):
            part = queries[row : row + step]
            cpu_start, start = time.process_time(), time.perf_counter()
            search(part, task["threads"])
            wall.append((time.perf_counter() - start) / step)
            cpu.append((time.process_time() - cpu_start) / step)
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()

"""One adapter per rival, made from a folder of arrays.

A rival's process imports nothing of the others:

python benchmarks/engine/rivals.py FOLDER RIVAL
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import SEARCHED, TRAINING_VECTORS, Source

K = int(os.environ.get("POEEM_BENCH_K", "100"))


def as_it_is(value: int) -> None:
    """Stand for a setting that a rival does not have."""


Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # ids, scores [n, K]


@dataclass
class Adapter:
    """What a rival can do.

    choose: takes its one setting (probes, leaves, ef). num_bytes: of the index, saved.
    """

    search: Search
    choose: Callable[[int], None] = as_it_is
    num_bytes: int = 0


def ours(folder: Path, kernel: str, family: str = "product") -> Adapter:
    """Search with a kernel of this library, forced and checked; its setting is num_probes."""
    if kernel != "best":
        os.environ["POEEM_KERNEL"] = kernel
    from poeem.index import Index, active_kernel, build_index_from_codes

    assert kernel in ("best", active_kernel())
    if (folder / "items.poeem").exists():
        index = Index.open(folder / "items.poeem")
    else:
        names = ["codes", "codebooks", "lists", "centroids"]
        files = {name: folder / f"{name}.npy" for name in names}
        arrays = {name: np.load(file) for name, file in files.items() if file.exists()}
        index = build_index_from_codes(**arrays, family=family, renumber=True)
    settings: dict[str, Any] = {}

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        return index.search(queries, K, num_threads=threads, **settings)

    def choose(value: int) -> None:
        settings["num_probes"] = value or None

    return Adapter(search, choose, index.info()["total_bytes"])


def product_index(faiss: Any, folder: Path) -> Any:
    """Return a Faiss IndexPQ of our codes."""
    codes, codebooks = np.load(folder / "codes.npy"), np.load(folder / "codebooks.npy")
    num_subspaces, num_codewords, sub_dim = codebooks.shape
    bits = num_codewords.bit_length() - 1
    dim = num_subspaces * sub_dim
    index = faiss.IndexPQ(dim, num_subspaces, bits, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(codebooks.ravel(), index.pq.centroids)
    if bits == 4:
        codes = np.ascontiguousarray(codes[:, 0::2] | codes[:, 1::2] << 4)
    faiss.copy_array_to_vector(codes.ravel(), index.codes)
    index.is_trained, index.ntotal = True, len(codes)
    return index


def faiss_pq(folder: Path) -> Adapter:
    """Search the same codes with IndexPQ."""
    import faiss

    return with_threads(faiss, product_index(faiss, folder))


def faiss_same_nibbles(folder: Path) -> Adapter:
    """Search the same 4-bit codes with IndexPQFastScan."""
    import faiss

    return with_threads(faiss, faiss.IndexPQFastScan(product_index(faiss, folder)))


def faiss_fast_scan(folder: Path) -> Adapter:
    """Search 4-bit codes of as many bytes, trained by Faiss on the same vectors."""
    import faiss

    source = Source.load(folder)
    codebooks = np.load(folder / "codebooks.npy", mmap_mode="r")
    num_nibbles = 2 * codebooks.shape[0]
    # Where the dimension cannot be cut so often, it is filled up with zeros.
    dim = -(-source.dim // num_nibbles) * num_nibbles
    index = faiss.IndexPQFastScan(dim, num_nibbles, 4, faiss.METRIC_INNER_PRODUCT)
    index.train(filled(source.sample(), dim))
    for piece in source.pieces():
        index.add(filled(piece, dim))
    adapter = with_threads(faiss, index)
    search = adapter.search
    adapter.search = lambda queries, threads: search(filled(queries, dim), threads)
    return adapter


def filled(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Return vectors with zeros up to `dim`."""
    if vectors.shape[1] == dim:
        return vectors
    return np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))


def faiss_ivfpq(folder: Path) -> Adapter:
    """Search the same lists of the same codes with IndexIVFPQ; its setting is nprobe."""
    import faiss

    folder = folder / "product" if (folder / "product").exists() else folder
    codes, codebooks = np.load(folder / "codes.npy"), np.load(folder / "codebooks.npy")
    index = lists_of_codes(faiss, folder, codes, codebooks)
    adapter = with_threads(faiss, index)
    adapter.choose = lambda value: setattr(index, "nprobe", value)
    return adapter


def faiss_ivf_fast_scan(folder: Path) -> Adapter:
    """Search 4-bit codes of as many bytes in the same lists; its setting is nprobe.

    Trained by Faiss on what the centroids leave of as many vectors as ours were.
    """
    import faiss

    source = Source.load(folder)
    num_bytes = np.load(folder / "product" / "codebooks.npy", mmap_mode="r").shape[0]
    centroids, lists = np.load(folder / "centroids.npy"), np.load(folder / "lists.npy")
    quantizer = faiss.ProductQuantizer(source.dim, 2 * num_bytes, 4)
    codes: list[np.ndarray] = []
    start = 0
    for piece in source.pieces():
        rests = piece - centroids[lists[start : start + len(piece)]]
        start += len(piece)
        if not codes:
            quantizer.train(rests[:SEARCHED])
        codes.append(quantizer.compute_codes(rests))
    codebooks = faiss.vector_to_array(quantizer.centroids).reshape(2 * num_bytes, 16, -1)
    packed = lists_of_codes(faiss, folder, np.concatenate(codes), codebooks)
    index = faiss.IndexIVFPQFastScan(packed)
    adapter = with_threads(faiss, index)
    # Told to probe more lists than there are, it finds nothing.
    adapter.choose = lambda value: setattr(index, "nprobe", min(value, packed.nlist))
    return adapter


def lists_of_codes(faiss: Any, folder: Path, codes: np.ndarray, codebooks: np.ndarray) -> Any:
    """Return a Faiss IndexIVFPQ of codes, as Faiss packs them, in the lists of a folder."""
    centroids, lists = np.load(folder / "centroids.npy"), np.load(folder / "lists.npy")
    num_lists, dim = centroids.shape
    bits = codebooks.shape[1].bit_length() - 1
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centroids)
    index = faiss.IndexIVFPQ(
        quantizer, dim, num_lists, len(codebooks), bits, faiss.METRIC_INNER_PRODUCT
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
    return index


def with_threads(faiss: Any, index: Any) -> Adapter:
    """Return a search that sets Faiss' threads first."""

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(threads)
        scores, ids = index.search(queries, K)
        return ids, scores

    return Adapter(search, num_bytes=len(faiss.serialize_index(index)))


def scann(folder: Path, leaves_factor: int = 1) -> Adapter:
    """Search ScaNN's anisotropic 4-bit codes of at most as many bytes, in a tree of leaves.

    Its setting is leaves to search. Nothing is scored again by float vectors: they would take the
    memory of float vectors. Its bytes are those it searches, codes two to a byte and ids: the files
    that it saves spread a code over a byte.
    """
    source = Source.load(folder)
    num_bytes = np.load(folder / "product" / "codebooks.npy", mmap_mode="r").shape[0]
    block = next(b for b in range(1, source.dim + 1) if -(-source.dim // b) <= 2 * num_bytes)
    leaves = max(source.items // 1000, 1) * leaves_factor
    vectors = source.all()
    threshold = _scann_threshold(vectors, source.queries(), block, min(leaves, 2000))
    print(f"scann: {leaves} leaves, anisotropic threshold {threshold:.3g}", file=sys.stderr)
    searcher = _scann_searcher(vectors, block, leaves, threshold)
    chosen = {"leaves_to_search": 8}

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        if len(queries) == 1:
            ids, scores = searcher.search(queries[0], K, **chosen)
            return ids[None], scores[None]
        if threads == 1:
            return searcher.search_batched(queries, K, **chosen)
        searcher.set_num_threads(threads)
        return searcher.search_batched_parallel(queries, K, **chosen)

    blocks = -(-source.dim // block)
    size = source.items * (-(-blocks // 2) + 4) + 4 * leaves * source.dim + 4 * 16 * source.dim
    return Adapter(search, lambda value: chosen.update(leaves_to_search=value), size)


def _scann_searcher(vectors: np.ndarray, block: int, leaves: int, threshold: float) -> Any:
    from scann import scann_ops_pybind as library

    builder = library.builder(vectors, K, "dot_product").tree(
        num_leaves=leaves,
        num_leaves_to_search=8,
        training_sample_size=max(TRAINING_VECTORS, 50 * leaves),
    )
    return builder.score_ah(block, anisotropic_quantization_threshold=threshold).build()


def _scann_threshold(vectors: np.ndarray, queries: np.ndarray, block: int, leaves: int) -> float:
    """Return which threshold finds most true neighbours; NaN = the plain distance.

    ScaNN's own examples have 0.2 for unit vectors; what suits others follows their length. Tried on
    the first 100,000 vectors, all leaves searched.
    """
    some, asked = vectors[:SEARCHED], queries
    best = np.argsort(-(asked @ some.T), axis=1)[:, :10]
    length = float(np.linalg.norm(some, axis=1).mean())
    found = {}
    for threshold in (*(share * length for share in (0.1, 0.2, 0.3, 0.5, 0.7)), float("nan")):
        searcher = _scann_searcher(some, block, leaves, threshold)
        ids, _ = searcher.search_batched(asked, K, leaves_to_search=leaves)
        shares = [np.isin(a, b[:10]).mean() for a, b in zip(best, ids, strict=True)]
        found[threshold] = float(np.mean(shares))
    print(f"scann: recall@10 by threshold {found}", file=sys.stderr)
    return max(found, key=found.__getitem__)


def hnswlib(folder: Path, links: int = 16) -> Adapter:
    """Search a graph of the float vectors, so many links an item; its setting is ef."""
    import hnswlib as library

    stored = folder / "vectors.npy"
    vectors = np.load(stored) if stored.exists() else Source.load(folder).all()
    index = library.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=200, M=links)
    index.add_items(vectors, num_threads=2)

    def search(queries: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        ids, distances = index.knn_query(queries, k=K, num_threads=threads)
        return ids.astype(np.int64), 1 - distances

    adapter = Adapter(search, lambda value: index.set_ef(max(value, K)))
    with tempfile.TemporaryDirectory() as saved:
        index.save_index(f"{saved}/graph")
        adapter.num_bytes = Path(f"{saved}/graph").stat().st_size
    return adapter


SUMS = "poeem, residual codes"
MORE_LISTS = "poeem, 4 times the lists"
COSTLY = "poeem, product codes"
MORE_LEAVES = "scann, 4 times the leaves"
IVF_FAST_SCAN = "faiss ivf, 4-bit fast scan"
RIVALS = {
    "faiss pq": faiss_pq,
    "faiss pq8": faiss_pq,
    "faiss 4-bit fast scan": faiss_fast_scan,
    "faiss fast scan, same codes": faiss_same_nibbles,
    "faiss ivfpq": faiss_ivfpq,
    IVF_FAST_SCAN: faiss_ivf_fast_scan,
    "scann": scann,
    MORE_LEAVES: functools.partial(scann, leaves_factor=4),
    "hnswlib": hnswlib,
}


def make(name: str, folder: Path) -> Adapter:
    """Return the rival called `name`."""
    if name == SUMS:
        return ours(folder / "residual", "best", "residual")
    if name == COSTLY:
        return ours(folder / "product", "best")
    if name == MORE_LISTS:
        return ours(folder / "more" / "product", "best")
    if name.startswith("poeem "):
        return ours(folder, name.removeprefix("poeem "))
    if name.startswith("hnswlib "):
        return hnswlib(folder, int(name.removeprefix("hnswlib ").removesuffix(" links")))
    return RIVALS[name](folder)


def main() -> None:
    """Answer lines of JSON.

    {"rows": [begin, end], "each": bool, "threads": n} -> times;
    {"setting": value} -> what it found is in "ids NAME.npy" and "scores NAME.npy".
    """
    folder, name = Path(sys.argv[1]), sys.argv[2]
    adapter = make(name, folder)
    queries = np.load(folder / "queries.npy")
    print(json.dumps({"num_bytes": adapter.num_bytes}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        if "setting" in task:
            if task["setting"] is not None:
                adapter.choose(task["setting"])
            adapter.search(queries[:2], 1)
            ids, scores = adapter.search(queries, 1)
            np.save(folder / f"ids {name}.npy", ids)
            np.save(folder / f"scores {name}.npy", scores)
            print(json.dumps({}), flush=True)
            continue
        begin, end = task["rows"]
        step = 1 if task["each"] else end - begin
        wall, cpu = [], []
        for row in range(begin, end, step):
            part = queries[row : row + step]
            cpu_start, start = time.process_time(), time.perf_counter()
            adapter.search(part, task["threads"])
            wall.append((time.perf_counter() - start) / step)
            cpu.append((time.process_time() - cpu_start) / step)
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()

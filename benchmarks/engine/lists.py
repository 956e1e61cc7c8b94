"""The engine with lists against Faiss IVFPQ: same centroids, codes and probes, the same ids.

Faiss gets our parts: its coarse quantizer is an index of our centroids, by inner product, and its
lists are filled with our codes. Measured as in bench.py, rivals in turns.

python benchmarks/engine/lists.py --items 1000000 --bytes 8 16 --probes 16 64
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import (
    DIM,
    NUM_QUERIES,
    TRAINING_VECTORS,
    clustered_vectors,
    compare,
    ratios,
    true_neighbours,
)
from common import write_result


def prepare_lists(folder: Path, vectors: np.ndarray, num_lists: int) -> np.ndarray:
    """Write centroids and lists; return residuals [num_items, DIM]."""
    import faiss

    kmeans = faiss.Kmeans(DIM, num_lists, niter=6, seed=0)
    kmeans.train(vectors[:TRAINING_VECTORS])
    lists = kmeans.index.search(vectors, 1)[1].ravel()
    np.save(folder / "centroids.npy", kmeans.centroids)
    np.save(folder / "lists.npy", lists)
    return vectors - kmeans.centroids[lists]


def prepare_codes(folder: Path, residuals: np.ndarray, num_bytes: int) -> None:
    """Train product codes of the residuals and write what the rivals read."""
    import faiss

    quantizer = faiss.ProductQuantizer(DIM, num_bytes, 8)
    quantizer.cp.niter = 6
    quantizer.train(residuals[:TRAINING_VECTORS])
    codebooks = faiss.vector_to_array(quantizer.centroids).reshape(num_bytes, 256, -1)
    np.save(folder / "codebooks.npy", codebooks)
    np.save(folder / "codes.npy", quantizer.compute_codes(residuals))


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="engine_lists")
    options = parser.parse_args()

    from poeem.index import active_kernel

    names = [f"poeem {active_kernel()}", "faiss ivfpq"]
    vectors = clustered_vectors(options.items, np.random.default_rng(0))
    queries = clustered_vectors(NUM_QUERIES, np.random.default_rng(0))
    truth = true_neighbours(vectors, queries)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "queries.npy", queries)
        residuals = prepare_lists(folder, vectors, options.lists)
        del vectors
        for num_bytes in options.bytes:
            prepare_codes(folder, residuals, num_bytes)
            for num_probes in options.probes:
                np.save(folder / "probes.npy", num_probes)
                figures = compare(folder, names, truth, options.threads, options.rounds)
                case = f"{num_bytes} bytes, {num_probes} probes"
                results[case] = {"rivals": figures, "times_ours": ratios(figures)}
                print(f"{case}: {json.dumps(results[case]['times_ours'])}", flush=True)
    settings = {"items": options.items, "dim": DIM, "k": 100, "batch": NUM_QUERIES}
    settings |= {"lists": options.lists, "rounds": options.rounds}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

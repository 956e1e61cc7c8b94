"""From trained model to index on disk, against training and filling a Faiss index afterwards.

1,000,000 clustered vectors of dim 64, 8 bytes an item. Ours: encode with the layer, build, save
with fsync. Faiss: train and add on the same vectors, in its own process, with the same threads:
residual codes against its residual quantizer, product codes against its OPQ+PQ. What the layer
learns in training is not counted for ours: it is part of training.

    python benchmarks/build_time.py
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import write_result

DIM, NUM_SUBSPACES = 64, 8


def vectors_of(count: int) -> np.ndarray:
    """Return the vectors both sides index."""
    from poeem.data import clustered_vectors

    return clustered_vectors(count, DIM, seed=0)


def ours(count: int, threads: int, family: str) -> dict[str, float]:
    """Encode, build and save; the layer is trained before the clock starts."""
    import torch

    import poeem

    torch.set_num_threads(threads)
    vectors = vectors_of(count)
    layer = poeem.IndexLayer(DIM, family=family, num_subspaces=NUM_SUBSPACES, rotation_iterations=5)
    layer.warm_start(torch.from_numpy(vectors[:65_536]))
    layer.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.poeem"
        started = time.perf_counter()
        index = poeem.build_index(layer, np.arange(count), vectors)
        built = time.perf_counter()
        index.save(path)
        saved = time.perf_counter()
        size = path.stat().st_size
    decoded = index.reconstruct(np.arange(10_000))
    return {
        "seconds": saved - started,
        "seconds_save": saved - built,
        "bytes_per_item": size / count,
        "distortion": float(((decoded - vectors[:10_000]) ** 2).sum(1).mean()),
    }


def built_by_faiss(count: int, threads: int, description: str) -> dict[str, float]:
    """Train and fill an index of Faiss."""
    import faiss

    faiss.omp_set_num_threads(threads)
    vectors = vectors_of(count)
    started = time.perf_counter()
    index = faiss.index_factory(DIM, description, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    trained = time.perf_counter()
    index.add(vectors)
    added = time.perf_counter()
    decoded = index.reconstruct_n(0, 10_000)
    return {
        "seconds": added - started,
        "seconds_train": trained - started,
        "bytes_per_item": float(NUM_SUBSPACES),
        "distortion": float(((decoded - vectors[:10_000]) ** 2).sum(1).mean()),
    }


SIDES: dict[str, Callable[[int, int], dict[str, float]]] = {
    "ours": functools.partial(ours, family="residual"),
    "faiss_rq": functools.partial(built_by_faiss, description=f"RQ{NUM_SUBSPACES}x8"),
    "ours_product": functools.partial(ours, family="product"),
    # np = without reordering for Hamming search, unused and slow
    "faiss_opq": functools.partial(
        built_by_faiss, description=f"OPQ{NUM_SUBSPACES},PQ{NUM_SUBSPACES}x8np"
    ),
}
RIVAL_OF = {"ours": "faiss_rq", "ours_product": "faiss_opq"}


def main() -> None:
    """Run each side in its own process, taking turns; compare medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side", choices=SIDES)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](options.items, options.threads)))
        return
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(options.repetitions):
        for side, found in runs.items():
            command = [
                sys.executable,
                __file__,
                "--side",
                side,
                "--items",
                str(options.items),
                "--threads",
                str(options.threads),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(side, found[-1])
    medians = {
        side: {k: round(float(np.median([r[k] for r in found])), 4) for k in found[0]}
        for side, found in runs.items()
    }
    ratios = {
        side: round(medians[rival]["seconds"] / medians[side]["seconds"], 1)
        for side, rival in RIVAL_OF.items()
    }
    settings = {
        "items": options.items,
        "dim": DIM,
        "bytes": NUM_SUBSPACES,
        "threads": options.threads,
        "repetitions": options.repetitions,
    }
    figures = {"faiss_over_ours": ratios, "medians": medians, "runs": runs}
    write_result("build_time", {"settings": settings, "figures": figures})


if __name__ == "__main__":
    main()

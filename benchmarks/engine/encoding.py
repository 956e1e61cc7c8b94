"""From vectors to codes, against Faiss and against torch: same vectors, codebooks and beam.

Product codes: nearest codewords of each part, of 256 and of 16 codewords. Residual codes: a beam
search over full-width codewords, with the codebooks that Faiss trained. What torch does is the
layer's twin for other devices than a CPU. All encode in turns, in one process; figures are medians
over rounds of wall and CPU time. The codes themselves are compared by their mean squared error,
since ties and roundings may fall either way.

python benchmarks/engine/encoding.py --items 100000 --bytes 8 16 32
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from datasets import TRAINING_VECTORS, clustered

from poeem.index.encode import encode
from poeem.quantize.nearest import nearest_by_torch
from poeem.quantize.product import split
from poeem.quantize.residual import assign_by_torch
from poeem.types import QuantizerParts

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result

Encode = Callable[[int], np.ndarray]  # number of threads -> codes [n, num_subspaces]


def in_turns(ways: dict[str, Encode], threads: list[int], rounds: int) -> dict[str, Any]:
    """Return microseconds a vector, median of rounds, and how many times faster the first is."""
    found: dict[str, Any] = {}
    for count in threads:
        times: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                encoded = len(way(count))
                times[name]["wall"].append((time.perf_counter() - wall) / encoded)
                times[name]["cpu"].append((time.process_time() - cpu) / encoded)
        medians = {
            name: {kind: float(np.median(values)) for kind, values in each.items()}
            for name, each in times.items()
        }
        ours, *others = medians.values()
        found[f"{count} thread"] = {
            "microseconds": {
                name: {kind: round(value * 1e6, 3) for kind, value in each.items()}
                for name, each in medians.items()
            },
            "times_ours": {
                name: {kind: round(theirs[kind] / ours[kind], 2) for kind in ours}
                for name, theirs in zip(list(medians)[1:], others, strict=True)
            },
        }
    return found


def product(
    vectors: np.ndarray, sample: np.ndarray, num_bytes: int, bits: int = 8
) -> tuple[dict[str, Encode], np.ndarray]:
    """Return the ways of encoding by product codes of 8 or 4 bits, and the codebooks."""
    num_subspaces = num_bytes * 8 // bits
    quantizer = faiss.ProductQuantizer(vectors.shape[1], num_subspaces, bits)
    quantizer.cp.niter = 6
    quantizer.train(sample)
    codebooks = faiss.vector_to_array(quantizer.centroids).reshape(num_subspaces, 2**bits, -1)
    parts = QuantizerParts(None, None, codebooks)
    books = torch.from_numpy(codebooks)

    def theirs(threads: int) -> np.ndarray:
        faiss.omp_set_num_threads(threads)
        return quantizer.compute_codes(vectors)

    def by_torch(threads: int) -> np.ndarray:
        torch.set_num_threads(threads)
        x = torch.from_numpy(vectors)
        return nearest_by_torch(split(x, num_subspaces), books).T.contiguous().numpy()

    ours = {"poeem": lambda threads: encode(parts, vectors, threads)[0]}
    return {**ours, "faiss": theirs, "torch": by_torch}, codebooks


def residual(
    vectors: np.ndarray, sample: np.ndarray, num_bytes: int, beam: int
) -> tuple[dict[str, Encode], np.ndarray]:
    """Return the ways of encoding by residual codes, and the codebooks."""
    quantizer = faiss.ResidualQuantizer(vectors.shape[1], num_bytes, 8)
    quantizer.train_type = faiss.ResidualQuantizer.Train_default
    quantizer.max_beam_size = 1
    quantizer.train(sample)
    quantizer.max_beam_size = beam
    codebooks = faiss.vector_to_array(quantizer.codebooks).reshape(num_bytes, 256, -1)
    parts = QuantizerParts(None, None, codebooks, "residual")
    books = torch.from_numpy(codebooks)

    def theirs(threads: int) -> np.ndarray:
        faiss.omp_set_num_threads(threads)
        return quantizer.compute_codes(vectors)

    def ours(threads: int) -> np.ndarray:
        return encode(parts, vectors, threads, beam=beam)[0]

    def by_torch(threads: int) -> np.ndarray:
        torch.set_num_threads(threads)
        return assign_by_torch(torch.from_numpy(vectors), books, beam=beam).numpy()

    quantizer.use_beam_LUT = _faster_with_tables(quantizer, vectors[:2000])
    return {"poeem": ours, "faiss": theirs, "torch": by_torch}, codebooks


def _faster_with_tables(quantizer: faiss.ResidualQuantizer, vectors: np.ndarray) -> int:
    """Return which of Faiss's two ways takes less time: 1 = by tables of inner products."""
    faiss.omp_set_num_threads(1)
    seconds = []
    for quantizer.use_beam_LUT in (0, 1):
        rounds = []
        for _ in range(3):
            start = time.process_time()
            quantizer.compute_codes(vectors)
            rounds.append(time.process_time() - start)
        seconds.append(min(rounds))
    return int(seconds[1] < seconds[0])


def error(vectors: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> float:
    """Return the mean squared error of decoded codes; Faiss packs two of 4 bits into a byte."""
    if codes.shape[1] != len(codebooks):
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
    words = [codebooks[m][codes[:, m]] for m in range(len(codebooks))]
    full = codebooks.shape[2] == vectors.shape[1]
    decoded = np.sum(words, axis=0) if full else np.concatenate(words, axis=1)
    return float(((vectors - decoded) ** 2).sum(axis=1).mean())


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="engine_encoding")
    options = parser.parse_args()
    vectors = clustered(options.items, options.dim, 0)
    sample = clustered(TRAINING_VECTORS // 4, options.dim, 1)
    results: dict[str, Any] = {}
    for num_bytes in options.bytes:
        cases = {f"product, {num_bytes} bytes": product(vectors, sample, num_bytes)}
        if vectors.shape[1] % (2 * num_bytes) == 0:
            nibbles = product(vectors, sample, num_bytes, bits=4)
            cases[f"product of 4 bits, {num_bytes} bytes"] = nibbles
        for beam in options.beams:
            name = f"residual, {num_bytes} bytes, beam {beam}"
            cases[name] = residual(vectors[: options.items // 4], sample, num_bytes, beam)
        for name, (ways, codebooks) in cases.items():
            figures = in_turns(ways, options.threads, options.rounds)
            figures["error"] = {
                who: round(error(vectors[: len(codes)], codes, codebooks), 5)
                for who, codes in ((who, way(1)) for who, way in ways.items())
            }
            results[name] = figures
            print(name, figures, flush=True)
    settings = {"items": options.items, "dim": options.dim, "rounds": options.rounds}
    write_result(options.name, {**settings, "results": results})


if __name__ == "__main__":
    main()

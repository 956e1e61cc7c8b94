"""What is searched: vectors in pieces, so that ten millions need never be in memory at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from poeem.index import Index

NUM_QUERIES = 256
PIECE = 250_000
TRAINING_VECTORS = 65_536
# On so many vectors codes that need more care are trained: as many as ScaNN trains its own on.
SEARCHED = 100_000
NUM_CLUSTERS = 1000


@dataclass(frozen=True)
class Source:
    """name: "clustered", or a folder of POEEM_DATA with vectors.f16.npy."""

    name: str
    items: int
    dim: int

    def save(self, folder: Path) -> None:
        """Write it for the rivals' processes."""
        (folder / "source.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Source:
        """Read what `save` wrote."""
        return cls(**json.loads((folder / "source.json").read_text()))

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield float32 [<= PIECE, dim], always the same."""
        for number, start in enumerate(range(0, self.items, PIECE)):
            count = min(PIECE, self.items - start)
            if self.name == "clustered":
                yield clustered(count, self.dim, number)
            else:
                yield self._stored()[start : start + count]

    def all(self) -> np.ndarray:
        """Return float32 [items, dim]."""
        return np.concatenate(list(self.pieces()))

    def queries(self) -> np.ndarray:
        """Return float32 [NUM_QUERIES, dim]: of the same clusters, or held out."""
        if self.name == "clustered":
            return clustered(NUM_QUERIES, self.dim, 1 << 20)
        return self._stored()[-NUM_QUERIES:]

    def sample(self) -> np.ndarray:
        """Return vectors to train on."""
        return next(self.pieces())[:TRAINING_VECTORS]

    def _stored(self) -> np.ndarray:
        path = Path(os.environ.get("POEEM_DATA", "data")) / self.name / "vectors.f16.npy"
        vectors = np.load(path).astype(np.float32)
        vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def source_of(name: str, items: int, dim: int) -> Source:
    """Return a source; stored ones have their own size."""
    if name == "clustered":
        return Source(name, items, dim)
    path = Path(os.environ.get("POEEM_DATA", "data")) / name / "vectors.f16.npy"
    stored, width = np.load(path, mmap_mode="r").shape
    return Source(name, min(items, stored - NUM_QUERIES), width)


def clustered(count: int, dim: int, number: int) -> np.ndarray:
    """Return float32 [count, dim]: a thousand clusters of unequal size and shape."""
    shape = np.random.default_rng(0)
    centers = shape.standard_normal((NUM_CLUSTERS, dim), dtype=np.float32)
    spread = shape.uniform(0.3, 1.0, (NUM_CLUSTERS, 1)).astype(np.float32)
    weights = shape.exponential(size=NUM_CLUSTERS)
    rng = np.random.default_rng([1, number])
    chosen = rng.choice(NUM_CLUSTERS, count, p=weights / weights.sum())
    vectors = rng.standard_normal((count, dim), dtype=np.float32)
    vectors *= spread[chosen]
    vectors += centers[chosen]
    return vectors


def true_neighbours(source: Source, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """Return the k items of largest float inner product, [num_queries, k]."""
    import faiss

    ids = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    start = 0
    for piece in source.pieces():
        found = faiss.knn(queries, piece, k, metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, found[0]], axis=1)
        ids = np.concatenate([ids, found[1] + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, ids = (np.take_along_axis(each, best, axis=1) for each in (scores, ids))
        start += len(piece)
    return ids


def prepare_flat(folder: Path, source: Source, num_bytes: int, num_codewords: int = 256) -> None:
    """Train product codes and write codebooks and codes; 16 codewords: two to a byte."""
    import faiss

    bits = 8 if num_codewords == 256 else 4
    num_subspaces = num_bytes * 8 // bits
    quantizer = faiss.ProductQuantizer(source.dim, num_subspaces, bits)
    quantizer.cp.niter = 6
    quantizer.train(source.sample())
    codebooks = faiss.vector_to_array(quantizer.centroids)
    np.save(folder / "codebooks.npy", codebooks.reshape(num_subspaces, num_codewords, -1))
    codes = []
    for piece in source.pieces():
        packed = quantizer.compute_codes(piece)
        if bits == 4:  # low nibble first
            packed = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(piece), -1)
        codes.append(packed)
    np.save(folder / "codes.npy", np.concatenate(codes))


def prepare_costly(
    folder: Path, source: Source, num_bytes: int, family: str, weight: float | None = None
) -> dict[float, float]:
    """Train codes by which errors cost more along a vector; write to folder/FAMILY.

    Of what centroids leave, where there are lists. How much more: as much as finds most true
    neighbours, unless it is given. Returns the shares found by weight, the best first.
    """
    found: dict[float, float] = {}
    parts = {name: folder / f"{name}.npy" for name in ("centroids", "lists")}
    parts = {name: np.load(file) for name, file in parts.items() if file.exists()}
    if weight is None:
        found = _shares_by_weight(source, parts, num_bytes, family)
        weight = next(iter(found))
        print(f"{family} codes: found by weight {found}", file=sys.stderr, flush=True)
    codebooks: Any = None
    codes: list[np.ndarray] = []
    start = 0
    for piece in source.pieces():
        rests, along = _rests(piece, start, parts, weight)
        start += len(piece)
        if codebooks is None:
            codebooks = _fit_costly(rests, along, num_bytes, family, rounds=8, beam=8)
        codes.append(_assign_costly(rests, along, codebooks, family, beam=8))
    (folder / family).mkdir(exist_ok=True)
    parts |= {"codebooks": codebooks.numpy(), "codes": np.concatenate(codes)}
    for name, array in parts.items():
        np.save(folder / family / f"{name}.npy", array)
    return found


def _shares_by_weight(
    source: Source, parts: dict[str, np.ndarray], num_bytes: int, family: str
) -> dict[float, float]:
    """Return what five weights find of the first 100,000 vectors, best first; as ScaNN's tuned."""
    vectors, queries = next(source.pieces())[:SEARCHED], source.queries()
    truth = best_ten(queries, vectors)
    found = {}
    for weight in (0.0, 1.0, 2.0, 4.0, 8.0):
        rests, along = _rests(vectors, 0, parts, weight)
        books = _fit_costly(rests, along, num_bytes, family, rounds=2, beam=4)
        codes = _assign_costly(rests, along, books, family, beam=4)
        ids = best_ten(queries, _decode(codes, books, family) + (vectors - rests.numpy()))
        same = [len(set(a) & set(b)) / 10 for a, b in zip(ids, truth, strict=True)]
        found[weight] = round(float(np.mean(same)), 4)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def best_ten(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the ten of largest inner product, in no order, int64 [num_queries, 10]."""
    return np.argpartition(-(queries @ vectors.T), 10, axis=1)[:, :10]


def _rests(piece: np.ndarray, start: int, parts: dict[str, np.ndarray], weight: float) -> Any:
    """Return what centroids leave of the vectors from `start` on, and where errors cost more."""
    import torch

    from poeem.quantize.along import costly_direction

    rests = piece
    if parts:
        rests = piece - parts["centroids"][parts["lists"][start : start + len(piece)]]
    return torch.from_numpy(rests), costly_direction(torch.from_numpy(piece), weight, None)


def _fit_costly(
    rests: Any, along: Any, num_bytes: int, family: str, *, rounds: int, beam: int
) -> Any:
    import torch

    from poeem.quantize import product, residual

    rests, along = rests[:SEARCHED], None if along is None else along[:SEARCHED]
    generator = torch.Generator().manual_seed(0)
    if family == "residual":
        settings = {"kmeans_iterations": 6, "rounds": rounds, "beam": beam, "along": along}
        return residual.fit(rests, num_bytes, 256, generator=generator, **settings)
    books = product.fit(rests, num_bytes, 256, num_iterations=6, generator=generator)
    return books if along is None else product.improve(rests, books, along, rounds=rounds)


def _assign_costly(rests: Any, along: Any, codebooks: Any, family: str, *, beam: int) -> np.ndarray:
    from poeem.quantize import product, residual

    if family == "residual":
        found = residual.assign(rests, codebooks, beam=beam, along=along)
    else:
        found = product.assign(rests, codebooks, along)
    return found.numpy().astype(np.uint8)


def _decode(codes: np.ndarray, codebooks: Any, family: str) -> np.ndarray:
    import torch

    from poeem.quantize import product, residual

    decode = residual.decode if family == "residual" else product.decode
    decoded: np.ndarray = decode(torch.from_numpy(codes).long(), codebooks).numpy()
    return decoded


def prepare_lists(folder: Path, source: Source, num_lists: int) -> None:
    """Train centroids and write them and the list of every item."""
    import faiss

    folder.mkdir(exist_ok=True)

    vectors = next(source.pieces())[: max(TRAINING_VECTORS, 50 * num_lists)]
    kmeans = faiss.Kmeans(source.dim, num_lists, niter=6, seed=0)
    kmeans.train(vectors)
    np.save(folder / "centroids.npy", kmeans.centroids)
    lists = [kmeans.index.search(piece, 1)[1].ravel() for piece in source.pieces()]
    np.save(folder / "lists.npy", np.concatenate(lists))


def prepare_residuals(folder: Path, source: Source, num_bytes: int) -> None:
    """Train product codes of what centroids leave and write codebooks and codes."""
    import faiss

    centroids, lists = np.load(folder / "centroids.npy"), np.load(folder / "lists.npy")
    quantizer = faiss.ProductQuantizer(source.dim, num_bytes, 8)
    quantizer.cp.niter = 6
    codes: list[np.ndarray] = []
    start = 0
    for piece in source.pieces():
        residuals = piece - centroids[lists[start : start + len(piece)]]
        if not codes:
            quantizer.train(residuals[:TRAINING_VECTORS])
        codes.append(quantizer.compute_codes(residuals))
        start += len(piece)
    codebooks = faiss.vector_to_array(quantizer.centroids)
    np.save(folder / "codebooks.npy", codebooks.reshape(num_bytes, 256, -1))
    np.save(folder / "codes.npy", np.concatenate(codes))


def random_index(
    items: int, dim: int, num_bytes: int, lists: int, rng: np.random.Generator
) -> Index:
    """Return an index of random codes, where what they are does not matter to what is measured."""
    from poeem.index import build_index_from_codes

    parts: dict[str, Any] = {
        "codes": rng.integers(256, size=(items, num_bytes), dtype=np.uint8),
        "codebooks": rng.standard_normal((num_bytes, 256, dim // num_bytes), np.float32),
    }
    if lists:
        parts["centroids"] = rng.standard_normal((lists, dim), dtype=np.float32)
        parts["lists"] = rng.integers(lists, size=items)
    return build_index_from_codes(**parts, renumber=True)

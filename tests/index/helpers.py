"""Random indexes, small and awkward ones included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from poeem.index import Index, build_index_from_codes


@dataclass(frozen=True)
class Shape:
    """What a random index looks like; `few_codes` makes many items equal, so that scores tie."""

    metric: str = "ip"
    num_items: int = 50
    num_subspaces: int = 3
    num_codewords: int = 20
    sub_dim: int = 2
    num_lists: int = 0
    rotation: bool = False
    ids: str = "positions"
    few_codes: bool = False
    titles: bool = False
    family: str = "product"

    @property
    def dim(self) -> int:
        """Codewords of residual codes are of full width: there sub_dim is dim."""
        return self.sub_dim * (1 if self.family == "residual" else self.num_subspaces)


def random_parts(shape: Shape, rng: np.random.Generator) -> dict[str, Any]:
    """Return arguments of `build_index_from_codes`."""
    high = min(2, shape.num_codewords) if shape.few_codes else shape.num_codewords
    codebooks = rng.standard_normal((shape.num_subspaces, shape.num_codewords, shape.sub_dim))
    parts: dict[str, Any] = {
        "metric": shape.metric,
        "family": shape.family,
        "codes": rng.integers(0, high, (shape.num_items, shape.num_subspaces)),
        "codebooks": codebooks.astype(np.float32),
    }
    if shape.num_lists:
        centroids = rng.standard_normal((shape.num_lists, shape.dim))
        if shape.few_codes:
            centroids[:] = centroids[0]
        parts["centroids"] = centroids.astype(np.float32)
        parts["lists"] = rng.integers(0, shape.num_lists, shape.num_items)
    if shape.rotation:
        rotation, _ = np.linalg.qr(rng.standard_normal((shape.dim, shape.dim)))
        parts["rotation"] = rotation.astype(np.float32)
    if shape.ids == "uint32":
        parts["ids"] = rng.permutation(3 * shape.num_items)[: shape.num_items]
    if shape.ids == "int64":
        parts["ids"] = (rng.permutation(shape.num_items) - 5) * 10**12 - 2
    if shape.titles:
        parts["titles"] = [f"item {i} ☃" for i in range(shape.num_items)]
    return parts


def random_index(shape: Shape, seed: int = 0) -> Index:
    """Return an index of that shape."""
    return build_index_from_codes(**random_parts(shape, np.random.default_rng(seed)))


def random_queries(*shape: int, seed: int = 1) -> np.ndarray:
    """Return float32 standard normal vectors."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

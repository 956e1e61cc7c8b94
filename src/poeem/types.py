"""Types that more than one part of the library speaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from poeem.errors import ConfigError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Array = NDArray[Any]


class Metric(StrEnum):
    """How a query and an item are compared. Scores are always "higher is better".

    ip: inner product <q, x>.  l2: minus the squared distance, -|q - x|^2.
    cosine: <q, x> / (|q| |x|), and 0 where either norm is 0.
    """

    IP = "ip"
    L2 = "l2"
    COSINE = "cosine"

    @classmethod
    def of(cls, value: str) -> Metric:
        """Return the metric named `value`.

        Raises:
            ConfigError: the name is unknown.
        """
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(m.value for m in cls)
            raise ConfigError(f"metric: got {value!r}, wanted one of {known}") from None


class SearchResult(NamedTuple):
    """Answers to queries, best first.

    ids: int64 [num_queries, k], -1 where there were fewer than k items.
    scores: float32 [num_queries, k], -inf where the id is -1.
    """

    ids: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class QuantizerParts:
    """What a trained layer hands to the index: everything needed to decode codes.

    rotation: float32 [dim, dim], orthonormal, x' = rotation @ x; None = identity.
    centroids: float32 [num_lists, dim], in rotated space; None = no lists.
    codebooks: float32, in rotated space, of what the centroid leaves over. Family "product":
        [num_subspaces, num_codewords, sub_dim], a codeword is a part of the vector. Family
        "residual": [num_subspaces, num_codewords, dim], codewords of full width are added up.
    family: "product" or "residual".
    """

    rotation: FloatArray | None
    centroids: FloatArray | None
    codebooks: FloatArray
    family: str = "product"


class TrainedQuantizer(Protocol):
    """What `build_index` needs of a layer; `IndexLayer` has it, and so may anybody's own."""

    def export_parts(self) -> QuantizerParts:
        """Return rotation, centroids and codebooks as NumPy arrays."""
        ...

    def encode_numpy(self, vectors: FloatArray) -> tuple[Array, Array | None]:
        """Encode float32 [n, dim]: codes uint8|uint16 [n, num_subspaces], lists int32 [n]."""
        ...

"""Types that more than one part of the library speaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from poeem.errors import ConfigError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Array = NDArray[Any]

# Bounds of `Encoding`, and of a layer's settings.
MAX_BEAM = 256
MAX_PARALLEL_WEIGHT = 1000

MAX_THREADS = 1024

__version__ = "0.1.0"

# Passes over product codes where errors along the vector cost more; nearly all stay after three or
# four.
MOST_PASSES = 20


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


class Family(StrEnum):
    """What a code's codewords are, and with them the shape of codebooks.

    product: codebooks [num_subspaces, num_codewords, dim / num_subspaces]; each codeword is a part
        of the vector, and side by side they are the whole.
    residual: codebooks [num_subspaces, num_codewords, dim]; codewords of full width are added up.
    """

    PRODUCT = "product"
    RESIDUAL = "residual"

    @classmethod
    def of(cls, value: str) -> Family:
        """Return the family named `value`.

        Raises:
            ConfigError: the name is unknown.
        """
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(f.value for f in cls)
            raise ConfigError(f"family: got {value!r}, wanted one of {known}") from None


class SearchResult(NamedTuple):
    """Answers to queries, best first.

    ids: int64 [num_queries, k], -1 where there were fewer than k items.
    scores: float32 [num_queries, k], -inf where the id is -1.
    """

    ids: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Encoding:
    """How the codes of a vector x are found: by the least |E e|^2 + w <e, x / |x|>^2.

    e = x - T(x) is the error, in rotated space. Searching needs none of it; new items do.

    error_metric: E, float32 [dim, dim], invertible; None = the identity. Residual codes only.
    parallel_weight: w, 0 to 1000.
    beam: residual codes: partial sums kept in the search for a code, 1 to 256.
    """

    error_metric: FloatArray | None = None
    parallel_weight: float = 0.0
    beam: int = 1


@dataclass(frozen=True)
class QuantizerParts:
    """What a trained layer hands to the index: everything needed to decode codes.

    rotation: float32 [dim, dim], orthonormal, x' = rotation @ x; None = identity.
    centroids: float32 [num_lists, dim], in rotated space; None = no lists.
    codebooks: float32, in rotated space, of what the centroid leaves over; the shape is the
        family's, see `Family`.
    family: "product" or "residual".
    encoding: how codes are found.
    """

    rotation: FloatArray | None
    centroids: FloatArray | None
    codebooks: FloatArray
    family: str = Family.PRODUCT
    encoding: Encoding = Encoding()

    @property
    def num_subspaces(self) -> int:
        """Codes of an item."""
        return int(self.codebooks.shape[0])

    @property
    def num_codewords(self) -> int:
        """Codewords of a subspace."""
        return int(self.codebooks.shape[1])

    @property
    def dim(self) -> int:
        """Length of a vector."""
        width = int(self.codebooks.shape[2])
        return width if self.family == Family.RESIDUAL else self.num_subspaces * width

    @property
    def num_lists(self) -> int:
        """Inverted lists; 0 = none."""
        return 0 if self.centroids is None else int(self.centroids.shape[0])

    @cached_property
    def weighed_codebooks(self) -> FloatArray:
        """E u for every codeword u, of the shape of `codebooks`; see `Encoding`."""
        metric = self.encoding.error_metric
        if metric is None:
            return self.codebooks
        return np.ascontiguousarray(self.codebooks @ metric.T)


class TrainedQuantizer(Protocol):
    """What `build_index` needs of a layer; `IndexLayer` has it, and so may anybody's own."""

    def export_parts(self) -> QuantizerParts:
        """Return rotation, centroids and codebooks as NumPy arrays."""
        ...

    def encode_numpy(self, vectors: FloatArray) -> tuple[Array, Array | None]:
        """Encode float32 [n, dim]: codes uint8|uint16 [n, num_subspaces], lists int32 [n]."""
        ...

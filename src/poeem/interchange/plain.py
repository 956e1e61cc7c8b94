"""The plain arrays of an index, by the names of the arguments of `build_index_from_codes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poeem.errors import CorruptIndexError
from poeem.index import Index, build_index_from_codes
from poeem.types import Array, Encoding, Family, FloatArray, IntArray, Metric, QuantizerParts


@dataclass(frozen=True)
class PlainArrays:
    """What an index is made of; items in storage order, by list and then by id.

    codes: uint8|uint16 [num_items, num_subspaces].
    codebooks: float32 [num_subspaces, num_codewords, sub_dim], in rotated space; of residual codes
        [num_subspaces, num_codewords, dim].
    ids: int64 [num_items].
    lists: int32 [num_items]; centroids: float32 [num_lists, dim], rotated; None without lists.
    rotation: float32 [dim, dim], x' = rotation @ x; None = identity.
    encoding: how the codes were found.
    """

    metric: Metric
    codes: Array
    codebooks: FloatArray
    ids: IntArray
    lists: Array | None = None
    centroids: FloatArray | None = None
    rotation: FloatArray | None = None
    family: str = Family.PRODUCT
    titles: list[str] | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    encoding: Encoding = field(default_factory=Encoding)

    @classmethod
    def of(cls, index: Index) -> PlainArrays:
        """Take an index apart; codes and ids are copies."""
        ids = index.ids
        return cls(
            metric=index.metric,
            codes=index.codes,
            codebooks=index.codebooks,
            ids=ids,
            lists=index.lists,
            centroids=index.centroids,
            rotation=index.rotation,
            family=index.family,
            titles=index.titles(ids) if index.has_titles else None,
            lineage=index.lineage,
            encoding=index.encoding,
        )

    def build(self, *, renumber: bool = False) -> Index:
        """Make an index of them, as `build_index_from_codes` does."""
        return build_index_from_codes(
            codes=self.codes,
            codebooks=self.codebooks,
            lists=self.lists,
            centroids=self.centroids,
            rotation=self.rotation,
            family=self.family,
            ids=self.ids,
            metric=self.metric,
            titles=self.titles,
            lineage=self.lineage,
            renumber=renumber,
            encoding=self.encoding,
        )

    def scaled(self, factor: float) -> PlainArrays:
        """Return the arrays of items `factor` times as long."""
        centroids = None if self.centroids is None else self.centroids * factor
        return dataclasses.replace(self, codebooks=self.codebooks * factor, centroids=centroids)

    @property
    def encoding_values(self) -> dict[str, Any]:
        """What `encoding_of` reads, but for the metric of errors, as JSON values."""
        return {"beam": self.encoding.beam, "parallel_weight": self.encoding.parallel_weight}

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return QuantizerParts(self.rotation, self.centroids, self.codebooks, self.family).dim

    @property
    def num_subspaces(self) -> int:
        """Codes of an item."""
        return int(self.codebooks.shape[0])

    @property
    def num_codewords(self) -> int:
        """Codewords of a subspace."""
        return int(self.codebooks.shape[1])

    @property
    def code_width(self) -> int:
        """The fewest bits that hold a code."""
        return (self.num_codewords - 1).bit_length()


def encoding_of(values: Any, error_metric: FloatArray | None) -> Encoding:
    """Return how codes are found, of `PlainArrays.encoding_values` and the metric of errors.

    Raises:
        CorruptIndexError: the values are not such.
    """
    if not isinstance(values, dict) or not set(values) <= {"beam", "parallel_weight"}:
        raise CorruptIndexError(f"encoding: got {values!r}, wanted beam and parallel_weight")
    return Encoding(error_metric, values.get("parallel_weight", 0.0), values.get("beam", 1))

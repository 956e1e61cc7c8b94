"""Data made on the spot: the tutorial of Poeem's authors, and clustered vectors for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poeem.errors import ShapeError
from poeem.types import Array, FloatArray

_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class TutorialData:
    """Queries and items are the numbers 0000 to 9999; which items match is in their digits.

    A query asks for its last two digits: the items that match have both among their four digits, at
    any two places and in any order (a query ending in 33 wants two 3s). The first two digits of a
    query are noise that a model has to see through.

    query_digits, item_digits: int8 [10000, 4], most significant first.

    Source: the tutorial notebook of the authors' release (github jdcomsearch/poeem).
    """

    query_digits: NDArray[np.int8]
    item_digits: NDArray[np.int8]

    @property
    def num_queries(self) -> int:
        """Number of queries, 10,000; their ids are 0 to 9,999."""
        return len(self.query_digits)

    @property
    def num_items(self) -> int:
        """Number of items, 10,000; their ids are 0 to 9,999."""
        return len(self.item_digits)

    def sample_pairs(
        self, num_pairs: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Draw matching pairs for training: any item, two of its digits, any first two digits.

        Args:
            num_pairs: the authors train on 1,000,000.

        Returns:
            queries, items: int32 [num_pairs].
        """
        items = rng.integers(self.num_items, size=num_pairs, dtype=np.int32)
        first = rng.integers(4, size=num_pairs)
        second = (first + rng.integers(1, 4, size=num_pairs)) % 4  # another place
        noise = rng.integers(100, size=num_pairs, dtype=np.int32)
        tens, units = self.item_digits[items, first], self.item_digits[items, second]
        return noise * 100 + tens.astype(np.int32) * 10 + units, items

    def matches(self, queries: Array, items: Array) -> NDArray[np.bool_]:
        """Tell which pairs match; `queries` and `items` are ids whose shapes broadcast."""
        tens, units, digits = self._digits(queries, items)
        has_both = (digits == tens).any(axis=-1) & (digits == units).any(axis=-1)
        has_twice = (digits == tens).sum(axis=-1) >= 2
        same = (tens == units)[..., 0]
        matching: NDArray[np.bool_] = np.where(same, has_twice, has_both)
        return matching

    def matches_as_published(self, queries: Array, items: Array) -> NDArray[np.bool_]:
        """Tell which pairs the authors' notebook counts as matching when it measures.

        It counts digits of the item that equal either digit of the query, and wants two: for 47
        that passes 4712, as it should, but also 4412, which `matches` refuses. Use it only beside
        their published figures.
        """
        tens, units, digits = self._digits(queries, items)
        counts: NDArray[np.int64] = ((digits == tens) | (digits == units)).sum(axis=-1)
        return counts >= 2

    def relevant_items(self, query: int) -> NDArray[np.int64]:
        """Return the ids of all items that match: 974, or 523 where both digits are the same."""
        return np.flatnonzero(self.matches(np.array(query), np.arange(self.num_items)))

    def precision(self, found: Array, *, as_published: bool = False) -> float:
        """Return the share of found items that match their query.

        Args:
            found: integers [num_queries, k], the items found for queries 0, 1, 2, ...; -1 = none,
                which counts as a miss.
            as_published: judge by `matches_as_published`.

        Raises:
            ShapeError: not one row per query.
        """
        if found.ndim != 2 or len(found) != self.num_queries or found.shape[1] == 0:
            raise ShapeError(f"found: got {found.shape}, wanted ({self.num_queries}, k)")
        rule = self.matches_as_published if as_published else self.matches
        queries = np.arange(self.num_queries)[:, None]
        return float((rule(queries, np.maximum(found, 0)) & (found >= 0)).mean())

    def _digits(self, queries: Array, items: Array) -> tuple[Array, Array, Array]:
        last_two = self.query_digits[queries]
        return last_two[..., 2:3], last_two[..., 3:4], self.item_digits[items]


def tutorial_dataset() -> TutorialData:
    """Return the tutorial's 10,000 queries and 10,000 items."""
    places = np.array([1000, 100, 10, 1])
    digits = (np.arange(10_000)[:, None] // places % 10).astype(np.int8)
    return TutorialData(query_digits=digits, item_digits=digits.copy())


def clustered_vectors(
    num_vectors: int,
    dim: int,
    seed: int,
    *,
    num_clusters: int = 1024,
    spread: float = 0.5,
    part: int = 0,
) -> FloatArray:
    """Make vectors from a mixture of Gaussians, as learned embeddings roughly are.

    The first n vectors are the same for every `num_vectors`. Nothing but the result is held in
    memory: 10,000,000 x 64 takes its 2.56 GB.

    Args:
        num_clusters: centres, drawn from a standard normal distribution.
        spread: standard deviation around a centre, at least 0.
        part: another part is other vectors around the same centres: 0 for items, 1 for queries.

    Returns:
        float32 [num_vectors, dim].
    """
    vectors = np.empty((num_vectors, dim), dtype=np.float32)
    start = 0
    for chunk in iter_clustered_vectors(
        num_vectors, dim, seed, num_clusters=num_clusters, spread=spread, part=part
    ):
        vectors[start : start + len(chunk)] = chunk
        start += len(chunk)
    return vectors


def iter_clustered_vectors(
    num_vectors: int,
    dim: int,
    seed: int,
    *,
    num_clusters: int = 1024,
    spread: float = 0.5,
    part: int = 0,
) -> Iterator[FloatArray]:
    """Yield what `clustered_vectors` returns in chunks of 65,536 rows.

    Raises:
        ShapeError: a count below 1.
    """
    if num_vectors < 1 or dim < 1 or num_clusters < 1:
        raise ShapeError(
            f"num_vectors, dim, num_clusters: got {num_vectors}, {dim}, {num_clusters}, "
            "wanted at least 1"
        )
    centres = np.random.default_rng(seed).standard_normal((num_clusters, dim), dtype=np.float32)
    for number, start in enumerate(range(0, num_vectors, _CHUNK_ROWS)):
        # Each chunk has its own generator, so that none depends on how many there are.
        rng = np.random.default_rng([seed, part, number])
        cluster = rng.integers(num_clusters, size=_CHUNK_ROWS)
        num_rows = min(_CHUNK_ROWS, num_vectors - start)
        chunk = rng.standard_normal((num_rows, dim), dtype=np.float32)
        chunk *= np.float32(spread)
        chunk += centres[cluster[:num_rows]]
        yield chunk

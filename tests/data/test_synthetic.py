"""The tutorial's rule against a slow one, and vectors that do not depend on how many there are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from poeem.data import clustered_vectors, iter_clustered_vectors, tutorial_dataset
from poeem.errors import ShapeError


def matches_slowly(query: int, item: int) -> bool:
    wanted = Counter(f"{query:04d}"[2:])
    return not wanted - Counter(f"{item:04d}")


def test_numbers_are_their_digits() -> None:
    data = tutorial_dataset()
    assert (data.num_queries, data.num_items) == (10_000, 10_000)
    assert data.item_digits[1234].tolist() == [1, 2, 3, 4]
    assert data.query_digits[56].tolist() == [0, 0, 5, 6]
    assert data.item_digits.dtype == np.int8


def test_matching_agrees_with_counting_digits() -> None:
    data = tutorial_dataset()
    queries, items = np.random.default_rng(0).integers(10_000, size=(2, 2000))
    queries[:500] = queries[:500] // 100 * 100 + queries[:500] % 10 * 11
    wanted = [matches_slowly(query, item) for query, item in zip(queries, items, strict=True)]
    assert data.matches(queries, items).tolist() == wanted
    assert 0 < sum(wanted) < len(wanted)


def test_relevant_items_are_counted_by_inclusion_and_exclusion() -> None:
    data = tutorial_dataset()
    assert len(data.relevant_items(47)) == 10**4 - 2 * 9**4 + 8**4
    assert len(data.relevant_items(9933)) == 10**4 - 9**4 - 4 * 9**3
    assert data.relevant_items(9947).tolist() == data.relevant_items(74).tolist()


def test_pairs_drawn_match_cover_everything_and_follow_the_seed() -> None:
    data = tutorial_dataset()
    queries, items = data.sample_pairs(200_000, np.random.default_rng(1))
    assert data.matches(queries, items).all()
    assert queries.dtype == items.dtype == np.int32
    assert len(np.unique(queries)) == len(np.unique(items)) == 10_000
    again = data.sample_pairs(200_000, np.random.default_rng(1))
    np.testing.assert_array_equal(again[0], queries)
    # All twelve ordered choices of two digits of 1234 occur.
    drawn = np.unique(queries[items == 1234] % 100)
    assert set(drawn) <= {12, 21, 13, 31, 14, 41, 23, 32, 24, 42, 34, 43}
    assert len(drawn) >= 6


def test_the_published_measure_is_looser_than_the_rule() -> None:
    data = tutorial_dataset()
    items = np.array([4712, 4412, 7777, 4012])
    assert data.matches(np.array(47), items).tolist() == [True, False, False, False]
    assert data.matches_as_published(np.array(47), items).tolist() == [True, True, True, False]
    everything = np.arange(10_000)
    strict, loose = (
        data.matches(np.array(47), everything),
        data.matches_as_published(47, everything),
    )
    assert loose[strict].all()


def test_precision_counts_hits_and_empty_places_miss() -> None:
    data = tutorial_dataset()
    found = np.tile([data.relevant_items(query)[:2] for query in range(100)], (100, 1))
    assert data.precision(found) == 1
    found[:, 1] = -1
    assert data.precision(found) == 0.5
    assert data.precision(found, as_published=True) == 0.5
    with pytest.raises(ShapeError, match=r"wanted \(10000, k\)"):
        data.precision(found[:5])


def test_vectors_follow_seed_and_part_and_not_their_number() -> None:
    vectors = clustered_vectors(70_000, 4, seed=1, num_clusters=8)
    assert vectors.dtype == np.float32
    assert vectors.shape == (70_000, 4)
    np.testing.assert_array_equal(clustered_vectors(100, 4, 1, num_clusters=8), vectors[:100])
    np.testing.assert_array_equal(clustered_vectors(66_000, 4, 1, num_clusters=8), vectors[:66_000])
    assert not np.array_equal(clustered_vectors(100, 4, 2, num_clusters=8), vectors[:100])
    assert not np.array_equal(clustered_vectors(100, 4, 1, num_clusters=8, part=1), vectors[:100])
    sizes = [len(chunk) for chunk in iter_clustered_vectors(70_000, 4, 1, num_clusters=8)]
    assert sizes == [65_536, 70_000 - 65_536]


def test_vectors_lie_around_the_same_centres_in_every_part() -> None:
    items, queries = (
        clustered_vectors(300, 16, 0, num_clusters=5, spread=0.01, part=part) for part in (0, 1)
    )
    distances = np.linalg.norm(items[:, None] - queries[None], axis=2)
    assert distances.min(axis=0).max() < 0.2
    assert np.linalg.norm(clustered_vectors(1, 16, 0, spread=0.0)) > 0


def test_vectors_refuse_counts_below_one() -> None:
    with pytest.raises(ShapeError, match="got 0, 4, 1024"):
        clustered_vectors(0, 4, 0)

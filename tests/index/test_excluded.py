"""`excluded=`: what one query must not get back. The truth is a filter of all others."""

import numpy as np
import pytest

import poeem
from poeem.errors import DtypeError, IdError, ShapeError
from poeem.index import excluded
from tests.index.helpers import random_queries

DIM, NUM_ITEMS = 8, 700


def make(num_lists, metric, seed=0):
    rng = np.random.default_rng(seed)
    parts = {}
    if num_lists:
        parts["lists"] = rng.integers(0, num_lists, NUM_ITEMS)
        parts["centroids"] = rng.standard_normal((num_lists, DIM)).astype(np.float32)
    return poeem.build_index_from_codes(
        codes=rng.integers(0, 16, (NUM_ITEMS, 4)),
        codebooks=rng.standard_normal((4, 16, 2)).astype(np.float32),
        ids=rng.permutation(5 * NUM_ITEMS)[:NUM_ITEMS],
        metric=metric,
        **parts,
    )


def histories(index, rng, num_queries):
    """Of every length, some of all items, with strangers and repetitions among them."""
    lengths = [0, 1, NUM_ITEMS, *rng.integers(0, 200, num_queries - 3)]
    found = [rng.permutation(index.ids)[:length].tolist() for length in lengths]
    found[-1] = [*found[-1], -7, 10**12, *found[-1]]
    return found


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("num_lists", [0, 12])
@pytest.mark.parametrize("k", [1, 10, NUM_ITEMS + 5])
@pytest.mark.parametrize("heads", [1, 3])
def test_each_query_is_answered_as_if_the_others_were_all(metric, num_lists, k, heads):
    index, rng = make(num_lists, metric), np.random.default_rng(1)
    queries = rng.standard_normal((20, heads, DIM)).astype(np.float32)
    out = histories(index, rng, 20)
    found = index.search(queries, k, excluded=out)
    for row, ids in enumerate(out):
        rest = np.setdiff1d(index.ids, ids)
        wanted = index.search(queries[row : row + 1], k, allowed=rest)
        assert np.array_equal(found.ids[row], wanted.ids[0])
        assert np.array_equal(found.scores[row], wanted.scores[0])


def test_with_lists_probed_a_filter_and_threads():
    index, rng = make(12, "ip"), np.random.default_rng(2)
    queries = random_queries(30, DIM, seed=3)
    out = histories(index, rng, 30)
    whole = index.search(queries, NUM_ITEMS, num_probes=3)
    found = index.search(queries, 20, num_probes=3, num_threads=2, excluded=out)
    for row, ids in enumerate(out):
        kept = ~np.isin(whole.ids[row], [*ids, -1])
        wanted = whole.ids[row][kept][:20]
        assert np.array_equal(found.ids[row][: len(wanted)], wanted)
        assert (found.ids[row][len(wanted) :] == -1).all()
        assert np.isneginf(found.scores[row][len(wanted) :]).all()
    some = rng.permutation(index.ids)[:300]
    both = index.search(queries, 20, allowed=some, excluded=out)
    for row, ids in enumerate(out):
        wanted = index.search(queries[row], 20, allowed=np.setdiff1d(some, ids))
        assert np.array_equal(both.ids[row], wanted.ids[0])


def test_a_live_index_does_the_same(tmp_path):
    index, rng = make(12, "ip"), np.random.default_rng(4)
    index.save(tmp_path / "i.poeem")
    queries = random_queries(20, DIM, seed=5)
    with poeem.LiveIndex.open(tmp_path / "i.poeem") as live:
        live.add([10**9], random_queries(1, DIM, seed=6))
        live.remove(index.ids[:50])
        out = histories(index, rng, 20)
        out[5].append(10**9)
        fresh = live.view().to_index()
        for each in (live, live.view()):
            found, wanted = (one.search(queries, 15, excluded=out) for one in (each, fresh))
            assert np.array_equal(found.ids, wanted.ids)
            assert np.array_equal(found.scores, wanted.scores)


def test_many_at_a_time(monkeypatch):
    index, rng = make(0, "ip"), np.random.default_rng(7)
    queries, out = random_queries(40, DIM, seed=8), histories(index, rng, 40)
    whole = index.search(queries, 10, excluded=out)
    monkeypatch.setattr(excluded, "_RESULTS", 500)
    assert np.array_equal(index.search(queries, 10, excluded=out).ids, whole.ids)


def test_nothing_excluded_is_a_search():
    index, queries = make(0, "ip"), random_queries(3, DIM)
    whole = index.search(queries, 10)
    for nothing in ([[], [], []], [None] * 3, [np.zeros(0), (), None]):
        assert np.array_equal(index.search(queries, 10, excluded=nothing).ids, whole.ids)
    assert index.search(queries[:0], 10, excluded=[]).ids.shape == (0, 10)
    padded = np.full((3, 5), -1)
    padded[1, :2] = whole.ids[1, :2]
    found = index.search(queries, 10, excluded=padded).ids
    assert np.array_equal(found[[0, 2]], whole.ids[[0, 2]])
    assert np.array_equal(found[1, :8], whole.ids[1, 2:])
    one = index.search(queries[0], 10, excluded=[whole.ids[0, :3]])
    assert np.array_equal(one.ids[0, :7], whole.ids[0, 3:])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([[1], [2]], ShapeError, "excluded: got 2 for 3 queries"),
        ([1, 2, 3], ShapeError, r"excluded\[0\]: got shape"),
        ([[1], [2.5], []], IdError, r"excluded\[1\]: got float64, wanted integers"),
        ([[1], ["a"], []], IdError, r"excluded\[1\]"),
        ("abc", DtypeError, "got str, wanted a sequence of ids for each query"),
        ({1: 2}, DtypeError, "got dict"),
        ([[1], [2], [2**70]], IdError, r"excluded\[2\]: got 1180591620717411303424"),
    ],
)
def test_what_cannot_be_excluded(given, error, message):
    with pytest.raises(error, match=message):
        make(0, "ip").search(random_queries(3, DIM), 5, excluded=given)


def test_lists_visited_for_a_filter_do_not_depend_on_what_is_excluded(tmp_path):
    """A filter makes a search visit more lists until there are k, for each query by itself."""
    index, rng = make(60, "ip"), np.random.default_rng(9)
    queries, allowed = random_queries(30, DIM, seed=10), rng.permutation(index.ids)[:50]
    whole = index.search(queries, 5, num_probes=2, allowed=allowed)
    strangers = [[10**9 + n for n in range(8)]] * 30
    index.save(tmp_path / "i.poeem")
    with poeem.LiveIndex.open(tmp_path / "i.poeem", read_only=True) as live:
        for one in (index, live):
            found = one.search(queries, 5, num_probes=2, allowed=allowed, excluded=strangers)
            assert np.array_equal(found.ids, whole.ids)
            out = [set(row[: n % 5]) for n, row in enumerate(whole.ids.tolist())]
            found = one.search(queries, 5, num_probes=2, allowed=allowed, excluded=out)
            for row, ids in enumerate(out):
                rest = np.setdiff1d(allowed, list(ids))
                wanted = index.search(queries[row], 5, num_probes=2, allowed=rest)
                assert np.array_equal(found.ids[row], wanted.ids[0])
                assert np.array_equal(found.scores[row], wanted.scores[0])

"""The engine returns the ids and the score bits of the reference, and both are what they claim."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeem import _native
from poeem.index import Index, active_kernel, available_kernels, build_index_from_codes, reference
from poeem.index.engine import native_arrays
from poeem.types import SearchResult
from tests.index.helpers import Shape, random_index, random_queries

METRICS = ("ip", "l2", "cosine")
FAMILIES = ("product", "residual")

shapes = st.builds(
    Shape,
    metric=st.sampled_from(METRICS),
    num_items=st.integers(1, 300),
    num_subspaces=st.integers(1, 20),
    num_codewords=st.sampled_from([2, 3, 15, 16, 17, 200, 256, 257, 1000]),
    sub_dim=st.integers(1, 5),
    num_lists=st.sampled_from([0, 0, 1, 2, 7, 40]),
    rotation=st.booleans(),
    ids=st.sampled_from(["positions", "uint32", "int64"]),
    few_codes=st.booleans(),
    family=st.sampled_from(FAMILIES),
)


def assert_same(got: SearchResult, wanted: SearchResult) -> None:
    np.testing.assert_array_equal(got.ids, wanted.ids)
    assert got.scores.dtype == np.float32
    np.testing.assert_array_equal(got.scores.view(np.uint32), wanted.scores.view(np.uint32))


def assert_engine_is_reference(
    index: Index,
    queries: np.ndarray,
    k: int,
    num_probes: int | None = None,
    num_threads: int = 1,
    allowed: np.ndarray | None = None,
) -> SearchResult:
    settings = {"num_probes": num_probes, "num_threads": num_threads, "allowed": allowed}
    got = index.search(queries, k, **settings)
    contents = index._contents
    heads = queries.reshape(len(queries), -1, index.dim)
    assert_same(got, reference.search(contents, heads, k, num_probes, allowed))
    return got


@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    num_queries=st.integers(1, 4),
    num_heads=st.integers(1, 3),
    k=st.one_of(st.integers(1, 20), st.integers(1, 400)),
    num_probes=st.one_of(st.none(), st.integers(1, 50)),
    num_threads=st.integers(1, 4),
)
def test_engine_equals_reference(shape, seed, num_queries, num_heads, k, num_probes, num_threads):
    index = random_index(shape, seed)
    queries = random_queries(num_queries, num_heads, shape.dim, seed=seed)
    assert_engine_is_reference(index, queries, k, num_probes, num_threads)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_lists", [0, 5, 300])
@pytest.mark.parametrize("num_codewords", [16, 256, 300])
@pytest.mark.parametrize("family", FAMILIES)
def test_engine_equals_reference_over_many_blocks(metric, num_lists, num_codewords, family):
    shape = Shape(metric, 3000, 9, num_codewords, 4, num_lists, True, ids="uint32", family=family)
    assert_engine_is_reference(random_index(shape), random_queries(3, 2, shape.dim), 100, 3, 2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_lists", [0, 6])
@pytest.mark.parametrize("family", FAMILIES)
def test_engine_equals_reference_where_float32_overflows(metric, num_lists, family):
    shape = Shape(metric, 100, 4, 20, 3, num_lists, family=family)
    index = random_index(shape)
    huge = random_queries(4, 2, shape.dim).clip(-1.5, 1.5) * np.float32(2e38)
    assert_engine_is_reference(index, huge, 120, 3)


def brute_force(index: Index, query: np.ndarray) -> np.ndarray:
    """Scores of one query against what the index reconstructs, in float64, in storage order."""
    items = index.reconstruct(index.ids).astype(np.float64)
    query = query.astype(np.float64)
    if index.metric == "ip":
        return items @ query
    if index.metric == "l2":
        return -((items - query) ** 2).sum(axis=1)
    return items @ query / (np.linalg.norm(items, axis=1) * np.linalg.norm(query))


@pytest.mark.parametrize(
    ("metric", "num_lists", "rotation", "family"),
    [*itertools.product(METRICS, [0, 6], [False, True], FAMILIES)],
)
def test_scores_are_those_of_reconstructed_items(metric, num_lists, rotation, family):
    shape = Shape(metric, 200, 5, 30, 4, num_lists, rotation, ids="int64", family=family)
    index = random_index(shape)
    queries = random_queries(5, shape.dim)
    got = index.search(queries, 200)
    for row, query in enumerate(queries):
        truth = dict(zip(index.ids.tolist(), brute_force(index, query), strict=True))
        scores = np.array([truth[i] for i in got.ids[row].tolist()])
        np.testing.assert_allclose(got.scores[row], scores, rtol=1e-5, atol=1e-5)
        assert sorted(got.ids[row].tolist()) == sorted(truth)


def test_ties_go_to_the_smaller_id():
    index = build_index_from_codes(
        codes=np.zeros((6, 1), np.uint8),
        codebooks=np.ones((1, 2, 2), np.float32),
        ids=[50, 10, 40, 20, 30, 5],
    )
    assert index.search(np.ones(2, np.float32), 4).ids.tolist() == [[5, 10, 20, 30]]


def test_short_results_are_padded():
    index = random_index(Shape(num_items=3))
    ids, scores = index.search(random_queries(6), 5)
    assert ids.shape == scores.shape == (1, 5)
    assert ids[0, 3:].tolist() == [-1, -1]
    assert scores[0, 3:].tolist() == [-np.inf, -np.inf]
    assert (ids[0, :3] >= 0).all()


def test_probing_visits_only_the_best_lists_of_the_metric():
    # List 1 is nearer by l2, list 0 has the larger inner product.
    parts = {
        "codes": np.zeros((2, 1), np.uint8),
        "codebooks": np.zeros((1, 2, 2), np.float32),
        "lists": [0, 1],
        "centroids": np.array([[9, 0], [1, 0]], np.float32),
    }
    query = np.array([1, 0], np.float32)
    by_ip = build_index_from_codes(**parts, metric="ip").search(query, 2, num_probes=1)
    by_l2 = build_index_from_codes(**parts, metric="l2").search(query, 2, num_probes=1)
    assert by_ip.ids.tolist() == [[0, -1]]
    assert by_l2.ids.tolist() == [[1, -1]]


def test_heads_are_merged_by_maximum_without_duplicates():
    index = random_index(Shape(num_items=30))
    heads = random_queries(1, 3, 6)
    one_by_one = [index.search(head, 30) for head in heads[0]]
    merged = index.search(heads, 30)
    assert sorted(merged.ids[0].tolist()) == list(range(30))
    for item, score in zip(merged.ids[0], merged.scores[0], strict=True):
        assert score == max(r.scores[0][r.ids[0] == item][0] for r in one_by_one)


def test_cosine_of_a_zero_query_and_of_a_zero_item_is_zero():
    codebooks = np.array([[[0, 0], [1, 2]]], np.float32)
    index = build_index_from_codes(codes=np.array([[0], [1]]), codebooks=codebooks, metric="cosine")
    assert index.search(np.zeros(2, np.float32), 2).scores.tolist() == [[0, 0]]
    assert index.search(-np.ones(2, np.float32), 1).ids.tolist() == [[0]]


def test_float16_and_single_queries_are_taken():
    index = random_index(Shape())
    query = random_queries(6).astype(np.float16)
    assert_same(index.search(query), index.search(query.astype(np.float32)[None]))


def test_queries_may_be_views():
    index = random_index(Shape())
    queries = random_queries(5, 12)
    assert_same(index.search(queries[:, ::2]), index.search(queries[:, ::2].copy()))


@pytest.mark.parametrize("num_threads", [0, 2, 16])
def test_threads_change_nothing(num_threads):
    index = random_index(Shape("l2", 2000, 8, 256, 4, 10))
    queries = random_queries(64, 32)
    assert_same(
        index.search(queries, 20, num_probes=4, num_threads=num_threads),
        index.search(queries, 20, num_probes=4),
    )


def test_concurrent_searches_agree():
    index = random_index(Shape("cosine", 3000, 8, 256, 4, 10))
    queries = random_queries(16, 2, 32)
    alone = index.search(queries, 50)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(index.search, queries, 50, num_threads=2) for _ in range(24)]:
            assert_same(future.result(), alone)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("num_lists", [0, 4])
@pytest.mark.parametrize("num_codewords", [7, 100, 400])
@pytest.mark.parametrize("family", FAMILIES)
def test_native_norms_equal_the_reference(metric, num_lists, num_codewords, family):
    shape = Shape(metric, 300, 5, num_codewords, 3, num_lists, family=family)
    contents = random_index(shape)._contents
    norms = _native.item_norms(native_arrays(contents), squared=metric == "l2")
    np.testing.assert_array_equal(norms, reference.item_norms(contents))
    if metric == "cosine" or num_lists or family == "residual":
        np.testing.assert_array_equal(norms, contents.norms)
    else:
        assert contents.norms is None


def test_the_forced_kernel_is_the_one_in_use(monkeypatch):
    for kernel in available_kernels():
        if kernel["supported"]:
            monkeypatch.setenv("POEEM_KERNEL", str(kernel["name"]))
            assert active_kernel() == kernel["name"]
    monkeypatch.delenv("POEEM_KERNEL")
    assert active_kernel() in [k["name"] for k in available_kernels() if k["supported"]]

"""Bad arguments of a search: one test per kind."""

from __future__ import annotations

import numpy as np
import pytest

from poeem.errors import ConfigError, DtypeError, NonFiniteError, ShapeError
from poeem.index import active_kernel
from tests.index.helpers import Shape, random_index, random_queries

INDEX = random_index(Shape(num_lists=3))


def test_wrong_width_says_both_widths():
    with pytest.raises(ShapeError, match="queries: got width 7, wanted 6"):
        INDEX.search(random_queries(2, 7))


def test_too_many_dimensions():
    with pytest.raises(ShapeError, match="queries"):
        INDEX.search(random_queries(1, 1, 1, 6))


@pytest.mark.parametrize("shape", [(2, 0, 6), (3, 0), (0,)])
def test_vectors_without_a_number(shape):
    with pytest.raises(ShapeError, match=r"empty|width 0"):
        INDEX.search(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(0, 6), (0, 2, 6)])
def test_no_queries_have_no_answers(shape):
    found = INDEX.search(np.zeros(shape, np.float32), 3)
    assert found.ids.shape == found.scores.shape == (0, 3)
    with pytest.raises(ShapeError, match="width 7"):
        INDEX.search(np.zeros((*shape[:-1], 7), np.float32))


def test_tensors_that_numpy_cannot_look_at():
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 6)
    with pytest.raises(DtypeError, match="queries: got a tensor without data"):
        INDEX.search(x.to("meta"))
    with pytest.raises(DtypeError, match="queries: got a tensor of layout torch"):
        INDEX.search(x.to_sparse())
    found = INDEX.search(torch._neg_view(x), 3)
    assert np.array_equal(found.ids, INDEX.search(-x, 3).ids)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex64, "U3", object, bool])
def test_wrong_dtype(dtype):
    with pytest.raises(DtypeError, match="queries"):
        INDEX.search(np.zeros((2, 6)).astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_rows_are_named(value):
    queries = random_queries(20, 6)
    queries[[3, 17], [0, 5]] = value
    with pytest.raises(NonFiniteError, match="3, 17") as caught:
        INDEX.search(queries)
    assert caught.value.rows == [3, 17]


def test_non_finite_heads_name_their_user():
    queries = random_queries(4, 2, 6)
    queries[2, 1, 0] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        INDEX.search(queries)
    assert caught.value.rows == [2]


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", None, True, 2**31, 2**70])
def test_bad_k(k):
    with pytest.raises(ConfigError, match="k: got"):
        INDEX.search(random_queries(6), k)


@pytest.mark.parametrize("num_probes", [0, -1, 1.5, 2**70])
def test_bad_num_probes(num_probes):
    with pytest.raises(ConfigError, match="num_probes: got"):
        INDEX.search(random_queries(6), num_probes=num_probes)


@pytest.mark.parametrize("num_threads", [-1, 1.5, None, 10**6])
def test_bad_num_threads(num_threads):
    with pytest.raises(ConfigError, match="num_threads: got"):
        INDEX.search(random_queries(6), num_threads=num_threads)


def test_unknown_kernel(monkeypatch):
    monkeypatch.setenv("POEEM_KERNEL", "abacus")
    with pytest.raises(ConfigError, match=r"'abacus', wanted one of .*scalar"):
        INDEX.search(random_queries(6))
    with pytest.raises(ConfigError, match="abacus"):
        active_kernel()

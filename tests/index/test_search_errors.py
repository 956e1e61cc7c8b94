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


@pytest.mark.parametrize("shape", [(0, 6), (2, 0, 6), (0,)])
def test_empty_batch(shape):
    with pytest.raises(ShapeError, match="empty"):
        INDEX.search(np.zeros(shape, np.float32))


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

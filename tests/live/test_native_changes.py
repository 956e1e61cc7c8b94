"""What native code does of a change equals what NumPy does slowly; what does not fit is refused."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeem import LiveIndex, _native
from poeem.errors import ShapeError
from poeem.index.engine import native_arrays, pack_bits
from poeem.live.rows import Rows, concatenate, contents_of
from poeem.live.segment import Segment
from tests.index.helpers import Shape, random_index, random_queries
from tests.live.helpers import Model
from tests.live.test_live_index import shapes


def unpacked(alive, count):
    return np.unpackbits(alive.view(np.uint8), bitorder="little")[:count].astype(bool)


@given(
    dtype=st.sampled_from([np.uint32, np.int64, None]),
    stored=st.lists(st.integers(0, 300), min_size=1, max_size=150, unique=True),
    asked=st.lists(st.integers(-3, 310), max_size=60),
    has_alive=st.booleans(),
    order_type=st.sampled_from([np.int32, np.int64]),
    seed=st.integers(0, 1000),
)
def test_lookups_and_cleared_bits(dtype, stored, asked, has_alive, order_type, seed):
    rng = np.random.default_rng(seed)
    count, asked = len(stored), np.array([*asked, -(2**63), 2**63 - 1, 2**32], np.int64)
    ids = np.arange(count) if dtype is None else np.array(stored, dtype)
    order = np.argsort(ids).astype(order_type)
    lookup = _native.Lookup(
        count,
        sorted=None if dtype is None else ids[order],
        order=None if dtype is None else order,
    )
    flags = rng.random(count) < 0.7 if has_alive else np.ones(count, bool)
    alive = pack_bits(flags) if has_alive else None
    place = {int(item): i for i, item in enumerate(ids) if flags[i]}
    wanted = [place.get(int(item), -1) for item in asked]
    assert lookup.find(asked, alive=alive).tolist() == wanted
    (cleared,) = _native.without([(lookup, alive)], [asked[:2], asked[2:]])
    gone = sorted({i for i in wanted if i >= 0})
    if not gone:
        assert cleared is None
        return
    flags[gone] = False
    bits, num_fewer = cleared
    assert num_fewer == len(gone)
    np.testing.assert_array_equal(unpacked(bits, count), flags)
    assert int(np.bitwise_count(bits).sum()) == flags.sum()  # none beyond the last item


@given(shape=shapes, seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 80), max_size=3))
def test_joined_rows_are_in_storage_order(shape, seed, cuts):
    rng = np.random.default_rng(seed)
    index = random_index(shape, seed % 1000)
    contents, whole = index._contents, Segment.of_index(index._contents, index._arrays)
    rows = whole.rows()
    shuffled = rows.take(rng.permutation(len(rows)))
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    several, wanted = [], []
    for first, last in itertools.pairwise(bounds[:-1]):
        part = shuffled.take(np.arange(first, last))
        if not len(part):
            continue
        segment = Segment.joined([], part, contents, index._arrays)
        flags = rng.random(len(part)) < 0.6
        segment = segment.with_alive(pack_bits(flags), int((~flags).sum()))
        several.append(segment)
        wanted.append(segment.rows())
    put = shuffled.take(np.arange(bounds[-2], bounds[-1]))
    got = Segment.joined(several, put, contents, index._arrays)
    slow = contents_of(concatenated([*wanted, put]).in_storage_order(), contents)
    for name in ("ids", "codes", "list_offsets", "norms"):
        a, b = getattr(got.contents, name), getattr(slow, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b)
    if slow.titles is not None:
        np.testing.assert_array_equal(got.contents.titles.offsets, slow.titles.offsets)
        np.testing.assert_array_equal(got.contents.titles.blob, slow.titles.blob)
    assert got.contents.codes.ctypes.data % 64 == 0
    asked = np.concatenate([slow.ids, slow.ids + 1, [-5]]).astype(np.int64)
    np.testing.assert_array_equal(got.find(asked), slow.positions_of(asked))


def concatenated(several):
    return concatenate([rows for rows in several if len(rows)] or several[-1:])


def test_what_does_not_fit_is_refused():
    index = random_index(Shape("l2", 30, 4, 20, 2, 3))
    arrays, rows = index._arrays, Segment.of_index(index._contents, index._arrays).rows()
    ids, lists, norms = rows.ids, rows.lists, rows.norms
    codes = np.ascontiguousarray(rows.codes)
    short = np.zeros(0, np.uint64)
    wrong = [
        lambda: _native.Lookup(4, sorted=np.arange(3)),
        lambda: _native.Lookup(4, sorted=np.arange(4), order=np.arange(5)),
        lambda: _native.Lookup(-1),
        lambda: _native.Lookup(4).find(ids, alive=short),
        lambda: _native.without([(_native.Lookup(4), short)], [ids]),
        lambda: join(arrays, ids[1:], codes, lists, norms),
        lambda: join(arrays, ids, codes[:, 1:].copy(), lists, norms),
        lambda: join(arrays, ids, codes.astype(np.uint16), lists, norms),
        lambda: join(arrays, ids, codes, lists + 1, norms),
        lambda: join(arrays, ids, codes, lists - 1, norms),
        lambda: join(arrays, ids, codes, None, norms),
        lambda: join(arrays, ids, codes, lists, None),
        lambda: join(arrays, ids, codes, lists, norms[1:]),
        lambda: join(arrays, ids, codes, lists, norms, [(arrays, short)]),
        lambda: join(arrays, ids, codes, lists, norms, [(other_arrays(), None)]),
    ]
    for call in wrong:
        with pytest.raises(ShapeError):
            call()
    assert len(join(arrays, ids, codes, lists, norms)["ids"]) == 30


def other_arrays():
    return native_arrays(random_index(Shape("l2", 30, 4, 20, 2, 3), seed=5)._contents)


def join(arrays, ids, codes, lists, norms, segments=()):
    return _native.join(arrays, list(segments), ids=ids, codes=codes, lists=lists, norms=norms)


def test_an_order_that_leads_astray_finds_nothing():
    order = np.array([2**31 - 1, -7, 1], np.int32)
    lookup = _native.Lookup(3, sorted=np.array([4, 5, 6]), order=order)
    assert lookup.find(np.array([4, 5, 6])).tolist() == [-1, -1, 1]


def test_arrays_of_callers_are_not_kept(tmp_path):
    """Whatever a caller does to the arrays of a change afterwards."""
    model = Model(Shape("ip", 30, 3, 256, 2, 2))
    with LiveIndex.open(model.save(tmp_path / "i.poeem")) as live:
        ids, codes = np.array([500, 501]), np.ones((2, 3), np.uint8)
        lists = np.zeros(2, np.int32)
        live.update(ids, codes=codes, lists=lists)
        before = live.search(random_queries(2, model.shape.dim), 50)
        ids[:], codes[:], lists[:] = 7, 9, 1
        after = live.search(random_queries(2, model.shape.dim), 50)
        np.testing.assert_array_equal(before.ids, after.ids)
        assert live.view().segments[-1].rows().codes.tolist() == [[1] * 3] * 2


def test_searches_end_while_a_change_goes_on_and_on(tmp_path):
    """Waiting awake is bounded: a thread that keeps the interpreter busy stops nobody for good."""
    model = Model(Shape("ip", 30, 3, 256, 2))
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            sum(range(1000))

    with LiveIndex.open(model.save(tmp_path / "i.poeem")) as live, _native.Changing():
        thread = threading.Thread(target=busy)
        thread.start()
        for _ in range(5):
            live.search(random_queries(2, model.shape.dim), 5)
            _native.let_searches_in()
        stop.set()
        thread.join()


def test_rows_are_what_was_put():
    index = random_index(Shape("ip", 9, 3, 256, 2))
    rows = Rows(np.array([7, 3]), np.array([[1, 2, 3], [4, 5, 6]], np.uint8), None, None, None)
    segment = Segment.joined([], rows, index._contents, index._arrays)
    assert segment.contents.ids.tolist() == [3, 7]
    assert segment.rows().codes.tolist() == [[4, 5, 6], [1, 2, 3]]

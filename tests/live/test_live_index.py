"""Any row of changes leaves what a fresh index of the same items would be, to the last bit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeem import Index, LiveIndex, build_index_from_codes, pending_changes
from poeem.errors import (
    ChangesError,
    ConfigError,
    DtypeError,
    IndexLockedError,
    InputError,
    SaveError,
    ShapeError,
)
from poeem.index.encode import encode
from poeem.live import swap_index, view
from tests.index.helpers import Shape, random_index, random_queries
from tests.index.test_search import METRICS, assert_same
from tests.live.helpers import Model, assert_holds

OPERATIONS = ("add", "update", "remove", "compact", "reopen", "look")

shapes = st.builds(
    Shape,
    metric=st.sampled_from(METRICS),
    num_items=st.integers(1, 80),
    num_subspaces=st.integers(1, 5),
    num_codewords=st.sampled_from([2, 16, 17, 256, 300]),
    sub_dim=st.integers(1, 3),
    num_lists=st.sampled_from([0, 1, 5]),
    rotation=st.booleans(),
    ids=st.sampled_from(["positions", "uint32", "int64"]),
    few_codes=st.booleans(),
    family=st.sampled_from(["product", "residual"]),
    titles=st.booleans(),
)


@pytest.fixture
def small_tails(monkeypatch):
    """Segments are sealed and merged after few rows."""
    monkeypatch.setattr(view, "_TAIL_ROWS", 8)
    monkeypatch.setattr(view, "_MERGE_FACTOR", 2)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(1, 12)), max_size=20),
)
def test_any_changes_equal_a_fresh_index(small_tails, tmp_path_factory, shape, seed, steps):
    model = Model(shape, seed)
    path = model.save(tmp_path_factory.mktemp("live") / "i.poeem")
    live = LiveIndex.open(path)
    reader = LiveIndex.open(path, read_only=True)
    for operation, count in steps:
        if operation == "compact":
            pending = pending_changes(path).num_changes
            assert live.compact() == bool(pending and model.items)
            if model.items:
                assert_same_file(path, model)
        elif operation == "reopen":
            live.close()
            live = LiveIndex.open(path)
        elif operation == "look":
            assert_holds(live, model)
            assert_holds(reader, model)
        elif operation != "remove" or model.items:
            getattr(model, operation)(live, count)
    assert_holds(live, model)
    assert_holds(reader, model)
    live.close()
    reader.close()
    with LiveIndex.open(path) as again:
        assert_holds(again, model)


def assert_same_file(path, model):
    """The snapshot is what the builder would have made."""
    got, wanted = Index.open(path), model.fresh()
    np.testing.assert_array_equal(got.ids, wanted.ids)
    np.testing.assert_array_equal(got.codes, wanted.codes)
    for name in ("ids", "norms", "list_offsets", "codes"):
        a, b = getattr(got._contents, name), getattr(wanted._contents, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_lists", [0, 20])
def test_thousands_of_changes_in_segments_of_full_size(tmp_path, metric, num_lists):
    shape = Shape(metric, 20_000, 6, 256, 2, num_lists, rotation=True, ids="int64")
    model = Model(shape)
    live = LiveIndex.open(model.save(tmp_path / "i.poeem"))
    most = 0
    for _ in range(30):
        model.update(live, 300)
        model.remove(live, 20)
        most = max(most, len(live.view().segments))
    assert most > 2
    fresh, queries = model.fresh(), random_queries(4, shape.dim)
    for probes in (None, 3):
        got = live.search(queries, 100, num_probes=probes)
        assert_same(got, fresh.search(queries, 100, num_probes=probes))
    live.close()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_lists", [0, 8])
@pytest.mark.parametrize("family", ["product", "residual"])
def test_vectors_are_encoded_as_a_fresh_index_would(tmp_path, family, num_lists, metric):
    torch = pytest.importorskip("torch")
    from poeem import IndexLayer, build_index

    generator = torch.Generator().manual_seed(0)
    settings = {"num_subspaces": 4, "num_codewords": 32, "num_lists": num_lists, "family": family}
    layer = IndexLayer(dim=16, **settings)
    vectors = torch.randn(2000, 16, generator=generator)
    layer.warm_start(vectors)
    path = tmp_path / "i.poeem"
    index = build_index(layer, np.arange(1000), vectors[:1000], metric=metric)
    index.save(path)
    with LiveIndex.open(path) as live:
        live.add(np.arange(1000, 2000), vectors[1000:])
        live.update(np.arange(100), vectors[500:600].numpy())
        both = torch.cat([vectors[500:600], vectors[100:]])
        wholly = fresh_index(layer, index, both, changed=np.r_[0:100, 1000:2000], metric=metric)
        for probes in (None, 2):
            got = live.search(vectors[:50], 20, num_probes=probes)
            assert_same(got, wholly.search(vectors[:50], 20, num_probes=probes))
        assert live.compact()
        np.testing.assert_array_equal(Index.open(path).codes, wholly.codes)
        reconstructed = live.reconstruct(np.arange(1000, 2000))
    # What they stand for is near them, so that it is codes of these vectors that were put.
    error = np.square(reconstructed - vectors[1000:].numpy()).sum(1).mean()
    assert error < 0.7 * np.square(vectors.numpy()).sum(1).mean()


def fresh_index(layer, index, vectors, changed, metric):
    """Product codes: what the layer builds. Residual ones: those that changed encoded by parts.

    A layer looks for residual codes in the metric of its queries, an index has the plain one.
    """
    from poeem import build_index

    built = build_index(layer, np.arange(len(vectors)), vectors, metric=metric)
    if index.family == "product":
        return built
    contents = built._contents
    by_id = np.argsort(built.ids)
    codes, lists = built.codes[by_id], None if built.lists is None else built.lists[by_id]
    found, found_lists = encode(contents, vectors[changed].numpy())
    codes[changed] = found
    parts = {"codebooks": built.codebooks, "rotation": built.rotation}
    if lists is not None:
        lists[changed] = found_lists
        parts |= {"lists": lists, "centroids": built.centroids}
    return build_index_from_codes(
        codes=codes, ids=np.arange(len(vectors)), metric=metric, family="residual", **parts
    )


def test_a_view_does_not_change(tmp_path):
    model = Model(Shape(num_items=30))
    with LiveIndex.open(model.save(tmp_path / "i.poeem")) as live:
        queries = random_queries(2, model.shape.dim)
        before = live.view()
        found = before.search(queries, 40)
        flags = np.arange(30) % 2 == 0
        some = before.search(queries, 40, allowed=flags)
        model.update(live, 9)
        model.remove(live, 9)
        assert live.compact()
        assert_same(before.search(queries, 40), found)
        assert_same(before.search(queries, 40, allowed=flags), some)
        assert set(some.ids[some.ids >= 0].tolist()) == set(before.ids[flags].tolist())
        assert before.num_items == 30


def test_an_index_whose_items_are_all_removed(tmp_path):
    model = Model(Shape("l2", 5, num_lists=2))
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        model.remove(live, 5)
        assert_holds(live, model)
        assert not live.compact()
        assert pending_changes(path).num_changes == 1
        model.add(live, 3)
        assert_holds(live, model)
        assert live.compact()
        assert_holds(live, model)


def test_replacing_the_whole_index(tmp_path):
    model, other = Model(Shape(num_items=30)), Model(Shape("l2", 40, 5, 300, 3, 4, titles=True))
    path = model.save(tmp_path / "i.poeem")
    live, reader = LiveIndex.open(path), LiveIndex.open(path, read_only=True)
    model.update(live, 9)
    assert_holds(reader, model)
    live.replace(other.fresh())
    other.update(live, 9)
    for one in (live, reader):
        assert one.metric == "l2"
        assert_holds(one, other)
    live.close()
    reader.close()
    with LiveIndex.open(path) as live:
        assert_holds(live, other)


def test_swapping_a_file_with_or_without_changes_beside(tmp_path):
    model, other = Model(Shape(num_items=30)), Model(Shape("l2", 40, 5, 300, 3, 4))
    path = model.save(tmp_path / "i.poeem")
    swap_index(path, model.fresh())
    assert not path.with_name("i.poeem.changes").exists()
    with LiveIndex.open(path) as live:
        model.add(live, 3)
    swap_index(path, other.fresh())
    with LiveIndex.open(path) as live:
        assert_holds(live, other)


def test_an_index_with_changes_beside_is_not_pulled_from_under_them(tmp_path):
    model, other = Model(Shape(num_items=30)), Model(Shape("l2", 40, 5, 300, 3, 4))
    path = model.save(tmp_path / "i.poeem")
    (tmp_path / "link").symlink_to(path)
    with LiveIndex.open(path) as live, LiveIndex.open(path, read_only=True) as reader:
        model.add(live, 3)
        live.compact()  # nothing is pending, and still the changes are of this snapshot
        before = path.read_bytes()
        for name in ("i.poeem", "link"):
            with pytest.raises(SaveError, match=r"i.poeem.changes is for .* poeem.swap_index"):
                other.fresh().save(tmp_path / name)
        with pytest.raises(IndexLockedError):
            swap_index(path, other.fresh())
        assert path.read_bytes() == before
        assert_holds(live, model)
        assert_holds(reader, model)
    swap_index(tmp_path / "link", other.fresh())
    with LiveIndex.open(path) as live:
        assert_holds(live, other)
    path.unlink()
    with pytest.raises(ChangesError, match="changes of an index that is not there"):
        swap_index(path, other.fresh())


def test_a_writer_neither_changes_nor_replaces_what_others_put_there(tmp_path):
    model, other = Model(Shape(num_items=30)), Model(Shape("l2", 40, 5, 300, 3, 4))
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        model.add(live, 3)
        other.fresh().save(tmp_path / "new.poeem")
        os.replace(tmp_path / "new.poeem", path)  # as who copies files to a server does
        put_there = path.read_bytes()
        assert not path.with_name("i.poeem.next").exists()
        for change in (
            live.compact,
            lambda: live.replace(model.fresh()),
            lambda: live.remove(live.ids[:1]),
        ):
            with pytest.raises(ChangesError, match="another file than this writer opened"):
                change()
        assert path.read_bytes() == put_there
        path.unlink()
        with pytest.raises(ChangesError, match="is gone; nothing was changed"):
            live.compact()
        assert not path.with_name("i.poeem.next").exists()
        assert_holds(live, model)  # searches go on


def test_a_file_that_was_touched_or_copied_over_itself_is_the_same(tmp_path):
    model = Model(Shape(num_items=30))
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        model.add(live, 3)
        os.utime(path, ns=(1, 1))
        model.add(live, 2)
        assert live.compact()
        (tmp_path / "copy").write_bytes(path.read_bytes())
        os.replace(tmp_path / "copy", path)
        model.remove(live, 4)
        assert live.compact()
        assert_holds(live, model)
    with pytest.raises(InputError, match="NUL"):
        LiveIndex.open("a\0b")


def test_the_items_of_a_moment_as_an_index(tmp_path):
    model = Model(Shape(num_items=30, num_lists=3, ids="uint32", titles=True))
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        model.add(live, 5)
        model.remove(live, 7)
        index = live.view().to_index()
        model.add(live, 1)
        assert len(index) == 28
        queries = random_queries(5, index.dim)
        index.save(tmp_path / "copy.poeem")
        with LiveIndex.open(tmp_path / "copy.poeem") as copy:  # with no changes of its own
            assert_same(copy.search(queries, 30), index.search(queries, 30))
        live.remove(live.ids)
        with pytest.raises(ConfigError, match="no item is left"):
            live.view().to_index()


def test_what_is_pending(tmp_path):
    model = Model(Shape(num_items=30))
    path = model.save(tmp_path / "i.poeem")
    found = pending_changes(path)
    assert (found.num_changes, found.generation, found.series) == (0, 0, None)
    with LiveIndex.open(path) as live:
        model.add(live, 4)
        model.remove(live, 3)
        found = pending_changes(path)
        assert (found.num_changes, found.num_put, found.num_removed) == (2, 4, 3)
        assert found.age_seconds >= 0
        assert found.changes_bytes > 0
        live.compact()
        assert (pending_changes(path).num_changes, pending_changes(path).generation) == (0, 1)
        model.add(live, 4)
        live.compact()
        assert pending_changes(path).generation == 2


def test_an_index_opened_through_a_link_is_the_same(tmp_path):
    model = Model(Shape(num_items=30))
    path = model.save(tmp_path / "i.poeem")
    link = tmp_path / "link.poeem"
    link.symlink_to(path)
    with LiveIndex.open(link) as live:
        model.add(live, 4)
        live.compact()
        model.add(live, 4)
    assert link.is_symlink()
    with LiveIndex.open(path) as live:
        assert_holds(live, model)


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 5])
def test_no_change_is_written_where_there_is_nothing_to_change(tmp_path, family, num_lists):
    path = tmp_path / "i.poeem"
    shape = Shape(num_lists=num_lists, family=family)
    random_index(shape).save(path)
    with LiveIndex.open(path) as live:
        live.remove([])
        live.remove([10**9], ignore_missing=True)
        lists = np.zeros(0, dtype=np.int32) if num_lists else None
        for put in (live.add, live.update):
            put([], np.zeros((0, shape.dim), dtype=np.float32))
            put([], codes=np.zeros((0, shape.num_subspaces), dtype=np.uint8), lists=lists)
            with pytest.raises(ShapeError):
                put([], np.zeros((0, shape.dim + 1), dtype=np.float32))
            with pytest.raises(ShapeError):
                put([], codes=np.zeros(0, dtype=np.uint8), lists=lists)
        assert not live.compact()
    assert pending_changes(path).num_changes == 0


@pytest.mark.parametrize("num_lists", [0, 5])
def test_the_short_way_into_a_search_finds_the_same(tmp_path, num_lists):
    """Plain arguments go to the engine at once, others are checked first."""
    model = Model(Shape("cosine", 300, 4, 256, 2, num_lists, rotation=True))
    with LiveIndex.open(model.save(tmp_path / "i.poeem")) as live:
        model.update(live, 50)
        model.remove(live, 20)
        for queries in (random_queries(3, 2, 8), random_queries(3, 8), random_queries(8)):
            for probes in (None, 2) if num_lists else (None,):
                plain = live.search(queries, 7, num_probes=probes)
                assert_same(plain, live.search(queries, np.int64(7), num_probes=probes))
        beyond = live.search(random_queries(3, 8), len(model.items) + 3)
        assert (beyond.ids[:, -3:] == -1).all()
        with pytest.raises(ValueError, match="NaN"):
            live.search(np.full(8, np.nan, np.float32), 3)


@pytest.mark.parametrize(
    "removed", [(".writer",), (".writer", ".changes", ".changes-wal", ".changes-shm")]
)
def test_a_reader_sees_what_comes_after_files_were_removed(tmp_path, removed):
    """As messages about damage tell users to do, while readers have the index open."""
    path = tmp_path / "i.poeem"
    codes = np.arange(200).reshape(50, 4) % 16
    codebooks = np.random.default_rng(0).standard_normal((4, 16, 2)).astype(np.float32)
    build_index_from_codes(codes=codes, codebooks=codebooks).save(path)
    with LiveIndex.open(path) as writer:
        writer.add([1000], codes=[[1, 2, 3, 4]])
        reader = LiveIndex.open(path, read_only=True)
        assert reader.num_items == 51
    for ending in removed:
        path.with_name(path.name + ending).unlink(missing_ok=True)
    with LiveIndex.open(path) as writer:
        for item in (2000, 2001):
            writer.add([item], codes=[[1, 2, 3, 4]])
            assert reader.num_items == writer.num_items
            assert np.array_equal(reader.ids, writer.ids)
            query = np.ones((1, 8), dtype=np.float32)
            assert np.array_equal(reader.search(query, 60).ids, writer.search(query, 60).ids)
        writer.remove([2000])
        assert 2000 not in reader.ids
    assert reader.num_items == 51 + (len(removed) == 1)
    reader.close()


def test_a_reader_goes_to_another_process_and_a_writer_does_not(tmp_path):
    path = tmp_path / "i.poeem"
    codebooks = np.random.default_rng(0).standard_normal((4, 16, 2)).astype(np.float32)
    build_index_from_codes(codes=np.zeros((5, 4), int), codebooks=codebooks).save(path)
    with LiveIndex.open(path) as writer:
        writer.add([9], codes=[[1, 2, 3, 4]])
        reader = LiveIndex.open(path, read_only=True)
        again = pickle.loads(pickle.dumps(reader))
        assert again.num_items == 6
        writer.remove([9])
        assert again.num_items == reader.num_items == 5
        with pytest.raises(ConfigError, match="got the writer of an index"):
            pickle.dumps(writer)


def plain_index(path, num_items=5):
    codebooks = np.random.default_rng(0).standard_normal((4, 16, 2)).astype(np.float32)
    codes = np.random.default_rng(1).integers(0, 16, (num_items, 4))
    build_index_from_codes(codes=codes, codebooks=codebooks).save(path)
    return path


def test_closing_waits_for_a_compaction_and_the_next_writer_is_well(tmp_path, monkeypatch):
    path = plain_index(tmp_path / "i.poeem")
    first = LiveIndex.open(path)
    first.add([100], codes=[[1, 2, 3, 4]])
    begun, failures = threading.Event(), []
    write = first._source._write

    def slowly(*args):
        begun.set()
        time.sleep(0.2)
        return write(*args)

    monkeypatch.setattr(first._source, "_write", slowly)

    def compact():
        try:
            first.compact()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=compact)
    thread.start()
    begun.wait()
    first.close()
    with LiveIndex.open(path) as second:
        thread.join()
        assert failures == []
        second.add([200], codes=[[1, 2, 3, 4]])
        assert second.compact()
    assert Index.open(path).num_items == 7


def test_searches_go_on_when_their_reader_is_closed(tmp_path):
    path = plain_index(tmp_path / "i.poeem")
    failures = []
    with LiveIndex.open(path) as writer:
        for turn in range(15):
            reader = LiveIndex.open(path, read_only=True)
            stop = threading.Event()

            def search(reader=reader, stop=stop):
                query = np.ones((1, 8), dtype=np.float32)
                try:
                    while not stop.is_set():
                        reader.search(query, 3)
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=search) for _ in range(3)]
            for thread in threads:
                thread.start()
            for item in range(4):
                writer.update([1000 + 10 * turn + item], codes=[[1, 2, 3, 4]])
            reader.close()
            writer.update([5000 + turn], codes=[[1, 2, 3, 4]])
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []


@pytest.mark.parametrize("dies", [False, True])
def test_a_fork_does_not_keep_the_lock(tmp_path, dies):
    path = plain_index(tmp_path / "i.poeem")
    program = f"""
import os, sys, time
from poeem import LiveIndex
live = LiveIndex.open({str(path)!r})
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)  # else whoever reads both would wait until this process ends
    time.sleep(20)
    os._exit(0)
{"os.write(1, b'%d' % child); os._exit(0)" if dies else "live.close()"}
LiveIndex.open({str(path)!r}).close()
os.kill(child, 9)
print("opened")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    if dies:  # as when it is killed: its child lives on
        with LiveIndex.open(path) as again:
            assert again.num_items == 5
        os.kill(int(done.stdout), 9)
    else:
        assert done.stdout == "opened\n", done.stderr


def test_what_is_no_index_cannot_replace_one(tmp_path):
    with (
        LiveIndex.open(plain_index(tmp_path / "i.poeem")) as live,
        pytest.raises(DtypeError, match=r"got str, wanted a poeem\.Index"),
    ):
        live.replace("x")

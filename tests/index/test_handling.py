"""An index in a program: names of results, copies, pickles, paths, and odd arguments."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from poeem.errors import ChangedIndexError, ConfigError, DtypeError, IdError, ShapeError
from poeem.index import Index, build_index_from_codes
from poeem.index.search_call import MAX_PADDED
from tests.index.helpers import Shape, random_index, random_parts

SHAPE = Shape(num_lists=3, rotation=True, ids="uint32", titles=True, metric="cosine")


@pytest.fixture(scope="module")
def index():
    return random_index(SHAPE)


@pytest.fixture(scope="module")
def queries(index):
    return np.random.default_rng(1).standard_normal((4, index.dim), dtype=np.float32)


def same(one, other, queries):
    assert np.array_equal(one.search(queries, 7).ids, other.search(queries, 7).ids)
    assert np.array_equal(one.search(queries, 7).scores, other.search(queries, 7).scores)
    assert one.titles(one.ids) == other.titles(other.ids)
    assert one.info()["lineage"] == other.info()["lineage"]


def test_titles_have_the_shape_of_the_ids(index, queries):
    ids = index.search(queries, index.num_items + 2).ids
    names = index.titles(ids)
    assert [len(row) for row in names] == [index.num_items + 2] * 4
    assert names == [index.titles(row) for row in ids]
    assert names[0][-2:] == ["", ""]
    assert index.titles([]) == []
    assert index.titles(np.zeros((3, 0), dtype=np.int64)) == [[], [], []]


@pytest.mark.parametrize("ids", [3, [[[3]]]])
def test_titles_of_other_shapes(index, ids):
    with pytest.raises(ShapeError, match=r"wanted \[n\] or \[n, k\]"):
        index.titles(ids)


def test_nothing_to_reconstruct(index):
    vectors = index.reconstruct([])
    assert vectors.shape == (0, index.dim)
    assert vectors.dtype == np.float32


def test_an_index_without_a_file_is_pickled_whole(index, queries):
    again = pickle.loads(pickle.dumps(index))
    assert again.path is None
    same(index, again, queries)


def test_an_index_of_a_file_is_pickled_by_its_path(index, queries, tmp_path, monkeypatch):
    index.save(tmp_path / "x.poeem")
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Index.open("x.poeem"))
    assert len(data) < 500
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert again.path == tmp_path / "x.poeem"
    same(index, again, queries)


def test_another_index_of_the_name_is_not_taken_for_the_pickled_one(index, tmp_path):
    index.save(tmp_path / "x.poeem")
    data = pickle.dumps(Index.open(tmp_path / "x.poeem"))
    random_index(Shape(num_items=7)).save(tmp_path / "x.poeem")
    with pytest.raises(ChangedIndexError, match="another index than the one that was pickled"):
        pickle.loads(data)


def test_an_index_in_memory_is_pickled_whole(index, queries, tmp_path):
    index.save(tmp_path / "x.poeem")
    read = Index.open(tmp_path / "x.poeem", in_memory=True)
    (tmp_path / "x.poeem").unlink()
    same(index, pickle.loads(pickle.dumps(read)), queries)


@pytest.mark.parametrize("verify", ["open", "lazy", "none"])
def test_a_calibrated_index_is_pickled_with_its_table(index, queries, tmp_path, verify):
    index.save(tmp_path / "x.poeem")
    made = Index.open(tmp_path / "x.poeem", verify=verify).calibrated(queries, k=5)
    again = pickle.loads(pickle.dumps(made))
    assert again.calibration == made.calibration
    assert again.calibration is not None
    same(index, again, queries)


def test_copies_are_the_index_itself(index):
    assert copy.copy(index) is index
    assert copy.deepcopy({"index": index})["index"] is index


def test_k_far_beyond_the_catalogue(index, queries):
    found = index.search(queries, 10_000)
    assert found.ids.shape == found.scores.shape == (4, 10_000)
    whole = index.search(queries, index.num_items)
    assert np.array_equal(found.ids[:, : index.num_items], whole.ids)
    assert (found.ids[:, index.num_items :] == -1).all()
    assert np.isneginf(found.scores[:, index.num_items :]).all()
    with pytest.raises(ConfigError, match="k: got 1000000000 for 4 queries"):
        index.search(queries, 10**9)
    assert MAX_PADDED < 10**9


@pytest.mark.parametrize("path", [None, 3])
def test_no_path(index, path):
    with pytest.raises(DtypeError, match=f"path: got {path}, wanted a path"):
        Index.open(path)
    with pytest.raises(DtypeError, match=f"path: got {path}, wanted a path"):
        index.save(path)


@pytest.mark.parametrize("ids", [[1, 2**70], [1, -(2**64)], [1, 2**63], [-1.5, 2**70], (-5, 2**63)])
def test_an_id_beyond_int64_is_named(index, ids):
    with pytest.raises(IdError, match=f"ids: got {ids[1]} in row 1, wanted "):
        index.reconstruct(ids)


def test_saving_through_a_link_writes_what_it_leads_to(index, queries, tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "x.poeem", tmp_path / "x.poeem"
    target.write_bytes(b"old")
    link.symlink_to(target)
    index.save(link)
    assert link.is_symlink()
    same(index, Index.open(target), queries)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["x.poeem"]


def test_titles_from_a_generator():
    parts = random_parts(SHAPE, np.random.default_rng(0))
    titles = parts.pop("titles")
    index = build_index_from_codes(**parts, titles=(title for title in titles))
    assert index.titles(parts["ids"]) == titles
    with pytest.raises(ShapeError, match="titles: got 2, wanted one per item"):
        build_index_from_codes(**parts, titles=iter(titles[:2]))
    with pytest.raises(DtypeError, match="titles: got int"):
        build_index_from_codes(**parts, titles=7)


HELD_TO_THE_END = """
import sys, threading, time
import poeem
index = poeem.Index.open(sys.argv[1])
index.search(index.reconstruct(index.ids[:1]), 1)
threading.Thread(target=lambda kept: time.sleep(60), args=(index,), daemon=True).start()
"""


def test_an_index_held_until_the_interpreter_ends_is_nothing_to_complain_of(index, tmp_path):
    index.save(tmp_path / "items.poeem")
    command = [sys.executable, "-c", HELD_TO_THE_END, str(tmp_path / "items.poeem")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")

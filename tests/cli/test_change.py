"""`poeem update`, `remove` and `compact`; `search` and `inspect` see what is pending."""

from __future__ import annotations

import numpy as np
import pytest

from poeem import Index, LiveIndex, build_index_from_codes
from poeem.index.own_ids import OWN_IDS_LINEAGE
from tests.cli.conftest import Call
from tests.index.helpers import Shape, random_index, random_queries

SHAPE = Shape("ip", 30, 4, 20, 2, 3)


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "items.poeem"
    random_index(SHAPE).save(path)
    return path


def words(text):
    """Lines are broken at the width of the terminal."""
    return " ".join(text.split())


def saved(folder, name, array):
    np.save(folder / name, array)
    return folder / name


def test_update_search_inspect_remove_compact(index, tmp_path):
    vectors = saved(tmp_path, "v.npy", random_queries(4, SHAPE.dim))
    ids = saved(tmp_path, "i.npy", np.array([1, 2, 900, 901]))
    found = Call("update", tmp_path, "--ids", ids, "--vectors", vectors, "--json").json
    assert found["done"] == "2 added, 2 replaced"
    assert (found["num_items"], found["pending"]["num_changes"]) == (32, 1)
    answers = Call("search", tmp_path, "--query-vectors", vectors, "--k", 40, "--json").json
    assert {900, 901} <= {item["id"] for item in answers["answers"][0]["items"]}
    assert Index.open(index).num_items == 30
    looked = Call("inspect", index, "--json").json
    assert (looked["pending"]["num_put"], looked["pending"]["generation"]) == (4, 0)
    assert "1 changes pending" in words(Call("inspect", index).out)
    assert Call("search", index, "--like", 900).code == 0
    assert "1 removed" in words(Call("remove", index, "--item", 900).out)
    assert Call("search", index, "--like", 900).code == 3
    assert "2 changes folded in" in words(Call("compact", index).out)
    assert "nothing to fold" in words(Call("compact", index).out)
    assert sorted(Index.open(index).ids.tolist())[-2:] == [29, 901]
    looked = Call("inspect", index, "--json").json["pending"]
    assert (looked["num_changes"], looked["generation"]) == (0, 1)


def test_items_with_ids_of_their_own(tmp_path):
    path = tmp_path / "items.poeem"
    rng = np.random.default_rng(0)
    build_index_from_codes(
        codes=rng.integers(4, size=(3, 2)),
        codebooks=rng.standard_normal((2, 4, 2)).astype(np.float32),
        titles=["007\tfirst", "x1\tsecond", "x2\tthird"],
        lineage=OWN_IDS_LINEAGE,
    ).save(path)
    vectors = saved(tmp_path, "v.npy", random_queries(2, 4))
    (tmp_path / "ids.txt").write_text("x1\nnew one\n")
    (tmp_path / "titles.txt").write_text("second again\nfourth\n")
    arguments = ("--ids", tmp_path / "ids.txt", "--vectors", vectors)
    refused = Call("update", path, *arguments, "--only-new")
    assert refused.code == 3
    assert "1 are in the index already" in refused.err
    done = Call("update", path, *arguments, "--titles", tmp_path / "titles.txt")
    assert "1 added, 1 replaced; 4 items" in words(done.out)
    with LiveIndex.open(path) as live:
        assert live.titles([1, 3]) == ["x1\tsecond again", "new one\tfourth"]
    assert Call("remove", path, "--item", "007").code == 0
    missing = Call("remove", path, "--item", "7")
    assert missing.code == 3
    assert "no item has the id 7" in missing.err
    assert Call("remove", path, "--item", "7", "--ignore-missing").code == 0
    found = Call("search", path, "--like", "new one", "--json").json["answers"][0]["items"]
    assert {item["item"] for item in found} == {"x1", "x2"}


def test_what_goes_wrong_is_said(index, tmp_path):
    vectors = saved(tmp_path, "v.npy", random_queries(2, SHAPE.dim))
    ids = saved(tmp_path, "i.npy", np.array([1, 2, 3]))
    assert Call("update", index).code == 2
    assert "got 3 for 2 vectors" in Call("update", index, "--ids", ids, "--vectors", vectors).err
    assert Call("remove", index).code == 2
    assert "wanted integers" in Call("remove", index, "--item", "x").err
    assert "not in the index: 99" in Call("remove", index, "--item", 99).err
    with LiveIndex.open(index):
        refused = Call("remove", index, "--item", 1)
    assert refused.code == 4
    assert "another writer" in refused.err
    assert Index.open(index).num_items == 30

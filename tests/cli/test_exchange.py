"""Export and import as a user would: by suffix, by content, or told."""

import numpy as np
import pytest

import poeem
from tests.cli.conftest import Call
from tests.index.helpers import Shape, random_index, random_queries
from tests.interchange.authors_file import authors_bytes, random_file

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")


@pytest.fixture
def index(tmp_path):
    index = random_index(Shape("l2", num_lists=5, rotation=True, ids="uint32", titles=True))
    index.save(tmp_path / "items.poeem")
    return index


@pytest.mark.parametrize("name", ["out.faiss", "out.npz", "out.parquet"])
def test_there_and_back_by_name(name, index, tmp_path):
    out, again = tmp_path / name, tmp_path / "again.poeem"
    told = Call("export", tmp_path / "items.poeem", out, "--json").json
    assert (told["kind"], told["num_items"]) == (name[4:], 50)
    assert told["bytes"] > 0
    told = Call("import", out, again, "--json").json
    assert (told["kind"], told["metric"], told["num_lists"]) == (name[4:], "l2", 5)
    queries = random_queries(5, index.dim)
    found, wanted = poeem.Index.open(again).search(queries, 10), index.search(queries, 10)
    assert np.array_equal(found.ids, wanted.ids)
    assert np.array_equal(found.scores, wanted.scores)


def test_a_run_is_exported_with_its_titles(run, tmp_path):
    call = Call("export", run, "--to", "parquet", tmp_path / "tables")
    assert call.code == 0, call.err
    assert "tables: parquet, 40 items" in call.out
    assert Call("import", tmp_path / "tables", tmp_path / "again.poeem").code == 0
    answer = Call("search", tmp_path / "again.poeem", "--like", "A7", "--k", "3", "--json").json
    wanted = Call("search", run, "--like", "A7", "--k", "3", "--json").json
    assert answer["answers"] == wanted["answers"]


def test_changes_are_exported_too(index, tmp_path):
    file = tmp_path / "items.poeem"
    with poeem.LiveIndex.open(file) as live:
        gone = live.ids[:3]
        live.remove(gone)
        live.add([10_001], random_queries(1, index.dim), titles=["new"])
        assert Call("export", file, tmp_path / "out.npz", "--json").json["num_items"] == 48
    exported = np.load(tmp_path / "out.npz")["ids"]
    assert 10_001 in exported
    assert not np.isin(gone, exported).any()
    assert Call("import", tmp_path / "out.npz", file).code == 0  # in the place of both
    assert set(poeem.Index.open(file).ids) == set(exported)
    with poeem.LiveIndex.open(file) as live:
        assert len(live) == 48
        call = Call("import", tmp_path / "out.npz", file)
    assert call.code == 4
    assert "another writer" in call.err


def test_an_index_is_not_exported_onto_itself(index, tmp_path):
    file = tmp_path / "items.poeem"
    before = file.read_bytes()
    call = Call("export", file, file, "--to", "npz")
    assert call.code == 2
    assert "the index itself" in call.err
    assert file.read_bytes() == before


def test_a_file_of_the_authors(tmp_path):
    arrays = random_file()
    (tmp_path / "old.index").write_bytes(authors_bytes(**arrays))
    call = Call("import", tmp_path / "old.index", tmp_path / "a.poeem", "--metric", "cosine")
    assert call.code == 0, call.err
    assert "from authors, 300 items, metric cosine, 6 lists" in call.out
    rotation = random_index(Shape("ip", 5, 4, 3, 3, rotation=True)).rotation
    np.save(tmp_path / "rotation.npy", rotation)
    rotated = ("--from", "authors", "--rotation", tmp_path / "rotation.npy")
    assert Call("import", tmp_path / "old.index", tmp_path / "b.poeem", *rotated).code == 0
    assert np.array_equal(poeem.Index.open(tmp_path / "b.poeem").rotation, rotation)


def test_what_is_wrong_is_said_in_a_line(index, tmp_path):
    file, out = tmp_path / "items.poeem", tmp_path / "out"
    (tmp_path / "junk").write_bytes(b"nothing that is known")
    np.savez(tmp_path / "a.npz", codes=np.zeros((3, 2), np.uint8))
    random_index(Shape("cosine")).save(tmp_path / "cosine.poeem")
    for arguments, code, message in (
        (("export", file, out), 2, "not clear from the suffix ''; wanted one of .faiss"),
        (("export", file, out, "--to", "csv"), 2, "--to: got 'csv', wanted one of faiss"),
        (("export", file, out, "--to", "npz", "--num-probes", "3"), 2, "npz has no place for"),
        (("export", tmp_path / "nothing", out, "--to", "npz"), 4, "no such file"),
        (("export", tmp_path / "cosine.poeem", tmp_path / "c.faiss"), 4, "no place for them"),
        (("import", file, out), 4, "it is an index of this library already"),
        (("import", tmp_path / "junk", out), 4, "of no known kind; say which with --from faiss"),
        (("import", tmp_path / "junk", out, "--from", "faiss"), 4, "Faiss cannot read it"),
        (("import", tmp_path / "junk", out, "--from", "authors"), 4, "within its 41 first"),
        (("import", tmp_path / "junk", out, "--from", "tar"), 2, "--from: got 'tar'"),
        (("import", tmp_path / "nothing", out), 4, "cannot be read"),
        (("import", tmp_path, out), 4, "a folder without items.parquet"),
        (("import", tmp_path / "a.npz", out), 4, "arrays missing: codebooks"),
        (("import", tmp_path / "a.npz", out, "--rotation", "x.npy"), 2, "--from authors only"),
        (("import", file, out, "--from", "faiss", "--metric", "l2"), 2, "has its own"),
    ):
        call = Call(*arguments)
        assert call.code == code, (arguments, call.err)
        assert message in call.err, (arguments, call.err)
        assert call.err.count("\n") == 1
        assert not out.exists()

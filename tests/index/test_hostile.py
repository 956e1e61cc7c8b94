"""Files of strangers: each kind of damage is refused by an error of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import poeem
from poeem import errors
from poeem.errors import (
    ChangedIndexError,
    ChecksumError,
    ConfigError,
    CorruptIndexError,
    IndexFileError,
    LayoutError,
    NormsError,
    PoeemError,
    TitlesError,
)
from poeem.index import Index
from poeem.index import format as index_format
from tests.hostile.craft import craft, metadata, tensor, write_raw
from tests.hostile.make import BASE, make, make_special
from tests.index.helpers import Shape, random_index, random_queries

FOLDER = Path(__file__).parents[1] / "hostile"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
# What has a word in a large tensor, so that "lazy" opens it.
LATE = {"code", "ids", "id", "norm", "titles", "title", "data"}


def use(index: Index) -> None:
    """Ask an index everything it can be asked."""
    index.search(random_queries(3, index.dim), 10)
    index.search(random_queries(2, 2, index.dim), 50, num_probes=1, allowed=np.arange(100))
    index.reconstruct(index.ids)
    if index.has_titles:
        index.titles(index.ids)
    assert len(index.codes) == index.num_items


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_hostile_file_is_refused_by_its_own_error(name, in_memory):
    error, words = EXPECTED[name]
    with pytest.raises(IndexFileError) as caught:
        Index.open(FOLDER / f"{name}.poeem", in_memory=in_memory)
    assert type(caught.value) is getattr(errors, error)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", EXPECTED)
def test_lazily_it_is_refused_when_it_is_used(name):
    error, words = EXPECTED[name]
    with pytest.raises(IndexFileError, match=f"{name}.poeem") as caught:
        use(Index.open(FOLDER / f"{name}.poeem", verify="lazy"))
    assert type(caught.value) is getattr(errors, error)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.split("-")[0] in LATE])
def test_lazily_it_can_be_opened_and_is_refused_every_time(name):
    index = Index.open(FOLDER / f"{name}.poeem", verify="lazy")
    assert index.info()["num_items"] == 40
    for _ in range(2):
        with pytest.raises(CorruptIndexError):
            use(index)


@pytest.mark.parametrize("name", EXPECTED)
def test_unverified_it_is_refused_or_answers(name):
    """Whatever it answers, nothing is read out of bounds (scripts/fuzz looks at that closely)."""
    try:
        index = Index.open(FOLDER / f"{name}.poeem", verify="none")
    except IndexFileError:
        return
    try:
        use(index)
    except PoeemError:
        return


def test_the_files_are_those_of_the_script(tmp_path):
    assert make(tmp_path) == {name: tuple(value) for name, value in EXPECTED.items()}
    files = {path.stem for path in FOLDER.glob("*.poeem")}
    assert files == set(EXPECTED)
    kinds = {error for error, _ in EXPECTED.values()}
    damages = {one.__name__ for one in CorruptIndexError.__subclasses__()}
    assert damages <= kinds  # each kind has a file


@pytest.mark.parametrize("beyond", [2, 8, 32])
def test_tensors_must_be_aligned(beyond, tmp_path):
    """As FORMAT.md promises: codes to 64 bytes, all others to their elements."""
    path = tmp_path / "i.poeem"
    shape = Shape("ip", 300, 8, 256, 2, 3)
    random_index(shape).save(path)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    write_raw(path, data[8:end].rstrip(b" "), data[end:], beyond=64)
    assert Index.open(path).num_items == 300
    write_raw(path, data[8:end].rstrip(b" "), data[end:], beyond=beyond)
    with pytest.raises(LayoutError, match="not aligned to"):
        Index.open(path)


def test_what_is_no_regular_file(tmp_path):
    for name, words in make_special(tmp_path).items():
        for in_memory in (False, True):
            with pytest.raises(IndexFileError, match=words):
                Index.open(tmp_path / f"{name}.poeem", in_memory=in_memory)


def test_a_link_to_an_index_is_followed(tmp_path):
    random_index(BASE).save(tmp_path / "real.poeem")
    (tmp_path / "link.poeem").symlink_to("real.poeem")
    assert Index.open(tmp_path / "link.poeem").num_items == 40


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    random_index(BASE).save(tmp_path / "x")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(IndexFileError, match="cannot be read"):
        Index.open(tmp_path / "x")


# When it is checked.


@pytest.mark.parametrize("verify", ["always", "", None, 2])
def test_an_unknown_verify(verify, tmp_path):
    random_index(BASE).save(tmp_path / "x")
    with pytest.raises(ConfigError, match="verify"):
        Index.open(tmp_path / "x", verify=verify)


def test_lazily_only_what_is_used_is_checked(tmp_path):
    index, path = random_index(BASE), tmp_path / "x"
    index.save(path)
    craft(path, tensor("title_bytes", slice(None), 0xFF))
    opened = Index.open(path, verify="lazy")
    queries = random_queries(3, index.dim)
    np.testing.assert_array_equal(opened.search(queries).ids, index.search(queries).ids)
    np.testing.assert_array_equal(opened.reconstruct(index.ids), index.reconstruct(index.ids))
    with pytest.raises(TitlesError):
        opened.titles(index.ids)
    before = path.read_bytes()
    with pytest.raises(TitlesError):
        opened.save(tmp_path / "copy")  # damage does not spread
    assert not (tmp_path / "copy").exists()
    assert path.read_bytes() == before


def test_lazily_checksums_are_compared_at_first_use(tmp_path):
    index, path = random_index(BASE), tmp_path / "x"
    index.save(path)
    craft(path, metadata(**{"crc32.norms": "00000000"}), checksums=False)
    opened = Index.open(path, verify="lazy")
    assert opened.titles(index.ids) == index.titles(index.ids)
    for _ in range(2):
        with pytest.raises(ChecksumError, match=r"x: norms: checksum"):
            opened.search(random_queries(1, index.dim))
    assert Index.open(path, verify="none").search(random_queries(1, index.dim)).ids.shape == (1, 10)


def test_a_checksum_of_a_small_tensor_is_compared_even_lazily(tmp_path):
    random_index(BASE).save(tmp_path / "x")
    craft(tmp_path / "x", metadata(**{"crc32.rotation": "00000000"}), checksums=False)
    with pytest.raises(ChecksumError, match="rotation"):
        Index.open(tmp_path / "x", verify="lazy")


def test_norms_of_a_writer_that_adds_up_otherwise(tmp_path):
    index, path = random_index(BASE), tmp_path / "x"
    index.save(path)
    craft(path, lambda _, t: t["norms"].__imul__(np.float32(1 + 3e-6)))
    Index.open(path)
    craft(path, lambda _, t: t["norms"].__imul__(np.float32(1 + 3e-5)))
    with pytest.raises(NormsError):
        Index.open(path)


# A file that changes.


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    random_index(BASE).save(tmp_path / "x")
    validate = index_format.validate

    def slow(*arguments):
        contents = validate(*arguments)
        os.utime(tmp_path / "x", ns=(1, 1))
        return contents

    monkeypatch.setattr(index_format, "validate", slow)
    with pytest.raises(ChangedIndexError, match="changed while"):
        Index.open(tmp_path / "x")


def test_an_index_in_memory_does_not_care_what_becomes_of_its_file(tmp_path):
    index, path = random_index(BASE), tmp_path / "x"
    index.save(path)
    opened = Index.open(path, in_memory=True)
    path.write_bytes(b"")  # in place: a mapping would be gone
    use(opened)
    np.testing.assert_array_equal(opened.codes, index.codes)
    with pytest.raises(ValueError, match="read-only"):
        opened._contents.codes[0] = 0


def test_a_mapped_index_survives_its_replacement_and_its_removal(tmp_path):
    index, path = random_index(BASE), tmp_path / "x"
    index.save(path)
    opened = Index.open(path, verify="lazy")
    random_index(BASE, seed=5).save(path)
    path.unlink()
    use(opened)
    np.testing.assert_array_equal(opened.codes, index.codes)


def test_a_mapped_file_that_is_overwritten_in_place_crashes_nothing(tmp_path):
    """Its size stays, all its bits turn to ones: the worst codes, offsets and ids there are."""
    random_index(BASE).save(tmp_path / "x")
    code = """
import sys
import numpy as np
from poeem import Index, PoeemError
index = Index.open(sys.argv[1])
with open(sys.argv[1], "r+b") as file:
    size = len(file.read())
    file.seek(0)
    file.write(b"\\xff" * size)
queries = np.ones((2, index.dim), np.float32)
for kernel in ("scalar", ""):
    import os
    os.environ["POEEM_KERNEL"] = kernel
    for probes in (1, None):
        try:
            index.search(queries, 40, num_probes=probes)
        except PoeemError:
            pass
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "alive\n", done.stderr


# What it was made by.


def made(tmp_path: Path) -> Path:
    index = poeem.build_index_from_codes(
        codes=[[0], [1]],
        codebooks=np.ones((1, 2, 4), np.float32),
        metric="cosine",
        lineage={"model": "0123456789abcdef", "step": 7},
    )
    index.save(tmp_path / "made.poeem")
    return tmp_path / "made.poeem"


@pytest.mark.parametrize(
    "expect",
    [
        "0123456789abcdef",
        {"model": "0123456789abcdef", "step": 7},
        {"metric": "cosine", "normalisation": "both", "dim": 4},
        {},
    ],
)
def test_an_index_that_was_expected(expect, tmp_path):
    assert Index.open(made(tmp_path), expect=expect).num_items == 2


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("fedcba9876543210", "model is '0123456789abcdef', wanted 'fedcba9876543210'"),
        ({"step": 8}, "step is 7, wanted 8"),
        ({"metric": "ip", "dim": 5}, "metric is 'cosine', wanted 'ip'; dim is 4, wanted 5"),
        ({"normalisation": "none"}, "normalisation is 'both', wanted 'none'"),
        ({"dataset": "gowalla"}, "dataset is not said, wanted 'gowalla'"),
    ],
)
def test_an_index_that_was_not_expected(expect, words, tmp_path):
    with pytest.raises(errors.LineageError, match=words):
        Index.open(made(tmp_path), expect=expect)


def test_expecting_nonsense(tmp_path):
    with pytest.raises(errors.DtypeError, match="expect: got int"):
        Index.open(made(tmp_path), expect=3)

"""The file: what is written is read, other tools read it, and every kind of damage is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import numpy as safetensors_numpy
from safetensors import safe_open

from poeem.errors import (
    CodesError,
    CorruptIndexError,
    IndexFileError,
    IndexVersionError,
    NotAnIndexError,
    SaveError,
    TitlesError,
    TruncatedIndexError,
)
from poeem.index import Index, build_index_from_codes
from poeem.index.header import MAX_HEADER_BYTES, PREFIX
from tests.hostile.craft import Change, craft, entry, metadata, tensor, write_raw
from tests.index.helpers import Shape, random_index, random_queries

FULL = Shape("cosine", 40, 3, 10, 2, 4, True, "uint32", titles=True)
TINY = Shape("cosine", 3, 1, 2, 1, 1, True, "uint32", titles=True)
SHAPES = [
    FULL,
    TINY,
    Shape("l2", 40, 3, 300, 2, 4, ids="int64"),
    Shape("ip", 40, 2, 256, 4),
    Shape("l2", 7, 5, 5, 1, rotation=True),
    Shape("ip", 40, 3, 10, 4, 2, True, "uint32", titles=True, family="residual"),
    Shape("l2", 40, 3, 300, 4, family="residual"),
    Shape("cosine", 40, 5, 16, 7, rotation=True, family="residual"),
]


def saved(shape: Shape, folder: Path) -> tuple[Index, Path]:
    index = random_index(shape)
    path = folder / "items.poeem"
    index.save(path)
    return index, path


def contents_are_equal(a: Index, b: Index) -> None:
    for name in ("ids", "codes", "codebooks", "lists", "rotation", "centroids"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    info_a, info_b = a.info(), b.info()
    del info_a["path"], info_b["path"]
    assert info_a == info_b


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_saved_is_opened(shape, verify, tmp_path):
    index, path = saved(shape, tmp_path)
    opened = Index.open(path, verify=verify)
    assert opened.path == path
    assert opened.family == shape.family
    contents_are_equal(index, opened)
    queries = random_queries(3, shape.dim)
    a, b = index.search(queries), opened.search(queries)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.scores, b.scores)
    if shape.titles:
        assert opened.titles(opened.ids) == index.titles(index.ids)
        assert opened.titles(a.ids[0]) == index.titles(a.ids[0].tolist())


def test_an_opened_index_can_be_saved_again_even_over_itself(tmp_path):
    index, path = saved(FULL, tmp_path)
    before = path.read_bytes()
    Index.open(path).save(path)
    assert path.read_bytes() == before
    contents_are_equal(index, Index.open(path))


def test_lineage_comes_back(tmp_path):
    lineage = {"model": 'a"b', "step": 3, "nested": {"x": [1.5, None, True]}}
    index = build_index_from_codes(
        codes=[[0]], codebooks=np.zeros((1, 2, 1), np.float32), lineage=lineage
    )
    index.save(tmp_path / "x")
    assert Index.open(tmp_path / "x").lineage == lineage


@pytest.mark.parametrize("shape", SHAPES)
def test_safetensors_reads_the_file(shape, tmp_path):
    index, path = saved(shape, tmp_path)
    tensors = safetensors_numpy.load_file(path)
    np.testing.assert_array_equal(tensors["codebooks"], index.codebooks)
    with safe_open(path, framework="numpy") as file:
        said = file.metadata()
    assert said["format"] == "poeem-index"
    assert said["metric"] == shape.metric
    assert said["family"] == shape.family
    assert said["format_version"] == ("2" if shape.family == "residual" else "1")
    for name, array in tensors.items():
        assert said[f"crc32.{name}"] == f"{zlib.crc32(array.tobytes()):08x}"


# Damage of any kind.


def test_every_flipped_byte_is_noticed(tmp_path):
    _, path = saved(TINY, tmp_path)
    whole = path.read_bytes()
    Index.open(path)
    for position in range(len(whole)):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            with pytest.raises(IndexFileError):
                Index.open(path)


@given(position=st.integers(0, 2**20), value=st.integers(0, 255))
def test_any_other_byte_anywhere_is_noticed(position, value, tmp_path_factory):
    _, path = saved(FULL, tmp_path_factory.mktemp("flip"))
    damaged = bytearray(path.read_bytes())
    position %= len(damaged)
    damaged[position] = value if damaged[position] != value else value ^ 0xFF
    path.write_bytes(damaged)
    with pytest.raises(IndexFileError):
        Index.open(path)


def test_every_truncation_is_noticed(tmp_path):
    _, path = saved(TINY, tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        wanted = NotAnIndexError if length <= 8 else TruncatedIndexError
        with pytest.raises(wanted):
            Index.open(path)


def test_bytes_after_the_end_are_noticed(tmp_path):
    _, path = saved(FULL, tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptIndexError, match="bytes, wanted"):
        Index.open(path)


# Files that are something else.


def test_files_that_are_no_index(tmp_path):
    other = tmp_path / "other"
    for data in (b"", b"x", b"hello world, " * 20, b"\0" * 1000, b"PK\3\4" * 50):
        other.write_bytes(data)
        with pytest.raises(NotAnIndexError, match="other"):
            Index.open(other)
    safetensors_numpy.save_file({"codes": np.zeros(3)}, other, metadata={"format": "poeem-index"})
    with pytest.raises(NotAnIndexError):
        Index.open(other)


def test_a_missing_file_a_folder_and_a_pipe(tmp_path):
    with pytest.raises(NotAnIndexError, match="no such file"):
        Index.open(tmp_path / "missing")
    with pytest.raises(NotAnIndexError, match="not a regular file"):
        Index.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAnIndexError, match="not a regular file"):
        Index.open(tmp_path / "pipe")


# Crafted files, whose checksums are right.


def refused(change: Change, match: str, error: type[IndexFileError], folder: Path) -> None:
    _, path = saved(FULL, folder)
    craft(path, lambda table, tensors: None)
    Index.open(path)  # an unchanged file survives the crafting
    craft(path, change)
    with pytest.raises(error, match=match):
        Index.open(path)


def test_a_newer_version_says_so(tmp_path):
    refused(metadata(format_version="4"), "format version 4", IndexVersionError, tmp_path)


def test_product_codes_may_not_say_their_family_in_version_1_and_must_in_version_2(tmp_path):
    index, path = saved(FULL, tmp_path)
    craft(path, lambda t, _: t["__metadata__"].pop("family"))
    contents_are_equal(index, Index.open(path))
    craft(path, metadata(format_version="2"))
    with pytest.raises(CorruptIndexError, match="family is missing"):
        Index.open(path)
    craft(path, metadata(format_version="2", family="product"))
    assert Index.open(path).family == "product"


def test_residual_codes_of_another_shape_are_refused(tmp_path):
    shape = Shape("l2", 40, 3, 10, 4, family="residual")
    changes: list[tuple[Change, str]] = [
        (metadata(family="product"), "dim 4 in 3 subspaces"),
        (metadata(family="product", num_subspaces="2"), "codebooks: got|missing or unknown"),
        (metadata(format_version="1"), "residual is not in version 1"),
        (metadata(dim="5"), "codebooks: got"),
        (metadata(num_subspaces="2"), "codebooks: got|codes: got"),
        (lambda t, _: t.pop("norms"), "hole|missing or unknown: norms|wanted"),
        (tensor("norms", 3, -1), "norms: some are negative"),
        (tensor("codebooks", (2, 9, 3), np.inf), "codebooks: NaN"),
        (tensor("codes", (0, 1, 7), 0xAA), "codes: some are not below 10"),
    ]
    for change, match in changes:
        _, path = saved(shape, tmp_path)
        craft(path, change)
        with pytest.raises(CorruptIndexError, match=match):
            Index.open(path)


def test_another_format_in_the_same_wrapping(tmp_path):
    refused(metadata(format="other"), "format: got 'other'", NotAnIndexError, tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (metadata(format_version="0"), "format_version"),
        (metadata(format_version="x"), "format_version"),
        (metadata(num_items="41"), "wanted"),
        (metadata(num_items="-1"), "num_items"),
        (metadata(num_items="٤٠"), "num_items"),
        (metadata(num_items="9" * 5000), "num_items"),
        (metadata(num_items="0"), "0 items"),
        (metadata(num_items=4), "not a string"),
        (metadata(dim="7"), "subspaces"),
        (metadata(num_subspaces="0"), "subspaces"),
        (metadata(num_codewords="16"), "codebooks: got"),
        (metadata(num_codewords="1"), "codewords"),
        (metadata(num_codewords="65537"), "codewords"),
        (metadata(code_bits="8"), "bits"),
        (metadata(num_lists="0"), "missing or unknown"),
        (metadata(num_lists="1" + "0" * 17), "centroids: got"),
        (metadata(metric="dot"), "metric"),
        (metadata(family="additive"), "family: 'additive' is unknown"),
        (metadata(family="residual"), "residual is not in version 1"),
        (metadata(family="residual", format_version="2"), "codebooks: got"),
        (metadata(metric="ip"), "normalisation"),
        (metadata(metric="ip", normalisation="none"), "missing or unknown: norms"),
        (metadata(lineage="[]"), "not a JSON object"),
        (metadata(lineage="{"), "not JSON"),
        (metadata(lineage="[" * 100_000), "not JSON"),
        (metadata(lineage='{"a":1,"a":2}'), "twice"),
        (metadata(lineage='{"a":NaN}'), "NaN"),
        (lambda t, _: t["__metadata__"].pop("created"), "created is missing"),
        (
            lambda t, _: t.update({"extra": {**t["codes"], "shape": [0], "data_offsets": [0, 0]}}),
            "extra",
        ),
        (lambda t, _: t.update(extra=3), "entry cannot be read"),
        (entry("codes", dtype="F64"), "entry cannot be read"),
        (entry("codes", dtype=["U8"]), "entry cannot be read"),
        (entry("codes", dtype="U16"), "bytes for a tensor"),
        (entry("codes", shape=[512]), r"codes: got U8 \[512\]"),
        (entry("codes", shape=[-256, -2]), "2 offsets"),
        (entry("codes", shape=[256.0, 2]), "2 offsets"),
        (entry("codes", shape=[True, 512]), "2 offsets"),
        (entry("codes", shape=[1, 1, 256, 2]), "up to 3"),
        (entry("codes", shape="ab"), "entry"),
        (entry("codes", shape=[2**63, 2**63]), "bytes for a tensor"),
        (entry("codes", shape=[2**64 + 256, 2]), "bytes for a tensor"),
        (entry("codes", data_offsets=[64, 576]), "overlap|hole"),
        (entry("codes", data_offsets=[10**6, 10**6 + 512]), "hole"),
        (entry("codes", data_offsets=[-512, 0]), "2 offsets"),
        (entry("codes", data_offsets=[0]), "entry cannot be read"),
        (entry("codes", more=1), "2 offsets"),
        (entry("codes", shape=[10**4000] * 1000), "up to 3"),
        (tensor("codes", (0, 0, 5), 0xAF), "codes: some are not below 10"),
        (tensor("codes", (0, 1, 5), 0x10), "codes: some are not below 10"),
        (tensor("codes", (0, 0, 40), 0x01), "not 0 beyond the last item"),
        (tensor("codebooks", (2, 3, 1), np.nan), "codebooks: NaN"),
        (tensor("centroids", (2, 3), np.inf), "centroids: NaN"),
        (tensor("rotation", (2, 3), np.nan), "rotation: NaN"),
        (tensor("rotation", 2, 0), "rotation: R R"),
        (tensor("norms", 3, np.nan), "norms: NaN"),
        (tensor("norms", 3, -1), "norms: some are negative"),
        (tensor("list_offsets", 0, 1), "list_offsets: from 1"),
        (tensor("list_offsets", -1, 41), "list_offsets: from 0 to 41"),
        (tensor("list_offsets", 2, 2**62), "list_offsets: they fall"),
        (tensor("list_offsets", 2, -(2**63)), "list_offsets: they fall"),
        (tensor("title_offsets", -1, 0), "title_offsets"),
        (tensor("title_offsets", 5, 2**40), "title_offsets: they fall"),
        (tensor("ids", slice(None), 3), "ids: they do not rise"),
    ],
)
def test_crafted_files_are_refused(change, match, tmp_path):
    refused(change, match, CorruptIndexError, tmp_path)


def test_an_id_that_says_no_item(tmp_path):
    _, path = saved(Shape(num_lists=2, ids="int64"), tmp_path)
    craft(path, lambda _, t: t["ids"].__setitem__(slice(None), np.arange(50) - 1))
    with pytest.raises(CorruptIndexError, match="-1"):
        Index.open(path)


def test_an_item_of_a_code_that_nobody_checked_is_not_found(tmp_path):
    _, path = saved(Shape(num_codewords=300), tmp_path)
    craft(path, tensor("codes", (0, 1, 4), 300))
    with pytest.raises(CodesError):
        Index.open(path)
    index = Index.open(path, verify="none")
    assert 4 not in index.search(random_queries(3, index.dim), 50).ids


def test_unverified_opening_skips_the_checksums_of_tensors_only(tmp_path):
    _, path = saved(FULL, tmp_path)
    craft(path, metadata(**{"crc32.codes": "00000000"}), checksums=False)
    Index.open(path, verify=False)
    with pytest.raises(CorruptIndexError, match="codes: checksum"):
        Index.open(path)


def test_a_tensor_without_a_checksum(tmp_path):
    _, path = saved(FULL, tmp_path)
    craft(path, lambda t, _: t["__metadata__"].pop("crc32.ids"), checksums=False)
    with pytest.raises(CorruptIndexError, match="ids: checksum"):
        Index.open(path)


def test_titles_that_are_not_utf8(tmp_path):
    _, path = saved(FULL, tmp_path)
    craft(path, tensor("title_bytes", slice(None), 0xFF))
    with pytest.raises(TitlesError, match="UTF-8"):
        Index.open(path)
    for verify in ("lazy", "none"):
        index = Index.open(path, verify=verify)
        with pytest.raises(CorruptIndexError, match="UTF-8"):
            index.titles(index.ids)


@pytest.mark.parametrize(
    "text",
    [
        PREFIX + b'00000000"}',
        PREFIX + b'00000000"}} {}',
        PREFIX + b'00000000"},"a":{},"a":{}}',
        PREFIX + b'00000000"},"__metadata__":{}}',
        PREFIX + b'00000000","x":' + b"[" * 100_000,
        PREFIX + b'00000000","x":\xff"}}',
    ],
)
def test_headers_that_are_not_json(text, tmp_path):
    write_raw(tmp_path / "x", text, b"")
    with pytest.raises(CorruptIndexError, match="header: not JSON"):
        Index.open(tmp_path / "x")


def test_header_lengths_that_make_no_sense(tmp_path):
    _, path = saved(FULL, tmp_path)
    data = path.read_bytes()
    for length, error in [
        (0, CorruptIndexError),
        (50, CorruptIndexError),
        (len(data), TruncatedIndexError),
        (MAX_HEADER_BYTES, TruncatedIndexError),
        (MAX_HEADER_BYTES + 1, CorruptIndexError),
        (2**64 - 1, CorruptIndexError),
    ]:
        path.write_bytes(length.to_bytes(8, "little") + data[8:])
        with pytest.raises(error, match="header"):
            Index.open(path)


# Saving.


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    _, path = saved(FULL, tmp_path)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(SaveError, match="No space left"):
                random_index(TINY).save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]


def test_saving_where_one_cannot(tmp_path):
    index = random_index(TINY)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "x", tmp_path / "folder"):
        with pytest.raises(SaveError):
            index.save(path)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The system itself refuses to write more than 64 KiB to any file."""
    _, path = saved(TINY, tmp_path)
    before = path.read_bytes()
    code = """
import resource, sys
from poeem.errors import SaveError
from tests.index.helpers import Shape, random_index
index = random_index(Shape(num_items=100_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    index.save(sys.argv[1])
except SaveError as error:
    print("refused:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused:")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]

"""FORMAT.md says enough: a reader written from it alone reads the golden files."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from poeem.index.header import parse_header
from tests.golden import reader
from tests.index.test_golden import FILES, NAMES, expected_of, float32

FORMAT = (Path(__file__).parents[2] / "FORMAT.md").read_text()


def test_the_reader_knows_nothing_of_this_library():
    imports = set()
    for node in ast.walk(ast.parse(Path(reader.__file__).read_text())):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports.add(node.module)
    assert imports == {"__future__", "itertools", "json", "zlib", "pathlib", "typing", "numpy"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_it_reads(path):
    file, expected = reader.File(path), expected_of(path)
    assert file.ids().tolist() == expected["ids"]
    assert file.titles() == expected["titles"]
    np.testing.assert_allclose(file.vectors(), expected["vectors"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_it_answers(path):
    file, expected = reader.File(path), expected_of(path)
    for one in expected["searches"]:
        queries = float32(one["queries"])
        found = reader.search(file, queries, expected["k"], one["num_probes"], one["allowed"])
        np.testing.assert_array_equal(found[0], one["ids"])
        np.testing.assert_array_equal(found[1], float32(one["scores"]))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_all_that_is_in_a_file_is_in_the_specification(path):
    header = parse_header(memoryview(path.read_bytes()))
    for name in [*header.tensors, *header.metadata]:
        wanted = "crc32.NAME" if name.startswith("crc32.") else name
        assert f"`{wanted}`" in FORMAT, name

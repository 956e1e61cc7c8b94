"""Files of every format version there has been stay readable, and give the answers they gave."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poeem.index import Index, reference

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*/*.poeem"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]


def expected_of(path: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return expected


def float32(values: Any) -> np.ndarray:
    """Return lists of numbers as float32; None stands for -infinity."""
    array = np.array(values, dtype=object)
    return np.where(array == None, -np.inf, array).astype(np.float32)  # noqa: E711


def test_none_has_gone():
    assert Counter(path.parent.name for path in FILES) == {"v1": 12, "v2": 12, "v3": 12}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_golden_file_holds_what_it_held(path):
    index, expected = Index.open(path), expected_of(path)
    assert index.num_items == expected["num_items"]
    assert index.ids.tolist() == expected["ids"]
    assert index.has_titles == (expected["titles"] is not None)
    if index.has_titles:
        assert index.titles(index.ids) == expected["titles"]
    vectors = index.reconstruct(index.ids)
    np.testing.assert_allclose(vectors, expected["vectors"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_golden_file_answers_as_it_did(path):
    index, expected = Index.open(path), expected_of(path)
    assert len(expected["searches"]) == (5 if index.num_lists else 3)
    for one in expected["searches"]:
        queries, k, scores = float32(one["queries"]), expected["k"], float32(one["scores"])
        found = index.search(queries, k, num_probes=one["num_probes"], allowed=one["allowed"])
        np.testing.assert_array_equal(found.ids, one["ids"])
        np.testing.assert_array_equal(found.scores.view(np.uint32), scores.view(np.uint32))
        mask = None if one["allowed"] is None else np.isin(index.ids, one["allowed"])
        slow = reference.search(index._contents, queries, k, one["num_probes"], mask)
        np.testing.assert_array_equal(slow.ids, found.ids)
        np.testing.assert_array_equal(slow.scores.view(np.uint32), scores.view(np.uint32))

"""`target_recall`: a table measured with sample queries, kept in the file, and how it is used."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeem.errors import ConfigError, CorruptIndexError, NonFiniteError, ShapeError
from poeem.index import Index, build_index, build_index_from_codes, reference
from poeem.index.calibration import probe_steps
from tests.index.helpers import Shape, random_index, random_parts, random_queries
from tests.index.test_builder import NearestCodeword
from tests.index.test_format import craft, metadata
from tests.index.test_search import FAMILIES, METRICS, assert_same

SHAPE = Shape("ip", 300, 3, 20, 2, 12)
SAMPLES = random_queries(20, SHAPE.dim)


def test_steps_are_powers_of_two_and_all_lists():
    assert probe_steps(1) == (1,)
    assert probe_steps(2) == (1, 2)
    assert probe_steps(12) == (1, 2, 4, 8, 12)
    assert probe_steps(16) == (1, 2, 4, 8, 16)


@given(
    metric=st.sampled_from(METRICS),
    num_lists=st.sampled_from([1, 2, 7, 16, 40]),
    num_heads=st.integers(1, 3),
    k=st.integers(1, 200),
    few_codes=st.booleans(),
    family=st.sampled_from(FAMILIES),
    seed=st.integers(0, 2**32 - 1),
)
def test_recalls_are_those_of_the_reference(
    metric, num_lists, num_heads, k, few_codes, family, seed
):
    shape = Shape(
        metric, 120, 3, 20, 2, num_lists, ids="uint32", few_codes=few_codes, family=family
    )
    queries = random_queries(4, num_heads, shape.dim, seed=seed)
    index = random_index(shape, seed).calibrated(queries, k)
    calibration = index.calibration
    contents = index._contents
    best = reference.search(contents, queries, k).ids
    recalls = []
    for num_probes in calibration.num_probes:
        found = reference.search(contents, queries, k, num_probes).ids
        shares = [
            len(set(a) & set(b) - {-1}) / len(set(b) - {-1})
            for a, b in zip(found, best, strict=True)
        ]
        recalls.append(np.mean(shares))
    lowest_from_here = [min(recalls[i:]) for i in range(len(recalls))]
    np.testing.assert_allclose(calibration.recalls, lowest_from_here, rtol=1e-12)
    assert calibration.recalls[-1] == 1
    assert (calibration.k, calibration.num_queries) == (k, 4)


@pytest.mark.parametrize("target", [0.01, 0.5, 0.9, np.float32(0.95), 1, 1.0])
def test_a_target_visits_the_fewest_lists_that_reached_it(target):
    index = random_index(SHAPE).calibrated(SAMPLES, 10)
    calibration = index.calibration
    reached = [recall >= target for recall in calibration.recalls]
    wanted = calibration.num_probes[reached.index(True)]
    got = index.search(SAMPLES, 10, target_recall=target)
    assert_same(got, index.search(SAMPLES, 10, num_probes=wanted))
    best = index.search(SAMPLES, 10).ids
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(best, got.ids, strict=True)])
    assert recall >= target - 1e-12


def test_a_target_holds_for_queries_that_it_was_not_measured_with():
    shape = Shape("ip", 3000, 4, 64, 2, 48)
    sampled, asked = random_queries(400, shape.dim), random_queries(400, shape.dim, seed=9)
    index = random_index(shape).calibrated(sampled, 20)
    for target in (0.5, 0.8, 0.95):
        found = index.search(asked, 20, target_recall=target).ids
        best = index.search(asked, 20).ids
        shares = [np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]
        # Three standard errors of a mean of 400: other queries, the same kind.
        assert np.mean(shares) >= target - 3 * np.std(shares) / 20


def test_the_table_is_not_trivial():
    recalls = random_index(SHAPE).calibrated(SAMPLES, 10).calibration.recalls
    assert recalls[0] < 0.9
    assert len(set(recalls)) >= 4


def test_the_table_rides_in_the_file(tmp_path):
    index = random_index(SHAPE).calibrated(SAMPLES, 10)
    index.save(tmp_path / "x")
    opened = Index.open(tmp_path / "x")
    assert opened.calibration == index.calibration
    assert opened.info()["calibration"] == index.info()["calibration"]
    json.dumps(opened.info())
    again = opened.calibrated(SAMPLES[:3], 5)  # leaves the first as it was
    assert (again.calibration.k, opened.calibration.k) == (5, 10)
    assert again.path is None
    random_index(SHAPE).save(tmp_path / "x")
    assert Index.open(tmp_path / "x").calibration is None


def test_builders_calibrate():
    index = build_index(
        NearestCodeword(lists=True), None, random_queries(50, 4), sample_queries=SAMPLES[:, :4]
    )
    assert index.calibration.num_probes == (1, 2)
    assert index.calibration.k == 100
    parts = random_parts(SHAPE, np.random.default_rng(0))
    assert build_index_from_codes(**parts).calibration is None
    index = build_index_from_codes(**parts, sample_queries=SAMPLES)
    assert index.calibration == random_index(SHAPE).calibrated(SAMPLES).calibration


def test_without_lists_every_search_is_exhaustive():
    index = random_index(Shape()).calibrated(SAMPLES)
    assert index.calibration is None
    assert_same(index.search(SAMPLES, target_recall=0.5), index.search(SAMPLES))


@pytest.mark.parametrize("target", [0, -0.1, 1.01, np.nan, np.inf, "0.9", True, [0.9]])
def test_targets_out_of_range(target):
    index = random_index(SHAPE).calibrated(SAMPLES)
    with pytest.raises(ConfigError, match=r"target_recall: got .* above 0 and at most 1"):
        index.search(SAMPLES, target_recall=target)


def test_without_calibration():
    with pytest.raises(ConfigError, match="target_recall: the index is not calibrated"):
        random_index(SHAPE).search(SAMPLES, target_recall=0.9)


@pytest.mark.parametrize("shape", [SHAPE, Shape()])
def test_not_together_with_num_probes(shape):
    with pytest.raises(ConfigError, match=r"target_recall: got 0\.9 beside num_probes 3"):
        random_index(shape).search(SAMPLES, target_recall=0.9, num_probes=3)


def test_samples_are_checked():
    index = random_index(SHAPE)
    with pytest.raises(ShapeError, match="sample_queries: got width 7"):
        index.calibrated(random_queries(2, 7))
    with pytest.raises(NonFiniteError, match="sample_queries"):
        index.calibrated(np.full((2, 6), np.nan, np.float32))
    with pytest.raises(ConfigError, match="k: got 0"):
        index.calibrated(SAMPLES, 0)


GOOD = {"k": 10, "num_queries": 5, "recalls": [0.1, 0.5, 0.5, 0.9, 1]}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ("{", "not JSON"),
        ("\ud800", "not JSON"),
        ("[]", "not a JSON object"),
        ({}, "not k, num_queries and recalls"),
        ({**GOOD, "more": 1}, "not k, num_queries and recalls"),
        ({**GOOD, "k": 0}, "k and num_queries"),
        ({**GOOD, "k": True}, "k and num_queries"),
        ({**GOOD, "num_queries": 2**31}, "k and num_queries"),
        ({**GOOD, "num_queries": 5.0}, "k and num_queries"),
        ({**GOOD, "recalls": 1}, "wanted 5 recalls"),
        ({**GOOD, "recalls": [0.1, 1]}, "wanted 5 recalls"),
        ({**GOOD, "recalls": [0.1, 0.5, 0.5, "0.9", 1]}, "not from 0 to 1"),
        ({**GOOD, "recalls": [0.1, 0.5, 0.5, 1.1, 1]}, "not from 0 to 1"),
        ({**GOOD, "recalls": [-0.1, 0.5, 0.5, 0.9, 1]}, "not from 0 to 1"),
        ({**GOOD, "recalls": [0.1, 0.5, 0.4, 0.9, 1]}, "fall"),
        ({**GOOD, "recalls": [0.1, 0.5, 0.5, 0.9, 0.99]}, "do not end with 1"),
    ],
)
def test_crafted_tables_are_refused(values, match, tmp_path):
    path = tmp_path / "x"
    random_index(SHAPE).save(path)
    craft(path, metadata(calibration=json.dumps(GOOD)))
    assert Index.open(path).calibration.recalls == (0.1, 0.5, 0.5, 0.9, 1.0)
    text = values if isinstance(values, str) else json.dumps(values)
    craft(path, metadata(calibration=text))
    with pytest.raises(CorruptIndexError, match=match):
        Index.open(path)


def test_a_table_needs_lists(tmp_path):
    random_index(Shape()).save(tmp_path / "x")
    craft(tmp_path / "x", metadata(calibration=json.dumps(GOOD)))
    with pytest.raises(CorruptIndexError, match="an index of lists"):
        Index.open(tmp_path / "x")

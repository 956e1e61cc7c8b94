"""Yesterday's index and today's vectors: the index of a whole build, and what changed."""

import dataclasses

import numpy as np
import pytest

import poeem
from poeem.errors import ConfigError, DtypeError, IdError, NonFiniteError, ShapeError
from poeem.index.refresh import (
    exact_rows,
    load_checksums,
    refresh_index,
    save_checksums,
    vector_checksums,
)
from poeem.types import Encoding, Metric, QuantizerParts
from tests.index.helpers import random_queries


class Layer:
    """A layer of random parts that counts what it encodes."""

    def __init__(self, seed=0, num_lists=5, rotation=True):
        rng = np.random.default_rng(seed)
        matrix = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
        self.rotation = matrix if rotation else None
        self.codebooks = rng.standard_normal((4, 16, 2)).astype(np.float32)
        shape = (num_lists, 8)
        self.centroids = rng.standard_normal(shape).astype(np.float32) if num_lists else None
        self.encoded = 0

    def export_parts(self):
        return QuantizerParts(self.rotation, self.centroids, self.codebooks)

    def encode_numpy(self, vectors):
        self.encoded += len(vectors)
        rest = vectors if self.rotation is None else vectors @ self.rotation.T
        lists = None
        if self.centroids is not None:
            far = ((rest[:, None] - self.centroids) ** 2).sum(-1)
            lists = far.argmin(1).astype(np.int32)
            rest = rest - self.centroids[lists]
        far = ((rest.reshape(-1, 4, 1, 2) - self.codebooks) ** 2).sum(-1)
        return far.argmin(2).astype(np.uint8), lists


def yesterday(layer, num_items=60, metric="l2"):
    ids = np.random.default_rng(1).permutation(1000)[:num_items]
    vectors = random_queries(num_items, 8, seed=2)
    index = poeem.build_index(layer, ids, vectors, metric=metric)
    row_of = {int(item): row for row, item in enumerate(ids)}
    stored = vectors[[row_of[int(item)] for item in index.ids]]
    return ids, vectors, index, vector_checksums(stored)


def assert_same_index(one, other):
    for part in ("ids", "codes", "lists", "codebooks", "centroids", "rotation", "norms"):
        a, b = getattr(one, part), getattr(other, part)
        assert (a is None) == (b is None), part
        assert a is None or np.array_equal(a, b), part
    assert one.metric == other.metric


@pytest.mark.parametrize("num_lists", [0, 5])
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_of_a_frozen_layer_only_new_and_changed_items_are_encoded(num_lists, metric):
    layer = Layer(num_lists=num_lists)
    ids, vectors, index, checksums = yesterday(layer, metric=metric)
    # Today: 5 items gone, 7 changed, 4 new, in another order.
    kept, fresh = ids[5:], np.arange(2000, 2004)
    today = np.concatenate([vectors[5:], random_queries(4, 8, seed=3)])
    today[:7] += 0.5
    today_ids = np.concatenate([kept, fresh])
    order = np.random.default_rng(4).permutation(len(today))
    layer.encoded = 0
    made = refresh_index(index, layer, today_ids[order], today[order], checksums=checksums)
    assert layer.encoded == made.num_encoded == 7 + 4
    assert (made.num_kept, made.num_added, made.num_removed) == (55, 4, 5)
    assert made.same_layer
    assert made.compared
    whole = poeem.build_index(layer, today_ids, today, metric=metric)
    assert_same_index(made.index, whole)
    changed = (layer.encode_numpy(vectors[5:12])[0] != layer.encode_numpy(today[:7])[0]).any(1)
    assert made.codes_changed == pytest.approx(changed.sum() / 55)
    # The checksums are those of the new index, so that tomorrow goes on from them.
    layer.encoded = 0
    again = refresh_index(made.index, layer, today_ids, today, checksums=made.checksums)
    assert layer.encoded == again.num_encoded == 0
    assert (again.codes_changed, again.lists_changed) == (0, 0 if num_lists else None)
    assert_same_index(again.index, whole)


@pytest.mark.parametrize("family", ["product", "residual"])
def test_parts_alone_will_do(family):
    rng = np.random.default_rng(0)
    width = 8 if family == "residual" else 2
    codebooks = rng.standard_normal((4, 16, width)).astype(np.float32)
    parts = QuantizerParts(None, None, codebooks, family)
    ids, vectors, index, checksums = yesterday(parts)
    vectors[3] += 1
    made = refresh_index(index, parts, ids, vectors, checksums=checksums)
    assert (made.same_layer, made.num_encoded) == (True, 1)
    assert_same_index(made.index, poeem.build_index(parts, ids, vectors, metric="l2"))


@pytest.mark.parametrize(
    "change", [{"error_metric": 2}, {"error_metric": None}, {"beam": 4}, {"parallel_weight": 3.0}]
)
def test_where_codes_are_found_in_another_way_all_are_encoded(change):
    rng = np.random.default_rng(0)
    codebooks = rng.standard_normal((4, 16, 8)).astype(np.float32)
    metrics = {seed: np.random.default_rng(seed).standard_normal((8, 8)) for seed in (1, 2)}
    metrics = {seed: metric.astype(np.float32) for seed, metric in metrics.items()}
    before = Encoding(metrics[1])
    if "error_metric" in change:
        change = {"error_metric": metrics.get(change["error_metric"])}
    now = dataclasses.replace(before, **change)
    parts = QuantizerParts(None, None, codebooks, "residual", before)
    ids, vectors, index, checksums = yesterday(parts)
    same = refresh_index(index, parts, ids, vectors, checksums=checksums)
    assert (same.same_layer, same.num_encoded) == (True, 0)
    parts = dataclasses.replace(parts, encoding=now)
    made = refresh_index(index, parts, ids, vectors, checksums=checksums)
    assert (made.same_layer, made.num_encoded) == (False, 60)
    assert made.codes_changed > 0
    assert_same_index(made.index, poeem.build_index(parts, ids, vectors, metric="l2"))


def test_a_single_changed_bit_is_seen():
    vectors = random_queries(500, 8)
    before = vector_checksums(vectors)
    assert len(set(before.tolist())) == 500
    rng = np.random.default_rng(0)
    for row, column, bit in zip(*(rng.integers(0, n, 100) for n in (500, 8, 32)), strict=True):
        changed = vectors.copy()
        changed.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
        if np.isfinite(changed[row, column]):
            assert np.flatnonzero(vector_checksums(changed) != before).tolist() == [row]


def test_without_checksums_all_are_encoded():
    layer = Layer()
    ids, vectors, index, _ = yesterday(layer)
    layer.encoded = 0
    made = refresh_index(index, layer, ids, vectors)
    assert layer.encoded == made.num_encoded == 60
    assert made.same_layer
    assert not made.compared
    assert (made.codes_changed, made.lists_changed) == (0, 0)
    assert_same_index(made.index, index)


@pytest.mark.parametrize(
    "change", ["rotation", "codebooks", "centroids", "no rotation", "no lists", "codeword order"]
)
def test_of_a_layer_that_moved_all_are_encoded(change):
    layer = Layer()
    ids, vectors, index, checksums = yesterday(layer)
    other = Layer(seed=9)
    if change in ("rotation", "codebooks", "centroids"):
        setattr(layer, change, getattr(other, change))
    elif change == "no rotation":
        layer.rotation = None
    elif change == "no lists":
        layer.centroids = None
    else:
        layer.codebooks = layer.codebooks[:, ::-1]
    layer.encoded = 0
    made = refresh_index(index, layer, ids, vectors, checksums=checksums)
    assert layer.encoded == made.num_encoded == 60
    assert not made.same_layer
    assert made.codes_changed > 0
    assert_same_index(made.index, poeem.build_index(layer, ids, vectors, metric="l2"))
    if change == "no lists":
        assert made.lists_changed == 1


def test_the_share_of_items_that_changed_list():
    layer = Layer(rotation=False)
    ids, vectors, index, checksums = yesterday(layer)
    moved = vectors.copy()
    moved[:6] = layer.centroids[(layer.encode_numpy(vectors[:6])[1] + 1) % 5]
    made = refresh_index(index, layer, ids, moved, checksums=checksums)
    assert made.lists_changed == 6 / 60
    assert made.num_encoded == 6


def test_another_catalogue_altogether():
    layer = Layer()
    _, _, index, checksums = yesterday(layer)
    made = refresh_index(index, layer, [5000], random_queries(1, 8), checksums=checksums)
    assert (made.num_kept, made.num_added, made.num_removed) == (0, 1, 60)
    assert (made.codes_changed, made.lists_changed) == (0, None)


def test_checksums_beside_a_file(tmp_path):
    layer = Layer()
    _, _, index, checksums = yesterday(layer)
    path = tmp_path / "items.poeem"
    assert load_checksums(path, index) is None
    save_checksums(path, index, checksums)
    assert np.array_equal(load_checksums(path, index), checksums)
    other = yesterday(Layer(seed=3))[2]
    assert load_checksums(path, other) is None  # of another index, though as long
    beside = tmp_path / "items.poeem.vectors"
    whole = beside.read_bytes()
    for size in range(0, len(whole), 41):
        beside.write_bytes(whole[:size])
        assert load_checksums(path, index) is None


@pytest.mark.parametrize("metric", list(Metric))
def test_exact_rows(metric):
    vectors, queries = random_queries(80, 6, seed=1), random_queries(9, 6, seed=2)
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    if metric is Metric.L2:
        scores = -((queries[:, None].astype(np.float64) - vectors) ** 2).sum(-1)
    if metric is Metric.COSINE:
        scores /= np.linalg.norm(vectors, axis=1)
    wanted = np.argsort(-scores, axis=1)[:, :7]
    assert np.array_equal(exact_rows(vectors, queries, 7, metric), wanted)


def test_bad_input_is_refused_as_by_a_build():
    layer = Layer()
    ids, vectors, index, _ = yesterday(layer)
    with pytest.raises(ShapeError, match="vectors: got shape"):
        refresh_index(index, layer, ids, vectors[0])
    with pytest.raises(ShapeError, match="ids: got shape"):
        refresh_index(index, layer, ids[1:], vectors)
    for size in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="batch_size"):
            refresh_index(index, layer, ids, vectors, batch_size=size)
    vectors[7, 2] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        refresh_index(index, layer, ids, vectors, batch_size=5)
    assert caught.value.rows == [7]


def test_what_is_known_of_yesterday_must_fit():
    layer = Layer()
    ids, vectors, index, known = yesterday(layer)
    rows = np.zeros(len(ids), dtype=np.int64)
    for checksums, error in (
        (known[1:], ShapeError),
        (known.astype(np.int64), DtypeError),
        ([1.5] * len(known), DtypeError),
    ):
        with pytest.raises(error, match="checksums: got"):
            refresh_index(index, layer, ids, vectors, checksums=checksums)
    for before, error in (
        (rows[1:], ShapeError),
        (rows.astype(np.float32), DtypeError),
        (rows - 2, IdError),
        (rows + len(ids), IdError),
    ):
        with pytest.raises(error, match="rows_before: got"):
            refresh_index(index, layer, ids, vectors, checksums=known, rows_before=before)
    refresh_index(index, layer, ids, vectors, checksums=known, rows_before=rows - 1)


def test_an_index_stays_calibrated():
    layer = Layer(num_lists=5)
    ids, vectors, index, checksums = yesterday(layer)
    queries = random_queries(50, 8, seed=5)
    calibrated = index.calibrated(queries, k=10)
    made = refresh_index(calibrated, layer, ids[1:], vectors[1:], checksums=checksums)
    assert made.same_layer
    assert made.index.calibration == calibrated.calibration
    anew = refresh_index(calibrated, layer, ids[1:], vectors[1:], sample_queries=queries[:20])
    assert anew.index.calibration.num_queries == 20
    assert refresh_index(index, layer, ids, vectors).index.calibration is None

    layer.centroids = layer.centroids + 0.25
    with pytest.raises(ConfigError, match="sample_queries: got none, but the index is calibrated"):
        refresh_index(calibrated, layer, ids, vectors)
    other = refresh_index(calibrated, layer, ids, vectors, sample_queries=queries)
    assert other.index.calibration == other.index.calibrated(queries, k=10).calibration
    assert other.index.search(queries, 5, target_recall=0.9).ids.shape == (50, 5)
    without = refresh_index(calibrated, Layer(num_lists=0), ids, vectors)
    assert without.index.calibration is None


def test_a_calibration_goes_to_as_many_lists():
    index = yesterday(Layer(num_lists=5))[2]
    calibrated = index.calibrated(random_queries(50, 8))
    assert index.with_calibration_of(calibrated).calibration == calibrated.calibration
    with pytest.raises(ConfigError, match="got one of 5 lists, wanted 3"):
        yesterday(Layer(num_lists=3))[2].with_calibration_of(calibrated)

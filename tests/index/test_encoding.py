"""An index knows how its codes were found: those of new items are found in the same way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import poeem
from poeem.errors import (
    ConfigError,
    CorruptIndexError,
    DtypeError,
    InputError,
    NonFiniteError,
    ShapeError,
)
from poeem.index.encode import costly_direction, encode
from poeem.quantize import along
from poeem.types import Encoding, QuantizerParts

DIM = 16


def vectors(count, seed):
    """Vectors whose directions are not alike, so that it matters what an error costs."""
    scales = np.arange(1, DIM + 1) ** -0.7
    return (np.random.default_rng(seed).standard_normal((count, DIM)) * scales).astype(np.float32)


def warm_layer(family, num_lists=0, **config):
    layer = poeem.IndexLayer(
        dim=DIM, family=family, num_subspaces=4, num_codewords=32, num_lists=num_lists, **config
    )
    x, queries = (torch.from_numpy(vectors(2000, seed)) for seed in (0, 1))
    layer.warm_start(x, queries=queries.roll(3, dims=1))
    return layer.eval()


LAYERS = {
    "residual": {"family": "residual", "query_power": 1.0, "beam": 4},
    "residual-lists": {"family": "residual", "num_lists": 3, "query_power": 0.5},
    "residual-along": {"family": "residual", "parallel_weight": 3.0, "query_power": 0.5},
    "residual-plain-metric-along": {"family": "residual", "parallel_weight": 3.0, "query_power": 0},
    "product-along": {"family": "product", "parallel_weight": 3.0},
    "product-lists-along": {"family": "product", "num_lists": 3, "parallel_weight": 3.0},
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return warm_layer(**LAYERS[request.param])


def test_new_items_of_a_live_index_get_the_codes_of_the_layer(layer, tmp_path):
    path = tmp_path / "items.poeem"
    poeem.build_index(layer, np.arange(500), vectors(500, 2)).save(path)
    new = vectors(400, 3)
    with poeem.LiveIndex.open(path) as live:
        live.add(np.arange(1000, 1400), new)
        live.compact()
    index = poeem.Index.open(path)
    added = np.argsort(index.ids)[-400:]
    wanted, lists = layer.encode_numpy(new)
    assert (index.codes[added] != wanted).any(axis=1).mean() <= 0.01  # near-ties
    if lists is not None:
        assert (index.lists[added] != lists).mean() <= 0.01
    plain = dataclasses.replace(layer.export_parts(), encoding=Encoding())
    assert (encode(plain, new)[0] != wanted).any(axis=1).mean() > 0.1  # or the test says nothing


def test_it_comes_back_from_files_and_arrays(layer, tmp_path):
    index = poeem.build_index(layer, None, vectors(300, 2))
    index.save(tmp_path / "items.poeem")
    poeem.export_npz(index, tmp_path / "items.npz")
    poeem.export_parquet(index, tmp_path / "items")
    wanted = index.encoding
    assert wanted.beam == layer.config.beam
    assert wanted.parallel_weight == layer.config.parallel_weight
    plain = layer.metric is None or not layer.config.query_power  # every direction alike
    assert (wanted.error_metric is None) == plain
    for again in (
        poeem.Index.open(tmp_path / "items.poeem"),
        poeem.Index.open(tmp_path / "items.poeem", verify="lazy"),
        poeem.import_npz(tmp_path / "items.npz"),
        poeem.import_parquet(tmp_path / "items"),
    ):
        found = again.encoding
        assert (found.beam, found.parallel_weight) == (wanted.beam, wanted.parallel_weight)
        if wanted.error_metric is not None:
            np.testing.assert_array_equal(found.error_metric, wanted.error_metric)
    told = index.info()
    assert told["encoding"]["beam"] == wanted.beam
    assert told["encoding"]["error_metric"] == (wanted.error_metric is not None)
    assert told["format_version"] == (1 if index.family == "product" else 2 if plain else 3)


def test_a_refreshed_index_has_that_of_today(tmp_path):
    layer = warm_layer("residual", query_power=0.5)
    before = poeem.build_index(layer, None, vectors(300, 2))
    today = warm_layer("residual", query_power=1.0, beam=2)
    made = poeem.refresh_index(before, today, None, vectors(310, 2)).index
    np.testing.assert_array_equal(made.encoding.error_metric, today.metric.numpy())
    assert made.encoding.beam == 2


def test_a_layer_that_was_told_of_no_queries_has_the_plain_metric():
    layer = poeem.IndexLayer(dim=DIM, num_subspaces=4, num_codewords=32)
    layer.warm_start(torch.from_numpy(vectors(2000, 0)))
    assert layer.export_parts().encoding.error_metric is None
    assert poeem.build_index(layer.eval(), None, vectors(50, 2)).info()["format_version"] == 2


@pytest.mark.parametrize("with_metric", [False, True])
def test_the_costly_direction_is_that_of_torch(with_metric):
    x = vectors(50, 4)
    x[7] = 0
    metric = np.diag(np.linspace(0.5, 2, DIM)).astype(np.float32) if with_metric else None
    found = costly_direction(x, Encoding(metric, parallel_weight=2.5))
    told = None if metric is None else torch.from_numpy(metric)
    wanted = along.costly_direction(torch.from_numpy(x), 2.5, told)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-6)
    assert costly_direction(x, Encoding(metric)) is None


@pytest.mark.parametrize(
    ("encoding", "family", "error", "words"),
    [
        ({"beam": 3}, "residual", DtypeError, "got dict, wanted a poeem.Encoding"),
        (Encoding(beam=0), "residual", ConfigError, "beam: got 0"),
        (Encoding(beam=257), "residual", ConfigError, "beam: got 257"),
        (Encoding(beam=True), "residual", ConfigError, "beam: got True"),
        (Encoding(parallel_weight=-1.0), "product", ConfigError, "parallel_weight: got -1.0"),
        (Encoding(parallel_weight=np.nan), "product", ConfigError, "parallel_weight: got nan"),
        (Encoding(parallel_weight=10**400), "product", ConfigError, "parallel_weight: got 1000"),
        (Encoding(parallel_weight="1"), "product", ConfigError, "parallel_weight: got '1'"),
        (Encoding(np.eye(4, dtype="f4")), "product", ConfigError, "residual codes only"),
        (Encoding(np.eye(5, dtype="f4")), "residual", ShapeError, "error_metric"),
        (Encoding(np.eye(4, dtype="f4")[:3]), "residual", ShapeError, "got 3 rows, wanted 4"),
        (Encoding(np.zeros((4, 4), "f4")), "residual", InputError, "not invertible"),
        (Encoding(np.full((4, 4), np.nan, "f4")), "residual", NonFiniteError, "error_metric"),
    ],
)
def test_what_cannot_be(encoding, family, error, words):
    width = 4 if family == "residual" else 2
    books = np.random.default_rng(0).standard_normal((2, 8, width)).astype(np.float32)
    parts = QuantizerParts(None, None, books, family, encoding)
    with pytest.raises(error, match=words):
        poeem.build_index(parts, None, np.ones((5, 4), dtype=np.float32))


def test_arrays_that_say_it_wrongly(tmp_path):
    index = poeem.build_index(warm_layer("product"), None, vectors(50, 2))
    poeem.export_npz(index, tmp_path / "items.npz")
    with np.load(tmp_path / "items.npz") as file:
        arrays = dict(file)
    for said in ('{"beams": 3}', "[1]", "{"):
        np.savez(tmp_path / "wrong.npz", **{**arrays, "encoding": np.array(said)})
        with pytest.raises(CorruptIndexError):
            poeem.import_npz(tmp_path / "wrong.npz")

"""The scores of the engine are <q, T(x)> of the layer in training."""

import numpy as np
import pytest
import torch

import poeem


def trained(num_lists, rotation, num_codewords, family="product", dim=32):
    """A layer in the middle of joint training, as it would be exported."""
    generator = torch.Generator().manual_seed(num_lists)
    x = torch.randn(800, dim, generator=generator) * torch.linspace(0.2, 1.5, dim)
    layer = poeem.IndexLayer(
        dim,
        family=family,
        num_subspaces=8,
        num_codewords=num_codewords,
        num_lists=num_lists,
        rotation=rotation,
        pass_through_steps=2,
        num_samples=800,
    )
    adam = torch.optim.Adam(layer.euclidean_parameters(), lr=1e-2)
    givens = [poeem.GivensDescent(layer.rotation_parameters(), lr=1e-2)] if rotation else []
    for _ in range(12):
        out = layer(x)
        if out.codes is not None:
            for optimizer in [adam, *givens]:
                optimizer.zero_grad()
            out.loss.backward()
            for optimizer in [adam, *givens]:
                optimizer.step()
    return layer, x


def exact_scores(metric, queries, vectors):
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return -((queries[:, None] - vectors) ** 2).sum(-1)
    products = queries @ vectors.T
    if metric == "cosine":
        norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
        return products / norms
    return products


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("num_lists", [0, 6])
@pytest.mark.parametrize("rotation", [True, False])
@pytest.mark.parametrize(
    ("num_codewords", "family"),
    [(16, "product"), (256, "product"), (300, "product"), (16, "residual"), (256, "residual")],
)
def test_engine_scores_equal_the_layer_s(
    metric, num_lists, rotation, num_codewords, family, tmp_path
):
    layer, x = trained(num_lists, rotation, num_codewords, family)
    vectors = layer(x).vectors.detach().numpy()  # in training mode: what the loss saw
    ids = np.arange(len(x))[::-1] * 3 + 5
    layer.eval()
    poeem.build_index(layer, ids, x, metric=metric).save(tmp_path / "index.poeem")
    index = poeem.Index.open(tmp_path / "index.poeem")
    queries = np.random.default_rng(0).standard_normal((10, 32)).astype(np.float32)
    found = index.search(queries, k=len(x))
    wanted = exact_scores(metric, queries, vectors)
    row_of = {int(i): row for row, i in enumerate(ids)}
    for q in range(len(queries)):
        rows = [row_of[int(i)] for i in found.ids[q]]
        assert sorted(rows) == list(range(len(x)))
        scale = np.abs(wanted[q]).max()
        assert np.abs(found.scores[q] - wanted[q][rows]).max() <= 1e-5 * scale


@pytest.mark.parametrize("family", ["product", "residual"])
def test_reconstruction_equals_the_layer_s(family, tmp_path):
    layer, x = trained(6, True, 256, family)
    vectors = layer(x).vectors.detach().numpy()
    index = poeem.build_index(layer, np.arange(len(x)), x)
    np.testing.assert_allclose(index.reconstruct(np.arange(len(x))), vectors, atol=1e-5)


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 6])
def test_parts_alone_encode_as_the_layer_does(family, num_lists):
    layer, x = trained(num_lists, True, 256, family)
    layer.eval()
    by_layer = poeem.build_index(layer, None, x)
    by_parts = poeem.build_index(layer.export_parts(), None, x)
    wanted = by_layer.codes[np.argsort(by_layer.ids)]
    found = by_parts.codes[np.argsort(by_parts.ids)]
    assert (found != wanted).any(axis=1).mean() <= 0.01  # near-ties

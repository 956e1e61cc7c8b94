"""The warm start: residuals, rotation, and why it is there at all."""

import pytest
import torch

from poeem.config import LayerConfig
from poeem.errors import ShapeError
from poeem.quantize import coarse, product, residual
from poeem.quantize.along import costly_direction
from poeem.quantize.families import Residual, family_of
from poeem.quantize.layer import IndexLayer
from poeem.quantize.rotation import orthonormality_error
from poeem.quantize.warm_start import query_metric, starting_point

from .test_rotation import random_rotation


def fit(x, **changes):
    settings = {
        "family": "product",
        "num_subspaces": 4,
        "num_codewords": 16,
        "kmeans_iterations": 10,
        "rotation_iterations": 10,
    }
    config = LayerConfig(**(settings | changes))
    generator = torch.Generator().manual_seed(0)
    return starting_point(x, config, family=family_of(config), generator=generator)


def distortion(x, start, family=product):
    rotated = x if start.rotation is None else x @ start.rotation.T
    base = torch.zeros_like(rotated)
    if len(start.centroids):
        base = start.centroids[coarse.assign(rotated, start.centroids)]
    codes = family.assign(rotated - base, start.codebooks)
    return (rotated - base - family.decode(codes, start.codebooks)).square().sum(1).mean().item()


@pytest.fixture(scope="module")
def correlated():
    """Vectors whose variance sits in few directions across the subspaces."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -2, 16)
    return torch.randn(3000, 16, generator=generator) * scales @ random_rotation(16)


def test_codebooks_are_of_the_residuals(correlated):
    shifted = correlated + 50 * torch.randint(0, 2, (3000, 1)).float()
    with_lists = fit(shifted, num_lists=2)
    assert with_lists.codebooks.abs().max() < 10  # clusters 50 apart are the centroids' business
    assert distortion(shifted, with_lists) < 1.5 * distortion(correlated, fit(correlated))


def test_rotation_helps_and_is_orthonormal(correlated):
    turned, plain = fit(correlated), fit(correlated, rotation=False)
    assert plain.rotation is None
    assert orthonormality_error(turned.rotation) < 1e-5
    assert distortion(correlated, turned) < 0.8 * distortion(correlated, plain)


def test_not_worse_than_faiss_opq(correlated):
    faiss = pytest.importorskip("faiss")
    opq = faiss.OPQMatrix(16, 4)
    opq.pq = pq = faiss.ProductQuantizer(16, 4, 4)
    opq.train(correlated.numpy())
    rotated = opq.apply_py(correlated.numpy())
    pq.train(rotated)
    theirs = ((rotated - pq.decode(pq.compute_codes(rotated))) ** 2).sum(1).mean()
    assert distortion(correlated, fit(correlated, rotation_iterations=20)) < 1.03 * theirs


@pytest.mark.parametrize("num_lists", [0, 4])
def test_residual_codes_lose_less_than_product_codes_at_equal_bytes(correlated, num_lists):
    products = fit(correlated, num_lists=num_lists)
    residuals = fit(correlated, num_lists=num_lists, family="residual", beam=8)
    assert residuals.rotation is None
    assert residuals.codebooks.shape == (4, 16, 16)
    lost = distortion(correlated, residuals, Residual(LayerConfig(family="residual", beam=8)))
    assert lost < 0.95 * distortion(correlated, products)


def test_residual_codes_not_worse_than_faiss(correlated):
    faiss = pytest.importorskip("faiss")
    theirs = faiss.ResidualQuantizer(16, 4, 4)
    theirs.train(correlated.numpy())
    decoded = torch.from_numpy(theirs.decode(theirs.compute_codes(correlated.numpy())))
    lost = (correlated - decoded).square().sum(1).mean().item()
    start = fit(correlated, family="residual", kmeans_iterations=25, beam=8)
    codes = residual.assign(correlated, start.codebooks, beam=8)
    ours = (correlated - residual.decode(codes, start.codebooks)).square().sum(1).mean().item()
    assert ours < 1.01 * lost


def test_depends_on_the_seed_alone(correlated):
    first, second = fit(correlated, num_lists=4), fit(correlated, num_lists=4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("num_codewords", "num_lists"), [(16, 0), (4, 16)])
def test_fewer_vectors_than_codewords_or_lists(num_codewords, num_lists):
    with pytest.raises(ShapeError, match="got 15 vectors, wanted at least 16"):
        fit(torch.zeros(15, 16), num_codewords=num_codewords, num_lists=num_lists)


def test_query_metric_is_the_square_root_of_the_moment():
    queries = torch.randn(5000, 6, generator=torch.Generator().manual_seed(0))
    queries *= torch.tensor([0.1, 0.5, 1.0, 1.0, 2.0, 4.0])
    metric = query_metric(queries, 1.0)
    moment = queries.T @ queries / len(queries)
    assert torch.allclose(metric @ metric, moment * 6 / moment.trace(), atol=1e-4)
    assert torch.allclose(query_metric(queries, 0.0), torch.eye(6), atol=1e-5)
    assert torch.isfinite(query_metric(torch.zeros(4, 6), 0.5)).all()


@pytest.mark.parametrize("num_lists", [0, 4])
def test_codes_of_the_queries_metric_lose_less_of_the_scores(correlated, num_lists):
    queries = torch.randn(2000, 16, generator=torch.Generator().manual_seed(1))
    queries *= torch.logspace(-1, 1, 16)

    def errors(power):
        layer = IndexLayer(
            16, family="residual", num_subspaces=4, num_codewords=16, num_lists=num_lists,
            query_power=power,
        )  # fmt: skip
        layer.warm_start(correlated, queries)
        lost = correlated - layer.eval()(correlated).vectors
        return (queries @ lost.T).square().mean().item(), lost.square().sum(1).mean().item()

    plain, weighed = errors(0.0), errors(1.0)
    assert weighed[0] < 0.8 * plain[0]
    assert weighed[1] > plain[1]  # the price


@pytest.mark.parametrize("num_lists", [0, 4])
@pytest.mark.parametrize(
    ("family", "by_queries"), [("residual", False), ("residual", True), ("product", False)]
)
def test_codes_that_cost_more_along_the_vector_err_less_there(
    correlated, num_lists, family, by_queries
):
    queries = torch.randn(500, 16) if by_queries else None
    away = torch.nn.functional.normalize(correlated, dim=1)

    def errors(weight):
        layer = IndexLayer(
            16, family=family, num_subspaces=4, num_codewords=16, num_lists=num_lists, beam=4,
            kmeans_iterations=5, rotation_iterations=5, parallel_weight=weight,
        )  # fmt: skip
        layer.warm_start(correlated, queries)
        layer.refit(correlated)
        lost = correlated - layer.eval()(correlated).vectors
        return (lost * away).sum(1).square().mean().item(), lost.square().sum(1).mean().item()

    plain, costly = errors(0.0), errors(5.0)
    assert costly[0] < 0.6 * plain[0]
    assert plain[1] < costly[1] < 1.5 * plain[1]  # the price
    assert 5 * costly[0] + costly[1] < 5 * plain[0] + plain[1]


def test_costly_directions_are_those_of_the_vectors_whatever_the_metric():
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 7, 5, generator=generator).double()
    metric = query_metric(torch.randn(50, 5, generator=generator), 1.0).double()
    wanted = 3.0 * (e * torch.nn.functional.normalize(x, dim=1)).sum(1).square()
    for m in (None, metric):
        along = costly_direction(x, 3.0, m)
        seen = e if m is None else e @ m.T
        torch.testing.assert_close((seen * along).sum(1).square(), wanted)
    assert costly_direction(x, 0.0, metric) is None

"""k-means and the arg-min under it."""

import pytest
import torch

from poeem.errors import ConfigError, ShapeError
from poeem.index import available_kernels
from poeem.quantize import nearest as nearest_module
from poeem.quantize.kmeans import kmeans
from poeem.quantize.nearest import nearest, nearest_by_torch


def slow_nearest(points, centers):
    return (points.unsqueeze(2) - centers.unsqueeze(1)).square().sum(-1).argmin(-1)


@pytest.mark.parametrize("block", [1, 64, 2**20])
def test_nearest_equals_the_slow_way(block, monkeypatch):
    monkeypatch.setattr(nearest_module, "_CPU_BLOCK", block)
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(3, 50, 4, generator=generator)
    centers = torch.randn(3, 7, 4, generator=generator)
    assert torch.equal(nearest_by_torch(points, centers), slow_nearest(points, centers))
    assert torch.equal(nearest(points, centers), slow_nearest(points, centers))


KERNELS = [str(kernel["name"]) for kernel in available_kernels() if kernel["supported"]]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("num_groups", "n", "num_centers", "width"),
    [(8, 1000, 256, 8), (1, 130, 1000, 64), (3, 1, 1, 1), (2, 65, 3, 5), (5, 700, 17, 2)],
)
def test_every_kernel_finds_what_torch_finds(
    kernel, num_groups, n, num_centers, width, monkeypatch
):
    monkeypatch.setenv("POEEM_KERNEL", kernel)
    generator = torch.Generator().manual_seed(n)
    vectors = torch.randn(n, num_groups, width, generator=generator)
    points = vectors.transpose(0, 1)  # strided, as a layer passes them
    centers = torch.randn(num_groups, num_centers, width, generator=generator)
    found = nearest(points, centers)
    distances = torch.cdist(points.double(), centers.double()).square()
    best = distances.gather(2, nearest_by_torch(points, centers).unsqueeze(2))
    chosen = distances.gather(2, found.unsqueeze(2))
    # The same center, except where two are equally far but for rounding.
    size = best + points.square().sum(-1, keepdim=True)
    assert ((chosen - best).abs() <= 1e-5 * size).all()
    assert (found == nearest_by_torch(points, centers)).double().mean() > 0.998
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert torch.equal(nearest(points, centers), found)
    finally:
        torch.set_num_threads(before)


def test_other_strides_and_types():
    points = torch.randn(40, 6, 2, generator=torch.Generator().manual_seed(0)).permute(2, 1, 0)
    centers = torch.randn(2, 9, 40, generator=torch.Generator().manual_seed(1))
    wanted = slow_nearest(points, centers)
    assert torch.equal(nearest(points, centers), wanted)
    assert torch.equal(nearest(points.double(), centers.double()), wanted)


def test_an_unknown_kernel(monkeypatch):
    monkeypatch.setenv("POEEM_KERNEL", "abacus")
    with pytest.raises(ConfigError, match="abacus"):
        nearest(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))


def test_nearest_takes_the_first_of_equal_centers():
    centers = torch.tensor([[[1.0], [1.0], [-1.0], [-1.0]]])
    assert nearest(torch.tensor([[[2.0], [-2.0]]]), centers).tolist() == [[0, 2]]


def test_kmeans_finds_separate_clusters():
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centers.repeat_interleave(40, 0) + 0.1 * torch.randn(120, 2, generator=generator)
    # Random starts may put two centers in one cluster: 40 tries of it, the best counts.
    best = min(
        (kmeans(points[None], 3, num_iterations=20, generator=generator)[0] for _ in range(40)),
        key=lambda found: torch.cdist(points, found).amin(1).sum().item(),
    )
    assert torch.cdist(centers, best).amin(1).max() < 0.1


def test_kmeans_uses_every_center_even_on_few_distinct_points():
    points = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).repeat(4, 1)[None]
    centers = kmeans(points, 64, num_iterations=30, generator=torch.Generator().manual_seed(1))
    distortion = torch.cdist(points[0], centers[0]).amin(1).square().mean()
    assert distortion < 0.25 * points.var()
    assert torch.isfinite(centers).all()


def test_kmeans_depends_on_the_seed_alone():
    points = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
    runs = [
        kmeans(points, 8, num_iterations=5, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_too_few_points():
    with pytest.raises(ShapeError, match="got 3 rows, wanted at least 4"):
        kmeans(torch.zeros(1, 3, 2), 4, num_iterations=1, generator=torch.Generator())

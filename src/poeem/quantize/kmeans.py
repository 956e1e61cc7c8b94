"""k-means for several groups of points at once: one group per subspace, or a single one."""

from __future__ import annotations

import torch
from torch import Tensor

from poeem.errors import ShapeError
from poeem.quantize.nearest import nearest


@torch.no_grad()
def kmeans(
    points: Tensor,
    num_centers: int,
    *,
    num_iterations: int,
    generator: torch.Generator,
    centers: Tensor | None = None,
) -> Tensor:
    """Run Lloyd's iterations in every group.

    Args:
        points: float [num_groups, n, width].
        num_centers: centers per group, at most n.
        num_iterations: Lloyd iterations.
        generator: source of randomness, on the CPU.
        centers: float [num_groups, num_centers, width] to start from; None = distinct points.

    Returns:
        float [num_groups, num_centers, width].

    Raises:
        ShapeError: fewer points than centers.

    Source: Lloyd, Least squares quantization in PCM, 1982.
    """
    n = points.shape[1]
    if n < num_centers:
        raise ShapeError(f"points: got {n} rows, wanted at least {num_centers}, one per center")
    if centers is None:
        rows = torch.randperm(n, generator=generator)[:num_centers].to(points.device)
        centers = points[:, rows].clone()
    for _ in range(num_iterations):
        assigned = nearest(points, centers)  # [num_groups, n]
        centers, counts = _means(points, assigned, centers)
        _refill_empty(centers, counts, points, generator)
    return centers


def _means(points: Tensor, assigned: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each center's points (the old center where there are none) and counts."""
    num_groups, num_centers, width = centers.shape
    offsets = torch.arange(num_groups, device=points.device).unsqueeze(1) * num_centers
    flat = (assigned + offsets).reshape(-1)  # [num_groups * n]
    sums = points.new_zeros(num_groups * num_centers, width)
    sums.index_add_(0, flat, points.reshape(-1, width))
    counts = torch.bincount(flat, minlength=num_groups * num_centers)
    means = sums / counts.clamp(min=1).unsqueeze(1)
    means = torch.where(counts.unsqueeze(1) > 0, means, centers.reshape(-1, width))
    return means.view_as(centers), counts.view(num_groups, num_centers)


def _refill_empty(
    centers: Tensor, counts: Tensor, points: Tensor, generator: torch.Generator
) -> None:
    """Put each empty center on a random point, in place: splits crowded regions by their share."""
    groups, empty = (counts == 0).nonzero(as_tuple=True)
    if groups.numel():
        rows = torch.randint(points.shape[1], (groups.numel(),), generator=generator)
        centers[groups, empty] = points[groups, rows.to(points.device)]

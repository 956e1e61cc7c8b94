"""Orthonormal matrices: where they start, how far off they are, how rounding is swept up."""

from __future__ import annotations

import torch
from torch import Tensor


def orthonormality_error(rotation: Tensor) -> float:
    """Return max |R R^T - I| of a [dim, dim] matrix, computed in float64."""
    exact = rotation.detach().double()
    identity = torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
    return float((exact @ exact.T - identity).abs().max())


@torch.no_grad()
def newton_schulz(rotation: Tensor) -> Tensor:
    """Return R (3 I - R^T R) / 2: one step towards the nearest orthonormal matrix.

    The error is squared by each step, so one step turns 1e-4 into about 1e-8. Two products of
    [dim, dim] matrices, no decomposition.
    """
    polished: Tensor = 1.5 * rotation - 0.5 * rotation @ (rotation.T @ rotation)
    return polished


@torch.no_grad()
def procrustes(vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the rotation R, [dim, dim], that minimises the sum of |R x_i - y_i|^2.

    Args:
        vectors: float [n, dim], x.
        targets: float [n, dim], y.

    Source: Schoenemann, A generalized solution of the orthogonal Procrustes problem, 1966; as in
        Ge et al., Optimized product quantization, 2013.
    """
    left, _, right = torch.linalg.svd(targets.T.double() @ vectors.double())
    rotation: Tensor = (left @ right).to(vectors.dtype)
    return rotation


@torch.no_grad()
def balanced_rotation(vectors: Tensor, num_subspaces: int) -> Tensor:
    """Return principal axes dealt out so that subspaces carry like products of variance.

    Args:
        vectors: float [n, dim].
        num_subspaces: divides dim.

    Returns:
        float [dim, dim], orthonormal: the start of OPQ's alternation.

    Source: Ge et al., Optimized product quantization, 2013, section 3.2 (eigenvalue allocation).
    """
    centered = (vectors - vectors.mean(0)).double()
    values, axes = torch.linalg.eigh(centered.T @ centered)
    sub_dim = len(values) // num_subspaces
    logs = values.clamp(min=values.max() * 1e-12 + 1e-300).log()
    # Below 0 whoever got one would get the next one too; only their differences count.
    logs = (logs - logs.min().clamp(max=0)).tolist()
    buckets: list[list[int]] = [[] for _ in range(num_subspaces)]
    totals = [0.0] * num_subspaces
    for axis in reversed(range(len(logs))):  # largest variance first
        free = [b for b in range(num_subspaces) if len(buckets[b]) < sub_dim]
        target = min(free, key=totals.__getitem__)
        buckets[target].append(axis)
        totals[target] += logs[axis]
    order = torch.tensor([axis for bucket in buckets for axis in bucket], device=axes.device)
    rotation: Tensor = axes.T[order].to(vectors.dtype)
    return rotation

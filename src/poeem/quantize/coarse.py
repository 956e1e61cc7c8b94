"""The coarse quantizer psi: which inverted list a vector belongs to."""

from __future__ import annotations

import torch
from torch import Tensor

from poeem.quantize.nearest import nearest


def assign(rotated: Tensor, centroids: Tensor) -> Tensor:
    """Return psi(x'), the nearest centroid of each vector.

    Args:
        rotated: float [n, dim], vectors in rotated space.
        centroids: float [num_lists, dim].

    Returns:
        int64 [n], list numbers.

    Source: Zhang et al., arXiv 2105.03933, section 3.1.
    """
    return nearest(rotated.unsqueeze(0), centroids.unsqueeze(0))[0]


def decode(lists: Tensor, centroids: Tensor) -> Tensor:
    """Return v_psi(x'): float [n, dim] for int64 lists [n]; differentiable in `centroids`."""
    return torch.nn.functional.embedding(lists, centroids)

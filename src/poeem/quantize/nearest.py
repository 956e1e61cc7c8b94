"""Nearest centers by squared distance: the arg-min inside every quantizer here."""

from __future__ import annotations

import torch
from torch import Tensor

# Distances held at once: small enough to stay in a core's cache on a CPU, large enough for a GPU.
_CPU_BLOCK = 2**19
_GPU_BLOCK = 2**27


@torch.no_grad()
def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the index of each point's nearest center, ties to the smaller index on a CPU.

    Args:
        points: float [num_groups, n, width]; any strides.
        centers: float [num_groups, num_centers, width]; group g's points go to group g's centers.

    Returns:
        int64 [num_groups, n].
    """
    num_groups, n, _ = points.shape
    num_centers = centers.shape[1]
    block = _CPU_BLOCK if points.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, block // (num_groups * num_centers))
    # argmin |x - c|^2 = argmax <x, c> - |c|^2 / 2
    offsets = centers.square().sum(-1).mul_(-0.5).unsqueeze(1)  # [num_groups, 1, num_centers]
    centers_t = centers.transpose(1, 2)
    if n <= rows:
        return torch.baddbmm(offsets, points, centers_t).max(-1).indices
    found = torch.empty(num_groups, n, dtype=torch.int64, device=points.device)
    for start in range(0, n, rows):
        chunk = points[:, start : start + rows]
        found[:, start : start + rows] = torch.baddbmm(offsets, chunk, centers_t).max(-1).indices
    return found

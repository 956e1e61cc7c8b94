"""Nearest centers by squared distance: the arg-min inside every quantizer here."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from poeem import _native

# Distances held at once: small enough to stay in a core's cache on a CPU, large enough for a GPU.
_CPU_BLOCK = 2**19
_GPU_BLOCK = 2**27


@torch.no_grad()
def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the index of each point's nearest center, ties to the smaller index on a CPU.

    float32 on a CPU goes to the native core, several times faster than `nearest_by_torch`; of
    centers whose distances differ by rounding alone, the two may take different ones.

    Args:
        points: float [num_groups, n, width]; any strides.
        centers: float [num_groups, num_centers, width]; group g's points go to group g's centers.

    Returns:
        int64 [num_groups, n].
    """
    if is_native(points) and is_native(centers) and points.shape[2] > 0:
        found = _native.nearest(
            points.detach().numpy(),
            centers.detach().contiguous().numpy(),
            num_threads=torch.get_num_threads(),
            kernel=os.environ.get(_native.KERNEL_VARIABLE, ""),
        )
        return torch.from_numpy(found).T  # from [n, num_groups]
    return nearest_by_torch(points, centers)


def is_native(tensor: Tensor) -> bool:
    """Say whether the native core can take this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


@torch.no_grad()
def nearest_by_torch(points: Tensor, centers: Tensor) -> Tensor:
    """Do the same for any device and dtype: the slow and obvious twin."""
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

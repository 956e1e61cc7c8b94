"""Errors along a vector cost more: they change the scores of the queries that want it.

Source: Guo et al., Accelerating large-scale inference with anisotropic vector quantization, ICML
    2020, arXiv 1908.10396.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Floats of the small matrices held at once.
_BLOCK = 2**24


@torch.no_grad()
def costly_direction(vectors: Tensor, weight: float, metric: Tensor | None) -> Tensor | None:
    """Return a_i with <metric @ e, a_i>^2 = weight <e, x_i / |x_i|>^2 for every e; None for 0.

    Args:
        vectors: float [n, dim], in rotated space, with their centroids.
        weight: w of |e|^2 + w <e, x / |x|>^2, 0 or more; theorem 3.2 has weights 1 + w and 1.
        metric: float [dim, dim], invertible; None = the identity.

    Returns:
        float [n, dim], or None.
    """
    if not weight:
        return None
    along = torch.nn.functional.normalize(vectors, dim=1) * math.sqrt(weight)
    return along if metric is None else along @ torch.linalg.inv(metric)


def best_move(
    left: Tensor, missed: Tensor, code: Tensor, along: Tensor, num_codewords: int
) -> Tensor:
    """Return by how much the codewords of a codebook should move, all others held.

    For each codeword the d with sum_i (I + a_i a_i^T) d = sum_i (l_i + a_i p_i), over the vectors
    that chose it: where |l_i - d|^2 + (p_i - <a_i, d>)^2 is least. None moves that nothing chose.

    Args:
        left: l, float [n, width], what is left over where the codebook's words are.
        missed: p, float [n], the whole error's product with the costly direction.
        code: int64 [n].
        along: a, float [n, width], that direction where the codebook's words are.

    Returns:
        float [num_codewords, width].
    """
    width = left.shape[1]
    weighed = left + along * missed.unsqueeze(1)
    wanted = left.new_zeros(num_codewords, width).index_add_(0, code, weighed)
    counts = torch.bincount(code, minlength=num_codewords)
    parts = along[code.argsort()].split(counts.tolist())
    together = max(1, _BLOCK // width**2)
    moves = []
    for first in range(0, num_codewords, together):
        some = slice(first, first + together)
        scales = torch.stack([part.T @ part for part in parts[some]])
        scales.diagonal(dim1=1, dim2=2).add_(counts[some].clamp(min=1).unsqueeze(1))
        moves.append(torch.linalg.solve(scales, wanted[some]))
    return torch.cat(moves)

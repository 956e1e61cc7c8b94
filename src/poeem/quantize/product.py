"""The product quantizer phi: one codeword per subspace of the residual."""

from __future__ import annotations

import torch
from torch import Tensor

from poeem.quantize.kmeans import kmeans
from poeem.quantize.nearest import nearest


def split(vectors: Tensor, num_subspaces: int) -> Tensor:
    """View float [n, dim] as float [num_subspaces, n, sub_dim]."""
    return vectors.view(vectors.shape[0], num_subspaces, -1).transpose(0, 1)


def assign(residuals: Tensor, codebooks: Tensor) -> Tensor:
    """Return phi(r), the nearest codeword in every subspace.

    Args:
        residuals: float [n, dim], in rotated space.
        codebooks: float [num_subspaces, num_codewords, sub_dim].

    Returns:
        int64 [n, num_subspaces], codeword numbers.

    Source: Jegou et al., Product quantization for nearest neighbor search, 2011.
    """
    return nearest(split(residuals, codebooks.shape[0]), codebooks).T.contiguous()


def decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return the concatenated codewords: differentiable in `codebooks`.

    Args:
        codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, sub_dim].

    Returns:
        float [n, dim].
    """
    # Same as torch.cat([codebooks[m][codes[:, m]] for m in range(num_subspaces)], dim=1).
    num_subspaces, num_codewords, sub_dim = codebooks.shape
    rows = codes + torch.arange(num_subspaces, device=codes.device) * num_codewords
    table = codebooks.reshape(num_subspaces * num_codewords, sub_dim)
    return torch.nn.functional.embedding(rows, table).flatten(1)


def fit(
    residuals: Tensor,
    num_subspaces: int,
    num_codewords: int,
    *,
    num_iterations: int,
    generator: torch.Generator,
    codebooks: Tensor | None = None,
) -> Tensor:
    """Return k-means of every slice of float [n, dim], from `codebooks` on where they are given.

    Returns:
        float [num_subspaces, num_codewords, sub_dim].
    """
    return kmeans(
        split(residuals, num_subspaces).contiguous(),
        num_codewords,
        num_iterations=num_iterations,
        generator=generator,
        centers=codebooks,
    )

"""The layer's own losses: codewords towards vectors, and vectors towards codewords."""

from __future__ import annotations

from torch import Tensor


def distortion_loss(vectors: Tensor, quantized: Tensor) -> Tensor:
    """Return mean over rows of |sg(x) - T(x)|^2: moves codebooks, centroids and rotation.

    Args:
        vectors: float [n, dim], x.
        quantized: float [n, dim], T(x).

    Source: Zhang et al., arXiv 2105.03933, section 3.2 (distortion term).
    """
    return (vectors.detach() - quantized).square().sum(1).mean()


def commitment_loss(vectors: Tensor, quantized: Tensor) -> Tensor:
    """Return mean over rows of |x - sg(T(x))|^2: moves the towers.

    Source: van den Oord et al., Neural discrete representation learning, 2017, eq. 3, last term.
    """
    return (vectors - quantized.detach()).square().sum(1).mean()

"""Where centroids, codebooks and rotation start: k-means of lists, then OPQ on the residuals."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from poeem.config import LayerConfig
from poeem.errors import ShapeError
from poeem.quads import quad_order
from poeem.quantize import coarse, product
from poeem.quantize.along import costly_direction
from poeem.quantize.families import Family
from poeem.quantize.kmeans import kmeans
from poeem.quantize.rotation import balanced_rotation, procrustes


class StartingPoint(NamedTuple):
    """Parameters of a layer, all in rotated space.

    rotation: float [dim, dim], or None. centroids: float [num_lists, dim]; num_lists may be 0.
    codebooks: float [num_subspaces, num_codewords, sub_dim or dim].
    """

    rotation: Tensor | None
    centroids: Tensor
    codebooks: Tensor


@torch.no_grad()
def starting_point(
    vectors: Tensor,
    config: LayerConfig,
    *,
    family: Family,
    generator: torch.Generator,
    metric: Tensor | None = None,
) -> StartingPoint:
    """Fit centroids to vectors, and codebooks and rotation to what the centroids leave over.

    Args:
        vectors: float [n, dim], a sample of what the layer will see.
        config: sizes, iterations, and whether there is a rotation.
        family: how the codebooks are fitted.
        generator: source of randomness, on the CPU.
        metric: float [dim, dim], invertible; codebooks are fitted to metric @ residual. For
            residual codes only, whose rotation starts as the identity.

    Raises:
        ShapeError: fewer vectors than codewords or lists.

    Source: Zhang et al., arXiv 2105.03933, section 3.3 (warm start); Ge et al., Optimized product
        quantization, 2013, for the alternation.
    """
    wanted = max(config.num_codewords, config.num_lists)
    if len(vectors) < wanted:
        raise ShapeError(
            f"warm start: got {len(vectors)} vectors, wanted at least {wanted}, the larger of "
            "num_codewords and num_lists"
        )
    centroids = vectors.new_zeros(0, vectors.shape[1])
    residuals = vectors
    if config.num_lists:
        centroids = kmeans(
            vectors.unsqueeze(0),
            config.num_lists,
            num_iterations=config.kmeans_iterations,
            generator=generator,
        )[0]
        residuals = vectors - centroids[coarse.assign(vectors, centroids)]
    rotation = codebooks = None
    if config.has_rotation and config.family == "residual":
        rotation = torch.eye(vectors.shape[1]).to(vectors)  # full-width codewords need none
    elif config.has_rotation:
        rotation, codebooks = _fit_rotation(
            residuals,
            config.num_subspaces,
            config.num_codewords,
            config.rotation_iterations,
            generator,
        )
        centroids, residuals = centroids @ rotation.T, residuals @ rotation.T
    rotated = vectors if rotation is None else vectors @ rotation.T
    along = costly_direction(rotated, config.parallel_weight, metric)
    if metric is None:
        codebooks = family.fit(residuals, codebooks, generator, along)
    else:
        weighed = family.fit(residuals @ metric.T, codebooks, generator, along)
        codebooks = weighed @ torch.linalg.inv(metric).T
    return StartingPoint(rotation, centroids, _numbered(codebooks))


def _numbered(codebooks: Tensor) -> Tensor:
    """Return codewords in the order that the engine searches fastest."""
    order = torch.from_numpy(quad_order(codebooks.cpu().numpy())).to(codebooks.device)
    return codebooks.take_along_dim(order[:, :, None], dim=1)


@torch.no_grad()
def query_metric(queries: Tensor, power: float) -> Tensor:
    """Return the map in which distances weigh errors by the directions queries point in.

    The error of a score is <q, x - T(x)>, its mean square (x - T(x))^T S (x - T(x)) with S = mean
    q q^T. That is |S^(1/2) (x - T(x))|^2; a power below 1 keeps more of the plain distance, for the
    vectors still move.

    Args:
        queries: float [m, dim].
        power: p, 0 to 1; the result is S^(p/2), with S scaled to a mean eigenvalue of 1.

    Returns:
        float [dim, dim], symmetric and positive definite.

    Source: the idea is that of Guo et al., Accelerating large-scale inference with anisotropic
        vector quantization, ICML 2020, arXiv 1908.10396, with the queries' own distribution.
    """
    if not power:
        return torch.eye(queries.shape[1], dtype=queries.dtype, device=queries.device)
    moment = queries.double().T @ queries.double() / max(1, len(queries))
    values, axes = torch.linalg.eigh(moment)
    mean = values.mean().clamp(min=torch.finfo(torch.float64).tiny)
    shares = (values / mean).clamp(min=1e-3)  # directions that no query points in still count
    scaled: Tensor = (axes * shares.pow(power / 2)) @ axes.T
    return scaled.to(queries.dtype)


def _fit_rotation(
    residuals: Tensor,
    num_subspaces: int,
    num_codewords: int,
    num_iterations: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Return OPQ's rotation and codebooks: alternate a Lloyd step and a Procrustes fit."""
    rotation, codebooks = balanced_rotation(residuals, num_subspaces), None
    for _ in range(num_iterations):
        rotated = residuals @ rotation.T
        codebooks = kmeans(
            product.split(rotated, num_subspaces).contiguous(),
            num_codewords,
            num_iterations=1 if codebooks is not None else 4,
            generator=generator,
            centers=codebooks,
        )
        rotation = procrustes(
            residuals, product.decode(product.assign(rotated, codebooks), codebooks)
        )
    return rotation, codebooks

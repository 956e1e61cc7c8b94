"""The two families of codes behind one interface: what the layer asks of its codebooks."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from poeem.config import LayerConfig
from poeem.errors import ConfigError
from poeem.quantize import product, residual


class Family(Protocol):
    """How codes stand for a vector; all tensors are in rotated space, after the centroid."""

    def check_dim(self, dim: int) -> None:
        """Raise ConfigError where vectors of this length cannot be coded."""
        ...

    def codebook_shape(self, dim: int) -> tuple[int, int, int]:
        """Return [num_subspaces, num_codewords, width]."""
        ...

    def assign(
        self,
        residuals: Tensor,
        codebooks: Tensor,
        beam: int | None = None,
        along: Tensor | None = None,
    ) -> Tensor:
        """Return codes int64 [n, num_subspaces] of float [n, dim].

        A beam, where codes are looked for by one, may be another than the configured. `along`, here
        and below: float [n, dim], directions in which errors cost more, see `along.py`.
        """
        ...

    def decode(self, codes: Tensor, codebooks: Tensor) -> Tensor:
        """Return float [n, dim], differentiable in `codebooks`."""
        ...

    def decode_some(
        self, codes: Tensor, codebooks: Tensor, share: float, tail: float, seed: int
    ) -> Tensor | None:
        """Return what `decode` does, but shares of them through fewer codewords; None = cannot."""
        ...

    def fit(
        self,
        residuals: Tensor,
        codebooks: Tensor | None,
        generator: torch.Generator,
        along: Tensor | None = None,
    ) -> Tensor:
        """Return codebooks for float [n, dim]."""
        ...

    def refit(
        self, residuals: Tensor, codebooks: Tensor, beam: int, along: Tensor | None = None
    ) -> Tensor:
        """Return codebooks nearer to float [n, dim], from `codebooks` on."""
        ...

    def replacements(self, residuals: Tensor, subspaces: Tensor, codebooks: Tensor) -> Tensor:
        """Return a codeword [n, width] for each residual [n, dim] and its codebook int64 [n]."""
        ...

    def with_all_used(
        self, residuals: Tensor, codes: Tensor, codebooks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return codes and codebooks of which every codeword is used, if vectors are enough."""
        ...


class Product:
    """One codeword per slice of the vector (Jegou et al., 2011)."""

    def __init__(self, config: LayerConfig) -> None:
        self._config = config

    def check_dim(self, dim: int) -> None:
        """Raise ConfigError unless num_subspaces divides dim."""
        num_subspaces = self._config.num_subspaces
        if dim < 1 or dim % num_subspaces:
            raise ConfigError(
                f"dim: got {dim!r}, wanted a positive multiple of num_subspaces ({num_subspaces})"
            )

    def codebook_shape(self, dim: int) -> tuple[int, int, int]:
        """Return [num_subspaces, num_codewords, sub_dim]."""
        config = self._config
        return config.num_subspaces, config.num_codewords, dim // config.num_subspaces

    def assign(
        self,
        residuals: Tensor,
        codebooks: Tensor,
        beam: int | None = None,  # noqa: ARG002 - slices are independent
        along: Tensor | None = None,
    ) -> Tensor:
        """Return the nearest codeword of every slice."""
        return product.assign(residuals, codebooks, along)

    def decode(self, codes: Tensor, codebooks: Tensor) -> Tensor:
        """Return the codewords one after the other."""
        return product.decode(codes, codebooks)

    def decode_some(
        self,
        codes: Tensor,  # noqa: ARG002
        codebooks: Tensor,  # noqa: ARG002
        share: float,  # noqa: ARG002
        tail: float,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Tensor | None:
        """Return None: no slice refines others, so that it could be left out."""
        return None

    def fit(
        self,
        residuals: Tensor,
        codebooks: Tensor | None,
        generator: torch.Generator,
        along: Tensor | None = None,
    ) -> Tensor:
        """Return k-means of every slice, and where `along` is given rounds over all of them."""
        config = self._config
        codebooks = product.fit(
            residuals,
            config.num_subspaces,
            config.num_codewords,
            num_iterations=config.kmeans_iterations,
            generator=generator,
            codebooks=codebooks,
        )
        if along is None:
            return codebooks
        return product.improve(residuals, codebooks, along, rounds=config.refit_rounds)

    def refit(
        self,
        residuals: Tensor,
        codebooks: Tensor,
        beam: int,  # noqa: ARG002
        along: Tensor | None = None,
    ) -> Tensor:
        """Return k-means of every slice, from `codebooks` on, or with `along` rounds only."""
        if along is None:
            return self.fit(residuals, codebooks, torch.Generator())
        return product.improve(residuals, codebooks, along, rounds=self._config.refit_rounds)

    def replacements(self, residuals: Tensor, subspaces: Tensor, codebooks: Tensor) -> Tensor:
        """Return the slices of these residuals."""
        return product.split(residuals, len(codebooks))[subspaces, torch.arange(len(residuals))]

    def with_all_used(
        self, residuals: Tensor, codes: Tensor, codebooks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give unused codewords to the vectors that lose most."""
        return product.with_all_used(residuals, codes, codebooks)


class Residual:
    """Full-width codewords added up (Babenko and Lempitsky, 2014)."""

    def __init__(self, config: LayerConfig) -> None:
        self._config = config

    def check_dim(self, dim: int) -> None:
        """Raise ConfigError unless dim is positive."""
        if dim < 1:
            raise ConfigError(f"dim: got {dim!r}, wanted a positive integer")

    def codebook_shape(self, dim: int) -> tuple[int, int, int]:
        """Return [num_subspaces, num_codewords, dim]."""
        return self._config.num_subspaces, self._config.num_codewords, dim

    def assign(
        self,
        residuals: Tensor,
        codebooks: Tensor,
        beam: int | None = None,
        along: Tensor | None = None,
    ) -> Tensor:
        """Return the codes that a beam search finds."""
        return residual.assign(
            residuals, codebooks, beam=self._config.beam if beam is None else beam, along=along
        )

    def decode(self, codes: Tensor, codebooks: Tensor) -> Tensor:
        """Return the sum of the codewords."""
        return residual.decode(codes, codebooks)

    def decode_some(
        self, codes: Tensor, codebooks: Tensor, share: float, tail: float, seed: int
    ) -> Tensor | None:
        """Return sums, shares of them of the first codewords only; see `drawn_depths`."""
        generator = torch.Generator().manual_seed(seed)
        num_subspaces, num_codewords, _ = codebooks.shape
        depths = residual.drawn_depths(
            len(codes), num_subspaces, num_codewords, share, generator, tail
        )
        return residual.decode_first(codes, codebooks, depths.to(codes.device))

    def fit(
        self,
        residuals: Tensor,
        codebooks: Tensor | None,  # noqa: ARG002 - always from scratch
        generator: torch.Generator,
        along: Tensor | None = None,
    ) -> Tensor:
        """Return k-means of what each codebook leaves over, then rounds over all of them."""
        config = self._config
        return residual.fit(
            residuals,
            config.num_subspaces,
            config.num_codewords,
            kmeans_iterations=config.kmeans_iterations,
            rounds=config.refit_rounds,
            beam=config.beam,
            generator=generator,
            along=along,
        )

    def refit(
        self, residuals: Tensor, codebooks: Tensor, beam: int, along: Tensor | None = None
    ) -> Tensor:
        """Return codebooks after rounds over all of them."""
        rounds = self._config.refit_rounds
        return residual.improve(residuals, codebooks, rounds=rounds, beam=beam, along=along)

    def replacements(self, residuals: Tensor, subspaces: Tensor, codebooks: Tensor) -> Tensor:
        """Return what the codebooks before each one leave over of these residuals."""
        codes = residual.assign(residuals, codebooks, beam=1)
        left = residuals
        found = residuals.clone()
        for m, book in enumerate(codebooks):
            here = subspaces == m
            found[here] = left[here]
            left = left - book[codes[:, m]]
        return found

    def with_all_used(
        self, residuals: Tensor, codes: Tensor, codebooks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give unused codewords to the vectors that lose most."""
        return residual.with_all_used(residuals, codes, codebooks)


def family_of(config: LayerConfig) -> Family:
    """Return the family that the configuration names."""
    return Residual(config) if config.family == "residual" else Product(config)

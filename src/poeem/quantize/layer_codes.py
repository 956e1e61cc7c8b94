"""From vectors to codes and back: T(x) = R^T rho(psi(R x), phi(R x - v_psi(R x)))."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from poeem.errors import ShapeError
from poeem.quantize import coarse
from poeem.quantize.along import costly_direction
from poeem.quantize.checks import check_numbers
from poeem.quantize.layer_state import LayerState, in_full_precision
from poeem.quantize.precision import full_precision
from poeem.types import Array, Encoding, FloatArray, QuantizerParts


class LayerCodes(LayerState):
    """The part of an `IndexLayer` that its index has too: psi, phi and rho.

    Source: Zhang et al., arXiv 2105.03933, eq. 1-5.
    """

    @torch.no_grad()
    def encode(self, vectors: Tensor, *, beam: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return codes int64 [n, num_subspaces] and lists int64 [n] (None without lists).

        Args:
            vectors: [n, dim].
            beam: residual codes: width of the search for codes, 1 to 256; None = the configured.

        Raises:
            NotWarmError: before the warm start. ShapeError, DtypeError, NonFiniteError,
                ConfigError: input that cannot be used.
        """
        self._require_warm("codes")
        x, beam = self._checked(vectors), self._checked_beam(beam)
        with full_precision(x.device):
            return self._assign(x, beam)

    @torch.no_grad()
    def decode(self, codes: Tensor, lists: Tensor | None = None) -> Tensor:
        """Return T(x), in the space of the vectors, from what `encode` returned.

        Args:
            codes: integers [n, num_subspaces], each below num_codewords.
            lists: integers [n], each below num_lists; with lists they must be there, without not.

        Returns:
            float [n, dim].

        Raises:
            NotWarmError: before the warm start. ShapeError, DtypeError, InputError.
        """
        self._require_decodable(lists)
        check_numbers("codes", codes, (None, self.num_subspaces), self.num_codewords)
        if lists is not None:
            check_numbers("lists", lists, (len(codes),), self.num_lists)
        with full_precision(codes.device):
            return self._decode(codes.long(), None if lists is None else lists.long())

    def _require_decodable(self, lists: Tensor | None) -> None:
        self._require_warm("decoding")
        if (lists is not None) != bool(self.num_lists):
            given = "none" if lists is None else "some"
            raise ShapeError(
                f"lists: got {given}, wanted them iff num_lists ({self.num_lists}) > 0"
            )

    @in_full_precision
    def lookup(self, codes: Tensor, lists: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return T(x) of known codes, with the exact gradient to all parts.

        Args:
            codes: int64 [n, num_subspaces]. lists: int64 [n], or None without lists.

        Returns:
            float [n, dim], and the centroid of each list [n, dim] or None without lists; both in
            the space of the vectors. For training with codes that stay (Zhan et al., Jointly
            optimizing query encoder and product quantization, CIKM 2021, arXiv 2108.00644).

        Raises:
            NotWarmError: before the warm start. ShapeError: lists where there are none, or none.
        """
        self._require_decodable(lists)
        near = None if lists is None else self._rotate_back(coarse.decode(lists, self.centroids))
        return self._decode(codes, lists), near

    @in_full_precision
    def list_vectors(self) -> Tensor:
        """Return the centroids in the space of the vectors, float [num_lists, dim]."""
        return self._rotate_back(self.centroids)

    def export_parts(self) -> QuantizerParts:
        """Return rotation, centroids and codebooks as float32 NumPy arrays.

        Raises:
            NotWarmError: before the warm start.
        """
        self._require_warm("the index's parts")

        metric = self.metric
        if metric is not None and torch.equal(metric, torch.eye(self.dim).to(metric)):
            metric = None  # nobody said what is asked for

        def array(parameter: Tensor) -> FloatArray:
            exported: FloatArray = parameter.detach().float().cpu().numpy().copy()
            return exported

        return QuantizerParts(
            rotation=None if self.rotation is None else array(self.rotation),
            centroids=array(self.centroids) if self.num_lists else None,
            codebooks=array(self.codebooks),
            family=self.config.family,
            encoding=Encoding(
                None if metric is None else array(metric),
                float(self.config.parallel_weight),
                self.config.beam,
            ),
        )

    def encode_numpy(
        self, vectors: FloatArray, *, beam: int | None = None
    ) -> tuple[Array, Array | None]:
        """Encode float32 [n, dim]: codes uint8|uint16 [n, num_subspaces], lists int32 [n]."""
        if isinstance(vectors, np.ndarray) and not vectors.flags.writeable:  # torch would warn
            vectors = vectors.copy()
        given = torch.as_tensor(vectors, device=self.codebooks.device)
        codes, lists = self.encode(given, beam=beam)
        dtype = "uint8" if self.num_codewords <= 256 else "uint16"
        packed: Array = codes.cpu().numpy().astype(dtype)
        return packed, None if lists is None else lists.cpu().numpy().astype("int32")

    def _rotate(self, x: Tensor) -> Tensor:
        return x if self.rotation is None else x @ self.rotation.T

    def _residuals(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return Rx - v_psi(Rx) and psi, or Rx and None without lists."""
        rotated = self._rotate(x)
        if not self.num_lists:
            return rotated, None
        lists = coarse.assign(rotated, self.centroids)
        return rotated - self.centroids[lists], lists

    @torch.no_grad()
    def _assign(self, x: Tensor, beam: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return phi and psi of x."""
        residuals, lists = self._residuals(x)
        if self.metric is None:
            return self.family.assign(residuals, self.codebooks, beam, self._costly(x)), lists
        weighed = self.codebooks @ self.metric.T
        codes = self.family.assign(residuals @ self.metric.T, weighed, beam, self._costly(x))
        return codes, lists

    def _costly(self, x: Tensor) -> Tensor | None:
        if not self.config.parallel_weight:
            return None  # before the rotation, which every step would pay for
        return costly_direction(self._rotate(x), self.config.parallel_weight, self.metric)

    def _decode(self, codes: Tensor, lists: Tensor | None) -> Tensor:
        """Return R^T rho(lists, codes), differentiable in rotation, centroids and codebooks."""
        base = None if lists is None else coarse.decode(lists, self.centroids)
        return self._rotate_back(self._add(base, self.family.decode(codes, self.codebooks)))

    @staticmethod
    def _add(base: Tensor | None, words: Tensor) -> Tensor:
        return words if base is None else words + base

    def _rotate_back(self, rotated: Tensor) -> Tensor:
        return rotated if self.rotation is None else rotated @ self.rotation

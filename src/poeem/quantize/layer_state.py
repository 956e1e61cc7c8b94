"""What an index layer is made of before it does anything: parameters, phase, checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from enum import IntEnum
from numbers import Integral
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

from poeem.config import LayerConfig, build
from poeem.errors import CheckpointError, ConfigError, DtypeError, InputError, NotWarmError
from poeem.quantize import ranks
from poeem.quantize.checks import check_vectors
from poeem.quantize.families import family_of
from poeem.quantize.precision import full_precision

L = TypeVar("L", bound="LayerState")
P = ParamSpec("P")
T = TypeVar("T")

_STEPS_BETWEEN_QUESTIONS = 16
# As far as an index's rotation may be off (FORMAT.md).
_ROTATION_TOLERANCE = 1e-3


class Phase(IntEnum):
    """What the layer does with vectors in training."""

    PASS_THROUGH = 0  # T is the identity
    COLLECT = 1  # the same, and vectors are kept for the warm start
    JOINT = 2  # T quantizes


def in_full_precision(
    method: Callable[Concatenate[L, P], T],
) -> Callable[Concatenate[L, P], T]:
    """Let a method of a layer compute in the layer's precision, whatever autocast is around."""

    @functools.wraps(method)
    def exact(layer: L, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with full_precision(layer.device):
            return method(layer, *args, **kwargs)

    return exact


class LayerState(nn.Module):
    """The state of an `IndexLayer`: made, checked, moved between devices, saved and loaded.

    Args:
        dim: length of a vector.
        settings: those of `LayerConfig`.
    """

    def __init__(self, dim: int, **settings: Any) -> None:
        super().__init__()
        config = build(LayerConfig, settings)
        try:
            dim = operator.index(dim)  # NumPy's integers too
        except TypeError:
            raise ConfigError(f"dim: got {dim!r}, wanted an integer") from None
        self.family = family_of(config)
        self.family.check_dim(dim)
        if config.num_samples < max(config.num_codewords, config.num_lists):
            raise ConfigError(
                f"num_samples: got {config.num_samples}, wanted at least "
                f"{max(config.num_codewords, config.num_lists)}, the larger of num_codewords and "
                "num_lists"
            )
        self.dim = dim
        self.config = config
        self.num_subspaces = config.num_subspaces
        self.num_codewords = config.num_codewords
        self.num_lists = config.num_lists
        self.quantizer_dropout = config.quantizer_dropout or 0.0
        self.tail_dropout = config.tail_dropout or 0.0
        self.phase = Phase.PASS_THROUGH
        self.num_steps = 0  # forward calls in training mode
        self._num_windowed = 0  # vectors counted in codeword_counts
        self._samples: list[Tensor] = []
        shape = self.family.codebook_shape(dim)
        exact = torch.float32  # whatever torch's default is at the moment
        eye = torch.eye(dim, dtype=exact)
        self.rotation = nn.Parameter(eye.clone()) if config.has_rotation else None
        self.centroids = nn.Parameter(torch.zeros(self.num_lists, dim, dtype=exact))
        self.codebooks = nn.Parameter(torch.zeros(shape, dtype=exact))
        self.metric: Tensor | None  # [dim, dim], codes are nearest in metric @ x'
        self.register_buffer("metric", eye if config.family == "residual" else None)
        self.codeword_counts: Tensor  # int64 [num_subspaces, num_codewords], of this window
        self.list_counts: Tensor  # int64 [num_lists]
        self.register_buffer("codeword_counts", torch.zeros(shape[:2], dtype=torch.int64))
        self.register_buffer("list_counts", torch.zeros(self.num_lists, dtype=torch.int64))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.codebooks.device

    def make_room_for_lists(self, num_lists: int) -> None:
        """Make centroids and counts for so many lists, all 0, in place of those that are here."""
        self.num_lists = num_lists
        num_samples = max(self.config.num_samples, num_lists)  # as many as a warm start needs
        self.config = dataclasses.replace(self.config, num_lists=num_lists, num_samples=num_samples)
        centroids = self.codebooks.detach().new_zeros(num_lists, self.dim)
        self.centroids = nn.Parameter(centroids, requires_grad=self.codebooks.requires_grad)
        self.list_counts = self.list_counts.new_zeros(num_lists)

    def extra_repr(self) -> str:
        """Show sizes and phase in `print(layer)`."""
        return (
            f"dim={self.dim}, family={self.config.family}, num_subspaces={self.num_subspaces}, "
            f"num_codewords={self.num_codewords}, num_lists={self.num_lists}, "
            f"rotation={self.rotation is not None}, phase={self.phase.name}"
        )

    def _checked(self, vectors: Tensor) -> Tensor:
        """Return vectors in the layer's precision, or raise before anything has changed."""
        check_vectors("vectors", vectors, self.dim)
        if vectors.dtype == torch.float64 and self.codebooks.dtype != torch.float64:
            raise DtypeError(
                "vectors: got float64, wanted float32, float16 or bfloat16 (or call layer.double())"
            )
        return vectors.to(self.codebooks.dtype)

    def _checked_beam(self, beam: Any) -> int:
        """Return the beam asked for, or the configured one for None."""
        if beam is None:
            return self.config.beam
        number = isinstance(beam, Integral) and not isinstance(beam, bool)
        if not number or not 1 <= beam <= 256:
            raise ConfigError(f"beam: got {beam!r}, wanted an integer, 1 to 256")
        return int(beam)

    def _require_warm(self, what: str) -> None:
        if self.phase is not Phase.JOINT:
            raise NotWarmError(
                f"{what} asked for in phase {self.phase.name}: train past the warm start, or call "
                "layer.warm_start(vectors) with a sample of vectors first"
            )

    def _count(self, codes: Tensor, lists: Tensor | None) -> None:
        """Count what was chosen, by all ranks: buffers are rank 0's for all of them."""
        alone = ranks.num_ranks() == 1
        counts = self.codeword_counts if alone else torch.zeros_like(self.codeword_counts)
        list_counts = self.list_counts if alone else torch.zeros_like(self.list_counts)
        flat = codes + torch.arange(self.num_subspaces, device=codes.device) * self.num_codewords
        ones = torch.ones(codes.numel(), dtype=torch.int64, device=codes.device)
        counts.view(-1).index_add_(0, flat.view(-1), ones)
        if lists is not None:
            list_counts.index_add_(0, lists, ones[: len(lists)])
        if not alone:
            ranks.add_up((counts, list_counts))
            self.codeword_counts += counts
            self.list_counts += list_counts
        self._num_windowed += len(codes)

    def _begin_alike(self) -> None:
        """Take over from rank 0 how far it is, and its weights.

        The wrapper shares parameters and buffers where it is made, but not the phase.
        """
        progress = (int(self.phase), self.num_steps, self._num_windowed)
        phase, self.num_steps, self._num_windowed = ranks.first_of(progress, self.codebooks)
        if self.phase is not Phase(phase):
            self._samples.clear()
        self.phase = Phase(phase)
        ranks.take_from_first((*self.parameters(), *self.buffers()))

    def _reset_counts(self) -> None:
        self.codeword_counts.zero_()
        self.list_counts.zero_()
        self._num_windowed = 0

    def _window_is_over(self, window: int, x: Tensor) -> bool:
        """Return whether so many vectors went by, of this rank and of all others."""
        if ranks.num_ranks() == 1:
            return self._num_windowed >= window
        # Asking waits for the others, so not every step.
        asked = self.num_steps % _STEPS_BETWEEN_QUESTIONS == 0
        return asked and ranks.smallest(int(self._num_windowed >= window), x) > 0

    @torch.no_grad()
    def _check_rotation(self) -> None:
        """Refuse to go on with what no index can hold.

        Raises:
            InputError: the rotation is orthonormal no longer.
        """
        if self.rotation is None:
            return
        rotation = self.rotation.double().cpu()  # a GPU may multiply with ten bits
        drift = float((rotation @ rotation.T - torch.eye(self.dim)).abs().max())
        if not drift <= _ROTATION_TOLERANCE:
            raise InputError(
                f"rotation: R R^T is off the identity by {drift:.3g}, wanted at most "
                f"{_ROTATION_TOLERANCE:g}: its optimizer does not keep it orthonormal; give "
                "layer.rotation_parameters() to poeem.GivensDescent, and "
                "layer.euclidean_parameters() to yours"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `.to(device)` but stay in float32 when a model is turned to half precision."""

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype in (torch.float16, torch.bfloat16):
                return tensor.to(moved.device, torch.float32)
            return moved

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]
        self._samples = [keep_precision(sample) for sample in self._samples]
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        progress = [int(self.phase), self.num_steps, self._num_windowed]
        destination[prefix + "progress"] = torch.tensor(progress)
        if self._samples:
            destination[prefix + "samples"] = torch.cat(self._samples)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        progress = state_dict.pop(prefix + "progress", None)
        samples = state_dict.pop(prefix + "samples", None)
        missing, errors = args[2], args[4]
        if progress is None and not any(name.startswith(prefix) for name in state_dict):
            missing.append(prefix + "progress")  # a model from before it had a layer
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        values: list[int] = [] if progress is None else progress.tolist()
        if len(values) != 3 or values[0] not in list(Phase):
            got = "nothing" if progress is None else values
            raise CheckpointError(f"{prefix}progress: got {got}, wanted phase, steps and window")
        own = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]
        lacking = ", ".join(name for name in own if prefix + name not in state_dict)
        if lacking:  # with strict=False the others would be loaded, and the phase stay
            name = prefix[:-1] or "layer"
            errors.append(f"{name}: lacks {lacking}, wanted all of a layer or none")
            return
        before = len(missing) + len(errors)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if len(missing) + len(errors) > before:
            return  # torch will raise; the phase stays that of the parameters that are here
        for tensor in (
            *self.parameters(),
            *self.buffers(),
        ):  # assign=True may put half precision in
            if tensor.dtype in (torch.float16, torch.bfloat16):
                tensor.data = tensor.data.float()
        self.phase = Phase(values[0])
        self.num_steps, self._num_windowed = values[1:]
        self._samples = [] if samples is None else [samples.to(self.codebooks)]

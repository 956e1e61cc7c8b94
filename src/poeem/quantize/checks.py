"""Checks of tensors that come from outside."""

from __future__ import annotations

import torch
from torch import Tensor

from poeem.errors import DtypeError, InputError, NonFiniteError, ShapeError

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NAMED_ROWS = 5


def check_vectors(name: str, vectors: Tensor, dim: int) -> None:
    """Require a finite, not empty floating tensor [n, dim].

    Raises:
        ShapeError: not [n, dim], or n = 0. DtypeError: not floating, or without data (on the meta
            device). NonFiniteError: NaN, infinity.
    """
    if not isinstance(vectors, Tensor):
        raise DtypeError(f"{name}: got {type(vectors).__name__}, wanted a torch tensor")
    _check_has_data(name, vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ShapeError(f"{name}: got shape {list(vectors.shape)}, wanted [n, {dim}]")
    if vectors.shape[0] == 0:
        raise ShapeError(f"{name}: got an empty batch, wanted at least 1 row")
    if vectors.dtype not in _FLOATS:
        raise DtypeError(f"{name}: got {vectors.dtype}, wanted a floating type")
    # A sum is NaN or infinite if any term is: cheaper than a mask. Overflow alone is checked again.
    if not torch.isfinite(vectors.detach().sum(dtype=torch.float32)):
        rows = (~torch.isfinite(vectors.detach()).all(1)).nonzero()[:, 0].tolist()
        if rows:
            shown = ", ".join(map(str, rows[:_NAMED_ROWS]))
            more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
            raise NonFiniteError(f"{name}: NaN or infinity in row {shown}{more}", rows)


def check_numbers(name: str, values: Tensor, shape: tuple[int | None, ...], limit: int) -> None:
    """Require an integer tensor of a shape (None = any length) with values from 0 to limit - 1.

    Raises:
        DtypeError: not an integer tensor. ShapeError. InputError: a value out of range.
    """
    if not isinstance(values, Tensor):
        raise DtypeError(f"{name}: got {type(values).__name__}, wanted a torch tensor")
    _check_has_data(name, values)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise DtypeError(f"{name}: got {values.dtype}, wanted integers")
    fits = values.ndim == len(shape) and all(
        wanted in (None, got) for got, wanted in zip(values.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise ShapeError(f"{name}: got shape {list(values.shape)}, wanted [{wanted}]")
    values = values.long()  # torch finds no extremes of unsigned integers
    if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < limit):
        low, high = int(values.min()), int(values.max())
        raise InputError(f"{name}: got values from {low} to {high}, wanted 0 to {limit - 1}")


def _check_has_data(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise DtypeError(f"{name}: got a tensor on the meta device, wanted one with data")

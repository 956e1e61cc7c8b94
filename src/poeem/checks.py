"""Checks of what callers pass, shared by every part of the library. NumPy only."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import ConfigError, DtypeError, InputError, NonFiniteError, ShapeError
from poeem.types import Array, FloatArray

MAX_ROWS_NAMED = 10
_FEW = 1 << 14


def check_path_text(name: str, path: Any) -> None:
    """Refuse a path that not every library that we read and write by takes.

    Raises:
        ConfigError: it is no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name}: got {str(path)!r}, wanted a path in UTF-8") from None


def as_path(path: Any, name: str = "path") -> Path:
    """Return a path.

    Raises:
        DtypeError: it is none. InputError: it is empty, or holds a NUL character.
    """
    try:
        found = Path(path)
    except TypeError:
        raise DtypeError(f"{name}: got {path!r}, wanted a path") from None
    if not os.fspath(path):
        raise InputError(f"{name}: got an empty one, wanted the name of a file or folder")
    if "\0" in str(found):
        raise InputError(f"{name}: got {path!r}, wanted one without a NUL character")
    return found


def seed_in_range(number: int) -> int:
    """Return a seed that generators take, 0 to 2^63 - 1: the number itself where it is one."""
    return number % 2**63


def as_array(name: str, value: Any) -> Array:
    """Return a torch tensor, an array or a sequence as a NumPy array, copying only if it must.

    Raises:
        DtypeError: it has an element type that NumPy lacks (bfloat16), is ragged, has a mask, or is
            a tensor that is sparse or has no data.
    """
    if np.ma.isMaskedArray(value):  # what is masked would count again
        raise DtypeError(f"{name}: got a masked array, wanted a plain one; .filled(x) makes one")
    if hasattr(value, "detach"):  # a torch tensor, known by what it can do: torch is not imported
        if str(value.layout) != "torch.strided" or value.device.type == "meta":
            kind = "without data" if value.device.type == "meta" else f"of layout {value.layout}"
            raise DtypeError(f"{name}: got a tensor {kind}, wanted a dense one with data")
        value = value.detach().cpu().resolve_conj().resolve_neg()
        try:
            return np.asarray(value.numpy())
        except TypeError as error:
            raise DtypeError(
                f"{name}: got {value.dtype}, which NumPy cannot hold; wanted float32, which "
                ".float() makes of it"
            ) from error
    try:
        return np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise DtypeError(f"{name}: cannot be made an array: {error}") from None


def check_finite(name: str, array: Array, first_row: int = 0) -> None:
    """Refuse NaN and infinity, naming rows (the first axis, counted from `first_row`).

    Raises:
        NonFiniteError: there are some; `.rows` lists the first of them.
    """
    # One number tells of few: a sum of squares is finite if all are, unless it overflows.
    few = 0 < array.size <= _FEW and array.dtype == np.float32
    if few and math.isfinite(np.vdot(array, array)):
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    bad = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
    rows = [int(row) + first_row for row in bad[:MAX_ROWS_NAMED]]
    named = ", ".join(map(str, rows)) + (", ..." if len(bad) > len(rows) else "")
    raise NonFiniteError(f"{name}: NaN or infinity in {len(bad)} rows: {named}", rows)


def check_vectors(
    name: str,
    value: Any,
    dim: int | None = None,
    *,
    num_axes: tuple[int, ...] = (2,),
    first_row: int = 0,
    may_be_empty: bool = False,
) -> FloatArray:
    """Return vectors as C-contiguous float32, or say what is wrong with them.

    Args:
        name: what the caller calls the argument.
        value: float32 or float16 [..., dim], an array or a torch tensor.
        dim: the wanted length of a vector; None = any.
        num_axes: the allowed numbers of dimensions.
        first_row: added to the rows named by NonFiniteError.
        may_be_empty: whether no rows at all will do.

    Raises:
        DtypeError: not float32 or float16.
        ShapeError: wrong number of dimensions, wrong width, or empty.
        NonFiniteError: NaN or infinity; `.rows` lists the first rows.
    """
    array = as_array(name, value)
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise DtypeError(f"{name}: got {array.dtype}, wanted float32 (or float16)")
    if array.ndim not in num_axes:
        wanted = " or ".join(map(str, num_axes))
        raise ShapeError(f"{name}: got shape {array.shape}, wanted {wanted} dimensions")
    if array.size == 0 and not (may_be_empty and 0 not in array.shape[1:]):
        raise ShapeError(f"{name}: got shape {array.shape}, which is empty")
    if dim is not None and array.shape[-1] != dim:
        raise ShapeError(f"{name}: got width {array.shape[-1]}, wanted {dim}")
    # A single vector is one row.
    check_finite(name, array if array.ndim > 1 else array[None], first_row)
    # A view may start in the middle of a number: what reads floats wants them in their places.
    return np.require(array, np.float32, ["C", "A"])

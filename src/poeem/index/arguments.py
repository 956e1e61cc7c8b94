"""Checks of what goes into an index."""

from __future__ import annotations

from collections.abc import Iterable, Set
from numbers import Integral, Real
from typing import Any

import numpy as np

from poeem.checks import as_array, check_vectors
from poeem.errors import ConfigError, DtypeError, IdError, InputError, ShapeError
from poeem.index.codes import MAX_CODEWORDS
from poeem.types import (
    MAX_BEAM,
    MAX_PARALLEL_WEIGHT,
    Array,
    Encoding,
    Family,
    FloatArray,
    IntArray,
    QuantizerParts,
)

ORTHONORMAL_TOLERANCE = 1e-3
PADDING_ID = -1


def check_parts(parts: QuantizerParts) -> QuantizerParts:
    """Return copies of all arrays, C-contiguous float32 that fit together.

    Copies, because a layer may share its parameters' memory and go on training.

    Raises:
        ShapeError, DtypeError, NonFiniteError: an array has the wrong shape, type or values.
        InputError: the rotation is not orthonormal, or the metric of errors not invertible.
        ConfigError: the family is unknown, or a number of `Encoding` out of its range.
    """
    family = Family.of(parts.family)
    codebooks = check_vectors("codebooks", parts.codebooks, num_axes=(3,))
    if not 2 <= codebooks.shape[1] <= MAX_CODEWORDS:
        raise ShapeError(
            f"codebooks: got {codebooks.shape[1]} codewords, wanted 2 to {MAX_CODEWORDS}"
        )
    dim = codebooks.shape[2] * (1 if family is Family.RESIDUAL else codebooks.shape[0])
    centroids = parts.centroids
    if centroids is not None:
        centroids = check_vectors("centroids", centroids, dim)
    rotation = parts.rotation
    if rotation is not None:
        rotation = check_vectors("rotation", rotation, dim)
        if len(rotation) != dim:
            raise ShapeError(f"rotation: got {len(rotation)} rows, wanted {dim}")
        error = orthonormal_error(rotation)
        if error > ORTHONORMAL_TOLERANCE:
            raise InputError(
                f"rotation: R R^T is off the identity by {error:.3g}, wanted at most "
                f"{ORTHONORMAL_TOLERANCE:g}"
            )
    return QuantizerParts(
        None if rotation is None else rotation.copy(),
        None if centroids is None else centroids.copy(),
        codebooks.copy(),
        family,
        check_encoding(parts.encoding, dim, family),
    )


def check_encoding(encoding: Encoding, dim: int, family: str) -> Encoding:
    """Return a copy that fits vectors of a width.

    Raises:
        ShapeError, DtypeError, NonFiniteError, InputError, ConfigError: as `check_parts`.
    """
    if not isinstance(encoding, Encoding):
        raise DtypeError(f"encoding: got {type(encoding).__name__}, wanted a poeem.Encoding")
    beam, weight = encoding.beam, encoding.parallel_weight
    if not _is_number(beam, Integral) or not 1 <= beam <= MAX_BEAM:
        raise ConfigError(f"beam: got {beam!r}, wanted an integer, 1 to {MAX_BEAM}")
    if not _is_number(weight, Real) or not 0 <= weight <= MAX_PARALLEL_WEIGHT:
        wanted = f"a number, 0 to {MAX_PARALLEL_WEIGHT}"
        raise ConfigError(f"parallel_weight: got {weight!r}, wanted {wanted}")
    metric = encoding.error_metric
    if metric is not None:
        if family != Family.RESIDUAL:
            raise ConfigError("error_metric: wanted with residual codes only")
        metric = check_vectors("error_metric", metric, dim)
        if len(metric) != dim:
            raise ShapeError(f"error_metric: got {len(metric)} rows, wanted {dim}")
        if not is_invertible(metric):
            raise InputError("error_metric: not invertible")
        metric = metric.copy()
    return Encoding(metric, float(weight), int(beam))


def _is_number(value: Any, kind: type) -> bool:
    """Return whether a value is a number of a kind, NumPy's too; flags are none."""
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def is_invertible(metric: FloatArray) -> bool:
    """Return whether a finite matrix [dim, dim] has an inverse that float32 holds."""
    try:
        return bool(np.isfinite(np.linalg.inv(metric)).all())
    except np.linalg.LinAlgError:
        return False


def orthonormal_error(rotation: FloatArray) -> float:
    """Return the largest |R R^T - identity| of a finite matrix [dim, dim]."""
    largest = float(np.abs(rotation).max())
    if largest > 1 + ORTHONORMAL_TOLERANCE:  # also keeps the product below from overflowing
        return largest
    return float(np.abs(rotation @ rotation.T - np.eye(len(rotation), dtype=np.float32)).max())


def check_codes(codes: Array, parts: QuantizerParts, *, may_be_empty: bool = False) -> int:
    """Check codes [n, num_subspaces] and return n.

    Args:
        may_be_empty: whether no rows at all will do.

    Raises:
        DtypeError: not integers.
        ShapeError: wrong shape, or empty.
        InputError: a code below 0 or beyond the codebook.
    """
    _check_integers("codes", codes)
    num_subspaces = parts.num_subspaces
    if codes.ndim != 2 or codes.shape[1] != num_subspaces or not (len(codes) or may_be_empty):
        raise ShapeError(f"codes: got shape {codes.shape}, wanted [n, {num_subspaces}] with n > 0")
    _check_below("codes", codes, parts.num_codewords, "num_codewords")
    return len(codes)


def check_lists(lists: Any, num_items: int, parts: QuantizerParts) -> Array | None:
    """Return lists as integers [n], or None where there are no centroids.

    Raises:
        ShapeError: not one per item, or lists without centroids or the reverse.
        DtypeError: not integers.
        InputError: a list below 0 or beyond the centroids.
    """
    if (lists is None) != (parts.centroids is None):
        here, missing = ("centroids", "lists") if lists is None else ("lists", "centroids")
        raise ShapeError(f"{missing}: missing, wanted because there are {here}")
    if lists is None:
        return None
    array = as_array("lists", lists)
    _check_integers("lists", array)
    if array.shape != (num_items,):
        raise ShapeError(f"lists: got shape {array.shape}, wanted one per item, ({num_items},)")
    _check_below("lists", array, parts.num_lists, "num_lists")
    return array


def as_filter(allowed: Any) -> Array:
    """Return ids or flags, also from a set of ids, as an array; they are still to be checked.

    Raises:
        DtypeError: single bytes: flags kept so would be taken for the ids 0 and 1, packed bits for
            ids below 256.
    """
    array = as_array("allowed", list(allowed) if isinstance(allowed, Set) else allowed)
    if array.dtype in (np.uint8, np.int8):
        raise DtypeError(
            f"allowed: got {array.dtype}, wanted bool, one flag per item, or ids of 16 bits and "
            "more; .astype(bool) makes flags of bytes, np.unpackbits of packed bits"
        )
    return array


def check_ids(ids: Any, num_items: int | None = None, name: str = "ids") -> IntArray:
    """Return ids as int64 [n]. Duplicates are found where ids are sorted.

    Raises:
        IdError: not integers, beyond int64, or -1, which says "no item" in results.
        ShapeError: not [n], or not one per item.
    """
    try:
        array = as_array(name, ids)
    except DtypeError as error:
        _check_fits(name, ids)
        raise IdError(f"{error}") from None
    if array.ndim != 1 or num_items not in (None, len(array)):
        wanted = "[n]" if num_items is None else f"one per item, ({num_items},)"
        raise ShapeError(f"{name}: got shape {array.shape}, wanted {wanted}")
    # Python integers beyond int64 become uint64, float64 or object, depending on their company.
    if array.dtype.kind not in "iu":
        _check_fits(name, ids)
        raise IdError(f"{name}: got {array.dtype}, wanted integers that fit int64")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        row = int(array.argmax())
        raise IdError(f"{name}: got {array[row]} in row {row}, wanted at most {2**63 - 1}")
    array = array.astype(np.int64, copy=False)
    if (array == PADDING_ID).any():
        row = int((array == PADDING_ID).argmax())
        raise IdError(f"{name}: got -1 in row {row}, which says 'no item' in results")
    return array


def _check_fits(name: str, ids: Any) -> None:
    """Name the first of Python's integers that is beyond int64, if there is one."""
    if not isinstance(ids, Iterable):
        return
    for row, value in enumerate(ids):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise IdError(f"{name}: got {value} in row {row}, wanted {-(2**63)} to {2**63 - 1}")


def _check_integers(name: str, array: Array) -> None:
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{name}: got {array.dtype}, wanted integers")


def _check_below(name: str, array: Array, limit: int, limit_name: str) -> None:
    if array.size == 0:
        return
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= limit:
        got = low if low < 0 else high
        row = int(np.argmax((array == got).reshape(len(array), -1).any(axis=1)))
        raise InputError(
            f"{name}: got {got} in row {row}, wanted 0 to {limit_name} - 1 = {limit - 1}"
        )

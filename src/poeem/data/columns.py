"""Turns columns as read into ids, times, ratings and splits, and marks the values that cannot be.

Every parser returns the values and a bool mask [n] of those that cannot be used; a marked value is
arbitrary and its row is never kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poeem.data.arrow import import_arrow
from poeem.errors import DataError, IdError
from poeem.types import Array, IntArray

Mask = NDArray[np.bool_]

_INTEGER = r"^-?[0-9]{1,18}$"
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
# Leading zeros make another id, as in 007 and 7: such a column stays text.
_INTEGER_ID = r"^(0|-?[1-9][0-9]*)$"
_MICROSECONDS = 1_000_000
# Bytes of ids, and how much larger than their text, from which on it is an oversight.
_MUCH_ROOM, _MOSTLY_EMPTY = 2**30, 16


def parse_ids(name: str, array: Any) -> tuple[Any, Mask]:
    """Return ids as a pyarrow int64 or string array; blank and null ones are marked.

    Raises:
        IdError: integers beyond int64.
        DataError: the column is neither integers nor text.
    """
    arrow = import_arrow()
    pa, compute = arrow.pa, arrow.compute
    array = _plain(array)
    if pa.types.is_string(array.type):
        array = _whole_numbers(compute.utf8_trim_whitespace(array))
        empty = compute.equal(array, "")
        return array, _to_mask(empty.fill_null(True))
    if pa.types.is_floating(array.type):
        # A column of integers with holes often arrives as floats with NaN for the holes.
        array = compute.if_else(compute.is_nan(array), None, array)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise DataError(f"column {name!r}: got {array.type}, wanted ids as integers or text")
    try:
        ids = array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise IdError(
            f"column {name!r}: ids that are not integers within int64: {error}"
        ) from error
    return ids.fill_null(0), _to_mask(ids.is_null())


def _whole_numbers(array: Any) -> Any:
    """Drop the ".0" where all ids have it: integers with holes, written as floats."""
    compute = import_arrow().compute
    filled = array.filter(compute.not_equal(array, "").fill_null(False))
    if (
        not len(filled)
        or not compute.all(compute.match_substring_regex(filled, r"^-?[0-9]+\.0$")).as_py()
    ):
        return array
    return compute.replace_substring_regex(array, r"\.0$", "")


def text_ids(ids: Sequence[str]) -> Array:
    """Return ids as a NumPy array of text, in which each has the room of the longest.

    Raises:
        DataError: one is so much longer than most that the room would be gigabytes of nothing.
    """
    longest = max(ids, key=len, default="")
    size = 4 * len(longest) * len(ids)
    if size > _MUCH_ROOM and size > _MOSTLY_EMPTY * 4 * sum(map(len, ids)):
        raise DataError(
            f"ids: the longest of {len(ids):,} has {len(longest):,} characters and begins with "
            f"{longest[:40]!r}; each takes the room of the longest, {size:,} bytes in all; wanted "
            "shorter ones"
        )
    return np.array(ids, dtype=np.str_)


def index_ids(ids: Any) -> tuple[NDArray[np.int32], Array]:
    """Number the distinct ids in ascending order.

    Args:
        ids: what `parse_ids` returned, without the marked rows.

    Returns:
        indices: int32 [n], the position of each row's id in `distinct`.
        distinct: int64 or str [num_distinct], ascending; text that is all integers becomes int64.
    """
    arrow = import_arrow()
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary
    if arrow.pa.types.is_string(distinct.type):
        distinct = _integers_if_all(distinct)
    if arrow.pa.types.is_string(distinct.type):
        values = text_ids(distinct.to_pylist())
    else:
        values = distinct.to_numpy(zero_copy_only=False)
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[encoded.indices.to_numpy(zero_copy_only=False)], values[order]


def _integers_if_all(distinct: Any) -> Any:
    arrow = import_arrow()
    is_integer = arrow.compute.match_substring_regex(distinct, _INTEGER_ID)
    if not arrow.compute.all(is_integer).as_py():
        return distinct
    try:
        return distinct.cast(arrow.pa.int64())
    except arrow.pa.ArrowInvalid:  # beyond int64: keep the text
        return distinct


def parse_numbers(name: str, array: Any) -> tuple[NDArray[np.float64], Mask]:
    """Return float64 [n]; blank, non-numeric and non-finite values are marked."""
    values, _ = _numbers(name, _plain(array))
    bad = ~np.isfinite(values)
    return np.where(bad, 0.0, values), bad


def parse_splits(name: str, array: Any) -> tuple[NDArray[np.int8], Mask]:
    """Return int8 [n] of 0, 1 and 2; every other value is marked."""
    values, bad = parse_numbers(name, array)
    bad |= ~np.isin(values, (0, 1, 2))
    return np.where(bad, 0, values).astype(np.int8), bad


def parse_timestamps(name: str, array: Any) -> tuple[IntArray, Mask]:
    """Return times as int64 [n], of which only the order means something.

    Integers stay what they are; if any number has a fraction, all are multiplied by a million.
    Dates and ISO 8601 text become microseconds since 1970 in UTC. In a column of text the majority
    decides whether it holds numbers or dates; the others are marked.
    """
    pa = import_arrow().pa
    array = _plain(array)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _microseconds(array)
    numbers, integers = _numbers(name, array)
    is_number = np.isfinite(numbers)
    if pa.types.is_string(array.type) and is_number.sum() * 2 < len(array):
        return _iso_times(array)
    if integers is not None:
        return np.where(is_number, integers, 0), ~is_number
    scale = 1 if np.all(numbers[is_number] % 1 == 0) else _MICROSECONDS
    is_number &= np.abs(numbers) < 2.0**63 / scale
    return (np.where(is_number, numbers, 0) * scale).astype(np.int64), ~is_number


def parse_titles(name: str, array: Any) -> tuple[Any, Mask]:
    """Return titles as a pyarrow string array without spaces around; blank ones are marked.

    Raises:
        DataError: lists, structs and the like, which are no titles.
    """
    arrow = import_arrow()
    array = _plain(array)
    if not arrow.pa.types.is_string(array.type):
        try:
            array = array.cast(arrow.pa.string())
        except (arrow.pa.ArrowNotImplementedError, arrow.pa.ArrowInvalid) as error:
            raise DataError(
                f"{name}: got {array.type}, wanted titles as text; where they are something else, "
                'title_column = "none" leaves them out'
            ) from error
    array = arrow.compute.utf8_trim_whitespace(array)
    return array, _to_mask(arrow.compute.equal(array, "").fill_null(True))


def _plain(array: Any) -> Any:
    """Undo dictionaries and the large and binary variants of text."""
    pa = import_arrow().pa
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):  # a column without any value has no type of its own
        array = array.cast(pa.string())
    if (
        pa.types.is_binary(array.type)
        or pa.types.is_fixed_size_binary(array.type)
        or pa.types.is_large_string(array.type)
        or pa.types.is_large_binary(array.type)
        or str(array.type) in ("string_view", "binary_view")
    ):
        array = array.cast(pa.binary())
    return _utf8(array)


def _utf8(array: Any) -> Any:
    """Return text without what is no UTF-8, which becomes null; Parquet files may hold some."""
    pa = import_arrow().pa
    if not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
        return array
    try:
        text = array.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array(map(_decoded, array.cast(pa.binary()).to_pylist()), pa.string())
    return text


def _decoded(text: bytes | None) -> str | None:
    try:
        return None if text is None else text.decode()
    except UnicodeDecodeError:
        return None


def _numbers(name: str, array: Any) -> tuple[NDArray[np.float64], IntArray | None]:
    """Return float64 [n] with NaN where there is no number, and int64 [n] if all are integers."""
    arrow = import_arrow()
    pa, compute = arrow.pa, arrow.compute
    if pa.types.is_string(array.type):
        array = compute.utf8_trim_whitespace(array)
        is_integer = compute.match_substring_regex(array, _INTEGER).fill_null(False)
        is_number = compute.match_substring_regex(array, _NUMBER).fill_null(False)
        if _to_mask(compute.equal(is_integer, is_number)).all():
            array = compute.if_else(is_integer, array, None).cast(pa.int64())
        else:
            array = compute.if_else(is_number, array, None).cast(pa.float64())
    elif pa.types.is_decimal(array.type) or pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
    elif not pa.types.is_integer(array.type):
        raise DataError(f"column {name!r}: got {array.type}, wanted numbers")
    integers = None
    if pa.types.is_integer(array.type):
        integers = array.fill_null(0).cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False)
    floats = array.cast(pa.float64(), safe=False).fill_null(np.nan)
    return floats.to_numpy(zero_copy_only=False), integers


def _microseconds(array: Any) -> tuple[IntArray, Mask]:
    pa = import_arrow().pa
    zone = getattr(array.type, "tz", None)
    times = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return times.fill_null(0).to_numpy(zero_copy_only=False), _to_mask(times.is_null())


def _iso_times(array: Any) -> tuple[IntArray, Mask]:
    arrow = import_arrow()
    array = arrow.compute.utf8_trim_whitespace(array)
    for zone in (None, "UTC"):
        try:
            return _microseconds(array.cast(arrow.pa.timestamp("us", zone)))
        except arrow.pa.ArrowInvalid:
            continue
    # Mixed or broken text: one by one, so that each bad value is known.
    times = np.zeros(len(array), dtype=np.int64)
    bad = np.zeros(len(array), dtype=np.bool_)
    for row, text in enumerate(array.to_pylist()):
        try:
            moment = datetime.fromisoformat(text or "")
        except ValueError:
            bad[row] = True
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        times[row] = round(moment.timestamp() * _MICROSECONDS)
    return times, bad


def _to_mask(array: Any) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask.astype(np.bool_)

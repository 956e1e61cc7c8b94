"""A table of who had what: read from a file, checked row by row, numbered densely."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poeem.config import DataConfig
from poeem.data.columns import (
    Mask,
    index_ids,
    parse_ids,
    parse_numbers,
    parse_splits,
    parse_timestamps,
    parse_titles,
)
from poeem.data.sources import Source, open_source, read_titles
from poeem.data.tables import Columns, Progress, RawTable, read_binary, read_text
from poeem.errors import ConfigError, DataError, UnparsableRowsError
from poeem.types import Array, IntArray

_MAX_LISTED = 1000
_MAX_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Interactions:
    """Distinct (user, item) pairs in the order of the file; users and items are dense indices.

    users: int32 [num_pairs], 0 to num_users - 1.
    items: int32 [num_pairs], 0 to num_items - 1.
    timestamps: int64 [num_pairs], of which only the order means something; None = no times.
    split: int8 [num_pairs], 0 train, 1 valid, 2 test; None = not given.
    user_ids, item_ids: int64 or str [num_users], [num_items]: index -> id, ascending.
    item_titles: index -> name (the id where an item has none); None = no names.
    num_skipped_rows: rows that could not be read and were left out.
    num_filtered_rows: rows left out for a rating below `min_rating`.
    num_repeated_rows: rows left out because the same pair is there already.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: IntArray | None
    split: NDArray[np.int8] | None
    user_ids: Array
    item_ids: Array
    item_titles: list[str] | None = None
    num_skipped_rows: int = 0
    num_filtered_rows: int = 0
    num_repeated_rows: int = 0

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_users(self) -> int:
        """Number of distinct users."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Number of distinct items."""
        return len(self.item_ids)


@dataclass
class _Problems:
    """Which rows cannot be used, and why; a row counts once, for the first reason found."""

    bad: Mask
    rows_by_reason: dict[str, IntArray] = field(default_factory=dict)

    def add(self, reason: str, mask: Mask) -> None:
        rows = np.flatnonzero(mask & ~self.bad)
        self.bad |= mask
        if len(rows):
            self.rows_by_reason[reason] = rows


@dataclass(frozen=True)
class _Parsed:
    """Columns of a table with their meaning, all of one length."""

    users: Any
    items: Any
    timestamps: IntArray | None
    ratings: NDArray[np.float64] | None
    split: NDArray[np.int8] | None
    titles: Any
    title_column: str
    problems: _Problems


def load_interactions(config: DataConfig, progress: Progress | None = None) -> Interactions:
    """Read a table of interactions and number its users and items.

    `config.path` is a .parquet, .csv, .tsv or .npz file, the name of a bundled set, or a folder (by
    path, or by name in $POEEM_DATA) with interactions.npz, or MovieLens' ratings.dat, and titles.
    Of rows with the same user and item the earliest is kept: the first where there are no times,
    and before all a training row where the split is given.

    Args:
        progress: called with bytes read and bytes in all, while a text file is read.

    Raises:
        DataError: no such file, not a table, no rows, or none of a rating of `min_rating`.
        MissingColumnError: a column is not there; the message lists those that are.
        UnparsableRowsError: rows cannot be read, unless `on_bad_rows` is "skip"; has `.lines`.
        ConfigError: `min_rating` without a `rating_column`.
        MissingDependencyError: pyarrow is not installed.
    """
    if config.min_rating is not None and config.rating_column is None:
        raise ConfigError("DataConfig.min_rating: needs rating_column, got none")
    with open_source(config.path) as source:
        table, parsed = _read(source, config, progress)
        names = read_titles(source.title_folder) if source.title_folder is not None else None
    name = source.table.name
    if table.num_rows + len(table.malformed) == 0:
        raise DataError(f"{name}: the table has no rows")
    problems = parsed.problems
    num_bad = int(problems.bad.sum()) + len(table.malformed)
    if num_bad and config.on_bad_rows == "error":
        raise _unparsable(name, table, problems, num_bad)
    keep = ~problems.bad
    if not keep.any():
        raise DataError(f"{_reasons(name, table, problems, num_bad)[0]}; none is left")
    if config.min_rating is not None and parsed.ratings is not None:
        keep &= parsed.ratings >= config.min_rating
        if not keep.any():
            raise DataError(f"{name}: no row has a rating of at least {config.min_rating:g}")
    num_filtered = len(keep) - int(problems.bad.sum()) - int(keep.sum())
    interactions = _number(parsed, keep, names if config.title_column is not None else None)
    return dataclasses.replace(
        interactions, num_skipped_rows=num_bad, num_filtered_rows=num_filtered
    )


def _wanted_columns(config: DataConfig) -> Columns:
    """Sort columns into required and optional: one named by the user must be there."""
    defaults = {field.name: field.default for field in dataclasses.fields(DataConfig)}
    required = [config.user_column, config.item_column]
    optional: list[str] = []
    if config.rating_column is not None:
        required.append(config.rating_column)
    if config.timestamp_column is not None:
        chosen = config.timestamp_column != defaults["timestamp_column"]
        (required if chosen or config.split == "time" else optional).append(config.timestamp_column)
    if config.title_column is not None:
        chosen = config.title_column != defaults["title_column"]
        (required if chosen else optional).append(config.title_column)
    if config.split in ("given", "auto"):
        chosen = config.split_column != defaults["split_column"] or config.split == "given"
        (required if chosen else optional).append(config.split_column)
    return Columns(tuple(required), tuple(optional))


def _read(
    source: Source, config: DataConfig, progress: Progress | None
) -> tuple[RawTable, _Parsed]:
    wanted = _wanted_columns(config)
    try:
        if source.layout is None:
            table = read_binary(source.table, wanted)
            return table, _parse(table, config)
        table = read_text(source.table, source.layout, wanted, progress=progress)
        parsed = _parse(table, config)
        if parsed.problems.bad.any() and table.row_numbers is None:
            # Something is wrong somewhere: read again in the way that knows the lines.
            table = read_text(source.table, source.layout, wanted, careful=True, progress=progress)
            parsed = _parse(table, config)
    except OSError as error:
        raise DataError(f"{source.table.name}: cannot be read: {error}") from error
    return table, parsed


def _parse(table: RawTable, config: DataConfig) -> _Parsed:
    problems = _Problems(np.zeros(table.num_rows, dtype=np.bool_))

    def column(name: str | None) -> Any:
        return None if name is None else table.columns.get(name)

    users, bad = parse_ids(config.user_column, table.columns[config.user_column])
    problems.add(_unusable("user", users, table), bad)
    items, bad = parse_ids(config.item_column, table.columns[config.item_column])
    problems.add(_unusable("item", items, table), bad)
    timestamps = ratings = split = None
    if (times := column(config.timestamp_column)) is not None:
        timestamps, bad = parse_timestamps(str(config.timestamp_column), times)
        problems.add(f"a {config.timestamp_column} that is no number or ISO 8601 date", bad)
    if (numbers := column(config.rating_column)) is not None:
        ratings, bad = parse_numbers(str(config.rating_column), numbers)
        problems.add(f"a {config.rating_column} that is no number", bad)
    if (parts := column(config.split_column)) is not None:
        split, bad = parse_splits(config.split_column, parts)
        problems.add(f"a {config.split_column} that is not 0, 1 or 2", bad)
    titles = column(config.title_column)
    return _Parsed(
        users, items, timestamps, ratings, split, titles, str(config.title_column), problems
    )


def _unusable(kind: str, ids: Any, table: RawTable) -> str:
    """Say what an id that cannot be used is; readers of lines find what is no UTF-8 themselves."""
    damaged = table.unit == "row" and str(ids.type) == "string"
    return f"an empty {kind}" + (" or one that is no UTF-8" if damaged else "")


def _unparsable(
    name: str, table: RawTable, problems: _Problems, num_bad: int
) -> UnparsableRowsError:
    """Refuse rows that cannot be read, and say what can be done."""
    text, lines = _reasons(name, table, problems, num_bad)
    return UnparsableRowsError(
        f'{text}. Mend them, or leave them out with on_bad_rows = "skip"', lines[:_MAX_LISTED]
    )


def _reasons(
    name: str, table: RawTable, problems: _Problems, num_bad: int
) -> tuple[str, list[int]]:
    """Say how many rows cannot be read and why; return the lines too, ascending."""
    lines_by_reason: dict[str, list[int]] = {}
    for line, reason in table.malformed.items():
        lines_by_reason.setdefault(reason, []).append(line)
    for reason, rows in problems.rows_by_reason.items():
        lines_by_reason.setdefault(reason, []).extend(table.numbers_of(rows))
    parts = [
        f"{len(lines):,} with {reason} ({_listed(table.unit, lines)})"
        for reason, lines in lines_by_reason.items()
    ]
    total = table.num_rows + len(table.malformed)
    lines = sorted(line for lines in lines_by_reason.values() for line in lines)
    return f"{name}: {num_bad:,} of {total:,} rows cannot be read: {'; '.join(parts)}", lines


def _listed(unit: str, lines: Sequence[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:_MAX_SHOWN])
    more = ", ..." if len(lines) > _MAX_SHOWN else ""
    return f"{unit}{'s' if len(lines) > 1 else ''} {shown}{more}"


def _number(parsed: _Parsed, keep: Mask, names: dict[str, str] | None) -> Interactions:
    """Turn the kept rows into distinct pairs of dense indices."""
    rows = np.flatnonzero(keep)
    users, user_ids = index_ids(parsed.users.take(rows))
    items, item_ids = index_ids(parsed.items.take(rows))
    timestamps = None if parsed.timestamps is None else parsed.timestamps[rows]
    split = None if parsed.split is None else parsed.split[rows]
    titles = None
    if parsed.titles is not None:
        titles = _titles_of_items(parsed, rows, items, item_ids)
    elif names is not None:
        titles = [names.get(str(key)) or str(key) for key in item_ids]
    first = _first_of_each_pair(users, items, len(item_ids), timestamps, split)
    return Interactions(
        users=users[first],
        items=items[first],
        timestamps=None if timestamps is None else timestamps[first],
        split=None if split is None else split[first],
        user_ids=user_ids,
        item_ids=item_ids,
        item_titles=titles,
        num_repeated_rows=len(users) - len(first),
    )


def _first_of_each_pair(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    num_items: int,
    timestamps: IntArray | None,
    split: NDArray[np.int8] | None,
) -> IntArray:
    """Return the row to keep of each pair, ascending: lowest split, then time, then row."""
    pairs = users.astype(np.int64) * num_items + items
    keys: list[Array] = [key for key in (timestamps, split) if key is not None]
    order = np.lexsort([*keys, pairs])
    in_order = pairs[order]
    is_first = np.ones(len(pairs), dtype=np.bool_)
    is_first[1:] = in_order[1:] != in_order[:-1]
    return np.sort(order[is_first])


def _titles_of_items(
    parsed: _Parsed, rows: IntArray, items: NDArray[np.int32], item_ids: Array
) -> list[str]:
    """Return each item's first title that is not blank, or its id."""
    texts, blank = parse_titles(parsed.title_column, parsed.titles.take(rows))
    named_rows = np.flatnonzero(~blank)
    found, first = np.unique(items[named_rows], return_index=True)
    named = [str(key) for key in item_ids]
    for item, title in zip(found.tolist(), texts.take(named_rows[first]).to_pylist(), strict=True):
        named[item] = title
    return named

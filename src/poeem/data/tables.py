"""Reads columns of .parquet, .npz, .csv and .tsv files, and knows on which line a row stands.

Text is read twice if need be: by pyarrow, which is fast but cannot name lines, and only when
something is wrong with the file by Python's csv module, which can. Both see the same dialect:
UTF-8, fields in double quotes where needed, `""` for a quote inside, newlines inside quotes.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from poeem.data.arrow import import_arrow
from poeem.errors import DataError, MissingColumnError, UnparsableRowsError
from poeem.files import UNREADABLE, reason
from poeem.types import IntArray

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_REPORT_ROWS = 1 << 16
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Columns:
    """Which columns to read: `required` must be there, `optional` are read if they are."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextFormat:
    """A delimited text file; `header` names its columns where its first line does not."""

    delimiter: str
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RawTable:
    """Columns as read, not yet checked.

    columns: name -> pyarrow array of length num_rows; text columns are strings.
    row_numbers: int64 [num_rows], counted from 1: lines of a text file, rows of any other;
        None = not known yet, `read_text(..., careful=True)` finds them.
    malformed: line number -> what is wrong; such lines are not among the rows.
    unit: "line" or "row", for messages.
    """

    columns: dict[str, Any]
    num_rows: int
    row_numbers: IntArray | None
    malformed: dict[int, str] = field(default_factory=dict)
    unit: str = "row"

    def numbers_of(self, rows: IntArray) -> list[int]:
        """Return the line or row numbers of `rows`, which are positions in the columns."""
        numbers = np.arange(1, self.num_rows + 1) if self.row_numbers is None else self.row_numbers
        return [int(number) for number in numbers[rows]]


TEXT_FORMATS = {".csv": TextFormat(","), ".tsv": TextFormat("\t")}
TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".npz")


def read_binary(path: Path, wanted: Columns) -> RawTable:
    """Read a .parquet or .npz file.

    Raises:
        DataError: it is no such file, or its columns differ in length.
        MissingColumnError: a required column is not there.
    """
    reader = _read_parquet if path.suffix.lower() == ".parquet" else _read_npz
    columns = reader(path, wanted)
    num_rows = len(columns[wanted.required[0]])
    return RawTable(columns, num_rows, np.arange(1, num_rows + 1, dtype=np.int64))


def _pick(available: Sequence[str], wanted: Columns, path: Path) -> dict[str, int]:
    """Return the position of each column to read, in the file's order of columns."""
    missing = [name for name in wanted.required if name not in available]
    if missing:
        raise MissingColumnError(
            f"{path.name}: no column {', '.join(map(repr, missing))}; "
            f"there are {', '.join(map(repr, available)) or 'none'}"
        )
    names = set(wanted.required) | set(wanted.optional)
    for name in names:
        if available.count(name) > 1:
            raise DataError(f"{path.name}: {available.count(name)} columns are named {name!r}")
    return {name: place for place, name in enumerate(available) if name in names}


def _read_parquet(path: Path, wanted: Columns) -> dict[str, Any]:
    arrow = import_arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            names = _pick(file.schema_arrow.names, wanted, path)
            table = file.read(columns=list(names))
    except (arrow.pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name}: cannot be read as Parquet: {error}") from error
    return {name: table.column(name).combine_chunks() for name in names}


def _read_npz(path: Path, wanted: Columns) -> dict[str, Any]:
    pa = import_arrow().pa
    try:
        # Opened here, as np.load leaves a file that is no zip open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = _pick(file.files, wanted, path)
            arrays = {name: np.atleast_1d(file[name]) for name in names}
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path.name}: cannot be read as npz: {reason(error)}") from error
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise DataError(f"{path.name}: got arrays of shapes {shapes}, wanted 1-d of one length")
    try:
        return {name: pa.array(array) for name, array in arrays.items()}
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"{path.name}: {error}") from error


def read_text(
    path: Path,
    layout: TextFormat,
    wanted: Columns,
    *,
    careful: bool = False,
    progress: Progress | None = None,
) -> RawTable:
    """Read columns of a text file as strings.

    Args:
        careful: find the line of every row, and what is wrong with lines that are no rows.
            Otherwise `row_numbers` is None if all is well, and the careful way is taken if not.

    Raises:
        DataError: the file is empty or cannot be opened.
        MissingColumnError: a required column is not there.
        UnparsableRowsError: a quote is never closed, so that nothing after it can be trusted.
    """
    total = path.stat().st_size
    if progress is not None:
        progress(0, total)
    names, header_lines = _read_header(path, layout)
    if layout.header is None and len(names) == 1:
        layout = _divided_by_another(path, layout, wanted)
        names, header_lines = _read_header(path, layout)
    try:
        places = _pick(names, wanted, path)
    except MissingColumnError as error:
        raise MissingColumnError(f"{error}{_delimiter_hint(names, layout)}") from None
    table = None
    if not careful:
        table = _read_fast(path, layout, places, len(names), header_lines)
    if table is None:
        table = _read_careful(path, layout, places, len(names), header_lines, progress)
    if progress is not None:
        progress(total, total)
    return table


def _divided_by_another(path: Path, layout: TextFormat, wanted: Columns) -> TextFormat:
    """Return the format by whose delimiter the header has all columns, as spreadsheets write it."""
    for mark in _DELIMITERS:
        other = TextFormat(mark)
        if set(wanted.required) <= set(_read_header(path, other)[0]):
            return other
    return layout


def _delimiter_hint(names: list[str], layout: TextFormat) -> str:
    """Say, where a header is one name, by what it seems to be divided instead."""
    if len(names) != 1:
        return ""
    others = [(name, mark) for mark, name in _DELIMITERS.items() if mark != layout.delimiter]
    found = [name for name, mark in others if mark in names[0]]
    if not found:
        return ""
    wanted = _DELIMITERS[layout.delimiter]
    return (
        f"; its fields seem to be divided by {found[0]}, wanted {wanted} (.csv: comma, .tsv: tab)"
    )


def _check_encoding(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
        raise DataError(
            f"{path.name}: not UTF-8 text but, it seems, UTF-16; convert it, e.g. by "
            "iconv -f UTF-16 -t UTF-8"
        )


def _read_header(path: Path, layout: TextFormat) -> tuple[list[str], int]:
    """Return the names of the columns and the number of lines they take up."""
    if layout.header is not None:
        return list(layout.header), 0
    _check_encoding(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=layout.delimiter)
        try:
            for fields in reader:
                if fields:
                    return [name.strip() for name in fields], reader.line_num
        except csv.Error as error:
            raise DataError(f"{path.name}: the header cannot be read: {error}") from error
    raise DataError(f"{path.name}: the file is empty, wanted a header and rows")


def _read_fast(
    path: Path, layout: TextFormat, places: dict[str, int], num_fields: int, header_lines: int
) -> RawTable | None:
    """Read with pyarrow, or return None where the careful reader has to look."""
    arrow = import_arrow()
    num_quotes = _count_quotes(path)
    # A well-formed file has quotes in pairs; pyarrow would swallow rows after a lone one.
    if num_quotes % 2 or (num_quotes and _quote_within_field(path, layout.delimiter)):
        return None
    columns = [str(place) for place in range(num_fields)]
    included = [str(place) for place in places.values()]
    try:
        table = arrow.csv.read_csv(
            path,
            read_options=arrow.csv.ReadOptions(column_names=columns, skip_rows=header_lines),
            parse_options=arrow.csv.ParseOptions(
                delimiter=layout.delimiter,
                newlines_in_values=num_quotes > 0,
            ),
            convert_options=arrow.csv.ConvertOptions(
                include_columns=included,
                column_types=dict.fromkeys(included, arrow.pa.string()),
            ),
        )
    except arrow.pa.ArrowException:
        return None
    if num_quotes and table.num_rows != _count_lines(path, header_lines):
        return None  # a field of several lines, or two lone quotes and what is between them
    found = {name: table.column(str(place)).combine_chunks() for name, place in places.items()}
    return RawTable(found, table.num_rows, None, unit="line")


def _count_quotes(path: Path) -> int:
    return sum(chunk.count(b'"') for chunk in _chunks(path))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK_BYTES), b"")


def _quote_within_field(path: Path, delimiter: str) -> bool:
    """Return whether a quote has other characters of a field on both of its sides."""
    edges = re.escape(f'\r\n"{delimiter}').encode()
    within = re.compile(b'[^%b]"[^%b]' % (edges, edges))
    before = b""
    for chunk in _chunks(path):
        if within.search(before + chunk):
            return True
        before = chunk[-2:]
    return False


def _count_lines(path: Path, header_lines: int) -> int:
    """Return how many lines that are not empty follow the header."""
    with path.open(encoding="latin-1", newline="") as file:
        header = [line for _, line in zip(range(header_lines), file, strict=False)]
    count, at_edge = -sum(bool(line.strip("\r\n")) for line in header), True
    for chunk in _chunks(path):
        edges = np.isin(np.frombuffer(chunk, dtype=np.uint8), (10, 13))
        count += int((~edges & np.concatenate([[at_edge], edges[:-1]])).sum())
        at_edge = bool(edges[-1])
    return count


def _read_careful(
    path: Path,
    layout: TextFormat,
    places: dict[str, int],
    num_fields: int,
    header_lines: int,
    progress: Progress | None,
) -> RawTable:
    """Read record by record, keeping the line that each starts on."""
    pa = import_arrow().pa
    values: dict[str, list[str]] = {name: [] for name in places}
    lines: list[int] = []
    malformed: dict[int, str] = {}
    for line, fields in _records(path, layout, header_lines, progress):
        if isinstance(fields, str):
            malformed[line] = fields
        elif len(fields) != num_fields:
            malformed[line] = f"the wrong number of fields (wanted {num_fields})"
        elif not all(
            fields[place].isascii() or _is_text(fields[place]) for place in places.values()
        ):
            malformed[line] = "bytes that are not UTF-8"
        else:
            lines.append(line)
            for name, place in places.items():
                values[name].append(fields[place])
    columns = {name: pa.array(column, type=pa.string()) for name, column in values.items()}
    numbers = np.array(lines, dtype=np.int64)
    return RawTable(columns, len(lines), numbers, malformed, unit="line")


def _is_text(value: str) -> bool:
    """Tell whether the bytes were UTF-8: others were read as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _records(
    path: Path, layout: TextFormat, header_lines: int, progress: Progress | None
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the first line of each record with its fields, or with what is wrong with it."""
    with path.open("rb") as raw:
        total = path.stat().st_size
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=layout.delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "expected after" not in str(error):
                    raise UnparsableRowsError(
                        f"{path.name}: the quote opened in line {line:,} is never closed", [line]
                    ) from error
                yield line, "text after a closing quote"
                continue
            if fields and line > header_lines:
                yield line, fields
            if progress is not None and reader.line_num % _REPORT_ROWS == 0:
                progress(raw.tell(), total)

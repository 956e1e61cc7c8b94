"""The changes beside a snapshot: a SQLite database, a row and a transaction for each change."""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import ChangesError, SaveError
from poeem.index.codes import packed_dtype
from poeem.index.contents import IndexContents, Titles
from poeem.live.batch import Batch
from poeem.live.rows import Rows
from poeem.types import Array

MAX_BATCH_BYTES = 1 << 29  # SQLite takes values up to twice this
_BUSY_SECONDS = 60.0
_COLUMNS = "number, made, num_put, ids, codes, lists, title_offsets, title_bytes, crc32"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS series (series TEXT, base TEXT, floor INTEGER, crc32 INTEGER)",
    "CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY, made REAL, num_put INTEGER, "
    "ids BLOB, codes BLOB, lists BLOB, title_offsets BLOB, title_bytes BLOB, crc32 INTEGER)",
)


@dataclass(frozen=True)
class Series:
    """Which changes a database holds.

    series: 32 hexadecimal digits. base: fingerprint of the snapshot it began with.
    floor: changes up to this number may be gone.
    """

    series: str
    base: str
    floor: int

    def crc32(self) -> int:
        """Return the checksum of its row."""
        return zlib.crc32(f"{self.series}\n{self.base}\n{self.floor}\n".encode())

    def folded_in(self, contents: IndexContents) -> int | None:
        """Return the last change that a snapshot holds; None if it is not of this series."""
        if contents.live is not None and contents.live.series == self.series:
            return contents.live.folded
        return 0 if contents.fingerprint == self.base else None


class Changes:
    """An open database of changes. Not for several threads at a time."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open, and make if writable and missing.

        Raises:
            ChangesError: it is damaged, or something else.
            SaveError: it could not be made.
        """
        self.path = path
        self._opened = _place(path)
        with self._errors(writing=False):
            if writable:
                self._connection = _connect(path.as_uri())
                self._prepare()
            else:
                self._connection = _connect_to_read(path)

    def is_current(self) -> bool:
        """Return whether this is still the file of that name: somebody may have removed it."""
        return self._opened is not None and self._opened == _place(self.path)

    def _prepare(self) -> None:
        """Make the tables; the mode stays with the file, synchronous with the connection."""
        with self._errors(writing=True):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                for table in _TABLES:
                    self._connection.execute(table)

    def close(self) -> None:
        """Close the connection; once more does no harm."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def series(self) -> Series | None:
        """Return which changes these are; None in a database that is still empty.

        Raises:
            ChangesError: it is damaged.
        """
        with self._errors(writing=False):
            if not self._connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'series'"
            ).fetchone():
                return None
            found = self._connection.execute(
                "SELECT series, base, floor, crc32 FROM series"
            ).fetchall()
        if not found:
            return None
        series = Series(*found[0][:3])
        typed = [type(value) for value in found[0]] == [str, str, int, int]
        if len(found) > 1 or not typed or series.crc32() != found[0][3]:
            raise ChangesError(f"{self.path}: its series is damaged, the checksum does not match")
        return series

    def check_whole(self) -> None:
        """Look at all pages of the database, also those that no change needs.

        Raises:
            ChangesError: they do not fit together.
        """
        with self._errors(writing=False):
            said = self._connection.execute("PRAGMA integrity_check").fetchall()
        if said != [("ok",)]:
            text = "".join(c if c.isprintable() else "?" for c in str(said[0][0])[:200])
            raise ChangesError(f"{self.path}: the database is damaged, {text}")

    def read(self, like: IndexContents, number: int) -> tuple[Series | None, int, list[Batch]]:
        """Return the changes after `number` that a snapshot lacks, as of one moment.

        Args:
            like: the snapshot.
            number: the last change that is known already; 0 = none.

        Returns:
            The series; the number of the change before the first one returned; changes.

        Raises:
            ChangesError: a change is damaged or missing, or they are of another snapshot, or were
                folded into a later one.
        """
        with self._reading():
            series = self.series()
            if series is None:
                return None, number, []
            folded = series.folded_in(like)
            if folded is None:
                raise ChangesError(
                    f"{self.path}: changes of another snapshot than the one beside it; bring that "
                    "back, or remove this file and the one that ends in .writer to lose them: "
                    f"{self._count()}"
                )
            number = max(folded, number)
            return series, number, self._after(number, like, series)

    def _count(self) -> str:
        """Say how many changes the database holds."""
        with self._errors(writing=False):
            count = self._connection.execute("SELECT count(*) FROM changes").fetchone()[0]
        return f"{count:,} changes" if count else "none is in it"

    def _after(self, number: int, like: IndexContents, series: Series) -> list[Batch]:
        """Return the changes after this one, without a gap."""
        if number < series.floor:
            raise ChangesError(
                f"{self.path}: changes from {number + 1} to {series.floor} are gone; the snapshot "
                "beside it is older than they are"
            )
        with self._errors(writing=False):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM changes WHERE number > ? ORDER BY number", (number,)
            ).fetchall()
        batches = []
        for wanted, row in enumerate(rows, number + 1):
            if row[0] != wanted:
                raise ChangesError(f"{self.path}: change {wanted} is missing")
            batches.append(self._decoded(row, like))
        return batches

    def begin_series(self, series: Series) -> None:
        """Say which changes these are, instead of those there were.

        Raises:
            SaveError: the system refused; nothing changed.
        """
        with self._errors(writing=True), self._transaction():
            self._connection.execute("DELETE FROM changes")
            self._write_series(series)

    def append(self, row: tuple[Any, ...]) -> None:
        """Write a change, as `encode` makes it; it is on the disk when this returns.

        Raises:
            SaveError: the system refused; nothing changed.
        """
        with self._errors(writing=True):  # a statement by itself is a transaction
            self._connection.execute(f"INSERT INTO changes ({_COLUMNS}) VALUES ({_marks(9)})", row)

    def forget(self, series: Series) -> None:
        """Delete the changes up to the floor of `series`, and write that.

        Raises:
            SaveError: the system refused; nothing changed.
        """
        with self._errors(writing=True), self._transaction():
            self._connection.execute("DELETE FROM changes WHERE number <= ?", (series.floor,))
            self._write_series(series)

    def last_number(self) -> int:
        """Return the number of the last change; 0 = there is none."""
        with self._errors(writing=False):
            found = self._connection.execute("SELECT max(number) FROM changes").fetchone()
        return int(found[0] or 0)

    def _write_series(self, series: Series) -> None:
        self._connection.execute("DELETE FROM series")
        values = (series.series, series.base, series.floor, series.crc32())
        self._connection.execute(f"INSERT INTO series VALUES ({_marks(4)})", values)

    def _decoded(self, row: Sequence[Any], like: IndexContents) -> Batch:
        try:
            return decode(row, like)
        except (ValueError, TypeError, struct.error) as error:
            raise ChangesError(f"{self.path}: change {row[0]} is damaged, {error}") from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All reads within see the database of one moment."""
        with self._errors(writing=False):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self, *, writing: bool) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if writing:
                raise SaveError(
                    f"{self.path}: not written, what was acknowledged before is whole: {error}"
                ) from error
            raise ChangesError(f"{self.path}: cannot be read, {error}") from error
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            raise ChangesError(f"{self.path}: damaged, {error}") from error


def encode(batch: Batch) -> tuple[Any, ...]:
    """Return the row of a change, as FORMAT.md has it."""
    put, titles = batch.put, batch.put.titles
    blobs = (
        np.concatenate([put.ids, batch.removed]).astype("<i8").tobytes(),
        put.codes.tobytes(),
        b"" if put.lists is None else put.lists.astype("<i4").tobytes(),
        b"" if titles is None else titles.offsets.astype("<i8").tobytes(),
        b"" if titles is None else titles.blob.tobytes(),
    )
    crc = _checksum(batch.number, batch.made, len(put), blobs)
    return (batch.number, batch.made, len(put), *blobs, crc)


def decode(row: Sequence[Any], like: IndexContents) -> Batch:
    """Return the change of a row; rows are as `encode` makes them.

    Raises:
        ValueError, TypeError, struct.error: it is not whole, or not of an index like this.
    """
    number, made, num_put, *blobs, crc = row
    if _checksum(number, made, num_put, blobs) != crc:
        raise ValueError("its checksum does not match")
    all_ids = np.frombuffer(blobs[0], "<i8")
    if not 0 <= num_put <= len(all_ids) or (all_ids == -1).any():
        raise ValueError("its ids are not those of items")
    if len(np.unique(all_ids)) != len(all_ids):
        raise ValueError("an id is twice in it")
    codes = np.frombuffer(blobs[1], packed_dtype(like.code_bits))
    codes = codes.reshape(num_put, like.num_subspaces)
    _check_below("codes", codes, like.num_codewords)
    lists = None
    if like.centroids is not None:
        lists = np.frombuffer(blobs[2], "<i4").reshape(num_put)
        _check_below("lists", lists, like.num_lists)
    titles = None
    if like.titles is not None:
        titles = _titles(blobs[3], blobs[4], num_put)
    put = Rows(all_ids[:num_put], codes, lists, None, titles)
    return Batch(number, made, put, all_ids[num_put:])


def _titles(offset_bytes: bytes, blob: bytes, count: int) -> Titles:
    offsets = np.frombuffer(offset_bytes, "<i8").reshape(count + 1)
    if offsets[0] != 0 or offsets[-1] != len(blob) or (np.diff(offsets) < 0).any():
        raise ValueError("its titles do not fit")
    blob.decode()  # a UnicodeDecodeError is a ValueError
    starts = offsets[:-1][offsets[:-1] < len(blob)]
    if (np.frombuffer(blob, np.uint8)[starts] & 0xC0 == 0x80).any():
        raise ValueError("one of its titles begins within a character")
    return Titles(offsets, np.frombuffer(blob, np.uint8))


def _check_below(name: str, values: Array, limit: int) -> None:
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < limit:
        raise ValueError(f"{name} are not from 0 to {limit - 1}")


def _checksum(number: int, made: float, num_put: int, blobs: Sequence[bytes]) -> int:
    crc = zlib.crc32(struct.pack("<qdq", number, made, num_put))
    for blob in blobs:
        crc = zlib.crc32(blob, crc)
    return crc


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _place(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open without ever writing the database itself; where that cannot be, as a file at rest."""
    connection = _connect(f"{path.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # A folder that cannot be written, and no writer: SQLite would want to make files there.
        connection = _connect(f"{path.as_uri()}?immutable=1")
    return connection

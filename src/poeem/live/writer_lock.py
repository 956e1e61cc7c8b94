"""The file that one writer holds: who writes, and which change was last acknowledged."""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from poeem.errors import IndexLockedError, SaveError

RECORD_BYTES = 63

_HELD: weakref.WeakSet[WriterLock] = weakref.WeakSet()


@dataclass(frozen=True)
class Acknowledged:
    """The last change that a writer said was durable."""

    series: str
    number: int

    def record(self) -> bytes:
        """Return it as the file has it."""
        text = f"{self.series} {self.number:020d} ".encode()
        return text + b"%08x\n" % zlib.crc32(text)

    @classmethod
    def of_record(cls, record: bytes) -> Acknowledged | None:
        """Read a record; None if it says nothing."""
        text, crc = record[:-9], record[-9:]
        if len(record) != RECORD_BYTES or crc != b"%08x\n" % zlib.crc32(text):
            return None
        series, number = text.split()
        return cls(series.decode(), int(number))


class WriterLock:
    """Held while a process may change an index; the system lets go of it when the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            IndexLockedError: another writer holds it.
            SaveError: the file cannot be made.
        """
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise SaveError(f"{path}: cannot be written: {error}") from error
        try:
            _lock(self._file)
        except OSError:
            holder = _text_for_people(self._file)
            os.close(self._file)
            raise IndexLockedError(
                f"{path.with_suffix('')}: another writer has it open{holder}, wanted one at a time"
            ) from None
        self.held = True
        _HELD.add(self)

    def record(self) -> bytes:
        """Return the record of what was last acknowledged, by this writer or the one before."""
        return os.pread(self._file, RECORD_BYTES, 0)

    def acknowledge(self, last: Acknowledged) -> None:
        """Say that a change is durable. Not flushed: it may be behind the truth, never ahead."""
        with suppress(OSError):  # a full disk must not undo what is already durable
            os.pwrite(self._file, last.record(), 0)

    def sign(self, last: Acknowledged) -> None:
        """Write the record, and for people who holds the lock."""
        self.acknowledge(last)
        with suppress(OSError):
            os.pwrite(self._file, f"held by process {os.getpid()}\n".encode(), RECORD_BYTES)

    def release(self) -> None:
        """Let go; the file stays."""
        self.held = False
        _HELD.discard(self)
        _unlock(self._file)  # a child of a fork that is under way may still have it open
        os.close(self._file)

    def forget(self) -> None:
        """Close what a fork has copied: a lock is held for as long as any copy is open."""
        self.held = False
        with suppress(OSError):
            os.close(self._file)


class Watch:
    """What a reader looks at before each search: costs three system calls."""

    def __init__(self, snapshot: Path, writer: Path) -> None:
        """Both files may be missing."""
        self._snapshot = snapshot
        self._writer = writer
        self._file: int | None = None
        self._opened: tuple[int, int] | None = None
        self._opening = threading.Lock()

    def look(self) -> tuple[object, bytes]:
        """Return something that is equal as long as neither snapshot nor changes are new."""
        return stamp_of(self._snapshot), self._record()

    def _record(self) -> bytes:
        try:
            status = os.stat(self._writer)
            file = self._file
            if file is None or self._opened != (status.st_dev, status.st_ino):
                file = self._reopen()
            return os.pread(file, RECORD_BYTES, 0)
        except OSError:
            return b""

    def _reopen(self) -> int:
        """Open the file anew: there was none, or somebody removed it and a writer made another."""
        with self._opening:
            fresh = os.open(self._writer, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(fresh)
            if self._file is None:
                self._file = fresh
            else:  # under the number that other threads may be reading by
                os.dup2(fresh, self._file, inheritable=False)
                os.close(fresh)
            self._opened = status.st_dev, status.st_ino  # last: who sees it reads the new file
            return self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def record_of(path: Path) -> bytes:
    """Return the record of what was last acknowledged; empty if there is none."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(RECORD_BYTES)
    return b""


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from another of the same name; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size)


def _lock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(file: int) -> None:
    import fcntl

    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _text_for_people(file: int) -> str:
    text = os.pread(file, 100, RECORD_BYTES).split(b"\n")[0].decode(errors="replace")
    return f", {text}" if text else ""

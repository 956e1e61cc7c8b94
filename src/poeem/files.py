"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import lzma
import os
import stat
import tempfile
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poeem.errors import InputError, SaveError

_NAME_BYTES = 200

UNREADABLE = (
    OSError,
    ValueError,  # also of decoding
    TypeError,
    AttributeError,  # a member of a .npz that is no array
    LookupError,
    EOFError,
    MemoryError,
    RuntimeError,  # a .zip of a kind that Python cannot read, or with a password
    SyntaxError,  # of an array's header
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What NumPy and zipfile raise for damaged .npy and .npz files."""

_HELD: dict[tuple[int, int], int] = {}
"""Device and number of each folder that this process holds -> the thread that does."""


def reason(error: BaseException) -> str:
    """Return what an error of `UNREADABLE` says, but for NumPy's advice to load it unsafely."""
    text = str(error) or type(error).__name__
    return "no array, or one of Python objects" if "allow_pickle" in text else text


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`.

    What was written is on the disk before the name changes. On any error the temporary file is
    removed and whatever `path` held before is untouched.

    Raises:
        SaveError: the disk is full, the folder is missing or not writable, or `path` is a device,
            a pipe or a socket, which a file would take the place of.
    """
    target = Path(path)
    try:
        _refuse_devices(target)
        # The name may be as long as the system allows, the temporary one no longer.
        short = os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{short}.", suffix=".tmp")
        os.close(handle)
    except OSError as error:
        raise SaveError(f"{target}: cannot write there: {error}") from error
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files private; a saved file gets the permissions any new file gets.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
        with suppress(OSError):
            _sync(target.parent)
    except OSError as error:
        message = f"{target}: not written, what was there before is whole: {error}"
        raise SaveError(message) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def file_lock(path: str | Path) -> Iterator[None]:
    """Wait until no other process is in here for `path`; the lock is a hidden file beside it.

    Raises:
        SaveError: the folder is missing or not writable.
    """
    target = Path(path)
    try:
        handle = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise SaveError(f"{target}: cannot write there: {error}") from error
    try:
        with suppress(ImportError, OSError):  # a file system without locks: as well as it goes
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def held_folder(path: str | Path) -> Iterator[None]:
    """Have a folder to oneself: no other process or thread is in here for it.

    The system lets go of it when the process ends. Nothing is written.

    Raises:
        InputError: another holds it.
        SaveError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SaveError(f"{path}: cannot be opened: {error}") from error
    try:
        status = os.fstat(handle)
        key, thread = (status.st_dev, status.st_ino), threading.get_ident()
        if _HELD.get(key) == thread:  # further out
            yield
            return
        try:
            with suppress(ImportError):
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{path}: another process trains there, wanted one at a time; wait until it has "
                "ended, or name another folder"
            ) from None
        except OSError:
            pass  # a file system without locks: as well as it goes
        _HELD[key] = thread
        try:
            yield
        finally:
            del _HELD[key]
    finally:
        os.close(handle)


def _refuse_devices(target: Path) -> None:
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is no file, and would be replaced by one")


def replace_file(source: Path, target: Path) -> None:
    """Rename a file that is on the disk already, and have the name on the disk too.

    Raises:
        SaveError: the system refused; `target` is what it was.
    """
    try:
        os.replace(source, target)
    except OSError as error:
        raise SaveError(f"{target}: not replaced: {error}") from error
    with suppress(OSError):
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The index file, as FORMAT.md specifies it: written whole, mapped after it was checked."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from poeem.errors import ChangedIndexError, IndexFileError, NotAnIndexError
from poeem.files import atomic_write
from poeem.index.calibration import to_text
from poeem.index.codes import aligned_zeros
from poeem.index.contents import IndexContents
from poeem.index.header import (
    FORMAT_NAME,
    PLAIN_ENCODING,
    crc_text,
    encode_header,
    normalisation_of,
    version_of,
)
from poeem.index.validate import LazyContents, Verify, checks_of, validate
from poeem.types import Array

_MAX_MESSAGE = 500


def tensors_of(contents: IndexContents) -> dict[str, Array]:
    """Return the tensors of the file, in its order.

    Codes come first: they are aligned to a cache line there, and end on one. Then wide elements
    before narrow ones, so that all are aligned.
    """
    titles = contents.titles
    tensors = {
        "list_offsets": contents.list_offsets,
        "title_offsets": None if titles is None else titles.offsets,
        "rotation": contents.rotation,
        "centroids": contents.centroids,
        "codebooks": contents.codebooks,
        "error_metric": contents.encoding.error_metric,
        "norms": contents.norms,
        "ids": contents.ids,
        "codes": contents.codes,
        "title_bytes": None if titles is None else titles.blob,
    }
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return dict(sorted(present.items(), key=lambda item: (item[0] != "codes", -item[1].itemsize)))


def write_index(contents: IndexContents, path: Path) -> None:
    """Write an index file atomically.

    Raises:
        SaveError: the system refused; what was at `path` is untouched.
    """
    tensors = tensors_of(contents)
    metadata = {
        "format": FORMAT_NAME,
        "format_version": str(
            version_of(contents.family, error_metric=contents.encoding.error_metric is not None)
        ),
        "family": str(contents.family),
        "metric": contents.metric.value,
        "normalisation": normalisation_of(contents.metric),
        "dim": str(contents.dim),
        "num_items": str(contents.num_items),
        "num_lists": str(contents.num_lists),
        "num_subspaces": str(contents.num_subspaces),
        "num_codewords": str(contents.num_codewords),
        "code_bits": str(contents.code_bits),
        "created": contents.created,
        "library_version": contents.library_version,
        "lineage": json.dumps(dict(contents.lineage), separators=(",", ":")),
    }
    if contents.calibration is not None:
        metadata["calibration"] = to_text(contents.calibration)
    numbers = {
        "beam": contents.encoding.beam,
        "parallel_weight": contents.encoding.parallel_weight,
    }
    if numbers != PLAIN_ENCODING:
        metadata["encoding"] = json.dumps(numbers, separators=(",", ":"))
    if contents.live is not None:
        metadata["live"] = json.dumps(dataclasses.asdict(contents.live), separators=(",", ":"))
    for name, tensor in tensors.items():
        metadata[f"crc32.{name}"] = crc_text(tensor).decode()

    with (
        atomic_write(path.resolve() if os.path.islink(path) else path) as temporary,
        open(temporary, "wb") as file,
    ):
        file.write(encode_header(metadata, tensors))
        for tensor in tensors.values():
            file.write(tensor.data)


def read_index(path: Path, *, verify: Verify, in_memory: bool = False) -> IndexContents:
    """Map or read an index file; nothing in it is used before it has been checked.

    Args:
        path: the file, or a link to it.
        verify: when the tensors are checked.
        in_memory: read the file instead of mapping it.

    Raises:
        NotAnIndexError, TruncatedIndexError, CorruptIndexError, IndexVersionError: see errors.
        ChangedIndexError: the file changed meanwhile.
    """
    try:
        with _opened(path) as descriptor:
            before = _state(descriptor)
            contents = validate(_bytes_of(descriptor, in_memory=in_memory), verify)
            if _state(descriptor) != before:
                raise ChangedIndexError("changed while it was read")
    except IndexFileError as error:
        raise _at(path, error) from None
    if isinstance(contents, LazyContents):
        contents.checks.where = f"{path}: "
    return contents


def check_file(path: Path) -> dict[str, IndexFileError | None]:
    """Check every tensor of a file, whatever is wrong with the others.

    Returns:
        Tensor name -> what is wrong with it, None where nothing is.

    Raises:
        IndexFileError: what is wrong with the header, so that no tensor can be found.
    """
    try:
        with _opened(path) as descriptor:
            checks = checks_of(_bytes_of(descriptor, in_memory=False))
            found = {name: checks.error_of(name) for name in checks.names}
    except IndexFileError as error:
        raise _at(path, error) from None
    return {name: error and _at(path, error) for name, error in found.items()}


def _at(path: Path, error: IndexFileError) -> IndexFileError:
    """Return the error with the file's name, and fit to be read: it may quote a hostile file."""
    return type(error)(f"{path}: {_printable(str(error))}")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yield a descriptor of a regular file: it is this file that is asked, whatever the path does.

    Opening a pipe must not wait for a writer.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotAnIndexError("no such file") from None
    except (OSError, ValueError) as error:
        raise IndexFileError(f"cannot be read, {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAnIndexError("not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _state(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _bytes_of(descriptor: int, *, in_memory: bool) -> Array:
    """Return all bytes, uint8 [n], read-only; codes are aligned as they are in the file."""
    num_bytes = os.fstat(descriptor).st_size
    if num_bytes == 0:
        raise NotAnIndexError("empty")
    try:
        if not in_memory:
            mapped = mmap.mmap(descriptor, num_bytes, access=mmap.ACCESS_READ)
            return np.frombuffer(mapped, dtype=np.uint8)
        data = aligned_zeros((num_bytes,), np.dtype(np.uint8))
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            done = 0
            while done < num_bytes and (read := file.readinto(data[done:].data)):
                done += read
    except (OSError, ValueError) as error:
        raise IndexFileError(f"cannot be read, {error}") from error
    except MemoryError:
        raise IndexFileError(f"cannot be read, {num_bytes} bytes do not fit the memory") from None
    data.flags.writeable = False
    return data[:done]


def _printable(text: str) -> str:
    """Return a text that is short and has no code for a terminal in it."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_MESSAGE])

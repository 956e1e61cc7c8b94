"""The index file, as FORMAT.md specifies it: written whole, mapped after it was checked."""

from __future__ import annotations

import json
import mmap
import stat
from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import CorruptIndexError, IndexFileError, NotAnIndexError
from poeem.files import atomic_write
from poeem.index.calibration import to_text
from poeem.index.contents import IndexContents, Titles
from poeem.index.header import (
    DTYPES,
    FORMAT_NAME,
    FORMAT_VERSION,
    Header,
    crc_text,
    encode_header,
    normalisation_of,
    parse_header,
)
from poeem.index.validate import validate
from poeem.types import Array


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
        "format_version": str(FORMAT_VERSION),
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
    for name, tensor in tensors.items():
        metadata[f"crc32.{name}"] = crc_text(tensor).decode()

    with (
        atomic_write(path.resolve() if path.is_symlink() else path) as temporary,
        open(temporary, "wb") as file,
    ):
        file.write(encode_header(metadata, tensors))
        for tensor in tensors.values():
            file.write(tensor.data)


def read_index(path: Path, *, verify: bool) -> IndexContents:
    """Map an index file; nothing in it is used before it has been checked.

    Args:
        path: the file.
        verify: compare the checksum of every tensor and look at every item. Without it only the
            header, the small tensors and what memory safety rests on are checked.

    Raises:
        NotAnIndexError, TruncatedIndexError, CorruptIndexError, IndexVersionError: see errors.
    """
    try:
        data = np.frombuffer(_map_file(path), dtype=np.uint8)
        header = parse_header(data.data)
        tensors = {
            name: data[header.data_start + entry.begin : header.data_start + entry.end]
            .view(DTYPES[entry.dtype])
            .reshape(entry.shape)
            for name, entry in header.tensors.items()
        }
        if verify:
            _check_tensor_checksums(header, tensors)
        contents = _contents_of(header, tensors)
        validate(contents, every_item=verify)
    except IndexFileError as error:
        raise type(error)(f"{path}: {error}") from None
    return contents


def _map_file(path: Path) -> mmap.mmap:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # asked first: opening a pipe would wait for a writer
            raise NotAnIndexError("not a regular file")
        if status.st_size == 0:
            raise NotAnIndexError("empty")
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise NotAnIndexError("no such file") from None
    except (OSError, ValueError) as error:
        raise IndexFileError(f"cannot be read, {error}") from error


def _check_tensor_checksums(header: Header, tensors: dict[str, Array]) -> None:
    for name, tensor in tensors.items():
        wanted = header.metadata.get(f"crc32.{name}", "")
        if crc_text(tensor).decode() != wanted:
            raise CorruptIndexError(f"{name}: checksum does not match")


def _contents_of(header: Header, tensors: dict[str, Any]) -> IndexContents:
    titles = None
    if "title_offsets" in tensors:
        titles = Titles(tensors["title_offsets"], tensors["title_bytes"])
    return IndexContents(
        metric=header.metric,
        num_items=header.num_items,
        codebooks=tensors["codebooks"],
        codes=tensors["codes"],
        rotation=tensors.get("rotation"),
        centroids=tensors.get("centroids"),
        list_offsets=tensors.get("list_offsets"),
        ids=tensors.get("ids"),
        norms=tensors.get("norms"),
        titles=titles,
        calibration=header.calibration,
        lineage=header.lineage,
        created=header.metadata["created"],
        library_version=header.metadata["library_version"],
    )

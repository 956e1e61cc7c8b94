"""What a file is, by its name and its first bytes."""

from __future__ import annotations

from pathlib import Path

from poeem.errors import ConfigError, IndexFileError, NotAnIndexError
from poeem.interchange.authors import read_authors_header
from poeem.interchange.parquet import ITEMS

EXPORTS = ("faiss", "npz", "parquet")
IMPORTS = (*EXPORTS, "authors")

_SUFFIXES = {".faiss": "faiss", ".npz": "npz", ".parquet": "parquet"}
_POEEM = b'{"__metadata__":{"header_crc32":"'
_FAISS = (b"Ix", b"Iw", b"Iv", b"IH")


def export_kind(path: Path) -> str:
    """Return what to write to a path, by its suffix.

    Raises:
        ConfigError: the suffix says nothing.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"{path}: which kind to write is not clear from the suffix {path.suffix!r}; wanted one "
            f"of {', '.join(_SUFFIXES)}, or --to {', '.join(EXPORTS)}"
        )
    return kind


def import_kind(path: Path) -> str:
    """Return what a file, or a folder of tables, holds.

    Raises:
        NotAnIndexError: nothing that is known, or an index of this library.
    """
    if path.is_dir():
        if (path / ITEMS).exists():
            return "parquet"
        raise NotAnIndexError(f"{path}: a folder without {ITEMS}")
    if path.exists() and not path.is_file():
        raise NotAnIndexError(f"{path}: no file, but a pipe or a device")
    try:
        with path.open("rb") as file:
            start = file.read(8 + len(_POEEM))
    except OSError as error:
        raise NotAnIndexError(f"{path}: cannot be read: {error}") from None
    if start[8:] == _POEEM:
        raise NotAnIndexError(f"{path}: it is an index of this library already")
    if start[:2] == b"PK":
        return "npz"
    if start[:4] == b"PAR1":
        raise NotAnIndexError(
            f"{path}: one Parquet table; wanted the folder with {ITEMS} and codebooks.parquet"
        )
    if start[:2] in _FAISS:
        return "faiss"
    try:
        read_authors_header(path)
    except IndexFileError:
        raise NotAnIndexError(
            f"{path}: of no known kind; say which with --from {', '.join(IMPORTS)}"
        ) from None
    return "authors"

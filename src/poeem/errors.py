"""Every error this library raises on purpose.

    PoeemError
    ├── InputError (also a ValueError)          what the caller passed is wrong
    │   ├── ShapeError                          wrong number of dimensions, width or length; empty
    │   ├── DtypeError (also a TypeError)       wrong element type
    │   ├── NonFiniteError                      NaN or infinity; carries .rows
    │   ├── IdError                             duplicate ids, or ids that do not fit int64
    │   ├── ConfigError                         a setting out of its range, or unknown
    │   └── DataError                           a table of interactions cannot be used
    │       ├── MissingColumnError              a named column is not there
    │       └── UnparsableRowsError             rows that cannot be read; carries .lines
    ├── NotWarmError (also a RuntimeError)      codes asked for before the warm start
    ├── IndexFileError                          an index file cannot be used
    │   ├── NotAnIndexError                     it is something else
    │   ├── TruncatedIndexError                 it ends too early
    │   ├── CorruptIndexError                   a checksum or a rule of FORMAT.md does not hold
    │   │   ├── HeaderError                     the header is not what it must be
    │   │   ├── LayoutError                     tensors overlap, leave a hole, or overflow
    │   │   ├── TensorError                     one is missing, unknown, or of another shape or type
    │   │   ├── ChecksumError                   bytes are not those that were written
    │   │   ├── StoredFloatsError               codebooks and such: NaN, infinity or no inverse
    │   │   ├── RotationError                   a rotation that is not orthonormal
    │   │   ├── OffsetsError                    offsets of lists or titles lead astray
    │   │   ├── CodesError                      codes beyond the codebook
    │   │   ├── StoredIdsError                  ids out of order, twice, or -1
    │   │   ├── NormsError                      norms of other items
    │   │   └── TitlesError                     titles that are not UTF-8
    │   ├── ChangedIndexError                   it changed while it was read
    │   ├── IndexVersionError                   written by a newer version
    │   ├── LineageError                        made by another model than the one at hand
    │   ├── UnsupportedIndexError               of a kind that the other program, or this one, lacks
    │   ├── ChangesError                        the changes beside it are damaged, or another's
    │   └── IndexLockedError                    another writer has it open
    ├── SaveError (also an OSError)             writing failed; what was there before is whole
    ├── CheckpointError                         a checkpoint cannot be read or does not fit
    ├── MissingDependencyError (also ImportError)  an optional package is not installed
    └── TrainingInterrupted                     stopped by the user; carries .checkpoint

Messages name the argument, the value got and the value wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def install_hint(extra: str) -> str:
    """Return how to install an extra: from a clone, since no package index has this project."""
    return (
        f"install the extra, in the project's folder: pip install -c constraints.txt '.[{extra}]'"
    )


class PoeemError(Exception):
    """Base class: catches everything this library raises on purpose."""


class InputError(PoeemError, ValueError):
    """An argument has a value that cannot be used."""


class ShapeError(InputError):
    """An array has the wrong number of dimensions, width or length, or is empty."""


class DtypeError(InputError, TypeError):
    """An array has the wrong element type."""


class NonFiniteError(InputError):
    """An array holds NaN or infinity; `rows` lists the first offending rows."""

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


class IdError(InputError):
    """Ids are duplicated, or do not fit int64."""


class ConfigError(InputError):
    """A setting is unknown or out of its range."""


class DataError(InputError):
    """A table of interactions or a text set cannot be used."""


class MissingColumnError(DataError):
    """A table lacks a column that was asked for."""


class UnparsableRowsError(DataError):
    """Rows of a table cannot be read; `lines` lists the first of them, counted from 1."""

    def __init__(self, message: str, lines: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.lines = list(lines)


class NotWarmError(PoeemError, RuntimeError):
    """Codes were asked for before the layer's warm start."""


class IndexFileError(PoeemError):
    """An index file cannot be used."""


class NotAnIndexError(IndexFileError):
    """The file is not a poeem index."""


class TruncatedIndexError(IndexFileError):
    """The file ends before its header says it should."""


class CorruptIndexError(IndexFileError):
    """A checksum or an invariant of the file does not hold."""


class HeaderError(CorruptIndexError):
    """The header is too long, not the JSON it must be, or says what cannot be."""


class LayoutError(CorruptIndexError):
    """Tensors overlap, leave a hole, are misaligned, or have sizes that do not fit their bytes."""


class TensorError(CorruptIndexError):
    """A tensor is missing, unknown, or of another shape or type than the counts ask for."""


class ChecksumError(CorruptIndexError):
    """Bytes of the file are not those that were written."""


class StoredFloatsError(CorruptIndexError):
    """Codebooks, centroids, rotation or metric hold NaN or infinity; a metric has no inverse."""


class RotationError(CorruptIndexError):
    """The rotation is not orthonormal."""


class OffsetsError(CorruptIndexError):
    """Offsets of lists or titles fall, or do not end where they must."""


class CodesError(CorruptIndexError):
    """Codes are beyond the codebook, or not 0 beyond the last item."""


class StoredIdsError(CorruptIndexError):
    """Ids do not rise within a list, are there twice, or say "no item"."""


class NormsError(CorruptIndexError):
    """Norms are not those of the items."""


class TitlesError(CorruptIndexError):
    """Titles are not UTF-8, or one begins within a character."""


class ChangedIndexError(IndexFileError):
    """The file changed while it was read."""


class IndexVersionError(IndexFileError):
    """The file was written by a newer format version."""


class LineageError(IndexFileError):
    """The index was made by another model than the one at hand."""


class UnsupportedIndexError(IndexFileError):
    """An index of a kind that the other program, or this one, has no counterpart of."""


class ChangesError(IndexFileError):
    """The changes beside an index file are damaged, or belong to another one."""


class IndexLockedError(IndexFileError):
    """Another writer has the index open; there is one at a time."""


class SaveError(PoeemError, OSError):
    """A file could not be written; the file that was there before is untouched."""


class CheckpointError(PoeemError):
    """A checkpoint cannot be read, or does not fit the model it is loaded into."""


class MissingDependencyError(PoeemError, ImportError):
    """An optional package is not installed; the message names the pip command."""


class TrainingInterrupted(PoeemError):
    """The user stopped the training; `checkpoint` names the file to resume from."""

    def __init__(self, message: str, checkpoint: Path | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint

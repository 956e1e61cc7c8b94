"""Every check of an index file, made before any of its data is used.

First the header, where sizes are Python's integers, which cannot overflow (`poeem.index.header`);
then each tensor: its checksum, and what must hold inside it. Temporaries stay small: an index may
take most of the memory there is.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from poeem import _native
from poeem.errors import (
    ChecksumError,
    CodesError,
    ConfigError,
    IndexFileError,
    NormsError,
    OffsetsError,
    RotationError,
    StoredFloatsError,
    StoredIdsError,
    TitlesError,
)
from poeem.index.arguments import (
    ORTHONORMAL_TOLERANCE,
    PADDING_ID,
    is_invertible,
    orthonormal_error,
)
from poeem.index.codes import CHUNK, in_range
from poeem.index.contents import IndexContents, Titles
from poeem.index.engine import native_arrays
from poeem.index.header import DTYPES, Header, crc_text, parse_header
from poeem.types import Array, Encoding, IntArray

# Of a norm: another program may add up in another order.
NORM_TOLERANCE = 1e-5

# Checked at once whatever was asked for: they are small, and the engine works on copies of some.
_SMALL = ("codebooks", "centroids", "rotation", "list_offsets", "error_metric")


class Verify(StrEnum):
    """When the tensors of a file are checked; the header always is, before anything else.

    open: all of them, at once. lazy: the small ones at once, each other when it is first used.
    none: no checksum and no large tensor. The engine reads nothing out of bounds even so, but what
    it answers is worth as much as the file.
    """

    OPEN = "open"
    LAZY = "lazy"
    NONE = "none"

    @classmethod
    def of(cls, value: str | bool) -> Verify:
        """Return what is meant; True = open, False = none.

        Raises:
            ConfigError: it is none of these.
        """
        if isinstance(value, bool):
            return cls.OPEN if value else cls.NONE
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(one.value for one in cls)
            raise ConfigError(f"verify: got {value!r}, wanted one of {known}") from None


def validate(data: Array, verify: Verify) -> IndexContents:
    """Check a whole file, uint8 [bytes], and return what is in it: views, not copies.

    Raises:
        NotAnIndexError, TruncatedIndexError, CorruptIndexError, IndexVersionError: see errors.
    """
    checks = checks_of(data, checksums=verify is not Verify.NONE)
    checks.require(*(_SMALL if verify is not Verify.OPEN else checks.names))
    return checks.lazy_contents() if verify is Verify.LAZY else checks.contents


def checks_of(data: Array, *, checksums: bool = True) -> TensorChecks:
    """Check the header of a whole file, uint8 [bytes], and return the checks of its tensors.

    Raises:
        IndexFileError: as `validate`, of the header.
    """
    header = parse_header(data.data)
    tensors = {
        name: data[header.data_start + entry.begin : header.data_start + entry.end]
        .view(DTYPES[entry.dtype])
        .reshape(entry.shape)
        for name, entry in header.tensors.items()
    }
    fingerprint = hashlib.sha256(data.data[: header.data_start]).hexdigest()
    contents = dataclasses.replace(_contents_of(header, tensors), fingerprint=fingerprint)
    return TensorChecks(header, tensors, contents, checksums=checksums)


class TensorChecks:
    """The checks of a file's tensors, each made once, when first asked for; safe with threads."""

    def __init__(
        self, header: Header, tensors: dict[str, Array], contents: IndexContents, *, checksums: bool
    ) -> None:
        self.where = ""  # what a late error begins with
        self._header, self._tensors, self._contents = header, tensors, contents
        self._checksums = checksums
        self._lock = threading.RLock()
        self._done: dict[str, IndexFileError | None] = {}

    def require(self, *names: str) -> None:
        """Check these tensors, as far as the file has them.

        Raises:
            CorruptIndexError: of the kind of the first that is damaged; again at every call.
        """
        for name in names:
            if name not in self._done:
                with self._lock:
                    self._check(name)
            error = self._done[name]
            if error is not None:
                raise type(error)(f"{self.where}{error}")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors of the file."""
        return tuple(self._tensors)

    def error_of(self, name: str) -> IndexFileError | None:
        """Return what is wrong with a tensor, None where nothing is."""
        try:
            self.require(name)
        except IndexFileError as error:
            return error
        return None

    def lazy_contents(self) -> LazyContents:
        """Return contents whose tensors are checked when they are first looked at."""
        fields = dataclasses.fields(self._contents)
        values = {field.name: getattr(self._contents, field.name) for field in fields}
        return LazyContents(**values, checks=self)

    @property
    def contents(self) -> IndexContents:
        """The contents as they are, checked or not."""
        return self._contents

    def _check(self, name: str) -> None:
        if name in self._done:  # by another thread
            return
        error: IndexFileError | None = None
        if name in self._tensors:
            try:
                if self._checksums:
                    self._check_checksum(name)
                self.require(*_NEEDS.get(name, ()))
                _CHECKS[name](self._contents)
            except IndexFileError as found:
                error = found
        self._done[name] = error

    def _check_checksum(self, name: str) -> None:
        wanted = self._header.metadata.get(f"crc32.{name}", "")
        if crc_text(self._tensors[name]).decode() != wanted:
            raise ChecksumError(f"{name}: checksum does not match")


_LAZY = {
    "codes": ("codes",),
    "ids": ("ids",),
    "norms": ("norms",),
    "titles": ("title_offsets", "title_bytes"),
}


@dataclass(frozen=True, kw_only=True)
class LazyContents(IndexContents):
    """Contents that check a large tensor when somebody first looks at it."""

    checks: TensorChecks

    def __getattribute__(self, name: str) -> Any:
        if name in _LAZY:
            object.__getattribute__(self, "checks").require(*_LAZY[name])
        return object.__getattribute__(self, name)


def checked_whole(contents: IndexContents) -> IndexContents:
    """Return contents that check nothing more, after all that is left to check."""
    if not isinstance(contents, LazyContents):
        return contents
    contents.checks.require(*contents.checks.names)
    names = [field.name for field in dataclasses.fields(IndexContents)]
    return IndexContents(**{name: getattr(contents, name) for name in names})


def as_they_are(contents: IndexContents) -> IndexContents:
    """Return contents whose tensors can be measured without being checked."""
    return contents.checks.contents if isinstance(contents, LazyContents) else contents


def _check_codebooks(contents: IndexContents) -> None:
    _check_finite("codebooks", contents.codebooks)


def _check_centroids(contents: IndexContents) -> None:
    assert contents.centroids is not None
    _check_finite("centroids", contents.centroids)


def _check_rotation(contents: IndexContents) -> None:
    assert contents.rotation is not None
    _check_finite("rotation", contents.rotation)
    error = orthonormal_error(contents.rotation)
    if error > ORTHONORMAL_TOLERANCE:
        raise RotationError(f"rotation: R R^T is off the identity by {error:.3g}")


def _check_error_metric(contents: IndexContents) -> None:
    metric = contents.encoding.error_metric
    assert metric is not None
    _check_finite("error_metric", metric)
    if not is_invertible(metric):
        raise StoredFloatsError("error_metric: not invertible")


def _check_list_offsets(contents: IndexContents) -> None:
    assert contents.list_offsets is not None
    _check_rising("list_offsets", contents.list_offsets, contents.num_items)


def _check_codes(contents: IndexContents) -> None:
    if not in_range(
        contents.codes,
        contents.num_items,
        contents.num_subspaces,
        contents.num_codewords,
        contents.code_bits,
    ):
        raise CodesError(
            f"codes: some are not below {contents.num_codewords}, or not 0 beyond the last item"
        )


def _check_ids(contents: IndexContents) -> None:
    """Ids rise within a list, so that ties come out in order, and none is in two lists."""
    ids = contents.ids
    assert ids is not None
    starts = np.zeros(1, np.int64) if contents.list_offsets is None else contents.list_offsets
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK + 1]
        if ids.dtype == np.int64 and (part == PADDING_ID).any():
            raise StoredIdsError("ids: -1 is among them")
        falls = np.flatnonzero(part[1:] <= part[:-1]) + start + 1
        if not np.isin(falls, starts).all():
            raise StoredIdsError("ids: they do not rise within a list")
    if contents.num_lists > 1:
        repeated = _native.repeated_id(native_arrays(contents))
        if repeated != -1:
            raise StoredIdsError(f"ids: {ids[repeated]} is in two lists")


def _check_norms(contents: IndexContents) -> None:
    assert contents.norms is not None
    for start in range(0, contents.num_items, CHUNK):
        part = contents.norms[start : start + CHUNK]
        if not np.isfinite(part).all():
            raise NormsError("norms: NaN or infinity")
        if float(part.min()) < 0:
            raise NormsError("norms: some are negative")
    wrong = _native.wrong_norm(native_arrays(contents), tolerance=NORM_TOLERANCE)
    if wrong != -1:
        raise NormsError(f"norms: {contents.norms[wrong]:g} of item {wrong} is not its own")


def _check_title_offsets(contents: IndexContents) -> None:
    assert contents.titles is not None
    _check_rising("title_offsets", contents.titles.offsets, len(contents.titles.blob))


def _check_title_bytes(contents: IndexContents) -> None:
    """The whole is UTF-8, and no title begins within a character."""
    assert contents.titles is not None
    offsets, blob = contents.titles.offsets, contents.titles.blob
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(blob), CHUNK):
            decoder.decode(blob[start : start + CHUNK].tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise TitlesError(f"titles: not UTF-8, {error.reason}") from None
    for start in range(0, len(offsets), CHUNK):
        begins = offsets[start : start + CHUNK]
        if (blob[begins[begins < len(blob)]] & 0xC0 == 0x80).any():
            raise TitlesError("titles: one begins within a character")


_CHECKS: dict[str, Callable[[IndexContents], None]] = {
    "codebooks": _check_codebooks,
    "centroids": _check_centroids,
    "rotation": _check_rotation,
    "list_offsets": _check_list_offsets,
    "error_metric": _check_error_metric,
    "codes": _check_codes,
    "ids": _check_ids,
    "norms": _check_norms,
    "title_offsets": _check_title_offsets,
    "title_bytes": _check_title_bytes,
}

# What a check takes at its word, and must be checked before.
_NEEDS = {
    "ids": _SMALL,
    "norms": (*_SMALL, "codes"),
    "title_bytes": ("title_offsets",),
}


def _check_finite(name: str, array: Array) -> None:
    for start in range(0, len(array), CHUNK):
        if not np.isfinite(array[start : start + CHUNK]).all():
            raise StoredFloatsError(f"{name}: NaN or infinity")


def _check_rising(name: str, offsets: IntArray, last: int) -> None:
    if int(offsets[0]) != 0 or int(offsets[-1]) != last:
        raise OffsetsError(f"{name}: from {offsets[0]} to {offsets[-1]}, wanted 0 to {last}")
    for start in range(0, len(offsets) - 1, CHUNK):
        part = offsets[start : start + CHUNK + 1]
        if (part[1:] < part[:-1]).any():
            raise OffsetsError(f"{name}: they fall")


def _contents_of(header: Header, tensors: dict[str, Any]) -> IndexContents:
    titles = None
    if "title_offsets" in tensors:
        titles = Titles(tensors["title_offsets"], tensors["title_bytes"])
    return IndexContents(
        metric=header.metric,
        family=header.family,
        num_items=header.num_items,
        codebooks=tensors["codebooks"],
        encoding=Encoding(tensors.get("error_metric"), header.parallel_weight, header.beam),
        codes=tensors["codes"],
        rotation=tensors.get("rotation"),
        centroids=tensors.get("centroids"),
        list_offsets=tensors.get("list_offsets"),
        ids=tensors.get("ids"),
        norms=tensors.get("norms"),
        titles=titles,
        calibration=header.calibration,
        lineage=header.lineage,
        live=header.live,
        created=header.metadata["created"],
        library_version=header.metadata["library_version"],
    )

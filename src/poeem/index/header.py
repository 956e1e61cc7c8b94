"""The header of an index file: a safetensors header whose first entry is its own checksum."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from poeem.errors import (
    ChecksumError,
    HeaderError,
    IndexVersionError,
    LayoutError,
    NotAnIndexError,
    TensorError,
    TruncatedIndexError,
)
from poeem.index.calibration import Calibration, from_values
from poeem.index.codes import CODES_ALIGNMENT, MAX_CODEWORDS, code_bits_for, packed_shape
from poeem.index.contents import LiveMark, metric_uses_norms
from poeem.types import MAX_BEAM, MAX_PARALLEL_WEIGHT, Array, Family, Metric

FORMAT_NAME = "poeem-index"
FORMAT_VERSION = 3  # the highest there is
MAX_HEADER_BYTES = 16 << 20
LENGTH_BYTES = 8
DATA_ALIGNMENT = 64  # where tensors start, so that every one of them is aligned for its type

# Every version of the format starts like this, so that a reader knows the file before it parses.
PREFIX = b'{"__metadata__":{"header_crc32":"'
CRC_START = LENGTH_BYTES + len(PREFIX)
CRC_END = CRC_START + 8
NO_CRC = b"00000000"

# How codes are found where a file does not say so: `Encoding` without its metric.
PLAIN_ENCODING = {"beam": 1, "parallel_weight": 0.0}

DTYPES = {"F32": "<f4", "I64": "<i8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
DTYPE_NAMES = {np.dtype(text): name for name, text in DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor's type and shape, and where it lies: bytes [begin, end) after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A header that has passed every check that needs no data."""

    metric: Metric
    family: Family
    num_items: int
    metadata: Mapping[str, str]
    lineage: Mapping[str, Any]
    calibration: Calibration | None
    live: LiveMark | None
    beam: int
    parallel_weight: float
    tensors: Mapping[str, TensorEntry]
    data_start: int


def encode_header(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> bytes:
    """Return the length and header bytes in front of the tensors, which follow in their order."""
    table: dict[str, Any] = {"__metadata__": {"header_crc32": NO_CRC.decode(), **metadata}}
    begin = 0
    for name, tensor in tensors.items():
        table[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, begin + tensor.nbytes],
        }
        begin += tensor.nbytes
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % DATA_ALIGNMENT)
    header = len(text).to_bytes(LENGTH_BYTES, "little") + text
    return header[:CRC_START] + crc_text(header) + header[CRC_END:]


def crc_text(data: Any) -> bytes:
    """Return a CRC-32 as eight lower-case hexadecimal digits."""
    return b"%08x" % zlib.crc32(data)


def parse_header(data: memoryview) -> Header:
    """Check and read the header of a whole file.

    Raises:
        NotAnIndexError: the file does not start like an index.
        TruncatedIndexError: it ends before the header, or the header's tensors, do.
        CorruptIndexError: of the kind that says which rule of FORMAT.md does not hold.
        IndexVersionError: a newer version wrote it.
    """
    header_end = _check_checksum(data)
    table = _parse_json(bytes(data[LENGTH_BYTES:header_end]))
    metadata = table.pop("__metadata__")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise HeaderError("metadata: a value is not a string")
    _check_version(metadata)
    tensors = {name: _parse_entry(name, entry) for name, entry in table.items()}
    _check_places(tensors, header_end, len(data))
    family = _family(metadata)
    metric = _check_shapes(metadata, tensors, family)
    lineage = _parse_json(_text(metadata, "lineage"))
    calibration = None
    if "calibration" in metadata:
        values = _parse_json(metadata["calibration"])
        calibration = from_values(values, _count(metadata, "num_lists"))
    live = _parse_live(_parse_json(metadata["live"])) if "live" in metadata else None
    numbers = _parse_json(metadata["encoding"]) if "encoding" in metadata else PLAIN_ENCODING
    beam, weight = _parse_encoding(numbers)
    return Header(
        metric=metric,
        family=family,
        num_items=_count(metadata, "num_items"),
        metadata=metadata,
        lineage=lineage,
        calibration=calibration,
        live=live,
        beam=beam,
        parallel_weight=weight,
        tensors=tensors,
        data_start=header_end,
    )


def version_of(family: str, *, error_metric: bool) -> int:
    """Return the format version that a file gets: the least whose readers know what is in it.

    error_metric: whether it has one.
    """
    if error_metric:
        return 3
    return 2 if family == Family.RESIDUAL else 1


def normalisation_of(metric: Metric) -> str:
    """Return what the file says of lengths: "both" are divided out by cosine, else "none"."""
    return "both" if metric is Metric.COSINE else "none"


def _check_checksum(data: memoryview) -> int:
    """Check everything up to the end of the header and return where that is."""
    start = bytes(data[LENGTH_BYTES:CRC_START])
    if not start or not PREFIX.startswith(start):
        raise NotAnIndexError("not a poeem index")
    header_bytes = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < CRC_END:
        raise TruncatedIndexError(f"ends after {len(data)} bytes, within the header")
    if header_bytes > MAX_HEADER_BYTES:
        raise HeaderError(f"header: {header_bytes} bytes, more than {MAX_HEADER_BYTES}")
    header_end = LENGTH_BYTES + header_bytes
    if header_end > len(data):
        raise TruncatedIndexError(f"ends after {len(data)} bytes, within the header")
    header = bytes(data[:header_end])
    if header[CRC_START:CRC_END] != crc_text(header[:CRC_START] + NO_CRC + header[CRC_END:]):
        raise ChecksumError("header: checksum does not match")
    return header_end


def _parse_json(text: bytes | str) -> dict[str, Any]:
    """Parse an object strictly: UTF-8, no key twice, no NaN."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"header: not JSON, {error}") from None
    if not isinstance(value, dict):
        raise HeaderError("header: not a JSON object")
    return value


def _check_version(metadata: Mapping[str, str]) -> None:
    if _text(metadata, "format") != FORMAT_NAME:
        raise NotAnIndexError(f"format: got {metadata['format']!r}, wanted {FORMAT_NAME!r}")
    version = _count(metadata, "format_version")
    if version > FORMAT_VERSION:
        raise IndexVersionError(
            f"format version {version}; this library reads up to {FORMAT_VERSION}, please update it"
        )
    if version < 1:
        raise HeaderError(f"format_version: got {version}, wanted at least 1")


def _family(metadata: Mapping[str, str]) -> Family:
    """Version 1 knows product codes only, and did not always say so."""
    if "family" not in metadata and metadata["format_version"] == "1":
        return Family.PRODUCT
    try:
        family = Family(_text(metadata, "family"))
    except ValueError:
        raise HeaderError(f"family: {metadata['family']!r} is unknown") from None
    if _count(metadata, "format_version") < version_of(family, error_metric=False):
        raise HeaderError(f"family: {family} is not in version {metadata['format_version']}")
    return family


def _parse_entry(name: str, entry: Any) -> TensorEntry:
    """Read one tensor's entry; sizes are Python integers, which cannot overflow."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        element_bytes = np.dtype(DTYPES[dtype]).itemsize
        numbers = [*shape[:4], begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise HeaderError(f"{name}: entry cannot be read, {error!r}") from None
    if len(entry) != 3 or len(shape) > 3 or any(type(n) is not int or n < 0 for n in numbers):
        raise HeaderError(f"{name}: entry is not a type, up to 3 sizes and 2 offsets")
    size = element_bytes * math.prod(shape)
    if end - begin != size:
        raise LayoutError(f"{name}: offsets do not leave the bytes for a tensor of its shape")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _check_places(tensors: Mapping[str, TensorEntry], data_start: int, file_bytes: int) -> None:
    """Tensors follow each other without hole or overlap, aligned, to the end of the file."""
    expected = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != expected:
            kind = "overlap" if entry.begin < expected else "hole"
            raise LayoutError(f"{name}: {kind} at byte {entry.begin} of the data")
        element_bytes = np.dtype(DTYPES[entry.dtype]).itemsize
        alignment = CODES_ALIGNMENT if name == "codes" else element_bytes
        if (data_start + entry.begin) % alignment:
            raise LayoutError(f"{name}: not aligned to {alignment} bytes")
        expected = entry.end
    if file_bytes < data_start + expected:
        raise TruncatedIndexError(f"{file_bytes} bytes, wanted {data_start + expected}")
    if file_bytes > data_start + expected:
        raise LayoutError(f"{file_bytes} bytes, wanted {data_start + expected}")


def _check_shapes(
    metadata: Mapping[str, str], tensors: Mapping[str, TensorEntry], family: Family
) -> Metric:
    """Every tensor that must be there is, with the type and shape that the counts ask for."""
    counts = ("dim", "num_items", "num_lists", "num_subspaces", "num_codewords", "code_bits")
    dim, num_items, num_lists, num_subspaces, num_codewords, code_bits = (
        _count(metadata, name) for name in counts
    )
    try:
        metric = Metric(_text(metadata, "metric"))
    except ValueError:
        raise HeaderError(f"metric: {metadata['metric']!r} is unknown") from None
    if num_items < 1 or num_subspaces < 1 or dim < 1:
        raise HeaderError(f"{num_items} items of dim {dim} in {num_subspaces} subspaces")
    if family is Family.PRODUCT and dim % num_subspaces:
        raise HeaderError(f"dim {dim} in {num_subspaces} subspaces")
    if not 2 <= num_codewords <= MAX_CODEWORDS or code_bits != code_bits_for(num_codewords):
        raise HeaderError(f"{num_codewords} codewords in {code_bits} bits")
    if _text(metadata, "normalisation") != normalisation_of(metric):
        raise HeaderError(f"normalisation: does not fit the metric {metric}")
    for name in ("created", "library_version"):
        _text(metadata, name)

    width = dim if family is Family.RESIDUAL else dim // num_subspaces
    codes_dtype = "U16" if code_bits == 16 else "U8"
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "codebooks": ("F32", (num_subspaces, num_codewords, width)),
        "codes": (codes_dtype, packed_shape(num_items, num_subspaces, code_bits)),
    }
    if num_lists:
        wanted["centroids"] = ("F32", (num_lists, dim))
        wanted["list_offsets"] = ("I64", (num_lists + 1,))
    if metric_uses_norms(metric, num_lists > 0, family):
        wanted["norms"] = ("F32", (num_items,))
    if "rotation" in tensors:
        wanted["rotation"] = ("F32", (dim, dim))
    if "error_metric" in tensors:
        if _count(metadata, "format_version") < version_of(family, error_metric=True):
            raise HeaderError(f"error_metric: not in version {metadata['format_version']}")
        if family is not Family.RESIDUAL:
            raise HeaderError(f"error_metric: not of {family} codes")
        wanted["error_metric"] = ("F32", (dim, dim))
    if "ids" in tensors:
        wanted["ids"] = ("I64" if tensors["ids"].dtype == "I64" else "U32", (num_items,))
    if "title_offsets" in tensors or "title_bytes" in tensors:
        wanted["title_offsets"] = ("I64", (num_items + 1,))
        blob = tensors.get("title_bytes")
        wanted["title_bytes"] = ("U8", (blob.end - blob.begin if blob else 0,))
    if set(wanted) != set(tensors):
        odd = ", ".join(sorted(set(wanted) ^ set(tensors)))
        raise TensorError(f"tensors missing or unknown: {odd}")
    for name, (dtype, shape) in wanted.items():
        entry = tensors[name]
        if (entry.dtype, entry.shape) != (dtype, shape):
            raise TensorError(
                f"{name}: got {entry.dtype} {list(entry.shape)}, wanted {dtype} {list(shape)}"
            )
    return metric


def _parse_live(values: Mapping[str, Any]) -> LiveMark:
    if set(values) != {"series", "generation", "folded"}:
        raise HeaderError("live: not series, generation and folded")
    series, counts = values["series"], (values["generation"], values["folded"])
    if not isinstance(series, str) or not re.fullmatch(r"[0-9a-f]{32}", series):
        raise HeaderError("live: series is not 32 hexadecimal digits")
    if any(type(count) is not int or not 0 <= count < 2**63 for count in counts):
        raise HeaderError("live: generation or folded is not a count")
    return LiveMark(series, *counts)


def _parse_encoding(values: Mapping[str, Any]) -> tuple[int, float]:
    if set(values) != set(PLAIN_ENCODING):
        raise HeaderError("encoding: not beam and parallel_weight")
    beam, weight = values["beam"], values["parallel_weight"]
    if type(beam) is not int or not 1 <= beam <= MAX_BEAM:
        raise HeaderError("encoding: beam is not a count from 1 to 256")
    if type(weight) not in (int, float) or not 0 <= weight <= MAX_PARALLEL_WEIGHT:
        raise HeaderError("encoding: parallel_weight is not a number from 0 to 1000")
    return beam, float(weight)


def _text(metadata: Mapping[str, str], name: str) -> str:
    if name not in metadata:
        raise HeaderError(f"metadata: {name} is missing")
    return metadata[name]


def _count(metadata: Mapping[str, str], name: str) -> int:
    text = _text(metadata, name)
    # ASCII digits only, and few: int() would take "٣", "1_0" and a million digits.
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise HeaderError(f"metadata: {name} is {text[:40]!r}, wanted a count")
    return int(text)

"""Writes the hostile files beside itself, and `expected.json`: what is wrong with each.

    python -m tests.hostile.make

Every file has right checksums unless the checksum is what is wrong with it. Files that git or a
disk would not keep as they are (links, folders, pipes) are made by `make_special`, for the tests.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from poeem.index import build_index_from_codes
from poeem.index.header import MAX_HEADER_BYTES, PREFIX
from poeem.types import Encoding
from tests.hostile.craft import Change, craft, entry, metadata, tensor, write_raw
from tests.index.helpers import Shape, random_index, random_parts

FOLDER = Path(__file__).parent
# Lists, rotation, norms, own ids, titles; 4-bit codes.
BASE = Shape("cosine", 40, 3, 10, 2, 4, True, "uint32", titles=True)


def _ids(change: Any) -> Change:
    def apply(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors["ids"][:] = change(tensors["ids"], tensors["list_offsets"])

    return apply


def _swapped(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    first = int(np.flatnonzero(np.diff(offsets) > 1)[0])
    ids = ids.copy()
    a = offsets[first]
    ids[[a, a + 1]] = ids[[a + 1, a]]
    return ids


def _in_two_lists(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    ids = ids.copy()
    ids[offsets[1]] = ids[0]
    ids[offsets[1] : offsets[2]].sort()
    return ids


def _norm_of_another(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    tensors["norms"][7] *= np.float32(1.01)


def _title_within_a_character(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    tensors["title_offsets"][1] -= 1  # every title of the base ends with a character of 3 bytes


def _overlap(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    table["norms"]["data_offsets"] = list(table["ids"]["data_offsets"])  # both are 160 bytes


def _no_rotation(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    tensors["rotation"][:] = np.eye(6, dtype=np.float32) * 1.01


def _renamed(old: str, new: str) -> Change:
    def apply(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        table[new] = table.pop(old)

    return apply


def _as_error_metric(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    _renamed("rotation", "error_metric")(table, tensors)
    metadata(format_version="3", family="product")(table, tensors)


CRAFTED: dict[str, tuple[Change, str, str]] = {
    # sizes that overflow
    "shape-overflows-64-bits": (entry("codes", shape=[2**63, 2**63]), "LayoutError", "codes"),
    "shape-wraps-to-the-right-size": (
        entry("codes", shape=[2**64 + 1, 2, 256]),
        "LayoutError",
        "codes",
    ),
    "shape-of-giant-numbers": (entry("codes", shape=[10**1000] * 3), "LayoutError", "codes"),
    "offsets-beyond-64-bits": (
        entry("codes", data_offsets=[2**64, 2**64 + 512]),
        "LayoutError",
        "hole",
    ),
    "offsets-beyond-the-file": (
        entry("ids", data_offsets=[2**40, 2**40 + 160]),
        "LayoutError",
        "hole",
    ),
    "offsets-negative": (entry("codes", data_offsets=[-512, 0]), "HeaderError", "codes"),
    "offsets-backwards": (entry("codes", data_offsets=[512, 0]), "LayoutError", "codes"),
    "count-of-items-huge": (metadata(num_items="9" * 18), "TensorError", "wanted"),
    "count-of-items-of-5000-digits": (metadata(num_items="9" * 5000), "HeaderError", "num_items"),
    "count-of-items-negative": (metadata(num_items="-40"), "HeaderError", "num_items"),
    "count-of-items-zero": (metadata(num_items="0"), "HeaderError", "0 items"),
    "count-of-lists-huge": (metadata(num_lists="1" + "0" * 17), "TensorError", "centroids"),
    "count-of-codewords-huge": (metadata(num_codewords="65537"), "HeaderError", "codewords"),
    # tensors in the wrong place
    "tensors-overlap": (_overlap, "LayoutError", "overlap"),
    "tensors-leave-a-hole": (
        entry("title_bytes", data_offsets=[10**6, 10**6 + 420]),
        "LayoutError",
        "title_bytes",
    ),
    # wrong types
    "type-unknown": (entry("codes", dtype="F64"), "HeaderError", "F64"),
    "type-is-a-list": (entry("codes", dtype=["U8"]), "HeaderError", "codes"),
    "type-of-another-width": (entry("codes", dtype="U16"), "LayoutError", "codes"),
    "type-of-ids-is-float": (entry("ids", dtype="F32"), "TensorError", "ids"),
    "type-of-codebooks-is-integer": (entry("codebooks", dtype="U32"), "TensorError", "codebooks"),
    "shape-of-other-axes": (entry("codes", shape=[512]), "TensorError", "codes"),
    "shape-is-fractional": (entry("codes", shape=[1.0, 2, 256]), "HeaderError", "codes"),
    "shape-is-true": (entry("codes", shape=[True, 2, 256]), "HeaderError", "codes"),
    "entry-is-a-number": (lambda t, _: t.update(codes=3), "HeaderError", "codes"),
    "metadata-is-a-number": (metadata(num_items=40), "HeaderError", "not a string"),
    "tensor-unknown": (_renamed("ids", "idz"), "TensorError", "idz"),
    "tensor-missing": (metadata(metric="ip", normalisation="none"), "TensorError", "norms"),
    "metric-unknown": (metadata(metric="\x1b[31mdot\x1b[0m" * 100), "HeaderError", "metric"),
    "metric-and-normalisation-disagree": (metadata(normalisation="none"), "HeaderError", "metric"),
    "lineage-nested-too-deep": (metadata(lineage="[" * 5_000), "HeaderError", "not JSON"),
    "lineage-with-a-key-twice": (metadata(lineage='{"a":1,"a":2}'), "HeaderError", "twice"),
    "calibration-falls": (
        metadata(calibration='{"k":1,"num_queries":1,"recalls":[0.9,0.5,1]}'),
        "HeaderError",
        "recalls",
    ),
    "encoding-of-no-beam": (
        metadata(encoding='{"beam":0,"parallel_weight":0}'),
        "HeaderError",
        "beam",
    ),
    "encoding-of-infinite-weight": (
        metadata(encoding='{"beam":1,"parallel_weight":1e999}'),
        "HeaderError",
        "parallel_weight",
    ),
    "encoding-of-giant-weight": (
        metadata(encoding=f'{{"beam":1,"parallel_weight":{10**400}}}'),
        "HeaderError",
        "parallel_weight",
    ),
    "encoding-of-another-kind": (metadata(encoding='{"beams":1}'), "HeaderError", "encoding"),
    "error-metric-before-its-version": (
        _renamed("rotation", "error_metric"),
        "HeaderError",
        "not in version 1",
    ),
    "error-metric-of-product-codes": (_as_error_metric, "HeaderError", "not of product codes"),
    "version-of-the-future": (metadata(format_version="999"), "IndexVersionError", "999"),
    # what is inside the tensors
    "code-beyond-the-codebook": (tensor("codes", (0, 0, 5), 0xAF), "CodesError", "not below 10"),
    "code-beyond-the-last-item": (tensor("codes", (0, 0, 40), 1), "CodesError", "last item"),
    "codeword-is-nan": (tensor("codebooks", (2, 3, 1), np.nan), "StoredFloatsError", "codebooks"),
    "centroid-is-infinite": (
        tensor("centroids", (2, 3), np.inf),
        "StoredFloatsError",
        "centroids",
    ),
    "rotation-is-nan": (tensor("rotation", (2, 3), np.nan), "StoredFloatsError", "rotation"),
    "rotation-of-zeros": (tensor("rotation", slice(None), 0), "RotationError", "identity"),
    "rotation-stretches": (_no_rotation, "RotationError", "identity"),
    "rotation-overflows": (tensor("rotation", slice(None), 3e38), "RotationError", "identity"),
    "list-offsets-fall": (tensor("list_offsets", 2, 0), "OffsetsError", "fall"),
    "list-offsets-lead-far-away": (tensor("list_offsets", 2, 2**62), "OffsetsError", "fall"),
    "list-offsets-are-negative": (tensor("list_offsets", 1, -(2**63)), "OffsetsError", "fall"),
    "list-offsets-begin-late": (tensor("list_offsets", 0, 1), "OffsetsError", "from 1"),
    "list-offsets-end-early": (tensor("list_offsets", -1, 39), "OffsetsError", "to 39"),
    "ids-out-of-order": (_ids(_swapped), "StoredIdsError", "rise"),
    "ids-all-equal": (_ids(lambda ids, _: ids * 0 + 3), "StoredIdsError", "rise"),
    "id-in-two-lists": (_ids(_in_two_lists), "StoredIdsError", "two lists"),
    "norm-is-nan": (tensor("norms", 3, np.nan), "NormsError", "NaN"),
    "norm-is-negative": (tensor("norms", 3, -1), "NormsError", "negative"),
    "norm-of-another-item": (_norm_of_another, "NormsError", "item 7"),
    "title-offsets-fall": (tensor("title_offsets", 5, 2**40), "OffsetsError", "title_offsets"),
    "titles-are-not-utf-8": (tensor("title_bytes", slice(None), 0xFF), "TitlesError", "UTF-8"),
    "title-begins-within-a-character": (_title_within_a_character, "TitlesError", "character"),
}


# Of residual codes that were found by a metric of errors.
RESIDUAL: dict[str, tuple[Change, str, str]] = {
    "error-metric-is-nan": (
        tensor("error_metric", (2, 3), np.nan),
        "StoredFloatsError",
        "error_metric",
    ),
    "error-metric-of-zeros": (
        tensor("error_metric", slice(None), 0),
        "StoredFloatsError",
        "invertible",
    ),
}


def _raw(path: Path) -> dict[str, tuple[bytes, str, str]]:
    """Return files that are wrong as a whole."""
    whole = path.read_bytes()
    data_start = 8 + int.from_bytes(whole[:8], "little")
    flipped = bytearray(whole)
    flipped[data_start + 100] ^= 1

    def length(value: int) -> bytes:
        return value.to_bytes(8, "little") + whole[8:]

    return {
        "empty": (b"", "NotAnIndexError", "empty"),
        "one-byte": (b"x", "NotAnIndexError", "not a poeem index"),
        "another-format": (b"PK\3\4" * 50, "NotAnIndexError", "not a poeem index"),
        "ends-in-the-header": (whole[:300], "TruncatedIndexError", "within the header"),
        "ends-in-a-tensor": (whole[:-10], "TruncatedIndexError", "bytes, wanted"),
        "goes-on-after-the-end": (whole + b"\0", "LayoutError", "bytes, wanted"),
        "header-longer-than-the-file": (length(len(whole)), "TruncatedIndexError", "header"),
        "header-of-2-to-the-64": (length(2**64 - 1), "HeaderError", "more than"),
        "header-just-too-long": (length(MAX_HEADER_BYTES + 1), "HeaderError", "more than"),
        "header-of-no-length": (length(0), "ChecksumError", "header"),
        "header-bit-flipped": (whole[:90] + b"X" + whole[91:], "ChecksumError", "header"),
        "data-bit-flipped": (bytes(flipped), "ChecksumError", "codes"),
    }


HEADERS = {
    "header-with-a-key-twice": PREFIX + b'00000000"},"codes":{},"codes":{}}',
    "header-with-metadata-twice": PREFIX + b'00000000"},"__metadata__":{}}',
    "header-is-not-utf-8": PREFIX + b'00000000","x":"\xff"}}',
    "header-is-nested-too-deep": PREFIX + b'00000000","x":' + b"[" * 5_000,
    "header-with-more-after-it": PREFIX + b'00000000"}} {}',
    "header-is-cut": PREFIX + b'00000000"}',
}


def make(folder: Path) -> dict[str, tuple[str, str]]:
    """Write all files and return for each the error it gives, and a part of its words."""
    expected: dict[str, tuple[str, str]] = {}
    base = folder / "base"
    random_index(BASE).save(base)
    whole = base.read_bytes()
    found = Encoding(np.eye(4, dtype=np.float32) * 2, parallel_weight=1.0, beam=8)
    parts = random_parts(Shape(sub_dim=4, family="residual"), np.random.default_rng(0))
    residual = folder / "residual"
    build_index_from_codes(**parts, encoding=found).save(residual)
    for crafted, start in ((CRAFTED, whole), (RESIDUAL, residual.read_bytes())):
        for name, (change, error, words) in crafted.items():
            path = folder / f"{name}.poeem"
            path.write_bytes(start)
            craft(path, change)
            expected[name] = (error, words)
    residual.unlink()
    for name, (data, error, words) in _raw(base).items():
        (folder / f"{name}.poeem").write_bytes(data)
        expected[name] = (error, words)
    for name, text in HEADERS.items():
        write_raw(folder / f"{name}.poeem", text, b"")
        expected[name] = ("HeaderError", "not JSON")
    base.unlink()
    return expected


def make_special(folder: Path) -> dict[str, str]:
    """Make what is no regular file, and return the words of each one's error."""
    (folder / "folder.poeem").mkdir()
    os.mkfifo(folder / "pipe.poeem")
    for name, target in {
        "link-to-nowhere": "nowhere",
        "link-to-a-folder": "folder.poeem",
        "link-to-a-pipe": "pipe.poeem",
        "link-to-a-device": "/dev/zero",
        "link-to-itself": "link-to-itself.poeem",
    }.items():
        (folder / f"{name}.poeem").symlink_to(target)
    return {
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "link-to-nowhere": "no such file",
        "link-to-a-folder": "not a regular file",
        "link-to-a-pipe": "not a regular file",
        "link-to-a-device": "not a regular file",
        "link-to-itself": "cannot be read",
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        found = make(Path(made))
        for file in Path(made).iterdir():
            (FOLDER / file.name).write_bytes(file.read_bytes())
    (FOLDER / "expected.json").write_text(json.dumps(found, indent=1) + "\n")

"""An atheris target: index files that somebody damaged or made up, opened and asked everything.

Only errors of `IndexFileError` may come of it; a file with a changed byte and unchanged checksums
is always refused; one that was opened with everything checked answers everything. scripts/fuzz
runs it; it takes the options of libFuzzer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from types import FunctionType
from typing import Any

import atheris
import numpy as np

from poeem.errors import IndexFileError
from poeem.index import Index, calibration, header
from poeem.index import validate as checks
from poeem.index.format import read_index
from poeem.index.header import CRC_END, CRC_START
from poeem.index.validate import Verify, validate

# One by one: an editable install has a loader of its own, which atheris does not reach.
for module in (header, checks, calibration):
    for value in [*vars(module).values(), *vars(checks.TensorChecks).values()]:
        if isinstance(value, FunctionType) and value.__module__.startswith("poeem.index"):
            atheris.instrument_func(value)

GOLDEN = Path(__file__).parents[1] / "golden"
BASES = [path.read_bytes() for path in sorted(GOLDEN.glob("*/*.poeem"))]
QUERY = np.linspace(-1, 1, 64, dtype=np.float32)
EDGES = [0, 1, -1, 2, 15, 16, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64]
TEXTS = ["", "0", "1", "-1", "4", "9" * 18, "9" * 19, "1e3", "٣", "ip", "l2", "cosine", "none"]
TEXTS += ["both", "product", "residual", "{}", "[]", "null", '{"a":1,"a":1}', "\x1b[0m", "[" * 2000]


def try_one(data: bytes) -> None:
    """Make a file of the input and open it."""
    fuzz = atheris.FuzzedDataProvider(data)
    kind = fuzz.ConsumeIntInRange(0, 7)
    base = BASES[fuzz.ConsumeIntInRange(0, len(BASES) - 1)]
    verify = fuzz.PickValueInList(list(Verify))
    by_path = fuzz.ConsumeIntInRange(0, 31) == 0
    if kind == 0:
        whole = fuzz.ConsumeBytes(fuzz.remaining_bytes())
    elif kind == 1:
        whole = edit_bytes(base, 0, fuzz)
    else:
        whole = edit_parts(base, fuzz)
    try:
        contents = opened_by_path(whole, verify) if by_path else opened(whole, verify)
    except IndexFileError:
        return
    if kind == 1 and verify is Verify.OPEN:
        assert whole == base, "a changed byte was not noticed"
    try:
        use(Index(contents))
    except IndexFileError:
        assert verify is not Verify.OPEN, "what was checked is refused"


def opened(whole: bytes, verify: Verify) -> Any:
    """Check bytes in memory, as they are once mapped."""
    return validate(np.frombuffer(whole, dtype=np.uint8), verify)


def opened_by_path(whole: bytes, verify: Verify) -> Any:
    """Check a file on a disk."""
    PATH.write_bytes(whole)
    return read_index(PATH, verify=verify)


def use(index: Index) -> None:
    """Ask for everything; small indexes only, since the time is better spent on other inputs."""
    index.info()
    if index.num_items > 5_000 or index.dim > len(QUERY):
        return
    found = index.search(QUERY[: index.dim], 3)
    assert ((found.ids != -1) | np.isneginf(found.scores)).all()
    known = found.ids[found.ids != -1]
    index.reconstruct(known)
    if index.has_titles:
        index.titles(known)
    assert len(index.ids) == len(index.codes) == index.num_items


def edit_bytes(data: bytes, start: int, fuzz: Any) -> bytes:
    """Overwrite a few bytes, or cut the end off."""
    edited = bytearray(data)
    for _ in range(fuzz.ConsumeIntInRange(0, 4)):
        place = fuzz.ConsumeIntInRange(start, len(edited) - 1)
        new = fuzz.ConsumeBytes(fuzz.ConsumeIntInRange(1, 9))
        edited[place : place + len(new)] = new[: len(edited) - place]
    if fuzz.ConsumeIntInRange(0, 9) == 0:
        del edited[fuzz.ConsumeIntInRange(start, len(edited) - 1) :]
    return bytes(edited)


def edit_parts(data: bytes, fuzz: Any) -> bytes:
    """Change values of the header, or bytes of the tensors, and put the checksums right."""
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:end])
    body = edit_bytes(data[end:], 0, fuzz) if fuzz.ConsumeBool() else data[end:]
    for _ in range(fuzz.ConsumeIntInRange(0, 3)):
        edit_table(table, fuzz)
    fix = fuzz.ConsumeIntInRange(0, 15) > 0
    metadata = table.get("__metadata__")
    if fix and isinstance(metadata, dict):
        for name, entry in table.items():
            if name != "__metadata__" and is_entry(entry):
                begin, stop = entry["data_offsets"]
                metadata[f"crc32.{name}"] = f"{zlib.crc32(body[begin:stop]):08x}"
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    start = bytearray(len(text).to_bytes(8, "little") + text)
    if fix:
        start[CRC_START:CRC_END] = b"00000000"
        start[CRC_START:CRC_END] = b"%08x" % zlib.crc32(start)
    return bytes(start) + body


def is_entry(entry: Any) -> bool:
    """Return whether a checksum can be made of it: offsets that a slice takes."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(type(one) is int and 0 <= one < 2**62 for one in offsets)


def edit_table(table: dict[str, Any], fuzz: Any) -> None:
    """Set, drop or rename one entry, at either level."""
    owner: Any = table
    if fuzz.ConsumeIntInRange(0, 5) > 0:
        inner = [value for value in table.values() if isinstance(value, dict) and value]
        owner = fuzz.PickValueInList(inner) if inner else table
    # The first entry of the metadata stays: without it a file is not an index at all.
    keys = [key for key in owner if key not in ("__metadata__", "header_crc32")]
    if not keys:
        return
    key = fuzz.PickValueInList(keys)
    what = fuzz.ConsumeIntInRange(0, 7)
    if what == 0:
        owner.pop(key)
    elif what == 1:
        owner[fuzz.ConsumeUnicodeNoSurrogates(6)] = owner.pop(key)
    elif isinstance(owner[key], list) and owner[key] and what < 6:
        owner[key][fuzz.ConsumeIntInRange(0, len(owner[key]) - 1)] = any_value(fuzz)
    else:
        owner[key] = any_value(fuzz)


def any_value(fuzz: Any) -> Any:
    """Return a JSON value, mostly of those that may be taken for good ones."""
    what = fuzz.ConsumeIntInRange(0, 9)
    if what < 4:
        return fuzz.PickValueInList(EDGES) * fuzz.ConsumeIntInRange(1, 4)
    if what < 7:
        return fuzz.PickValueInList(TEXTS)
    if what == 7:
        return str(fuzz.ConsumeIntInRange(0, 300))
    return [fuzz.ConsumeInt(9) for _ in range(what - 5)] if what == 8 else fuzz.ConsumeFloat()


if __name__ == "__main__":
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    PATH = Path(tempfile.mkdtemp(dir=memory)) / "fuzzed.poeem"
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()

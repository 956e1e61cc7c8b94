"""Index files with anything in them, whose checksums are right."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from poeem.index.header import CRC_END, CRC_START

Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def craft(path: Path, change: Change, *, checksums: bool = True) -> None:
    """Rewrite a file with a changed header or data and right checksums."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:end])
    places = {name: entry["data_offsets"] for name, entry in table.items() if name[0] != "_"}
    types = {"F32": "<f4", "I64": "<i8", "U32": "<u4", "U16": "<u2", "U8": "<u1"}
    tensors = {
        name: np.frombuffer(data[end + a : end + b], types[table[name]["dtype"]])
        .reshape(table[name]["shape"])
        .copy()
        for name, (a, b) in places.items()
    }
    change(table, tensors)
    if checksums:
        for name, tensor in tensors.items():
            table["__metadata__"][f"crc32.{name}"] = f"{zlib.crc32(tensor.tobytes()):08x}"
    body = b"".join(tensors[name].tobytes() for name in places)
    write_raw(path, json.dumps(table, separators=(",", ":")).encode(), body)


def write_raw(path: Path, text: bytes, body: bytes, *, beyond: int = 0) -> None:
    """Write a file; its data begin so many bytes beyond a multiple of 64."""
    text += b" " * (-(8 + len(text)) % 64 + beyond)
    header = bytearray(len(text).to_bytes(8, "little") + text)
    header[CRC_START:CRC_END] = b"00000000"
    header[CRC_START:CRC_END] = b"%08x" % zlib.crc32(header)
    path.write_bytes(bytes(header) + body)


def metadata(**values: str) -> Change:
    return lambda table, tensors: table["__metadata__"].update(values)


def entry(name: str, **values: Any) -> Change:
    return lambda table, tensors: table[name].update(values)


def tensor(name: str, place: Any, value: Any) -> Change:
    def change(table: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors[name][place] = value

    return change

"""Arrays and lines that a user names by a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import InputError
from poeem.files import UNREADABLE, reason
from poeem.types import Array


def load_array(flag: str, path: Path) -> Array:
    """Map a .npy file into memory.

    Args:
        flag: the option that named it, for messages.
        path: the file.

    Raises:
        InputError: no such file, or not one array without Python objects.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves a .zip open that it cannot read
            is_zip = file.read(2) == b"PK"
        if is_zip:
            raise InputError(f"{flag}: {path} holds several arrays, wanted a .npy file of one")
        array: Any = np.load(path, allow_pickle=False, mmap_mode="r")
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{flag}: {path} is not a .npy array: {reason(error)}") from error
    found: Array = array
    return found


def read_lines(flag: str, path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, without the mark that some editors begin one with.

    Raises:
        InputError: no such file, or no UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{flag}: {path} cannot be read as UTF-8 text: {error}") from error
    return text.removesuffix("\n").split("\n")

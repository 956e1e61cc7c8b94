"""Arrays and lines that a user names by a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import InputError
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
        array: Any = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{flag}: {path} is not a .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{flag}: {path} holds several arrays, wanted a .npy file of one")
    return array


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

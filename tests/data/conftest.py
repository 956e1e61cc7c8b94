"""Small tables that the tests of this folder write and read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poeem.config import DataConfig
from poeem.data import Interactions

# user, item, timestamp, rating: users b, a; items 10, 7, 8
ROWS = [("b", 10, 5, 4.0), ("a", 7, 3, 5.0), ("b", 8, 4, 1.0), ("a", 10, 9, 3.5)]


def _write_text(path: Path, text: str, **settings: Any) -> DataConfig:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return DataConfig(path=str(path), **settings)


def _table_text(delimiter: str) -> str:
    header = delimiter.join(("user", "item", "timestamp", "rating"))
    lines = [delimiter.join(map(str, row)) for row in ROWS]
    return "\n".join([header, *lines]) + "\n"


def _write_table(path: Path) -> DataConfig:
    users, items, times, ratings = (list(column) for column in zip(*ROWS, strict=True))
    columns = {"user": users, "item": items, "timestamp": times, "rating": ratings}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        path.write_text(_table_text("," if path.suffix == ".csv" else "\t"))
    return DataConfig(path=str(path))


def _ids_of(data: Interactions) -> list[tuple[Any, Any]]:
    pairs = zip(data.user_ids[data.users], data.item_ids[data.items], strict=True)
    return [(user.item(), item.item()) for user, item in pairs]


@pytest.fixture
def write_text() -> Callable[..., Any]:
    """Write a text and return the settings that read it."""
    return _write_text


@pytest.fixture
def write_table() -> Callable[..., Any]:
    """Write ROWS in the format of the suffix and return the settings that read them."""
    return _write_table


@pytest.fixture
def ids_of() -> Callable[..., Any]:
    """Return the pairs as original ids."""
    return _ids_of

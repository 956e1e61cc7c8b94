"""What is read, what is kept of repeated pairs, and which columns must be there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poeem.config import DataConfig
from poeem.data import load_interactions
from poeem.errors import (
    ConfigError,
    DataError,
    MissingColumnError,
    MissingDependencyError,
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".npz"])
def test_every_kind_of_file_gives_the_same_pairs(
    tmp_path: Path, suffix: str, ids_of: Callable[..., Any], write_table: Callable[..., Any]
) -> None:
    data = load_interactions(write_table(tmp_path / f"table{suffix}"))

    assert ids_of(data) == [("b", 10), ("a", 7), ("b", 8), ("a", 10)]
    assert data.users.dtype == data.items.dtype == np.int32
    assert data.users.tolist() == [1, 0, 1, 0]
    assert data.items.tolist() == [2, 0, 1, 2]
    assert data.user_ids.tolist() == ["a", "b"]
    assert data.item_ids.dtype == np.int64
    assert (len(data), data.num_users, data.num_items) == (4, 2, 3)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [5, 3, 4, 9]
    assert data.split is None
    assert data.item_titles is None


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".npz"])
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, suffix: str, write_table: Callable[..., Any]
) -> None:
    config = write_table(tmp_path / f"table{suffix}")
    config = DataConfig(path=config.path, item_column="product")
    with pytest.raises(MissingColumnError, match=r"no column 'product'; there are 'user', 'item'"):
        load_interactions(config)


@pytest.mark.parametrize(
    "settings",
    [
        {"timestamp_column": "when"},
        {"title_column": "name"},
        {"rating_column": "stars"},
        {"split_column": "part"},
        {"split": "given"},
    ],
)
def test_a_column_asked_for_by_name_must_be_there(
    tmp_path: Path, settings: dict[str, str], write_table: Callable[..., Any]
) -> None:
    config = write_table(tmp_path / "table.csv")
    with pytest.raises(MissingColumnError, match="no column"):
        load_interactions(DataConfig(path=config.path, **settings))


def test_split_by_time_needs_times(tmp_path: Path, write_text: Callable[..., Any]) -> None:
    config = write_text(tmp_path / "t.csv", "user,item\n1,2\n", split="time")
    with pytest.raises(MissingColumnError, match="'timestamp'"):
        load_interactions(config)


def test_column_names_are_options(
    tmp_path: Path, ids_of: Callable[..., Any], write_text: Callable[..., Any]
) -> None:
    config = write_text(
        tmp_path / "t.csv",
        "who,what,when,how,name,part\nu,i,3,5,Thing,2\n",
        user_column="who",
        item_column="what",
        timestamp_column="when",
        rating_column="how",
        title_column="name",
        split_column="part",
    )
    data = load_interactions(config)
    assert ids_of(data) == [("u", "i")]
    assert data.item_titles == ["Thing"]
    assert data.split is not None
    assert data.split.tolist() == [2]


def test_ratings_below_the_minimum_are_left_out_and_counted(
    tmp_path: Path, ids_of: Callable[..., Any], write_table: Callable[..., Any]
) -> None:
    path = write_table(tmp_path / "table.csv").path
    data = load_interactions(DataConfig(path=path, rating_column="rating", min_rating=3.5))
    assert ids_of(data) == [("b", 10), ("a", 7), ("a", 10)]
    assert data.num_filtered_rows == 1
    with pytest.raises(DataError, match="no row has a rating of at least 6"):
        load_interactions(DataConfig(path=path, rating_column="rating", min_rating=6))
    with pytest.raises(ConfigError, match="min_rating: needs rating_column"):
        load_interactions(DataConfig(path=path, min_rating=3))


def test_of_repeated_pairs_the_earliest_is_kept(
    tmp_path: Path, ids_of: Callable[..., Any], write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", "user,item,timestamp\n1,1,9\n1,2,5\n1,1,3\n1,1,4\n")
    data = load_interactions(config)
    assert ids_of(data) == [(1, 2), (1, 1)]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [5, 3]
    assert data.num_repeated_rows == 2


def test_of_repeated_pairs_the_first_is_kept_without_times_and_training_before_test(
    tmp_path: Path, ids_of: Callable[..., Any], write_text: Callable[..., Any]
) -> None:
    data = load_interactions(write_text(tmp_path / "t.csv", "user,item\n1,1\n1,2\n1,1\n"))
    assert ids_of(data) == [(1, 1), (1, 2)]
    config = write_text(tmp_path / "s.csv", "user,item,split,timestamp\n1,1,2,1\n1,1,0,2\n")
    data = load_interactions(config)
    assert data.split is not None
    assert data.split.tolist() == [0]


def test_without_pyarrow_the_message_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install -c constraints.txt '\.\[train\]'"
    ):
        load_interactions(DataConfig())


def test_data_imports_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys, poeem.data; "
        "print([name for name in ('torch', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Ids, times and titles from every type a column may have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poeem.config import DataConfig
from poeem.data import columns, load_interactions
from poeem.errors import (
    DataError,
    IdError,
)


def test_titles_are_the_first_that_is_not_blank_or_the_id(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    config = write_text(
        tmp_path / "t.csv", "user,item,title\n1,5,\n1,6, Cup \n2,5,Pot\n2,6,Mug\n3,7,\n"
    )
    assert load_interactions(config).item_titles == ["Pot", "Cup", "7"]
    config = DataConfig(path=config.path, title_column=None)
    assert load_interactions(config).item_titles is None


def test_an_id_that_is_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_MUCH_ROOM", 2**20)
    ids = [f"item {number}" for number in range(1000)]
    assert columns.text_ids(ids).tolist() == ids
    assert len(columns.text_ids([*ids, "x" * 100])) == 1001
    with pytest.raises(DataError, match=r"longest of 1,001 has 5,000 .* begins with 'x.*shorter"):
        columns.text_ids([*ids, "x" * 5000])
    assert columns.text_ids([]).shape == (0,)


def test_titles_of_a_type_that_is_no_text(tmp_path: Path) -> None:
    columns = {"user": [1, 2], "item": [5, 6], "title": [["a"], ["b", "c"]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    config = DataConfig(path=str(tmp_path / "t.parquet"))
    with pytest.raises(DataError, match=r'title: got list<.*title_column = "none" leaves them out'):
        load_interactions(config)
    config = DataConfig(path=config.path, title_column=None)
    assert load_interactions(config).item_titles is None


def test_text_in_views(tmp_path: Path) -> None:
    texts = pa.array(["b", "a"]).cast(pa.string_view())
    pq.write_table(pa.table({"user": texts, "item": texts}), tmp_path / "t.parquet")
    assert load_interactions(DataConfig(path=str(tmp_path / "t.parquet"))).item_ids.tolist() == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["3", "-1", "12"], [-1, 3, 12]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["x1", " 5 ", "5"], ["5", "x1"]),
        (["99999999999999999999", "1", "2"], ["1", "2", "99999999999999999999"]),
    ],
)
def test_ids_are_integers_only_if_nothing_is_lost(
    tmp_path: Path, texts: list[str], wanted: list[Any], write_text: Callable[..., Any]
) -> None:
    lines = "".join(f"{text},1\n" for text in texts)
    data = load_interactions(write_text(tmp_path / "t.csv", "user,item\n" + lines))
    assert data.user_ids.tolist() == wanted


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["1291191960", "5"], [1291191960, 5]),
        (["1636400000000000001", "2"], None),
        (["2.0", "1e3"], [2, 1000]),
        (["0.5", "2"], [500_000, 2_000_000]),
        (["2011-12-09", "1970-01-01"], [1323388800_000_000, 0]),
        (["1970-01-01T00:00:01.5", "1970-01-01 00:01"], [1_500_000, 60_000_000]),
        (["1970-01-01T00:00:01Z", "1970-01-01T02:00:00+02:00"], [1_000_000, 0]),
        (["1970-01-01T00:00:01Z", "1970-01-02"], [1_000_000, 86_400_000_000]),
    ],
)
def test_times_are_integers_fractions_or_iso_dates(
    tmp_path: Path, texts: list[str], wanted: list[int] | None, write_text: Callable[..., Any]
) -> None:
    lines = "".join(f"1,{row},{text}\n" for row, text in enumerate(texts))
    data = load_interactions(write_text(tmp_path / "t.csv", "user,item,timestamp\n" + lines))
    assert data.timestamps is not None
    if wanted is None:  # 19 digits keep their order, though not their last digit
        assert data.timestamps[0] > data.timestamps[1]
    else:
        assert data.timestamps.tolist() == wanted


def test_parquet_columns_may_be_dates_dictionaries_and_floats(
    tmp_path: Path, ids_of: Callable[..., Any]
) -> None:
    table = pa.table(
        {
            "user": pa.array([1.0, 2.0]),
            "item": pa.array(["x", "y"]).dictionary_encode(),
            "timestamp": pa.array([0, 5_000], pa.timestamp("ms", "UTC")),
            "title": pa.array(["X", "Y"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    data = load_interactions(DataConfig(path=str(tmp_path / "t.parquet")))
    assert ids_of(data) == [(1, "x"), (2, "y")]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [0, 5_000_000]
    assert data.item_titles == ["X", "Y"]


def test_npz_may_hold_bytes_and_dates(tmp_path: Path, ids_of: Callable[..., Any]) -> None:
    np.savez(
        tmp_path / "t.npz",
        user=np.array([b"u", b"v"]),
        item=np.array([1, 2], np.uint16),
        timestamp=np.array(["1970-01-01", "1970-01-02"], "datetime64[s]"),
    )
    data = load_interactions(DataConfig(path=str(tmp_path / "t.npz")))
    assert ids_of(data) == [("u", 1), ("v", 2)]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [0, 86_400_000_000]


def test_ids_beyond_int64_or_of_another_type_are_refused(tmp_path: Path) -> None:
    config = DataConfig(path=str(tmp_path / "t.npz"))
    np.savez(config.path, user=np.array([2**63], np.uint64), item=np.array([1]))
    with pytest.raises(IdError, match="'user'"):
        load_interactions(config)
    np.savez(config.path, user=np.array([1.5]), item=np.array([1]))
    with pytest.raises(IdError, match="'user'"):
        load_interactions(config)
    np.savez(config.path, user=np.array([True]), item=np.array([1]))
    with pytest.raises(DataError, match="wanted ids as integers or text"):
        load_interactions(config)

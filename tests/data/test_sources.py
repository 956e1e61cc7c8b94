"""Files, folders and names: what is found, and what is said if nothing is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poeem.config import DataConfig
from poeem.data import load_interactions
from poeem.errors import (
    DataError,
    UnparsableRowsError,
)


@pytest.mark.parametrize("name", ["no.csv", "no.parquet", "no.npz", "no-such-set"])
def test_missing_files_are_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POEEM_DATA", raising=False)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_interactions(DataConfig(path=str(tmp_path / name)))


def test_a_folder_is_found_in_poeem_data_with_its_titles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    np.savez(folder / "interactions.npz", user=np.array([1, 1]), item=np.array([4, 9]))
    (folder / "item_map.tsv").write_text('item\tmovie_id\ttitle\n4\t40\t"Alien"\n')
    monkeypatch.setenv("POEEM_DATA", str(tmp_path))
    assert load_interactions(DataConfig(path="films")).item_titles == ['"Alien"', "9"]
    assert load_interactions(DataConfig(path=str(folder))).num_items == 2
    with pytest.raises(DataError, match="online-retail, tldr-pages, films"):
        load_interactions(DataConfig(path="movies"))
    (folder / "item_map.tsv").write_text("item\ttitle\n4\n")
    with pytest.raises(DataError, match="line 2 has 1 fields"):
        load_interactions(DataConfig(path="films"))


def test_movielens_as_published_is_read(tmp_path: Path, ids_of: Callable[..., Any]) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n2::661::3::978302109\n")
    (tmp_path / "movies.dat").write_bytes("661::Crème (1996)::Drama\n".encode("latin-1"))
    config = DataConfig(path=str(tmp_path), rating_column="rating", min_rating=4)
    data = load_interactions(config)
    assert ids_of(data) == [(1, 1193)]
    data = load_interactions(DataConfig(path=str(tmp_path)))
    assert data.item_titles == ["Crème (1996)", "1193"]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [978300760, 978302109]
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n2::661::3\n")
    with pytest.raises(UnparsableRowsError, match=r"line 2"):
        load_interactions(DataConfig(path=str(tmp_path)))


@pytest.mark.data
@pytest.mark.skipif("POEEM_DATA" not in os.environ, reason="POEEM_DATA is not set")
@pytest.mark.parametrize(
    ("name", "counts", "title"),
    [
        ("gowalla", (29_858, 40_981, 1_027_370), None),
        ("amazon-book-kgat", (70_679, 24_915, 846_434), None),
        ("movielens-1m", (6_040, 3_706, 1_000_209), "Toy Story (1995)"),
    ],
)
def test_the_public_sets_have_their_published_sizes(
    name: str, counts: tuple[int, int, int], title: str | None
) -> None:
    data = load_interactions(DataConfig(path=name))
    assert (data.num_users, data.num_items, len(data)) == counts
    assert (data.item_titles[0] if data.item_titles else None) == title

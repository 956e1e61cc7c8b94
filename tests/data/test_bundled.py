"""The data set that comes with the package."""

from __future__ import annotations

from importlib import resources

import numpy as np

from poeem.config import DataConfig
from poeem.data import load_interactions, split_interactions


def test_online_retail_is_whole_and_small() -> None:
    data = load_interactions(DataConfig())
    assert (data.num_users, data.num_items, len(data)) == (4_339, 3_665, 266_802)
    assert data.num_repeated_rows == 397_924 - 266_802
    assert data.timestamps is not None
    assert (data.timestamps.min(), data.timestamps.max()) == (1291191960, 1323435000)
    bundled = resources.files("poeem.data") / "bundled" / "online_retail.parquet"
    assert len(bundled.read_bytes()) < 2_000_000


def test_online_retail_has_product_names() -> None:
    data = load_interactions(DataConfig())
    assert data.item_titles is not None
    place = int(np.flatnonzero(data.item_ids == "85123A")[0])
    assert data.item_titles[place] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert all(data.item_titles)


def test_online_retail_splits_by_time() -> None:
    data = load_interactions(DataConfig())
    split = split_interactions(data, DataConfig())
    assert split.method == "time"
    assert data.timestamps is not None
    assert data.timestamps[split.train].max() < data.timestamps[split.test].min()
    held_out = len(split.test) + split.num_unseen_item_pairs + split.num_unseen_user_pairs
    assert 0.19 < held_out / len(data) <= 0.2


def test_the_credit_is_beside_the_data() -> None:
    text = (resources.files("poeem.data") / "bundled" / "README.md").read_text()
    for word in ("Daqing Chen", "CC0", "CC BY 4.0", "10.1057/dbm.2012.17", "onlineretail"):
        assert word in text

"""Each way to split, by hand-sized tables; ties, seeds and what is dropped."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from poeem.config import DataConfig
from poeem.data import Interactions, group_by_user, load_interactions, split_interactions
from poeem.errors import DataError, ShapeError


def make(
    users: list[int],
    items: list[int],
    times: list[int] | None = None,
    split: list[int] | None = None,
) -> Interactions:
    return Interactions(
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        timestamps=None if times is None else np.array(times, np.int64),
        split=None if split is None else np.array(split, np.int8),
        user_ids=np.arange(max(users) + 1),
        item_ids=np.arange(max(items) + 1),
    )


def test_given_trains_on_0_and_1_and_tests_on_2() -> None:
    data = make([0, 0, 0, 0], [0, 1, 2, 1], split=[0, 1, 0, 2])
    data = dataclasses.replace(data, users=np.array([0, 0, 1, 1], np.int32), user_ids=np.arange(2))
    split = split_interactions(data, DataConfig())
    assert split.method == "given"
    assert split.train.tolist() == [0, 1, 2]
    assert split.test.tolist() == [3]
    assert split.valid.tolist() == []
    assert split.train.dtype == split.test.dtype == split.valid.dtype == np.int64


def test_given_holds_out_the_1s_if_asked() -> None:
    data = make([0, 0, 1, 1, 0], [0, 1, 2, 0, 2], split=[0, 1, 0, 2, 1])
    split = split_interactions(data, DataConfig(split="given"), hold_out_valid=True)
    assert split.train.tolist() == [0, 2]
    assert split.valid.tolist() == [4]  # item 1 of row 1 is in no training pair
    assert split.test.tolist() == [3]
    assert split.num_unseen_item_pairs == 1


def test_given_without_1s_holds_out_a_share_of_each_users_pairs() -> None:
    users, items = np.arange(50) // 10, np.arange(50) % 10
    data = make(users.tolist(), items.tolist(), split=(2 * (items == users)).tolist())
    config = DataConfig(split="given", test_fraction=0.2)
    split = split_interactions(data, config, hold_out_valid=True)
    assert split.test.tolist() == split_interactions(data, config).test.tolist()
    assert len(split.train) + len(split.valid) == 45
    assert np.bincount(data.users[split.valid]).tolist() == [2] * 5


def test_time_keeps_pairs_of_one_time_together_in_training() -> None:
    data = make([0, 1] * 5, [0, 0, 1, 1, 2, 2, 3, 3, 0, 1], times=[1, 2, 3, 4, 5, 6, 7, 7, 7, 9])
    data = dataclasses.replace(data, items=np.array([0, 1, 2, 3, 1, 0, 3, 2, 4, 4], np.int32))
    data = dataclasses.replace(data, item_ids=np.arange(5))
    split = split_interactions(data, DataConfig(test_fraction=0.3))
    assert split.method == "time"
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert split.test.tolist() == [9]


def test_time_is_not_row_order() -> None:
    data = make([0, 0, 1, 1], [0, 1, 1, 0], times=[9, 1, 2, 3])
    split = split_interactions(data, DataConfig(split="time", test_fraction=0.25))
    assert split.test.tolist() == [0]
    assert split.train.tolist() == [1, 2, 3]


def test_last_takes_the_latest_of_each_user_with_two() -> None:
    data = make([0, 1, 0, 1, 2, 0], [0, 0, 1, 1, 1, 2], times=[5, 1, 5, 2, 3, 4])
    split = split_interactions(data, DataConfig(split="last"))
    # User 0: rows 0 and 2 tie at time 5, the later row is the last. User 2 has a single pair.
    assert split.test.tolist() == [2, 3]
    assert split.train.tolist() == [0, 1, 4, 5]


def test_last_goes_by_rows_without_times() -> None:
    data = make([0, 1, 0, 1], [1, 0, 0, 1])
    assert split_interactions(data, DataConfig(split="last")).test.tolist() == [2, 3]


def test_last_holds_out_the_last_but_one_for_validation() -> None:
    data = make([0, 0, 0, 1, 1, 1], [0, 1, 2, 2, 0, 1])
    split = split_interactions(data, DataConfig(split="last"), hold_out_valid=True)
    assert split.train.tolist() == [0, 3]
    # Items 1 and 2's rows in test and valid survive only where training has the item.
    assert split.valid.tolist() == [4]
    assert split.test.tolist() == [2]
    assert split.num_unseen_item_pairs == 2


def test_random_takes_its_share_of_each_user_and_leaves_one() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([1, 2, 3, 10, 100])
    users = rng.permutation(np.repeat(np.arange(5), counts))
    items = np.arange(len(users)) % 20
    data = make(users.tolist(), items.tolist())
    split = split_interactions(data, DataConfig(test_fraction=0.5))
    assert split.method == "random"
    held_out = np.setdiff1d(np.arange(len(users)), split.train)
    assert np.bincount(users[held_out], minlength=5).tolist() == [0, 1, 2, 5, 50]
    extreme = split_interactions(data, DataConfig(test_fraction=0.9))
    assert np.bincount(users[extreme.train], minlength=5).tolist() == [1, 1, 1, 1, 10]


def test_the_seed_decides_and_nothing_else() -> None:
    data = make(np.repeat(np.arange(20), 10).tolist(), list(range(10)) * 20)
    one = split_interactions(data, DataConfig(seed=3), hold_out_valid=True)
    two = split_interactions(data, DataConfig(seed=3), hold_out_valid=True)
    other = split_interactions(data, DataConfig(seed=4), hold_out_valid=True)
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.test, other.test)
    parts = np.concatenate([one.train, one.valid, one.test])
    assert len(np.unique(parts)) == len(parts) == len(data)


def test_auto_prefers_given_then_time_then_random() -> None:
    both = make([0, 0, 1, 1], [0, 1, 0, 1], times=[1, 2, 3, 4], split=[0, 0, 0, 2])
    assert split_interactions(both, DataConfig()).method == "given"
    timed = make([0, 0, 1, 1], [0, 1, 0, 1], times=[1, 2, 3, 4])
    assert split_interactions(timed, DataConfig()).method == "time"
    plain = make(np.repeat(np.arange(9), 5).tolist(), list(range(5)) * 9)
    assert split_interactions(plain, DataConfig()).method == "random"


def test_held_out_pairs_that_cannot_be_known_are_dropped_and_counted() -> None:
    #        train            test: fine, item unseen, user unseen, both, in training
    data = make([0, 1, 1, 0, 2, 2, 0], [0, 1, 0, 2, 0, 2, 0], split=[0, 0, 1, 2, 2, 2, 2])
    data = dataclasses.replace(
        data,
        users=np.append(data.users, np.int32(0)),
        items=np.append(data.items, np.int32(1)),
        split=np.array([0, 0, 1, 2, 2, 2, 2, 2], np.int8),
    )
    split = split_interactions(data, DataConfig())
    assert split.test.tolist() == [7]
    assert split.num_repeated_pairs == 1
    assert split.num_unseen_item_pairs == 2
    assert split.num_unseen_user_pairs == 1


def test_no_test_pairs_is_an_error_unless_none_were_asked_for() -> None:
    data = make([0, 1], [0, 1])
    assert len(split_interactions(data, DataConfig(split="random", test_fraction=0)).train) == 2
    for method in ("random", "last"):
        with pytest.raises(DataError, match=f"split {method}: no test pair among 2"):
            split_interactions(data, DataConfig(split=method))


def test_no_training_pairs_is_an_error() -> None:
    with pytest.raises(DataError, match="no training pair"):
        split_interactions(make([0, 1], [0, 1], split=[2, 2]), DataConfig())


@pytest.mark.parametrize(("method", "word"), [("given", "'split'"), ("time", "'timestamp'")])
def test_a_split_by_what_is_not_there_is_an_error(method: str, word: str) -> None:
    with pytest.raises(DataError, match=word):
        split_interactions(make([0, 1], [0, 1]), DataConfig(split=method))


def test_grouping_keeps_rows_in_order_without_times() -> None:
    offsets, items = group_by_user(np.array([2, 0, 2, 0]), np.array([5, 6, 7, 8]), num_users=4)
    assert offsets.tolist() == [0, 2, 2, 4, 4]
    assert items.tolist() == [6, 8, 5, 7]
    assert (offsets.dtype, items.dtype) == (np.int64, np.int32)


def test_grouping_puts_the_latest_first_and_later_rows_before_equals() -> None:
    users, items = np.array([1, 0, 1, 1, 0]), np.array([1, 2, 3, 4, 5])
    offsets, grouped = group_by_user(users, items, 2, np.array([7, 1, 9, 7, 0]))
    assert offsets.tolist() == [0, 2, 5]
    assert grouped.tolist() == [2, 5, 3, 4, 1]


def test_grouping_nothing_gives_empty_runs() -> None:
    offsets, items = group_by_user(np.zeros(0, np.int32), np.zeros(0, np.int32), 3)
    assert offsets.tolist() == [0, 0, 0, 0]
    assert len(items) == 0


def test_grouping_refuses_users_out_of_range_and_uneven_arrays() -> None:
    with pytest.raises(DataError, match="got 0 to 3, wanted 0 to 2"):
        group_by_user(np.array([0, 3]), np.array([1, 1]), 3)
    with pytest.raises(ShapeError, match="got 1 rows, wanted 2"):
        group_by_user(np.array([0, 1]), np.array([1]), 3)


@pytest.mark.data
@pytest.mark.skipif("POEEM_DATA" not in os.environ, reason="POEEM_DATA is not set")
def test_gowalla_has_its_published_split() -> None:
    config = DataConfig(path="gowalla")
    data = load_interactions(config)
    split = split_interactions(data, config)
    assert (split.method, len(split.train), len(split.test)) == ("given", 810_128, 217_242)
    held_out = split_interactions(data, config, hold_out_valid=True)
    assert len(held_out.train) == 719_081

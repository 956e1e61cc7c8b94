"""Chooses which pairs a model is tested on, and groups pairs by user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poeem.config import DataConfig
from poeem.data.interactions import Interactions
from poeem.errors import DataError, ShapeError
from poeem.types import Array, IntArray

Mask = NDArray[np.bool_]

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of an `Interactions`, each int64 and ascending; no row is in two of them.

    train: pairs to learn from.
    valid: pairs to look at while training; empty unless `hold_out_valid` was asked for.
    test: pairs to measure on at the end.
    method: "given", "time", "last" or "random": what "auto" came to; of a text set, "queries".
    num_repeated_pairs: held-out rows dropped as the same pair is in training.
    num_unseen_item_pairs: held-out rows dropped as their item is in no training pair.
    num_unseen_user_pairs: the same for their user, among the rest.
    """

    train: IntArray
    valid: IntArray
    test: IntArray
    method: str
    num_repeated_pairs: int
    num_unseen_item_pairs: int
    num_unseen_user_pairs: int


def split_interactions(
    interactions: Interactions, config: DataConfig, *, hold_out_valid: bool = False
) -> Split:
    """Split pairs into training, validation and test.

    given: the split column; its 0 and 1 are training (the published protocol of gowalla and the
        like), 2 is test.
    time: the last `test_fraction` of all pairs by time is test; pairs of one time stay together,
        in training.
    last: the last pair of each user who has two or more (by time, or by row where there is none).
    random: `test_fraction` of each user's pairs, rounded to the nearest; one at least is training.

    Held-out pairs whose item or user has no training pair are dropped and counted: no tower can
    know them. The same seed gives the same split.

    Args:
        hold_out_valid: take validation pairs out of training: the 1s of a given split, or if it has
            none a share of each user's pairs at random; otherwise by the same method once more.

    Raises:
        DataError: the method needs times or a split column that is not there, or nothing is left to
            train on or, though some was asked for, to test on.
    """
    method = _resolve(interactions, config)
    rng = np.random.default_rng(config.seed)
    everything = np.arange(len(interactions), dtype=np.int64)
    is_test = _hold_out(interactions, everything, method, config.test_fraction, rng, TEST)
    train, test = everything[~is_test], everything[is_test]
    valid = everything[:0]
    if hold_out_valid:
        is_valid = _hold_out(interactions, train, method, config.test_fraction, rng, VALID)
        if method == "given" and not is_valid.any():
            is_valid = _random_of_each(
                interactions.users[train], config.test_fraction, interactions.num_users, rng
            )
        train, valid = train[~is_valid], train[is_valid]
    if len(train) == 0:
        raise DataError(f"split {method}: no training pair among {len(interactions):,}")
    test, test_dropped = _known(interactions, train, test)
    valid, valid_dropped = _known(interactions, train, valid)
    wants_test = config.test_fraction > 0 or method in ("given", "last")
    if wants_test and len(test) == 0:
        raise DataError(
            f"split {method}: no test pair among {len(interactions):,} of "
            f"{interactions.num_users:,} users ({test_dropped[1]:,} of items and "
            f"{test_dropped[2]:,} of users not in training); wanted users with pairs enough that "
            "one can be held out, or DataConfig.split random with DataConfig.test_fraction 0"
        )
    return Split(train, valid, test, method, *(np.add(test_dropped, valid_dropped).tolist()))


def split_queries(
    interactions: Interactions, config: DataConfig, *, hold_out_valid: bool = False
) -> Split:
    """Split by user: `test_fraction` of them is held out with all their pairs, at random.

    For users that need no training pair to be known, as the queries of a text set. Nor does an
    item: those of the held-out pairs may be in no training pair.

    Args:
        hold_out_valid: take the same share of the rest out of training too.

    Raises:
        DataError: nothing is left to train on or, though some was asked for, to test on.
    """
    num_users = interactions.num_users
    order = np.random.default_rng(config.seed).permutation(num_users)
    num_test = round(num_users * config.test_fraction)
    num_valid = round((num_users - num_test) * config.test_fraction) if hold_out_valid else 0
    part = np.full(num_users, TRAIN)
    part[order[:num_test]] = TEST
    part[order[num_test : num_test + num_valid]] = VALID
    of_pair = part[interactions.users]
    train, valid, test = (np.flatnonzero(of_pair == p) for p in (TRAIN, VALID, TEST))
    if len(train) == 0 or (config.test_fraction > 0 and len(test) == 0):
        raise DataError(
            f"split queries: {len(train)} training and {len(test)} test pairs among "
            f"{num_users:,} queries, wanted at least one of each, or another test_fraction"
        )
    return Split(train, valid, test, "queries", 0, 0, 0)


def group_by_user(
    users: Array, items: Array, num_users: int, timestamps: Array | None = None
) -> tuple[IntArray, NDArray[np.int32]]:
    """Group items by user: those of user u are `grouped[offsets[u]:offsets[u + 1]]`.

    Args:
        users: integers [n], 0 to num_users - 1.
        items: integers [n].
        timestamps: int64 [n]; latest first, the later row first among equals. None = row order.

    Returns:
        offsets: int64 [num_users + 1].
        grouped: int32 [n].

    Raises:
        ShapeError: arrays of different lengths.
        DataError: a user outside 0 to num_users - 1.
    """
    if len(users) != len(items) or (timestamps is not None and len(timestamps) != len(users)):
        raise ShapeError(f"items: got {len(items)} rows, wanted {len(users)} as in users")
    if len(users) and not (users.min() >= 0 and users.max() < num_users):
        raise DataError(f"users: got {users.min()} to {users.max()}, wanted 0 to {num_users - 1}")
    offsets = np.zeros(num_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=num_users), out=offsets[1:])
    if timestamps is None:
        order = np.argsort(users, kind="stable")
    else:
        # Ascending time within descending user, read backwards.
        order = np.lexsort((timestamps, num_users - users.astype(np.int64)))[::-1]
    return offsets, items[order].astype(np.int32)


def _resolve(interactions: Interactions, config: DataConfig) -> str:
    method = config.split
    if method == "auto":
        if interactions.split is not None:
            return "given"
        return "time" if interactions.timestamps is not None else "random"
    if method == "given" and interactions.split is None:
        raise DataError(f"split given: no column {config.split_column!r} was read")
    if method == "time" and interactions.timestamps is None:
        raise DataError(f"split time: no column {config.timestamp_column!r} was read")
    return method


def _hold_out(
    interactions: Interactions,
    rows: IntArray,
    method: str,
    fraction: float,
    rng: np.random.Generator,
    part: int,
) -> Mask:
    """Mark those of `rows` that are held out."""
    times = None if interactions.timestamps is None else interactions.timestamps[rows]
    users = interactions.users[rows]
    if method == "given":
        if interactions.split is None:
            raise DataError("split given: no split column was read")
        given: Mask = interactions.split[rows] == part
        return given
    if method == "time" and times is not None:
        return _latest(times, fraction)
    if method == "last":
        return _last_of_each(users, times, interactions.num_users)
    return _random_of_each(users, fraction, interactions.num_users, rng)


def _latest(times: IntArray, fraction: float) -> Mask:
    num_train = len(times) - round(len(times) * fraction)
    if num_train == 0:
        return np.ones(len(times), dtype=np.bool_)
    cut = np.partition(times, num_train - 1)[num_train - 1]
    held_out: Mask = times > cut
    return held_out


def _last_of_each(users: NDArray[np.int32], times: IntArray | None, num_users: int) -> Mask:
    keys = (users,) if times is None else (times, users)
    # Stable, so that among equal times the last row is the last item.
    order = np.lexsort(keys)
    counts = np.bincount(users, minlength=num_users)
    ends = np.cumsum(counts) - 1
    held_out = np.zeros(len(users), dtype=np.bool_)
    held_out[order[ends[counts >= 2]]] = True
    return held_out


def _random_of_each(
    users: NDArray[np.int32], fraction: float, num_users: int, rng: np.random.Generator
) -> Mask:
    counts = np.bincount(users, minlength=num_users)
    num_held_out = np.minimum(np.floor(counts * fraction + 0.5), np.maximum(counts - 1, 0))
    order = np.lexsort((rng.random(len(users)), users))
    starts = np.cumsum(counts) - counts
    # Place of each row in the shuffled run of its user; the first few are held out.
    place = np.arange(len(users)) - np.repeat(starts, counts)
    held_out = np.zeros(len(users), dtype=np.bool_)
    held_out[order] = place < np.repeat(num_held_out, counts)
    return held_out


def _known(
    interactions: Interactions, train: IntArray, rows: IntArray
) -> tuple[IntArray, tuple[int, int, int]]:
    """Drop rows that are in training, then of unseen items, then of unseen users; count each."""
    users, items = interactions.users, interactions.items
    pairs = users.astype(np.int64) * interactions.num_items + items
    item_seen = np.zeros(interactions.num_items, dtype=np.bool_)
    item_seen[items[train]] = True
    user_seen = np.zeros(interactions.num_users, dtype=np.bool_)
    user_seen[users[train]] = True
    # The same as np.isin(pairs[rows], pairs[train]), several times faster.
    trained = np.sort(pairs[train])
    places = np.minimum(np.searchsorted(trained, pairs[rows]), len(trained) - 1)
    new = rows[trained[places] != pairs[rows]]
    of_items = new[item_seen[items[new]]]
    of_users = of_items[user_seen[users[of_items]]]
    counts = (len(rows) - len(new), len(new) - len(of_items), len(of_items) - len(of_users))
    return of_users, counts

"""Batches and histories."""

import numpy as np
import pytest
import torch

from poeem.errors import DataError
from poeem.models.towers import Histories
from poeem.training.pairs import TrainingPairs


def make(n=100, users=7, items=11):
    rng = np.random.default_rng(0)
    u, i = rng.integers(users, size=n), rng.integers(items, size=n)
    order = np.argsort(u, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(u, minlength=users))])
    return TrainingPairs.from_arrays(
        u, i, (offsets, i[order]), num_users=users, num_items=items, max_history=100
    )


def test_an_epoch_holds_every_pair_once():
    pairs = make(n=96)
    batches = list(pairs.batches(16, epoch=0, seed=0))
    assert len(batches) == pairs.num_batches(16) == 6
    seen = sorted(zip(*(torch.cat(x).tolist() for x in zip(*batches, strict=True)), strict=True))
    assert seen == sorted(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))


def test_a_last_batch_of_half_the_size_is_kept():
    sizes = {n: make(n=n).num_batches(4) for n in (4, 5, 6, 9, 10, 13, 14)}
    assert sizes == {4: 1, 5: 1, 6: 2, 9: 2, 10: 3, 13: 3, 14: 4}


def test_order_depends_on_seed_and_epoch_and_can_be_entered_late():
    pairs = make()

    def items_of(**at):
        return [items.tolist() for _, items in pairs.batches(10, **at)]

    assert items_of(epoch=1, seed=0) == items_of(epoch=1, seed=0)
    assert items_of(epoch=1, seed=0) != items_of(epoch=2, seed=0)
    assert items_of(epoch=1, seed=0) != items_of(epoch=1, seed=1)
    assert items_of(epoch=1, seed=0, skip=3) == items_of(epoch=1, seed=0)[3:]


def test_log_q_is_the_share_of_each_item():
    pairs = make()
    counts = torch.bincount(pairs.items, minlength=11)
    torch.testing.assert_close(pairs.log_q.exp() * 100, counts.clamp(min=1).float())


def test_too_few_pairs():
    with pytest.raises(DataError, match="got 1, wanted at least 2"):
        make(n=1)


def test_histories_leave_out_the_item_to_predict():
    histories = Histories(torch.tensor([0, 3, 3, 5]), torch.tensor([7, 8, 9, 4, 8]), 100)
    users = histories.of(torch.tensor([2, 1, 0]), without=torch.tensor([8, 1, 8]))
    assert users.history.tolist() == [4, 7, 9]
    assert users.offsets.tolist() == [0, 1, 1, 3]


def test_histories_keep_the_latest():
    histories = Histories(torch.tensor([0, 3]), torch.tensor([7, 8, 9]), 2)
    assert histories.of(torch.tensor([0])).history.tolist() == [7, 8]


def test_places_of_what_users_had_however_long_ago():
    histories = Histories(torch.tensor([0, 3, 3, 5]), torch.tensor([7, 8, 9, 4, 8]), 1)
    rows, columns = histories.places(torch.tensor([2, 1, 0, 0]), torch.tensor([2, 8, 9]))
    found = sorted(zip(rows.tolist(), columns.tolist(), strict=True))
    assert found == [(0, 1), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert rows.tolist() == sorted(rows.tolist())
    assert histories.places(torch.tensor([1]), torch.tensor([2, 8]))[0].tolist() == []

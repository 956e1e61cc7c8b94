"""`losses=` of the loop, by what `benchmarks/tried.py` does with it: each does what it says."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig
from poeem.training.loop import train
from poeem.training.objective import batch_losses
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState

NUM_USERS, NUM_ITEMS, EACH = 40, 300, 6
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tried(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("tried")


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(NUM_ITEMS)[:EACH] for _ in range(NUM_USERS)])
    users = np.repeat(np.arange(NUM_USERS), EACH)
    return TrainingPairs.from_arrays(
        users,
        items,
        (np.arange(NUM_USERS + 1) * EACH, items),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        max_history=100,
    )


def new_state(**changes):
    settings = {
        "epochs": 4,
        "warm_start_epoch": 1,
        "batch_size": 60,
        "learning_rate": 0.02,
        "frozen_epochs": 1,
        "refit_below": 0,
        "eval_every": 0,
        "checkpoint_every": 0,
    }
    layer = LayerConfig(num_subspaces=2, num_codewords=16, pass_through_steps=None)
    model = ModelConfig(dim=8, query_tower="id")
    config = Config(model=model, layer=layer, train=TrainConfig(**(settings | changes)))
    return TrainingState.new(NUM_USERS, NUM_ITEMS, config, joint=True)


def weights(state):
    return torch.cat([p.detach().flatten() for p in (state.model.state_dict() | {}).values()])


def test_the_loss_of_a_step_is_the_one_given(pairs):
    asked = []

    def twice(state, *batch):
        asked.append(state.step)
        loss, extra = batch_losses(state, *batch)
        return 2 * loss, extra

    usual, given, doubled = new_state(), new_state(), new_state()
    train(usual, pairs)
    train(given, pairs, losses=batch_losses)
    train(doubled, pairs, losses=twice)
    assert asked == list(range(usual.step))
    assert torch.equal(weights(usual), weights(given))
    assert not torch.equal(weights(usual), weights(doubled))


def test_all_that_was_tried_trains_and_changes_something(tried, pairs):
    usual = train(new_state(), pairs)
    for name, prepare in tried.TRIED.items():
        state = new_state()
        train(state, pairs, losses=prepare(state, pairs))
        assert state.step == usual.step, name
        assert state.frozen is not None, name
        assert torch.isfinite(weights(state)).all(), name
        found = state.layer.decode(state.frozen.codes), usual.layer.decode(usual.frozen.codes)
        assert not torch.equal(*found), name


def test_a_moving_average_is_that_of_the_sums_and_counts(tried, pairs):
    state = new_state(epochs=2, frozen_epochs=0)
    train(state, pairs)
    average = tried.MovingAverage(state, 0.9)
    layer, x = state.layer, torch.randn(50, 8)
    layer.train()
    layer(x)
    before = layer.codebooks.detach().clone()
    codes = layer.encode(x)[0]
    average.step()
    for m in range(2):
        for k in range(16):
            rows = (codes[:, m] == k).nonzero()[:, 0]
            others = before[1 - m][codes[rows, 1 - m]]
            old = 50 / 16  # how often each codeword is taken to have been met before
            count = 0.9 * old + 0.1 * len(rows)
            total = 0.9 * old * before[m, k] + 0.1 * (x[rows] - others).sum(0)
            assert torch.allclose(layer.codebooks[m, k], total / count, atol=1e-5)
    moved = layer.codebooks.detach().clone()
    average.step()  # nothing was seen since
    assert torch.equal(layer.codebooks, moved)


def test_codewords_of_a_moving_average_get_no_gradient_until_codes_freeze(tried, pairs):
    state = new_state()
    losses = tried.moving_average(0.9)(state, pairs)
    found = {True: [], False: []}

    def watched(state, *batch):
        grad = state.layer.codebooks.grad  # of the step before
        if grad is not None and state.batch > 1:
            found[state.frozen is None].append(bool(grad.any()))
        return losses(state, *batch)

    train(state, pairs, losses=watched)
    assert found[True]
    assert not any(found[True])
    assert any(found[False])


def test_a_weight_goes_from_one_value_to_the_other(tried, pairs):
    state = new_state(epochs=5)
    losses = tried.weight_schedule("distortion_weight", 1.0, 100.0)(state, pairs)
    seen = []

    def watched(state, *batch):
        result = losses(state, *batch)
        seen.append((state.is_warm, state.frozen is None, state.layer.config.distortion_weight))
        return result

    train(state, pairs, losses=watched)
    joint = [weight for warm, moving, weight in seen if warm and moving]
    assert len(joint) == 3 * 4
    assert joint[0] == pytest.approx(1.0)
    assert np.diff(np.log(joint)) == pytest.approx(np.log(100) / 12)
    assert {weight for *_, moving, weight in seen if not moving} == {100.0}


def test_hard_negatives_are_what_the_index_finds_first_and_the_user_never_had(tried, pairs):
    state = train(new_state(), pairs)
    users = torch.tensor([3, 17])
    queries = state.model.encode_queries(pairs.histories.of(users))
    found = tried._first_found(state, pairs, users, queries, 5)
    scores = queries @ state.layer.decode(state.frozen.codes).T
    for row, user in enumerate(users.tolist()):
        had = pairs.items[pairs.users == user]
        scores[row, had] = -torch.inf
        assert set(found[row].tolist()).isdisjoint(had.tolist())
        assert torch.equal(scores[row, found[row]], scores[row].topk(5).values)

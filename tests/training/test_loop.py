"""The loop: it learns, it resumes to the bit, it stops cleanly."""

import dataclasses
import os
import resource
import signal

import numpy as np
import pytest
import torch

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig
from poeem.errors import (
    CheckpointError,
    ConfigError,
    NonFiniteError,
    SaveError,
    TrainingInterrupted,
)
from poeem.evaluation.protocol import EvaluationSet
from poeem.quantize.layer_state import Phase
from poeem.training.checkpoint import fingerprint, load_checkpoint, read_model, save_checkpoint
from poeem.training.display import Bar, Quiet
from poeem.training.loop import evaluate_state, rate_factor, scheduled, train
from poeem.training.objective import quantized_share
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState

NUM_USERS, NUM_ITEMS = 60, 80


@pytest.fixture(scope="module")
def taste():
    """Users of four tastes, each buying from a quarter of the items; some pairs are held out."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(NUM_USERS), 12)
    within = np.concatenate([rng.permutation(20)[:12] for _ in range(NUM_USERS)])
    items = (users % 4) * 20 + within
    held_out = np.arange(len(users)) % 12 == 0
    train_users, train_items = users[~held_out], items[~held_out]
    offsets = np.arange(NUM_USERS + 1) * 11
    pairs = TrainingPairs.from_arrays(
        train_users,
        train_items,
        (offsets, train_items),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        max_history=100,
    )
    evaluation = EvaluationSet.from_pairs(
        (users[held_out], items[held_out]), (train_users, train_items), NUM_USERS
    )
    return pairs, evaluation


def config(query_tower="id", num_lists=0, **changes):
    settings = {
        "epochs": 8,
        "warm_start_epoch": 4,
        "batch_size": 64,
        "learning_rate": 0.02,
        "decay_epochs": 2,
        "eval_every": 0,
        "checkpoint_every": 0,
    }
    return Config(
        model=ModelConfig(dim=16, query_tower=query_tower),
        layer=LayerConfig(
            num_subspaces=4, num_codewords=16, num_lists=num_lists, pass_through_steps=None
        ),
        train=TrainConfig(**(settings | changes)),
    )


def new_state(settings, joint=True):
    return TrainingState.new(NUM_USERS, NUM_ITEMS, settings, joint=joint)


@pytest.mark.parametrize("query_tower", ["id", "history"])
@pytest.mark.parametrize("num_lists", [0, 4])
def test_it_learns(taste, query_tower, num_lists):
    pairs, evaluation = taste
    state = new_state(config(query_tower, num_lists))
    before = evaluate_state(state, evaluation, pairs)
    train(state, pairs)
    after = evaluate_state(state, evaluation, pairs)
    assert state.layer.phase is Phase.JOINT
    assert "quantized_recall@20" not in before
    # A user's held-out item is one of the 9 items of their taste that are not excluded.
    assert before["recall@20"] < 0.5
    assert after["recall@20"] > 0.8
    assert after["quantized_recall@20"] > 0.8
    assert after["used_codewords"] > 0.8


@pytest.mark.parametrize("stop", [3, 45, 52, 70, 74])
@pytest.mark.parametrize("joint", [True, False])
def test_resume_equals_not_having_stopped(taste, stop, joint, tmp_path):
    pairs, _ = taste
    whole = train(new_state(config(), joint), pairs)
    assert whole.step == 80

    class StopAt(Quiet):
        def __init__(self):
            self.steps = 0

        def step(self, epoch, loss, num_examples):
            self.steps += 1
            if self.steps == stop:
                os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(TrainingInterrupted, match=f"after {stop} steps; go on from") as caught:
        train(new_state(config(), joint), pairs, checkpoint=path, display=StopAt())
    assert caught.value.checkpoint == path
    resumed = new_state(config(), joint)
    load_checkpoint(resumed, path)
    assert resumed.step == stop
    train(resumed, pairs)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name
    assert fingerprint(whole) == fingerprint(resumed)


def test_interrupt_without_a_checkpoint(taste):
    class StopNow(Quiet):
        def step(self, epoch, loss, num_examples):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="no checkpoint was asked for"):
        train(new_state(config()), taste[0], display=StopNow())


def test_twin_shares_the_epochs_before_the_warm_start(taste, tmp_path):
    pairs, _ = taste
    path = tmp_path / "fork.safetensors"
    train(new_state(config()), pairs, on_warm_start=lambda state: save_checkpoint(state, path))
    forked = new_state(config(), joint=False)
    load_checkpoint(forked, path)
    alone = train(new_state(config(), joint=False), pairs)
    train(forked, pairs)
    for name, tensor in alone.tensors().items():
        assert torch.equal(tensor, forked.tensors()[name]), name


def test_model_comes_back_from_a_checkpoint_alone(taste, tmp_path):
    pairs, evaluation = taste
    path = tmp_path / "checkpoint.safetensors"
    state = train(new_state(config()), pairs, checkpoint=path)
    again = read_model(path)
    assert again.config == state.config
    assert fingerprint(again) == fingerprint(state)
    assert evaluate_state(again, evaluation, pairs) == evaluate_state(state, evaluation, pairs)


def test_bad_checkpoints(taste, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(new_state(config()), path)
    other = TrainingState.new(NUM_USERS, NUM_ITEMS + 1, config(), joint=True)
    with pytest.raises(CheckpointError, match="other data"):
        load_checkpoint(other, path)
    wider = new_state(Config(model=ModelConfig(dim=32), layer=config().layer))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        load_checkpoint(wider, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_model(tmp_path / "missing")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_model(path)
    save_checkpoint(new_state(config()), path)
    whole = path.read_bytes()
    for place in (300, len(whole) // 2, len(whole) - 1):  # header and tensors
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError):
            read_model(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this library"):
        read_model(path)


def test_checkpoint_into_a_missing_folder(tmp_path):
    with pytest.raises(SaveError, match="cannot write there"):
        save_checkpoint(new_state(config()), tmp_path / "no" / "checkpoint")


def test_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(new_state(config()), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(SaveError, match="what was there before is whole"):
            save_checkpoint(new_state(config()), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_divergence_says_so(taste):
    state = new_state(config())
    with torch.no_grad():
        state.model.item_tower.embedding.weight[:] = float("nan")
    with pytest.raises(NonFiniteError, match=r"diverged in epoch 1, after 0 steps.*learning_rate"):
        train(state, taste[0])


def test_evaluation_on_the_way_and_scalars(taste, capsys):
    pairs, evaluation = taste
    written = []

    class Writer:
        def add_scalar(self, tag, scalar_value, global_step):
            written.append((tag, global_step))

    settings = config(eval_every=3, epochs=4, warm_start_epoch=2)
    bar = Bar("training", total_steps=40, num_epochs=4)
    train(new_state(settings), pairs, validation=evaluation, display=bar, writer=Writer())
    shown = capsys.readouterr().err
    assert "warm start: distortion" in shown
    assert "epoch 3: recall@100 float" in shown
    assert "quantized" in shown
    assert ("evaluation/quantized_recall@100", 30) in written
    assert ("evaluation/codeword_kl", 40) in written


def test_unknown_device():
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=f"got '{device}'"):
            new_state(config(device=device))


@pytest.mark.parametrize(
    ("settings", "num_batches", "frozen"),
    [
        ({}, 20, 1),  # 100 steps before codes would freeze
        ({"refit_below": 101}, 20, 3),
        ({}, 19, 3),
        ({"refit_below": 10}, 19, 1),
        ({"epochs": 8}, 19, 2),
        ({"epochs": 7}, 19, 1),
        ({"epochs": 5}, 19, 0),
        ({"frozen_epochs": 2}, 19, 2),
        ({"frozen_epochs": 0}, 19, 0),
    ],
)
def test_codes_freeze_earlier_where_steps_are_few(settings, num_batches, frozen):
    given = config(**{"epochs": 10, "warm_start_epoch": 4, "refit_below": None} | settings)
    found = scheduled(new_state(given, joint=False), num_batches)
    assert found.frozen_epochs == frozen
    assert found.refit_below == settings.get("refit_below", 100)
    assert given.train.freezes == (frozen > 0)


@pytest.mark.parametrize("shared", [True, False])
def test_vectors_of_texts_are_fitted_once_more_after_more_steps(shared):
    table = "shared" if shared else "separate"
    model = ModelConfig(
        dim=16, query_tower="text", item_tower="text", text_buckets=64, text_table=table
    )
    given = dataclasses.replace(config(epochs=50, refit_below=None), model=model)
    found = [scheduled(new_state(given), num_batches) for num_batches in (22, 23)]
    assert [one.refit_below for one in found] == [1000, 1000]
    assert [one.frozen_epochs for one in found] == [23, 1]  # 990 and 1,035 steps


def test_items_of_histories_are_fitted_once_more_after_more_steps():
    model = ModelConfig(dim=16, query_tower="history")
    given = dataclasses.replace(config(epochs=50, refit_below=None), model=model)
    found = [scheduled(new_state(given), num_batches) for num_batches in (2, 22)]
    assert [one.refit_below for one in found] == [1000, 1000]
    assert [one.frozen_epochs for one in found] == [23, 1]  # of ids: 90 and 990 steps


def test_rate_factor():
    twin = TrainConfig(epochs=10, decay_epochs=4, frozen_epochs=0)
    for joint in (True, False):
        factors = [rate_factor(twin, epoch, joint=joint) for epoch in (0, 6, 8, 10)]
        assert factors == [1, 1, 0.5, 0]
    frozen = TrainConfig(epochs=10, decay_epochs=4, frozen_epochs=2)
    assert [rate_factor(frozen, e, joint=False) for e in (6, 8, 10)] == [1, 0.5, 0]
    factors = [rate_factor(frozen, epoch, joint=True) for epoch in (4, 6, 7, 8, 9, 10)]
    assert factors == [1, 0.5, 0.25, 1, 0.5, 0]
    constant = TrainConfig(epochs=10, decay_epochs=0, frozen_epochs=0)
    assert rate_factor(constant, 9.9, joint=True) == 1
    short = TrainConfig(epochs=2, decay_epochs=4, frozen_epochs=0, warm_start_epoch=0)
    assert rate_factor(short, 1, joint=True) == 0.5
    late = TrainConfig(epochs=6, decay_epochs=4, frozen_epochs=1, warm_start_epoch=3)
    assert [rate_factor(late, epoch, joint=True) for epoch in (3, 4, 5, 5.5)] == [1, 0.5, 1, 0.5]
    factors = [rate_factor(late, epoch, joint=False) for epoch in (3, 4, 5)]
    assert factors == pytest.approx([1, 2 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("layer", "told", "wanted"),
    [
        ({"num_subspaces": 16}, None, 1.0),
        ({"num_subspaces": 17}, None, 0.5),
        ({"num_subspaces": 32, "num_codewords": 16}, None, 1.0),
        ({"num_subspaces": 33, "num_codewords": 16}, None, 0.5),
        ({"num_subspaces": 32}, 1.0, 1.0),
        ({"num_subspaces": 4}, 0.25, 0.25),
    ],
)
def test_how_many_items_are_quantized(layer, told, wanted):
    settings = Config(layer=LayerConfig(**layer), train=TrainConfig(quantized_share=told))
    assert quantized_share(settings) == wanted
    # With dropout of codewords all are quantized, unless told otherwise.
    assert quantized_share(settings, dropout=1.0) == (1.0 if told is None else told)

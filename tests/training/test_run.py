"""Runs at the level of the library: what is prepared, kept in the folder, built and measured."""

import dataclasses
import fcntl
import os
import shutil
import threading

import numpy as np
import pytest
import torch

from poeem.config import BuildConfig, Config, SearchConfig
from poeem.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    IdError,
    InputError,
    LineageError,
    NotWarmError,
    TrainingInterrupted,
)
from poeem.evaluation.metrics import Grouped
from poeem.files import held_folder
from poeem.index import Index
from poeem.quantize.layer_state import Phase
from poeem.training.checkpoint import fingerprint, save_checkpoint
from poeem.training.folder import Catalogue, RunFolder
from poeem.training.loop import _interruption
from poeem.training.prepared import prepare
from poeem.training.run import new_state, train_run, train_state
from poeem.training.trained import TrainedRun, build_run, evaluate_run

NUM_USERS, NUM_ITEMS = 50, 30


def write_table(path, integer_items=True):
    """Write an .npz of pairs with times; the items' ids are 1000, 1010, ... or text."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(NUM_USERS), 10)
    near = np.concatenate([rng.permutation(16)[:10] for _ in range(NUM_USERS)])
    items = (users // 2 + near) % NUM_ITEMS
    ids = items * 10 + 1000 if integer_items else np.char.add("P", items.astype(str))
    columns = {"user": users + 7, "item": ids, "timestamp": rng.integers(100, size=len(users))}
    np.savez(path, **columns)
    return path


def make_config(path, **sections):
    """Return settings for a model that trains in half a second."""
    values = {
        "data": {"path": str(path)},
        "model": {"dim": 8, "query_tower": "history", "max_history": 6},
        "layer": {"num_subspaces": 4, "num_codewords": 16, "kmeans_iterations": 3}
        | {"rotation_iterations": 2},
        "train": {"epochs": 3, "warm_start_epoch": 1, "batch_size": 64, "eval_every": 0},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return Config.from_dict(values)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "pairs.npz")


@pytest.fixture(scope="module")
def config(table):
    return make_config(table)


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    """A finished run with its index; read it only."""
    path = tmp_path_factory.mktemp("runs") / "run"
    train_run(config, path)
    build_run(path)
    return path


# Data


def test_prepare_keeps_test_pairs_out_of_training(config):
    prepared = prepare(config)
    trained = set(zip(prepared.pairs.users.tolist(), prepared.pairs.items.tolist(), strict=True))
    test = prepared.test
    held_out = set(zip(test.users[test.relevant.rows()], test.relevant.items, strict=True))
    assert held_out
    assert not trained & held_out
    assert prepared.validation is prepared.test
    assert len(prepared.catalogue.histories.items) == len(prepared.pairs)


def test_prepare_can_hold_out_validation_pairs_too(config):
    plain, held = prepare(config), prepare(config, hold_out_valid=True)
    assert np.array_equal(held.test.relevant.items, plain.test.relevant.items)
    assert held.validation is not held.test
    assert len(held.pairs) < len(plain.pairs)


def test_histories_are_latest_first(config):
    prepared = prepare(config)
    table, train = prepared.interactions, prepared.split.train
    for user in (0, 20):
        rows = train[table.users[train] == user]
        times = {int(table.items[row]): int(table.timestamps[row]) for row in rows}
        had = [times[item] for item in prepared.catalogue.history_of(user).tolist()]
        assert had == sorted(had, reverse=True)
        assert len(had) == len(rows)


# The folder


def test_settings_and_ids_come_back(config, folder):
    files = RunFolder(folder)
    assert files.read_config() == config
    known, wanted = Catalogue.load(files.ids), prepare(config).catalogue
    known.require_same(wanted, files.ids)
    assert known.user_ids.tolist() == list(range(7, 57))


def test_a_catalogue_of_texts_comes_back(tmp_path):
    histories = Grouped(np.array([0, 1, 3]), np.array([2, 0, 1]))
    titles = ["é", "", "a" * 1000]
    users, items = np.array(["x", "y"]), np.array(["a", "b€", "c"])
    Catalogue(users, items, titles, histories).save(tmp_path / "ids.npz")
    read = Catalogue.load(tmp_path / "ids.npz")
    assert read.titles == titles
    assert read.user_ids.tolist() == ["x", "y"]
    assert read.index_ids() is None
    assert read.index_titles() == ["a\té", "b€", "c\t" + "a" * 1000]
    assert read.item_numbers(["c", "a"]).tolist() == [2, 0]
    assert read.history_of(1).tolist() == [0, 1]


def test_ids_that_an_index_cannot_have():
    histories = Grouped(np.array([0, 0]), np.zeros(0, dtype=np.int64))
    items = np.array([-1, 5])
    catalogue = Catalogue(np.array([1]), items, ["minus one", "5"], histories)
    assert catalogue.index_ids() is None
    assert catalogue.index_titles() == ["-1\tminus one", "5"]


def test_a_run_is_not_overwritten_unless_asked(config, tmp_path):
    short = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, epochs=1, warm_start_epoch=0, frozen_epochs=0),
    )
    train_run(short, tmp_path)
    with pytest.raises(InputError, match="already holds a run"):
        train_run(short, tmp_path)
    build_run(tmp_path)
    old = evaluate_run(tmp_path)
    train_run(other(short), tmp_path, overwrite=True)
    assert RunFolder(tmp_path).read_config() == other(short)
    assert TrainedRun.load(tmp_path).config == other(short)
    assert not (tmp_path / "unfinished").exists()
    with pytest.raises(LineageError, match="poeem build"):  # the index is the old run's until then
        evaluate_run(tmp_path)
    build_run(tmp_path)
    assert evaluate_run(tmp_path).engine != old.engine


def other(config):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=9))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_stays_whole_until_its_successor_has_ended(config, folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "run")
    before = contents(path)

    def fail(state):
        raise KeyError("stopped at the warm start")

    with pytest.raises(KeyError):
        train_run(other(config), path, overwrite=True, on_warm_start=fail)
    assert contents(path) == before
    assert evaluate_run(path).engine
    with pytest.raises(InputError, match="already holds a run"):
        train_run(other(config), path)
    with pytest.raises(ConfigError, match=r"\[train\] seed = 0 \(was 9\)"):
        train_run(config, path, resume=True)
    state = train_run(other(config), path, resume=True)
    assert state.epoch == config.train.epochs
    build_run(path)
    assert TrainedRun.load(path).config == other(config)
    assert {p.name for p in path.iterdir()} == set(before)
    unbroken = train_run(other(config), tmp_path / "unbroken")
    assert TrainedRun.load(path).fingerprint == fingerprint(unbroken)


def test_a_move_that_was_cut_off_is_ended(config, folder, tmp_path):
    path, new = shutil.copytree(folder, tmp_path / "run"), tmp_path / "new"
    train_run(other(config), new)
    (path / "finished").mkdir()
    for name in ("config.toml", "checkpoint.safetensors"):  # ids.npz is in its place already
        shutil.copy(new / name, path / "finished" / name)
    assert TrainedRun.load(path).fingerprint == TrainedRun.load(new).fingerprint
    assert RunFolder(path).read_config() == other(config)
    assert not (path / "finished").exists()


def test_a_successor_cut_off_while_it_began_is_no_run(config, folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "run")
    (path / "unfinished").mkdir()
    (path / "unfinished" / "ids.npz").write_bytes(b"of other data")
    train_run(config, path, resume=True)
    assert contents(path) == contents(folder)
    assert evaluate_run(path).engine
    train_run(other(config), path, overwrite=True)
    assert not (path / "unfinished").exists()


def test_a_successor_has_the_name_of_the_folder_it_will_have(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "run")
    assert RunFolder(path).name == RunFolder(path).unfinished.name == "run"
    assert RunFolder(tmp_path / "unfinished").name == "unfinished"  # of nobody


def test_a_stopped_successor_names_what_stays(config, folder, tmp_path, monkeypatch):
    path = shutil.copytree(folder, tmp_path / "run")

    def stop(*args, checkpoint, **kwargs):
        raise _interruption(new_state(config, prepare(config), joint=True), checkpoint)

    monkeypatch.setattr("poeem.training.run.train", stop)
    with pytest.raises(TrainingInterrupted, match=r"the earlier run in .* stays") as caught:
        train_run(other(config), path, overwrite=True)
    assert f"poeem train --out {path} --resume" in str(caught.value)
    assert caught.value.checkpoint == path / "unfinished" / "checkpoint.safetensors"


def test_a_finished_run_can_be_resumed(config, folder):
    before = (folder / "checkpoint.safetensors").read_bytes()
    said = []
    state = train_run(config, folder, resume=True, say=said.append)
    assert state.epoch == config.train.epochs
    assert said == [f"{folder}: all 3 epochs are trained already"]
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_what_may_change_on_resume(config, folder):
    free = dataclasses.replace(config.train, eval_every=7, checkpoint_every=3)
    RunFolder(folder).require_same(dataclasses.replace(config, train=free))
    other = dataclasses.replace(config.train, learning_rate=0.5)
    with pytest.raises(ConfigError, match=r"\[train\] learning_rate = 0.5 \(was "):
        train_run(dataclasses.replace(config, train=other), folder, resume=True)


def test_what_is_refused_before_any_training(config, table, tmp_path):
    with pytest.raises(ConfigError, match="the index is never trained"):
        train_run(make_config(table, train={"warm_start_epoch": 3}), tmp_path / "a")
    with pytest.raises(ConfigError, match="frozen_epochs: got 1, wanted less than 1"):
        train_run(
            make_config(table, train={"warm_start_epoch": 2, "frozen_epochs": 1}), tmp_path / "a"
        )
    with pytest.raises(DataError, match="items: got 30, wanted at least 64"):
        train_run(make_config(table, layer={"num_codewords": 64}), tmp_path / "a")
    with pytest.raises(CheckpointError, match="no run there"):
        train_run(config, tmp_path / "a", resume=True)
    assert not (tmp_path / "a").exists()


def test_threads_are_given_back(table, tmp_path):
    before = torch.get_num_threads()
    train_run(make_config(table, train={"num_threads": before + 1}), tmp_path / "run")
    assert torch.get_num_threads() == before


# Index and queries


def test_the_index_answers_with_the_ids_of_the_table(folder):
    index = Index.open(folder / "items.poeem")
    assert set(index.ids) <= set(range(1000, 1300, 10))
    assert index.lineage["model"] == TrainedRun.load(folder).fingerprint
    assert not index.has_titles


def test_text_ids_become_titles(tmp_path):
    path = write_table(tmp_path / "text.npz", integer_items=False)
    train_run(make_config(path), tmp_path / "run")
    index = build_run(tmp_path / "run")
    assert index.lineage["item_ids"] == "titles"
    assert sorted(index.titles(index.ids)) == sorted({f"P{i}" for i in range(len(index))})


def test_build_elsewhere_with_other_settings(folder, tmp_path):
    index = build_run(folder, BuildConfig(metric="l2"), out=tmp_path / "x.poeem")
    assert index.metric == "l2"
    assert len(Index.open(tmp_path / "x.poeem")) == len(index)


def test_a_run_stopped_before_its_warm_start_has_no_index(config, tmp_path):
    prepared = prepare(config)
    RunFolder(tmp_path).begin(config, prepared.catalogue)
    state = new_state(config, prepared, joint=True)
    save_checkpoint(state, RunFolder(tmp_path).checkpoint)
    with pytest.raises(NotWarmError):
        build_run(tmp_path)


def test_queries_of_users_and_of_the_same_history_agree(folder):
    run = TrainedRun.load(folder)
    number = int(run.catalogue.user_numbers(["9"])[0])
    history = run.catalogue.item_ids[run.catalogue.history_of(number)]
    assert len(history) > run.config.model.max_history
    by_user = run.query_vectors(users=[9])
    assert np.array_equal(by_user, run.query_vectors(history=history.tolist()))
    assert by_user.shape == (1, 8)
    with pytest.raises(IdError, match="user: 1 not in the training data: 99"):
        run.query_vectors(users=[9, 99])
    with pytest.raises(ConfigError, match="either users, history or texts"):
        run.query_vectors()


def test_ids_of_another_run_are_told_from_its_own(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    ids = copy / "ids.npz"
    own = Catalogue.load(ids)
    renamed = [f"name {item}" for item in own.item_ids]
    dataclasses.replace(own, titles=renamed).save(ids)  # names mean nothing to a model
    assert TrainedRun.load(copy).catalogue.titles == renamed
    others = {
        "item_ids": own.item_ids + 1,
        "user_ids": own.user_ids + 1,
        "histories": Grouped(own.histories.offsets, own.histories.items[::-1].copy()),
    }
    for name, value in others.items():
        dataclasses.replace(own, **{name: value}).save(ids)
        with pytest.raises(CheckpointError, match=r"ids\.npz: of other data than checkpoint"):
            TrainedRun.load(copy)
        with pytest.raises(CheckpointError, match="of other data"):
            build_run(copy)


def test_a_checkpoint_that_does_not_name_its_ids_is_believed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    state = TrainedRun.load(folder).state
    state.catalogue = ""
    save_checkpoint(state, copy / "checkpoint.safetensors")
    own = Catalogue.load(copy / "ids.npz")
    dataclasses.replace(own, item_ids=own.item_ids + 1).save(copy / "ids.npz")
    assert TrainedRun.load(copy).catalogue.item_ids[0] == own.item_ids[0] + 1


def test_vectors_of_items_are_those_of_the_index(folder):
    run = TrainedRun.load(str(folder))
    vectors, index = run.item_vectors(), Index.open(folder / "items.poeem")
    assert vectors.shape == (len(run.catalogue.item_ids), 8)
    ids = run.catalogue.index_ids()
    near = np.square(vectors - index.reconstruct(ids)).sum(1)
    assert (near < np.square(vectors - index.reconstruct(ids[::-1].copy())).sum(1)).mean() > 0.8
    assert run.sample_queries(7).shape == (7, 8)
    assert run.sample_queries(10_000).shape == (NUM_USERS, 8)
    with pytest.raises(ConfigError, match="items are ids, not texts"):
        run.document_vectors(["a text"])


def test_an_id_tower_knows_no_histories(table, tmp_path):
    config = make_config(table, model={"query_tower": "id"})
    train_run(config, tmp_path / "run")
    run = TrainedRun.load(tmp_path / "run")
    assert run.query_vectors(users=[9, 10]).shape == (2, 8)
    with pytest.raises(ConfigError, match="--query-tower history"):
        run.query_vectors(history=[1000])


# Evaluation


def test_quantized_and_engine_agree(folder, config):
    told = []
    figures = evaluate_run(folder, progress=lambda done, in_all: told.append((done, in_all)))
    in_all = 3 * figures.num_users  # float, quantized, by the index
    assert {total for _, total in told} == {in_all}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (in_all, in_all)
    # Items of equal codes have equal scores, and torch orders those as it likes.
    assert figures.quantized == pytest.approx(figures.engine, abs=0.02)
    assert figures.num_users == len(prepare(config).test.users)
    assert figures.exact["recall@20"] > 20 / NUM_ITEMS  # better than by chance
    assert 0 < figures.health["used_codewords"] <= 1


def test_evaluation_without_an_index_and_of_another_model(folder, config, table, tmp_path):
    other = tmp_path / "other"
    train_run(make_config(table, train={"seed": 5}), other)
    assert evaluate_run(other).engine is None
    with pytest.raises(LineageError, match="poeem build"):
        evaluate_run(other, index=folder / "items.poeem")


def test_fewer_probes_are_worse(table, tmp_path):
    config = make_config(table, layer={"num_lists": 4})
    train_run(config, tmp_path / "run")
    build_run(tmp_path / "run")
    calibration = Index.open(tmp_path / "run" / "items.poeem").calibration
    assert calibration.num_probes == (1, 2, 4)  # measured with users, ready for target_recall
    assert calibration.num_queries == NUM_USERS
    full = evaluate_run(tmp_path / "run")
    one = evaluate_run(tmp_path / "run", search=SearchConfig(num_probes=1))
    assert full.quantized == pytest.approx(full.engine, abs=0.02)
    assert one.engine["recall@100"] < full.engine["recall@100"]


def test_nothing_held_out(table, tmp_path):
    config = make_config(table, data={"split": "random", "test_fraction": 0.0})
    train_run(config, tmp_path / "run")
    with pytest.raises(DataError, match="holds out no pairs"):
        evaluate_run(tmp_path / "run")


# The float twin


def test_a_twin_forked_at_the_warm_start_is_the_float_training(config, tmp_path):
    from poeem.training.twin import fork

    prepared = prepare(config)
    twin = new_state(config, prepared, joint=False)
    train_run(config, tmp_path, prepared=prepared, on_warm_start=lambda s: fork(s, twin))
    assert twin.epoch == config.train.warm_start_epoch
    train_state(twin, prepared)
    alone = train_state(new_state(config, prepared, joint=False), prepared)
    for name, tensor in alone.tensors().items():
        assert torch.equal(tensor, twin.tensors()[name]), name


def test_a_layer_waits_for_its_epoch(table, tmp_path):
    config = make_config(table, layer={"pass_through_steps": 0, "num_samples": 64})
    phases = []
    train_run(config, tmp_path / "run", on_warm_start=lambda s: phases.append(s.layer.phase))
    assert phases == [Phase.PASS_THROUGH]


def test_a_folder_is_trained_in_by_one_at_a_time(tmp_path):
    config, folder = make_config(write_table(tmp_path / "pairs.npz")), tmp_path / "run"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another process trains there, wanted one at a time"):
        train_run(config, folder)
    assert not any(folder.iterdir())
    os.close(other)
    with held_folder(folder):  # by ourselves, as a demo does
        train_run(config, folder)
    assert RunFolder(folder).checkpoint.exists()


def test_threads_do_not_share_a_folder(tmp_path):
    refused = []

    def ask():
        try:
            with held_folder(tmp_path):
                refused.append(False)
        except InputError:
            refused.append(True)

    with held_folder(tmp_path), held_folder(tmp_path):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    ask()
    assert refused == [True, False]

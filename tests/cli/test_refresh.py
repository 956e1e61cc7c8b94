"""Refresh after a real, small retraining: what changed is told, and the file is swapped."""

import dataclasses
import shutil
import threading

import numpy as np
import pytest

import poeem
from poeem.index.refresh import load_checksums
from tests.cli.conftest import SMALL, Call, write_table


def answers(index, seed=0):
    queries = np.random.default_rng(seed).standard_normal((20, index.dim)).astype(np.float32)
    return index.search(queries, 10)


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    """Another day's run: other interactions, five items more."""
    folder = tmp_path_factory.mktemp("today")
    table = write_table(folder / "table.csv", num_items=45, seed=1)
    assert Call("train", table, "--out", folder / "run", *SMALL).code == 0
    return folder / "run"


@pytest.fixture
def serving(run, tmp_path):
    """Yesterday's index where it is served from, with the checksums beside it."""
    for name in ("items.poeem", "items.poeem.vectors"):
        shutil.copyfile(run / name, tmp_path / name)
    return tmp_path / "items.poeem"


def test_an_index_of_yesterday_and_a_run_of_today(run, today, serving, tmp_path):
    old = poeem.Index.open(serving)
    before = answers(old)
    told = Call("refresh", serving, today, "--json").json
    assert (told["num_items"], told["num_kept"], told["num_added"]) == (45, 40, 5)
    assert told["num_encoded"] == 45
    assert not told["same_layer"]
    assert told["compared"]
    assert 0 < told["codes_changed"] <= 1
    assert told["lists_changed"] is None
    assert told["num_queries"] == 60
    assert (told["recall_before"], told["recall_after"]) == (pytest.approx(40 / 45), 1)  # of all
    assert told["swapped"]
    # The file is what a build of today's run makes, and says so.
    new, built = poeem.Index.open(serving), poeem.Index.open(today / "items.poeem")
    assert np.array_equal(new.ids, built.ids)
    assert np.array_equal(new.codes, built.codes)
    assert new.lineage == built.lineage
    assert new.titles(new.ids) == built.titles(built.ids)
    assert Call("search", serving, "--model", today, "--user", "130").code == 0
    # Who had the old one open goes on with it.
    assert np.array_equal(answers(old).ids, before.ids)
    assert np.array_equal(answers(old).scores, before.scores)
    held_out = Call("evaluate", today, "--json").json["engine"]
    assert told["held_out_after"] == pytest.approx(held_out)
    assert told["held_out_before"] != told["held_out_after"]


def test_an_index_with_lists_is_calibrated_by_build_and_refresh(tmp_path):
    tables = [write_table(tmp_path / f"{day}.csv", seed=day) for day in (0, 1)]
    for day, table in enumerate(tables):
        call = Call("train", table, "--out", tmp_path / f"run{day}", "--num-lists", "4", *SMALL)
        assert call.code == 0, call.err
    serving = tmp_path / "run0" / "items.poeem"
    before = poeem.Index.open(serving).calibration
    assert (before.num_probes, before.num_queries) == ((1, 2, 4), 60)
    assert Call("refresh", serving, tmp_path / "run1").code == 0
    after = poeem.Index.open(serving)
    assert after.calibration == poeem.Index.open(tmp_path / "run1" / "items.poeem").calibration
    queries = np.ones((2, after.dim), dtype=np.float32)
    assert after.search(queries, 3, target_recall=0.5).ids.shape == (2, 3)
    # With the layer it was measured with, a table of the user's own is kept.
    poeem.swap_index(serving, after.calibrated(np.tile(queries, (20, 1)), k=7))
    assert Call("refresh", serving, tmp_path / "run1", "--sample", "1").code == 0
    kept = poeem.Index.open(serving).calibration
    assert (kept.k, kept.num_queries) == (7, 40)


def test_a_dry_run_leaves_the_files_as_they_are(today, serving):
    before = {path: path.read_bytes() for path in serving.parent.iterdir()}
    call = Call("refresh", serving, today, "--dry-run")
    assert call.code == 0, call.err
    assert "left as it is" in call.out
    assert "45: the layer changed" in call.out
    assert {path: path.read_bytes() for path in serving.parent.iterdir()} == before


def test_today_again_encodes_nothing(run, serving):
    told = Call("refresh", serving, run, "--json").json
    assert (told["num_encoded"], told["num_kept"], told["num_added"]) == (0, 40, 0)
    assert told["same_layer"]
    assert told["codes_changed"] == 0
    (serving.parent / "items.poeem.vectors").unlink()
    told = Call("refresh", serving, run, "--json").json
    assert (told["num_encoded"], told["compared"]) == (40, False)
    assert "nothing is known of yesterday's vectors" not in Call("refresh", serving, run).out
    assert np.array_equal(
        poeem.Index.open(serving).codes, poeem.Index.open(run / "items.poeem").codes
    )


@pytest.fixture(scope="module")
def frozen(run, tmp_path_factory):
    """Yesterday's model trained on with its layer frozen; the first 30 items do not learn."""
    from poeem.training.checkpoint import save_checkpoint
    from poeem.training.loop import train
    from poeem.training.prepared import prepare
    from poeem.training.trained import TrainedRun

    folder = tmp_path_factory.mktemp("frozen") / "run"
    shutil.copytree(run, folder)
    trained = TrainedRun.load(folder)
    state = trained.state
    settings = dataclasses.replace(state.config.train, epochs=5, frozen_epochs=0)
    before, state.frozen = state.frozen, None  # the item tower is to learn again
    state.config = dataclasses.replace(state.config, train=settings)
    for parameter in state.layer.parameters():
        parameter.requires_grad_(False)
    state.layer.config = dataclasses.replace(state.layer.config, revive_window=0)
    weights = state.model.item_tower.embedding.weight
    weights.register_hook(lambda gradient: gradient.index_fill(0, torch.arange(30), 0))
    state.adam.state.pop(weights)  # moments of yesterday would move the 30 still
    kept = weights[:30].detach().clone()
    state.model.train()
    state.layer.train()
    train(state, prepare(trained.config).pairs)
    assert torch.equal(weights[:30], kept)
    state.freeze(before.beam)
    state.frozen.codes[:30] = before.codes[:30]
    save_checkpoint(state, folder / "checkpoint.safetensors")
    return folder


torch = pytest.importorskip("torch")


def test_of_a_frozen_layer_only_what_changed_is_encoded(run, frozen, serving, tmp_path):
    told = Call("refresh", serving, frozen, "--json").json
    assert told["same_layer"]
    assert told["compared"]
    assert told["num_encoded"] == 10
    assert 0 < told["codes_changed"] <= 10 / 40
    assert Call("build", frozen, "--out", tmp_path / "built.poeem").code == 0
    built, new = poeem.Index.open(tmp_path / "built.poeem"), poeem.Index.open(serving)
    assert np.array_equal(new.codes, built.codes)
    assert new.lineage == built.lineage
    checksums = load_checksums(serving, new)
    assert np.array_equal(checksums, load_checksums(tmp_path / "built.poeem", built))


def test_searches_go_on_while_the_file_is_swapped(run, today, serving):
    """Threads that open and search see one index or the other, whole, and never an error."""
    first, second = answers(poeem.Index.open(run / "items.poeem")), None
    seen, errors, done = set(), [], threading.Event()

    def ask():
        held = poeem.Index.open(serving)  # opened before the swap, searched to the end
        while not done.is_set():
            try:
                assert np.array_equal(answers(held).ids, first.ids)
                seen.add(answers(poeem.Index.open(serving)).ids.tobytes())
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for source in (today, run, today):
        assert Call("refresh", serving, source).code == 0
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    second = answers(poeem.Index.open(today / "items.poeem"))
    assert seen <= {first.ids.tobytes(), second.ids.tobytes()}
    assert answers(poeem.Index.open(serving)).ids.tobytes() == second.ids.tobytes()


def test_an_index_with_changes_beside_it(today, serving):
    """Changes are folded, readers pick up the new snapshot, and another writer is respected."""
    vectors = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    with poeem.LiveIndex.open(serving) as live:
        live.add([1000, 1001], vectors, titles=["new", "newer"])
        live.remove([3])
        call = Call("refresh", serving, today)
        assert call.code == 4, call.err
        assert Call("refresh", serving, today, "--dry-run").code == 0
    with poeem.LiveIndex.open(serving, read_only=True) as reader:
        assert len(reader) == 41
        told = Call("refresh", serving, today, "--json").json
        assert (told["num_items"], told["num_kept"], told["num_added"]) == (45, 39, 6)
        assert told["num_removed"] == 2
        assert len(reader) == 45
        built = poeem.Index.open(today / "items.poeem")
        assert np.array_equal(answers(reader).ids, answers(built).ids)
    with poeem.LiveIndex.open(serving) as live:  # and it goes on from there
        live.remove([5])
        assert len(live) == 44
    told = Call("refresh", serving, today, "--json").json
    assert (told["num_kept"], told["num_added"], told["same_layer"]) == (44, 1, True)


def test_a_run_without_its_data(run, serving, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    text = (folder / "config.toml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("path = "))
    (folder / "config.toml").write_text(text.replace(line, 'path = "nowhere.csv"'))
    told = Call("refresh", serving, folder, "--json").json
    assert told["held_out_after"] is None
    assert "nowhere.csv" in told["held_out_missing"]
    assert "not measured: " in Call("refresh", serving, folder).out


def test_what_is_wrong_is_said_in_a_line(run, serving, tmp_path):
    for arguments, code, message in (
        ((tmp_path / "nothing", run), 4, "no such file"),
        ((serving, tmp_path / "nothing"), 5, "no run there"),
        ((serving, run, "--sample", "0"), 2, "--sample"),
    ):
        call = Call("refresh", *arguments)
        assert call.code == code, call.err
        assert message in call.err


def test_held_out_figures_are_of_the_target_that_the_run_has(tmp_path):
    table = write_table(tmp_path / "t.csv")
    settings = tmp_path / "settings.toml"
    settings.write_text("[search]\ntarget_recall = 0.3\n")
    words = ("train", table, "--out", tmp_path / "run", "--num-lists", "8", *SMALL)
    assert Call(*words, "--config", settings).code == 0
    engine = Call("evaluate", tmp_path / "run", "--json").json["engine"]
    told = Call("refresh", tmp_path / "run" / "items.poeem", tmp_path / "run", "--json").json
    assert told["held_out_after"] == pytest.approx(engine)
    whole = Call("evaluate", tmp_path / "run", "--target-recall", "1", "--json").json["engine"]
    assert whole != engine
    plain = tmp_path / "plain.poeem"  # an index that knows nothing of recall has all lists visited
    index = poeem.Index.open(tmp_path / "run" / "items.poeem")
    poeem.build_index_from_codes(
        **{name: getattr(index, name) for name in ("codes", "codebooks", "lists", "centroids")},
        **{name: getattr(index, name) for name in ("rotation", "ids", "family", "encoding")},
        titles=index.titles(index.ids),
        lineage=index.lineage,
    ).save(plain)
    told = Call("refresh", plain, tmp_path / "run", "--json").json
    assert told["held_out_before"] == pytest.approx(whole)

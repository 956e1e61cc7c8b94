"""The demo, on a table that takes seconds."""

import json
import shlex
import shutil

import pytest

from poeem import Index
from poeem.errors import TrainingInterrupted
from poeem.evaluation import faiss_rival
from tests.cli.conftest import Call, write_table


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run a demo of one epoch; its call and its folder."""
    pytest.importorskip("faiss")
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("demo")
    table = write_table(folder / "toys.csv", num_users=150, num_items=300, pairs_per_user=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delitem(faiss_rival.RIVALS, "Faiss OPQ+PQ")  # tested by itself, with fewer bytes
        patch.delitem(faiss_rival.RIVALS, "Faiss residual (RQ)")
        call = Call("demo", table, "--epochs", "1")
        assert call.code == 0, call.err
        yield call, folder


def test_demo_leaves_table_picture_and_index(demo):
    call, folder = demo
    out = folder / "runs" / "toys"
    names = {path.name for path in out.iterdir()}
    assert names >= {"items.poeem", "comparison.png", "comparison.json", "config.toml"}
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((out / "comparison.json").read_text())
    sizes = [(row["kind"], row["bytes_per_item"]) for row in told["rows"]]
    smaller = [("afterwards", 8), ("joint", 8), ("afterwards", 4), ("joint", 4)]
    assert sizes == [("float", 256), *smaller]
    assert "torch-poeem (joint)" in call.out
    assert "THING NUMBER" in call.out


def test_the_commands_that_demo_names_work(demo):
    call, _ = demo
    commands = [line.strip() for line in call.out.splitlines() if line.startswith("  poeem ")]
    assert len(commands) == 5
    for command in commands:
        done = Call(*shlex.split(command)[1:])
        assert done.code == 0, (command, done.err)


def test_demo_replaces_its_own_runs_only(demo, run, monkeypatch):
    _, folder = demo
    monkeypatch.chdir(folder)
    table = folder / "toys.csv"
    refused = Call("demo", table, "--epochs", "1", "--out", run)
    assert refused.code == 3
    assert "no demo's" in refused.err
    again = Call("demo", table, "--epochs", "1", "--json")
    assert again.json["rows"][0]["name"] == "exact, float vectors"
    assert Index.open(folder / "runs" / "toys" / "items.poeem").lineage["run"] == "toys"
    names = {path.name for path in (folder / "runs" / "toys").iterdir()}
    assert {"comparison.png", "items.poeem", "4-bytes"} <= names
    assert not {"unfinished", "finished"} & names


def test_a_demo_that_is_stopped_leaves_the_earlier_one(demo, monkeypatch):
    _, folder = demo
    out = folder / "runs" / "toys"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.chdir(folder)

    def stop(*args, **kwargs):
        raise TrainingInterrupted("stopped by you")

    monkeypatch.setattr("poeem.cli.demo_job.train_run", stop)
    assert Call("demo", folder / "toys.csv", "--epochs", "1").code == 130
    shutil.rmtree(out / "unfinished")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_table_too_small_for_the_demo(table, tmp_path):
    pytest.importorskip("faiss")
    call = Call("demo", table, "--out", tmp_path / "demo")
    assert call.code == 3
    assert "demo: got 40 items, wanted at least 256" in call.err
    assert "poeem train" in call.err
    assert not (tmp_path / "demo").exists()

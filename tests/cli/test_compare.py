"""`poeem compare`: on real purchases, briefly; cut and gone on with; without a rival."""

import json
import re

import pytest

from poeem.cli import compare_job
from poeem.config import Config
from poeem.errors import TrainingInterrupted
from tests.cli.conftest import Call, write_table

QUICK = (
    *("--dim", "16", "--epochs", "2", "--warm-start-epoch", "1", "--batch-size", "1024"),
    *("--kmeans-iterations", "2", "--rotation-iterations", "1", "--num-threads", "1"),
)
OURS = f"ours-{Config().layer.family}"
SMALL = (*QUICK, "--batch-size", "256")
ONLY = ("--bytes", "8", "--only", "float,pq,rabitq,ours")


@pytest.fixture
def toys(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    return write_table(tmp_path / "toys.csv", num_users=150, num_items=300, pairs_per_user=20)


def rows_of(path):
    return json.loads(path.read_text())["rows"]


def test_real_purchases(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    call = Call("compare", "online-retail", *QUICK, *ONLY)
    assert call.code == 0, call.err
    out = tmp_path / "runs" / "compare"
    assert (out / "compare_online-retail.png").read_bytes().startswith(b"\x89PNG")
    rows = {row["name"]: row for row in rows_of(out / "compare_online-retail.json")}
    assert list(rows) == ["float", "pq", "rabitq", OURS]
    assert "10 bytes" in rows["rabitq"]["cannot"]
    assert 0 < rows["pq"]["recall@100"] < rows["float"]["recall@100"] < 1
    assert rows[OURS]["recall@100"] > 0.5 * rows["float"]["recall@100"]
    assert rows["float"]["bytes_per_item"] == 64
    assert rows["pq"]["bytes_per_item"] == 8
    assert rows[OURS]["bytes_per_item"] == 8
    assert "no index: Faiss RaBitQ, 8 bytes" in call.err
    assert "torch-poeem" in call.out


def test_figures_are_whole_on_a_narrow_terminal(toys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    call = Call("compare", toys, *SMALL, "--bytes", "8", "--only", "float,pq")
    assert call.code == 0, call.err
    row = next(line for line in call.out.splitlines() if "Faiss PQ" in line)
    assert len(re.findall(r"\d\.\d{4}(?!\d)", row)) == 3
    assert "…" not in call.out


def test_a_cut_comparison_goes_on(toys, tmp_path, monkeypatch):
    words = ("compare", toys, *SMALL, *ONLY, "--seeds", "0,1")
    path = tmp_path / "runs" / "compare" / "compare_toys.json"
    train = compare_job.train_state

    def stop(*args, **kwargs):
        raise TrainingInterrupted("stopped by you")

    monkeypatch.setattr(compare_job, "train_state", stop)  # of joint models; twins have their own
    cut = Call(*words)
    assert cut.code == 130
    assert "the same command goes on" in cut.err
    before = rows_of(path)
    assert [row["name"] for row in before] == ["float", "pq", "rabitq"]
    monkeypatch.setattr(compare_job, "train_state", train)
    assert Call(*words).code == 0
    after = rows_of(path)
    assert after[:3] == before  # to the second of their making
    assert [(row["seed"], row["name"]) for row in after[3:]] == [
        (0, OURS),
        *((1, name) for name in ("float", "pq", "rabitq", OURS)),
    ]
    assert len({row["recall@100"] for row in after if row["name"] == "float"}) == 2
    assert Call(*words).code == 0
    assert rows_of(path) == after  # nothing was left to do
    for more in (("--again", "--only", "pq"), ("--epochs", "3", "--only", "pq")):
        assert Call(*words, *more).code == 0
        assert [r["when"] for r in rows_of(path) if r["name"] == "float"] == [
            r["when"] for r in after if r["name"] == "float"
        ]


def test_a_joint_model_from_the_twin_is_one_trained_alone(toys, tmp_path):
    call = Call("compare", toys, *SMALL, *ONLY, "--seeds", "3", "--json")
    ours = next(row for row in call.json["rows"] if row["name"] == OURS)
    alone = Call(
        *("train", toys, *SMALL, "--seed", "3", "--layer-seed", "3", "--num-subspaces", "8"),
        *("--out", tmp_path / "alone", "--json"),
    )
    figures = alone.json["evaluation"]["engine"]
    for name in ("recall@20", "recall@100", "precision@100"):
        assert ours[name] == round(figures[name], 5)


def test_a_rival_that_is_not_installed(toys, tmp_path, monkeypatch):
    absent = tmp_path / "absent"
    absent.mkdir()
    text = "raise ModuleNotFoundError('No module named scann', name='scann')\n"
    (absent / "scann.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(absent))
    call = Call("compare", toys, *SMALL, "--only", "float,scann,pq", "--json")
    assert [row["name"] for row in call.json["rows"]] == ["float", "pq"]
    assert "left out: ScaNN, 4-bit codes needs scann; install the extra" in call.err
    assert "'.[compare]'" in call.err


def test_validation_pairs_are_taken_out_of_training(toys, tmp_path):
    call = Call("compare", toys, *SMALL, "--only", "float", "--validation")
    assert call.code == 0, call.err
    found = json.loads((tmp_path / "runs" / "compare" / "compare_toys_validation.json").read_text())
    assert found["measured_on"] == "validation pairs"
    assert "to choose settings by" in call.err
    trained = Call("train", toys, *SMALL, "--hold-out-valid", "--out", tmp_path / "run", "--json")
    assert trained.json["evaluation"]["num_users"] == found["num_users"]
    test = Call("train", toys, *SMALL, "--out", tmp_path / "test", "--json")
    assert test.json["evaluation"]["exact"] != trained.json["evaluation"]["exact"]
    again = Call("evaluate", tmp_path / "run", "--json")
    assert again.json["exact"] == trained.json["evaluation"]["exact"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "nothing"), "--only: got 'nothing', wanted some of float, pq"),
        (("--bytes", "8,x"), "--bytes: got '8,x', wanted numbers with commas"),
        (("--bytes", "0"), "wanted seeds of at least 0 and sizes of at least 1"),
    ],
)
def test_what_cannot_be_compared(words, message, toys):
    call = Call("compare", toys, *words)
    assert call.code == 2
    assert message in call.err


def test_rows_of_other_data_or_settings_are_in_no_verdict(toys, tmp_path):
    words = ("compare", toys, *SMALL, *ONLY, "--out", tmp_path / "out")
    path = tmp_path / "out" / "compare_toys.json"
    assert Call(*words).code == 0
    first = rows_of(path)
    # Other settings of our row alone: the rivals' are of a twin that it has nothing to do with.
    call = Call(*words[:-4], "--only", "ours", "--epochs", "3", "--out", tmp_path / "out")
    assert call.code == 0, call.err
    assert "4 rows of other data or settings are in no table" in call.err
    found = json.loads(path.read_text())
    assert [mean["name"] for mean in found["mean"]] == [OURS]
    assert found["verdicts"] == []
    assert len(found["rows"]) == 4
    # Other pairs of the same users and items, in a file of the same name.
    write_table(toys, num_users=150, num_items=300, pairs_per_user=20, seed=5)
    assert Call(*words).code == 0
    second = rows_of(path)
    assert {row["data"] for row in first}.isdisjoint({row["data"] for row in second})
    for name in ("float", "pq", OURS):
        one, other = (next(r for r in rows if r["name"] == name) for rows in (first, second))
        assert one["recall@100"] != other["recall@100"]


def test_a_size_that_a_recipe_cannot_have_is_a_row_and_no_end(toys, tmp_path):
    words = ("--only", f"float,paper,{OURS}", "--bytes", "3", "--out", tmp_path / "out")
    rows = Call("compare", toys, *SMALL, *words, "--json").json["rows"]
    found = {row["name"]: row for row in rows}
    assert "num_subspaces (3)" in found["paper"]["cannot"]
    assert found[OURS]["recall@100"] > 0


def test_too_few_items_for_faiss_is_said_in_a_line(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "few.csv")
    call = Call("compare", table, *SMALL, "--only", "float,pq,rq", "--bytes", "4", "--json")
    cannot = [row["cannot"] for row in call.json["rows"] if row["name"] != "float"]
    assert cannot == ["Faiss fits 256 codewords to no fewer vectors, there are 40"] * 2

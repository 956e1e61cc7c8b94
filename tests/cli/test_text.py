"""A text set through the command line: train, evaluate, search by text, build, resume."""

import json
import shutil

import numpy as np
import pytest

import poeem
from poeem.errors import CheckpointError, ConfigError
from poeem.training.run import train_run
from poeem.training.trained import TrainedRun
from tests.cli.conftest import Call

SMALL = (
    *("--dim", "16", "--num-subspaces", "4", "--num-codewords", "16", "--batch-size", "32"),
    *("--epochs", "4", "--warm-start-epoch", "2", "--text-buckets", "4096", "--num-threads", "1"),
    *("--kmeans-iterations", "3", "--rotation-iterations", "3", "--learning-rate", "0.01"),
)
ANIMALS = ("ape", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")
COLOURS = ("red", "blue", "green", "white")


def write_text_set(folder):
    """Write 40 documents such as "red bee", and queries that say the same in other words."""
    rng = np.random.default_rng(0)
    docs, queries, answers = [], [], []
    for number, (animal, colour) in enumerate((a, c) for a in ANIMALS for c in COLOURS):
        key = f"{animal}/{colour}"
        docs.append({"id": key, "title": f"{colour} {animal}", "text": f"Number {number}."})
        for filler in rng.choice(["find", "which", "a", "see the"], 4):
            answers.append((f"q{len(queries)}", key, "1"))
            text = f"{filler} {animal} that is {colour}, 天气"
            queries.append({"id": f"q{len(queries)}", "text": text})
    for name, lines in (("docs", docs), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "qrels.tsv").write_text("\n".join(map("\t".join, answers)))
    return folder


@pytest.fixture(scope="module")
def text_set(tmp_path_factory):
    return write_text_set(tmp_path_factory.mktemp("text_set"))


@pytest.fixture(scope="module")
def run(text_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text_runs") / "small"
    call = Call("train", text_set, "--out", folder, *SMALL)
    assert call.code == 0, call.err
    assert "160 pairs of 160 queries and 40 documents (title, text); split by queries" in call.err
    return folder


def test_held_out_queries_find_their_documents(run):
    told = Call("evaluate", run, "--json").json
    assert told["asked_by"] == "queries"
    assert told["num_users"] == 32
    assert told["exact"]["recall@20"] > 0.9  # by chance 0.5
    assert told["quantized"] == pytest.approx(told["engine"], abs=0.05)
    assert "32 queries, their held-out items" in Call("evaluate", run).out


def test_search_by_text(run):
    call = ("search", run, "--text", "Which BEE is blue?", "--text", "white cat", "--k", "5")
    told = Call(*call, "--json").json
    assert [one["query"] for one in told["answers"]] == [
        "for 'Which BEE is blue?'",
        "for 'white cat'",
    ]
    for answer, wanted in zip(told["answers"], ("bee/blue", "cat/white"), strict=True):
        assert wanted in [item["item"] for item in answer["items"]]
    assert "blue bee" in Call(*call).out
    same = Call("search", run / "items.poeem", "--model", run, *call[2:], "--json").json
    assert same["answers"] == told["answers"]


def test_search_for_a_query_of_the_data(run):
    told = Call("search", run, "--user", "q4", "--json").json
    name = told["answers"][0]["query"]
    assert name.startswith("for query q4, '")
    text = name.split("'")[1]
    by_text = Call("search", run, "--text", text, "--json").json["answers"][0]["items"]
    found = told["answers"][0]["items"]
    had = {one.split()[0] for one in told["had"]}
    assert [i["item"] for i in found][:5] == [i["item"] for i in by_text if i["item"] not in had][
        :5
    ]


def test_what_search_refuses(run, tmp_path):
    call = Call("search", run / "items.poeem", "--text", "x")
    assert "--text, --user and --history need --model RUN" in call.err
    assert "got a blank text" in Call("search", run, "--text", " ").err
    assert "ask it with texts" in Call("search", run, "--history", "bee/blue").err
    assert "wanted one of" in Call("search", run, "--text", "x", "--user", "q1").err
    with pytest.raises(ConfigError, match="either users, history or texts"):
        TrainedRun.load(run).query_vectors(users=["q1"], texts=["x"])


def test_vectors_of_documents_old_and_new(run):
    trained = TrainedRun.load(run)
    texts = trained.catalogue.item_texts
    vectors = trained.document_vectors([*texts, "something new"])
    assert np.array_equal(vectors[:-1], trained.item_vectors())
    assert vectors.shape == (len(texts) + 1, trained.config.model.dim)
    assert trained.sample_queries(3).shape == (3, trained.config.model.dim)


def test_a_table_has_no_texts(tmp_path):
    rows = "\n".join(f"{u},{i}" for u in range(30) for i in range(u % 5, 20))
    (tmp_path / "t.csv").write_text(f"user,item\n{rows}\n")
    table = ("train", tmp_path / "t.csv", "--out", tmp_path / "run", *SMALL)
    call = Call(*table, "--query-tower", "text")
    assert (call.code, "--query-tower: got 'text', but the data is a table" in call.err) == (
        2,
        True,
    )
    assert not (tmp_path / "run").exists()
    assert Call(*table).code == 0
    call = Call("search", tmp_path / "run", "--text", "x")
    assert "queries are users, not texts" in call.err


def test_bad_settings_and_data(text_set, tmp_path):
    start = ("train", text_set, "--out", tmp_path / "run", *SMALL)
    for options, message in (
        (("--query-tower", "id"), "--query-tower: got 'id', wanted text"),
        (("--split", "last"), "--split: got 'last', wanted random or auto"),
        (("--document-fields", "body"), "--document-fields asks for; there are id, text, title"),
        (("--text-table", "none"), "--text-table"),
        (("--num-codewords", "64"), "items: got 40, wanted at least 64"),
    ):
        call = Call(*start, *options)
        assert call.code != 0
        assert message in " ".join(call.err.split())
    assert not (tmp_path / "run").exists()


def test_build_again_and_other_towers(run, text_set, tmp_path):
    Call("build", run, "--out", tmp_path / "again.poeem")
    first, again = (poeem.Index.open(p) for p in (run / "items.poeem", tmp_path / "again.poeem"))
    assert np.array_equal(first.codes, again.codes)
    for options in (
        ("--text-table", "separate", "--hidden-dims", "8", "--no-text-bigrams"),
        ("--item-tower", "id", "--no-text-words"),
    ):
        folder = tmp_path / options[1]
        longer = ("--epochs", "20", "--warm-start-epoch", "18")
        call = Call("train", text_set, "--out", folder, *SMALL, *options, *longer)
        assert call.code == 0, call.err
        assert Call("evaluate", folder, "--json").json["exact"]["recall@20"] > 0.7


class Stop(Exception):
    pass


def test_a_stopped_training_goes_on_to_the_bit(run, text_set, tmp_path):
    config = TrainedRun.load(run).config

    def stop(state):
        raise Stop

    with pytest.raises(Stop):
        train_run(config, tmp_path / "run", on_warm_start=stop)
    train_run(config, tmp_path / "run", resume=True)
    assert TrainedRun.load(tmp_path / "run").fingerprint == TrainedRun.load(run).fingerprint


def test_a_run_goes_on_with_its_own_texts_only(run, text_set, tmp_path):
    folder, data = shutil.copytree(run, tmp_path / "run"), shutil.copytree(text_set, tmp_path / "d")
    lines = (data / "queries.jsonl").read_text().replace("which ", "what ")
    (data / "queries.jsonl").write_text(lines)
    toml = (folder / "config.toml").read_text().replace(str(text_set), str(data))
    (folder / "config.toml").write_text(toml)
    with pytest.raises(CheckpointError, match="the texts differ"):
        train_run(TrainedRun.load(folder).config, folder, resume=True)

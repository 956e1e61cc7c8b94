"""Files as spreadsheets and editors write them, ids that are no good, and indexes in between."""

import dataclasses
import json
import os

import numpy as np
import pytest

import poeem
import poeem.config
import poeem.data
import poeem.errors
from tests.cli.conftest import SMALL, Call, write_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    table = write_table(folder / "table.csv")
    call = Call("train", table, "--out", folder / "run", *SMALL)
    assert call.code == 0, call.err
    return folder / "run"


@pytest.fixture
def copied(run, tmp_path):
    path = tmp_path / "items.poeem"
    path.write_bytes((run / "items.poeem").read_bytes())
    return path


def vectors(tmp_path, count):
    path = tmp_path / "vectors.npy"
    np.save(path, np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32))
    return path


@pytest.mark.parametrize(
    "text", ["\ufeffA3\nA5\n", "A3 \n A5\r\n", "A3\nA5\n\n  \n"], ids=["mark", "spaces", "blank"]
)
def test_ids_are_read_as_train_reads_them(copied, tmp_path, text):
    (tmp_path / "ids.txt").write_text(text, encoding="utf-8")
    words = ("--ids", tmp_path / "ids.txt")
    call = Call("update", copied, *words, "--vectors", vectors(tmp_path, 2))
    assert "0 added, 2 replaced" in call.out, call.err
    assert "2 removed" in Call("remove", copied, *words).out


def test_ids_that_are_none(copied, tmp_path):
    (tmp_path / "ids.txt").write_text("A3\n\nA5\n")
    call = Call("remove", copied, "--ids", tmp_path / "ids.txt")
    assert "nothing in line 2" in call.err
    np.save(tmp_path / "ids.npy", np.array([1.0, 2.0]))
    call = Call("update", copied, "--ids", tmp_path / "ids.npy", "--vectors", vectors(tmp_path, 2))
    assert "has float64, wanted integers or text" in call.err
    call = Call("remove", copied, "--item", "A7", "--item", "A7")
    assert "got twice A7" in call.err
    (tmp_path / "ids.txt").write_text("A3\nA\tB\n")
    call = Call("update", copied, "--ids", tmp_path / "ids.txt", "--vectors", vectors(tmp_path, 2))
    assert "wanted none with a tab" in call.err
    assert poeem.LiveIndex.open(copied, read_only=True).num_items == 40


def test_integers_that_are_none(tmp_path):
    codes = np.zeros((5, 4), dtype=np.uint8)
    books = np.random.default_rng(0).standard_normal((4, 16, 2)).astype(np.float32)
    poeem.build_index_from_codes(codes=codes, codebooks=books).save(tmp_path / "i.poeem")
    for wrong in ("four", "+-5", "9" * 5000):
        (tmp_path / "ids.txt").write_text(f"3\n{wrong}\n")
        call = Call("remove", tmp_path / "i.poeem", "--ids", tmp_path / "ids.txt")
        assert f"got {wrong[:40]!r}, wanted integers" in call.err


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_table_of_a_spreadsheet(tmp_path, mark):
    table = write_table(tmp_path / "comma.csv")
    other = tmp_path / "other.csv"
    other.write_text("\ufeff" + table.read_text().replace(",", mark), encoding="utf-8")
    words = ("--only", "float", *SMALL)
    ids = [
        poeem.data.load_interactions(poeem.config.DataConfig(path=str(path)))
        for path in (table, other)
    ]
    assert np.array_equal(ids[0].items, ids[1].items)
    assert np.array_equal(ids[0].timestamps, ids[1].timestamps)
    assert Call("train", other, "--out", tmp_path / "run", *words[2:]).code == 0


def test_ids_that_a_data_frame_wrote_as_floats(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("user,item\n1.0,7.0\n2.0,8.0\n1.0,8.0\n3.0,7.0\n")
    read = poeem.data.load_interactions(poeem.config.DataConfig(path=str(table)))
    assert read.user_ids.tolist() == [1, 2, 3]
    assert read.item_ids.tolist() == [7, 8]
    table.write_text("user,item\n1.0,7.0\n2.5,8.0\n1.0,8.0\n3.0,7.0\n")
    read = poeem.data.load_interactions(poeem.config.DataConfig(path=str(table)))
    assert read.user_ids.tolist() == ["1.0", "2.5", "3.0"]


def test_an_item_whose_id_is_minus_one_is_said(tmp_path):
    table = write_table(tmp_path / "t.csv")
    table.write_text(table.read_text().replace(",A3,", ",-1,").replace(",A", ","))
    call = Call("train", table, "--out", tmp_path / "run", *SMALL)
    assert "an item has the id -1" in call.err
    other = Call("train", write_table(tmp_path / "u.csv"), "--out", tmp_path / "other", *SMALL)
    assert other.code == 0
    assert "an item has the id -1" not in other.err


def test_a_tab_in_an_id_is_refused_before_training(tmp_path):
    table = write_table(tmp_path / "t.csv")
    table.write_text(table.read_text().replace(",A3,", ',"A\t3",'))
    call = Call("train", table, "--out", tmp_path / "run", *SMALL)
    assert call.code == 3
    assert "wanted none with a tab" in call.err
    assert not (tmp_path / "run" / "items.poeem").exists()


def test_what_is_replaced_is_said(run, copied, tmp_path):
    assert Call("export", copied, tmp_path / "arrays.npz").code == 0
    assert Call("remove", copied, "--item", "A3").code == 0
    call = Call("import", tmp_path / "arrays.npz", copied)
    assert "40 items" in call.out
    assert "it replaced an index of 39 items with 1 changes pending" in call.out
    built = Call("build", run, "--out", copied, "--json").json
    assert built["replaced"] == {"num_items": 40, "num_changes": 0}
    assert Call("build", run, "--out", tmp_path / "new.poeem", "--json").json["replaced"] is None


def test_a_user_is_answered_when_an_item_of_theirs_is_gone(run, copied):
    asked = ("search", copied, "--model", run, "--user", "130", "--json")
    names = poeem.TrainedRun.load(run)
    history = names.catalogue.item_ids[names.catalogue.history_of(30)]
    assert str(history[0]) in str(Call(*asked).json["had"])
    assert Call("remove", copied, "--item", str(history[0])).code == 0
    call = Call("search", copied, "--model", run, "--user", "130", "--k", "5")
    assert call.code == 0, call.err
    assert str(history[0]) not in call.out


def test_evaluate_sees_changes_and_knows_strangers(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for file in run.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    before = Call("evaluate", folder, "--json").json["engine"]
    trained = poeem.TrainedRun.load(folder)
    strangers = tmp_path / "strangers.txt"
    # In front of everything for everybody, so that they take the places of what is right.
    loud = 50 * trained.query_vectors(users=trained.catalogue.user_ids.tolist()).mean(0)
    np.save(tmp_path / "loud.npy", np.tile(loud, (60, 1)).astype(np.float32))
    strangers.write_text("".join(f"new{n}\n" for n in range(60)))
    words = ("--ids", strangers, "--vectors", tmp_path / "loud.npy")
    assert Call("update", folder, *words).code == 0
    pending = Call("evaluate", folder, "--json").json["engine"]
    assert Call("compact", folder).code == 0
    folded = Call("evaluate", folder, "--json").json["engine"]
    assert pending == folded
    assert folded["recall@20"] < before["recall@20"]
    assert Call("remove", folder, "--ids", strangers).code == 0
    assert Call("evaluate", folder, "--json").json["engine"] == before
    # A newcomer that gets the number of an item that is gone is not taken for it.
    last = str(trained.catalogue.item_ids[-1])
    assert Call("remove", folder, "--item", last).code == 0
    without = Call("evaluate", folder, "--json").json["engine"]
    strangers.write_text("brand-new\n")
    np.save(tmp_path / "loud.npy", trained.item_vectors()[-1:])
    assert Call("update", folder, *words).code == 0
    assert Call("evaluate", folder, "--json").json["engine"]["recall@100"] <= without["recall@100"]


def test_a_dry_run_says_what_a_refresh_does(run, copied, tmp_path):
    (tmp_path / "ids.txt").write_text("x1\nx2\n")
    words = ("--ids", tmp_path / "ids.txt", "--vectors", vectors(tmp_path, 2))
    assert Call("update", copied, *words).code == 0
    told = [Call("refresh", copied, run, *dry, "--json").json for dry in (("--dry-run",), ())]
    for each in told:
        each.pop("swapped")
    assert told[0] == told[1]
    assert told[0]["num_removed"] == 2


def test_a_seed_means_the_same_in_every_command():
    for command in ("train", "compare"):
        text = " ".join(Call(command, "--help").out.split())
        assert "--data-seed" in text, command
    call = Call("compare", "--seed", "5")
    assert call.code == 2
    assert "--seed" in call.err


@pytest.mark.parametrize("seed", [2**63 - 1, 17 * 10**17])
def test_any_seed_that_is_taken_trains(tmp_path, seed):
    table = write_table(tmp_path / "t.csv")
    words = ("--seed", seed, "--layer-seed", seed, "--data-seed", seed)
    call = Call("train", table, "--out", tmp_path / "run", *SMALL, *words)
    assert call.code == 0, call.err


def test_without_times_the_later_row_is_the_later_one(tmp_path):
    table = tmp_path / "log.csv"
    rows = [f"u{user},i{item}" for user in range(8) for item in (0, 1, 2, 3, user + 4, user + 5)]
    table.write_text("user,item\n" + "\n".join(rows) + "\n")
    call = Call(
        *("train", table, "--split", "last", "--max-history", "1", "--query-tower", "history"),
        *("--out", tmp_path / "run", *SMALL, "--num-codewords", "8"),
    )
    assert call.code == 0, call.err
    run = poeem.TrainedRun.load(tmp_path / "run")
    history = run.catalogue.item_ids[run.catalogue.history_of(2)].tolist()
    assert history == ["i6", "i3", "i2", "i1", "i0"]  # i7, the last, is held out
    assert np.array_equal(run.query_vectors(users=["u2"]), run.query_vectors(history=["i6"]))


def test_one_string_is_no_list_of_them(run):
    trained = poeem.TrainedRun.load(run)
    with pytest.raises(poeem.errors.DtypeError, match="got one string, '130', wanted a list"):
        trained.query_vectors(users="130")
    with pytest.raises(poeem.errors.DtypeError, match="texts: got one string"):
        trained.query_vectors(texts="topic")
    with pytest.raises(poeem.errors.DtypeError, match="texts: got NoneType in row 1"):
        trained.query_vectors(texts=["topic", None])
    with pytest.raises(poeem.errors.DtypeError, match="texts: got one string"):
        trained.document_vectors("topic")


def test_a_pipe_is_no_index_to_import(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    call = Call("import", tmp_path / "pipe", tmp_path / "out.poeem")
    assert call.code != 0
    assert "no file, but a pipe" in call.err


BAD = "bad\udcff"  # a byte that is no UTF-8, as Python has it


def test_a_path_that_is_no_utf_8_is_refused_before_anything_is_done(tmp_path):
    table = write_table(tmp_path / "t.csv")
    call = Call("train", table, "--out", tmp_path / BAD, *SMALL)
    assert call.code == 2
    assert "wanted a path in UTF-8" in call.err
    assert os.listdir(tmp_path) == ["t.csv"]
    for path in (f"{tmp_path}/{BAD}.csv", f"{tmp_path}/{BAD}"):
        with pytest.raises(poeem.errors.ConfigError, match="wanted a path in UTF-8"):
            poeem.data.load_interactions(poeem.config.DataConfig(path=path))
        with pytest.raises(poeem.errors.ConfigError, match="wanted a path in UTF-8"):
            poeem.data.load_text_set(poeem.config.DataConfig(path=path))


def test_lists_by_demand_need_two_epochs_and_say_so(tmp_path):
    table = write_table(tmp_path / "t.csv")
    words = ("train", table, "--out", tmp_path / "run", *SMALL, "--num-lists", "5")
    short = (*words, "--list-choice", "demand", "--epochs", "2")
    call = Call(*short)
    assert call.code == 2
    assert "1 epochs after the warm start (epochs 2, warm_start_epoch 1), wanted at least 2" in (
        " ".join(call.err.split())
    )
    assert "frozen_epochs 0, wanted at least 1" in Call(*short, "--frozen-epochs", "0").err
    assert Call(*words, "--list-choice", "demand").code == 0


def test_settings_that_no_machine_has(tmp_path):
    table = write_table(tmp_path / "t.csv")
    call = Call("train", table, "--out", tmp_path / "run", *SMALL, "--num-threads", "100000")
    assert call.code == 2
    assert "0 to 1024" in call.err
    settings = tmp_path / "s.toml"
    for text, message in (
        ("[train]\nlearning_rate = 1" + 400 * "0", "a number beyond any float"),
        ("[layer]\nbeam = 1" + 2000 * "0", "a number of thousands of digits, wanted 1 to 256"),
    ):
        settings.write_text(text)
        call = Call("train", "--config", settings, "--show-config")
        assert call.code == 2
        assert message in call.err
    settings.write_text("\ufeff[layer]\nbeam = 2\n", encoding="utf-8")
    assert "beam = 2" in Call("train", "--config", settings, "--show-config").out


def text_set(folder, titles, grade=1):
    folder.mkdir()
    words = [f"word{n} other{n} thing{n}" for n in range(60)]
    documents = [{"id": f"d{n}", "text": text} for n, text in enumerate(words)]
    for n in range(titles):
        documents[n]["title"] = f"title {n}"
    queries = [{"id": f"q{n}", "text": f"word{n}"} for n in range(60)]
    for name, rows in (("docs", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "qrels.tsv").write_text("".join(f"q{n}\td{n}\t{grade}\n" for n in range(60)))
    return poeem.config.DataConfig(path=str(folder))


@pytest.mark.parametrize("titles", [0, 1, 40])
def test_titles_alone_are_read_only_where_documents_have_them(tmp_path, titles):
    config = text_set(tmp_path / "set", titles)
    message = f"{titles} of 60 documents have a title, and most queries stand in the text"
    with pytest.raises(poeem.errors.MissingColumnError, match=message):
        poeem.data.load_text_set(config)
    told = dataclasses.replace(config, document_fields="title,text" if titles else "text")
    assert all(poeem.data.load_text_set(told).document_texts)


def test_few_documents_without_text_are_counted(tmp_path):
    config = text_set(tmp_path / "set", 57)
    assert poeem.data.load_text_set(config).fields == ("title",)
    call = Call("train", config.path, "--out", tmp_path / "run", *SMALL[:-4], "--num-threads", "1")
    assert "3 documents have no text" in call.err


def test_answers_of_low_grades_are_named(tmp_path):
    config = text_set(tmp_path / "set", 60, grade=0)
    with pytest.raises(poeem.errors.DataError, match="60 answers have a grade below 1, the lowest"):
        poeem.data.load_text_set(config)

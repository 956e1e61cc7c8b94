"""Train, evaluate, build, search and inspect, as a user would, on a tiny table."""

import shutil

import numpy as np
import pytest

import poeem
from tests.cli.conftest import SMALL, Call, subprocess_call


def test_train_leaves_a_run_and_an_index(run):
    names = {path.name for path in run.iterdir()}
    files = {"config.toml", "checkpoint.safetensors", "ids.npz", "items.poeem"}
    assert names == files | {"items.poeem.vectors"}
    assert len(poeem.Index.open(run / "items.poeem")) == 40


def test_train_tells_machines_what_it_did(table, tmp_path):
    told = Call("train", table, "--out", tmp_path / "run", *SMALL, "--json").json
    assert told["run"] == str(tmp_path / "run")
    assert told["evaluation"]["num_users"] > 0
    assert told["index_info"]["num_subspaces"] == 4
    assert told["index_info"]["path"] == str(tmp_path / "run" / "items.poeem")


def test_a_run_finds_its_table_from_anywhere(table, tmp_path, monkeypatch):
    monkeypatch.chdir(table.parent)
    assert Call("train", table.name, "--out", tmp_path / "run", *SMALL).code == 0
    monkeypatch.chdir(tmp_path)
    assert Call("evaluate", "run").code == 0


def test_tensorboard(table, tmp_path):
    pytest.importorskip("tensorboard")
    call = ("train", table, "--out", tmp_path / "run", *SMALL, "--eval-every", "1")
    process = subprocess_call(*call, "--tensorboard")  # its packages warn when imported
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_evaluate_agrees_with_the_engine(run, monkeypatch):
    told = Call("evaluate", run, "--json").json
    assert told["quantized"] == pytest.approx(told["engine"], abs=1e-3)
    assert set(told["exact"]) == {"recall@20", "precision@20", "recall@100", "precision@100"}
    assert "the index file" in Call("evaluate", run).out
    monkeypatch.setenv("COLUMNS", "30")
    table = Call("evaluate", run).out
    assert "…" not in table
    assert f"{told['engine']['recall@100']:.4f}" in table


def test_build_again_gives_the_same_answers(run, tmp_path):
    file = tmp_path / "again.poeem"
    info = Call("build", run, "--out", file, "--metric", "cosine", "--json").json
    assert (info["metric"], info["num_items"]) == ("cosine", 40)
    first, again = poeem.Index.open(run / "items.poeem"), poeem.Index.open(file)
    assert np.array_equal(first.codes, again.codes)
    assert first.lineage == again.lineage


def test_search_like_an_item(run):
    index = run / "items.poeem"
    told = Call("search", index, "--like", "A7", "--k", "3", "--json").json
    items = told["answers"][0]["items"]
    assert len(items) == 3
    assert all(item["title"] == f"THING NUMBER {item['item'][1:]}" for item in items)
    assert "A7" not in [item["item"] for item in items]
    same = Call("search", index, "--like", "thing number 7", "--k", "3", "--json").json
    assert same["answers"] == told["answers"]
    table = Call("search", index, "--like", "A7").out
    assert items[0]["title"] in table
    assert items[0]["item"] in table


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A run whose items' own ids are text that looks like numbers, or has commas."""
    rng = np.random.default_rng(0)
    ids = ["007", *(str(n) for n in range(20, 50)), "a,b", "x", "[bold]", ":smile:"]
    lines = ["user,item,title"]
    for user in range(60):
        for i in rng.permutation(len(ids))[:12]:
            lines.append(f'{user},"{ids[i]}","SIZE {1000 + i} :smile: [bold]"')
    folder = tmp_path_factory.mktemp("numbered")
    (folder / "t.csv").write_text("\n".join(lines))
    assert Call("train", folder / "t.csv", "--out", folder / "run", *SMALL).code == 0
    return folder / "run"


def test_an_answer_typed_back_finds_the_same_item(numbered):
    index = numbered / "items.poeem"
    told = Call("search", index, "--like", "007", "--k", "100", "--json").json
    assert told["answers"][0]["query"].startswith("like 007 SIZE 1000")
    for item in told["answers"][0]["items"]:
        again = Call("search", index, "--like", item["item"], "--k", "1", "--json").json
        assert again["answers"][0]["query"] == f"like {item['item']} {item['title']}"
    for text in ("7", "1003"):  # a number is an id, never a part of one or of a title
        call = Call("search", index, "--like", text)
        assert call.code == 3
        assert "no item has this id or title" in call.err


def test_titles_are_shown_as_they_are(numbered):
    shown = Call("search", numbered / "items.poeem", "--like", "[bold]", "--k", "3").out
    assert "like [bold] SIZE" in shown
    assert shown.count(":smile: [bold]") == 4


def test_a_history_of_ids_with_commas(numbered):
    call = ("search", numbered / "items.poeem", "--model", numbered, "--json")
    both = Call(*call, "--history", "a,b", "--history", "x").json
    assert [had.split()[0] for had in both["had"]] == ["a,b", "x"]
    assert both["answers"][0]["query"] == "for somebody who had a,b, x"
    three = Call(*call, "--history", "x,007", "--history", "a,b").json
    assert [had.split()[0] for had in three["had"]] == ["x", "007", "a,b"]
    assert "'a'" in Call(*call, "--history", "x,a,b").err


def test_search_for_a_user_leaves_out_what_they_had(run):
    call = ("search", run / "items.poeem", "--model", run, "--user", "110", "--json")
    told = Call(*call, "--k", "40").json
    titles = {f"{item['item']} {item['title']}" for item in told["answers"][0]["items"]}
    assert told["had"]
    assert not titles & set(told["had"])
    assert len(titles) + len(told["had"]) == 40
    everything = Call(*call, "--k", "40", "--include-known").json
    assert len(everything["answers"][0]["items"]) == 40


def test_search_for_a_history(run):
    call = ("search", run / "items.poeem", "--model", run, "--history", "A7, A8", "--json")
    told = Call(*call).json
    assert told["had"] == ["A7 THING NUMBER 7", "A8 THING NUMBER 8"]
    assert len(told["answers"][0]["items"]) == 10


def test_search_with_vectors(run, tmp_path):
    index = poeem.Index.open(run / "items.poeem")
    queries = np.random.default_rng(0).standard_normal((3, index.dim), dtype=np.float32)
    np.save(tmp_path / "q.npy", queries)
    call = ("search", run / "items.poeem", "--query-vectors", tmp_path / "q.npy", "--k", "4")
    told = Call(*call, "--json").json
    found = [[item["id"] for item in answer["items"]] for answer in told["answers"]]
    assert np.array_equal(found, index.search(queries, 4).ids)
    heads = queries[:2].reshape(1, 2, index.dim)
    np.save(tmp_path / "q.npy", heads)
    told = Call(*call, "--json").json
    found = [[item["id"] for item in answer["items"]] for answer in told["answers"]]
    assert np.array_equal(found, index.search(heads, 4).ids)
    np.save(tmp_path / "q.npy", queries[0])
    assert len(Call(*call, "--json").json["answers"]) == 1


def test_the_folder_of_a_run_stands_for_its_index(run, tmp_path):
    one, other = (
        Call("search", path, "--like", "A7", "--json") for path in (run, run / "items.poeem")
    )
    assert one.json == other.json
    one, other = (Call("inspect", path, "--json").json for path in (run, run / "items.poeem"))
    assert one.pop("age_seconds") <= other.pop("age_seconds")
    assert one == other
    call = Call("search", tmp_path, "--like", "A7")
    assert call.code == 4
    assert str(tmp_path / "items.poeem") in call.err


def test_inspect_lists_the_kernels():
    kernels = Call("inspect", "--cpu", "--json").json["kernels"]
    assert [one["name"] for one in kernels if one["in_use"]] == [poeem.index.active_kernel()]
    text = Call("inspect", "--cpu").out
    assert all(one["name"] in text for one in kernels)
    assert "in use" in text
    features = Call("inspect", "--cpu", "--json").json["cpu_features"]
    assert all(name in text for name in features)
    assert Call("inspect").code == 2


def test_a_finished_run_that_is_resumed_says_so(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    call = Call("train", "--resume", "--out", folder)
    assert call.code == 0
    assert "all 3 epochs are trained already" in call.err
    assert "loss" not in call.err


def test_inspect_tells_all(run):
    told = Call("inspect", run / "items.poeem", "--json").json
    assert told["checksums"] == "verified"
    assert told["code_bytes_per_item"] == 2  # four codes of 16 codewords, packed
    assert 0 < told["code_use"]["used_codewords"] <= 1
    assert told["kernel"] == poeem.index.active_kernel()
    assert told["lineage"]["step"] > 0
    assert told["file_bytes"] == (run / "items.poeem").stat().st_size
    text = Call("inspect", run / "items.poeem").out
    assert "checksums verified" in text
    assert "codebooks" in text


def test_lists_are_told_and_probed(table, tmp_path):
    folder = tmp_path / "run"
    assert Call("train", table, "--out", folder, *SMALL, "--num-lists", "3").code == 0
    assert "list_sizes" in Call("inspect", folder / "items.poeem", "--json").json
    assert "median" in Call("inspect", folder / "items.poeem").out
    all_lists = Call("evaluate", folder, "--json").json
    assert all_lists["quantized"] == pytest.approx(all_lists["engine"], abs=1e-3)
    one = Call("evaluate", folder, "--num-probes", "1", "--json").json
    assert one["engine"]["recall@100"] < all_lists["engine"]["recall@100"]


def test_build_from_own_arrays(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "codes": rng.integers(16, size=(9, 4)),
        "codebooks": rng.standard_normal((4, 16, 2), dtype=np.float32),
        "ids": np.arange(9) * 11,
        "lists": np.arange(9) % 2,
        "centroids": rng.standard_normal((2, 8), dtype=np.float32),
        "rotation": np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32),
    }
    options = []
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        options += [f"--{name}", tmp_path / f"{name}.npy"]
    (tmp_path / "titles.txt").write_text("".join(f"item {i}\n" for i in range(9)))
    file = tmp_path / "mine.poeem"
    call = Call("build", *options, "--titles", tmp_path / "titles.txt", "--out", file)
    assert call.code == 0, call.err
    index = poeem.Index.open(file)
    assert index.titles([33]) == ["item 3"]
    assert sorted(index.ids) == list(range(0, 99, 11))
    told = Call("search", file, "--like", "33", "--k", "2", "--json").json
    assert told["answers"][0]["query"] == "like 33 item 3"


def test_codewords_numbered_anew_stand_for_the_same(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "codes.npy", rng.integers(256, size=(300, 2)))
    np.save(tmp_path / "books.npy", rng.standard_normal((2, 256, 4), dtype=np.float32))
    call = ("build", "--codes", tmp_path / "codes.npy", "--codebooks", tmp_path / "books.npy")
    found = []
    for name, flags in (("plain", ()), ("anew", ("--renumber",))):
        made = Call(*call, *flags, "--out", tmp_path / f"{name}.poeem")
        assert made.code == 0, made.err
        found.append(poeem.Index.open(tmp_path / f"{name}.poeem"))
    plain, anew = found
    assert (plain.codes != anew.codes).any()
    np.testing.assert_array_equal(plain.reconstruct(range(300)), anew.reconstruct(range(300)))

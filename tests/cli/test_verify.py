"""What an operator asks of a file: is it whole, what made it, how is it filled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from poeem.cli.histograms import bars
from poeem.index import Index, build_index_from_codes
from poeem.index.histogram import histogram
from tests.cli.conftest import SMALL, Call
from tests.hostile.craft import craft, tensor

HOSTILE = Path(__file__).parents[1] / "hostile"
EXPECTED = json.loads((HOSTILE / "expected.json").read_text())


def test_a_whole_file(run):
    call = Call("verify", run)
    assert call.code == 0
    for part in ("header", "codebooks", "codes", "title_bytes"):
        assert part in call.out
    assert "good" in call.out
    (told,) = Call("verify", run / "items.poeem", "--json").json["files"]
    assert told["good"] is True
    assert set(told["parts"]) == {"header", *Index.open(run / "items.poeem").info()["part_bytes"]}


def test_every_damaged_part_is_named(run, tmp_path):
    file = tmp_path / "damaged.poeem"
    file.write_bytes((run / "items.poeem").read_bytes())
    craft(file, tensor("codebooks", (0, 0, 0), np.nan))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    call = Call("verify", run, file, "--json")
    assert call.code == 4
    assert "damaged.poeem" in call.err
    good, bad = json.loads(call.out)["files"]
    assert good["good"] is True
    assert bad["good"] is False
    wrong = {name: text for name, text in bad["parts"].items() if text is not None}
    assert set(wrong) >= {"codebooks", "title_bytes"}
    assert "NaN" in wrong["codebooks"]
    assert "checksum" in wrong["title_bytes"]


@pytest.mark.parametrize("name", EXPECTED)
def test_hostile_files(name):
    call = Call("verify", HOSTILE / f"{name}.poeem")
    assert call.code == 4
    assert call.err.startswith("error: ")
    assert EXPECTED[name][1].split()[0] in call.err
    assert "\x1b" not in call.out + call.err


def test_a_missing_file(tmp_path):
    assert Call("verify", tmp_path / "none").code == 4
    assert Call("verify").code == 2


def test_what_a_stranger_wrote_is_no_order_to_a_terminal(tmp_path):
    index = build_index_from_codes(
        codes=[[0], [1]],
        codebooks=np.ones((1, 2, 4), np.float32),
        titles=["\x1b[2Jcleared", "b"],
        lineage={"model": "\x1b[31mred", "step": 1},
    )
    index.save(tmp_path / "x.poeem")
    for call in (
        Call("inspect", tmp_path / "x.poeem"),
        Call("search", tmp_path / "x.poeem", "--like", "1"),
    ):
        assert call.code == 0, call.err
        assert "\x1b[2J" not in call.out
        assert "\x1b[31m" not in call.out
    assert "[31mred" in Call("inspect", tmp_path / "x.poeem").out


def test_inspect_draws_lists_and_codewords(tmp_path):
    rng = np.random.default_rng(0)
    lists = np.repeat(np.arange(4), [10, 20, 30, 40])
    index = build_index_from_codes(
        codes=np.minimum(rng.integers(16, size=(100, 2)), 7),
        codebooks=rng.standard_normal((2, 16, 2), dtype=np.float32),
        lists=lists,
        centroids=rng.standard_normal((4, 4), dtype=np.float32),
    )
    index.save(tmp_path / "x.poeem")
    told = Call("inspect", tmp_path / "x.poeem", "--json").json
    assert sum(told["list_sizes"]["histogram"]["counts"]) == 4
    assert told["code_use"]["used_by_subspace"] == [0.5, 0.5]
    assert sum(told["code_use"]["histogram"]["counts"]) == 32
    assert 0 <= told["age_seconds"] < 3600
    assert told["normalisation"] == "none"
    text = Call("inspect", tmp_path / "x.poeem").out
    for words in ("Lists by their items", "Codewords by their items", "█", "seconds ago", "50%"):
        assert words in text


def test_histograms():
    assert histogram(np.array([3])) == {"edges": [3, 4], "counts": [1]}
    found = histogram(np.arange(100))
    assert found == {"edges": list(range(0, 101, 10)), "counts": [10] * 10}
    found = histogram(np.array([0, 0, 0, 95]))
    assert found["counts"][0] == 3
    assert sum(found["counts"]) == 4
    (first, bar), (_, none), *_ = bars(found).items()
    assert first.strip() == "0 to 9"
    assert bar.endswith("█ 3")
    assert none == " 0"


def test_an_index_of_another_run_is_refused_by_name(table, run, tmp_path):
    other = tmp_path / "other"
    assert Call("train", table, "--out", other, *SMALL, "--seed", "9").code == 0
    for call in (
        Call("search", run / "items.poeem", "--model", other, "--user", "110"),
        Call("evaluate", other, "--index", run / "items.poeem"),
    ):
        assert call.code == 4
        assert f"run {run.name!r}" in call.err
        assert "run 'other'" in call.err
        assert "poeem build" in call.err
    lineage = Index.open(run / "items.poeem").lineage
    assert Index.open(run / "items.poeem", expect=lineage["model"]).lineage == lineage
    assert lineage["vectors_normalised"] is True

"""The README's first example runs as written, and its figures are those of the result files."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poeem.config import Config
from poeem.training.twin import LeftOpen

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = ("README.md", "DESIGN.md", "FORMAT.md", "CONTRIBUTING.md", "docs/recipe.md")
DOCUMENTS += ("docs/authors_index.md", "benchmarks/engine/README.md")


def test_first_example_runs(tmp_path):
    program = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)[0]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "items.poeem").exists()


def test_foreign_loop_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "foreign_loop.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "phase JOINT" in done.stdout


def test_result_files_say_where_they_come_from():
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        found = json.loads(path.read_text())
        assert {"benchmark", "when", "command", "commit", "machine", "versions"} <= set(found), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / document).parent / target).exists(), target


def test_a_comparison_becomes_lines(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = importlib.import_module("readme")

    def mean(num_bytes, name, recall, seconds=None):
        # At 20 the other way round.
        recalls = {"recall@100": {"mean": recall}, "recall@20": {"mean": 1 - recall}}
        about = {"bytes": num_bytes, "name": name, "label": name.upper(), "figures": recalls}
        kind = "afterwards" if name in ("opq", "rq") else "other"
        seeds = [1] if name == "paper" else [0, 1]
        return {**about, "kind": kind, "build_cpu_seconds": seconds, "seeds": seeds}

    found = {
        "config": {"layer": {"family": "residual"}},
        "mean": [
            mean(0, "float", 0.5),
            mean(8, "opq", 0.3),
            mean(8, "paper", 0.33),
            mean(8, "rq", 0.4, 6.1),
            mean(8, "ours-residual", 0.44, 0.25),
        ],
        "verdicts": [
            {
                "name": "ours-product",
                "bytes": 8,
                "recall": 0.35,
                "best": "RQ",
                "best_recall": 0.389,
                "over_best": 0.9,
                "seeds": 2,
            },
            {
                "name": "ours-residual",
                "bytes": 8,
                "recall": 0.44,
                "best": "RQ",
                "best_recall": 0.4,
                "over_best": 1.1,
                "over_exact": 0.88,
                "seeds": 2,
            },
        ],
        "rows": [
            {"seed": 0, "bytes": 8, "name": "opq", "recall@100": 0.2},
            {"seed": 1, "bytes": 8, "name": "opq", "recall@100": 0.3},
            {"seed": 1, "bytes": 8, "name": "paper", "recall@100": 0.33},
            {"seed": 0, "bytes": 8, "name": "ours-residual", "used_codewords": 0.97},
            {"seed": 1, "bytes": 8, "name": "ours-residual", "used_codewords": 0.98},
            {"seed": 0, "bytes": 8, "name": "paper", "recall@100": 0.9},  # of other settings
            {"seed": 2, "bytes": 8, "name": "opq", "recall@100": 0.9},
            {"seed": 2, "bytes": 8, "name": "paper", "cannot": "not of this seed"},
        ],
    }
    lines = readme.comparison({"toys": found}).splitlines()
    cells = ["toys", "8", "2", "0.5000", "0.4000, RQ", "**0.4400**", "**1.100**", "0.880", "1.100"]
    assert lines[2] == "| " + " | ".join([*cells, "6.1 / 0.25"]) + " |"
    assert lines[-1].endswith(
        "Ours is ahead in 1 of 1 cases. Faiss residual with a wide beam was not run on toys at 8. "
        "Of our codewords at least 97.5% (toys at 8) are in use after training. At recall@20 it is "
        "behind in toys at 8 (0.800 of the best). Over OPQ+PQ of 8 bytes exact search itself is "
        "1.667 on toys."
    )
    found["verdicts"][1]["over_best"] = 0.99
    assert "ahead in 0 of 1 cases, behind in toys at 8." in readme.comparison({"toys": found})
    found["mean"].append(mean(8, "lsq", 0.1))
    assert "(LSQ) was run on toys at 8 alone." in readme.comparison({"toys": found})
    assert "over the seeds" in lines[-1]
    assert len(lines) == 5
    assert readme.comparison({}) == ""


def test_figures_are_those_of_the_result_files():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "readme.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_block_without_a_place_is_an_error(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = importlib.import_module("readme")
    text = "a\n<!-- x -->\n<!-- /x -->\nb"
    filled = "a\n<!-- x -->\none\n<!-- /x -->\nb"
    assert readme.rendered(text, {"x": "one"}) == filled
    assert readme.rendered(filled, {"x": "two\n"}) == filled.replace("one", "two\n")
    assert readme.rendered(filled, {"x": ""}) == text
    with pytest.raises(ValueError, match="y: got 0 places"):
        readme.rendered(text, {"y": "one"})


def _without_avx512(value):
    """Return the result of a machine that has no AVX-512."""
    if isinstance(value, list):
        return [_without_avx512(each) for each in value]
    if not isinstance(value, dict):
        return value
    gone = ("poeem avx512", "poeem avx512-vbmi", "avx512", "avx512-vbmi", "two queries")
    gone += ("cycles_per_permute_of_128_bytes", "cycles_per_look_up_in_registers")
    kept = {k: _without_avx512(v) for k, v in value.items() if k not in gone}
    if "faiss ivfpq" in kept and "poeem avx512-vbmi" in value:  # lists.py runs the best kernel
        kept["poeem avx2"] = value["poeem avx512-vbmi"]
    return kept


def test_tables_show_the_kernels_a_machine_has(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "engine"))
    tables = importlib.import_module("tables")
    whole = tables.result
    for module in (tables, importlib.import_module("goals")):
        monkeypatch.setattr(module, "result", lambda name: _without_avx512(whole(name)))
    for marker, text in tables.blocks().items():
        assert text.strip(), marker
        assert "VBMI" not in text, marker
    assert "| bytes |  | AVX2 | IndexPQ |" in tables.flat("engine_flat")


def test_an_ablation_compares_rows_of_one_recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ablation = importlib.import_module("ablation")
    recipe = Config()
    older = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, learning_rate=0.5))
    assert ablation.mark_of(recipe, "ours", LeftOpen()) != ablation.mark_of(
        older, "ours", LeftOpen()
    )
    assert ablation.mark_of(recipe, "ours", LeftOpen()) != ablation.mark_of(
        recipe, "commitment 0.1", LeftOpen()
    )

    def row(name, config, recall, seed=0):
        marks = {"settings": ablation.mark_of(config, name, LeftOpen())}
        marks["recipe"] = ablation.mark_of(config, "ours", LeftOpen())
        return {"seed": seed, "bytes": 8, "name": name, "recall@100": recall, **marks}

    rows = [
        row("ours", recipe, 0.5),
        row("commitment 0.1", recipe, 0.55),
        row("no revival", older, 0.9),  # would be +80 % of a recipe that it was not made with
    ]
    moved_by = importlib.import_module("ablation_rows").moved_by
    assert moved_by(rows) == {8: {"commitment 0.1": pytest.approx(10.0)}}
    assert moved_by(rows[1:]) == {}


def test_goals_say_how_many_cases_reach_them_and_the_least(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "engine"))
    goals = importlib.import_module("goals")
    cases = [goals.Case(7.0, "a"), goals.Case(6.0, goals.GOAL), goals.Case(4.71, "b")]
    told = f"4.71 (b); 6.00 ({goals.GOAL})"
    assert goals._row("lists", 6, cases) == [["lists", "6x", "2 of 3", told]]
    assert goals._row("lists", 6, []) == []
    figures = {"one, 1 thread": {"cpu_p50_ms": 1.0}, "recall10_at_100": 0.5}
    sums = {"one, 1 thread": {"cpu_p50_ms": 2.0}, "recall10_at_100": 0.8}
    scan = {"one, 1 thread": {"cpu_p50_ms": 3.0}, "recall10_at_100": 0.6}
    rivals = {"poeem avx2": figures, goals.SUMS: sums, "faiss 4-bit fast scan": scan}
    found = {"items": 1_000_000, "dim": 64, "machine": {"processor": "any"}}
    case = "faiss 4-bit fast scan", "one, 1 thread"
    (one,) = goals._flat_cases(found, {"rivals": rivals}, *case)
    assert one.ratio == 1.5  # of codes that find no less, not of the faster ones that do
    scan["recall10_at_100"] = 0.9
    assert goals._flat_cases(found, {"rivals": rivals}, *case) == []

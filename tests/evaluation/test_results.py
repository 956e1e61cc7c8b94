"""A result file: rows kept one by one, means and spreads over seeds."""

import io
import json

import pytest

from poeem.errors import DataError
from poeem.evaluation.results import ResultFile, means, means_table, reasons, verdicts

FACTS = {"benchmark": "compare_toys", "data": "toys"}


def row(seed=0, num_bytes=8, name="pq", recall=0.5, **extra):
    return {
        "seed": seed,
        "bytes": num_bytes,
        "name": name,
        "label": name.upper(),
        "kind": "afterwards",
        "settings": "a",
        "spent_seconds": 2.0,
        "recall@20": recall / 2,
        "recall@100": recall,
        "precision@100": recall / 10,
        "bytes_per_item": float(num_bytes),
        "build_seconds": 1.0,
        "build_cpu_seconds": 0.5,
        **extra,
    }


def none(seed=0, num_bytes=8, name="rabitq"):
    figures = ("recall@20", "recall@100", "precision@100", "bytes_per_item", "build_seconds")
    figures += ("build_cpu_seconds",)
    found = row(seed, num_bytes, name, cannot="needs 16 bytes")
    return {key: value for key, value in found.items() if key not in figures}


def test_rows_are_kept_at_once_and_found_again(tmp_path):
    path = tmp_path / "toys.json"
    first = ResultFile(path, FACTS)
    first.add(row())
    again = ResultFile(path, FACTS)
    assert again.rows == [row()]
    assert again.has(0, 8, "pq", "a")
    assert not again.has(0, 8, "pq", "other settings")
    assert not again.has(1, 8, "pq", "a")
    assert not again.has(0, 4, "pq", "a")
    assert again.seconds_of("pq") == 2.0
    assert again.seconds_of("rq") is None


def test_a_row_takes_the_place_of_the_one_before(tmp_path):
    results = ResultFile(tmp_path / "toys.json", FACTS)
    results.add(row(recall=0.5))
    results.add(row(seed=1))
    results.add(row(recall=0.7, settings="b"))
    assert len(results.rows) == 2
    found = json.loads((tmp_path / "toys.json").read_text())
    assert [r["recall@100"] for r in found["rows"] if r["seed"] == 0] == [0.7]
    assert found["data"] == "toys"


def test_two_processes_keep_each_others_rows(tmp_path):
    one, other = (ResultFile(tmp_path / "toys.json", FACTS) for _ in range(2))
    one.add(row())
    other.add(row(name="lsq"))
    one.add(row(name="rq"))
    assert [each["name"] for each in one.rows] == ["pq", "lsq", "rq"]
    assert [each["name"] for each in ResultFile(one.path, FACTS).rows] == ["pq", "lsq", "rq"]


def test_rows_that_do_not_count_stay_in_the_file(tmp_path):
    results = ResultFile(tmp_path / "toys.json", FACTS)
    results.add(row())
    results.counts = lambda each: each["settings"] == "b"
    assert not results.has(0, 8, "pq", "a")
    results.add(row(seed=1, settings="b"))
    found = json.loads(results.path.read_text())
    assert [mean["seeds"] for mean in found["mean"]] == [[1]]
    assert len(found["rows"]) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", '{"rows": [{}]}', '{"benchmark": "compare_other", "rows": []}']
)
def test_another_file_is_not_touched(tmp_path, text):
    path = tmp_path / "toys.json"
    path.write_text(text)
    with pytest.raises(DataError):
        ResultFile(path, FACTS)
    assert path.read_text() == text


def test_means_and_spreads():
    rows = [row(seed, recall=recall) for seed, recall in enumerate((0.5, 0.6, 0.4))]
    rows += [row(num_bytes=4, name="rq"), none(), none(seed=1)]
    found = means(rows)
    assert [(m.bytes, m.name) for m in found] == [(4, "rq"), (8, "pq"), (8, "rabitq")]
    pq = found[1]
    assert pq.seeds == [0, 1, 2]
    assert pq.figures["recall@100"] == {"mean": 0.5, "lowest": 0.4, "highest": 0.6}
    assert pq.build_seconds == 1.0
    assert found[2].cannot == "needs 16 bytes"
    assert found[2].figures == {}
    assert reasons(rows) == ["RABITQ, 8 bytes: needs 16 bytes"]


def test_a_joint_index_is_held_against_the_best_built_afterwards():
    rows = [
        row(name="float", num_bytes=0, recall=0.8, kind="float"),
        row(name="annoy", num_bytes=0, recall=0.7),  # of no budget: not among the rivals of one
        row(name="pq", recall=0.4),
        row(name="rq", recall=0.5),
        row(name="fixed-codes", recall=0.9, kind="codes fixed"),  # not merely built
        row(name="ours", recall=0.6, kind="joint"),
        row(name="rq", num_bytes=4, recall=0.3),
        none(),
    ]
    found = verdicts(rows)
    assert [(v.bytes, v.name, v.best) for v in found] == [(8, "ours", "RQ")]
    assert found[0].over_best == 1.2
    assert found[0].over_exact == 0.75
    assert verdicts([]) == []


def test_each_rival_is_compared_over_the_seeds_that_both_have():
    rows = [row(seed, name="rq", recall=0.5 + seed / 10) for seed in (0, 1)]
    rows += [row(0, name="wide", recall=0.45), row(2, name="alone", recall=0.9)]
    rows += [row(seed, name="ours", recall=0.6 + seed / 20, kind="joint") for seed in (0, 1)]
    rows += [row(seed, name="float", num_bytes=0, recall=0.65, kind="float") for seed in (1, 2)]
    rows += [row(3, name="lonely", recall=0.6, kind="joint"), none(0)]
    (found,) = verdicts(rows)
    assert (found.best, found.seeds) == ("RQ", 2)
    assert (found.recall, found.best_recall) == (0.625, 0.55)
    assert (found.over_best, found.over_exact) == (1.1364, 1.0)


def test_a_rival_of_one_seed_is_the_best_where_ours_has_least_over_it():
    rows = [row(seed, name="rq", recall=0.5) for seed in (0, 1)] + [
        row(1, name="wide", recall=0.55)
    ]
    rows += [row(seed, name="ours", recall=0.5 + seed / 10, kind="joint") for seed in (0, 1)]
    (found,) = verdicts(rows)
    assert (found.best, found.seeds, found.recall) == ("WIDE", 1, 0.6)
    assert (found.over_best, found.over_exact) == (1.0909, None)


def test_the_table_shows_means_with_spread():
    from rich.console import Console

    file = io.StringIO()
    table = means_table([row(0, recall=0.5), row(1, recall=0.6), none()], "toys")
    Console(width=120, file=file).print(table)
    text = file.getvalue()
    assert "0.5500 ±0.0500" in text
    assert "0.0550 ±0.0050" in text
    assert "RABITQ" in text

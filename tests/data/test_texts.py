"""Text sets: what is read, what is refused and why, and which queries are held out."""

import dataclasses
import gzip
import json
from importlib import resources

import numpy as np
import pytest

from poeem.config import DataConfig
from poeem.data import load_interactions, load_text_set, split_queries
from poeem.errors import ConfigError, DataError, MissingColumnError, UnparsableRowsError

DOCS = [
    {"id": "b", "title": "Bee", "text": "an insect", "tags": ["wing", "sting"]},
    {"id": "a", "title": "Ape", "text": "a mammal"},
    {"id": "c", "title": " ", "text": "nobody asks"},
]
QUERIES = [{"id": 7, "text": "what flies"}, {"id": "8", "text": "what climbs"}]
QUERIES += [{"id": "9", "text": "never answered"}]
ANSWERS = [("7", "b", "1"), ("8", "a", "2"), ("8", "a", "1"), ("8", "b", "1"), ("7", "a", "0")]


def write(folder, docs=DOCS, queries=QUERIES, answers=ANSWERS, packed=False):
    """Write a text set; objects may also be lines as they are."""

    def text(lines):
        return "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)

    files = {"docs.jsonl": text(docs), "queries.jsonl": text(queries)}
    files["qrels.tsv"] = text("\t".join(a) if isinstance(a, tuple) else a for a in answers)
    for name, content in files.items():
        data = content.encode("utf-8", "surrogatepass")
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return DataConfig(path=str(folder))


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_read(tmp_path, packed):
    data = load_text_set(write(tmp_path, packed=packed))
    table = data.interactions
    assert table.user_ids.tolist() == [7, 8]
    assert table.item_ids.tolist() == ["a", "b", "c"]
    assert table.item_titles == ["Ape", "Bee", "c"]
    assert list(zip(table.users.tolist(), table.items.tolist(), strict=True)) == [
        *((0, 1), (1, 0), (1, 1))
    ]
    assert (table.num_filtered_rows, table.num_repeated_rows, table.num_skipped_rows) == (1, 1, 0)
    assert data.query_texts == ["what flies", "what climbs"]
    assert data.document_texts == ["Ape\na mammal", "Bee\nan insect", " \nnobody asks"]
    assert data.fields == ("title", "text")


def test_what_is_read_as_beir_has_it(tmp_path):
    docs = [{"_id" if name == "id" else name: v for name, v in one.items()} for one in DOCS]
    queries = [{"_id": one["id"], "text": one["text"]} for one in QUERIES]
    header = ("query-id", "corpus-id", "score")
    (tmp_path / "beir").mkdir()
    found = load_text_set(write(tmp_path / "beir", docs, queries, [header, *ANSWERS]))
    plain = load_text_set(write(tmp_path))
    assert found.document_texts == plain.document_texts
    assert found.interactions.num_skipped_rows == 0
    assert np.array_equal(found.interactions.users, plain.interactions.users)
    assert np.array_equal(found.interactions.items, plain.interactions.items)


def test_grades_and_fields_that_were_asked_for(tmp_path):
    config = dataclasses.replace(write(tmp_path), min_rating=2, document_fields="tags, text")
    data = load_text_set(config)
    assert data.interactions.user_ids.tolist() == [8]
    assert data.document_texts[:2] == ["a mammal", "wing\nsting\nan insect"]
    with pytest.raises(MissingColumnError, match=r"'tag'.*there are id, tags, text, title"):
        load_text_set(dataclasses.replace(config, document_fields="tag"))


def test_a_text_that_gives_the_answer_away_is_left_out(tmp_path):
    queries = [{"id": "7", "text": "an insect"}, {"id": "8", "text": "a mammal"}]
    answers = [("7", "b", "1"), ("8", "a", "1")]
    data = load_text_set(write(tmp_path, queries=queries, answers=answers))
    assert data.fields == ("title",)
    assert data.document_texts == ["Ape", "Bee", " "]


def test_what_is_no_text_set(tmp_path):
    assert load_text_set(DataConfig()) is None
    assert load_text_set(DataConfig(path=str(tmp_path / "table.csv"))) is None
    assert load_text_set(DataConfig(path=str(tmp_path))) is None
    with pytest.raises(DataError, match=r"docs.jsonl in the folder"):
        load_interactions(DataConfig(path=str(tmp_path)))
    config = write(tmp_path)
    with pytest.raises(ConfigError, match=r"DataConfig.split: got 'time'"):
        load_text_set(dataclasses.replace(config, split="time"))
    (tmp_path / "qrels.tsv").unlink()
    with pytest.raises(DataError, match=r"no qrels.tsv or qrels.tsv.gz"):
        load_text_set(config)


@pytest.mark.parametrize(
    ("bad", "name", "reason"),
    [
        ({"docs": ["{"]}, "docs.jsonl", "no JSON in UTF-8"),
        ({"docs": ["[" * 100_000]}, "docs.jsonl", "no JSON in UTF-8"),
        ({"docs": ['{"id": "x", "title": "\\ud800"}']}, "docs.jsonl", "no JSON in UTF-8"),
        ({"docs": ['{"id": "\ud800"}']}, "docs.jsonl", "no JSON in UTF-8"),
        ({"docs": ["3"]}, "docs.jsonl", "no id"),
        ({"docs": [{"id": " "}]}, "docs.jsonl", "no id"),
        ({"docs": [{"id": "a\tb"}]}, "docs.jsonl", "no id"),
        ({"docs": [{"id": True}]}, "docs.jsonl", "no id"),
        ({"docs": [{"id": "a", "title": "again"}]}, "docs.jsonl", "the id of an earlier line"),
        ({"queries": [{"id": "x"}]}, "queries.jsonl", "no text"),
        ({"queries": [{"id": "x", "text": " "}]}, "queries.jsonl", "no text"),
        ({"answers": ["7"]}, "qrels.tsv", "no query, document and grade"),
        (
            {"answers": [("7", "b", "much")]},
            "qrels.tsv",
            "no UTF-8, or no query, document and grade in this order",
        ),
        ({"answers": [("7", "b", "nan")]}, "qrels.tsv", "no query, document and grade"),
        ({"answers": [("6", "b", "1")]}, "qrels.tsv", "a query that is not in queries.jsonl"),
        ({"answers": [("7", "d", "1")]}, "qrels.tsv", "a document that is not in docs.jsonl"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, bad, name, reason):
    good = {"docs": DOCS, "queries": QUERIES, "answers": ANSWERS}
    config = write(tmp_path, **{part: good[part] + bad.get(part, []) for part in good})
    with pytest.raises(UnparsableRowsError, match=f"{name}: 1 of .* with {reason}") as caught:
        load_text_set(config)
    line = len(good[next(iter(bad))]) + 1
    assert caught.value.lines == [line]
    assert f"(line {line})" in str(caught.value)
    data = load_text_set(dataclasses.replace(config, on_bad_rows="skip"))
    assert data.interactions.num_skipped_rows == 1
    assert len(data.interactions) == 3


def test_files_that_cannot_be_used(tmp_path):
    config = write(tmp_path, answers=[("7", "b", "0")])
    with pytest.raises(DataError, match="no query has an answer"):
        load_text_set(config)
    with pytest.raises(DataError, match=r"qrels.tsv: it has no lines"):
        load_text_set(write(tmp_path, answers=[]))
    (tmp_path / "docs.jsonl").unlink()
    for damaged in (b"no gzip", gzip.compress(b"{}" * 99)[:-9]):
        (tmp_path / "docs.jsonl.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"docs.jsonl.gz: cannot be read"):
            load_text_set(config)


def test_progress_reaches_the_end(tmp_path):
    seen = []
    load_text_set(write(tmp_path), lambda *counts: seen.append(counts))
    assert len(seen) == 3
    assert seen[-1][0] == seen[-1][1] == sum(p.stat().st_size for p in tmp_path.iterdir())


def test_the_bundled_set_is_whole_and_small():
    config = DataConfig(path="tldr-pages")
    data = load_text_set(config)
    table = data.interactions
    assert (table.num_users, table.num_items, len(table)) == (32_136, 7_425, 32_136)
    place = table.item_ids.tolist().index("common/tar")
    assert table.item_titles[place] == "tar"
    assert data.document_texts[place].startswith("tar\nArchiving utility.")
    folder = resources.files("poeem.data") / "bundled"
    files = [*(folder / "tldr_pages").iterdir()]
    assert sum(len(file.read_bytes()) for file in files) < 1_400_000
    for word in ("tldr-pages contributors", "CC BY 4.0", "github.com/tldr-pages"):
        assert word in (folder / "README.md").read_text()


def test_queries_are_held_out_whole():
    config = DataConfig(path="tldr-pages", test_fraction=0.25)
    table = load_text_set(config).interactions
    split = split_queries(table, config, hold_out_valid=True)
    parts = [set(table.users[rows].tolist()) for rows in (split.train, split.valid, split.test)]
    assert [len(part) for part in parts] == [18_076, 6_026, 8_034]
    assert len(set().union(*parts)) == 32_136
    assert split.method == "queries"
    again = split_queries(table, config)
    assert np.array_equal(again.test, split.test)
    assert set(again.train) == set(split.train) | set(split.valid)
    other = split_queries(table, dataclasses.replace(config, seed=1))
    assert not np.array_equal(other.test, split.test)
    nothing = split_queries(table, dataclasses.replace(config, test_fraction=0))
    assert len(nothing.train) == len(table)


def test_too_few_queries_to_hold_any_out(tmp_path):
    config = write(tmp_path)
    table = load_text_set(config).interactions
    with pytest.raises(DataError, match=r"split queries: 3 training and 0 test pairs"):
        split_queries(table, config)

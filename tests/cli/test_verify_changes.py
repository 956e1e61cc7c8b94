"""`poeem verify` of the changes beside an index: each kind of damage is found and named."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from poeem import Index, LiveIndex
from poeem.index.contents import Titles
from poeem.live.batch import Batch
from poeem.live.changes import Series, decode, encode
from tests.cli.conftest import Call
from tests.index.helpers import Shape, random_index
from tests.live.helpers import Model, assert_holds

SHAPE = Shape("l2", 40, 4, 20, 2, 3, titles=True)
_COLUMNS = "number, made, num_put, ids, codes, lists, title_offsets, title_bytes, crc32"


@pytest.fixture
def left(tmp_path):
    """An index with changes beside it, as a killed writer leaves them."""
    model = Model(SHAPE)
    (tmp_path / "open").mkdir()
    path = model.save(tmp_path / "open" / "i.poeem")
    with LiveIndex.open(path) as live:
        for _ in range(4):
            model.update(live, 5)
            model.remove(live, 2)
        for file in path.parent.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copyfile(file, tmp_path / file.name)
    return tmp_path / "i.poeem", model


def run(path, statement, *values):
    with closing(sqlite3.connect(path.with_name("i.poeem.changes"))) as connection:
        connection.execute(statement, values)
        connection.commit()


def rewrite(path, number, **different):
    """Change rows of one change; its checksum is right again."""
    contents = Index.open(path)._contents
    with closing(sqlite3.connect(path.with_name("i.poeem.changes"))) as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM changes WHERE number = ?", (number,)
        ).fetchone()
    batch = decode(row, contents)
    rows = {name: value for name, value in different.items() if name != "removed"}
    batch = dataclasses.replace(
        batch,
        put=dataclasses.replace(batch.put, **rows),
        removed=different.get("removed", batch.removed),
    )
    replace_row(path, batch)


def replace_row(path, batch: Batch):
    run(path, "DELETE FROM changes WHERE number = ?", batch.number)
    run(path, f"INSERT INTO changes ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", *encode(batch))


def new_series(path, **different):
    with closing(sqlite3.connect(path.with_name("i.poeem.changes"))) as connection:
        found = connection.execute("SELECT series, base, floor FROM series").fetchone()
    series = dataclasses.replace(Series(*found), **different)
    run(path, "DELETE FROM series")
    values = (series.series, series.base, series.floor, series.crc32())
    run(path, "INSERT INTO series VALUES (?, ?, ?, ?)", *values)


def write(path, suffix, place, data):
    file = path.with_name(f"i.poeem.{suffix}")
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(data)


def damaged_page(path):
    """The first page after the schema's; everything is in the database itself before."""
    run(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    write(path, "changes", 4096, b"\xff" * 64)


def no_database(path):
    for file in path.parent.glob("i.poeem.changes*"):
        file.unlink()
    path.with_name("i.poeem.changes").write_bytes(b"no database at all" * 100)


def lost(path):
    for file in path.parent.glob("i.poeem.changes*"):
        file.unlink()


def far_away(rows):
    """Put arrays of the seven rows of change 1."""
    return lambda path: rewrite(path, 1, **rows)


def other_index(path):
    """Copy another index over the file, as one does who knows nothing of changes."""
    random_index(SHAPE, seed=9).save(path.with_name("other.poeem"))
    os.replace(path.with_name("other.poeem"), path)


DAMAGE = {
    "a blob was overwritten": (
        lambda path: run(path, "UPDATE changes SET codes = zeroblob(28) WHERE number = 3"),
        "change 3 is damaged, its checksum",
    ),
    "codes beyond the codebook": (
        far_away({"codes": np.full((7, 4), 20, np.uint8)}),
        "change 1 is damaged, codes are not from 0 to 19",
    ),
    "lists beyond the last": (
        far_away({"lists": np.full(7, 3, np.int32)}),
        "change 1 is damaged, lists are not from 0 to 2",
    ),
    "lists below 0": (far_away({"lists": np.full(7, -1, np.int32)}), "lists are not from 0 to 2"),
    "codes of another width": (
        far_away({"codes": np.zeros((7, 3), np.uint8)}),
        "change 1 is damaged",
    ),
    "fewer lists than items": (far_away({"lists": np.zeros(6, np.int32)}), "change 1 is damaged"),
    "an id of no item": (
        far_away({"ids": np.array([-1, 901, 902, 903, 904, 905, 906])}),
        "its ids are not those of items",
    ),
    "an id twice": (far_away({"removed": np.array([77, 77])}), "an id is twice in it"),
    "titles that do not fit": (
        far_away({"titles": Titles(np.arange(8)[::-1].copy(), np.zeros(7, np.uint8))}),
        "its titles do not fit",
    ),
    "titles that are no text": (
        far_away({"titles": Titles(np.arange(8), np.full(7, 255, np.uint8))}),
        "change 1 is damaged",
    ),
    "a title that begins within a character": (
        far_away({"titles": Titles(np.arange(8), np.frombuffer("éé123".encode(), np.uint8))}),
        "begins within a character",
    ),
    "a change is missing": (
        lambda path: run(path, "DELETE FROM changes WHERE number = 4"),
        "change 4 is missing",
    ),
    "the last changes are missing": (
        lambda path: run(path, "DELETE FROM changes WHERE number > 6"),
        "changes up to 8 were acknowledged, those after 6 are missing",
    ),
    "all changes are lost": (lost, "changes up to 8 were acknowledged, those after 0"),
    "another snapshot": (
        other_index,
        "changes of another snapshot",
    ),
    "another series": (
        lambda path: new_series(path, base="0" * 64),
        "changes of another snapshot",
    ),
    "a snapshot older than the changes": (
        lambda path: new_series(path, floor=3),
        "changes from 1 to 3 are gone",
    ),
    "a series with a wrong checksum": (
        lambda path: run(path, "UPDATE series SET floor = 1"),
        "its series is damaged",
    ),
    "a series of other types": (
        lambda path: new_series(path, floor="seven"),
        "its series is damaged",
    ),
    "no table of changes": (lambda path: run(path, "DROP TABLE changes"), "cannot be read"),
    "a page overwritten": (damaged_page, "damaged"),
    "no database": (no_database, "damaged"),
}


def test_changes_as_they_were_written(left):
    path, model = left
    (told,) = Call("verify", path, "--json").json["files"]
    assert told["good"] is True
    assert told["parts"]["changes"] is None
    assert "changes" in Call("verify", path).out
    with LiveIndex.open(path) as live:
        assert_holds(live, model)
        assert Call("verify", path).code == 0  # while a writer has it open
        live.compact()
    assert Call("verify", path).code == 0


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(left, kind):
    path, _ = left
    damage, wanted = DAMAGE[kind]
    damage(path)
    call = Call("verify", path, "--json")
    assert call.code == 4
    (told,) = json.loads(call.out)["files"]
    assert told["good"] is False
    assert {name for name, text in told["parts"].items() if text} == {"changes"}
    assert wanted in told["parts"]["changes"]
    assert "i.poeem.changes" in call.err


def test_an_index_without_changes_has_no_such_part(tmp_path):
    path = Model(SHAPE).save(tmp_path / "i.poeem")
    (told,) = Call("verify", path, "--json").json["files"]
    assert "changes" not in told["parts"]

"""Bad rows and bad files: each is refused, counted and named by line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poeem.config import DataConfig
from poeem.data import load_interactions, tables
from poeem.errors import (
    DataError,
    UnparsableRowsError,
)

BAD = """user,item,timestamp,rating,split
a,1,1,5,0
,2,1,5,0
a,3,soon,5,0
a,4,1,good,0
a,5,1,5,3
a,6,1,5

a,"7
",1,5,0
b,  ,1,5,0
a,8,1,nan,0
"a"x,9,1,5,0
a,10,1,5,0,9
\udcff,11,1,5,0
b,12,2,5,2
"""
BAD_LINES = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]


def test_bad_rows_are_counted_and_named_by_line(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", BAD, rating_column="rating")
    with pytest.raises(UnparsableRowsError) as caught:
        load_interactions(config)
    assert caught.value.lines == BAD_LINES
    message = str(caught.value)
    assert message.startswith("t.csv: 10 of 13 rows cannot be read: ")
    for part in (
        "2 with the wrong number of fields (wanted 5) (lines 7, 14)",
        "1 with bytes that are not UTF-8 (line 15)",
        "1 with text after a closing quote (line 13)",
        "1 with an empty user (line 3)",
        "1 with an empty item (line 11)",
        "1 with a timestamp that is no number or ISO 8601 date (line 4)",
        "2 with a rating that is no number (lines 5, 12)",
        "1 with a split that is not 0, 1 or 2 (line 6)",
        'on_bad_rows = "skip"',
    ):
        assert part in message


def test_bad_rows_can_be_skipped_and_are_counted(
    tmp_path: Path, ids_of: Callable[..., Any], write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", BAD, rating_column="rating", on_bad_rows="skip")
    data = load_interactions(config)
    assert data.num_skipped_rows == 10
    assert ids_of(data) == [("a", 1), ("a", 7), ("b", 12)]


def test_if_all_rows_are_bad_skipping_them_is_an_error(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", "user,item\n,1\n1\n", on_bad_rows="skip")
    with pytest.raises(DataError, match=r"2 of 2 rows cannot be read: .*; none is left"):
        load_interactions(config)


def test_only_the_first_lines_are_shown(tmp_path: Path, write_text: Callable[..., Any]) -> None:
    config = write_text(tmp_path / "t.csv", "user,item\n" + ",1\n" * 1500)
    with pytest.raises(UnparsableRowsError, match=r"\(lines 2, 3, 4, 5, 6, \.\.\.\)") as caught:
        load_interactions(config)
    assert "1,500 of 1,500 rows" in str(caught.value)
    assert caught.value.lines == list(range(2, 1002))


def test_lines_count_what_stands_inside_quotes(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    text = 'user,item,title\n1,1,"two\nlines"\n1,2,"say ""hi"""\n,3,x\n'
    config = write_text(tmp_path / "t.csv", text)
    with pytest.raises(UnparsableRowsError) as caught:
        load_interactions(config)
    assert caught.value.lines == [5]
    data = load_interactions(DataConfig(path=config.path, on_bad_rows="skip"))
    assert data.item_titles == ["two\nlines", 'say "hi"']


def test_a_quote_that_is_never_closed_is_an_error_even_when_skipping(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    text = "user,item,title\n1,1,x\n1,2,y\n" + '1,3,"z\n' + "1,4,w\n" * 3
    config = write_text(tmp_path / "t.csv", text, on_bad_rows="skip")
    with pytest.raises(UnparsableRowsError, match="opened in line 4 is never closed") as caught:
        load_interactions(config)
    assert caught.value.lines == [4]


def test_a_lone_quote_inside_a_field_is_an_inch(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.tsv", 'user\titem\ttitle\n1\t1\t7" single\n1\t2\tx\n')
    assert load_interactions(config).item_titles == ['7" single', "x"]


@pytest.mark.parametrize(
    ("titles", "line"),
    [
        (["a", '"lone quote', "c", "d", "e", '"another', "g"], 3),
        (['pipe 12"', "b", '"unclosed', "d", "e", "f", "g"], 4),
    ],
)
def test_two_lone_quotes_do_not_hide_what_is_between_them(
    titles: list[str], line: int, tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    rows = "".join(f"1,{number},{title}\n" for number, title in enumerate(titles))
    config = write_text(tmp_path / "t.csv", "user,item,title\n" + rows)
    with pytest.raises(UnparsableRowsError) as caught:
        load_interactions(config)
    assert caught.value.lines[0] == line


def test_quoted_fields_are_read_fast_and_slowly_alike(
    tmp_path: Path, write_text: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_CHUNK_BYTES", 7)  # what is looked for lies across their edges
    titles = ['"one, two"', '"say ""hi"""', '""', '5" and 6" pipes', '12"', '"plain"']
    rows = "".join(f"1,{number},{title}\r\n\r\n" for number, title in enumerate(titles))
    found = load_interactions(write_text(tmp_path / "t.csv", "\nuser,item,title\r\n" + rows))
    assert found.item_titles == ["one, two", 'say "hi"', "2", '5" and 6" pipes', '12"', "plain"]
    monkeypatch.setattr(tables, "_read_careful", None)  # of no use here
    config = write_text(tmp_path / "u.csv", 'user,item,title\n1,1,"a, b"\n\n1,2,12"\n1,3,9"\n')
    assert load_interactions(config).item_titles == ["a, b", '12"', '9"']


def test_byte_order_mark_windows_newlines_and_spaces_in_the_header(
    tmp_path: Path, ids_of: Callable[..., Any], write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", "\ufeffuser, item \r\n1,2\r\n3,4\r\n")
    assert ids_of(load_interactions(config)) == [(1, 2), (3, 4)]
    config = write_text(tmp_path / "t.csv", "\ufeff\r\nuser,item\r\n1,2\r\n,4\r\n")
    with pytest.raises(UnparsableRowsError) as caught:
        load_interactions(config)
    assert caught.value.lines == [4]


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_other_files_name_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    users, items, times = ["a", "", "b"], [1, 2, 3], [1.0, 2.0, np.nan]
    if suffix == ".npz":
        np.savez(path, user=np.array(users), item=np.array(items), timestamp=np.array(times))
    else:
        pq.write_table(
            pa.table({"user": ["a", None, "b"], "item": items, "timestamp": times}), path
        )
    wanted = r"an empty user or one that is no UTF-8 \(row 2\)"
    with pytest.raises(UnparsableRowsError, match=wanted) as caught:
        load_interactions(DataConfig(path=str(path)))
    assert caught.value.lines == [2, 3]


@pytest.mark.parametrize("text", ["", "user,item\n", "\n\n"])
def test_empty_tables_are_refused(
    tmp_path: Path, text: str, write_text: Callable[..., Any]
) -> None:
    with pytest.raises(DataError, match=r"the file is empty|the table has no rows"):
        load_interactions(write_text(tmp_path / "t.csv", text))


def test_empty_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [], "item": []}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="the table has no rows"):
        load_interactions(DataConfig(path=str(tmp_path / "t.parquet")))


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 or not", b"PAR1 or not", b"\x93NUMPY"])
def test_files_of_another_kind_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as"):
        load_interactions(DataConfig(path=str(path)))


def test_npz_with_pickles_or_uneven_columns_is_refused(tmp_path: Path) -> None:
    config = DataConfig(path=str(tmp_path / "t.npz"))
    np.savez(config.path, user=np.array([1, None]), item=np.array([1, 2]))
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_interactions(config)
    np.savez(config.path, user=np.array([1, 2]), item=np.array([1]))
    with pytest.raises(DataError, match="wanted 1-d of one length"):
        load_interactions(config)


def test_a_single_array_is_no_table(tmp_path: Path) -> None:
    with (tmp_path / "t.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_interactions(DataConfig(path=str(tmp_path / "t.npz")))


def test_two_columns_of_one_name_are_refused(
    tmp_path: Path, write_text: Callable[..., Any]
) -> None:
    config = write_text(tmp_path / "t.csv", "user,item,item\n1,2,3\n")
    with pytest.raises(DataError, match="2 columns are named 'item'"):
        load_interactions(config)


def test_progress_is_told_bytes(tmp_path: Path, write_table: Callable[..., Any]) -> None:
    config = write_table(tmp_path / "t.csv")
    size = Path(config.path).stat().st_size
    seen: list[tuple[int, int]] = []
    load_interactions(config, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, size), (size, size)]

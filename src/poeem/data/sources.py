"""Finds the table behind a name or path, and the item titles that lie beside it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from poeem.checks import check_path_text
from poeem.data.tables import TABLE_SUFFIXES, TEXT_FORMATS, TextFormat
from poeem.errors import DataError

BUNDLED = {"online-retail": "online_retail.parquet"}
"""Name of a table that comes with the package -> its file in `data/bundled`."""

BUNDLED_TEXTS = {"tldr-pages": "tldr_pages"}
"""Name of a text set that comes with the package -> its folder in `data/bundled`."""

DATA_VARIABLE = "POEEM_DATA"

# MovieLens separates fields by two colons: to a reader of one-character separators, an empty field.
_RATINGS_DAT = TextFormat(":", ("user", "", "item", "", "rating", "", "timestamp"))


@dataclass(frozen=True)
class Source:
    """A table, how to read it, and the folder in which titles may lie.

    layout: of a text file; None = .parquet or .npz.
    """

    table: Path
    layout: TextFormat | None = None
    title_folder: Path | None = None


@contextmanager
def open_source(text: str) -> Iterator[Source]:
    """Find what `text` names: a bundled set, a file, a folder, or a folder in $POEEM_DATA.

    Raises:
        DataError: there is no such thing; the message says what there is.
        ConfigError: the path is no UTF-8.
    """
    check_path_text("path", text)
    if text in BUNDLED:
        bundled = resources.files("poeem.data") / "bundled" / BUNDLED[text]
        with resources.as_file(bundled) as path:
            yield Source(path)
        return
    path = Path(text).expanduser()
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        if not path.is_file():
            raise DataError(f"path: no file {str(path)!r}")
        yield Source(path, TEXT_FORMATS.get(suffix))
        return
    yield _source_of_folder(_find_folder(path))


@contextmanager
def text_set_folder(text: str) -> Iterator[Path | None]:
    """Find the folder of the text set that `text` names; None where it names none."""
    check_path_text("path", text)
    if text in BUNDLED_TEXTS:
        bundled = resources.files("poeem.data") / "bundled" / BUNDLED_TEXTS[text]
        with resources.as_file(bundled) as path:
            yield path
        return
    found = (folder for folder in _candidates(Path(text).expanduser()) if folder.is_dir())
    folder = next(found, None)
    yield folder if folder is not None and _is_text_set(folder) else None


def text_set_file(folder: Path, name: str) -> Path:
    """Return a file of a text set, as it is or as .gz.

    Raises:
        DataError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"path: no {name} or {name}.gz in the folder {str(folder)!r} of a text set")


def _is_text_set(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("docs.jsonl", "docs.jsonl.gz"))


def _candidates(path: Path) -> list[Path]:
    root = os.environ.get(DATA_VARIABLE)
    return [path] + ([Path(root) / path] if root else [])


def _find_folder(path: Path) -> Path:
    root = os.environ.get(DATA_VARIABLE)
    for folder in _candidates(path):
        if folder.is_dir():
            return folder
    known = [*BUNDLED, *BUNDLED_TEXTS]
    if root and Path(root).is_dir():
        known += sorted(
            f.name
            for f in Path(root).iterdir()
            if (f / "interactions.npz").is_file() or _is_text_set(f)
        )
        where = f"in ${DATA_VARIABLE}"
    else:
        where = f"(${DATA_VARIABLE}, which may name a folder of more, is not set)"
    raise DataError(
        f"path: got {str(path)!r}, wanted a {', '.join(TABLE_SUFFIXES)} file, "
        f"a folder of a text set, or one of {', '.join(known)} {where}"
    )


def _source_of_folder(folder: Path) -> Source:
    table = folder / "interactions.npz"
    if table.is_file():
        return Source(table, title_folder=folder)
    ratings = folder / "ratings.dat"
    if ratings.is_file():
        return Source(ratings, _RATINGS_DAT, folder)
    raise DataError(
        f"path: no interactions.npz, ratings.dat or docs.jsonl in the folder {str(folder)!r}"
    )


def read_titles(folder: Path) -> dict[str, str] | None:
    """Return item id -> title from the files beside a table, or None where there are none.

    Known are items.tsv.gz and item_map.tsv (with a header; the id in column `item`, the name in
    `title` or `description`) and movies.dat of MovieLens (id::title::genres).

    Raises:
        DataError: such a file lacks its columns, or a line of it is too short.
    """
    for name in ("items.tsv.gz", "item_map.tsv"):
        if (folder / name).is_file():
            return _read_title_table(folder / name)
    if (folder / "movies.dat").is_file():
        return _read_movies(folder / "movies.dat")
    return None


def _read_title_table(path: Path) -> dict[str, str]:
    lines = _read_lines(path)
    header = lines[0].split("\t")
    title = next((name for name in ("title", "description") if name in header), None)
    if "item" not in header or title is None:
        raise DataError(f"{path.name}: got columns {header}, wanted item and title or description")
    key_place, title_place = header.index("item"), header.index(title)
    return _pairs(path, [line.split("\t") for line in lines], key_place, title_place, skip=1)


def _read_movies(path: Path) -> dict[str, str]:
    return _pairs(path, [line.split("::") for line in _read_lines(path)], 0, 1)


def _read_lines(path: Path) -> list[str]:
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be decompressed: {error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # as the original MovieLens files are
    # Not splitlines: that would also split at exotic separators inside titles.
    return [line.rstrip("\r") for line in text.rstrip("\n").split("\n")]


def _pairs(
    path: Path, rows: list[list[str]], key_place: int, title_place: int, skip: int = 0
) -> dict[str, str]:
    for line, row in enumerate(rows[skip:], start=skip + 1):
        if len(row) <= max(key_place, title_place):
            raise DataError(f"{path.name}: line {line} has {len(row)} fields, too few for a title")
    return {row[key_place]: row[title_place].strip() for row in rows[skip:]}

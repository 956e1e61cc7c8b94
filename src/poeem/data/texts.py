"""A text set: documents, queries, and which document answers which query."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from poeem.config import DataConfig
from poeem.data.columns import text_ids
from poeem.data.interactions import Interactions
from poeem.data.sources import text_set_file, text_set_folder
from poeem.data.tables import Progress
from poeem.errors import ConfigError, DataError, MissingColumnError, UnparsableRowsError
from poeem.types import Array

DOCUMENTS, QUERIES, ANSWERS = "docs.jsonl", "queries.jsonl", "qrels.tsv"
_MAX_LISTED, _MAX_SHOWN = 1000, 5
# Where more of the queries than this stand in their document's text, it gives the answers away.
_GIVEN_AWAY = 0.5
# Documents that have a title, where it is all that is read of them.
_TITLED = 0.9


@dataclass(frozen=True, eq=False)
class TextSet:
    """Queries are the users of `interactions`, documents its items; each has a text.

    query_texts: [num_users]. document_texts: [num_items], the `fields` of a document, a line each.
    """

    interactions: Interactions
    query_texts: list[str]
    document_texts: list[str]
    fields: tuple[str, ...]


@dataclass
class _File:
    """What a file says, by line, and which of its lines cannot be used."""

    name: str
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id, of a .jsonl
    pairs: list[tuple[str, str]] = field(default_factory=list)  # of qrels
    bad: dict[str, list[int]] = field(default_factory=dict)
    num_lines: int = 0
    num_filtered: int = 0

    def refuse(self, line: int, reason: str) -> None:
        self.bad.setdefault(reason, []).append(line)

    @property
    def num_bad(self) -> int:
        return sum(map(len, self.bad.values()))


def load_text_set(config: DataConfig, progress: Progress | None = None) -> TextSet | None:
    """Read the text set that `config.path` names; None where it names none.

    A text set is a folder with docs.jsonl (id, title, text, ...), queries.jsonl (id, text) and
    qrels.tsv (query, document, grade), each also as .gz; or the name of a bundled one. As BEIR has
    them, ids may be called _id, and qrels.tsv may begin with a line of column names. Documents
    that answer no query stay in the catalogue; queries without an answer are left out.

    `config.document_fields` "auto" takes title and text, but not the text where most queries stand
    in that of their own document; nearly all documents must have a title then.
    `config.min_rating` is the lowest grade that counts, else 1.

    Args:
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: a file is missing or cannot be read, or no query has an answer.
        MissingColumnError: no document has a field that `document_fields` names.
        UnparsableRowsError: lines cannot be used, unless `on_bad_rows` is "skip"; has `.lines`.
        ConfigError: a split that text sets do not have.
    """
    with text_set_folder(config.path) as folder:
        if folder is None:
            return None
        if config.split not in ("auto", "random"):
            raise ConfigError(
                f"DataConfig.split: got {config.split!r}, wanted random or auto for a text set"
            )
        documents, queries, answers = _read(folder, config, progress)
    pairs = list(dict.fromkeys(answers.pairs))
    if not pairs:
        low = ""
        if answers.num_filtered:
            grade = 1.0 if config.min_rating is None else config.min_rating
            low = (
                f"; {answers.num_filtered:,} answers have a grade below {grade:g}, the lowest that "
                "counts (DataConfig.min_rating)"
            )
        raise DataError(f"{answers.name}: no query has an answer among the documents{low}")
    asked = {query for query, _ in pairs}
    query_keys = _ordered([key for key in queries.objects if key in asked])
    document_keys = _ordered(list(documents.objects))
    fields = _fields(config.document_fields, documents, queries, pairs)
    found = [documents.objects[key] for key in document_keys]
    users = {key: number for number, key in enumerate(query_keys)}
    items = {key: number for number, key in enumerate(document_keys)}
    interactions = Interactions(
        users=np.array([users[query] for query, _ in pairs], dtype=np.int32),
        items=np.array([items[document] for _, document in pairs], dtype=np.int32),
        timestamps=None,
        split=None,
        user_ids=_ids(query_keys),
        item_ids=_ids(document_keys),
        item_titles=[_title(key, one) for key, one in zip(document_keys, found, strict=True)],
        num_skipped_rows=documents.num_bad + queries.num_bad + answers.num_bad,
        num_filtered_rows=answers.num_filtered,
        num_repeated_rows=len(answers.pairs) - len(pairs),
    )
    query_texts = [queries.objects[key]["text"] for key in query_keys]
    return TextSet(interactions, query_texts, [_text(one, fields) for one in found], fields)


def _read(
    folder: Path, config: DataConfig, progress: Progress | None
) -> tuple[_File, _File, _File]:
    paths = [text_set_file(folder, name) for name in (DOCUMENTS, QUERIES, ANSWERS)]
    sizes = [path.stat().st_size for path in paths]
    documents = _read_objects(paths[0])
    _report(progress, sizes, 1)
    queries = _read_objects(paths[1], "text")
    _report(progress, sizes, 2)
    answers = _read_answers(paths[2], queries, documents, config)
    _report(progress, sizes, 3)
    for file in (documents, queries, answers):
        if file.num_lines == 0:
            raise DataError(f"{file.name}: it has no lines")
        if file.num_bad and config.on_bad_rows == "error":
            raise _unparsable(file)
    return documents, queries, answers


def _report(progress: Progress | None, sizes: list[int], done: int) -> None:
    if progress is not None:
        progress(sum(sizes[:done]), sum(sizes))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers from 1 and lines that are not blank."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read: {error}") from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _read_objects(path: Path, *texts: str) -> _File:
    """Read a .jsonl of objects with an id, and with `texts` that are not blank."""
    file = _File(path.name)
    for number, line in _lines(path):
        file.num_lines += 1
        try:
            one = json.loads(line)
            line.decode()
            json.dumps(one, ensure_ascii=False).encode()  # half a character can hide in escapes
        except (ValueError, RecursionError):
            file.refuse(number, "no JSON in UTF-8")
            continue
        key = one.get("id", one.get("_id")) if isinstance(one, dict) else None
        if not isinstance(key, (str, int)) or isinstance(key, bool) or not _is_key(str(key)):
            file.refuse(number, "no id")
        elif str(key) in file.objects:
            file.refuse(number, "the id of an earlier line")
        elif not all(isinstance(one.get(name), str) and one[name].strip() for name in texts):
            file.refuse(number, f"no {' and '.join(texts)}")
        else:
            file.objects[str(key)] = one
    return file


def _is_key(key: str) -> bool:
    """Return whether a .tsv can name it and an array of texts can hold it."""
    return bool(key.strip()) and not any(char in key for char in "\t\n\r\0")


def _read_answers(path: Path, queries: _File, documents: _File, config: DataConfig) -> _File:
    file = _File(path.name)
    lowest = 1.0 if config.min_rating is None else config.min_rating
    for number, line in _lines(path):
        file.num_lines += 1
        try:
            cells = line.decode().rstrip("\r").split("\t")
            if file.num_lines == 1 and _are_names(cells) and cells[0] not in queries.objects:
                continue
            grade = float(cells[2]) if len(cells) > 2 else 1.0
        except ValueError:
            file.refuse(
                number,
                "no UTF-8, or no query, document and grade in this order (TREC's four columns have "
                "one too many)",
            )
            continue
        if len(cells) < 2 or grade != grade:
            file.refuse(number, "no query, document and grade with tabs between")
        elif cells[0] not in queries.objects:
            file.refuse(number, f"a query that is not in {queries.name}")
        elif cells[1] not in documents.objects:
            file.refuse(number, f"a document that is not in {documents.name}")
        elif grade < lowest:
            file.num_filtered += 1
        else:
            file.pairs.append((cells[0], cells[1]))
    return file


def _are_names(cells: list[str]) -> bool:
    """Return whether a line says what its columns are."""
    return cells[0].replace("_", "-").casefold() in ("query-id", "queryid", "qid", "query")


def _unparsable(file: _File) -> UnparsableRowsError:
    parts = []
    for reason, lines in file.bad.items():
        shown = ", ".join(map(str, lines[:_MAX_SHOWN])) + (", ..." * (len(lines) > _MAX_SHOWN))
        parts.append(f"{len(lines):,} with {reason} (line{'s' * (len(lines) > 1)} {shown})")
    lines = sorted(line for lines in file.bad.values() for line in lines)
    return UnparsableRowsError(
        f"{file.name}: {file.num_bad:,} of {file.num_lines:,} lines cannot be used: "
        f'{"; ".join(parts)}. Mend them, or leave them out with on_bad_rows = "skip"',
        lines[:_MAX_LISTED],
    )


def _fields(
    wanted: str, documents: _File, queries: _File, pairs: list[tuple[str, str]]
) -> tuple[str, ...]:
    """Return the fields of a document that make up its text."""
    known = {name for one in documents.objects.values() for name in one}
    if wanted != "auto":
        names = tuple(name.strip() for name in wanted.split(","))
        if missing := [name for name in names if name not in known]:
            raise MissingColumnError(
                f"{documents.name}: no document has {', '.join(map(repr, missing))}, which "
                f"DataConfig.document_fields asks for; there are {', '.join(sorted(known))}"
            )
        return names
    given_away = sum(
        queries.objects[query]["text"] in _text(documents.objects[document], ("text",))
        for query, document in pairs
    )
    names = ("title", "text") if given_away <= _GIVEN_AWAY * len(pairs) else ("title",)
    count = sum(bool(_text(one, names)) for one in documents.objects.values())
    if not count or (names == ("title",) and count < _TITLED * len(documents.objects)):
        why = "" if "text" in names else ", and most queries stand in the text of their document"
        raise MissingColumnError(
            f"{documents.name}: {count:,} of {len(documents.objects):,} documents have a "
            f"{' or '.join(names)}{why}; set DataConfig.document_fields to some of "
            f"{', '.join(sorted(known))}"
        )
    return names


def _text(document: dict[str, Any], fields: tuple[str, ...]) -> str:
    """Return some fields of a document, a line each; of lists, their texts."""
    parts: list[str] = []
    for name in fields:
        value = document.get(name)
        parts += [one for one in (value if isinstance(value, list) else [value]) if one]
    return "\n".join(str(part) for part in parts)


def _title(key: str, document: dict[str, Any]) -> str:
    title = document.get("title")
    return title.strip() if isinstance(title, str) and title.strip() else key


def _ordered(keys: list[str]) -> list[str]:
    return sorted(keys, key=int) if _are_integers(keys) else sorted(keys)


def _ids(keys: list[str]) -> Array:
    """Return int64 where all are integers as they are usually written, else texts."""
    return np.array(keys, dtype=np.int64) if _are_integers(keys) else text_ids(keys)


def _are_integers(keys: list[str]) -> bool:
    def is_integer(key: str) -> bool:
        digits = key.removeprefix("-")
        plain = digits.isascii() and digits.isdigit() and len(digits) < 19
        return plain and str(int(key)) == key

    return all(map(is_integer, keys))

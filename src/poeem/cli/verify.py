"""`poeem verify`: is all of an index file as it was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from poeem.cli.find import index_file
from poeem.cli.output import Json, answers, facts_table, print_json
from poeem.errors import IndexFileError
from poeem.index.format import check_file
from poeem.live import check_changes, has_changes

EXAMPLES = """
poeem verify runs/shop/items.poeem
poeem verify *.poeem --json
"""


def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="index files, or folders of runs")
    ],
    json: Json = False,
) -> None:
    """Check every part of index files: checksums, bounds, orders, and norms against codes.

    Changes beside a file are checked too, and whether they are of this index. All parts of all
    files are looked at; the exit code is 4 if any of them is damaged.
    """
    reports = {str(path): _report(path) for path in map(index_file, files)}
    if json:
        print_json({"files": [_plain(name, parts) for name, parts in reports.items()]})
    else:
        for name, parts in reports.items():
            lines = {part: "good" if error is None else str(error) for part, error in parts.items()}
            answers().print(facts_table(name, lines))
    damage = [error for parts in reports.values() for error in parts.values() if error is not None]
    if damage:
        raise damage[0]


def _report(path: Path) -> dict[str, IndexFileError | None]:
    try:
        parts: dict[str, IndexFileError | None] = {"header": None, **check_file(path)}
    except IndexFileError as error:
        return {"header": error}
    return {**parts, "changes": check_changes(path)} if has_changes(path) else parts


def _plain(name: str, parts: dict[str, IndexFileError | None]) -> dict[str, Any]:
    said = {part: None if error is None else str(error) for part, error in parts.items()}
    return {"file": name, "good": not any(said.values()), "parts": said}

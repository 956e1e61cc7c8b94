"""`poeem update`, `remove` and `compact`: change an index file while others search it. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from poeem.checks import check_vectors
from poeem.cli.arrays import load_array, read_lines
from poeem.cli.find import all_names, index_file
from poeem.cli.output import Json, answers, counting, print_json
from poeem.errors import ConfigError, IdError, InputError
from poeem.index.arguments import check_ids
from poeem.index.own_ids import has_own_ids, lead_titles
from poeem.live import LiveIndex, pending_changes
from poeem.types import Array, IntArray

UPDATE_EXAMPLES = """
poeem update items.poeem --ids ids.npy --vectors vectors.npy
poeem update runs/shop --ids skus.txt --vectors vectors.npy --titles names.txt --only-new
"""
REMOVE_EXAMPLES = """
poeem remove items.poeem --item 17 --item 23
poeem remove runs/shop --ids sold-out.txt --ignore-missing
"""
COMPACT_EXAMPLES = """
poeem compact runs/shop
"""

_BATCH = 10_000

File = Annotated[
    Path, typer.Argument(metavar="INDEX", help="an index file, or the folder of a run")
]
IdsFile = Annotated[
    Path | None,
    typer.Option(
        "--ids",
        metavar="FILE",
        help="ids of the items: integers in a .npy file, or a text file with one id a line",
    ),
]


def update(
    file: File,
    ids: IdsFile = None,
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", metavar="FILE.npy", help="float32, num_items x dim"),
    ] = None,
    titles: Annotated[
        Path | None, typer.Option("--titles", metavar="FILE.txt", help="UTF-8, a line per item")
    ] = None,
    only_new: Annotated[
        bool, typer.Option("--only-new", help="refuse ids that are there already")
    ] = False,
    json: Json = False,
) -> None:
    """Add items, or replace those that are there; durable when it returns, searches go on.

    Vectors are encoded with the index's own parts. Changes are kept beside the file, in batches of
    10,000 items, until `poeem compact` folds them in.
    """
    if ids is None or vectors is None:
        raise ConfigError("update: wanted --ids and --vectors")
    with LiveIndex.open(index_file(file)) as live:
        array = load_array("--vectors", vectors)
        check_vectors("--vectors", array, live.dim)
        keys = _read_ids(ids)
        if len(keys) != len(array):
            raise InputError(f"--ids: got {len(keys)} for {len(array)} vectors, wanted as many")
        names = None if titles is None else read_lines("--titles", titles)
        numbers, names = _numbers_and_titles(live, keys, names)
        known = live.view().find(numbers)
        if only_new and known.any():
            raise IdError(f"--ids: {int(known.sum())} are in the index already")
        with counting("updating") as progress:
            for first in range(0, len(numbers), _BATCH):
                part = slice(first, first + _BATCH)
                some = None if names is None else names[part]
                live.update(numbers[part], array[part], titles=some)
                progress(min(first + _BATCH, len(numbers)), len(numbers))
        replaced = int(known.sum())
        _report(live, json, f"{len(numbers) - replaced:,} added, {replaced:,} replaced")


def remove(
    file: File,
    ids: IdsFile = None,
    item: Annotated[
        list[str] | None, typer.Option("--item", metavar="ID", help="an item's id; again for more")
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="let ids pass that are not there")
    ] = False,
    json: Json = False,
) -> None:
    """Remove items, all at once; durable when it returns, searches go on."""
    if (ids is None) == (not item):
        raise ConfigError("remove: wanted one of --ids and --item")
    keys = _read_ids(ids) if ids is not None else list(item or [])
    with LiveIndex.open(index_file(file)) as live:
        if has_own_ids(live.lineage):
            texts = [str(key) for key in keys]
            _require_each_once(texts)
            numbers = _known_numbers(live, texts)
            if not ignore_missing and (numbers < 0).any():
                missing = [str(keys[row]) for row in np.flatnonzero(numbers < 0)[:5]]
                raise IdError(f"no item has the id {', '.join(missing)}")
            wanted: Any = numbers[numbers >= 0]
        else:
            wanted = _integers(keys)
        before = live.num_items
        live.remove(wanted, ignore_missing=ignore_missing)
        _report(live, json, f"{before - live.num_items:,} removed")


def compact(file: File, json: Json = False) -> None:
    """Fold the changes beside an index into its file; searches go on."""
    with LiveIndex.open(index_file(file)) as live:
        folded = pending_changes(live.path).num_changes
        written = live.compact()
        done = f"{folded:,} changes folded in" if written else "nothing to fold"
        _report(live, json, done)


def _report(live: LiveIndex, as_json: bool, done: str) -> None:
    pending = pending_changes(live.path)
    if as_json:
        print_json(
            {
                "path": str(live.path),
                "done": done,
                "num_items": live.num_items,
                "pending": asdict(pending),
            }
        )
        return
    answers().print(
        f"{live.path}: {done}; {live.num_items:,} items, {pending.num_changes:,} changes pending",
        soft_wrap=True,
    )


def _numbers_and_titles(
    live: LiveIndex, keys: Sequence[Any] | Array, titles: list[str] | None
) -> tuple[IntArray, list[str] | None]:
    """Return the index's numbers of items, and titles as it holds them.

    Where items have ids of their own, new ones get the numbers after the largest.
    """
    if titles is not None and len(titles) != len(keys):
        raise InputError(f"--titles: got {len(titles)} for {len(keys)} items, wanted one for each")
    if not has_own_ids(live.lineage):
        return check_ids(_integers(keys)), titles
    texts = [str(key) for key in keys]
    _require_each_once(texts)
    numbers = _known_numbers(live, texts)
    new = np.flatnonzero(numbers < 0)
    numbers[new] = 1 + (int(live.ids.max()) if len(live) else -1) + np.arange(len(new))
    return numbers, lead_titles(texts, titles)


def _require_each_once(keys: list[str]) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise IdError(f"ids: wanted each once, got twice {', '.join(twice[:5])}")


def _known_numbers(live: LiveIndex, keys: list[str]) -> IntArray:
    """Return the numbers of items by their own ids, -1 where there is none."""
    by_key = {str(one.item): number for number, one in all_names(live)}
    return np.array([by_key.get(key, -1) for key in keys], dtype=np.int64)


def _read_ids(path: Path) -> Sequence[Any] | Array:
    """Return the ids of a file as a table of `poeem train` has them: without spaces around."""
    if path.suffix == ".npy":
        array = load_array("--ids", path)
        if array.dtype.kind not in "iuU":
            raise IdError(f"--ids: {path} has {array.dtype}, wanted integers or text")
        return array
    lines = [line.strip() for line in read_lines("--ids", path)]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line:
            raise IdError(f"--ids: {path} has nothing in line {number}, wanted an id in each")
    return lines


def _integers(keys: Sequence[Any] | Array) -> Any:
    """Return ids of an index whose items have no other ids: integers."""
    if isinstance(keys, np.ndarray):
        return keys
    found = []
    for key in keys:
        try:
            found.append(int(key))
        except ValueError:
            raise IdError(
                f"ids: got {key[:40]!r}, wanted integers, as the items of this index have"
            ) from None
    return found

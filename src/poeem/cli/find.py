"""Finds the item of an index that a user means."""

from __future__ import annotations

from poeem.errors import IdError
from poeem.index import Index

_MAX_LISTED = 5


def find_item(index: Index, text: str) -> int:
    """Return the id of the item named by its id, its own id before the title, or its title.

    A part of a title will do if no other title has it.

    Raises:
        IdError: no item, or more than one.
    """
    # Where ids of the data are no integers, the index numbers the items and ids lead the titles.
    ids_lead_titles = index.lineage.get("item_ids") == "titles"
    is_number = text.lstrip("-").isdecimal()
    if is_number and not ids_lead_titles:
        index.reconstruct([int(text)])  # raises where there is none
        return int(text)
    titles = _titles(index)
    wanted = text.casefold()
    found = [item for item, title in titles if title == wanted]
    if not found and ids_lead_titles:
        found = [item for item, title in titles if title.split(" ", 1)[0] == wanted]
    if not found:
        found = [item for item, title in titles if wanted in title]
    if len(found) == 1:
        return found[0]
    if not found:
        raise IdError(f"{text!r}: no item has this id or title")
    named = "; ".join(f"{name_of(index, item)!r}" for item in found[:_MAX_LISTED])
    raise IdError(f"{text!r}: {len(found)} items have this in their title, such as {named}")


def name_of(index: Index, item: int) -> str:
    """Return an item's title, or its id where the index has no titles."""
    return index.titles([item])[0] if index.has_titles else str(item)


def _titles(index: Index) -> list[tuple[int, str]]:
    if not index.has_titles:
        return []
    ids = index.ids
    names = index.titles(ids)
    return [(item, name.casefold()) for item, name in zip(ids.tolist(), names, strict=True)]

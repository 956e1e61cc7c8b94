"""Checks of what goes into a live index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from poeem import _native
from poeem.checks import as_array, check_vectors
from poeem.errors import ConfigError, IdError, ShapeError
from poeem.index.arguments import check_codes, check_ids, check_lists
from poeem.index.builder import encode_titles, join_titles
from poeem.index.codes import packed_dtype
from poeem.index.contents import IndexContents, Titles
from poeem.index.encode import encode
from poeem.live.rows import Rows, no_titles
from poeem.types import Array, IntArray

_MAX_NAMED = 10


def check_put(
    contents: IndexContents,
    ids: Any,
    vectors: Any,
    codes: Any,
    lists: Any,
    titles: Iterable[str] | None,
) -> Rows:
    """Return items to put as rows without norms, encoding vectors.

    Raises:
        ShapeError, DtypeError, NonFiniteError, InputError, IdError, ConfigError: as
            `LiveIndex.add` says.
    """
    if (vectors is None) == (codes is None):
        raise ConfigError("vectors and codes: wanted one of them")
    wanted = check_distinct_ids(ids)
    _native.let_searches_in()
    if vectors is not None:
        if lists is not None:
            raise ConfigError("lists: wanted with codes only; of vectors they are found")
        array = check_vectors("vectors", vectors, contents.dim, may_be_empty=True)
        count, name = len(array), "vectors"
        _native.let_searches_in()
        packed, found = encode(contents, array)
    else:
        array = as_array("codes", codes)
        count, name = check_codes(array, contents, may_be_empty=True), "codes"
        checked = check_lists(lists, count, contents)
        packed = np.array(array, dtype=packed_dtype(contents.code_bits), order="C")
        found = None if checked is None else np.array(checked, dtype=np.int32, order="C")
    _native.let_searches_in()
    if len(wanted) != count:
        raise ShapeError(f"ids: got {len(wanted)} for {count} {name}, wanted one for each")
    return Rows(wanted, packed, found, None, _titles(contents, titles, count))


def check_distinct_ids(ids: Any) -> IntArray:
    """Return ids as int64 [n], all different, a copy.

    Raises:
        IdError, ShapeError: as `check_ids`, or an id is twice there.
    """
    array = as_array("ids", ids)
    if array.size == 0:  # an empty list is float64 to NumPy
        return np.zeros(0, dtype=np.int64)
    array = check_ids(ids)
    ordered = np.sort(array)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise IdError(f"ids: wanted each once, got twice {named(np.unique(twice))}")
    return array.copy()


def named(ids: Array) -> str:
    """Return the first of some ids for a message."""
    shown = ", ".join(map(str, ids[:_MAX_NAMED].tolist()))
    return f"{shown}, ... ({len(ids)} in all)" if len(ids) > _MAX_NAMED else shown


def _titles(contents: IndexContents, titles: Iterable[str] | None, count: int) -> Titles | None:
    if contents.titles is None:
        if titles is not None:
            raise ConfigError("titles: the index was built without them")
        return None
    encoded = encode_titles(titles, count)
    return no_titles(count) if encoded is None else join_titles(encoded, None)

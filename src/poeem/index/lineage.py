"""Was an index made by the model at hand, and for the same metric?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poeem.errors import DtypeError, LineageError
from poeem.index.contents import IndexContents
from poeem.index.header import normalisation_of

MODEL = "model"
"""The lineage's name for the fingerprint of a model."""


def check_expected(contents: IndexContents, expect: str | Mapping[str, Any], where: str) -> None:
    """Check what an index says of itself: its lineage, `metric`, `normalisation` and `dim`.

    Args:
        contents: of the index.
        expect: names and values; a text stands for the fingerprint of the model.
        where: what to call the index.

    Raises:
        LineageError: a value is another, or unknown to the index; all of them are named.
        DtypeError: expect is neither text nor a mapping.
    """
    if isinstance(expect, str):
        expect = {MODEL: expect}
    if not isinstance(expect, Mapping):
        raise DtypeError(f"expect: got {type(expect).__name__}, wanted a fingerprint or a dict")
    known = said_by(contents)
    wrong = [
        f"{name} is {known[name]!r}, wanted {wanted!r}"
        if name in known
        else f"{name} is not said, wanted {wanted!r}"
        for name, wanted in expect.items()
        if name not in known or known[name] != wanted
    ]
    if wrong:
        raise LineageError(f"{where}: not the index that was expected: {'; '.join(wrong)}")


def said_by(contents: IndexContents) -> dict[str, Any]:
    """Return all that `expect` may name."""
    return {
        **contents.lineage,
        "metric": str(contents.metric),
        "normalisation": normalisation_of(contents.metric),
        "dim": contents.dim,
    }

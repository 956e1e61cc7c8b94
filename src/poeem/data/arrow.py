"""The one place where pyarrow is imported, so that its absence is reported in one way."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from poeem.errors import MissingDependencyError, install_hint


class Arrow(NamedTuple):
    """The four modules of pyarrow that reading a table needs."""

    pa: ModuleType
    compute: ModuleType
    csv: ModuleType
    parquet: ModuleType


def import_arrow() -> Arrow:
    """Import pyarrow.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"reading tables needs pyarrow; {install_hint('train')}"
        ) from error
    return Arrow(pyarrow, pyarrow.compute, pyarrow.csv, pyarrow.parquet)

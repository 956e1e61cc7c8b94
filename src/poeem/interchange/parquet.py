"""An index as a folder of Parquet tables, for whoever asks tables: DuckDB, Spark, pandas.

items.parquet       id int64, [list int32], code uint8|uint16 [num_subspaces], [title text]
codebooks.parquet   subspace int32, codeword int32, vector float32 [sub_dim]
centroids.parquet   list int32, vector float32 [dim]; only with lists
rotation.parquet    row int32, vector float32 [dim]; only with a rotation
error_metric.parquet    row int32, vector float32 [dim]; only where codes were found by one
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from poeem.checks import as_path
from poeem.config import BuildConfig
from poeem.errors import (
    CorruptIndexError,
    InputError,
    MissingDependencyError,
    NotAnIndexError,
    SaveError,
    install_hint,
)
from poeem.index import Index
from poeem.interchange.plain import PlainArrays, encoding_of
from poeem.types import Array, Family, Metric

ITEMS = "items.parquet"
_METADATA = b"poeem"


def export_parquet(index: Index, folder: str | os.PathLike[str]) -> None:
    """Write an index as a new folder of tables; the module says which. It appears whole or not.

    Rows stand in storage order. Metric, family, lineage and the numbers of `Encoding` are JSON in
    the metadata of items.parquet, under the key `poeem`.

    Raises:
        InputError: there is something at `folder` that is not an empty folder.
        SaveError: the system refused; nothing is left of the attempt.
        MissingDependencyError: pyarrow is not installed.
    """
    pa, parquet = _import_arrow()
    folder = as_path(folder, "folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: it is there already, wanted the name of a new folder")
    tables = _tables(pa, PlainArrays.of(index))
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        for name, table in tables.items():
            parquet.write_table(table, temporary / name)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except OSError as error:
        raise SaveError(f"{folder}: not written: {error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def import_parquet(folder: str | os.PathLike[str], *, metric: str | None = None) -> Index:
    """Return an index of a folder of tables such as `export_parquet` writes, rows in any order.

    Args:
        folder: it; items.parquet and codebooks.parquet must be there.
        metric: None = that of the metadata, and where it has none, "ip".

    Raises:
        NotAnIndexError: a table is missing, or not Parquet.
        CorruptIndexError: a column is missing, or of a wrong type, or a row of codebooks, centroids
            or rotation is missing or there twice.
        InputError: arrays that do not fit together, as in `build_index_from_codes`.
        MissingDependencyError: pyarrow is not installed.
    """
    pa, parquet = _import_arrow()
    folder = as_path(folder, "folder")
    items = _read(pa, parquet, folder / ITEMS)
    names = items.column_names
    said = _said(folder / ITEMS, items.schema.metadata or {})
    codebooks = _read(pa, parquet, folder / "codebooks.parquet")
    return PlainArrays(
        metric=Metric.of(metric or said.get("metric") or BuildConfig().metric),
        family=Family.of(said.get("family", Family.PRODUCT)),
        codes=_matrix(folder, items, "code"),
        codebooks=_codebooks(folder, codebooks),
        ids=_column(folder, items, "id") if "id" in names else np.arange(len(items)),
        lists=_column(folder, items, "list") if "list" in names else None,
        centroids=_ordered(pa, parquet, folder / "centroids.parquet", "list"),
        rotation=_ordered(pa, parquet, folder / "rotation.parquet", "row"),
        titles=items["title"].to_pylist() if "title" in names else None,
        lineage=said.get("lineage", {}),
        encoding=encoding_of(
            said.get("encoding", {}), _ordered(pa, parquet, folder / "error_metric.parquet", "row")
        ),
    ).build()


def _import_arrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet needs pyarrow, which is not installed; {install_hint('train')}"
        ) from error
    return pyarrow, pyarrow.parquet


def _tables(pa: ModuleType, plain: PlainArrays) -> dict[str, Any]:
    said = json.dumps(
        {
            "metric": plain.metric.value,
            "family": str(plain.family),
            "lineage": dict(plain.lineage),
            "encoding": plain.encoding_values,
        }
    )
    items: dict[str, Any] = {"id": plain.ids}
    if plain.lists is not None:
        items["list"] = plain.lists
    items["code"] = _vectors(pa, plain.codes)
    if plain.titles is not None:
        items["title"] = plain.titles
    num_subspaces, num_codewords, width = plain.codebooks.shape
    subspaces, codewords = np.indices((num_subspaces, num_codewords), dtype=np.int32)
    tables = {
        ITEMS: pa.table(items).replace_schema_metadata({_METADATA: said.encode()}),
        "codebooks.parquet": pa.table(
            {
                "subspace": subspaces.ravel(),
                "codeword": codewords.ravel(),
                "vector": _vectors(pa, plain.codebooks.reshape(-1, width)),
            }
        ),
    }
    for name, column, matrix in (
        ("centroids.parquet", "list", plain.centroids),
        ("rotation.parquet", "row", plain.rotation),
        ("error_metric.parquet", "row", plain.encoding.error_metric),
    ):
        if matrix is not None:
            rows = np.arange(len(matrix), dtype=np.int32)
            tables[name] = pa.table({column: rows, "vector": _vectors(pa, matrix)})
    return tables


def _vectors(pa: ModuleType, matrix: Array) -> Any:
    """Return [n, width] as a column of lists of `width`."""
    flat = pa.array(np.ascontiguousarray(matrix).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _read(pa: ModuleType, parquet: ModuleType, path: Path) -> Any:
    if not path.is_file():
        raise NotAnIndexError(f"{path}: no such file")
    try:
        return parquet.ParquetFile(path).read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise NotAnIndexError(f"{path}: not a Parquet table: {error}") from None


def _said(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        said = json.loads(metadata.get(_METADATA, b"{}"))
    except (ValueError, RecursionError) as error:
        raise CorruptIndexError(f"{path}: metadata: not JSON, {error}") from None
    if not isinstance(said, dict):
        raise CorruptIndexError(f"{path}: metadata: not a JSON object")
    return said


def _column(folder: Path, table: Any, name: str) -> Array:
    """Return a column of numbers, [n]."""
    if name not in table.column_names:
        raise CorruptIndexError(f"{folder}: column {name} is missing")
    column = table[name]
    if column.null_count:
        raise CorruptIndexError(f"{folder}: column {name} has {column.null_count} nulls")
    array: Array = column.to_numpy()
    if array.dtype.kind not in "iuf":
        raise CorruptIndexError(f"{folder}: column {name} is {column.type}, wanted numbers")
    return array


def _matrix(folder: Path, table: Any, name: str) -> Array:
    """Return a column of lists of one length as [n, width]."""
    if name not in table.column_names:
        raise CorruptIndexError(f"{folder}: column {name} is missing")
    column = table[name].combine_chunks()
    if column.null_count or not hasattr(column.type, "value_type") or not len(column):
        raise CorruptIndexError(f"{folder}: column {name} is {column.type}, wanted lists")
    flat = column.flatten()
    values: Array = flat.to_numpy(zero_copy_only=False)
    lengths = {len(flat)} if len(column) == 1 else set(np.diff(_offsets(column)).tolist())
    if flat.null_count or len(lengths) != 1 or values.dtype.kind not in "iuf":
        raise CorruptIndexError(f"{folder}: column {name}: wanted lists of numbers, all as long")
    return values.reshape(len(column), -1)


def _offsets(column: Any) -> Array:
    if hasattr(column, "offsets"):
        offsets: Array = column.offsets.to_numpy()
        return offsets
    width: int = column.type.list_size
    return np.arange(len(column) + 1) * width


def _codebooks(folder: Path, table: Any) -> Array:
    """Return [num_subspaces, num_codewords, width] from rows in any order."""
    subspaces, codewords = (_column(folder, table, name) for name in ("subspace", "codeword"))
    vectors = _matrix(folder, table, "vector").astype(np.float32)
    for name, numbers in (("subspace", subspaces), ("codeword", codewords)):
        if numbers.dtype.kind not in "iu" or not 0 <= numbers.min() <= numbers.max() < len(table):
            raise CorruptIndexError(f"{folder}: codebooks: {name}: wanted integers from 0 on")
    shape = (int(subspaces.max()) + 1, int(codewords.max()) + 1)
    order = np.lexsort((codewords, subspaces))
    as_many = shape[0] * shape[1] == len(table)  # first: what the numbers promise may be terabytes
    if not as_many or not np.array_equal(
        np.indices(shape).reshape(2, -1), [subspaces[order], codewords[order]]
    ):
        raise CorruptIndexError(
            f"{folder}: codebooks: wanted each codeword of each subspace once, from 0 on"
        )
    return vectors[order].reshape(*shape, -1)


def _ordered(pa: ModuleType, parquet: ModuleType, path: Path, name: str) -> Array | None:
    """Return the vectors of a table, [n, width], by a column of 0..n-1; None: no table."""
    if not path.exists():
        return None
    table = _read(pa, parquet, path)
    rows = _column(path, table, name)
    vectors = _matrix(path, table, "vector").astype(np.float32)
    order = np.argsort(rows, kind="stable")
    if not np.array_equal(rows[order], np.arange(len(rows))):
        raise CorruptIndexError(f"{path}: {name}: wanted each number once, from 0 on")
    return vectors[order]

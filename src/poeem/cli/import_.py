"""`poeem import`: an index of Faiss, of the authors' release, or plain arrays, as an index file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from poeem.cli.arrays import load_array
from poeem.cli.find import standing_at
from poeem.cli.output import Json, answers, print_json
from poeem.config import BuildConfig
from poeem.errors import ConfigError
from poeem.index import Index
from poeem.interchange.kinds import IMPORTS, import_kind
from poeem.live import swap_index

EXAMPLES = """
poeem import their.faiss items.poeem
poeem import arrays.npz items.poeem --metric l2
poeem import tables items.poeem
poeem import old.index items.poeem --from authors --metric cosine --rotation rotation.npy
"""


def import_index(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="the file, or a folder of Parquet tables")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="the index file to write")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="KIND", help=f"{', '.join(IMPORTS)}; else what the file looks like"
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="ip, l2 or cosine, where the file does not say; else ip. A Faiss index says it",
        ),
    ] = None,
    rotation: Annotated[
        Path | None,
        typer.Option(
            "--rotation",
            metavar="FILE.npy",
            help="float32, dim x dim, beside a file of the authors, which has none: the "
            "transpose of their rotation_matrix",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make an index file of an index of Faiss, of the authors' release, or of plain arrays.

    Faiss: IndexPQ, IndexIVFPQ and residual quantizers, behind rotations or not; the answers stay.
    """
    if kind not in (None, *IMPORTS):
        raise ConfigError(f"--from: got {kind!r}, wanted one of {', '.join(IMPORTS)}")
    kind = kind or import_kind(file)
    if metric is not None and kind == "faiss":
        raise ConfigError(f"--metric: got {metric!r}, but a Faiss index has its own")
    if rotation is not None and kind != "authors":
        raise ConfigError(f"--rotation: got {rotation}, which is for --from authors only")
    index = _read(file, kind, metric, rotation)
    before = standing_at(out)
    swap_index(out, index)
    info = {**index.info(), "path": str(out), "kind": kind, "file_bytes": out.stat().st_size}
    info["replaced"] = None if before is None else asdict(before)
    if json:
        print_json(info)
    else:
        lists = f", {index.num_lists:,} lists" if index.num_lists else ""
        line = f"{out}: from {kind}, {len(index):,} items, metric {index.metric}{lists}"
        line += "" if before is None else str(before)
        answers().print(line, soft_wrap=True)


def _read(file: Path, kind: str, metric: str | None, rotation: Path | None) -> Index:
    if kind == "faiss":
        from poeem.interchange.faiss_import import import_faiss

        return import_faiss(file)
    if kind == "npz":
        from poeem.interchange.npz import import_npz

        return import_npz(file, metric=metric)
    if kind == "parquet":
        from poeem.interchange.parquet import import_parquet

        return import_parquet(file, metric=metric)
    from poeem.interchange.authors import import_authors_index

    matrix = None if rotation is None else load_array("--rotation", rotation)
    return import_authors_index(file, metric=metric or BuildConfig().metric, rotation=matrix)

"""`poeem export`: an index file as one of Faiss, or as plain arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from poeem.cli.find import index_file, open_index
from poeem.cli.output import Json, answers, print_json
from poeem.errors import ConfigError
from poeem.index import Index
from poeem.interchange.kinds import EXPORTS, export_kind

EXAMPLES = """
poeem export runs/shop/items.poeem items.faiss
poeem export runs/shop items.npz
poeem export runs/shop --to parquet tables
"""


def export(
    file: Annotated[
        Path, typer.Argument(metavar="INDEX", help="an index file, or the folder of a run")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="the file to write; for Parquet a new folder")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="KIND",
            help=f"{', '.join(EXPORTS)}; else what the suffix of OUT says",
        ),
    ] = None,
    num_probes: Annotated[
        int | None,
        typer.Option(
            "--num-probes", metavar="N", help="nprobe of a Faiss index with lists; else all lists"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write an index for Faiss, or as plain arrays for anything else.

    Faiss gives the same answers: its tables are set, nothing is trained. Titles and lineage go into
    npz and Parquet, but have no place in a Faiss index. Changes beside the file are part of it.
    """
    if to not in (None, *EXPORTS):
        raise ConfigError(f"--to: got {to!r}, wanted one of {', '.join(EXPORTS)}")
    kind = to or export_kind(out)
    if num_probes is not None and kind != "faiss":
        raise ConfigError(f"--num-probes: got {num_probes}, which {kind} has no place for")
    opened = open_index(index_file(file))
    index = opened if isinstance(opened, Index) else opened.view().to_index()
    if _same(index_file(file), out):
        raise ConfigError(f"out: got {out}, the index itself, wanted another file")
    if kind == "faiss":
        from poeem.interchange.faiss_export import export_faiss

        export_faiss(index, out, num_probes=num_probes)
    elif kind == "npz":
        from poeem.interchange.npz import export_npz

        export_npz(index, out)
    else:
        from poeem.interchange.parquet import export_parquet

        export_parquet(index, out)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    size = sum(path.stat().st_size for path in files)
    if json:
        print_json({"out": str(out), "kind": kind, "num_items": len(index), "bytes": size})
    else:
        line = f"{out}: {kind}, {len(index):,} items, {size:,} bytes"
        answers().print(line, soft_wrap=True)


def _same(one: Path, other: Path) -> bool:
    return os.path.exists(other) and os.path.samefile(one, other)

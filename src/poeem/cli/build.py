"""`poeem build`: from a trained run, or from one's own arrays, to an index file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from poeem.cli.arrays import load_array, read_lines
from poeem.cli.find import standing_at
from poeem.cli.options import Given, settings
from poeem.cli.output import Json, answers, counting, print_json
from poeem.config import BuildConfig
from poeem.errors import ConfigError
from poeem.index import Index, build_index_from_codes
from poeem.live import swap_index

EXAMPLES = """
poeem build runs/shop
poeem build runs/shop --metric cosine --out cosine.poeem
poeem build --codes codes.npy --codebooks codebooks.npy --ids ids.npy --renumber --out mine.poeem
"""


def _array(flag: str, text: str, metavar: str = "FILE.npy") -> Any:
    return typer.Option(
        f"--{flag}", metavar=metavar, help=text, rich_help_panel="from your own arrays"
    )


Codes = Annotated[Path | None, _array("codes", "integers, num_items x num_subspaces")]
Codebooks = Annotated[
    Path | None, _array("codebooks", "float32, num_subspaces x num_codewords x width")
]
Lists = Annotated[Path | None, _array("lists", "integers, one per item; with --centroids")]
Centroids = Annotated[Path | None, _array("centroids", "float32, num_lists x dim, rotated")]
Rotation = Annotated[Path | None, _array("rotation", "float32, dim x dim, orthonormal")]
FamilyName = Annotated[
    str,
    _array("family", "what codewords are: product, or residual (of width dim, added up)", "NAME"),
]
Ids = Annotated[Path | None, _array("ids", "integers, one per item; else 0, 1, 2, ...")]
Renumber = Annotated[
    bool,
    typer.Option(
        "--renumber",
        help="number codewords anew, for faster searches; codes are other numbers then",
        rich_help_panel="from your own arrays",
    ),
]
Titles = Annotated[Path | None, _array("titles", "UTF-8, a line per item", "FILE.txt")]
SampleQueries = Annotated[
    Path | None,
    typer.Option(
        "--sample-queries",
        metavar="FILE.npy",
        help="float32, num_queries x dim: measure recall by lists visited, for --target-recall",
    ),
]


@settings("build")
def build(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="the folder of a trained run")
    ] = None,
    *,
    given: Given,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="the index file; else items.poeem in RUN"),
    ] = None,
    codes: Codes = None,
    codebooks: Codebooks = None,
    lists: Lists = None,
    centroids: Centroids = None,
    rotation: Rotation = None,
    family: FamilyName = "product",
    ids: Ids = None,
    titles: Titles = None,
    sample_queries: SampleQueries = None,
    renumber: Renumber = False,
    json: Json = False,
) -> None:
    """Write an index file, from a trained run or from codes and codebooks of your own."""
    arrays = _load(
        codes=codes,
        codebooks=codebooks,
        lists=lists,
        centroids=centroids,
        rotation=rotation,
        ids=ids,
    )
    if run is not None and (arrays or titles is not None or renumber):
        raise ConfigError("build: got a run and what is for arrays, wanted one of them")
    path = run / "items.poeem" if run is not None and out is None else out
    if path is None or (run is None and (codes is None or codebooks is None)):
        raise ConfigError("build: wanted a run, or --codes, --codebooks and --out")
    before = standing_at(path)
    if run is not None:
        index = _build_run(run, given, out)
        if sample_queries is not None:
            index = index.calibrated(load_array("--sample-queries", sample_queries))
            swap_index(path, index)
    else:
        index = build_index_from_codes(
            **arrays,
            family=family,
            titles=None if titles is None else read_lines("--titles", titles),
            metric=given.config().build.metric,
            renumber=renumber,
            sample_queries=(
                None if sample_queries is None else load_array("--sample-queries", sample_queries)
            ),
        )
        swap_index(path, index)
    info = {**index.info(), "path": str(path), "file_bytes": path.stat().st_size}
    info["replaced"] = None if before is None else asdict(before)
    if json:
        print_json(info)
    else:
        line = f"{path}: {info['num_items']:,} items, {info['file_bytes']:,} bytes"
        line += "" if before is None else str(before)
        answers().print(line, soft_wrap=True)


def _build_run(run: Path, given: Given, out: Path | None) -> Index:
    from poeem.training.folder import RunFolder
    from poeem.training.trained import build_run

    settings_: BuildConfig = given.config(RunFolder(run).read_config()).build
    with counting("encoding") as progress:
        return build_run(run, settings_, out=out, progress=progress)


def _load(**files: Path | None) -> dict[str, Any]:
    return {name: load_array(f"--{name}", path) for name, path in files.items() if path is not None}

"""`poeem train`: model and index in one go."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poeem.cli.options import Given, settings
from poeem.cli.output import Json, answers, counting, print_json, remarks, say
from poeem.cli.schedule import fitted
from poeem.config import Config, TrainConfig
from poeem.config_file import config_toml
from poeem.data.sources import BUNDLED, BUNDLED_TEXTS
from poeem.errors import ConfigError, IndexLockedError

if TYPE_CHECKING:
    from poeem.quantize.health import ScalarWriter
    from poeem.training.prepared import Prepared

EXAMPLES = """
poeem train shop.csv --user-column customer --query-tower history --out runs/shop
poeem train tldr-pages --out runs/tldr
poeem train gowalla --out runs/gowalla --epochs 24 --warm-start-epoch 18
poeem train --out runs/shop --resume
poeem train --show-config > settings.toml
poeem train --config settings.toml --out runs/shop
"""

# `path` is the argument; the loop warms the layer up by epoch, so the layer's own count is unused.
_SKIPPED = ("data.path", "layer.pass_through_steps")


@settings("data", "model", "layer", "train", "build", skip=_SKIPPED)
def train(
    path: Annotated[
        str | None,
        typer.Argument(
            help="a .parquet, .csv, .tsv or .npz table of who had what, the folder of a text set, "
            r"a folder in $POEEM_DATA, or a bundled name \[default: online-retail]",
            show_default=False,
        ),
    ] = None,
    *,
    given: Given,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="where the run goes")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run in --out, after Ctrl-C or a crash")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="replace the run that is in --out, once this one has ended"
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="write scalars to FOLDER/tensorboard")
    ] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="print all settings as TOML, and stop")
    ] = False,
    json: Json = False,
) -> None:
    """Train a model and its index on interactions or a text set, evaluate it, write the index.

    The folder then holds config.toml, checkpoint.safetensors, ids.npz and items.poeem.
    """
    if path is not None:
        given = Given(given.file, {**given.options, "data": _with_path(given, path)})
    config = given.config(_begun(out)) if resume else with_schedule(given)
    if show_config:
        typer.echo(config_toml(config), nl=False)
        return
    if out is None:
        raise ConfigError("--out: missing, wanted a folder for the run, e.g. --out runs/first")
    figures = _train_and_build(anchored(config), out, resume, overwrite, tensorboard)
    if json:
        print_json({"run": str(out), "index": str(out / "items.poeem"), **figures})
        return
    index = figures["index_info"]
    answers().print(
        f"{index['num_items']:,} items in {out / 'items.poeem'}, "
        f"{index['code_bytes_per_item']} bytes of code each"
    )


def with_schedule(given: Given) -> Config:
    """Return the settings, with a warm start that fits the epochs where only these were given."""
    config = given.config()
    train = fitted(config.train, given.names("train"), TrainConfig())
    if train.warm_start_epoch != config.train.warm_start_epoch:
        say(
            f"--warm-start-epoch {train.warm_start_epoch}: scaled to {train.epochs} epochs "
            f"(the default is {TrainConfig().warm_start_epoch} of {TrainConfig().epochs})"
        )
    return dataclasses.replace(config, train=train)


def anchored(config: Config) -> Config:
    """Return settings that name the same table from any working directory."""
    path = Path(config.data.path).expanduser()
    if config.data.path in {**BUNDLED, **BUNDLED_TEXTS} or not path.exists():
        return config
    data = dataclasses.replace(config.data, path=str(path.resolve()))
    return dataclasses.replace(config, data=data)


def _with_path(given: Given, path: str) -> dict[str, Any]:
    return {**given.options.get("data", {}), "path": path}


def _begun(out: Path | None) -> Config:
    """Return the settings of the run to go on with."""
    from poeem.training.folder import RunFolder

    if out is None:
        raise ConfigError("--resume: wanted the run's folder by --out")
    return RunFolder(out).to_resume().read_config()


def _train_and_build(
    config: Config, out: Path, resume: bool, overwrite: bool, tensorboard: bool
) -> dict[str, Any]:
    from poeem.cli.evaluate import show_evaluation
    from poeem.training.display import Bar
    from poeem.training.prepared import prepare
    from poeem.training.run import check_start, train_run
    from poeem.training.trained import build_run, evaluate_run

    check_start(config, out, resume=resume, overwrite=overwrite)
    with counting("reading") as progress:
        prepared = prepare(config, progress=progress)
    say(data_line(prepared))
    state = train_run(
        config,
        out,
        resume=resume,
        overwrite=overwrite,
        prepared=prepared,
        display=Bar,
        writer=_writer(out) if tensorboard else None,
        say=say,
    )
    try:
        with counting("building the index") as progress:
            index = build_run(out, progress=progress)
    except IndexLockedError as error:
        raise IndexLockedError(
            f"{error}; the run itself is whole: build its index later with: poeem build {out}"
        ) from error
    figures: dict[str, Any] = {
        "steps": state.step,
        "index_info": {**index.info(), "path": str(out / "items.poeem")},
    }
    held_out = prepared.validation if config.data.hold_out_valid else prepared.test
    if held_out is not None:
        with counting("evaluating") as progress:
            evaluation = evaluate_run(out, prepared=prepared, progress=progress)
        show_evaluation(evaluation, remarks())
        figures["evaluation"] = evaluation.to_dict()
    return figures


def data_line(prepared: Prepared) -> str:
    """Return what was read, how it was split, and what was left out."""
    table, split = prepared.interactions, prepared.split
    users, items = "users", "items"
    if prepared.texts is not None:
        users, items = "queries", f"documents ({', '.join(prepared.fields)})"
    line = (
        f"{len(table):,} pairs of {table.num_users:,} {users} and {table.num_items:,} {items}; "
        f"split by {split.method}: {len(split.train):,} to train on, {len(split.test):,} to test on"
    )
    if len(split.valid):
        line += f", {len(split.valid):,} to choose settings by"
    left_out = {
        "unreadable rows": table.num_skipped_rows,
        "rows below the rating": table.num_filtered_rows,
        "repeated rows": table.num_repeated_rows,
        "test pairs of items or users not in training": split.num_unseen_item_pairs
        + split.num_unseen_user_pairs,
        "test pairs that are in training": split.num_repeated_pairs,
    }
    texts = prepared.catalogue.item_texts
    empty = 0 if texts is None else sum(not text.strip() for text in texts)
    named = [f"{count:,} {what}" for what, count in left_out.items() if count]
    line += f"; left out: {', '.join(named)}" if named else ""
    line += f"; {empty:,} documents have no text" if empty else ""
    ids = prepared.catalogue.item_ids
    if ids.dtype.kind == "i" and not prepared.catalogue.has_index_ids():
        line += (
            "; an item has the id -1, which says 'no item' in answers: the index numbers the items "
            "from 0 on, and keeps their ids with the titles"
        )
    return line


def _writer(out: Path) -> ScalarWriter:
    from torch.utils.tensorboard import SummaryWriter

    writer: ScalarWriter = SummaryWriter(out / "tensorboard")
    return writer

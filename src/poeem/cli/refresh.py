"""`poeem refresh`: yesterday's index, today's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poeem.cli.find import index_file
from poeem.cli.output import Json, answers, counting, facts_table, print_json

if TYPE_CHECKING:
    from poeem.training.refresh import RefreshReport

EXAMPLES = """
poeem refresh serving/items.poeem runs/today
poeem refresh serving/items.poeem runs/today --dry-run --json
"""


def refresh(
    file: Annotated[
        Path, typer.Argument(metavar="INDEX", help="the index file of yesterday, to be replaced")
    ],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of today's run")],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="users asked for the recall")
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="of the choice of users")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="report only; the file stays as it is")
    ] = False,
    json: Json = False,
) -> None:
    """Encode today's catalogue by today's model, say what changes, and replace the index file.

    The file is replaced at once: who has it open goes on with the old one. Where the layer of the
    model was frozen, only new and changed items are encoded; what changed is known by checksums of
    the vectors, kept beside the file as INDEX.vectors.
    """
    from poeem.training.refresh import refresh as refresh_file

    with counting("encoding") as progress:
        report = refresh_file(
            index_file(file), run, num_queries=sample, seed=seed, dry_run=dry_run, progress=progress
        )
    if json:
        print_json({"index": str(index_file(file)), "run": str(run), **report.to_dict()})
    else:
        answers().print(facts_table(str(index_file(file)), _facts(report)))


def _facts(report: RefreshReport) -> dict[str, str]:
    why = "the layer changed"
    if report.same_layer:
        why = "the layer is the same, but nothing is known of yesterday's vectors"
    if report.same_layer and report.compared:
        why = "new or changed, by checksums of their vectors; the layer is the same"
    lists = "" if report.lists_changed is None else f", {report.lists_changed:.1%} list"
    facts = {
        "items": f"{report.num_items:,}: {report.num_kept:,} kept, {report.num_added:,} new; "
        f"{report.num_removed:,} gone",
        "encoded": f"{report.num_encoded:,}: {why}",
        "changed": f"of the items kept {report.codes_changed:.1%} changed code{lists}",
        "recall@100": f"of the exact answer: {_share(report.recall_before)} before, "
        f"{_share(report.recall_after)} now ({report.num_queries:,} queries of today's model)",
    }
    if report.held_out_missing is not None:
        facts["held-out pairs"] = f"not measured: {report.held_out_missing}"
    else:
        for name in ("recall@20", "recall@100"):
            before, now = (
                None if one is None else one[name]
                for one in (report.held_out_before, report.held_out_after)
            )
            facts[f"held-out {name}"] = f"{_share(before)} before, {_share(now)} now"
    facts["file"] = "replaced" if report.swapped else "left as it is"
    return facts


def _share(value: float | None) -> str:
    return "not comparable" if value is None else f"{value:.4f}"

"""`poeem inspect`: all about an index file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from poeem.cli.find import index_file
from poeem.cli.histograms import bars, code_counts
from poeem.cli.output import Json, answers, facts_table, print_json
from poeem.errors import ConfigError
from poeem.index import Index, active_kernel, available_kernels
from poeem.index.histogram import histogram
from poeem.index.kernels import cpu_features
from poeem.live import pending_changes

EXAMPLES = """
poeem inspect runs/shop/items.poeem
poeem inspect runs/shop --json
poeem inspect --cpu
"""

# Codes looked at when code use is counted, so that a huge file is not read twice.
_SAMPLE = 1_000_000


def inspect(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="an index file, or the folder of a run"),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="read all of it and compare checksums, or only look at it [default: verify]",
        ),
    ] = True,
    cpu: Annotated[
        bool,
        typer.Option("--cpu", help="list what this machine has, the kernels, and which is used"),
    ] = False,
    json: Json = False,
) -> None:
    """Tell all about an index file: what it holds, how large it is, how well its codes are used."""
    if (file is None) != cpu:
        raise ConfigError("inspect: wanted an index file, or --cpu")
    if file is None:
        _show_kernels(json)
        return
    file = index_file(file)
    index = Index.open(file, verify=verify)
    info: dict[str, Any] = {
        **index.info(),
        "file_bytes": file.stat().st_size,
        "checksums": "verified" if verify else "not verified",
        "kernel": active_kernel(),
        "code_use": code_use(index),
        "age_seconds": _age(index.info()["created"]),
        "pending": dataclasses.asdict(pending_changes(file)),
    }
    if json:
        print_json(info)
        return
    console = answers()
    console.print(facts_table(str(file), _facts(info)))
    console.print()
    sizes = {**info["part_bytes"], "header": info["file_bytes"] - info["total_bytes"]}
    parts = {name: f"{size:>14,} bytes" for name, size in sizes.items()}
    console.print(facts_table("Bytes by part", parts))
    if "list_sizes" in info:
        console.print()
        console.print(facts_table("Lists by their items", bars(info["list_sizes"]["histogram"])))
    console.print()
    use = info["code_use"]
    console.print(facts_table("Codewords by their items", bars(use["histogram"])))
    unused = ", ".join(f"{share:.0%}" for share in use["used_by_subspace"])
    console.print(f"used in each subspace: {unused}")


def _show_kernels(as_json: bool) -> None:
    active = active_kernel()
    kernels = [{**one, "in_use": one["name"] == active} for one in available_kernels()]
    if as_json:
        print_json({"cpu_features": cpu_features(), "kernels": kernels})
        return
    lines = {}
    for one in kernels:
        state = "in use" if one["in_use"] else "can be used"
        if not one["supported"]:
            state = f"not on this machine, needs {one['required_cpu']}"
        lines[str(one["name"])] = f"{one['description']}; {state}"
    features = {name: "yes" if has else "no" for name, has in cpu_features().items()}
    answers().print(facts_table("This machine has", features))
    answers().print(facts_table("Kernels, the most wanted first; POEEM_KERNEL chooses", lines))


def code_use(index: Index) -> dict[str, Any]:
    """Return how evenly codewords are used.

    used_codewords: the share that any item has; used_by_subspace: the same of each subspace.
    codeword_kl: KL divergence from even use, nats. codes_counted: items looked at.
    histogram: of the items that a codeword has.
    """
    codes = index.codes[:_SAMPLE]
    num_codewords = index.codebooks.shape[1]
    counts = code_counts(codes, num_codewords)
    shares = counts / len(codes)
    logs = np.log(np.where(counts > 0, shares * num_codewords, 1.0))
    return {
        "used_codewords": float((counts > 0).mean()),
        "used_by_subspace": (counts > 0).mean(axis=1).tolist(),
        "codeword_kl": float((shares * logs).sum(axis=1).mean()),
        "codes_counted": len(codes),
        "histogram": histogram(counts.ravel()),
    }


def _age(created: str) -> float | None:
    """Return the seconds since then; None where the file does not say when."""
    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return None
    return (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()


def _age_in_words(seconds: float | None) -> str:
    if seconds is None:
        return "of unknown age"
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"


def _changes(pending: dict[str, Any]) -> str:
    if pending["series"] is None:
        return "none beside the file"
    return (
        f"{pending['num_changes']:,} changes pending ({pending['num_put']:,} items put, "
        f"{pending['num_removed']:,} removed), the oldest {pending['age_seconds']:.0f} s old, "
        f"{pending['changes_bytes']:,} bytes; generation {pending['generation']}"
    )


def _facts(info: dict[str, Any]) -> dict[str, str]:
    use = info["code_use"]
    facts = {
        "format": f"version {info['format_version']}, checksums {info['checksums']}",
        "created": f"{info['created']} by torch-poeem {info['library_version']}, "
        f"{_age_in_words(info['age_seconds'])}",
        "made by": ", ".join(f"{k} {v}" for k, v in info["lineage"].items()) or "unknown",
        "metric": f"{info['metric']}, normalised: {info['normalisation']}",
        "items": f"{info['num_items']:,}{' with titles' if info['has_titles'] else ''}",
        "vectors": f"dim {info['dim']}{', rotated' if info['has_rotation'] else ''}",
        "codes": f"{info['family']}, {info['num_subspaces']} of {info['num_codewords']:,} "
        f"codewords ({info['code_bits']} bits each)",
        "found by": _found_by(info["family"], info["encoding"]),
        "size": f"{info['file_bytes']:,} bytes; per item {info['code_bytes_per_item']} of code, "
        f"{info['file_bytes'] / info['num_items']:.1f} in all",
        "code use": f"{use['used_codewords']:.1%} of codewords used, "
        f"KL from even {use['codeword_kl']:.3f} nats",
        "lists": "none",
        "kernel": info["kernel"],
        "changes": _changes(info["pending"]),
    }
    if (sizes := info.get("list_sizes")) is not None:
        facts["lists"] = (
            f"{info['num_lists']:,}; items in one: {sizes['min']} to {sizes['max']}, "
            f"median {sizes['median']:g}; {sizes['empty']} empty"
        )
    return facts


def _found_by(family: str, encoding: Mapping[str, Any]) -> str:
    """Return how codes are found, those of new items too."""
    metric, weight = encoding["error_metric"], encoding["parallel_weight"]
    words = ["a metric of errors" if metric else "the plain distance"]
    if weight:
        words.append(f"errors along the vector by {weight:g} more")
    if family == "residual":
        words.append(f"beam {encoding['beam']}")
    return ", ".join(words)

"""`poeem inspect`: all about an index file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from poeem.cli.output import Json, answers, facts_table, print_json
from poeem.index import Index, active_kernel

EXAMPLES = """
poeem inspect runs/shop/items.poeem
poeem inspect runs/shop/items.poeem --json
"""

# Codes looked at when code use is counted, so that a huge file is not read twice.
_SAMPLE = 1_000_000


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="an index file")],
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="read all of it and compare checksums, or only look at it [default: verify]",
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Tell all about an index file: what it holds, how large it is, how well its codes are used."""
    index = Index.open(file, verify=verify)
    info: dict[str, Any] = {
        **index.info(),
        "checksums": "verified" if verify else "not verified",
        "kernel": active_kernel(),
        "code_use": code_use(index),
    }
    if json:
        print_json(info)
        return
    console = answers()
    console.print(facts_table(str(file), _facts(info)))
    console.print()
    parts = {name: f"{size:>14,} bytes" for name, size in info["part_bytes"].items()}
    console.print(facts_table("Bytes by part", parts))


def code_use(index: Index) -> dict[str, float]:
    """Return the share of codewords used, and how uneven their use is (KL from uniform, nats)."""
    codes = index.codes[:_SAMPLE]
    num_codewords = index.codebooks.shape[1]
    used, divergence = [], []
    for column in codes.T:
        shares = np.bincount(column, minlength=num_codewords) / len(codes)
        used.append((shares > 0).mean())
        positive = shares[shares > 0]
        divergence.append((positive * np.log(positive * num_codewords)).sum())
    return {
        "used_codewords": float(np.mean(used)),
        "codeword_kl": float(np.mean(divergence)),
        "codes_counted": len(codes),
    }


def _facts(info: dict[str, Any]) -> dict[str, str]:
    use = info["code_use"]
    facts = {
        "format": f"version {info['format_version']}, checksums {info['checksums']}",
        "created": f"{info['created']} by torch-poeem {info['library_version']}",
        "made by": ", ".join(f"{k} {v}" for k, v in info["lineage"].items()) or "unknown",
        "metric": info["metric"],
        "items": f"{info['num_items']:,}{' with titles' if info['has_titles'] else ''}",
        "vectors": f"dim {info['dim']}{', rotated' if info['has_rotation'] else ''}",
        "codes": f"{info['num_subspaces']} of {info['num_codewords']:,} codewords "
        f"({info['code_bits']} bits each)",
        "size": f"{info['total_bytes']:,} bytes; per item {info['code_bytes_per_item']} of code, "
        f"{info['bytes_per_item']:.1f} in all",
        "code use": f"{use['used_codewords']:.1%} of codewords used, "
        f"KL from even {use['codeword_kl']:.3f} nats",
        "lists": "none",
        "kernel": info["kernel"],
    }
    if (sizes := info.get("list_sizes")) is not None:
        facts["lists"] = (
            f"{info['num_lists']:,}; items in one: {sizes['min']} to {sizes['max']}, "
            f"median {sizes['median']:g}; {sizes['empty']} empty"
        )
    return facts

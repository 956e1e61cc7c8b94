"""Writes the figures of README.md from the files in results/, so that none is typed by hand.

python benchmarks/readme.py            # rewrite
python benchmarks/readme.py --check    # exit 1 if README and results differ; a test does this
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def result(name: str) -> dict[str, Any]:
    """Return one result file."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def link(name: str) -> str:
    """Return a link to a result file."""
    return f"[{name}.json](benchmarks/results/{name}.json)"


SETS = {"gowalla": "40,981 places", "amazon-book-kgat": "24,915 books"}
ROWS = {
    "exact, float twin": "exact search over float vectors, 256 bytes an item",
    "Faiss PQ, 8 bytes": "Faiss PQ, built afterwards, 8 bytes",
    "Faiss OPQ+PQ, 8 bytes": "Faiss OPQ+PQ, built afterwards, 8 bytes",
    "Faiss residual (RQ), 8 bytes": "Faiss residual quantizer, built afterwards, 8 bytes",
    "joint, 8 bytes": "**torch-poeem, trained jointly, 8 bytes**",
}


def headline() -> str:
    """Return the one result that matters, as a table."""
    found = {name: result(f"joint_vs_after_{name}") for name in SETS}
    columns = [(name, metric) for name in SETS for metric in ("recall@20", "recall@100")]
    titles = [f"{name}, {SETS[name]}: {metric}" for name, metric in columns]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(columns) + 1) + "|"]
    for key, label in ROWS.items():
        figures = [f"{found[name]['mean'][key][metric]:.4f}" for name, metric in columns]
        if label.startswith("**"):
            figures = [f"**{figure}**" for figure in figures]
        lines.append(f"| {label} | " + " | ".join(figures) + " |")
    seeds = {len(each["seeds"]) for each in found.values()}
    source = "One seed" if seeds == {1} else f"Means of {min(seeds)} or more seeds"
    files = " and ".join(link(f"joint_vs_after_{name}") for name in SETS)
    lines += ["", f"{source}, defaults of the command line: {files}."]
    return "\n".join(lines)


def table() -> str:
    """Return the other figures, a line each."""
    tutorial, step = result("tutorial")["mean"], result("step_cost")["figures"]
    build, memory = result("build_time")["figures"], result("search_memory")["figures"]
    shop = {(r["name"], r["bytes_per_item"]): r for r in result("online_retail")["rows"]}
    ours, opq, rq = (
        shop[n, 8]["recall_at_100"]
        for n in ("torch-poeem (joint)", "Faiss OPQ+PQ", "Faiss residual (RQ)")
    )
    exact = next(r for (n, _), r in shop.items() if n.startswith("exact"))["recall_at_100"]
    one_probe = tutorial["joint index, 1 of 8 lists"]["precision@100"]
    after = tutorial["Faiss IVF8,PQ8 afterwards, 1 probe"]["precision@100"]
    float_twin = tutorial["exact, float twin"]["precision@100"]
    worst = max(v["ratio"] for v in memory.values())
    rows = [
        ("what", "measured", "file"),
        ("---", "---", "---"),
        (
            "real purchases (`scripts/demo`), 8 bytes: recall@100",
            f"{ours:.4f}; Faiss OPQ+PQ {opq:.4f}, residual {rq:.4f}, float {exact:.4f}",
            link("online_retail"),
        ),
        (
            "the authors' tutorial, 1 of 8 lists probed: precision@100",
            f"{one_probe:.4f}; Faiss IVF,PQ {after:.4f}, float {float_twin:.4f}; published: theirs "
            ".9805, Faiss .9610, float .9989",
            link("tutorial"),
        ),
        (
            "a training step with the layer against the same step without, CPU",
            f"{step['num_lists=0']['ratio_of_medians']:.2f}x; with 256 lists "
            f"{step['num_lists=256']['ratio_of_medians']:.2f}x",
            link("step_cost"),
        ),
        (
            "trained model to index on disk, 1,000,000 items, against Faiss OPQ+PQ train and add",
            f"{build['faiss_over_ours']:.0f}x faster",
            link("build_time"),
        ),
        (
            "peak memory of open and search beyond the interpreter, over code bytes and ids",
            f"at most {worst:.2f}x",
            link("search_memory"),
        ),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def rendered(text: str) -> str:
    """Return README's text with the figures of the result files."""
    for name, block in (("headline", headline()), ("table", table())):
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        text = re.sub(pattern, lambda m, b=block: m[1] + b + m[2], text, flags=re.S)
    return text


def main() -> None:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text()
    wanted = rendered(text)
    if check and text != wanted:
        sys.exit("README.md differs from benchmarks/results: run python benchmarks/readme.py")
    if not check:
        README.write_text(wanted)


if __name__ == "__main__":
    main()

"""The README's tables of the comparison, from its result files."""

from __future__ import annotations

import math
from typing import Any

from readme_files import exists, link, means, result

SETS = {"gowalla": "40,981 places", "amazon-book-kgat": "24,915 books"}
COMPARED = {
    **SETS,
    "movielens-1m": "3,533 films",
    "online-retail": "3,665 goods",
    "tldr-pages": "7,425 pages of text",
    "wordnet-gloss": "117,659 sets of words",
}


def compared() -> dict[str, dict[str, Any]]:
    """Return the comparisons that were made, by data set."""
    return {n: result(f"compare_{n}") for n in COMPARED if exists(f"compare_{n}")}


def at(
    found: dict[str, Any], num_bytes: int, name: str, metric: str = "recall@100"
) -> float | None:
    """Return a mean of a comparison; None where there is none."""
    for mean in found["mean"]:
        if (mean["bytes"], mean["name"]) == (num_bytes, name) and mean["figures"]:
            return mean["figures"][metric]["mean"]
    return None


def ratio(found: dict[str, Any], num_bytes: int, name: str, other: str) -> float | None:
    """Return recall@100 of one over that of another, over the seeds that both have."""
    seeds = {
        key: {r["seed"]: r["recall@100"] for r in counted(found, num_bytes, key)}
        for key in (name, other)
    }
    shared = seeds[name].keys() & seeds[other].keys()
    if not shared:
        return None
    return sum(seeds[name][s] for s in shared) / sum(seeds[other][s] for s in shared)


def counted(found: dict[str, Any], num_bytes: int, name: str) -> list[dict[str, Any]]:
    """Return the measured rows that are in a mean: those of other settings are in none."""
    key = num_bytes, name
    seeds = {seed for m in found["mean"] if (m["bytes"], m["name"]) == key for seed in m["seeds"]}
    return [
        row
        for row in found["rows"]
        if (row["bytes"], row["name"]) == key and row["seed"] in seeds and "cannot" not in row
    ]


def ours_of(found: dict[str, Any]) -> str:
    """Return the name of our row: residual codes where they were run, else product codes."""
    run = {mean["name"] for mean in found["mean"] if mean["figures"]}
    return "ours-residual" if "ours-residual" in run else "ours-product"


def comparison(found: dict[str, dict[str, Any]]) -> str:
    """Return ours against the best built afterwards, a line for each set and budget."""
    if not found:
        return ""
    head = (
        "data",
        "bytes",
        "seeds",
        "exact",
        "best built afterwards",
        "ours, residual codes",
        "over the best",
        "over exact",
        "the paper's recipe over OPQ+PQ",
        "seconds to build, the best / ours",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, each in found.items():
        for verdict in each["verdicts"]:
            if verdict["name"] == ours_of(each):
                lines.append("| " + " | ".join(_line(name, each, verdict)) + " |")
    lines += [
        "",
        "Recall@100, means over the seeds that ours and the best both have (exact, over exact and "
        "over OPQ: all that there are); every rival that was run, other "
        f"figures and spreads: {', '.join(link(f'compare_{name}') for name in found)}. Settings "
        "are the defaults; of online-retail those of `poeem demo`, which was made for it. Seconds "
        "are processor time, from trained vectors (ours: a trained model, which has its codes "
        "already) to an index file; machines differed by up to two times. "
        + " ".join((_not_run(found), _in_use(found), _at_20(found), _ceiling(found))).strip(),
    ]
    return "\n".join(lines)


def _ours(found: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return set, comparison and verdict of ours, case by case."""
    return [
        (name, each, verdict)
        for name, each in found.items()
        for verdict in each["verdicts"]
        if verdict["name"] == ours_of(each)
    ]


def _in_use(found: dict[str, dict[str, Any]]) -> str:
    """Say how many codewords are in use where fewest are."""
    least, where = 1.0, ""
    for name, each, verdict in _ours(found):
        rows = counted(each, verdict["bytes"], verdict["name"])
        shares = [r["used_codewords"] for r in rows if "used_codewords" in r]
        used = sum(shares) / len(shares) if shares else 1.0
        if used < least:
            least, where = used, f" ({name} at {verdict['bytes']})"
    down = math.floor(1000 * least) / 1000
    return f"Of our codewords at least {down:.1%}{where} are in use after training."


def _at_20(found: dict[str, dict[str, Any]]) -> str:
    """Say where ours is below the best built afterwards at recall@20."""
    behind = []
    for name, each, verdict in _ours(found):
        size = verdict["bytes"]
        others = [m for m in each["mean"] if (m["kind"], m["bytes"]) == ("afterwards", size)]
        best = max(m["figures"]["recall@20"]["mean"] for m in others if m["figures"])
        share = (at(each, size, verdict["name"], "recall@20") or 0.0) / best
        if share < 1:
            behind.append(f"{name} at {size} ({share:.3f} of the best)")
    if not behind:
        return "At recall@20 it is ahead in all."
    return f"At recall@20 it is behind in {', '.join(behind)}."


def _ceiling(found: dict[str, dict[str, Any]]) -> str:
    """Say how far above OPQ+PQ of 8 bytes exact search is: nearly all that there is to gain."""
    parts = []
    for name, each in found.items():
        exact, opq = at(each, 0, "float"), at(each, 8, "opq")
        if exact and opq:
            parts.append(f"{exact / opq:.3f} on {name}")
    return f"Over OPQ+PQ of 8 bytes exact search itself is {', '.join(parts)}." if parts else ""


def _not_run(found: dict[str, dict[str, Any]]) -> str:
    """Say where ours is behind, and where the strongest rival, our own addition, is missing."""
    verdicts = _ours(found)
    behind = [f"{n} at {v['bytes']}" for n, _, v in verdicts if v["over_best"] < 1]
    missing = [
        f"{n} at {v['bytes']}" for n, each, v in verdicts if at(each, v["bytes"], "rq-wide") is None
    ]
    text = f"Ours is ahead in {len(verdicts) - len(behind)} of {len(verdicts)} cases"
    text += f", behind in {', '.join(behind)}." if behind else "."
    if missing:
        text += f" Faiss residual with a wide beam was not run on {', '.join(missing)}."
    searched = [
        f"{n} at {v['bytes']}" for n, each, v in verdicts if at(each, v["bytes"], "lsq") is not None
    ]
    if searched:
        text += f" Faiss local search (LSQ) was run on {', '.join(searched)} alone."
    return text


def _line(name: str, found: dict[str, Any], verdict: dict[str, Any]) -> list[str]:
    size = verdict["bytes"]
    exact = at(found, 0, "float")
    paper = ratio(found, size, "paper", "opq")
    return [
        name,
        str(size),
        str(verdict["seeds"]),
        "-" if exact is None else f"{exact:.4f}",
        f"{verdict['best_recall']:.4f}, {verdict['best']}",
        f"**{verdict['recall']:.4f}**",
        f"**{verdict['over_best']:.3f}**",
        "-" if verdict["over_exact"] is None else f"{verdict['over_exact']:.3f}",
        "-" if paper is None else f"{paper:.3f}",
        _seconds_to_build(found, size, verdict["best"], ours_of(found)),
    ]


def _seconds_to_build(found: dict[str, Any], size: int, best: str, ours: str) -> str:
    """Return the processor time of building the best index and ours, means over seeds."""
    seconds = {}
    for mean in found["mean"]:
        if mean["bytes"] == size and mean.get("build_cpu_seconds") is not None:
            seconds[mean["label"]] = seconds[mean["name"]] = mean["build_cpu_seconds"]
    if best not in seconds or ours not in seconds:
        return "-"
    return f"{seconds[best]:.1f} / {seconds[ours]:.2f}"


HEADLINE = {
    "float": "exact search over float vectors, 256 bytes an item",
    "opq": "Faiss OPQ+PQ, built afterwards, 8 bytes",
    "best": "the best of {kinds} kinds of index built afterwards, 8 bytes",
    "fixed-codes": "codes of OPQ fixed, codebooks and query tower trained, 8 bytes",
    "paper": "the paper's recipe, trained jointly, 8 bytes",
    "ours": "**torch-poeem, trained jointly, 8 bytes**",
}


def headline() -> str:
    """Return the one result that matters, as a table."""
    found = compared()
    columns = [(name, metric) for name in SETS for metric in ("recall@20", "recall@100")]
    titles = [f"{name}, {SETS[name]}: {metric}" for name, metric in columns]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(columns) + 1) + "|"]
    after = {name: _afterwards(found[name]) for name in SETS}
    for key, label in HEADLINE.items():
        cells = []
        for name, metric in columns:
            each = found[name]
            row = ours_of(each) if key == "ours" else key
            names = after[name] if key == "best" else [row]
            values = [at(each, 0 if key == "float" else 8, n, metric) for n in names]
            known = [value for value in values if value is not None]
            figure = f"{max(known):.4f}" if known else "-"
            if key not in ("best", "ours") and known and _seeds(each, row) < _seeds(each, "float"):
                figure += f" ({means({_seeds(each, row)})})"
            cells.append(f"**{figure}**" if key == "ours" else figure)
        if set(cells) != {"-"}:
            kinds = min(len(names) for names in after.values())
            lines.append(f"| {label.format(kinds=kinds)} | " + " | ".join(cells) + " |")
    counts = {name: len({row["seed"] for row in found[name]["rows"]}) for name in SETS}
    seeds = ", ".join(f"{name} {means({count})}" for name, count in counts.items())
    files = " and ".join(link(f"compare_{name}") for name in SETS)
    lines += [
        "",
        f"Test pairs, defaults of the command line; {seeds}: {files}. The index's settings were "
        "chosen on gowalla's validation pairs, the towers' earlier with an eye on its test users, "
        "which the float twin has too. On other sets' validation pairs: dropout of codewords on "
        "amazon-book's, which alone of these gets it; what codes longer than 8 bytes get on those "
        "of all three sets of ids; what texts and histories get on theirs." + _control(found),
    ]
    return "\n".join(lines)


def _seeds(found: dict[str, Any], name: str) -> int:
    """Return over how many seeds there are figures of 8 bytes, or of float vectors."""
    return len(counted(found, 0 if name == "float" else 8, name))


def _control(found: dict[str, dict[str, Any]]) -> str:
    """Say what the loss of our last epoch would do for an index built afterwards."""
    parts = [text for name in SETS if (text := _longer_twin(name, found[name]))]
    if not parts:
        return ""
    return (
        " Part of our gain is not the index but the loss of the last epoch, against items of the "
        "whole catalogue: a float twin trained an epoch longer with it reaches "
        f"{'; '.join(parts)}."
    )


def _longer_twin(name: str, found: dict[str, Any]) -> str:
    """Say how far a longer twin of a set gets; nothing where none was trained."""
    file = f"longer_twin_{name}"
    if not exists(file):
        return ""
    rows = result(file)["rows"]
    seeds = {row["seed"] for row in rows}
    keys = ("longer, exact", "longer, Faiss residual, wide beam")
    exact, built = (sum(row[key] for row in rows) / len(rows) for key in keys)
    own = [row["recall@100"] for row in counted(found, 8, ours_of(found)) if row["seed"] in seeds]
    ours = sum(own) / len(own)
    return (
        f"{exact:.4f} on {name}, the best index built of that {built:.4f}, over which ours is "
        f"{ours / built:.3f} ({means({len(seeds)})}, {link(file)})"
    )


def _afterwards(found: dict[str, Any]) -> list[str]:
    """Return the names of indexes of 8 bytes built afterwards."""
    there = [mean for mean in found["mean"] if mean["figures"]]
    return [mean["name"] for mean in there if (mean["kind"], mean["bytes"]) == ("afterwards", 8)]

"""Writes the figures of both READMEs from the files in results/, so that none is typed by hand.

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

sys.path.insert(0, str(Path(__file__).parent / "engine"))
import tables as engine_tables

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ENGINE = ROOT / "benchmarks" / "engine" / "README.md"


def result(name: str) -> dict[str, Any]:
    """Return one result file."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def link(name: str) -> str:
    """Return a link to a result file."""
    return f"[{name}.json](benchmarks/results/{name}.json)"


SETS = {"gowalla": "40,981 places", "amazon-book-kgat": "24,915 books"}
COMPARED = {
    **SETS,
    "movielens-1m": "3,533 films",
    "online-retail": "3,665 goods",
    "tldr-pages": "7,425 pages of text",
}


def compared() -> dict[str, dict[str, Any]]:
    """Return the comparisons that were made, by data set."""
    folder = ROOT / "benchmarks" / "results"
    return {n: result(f"compare_{n}") for n in COMPARED if (folder / f"compare_{n}.json").exists()}


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
        key: {r["seed"]: r["recall@100"] for r in found["rows"] if _is(r, num_bytes, key)}
        for key in (name, other)
    }
    shared = seeds[name].keys() & seeds[other].keys()
    if not shared:
        return None
    return sum(seeds[name][s] for s in shared) / sum(seeds[other][s] for s in shared)


def _is(row: dict[str, Any], num_bytes: int, name: str) -> bool:
    return (row["bytes"], row["name"]) == (num_bytes, name) and "cannot" not in row


def ours_of(found: dict[str, Any]) -> str:
    """Return the name of our row: residual codes where they were run, else product codes."""
    run = {mean["name"] for mean in found["mean"] if mean["figures"]}
    return "ours-residual" if "ours-residual" in run else "ours-product"


def _means(seeds: set[int]) -> str:
    """Say over how many seeds figures are."""
    count = " or ".join(map(str, sorted(seeds)))
    return "one seed" if count == "1" else f"means of {count} seeds"


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
        "Recall@100, means over the seeds that ours and the best both have; every rival that was "
        "run, other "
        f"figures and spreads: {', '.join(link(f'compare_{name}') for name in found)}. Settings "
        "are the defaults; of online-retail those of `poeem demo`, which was made for it. Seconds "
        "are processor time, from trained vectors to an index file. " + _not_run(found),
    ]
    return "\n".join(lines)


def _not_run(found: dict[str, dict[str, Any]]) -> str:
    """Say where ours is behind, and where the strongest rival, our own addition, is missing."""
    verdicts = [
        (name, verdict, each)
        for name, each in found.items()
        for verdict in each["verdicts"]
        if verdict["name"] == ours_of(each)
    ]
    behind = [f"{n} at {v['bytes']}" for n, v, _ in verdicts if v["over_best"] < 1]
    missing = [
        f"{n} at {v['bytes']}" for n, v, each in verdicts if at(each, v["bytes"], "rq-wide") is None
    ]
    text = f"Ours is ahead in {len(verdicts) - len(behind)} of {len(verdicts)} cases"
    text += f", behind in {', '.join(behind)}." if behind else "."
    if missing:
        text += f" Faiss residual with a wide beam was not run on {', '.join(missing)}."
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


def paper_figures() -> list[tuple[str, str, str]]:
    """Return a line for each of the paper's own figures that was made."""
    name = "paper_figures_gowalla"
    if not (ROOT / "benchmarks" / "results" / f"{name}.json").exists():
        return []
    found, lines = result(name)["figures"], []
    if "codewords" in found:
        text = "; ".join(
            f"{label} {v['used_codewords'][0]:.1%} and {v['used_codewords'][-1]:.1%}, recall@100 "
            f"{v['quantized_recall@100'][-1]:.4f}"
            for label, v in found["codewords"].items()
        )
        what = "gowalla, the paper's recipe: codewords in use where the index begins and in the end"
        lines.append((what, f"{text} (one seed)", link(name)))
    if "rotation" in found:
        text = "; ".join(
            f"{label} distortion {v['distortion'][-1]:.3f}, recall@100 "
            f"{v['quantized_recall@100'][-1]:.4f}"
            for label, v in found["rotation"].items()
        )
        what = "gowalla, the paper's recipe: with and without a rotation"
        lines.append((what, f"{text} (one seed)", link(name)))
    if "build" in found:
        seconds, ends = found["build"]["seconds"], (0, -1)
        text = "; ".join(
            f"{found['build']['items'][at]:,} items: ours {seconds['ours'][at]:.2f}, Faiss "
            f"residual {seconds['faiss_rq'][at]:.0f}, product codes "
            f"{seconds['ours_product'][at]:.2f}, OPQ+PQ {seconds['faiss_opq'][at]:.0f}"
            for at in ends
        )
        what = "seconds from trained vectors to an index of 8 bytes an item (other work beside)"
        lines.append((what, text, link(name)))
    if "probes" in found:
        ratios, recalls = found["probes"]["learned over k-means, 1 probe"], found["probes"]
        parts = []
        for probed in (1, 8, 256):
            place = recalls["num_probes"].index(probed)
            at_place = {k: v[place] for k, v in recalls["recall@100"].items()}
            ours, best = at_place["learned lists, codes"], at_place["k-means lists, residual codes"]
            parts.append(f"{probed}: {ours:.4f} against {best:.4f} of Faiss IVF+residual")
        shares = recalls["share of items in a query's first list"]
        text = f"{ratios['codes']:.3f}x where 1 is probed, {_means({len(recalls['seeds'])})}; "
        text += "; ".join(parts)
        text += f"; items in the first list {shares['learned']:.2%} against {shares['k-means']:.2%}"
        lines.append(
            (
                "gowalla, 256 lists learned with the model: recall@100 by lists probed",
                text,
                link(name),
            )
        )
    return lines


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
                figure += f" ({_means({_seeds(each, row)})})"
            cells.append(f"**{figure}**" if key == "ours" else figure)
        if set(cells) != {"-"}:
            kinds = min(len(names) for names in after.values())
            lines.append(f"| {label.format(kinds=kinds)} | " + " | ".join(cells) + " |")
    counts = {name: len({row["seed"] for row in found[name]["rows"]}) for name in SETS}
    seeds = ", ".join(f"{name} {_means({count})}" for name, count in counts.items())
    files = " and ".join(link(f"compare_{name}") for name in SETS)
    lines += [
        "",
        f"Test pairs, defaults of the command line; {seeds}: {files}. The index's settings were "
        "chosen on gowalla's validation pairs, the towers' earlier with an eye on its test users, "
        "which the float twin has too; dropout of codewords, which amazon-book alone of these sets "
        "gets, on amazon-book's validation pairs." + _control(found),
    ]
    return "\n".join(lines)


def _seeds(found: dict[str, Any], name: str) -> int:
    """Return over how many seeds there are figures of 8 bytes, or of float vectors."""
    return sum(_is(row, 0 if name == "float" else 8, name) for row in found["rows"])


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
    if not (ROOT / "benchmarks" / "results" / f"{file}.json").exists():
        return ""
    rows = result(file)["rows"]
    seeds = {row["seed"] for row in rows}
    keys = ("longer, exact", "longer, Faiss residual, wide beam")
    exact, built = (sum(row[key] for row in rows) / len(rows) for key in keys)
    own = [
        row["recall@100"]
        for row in found["rows"]
        if _is(row, 8, ours_of(found)) and row["seed"] in seeds
    ]
    ours = sum(own) / len(own)
    return (
        f"{exact:.4f} on {name}, the best index built of that {built:.4f}, over which ours is "
        f"{ours / built:.3f} ({_means({len(seeds)})}, {link(file)})"
    )


def _afterwards(found: dict[str, Any]) -> list[str]:
    """Return the names of indexes of 8 bytes built afterwards."""
    there = [mean for mean in found["mean"] if mean["figures"]]
    return [mean["name"] for mean in there if (mean["kind"], mean["bytes"]) == ("afterwards", 8)]


def against_scann() -> list[tuple[str, str, str]]:
    """Return the engine beside ScaNN at its recalls, if codes with a weight were measured."""
    found = result("engine_curves_1m")
    if "parallel_weight" not in found:
        return []
    parts = []
    for label, case in (("one query", "one, 1 thread"), ("batches", "batch, 1 thread")):
        points = [
            point
            for rival in ("scann", "scann, 4 times the leaves")
            for point in engine_tables.ratios_at_recalls(found, rival, case)
        ]
        best = max(points)
        near = min(ratio for recall, ratio, _ in points if recall >= best[0] - 0.01)
        slowest = min(ratio for _, ratio, _ in points)
        parts.append(
            f"{label} {near:.1f}x faster near its best recall, {slowest:.1f}x at the least"
        )
    what = (
        f"{found['items']:,} vectors of dim {found['dim']} trained without codes, "
        f"{found['bytes']} bytes, against ScaNN's at equal recall@10 of the true neighbours"
    )
    mine = max(
        point["recall10_at_10"]
        for name, each in found["rivals"].items()
        if name.startswith("poeem")
        for point in each["points"]
    )
    recalls = f"its best is {best[0]:.3f}, ours {mine:.3f}"
    return [(what, f"{'; '.join(parts)} ({recalls})", link("engine_curves_1m"))]


def against_hnswlib() -> tuple[str, str, str]:
    """Return a jointly trained index beside a graph over its twin's float vectors."""
    five, eight = result("engine_task_gowalla_5"), result("engine_task_gowalla")
    one, batch = (five["at_equal_recall"][case] for case in ("one, 1 thread", "batch, 1 thread"))
    recalls = [found["points"]["poeem best"]["recall@100"] for found in (five, eight)]
    best = max(point["recall@100"] for name, point in eight["points"].items() if "hnswlib" in name)
    what = (
        "gowalla, 5 bytes an item trained jointly, against hnswlib over the float twin's vectors, "
        "at equal recall@100 of the task, one thread"
    )
    measured = (
        f"{one['times_ours']:.1f}x faster for one query, {batch['times_ours']:.1f}x in batches, in "
        f"1/{one['its_bytes_over_ours']:.0f} of the memory (recall@100 {recalls[0]:.4f}; with 8 "
        f"bytes {recalls[1]:.4f}, its best setting {best:.4f})"
    )
    links = f"{link('engine_task_gowalla_5')}, {link('engine_task_gowalla')}"
    return what, measured, links


def table() -> str:
    """Return the other figures, a line each."""
    tutorial, step = result("tutorial")["mean"], result("step_cost")["figures"]
    build, memory = result("build_time")["figures"], result("search_memory")["figures"]
    shop = {(r["name"], r["bytes_per_item"]): r for r in result("online_retail")["rows"]}
    ours, opq, rq = (
        shop[n, 8]["recall_at_100"]
        for n in ("torch-poeem (joint)", "Faiss OPQ+PQ", "Faiss residual (RQ)")
    )
    ours20, rq20 = (
        shop[n, 8]["recall_at_20"] for n in ("torch-poeem (joint)", "Faiss residual (RQ)")
    )
    exact = next(r for (n, _), r in shop.items() if n.startswith("exact"))["recall_at_100"]
    one_probe = tutorial["joint index, 1 of 8 lists"]["precision@100"]
    after = tutorial["Faiss IVF8,PQ8 afterwards, 1 probe"]["precision@100"]
    float_twin = tutorial["exact, float twin"]["precision@100"]
    scan, zen = (
        result(name)["results"]["8 bytes"]["times_ours"]
        for name in ("engine_flat", "engine_flat_zen4")
    )
    texts = result("text")["figures"]["tldr-pages"]
    turns = [result(name) for name in ("rotation_cost", "rotation_cost_intel")]
    worst = max(v["ratio"] for v in memory.values())
    exchange = result("interchange")["summary"]
    kills, live = result("kills"), result("live")["results"]
    flat, lists = live["no lists"], live["256 lists"]
    rows = [
        ("what", "measured", "file"),
        ("---", "---", "---"),
        (
            "real purchases (`scripts/demo`), 8 bytes: recall@100",
            f"{ours:.4f}; Faiss OPQ+PQ {opq:.4f}, residual {rq:.4f}, float {exact:.4f}; recall@20: "
            f"{ours20:.4f}, residual {rq20:.4f} (1,540 users, one seed)",
            link("online_retail"),
        ),
        (
            "the authors' tutorial, 1 of 8 lists probed: precision@100",
            f"{one_probe:.4f} (the loss on lists was found on this data); "
            f"Faiss IVF,PQ {after:.4f}, float {float_twin:.4f}; published: theirs "
            ".9805, Faiss .9610, float .9989",
            link("tutorial"),
        ),
        (
            "a training step with the layer against the same step without, CPU",
            f"{step['num_lists=0']['ratio_of_medians']:.2f}x, residual codes "
            f"{step['residual codes, num_lists=0']['ratio_of_medians']:.2f}x; with 256 lists and "
            "the loss that teaches which of them to probe "
            f"{step['num_lists=256, loss on lists']['ratio_of_medians']:.2f}x and "
            f"{step['residual codes, num_lists=256, loss on lists']['ratio_of_medians']:.2f}x",
            link("step_cost"),
        ),
        (
            f"texts (tldr-pages, bundled), {texts['held_out_queries']:,} held-out queries, 8 bytes "
            "a document: recall@100",
            f"{texts['index, 8 bytes']['recall@100']:.4f}; exact search over float vectors "
            f"{texts['trained, exact']['recall@100']:.4f}, before training "
            f"{texts['at the start, exact']['recall@100']:.4f} (one seed)",
            link("text"),
        ),
        (
            "a step of the rotation (greedy Givens, dim 512) against one SVD, processor time",
            ", ".join(
                f"{one['one_step']['dim 512']['svd_over_givens_processor']:.1f}x cheaper on "
                f"{one['machine']['processor'].replace('(R)', '').removesuffix(' Processor')}"
                for one in turns
            ),
            f"{link('rotation_cost')}, {link('rotation_cost_intel')}",
        ),
        (
            "trained model to index on disk, 1,000,000 items, against Faiss train and add",
            f"residual codes {build['faiss_over_ours']['ours']:.0f}x faster than Faiss residual, "
            f"product codes {build['faiss_over_ours']['ours_product']:.0f}x than OPQ+PQ",
            link("build_time"),
        ),
        (
            "exact scan of 1,000,000 items of 8 bytes, one thread, against Faiss IndexPQ",
            f"{scan['one, 1 thread']['faiss pq8']['cpu']:.0f}x faster for one query, "
            f"{scan['batch, 1 thread']['faiss pq8']['cpu']:.0f}x in batches, on an Intel Xeon; "
            f"{zen['one, 1 thread']['faiss pq8']['cpu']:.0f}x and "
            f"{zen['batch, 1 thread']['faiss pq8']['cpu']:.0f}x on a Zen 4",
            f"{link('engine_flat')}, {link('engine_flat_zen4')}",
        ),
        *against_scann(),
        against_hnswlib(),
        (
            "peak memory of open and search beyond the interpreter, over code bytes and ids",
            f"at most {worst:.2f}x",
            link("search_memory"),
        ),
        (
            "a live index whose writer was killed (SIGKILL) at random moments",
            f"{kills['kills']} times; acknowledged changes lost: "
            f"{kills['acknowledged_changes_lost']} of {kills['changes_acknowledged']:,}",
            link("kills"),
        ),
        (
            "Faiss from our file and we from its, first 100 of 1,000 queries, "
            f"{exchange['cases']} indexes",
            f"equal up to ties: {exchange['ids_beyond_ties']} ids beyond them, recall differs by "
            f"at most {exchange['largest_recall_difference']:.5f}",
            link("interchange"),
        ),
        (
            "durable updates of a live index of 1,000,000 items, batches of 100; opening it with "
            "100,000 items pending; compacting it under searches",
            f"{flat['updates']['items_per_second']:,} items/s (with 256 lists "
            f"{lists['updates']['items_per_second']:,}); "
            f"{flat['opening with 100,000 pending']['writer_seconds']:.2f} s "
            f"({lists['opening with 100,000 pending']['writer_seconds']:.2f} s); "
            f"{flat['compaction']['seconds']:.2f} s ({lists['compaction']['seconds']:.2f} s)",
            link("live"),
        ),
        (
            "a search with 5 % of the items changed against a fresh snapshot; p99 of searches "
            "while 20,000 items/s are updated against without",
            f"{flat['5 % changed']['all lists']['ratio']:.2f}x (16 of 256 lists "
            f"{lists['5 % changed']['16 probes']['ratio']:.2f}x, 64 "
            f"{lists['5 % changed']['64 probes']['ratio']:.2f}x, all 256 "
            f"{lists['5 % changed']['all lists']['ratio']:.2f}x); "
            f"{flat['searches while updating']['p99_ratio']:.1f}x (16 of 256 lists "
            f"{lists['searches while updating']['p99_ratio']:.1f}x)",
            link("live"),
        ),
        (
            "nine tenths of the items added to a live index as vectors, 8 bytes: recall@100",
            new_items(),
            link("new_items"),
        ),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*rows, *paper_figures()])


OF_RUN = "the run's codes"  # in new_items.json


def new_items() -> str:
    """Return what codes that a live index finds are worth, set by set."""
    told, results = [], result("new_items")["results"]
    num_seeds = min(len(found["runs"]) for found in results.values())
    for data, found in results.items():
        mean = found["mean"]
        told.append(
            f"{data} {mean['added, found as the index says']:.4f}, codes of the run "
            f"{mean[OF_RUN]:.4f}, the nearest codewords "
            f"{mean['added, by the plain distance']:.4f}"
        )
    return "; ".join(told) + f" (means of {num_seeds} seeds)"


def rendered(text: str, blocks: dict[str, str]) -> str:
    """Return a README's text with the figures of the result files.

    Raises:
        ValueError: a block has not exactly one place in the text, so its figures would not be seen.
    """
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        put = (lambda m, b=block: m[1] + b + "\n" + m[2]) if block else (lambda m: m[1] + m[2])
        text, count = re.subn(pattern, put, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{name}: got {count} places in the text, wanted one")
    return text


def main() -> None:
    """Rewrite or check both READMEs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    blocks = {
        README: {"headline": headline(), "comparison": comparison(compared()), "table": table()},
        ENGINE: engine_tables.blocks(),
    }
    for path, each in blocks.items():
        text = path.read_text()
        wanted = rendered(text, each)
        if check and text != wanted:
            sys.exit(
                f"{path.name} differs from benchmarks/results: run python benchmarks/readme.py"
            )
        if not check:
            path.write_text(wanted)


if __name__ == "__main__":
    main()

"""The README's table of figures beside the comparison, from the result files."""

from __future__ import annotations

import sys
from pathlib import Path

from readme_files import RESULTS, link, means, result

sys.path.insert(0, str(Path(__file__).parent / "engine"))
from curve_tables import ratios_at_recalls
from table_parts import machine

Row = tuple[str, str, str]

OF_RUN = "the run's codes"  # in new_items.json


def of_purchases() -> list[Row]:
    """Return the demo's figures."""
    shop = {(r["name"], r["bytes_per_item"]): r for r in result("online_retail")["rows"]}
    ours, opq, rq = (
        shop[n, 8]["recall_at_100"]
        for n in ("torch-poeem (joint)", "Faiss OPQ+PQ", "Faiss residual (RQ)")
    )
    ours20, rq20 = (
        shop[n, 8]["recall_at_20"] for n in ("torch-poeem (joint)", "Faiss residual (RQ)")
    )
    exact = next(r for (n, _), r in shop.items() if n.startswith("exact"))["recall_at_100"]
    return [
        (
            "real purchases (`scripts/demo`), 8 bytes: recall@100",
            f"{ours:.4f}; Faiss OPQ+PQ {opq:.4f}, residual {rq:.4f}, float {exact:.4f}; recall@20: "
            f"{ours20:.4f}, residual {rq20:.4f} (1,540 users, one seed)",
            link("online_retail"),
        ),
        of_earlier_days(),
        *of_certainty(),
    ]


def of_certainty() -> list[Row]:
    """Return between what ours over the best lies, where users were drawn anew."""
    rows = []
    for path in sorted(RESULTS.glob("certainty_*.json")):
        found = result(path.stem)
        ratios = "; ".join(
            f"{size} {each['over_best']['ratio']:.3f} ({each['over_best']['low']:.3f} to "
            f"{each['over_best']['high']:.3f}) of {each['best']}"
            for size, each in found["figures"].items()
        )
        what = (
            f"{found['data']}: recall@100 over the best built afterwards, and between what 95 % of "
            f"it lie with its {found['num_users']:,} users drawn anew"
        )
        rows.append((what, f"{ratios} (means of {len(found['seeds'])} seeds)", link(path.stem)))
    return rows


def of_earlier_days() -> Row:
    """Return ours over the best of the others on online-retail as it stood on earlier days."""
    rows = result("earlier_days")["rows"]
    days = "; ".join(
        f"of {r['last_day']} {r['recall']:.4f}, {r['over_best']:.3f} and {r['over_exact']:.3f}"
        for r in rows
    )
    return (
        f"online-retail as it stood on earlier days, {rows[0]['bytes']} bytes: recall@100, over "
        "the better of Faiss residual and IVF+OPQ+PQ, over exact search",
        f"{days} ({means({r['seeds'] for r in rows})})",
        link("earlier_days"),
    )


def of_training() -> list[Row]:
    """Return what training and building are worth, and what they cost."""
    tutorial, step = result("tutorial")["mean"], result("step_cost")["figures"]
    one_probe = tutorial["joint index, 1 of 8 lists"]["precision@100"]
    after = tutorial["Faiss IVF8,PQ8 afterwards, 1 probe"]["precision@100"]
    float_twin = tutorial["exact, float twin"]["precision@100"]
    texts = result("text")["figures"]["tldr-pages"]
    return [
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
    ]


def of_building() -> list[Row]:
    """Return what a step of the rotation and building cost beside others."""
    build = result("build_time")["figures"]
    turns = [result(name) for name in ("rotation_cost", "rotation_cost_intel")]
    return [
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
    ]


def of_scans() -> list[Row]:
    """Return the engine beside Faiss."""
    names = ("engine_flat", "engine_flat_intel")
    measured = []
    for name in names:
        found = result(name)
        times = found["results"]["8 bytes"]["times_ours"]
        one, batch = (times[f"{way}, 1 thread"]["faiss pq8"]["cpu"] for way in ("one", "batch"))
        code = ", by earlier code" if name.endswith("intel") else ""
        measured.append(
            f"{one:.0f}x faster for one query, {batch:.0f}x in batches on {machine(found)}{code}"
        )
    return [
        (
            "exact scan of 1,000,000 items of 8 bytes, one thread, against Faiss IndexPQ (wanted: "
            "20x; what else was wanted and is short: `benchmarks/engine/README.md`)",
            "; ".join(measured),
            ", ".join(link(name) for name in names),
        ),
    ]


def against_scann() -> list[Row]:
    """Return the engine beside ScaNN at its recalls, if codes with a weight were measured."""
    found = result("engine_curves_1m")
    if "parallel_weight" not in found:
        return []
    parts = []
    for label, case in (("one query", "one, 1 thread"), ("batches", "batch, 1 thread")):
        points = [
            point
            for rival in ("scann", "scann, 4 times the leaves")
            for point in ratios_at_recalls(found, rival, case)
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


def against_hnswlib() -> Row:
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


def of_memory() -> tuple[str, str]:
    """Return the most that a file and a search take over codes and ids, by number of items."""
    found = result("search_memory")
    by_count: dict[int, list[dict[str, float]]] = {}
    for case, figure in found["figures"].items():
        by_count.setdefault(int(case.split()[0]), []).append(figure)
    file, peak = [], []
    for count, each in by_count.items():
        file.append(f"{count:,} items at most {max(f['file_ratio'] for f in each):.3f}x")
        most = [
            f"{max(f[f'peak_ratio_{n}_queries'] for f in each):.2f}x with {n}"
            for n in found["queries"]
        ]
        peak.append(f"{count:,} items at most {', '.join(most)}")
    return "; ".join(file), "; ".join(peak) + " queries at once"


def of_memory_and_exchange() -> list[Row]:
    """Return what searching takes, and what survives kills and exchange."""
    file, peak = of_memory()
    exchange, kills = result("interchange")["summary"], result("kills")
    return [
        (
            "the file over its codes and ids, 8 bytes each; codebooks and centroids do not grow",
            file,
            link("search_memory"),
        ),
        (
            "peak memory of open and search beyond the interpreter, over codes and ids",
            peak,
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
    ]


def of_live_indexes() -> list[Row]:
    """Return what changes of an index cost, and what its own codes are worth."""
    live = result("live")["results"]
    flat, lists = live["no lists"], live["256 lists"]
    return [
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


def paper_figures() -> list[Row]:
    """Return a line for each of the paper's own figures that was made."""
    paths = sorted(RESULTS.glob("paper_figures_*.json"), reverse=True)  # the one with most first
    return [row for path in paths for row in _paper_figures_of(path.stem)]


def _paper_figures_of(name: str) -> list[Row]:
    file = result(name)
    data, found, lines = file["data"], file["figures"], []
    if "codewords" in found:
        text = "; ".join(
            f"{label} {v['used_codewords'][0]:.1%} and {v['used_codewords'][-1]:.1%}, recall@100 "
            f"{v['quantized_recall@100'][-1]:.4f}"
            for label, v in found["codewords"].items()
        )
        what = f"{data}, the paper's recipe: codewords in use where the index begins and in the end"
        lines.append((what, f"{text} (one seed)", link(name)))
    if "rotation" in found:
        text = "; ".join(
            f"{label} distortion {v['distortion'][-1]:.3f}, recall@100 "
            f"{v['quantized_recall@100'][-1]:.4f}"
            for label, v in found["rotation"].items()
        )
        what = f"{data}, the paper's recipe: with and without a rotation"
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
        text = f"{ratios['codes']:.3f}x where 1 is probed, {means({len(recalls['seeds'])})}; "
        text += "; ".join(parts)
        text += f"; items in the first list {shares['learned']:.2%} against {shares['k-means']:.2%}"
        lines.append(
            (
                f"{data}, 256 lists learned with the model: recall@100 by lists probed",
                text,
                link(name),
            )
        )
    if "paper_probes" in found:
        curve = found["paper_probes"]
        by_probes = dict(zip(curve["num_probes"], curve["recall@100"], strict=True))
        text = ", ".join(f"{probed}: {by_probes[probed]:.4f}" for probed in (1, 8, 256))
        what = "the same by the paper's recipe, each item in the list of its nearest centroid"
        lines.append((what, f"{text} (one seed)", link(name)))
    return lines


def table() -> str:
    """Return the other figures, a line each."""
    rows = [
        ("what", "measured", "file"),
        ("---", "---", "---"),
        *of_purchases(),
        *of_training(),
        *of_building(),
        *of_scans(),
        *against_scann(),
        against_hnswlib(),
        *of_memory_and_exchange(),
        *of_live_indexes(),
        *paper_figures(),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)

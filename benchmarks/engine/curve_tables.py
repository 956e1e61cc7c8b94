"""The tables at equal recall, from the result files."""

from __future__ import annotations

from typing import Any

from table_parts import milliseconds, on, result, table, times, where

AS_LARGE = 1.06
"""So many times a rival's bytes an index of ours may have to be called as large."""


def ratios_at_recalls(
    found: dict[str, Any], rival: str, case: str
) -> list[tuple[float, float, float]]:
    """Return at each recall of the rival's that we reach, the lowest first, what our fastest does.

    Its recall, how many times as long as ours it takes, and our recall. Of ours those count whose
    index has no more bytes, but for `AS_LARGE`.
    """
    room = AS_LARGE * found["rivals"][rival]["index_bytes"]
    ours = [
        point
        for name, each in found["rivals"].items()
        if name.startswith("poeem") and each["index_bytes"] <= room
        for point in each["points"]
    ]
    ratios = []
    for point in sorted(found["rivals"][rival]["points"], key=lambda p: p["recall10_at_10"]):
        recall = point["recall10_at_10"]
        level = [p for p in ours if p["recall10_at_10"] >= recall]
        if level:
            best = min(level, key=lambda p: milliseconds(p, case))
            ratio = milliseconds(point, case) / milliseconds(best, case)
            ratios.append((recall, ratio, best["recall10_at_10"]))
    return ratios


def along(found: dict[str, Any], rival: str, case: str) -> str:
    """Return these ratios in a line."""
    ratios = ratios_at_recalls(found, rival, case)
    return ", ".join(f"{recall:.2f}: {ratio:.1f}" for recall, ratio, _ in ratios)


def curves(name: str) -> str:
    """Return what we are compared with rivals at their best recall that we reach too."""
    found = result(name)
    head = ["rival", "bytes an item", "recall@10", "ours", "one query", "batch"]
    rows = []
    sides = {
        "at_equal_recall": "product codes",
        "at_equal_recall, more lists": "product codes, 4 times the lists",
        "at_equal_recall, residual codes": "residual codes",
    }
    for rival in found["at_equal_recall"]:
        size = f"{found['rivals'][rival]['index_bytes'] / found['items']:.0f}"
        for key, kind in sides.items():
            if key not in found:
                continue
            cases = found[key][rival]["recall10_at_10"]
            one, batch = (cases[case] for case in ("one, 1 thread", "batch, 1 thread"))
            if one["times_ours"] is None:
                points = found["rivals"][rival]["points"]
                least = min(point["recall10_at_10"] for point in points)
                rows.append([rival, size, f"{least} at the least", f"{kind}: below", "", ""])
                continue
            cells = [rival, size, f"{one['recall']:.3f}", f"{kind} {one['our_recall']:.3f}"]
            rows.append([*cells, f"{one['times_ours']:.1f}", f"{batch['times_ours']:.1f}"])
    sweep = "".join(
        f"\n\n{rival} at each of its recalls, {case}, beside our fastest index of as many bytes "
        f"(at most {AS_LARGE - 1:.0%} more): "
        f"{along(found, rival, case)}."
        for rival in found["at_equal_recall"]
        if rival != "hnswlib"  # whose memory none of ours comes near
        for case in ("one, 1 thread", "batch, 1 thread")
    )
    ours = [each for name, each in found["rivals"].items() if name.startswith("poeem")]
    best = max(point["recall10_at_10"] for each in ours for point in each["points"])
    sizes = sorted({f"{each['index_bytes'] / found['items']:.0f}" for each in ours})
    weights = ", ".join(
        f"{family} codes {next(iter(shares))}, which finds {max(shares.values()):.3f} in the first "
        f"100,000 vectors (0 finds {shares['0.0']:.3f})"
        for family, shares in found.get("parallel_weight", {}).items()
    )
    return (
        f"{found['data']}, {found['items']:,} items of dim {found['dim']}, {found['bytes']} bytes "
        f"({' to '.join((sizes[0], sizes[-1]))} with all else), our best recall@10 {best:.3f}"
        + (f", weight along the vector: {weights}" if weights else "")
        + f". {where(found)}; times as long as ours, 1 thread:\n\n"
        + table(head, rows)
        + sweep
    )


def task(name: str) -> str:
    """Return the comparison with hnswlib at equal recall of the task."""
    found = result(name)
    head = ["", "recall@20", "recall@100", "index bytes", "ms, one query", "p99", "ms, batch"]
    rows = []
    for label, point in found["points"].items():
        cells = [f"{point[key]:.4f}" for key in ("recall@20", "recall@100")]
        cells.append(f"{point['index_bytes']:,}")
        one, batch = (milliseconds(point, f"{way}, 1 thread") for way in ("one", "batch"))
        cells += [f"{one:.3f}", f"{point['one, 1 thread']['p99_ms']:.3f}", f"{batch:.3f}"]
        rows.append([label, *cells])
    mine = found["points"]["poeem best"]
    best = "; ".join(
        f"{case}: {times(found['points'][each['hnswlib']], mine, case)} times ours "
        f"({each['hnswlib']}), "
        f"{each['its_bytes_over_ours']} times the memory"
        for case, each in found["at_equal_recall"].items()
    )
    # Files from before there was a choice have as much recall.
    as_much = all(each.get("as_much_recall", True) for each in found["at_equal_recall"].values())
    which = (
        "fastest of at least our recall@100" if as_much else "best, which is below our recall@100"
    )
    return on(found) + table(head, rows) + f"\n\nhnswlib's {which}: {best}."

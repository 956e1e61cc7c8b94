"""What was wanted of the engine beside what was measured: the least of all cases, and how many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from curve_tables import AS_LARGE
from table_parts import RESULTS, SUMS, kernels_of, machine, milliseconds, result, table

FLAT = ("engine_flat", "engine_flat_128", "engine_flat_10m", "engine_flat_10m_128")
FLAT_ELSEWHERE = ("engine_flat_glove", "engine_flat_intel")
LISTS = ("engine_lists", "engine_lists_128", "engine_lists_10m", "engine_lists_10m_128")
LISTS += ("engine_lists_glove", "engine_lists_intel")
CURVES = ("engine_curves_1m", "engine_curves_1m_128", "engine_curves", "engine_curves_128")
CURVES += ("engine_curves_10m", "engine_curves_glove", "engine_curves_1m_intel")
GOAL = "1,000,000 items of dim 64"  # what was wanted was said of these
MEMORY = 20  # times ours, of hnswlib
WAYS = {"one": "one query", "many ones": "queries in a row", "batch": "batch"}
# bytes -> times: (one query, batch), over IndexPQ and over 4-bit fast scan.
INDEX_PQ = {8: (20, 20), 16: (13, 18), 32: (7, 15)}
FAST_SCAN = {8: (1.5, 1.2), 16: (1.5, 1.2), 32: (1.0, 0.9)}


class Case(NamedTuple):
    """A ratio, and what it is of."""

    ratio: float
    label: str


def goals() -> str:
    """Return the table of what was wanted, what was measured, and whether it is reached."""
    rows = [*_flat_rows(), *_row_of_lists(), *_row_of_scann(), *_row_of_hnswlib()]
    rows += [*_row_of_cycles(), *_row_of_threads(), *_rows_of_avx2()]
    return table(["what", "wanted", "cases that reach it", "times, at the least"], rows)


def _there(names: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, result(name)) for name in names if (RESULTS / f"{name}.json").exists()]


def _row(what: str, wanted: float, cases: list[Case]) -> list[list[str]]:
    if not cases:
        return []
    least = min(cases)
    reached = sum(case.ratio >= wanted for case in cases)
    cells = [what, f"{wanted:g}x", f"{reached} of {len(cases)}"]
    told = [f"{least.ratio:.2f} ({least.label})"]
    told += [f"{case.ratio:.2f} ({GOAL})" for case in cases if case.label == GOAL != least.label]
    return [[*cells, "; ".join(told)]]


def _label(found: dict[str, Any], *parts: str) -> str:
    data = found.get("data", "clustered")
    what = f"{found['items']:,} items of dim {found['dim']}" if data == "clustered" else data
    if "Intel" in machine(found):
        what += ", Intel"
    return ", ".join([*parts, what])


def _flat_rows() -> list[list[str]]:
    """Return ours over IndexPQ, and over fast scan, by bytes; 10 bytes count as 8."""
    rows = []
    for rival, name, wanted in (
        ("faiss pq8", "IndexPQ", INDEX_PQ),
        ("faiss 4-bit fast scan", "4-bit fast scan", FAST_SCAN),
    ):
        for size, by_way in wanted.items():
            for (way, label), times in zip(
                (("one", WAYS["one"]), ("batch", "batch")), by_way, strict=True
            ):
                cases = []
                for _, found in _there((*FLAT, *FLAT_ELSEWHERE)):
                    for bytes_of, each in found["results"].items():
                        if _size_of(bytes_of) == size:
                            cases += _flat_cases(found, each, rival, f"{way}, 1 thread")
                rows += _row(f"over {name}, {label}, {size} bytes", times, cases)
    return rows


def _size_of(label: str) -> int:
    """Return the size that a case counts for: 10 bytes as 8, 25 as 32."""
    return {10: 8, 25: 32}.get(int(label.split()[0]), int(label.split()[0]))


def _flat_cases(found: dict[str, Any], each: dict[str, Any], rival: str, case: str) -> list[Case]:
    """Return the ratio of our codes; beside fast scan, those with no lower recall than its."""
    rivals = each["rivals"]
    ours = [kernels_of(rivals)[0]]
    if "fast scan" in rival:  # codes of its own: the faster of ours that finds as much
        floor = rivals[rival]["recall10_at_100"]
        ours = [name for name in (ours[0], SUMS) if name in rivals]
        ours = [name for name in ours if rivals[name]["recall10_at_100"] >= floor]
    if not ours or case not in rivals[rival]:
        return []
    best = min(ours, key=lambda name: milliseconds(rivals[name], case))
    ratio = milliseconds(rivals[rival], case) / milliseconds(rivals[best], case)
    return [Case(ratio, _label(found, *(["residual codes"] if best == SUMS else [])))]


def _row_of_lists() -> list[list[str]]:
    cases = []
    for _, found in _there(LISTS):
        for label, each in found["results"].items():
            for way, words in WAYS.items():
                for threads in (1, 2):
                    case = f"{way}, {threads} thread"
                    rivals = each["rivals"]
                    mine = rivals[kernels_of(rivals)[0]]
                    if case in mine and case in rivals["faiss ivfpq"]:
                        ratio = milliseconds(rivals["faiss ivfpq"], case) / milliseconds(mine, case)
                        more = [f"{words}, 2 threads" if threads == 2 else words]
                        cases.append(Case(ratio, _label(found, label, *more)))
    return _row("over IVFPQ, same lists, probes and codes", 6, cases)


def _row_of_scann() -> list[list[str]]:
    """Return ours over ScaNN's faster tree at each recall that it has and we reach."""
    rows = []
    for way in ("one", "batch"):
        cases = []
        for _, found in _there(CURVES):
            theirs = {n: v for n, v in found["rivals"].items() if n.startswith("scann")}
            room = AS_LARGE * max(each["index_bytes"] for each in theirs.values())
            ours = [
                point
                for name, each in found["rivals"].items()
                if name.startswith("poeem") and each["index_bytes"] <= room
                for point in each["points"]
            ]
            points = [point for each in theirs.values() for point in each["points"]]
            for recall in sorted({point["recall10_at_10"] for point in points}):
                fastest = [
                    min(
                        (
                            milliseconds(p, f"{way}, 1 thread")
                            for p in side
                            if p["recall10_at_10"] >= recall
                        ),
                        default=None,
                    )
                    for side in (points, ours)
                ]
                if fastest[1] is not None and fastest[0] is not None:
                    cases.append(
                        Case(fastest[0] / fastest[1], _label(found, f"recall {recall:.2f}"))
                    )
        rows += _row(f"over ScaNN at each of its recalls, {WAYS[way]}", 1.5, cases)
    return rows


def _row_of_hnswlib() -> list[list[str]]:
    cases = [
        Case(each["times_ours"], case)
        for _, found in _there(["engine_task_gowalla_5"])
        for case, each in found["at_equal_recall"].items()
        if each["its_bytes_over_ours"] >= MEMORY
    ]
    return _row("over hnswlib at equal recall of the task, 1/20 of its memory or less", 1, cases)


def _row_of_cycles() -> list[list[str]]:
    rows = []
    for _, found in _there(["engine_rates", "engine_rates_intel"]):
        for rate in found["rates"]:
            if (rate["bytes_of_item"], rate["kib"]) == (8, 256) and "avx512-vbmi" in rate:
                cycles = rate["avx512-vbmi"]["cycles_per_item"]
                reached = f"{int(cycles <= 1)} of 1"
                what = "cycles an item of 8 bytes in L2, VBMI, scan alone"
                rows.append([what, "at most 1", reached, f"{cycles:.2f} ({machine(found)})"])
    return rows


def _row_of_threads() -> list[list[str]]:
    cases = []
    for _, found in _there(["engine_threads", "engine_threads_intel"]):
        for label, each in found["figures"].items():
            if "one query" not in label:
                cases.append(Case(each["times_faster"], _label(found, label)))
    return _row("two threads over one, batches", 1.8, cases)


def _rows_of_avx2() -> list[list[str]]:
    pairs = (("engine_flat", "faiss pq8"), ("engine_nibbles", "faiss fast scan, same codes"))
    wanted = {
        "engine_flat": ("AVX2 over IndexPQ", 1.5),
        "engine_nibbles": ("AVX2 over fast scan, 4-bit codes", 1),
    }
    rows = []
    for name, rival in pairs:
        for _, found in _there([name]):
            cases = [
                Case(
                    milliseconds(each["rivals"][rival], case)
                    / milliseconds(each["rivals"]["poeem avx2"], case),
                    f"{size}, {case}",
                )
                for size, each in found["results"].items()
                for case in ("one, 1 thread", "batch, 1 thread")
            ]
            rows += _row(*wanted[name], cases)
    return rows

"""The tables of this folder's README, from the result files; benchmarks/readme.py puts them in."""

from __future__ import annotations

from typing import Any

from curve_tables import curves, task
from goals import goals
from table_parts import (
    KERNELS,
    RESULTS,
    SUMS,
    kernels_of,
    milliseconds,
    on,
    result,
    table,
    times,
    where,
)


def flat(name: str) -> str:
    """Return flat scans against Faiss: milliseconds a query, medians."""
    found = result(name)
    ours = kernels_of(next(iter(found["results"].values()))["rivals"])
    best = ours[0]
    head = ["bytes", "", *(KERNELS[kernel] for kernel in ours)]
    head += ["IndexPQ", "times ours", "fast scan", "times ours"]
    cases = {"one query": "one, 1 thread", "batch": "batch, 1 thread"}
    rows = []
    for size, each in found["results"].items():
        for label, case in cases.items():
            rivals = each["rivals"]
            if case not in rivals[best]:
                continue
            cells = [size.split()[0], label]
            cells += [f"{milliseconds(rivals[kernel], case):.3f}" for kernel in ours]
            for rival in ("faiss pq8", "faiss 4-bit fast scan"):
                cells.append(f"{milliseconds(rivals[rival], case):.3f}")
                cells.append(times(rivals[rival], rivals[best], case))
            rows.append(cells)
    recall = {
        rival: ", ".join(
            f"{each['rivals'][rival]['recall10_at_100']:.3f}" for each in found["results"].values()
        )
        for rival in (best, "faiss 4-bit fast scan", SUMS)
        if all(rival in each["rivals"] for each in found["results"].values())
    }
    first = next(iter(found["results"].values()))["rivals"][best]["one, 1 thread"]
    calls = first.get("calls", 20 * found["rounds"])
    tails = ", ".join(
        f"{each['rivals'][best]['one, 1 thread']['p99_ms']:.3f} (IndexPQ "
        f"{each['rivals']['faiss pq8']['one, 1 thread']['p99_ms']:.3f}, fast scan "
        f"{each['rivals']['faiss 4-bit fast scan']['one, 1 thread']['p99_ms']:.3f})"
        for each in found["results"].values()
    )
    return (
        f"{found['items']:,} items of dim {found['dim']}, k = {found['k']}, {where(found)}:\n\n"
        + table(head, rows)
        + f"\n\nOf the 10 true neighbours among the 100 found, at {', '.join(found['results'])}: "
        f"ours {recall[best]}; fast scan's {recall['faiss 4-bit fast scan']}. "
        f"{residual_codes(found, recall)}p99 of one query, 1 thread, {calls} calls: {tails} ms."
        f"{by_two_threads(found, best)}"
    )


def by_two_threads(found: dict[str, Any], ours: str) -> str:
    """Return our wall time by one thread and by two, if that was measured."""
    parts = []
    for label, way in (("one query", "one"), ("batch", "batch")):
        pairs = [
            [each["rivals"][ours].get(f"{way}, {n} thread", {}).get("p50_ms") for n in (1, 2)]
            for each in found["results"].values()
        ]
        if all(None not in pair for pair in pairs):
            parts.append(f"{label} " + ", ".join(f"{one:.3f} and {two:.3f}" for one, two in pairs))
    return f" Ours by one and by two threads, wall time: {'; '.join(parts)} ms." if parts else ""


def residual_codes(found: dict[str, Any], recall: dict[str, str]) -> str:
    """Return how our residual codes of as many bytes compare with fast scan, if they were run."""
    if SUMS not in recall:
        return ""
    cases = {"one query": "one, 1 thread", "batch": "batch, 1 thread"}
    ratios = [
        label
        + " "
        + ", ".join(
            times(each["rivals"]["faiss 4-bit fast scan"], each["rivals"][SUMS], case)
            for each in found["results"].values()
        )
        for label, case in cases.items()
    ]
    return (
        f"Our residual codes of as many bytes: {recall[SUMS]}; fast scan takes, times as long: "
        f"{'; '.join(ratios)}. "
    )


def lists(name: str) -> str:
    """Return searches of lists against Faiss IVFPQ: milliseconds a query, medians."""
    found, rows = result(name), []
    first = next(iter(found["results"].values()))["times_ours"]
    ways = {"one": "ours, one query", "many ones": "256 in a row", "batch": "ours, batch"}
    ways = {way: head for way, head in ways.items() if f"{way}, 1 thread" in first}
    head = ["", *(cell for label in ways.values() for cell in (label, "IVFPQ", "times ours"))]
    for label, each in found["results"].items():
        for threads in (1, 2):
            if f"one, {threads} thread" not in each["times_ours"]:
                continue
            cells = [label + (", 2 threads" if threads == 2 else "")]
            for way in ways:
                case = f"{way}, {threads} thread"
                best = kernels_of(each["rivals"])[0]
                mine, theirs = (each["rivals"][name] for name in (best, "faiss ivfpq"))
                cells += [f"{milliseconds(rival, case):.3f}" for rival in (mine, theirs)]
                cells.append(times(theirs, mine, case))
            rows.append(cells)
    what = f"{found['items']:,} items of dim {found['dim']} in {found['lists']:,} lists, "
    best = kernels_of(next(iter(found["results"].values()))["rivals"])[0]
    return what + on(found) + table(head, rows) + tails(found, best, {"faiss ivfpq": "IVFPQ"})


def tails(found: dict[str, Any], ours: str, rivals: dict[str, str]) -> str:
    """Return the 99th percentiles of single queries by one thread, ours and of rivals."""
    case = "one, 1 thread"
    parts = []
    for label, each in found["results"].items():
        there = {name: label for name, label in rivals.items() if name in each["rivals"]}
        theirs = ", ".join(
            f"{label} {each['rivals'][name][case]['p99_ms']:.3f}" for name, label in there.items()
        )
        parts.append(f"{label} {each['rivals'][ours][case]['p99_ms']:.3f} ({theirs})")
    calls = next(iter(found["results"].values()))["rivals"][ours][case].get("calls")
    count = "" if calls is None else f", {calls:,} calls"
    return f"\n\np99 of one query, 1 thread{count}: {'; '.join(parts)} ms."


def nibbles() -> str:
    """Return 4-bit codes against Faiss over the same codes."""
    found = result("engine_nibbles")
    results = found["results"]
    ours = kernels_of(next(iter(results.values()))["rivals"])
    # The scan of 4-bit codes needs no VBMI.
    labels = [KERNELS[kernel].removesuffix(" BW") for kernel in ours]
    head = ["bytes", "", *labels, "fast scan", *(f"over {label}" for label in labels), "IndexPQ"]
    rows = []
    for size, each in results.items():
        for case in ("one, 1 thread", "batch, 1 thread", "batch, 2 thread"):
            if case not in each["rivals"][ours[0]]:
                continue
            mine = [milliseconds(each["rivals"][kernel], case) for kernel in ours]
            fast, slow = (
                milliseconds(each["rivals"][name], case)
                for name in ("faiss fast scan, same codes", "faiss pq")
            )
            cells = [size.split()[0], case, *(f"{ms:.3f}" for ms in mine), f"{fast:.3f}"]
            rows.append([*cells, *(f"{fast / ms:.1f}" for ms in mine), f"{slow:.3f}"])
    rivals = {"faiss fast scan, same codes": "fast scan", "faiss pq": "IndexPQ"}
    return on(found) + table(head, rows) + tails(found, ours[0], rivals)


def filters() -> str:
    """Return filtered searches: wall milliseconds a query, by what the filter is given as."""
    rows, found = [], result("engine_filters")
    for label, each in found["figures"].items():
        ways = [each.get(way, {}).get("cpu_p50_ms") for way in ("none", "flags", "ids")]
        cells = ["" if ms is None else f"{ms:.3f}" for ms in ways]
        rows.append([label, f"{each['allowed']:,}", str(each["results"]), *cells])
    head = ["", "allowed", "results, at least", "no filter", "flags", "ids"]
    return on(found) + table(head, rows)


def opening() -> str:
    """Return the work of opening and of first searches."""
    found = result("engine_opening")
    rows = []
    for label, each in found["figures"].items():
        cells = [
            f"{each[step]['wall_s'] * 1e3:.1f} / {each[step]['cpu_s'] * 1e3:.1f}"
            for step in ("open", "first search", "second search")
        ]
        reads = sum(each[step]["read_from_disk"] for step in ("open", "first search"))
        rows.append([label, *cells, str(reads)])
    head = [
        "wall / CPU milliseconds",
        "open",
        "first search",
        "second search",
        "pages from disk, opening and first search",
    ]
    what = f"{found['items']:,} items, {found['file_bytes']:,} bytes, {where(found)}:\n\n"
    return what + table(head, rows)


def encoding() -> str:
    """Return microseconds a vector against others: CPU time of one thread, wall of several."""
    found = result("engine_encoding")
    results = found["results"]
    counts = [key for key in next(iter(results.values())) if key.endswith("thread")]
    head = [""]
    for count in counts:
        head += [f"ours, {count}", "Faiss", "times ours", "torch, times ours"]
    rows = []
    for case, each in results.items():
        cells = [case]
        for count in counts:
            kind = "cpu" if count == "1 thread" else "wall"
            times = each[count]["microseconds"]
            cells += [f"{times[who][kind]:.2f}" for who in ("poeem", "faiss")]
            times = each[count]["times_ours"]
            cells += [f"{times[who][kind]:.1f}" for who in ("faiss", "torch")]
        rows.append([*cells, f"{each['error']['poeem']:.3f} / {each['error']['faiss']:.3f}"])
    return on(found) + table([*head, "error, ours / Faiss"], rows)


def threads(name: str) -> str:
    """Return batches by two threads beside one: wall time."""
    found = result(name)
    rows = []
    for label, each in found["figures"].items():
        one, two, times = (each[key] for key in ("ms_1_thread", "ms_2_threads", "times_faster"))
        rows.append([label, f"{one:.3f}", f"{two:.3f}", f"{times:.2f}"])
    return on(found) + table(["", "1 thread", "2 threads", "times faster"], rows)


def kernels(name: str) -> str:
    """Return cycles of the kernels alone."""
    found = result(name)
    by = {(rate["bytes_of_item"], rate["kib"]): rate for rate in found["rates"]}
    sizes = {16: "L1", 256: "L2", 4096: "L3", 16384: "16 MB", 65536: "64 MB"}
    sizes = {kib: place for kib, place in sizes.items() if (8, kib) in by}
    head = ["kernel", *(f"64 bytes, {place}" for place in sizes.values())]
    head += ["item of 8 bytes, L2", "of 16", "of 32"]
    rows = []
    alone = ("two queries", "avx512-vbmi", "avx512", "avx2", "neon")
    looks = (", quads", ", pairs", "", ", 4-bit codes")
    for kernel in (each + look for each in alone for look in looks):
        if kernel not in by[8, 256]:
            continue
        cells = [f"{by[8, kib][kernel]['cycles_per_64_codes']:.1f}" for kib in sizes]
        cells += [f"{by[size, 256][kernel]['cycles_per_item']:.2f}" for size in (8, 16, 32)]
        label = kernel.replace("two queries", "avx512-vbmi, two queries, each")
        rows.append([label, *cells])
    reading = [f"{by[8, kib]['reading_gb_per_s']:.0f}" for kib in sizes]
    best = next(k for k in alone[1:] if k in by[8, 256])
    moved = [f"{by[8, kib][best]['gb_per_s']:.0f}" for kib in sizes]
    return (
        f"{where(found)}, cycles at {found['ghz']:.1f} GHz:\n\n"
        + table(head, rows)
        + f"\n\nGB/s of codes, {', '.join(sizes.values())}: reading alone {', '.join(reading)}; "
        f"the {'VBMI' if best == 'avx512-vbmi' else best} kernel {', '.join(moved)}."
        + in_registers(found)
    )


def in_registers(found: dict[str, Any]) -> str:
    """Return the bounds of the VBMI kernel, of machines that have one."""
    if "cycles_per_permute_of_128_bytes" not in found:
        return ""
    return (
        " In registers, without loads: a permute of 128 bytes "
        f"{found['cycles_per_permute_of_128_bytes']:.1f} cycles, a whole look-up of 64 codes "
        f"{found['cycles_per_look_up_in_registers']:.1f}."
    )


def survivors() -> str:
    """Return how many items a query scores in float."""
    found = result("engine_survivors")
    rows = []
    for label, each in found["results"].items():
        for probes in dict.fromkeys(case.partition(", ")[2] for case in each):
            cases = {case.partition(", ")[0]: one for case, one in each.items()}
            if probes:
                cases = {c.partition(", ")[0]: one for c, one in each.items() if c.endswith(probes)}
            name = f"{label}, {probes}" if probes else label
            rows.append([name, *(f"{one['scored']:,}" for one in cases.values())])
    head = ["", *(case.partition(", ")[0] for case in next(iter(found["results"].values())))]
    return f"{found['items']:,} items of dim {found['dim']}:\n\n" + table(head, rows)


TABLES = {
    "engine_flat": ("flat", lambda: flat("engine_flat")),
    "engine_flat_128": ("flat_128", lambda: flat("engine_flat_128")),
    "engine_flat_10m": ("flat_10m", lambda: flat("engine_flat_10m")),
    "engine_flat_10m_128": ("flat_10m_128", lambda: flat("engine_flat_10m_128")),
    "engine_flat_glove": ("flat_glove", lambda: flat("engine_flat_glove")),
    "engine_lists": ("lists", lambda: lists("engine_lists")),
    "engine_lists_128": ("lists_128", lambda: lists("engine_lists_128")),
    "engine_lists_10m": ("lists_10m", lambda: lists("engine_lists_10m")),
    "engine_lists_10m_128": ("lists_10m_128", lambda: lists("engine_lists_10m_128")),
    "engine_lists_glove": ("lists_glove", lambda: lists("engine_lists_glove")),
    "engine_flat_intel": ("flat_intel", lambda: flat("engine_flat_intel")),
    "engine_lists_intel": ("lists_intel", lambda: lists("engine_lists_intel")),
    "engine_nibbles": ("nibbles", nibbles),
    "engine_encoding": ("encoding", encoding),
    "engine_filters": ("filters", filters),
    "engine_opening": ("opening", opening),
    "engine_curves": ("curves", lambda: curves("engine_curves")),
    "engine_curves_128": ("curves_128", lambda: curves("engine_curves_128")),
    "engine_curves_glove": ("curves_glove", lambda: curves("engine_curves_glove")),
    "engine_curves_avx2": ("curves_avx2", lambda: curves("engine_curves_avx2")),
    "engine_curves_glove_avx2": (
        "curves_glove_avx2",
        lambda: curves("engine_curves_glove_avx2"),
    ),
    "engine_curves_1m": ("curves_1m", lambda: curves("engine_curves_1m")),
    "engine_curves_1m_128": ("curves_1m_128", lambda: curves("engine_curves_1m_128")),
    "engine_curves_10m": ("curves_10m", lambda: curves("engine_curves_10m")),
    "engine_task_gowalla": ("task", lambda: task("engine_task_gowalla")),
    "engine_task_gowalla_5": ("task_5", lambda: task("engine_task_gowalla_5")),
    "engine_curves_1m_intel": ("curves_1m_intel", lambda: curves("engine_curves_1m_intel")),
    "engine_threads": ("threads", lambda: threads("engine_threads")),
    "engine_threads_intel": ("threads_intel", lambda: threads("engine_threads_intel")),
    "engine_rates": ("kernels", lambda: kernels("engine_rates")),
    "engine_rates_intel": ("kernels_intel", lambda: kernels("engine_rates_intel")),
    "engine_survivors": ("survivors", survivors),
}


def blocks() -> dict[str, str]:
    """Return the text between each pair of markers; what was never measured says so."""
    found = {"goals": goals()}
    for name, (marker, make) in TABLES.items():
        there = (RESULTS / f"{name}.json").exists()
        found[marker] = make() if there else "Not measured yet: see `all.sh`."
    return found

"""The paper's own figures on open data, as pictures with their numbers.

- codewords: share of codewords in use, epoch by epoch, with the warm start and with codebooks that
  start at random; without revival in both, as in the paper, and with it
- rotation: distortion and recall, epoch by epoch, with a learned rotation and without
- probes: recall@100 against the number of lists visited, for lists learned with the model and for
  lists that k-means makes of the float twin's vectors afterwards (Faiss IVF); each with codes of
  `--bytes` bytes and with float vectors, so that what the lists do is seen apart from the codes;
  for each of `--seeds`, with means
- paper_probes: the same of the paper's own recipe with lists: each item in that of its nearest
  centroid
- build: seconds from vectors to an index against the number of items, ours and Faiss

    POEEM_DATA=../shared/data python benchmarks/paper_figures.py gowalla
    python benchmarks/paper_figures.py gowalla --only build
    python benchmarks/paper_figures.py gowalla --draw    # the picture again, from the result file

Each part is kept when it is done; called again, the script goes on with what is missing. Joint
models begin at the warm start of the twin that `benchmarks/compare.py` trained for the same seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, circumstances, write_result
from compare import SETS, settings

from poeem.cli.output import say
from poeem.config import Config
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.index import build_index
from poeem.quantize.layer_state import Phase
from poeem.training.display import Bar, Quiet
from poeem.training.loop import evaluate_state, warm_start
from poeem.training.prepared import Prepared, measured_pairs, prepare
from poeem.training.recipes import recipe_config
from poeem.training.run import train_state
from poeem.training.state import TrainingState
from poeem.training.twin import TwinFolder, query_vectors
from poeem.types import FloatArray, IntArray, SearchResult

NUM_LISTS = 256
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
CURVE_USERS = 5000
BUILD_SIDES = {
    "ours": "torch-poeem, residual codes",
    "faiss_rq": "Faiss residual",
    "ours_product": "torch-poeem, product codes",
    "faiss_opq": "Faiss OPQ+PQ",
}

Curve = dict[str, list[float]]


class Curves:
    """Takes a training's evaluations, as a writer of scalars."""

    def __init__(self) -> None:
        self.curve: Curve = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Keep a figure; steps stand beside the first."""
        self.curve.setdefault(name.removeprefix("evaluation/"), []).append(round(value, 5))
        steps = self.curve.setdefault("step", [])
        if not steps or steps[-1] != step:
            steps.append(step)


@dataclasses.dataclass(frozen=True)
class Bench:
    """Data, its twin, and the settings of joint models."""

    config: Config
    prepared: Prepared
    evaluation: EvaluationSet
    twin: TwinFolder
    num_bytes: int

    def joint(self, recipe: str, **layer: Any) -> TrainingState:
        """Return a joint model at the twin's warm start, with settings of the layer changed."""
        config = recipe_config(recipe, self.config, self.num_bytes, self.config.train.seed)
        config = dataclasses.replace(config, layer=dataclasses.replace(config.layer, **layer))
        return self.twin.joint_state(config)

    def train(self, state: TrainingState, title: str) -> Curve:
        """Train to the end; return figures of the start and of every epoch."""
        every = dataclasses.replace(state.config.train, eval_every=1, eval_users=CURVE_USERS)
        state.config = dataclasses.replace(state.config, train=every)
        writer = Curves()
        if state.layer.phase is not Phase.JOINT:
            warm_start(state, self.prepared.pairs, Quiet())
        sample = self.evaluation.sample(CURVE_USERS, state.config.train.seed)
        state.model.eval()
        state.layer.eval()
        for name, value in evaluate_state(state, sample, self.prepared.pairs).items():
            writer.add_scalar(name, value, state.step)
        watched = dataclasses.replace(self.prepared, validation=self.evaluation)
        train_state(state, watched, display=Bar, title=title, writer=writer)
        state.model.eval()
        state.layer.eval()
        return writer.curve


def random_start(state: TrainingState, *, fitting: bool) -> None:
    """Start codebooks at random and quantize from now on.

    Args:
        fitting: as large as parts of vectors, or else standard normal, as parameters often are.
    """
    layer = state.layer
    generator = torch.Generator().manual_seed(layer.config.seed)
    scale = state.model.all_items().std() if fitting else 1.0
    with torch.no_grad():
        layer.codebooks.copy_(torch.randn(layer.codebooks.shape, generator=generator) * scale)
    layer.phase = Phase.JOINT


def codewords(bench: Bench) -> dict[str, Curve]:
    """Return curves of codeword use with and without warm start and revival."""
    found = {}
    for name, start, window in (
        ("warm start", "warm", 0),
        ("random start as large as vectors", "fitting", 0),
        ("random start, standard normal", "normal", 0),
        ("random start, standard normal, revival", "normal", 32),
    ):
        say(f"codewords: {name}")
        state = bench.joint("paper", revive_window=window)
        if start != "warm":
            random_start(state, fitting=start == "fitting")
        found[name] = bench.train(state, name)
    return found


def rotation(bench: Bench) -> dict[str, Curve]:
    """Return curves of distortion and recall with and without a rotation."""
    found = {}
    for name, turned in (("rotation", True), ("no rotation", False)):
        say(f"rotation: {name}")
        found[name] = bench.train(bench.joint("paper", rotation=turned), name)
    return found


def score(bench: Bench, search: Any) -> float:
    """Return recall@100 of a function from rows and k to item numbers."""

    def answers(rows: IntArray, k: int) -> SearchResult:
        return SearchResult(search(rows, k), np.empty((0, 0), dtype=np.float32))

    ranked = search_excluding(answers, bench.evaluation, max(CUTOFFS))
    return round(bench.evaluation.score(ranked)["recall@100"], 5)


def of_lists(vectors: FloatArray, lists: IntArray, centroids: FloatArray) -> Any:
    """Return a Faiss index of float vectors in given lists, probed by inner product."""
    import faiss

    num_lists, dim = centroids.shape
    coarse = faiss.IndexFlatIP(dim)
    coarse.add(centroids)
    index = faiss.IndexIVFFlat(coarse, dim, num_lists, faiss.METRIC_INNER_PRODUCT)
    for number in range(num_lists):
        ids = np.flatnonzero(lists == number)
        rows = np.ascontiguousarray(vectors[ids], dtype=np.float32).view(np.uint8)
        index.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(rows))
    index.is_trained, index.ntotal = True, len(vectors)
    return index


def as_floats(index: Any) -> Any:
    """Return a Faiss index of what another with lists decodes: the same answers, sooner."""
    import faiss

    lists = np.empty(index.ntotal, dtype=np.int64)
    for number in range(index.nlist):
        count = index.invlists.list_size(number)
        lists[faiss.rev_swig_ptr(index.invlists.get_ids(number), count)] = number
    index.make_direct_map()
    decoded = index.reconstruct_n(0, index.ntotal)
    return of_lists(decoded, lists, index.quantizer.reconstruct_n(0, index.nlist))


def probes(bench: Bench) -> dict[str, Any]:
    """Return recall@100 by lists visited: learned lists and k-means lists, codes and floats."""
    import faiss

    say(f"probes: {NUM_LISTS} lists learned with the model")
    state = bench.joint("ours-residual", num_lists=NUM_LISTS)
    bench.train(state, "learned lists")
    queries = query_vectors(state, bench.prepared, bench.evaluation)
    vectors = state.model.all_items()
    index = build_index(state.quantizer(), None, vectors, metric="ip")
    lists = state.item_codes().lists.numpy()
    centroids = state.layer.list_vectors().detach().numpy()
    order = np.argsort(-(queries @ centroids.T), axis=1, kind="stable")
    twin_vectors = np.load(bench.twin.path / "vectors.npy")
    twin_queries = np.load(bench.twin.path / "queries.npy")
    dim, size = twin_vectors.shape[1], bench.num_bytes
    rivals = {
        "k-means lists, codes": f"OPQ{size},IVF{NUM_LISTS},PQ{size}x8np",
        "k-means lists, residual codes": f"IVF{NUM_LISTS},RQ{size}x8",
        "k-means lists, floats": f"IVF{NUM_LISTS},Flat",
    }
    built = {}
    for name, description in rivals.items():
        say(f"probes: Faiss {description}")
        rival = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
        rival.train(twin_vectors)
        rival.add(twin_vectors)
        built[name] = (as_floats(rival) if "RQ" in description else rival, twin_queries)
    built["learned lists, floats"] = (of_lists(vectors.numpy(), lists, centroids), queries)
    found: dict[str, list[float]] = {}
    for num_probes in PROBES:
        say(f"probes: {num_probes} of {NUM_LISTS}")

        def learned(rows: IntArray, k: int, num_probes: int = num_probes) -> IntArray:
            k = min(k, index.num_items)
            return index.search(queries[rows], k, num_probes=num_probes).ids

        found.setdefault("learned lists, codes", []).append(score(bench, learned))
        for name, (rival, asked) in built.items():
            faiss.extract_index_ivf(rival).nprobe = num_probes

            def by_faiss(
                rows: IntArray, k: int, rival: Any = rival, asked: FloatArray = asked
            ) -> IntArray:
                return rival.search(asked[rows], k)[1]

            found.setdefault(name, []).append(score(bench, by_faiss))
    sizes = np.bincount(lists, minlength=NUM_LISTS)
    of_kmeans = built["k-means lists, floats"][0].invlists
    kmeans_sizes = np.array([of_kmeans.list_size(i) for i in range(NUM_LISTS)])
    return {
        "recall@100": found,
        "share of items in a query's first list": {
            "learned": _first_list_share(order, sizes),
            "k-means": _first_list_share(_kmeans_order(built, twin_queries), kmeans_sizes),
        },
    }


def paper_probes(bench: Bench) -> dict[str, list[float]]:
    """Return recall@100 by lists visited, of the paper's recipe with lists of its own."""
    say(f"probes: {NUM_LISTS} lists by the paper's recipe")
    state = bench.joint("paper", num_lists=NUM_LISTS)
    bench.train(state, "the paper's lists")
    queries = query_vectors(state, bench.prepared, bench.evaluation)
    index = build_index(state.quantizer(), None, state.model.all_items(), metric="ip")
    curve = []
    for num_probes in PROBES:

        def learned(rows: IntArray, k: int, num_probes: int = num_probes) -> IntArray:
            k = min(k, index.num_items)
            return index.search(queries[rows], k, num_probes=num_probes).ids

        curve.append(score(bench, learned))
    return {"num_probes": list(PROBES), "recall@100": curve}


def probes_summary(by_seed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, and what learned lists gain where one is visited."""
    names = next(iter(by_seed.values()))["recall@100"]
    recalls = {
        name: np.mean([run["recall@100"][name] for run in by_seed.values()], axis=0)
        for name in names
    }
    rival = max(recalls[f"k-means lists, {kind}"][0] for kind in ("codes", "residual codes"))
    shares = [run["share of items in a query's first list"] for run in by_seed.values()]
    over = {
        "codes": recalls["learned lists, codes"][0] / rival,
        "floats": recalls["learned lists, floats"][0] / recalls["k-means lists, floats"][0],
    }
    return {
        "num_lists": NUM_LISTS,
        "num_probes": list(PROBES),
        "seeds": by_seed,
        "recall@100": {name: np.round(values, 5).tolist() for name, values in recalls.items()},
        "learned over k-means, 1 probe": {k: round(float(v), 4) for k, v in over.items()},
        "share of items in a query's first list": {
            kind: round(float(np.mean([share[kind] for share in shares])), 5) for kind in shares[0]
        },
    }


def _kmeans_order(built: dict[str, Any], queries: FloatArray) -> IntArray:
    order: IntArray = built["k-means lists, floats"][0].quantizer.search(queries, 1)[1]
    return order


def _first_list_share(order: IntArray, sizes: IntArray) -> float:
    """Return how much of the catalogue one probe looks at: a large list is no good list."""
    return round(float(sizes[order[:, 0]].mean() / sizes.sum()), 5)


def build(threads: int) -> dict[str, Any]:
    """Return seconds to build by number of items, each in its own process."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in BUILD_SIDES}
    script = str(Path(__file__).with_name("build_time.py"))
    for count in SIZES:
        for side, rows in found.items():
            say(f"build: {side}, {count:,} items")
            words = ["--side", side, "--items", str(count), "--threads", str(threads)]
            done = subprocess.run(
                [sys.executable, script, *words], capture_output=True, text=True, check=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {side: [round(row["seconds"], 3) for row in rows] for side, rows in found.items()}
    ratios = {
        side: [round(b / a, 1) for a, b in zip(seconds[side], seconds[rival], strict=True)]
        for side, rival in (("ours", "faiss_rq"), ("ours_product", "faiss_opq"))
    }
    return {
        "items": list(SIZES),
        "threads": threads,
        "seconds": seconds,
        "faiss_over_ours": ratios,
        "runs": found,
    }


def draw(figures: dict[str, Any], title: str, path: Path) -> None:
    """Draw the parts that are there, each in panels of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(part, panel) for part in PANELS if part in figures for panel in PANELS[part]]
    columns = max(1, min(3, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(5 * columns, 4.25 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontweight="bold")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (_, panel) in zip(places, panels, strict=False):
        panel(axes, figures)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    figure.savefig(path)


def _draw_use(axes: Any, figures: dict[str, Any]) -> None:
    for name, curve in figures["codewords"].items():
        axes.plot(curve["step"], [100 * v for v in curve["used_codewords"]], "o-", label=name)
    _label(axes, "codewords in use", "steps", "% of codewords")


def _draw_distortion(axes: Any, figures: dict[str, Any]) -> None:
    for name, curve in figures["rotation"].items():
        axes.plot(curve["step"], curve["distortion"], "o-", label=name)
    _label(axes, "distortion with and without rotation", "steps", "mean |x - T(x)|^2")


def _draw_recall(axes: Any, figures: dict[str, Any]) -> None:
    for name, curve in figures["rotation"].items():
        axes.plot(curve["step"], curve["quantized_recall@100"], "o-", label=name)
    _label(axes, "recall with and without rotation", "steps", "recall@100 of the codes")


def _draw_probes(axes: Any, figures: dict[str, Any], kind: str) -> None:
    found = figures["probes"]
    for lists in ("learned lists", "k-means lists"):
        for name in (f"{lists}, {kind}", f"{lists}, residual {kind}"):
            if name in found["recall@100"]:
                axes.plot(found["num_probes"], found["recall@100"][name], "o-", label=name)
    if kind == "codes" and "paper_probes" in figures:
        curve = figures["paper_probes"]
        axes.plot(curve["num_probes"], curve["recall@100"], "o-", label="the paper's lists")
    axes.set_xscale("log", base=2)
    _label(axes, f"lists visited, {kind}", f"of {NUM_LISTS} lists", "recall@100")


def _draw_seconds(axes: Any, figures: dict[str, Any]) -> None:
    found = figures["build"]
    for side, label in BUILD_SIDES.items():
        axes.plot(found["items"], found["seconds"][side], "o-", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _label(axes, "from vectors to an index, 8 bytes", "items", "seconds")


PANELS: dict[str, tuple[Callable[[Any, dict[str, Any]], None], ...]] = {
    "codewords": (_draw_use,),
    "rotation": (_draw_distortion, _draw_recall),
    "probes": (
        functools.partial(_draw_probes, kind="codes"),
        functools.partial(_draw_probes, kind="floats"),
    ),
    "build": (_draw_seconds,),
}
"""Part of the figures -> what draws each of its panels."""


def _label(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)


def bench_of(options: argparse.Namespace, seed: int) -> Bench:
    """Prepare the data, and train the twin where it is missing."""
    extra = {"train": {"num_threads": options.threads, "seed": seed}}
    if options.epochs:
        extra["train"] |= {"epochs": options.epochs, "warm_start_epoch": options.epochs // 2}
    config = settings(options.data, extra)
    prepared = prepare(config)
    evaluation = measured_pairs(config, prepared)
    twin = TwinFolder(Path("runs") / "compare" / options.data, config, prepared, evaluation)
    twin.train(Bar)
    return Bench(config, prepared, evaluation, twin, options.bytes)


PARTS = {"codewords": codewords, "rotation": rotation, "paper_probes": paper_probes}


def main() -> None:
    """Make what is missing, and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", choices=SETS, default="gowalla")
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the probes")
    parser.add_argument("--epochs", type=int, help="fewer than usual, to try the script")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    names = [*PARTS, "probes", "build"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--again", action="store_true", help="make anew what is there")
    parser.add_argument("--draw", action="store_true", help="only draw")
    options = parser.parse_args()
    name = f"paper_figures_{options.data}"
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {"figures": {}}
    figures, made_by = found["figures"], found.get("made_by", {})
    torch.set_num_threads(options.threads)

    def keep(part: str, value: Any) -> None:
        now = circumstances()
        figures[part] = value
        made_by[part] = {key: now[key] for key in ("when", "commit", "command")}
        facts = {"data": options.data, "seed": 0, "bytes": options.bytes}
        write_result(name, {**facts, "made_by": made_by, "figures": figures})

    for part in () if options.draw else options.only:
        if part == "probes":
            by_seed = {} if options.again else figures.get(part, {}).get("seeds", {})
            for seed in (seed for seed in options.seeds if str(seed) not in by_seed):
                by_seed[str(seed)] = probes(bench_of(options, seed))
                keep(part, probes_summary(by_seed))
        elif options.again or part not in figures:
            keep(
                part,
                build(options.threads) if part == "build" else PARTS[part](bench_of(options, 0)),
            )
    draw(figures, f"{options.data}, {options.bytes} bytes an item", RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()

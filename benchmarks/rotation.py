"""Ways to move a rotation on fixed vectors: distortion against steps and against seconds.

Each way starts from the same codebooks and the identity; a step is: assign all vectors, set the
codebooks to means, move the rotation once. The time counted is the processor's, for moving the
rotation alone. Faiss OPQ on the same vectors, in its own process, is the mark to reach. Also: one
greedy Givens step against one SVD of the same matrix. Step sizes fall to 0 over the run; each way
begins with that of its own which ends lowest on the set, and the others are told beside it. Of dim
1,024, where a run takes up to a quarter of an hour, it is the size that was best of dim 512.

    POEEM_DATA=../shared/data python benchmarks/rotation.py
    python benchmarks/rotation.py --sets generated-1024    # other sets stay as they were measured
    python benchmarks/rotation.py --sets generated-512 --ways Cayley    # so do its other ways
    python benchmarks/rotation.py --only-cost
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write_result
from torch import Tensor

from poeem.quantize import product
from poeem.quantize.givens import GivensDescent
from poeem.quantize.kmeans import kmeans
from poeem.quantize.procrustes import ParametrizedDescent, ProcrustesDescent
from poeem.quantize.rotation import orthonormality_error

NUM_CODEWORDS = 256
# name -> (num_subspaces, vectors, steps)
SETS = {
    "glove-6b-50d": (10, 20_000, 150),
    "generated-128": (16, 16_384, 150),
    "generated-512": (32, 4_096, 200),
    "generated-1024": (64, 4_096, 300),
}
Way = Callable[..., torch.optim.Optimizer]


def many_turns(params: list[Tensor], lr: float) -> GivensDescent:
    """Return greedy Givens descent of dim / 32 turns a step."""
    return GivensDescent(params, lr=lr, turns=len(params[0]) // 32)


WAYS: dict[str, tuple[Way, tuple[float, ...]]] = {
    "Givens, random pairs": (functools.partial(GivensDescent, pairs="random"), (0.2, 0.4, 0.8)),
    "Givens, greedy pairs": (functools.partial(GivensDescent, pairs="greedy"), (0.2, 0.4, 0.8)),
    "Givens, steepest pairs": (functools.partial(GivensDescent, pairs="steepest"), (0.4,)),
    "Givens, greedy pairs, dim / 32 turns a step": (many_turns, (0.1, 0.2, 0.4)),
    "Givens, greedy pairs, plain steps": (
        functools.partial(GivensDescent, pairs="greedy", step_size="plain"),
        (30.0, 100.0, 300.0),
    ),
    "Procrustes (OPQ)": (ProcrustesDescent, ()),
    "Cayley": (
        functools.partial(ParametrizedDescent, orthogonal_map="cayley"),
        (0.02, 0.05, 0.1),
    ),
    "matrix exponential": (
        functools.partial(ParametrizedDescent, orthogonal_map="matrix_exp"),
        (0.02, 0.05, 0.1),
    ),
}
"""Name -> what moves the rotation, and the step sizes it is tried with (none = it has none)."""
SIZES_OF = {"generated-1024": "generated-512"}
"""A set -> the set whose best step sizes it takes."""
STEEPEST_UP_TO = 512  # a matching takes two seconds there, ten times as long for twice the size
MANY_TURNS_FROM = 64  # below, dim / 32 is 1


def vectors_of(name: str) -> Tensor:
    """Return the fixed vectors, float32 [n, dim]."""
    count = SETS[name][1]
    if name.startswith("generated"):
        dim = int(name.split("-")[1])
        rng = np.random.default_rng(0)
        # Correlated, with a spectrum that falls like that of learned vectors.
        basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        scales = np.arange(1, dim + 1) ** -0.5
        return torch.from_numpy(
            ((rng.standard_normal((count, dim)) * scales) @ basis).astype(np.float32)
        )
    path = Path(os.environ["POEEM_DATA"]) / name / "vectors.f16.npy"
    return torch.from_numpy(np.load(path, mmap_mode="r")[:count].astype(np.float32))


def run_way(name: str, way: str, rate: float | None) -> dict[str, Any]:
    """Alternate codebooks and rotation; return distortion after each step, and seconds.

    rate: the step size at the beginning; None for a way that has none.
    """
    num_subspaces, _, num_steps = SETS[name]
    x = vectors_of(name)
    rotation = torch.nn.Parameter(torch.eye(x.shape[1]))
    make = WAYS[way][0]
    optimizer = make([rotation]) if rate is None else make([rotation], lr=rate)
    codebooks = kmeans(
        product.split(x, num_subspaces).contiguous(),
        NUM_CODEWORDS,
        num_iterations=4,
        generator=torch.Generator().manual_seed(0),
    )
    distortions, seconds = [], [0.0]
    for step in range(num_steps):
        with torch.no_grad():
            rotated = product.split(x @ rotation.T, num_subspaces).contiguous()
            codebooks = kmeans(
                rotated,
                NUM_CODEWORDS,
                num_iterations=1,
                generator=torch.Generator().manual_seed(step),
                centers=codebooks,
            )
            quantized = product.decode(product.assign(x @ rotation.T, codebooks), codebooks)
            distortions.append(float((x - quantized @ rotation).square().sum(1).mean()))
            # Among rotations, - <x, R^T q> is half the distortion less a constant.
            rotation.grad = -(quantized.T @ x) / len(x)
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate * (1 - step / num_steps)
        started = time.process_time()
        optimizer.step()
        seconds.append(seconds[-1] + time.process_time() - started)
    return {
        "step_size": rate,
        "distortion": distortions,
        "seconds": seconds[:-1],
        "orthonormality_error": orthonormality_error(rotation),
    }


def faiss_opq(name: str) -> float:
    """Return the distortion of Faiss OPQ+PQ trained on the same vectors, with its defaults."""
    import faiss

    x, num_subspaces = vectors_of(name).numpy(), SETS[name][0]
    index = faiss.index_factory(x.shape[1], f"OPQ{num_subspaces},PQ{num_subspaces}x8np")
    index.train(x)
    index.add(x)
    return float(((index.reconstruct_n(0, len(x)) - x) ** 2).sum(1).mean())


def step_cost(dim: int, repetitions: int = 15) -> dict[str, float]:
    """Return milliseconds of a greedy Givens step and of an SVD: medians, taking turns.

    By one thread, on the wall and of the processor: only the latter means much on a busy machine.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    rotation = torch.nn.Parameter(start.contiguous())  # by rows, as a layer has it
    optimizer = GivensDescent([rotation], pairs="greedy")
    clocks = {"ms": time.perf_counter, "processor_ms": time.thread_time}
    times: dict[str, list[float]] = {f"{w}_{c}": [] for w in ("givens", "svd") for c in clocks}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(repetitions):
        rotation.grad = torch.randn(dim, dim, generator=generator)
        work = {"givens": optimizer.step, "svd": functools.partial(torch.linalg.svd, rotation.grad)}
        for name, run in work.items():
            before = {clock: read() for clock, read in clocks.items()}
            run()
            for clock, read in clocks.items():
                times[f"{name}_{clock}"].append(read() - before[clock])
    torch.set_num_threads(threads)
    medians = {k: float(np.median(v)) * 1e3 for k, v in times.items()}
    return {
        **{k: round(v, 3) for k, v in medians.items()},
        "svd_over_givens": round(medians["svd_ms"] / medians["givens_ms"], 1),
        "svd_over_givens_processor": round(
            medians["svd_processor_ms"] / medians["givens_processor_ms"], 1
        ),
    }


def step_costs() -> dict[str, dict[str, float]]:
    """Return `step_cost` of each dim."""
    return {f"dim {dim}": step_cost(dim) for dim in (64, 128, 512, 1024)}


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw distortion over that of Faiss OPQ against steps and against seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2 * len(found)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), 2, squeeze=False)
    for row, (name, result) in zip(axes, found.items(), strict=True):
        for way, curve in result["ways"].items():
            relative = np.array(curve["distortion"]) / result["faiss_opq_distortion"]
            style = {"label": way, "linewidth": 1.4, "color": f"C{list(WAYS).index(way)}"}
            row[0].plot(relative, **style)
            row[1].plot(np.maximum(curve["seconds"], 1e-4), relative, **style)
        for axis in row:
            axis.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
            axis.set_ylabel("distortion / Faiss OPQ")
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set(title=name, xlabel="steps")
        row[1].set(
            title=name, xlabel="processor seconds spent on moving the rotation", xscale="log"
        )
    lines = {line.get_label(): line for axis in axes.flat for line in axis.lines}
    shown = {way: lines[way] for way in WAYS if way in lines}
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=4, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Run every way on every set; write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="of sets that were measured before")
    parser.add_argument("--faiss", choices=SETS)
    parser.add_argument("--only-cost", action="store_true", help="one step against one SVD")
    options = parser.parse_args()
    if options.only_cost:
        write_result("rotation_cost", {"one_step": step_costs()})
        return
    if options.faiss:
        print(json.dumps(faiss_opq(options.faiss)))
        return
    found = _kept([] if options.ways else options.sets)
    for name in options.sets:
        of_ways = measured(name, found, options.ways)
        found[name] = {"steps": SETS[name][2], **of_ways}
        keep({each: found[each] for each in SETS if each in found})
    write_result("rotation_cost", {"one_step": step_costs()})


def measured(
    name: str, found: dict[str, dict[str, Any]], only: list[str] | None = None
) -> dict[str, Any]:
    """Return the mark of Faiss OPQ, and the curve of every way at its best step size.

    found: what there is of other sets, and of this one's ways that are not among `only`.
    """
    command = [sys.executable, __file__, "--faiss", name]
    mark = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    dim = vectors_of(name).shape[1]
    curves = found[name]["ways"] if only else {}
    for way in only or ways_of(dim):
        rates: tuple[float | None, ...] = WAYS[way][1] or (None,)
        if name in SIZES_OF:
            rates = (found[SIZES_OF[name]]["ways"][way]["step_size"],)
        tried = {}
        for rate in rates:
            curve = run_way(name, way, rate)
            tried[rate] = curve["distortion"][-1] / mark
            print(f"{name}: {way}, {rate}: {tried[rate]:.4f} of Faiss OPQ's", flush=True)
            if tried[rate] == min(tried.values()):
                curves[way] = curve
        curves[way]["tried"] = {str(rate): round(value, 4) for rate, value in tried.items()}
    curves = {way: curves[way] for way in WAYS if way in curves}
    return {"faiss_opq_distortion": mark, "ways": curves}


def ways_of(dim: int) -> list[str]:
    """Return the ways that are run with so many dims."""
    left_out = {
        "Givens, steepest pairs": dim > STEEPEST_UP_TO,
        "Givens, greedy pairs, dim / 32 turns a step": dim < MANY_TURNS_FROM,
    }
    return [way for way in WAYS if not left_out.get(way)]


def _kept(again: list[str]) -> dict[str, dict[str, Any]]:
    """Return sets of the result file that are not to be measured again, of as many steps."""
    path = RESULTS / "rotation.json"
    kept = json.loads(path.read_text()).get("curves", {}) if path.exists() else {}
    return {n: v for n, v in kept.items() if n not in again and v["steps"] == SETS[n][2]}


def keep(found: dict[str, dict[str, Any]]) -> None:
    """Write figures, curves and picture."""
    draw(found, RESULTS / "rotation.png")
    summary = {
        name: {
            way: {
                "distortion_over_faiss_opq": round(
                    curve["distortion"][-1] / result["faiss_opq_distortion"], 4
                ),
                "seconds": round(curve["seconds"][-1], 3),
                **{key: curve[key] for key in ("step_size", "tried") if key in curve},
                "orthonormality_error": curve["orthonormality_error"],
            }
            for way, curve in result["ways"].items()
        }
        for name, result in found.items()
    }
    for result in found.values():
        for curve in result["ways"].values():
            curve["distortion"] = [round(value, 5) for value in curve["distortion"]]
            curve["seconds"] = [round(value, 4) for value in curve["seconds"]]
    settings = {"sets": {n: SETS[n] for n in found}, "num_codewords": NUM_CODEWORDS}
    write_result("rotation", {"settings": settings, "summary": summary, "curves": found})


if __name__ == "__main__":
    main()

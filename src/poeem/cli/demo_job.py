"""What `poeem demo` does: one training with the index and one without, then a comparison.

The joint model and its float twin share the epochs before the warm start and part there: same data,
same order, same number of steps. So what differs is the index: learned with the model, or built
afterwards.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from poeem.config import Config
from poeem.errors import InputError
from poeem.evaluation.comparison import AFTERWARDS, FLOAT, JOINT, Row
from poeem.evaluation.faiss_rival import RIVALS, FaissRival, build_rival
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.training.folder import RunFolder
from poeem.training.loop import evaluate_state
from poeem.training.run import (
    MakeDisplay,
    Prepared,
    build_run,
    evaluate_run,
    new_state,
    train_run,
    train_state,
)
from poeem.training.state import TrainingState
from poeem.types import FloatArray, IntArray, SearchResult

MARK = "made-by-poeem-demo"

SETTINGS = Config.from_dict(
    {
        "data": {"path": "online-retail"},
        # The mean of what a customer bought, so that anybody with a history can be served.
        "model": {"query_tower": "history", "max_history": 1000, "temperature": 0.15},
        "layer": {"num_subspaces": 8},
        # Chosen by float recall on validation pairs: the model overfits in more epochs than these.
        "train": {"epochs": 4, "warm_start_epoch": 2, "batch_size": 512, "decay_epochs": 1},
    }
)


def demo_config(epochs: int | None, path: str | None) -> Config:
    """Return the demo's settings, for another number of epochs or other data where asked for."""
    data, train = SETTINGS.data, SETTINGS.train
    if path is not None:
        data = dataclasses.replace(data, path=path)
    if epochs is not None:
        warm = round(epochs * train.warm_start_epoch / train.epochs)
        train = dataclasses.replace(train, epochs=epochs, warm_start_epoch=min(warm, epochs - 1))
    return dataclasses.replace(SETTINGS, data=data, train=train)


@dataclass
class DemoResult:
    """What came out: rows of the comparison, and seconds of each part."""

    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(
    config: Config,
    prepared: Prepared,
    folder: Path,
    *,
    overwrite: bool,
    display: MakeDisplay,
    say: Callable[[str], None],
) -> DemoResult:
    """Train joint model and twin, build all indexes, compare them on the held-out pairs.

    Args:
        config, prepared: settings and the data they lead to.
        folder: where run and index go. One that an earlier demo made is used again.
        overwrite: also replace a run that is no demo's.
        display: shows the trainings.
        say: receives a line before each longer part.
    """
    if prepared.test is None:
        raise InputError("demo: the data has no held-out pairs to compare on")
    mark = folder / MARK
    if RunFolder(folder).holds_a_run() and not (overwrite or mark.exists()):
        raise InputError(
            f"out: {folder} holds a run that is no demo's; name another folder or give --overwrite"
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    result = DemoResult()
    twin = new_state(config, prepared, joint=False)
    say("training model and index as one")
    with _timed(result, "joint training"):
        train_run(
            config,
            folder,
            overwrite=True,
            prepared=prepared,
            display=display,
            on_warm_start=lambda state: _fork(state, twin),
        )
    say("training its float twin on from the warm start, without an index")
    with _timed(result, "float twin"):
        train_state(twin, prepared, display=display, title="float twin")
    joint = _joint_row(prepared, folder, result)
    result.rows += _rows_of_twin(config, twin, prepared, prepared.test, say)
    result.rows.append(joint)
    return result


def _fork(state: TrainingState, twin: TrainingState) -> None:
    """Bring the twin to where the joint model stands, its optimizer included."""
    twin.load_tensors({name: tensor.clone() for name, tensor in state.tensors().items()})
    twin.epoch, twin.batch, twin.step = state.epoch, state.batch, state.step


def _joint_row(prepared: Prepared, folder: Path, result: DemoResult) -> Row:
    """Build and save the index, then measure it through its file."""
    with _timed(result, "building our index"):
        index = build_run(folder)
    evaluation = evaluate_run(folder, prepared=prepared)
    figures = evaluation.engine or {}
    num_bytes = index.info()["code_bytes_per_item"]
    return Row.of(
        "torch-poeem (joint)", JOINT, num_bytes, figures, result.seconds["building our index"]
    )


def _rows_of_twin(
    config: Config,
    twin: TrainingState,
    prepared: Prepared,
    test: EvaluationSet,
    say: Callable[[str], None],
) -> list[Row]:
    """Search the twin's vectors exactly, and through indexes that Faiss builds from them."""
    twin.model.eval()
    vectors: FloatArray = twin.model.all_items().numpy()
    exact = evaluate_state(twin, test, prepared.pairs)
    rows = [Row.of("exact, float vectors", FLOAT, vectors.nbytes // len(vectors), exact, None)]
    queries = _queries(twin, prepared, test)
    num_bytes = config.layer.num_subspaces
    for name in RIVALS:
        say(f"{name}: built afterwards from the twin's vectors")
        rival = build_rival(name, vectors, num_bytes)
        figures = test.score(search_excluding(_searcher(rival, queries), test, max(CUTOFFS)))
        rows.append(Row.of(name, AFTERWARDS, rival.bytes_per_item, figures, rival.build_seconds))
    return rows


def _searcher(rival: FaissRival, queries: FloatArray) -> Callable[[IntArray, int], SearchResult]:
    def search(rows: IntArray, k: int) -> SearchResult:
        return rival.search(queries[rows], k)  # pads with -1 beyond the catalogue, as ours does

    return search


def _queries(twin: TrainingState, prepared: Prepared, test: EvaluationSet) -> FloatArray:
    """Return the twin's query vectors, float32 [n, dim], of the users of the test."""
    users = prepared.pairs.histories.of(torch.from_numpy(test.users))
    with torch.no_grad():
        vectors: FloatArray = twin.model.encode_queries(users).numpy()
    return vectors


@contextmanager
def _timed(result: DemoResult, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    result.seconds[name] = time.perf_counter() - start

"""What `poeem demo` does: models trained with their index, one without, and a comparison.

The joint models and their float twin share the epochs before the warm start and part there: same
data, same order, same number of steps. So what differs is the index: learned with the model, or
built afterwards.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from poeem.cli.schedule import fitted
from poeem.config import Config
from poeem.errors import DataError, InputError, TrainingInterrupted
from poeem.evaluation.comparison import AFTERWARDS, FLOAT, JOINT, Row
from poeem.evaluation.faiss_rival import RIVALS, FaissRival, build_rival
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.training.folder import RunFolder
from poeem.training.loop import evaluate_state
from poeem.training.prepared import Prepared
from poeem.training.run import MakeDisplay, new_state, train_run, train_state
from poeem.training.state import TrainingState
from poeem.training.trained import build_run, evaluate_run
from poeem.training.twin import fork
from poeem.types import FloatArray, IntArray, SearchResult

MARK = "made-by-poeem-demo"

SETTINGS = Config.from_dict(
    {
        "data": {"path": "online-retail"},
        # The mean of what a customer bought, so that anybody with a history can be served.
        "model": {"query_tower": "history", "max_history": 1000, "temperature": 0.15},
        "layer": {"num_subspaces": 8},
        # Chosen by float recall on validation pairs: a small table, which more epochs overfit.
        "train": {
            "epochs": 4,
            "warm_start_epoch": 2,
            "decay_epochs": 1,
            "batch_size": 512,
            "learning_rate": 1e-3,
            "codebook_learning_rate": 1e-4,
        },
    }
)

SMALLER = (4,)
"""Bytes per item of further indexes to compare, each with a joint model of its own."""


def demo_config(epochs: int | None, path: str | None) -> Config:
    """Return the demo's settings, for another number of epochs or other data where asked for."""
    data, train = SETTINGS.data, SETTINGS.train
    if path is not None:
        data = dataclasses.replace(data, path=path)
    if epochs is not None:
        train = fitted(dataclasses.replace(train, epochs=epochs), (), train)
    return dataclasses.replace(SETTINGS, data=data, train=train)


def check_data(config: Config, prepared: Prepared) -> EvaluationSet:
    """Return the held-out pairs, once it is known that the demo can be made with the data.

    Raises:
        InputError: nothing is held out to compare on.
        DataError: fewer items than the demo's indexes have codewords.
    """
    if prepared.test is None:
        raise InputError("demo: the data has no held-out pairs to compare on")
    have, wanted = prepared.pairs.num_items, config.layer.num_codewords
    if have < wanted:
        raise DataError(
            f"demo: got {have} items, wanted at least {wanted}, as many as a codebook of its "
            "indexes has codewords; for a smaller table: poeem train --num-codewords 16"
        )
    return prepared.test


def take_folder(folder: Path, *, overwrite: bool) -> Path:
    """Return the folder to work in: `folder`, or a part of it while an earlier demo is there.

    Call `RunFolder(folder).finish()` when all is done.

    Args:
        folder: where all is to be in the end.
        overwrite: replace a run there even if no demo made it.

    Raises:
        InputError: there is such a run. SaveError: the folder cannot be made.
    """
    files = RunFolder(folder)
    if files.holds_a_run() and not (overwrite or (folder / MARK).exists()):
        raise InputError(
            f"out: {folder} holds a run that is no demo's; name another folder or give --overwrite"
        )
    work = files.begin_folder()
    (work.path / MARK).touch()
    return work.path


@dataclass
class DemoResult:
    """What came out: rows of the comparison, and seconds of each part."""

    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Demo:
    """A demo under way.

    config, prepared: settings and the data they lead to.
    folder: where run and index go, from `take_folder`; of the smaller ones, in folders below.
    display: shows the trainings. say: receives a line before each longer part.
    """

    config: Config
    prepared: Prepared
    folder: Path
    display: MakeDisplay
    say: Callable[[str], None]
    result: DemoResult = field(default_factory=DemoResult)

    def run(self) -> DemoResult:
        """Train joint models and their twin, build all indexes, compare them on held-out pairs.

        Raises:
            InputError, DataError: see `check_data`.
            TrainingInterrupted: Ctrl-C.
        """
        test = check_data(self.config, self.prepared)
        try:
            twin = self._train_all()
        except TrainingInterrupted as error:
            message = "stopped by you; call the demo again to start over"
            raise TrainingInterrupted(message, error.checkpoint) from error
        self.result.rows.append(self._exact_row(twin, test))
        for num_bytes in (self.config.layer.num_subspaces, *SMALLER):
            self._add_rivals(twin, test, num_bytes)
            self.result.rows.append(self._joint_row(num_bytes))
        return self.result

    def folder_of(self, num_bytes: int) -> Path:
        """Return the run's folder of the joint model with so many bytes per item."""
        is_main = num_bytes == self.config.layer.num_subspaces
        return self.folder if is_main else self.folder / f"{num_bytes}-bytes"

    def _train_all(self) -> TrainingState:
        """Train the main joint model, and from its warm start on all others; return the twin."""
        twin = new_state(self.config, self.prepared, joint=False)
        smaller = {n: new_state(self._with_bytes(n), self.prepared, joint=True) for n in SMALLER}

        def fork_all(state: TrainingState) -> None:
            for other in (twin, *smaller.values()):
                fork(state, other)

        self.say(f"training model and index as one, {self.config.layer.num_subspaces} bytes")
        with self._timed("joint training"):
            train_run(
                self.config,
                self.folder,
                overwrite=True,
                prepared=self.prepared,
                display=self.display,
                on_warm_start=fork_all,
            )
        self.say("training the float twin on from the warm start, without an index")
        with self._timed("float twin, from the warm start"):
            train_state(twin, self.prepared, display=self.display, title="float twin")
        for num_bytes, state in smaller.items():
            self.say(f"the same from the warm start with an index of {num_bytes} bytes")
            target = RunFolder(self.folder_of(num_bytes))
            files = target.begin(state.config, self.prepared.catalogue)
            with self._timed(f"joint training, {num_bytes} bytes, from the warm start"):
                train_state(state, self.prepared, checkpoint=files.checkpoint, display=self.display)
            target.finish()
        return twin

    def _with_bytes(self, num_bytes: int) -> Config:
        layer = dataclasses.replace(self.config.layer, num_subspaces=num_bytes)
        return dataclasses.replace(self.config, layer=layer)

    def _joint_row(self, num_bytes: int) -> Row:
        """Build and save an index of ours, then measure it through its file."""
        folder, name = self.folder_of(num_bytes), f"building our index, {num_bytes} bytes"
        with self._timed(name):
            index = build_run(folder)
        figures = evaluate_run(folder, prepared=self.prepared).engine or {}
        size = index.info()["code_bytes_per_item"]
        return Row.of("torch-poeem (joint)", JOINT, size, figures, self.result.seconds[name])

    def _exact_row(self, twin: TrainingState, test: EvaluationSet) -> Row:
        twin.model.eval()
        figures = evaluate_state(twin, test, self.prepared.pairs)
        num_bytes = 4 * self.config.model.dim
        return Row.of("exact, float vectors", FLOAT, num_bytes, figures, None)

    def _add_rivals(self, twin: TrainingState, test: EvaluationSet, num_bytes: int) -> None:
        """Let Faiss build its indexes from the twin's vectors, and search them."""
        vectors: FloatArray = twin.model.all_items().cpu().numpy()
        users = self.prepared.pairs.histories.of(torch.from_numpy(test.users)).to(twin.device)
        with torch.no_grad():
            queries: FloatArray = twin.model.encode_queries(users).cpu().numpy()
        for name in RIVALS:
            self.say(f"{name}, {num_bytes} bytes: built afterwards from the twin's vectors")
            rival = build_rival(name, vectors, num_bytes)
            ranked = search_excluding(_searcher(rival, queries), test, max(CUTOFFS))
            figures, seconds = test.score(ranked), rival.build_seconds
            row = Row.of(name, AFTERWARDS, rival.bytes_per_item, figures, seconds)
            self.result.rows.append(row)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.result.seconds[name] = time.perf_counter() - start


def _searcher(rival: FaissRival, queries: FloatArray) -> Callable[[IntArray, int], SearchResult]:
    def search(rows: IntArray, k: int) -> SearchResult:
        return rival.search(queries[rows], k)  # pads with -1 beyond the catalogue, as ours does

    return search

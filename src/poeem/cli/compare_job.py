"""What `poeem compare` does: a twin per seed, indexes built from it afterwards, and joint ones.

Everything that can be shared is: one float twin per seed gives its vectors to all rivals, and what
it was at the warm start is where every joint model begins. Each row is kept as soon as it is known.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from poeem.config import Config
from poeem.errors import ConfigError
from poeem.evaluation.faiss_rival import opq_parts
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.evaluation.results import METRICS, Figures, ResultFile
from poeem.evaluation.rival_process import measure_rival
from poeem.evaluation.rivals import ANY_SIZE, COMPARED
from poeem.index import Index, build_index, build_index_from_codes
from poeem.training.fixed_codes import FixedCodesSettings, train_on_fixed_codes
from poeem.training.loop import evaluate_state
from poeem.training.prepared import Prepared
from poeem.training.recipes import OURS, RECIPES, recipe_config
from poeem.training.run import MakeDisplay, too_few_items, train_state
from poeem.training.state import TrainingState
from poeem.training.twin import TwinFolder, left_open, query_vectors, settings_mark
from poeem.types import FloatArray, IntArray, SearchResult

EXACT, FIXED_CODES = "float", "fixed-codes"

LABELS = {
    EXACT: "exact, float vectors",
    **{rival.name: rival.label for rival in COMPARED.values()},
    FIXED_CODES: "OPQ codes fixed, rest trained",
    **RECIPES,
}
"""Name -> label of all that is compared, in the order of tables."""

_KINDS = {EXACT: "float", FIXED_CODES: "codes fixed"} | dict.fromkeys(RECIPES, "joint")
_WITHOUT_BUDGET = {EXACT} | {r.name for r in COMPARED.values() if not r.takes_budget}


@dataclass(frozen=True)
class Plan:
    """What to compare: seeds, budgets in bytes per item, and names of `LABELS`."""

    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    names: tuple[str, ...] = tuple(LABELS)

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in LABELS:
                known = ", ".join((*LABELS, OURS))
                raise ConfigError(f"--only: got {name!r}, wanted some of {known}")
        if not self.seeds or not self.sizes or min(self.sizes) < 1 or min(self.seeds) < 0:
            raise ConfigError(
                f"--seeds, --bytes: got {self.seeds} and {self.sizes}, wanted seeds of at least 0 "
                "and sizes of at least 1"
            )

    def rows(self) -> Iterator[tuple[int, int, str]]:
        """Yield seed, bytes and name of each row, in the order in which they are made."""
        for seed in self.seeds:
            for num_bytes in (ANY_SIZE, *self.sizes):
                for name in LABELS:
                    if name in self.names and (name in _WITHOUT_BUDGET) == (num_bytes == ANY_SIZE):
                        yield seed, num_bytes, name


class _Built(NamedTuple):
    """An index of our engine, what to ask it, and what is known of it."""

    made: Index
    queries: FloatArray
    build_seconds: float
    build_cpu_seconds: float
    facts: dict[str, Any]


@dataclass(eq=False)
class Comparison:
    """A comparison under way.

    config: settings of towers, data, steps, and of our layer.
    prepared, evaluation: the data, and the pairs to measure on.
    results: where rows go. stamp: facts for each row: when, by which code.
    work: the folder of twins. display: shows trainings. say: receives a line before each row.
    again: measure also what is there.
    """

    config: Config
    prepared: Prepared
    evaluation: EvaluationSet
    plan: Plan
    results: ResultFile
    stamp: Callable[[], Mapping[str, Any]]
    work: Path
    display: MakeDisplay
    say: Callable[[str], None]
    again: bool = False
    _spent: dict[str, list[float]] = field(default_factory=dict)
    _marks: dict[tuple[int, int, str], str] = field(default_factory=dict)

    def run(self) -> None:
        """Make all rows that are not there yet.

        Raises:
            TrainingInterrupted: Ctrl-C; calling it again goes on.
        """
        torch.set_num_threads(self.num_threads)
        self.results.counts = self._counts
        others = len(self.results.all_rows) - len(self.results.rows)
        if others:
            self.say(
                f"{self.results.path}: {others} rows of other data or settings are in no table"
            )
        todo = [row for row in self.plan.rows() if self.again or not self._is_there(*row)]
        for at, (seed, num_bytes, name) in enumerate(todo):
            left = self._time_left([row[2] for row in todo[at:]])
            size = f", {num_bytes} bytes" if num_bytes else ""
            self.say(f"[{at + 1} of {len(todo)}{left}] seed {seed}: {LABELS[name]}{size}")
            twin = self._twin(seed)
            if not twin.is_trained():
                twin.train(self.display)
            start = time.perf_counter()
            figures = self._measure(twin, seed, num_bytes, name)
            self._spent.setdefault(name, []).append(time.perf_counter() - start)
            self._keep(seed, num_bytes, name, figures)
        self.results.save()

    @property
    def num_threads(self) -> int:
        """Threads of every part, rivals included."""
        return self.config.train.num_threads or torch.get_num_threads()

    def _keep(self, seed: int, num_bytes: int, name: str, figures: Figures) -> None:
        for problem in ("missing", "failed"):
            if problem in figures:  # to be made when it is there, or mended
                self.say(f"  left out: {LABELS[name]} {figures[problem]}")
                return
        if "cannot" in figures:
            self.say(f"  no such index: {figures['cannot']}")
        else:
            self.say("  " + ", ".join(f"{key} {figures[key]:.4f}" for key in METRICS))
        known = {
            "seed": seed,
            "bytes": num_bytes,
            "name": name,
            "label": LABELS[name],
            "kind": _KINDS.get(name, "afterwards"),
            "settings": self._mark(seed, num_bytes, name),
            "data": self.prepared.digest,
            "spent_seconds": round(self._spent[name][-1], 1),
        }
        self.results.add({**known, **_rounded(figures), **self.stamp()})

    def _is_there(self, seed: int, num_bytes: int, name: str) -> bool:
        return self.results.has(seed, num_bytes, name, self._mark(seed, num_bytes, name))

    def _counts(self, row: Figures) -> bool:
        """Tell whether a row is of these data and settings; older ones do not say of which data."""
        if (
            row["name"] not in LABELS
            or row.get("data", self.prepared.digest) != self.prepared.digest
        ):
            return False
        return bool(row["settings"] == self._mark(row["seed"], row["bytes"], row["name"]))

    def _mark(self, seed: int, num_bytes: int, name: str) -> str:
        """Return what changes when a row's settings do."""
        key = seed, num_bytes, name
        if key not in self._marks:
            self._marks[key] = self._found_mark(*key)
        return self._marks[key]

    def _found_mark(self, seed: int, num_bytes: int, name: str) -> str:
        if name in RECIPES:
            config = recipe_config(name, self.config, num_bytes, seed)
            return settings_mark(config, joint=True, left=left_open(self.prepared, config))
        mark = settings_mark(self._seeded(seed), joint=False)
        return f"{mark} {FixedCodesSettings()}" if name == FIXED_CODES else mark

    def _seeded(self, seed: int) -> Config:
        return dataclasses.replace(
            self.config, train=dataclasses.replace(self.config.train, seed=seed)
        )

    def _twin(self, seed: int) -> TwinFolder:
        return TwinFolder(self.work, self._seeded(seed), self.prepared, self.evaluation)

    def _time_left(self, names: list[str]) -> str:
        """Return ", about N min left", by how long rows of these names took; "" = nobody knows."""
        known = {}
        for name in set(names):
            here = self._spent.get(name)
            seconds = float(np.mean(here)) if here else self.results.seconds_of(name)
            if seconds is not None:
                known[name] = seconds
        if len(known) < len(set(names)) / 2:
            return ""
        usual = float(np.mean(list(known.values())))
        minutes = sum(known.get(name, usual) for name in names) / 60
        return f", about {minutes:.0f} min left"

    def _measure(self, twin: TwinFolder, seed: int, num_bytes: int, name: str) -> Figures:
        if name == EXACT:
            size = 4 * self.config.model.dim
            return {**twin.figures(), "bytes_per_item": size, "build_seconds": None}
        if name in COMPARED:
            return measure_rival(name, twin.path, num_bytes, self.num_threads)
        if name == FIXED_CODES:
            try:
                return self._searched(self._fixed_codes(twin, num_bytes))
            except ConfigError as error:
                return {"cannot": str(error)}
        if (lacking := too_few_items(self.config, self.prepared)) is not None:
            return {"cannot": lacking}
        try:
            config = recipe_config(name, self.config, num_bytes, seed)
            state = twin.joint_state(config)
        except ConfigError as error:
            return {"cannot": str(error)}
        return self._searched(self._joint(state))

    def _joint(self, state: TrainingState) -> _Built:
        """Train a joint model on from its twin's warm start, and build its index."""
        unwatched = dataclasses.replace(self.prepared, validation=None)
        start = time.perf_counter()
        train_state(state, unwatched, display=self.display)
        trained = time.perf_counter()
        state.model.eval()
        if state.layer is None:
            raise ConfigError("recipe: got a model without an index layer")
        state.layer.eval()
        vectors = state.model.all_items()
        encoding, cpu = time.perf_counter(), time.process_time()
        index = build_index(state.quantizer(), None, vectors, metric="ip")
        seconds, cpu = time.perf_counter() - encoding, time.process_time() - cpu
        own = evaluate_state(state, self.evaluation, self.prepared.pairs)
        facts = {
            "train_seconds": round(trained - start, 1),
            "own_float_recall@100": own["recall@100"],
            "used_codewords": own["used_codewords"],
            "distortion": own["distortion"],
        }
        queries = query_vectors(state, self.prepared, self.evaluation)
        return _Built(index, queries, seconds, cpu, facts)

    def _fixed_codes(self, twin: TwinFolder, num_bytes: int) -> _Built:
        """Train query tower and codebooks on codes that Faiss made of the twin's vectors."""
        state, settings = twin.trained(), FixedCodesSettings()
        vectors = state.model.all_items().cpu().numpy()
        start, cpu = time.perf_counter(), time.process_time()
        parts = opq_parts(vectors, num_bytes, self.num_threads)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        codebooks = train_on_fixed_codes(state, parts, self.prepared, settings, self.display)
        index = build_index_from_codes(
            codes=parts.codes, codebooks=codebooks, rotation=parts.rotation, metric="ip"
        )
        trained = time.perf_counter() - start - seconds
        queries = query_vectors(state, self.prepared, self.evaluation)
        facts = {"train_seconds": round(trained, 1), "how": str(settings)}
        return _Built(index, queries, seconds, cpu, facts)

    def _searched(self, built: _Built) -> Figures:
        """Search an index of ours through a file, as a user would."""
        with tempfile.TemporaryDirectory(dir=self.work) as place:
            path = Path(place) / "items.poeem"
            start, cpu = time.perf_counter(), time.process_time()
            built.made.save(path)
            seconds = built.build_seconds + time.perf_counter() - start
            cpu = built.build_cpu_seconds + time.process_time() - cpu
            index = Index.open(path)  # mapped: it may lose its name

        def search(rows: IntArray, k: int) -> SearchResult:
            k = min(k, index.num_items)
            return index.search(built.queries[rows], k, num_threads=self.num_threads)

        ranked = search_excluding(search, self.evaluation, max(CUTOFFS))
        return {
            **self.evaluation.score(ranked),
            "bytes_per_item": _growing_bytes(index),
            "build_seconds": seconds,
            "build_cpu_seconds": cpu,
            **built.facts,
        }


def _growing_bytes(index: Index) -> float:
    """Return the bytes per item of all parts of an index that grow with the items.

    Codes fill blocks of 256 items: what the last one has too many does not grow.
    """
    info = index.info()
    fixed = ("codes", "codebooks", "rotation", "centroids", "list_offsets", "error_metric")
    rest = sum(size for name, size in info["part_bytes"].items() if name not in fixed)
    return round(float(info["code_bytes_per_item"] + rest / index.num_items), 2)


def _rounded(figures: Figures) -> Figures:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}

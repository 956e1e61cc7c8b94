"""A run that has been trained: its model asked for vectors, its index built and evaluated."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poeem.checks import as_path
from poeem.config import BuildConfig, Config, SearchConfig
from poeem.errors import (
    CheckpointError,
    ConfigError,
    DtypeError,
    InputError,
    LineageError,
    NotWarmError,
)
from poeem.evaluation.metrics import Grouped
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.index import Index, build_index
from poeem.index.lineage import MODEL
from poeem.index.own_ids import OWN_IDS_LINEAGE, has_own_ids, name
from poeem.index.refresh import in_storage_order, save_checksums, vector_checksums
from poeem.live import LiveIndex, pending_changes, swap_index
from poeem.models.text import TextTower
from poeem.models.towers import Users
from poeem.training.checkpoint import fingerprint, read_model
from poeem.training.folder import Catalogue, RunFolder
from poeem.training.loop import evaluate_state
from poeem.training.prepared import Prepared, measured_pairs, prepare, text_tables, token_table
from poeem.training.state import TrainingState
from poeem.types import FloatArray, IntArray, SearchResult


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A model out of the folder of `poeem train`, ready to encode.

    files, config, catalogue: of the run. state: model, layer and where the training stood.
    """

    files: RunFolder
    config: Config
    state: TrainingState
    catalogue: Catalogue

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TrainedRun:
        """Read a run.

        Args:
            folder: what `poeem train --out` was told.

        Raises:
            CheckpointError: there is no run, it cannot be read, or its parts are of two runs.
        """
        files = RunFolder(as_path(folder, "folder"))
        config = files.read_config()
        state, catalogue = read_model(files.checkpoint), Catalogue.load(files.ids)
        if state.catalogue not in ("", catalogue.digest()):
            raise CheckpointError(
                f"{files.ids}: of other data than {files.checkpoint.name} was trained on; wanted "
                "the two that `poeem train` wrote together"
            )
        state.model.texts = text_tables(
            state.config.model, catalogue.query_texts, catalogue.item_texts
        )
        return cls(files, config, state, catalogue)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any weight."""
        return fingerprint(self.state)

    @torch.no_grad()
    def query_vectors(
        self,
        *,
        users: Sequence[object] | None = None,
        history: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
    ) -> FloatArray:
        """Return what to search an index with, float32 [n, dim].

        Args:
            users: ids of users of the training data; a row each. Of a text set: of its queries.
            history: ids of items that one user had, latest first; one row.
            texts: anything that one could ask; a row each.

        Raises:
            IdError: an id that is not in the training data.
            ConfigError: a history or texts, for a model that knows users by id alone.
            DtypeError: texts that are not a list of strings; no list of ids, or a nested one.
        """
        if sum(part is not None for part in (users, history, texts)) != 1:
            raise ConfigError("query_vectors: wanted either users, history or texts")
        for argument, given in (("users", users), ("history", history)):
            if given is not None:
                _check_id_list(argument, given)
        if texts is not None:
            _check_texts(texts)
            table = token_table(self.config.model, texts)
            bags = table.of(torch.arange(len(texts), device=self.state.device))
            of_texts: FloatArray = self.state.model.encode_texts(bags).cpu().numpy()
            return of_texts
        if users is not None:
            numbers = self.catalogue.user_numbers(users)
            known = self.catalogue.histories.select(numbers)
        else:
            if isinstance(self.state.model.query_tower, TextTower):
                raise ConfigError("history: this model answers texts; ask it with texts (--text)")
            if self.config.model.query_tower != "history":
                raise ConfigError(
                    "history: this model was trained with query_tower = 'id' and knows only the "
                    "users of its training data; train with --query-tower history"
                )
            items = self.catalogue.item_numbers(() if history is None else history)
            known = Grouped(np.array([0, len(items)]), items)
            numbers = np.array([-1])
        kept = _latest(known, self.config.model.max_history)
        parts = (numbers, kept.items, kept.offsets)
        batch = Users(*(torch.from_numpy(np.asarray(part, dtype=np.int64)) for part in parts))
        queries = self.state.model.encode_queries(batch.to(self.state.device))
        vectors: FloatArray = queries.cpu().numpy()
        return vectors

    @torch.no_grad()
    def item_vectors(self) -> FloatArray:
        """Return the vectors of the whole catalogue, float32 [num_items, dim].

        Of the items `catalogue.item_ids`; in an index of the run they have the ids
        `catalogue.index_ids()`, where None stands for 0, 1, 2, ...
        """
        vectors: FloatArray = self.state.model.all_items().cpu().numpy()
        return vectors

    @torch.no_grad()
    def document_vectors(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of documents, new ones too, float32 [n, dim].

        Args:
            texts: as the run read them: the fields of a document with a line break between.

        Raises:
            ConfigError: the items of the run are no texts. DtypeError: not a list of strings.
        """
        _check_texts(texts)
        table = token_table(self.config.model, texts)
        bags = table.of(torch.arange(len(texts), device=self.state.device))
        vectors: FloatArray = self.state.model.encode_documents(bags).cpu().numpy()
        return vectors

    def sample_queries(self, count: int = 1000, seed: int = 0) -> FloatArray:
        """Return query vectors of users (queries of a text set) of the training data.

        Float32 [at most count, dim], drawn by `seed`.
        """
        trained = self.catalogue.histories.lengths() > 0
        users = self.catalogue.user_ids[trained] if trained.any() else self.catalogue.user_ids
        drawn = np.random.default_rng(seed).permutation(len(users))[:count]
        return self.query_vectors(users=users[np.sort(drawn)].tolist())

    def lineage(self) -> dict[str, Any]:
        """Return what an index of this run says of how it was made, JSON values.

        model: the fingerprint of all weights. step: of the training. run: the folder's name.
        vectors_normalised: whether the towers scale vectors to length 1 (metric and normalisation
        of the search are the file's own).
        """
        lineage: dict[str, Any] = {
            MODEL: self.fingerprint,
            "step": self.state.step,
            "run": self.files.name,
            "vectors_normalised": self.config.model.normalize,
        }
        if not self.catalogue.has_index_ids():
            lineage |= OWN_IDS_LINEAGE  # the ids are numbers
        return lineage

    def require_lineage(self, index: Index | LiveIndex) -> None:
        """Check that an index was built from this model.

        Raises:
            LineageError: it was built from another, or says nothing of a model.
        """
        theirs, mine = index.lineage.get(MODEL), self.fingerprint
        if theirs == mine:
            return
        made = "says nothing of a model" if theirs is None else f"built from model {theirs}"
        if "run" in index.lineage:
            made += f" (run {index.lineage['run']!r}, step {index.lineage.get('step')})"
        raise LineageError(
            f"{index.path or 'index'}: {made}; the query tower at hand is of model {mine} (run "
            f"{self.files.name!r}, step {self.state.step}), and would ask in "
            f"another space; build it anew with: poeem build {self.files.path}"
        )


def build_run(
    folder: Path,
    settings: BuildConfig | None = None,
    *,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Build the index of a run and save it, and checksums of its vectors beside it for a refresh.

    With lists it is calibrated for `target_recall` with queries of users of the training data.

    Args:
        folder: of a run trained past its warm start.
        settings: None = those of the run.
        out: the file; None = `items.poeem` in the folder.
        progress: called with vectors done and vectors in all.

    Raises:
        CheckpointError: no run. NotWarmError: stopped before its warm start. SaveError.
        IndexFileError: changes are beside the index there, and they or it cannot be used, or a
            writer has it open.
    """
    run = TrainedRun.load(folder)
    settings = settings or run.config.build
    if run.state.layer is None:
        raise InputError(f"{folder}: a float twin, which has no index layer to build from")
    if not run.state.is_warm:
        raise NotWarmError(
            f"{folder}: stopped before its index joined in, so there is none to build; go on with: "
            f"poeem train --out {folder} --resume"
        )
    ids, vectors = run.catalogue.index_ids(), run.state.model.all_items()
    index = build_index(
        run.state.quantizer(),
        ids,
        vectors,
        metric=settings.metric,
        titles=run.catalogue.index_titles(),
        lineage=run.lineage(),
        sample_queries=run.sample_queries() if run.config.layer.num_lists else None,
        batch_size=settings.batch_size,
        progress=progress,
    )
    path = out or run.files.index
    swap_index(path, index)
    save_checksums(path, index, in_storage_order(index, ids, vector_checksums(vectors)))
    return index


@dataclass(frozen=True)
class Evaluation:
    """How good the answers to the held-out pairs are; each dict has recall@20, precision@20, ...

    num_users: users asked for, or queries: `asked_by` says which.
    exact: exact search over the model's float vectors.
    quantized: exact search over T(x), in torch; None without an index layer.
    engine: the index file, searched by the engine; None where there is none.
    health: figures of the codes.
    """

    num_users: int
    exact: dict[str, float]
    quantized: dict[str, float] | None
    engine: dict[str, float] | None
    health: dict[str, float]
    asked_by: str = "users"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)


def evaluate_run(
    folder: Path,
    *,
    index: Path | None = None,
    search: SearchConfig | None = None,
    prepared: Prepared | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a run on its held-out pairs: float, quantized, and through its index file.

    With inner products and all lists probed, `quantized` and `engine` are the same but for the
    order of items with equal scores.

    Args:
        folder: of a run.
        index: an index built from it; None = `items.poeem` in the folder, if it is there.
        search: how to search the index; None = as the run's settings say.
        prepared: what `prepare` returned for the same settings, where the caller has it already.
        progress: called with answers so far and in all: of each query one per kind of search.

    Raises:
        LineageError: the index was built from another model.
        DataError: the split has no held-out pairs; with `hold_out_valid`, no validation pairs.
    """
    run = TrainedRun.load(folder)
    prepared = prepared or prepare(run.config)
    run.catalogue.require_same(prepared.catalogue, run.files.ids)
    measured = measured_pairs(run.config, prepared)
    path = index or (run.files.index if run.files.index.exists() else None)
    kinds = 1 + run.state.is_warm + (path is not None)
    advance = _counted(progress, kinds * len(measured.users))
    figures = evaluate_state(run.state, measured, prepared.pairs, advance)
    prefix = "quantized_"
    quantized = {k[len(prefix) :]: v for k, v in figures.items() if k.startswith(prefix)}
    engine = None
    if path is not None:
        opened = snapshot_of(path)
        run.require_lineage(opened)
        settings = search or run.config.search
        engine = measured.score(engine_ranking(opened, run, measured, settings, advance))
    return Evaluation(
        num_users=len(measured.users),
        exact={k: v for k, v in figures.items() if k.startswith(("recall@", "precision@"))},
        quantized=quantized or None,
        engine=engine,
        health={k: v for k, v in figures.items() if "@" not in k},
        asked_by="users" if prepared.texts is None else "queries",
    )


def _counted(
    progress: Callable[[int, int], None] | None, in_all: int
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, in_all)

    return advance


def snapshot_of(path: str | os.PathLike[str]) -> Index:
    """Return the index of a file with the changes beside it, as searches see it now.

    Raises:
        IndexFileError: one of them cannot be used. ConfigError: no item is left.
    """
    if pending_changes(path).series is None:
        return Index.open(path)
    with LiveIndex.open(path, read_only=True) as live:
        return live.view().to_index()


def engine_ranking(
    index: Index,
    run: TrainedRun,
    evaluation: EvaluationSet,
    settings: SearchConfig,
    advance: Callable[[int], None] | None = None,
) -> IntArray:
    """Return the item numbers int64 [n, 100] that the engine finds, without the excluded.

    advance: called with how many more users were answered, as it goes on.
    """
    users = run.catalogue.user_ids[evaluation.users].tolist()
    queries, numbers = run.query_vectors(users=users), numbers_of_items(index, run.catalogue)

    def search(rows: IntArray, k: int) -> SearchResult:
        return search_numbers(index, numbers, queries[rows], k, settings)

    return search_excluding(search, evaluation, max(CUTOFFS), advance)


def numbers_of_items(index: Index, catalogue: Catalogue) -> IntArray:
    """Return the number in a catalogue of each item of an index, int64 [num_items], storage order.

    An item that is not in the catalogue gets a number beyond it, which is never right.
    """
    ids = index.ids
    own: list[int | str] = ids.tolist()
    if has_own_ids(index.lineage) and index.has_titles:
        titles = index.titles(ids)
        pairs = zip(ids.tolist(), titles, strict=True)
        own = [name(index.lineage, number, title).item for number, title in pairs]
    numbers = {str(key): row for row, key in enumerate(catalogue.item_ids.tolist())}
    gone = len(numbers)
    return np.array([numbers.get(str(key), gone) for key in own], dtype=np.int64)


def search_numbers(
    index: Index, numbers: IntArray, queries: FloatArray, k: int, settings: SearchConfig
) -> SearchResult:
    """Search, and return items by their numbers in a catalogue.

    Args:
        numbers: what `numbers_of_items` says of the index.
        k: as many as the index has are enough.
        settings: arguments of the search; their k does not count.

    Returns:
        ids int64 [n, k]: such numbers, -1 = no item. scores: float32 [n, k].
    """
    found = index.search(
        queries,
        min(k, index.num_items),
        num_probes=settings.num_probes,
        target_recall=settings.target_recall,
        num_threads=settings.num_threads,
    )
    stored = index.ids
    order = np.argsort(stored, kind="stable")
    places = np.searchsorted(stored[order], found.ids).clip(max=len(stored) - 1)
    return SearchResult(np.where(found.ids == -1, -1, numbers[order[places]]), found.scores)


def _check_id_list(argument: str, given: Any) -> None:
    """Raise DtypeError unless this is a flat list of ids."""
    if isinstance(given, (str, bytes)):
        raise DtypeError(f"{argument}: got one string, {given!r}, wanted a list of ids")
    if not hasattr(given, "__iter__") or not hasattr(given, "__len__"):
        raise DtypeError(f"{argument}: got {given!r}, wanted a list of ids")
    nested = next((v for v in given if isinstance(v, (list, tuple, set, np.ndarray))), None)
    if nested is not None:
        more = "; a history is that of one user" if argument == "history" else ""
        raise DtypeError(f"{argument}: got lists within a list, wanted a flat list of ids{more}")


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, (str, bytes)):
        raise DtypeError(f"texts: got one string, {texts!r}, wanted a list of strings")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DtypeError(f"texts: got {type(text).__name__} in row {row}, wanted a string")


def _latest(histories: Grouped, count: int) -> Grouped:
    """Return at most the first `count` items of each row."""
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths())
    kept = place < count
    return Grouped.by_row(histories.rows()[kept], histories.items[kept], len(histories))

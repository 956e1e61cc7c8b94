"""Yesterday's index file and today's run: encode, compare, measure, and swap the file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poeem.checks import as_path
from poeem.config import SearchConfig
from poeem.errors import DataError, InputError
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.index import Index
from poeem.index.calibration import recall_of
from poeem.index.refresh import (
    Refreshed,
    exact_rows,
    load_checksums,
    refresh_index,
    same_parts,
    save_checksums,
)
from poeem.live import LiveIndex
from poeem.live.places import Places
from poeem.training.prepared import measured_pairs, prepare
from poeem.training.trained import TrainedRun, numbers_of_items, search_numbers, snapshot_of
from poeem.types import FloatArray, IntArray, SearchResult

RECALL_AT = 100


@dataclass(frozen=True)
class RefreshReport:
    """What a refresh did and how answers moved.

    num_items, num_kept, num_added, num_removed: items of the new index; those in both, in it alone,
        and in the one before alone, by their own ids.
    num_encoded: items encoded; the codes of the others were taken over.
    same_layer: whether the layer is that of the index before, to the bit: it was frozen.
    compared: whether checksums of yesterday's vectors were beside the index. Only with them and the
        same layer can codes be taken over.
    codes_changed, lists_changed: share of the items kept; lists None where there are none.
    num_queries: query vectors of today's model, of as many users of its training data.
    recall_before, recall_after: mean share of the 100 best items by today's exact float vectors
        that the two indexes answer to them; before None where the vectors' length has changed.
    held_out_before, held_out_after: recall and precision of the held-out pairs, both with today's
        query vectors; None where there is no data to measure on, and `held_out_missing` says why.
    swapped: whether the file was replaced.
    """

    num_items: int
    num_kept: int
    num_added: int
    num_removed: int
    num_encoded: int
    same_layer: bool
    compared: bool
    codes_changed: float
    lists_changed: float | None
    num_queries: int
    recall_before: float | None
    recall_after: float
    held_out_before: dict[str, float] | None
    held_out_after: dict[str, float] | None
    held_out_missing: str | None
    swapped: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)


def refresh(
    index: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    num_queries: int = 1000,
    seed: int = 0,
    search: SearchConfig | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RefreshReport:
    """Encode today's catalogue by today's model, and put the result in the place of an index file.

    The file is replaced at once and whole: who has it open goes on with the old one, who opens it
    gets the new one. The metric stays that of the index. Checksums of the vectors are kept beside
    the file, in `<file>.vectors`, for the next time; see `poeem.refresh_index`.

    Where changes were made to the index (`LiveIndex`), this is the one writer for as long as it
    takes: changes are folded first, and readers pick up the new snapshot by themselves. What was
    added so and is not in today's catalogue is gone then, and counted. A process that writes does
    it itself, by `live.replace(poeem.refresh_index(...).index)`.

    Args:
        index: the file of yesterday.
        run: the folder of today's run, trained past its warm start.
        num_queries: users to ask for when recall is measured; fewer where there are fewer.
        seed: of the choice of users.
        search: how to search for the held-out pairs; None = as the run's settings say.
        dry_run: measure and report, but leave the file as it is.
        progress: called with vectors done and vectors in all.

    Raises:
        IndexFileError: the index cannot be opened. CheckpointError: there is no run.
        InputError: the run is a float twin. NotWarmError: it was stopped before its warm start.
        SaveError: the system refused; the file is as it was. DtypeError: no path.
    """
    path, today = as_path(index, "index"), TrainedRun.load(as_path(run, "run"))
    with _writing(path, dry_run) as save:
        return _refresh(path, today, save, (num_queries, seed), search, progress)


@contextmanager
def _writing(path: Path, dry_run: bool) -> Iterator[Callable[[Index], None] | None]:
    """Yield what puts an index in the place of a file, None in a dry run.

    Where there are changes beside the file nobody else may write meanwhile, and they are folded.
    """
    if dry_run:
        yield None
    elif not os.path.exists(Places.of(path).changes):
        yield lambda index: index.save(path)
    else:
        with LiveIndex.open(path) as live:
            live.compact()
            yield live.replace


def _refresh(
    path: Path,
    today: TrainedRun,
    save: Callable[[Index], None] | None,
    sample: tuple[int, int],
    search: SearchConfig | None,
    progress: Callable[[int, int], None] | None,
) -> RefreshReport:
    """Do what `refresh` says; `sample` is how many users to ask for, and the seed."""
    before = snapshot_of(path)
    settings = search or today.config.search
    rows = numbers_of_items(before, today.catalogue)
    vectors = today.item_vectors()
    queries = today.sample_queries(*sample)
    checksums = load_checksums(path, before)
    made = _encode(before, today, vectors, rows, checksums, progress)
    indexes = (before, rows), (made.index, numbers_of_items(made.index, today.catalogue))
    metric = made.index.metric
    best = exact_rows(vectors, queries, min(RECALL_AT, len(vectors)), metric)
    held_out, missing = _held_out(today, indexes, settings)
    if save is not None:
        save(made.index)
        save_checksums(path, made.index, made.checksums)
    return RefreshReport(
        num_items=made.index.num_items,
        num_kept=made.num_kept,
        num_added=made.num_added,
        num_removed=made.num_removed,
        num_encoded=made.num_encoded,
        same_layer=made.same_layer,
        compared=made.compared,
        codes_changed=made.codes_changed,
        lists_changed=made.lists_changed,
        num_queries=len(queries),
        recall_before=None
        if before.dim != vectors.shape[1]
        else _recall(before, rows, queries, best),
        recall_after=_recall(*indexes[1], queries, best),
        held_out_before=held_out[0],
        held_out_after=held_out[1],
        held_out_missing=missing,
        swapped=save is not None,
    )


def _encode(
    before: Index,
    run: TrainedRun,
    vectors: FloatArray,
    rows: IntArray,
    checksums: Any,
    progress: Callable[[int, int], None] | None,
) -> Refreshed:
    if run.state.layer is None:
        raise InputError(f"{run.files.path}: a float twin, which has no index layer to encode with")
    positions = np.full(len(vectors), -1, dtype=np.int64)  # of today's items in yesterday's index
    there = np.flatnonzero(rows < len(vectors))
    positions[rows[there]] = there
    layer = run.state.quantizer()
    known = before.calibration is not None and same_parts(before, layer.export_parts())
    return refresh_index(
        before,
        layer,
        run.catalogue.index_ids(),
        vectors,
        checksums=checksums,
        titles=run.catalogue.index_titles(),
        lineage=run.lineage(),
        sample_queries=None if known else run.sample_queries(),
        batch_size=run.config.build.batch_size,
        progress=progress,
        rows_before=positions,
    )


def _recall(index: Index, rows: IntArray, queries: FloatArray, best: IntArray) -> float:
    """Return the share of the best rows that an index finds with all its lists."""
    found = search_numbers(index, rows, queries, best.shape[1], SearchConfig(num_probes=None))
    return recall_of(found.ids, best)


def _held_out(
    run: TrainedRun, indexes: tuple[tuple[Index, IntArray], ...], settings: SearchConfig
) -> tuple[list[dict[str, float] | None], str | None]:
    """Return figures of the held-out pairs for each index, or why there are none."""
    try:
        prepared = prepare(run.config)
        pairs = measured_pairs(run.config, prepared)
    except (DataError, OSError) as error:
        return [None, None], str(error)
    run.catalogue.require_same(prepared.catalogue, run.files.ids)
    users = run.catalogue.user_ids[pairs.users].tolist()
    queries = run.query_vectors(users=users)
    return [_score(*one, queries, pairs, settings) for one in indexes], None


def _score(
    index: Index,
    rows: IntArray,
    queries: FloatArray,
    pairs: EvaluationSet,
    settings: SearchConfig,
) -> dict[str, float] | None:
    if index.dim != queries.shape[1]:
        return None
    if index.calibration is None:  # one of yesterday that knows nothing of recall: all its lists
        settings = dataclasses.replace(settings, target_recall=None)

    def search(wanted: IntArray, k: int) -> SearchResult:
        return search_numbers(index, rows, queries[wanted], k, settings)

    return pairs.score(search_excluding(search, pairs, max(CUTOFFS)))

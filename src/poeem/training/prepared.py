"""From a table of interactions to pairs to train on, histories, and pairs to measure on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from poeem.config import Config
from poeem.data import Interactions, Split, group_by_user, load_interactions, split_interactions
from poeem.evaluation.metrics import Grouped
from poeem.evaluation.protocol import EvaluationSet
from poeem.training.folder import Catalogue
from poeem.training.pairs import TrainingPairs
from poeem.types import IntArray


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data ready to train on.

    validation: pairs for the evaluations on the way. Without a hold-out it is `test`: it is then
        only looked at, nothing is chosen by it.
    test: pairs for the evaluation at the end; None where the split has none.
    """

    interactions: Interactions
    split: Split
    pairs: TrainingPairs
    validation: EvaluationSet | None
    test: EvaluationSet | None
    catalogue: Catalogue


def prepare(
    config: Config,
    *,
    hold_out_valid: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read the table, split it, and group it by user.

    Args:
        config: settings.
        hold_out_valid: take validation pairs out of training, to choose settings by.
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: the table cannot be used; see `load_interactions` and `split_interactions`.
    """
    table = load_interactions(config.data, progress)
    split = split_interactions(table, config.data, hold_out_valid=hold_out_valid)
    users, items = table.users.astype(np.int64), table.items.astype(np.int64)
    times = None if table.timestamps is None else table.timestamps[split.train]
    train_pairs = (users[split.train], items[split.train])
    offsets, history = group_by_user(*train_pairs, table.num_users, times)
    grouped = Grouped(offsets, history.astype(np.int64))

    def evaluation(rows: IntArray) -> EvaluationSet | None:
        if len(rows) == 0:
            return None
        return EvaluationSet.from_pairs((users[rows], items[rows]), train_pairs, table.num_users)

    test = evaluation(split.test)
    return Prepared(
        interactions=table,
        split=split,
        pairs=TrainingPairs.from_arrays(
            *train_pairs,
            histories=(grouped.offsets, grouped.items),
            num_users=table.num_users,
            num_items=table.num_items,
            max_history=config.model.max_history,
        ),
        validation=evaluation(split.valid) if hold_out_valid else test,
        test=test,
        catalogue=Catalogue(table.user_ids, table.item_ids, table.item_titles, grouped),
    )

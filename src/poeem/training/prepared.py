"""From interactions or a text set to pairs to train on, histories, and pairs to measure on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poeem.config import Config, ModelConfig
from poeem.data import (
    Interactions,
    Split,
    group_by_user,
    load_interactions,
    load_text_set,
    split_interactions,
    split_queries,
    token_bags,
)
from poeem.errors import DataError
from poeem.evaluation.metrics import Grouped
from poeem.evaluation.protocol import EvaluationSet
from poeem.index.own_ids import check_own_ids
from poeem.models.text import TextTables, TokenTable, check_towers
from poeem.training.folder import Catalogue
from poeem.training.pairs import TrainingPairs
from poeem.types import Array, IntArray


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data ready to train on.

    validation: pairs for the evaluations on the way. Without a hold-out it is `test`: it is then
        only looked at, nothing is chosen by it.
    test: pairs for the evaluation at the end; None where the split has none.
    texts: of a text set, whose queries are the users and whose documents are the items; else None.
    fields: the fields of a document that make up its text.
    """

    interactions: Interactions
    split: Split
    pairs: TrainingPairs
    validation: EvaluationSet | None
    test: EvaluationSet | None
    catalogue: Catalogue
    texts: TextTables | None = None
    fields: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any pair, its place in the split, id or text."""
        found = hashlib.blake2b(digest_size=8)
        own = self.catalogue
        for ids in (own.user_ids, own.item_ids):
            found.update("\0".join(map(str, ids.tolist())).encode("utf-8", "surrogatepass"))
        for numbers in (own.histories.offsets, own.histories.items):
            found.update(np.asarray(numbers, dtype="<i8").tobytes())
        for held_out in (self.validation, self.test):
            for grouped in () if held_out is None else (held_out.relevant, held_out.exclude):
                found.update(np.asarray(grouped.offsets, dtype="<i8").tobytes())
                found.update(np.asarray(grouped.items, dtype="<i8").tobytes())
        for texts in (own.query_texts, own.item_texts):
            found.update("\0".join(texts or ()).encode("utf-8", "surrogatepass"))
        return found.hexdigest()


def measured_pairs(config: Config, prepared: Prepared) -> EvaluationSet:
    """Return the pairs that figures are of: test pairs, or validation pairs if they are held out.

    Raises:
        DataError: the split has none.
    """
    name = "validation" if config.data.hold_out_valid else "test"
    found = prepared.validation if config.data.hold_out_valid else prepared.test
    if found is None:
        raise DataError(f"{name}: the split holds out no pairs, so that nothing can be measured")
    return found


def prepare(
    config: Config,
    *,
    hold_out_valid: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read the table or text set, split it, and group it by user.

    Args:
        config: settings.
        hold_out_valid: take validation pairs out of training, to choose settings by; also where
            the settings say so.
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: the data cannot be used; see `load_text_set`, `load_interactions` and
            `split_interactions`.
        ConfigError: towers that cannot read this data.
    """
    hold_out_valid = hold_out_valid or config.data.hold_out_valid
    text_set = load_text_set(config.data, progress)
    check_towers(config.model, has_texts=text_set is not None)
    if text_set is None:
        table = load_interactions(config.data, progress)
        split = split_interactions(table, config.data, hold_out_valid=hold_out_valid)
    else:
        table = text_set.interactions
        split = split_queries(table, config.data, hold_out_valid=hold_out_valid)
    users, items = table.users.astype(np.int64), table.items.astype(np.int64)
    # Without times the later row is the later one, as for a split by the last of each user.
    times = split.train if table.timestamps is None else table.timestamps[split.train]
    train_pairs = (users[split.train], items[split.train])
    offsets, history = group_by_user(*train_pairs, table.num_users, times)
    grouped = Grouped(offsets, history.astype(np.int64))

    def evaluation(rows: IntArray) -> EvaluationSet | None:
        if len(rows) == 0:
            return None
        return EvaluationSet.from_pairs((users[rows], items[rows]), train_pairs, table.num_users)

    test = evaluation(split.test)
    if table.item_ids.dtype.kind != "i":
        check_own_ids(table.item_ids.tolist())  # what the index could not hold, now
    query_texts = None if text_set is None else text_set.query_texts
    item_texts = None if text_set is None else text_set.document_texts
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
        catalogue=Catalogue(
            table.user_ids, table.item_ids, table.item_titles, grouped, query_texts, item_texts
        ),
        texts=text_tables(config.model, query_texts, item_texts),
        fields=() if text_set is None else text_set.fields,
    )


def text_tables(
    config: ModelConfig, query_texts: Sequence[str] | None, document_texts: Sequence[str] | None
) -> TextTables | None:
    """Return the texts of queries and documents as a model looks them up; None where none are."""
    if query_texts is None or document_texts is None:
        return None
    return TextTables(token_table(config, query_texts), token_table(config, document_texts))


def token_table(config: ModelConfig, texts: Sequence[str]) -> TokenTable:
    """Return texts as bags of the tokens that the settings ask for."""

    def make() -> tuple[Array, Array]:
        bags = token_bags(
            texts,
            num_buckets=config.text_buckets,
            with_words=config.text_words,
            with_bigrams=config.text_bigrams,
        )
        return bags.offsets, bags.buckets

    return TokenTable(make)

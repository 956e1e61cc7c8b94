"""Every setting a user can change: its default, meaning, unit and range, once.

The command line builds its options, its TOML reader and `--show-config` from these classes, so a
default changed here changes everywhere. Each class validates itself when it is made.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from poeem.errors import ConfigError
from poeem.types import MAX_BEAM, MAX_PARALLEL_WEIGHT, MAX_THREADS

T = TypeVar("T")

# Python refuses to write out longer ones.
_SHOWN_BITS = 4096


def setting(
    default: Any,
    help: str,  # noqa: A002 - the field's standard word
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a field: default, one-line help with its unit, inclusive range or choices."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """Turn ints into floats and lists into tuples where the field asks for it; refuse the rest."""
    if isinstance(hint, types.UnionType):
        if value is None or (isinstance(value, str) and value == "none"):
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        if isinstance(value, (list, tuple)) and all(type(v) is int and v > 0 for v in value):
            return tuple(value)
        raise ConfigError(f"{name}: got {value!r}, wanted a list of positive integers")
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{name}: got a number beyond any float") from None
    if hint is int and type(value) is not bool and isinstance(value, numbers.Integral):
        return int(value)  # NumPy's integers too
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name}: got {value!r}, wanted {hint.__name__}")
    return value


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices, low, high = (metadata.get(key) for key in ("choices", "low", "high"))
    if choices is not None and value not in choices:
        raise ConfigError(f"{name}: got {value!r}, wanted one of {', '.join(choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: got {value}, wanted a finite number")
    if value is None or (low is None and high is None):
        return
    if not (low is None or value >= low) or not (high is None or value <= high):
        far = isinstance(value, int) and value.bit_length() > _SHOWN_BITS
        got = "a number of thousands of digits" if far else repr(value)
        raise ConfigError(f"{name}: got {got}, wanted {_range_text(low, high)}")


def _range_text(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"{low} to {high}"


class _Checked:
    """Checks types, ranges and choices of every field after construction."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            name = f"{type(self).__name__}.{field.name}"
            value = _coerce(name, getattr(self, field.name), hints[field.name])
            _check_range(name, value, field.metadata)
            object.__setattr__(self, field.name, value)


@dataclass(frozen=True)
class LayerConfig(_Checked):
    """The index layer: what is trained with the model and becomes the index."""

    family: str = setting(
        "residual",
        "residual: full-width codewords added up, the better recall at the same bytes; product: "
        "one codeword per slice of the vector, cheaper tables",
        choices=("product", "residual"),
    )
    num_subspaces: int = setting(
        8, "codes per item; bytes per item at 256 codewords", low=1, high=4096
    )
    num_codewords: int = setting(256, "codewords per subspace", low=2, high=65_536)
    num_lists: int = setting(0, "inverted lists; 0 = no coarse quantizer", low=0, high=2**24)
    rotation: bool | None = setting(
        None, "learn a rotation of the vectors; none = for product codes, which need it"
    )
    beam: int = setting(
        1,
        "residual codes: partial sums kept in the search for codes; 1 = greedy",
        low=1,
        high=MAX_BEAM,
    )
    query_power: float = setting(
        0.5,
        "residual codes: how much more an error counts in directions that queries point in, a "
        "power of their second moment; 0 = every direction alike",
        low=0,
        high=1,
    )
    parallel_weight: float = setting(
        0.0,
        "how much more an error counts along the vector itself, where it changes the scores of the "
        "queries that want it; 2 to 8 for vectors that were trained without codes and are searched "
        "by inner product",
        low=0,
        high=MAX_PARALLEL_WEIGHT,
    )
    quantizer_dropout: float | None = setting(
        None,
        "residual codes: share of the vectors of a training step that are seen through only their "
        "first codewords, from a quarter to all of the first 64 bits, drawn anew each step; keeps "
        "towers from learning pairs by heart; none = 0, but 1 in `poeem train` where users are ids "
        "with fewer than 16 pairs each",
        low=0,
        high=1,
    )
    tail_dropout: float | None = setting(
        None,
        "residual codes: share of the vectors of a training step that are seen through the first "
        "64 bits of their codes only, where those are longer; none = 0, but 1 in `poeem train` "
        "where codes have more than 16 bytes, or users are ids and codes more than 8, but not if "
        "ids have fewer than 16 pairs each, and so quantizer_dropout, or 48 or more",
        low=0,
        high=1,
    )
    gradient: str = setting(
        "vectors",
        "where the loss on quantized vectors goes: through to the vectors only, or also to the "
        "codewords, centroids and rotation",
        choices=("both", "vectors"),
    )
    distortion_weight: float = setting(
        10.0, "weight of |sg(x) - T(x)|^2, which pulls codewords to vectors", low=0
    )
    commitment_weight: float = setting(
        0.0, "weight of |x - sg(T(x))|^2, which pulls vectors to codewords", low=0
    )
    pass_through_steps: int | None = setting(
        1000,
        "in a loop of your own: steps before collecting starts; none = warm start by hand",
        low=0,
    )
    num_samples: int = setting(65_536, "vectors collected for the warm start", low=2, high=2**24)
    kmeans_iterations: int = setting(
        25,
        "Lloyd iterations of each k-means, but for those of the rotation's fit",
        low=1,
        high=1000,
    )
    rotation_iterations: int = setting(
        30, "alternations of codes and rotation in the warm start", low=0, high=1000
    )
    refit_rounds: int = setting(
        10,
        "rounds over codes and codewords in the warm start: of residual codes, or where "
        "parallel_weight is not 0",
        low=0,
        high=1000,
    )
    revive_window: int = setting(
        32,
        "a codeword unused while this many vectors per codeword went by is dead and gets revived; "
        "0 = never",
        low=0,
        high=2**20,
    )
    seed: int = setting(0, "seed of warm start and revival", low=0, high=2**63 - 1)

    @property
    def has_rotation(self) -> bool:
        """Whether a rotation is learned: as told, or else by the family."""
        return self.family == "product" if self.rotation is None else self.rotation


@dataclass(frozen=True)
class ModelConfig(_Checked):
    """The two towers and how their vectors are compared."""

    dim: int = setting(64, "length of a vector", low=1, high=65_536)
    query_tower: str = setting(
        "auto",
        "what a user is: a vector of their own, the mean of the items they had, or a query's text; "
        "auto = text for a text set, else id",
        choices=("auto", "id", "history", "text"),
    )
    item_tower: str = setting(
        "auto",
        "what an item is: a vector of its own, or its text; auto = text for a text set, else id",
        choices=("auto", "id", "text"),
    )
    text_buckets: int = setting(
        2**17, "rows of the table that tokens of a text are hashed to", low=1, high=2**31 - 1
    )
    text_words: bool = setting(True, "whole words beside their letter trigrams")
    text_bigrams: bool = setting(True, "neighbours among trigrams and Chinese characters too")
    text_table: str = setting(
        "shared",
        "one table of token vectors for queries and documents, or one each",
        choices=("shared", "separate"),
    )
    hidden_dims: tuple[int, ...] = setting((), "hidden widths of an MLP over both towers")
    max_history: int = setting(100, "items of a history that count, latest first", low=1)
    normalize: bool = setting(True, "scale query and item vectors to length 1")
    temperature: float = setting(0.07, "scores are divided by this in the loss", low=1e-4)


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """The training loop."""

    epochs: int = setting(10, "passes over the training pairs", low=1)
    warm_start_epoch: int = setting(
        4, "epochs of plain float training before the index joins in", low=0
    )
    batch_size: int = setting(4096, "pairs per step; the others in it are the negatives", low=2)
    learning_rate: float = setting(3e-3, "Adam's step size for towers", low=0)
    codebook_learning_rate: float = setting(
        3e-4, "Adam's step size for the layer; small, so that codes stay", low=0
    )
    rotation_learning_rate: float = setting(1e-3, "largest Givens angle per step, radians", low=0)
    decay_epochs: int = setting(
        3, "epochs in which the step sizes go to 0, before the frozen ones", low=0
    )
    quantized_share: float | None = setting(
        None,
        "share of a batch's items that are quantized once the index has joined in, drawn anew each "
        "step; the others stay float and keep the towers from following the codes too closely; "
        "none = all, or half where codes are longer than 16 bytes, so nearly exact, and no "
        "codewords are dropped",
        low=0,
        high=1,
    )
    frozen_epochs: int | None = setting(
        None,
        "last epochs in which codes and item tower stay, and codewords and query tower learn from "
        "the retrieval loss; none = 1 (0 where one epoch is all there is after the warm start), or "
        "half of those after it where codes would freeze after fewer steps than refit_below, with "
        "histories fewer than 100; a float twin has none; of texts with one table for both towers "
        "the table goes on",
        low=0,
    )
    refit_below: int | None = setting(
        None,
        "where codes freeze after fewer steps with the index than this, codebooks and codes are "
        "fitted to the vectors once more: they had no time to follow; 0 = never, none = 100, but "
        "1,000 where items are texts or users are histories, which share tokens or items and so "
        "move in every step",
        low=0,
    )
    refit_beam: int = setting(
        8, "residual codes: width of the search for codes in that fit", low=1, high=256
    )
    frozen_rate: float = setting(
        0.3, "share of the step sizes that the frozen epochs begin with", low=0, high=1
    )
    frozen_negatives: int = setting(
        4096,
        "in the frozen epochs: items drawn evenly from the catalogue for each step: the negatives "
        "of all its pairs, but for what a user had; 0 = those of the batch, as before",
        low=0,
    )
    frozen_bits: int | None = setting(
        None,
        "residual codes: in the frozen epochs only codewords of the first so many bits of a code "
        "learn, later ones stay; 0 = all learn, none = 64 where users are ids and codes are longer "
        "than 16 bytes, else all",
        low=0,
    )
    distillation_share: float = setting(
        0.0,
        "in the frozen epochs: share of the loss that is how far the codes' scores of the items "
        "drawn are from those of the float vectors, as softmaxes; the rest is of the pairs; 1 = "
        "no pair is looked at",
        low=0,
        high=1,
    )
    coarse_weight: float = setting(
        1.0, "with lists: weight of the loss that teaches which list a query should probe", low=0
    )
    list_choice: str = setting(
        "auto",
        "with lists: nearest = an item stands in the list of its nearest centroid, all through "
        "training; demand = when codes freeze, lists are made of items that the same queries want; "
        "auto = demand for residual codes that freeze, else nearest",
        choices=("auto", "nearest", "demand"),
    )
    list_capacity: float = setting(
        1.25, "lists by demand: items a list has room for, in multiples of the mean", low=1
    )
    list_rounds: int = setting(
        6, "lists by demand: turns in which queries and items choose lists", low=1, high=100
    )
    logq_correction: bool = setting(True, "subtract each negative's log popularity")
    seed: int = setting(0, "seed of weights and data order", low=0, high=2**63 - 1)
    eval_every: int = setting(2, "epochs between evaluations; 0 = only at the end", low=0)
    eval_users: int = setting(2000, "users in each evaluation while training", low=1)
    checkpoint_every: int = setting(500, "steps between checkpoints; 0 = only epochs", low=0)
    num_threads: int = setting(0, "threads torch may use; 0 = its default", low=0, high=MAX_THREADS)
    device: str = setting("auto", "where to train: cpu, cuda, cuda:1, ...; auto = cuda if there")

    @property
    def freezes(self) -> bool:
        """Whether codes freeze before the end."""
        if self.frozen_epochs is None:
            return self.epochs - self.warm_start_epoch > 1
        return self.frozen_epochs > 0


@dataclass(frozen=True)
class DataConfig(_Checked):
    """A table of interactions and how it is split."""

    path: str = setting(
        "online-retail",
        "a .parquet, .csv, .tsv or .npz file, a folder of a text set, or a bundled name",
    )
    user_column: str = setting("user", "column of user ids")
    item_column: str = setting("item", "column of item ids")
    timestamp_column: str | None = setting("timestamp", "column of times; used when it is there")
    rating_column: str | None = setting(None, "column of ratings")
    min_rating: float | None = setting(
        None, "keep ratings of at least this; of a text set: grades, none = 1"
    )
    title_column: str | None = setting("title", "column of item names; used when it is there")
    split_column: str = setting("split", "column with 0 train, 1 valid, 2 test, for split given")
    split: str = setting(
        "auto",
        "how test pairs are chosen; auto = given if the split column is there, else time if there "
        "are timestamps, else random",
        choices=("auto", "given", "time", "last", "random"),
    )
    test_fraction: float = setting(
        0.2, "share of pairs held out by time or random; of a text set: of queries", low=0, high=0.9
    )
    document_fields: str = setting(
        "auto",
        "of a text set: fields of a document that make up its text, commas between; auto = "
        "title,text, but no text in which the queries stand word for word",
    )
    hold_out_valid: bool = setting(
        False,
        "take validation pairs out of training and measure on them, to choose settings without a "
        "look at test pairs",
    )
    on_bad_rows: str = setting("error", "unparsable rows", choices=("error", "skip"))
    seed: int = setting(0, "seed of the random split", low=0, high=2**63 - 1)


@dataclass(frozen=True)
class BuildConfig(_Checked):
    """From trained layer to index file."""

    metric: str = setting(
        "ip", "how queries and items are compared", choices=("ip", "l2", "cosine")
    )
    batch_size: int = setting(16_384, "vectors encoded at a time", low=1)


@dataclass(frozen=True)
class SearchConfig(_Checked):
    """Arguments of one search."""

    k: int = setting(10, "items returned per query", low=1)
    num_probes: int | None = setting(None, "lists visited; none = all of them", low=1)
    target_recall: float | None = setting(
        None,
        "instead of num_probes: visit as many lists as found this share (above 0) of the "
        "exhaustive answer when the index was calibrated",
        low=0,
        high=1,
    )
    num_threads: int = setting(1, "threads; 0 = one per core", low=0, high=MAX_THREADS)


@dataclass(frozen=True)
class Config(_Checked):
    """All of them: the sections of a TOML file."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    layer: LayerConfig = LayerConfig()
    train: TrainConfig = TrainConfig()
    build: BuildConfig = BuildConfig()
    search: SearchConfig = SearchConfig()

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> Config:
        """Build from nested dicts, as read from TOML.

        Raises:
            ConfigError: an unknown section or setting, or a value out of range.
        """
        known: dict[str, Any] = {
            field.name: type(field.default) for field in dataclasses.fields(cls)
        }
        for name, section in values.items():
            if name not in known:
                raise ConfigError(f"section [{name}]: unknown, wanted one of {', '.join(known)}")
            if not isinstance(section, Mapping):
                raise ConfigError(f"section [{name}]: got {section!r}, wanted a table of settings")
        sections: dict[str, Any] = {n: build(known[n], section) for n, section in values.items()}
        return cls(**sections)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested plain dicts; `Config.from_dict` takes them back."""
        return {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in section.items()}
            for name, section in dataclasses.asdict(self).items()
        }


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make a config class from a mapping, refusing unknown names.

    Raises:
        ConfigError: an unknown setting, a wrong type or a value out of range.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ConfigError(
            f"{cls.__name__}: unknown setting {', '.join(unknown)}; known are {', '.join(names)}"
        )
    return cls(**values)


def flat_arguments(config: Any) -> dict[str, Any]:
    """Return a config's settings as keyword arguments."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}

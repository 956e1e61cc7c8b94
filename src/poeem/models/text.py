"""Texts as bags of tokens, and the tower that reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from poeem.config import ModelConfig
from poeem.errors import ConfigError
from poeem.models.towers import START_SCALE


class TokenBags(NamedTuple):
    """A batch of texts.

    tokens: int64 [m], buckets of all n texts, one text after the other.
    offsets: int64 [n + 1], where each text's part of `tokens` begins; ends with m.
    """

    tokens: Tensor
    offsets: Tensor


class TokenTable:
    """The bags of a list of texts, looked up by number; made when the first is asked for.

    Args:
        make: returns offsets int64 [num_texts + 1] and buckets int32 [m] as NumPy arrays.
    """

    def __init__(self, make: Callable[[], tuple[Any, Any]]) -> None:
        self._make = make
        self._parts: tuple[Tensor, Tensor] | None = None

    def of(self, numbers: Tensor) -> TokenBags:
        """Return the bags of texts int64 [n], on the device of `numbers`."""
        if self._parts is None:
            offsets, buckets = self._make()
            self._parts = torch.from_numpy(offsets), torch.from_numpy(buckets)
        if self._parts[0].device != numbers.device:
            self._parts = self._parts[0].to(numbers.device), self._parts[1].to(numbers.device)
        offsets, buckets = self._parts
        starts = offsets[numbers]
        lengths = offsets[numbers + 1] - starts
        ends = lengths.cumsum(0)
        # Where in the table each token of the batch is.
        shift = torch.repeat_interleave(starts - (ends - lengths), lengths)
        tokens = buckets[shift + torch.arange(len(shift), device=shift.device)]
        return TokenBags(tokens.long(), torch.cat([ends.new_zeros(1), ends]))


class TextTables(NamedTuple):
    """The texts of a text set: those of its queries, and those of its documents."""

    queries: TokenTable
    documents: TokenTable


class TextTower(nn.Module):
    """The mean of the vectors of a text's tokens. Args: num_buckets; dim; generator."""

    def __init__(self, num_buckets: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(num_buckets, dim, generator=generator) * START_SCALE
        self.embedding = nn.EmbeddingBag(
            num_buckets, dim, mode="mean", include_last_offset=True, _weight=start
        )

    def forward(self, bags: TokenBags) -> Tensor:
        """Return float32 [n, dim]."""
        vectors: Tensor = self.embedding(bags.tokens, bags.offsets)
        return vectors


def text_towers(config: ModelConfig) -> ModelConfig:
    """Return the settings for a text set: towers "auto" are "text"."""
    query, item = config.query_tower, config.item_tower
    return dataclasses.replace(
        config,
        query_tower="text" if query == "auto" else query,
        item_tower="text" if item == "auto" else item,
    )


def check_towers(config: ModelConfig, *, has_texts: bool) -> None:
    """Check that data with texts, or without, is what the towers can read.

    Raises:
        ConfigError: it is not.
    """
    if has_texts and config.query_tower not in ("auto", "text"):
        raise ConfigError(
            f"ModelConfig.query_tower: got {config.query_tower!r}, wanted text for a text set: its "
            "held-out queries are in no training pair"
        )
    for name in ("query_tower", "item_tower"):
        if not has_texts and getattr(config, name) == "text":
            raise ConfigError(
                f"ModelConfig.{name}: got 'text', but the data is a table without texts, "
                "wanted a text set"
            )

"""Two towers: queries on one side, items on the other, compared by inner product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poeem.config import ModelConfig
from poeem.errors import ConfigError
from poeem.models.text import TextTables, TextTower, TokenBags
from poeem.models.towers import HistoryTower, IdTower, Mlp, Users


class TwoTower(nn.Module):
    """A query tower and an item tower that end in vectors of the same length.

    Args:
        num_users: users of the training data.
        num_items: items of the catalogue.
        config: see `ModelConfig`; a tower "auto" is "id".
        seed: seed of the starting values.
        texts: what users and items say, for towers that are "text".
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        config: ModelConfig,
        seed: int,
        texts: TextTables | None = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.num_items = num_items
        self.texts = texts
        self.query_tower: IdTower | HistoryTower | TextTower
        if config.query_tower == "text":
            self.query_tower = TextTower(config.text_buckets, config.dim, generator)
        elif config.query_tower == "history":
            self.query_tower = HistoryTower(num_items, config.dim, generator)
        else:
            self.query_tower = IdTower(num_users, config.dim, generator)
        # None: the query tower reads the documents too, as they share its table.
        self.item_tower: IdTower | TextTower | None = None
        if config.item_tower != "text":
            self.item_tower = IdTower(num_items, config.dim, generator)
        elif config.text_table == "separate" or config.query_tower != "text":
            self.item_tower = TextTower(config.text_buckets, config.dim, generator)
        self.query_mlp: nn.Module = nn.Identity()
        self.item_mlp: nn.Module = nn.Identity()
        if config.hidden_dims:
            self.query_mlp = Mlp(config.dim, config.hidden_dims, generator)
            self.item_mlp = Mlp(config.dim, config.hidden_dims, generator)

    def encode_queries(self, users: Users) -> Tensor:
        """Return query vectors float32 [n, dim]."""
        if isinstance(self.query_tower, TextTower):
            return self.encode_texts(self._texts().queries.of(users.indices))
        by_id = isinstance(self.query_tower, IdTower)
        return self._finish(self.query_mlp(self.query_tower(users.indices if by_id else users)))

    def encode_texts(self, bags: TokenBags) -> Tensor:
        """Return query vectors float32 [n, dim] of any texts.

        Raises:
            ConfigError: the queries of this model are no texts.
        """
        if not isinstance(self.query_tower, TextTower):
            raise ConfigError("texts: this model's queries are users, not texts; train a text set")
        return self._finish(self.query_mlp(self.query_tower(bags)))

    def encode_items(self, items: Tensor) -> Tensor:
        """Return item vectors float32 [n, dim] for item numbers int64 [n]."""
        if isinstance(self.item_tower, IdTower):
            return self._finish(self.item_mlp(self.item_tower(items)))
        return self.encode_documents(self._texts().documents.of(items))

    def encode_documents(self, bags: TokenBags) -> Tensor:
        """Return item vectors float32 [n, dim] of any texts.

        Raises:
            ConfigError: the items of this model are no texts.
        """
        tower = self.query_tower if self.item_tower is None else self.item_tower
        if not isinstance(tower, TextTower):
            raise ConfigError("text: this model's items are ids, not texts; train a text set")
        return self._finish(self.item_mlp(tower(bags)))

    @torch.no_grad()
    def all_items(self, batch_size: int = 65_536) -> Tensor:
        """Return the vectors of the whole catalogue, float32 [num_items, dim]."""
        device = next(self.parameters()).device
        parts = torch.arange(self.num_items, device=device).split(batch_size)
        return torch.cat([self.encode_items(part) for part in parts])

    def _texts(self) -> TextTables:
        if self.texts is None:
            raise ConfigError("texts: this model reads texts by number, but was given none")
        return self.texts

    def _finish(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=1) if self.config.normalize else vectors

"""Two towers: queries on one side, items on the other, compared by inner product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poeem.config import ModelConfig
from poeem.models.towers import HistoryTower, IdTower, Mlp, Users


class TwoTower(nn.Module):
    """A query tower and an item tower that end in vectors of the same length.

    Args:
        num_users: users of the training data.
        num_items: items of the catalogue.
        config: see `ModelConfig`.
        seed: seed of the starting values.
    """

    def __init__(self, num_users: int, num_items: int, config: ModelConfig, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.num_items = num_items
        self.query_tower: IdTower | HistoryTower
        if config.query_tower == "id":
            self.query_tower = IdTower(num_users, config.dim, generator)
        else:
            self.query_tower = HistoryTower(num_items, config.dim, generator)
        self.item_tower = IdTower(num_items, config.dim, generator)
        self.query_mlp: nn.Module = nn.Identity()
        self.item_mlp: nn.Module = nn.Identity()
        if config.hidden_dims:
            self.query_mlp = Mlp(config.dim, config.hidden_dims, generator)
            self.item_mlp = Mlp(config.dim, config.hidden_dims, generator)

    def encode_queries(self, users: Users) -> Tensor:
        """Return query vectors float32 [n, dim]."""
        by_id = isinstance(self.query_tower, IdTower)
        return self._finish(self.query_mlp(self.query_tower(users.indices if by_id else users)))

    def encode_items(self, items: Tensor) -> Tensor:
        """Return item vectors float32 [n, dim] for item numbers int64 [n]."""
        return self._finish(self.item_mlp(self.item_tower(items)))

    @torch.no_grad()
    def all_items(self, batch_size: int = 65_536) -> Tensor:
        """Return the vectors of the whole catalogue, float32 [num_items, dim]."""
        device = next(self.parameters()).device
        parts = torch.arange(self.num_items, device=device).split(batch_size)
        return torch.cat([self.encode_items(part) for part in parts])

    def _finish(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=1) if self.config.normalize else vectors

"""Codes fixed afterwards; then codebooks and query tower trained on the scores of these codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poeem.evaluation.faiss_rival import OpqParts
from poeem.quantize import product
from poeem.training.display import Quiet
from poeem.training.losses import catalogue_softmax
from poeem.training.objective import evenly_drawn
from poeem.training.prepared import Prepared
from poeem.training.run import MakeDisplay
from poeem.training.state import TrainingState
from poeem.types import FloatArray


@dataclass(frozen=True)
class FixedCodesSettings:
    """epochs: passes over the pairs. learning_rate: Adam's at the start; it falls to 0.

    num_negatives: items drawn evenly from the catalogue for each step, as in our frozen epochs.
    """

    epochs: int = 1
    learning_rate: float = 1e-3
    num_negatives: int = 4096


def train_on_fixed_codes(
    state: TrainingState,
    parts: OpqParts,
    prepared: Prepared,
    settings: FixedCodesSettings,
    display: MakeDisplay | None = None,
) -> FloatArray:
    """Train query tower and codebooks with the retrieval loss on the items' codes.

    Args:
        state: the trained twin; its query tower is changed in place.
        parts: rotation and codes, which stay, and codebooks to begin with.
        prepared: the data the twin was trained on.

    Returns:
        The codebooks, float32 [num_subspaces, num_codewords, sub_dim].

    Source: Zhan et al., Jointly optimizing query encoder and product quantization to improve
        retrieval performance, CIKM 2021, arXiv 2108.00644; with the loss of our own frozen
        epochs, of negatives from the whole catalogue, where they take the hardest of the index.
    """
    model, train, pairs = state.model, state.config.train, prepared.pairs
    rotation, codes = torch.from_numpy(parts.rotation), torch.from_numpy(parts.codes).long()
    codebooks = torch.nn.Parameter(torch.from_numpy(parts.codebooks).clone())
    moved = [*model.query_tower.parameters(), *model.query_mlp.parameters(), codebooks]
    adam = torch.optim.Adam(moved, lr=settings.learning_rate, fused=True)
    total = settings.epochs * pairs.num_batches(train.batch_size)
    model.train()
    title = "codebooks and query tower"
    show = display and display(title, total_steps=total, num_epochs=settings.epochs, done_steps=0)

    def loss_of(users: Tensor, items: Tensor, step: int) -> Tensor:
        queries = model.encode_queries(pairs.histories.of(users, without=items))
        drawn = evenly_drawn(settings.num_negatives, pairs.num_items, train.seed, step)
        return catalogue_softmax(
            queries @ rotation.T,  # <q, R^T y> = <R q, y>
            product.decode(codes[items], codebooks),
            product.decode(codes[drawn], codebooks),
            temperature=state.config.model.temperature,
            known=pairs.histories.places(users, drawn),
            num_items=pairs.num_items,
        )

    step = 0
    with show or Quiet() as shown:
        for epoch in range(settings.epochs):
            for users, items in pairs.batches(
                train.batch_size, epoch=train.epochs + epoch, seed=train.seed
            ):
                for group in adam.param_groups:
                    group["lr"] = settings.learning_rate * (1 - step / total)
                loss = loss_of(users, items, step)
                adam.zero_grad()
                loss.backward()
                adam.step()
                step += 1
                shown.step(epoch, float(loss.detach()), len(users))
    model.eval()
    found: FloatArray = codebooks.detach().numpy()
    return found

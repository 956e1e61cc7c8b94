"""What training changes: parameters, optimizers, and how far it got."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poeem.config import Config, LayerConfig, TrainConfig
from poeem.errors import CheckpointError, ConfigError, NotWarmError
from poeem.models.text import TextTables, text_towers
from poeem.models.towers import IdTower
from poeem.models.two_tower import TwoTower
from poeem.quantize.givens import GivensDescent
from poeem.quantize.layer import IndexLayer
from poeem.quantize.layer_state import Phase
from poeem.quantize.residual import FIRST_BITS
from poeem.training.demand import DemandLists
from poeem.training.frozen import FrozenQuantizer, ItemCodes, encode_items
from poeem.types import TrainedQuantizer

# Length of the centroids of lists by demand, in mean lengths of item vectors.
_ROUTE_LENGTH = 0.01
# More make a code long.
_LONG_CODE_BITS = 128


@dataclass
class TrainingState:
    """A model, its index layer (None = the float twin), their optimizers and the position.

    epoch, batch: the next batch to train on; step: batches trained on so far.
    frozen: codes of the catalogue, once they stay as they are.
    catalogue: the digest of what its numbers mean (`Catalogue.digest`); "" = not known.
    """

    model: TwoTower
    layer: IndexLayer | None
    config: Config
    epoch: int = 0
    batch: int = 0
    step: int = 0
    frozen: ItemCodes | None = None
    catalogue: str = ""

    def __post_init__(self) -> None:
        train = self.config.train
        groups: list[dict[str, Any]] = [
            {"params": list(self.model.parameters()), "base_lr": train.learning_rate}
        ]
        if self.layer is not None:
            groups.append(
                {
                    "params": self.layer.euclidean_parameters(),
                    "base_lr": train.codebook_learning_rate,
                }
            )
        self.adam = torch.optim.Adam(groups, lr=train.learning_rate, fused=True)
        rotations = [] if self.layer is None else self.layer.rotation_parameters()
        self.givens = (
            GivensDescent(rotations, lr=train.rotation_learning_rate) if rotations else None
        )

    @classmethod
    def new(
        cls,
        num_users: int,
        num_items: int,
        config: Config,
        *,
        joint: bool,
        texts: TextTables | None = None,
    ) -> TrainingState:
        """Make a state before its first step. With `texts`, towers "auto" are "text"."""
        device = _device(config.train.device)
        if texts is not None:
            config = dataclasses.replace(config, model=text_towers(config.model))
        if joint:
            check_distillation(config.train)
        seed = config.train.seed
        model = TwoTower(num_users, num_items, config.model, seed, texts).to(device)
        # The loop warms the layer up when its epoch has come; the layer must not on its own.
        by_hand = dataclasses.replace(config.layer, pass_through_steps=None)
        if has_demand_lists(config):  # they come when codes freeze
            by_hand = dataclasses.replace(by_hand, num_lists=0)
        layer = IndexLayer.from_config(config.model.dim, by_hand).to(device) if joint else None
        return cls(model, layer, config)

    @property
    def is_warm(self) -> bool:
        """Whether there is a layer, and it quantizes by now."""
        return self.layer is not None and self.layer.phase is Phase.JOINT

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def set_rates(self, factor: float) -> None:
        """Scale every step size by `factor`, 0 to 1; with frozen codes further."""
        if self.frozen is not None:
            factor *= self.config.train.frozen_rate
        for group in self.adam.param_groups:
            group["lr"] = group["base_lr"] * factor
        if self.givens is not None:
            self.givens.param_groups[0]["lr"] = self.config.train.rotation_learning_rate * factor

    def freeze(self, beam: int | None = None) -> None:
        """Let the codes of the catalogue stay as the layer finds them now.

        Codewords that no item has go to those that lose most: once codes stay, none would come.

        Args:
            beam: residual codes: width of the search for them; None = the layer's.

        Raises:
            NotWarmError: before the warm start.
        """
        if self.layer is not None:
            items = self.model.all_items()
            found = encode_items(self.layer, items, beam=beam)
            codes = self.layer.use_all_codewords(items, found.codes, found.lists)
            self.frozen = found._replace(codes=codes)
            self._stop_later_codewords()

    def add_lists(self, found: DemandLists) -> None:
        """Give the frozen catalogue lists; their routes become the centroids, but short ones.

        Codes go on standing for the whole vector: a centroid adds about 1 % of its length, which
        T(x) holds too, so that scores in training and in the engine stay the same.
        """
        assert self.layer is not None
        assert self.frozen is not None
        length = self.model.all_items().norm(dim=1).mean()
        scale = float(_ROUTE_LENGTH * length / found.routes.norm(dim=1).mean())
        self.layer.add_lists(found.routes * scale)
        self._optimize_centroids(scale)
        self.frozen = self.frozen._replace(lists=found.lists, route_scale=scale)

    def _optimize_centroids(self, scale: float) -> None:
        """Let Adam move the centroids of lists that were added, in steps of their size."""
        assert self.layer is not None
        rate = self.config.train.learning_rate * scale
        self.adam.add_param_group({"params": [self.layer.centroids], "base_lr": rate})

    def item_codes(self) -> ItemCodes:
        """Return the codes of the catalogue: the frozen ones, or those the layer finds now.

        Raises:
            NotWarmError: before the warm start, and for a float twin.
        """
        if self.layer is None:
            raise NotWarmError("codes asked for of a float twin, which has no index layer")
        return self.frozen or encode_items(self.layer, self.model.all_items())

    def quantizer(self) -> TrainedQuantizer:
        """Return what to build the index of the catalogue with.

        Raises:
            NotWarmError: for a float twin.
        """
        if self.layer is None:
            raise NotWarmError("quantizer asked for of a float twin, which has no index layer")
        if self.frozen is None:
            return self.layer
        return FrozenQuantizer(self.layer, self.model.all_items().cpu().numpy(), self.frozen)

    def _later_codewords(self) -> slice | None:
        """Return the codebooks that stay in the frozen epochs; None = all learn."""
        layer = self.layer
        if layer is None or self.frozen is None or layer.config.family != "residual":
            return None
        bits = self.config.train.frozen_bits
        if bits is None:
            by_id = isinstance(self.model.query_tower, IdTower)
            bits = usual_frozen_bits(layer.config, users_are_ids=by_id)
        first = math.ceil(bits / math.log2(layer.config.num_codewords))
        return slice(first, None) if 0 < first < layer.config.num_subspaces else None

    def _stop_later_codewords(self) -> None:
        """Let those that stay not go on by what Adam remembers of the steps before."""
        later = self._later_codewords()
        if later is not None and self.layer is not None:
            average = self.adam.state.get(self.layer.codebooks, {}).get("exp_avg")
            if average is not None:
                average[later] = 0

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self.adam.zero_grad()
        if self.givens is not None:
            self.givens.zero_grad()

    def optimize(self) -> None:
        """Apply the gradients."""
        later = self._later_codewords()
        if later is not None and self.layer is not None and self.layer.codebooks.grad is not None:
            self.layer.codebooks.grad[later] = 0
        self.adam.step()
        if self.givens is not None:
            self.givens.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds, by name."""
        found = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        if self.layer is not None:
            found |= {f"layer/{k}": v for k, v in self.layer.state_dict().items()}
        if self.frozen is not None:
            found["frozen/codes"] = self.frozen.codes.to(torch.int32)
            if self.frozen.beam is not None:
                found["frozen/beam"] = torch.tensor(self.frozen.beam)
            if self.frozen.lists is not None:
                found["frozen/lists"] = self.frozen.lists.to(torch.int32)
            if self.frozen.route_scale is not None:
                scale = torch.tensor(self.frozen.route_scale, dtype=torch.float64)
                found["frozen/route_scale"] = scale
        for name, parameter, optimizer in self._optimized():
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{name}/{key}"] = torch.as_tensor(value).detach()
        return found

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned. A float twin ignores a layer's part.

        Raises:
            CheckpointError: names or shapes that do not fit this model.
        """
        scale = tensors.get("frozen/route_scale")
        try:
            self.model.load_state_dict(_below(tensors, "model/"))
            if self.layer is not None:
                if scale is not None:
                    self._make_room_for_lists(tensors, float(scale))
                self.layer.load_state_dict(_below(tensors, "layer/"))
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint does not fit this model: {error}") from error
        codes, lists = tensors.get("frozen/codes"), tensors.get("frozen/lists")
        if self.layer is not None and codes is not None:
            kept = None if lists is None else lists.long().to(self.device)
            beam = int(tensors["frozen/beam"]) if "frozen/beam" in tensors else None
            routes = None if scale is None else float(scale)
            self.frozen = ItemCodes(codes.long().to(self.device), kept, beam, routes)
        for name, parameter, optimizer in self._optimized():
            state = _below(tensors, f"optimizer/{name}/")
            if state and isinstance(optimizer, GivensDescent):
                state["step"] = int(state["step"])  # type: ignore[assignment]
            if state:
                optimizer.state[parameter] = {
                    k: v.to(parameter.device) if isinstance(v, Tensor) else v
                    for k, v in state.items()
                }

    def _make_room_for_lists(self, tensors: dict[str, Tensor], scale: float) -> None:
        """Bring a layer that has no lists yet to where it can take those of a checkpoint."""
        assert self.layer is not None
        if not self.layer.num_lists and "layer/centroids" in tensors:
            self.layer.make_room_for_lists(len(tensors["layer/centroids"]))
            self._optimize_centroids(scale)

    def _optimized(self) -> list[tuple[str, torch.nn.Parameter, torch.optim.Optimizer]]:
        found: list[tuple[str, torch.nn.Parameter, torch.optim.Optimizer]] = [
            (f"model/{name}", p, self.adam) for name, p in self.model.named_parameters()
        ]
        if self.layer is not None:
            for name, parameter in self.layer.named_parameters():
                is_rotation = self.givens is not None and parameter is self.layer.rotation
                optimizer = self.givens if is_rotation and self.givens else self.adam
                found.append((f"layer/{name}", parameter, optimizer))
        return found


def has_demand_lists(config: Config) -> bool:
    """Return whether lists are made by demand, when codes freeze.

    Raises:
        ConfigError: that is asked for, but codes never freeze.
    """
    layer, train = config.layer, config.train
    if not layer.num_lists or train.list_choice == "nearest":
        return False
    if train.list_choice == "demand" and not train.freezes:
        raise ConfigError(
            f"TrainConfig.list_choice: got 'demand' {_why_nothing_freezes(train)}: lists are made "
            "by demand when codes freeze"
        )
    return train.list_choice == "demand" or (layer.family == "residual" and train.freezes)


def _why_nothing_freezes(train: TrainConfig) -> str:
    if train.frozen_epochs is not None:
        return f"with frozen_epochs {train.frozen_epochs}, wanted at least 1"
    return (
        f"with {train.epochs - train.warm_start_epoch} epochs after the warm start (epochs "
        f"{train.epochs}, warm_start_epoch {train.warm_start_epoch}), wanted at least 2"
    )


def code_bits(layer: LayerConfig) -> float:
    """Return how many bits a code takes, of those that tell codewords apart."""
    return layer.num_subspaces * math.log2(layer.num_codewords)


def is_long(layer: LayerConfig) -> bool:
    """Return whether codes have more than 16 bytes."""
    return code_bits(layer) > _LONG_CODE_BITS


def has_tail(layer: LayerConfig, *, users_are_ids: bool) -> bool:
    """Return whether codes are so long that training may do without the later codewords."""
    return code_bits(layer) > (FIRST_BITS if users_are_ids else _LONG_CODE_BITS)


def usual_frozen_bits(layer: LayerConfig, *, users_are_ids: bool) -> int:
    """Return `TrainConfig.frozen_bits` where nobody told, 0 = all bits."""
    return FIRST_BITS if users_are_ids and is_long(layer) else 0


def check_distillation(train: TrainConfig) -> None:
    """Check that what distillation needs is there.

    Raises:
        ConfigError: it is asked for, but codes never freeze, or no items are drawn then.
    """
    if train.distillation_share and not (train.freezes and train.frozen_negatives):
        raise ConfigError(
            f"TrainConfig.distillation_share: got {train.distillation_share:g} with frozen_epochs "
            f"{train.frozen_epochs} and frozen_negatives {train.frozen_negatives}, wanted at least "
            "1 of each: scores are compared in the frozen epochs, of the items drawn there"
        )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"TrainConfig.device: got {name!r}, wanted cpu, cuda or cuda:N"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"TrainConfig.device: got {name!r}, wanted cpu, cuda or cuda:N; nothing here was tried "
            "on another kind of device"
        )
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"TrainConfig.device: got {name!r}, but torch finds no CUDA device here")
    return device

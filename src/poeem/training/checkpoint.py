"""Checkpoints: safetensors and JSON, written atomically, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from poeem.config import Config
from poeem.errors import CheckpointError, ConfigError
from poeem.files import atomic_write
from poeem.models.towers import IdTower
from poeem.training.state import TrainingState

_FORMAT = "poeem-checkpoint-1"


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write parameters, optimizers, position and configuration.

    Raises:
        SaveError: the disk is full; the checkpoint that was there before is whole.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.tensors().items()}
    metadata = {
        "format": _FORMAT,
        "position": json.dumps([state.epoch, state.batch, state.step]),
        "config": json.dumps(state.config.to_dict()),
        "sizes": json.dumps(_sizes(state)),
        "joint": json.dumps(state.layer is not None),
        "catalogue": state.catalogue,
    }
    metadata["checksums"] = json.dumps({name: _crc32(t) for name, t in tensors.items()})
    metadata["metadata_crc32"] = _metadata_crc32(metadata)
    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error


def load_checkpoint(state: TrainingState, path: Path) -> None:
    """Bring a new state to where a checkpoint was.

    Raises:
        CheckpointError: missing, damaged, or of another model; the state is then not to be used.
    """
    metadata, tensors = _read(path)
    sizes = json.loads(metadata["sizes"])
    if sizes != _sizes(state):
        raise CheckpointError(
            f"{path}: made for [users, items] {sizes}, wanted {_sizes(state)}: other data"
        )
    state.load_tensors(tensors)
    state.epoch, state.batch, state.step = json.loads(metadata["position"])


def read_model(path: Path) -> TrainingState:
    """Rebuild model and layer from a checkpoint alone, in evaluation mode.

    Raises:
        CheckpointError: missing, damaged, or written by something else.
    """
    metadata, tensors = _read(path)
    try:
        config = Config.from_dict(json.loads(metadata["config"]))
        # The machine that uses a model need not have the device that trained it.
        here = dataclasses.replace(config.train, device="auto")
        config = dataclasses.replace(config, train=here)
        num_users, num_items = json.loads(metadata["sizes"])
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{path}: unreadable configuration: {error}") from error
    state = TrainingState.new(num_users, num_items, config, joint=json.loads(metadata["joint"]))
    state.load_tensors(tensors)
    state.epoch, state.batch, state.step = json.loads(metadata["position"])
    state.catalogue = metadata.get("catalogue", "")  # earlier versions did not say
    state.model.eval()
    if state.layer is not None:
        state.layer.eval()
    return state


def fingerprint(state: TrainingState) -> str:
    """Return 16 hexadecimal digits that change with any weight of the model or layer."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.tensors().items()):
        if not name.startswith("optimizer/"):
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().view(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _sizes(state: TrainingState) -> list[int]:
    tower = state.model.query_tower
    num_users = tower.embedding.num_embeddings if isinstance(tower, IdTower) else 0
    return [num_users, state.model.num_items]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise CheckpointError(f"{path}: not a checkpoint of this library")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if metadata.get("metadata_crc32") != _metadata_crc32(metadata):
        raise CheckpointError(f"{path}: damaged: the checksum of its metadata differs")
    wanted = json.loads(metadata["checksums"])
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or wanted.get(name) != _crc32(tensors[name]):
            raise CheckpointError(f"{path}: damaged: the checksum of {name} differs")
    return metadata, tensors


def _crc32(tensor: Tensor) -> int:
    return zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)


def _metadata_crc32(metadata: dict[str, str]) -> str:
    kept = {k: v for k, v in metadata.items() if k != "metadata_crc32"}
    return str(zlib.crc32(json.dumps(kept, sort_keys=True).encode()))

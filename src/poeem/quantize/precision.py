"""Full precision inside autocast: codes and rotations found with fewer bits would be others."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which nothing is cast on a kind of device."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device_type=device.type, enabled=False)

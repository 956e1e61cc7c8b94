"""Which scan kernels there are and which one is used."""

from __future__ import annotations

import os

from poeem import _native

KERNEL_VARIABLE: str = _native.KERNEL_VARIABLE


def wanted_kernel() -> str:
    """Return what POEEM_KERNEL says; empty = the best this machine can run."""
    return os.environ.get(KERNEL_VARIABLE, "")


def active_kernel() -> str:
    """Return the name of the kernel that a search would use now.

    Raises:
        ConfigError: POEEM_KERNEL names an unknown kernel, or one this machine cannot run.
    """
    name: str = _native.choose_kernel(wanted_kernel())
    return name


def available_kernels() -> list[dict[str, str | bool]]:
    """List the kernels, the most wanted first: name, description, required_cpu, supported."""
    kernels: list[dict[str, str | bool]] = _native.kernels()
    return kernels


def cpu_features() -> dict[str, bool]:
    """Return what kernels ask of this machine, and whether it has it."""
    features: dict[str, bool] = _native.cpu_features()
    return features

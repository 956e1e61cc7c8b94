"""Other ways to move a rotation, with the interface of `GivensDescent`, to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from poeem.errors import ConfigError


class ProcrustesDescent(torch.optim.Optimizer):
    """Sets each rotation to the one that fits the latest gradients best: OPQ's closed form.

    It wants the gradient of - sum <x_i, R^T q_i>, which among rotations is half the distortion
    sum |x_i - R^T q_i|^2 less a constant. That gradient is G = - sum q_i x_i^T, whatever R is, and
    the best rotation is the orthonormal factor of -G. One SVD per step, O(dim^3).

    Args:
        params: parameters [dim, dim].
        momentum: share of the old gradients that is kept; 0 = this batch alone decides.

    Raises:
        ConfigError: momentum not in [0, 1).

    Source: Ge et al., Optimized product quantization, 2013, section 3.1.
    """

    def __init__(self, params: Iterable[Any], *, momentum: float = 0.0) -> None:
        if not 0 <= momentum < 1:
            raise ConfigError(f"momentum: got {momentum}, wanted 0 to below 1")
        super().__init__(params, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Replace every parameter that has a gradient; return the closure's loss, if given."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                kept = state.get("gradient", torch.zeros_like(param))
                state["gradient"] = kept = group["momentum"] * kept + param.grad
                left, _, right = torch.linalg.svd(-kept)
                param.copy_(left @ right)
        return loss


class ParametrizedDescent(torch.optim.Optimizer):
    """Adam on a skew-symmetric matrix S, with R = map(S) R_0: torch's own orthogonal maps.

    Args:
        params: parameters [dim, dim], orthonormal.
        lr: Adam's step size for the entries of S.
        orthogonal_map: `cayley` solves a linear system, `matrix_exp` sums a series: O(dim^3) both.
        betas: as of Adam.

    Raises:
        ConfigError: an unknown map or a negative step size.

    Source: Lezcano-Casado and Martinez-Rubio, Cheap orthogonal constraints in neural networks,
        2019; `torch.nn.utils.parametrizations.orthogonal`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        orthogonal_map: str = "cayley",
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        if orthogonal_map not in ("cayley", "matrix_exp"):
            raise ConfigError(
                f"orthogonal_map: got {orthogonal_map!r}, wanted cayley or matrix_exp"
            )
        if not lr >= 0:
            raise ConfigError(f"lr: got {lr}, wanted at least 0")
        super().__init__(params, {"lr": lr, "orthogonal_map": orthogonal_map, "betas": betas})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; return the closure's loss, if given."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, param.grad, group)
        return loss

    def _move(self, param: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        if "skew" not in state:
            state["skew"] = torch.zeros_like(param).requires_grad_()
            state["start"] = param.detach().clone()
            state["adam"] = torch.optim.Adam([state["skew"]], lr=group["lr"], betas=group["betas"])
        skew, adam = state["skew"], state["adam"]
        adam.param_groups[0]["lr"] = group["lr"]
        skew.grad = None
        with torch.enable_grad():
            _orthogonal(skew, group["orthogonal_map"]).matmul(state["start"]).backward(grad)
        adam.step()
        with torch.no_grad():
            param.copy_(_orthogonal(skew, group["orthogonal_map"]) @ state["start"])


def _orthogonal(matrix: Tensor, orthogonal_map: str) -> Tensor:
    lower = matrix.tril(-1)
    skew = lower - lower.T
    if orthogonal_map == "matrix_exp":
        exponential: Tensor = torch.linalg.matrix_exp(skew)
        return exponential
    identity = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
    solved: Tensor = torch.linalg.solve(identity + skew / 2, identity - skew / 2)
    return solved


def _evaluate(closure: Callable[[], Any] | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()

"""Givens coordinate descent: an optimizer whose matrices stay orthonormal.

With R a rotation and G = dL/dR, turning rows i and j of R by a small angle t,

    R_i <- cos(t) R_i - sin(t) R_j,     R_j <- sin(t) R_i + cos(t) R_j,

changes the loss by -t A_ij, where A = G R^T - R G^T is skew-symmetric. Each step picks disjoint
pairs (i, j) and turns them all at once: O(dim^2) on top of the product G R^T, and no SVD.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from poeem import _native
from poeem.checks import seed_in_range
from poeem.errors import ConfigError, InputError, NonFiniteError, ShapeError
from poeem.quantize.precision import full_precision
from poeem.quantize.rotation import newton_schulz, orthonormality_error

# float32 rounding grows like a random walk, to about 1e-6 in this many steps.
_POLISH_EVERY = 100
# The square of twice as much is still finite in float32; infinity would stay in the moments.
_MAX_SLOPE = 9e18
# Further off than any rounding: not a rotation at all.
_MAX_ERROR = 1e-3


class GivensDescent(torch.optim.Optimizer):
    """Moves square orthonormal parameters by rotations in disjoint coordinate planes.

    Args:
        params: parameters [dim, dim], each orthonormal; e.g. `layer.rotation_parameters()`. May be
            empty: a layer without rotation has none.
        lr: step size. `plain`: angle in radians per unit of derivative. `adam`: about the largest
            angle per step, in radians, whatever the scale of the loss.
        pairs: `greedy` takes the largest |A_ij| first; `random` draws a random pairing; `steepest`
            finds the pairing with the largest sum of |A_ij|, at O(dim^3) on the host.
        step_size: `plain` or `adam` (running moments of A).
        betas: decay of first and second moment, for `adam`.
        turns: so many pairings are chosen and turned by one gradient, each where the turns before
            have led: it is the same for all of them, as the loss is linear in R while codes stay.
            One turns dim / 2 of all dim * (dim - 1) / 2 planes, so many dims want more: on fixed
            vectors dim / 32 end as low as turns of all planes at once do (DESIGN.md).
        seed: seed of the random pairing.

    Raises:
        ConfigError: a setting out of its range.
        ShapeError: a parameter that is not square. InputError: one that is not orthonormal.
        NonFiniteError: in `step`, a gradient with NaN or infinity, or with a slope beyond 9e18,
            whose square float32 cannot hold (on a CPU; with several turns 9e18 / sqrt(dim)).

    Source: Jiang et al., A differentiable approach to learning rotations for product quantization
        via Givens coordinate descent, arXiv 2203.05082, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        pairs: str = "greedy",
        step_size: str = "adam",
        betas: tuple[float, float] = (0.9, 0.99),
        turns: int = 1,
        seed: int = 0,
    ) -> None:
        defaults = {
            "lr": lr,
            "pairs": pairs,
            "step_size": step_size,
            "betas": betas,
            "turns": turns,
            "seed": seed,
        }
        # A layer without a rotation has no such parameters, and the same loop should run.
        super().__init__(list(params) or [{"params": []}], defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was saved, also before there was a setting `turns`."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("turns", 1)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own, checked as those of the constructor.

        Raises:
            ConfigError, ShapeError, InputError: as the constructor; nothing was added.
        """
        _check_settings({**self.defaults, **param_group})
        params = param_group["params"]
        listed = [params] if isinstance(params, Tensor) else list(params)
        for param in listed:
            matrix = param[1] if isinstance(param, tuple) else param  # torch takes names too
            if isinstance(matrix, Tensor):  # else torch says what it wants
                _check_rotation(matrix)
        super().add_param_group({**param_group, "params": listed})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Turn every parameter that has a gradient; return the closure's loss, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        wanted = [(p, group) for group in self.param_groups for p in group["params"]]
        with contextlib.ExitStack() as stack:  # half precision would not stay orthonormal
            for device in {param.device for param, _ in wanted}:
                stack.enter_context(full_precision(device))
            products = [
                (param, param.grad, self._product(param, param.grad, group["turns"]), group)
                for param, group in wanted
                if param.grad is not None
            ]
            for param, grad, product, group in products:
                self._turn(param, product, group)
                for _ in range(1, group["turns"]):
                    self._turn(param, grad @ param.T, group)
        return loss

    @staticmethod
    def _product(param: Tensor, grad: Tensor, turns: int) -> Tensor:
        """Return G R^T, or refuse it before anything is turned."""
        product = grad @ param.T
        # Only where looking at a value costs nothing; on a GPU it would stop the stream.
        if grad.device.type == "cpu" and product.numel():
            # Turns leave the length of a row, all of which may then stand in one place.
            most = _MAX_SLOPE if turns == 1 else _MAX_SLOPE / math.sqrt(len(product))
            low, high = product.aminmax()
            if not (low > -most and high < most):  # NaN is in no range
                raise NonFiniteError(
                    "gradient of a rotation: NaN, infinity, or beyond what can be squared; "
                    "nothing was turned"
                )
        return product

    def _turn(self, param: Tensor, product: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        state["step"] = step = state.get("step", 0) + 1
        if _is_native(param, product) and group["pairs"] != "steepest":
            _turn_natively(param, product, group, state)
        else:
            _turn_by_torch(param, product, group, state)
        if step % _POLISH_EVERY == 0:
            # A GPU may be told to multiply float32 with ten bits, but never float64.
            exact = param.double() if param.is_cuda else param
            param.copy_(newton_schulz(exact))


def _check_settings(group: dict[str, Any]) -> None:
    """Raise ConfigError for a setting out of its range."""
    lr, betas = group["lr"], group["betas"]
    if not _is_number(lr) or not 0 <= lr < math.inf:
        raise ConfigError(f"lr: got {lr!r}, wanted at least 0 and finite")
    pair = tuple(betas) if isinstance(betas, tuple | list) else ()
    if len(pair) != 2 or not all(_is_number(beta) and 0 <= beta < 1 for beta in pair):
        raise ConfigError(f"betas: got {betas!r}, wanted two numbers from 0 to below 1")
    if group["pairs"] not in ("greedy", "random", "steepest"):
        raise ConfigError(f"pairs: got {group['pairs']!r}, wanted greedy, random or steepest")
    if group["step_size"] not in ("adam", "plain"):
        raise ConfigError(f"step_size: got {group['step_size']!r}, wanted adam or plain")
    for name, low in (("turns", 1), ("seed", None)):
        value = group[name]
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ConfigError(f"{name}: got {value!r}, wanted an integer")
        if low is not None and value < low:
            raise ConfigError(f"{name}: got {value!r}, wanted at least {low}")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_rotation(param: Tensor) -> None:
    """Raise ShapeError or InputError for what is no rotation."""
    if param.ndim != 2 or param.shape[0] != param.shape[1]:
        raise ShapeError(f"params: got {tuple(param.shape)}, wanted [dim, dim]")
    error = orthonormality_error(param)
    if not error <= _MAX_ERROR:
        raise InputError(
            f"params: got a matrix with max |R R^T - I| = {error:.3g}, wanted an orthonormal one "
            f"(at most {_MAX_ERROR:g})"
        )


def _turn_by_torch(
    param: Tensor, product: Tensor, group: dict[str, Any], state: dict[str, Any]
) -> None:
    """Turn on any device, without looking at a value on the host: the slow and obvious twin.

    Args:
        product: G R^T, [dim, dim].
    """
    slopes = product - product.T  # A, [dim, dim]
    square = None
    if group["step_size"] == "adam":
        slopes, square = _moments(state, slopes, group["betas"])
    partner = _pairs(slopes, group, state["step"]).unsqueeze(1)  # [dim, 1]
    angles = group["lr"] * slopes.gather(1, partner)
    if square is not None:
        # Above the diagonal: the native twin keeps no more.
        own = torch.arange(len(slopes), device=slopes.device).unsqueeze(1)
        places = torch.minimum(own, partner) * len(slopes) + torch.maximum(own, partner)
        angles /= square.view(-1)[places].sqrt() + 1e-12
    # An unpaired row is its own partner, and A_ii = 0 leaves it where it is.
    turned_by = param[partner[:, 0]].mul_(angles.sin())
    param.mul_(angles.cos()).sub_(turned_by)


def _turn_natively(
    param: Tensor, product: Tensor, group: dict[str, Any], state: dict[str, Any]
) -> None:
    """Do the same on a CPU, in one pass over half of each matrix."""
    partner = None
    if group["pairs"] == "random":
        partner = random_pairs(len(param), group["seed"] + state["step"]).numpy()
    moments, betas, scales = {}, (0.0, 0.0), (1.0, 1.0)
    if group["step_size"] == "adam":
        _begin_moments(state, product)
        moments = {name: state[name].numpy() for name in ("mean", "square")}
        betas = group["betas"]
        scales = (1 / (1 - betas[0] ** state["step"]), 1 / (1 - betas[1] ** state["step"]))
    _native.givens_turn(
        product=product.numpy(),
        rotation=param.detach().numpy(),
        **moments,
        decays=betas,
        scales=scales,
        lr=group["lr"],
        partner=partner,
        kernel=_kernel(),
    )
    torch.autograd.graph.increment_version(param)


def _kernel() -> str:
    return os.environ.get(_native.KERNEL_VARIABLE, "")


def _is_native(*matrices: Tensor) -> bool:
    return all(
        m.device.type == "cpu" and m.dtype == torch.float32 and m.is_contiguous() for m in matrices
    )


def _begin_moments(state: dict[str, Any], like: Tensor) -> None:
    for name in ("mean", "square"):
        if name not in state:
            state[name] = torch.zeros_like(like)


def _moments(
    state: dict[str, Any], slopes: Tensor, betas: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Update the running moments of A; return the smoothed A and its smoothed square."""
    _begin_moments(state, slopes)
    mean, square, step = state["mean"], state["square"], state["step"]
    mean.lerp_(slopes, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(slopes, slopes, value=1 - betas[1])
    return mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)


def _pairs(slopes: Tensor, group: dict[str, Any], step: int) -> Tensor:
    """Return the partner of each row, int64 [dim]."""
    if group["pairs"] == "greedy":
        return greedy_pairs(slopes.abs())
    if group["pairs"] == "steepest":
        return steepest_pairs(slopes.abs())
    return random_pairs(len(slopes), group["seed"] + step, slopes.device)


@torch.no_grad()
def greedy_pairs(weights: Tensor) -> Tensor:
    """Pair indices so that the largest weight is taken first, then the largest that is left, ...

    Each round joins every two rows that are each other's best: with distinct weights the same
    pairs as picking one by one from a sorted list, in a few rounds.

    Args:
        weights: float [dim, dim], symmetric, not negative; the diagonal is ignored.

    Returns:
        int64 [dim], the partner of each row; a row left over is its own partner.
    """
    if _is_native(weights):
        return torch.from_numpy(_native.greedy_pairs(weights.detach().numpy(), kernel=_kernel()))
    if weights.device.type == "cpu":
        return _greedy_pairs_on_host(weights)
    return _greedy_pairs_on_device(weights)


def _greedy_pairs_on_device(weights: Tensor) -> Tensor:
    """Do so by operations on the whole matrix, without looking at a value on the host."""
    dim = len(weights)
    own = torch.arange(dim, device=weights.device)
    partner = own.clone()
    left = weights.clone().fill_diagonal_(-1.0)
    # Random weights need about log2(dim) rounds; what is still unpaired then sits this step out.
    for _ in range(2 * max(1, dim - 1).bit_length()):
        best_weight, best = left.max(1)
        joined = (best[best] == own) & (best_weight >= 0)
        partner = torch.where(joined, best, partner)
        left.masked_fill_(joined.unsqueeze(1) | joined.unsqueeze(0), -1.0)
    return partner


def _greedy_pairs_on_host(weights: Tensor) -> Tensor:
    """Do so where values can be looked at: each round goes on with the rows that are left."""
    partner = torch.arange(len(weights))
    rows = partner.clone()
    left = weights.clone().fill_diagonal_(-1.0)
    while len(rows) > 1:
        best = left.max(1).indices
        joined = best[best] == torch.arange(len(rows))
        if not joined.any():  # equal weights in a ring: any pair is as good
            joined[0] = joined[best[0]] = True
            best[best[0]] = 0
        partner[rows[joined]] = rows[best[joined]]
        rest = (~joined).nonzero()[:, 0]
        rows, left = rows[rest], left.index_select(0, rest).index_select(1, rest)
    return partner


def steepest_pairs(weights: Tensor) -> Tensor:
    """Return the pairing of the largest total weight, as `greedy_pairs` does nearly and cheaply.

    Args:
        weights: float [dim, dim], symmetric, not negative, finite; the diagonal is ignored. Rounded
            to 2^-52 of the largest, as the library wants integers.

    Returns:
        int64 [dim], the partner of each row; a row left over is its own partner.

    Source: Edmonds, Paths, trees and flowers, 1965; by rustworkx.
    """
    import rustworkx

    heavy = weights.detach().cpu().double()
    heavy = (heavy / (heavy.max() or 1.0) * 2.0**52).round() + 1  # 0 would be no edge
    graph = rustworkx.PyGraph.from_adjacency_matrix(heavy.fill_diagonal_(0).numpy())
    partner = torch.arange(len(weights))
    for i, j in rustworkx.max_weight_matching(graph, max_cardinality=True, weight_fn=int):
        partner[i], partner[j] = j, i
    return partner.to(weights.device)


def random_pairs(dim: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Return a random pairing of 0..dim-1 as int64 [dim]; an odd one out is its own partner."""
    generator = torch.Generator(device).manual_seed(seed_in_range(seed))
    order = torch.randperm(dim, generator=generator, device=device)
    first, second = order[: dim // 2], order[dim // 2 : dim // 2 * 2]
    partner = torch.arange(dim, device=device)
    partner[first], partner[second] = second, first
    return partner

"""Lists made by demand: items that the same queries want stand in one list, as many as fit.

Lists of nearest vectors are made for items; what counts with few lists visited is how much of what
a query wants stands in its first list. So queries and lists choose each other in turns: a query
goes to the list that it expects most from, and an item to a list whose queries want it most. A
list has room for so many items only: those that are wanted little make way.

"Expects" is the model's own guess, p(item | query) = softmax of the scores over the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from poeem.config import LayerConfig, TrainConfig
from poeem.errors import ConfigError
from poeem.quantize import coarse
from poeem.quantize.checks import check_vectors
from poeem.quantize.kmeans import kmeans
from poeem.training.losses import check_temperature

# Floats of p(item | query) held at once, and of the demand of all lists.
_BLOCK = 2**23
_DEMAND = 2**27
_CHOICES = 16
# What counts as wanted: this share of what p(item | query) is where all of a list is wanted alike;
# and at least so much, which bounds the items that a query keeps.
_LEAST = 1 / 32
_LEAST_OF_ALL = 1 / 4096
# So much an item is wanted where its own vector points: it decides where nobody else does.
_BY_VECTOR = 1e-7
_ROUTE_STEPS = 100
_ROUTE_BATCH = 4096


@dataclass(frozen=True)
class DemandLists:
    """Lists of the catalogue, and what tells a query which to visit.

    lists: int64 [num_items].
    routes: float [num_lists, dim]; softmax(query @ routes.T / temperature) is about the share of
        what a query wants that stands in each list.
    """

    lists: Tensor
    routes: Tensor


@torch.no_grad()
def demand_lists(
    queries: Tensor,
    items: Tensor,
    num_lists: int,
    *,
    temperature: float,
    capacity: float = TrainConfig().list_capacity,
    rounds: int = TrainConfig().list_rounds,
    kmeans_iterations: int = LayerConfig().kmeans_iterations,
    generator: torch.Generator,
) -> DemandLists:
    """Return lists in which queries find much of what they want in the first one they visit.

    Args:
        queries: float [m, dim], a sample; some tens for each list.
        items: float [num_items, dim], the catalogue.
        num_lists: at most num_items.
        temperature: what scores are divided by in p(item | query).
        capacity: room of a list, in multiples of num_items / num_lists; at least 1.
        rounds: turns of queries and items; 0 = lists of nearest vectors.
        kmeans_iterations: of the lists to begin with.
        generator: source of randomness, on the CPU.

    Raises:
        ShapeError, DtypeError, NonFiniteError: vectors that do not fit together, or fewer items
            than lists.
        ConfigError: temperature not positive and finite, capacity below 1, or no lists.

    Source: the turns are those of Gupta et al., BLISS: a billion scale index using iterative
        re-partitioning, KDD 2022, with lists that have room for so many and choose by demand.
    """
    check_temperature(temperature)
    check_vectors("items", items, items.shape[-1] if isinstance(items, Tensor) else 0)
    check_vectors("queries", queries, items.shape[1])
    if num_lists < 1 or not capacity >= 1:
        raise ConfigError(
            f"num_lists, capacity: got {num_lists} and {capacity}, wanted at least 1 of each"
        )
    least = max(_LEAST * num_lists / len(items), _LEAST_OF_ALL)
    wanted = _Wanted(queries, items, temperature, least)
    centroids = kmeans(
        items.unsqueeze(0), num_lists, num_iterations=kmeans_iterations, generator=generator
    )[0]
    lists, routes = coarse.assign(items, centroids), centroids
    # A list that has room for all has no use for more.
    room = max(1, -(-int(min(capacity, num_lists) * len(items)) // num_lists))
    for _ in range(rounds):
        shares = wanted.shares(lists, num_lists)
        routes = fit_routes(queries, shares, routes, temperature, generator)
        first = (queries @ routes.T).argmax(1)
        lists = assign_within(*wanted.choices(first, items, routes), num_lists, room)
    shares = wanted.shares(lists, num_lists)
    return DemandLists(lists, fit_routes(queries, shares, routes, temperature, generator))


class _Wanted:
    """p(item | query), where it is not too small to count.

    Args:
        queries: float [m, dim]. items: float [n, dim].
        temperature: as in `demand_lists`.
        least: the smallest p that counts.
    """

    def __init__(self, queries: Tensor, items: Tensor, temperature: float, least: float) -> None:
        self.num_queries = len(queries)
        rows, columns, shares = [], [], []
        at_once = max(1, _BLOCK // len(items))
        for start in range(0, len(queries), at_once):
            p = torch.softmax(queries[start : start + at_once] @ items.T / temperature, dim=1)
            row, column = (p >= least).nonzero(as_tuple=True)
            rows.append((row + start).int())
            columns.append(column.int())
            shares.append(p[row, column])
        self._rows, self._columns, self._shares = map(torch.cat, (rows, columns, shares))

    def shares(self, lists: Tensor, num_lists: int) -> Tensor:
        """Return how much of what each query wants stands in each list, [m, num_lists]."""
        found = self._shares.new_zeros(self.num_queries * num_lists)
        found.index_add_(0, self._rows.long() * num_lists + lists[self._columns], self._shares)
        return found.view(self.num_queries, num_lists)

    def choices(self, first: Tensor, items: Tensor, routes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lists whose queries want an item most, and how much, best first.

        Args:
            first: int64 [m], the list that each query goes to.
            items: float [n, dim]. routes: float [num_lists, dim].

        Returns:
            float and int64, both [c, n], c = 16 or num_lists where that is fewer.
        """
        num_lists, found = len(routes), []
        at_once = max(1, _DEMAND // num_lists)
        for start in range(0, len(items), at_once):
            part = items[start : start + at_once]
            demand = _BY_VECTOR * torch.softmax(routes @ part.T, dim=0)
            here = (self._columns >= start) & (self._columns < start + len(part))
            places = first[self._rows[here]] * len(part) + (self._columns[here] - start)
            demand.view(-1).index_add_(0, places, self._shares[here])
            found.append(demand.topk(min(_CHOICES, num_lists), dim=0))
        values, lists = zip(*found, strict=True)
        return torch.cat(values, 1), torch.cat(lists, 1)


def fit_routes(
    queries: Tensor,
    shares: Tensor,
    routes: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Return routes whose softmax comes near the shares, by Adam on the cross entropy.

    Args:
        queries: float [m, dim]. shares: float [m, num_lists], rows sum to 1.
        routes: float [num_lists, dim] to begin with; not changed.
    """
    found = routes.clone().requires_grad_()
    size = float(routes.square().mean().sqrt())
    adam = torch.optim.Adam([found], lr=0.3 * size)
    for step in range(_ROUTE_STEPS):
        adam.param_groups[0]["lr"] = 0.3 * size * (1 - step / _ROUTE_STEPS)
        drawn = torch.randint(len(queries), (_ROUTE_BATCH,), generator=generator).to(queries.device)
        with torch.enable_grad():
            guesses = log_softmax(queries[drawn] @ found.T / temperature, dim=1)
            loss = -(shares[drawn] * guesses).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return found.detach()


def assign_within(values: Tensor, choices: Tensor, num_lists: int, room: int) -> Tensor:
    """Return a list for each item, int64 [n], no list with more than `room`.

    Items ask for their choices in order, and a list keeps those that it values most: nobody can
    then be moved to a list that he prefers and that would rather have him. Who is left over fills
    the lists that have room.

    Args:
        values: float [c, n], how much each choice wants the item; descending.
        choices: int64 [c, n], numbers of lists.
        room: at least n / num_lists.

    Source: Gale and Shapley, College admissions and the stability of marriage, 1962.
    """
    count, n = choices.shape
    lists = choices.new_full((n,), -1)
    value = values.new_zeros(n)
    asked = torch.zeros_like(lists)
    while len(free := ((lists < 0) & (asked < count)).nonzero()[:, 0]):
        lists[free] = choices[asked[free], free]
        value[free] = values[asked[free], free]
        asked[free] += 1
        lists[_beyond_room(lists, value, num_lists, room)] = -1
    left = (lists < 0).nonzero()[:, 0]
    empty = room - torch.bincount(lists[lists >= 0], minlength=num_lists)
    order = torch.arange(len(left), device=lists.device)
    lists[left] = torch.searchsorted(empty.cumsum(0), order, right=True)  # list after list
    return lists


def _beyond_room(lists: Tensor, value: Tensor, num_lists: int, room: int) -> Tensor:
    """Return items that stand in a list behind `room` others of more value, int64 [p]."""
    inside = (lists >= 0).nonzero()[:, 0]
    order = inside[value[inside].argsort(descending=True, stable=True)]
    order = order[lists[order].argsort(stable=True)]  # list by list, the most valued first
    counts = torch.bincount(lists[order], minlength=num_lists)
    rank = torch.arange(len(order), device=lists.device)
    rank = rank - (counts.cumsum(0) - counts)[lists[order]]
    return order[rank >= room]

"""How codewords are numbered: near ones 64 apart, so that a scan can bound several at once.

The engine's first look at a code is by its lower six bits, its *quad*, or lower seven, its *pair*
(native/src/kernels/bounds.h). Any numbering gives the same answers; with one in which the codewords
of a quad, and in it of a pair, are near each other few more items pass that look than one by all
eight bits, which takes two to four times as long.
"""

from __future__ import annotations

import numpy as np

from poeem.types import Array, FloatArray, IntArray

NUM_QUADS = 64
MAX_ROUNDS = 20  # of exchanges; four to six do


def quad_order(codebooks: FloatArray) -> IntArray:
    """Return who stands at each number: int64 [num_subspaces, num_codewords].

    Near codewords are paired, then near pairs, then some exchanged. The order depends on the
    codewords alone, not on how they are numbered now. Other numbers of codewords than 128 and 256
    stay as they are.

    Args:
        codebooks: float32 [num_subspaces, num_codewords, width].
    """
    num_codewords = codebooks.shape[1]
    if num_codewords not in (2 * NUM_QUADS, 4 * NUM_QUADS):
        return np.tile(np.arange(num_codewords), (len(codebooks), 1))
    return np.stack([_order_of(words.astype(np.float64)) for words in codebooks])


def renumbered(codebooks: FloatArray, codes: Array) -> tuple[FloatArray, Array]:
    """Return codebooks in `quad_order`, and codes uint16 [n, num_subspaces] for the same."""
    order = quad_order(codebooks)
    numbers = np.argsort(order, axis=1).astype(np.uint16)
    renamed = np.empty(codes.shape, dtype=np.uint16)
    for m, names in enumerate(numbers):
        renamed[:, m] = names[codes[:, m]]
    return np.take_along_axis(codebooks, order[:, :, None], axis=1), renamed


def _order_of(words: Array) -> IntArray:
    by_value = np.lexsort(words.T[::-1])  # so that it does not matter how they were numbered
    words = words[by_value]
    words = words - words.mean(axis=0)  # for the precision of products
    members = np.arange(len(words))[:, None]  # [groups, codewords of each]
    while len(members) > NUM_QUADS:
        pairs = _nearest_pairs(words[members].mean(axis=1))
        members = members[pairs].reshape(len(pairs), -1)
    members = _paired(words, _exchanged(words, members))
    return np.asarray(by_value[members].T.ravel(), dtype=np.int64)


def _exchanged(words: Array, members: IntArray) -> IntArray:
    """Exchange codewords of quads, two at a time, as long as that brings quads closer together.

    members: [groups, size]; of equal sizes. Exchanging a of A for b of B changes the sum of squared
    distances to the means by -2 <b - a, mean(A) - mean(B)> - 2 |b - a|^2 / size.
    """
    size = members.shape[1]
    owner = np.repeat(np.arange(len(members)), size)
    for _ in range(MAX_ROUNDS):
        placed = words[members.ravel()]
        to_means = placed.reshape(len(members), size, -1).mean(axis=1)[owner] @ placed.T
        own = np.diag(to_means)
        products = placed @ placed.T
        squares = np.diag(products)
        gain = 2 * (to_means + to_means.T - own[:, None] - own)
        gain += 2 / size * (squares[:, None] + squares - 2 * products)
        gain[owner[:, None] >= owner] = 0.0  # each pair once, none within a quad
        places = np.flatnonzero(gain > 1e-6 * squares.mean())
        if not len(places):
            break
        flat, moved = members.ravel().copy(), set[int]()
        for place in places[np.argsort(-gain.ravel()[places], kind="stable")].tolist():
            i, j = divmod(place, len(flat))
            if not moved & {owner[i], owner[j]}:
                moved |= {owner[i], owner[j]}
                flat[i], flat[j] = flat[j], flat[i]
        members = flat.reshape(members.shape)
    return members


def _paired(words: Array, members: IntArray) -> IntArray:
    """Put the codewords of each quad so that the first and third are near, and the other two.

    members: [groups, 4]; pairs stay as they are.
    """
    if members.shape[1] != 4:
        return members
    orders = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]])
    placed = words[members][:, orders]  # [groups, orders, 4, width]
    apart = ((placed[:, :, :2] - placed[:, :, 2:]) ** 2).sum(axis=(2, 3))
    return np.take_along_axis(members, orders[apart.argmin(axis=1)], axis=1)


def _nearest_pairs(points: Array) -> IntArray:
    """Pair each of an even number of points [n, width]: the two nearest of all, then of the others.

    Whoever is nearest to whom he is nearest to is paired, all of these at once.
    """
    squares = np.einsum("ij,ij->i", points, points)
    distances = squares[:, None] + squares - 2 * points @ points.T
    distances = np.minimum(distances, distances.T)  # else rounding may leave nobody mutual
    np.fill_diagonal(distances, np.inf)
    free = np.arange(len(points))
    found: list[IntArray] = []
    while len(free):
        nearest = distances[np.ix_(free, free)].argmin(axis=1)
        here = np.arange(len(free))
        first = (nearest[nearest] == here) & (here < nearest)
        found.append(np.stack([free[first], free[nearest[first]]], axis=1))
        left = np.ones(len(free), dtype=bool)
        left[here[first]] = left[nearest[first]] = False
        free = free[left]
    pairs = np.concatenate(found)
    return pairs[np.argsort(pairs[:, 0])]

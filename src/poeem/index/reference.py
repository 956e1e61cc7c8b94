"""Search in NumPy, slow and obvious: the truth the native engine is tested against, bit by bit.

The steps are those of DESIGN.md, "Scores, to the last bit". Each sum is a loop over its terms, so
that its order is the one written there; NumPy never fuses a multiplication with an addition.
"""

from __future__ import annotations

import numpy as np

from poeem.index.codes import decode, lists_from_offsets
from poeem.index.contents import IndexContents
from poeem.types import Array, Family, FloatArray, IntArray, Metric, SearchResult

ZERO = np.float32(0)
TWO = np.float32(2)


def search(
    contents: IndexContents,
    queries: FloatArray,
    k: int,
    num_probes: int | None = None,
    allowed: Array | None = None,
) -> SearchResult:
    """Search float32 [num_queries, num_heads, dim]; the same contract as `Index.search`.

    allowed: bool [num_items], whether the item at a position may be returned; None = all.
    """
    if allowed is None:
        allowed = np.ones(contents.num_items, dtype=bool)
        enough = 0
    else:
        enough = min(k, int(allowed.sum()))
    ids = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    stored_ids = contents.ids_between(0, contents.num_items)
    for row, heads in enumerate(queries):
        best = np.full(contents.num_items, -np.inf, dtype=np.float32)
        visited = np.zeros(contents.num_items, dtype=bool)
        for query in heads:
            score, probe_order = score_items(contents, query)
            usable = allowed & ~np.isnan(score)  # NaN, after an overflow, is no score
            probed = usable & reached(contents, probe_order, usable, num_probes, enough)
            better = probed & (~visited | (score > best))  # of equal scores the first head's stays
            best = np.where(better, score, best)
            visited |= probed
        found = np.flatnonzero(visited)
        order = np.lexsort((stored_ids[found], -best[found]))[:k]  # ties to the smaller id
        ids[row, : len(order)] = stored_ids[found[order]]
        scores[row, : len(order)] = best[found[order]]
    return SearchResult(ids, scores)


def reached(
    contents: IndexContents,
    probe_order: IntArray,
    usable: Array,
    num_probes: int | None,
    enough: int,
) -> Array:
    """Return whether an item's list is visited, bool [num_items].

    The first `num_probes` lists are, and then more until `enough` usable items were met.
    """
    if contents.list_offsets is None:
        return np.ones(contents.num_items, dtype=bool)
    lists = lists_from_offsets(contents.list_offsets)
    met = np.cumsum(np.bincount(lists[usable], minlength=contents.num_lists)[probe_order])
    wanted = len(probe_order) if num_probes is None else num_probes
    if enough:
        wanted = max(wanted, int(np.searchsorted(met, enough)) + 1)
    return np.isin(lists, probe_order[:wanted])


def score_items(contents: IndexContents, query: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return every item's score, float32 [num_items], and the lists, the best to probe first."""
    with np.errstate(over="ignore", invalid="ignore"):
        rotated = rotate(contents, normalize(query) if contents.metric is Metric.COSINE else query)
        table = build_table(contents, rotated)
        codes = contents.unpacked_codes()
        if contents.centroids is None or contents.list_offsets is None:
            score = np.full(contents.num_items, bias_without_lists(contents, rotated))
            probe_order = np.zeros(0, dtype=np.int64)
        else:
            lists = lists_from_offsets(contents.list_offsets)
            biases = compute_biases(contents.metric, contents.centroids, rotated)
            score = biases[lists]
            norms = list_norms(contents.metric, contents.centroids)
            probe_order = rank_lists(contents.metric, biases, norms)
        for m in range(contents.num_subspaces):
            score = score + table[m, codes[:, m]]
        if contents.norms is not None:
            score = apply_norms(contents.metric, score, contents.norms)
    return score, probe_order


def normalize(query: FloatArray) -> FloatArray:
    """Return q / |q|; |q| is summed in float64, then rounded to float32. Zero stays zero."""
    square = 0.0
    for value in query:
        square += float(value) * float(value)
    length = np.float32(np.sqrt(square))
    return np.zeros_like(query) if length == 0 else query / length


def rotate(contents: IndexContents, query: FloatArray) -> FloatArray:
    """Return rotation @ query, each coordinate summed in order."""
    return query if contents.rotation is None else _products(contents.rotation, query)


def build_table(contents: IndexContents, rotated: FloatArray) -> FloatArray:
    """Return what each codeword adds to a score, float32 [num_subspaces, num_codewords]."""
    codebooks = contents.codebooks
    if contents.family == Family.RESIDUAL:
        parts = rotated.reshape(1, 1, -1)  # beside [num_subspaces, num_codewords, dim]
    else:
        parts = rotated.reshape(contents.num_subspaces, 1, -1)  # beside [.., .., sub_dim]
    has_distances = contents.metric is Metric.L2 and contents.norms is None
    table = np.zeros(codebooks.shape[:2], dtype=np.float32)
    for j in range(codebooks.shape[2]):
        if has_distances:
            difference = parts[:, :, j] - codebooks[:, :, j]
            table = table - difference * difference
        else:
            table = table + parts[:, :, j] * codebooks[:, :, j]
    if contents.metric is Metric.L2 and not has_distances:
        table = table * TWO
    return table


def bias_without_lists(contents: IndexContents, rotated: FloatArray) -> np.float32:
    """Return what is added to every score where there are no lists."""
    if contents.metric is Metric.L2 and contents.norms is not None:
        return ZERO - _square(rotated)
    return ZERO


def compute_biases(metric: Metric, centroids: FloatArray, rotated: FloatArray) -> FloatArray:
    """Return what each list adds to a score, float32 [num_lists]."""
    biases = _products(centroids, rotated)
    if metric is not Metric.L2:
        return biases
    return TWO * biases - _square(rotated)


def rank_lists(metric: Metric, biases: FloatArray, norms: FloatArray | None) -> IntArray:
    """Return the lists, the best to probe first, ties to the smaller number."""
    score = biases if norms is None else apply_norms(metric, biases, norms)
    score = np.where(np.isnan(score), np.float32(-np.inf), score)
    return np.lexsort((np.arange(len(score)), -score))


def encode_residual(
    vectors: FloatArray, codebooks: FloatArray, beam: int, along: FloatArray | None = None
) -> IntArray:
    """Return residual codes of [n, dim], int64 [n, num_subspaces], by beam search in float64.

    An error e costs |e|^2, and with `along` [n, dim] <e, along>^2 more. The native encoder works in
    float32, so that it may rank errors alike otherwise.
    """
    books = codebooks.astype(np.float64)
    costly = np.zeros_like(vectors) if along is None else along.astype(np.float64)
    num_codewords = books.shape[1]
    codes = np.zeros((len(vectors), len(books)), dtype=np.int64)
    for row, vector in enumerate(vectors.astype(np.float64)):
        beams = [(np.zeros(0, dtype=np.int64), vector)]  # codes so far and what they leave over
        for words in books:
            rests = [rest - words for _, rest in beams]  # each [num_codewords, dim]
            errors = np.concatenate(
                [np.square(rest).sum(axis=1) + np.square(rest @ costly[row]) for rest in rests]
            )
            best = np.argsort(errors, kind="stable")[:beam]  # ties: better partial, then codeword
            beams = [
                (np.append(beams[b][0], k), rests[b][k])
                for b, k in zip(best // num_codewords, best % num_codewords, strict=True)
            ]
        codes[row] = beams[0][0]
    return codes


def list_norms(metric: Metric, centroids: FloatArray) -> FloatArray | None:
    """Return |v| (cosine) or |v|^2 (l2) of each list, summed in float64; None for ip."""
    if metric is Metric.IP:
        return None
    return rounded_norms(centroids, squared=metric is Metric.L2)


def item_norms(contents: IndexContents) -> FloatArray:
    """Return |T(x)| (cosine) or |T(x)|^2 (l2) of each item, summed in float64: float32 [n]."""
    codes = contents.unpacked_codes()
    if contents.centroids is not None and contents.list_offsets is not None:
        vectors = contents.centroids[lists_from_offsets(contents.list_offsets)].astype(np.float64)
    else:
        vectors = np.zeros((contents.num_items, contents.dim))
    if contents.family == Family.RESIDUAL:
        for m in range(contents.num_subspaces):  # the first codewords are added first
            vectors = vectors + contents.codebooks[m, codes[:, m]]
    else:
        vectors = vectors + decode(codes, contents.codebooks)
    return rounded_norms(vectors, squared=contents.metric is Metric.L2)


def rounded_norms(vectors: Array, *, squared: bool) -> FloatArray:
    """Return lengths, or their squares, of [n, dim], summed over dim in order in float64."""
    square = np.zeros(len(vectors), dtype=np.float64)
    for j in range(vectors.shape[1]):
        column = vectors[:, j].astype(np.float64)
        square = square + column * column
    with np.errstate(over="ignore"):
        return (square if squared else np.sqrt(square)).astype(np.float32)


def apply_norms(metric: Metric, scores: FloatArray, norms: FloatArray) -> FloatArray:
    """Return scores - norms (l2), or scores / norms and 0 where a norm is 0 (cosine)."""
    if metric is Metric.L2:
        return scores - norms
    safe = np.where(norms == 0, np.float32(1), norms)
    return np.where(norms == 0, ZERO, scores / safe)


def _square(vector: FloatArray) -> np.float32:
    """Return the inner product of a vector with itself, summed in order."""
    square = ZERO
    for value in vector:
        square = square + value * value
    return square


def _products(rows: FloatArray, vector: FloatArray) -> FloatArray:
    """Return the inner product of each row [n, dim] with the vector, summed in order."""
    total = np.zeros(len(rows), dtype=np.float32)
    for j in range(rows.shape[1]):
        total = total + rows[:, j] * vector[j]
    return total

"""From a trained layer and vectors, or from codes that the user brings, to an index."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from poeem import _native
from poeem.checks import as_array, check_vectors
from poeem.config import BuildConfig
from poeem.errors import DtypeError, IdError, InputError, NonFiniteError, ShapeError
from poeem.index.arguments import check_codes, check_ids, check_lists, check_parts
from poeem.index.codes import code_bits_for, pack
from poeem.index.contents import IndexContents, Titles, metric_uses_norms
from poeem.index.encode import encode
from poeem.index.engine import native_arrays
from poeem.index.format import tensors_of
from poeem.index.index import Index
from poeem.index.search_call import num_cores
from poeem.quads import renumbered
from poeem.types import (
    Array,
    Encoding,
    Family,
    FloatArray,
    IntArray,
    Metric,
    QuantizerParts,
    TrainedQuantizer,
    __version__,
)

MAX_LINEAGE_BYTES = 1 << 20
UINT32_IDS = 1 << 32

# float32 [n, dim] to codes [n, num_subspaces] and lists [n] or None.
Encoder = Callable[[FloatArray], tuple[Array, Array | None]]


def build_index(
    layer: TrainedQuantizer | QuantizerParts,
    ids: Any,
    vectors: Any,
    *,
    metric: str = BuildConfig().metric,
    titles: Iterable[str] | None = None,
    lineage: Mapping[str, Any] | None = None,
    sample_queries: Any = None,
    batch_size: int = BuildConfig().batch_size,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Encode vectors with a trained layer, or with its parts alone, and index the codes.

    Args:
        layer: anything with `export_parts` and `encode_numpy`, an `IndexLayer` for one; or
            `QuantizerParts`, with which native code encodes, and torch is not needed.
        ids: integers [n] that fit int64, all different and none -1; None = 0..n-1.
        vectors: float32 or float16 [n, dim], an array or a torch tensor.
        metric: "ip", "l2" or "cosine".
        titles: n names, kept in the file.
        lineage: what made the index (a model's fingerprint, a step), JSON values, kept in the file.
        sample_queries: vectors like the queries to come, for `Index.calibrated`; None = not now.
        batch_size: vectors encoded at a time.
        progress: called as progress(vectors done, n) after each batch.

    Raises:
        ShapeError, DtypeError, NonFiniteError: of vectors, whose rows are named; of titles or
            lineage; or norms overflow.
        IdError: ids are duplicated or do not fit int64.
        ConfigError: unknown metric, or batch_size < 1.
        InputError: parts of a layer that no index can have; a lineage that JSON cannot.
        NotWarmError: the layer has not been warm-started.
    """
    metric = Metric.of(metric)
    batch_size = BuildConfig(batch_size=batch_size).batch_size
    if isinstance(layer, QuantizerParts):
        parts = check_parts(layer)
        encode_batch: Encoder = functools.partial(encode, parts, num_threads=num_cores())
    else:
        parts = check_parts(layer.export_parts())
        encode_batch = layer.encode_numpy
    array = as_array("vectors", vectors)
    if array.ndim != 2 or len(array) == 0:
        raise ShapeError(f"vectors: got shape {array.shape}, wanted [n, {parts.dim}] with n > 0")
    if ids is not None:
        ids = check_ids(ids, len(array))  # before the long work
    codes, lists = _encode(encode_batch, array, parts.dim, batch_size, progress)
    index = _assemble(parts, codes, lists, ids, metric, titles, lineage)
    return _calibrated(index, sample_queries)


def build_index_from_codes(
    *,
    codes: Any,
    codebooks: Any,
    family: str = Family.PRODUCT,
    lists: Any = None,
    centroids: Any = None,
    rotation: Any = None,
    ids: Any = None,
    metric: str = BuildConfig().metric,
    titles: Iterable[str] | None = None,
    lineage: Mapping[str, Any] | None = None,
    sample_queries: Any = None,
    renumber: bool = False,
    encoding: Encoding | None = None,
) -> Index:
    """Index codes that were made elsewhere.

    Args:
        codes: integers [n, num_subspaces], each below num_codewords.
        codebooks: float32; with lists, of what the centroid leaves over. Product:
            [num_subspaces, num_codewords, sub_dim]; residual: [num_subspaces, num_codewords, dim].
        family: "product": codewords are parts of a vector; "residual": they are added up.
        lists: integers [n], each below num_lists; with `centroids` or not at all.
        centroids: float32 [num_lists, dim], in rotated space.
        rotation: float32 [dim, dim], orthonormal to 1e-3, x' = rotation @ x; None = identity.
        ids, metric, titles, lineage, sample_queries: as in `build_index`.
        renumber: number codewords anew, near ones 64 apart, so that searches of 128 or 256
            codewords are faster. `index.codes` are these numbers then, and stand for the same
            codewords. Codebooks of a layer have such numbers from their warm start on.
        encoding: how the codes were found, so that a `LiveIndex` finds those of new items in the
            same way; None = by the plain distance.

    Raises:
        ShapeError, DtypeError, NonFiniteError, IdError, ConfigError: as in `build_index`.
        InputError: a code or list out of its range, or a rotation that is not orthonormal.
    """
    encoding = Encoding() if encoding is None else encoding
    parts = check_parts(QuantizerParts(rotation, centroids, codebooks, family, encoding))
    array = as_array("codes", codes)
    if renumber:
        check_codes(array, parts)
        books, array = renumbered(parts.codebooks, array)
        parts = dataclasses.replace(parts, codebooks=books)
    index = _assemble(parts, array, lists, ids, Metric.of(metric), titles, lineage)
    return _calibrated(index, sample_queries)


def _calibrated(index: Index, sample_queries: Any) -> Index:
    return index if sample_queries is None else index.calibrated(sample_queries)


def _encode(
    encode_batch: Encoder,
    vectors: Array,
    dim: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Array | None]:
    """Encode in batches; return codes [n, num_subspaces] and lists [n] or None."""
    all_codes: list[Array] = []
    all_lists: list[Array] = []
    for start in range(0, len(vectors), batch_size):
        batch = check_vectors("vectors", vectors[start : start + batch_size], dim, first_row=start)
        codes, lists = encode_batch(batch)
        all_codes.append(codes)
        if lists is not None:
            all_lists.append(lists)
        if progress is not None:
            progress(start + len(batch), len(vectors))
    return np.concatenate(all_codes), np.concatenate(all_lists) if all_lists else None


def _assemble(
    parts: QuantizerParts,
    codes: Array,
    lists: Any,
    ids: Any,
    metric: Metric,
    titles: Iterable[str] | None,
    lineage: Mapping[str, Any] | None,
) -> Index:
    """Check, sort and pack: everything after the codes are known."""
    num_items = check_codes(codes, parts)
    lists = check_lists(lists, num_items, parts)
    ids = None if ids is None else check_ids(ids, num_items)
    title_bytes = encode_titles(titles, num_items)
    order = _storage_order(ids, lists, parts.num_lists)
    if order is not None:
        codes = codes[order]
        ids = ids[order] if ids is not None else order
    contents = IndexContents(
        metric=metric,
        num_items=num_items,
        family=parts.family,
        codebooks=parts.codebooks,
        encoding=parts.encoding,
        codes=pack(codes, code_bits_for(parts.num_codewords)),
        rotation=parts.rotation,
        centroids=parts.centroids,
        list_offsets=_offsets(lists, parts.num_lists),
        ids=narrow_ids(ids),
        titles=join_titles(title_bytes, order),
        lineage=_check_lineage(lineage),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        library_version=__version__,
    )
    contents = _with_norms(contents)
    for tensor in tensors_of(contents).values():
        tensor.flags.writeable = False  # an index never changes; all of them are our own copies
    return Index(contents)


def _storage_order(ids: IntArray | None, lists: Array | None, num_lists: int) -> IntArray | None:
    """Return the order by list, then by id, int64 [n]; None where it is so already.

    Raises:
        IdError: an id occurs twice.
    """
    by_id: IntArray | None = None
    if ids is not None and not (ids[1:] > ids[:-1]).all():
        by_id = np.argsort(ids, kind="stable")
        _check_duplicates(ids[by_id])
    if lists is None:
        return by_id
    # 16-bit keys get NumPy's radix sort, which is several times faster.
    keys = lists.astype(np.uint16 if num_lists <= 1 << 16 else np.int64)
    by_list = np.argsort(keys if by_id is None else keys[by_id], kind="stable")
    return by_list if by_id is None else by_id[by_list]


def _check_duplicates(sorted_ids: IntArray) -> None:
    twice = np.flatnonzero(sorted_ids[1:] == sorted_ids[:-1])
    if len(twice):
        named = ", ".join(str(i) for i in dict.fromkeys(sorted_ids[twice[:10]].tolist()))
        raise IdError(f"ids: {len(twice)} duplicates, wanted each id once; the first are {named}")


def narrow_ids(ids: IntArray | None) -> Array | None:
    """Drop ids that are their positions; store the others in 4 bytes where they fit."""
    if ids is None or np.array_equal(ids, np.arange(len(ids))):
        return None
    narrow = int(ids.min()) >= 0 and int(ids.max()) < UINT32_IDS
    return np.array(ids, dtype=np.uint32 if narrow else np.int64)


def _offsets(lists: Array | None, num_lists: int) -> IntArray | None:
    """Return where each list starts, int64 [num_lists + 1]."""
    if lists is None:
        return None
    offsets = np.zeros(num_lists + 1, dtype=np.int64)
    np.cumsum(np.bincount(lists, minlength=num_lists), out=offsets[1:])
    return offsets


def _with_norms(contents: IndexContents) -> IndexContents:
    """Add the items' norms if the metric wants them.

    Raises:
        NonFiniteError: a norm overflows float32.
    """
    if not metric_uses_norms(contents.metric, contents.num_lists > 0, contents.family):
        return contents
    norms: FloatArray = _native.item_norms(
        native_arrays(contents), squared=contents.metric is Metric.L2
    )
    if not np.isfinite(norms).all():
        raise NonFiniteError("codebooks: so large that norms of items overflow float32")
    return dataclasses.replace(contents, norms=norms)


def encode_titles(titles: Iterable[str] | None, num_items: int) -> list[bytes] | None:
    """Return titles as UTF-8, in the caller's order."""
    if titles is None:
        return None
    if isinstance(titles, str):
        raise DtypeError(f"titles: got one string, wanted {num_items} of them")
    if not isinstance(titles, Iterable):
        raise DtypeError(f"titles: got {type(titles).__name__}, wanted {num_items} strings")
    titles = list(titles)  # a generator, or a column of a table
    if len(titles) != num_items:
        raise ShapeError(f"titles: got {len(titles)}, wanted one per item, {num_items}")
    try:
        return [title.encode() for title in titles]
    except AttributeError:
        row = next(i for i, title in enumerate(titles) if not isinstance(title, str))
        raise DtypeError(f"titles: got {titles[row]!r} in row {row}, wanted a string") from None
    except UnicodeEncodeError as error:
        raise InputError(f"titles: {error.object!r} cannot be written as UTF-8") from None


def join_titles(titles: list[bytes] | None, order: IntArray | None) -> Titles | None:
    """Return titles in this order (None = as they are) as one blob."""
    if titles is None:
        return None
    if order is not None:
        titles = [titles[i] for i in order.tolist()]
    offsets = np.zeros(len(titles) + 1, dtype=np.int64)
    np.cumsum([len(title) for title in titles], out=offsets[1:])
    return Titles(offsets, np.frombuffer(b"".join(titles), dtype=np.uint8))


def _check_lineage(lineage: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return lineage as it will be read back: through JSON."""
    if lineage is None:
        return {}
    if not isinstance(lineage, Mapping):
        raise DtypeError(f"lineage: got {type(lineage).__name__}, wanted a dict")
    try:
        text = json.dumps(dict(lineage), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"lineage: cannot be written as JSON, {error}") from None
    if len(text) > MAX_LINEAGE_BYTES:
        raise InputError(f"lineage: {len(text)} bytes of JSON, wanted at most {MAX_LINEAGE_BYTES}")
    read: dict[str, Any] = json.loads(text)
    return read

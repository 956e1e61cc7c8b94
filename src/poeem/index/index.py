"""The index a user holds: open, search, look things up, save."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from poeem import _native
from poeem.checks import as_array, as_path, check_vectors
from poeem.config import SearchConfig
from poeem.errors import (
    ChangedIndexError,
    CodesError,
    ConfigError,
    CorruptIndexError,
    IdError,
    SaveError,
    ShapeError,
)
from poeem.index.arguments import as_filter, check_ids
from poeem.index.calibration import Calibration, measure
from poeem.index.codes import decode, lists_from_offsets
from poeem.index.contents import CHANGES_SUFFIX, IndexContents
from poeem.index.engine import native_arrays, pack_bits
from poeem.index.excluded import answer_of_filter, answer_without
from poeem.index.facts import facts_of
from poeem.index.format import read_index, write_index
from poeem.index.lineage import check_expected
from poeem.index.search_call import MAX_K, SearchCall, check_count, check_search, padded
from poeem.index.validate import LazyContents, Verify, as_they_are, checked_whole
from poeem.types import Array, Encoding, Family, FloatArray, IntArray, Metric, SearchResult


class Index:
    """Codes of a catalogue, searched exactly by their approximate scores.

    An index never changes. Any number of threads may search it at once; the parameters of a search
    are arguments of the call. `build_index`, `build_index_from_codes` and `Index.open` make one.
    """

    def __init__(
        self, contents: IndexContents, path: Path | None = None, *, in_memory: bool = True
    ) -> None:
        """Wrap checked contents; `path` is the file they are mapped or read from."""
        self._contents = contents
        self._path = path
        self._in_memory = in_memory
        if not isinstance(contents, LazyContents):
            self._arrays  # noqa: B018 (made now, and not by the first search)

    @functools.cached_property
    def _arrays(self) -> _native.Arrays:
        return native_arrays(self._contents)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        verify: str | bool = "open",
        in_memory: bool = False,
        expect: str | Mapping[str, Any] | None = None,
    ) -> Index:
        """Open an index file after checking it; what is said of it is said of hostile files too.

        Args:
            path: a file written by `save`, or a link to one.
            verify: "open": check everything now, which reads the whole file once. "lazy": the
                header and the small tensors now, each large one (checksum and contents) when it is
                first used. "none": the header, the shapes and the small tensors, without checksums;
                for files that were checked already. True and False stand for "open" and "none".
            in_memory: read the file instead of mapping it, so that nothing that happens to it
                afterwards matters. A mapped file must not be written in place (`save` never does).
            expect: what the index must have been made by and for: the fingerprint of a model, or
                names and values of the lineage, `metric`, `normalisation` or `dim`.

        Raises:
            NotAnIndexError, TruncatedIndexError, CorruptIndexError, IndexVersionError: see errors;
                with "lazy" also raised by whatever first needs what is damaged.
            ChangedIndexError: the file changed while it was read.
            LineageError: something expected is not so.
            ConfigError: verify is none of these.
            DtypeError, InputError: path is no path, or empty; expect is nothing to expect.
        """
        path = as_path(path)
        contents = read_index(path, verify=Verify.of(verify), in_memory=in_memory)
        if expect is not None:
            check_expected(contents, expect, str(path))
        return cls(contents, path, in_memory=in_memory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file, atomically: a reader sees the old file or the new one.

        A link stays one; the file that it leads to is replaced.

        Raises:
            SaveError: the system refused, or changes of a `LiveIndex` are beside the file, which
                belong to the index that is there; what was at `path` is untouched.
            DtypeError: path is no path.
        """
        path = as_path(path)
        _check_no_changes(path)
        write_index(self._contents, path)

    def search(
        self,
        queries: Any,
        k: int = SearchConfig().k,
        *,
        num_probes: int | None = SearchConfig().num_probes,
        target_recall: float | None = None,
        num_threads: int = SearchConfig().num_threads,
        allowed: Any = None,
        excluded: Any = None,
    ) -> SearchResult:
        """Return the k items of the highest score for each query, ties to the smaller id.

        Ctrl-C ends it between groups of queries.

        Args:
            queries: float32 or float16 [dim], [n, dim] or [n, num_heads, dim], an array or a torch
                tensor. The heads are vectors of one user; an item's score is its maximum over them.
            k: items per query; beyond the catalogue (or the probed lists) ids are -1, scores -inf.
            num_probes: lists visited for each query vector; None = all. Ignored without lists.
            target_recall: instead of num_probes: visit as many lists as found this share (above 0,
                at most 1) of the exhaustive answer when the index was calibrated. What it promises
                holds on average, for queries like the samples and k near theirs.
            num_threads: this many share the queries, or the items where queries are few; 0 = one
                per core.
            allowed: the only items to return: integers, ids (unknown ones count for nothing), or
                bool [num_items], one for each of `index.ids`; None = all. Where the lists probed
                have fewer than k of them, more lists are visited until there are k.
            excluded: for each query the ids of items not to return to it, such as those that the
                user had: a sequence of n sequences of integers, or None, or an array [n, m]
                (unknown ids and -1 count for nothing). The others are as exact as without; a query
                costs more by their number.

        Returns:
            ids int64 [n, k] and scores float32 [n, k], best first; [dim] counts as n = 1. An item
            whose score overflows to NaN is left out.

        Raises:
            ShapeError, DtypeError, NonFiniteError: of queries; rows are named.
            ConfigError: k, num_probes, target_recall or num_threads out of range; num_probes and
                target_recall given, or the latter and not calibrated; POEEM_KERNEL unknown.
            IdError, ShapeError, DtypeError: of allowed, of excluded.
        """
        if allowed is None and target_recall is None and excluded is None:
            found = _native.search_plain(self._arrays, queries, k, num_probes, num_threads)
            if found is not None:
                return SearchResult(*found)
        call = check_search(
            queries,
            k,
            num_probes,
            target_recall,
            num_threads,
            dim=self.dim,
            num_items=self.num_items,
            num_lists=self.num_lists,
            calibration=self.calibration,
        )
        return self._answer_call(call, allowed, excluded)

    def _answer_call(self, call: SearchCall, allowed: Any, excluded: Any) -> SearchResult:
        """Answer with filters; apart from `search`, which its inner functions would slow down."""
        flags = None if allowed is None else self._allowed_positions(allowed)
        bits = None if flags is None else pack_bits(flags)

        def answer(call: SearchCall, bits: Array | None = bits) -> tuple[IntArray, FloatArray]:
            ids, scores = _native.search(self._arrays, **call.native_arguments(), allowed=bits)
            return ids, scores

        def answer_within(call: SearchCall, ids: IntArray) -> tuple[IntArray, FloatArray]:
            return answer(call, pack_bits(self._contents.flags_of(ids)))

        if excluded is None:
            found = answer(call)
        elif flags is not None and call.num_probes and self.num_lists:
            found = answer_of_filter(call, excluded, self.ids[flags], answer_within)
        else:
            found = answer_without(call, excluded, answer, self.num_items)
        return padded(*found, call.k)

    def calibrated(
        self,
        sample_queries: Any,
        k: int = 100,
        *,
        num_threads: int = SearchConfig().num_threads,
    ) -> Index:
        """Return this index with a table of recall by lists visited, for `target_recall`.

        Recall is the share of the k best items of all lists that are found at 1, 2, 4, ... probes,
        on average over the samples. `save` keeps the table. Arrays are shared, not copied. Without
        lists every search is exhaustive and there is nothing to measure.

        Args:
            sample_queries: like the queries to come, some hundreds or more; see `search`.
            k: items of an answer.
            num_threads: as in `search`.

        Raises:
            ShapeError, DtypeError, NonFiniteError, ConfigError: as in `search`.
        """
        k = check_count("k", k, 1, MAX_K)
        queries = check_vectors("sample_queries", sample_queries, self.dim, num_axes=(1, 2, 3))
        if not self.num_lists:
            return self

        def search(num_probes: int) -> IntArray:
            return self.search(queries, k, num_probes=num_probes, num_threads=num_threads).ids

        calibration = measure(search, k, self.num_lists)
        return Index(dataclasses.replace(self._contents, calibration=calibration))

    def with_calibration_of(self, other: Index) -> Index:
        """Return this index with the table of recall by lists visited of one with the same lists.

        Raises:
            ConfigError: the other has another number of lists.
        """
        if other.num_lists != self.num_lists:
            raise ConfigError(
                f"calibration: got one of {other.num_lists} lists, wanted {self.num_lists}"
            )
        return Index(dataclasses.replace(self._contents, calibration=other.calibration))

    def reconstruct(self, ids: Any) -> FloatArray:
        """Return T(x), what the index knows of items: float32 [n, dim], in the input space.

        Args:
            ids: integers [n].

        Raises:
            IdError: there is no item of such an id.
            CodesError: of an unchecked file.
        """
        contents = self._contents
        positions = self._positions(ids)
        codes = contents.codes_at(positions)
        if int(codes.max(initial=0)) >= contents.num_codewords:  # of a file that nobody checked
            raise CodesError(f"codes: some are not below {contents.num_codewords}")
        vectors = decode(codes, contents.codebooks, contents.family)
        if contents.centroids is not None and contents.list_offsets is not None:
            lists = np.searchsorted(contents.list_offsets, positions, side="right") - 1
            vectors = vectors + contents.centroids[lists]
        if contents.rotation is not None:
            vectors = vectors @ contents.rotation  # rows: R^T applied to each
        return np.asarray(vectors, dtype=np.float32)

    @overload
    def titles(self, ids: Sequence[int]) -> list[str]: ...
    @overload
    def titles(self, ids: Sequence[Sequence[int]]) -> list[list[str]]: ...
    @overload
    def titles(self, ids: Any) -> list[Any]: ...
    def titles(self, ids: Any) -> list[Any]:
        """Return the names of items; "" for id -1, so that results can be passed as they are.

        Args:
            ids: integers [n] or [n, k].

        Returns:
            A list of n strings, or of n lists of k.

        Raises:
            ConfigError: the index was built without titles.
            IdError: there is no item of such an id.
            ShapeError: ids of other dimensions.
        """
        titles = self._contents.titles
        if titles is None:
            raise ConfigError("titles: the index was built without them")
        array = as_array("ids", ids)
        if array.ndim not in (1, 2):
            raise ShapeError(f"ids: got shape {array.shape}, wanted [n] or [n, k]")
        if array.ndim == 2:
            flat = iter(self.titles(array.reshape(-1)))
            return [list(itertools.islice(flat, array.shape[1])) for _ in range(len(array))]
        known = array != -1
        positions = self._positions(array[known])
        starts, ends = titles.offsets[positions], titles.offsets[positions + 1]
        names = iter(
            titles.blob[start:end].tobytes()
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        )
        try:
            return [next(names).decode() if is_known else "" for is_known in known.tolist()]
        except UnicodeDecodeError as error:
            raise CorruptIndexError(f"titles: not UTF-8, {error}") from None

    @property
    def num_items(self) -> int:
        """Items in the index."""
        return self._contents.num_items

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._contents.dim

    @property
    def num_lists(self) -> int:
        """Inverted lists; 0 = none."""
        return self._contents.num_lists

    @property
    def metric(self) -> Metric:
        """How queries and items are compared."""
        return self._contents.metric

    @property
    def ids(self) -> IntArray:
        """Ids in storage order (by list, then by id), int64 [num_items]; a copy."""
        return self._contents.ids_between(0, self.num_items)

    @property
    def codes(self) -> Array:
        """Codes in storage order, uint8|uint16 [num_items, num_subspaces]; a copy."""
        return self._contents.unpacked_codes()

    @property
    def lists(self) -> Array | None:
        """The list of each item in storage order, int32 [num_items]; None without lists."""
        offsets = self._contents.list_offsets
        return None if offsets is None else lists_from_offsets(offsets)

    @property
    def rotation(self) -> FloatArray | None:
        """float32 [dim, dim], x' = rotation @ x; None = identity."""
        return self._contents.rotation

    @property
    def encoding(self) -> Encoding:
        """How codes are found; that of new items in a `LiveIndex` too."""
        return self._contents.encoding

    @property
    def centroids(self) -> FloatArray | None:
        """float32 [num_lists, dim], in rotated space; None without lists."""
        return self._contents.centroids

    @property
    def codebooks(self) -> FloatArray:
        """float32, in rotated space; product: [num_subspaces, num_codewords, sub_dim], residual:
        [num_subspaces, num_codewords, dim].
        """
        return self._contents.codebooks

    @property
    def norms(self) -> FloatArray | None:
        """float32 [num_items], storage order: |T(x)| (cosine), |T(x)|^2 (l2); None where unused."""
        return self._contents.norms

    @property
    def family(self) -> Family:
        """What codewords are: parts of the vector, or summands of it."""
        return Family(self._contents.family)

    @property
    def calibration(self) -> Calibration | None:
        """Recall by lists visited; None where it was not measured."""
        return self._contents.calibration

    @property
    def has_titles(self) -> bool:
        """Whether `titles` can answer."""
        return as_they_are(self._contents).titles is not None

    @property
    def lineage(self) -> dict[str, Any]:
        """What made the index, as given to the builder."""
        return dict(self._contents.lineage)

    @property
    def path(self) -> Path | None:
        """The file this index was opened from; None if it was built or calibrated since."""
        return self._path

    def info(self) -> dict[str, Any]:
        """Return all there is to know about the index, as JSON values; sizes in bytes."""
        return {"path": None if self._path is None else str(self._path), **facts_of(self._contents)}

    def _allowed_positions(self, allowed: Any) -> Array:
        """Return a filter as bool [num_items], in storage order."""
        array = as_filter(allowed)
        if array.dtype == np.bool_:
            if array.shape != (self.num_items,):
                raise ShapeError(
                    f"allowed: got shape {array.shape}, wanted one per item, ({self.num_items},)"
                )
            return array
        if not array.size:  # an empty list is float64 to NumPy
            return np.zeros(self.num_items, dtype=bool)
        return self._contents.flags_of(check_ids(array, name="allowed"))

    def _positions(self, ids: Any) -> IntArray:
        array = as_array("ids", ids)
        if array.size == 0:  # an empty list is float64 to NumPy
            return np.zeros(0, dtype=np.int64)
        positions = self._contents.positions_of(check_ids(ids))
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            named = ", ".join(str(array[row]) for row in missing[:10])
            raise IdError(f"ids: {len(missing)} not in the index; the first are {named}")
        return positions

    def __len__(self) -> int:
        return self.num_items

    def __copy__(self) -> Index:
        return self  # an index never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Index:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of a mapped file, to be opened again there; else the arrays."""
        if self._path is None or self._in_memory:
            return Index, (checked_whole(self._contents),)
        return _open_again, (str(self._path.absolute()), self._contents.fingerprint)

    def __repr__(self) -> str:
        contents = self._contents
        return (
            f"Index({contents.num_items} items, dim={contents.dim}, metric={contents.metric}, "
            f"family={contents.family}, {contents.num_subspaces} x {contents.num_codewords}, "
            f"num_lists={contents.num_lists})"
        )


def _open_again(path: str, fingerprint: str) -> Index:
    """Return the index of a file, which must be the one that was pickled."""
    index = Index.open(path)
    if index._contents.fingerprint != fingerprint:
        raise ChangedIndexError(
            f"{path}: another index than the one that was pickled; wanted it to stay, or opened "
            "with in_memory=True"
        )
    return index


def _check_no_changes(path: Path) -> None:
    """Refuse to pull an index from under its changes."""
    beside = Path(os.path.realpath(path) + CHANGES_SUFFIX)
    if os.path.lexists(beside):
        raise SaveError(
            f"{path}: not written, {beside.name} is for changes of the index that is there (or "
            "was); put this one in its place with poeem.swap_index(path, index)"
        )

"""A reader of index files that knows nothing of this library: NumPy, JSON and FORMAT.md.

It is what somebody else would write, so it is slow, obvious and complete; the test that uses it
shows that FORMAT.md says enough. Scores follow DESIGN.md, "Scores, to the last bit".
"""

from __future__ import annotations

import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

START = b'{"__metadata__":{"header_crc32":"'
TYPES = {"F32": "<f4", "I64": "<i8", "U32": "<u4", "U16": "<u2", "U8": "u1"}


class File:
    """What is in an index file, as FORMAT.md names it."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        digits = slice(8 + len(START), 16 + len(START))
        assert data[8 : 8 + len(START)] == START
        assert end <= 8 + (16 << 20)
        zeroed = data[: digits.start] + b"00000000" + data[digits.stop : end]
        assert data[digits].decode() == f"{zlib.crc32(zeroed):08x}"
        table = json.loads(data[8:end])
        self.metadata: dict[str, str] = table.pop("__metadata__")
        assert self.metadata["format"] == "poeem-index"
        self.tensors: dict[str, np.ndarray] = {}
        expected = 0
        for name, entry in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
            begin, stop = entry["data_offsets"]
            assert begin == expected
            aligned = 64 if name == "codes" else np.dtype(TYPES[entry["dtype"]]).itemsize
            assert (end + begin) % aligned == 0
            body = data[end + begin : end + stop]
            assert self.metadata[f"crc32.{name}"] == f"{zlib.crc32(body):08x}"
            self.tensors[name] = np.frombuffer(body, TYPES[entry["dtype"]]).reshape(entry["shape"])
            expected = stop
        assert end + expected == len(data)

    def count(self, name: str) -> int:
        """Return one of the counts."""
        return int(self.metadata[name])

    def ids(self) -> np.ndarray:
        """Return the items' ids, in storage order."""
        ids = self.tensors.get("ids", np.arange(self.count("num_items")))
        return ids.astype(np.int64)

    def titles(self) -> list[str] | None:
        """Return the items' titles, in storage order."""
        if "title_offsets" not in self.tensors:
            return None
        offsets, blob = self.tensors["title_offsets"], self.tensors["title_bytes"].tobytes()
        return [blob[a:b].decode() for a, b in itertools.pairwise(offsets)]

    def codes(self) -> np.ndarray:
        """Return the items' codes [num_items, num_subspaces]."""
        blocks, bits = self.tensors["codes"], self.count("code_bits")
        found = np.zeros((self.count("num_items"), self.count("num_subspaces")), np.int64)
        for i in range(found.shape[0]):
            for m in range(found.shape[1]):
                if bits == 4:
                    byte = blocks[i // 256, m // 2, i % 256]
                    found[i, m] = byte >> 4 if m % 2 else byte & 15
                else:
                    found[i, m] = blocks[i // 256, m, i % 256]
        return found

    def lists(self) -> np.ndarray:
        """Return each item's list; 0 where there are none."""
        found = np.zeros(self.count("num_items"), np.int64)
        if "list_offsets" in self.tensors:
            offsets = self.tensors["list_offsets"]
            for number in range(self.count("num_lists")):
                found[offsets[number] : offsets[number + 1]] = number
        return found

    def vectors(self) -> np.ndarray:
        """Return T(x) of every item, float64 [num_items, dim]."""
        codes, codebooks = self.codes(), self.tensors["codebooks"].astype(np.float64)
        words = [codebooks[m, codes[:, m]] for m in range(codes.shape[1])]
        found = sum(words) if self.is_residual() else np.concatenate(words, axis=1)
        if "centroids" in self.tensors:
            found = found + self.tensors["centroids"][self.lists()]
        return found @ self.tensors["rotation"] if "rotation" in self.tensors else found

    def is_residual(self) -> bool:
        """Return whether codewords are added up; version 1 has only parts put side by side."""
        return self.metadata.get("family", "product") == "residual"


def search(
    file: File, queries: Any, k: int, num_probes: int | None, allowed: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best ids and scores of each row of queries [n, num_heads, dim]."""
    ids, lists = file.ids(), file.lists()
    wanted = np.ones(len(ids), bool) if allowed is None else np.isin(ids, allowed)
    found_ids, found_scores = [], []
    for heads in np.asarray(queries, np.float32):
        best = np.full(len(ids), -np.inf, np.float32)
        for query in heads:
            scores, order = score(file, query)
            probed = set(order[: num_probes or len(order)].tolist())
            if allowed is not None:  # more lists, until k of them were met
                for number in order:
                    if np.isin(lists[wanted], list(probed)).sum() >= k:
                        break
                    probed.add(int(number))
            seen = wanted & np.isin(lists, list(probed))
            best[seen] = np.maximum(best[seen], scores[seen])
        rank = [i for i in np.lexsort((ids, -best)) if best[i] > -np.inf][:k]
        pad = k - len(rank)
        found_ids.append(ids[rank].tolist() + [-1] * pad)
        found_scores.append(best[rank].tolist() + [-np.inf] * pad)
    return np.array(found_ids), np.array(found_scores, np.float32)


def score(file: File, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all items' scores for one vector, and the lists, the best to probe first."""
    metric, tensors, num_lists = file.metadata["metric"], file.tensors, file.count("num_lists")
    if metric == "cosine":
        length = np.float32(np.sqrt(in_order(query.astype(np.float64) ** 2)))
        query = query / length if length else query
    if "rotation" in tensors:
        query = np.array([in_order(row * query) for row in tensors["rotation"]], np.float32)
    codes, codebooks, two = file.codes(), tensors["codebooks"], np.float32(2)
    distances = metric == "l2" and "norms" not in tensors
    table = np.zeros(codebooks.shape[:2], np.float32)
    for m in range(len(codebooks)):
        width = codebooks.shape[2]
        part = query if file.is_residual() else query[m * width : (m + 1) * width]
        for c, word in enumerate(codebooks[m]):
            table[m, c] = in_order(-((part - word) ** 2) if distances else part * word)
    biases = np.zeros(max(num_lists, 1), np.float32)
    if num_lists:
        biases = np.array([in_order(v * query) for v in tensors["centroids"]], np.float32)
    if metric == "l2" and not distances:
        table = table * two
        biases = two * biases - in_order(query * query)
    scores = biases[file.lists()]
    for m in range(codes.shape[1]):
        scores = scores + table[m, codes[:, m]]
    if "norms" in tensors:
        scores = with_norms(metric, scores, tensors["norms"])
    return scores, probe_order(file, biases)


def with_norms(metric: str, scores: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return the scores less the norms, or by them."""
    if metric == "l2":
        return scores - norms
    return np.where(norms == 0, np.float32(0), scores / np.where(norms == 0, 1, norms))


def probe_order(file: File, biases: np.ndarray) -> np.ndarray:
    """Return the lists, the best to probe first, ties to the smaller number."""
    metric = file.metadata["metric"]
    if file.count("num_lists") and metric != "ip":
        squares = [in_order(v.astype(np.float64) ** 2) for v in file.tensors["centroids"]]
        norms = np.array(squares if metric == "l2" else np.sqrt(squares), np.float32)
        biases = with_norms(metric, biases, norms)
    return np.lexsort((np.arange(len(biases)), -biases))


def in_order(terms: np.ndarray) -> Any:
    """Return the sum of terms from the first to the last, in their own precision."""
    total = terms.dtype.type(0)
    for term in terms:
        total = total + term
    return total

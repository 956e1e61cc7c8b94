"""Texts as bags of tokens: words, letter trigrams, Chinese characters and bigrams, in buckets.

What a token is, one text at a time and plainly, is in `words`, `subwords` and `bigrams`; `bucket`
says where it goes. `token_bags` gives the same numbers for many texts in a few array operations.
Hashes are our own, so that a model finds its tokens on any machine and any version of Python.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poeem.types import IntArray

EDGE, START, END = "#", "^", "$"
_KINDS = {"word": 1, "subword": 2, "bigram": 3}  # a word `abc` is another token than a trigram
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)
_MASK = 2**64 - 1
_OTHER, _LETTER, _SINGLE = 0, 1, 2
# Written without spaces: each character stands for itself. Han and its extensions, kana.
_SINGLES = (
    *((0x3005, 0x3007), (0x3040, 0x30FF), (0x3400, 0x4DBF)),
    *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
_CHUNK = 2**20  # characters looked at together

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Bags:
    """Bags of tokens: text t has the tokens `buckets[offsets[t]:offsets[t + 1]]`, at least one.

    offsets: int64 [num_texts + 1].
    buckets: int32 [offsets[-1]], 0 to num_buckets - 1.
    """

    offsets: IntArray
    buckets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def words(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, but no Chinese characters."""
    return ["".join(chars) for kind, chars in _runs(text) if kind == _LETTER]


def subwords(text: str) -> list[str]:
    """Return letter trigrams and single Chinese characters: `天气晴abc` -> 天 气 晴 #ab abc bc#.

    A word's trigrams are those of the word between two `#`, so it has as many as letters.
    """
    found: list[str] = []
    for kind, chars in _runs(text):
        if kind == _LETTER:
            edged = [EDGE, *chars, EDGE]
            found += ["".join(edged[i : i + 3]) for i in range(len(chars))]
        elif kind == _SINGLE:
            found += chars
    return found


def bigrams(text: str) -> list[str]:
    """Return neighbours among a text's subwords, edges included: `^ 天`, `天 气`, .., `bc# $`."""
    row = [START, *subwords(text), END]
    return [f"{first} {second}" for first, second in itertools.pairwise(row)]


def tokens(text: str, *, with_words: bool = True, with_bigrams: bool = True) -> list[str]:
    """Return all tokens of a text, in the order in which `token_bags` has them."""
    found = words(text) if with_words else []
    found += subwords(text)
    return found + (bigrams(text) if with_bigrams else [])


def bucket(token: str, kind: str, num_buckets: int) -> int:
    """Return where a token goes, 0 to num_buckets - 1. `kind`: word, subword or bigram."""
    parts = token.split(" ")
    hashed = _hash_text(parts[0])
    if kind == "bigram":
        hashed = (_mix(hashed) * _BASE + _hash_text(parts[1])) & _MASK
    return _mix(hashed ^ _KINDS[kind] << 60) % num_buckets


def token_bags(
    texts: Sequence[str], *, num_buckets: int, with_words: bool = True, with_bigrams: bool = True
) -> Bags:
    """Return the tokens of many texts, hashed: per text its words, then subwords, then bigrams.

    A text without any token has one that says so.

    Args:
        texts: any text; case and forms that Unicode calls compatible (NFKC) make no difference.
        num_buckets: different tokens may share a bucket; few do where there are many more buckets.
        with_words: whole words beside their trigrams.
        with_bigrams: neighbours too, which tell order and double the number of tokens.
    """
    parts = [
        _bags_of_chunk(chunk, num_buckets, with_words, with_bigrams) for chunk in _chunks(texts)
    ]
    counts = np.concatenate([np.zeros(1, dtype=np.int64), *(counts for counts, _ in parts)])
    buckets = np.concatenate([np.zeros(0, dtype=np.int32), *(buckets for _, buckets in parts)])
    return Bags(np.cumsum(counts), buckets)


def _normalized(text: str) -> str:
    # Twice, as folding case can undo the first.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _class_of(char: str) -> int:
    if any(low <= ord(char) <= high for low, high in _SINGLES):
        return _SINGLE
    # Marks: vowel signs of Indic scripts and accents that have no letter of their own.
    is_letter = char.isalnum() or unicodedata.category(char).startswith("M")
    return _LETTER if is_letter else _OTHER


def _runs(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield maximal runs of characters of one class."""
    run: list[str] = []
    before = _OTHER
    for char in _normalized(text):
        now = _class_of(char)
        if now != before and run:
            yield before, run
            run = []
        run.append(char)
        before = now
    if run:
        yield before, run


def _hash_text(text: str) -> int:
    """Return sum of (code + 1) * _BASE**place, modulo 2**64."""
    return sum((ord(char) + 1) * pow(_BASE, i, 2**64) for i, char in enumerate(text)) & _MASK


def _mix(value: int) -> int:
    """Spread what differs in any bit over all bits. Source: Steele et al., SplitMix64, 2014."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31


def _mix_all(values: Hashes) -> Hashes:
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 1
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _bags_of_chunk(
    texts: list[str], num_buckets: int, with_words: bool, with_bigrams: bool
) -> tuple[IntArray, NDArray[np.int32]]:
    """Return tokens per text, int64 [num_texts], and all their buckets, text by text."""
    # A text ends with a zero, and has none inside.
    joined = _normalized("".join(text.replace("\0", " ") + "\0" for text in texts))
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    row = np.cumsum(codes == 0) - (codes == 0)  # text of each character
    classes = _classes_of(codes)
    chars = np.flatnonzero(classes != _OTHER)
    parts = []
    if with_words:
        parts.append(_words_of(codes, classes, row))
    hashes = _subwords_of(codes, classes)[chars]
    parts.append((row[chars], hashes, "subword"))
    if with_bigrams:
        parts.append(_bigrams_of(hashes, row[chars], len(texts)))
    per_part = [np.bincount(rows, minlength=len(texts)) for rows, _, _ in parts]
    if not with_bigrams:
        bare = np.flatnonzero(np.sum(per_part, axis=0) == 0)
        parts.append((bare, np.full(len(bare), _hash_text(""), dtype=np.uint64), "word"))
        per_part.append(np.bincount(bare, minlength=len(texts)))
    counts: IntArray = np.sum(per_part, axis=0)
    buckets = np.empty(counts.sum(), dtype=np.int32)
    begin = np.cumsum(counts) - counts  # where the next part of each text goes
    for (rows, part, kind), of_part in zip(parts, per_part, strict=True):
        hashed = _mix_all(part ^ np.uint64(_KINDS[kind] << 60)) % np.uint64(num_buckets)
        first = np.cumsum(of_part) - of_part
        buckets[(begin - first)[rows] + np.arange(len(rows))] = hashed
        begin = begin + of_part
    return counts, buckets


def _classes_of(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    seen = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
    seen[codes] = True
    table = np.zeros(len(seen), dtype=np.uint8)
    for code in np.flatnonzero(seen).tolist():
        table[code] = _class_of(chr(code))
    return table[codes]


def _words_of(
    codes: NDArray[np.uint32], classes: NDArray[np.uint8], row: IntArray
) -> tuple[IntArray, Hashes, str]:
    is_letter = np.concatenate([[False], classes == _LETTER, [False]])
    edges = np.flatnonzero(is_letter[1:] != is_letter[:-1])
    starts, ends = edges[::2], edges[1::2]
    powers = np.full(len(codes), _BASE, dtype=np.uint64)
    powers[0] = 1
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * np.cumprod(powers), out=sums[1:])
    inverses = np.full(len(codes), _INVERSE, dtype=np.uint64)
    inverses[0] = 1
    # Each word's own sum, brought back to begin with the power 0.
    return row[starts], (sums[ends] - sums[starts]) * np.cumprod(inverses)[starts], "word"


def _subwords_of(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> Hashes:
    """Return the hash of the subword around each character, uint64 [num_chars]."""
    edge = np.uint64(ord(EDGE) + 1)
    values = codes.astype(np.uint64) + np.uint64(1)
    letters = np.where(classes == _LETTER, values, edge)  # what a letter sees beside it
    before, after = np.roll(letters, 1), np.roll(letters, -1)
    before[0] = after[-1] = edge
    base, square = np.uint64(_BASE), np.uint64(_BASE**2 & _MASK)
    return np.where(classes == _LETTER, before + values * base + after * square, values)


def _bigrams_of(hashes: Hashes, rows: IntArray, num_rows: int) -> tuple[IntArray, Hashes, str]:
    counts = np.bincount(rows, minlength=num_rows)
    start, end = (np.uint64(_hash_text(text)) for text in (START, END))
    # The subwords of each text between the two edges.
    size = len(hashes) + 2 * num_rows
    opening = np.cumsum(counts + 2) - counts - 2
    row = np.full(size, end, dtype=np.uint64)
    row[opening] = start
    row[np.arange(len(hashes)) + 2 * rows + 1] = hashes
    pairs = _mix_all(row[:-1]) * np.uint64(_BASE) + row[1:]
    within = np.ones(size - 1, dtype=np.bool_)
    within[opening[1:] - 1] = False
    return np.repeat(np.arange(num_rows), counts + 1), pairs[within], "bigram"

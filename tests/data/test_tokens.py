"""What a token is, and that many texts at once give the same as one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeem.data.tokens import bigrams, bucket, subwords, token_bags, tokens, words


def test_the_authors_example():
    assert subwords("天气晴abc") == ["天", "气", "晴", "#ab", "abc", "bc#"]
    assert bigrams("天气晴abc") == [
        *("^ 天", "天 气", "气 晴", "晴 #ab"),
        *("#ab abc", "abc bc#", "bc# $"),
    ]


def test_words_and_their_trigrams():
    assert words("Untar, a FILE-2 (ﬁne)!") == ["untar", "a", "file", "2", "fine"]
    assert subwords("a to") == ["#a#", "#to", "to#"]
    assert words("नमस्ते é") == ["नमस्ते", "é"]  # vowel signs belong to their word
    assert words("日本 カナx") == ["x"]
    assert bigrams("") == ["^ $"]
    assert tokens("to", with_bigrams=False) == ["to", "#to", "to#"]
    assert tokens("to") == ["to", "#to", "to#", "^ #to", "#to to#", "to# $"]


def one_by_one(text, num_buckets, with_words, with_bigrams):
    """Do what `token_bags` does, token by token."""
    parts = {"word": words(text) if with_words else [], "subword": subwords(text)}
    parts["bigram"] = bigrams(text) if with_bigrams else []
    found = [bucket(t, kind, num_buckets) for kind, part in parts.items() for t in part]
    return found or [bucket("", "word", num_buckets)]


@pytest.mark.parametrize("with_words", [True, False])
@pytest.mark.parametrize("with_bigrams", [True, False])
@given(st.lists(st.text(st.characters() | st.sampled_from("ab #天气ﬁß\0")), max_size=6))
def test_many_at_once_are_the_same(with_words, with_bigrams, texts):
    kinds = {"with_words": with_words, "with_bigrams": with_bigrams}
    bags = token_bags(texts, num_buckets=1_000_003, **kinds)
    found = [part.tolist() for part in np.split(bags.buckets, bags.offsets[1:-1])][: len(texts)]
    assert found == [one_by_one(text, 1_000_003, **kinds) for text in texts]
    assert len(bags) == len(texts)


def test_chunks_change_nothing(monkeypatch):
    texts = ["天气 one", "", "two, three", "x" * 50]
    whole = token_bags(texts, num_buckets=99)
    monkeypatch.setattr("poeem.data.tokens._CHUNK", 5)
    parts = token_bags(texts, num_buckets=99)
    assert np.array_equal(whole.offsets, parts.offsets)
    assert np.array_equal(whole.buckets, parts.buckets)


def test_buckets_stay_what_they_are():
    """A trained model finds its tokens by these numbers: they may never change."""
    bags = token_bags(["天气晴abc"], num_buckets=2**17)
    assert bags.buckets.tolist() == [
        20192,
        79510,
        24589,
        63214,
        50760,
        109468,
        51494,
        53503,
        75466,
        39828,
        64824,
        97863,
        7275,
        47585,
    ]
    assert bags.buckets.dtype == np.int32


def test_kinds_and_order_are_told_apart():
    assert bucket("abc", "word", 2**31) != bucket("abc", "subword", 2**31)
    assert bucket("a b", "bigram", 2**31) != bucket("b a", "bigram", 2**31)
    many = token_bags(["".join(map(chr, range(0x4E00, 0x9000)))], num_buckets=64)
    counts = np.bincount(many.buckets, minlength=64)
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()

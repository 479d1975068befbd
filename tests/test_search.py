import random

import pytest

from nova_dpo_sdk.datasets import _search
from nova_dpo_sdk.datasets._lane_doubts import _AT_BEGINNINGS, _IN_TEXTS
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS


def test_every_word_is_found_where_it_stands():
    words = [word.encode() for word in RESERVED_WORDS]
    find = _search.finder(words)
    text = b"-".join(words)
    assert [text[at:].startswith(word) for at, word in zip(find(text), words, strict=True)] == [True] * len(words)
    assert find(b"user: bot: <img>") == []


@pytest.mark.parametrize("words", [_IN_TEXTS, _AT_BEGINNINGS])
@pytest.mark.parametrize("padded", [True, False])
def test_both_ways_to_search_find_the_same(words, padded):
    pytest.importorskip("ahocorasick_rs")
    rng = random.Random(3)  # noqa: S311 - a test
    bits = [*words, *(word[: len(word) // 2] for word in words), b" ", b"x", "é".encode()]
    fast, slow = _search.finder(words, padded=padded), _search._by_expression(words)
    for _ in range(300):
        text = b"".join(rng.choices(bits, k=40))
        assert fast(text) == slow(text)


def test_both_ways_to_spot_words_find_the_same():
    pytest.importorskip("ahocorasick_rs")
    words = [b'"\n"\\n\\nHuman: ', b"\\n\\nHuman: ", b"\\n\\nAssistant: "]
    fast, slow = _search.spotter(words), _search._spots_by_expression(words)
    rng = random.Random(5)  # noqa: S311 - a test
    bits = [*words, *(word[: len(word) // 2] for word in words), b'"', b"\n", b" ", b"x"]
    for _ in range(300):
        text = b"".join(rng.choices(bits, k=40))
        assert fast(text) == slow(text)
        assert all(text[start:end] == words[word] for word, start, end in fast(text))

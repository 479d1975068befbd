import random

import pytest

from nova_dpo_sdk.datasets import _search
from nova_dpo_sdk.datasets._lanes import _SUSPICIONS
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS


def test_every_word_is_found_where_it_stands():
    words = [word.encode() for word in RESERVED_WORDS]
    find = _search.finder(words)
    text = b"-".join(words)
    assert [text[at:].startswith(word) for at, word in zip(find(text), words, strict=True)] == [True] * len(words)
    assert find(b"user: bot: <img>") == []


def test_both_ways_to_search_find_the_same():
    pytest.importorskip("ahocorasick_rs")
    rng = random.Random(3)  # noqa: S311 - a test
    bits = [*_SUSPICIONS, *(word[: len(word) // 2] for word in _SUSPICIONS), b" ", b"x", "é".encode()]
    fast, slow = _search.finder(_SUSPICIONS), _search._by_expression(_SUSPICIONS)
    for _ in range(300):
        text = b"".join(rng.choices(bits, k=40))
        assert fast(text) == slow(text)

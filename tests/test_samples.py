"""The data that come with the package."""

from __future__ import annotations

import json

from cli_support import CHATS, PAIRS

from nova_dpo_sdk import ChatDataset, PreferenceDataset


def records(path: str):
    with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - read as a user would
        return [json.loads(line) for line in lines]


def candidates(record):
    return {each["preferenceLabel"]: each["content"][0]["text"] for each in record["messages"][-1]["candidates"]}


def test_they_break_no_rule():
    for data in (ChatDataset.from_jsonl(CHATS), PreferenceDataset.from_jsonl(PAIRS)):
        report = data.check()
        assert report.findings() == []


def test_there_are_forty_chats_and_forty_eight_pairs_a_third_of_them_longer_talks():
    assert len(records(CHATS)) == 40
    pairs = records(PAIRS)
    assert len(pairs) == 48
    assert sum(len(record["messages"]) > 2 for record in pairs) == 16


def test_one_system_prompt_stands_over_all():
    assert len({json.dumps(record["system"]) for record in [*records(CHATS), *records(PAIRS)]}) == 1


def test_no_question_is_asked_twice_and_no_answer_begins_another():
    asked = [json.dumps(record["messages"][0]) for record in [*records(CHATS), *records(PAIRS)]]
    assert len(set(asked)) == len(asked)
    for record in records(PAIRS):
        both = sorted(candidates(record).values(), key=len)
        assert not both[1].startswith(both[0])


def test_neither_length_nor_place_gives_the_better_answer_away():
    pairs = records(PAIRS)
    longer = sum(len(each["preferred"]) > len(each["non-preferred"]) for each in map(candidates, pairs))
    first = sum(record["messages"][-1]["candidates"][0]["preferenceLabel"] == "preferred" for record in pairs)
    assert 12 <= longer <= 36
    assert first == 24


def test_all_of_it_is_plain_ascii():
    for path in (CHATS, PAIRS):
        with open(path, "rb") as file:  # noqa: PTH123 - its bytes
            assert file.read().isascii()

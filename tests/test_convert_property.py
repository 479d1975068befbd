import json
import os
import tempfile
from pathlib import Path

import pytest
from convert_support import chats, preferences
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_convert_layouts import CHATS, PAIRS

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._convert import convert_chats, convert_preferences
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS
from nova_dpo_sdk.errors import DatasetError

TIMES = int(os.environ.get("NOVA_DPO_SWEEP", "1"))
"""How many times the usual number of examples is tried."""

MEMORY = Path("/dev/shm")  # noqa: S108 - only ever the parent of a private folder
"""Where syncing a file costs nothing."""

BITS = ("", " ", "\n", "\t", "\u3000", "\u00a0", "\x00", "\b", "/", "\\", '"', "a", "n", "é", "😀", "\ud83d", "x" * 30)
bits = st.sampled_from([*BITS, "\n\nHuman: ", "\n\nAssistant: ", "user:", *RESERVED_WORDS])
texts = st.lists(bits, max_size=3).map("".join) | st.text(max_size=5)
roles = st.sampled_from(["user", "user", "assistant", "assistant", "system", "human", "gpt", "User", "tool", "?"])
odd = st.none() | st.integers(-1, 1) | st.just([]) | st.just({}) | st.just(float("nan"))
contents = st.one_of(texts, texts, texts, st.lists(texts.map(lambda text: {"type": "text", "text": text})), odd)
messages = st.builds(lambda role, content: {"role": role, "content": content}, roles, contents)
said = st.builds(lambda role, content: {"from": role, "value": content}, roles, contents)
sides = st.one_of(texts, texts, st.lists(messages, max_size=3), messages, odd)
extras = st.fixed_dictionaries(
    {},
    optional={
        "system": texts | odd,
        "tools": st.sampled_from([None, [], "[]", ["{}"]]),
        "images": st.sampled_from([None, [], ["a.png"]]),
        "status": st.sampled_from(["tie", "unchanged", "swapped", None]),
        "score_chosen": odd,
        "score_rejected": odd,
        "history": st.sampled_from([None, [], [["a", "b"]], [["a", None]], 3]),
        "other": odd,
    },
)


def shaped(**fields):
    base = st.fixed_dictionaries(fields)
    return st.lists(st.builds(lambda extra, record: extra | record, extras, base), min_size=1, max_size=9)


PAIR_SHAPES = {
    "prompt-chosen-rejected": shaped(prompt=sides, chosen=sides, rejected=sides),
    "chosen-rejected": shaped(chosen=sides, rejected=sides),
    "ultrafeedback": shaped(
        prompt=texts, chosen=st.lists(messages, max_size=4), rejected=st.lists(messages, max_size=4)
    ),
    "orca-pairs": shaped(system=texts | odd, input=texts | odd, question=texts, chosen=texts, rejected=texts),
    "hh-rlhf": shaped(
        chosen=texts.map(lambda text: "\n\nHuman: a\n\nAssistant: " + text),
        rejected=texts.map(lambda text: "\n\nHuman: a\n\nAssistant: " + text),
    ),
    "sharegpt-ranking": shaped(
        conversations=st.lists(said, max_size=4) | odd, chosen=said | texts, rejected=said | texts
    ),
    "alpaca-ranking": shaped(instruction=texts, input=texts | odd, chosen=texts, rejected=texts),
    "openai-preference": shaped(
        input=st.fixed_dictionaries({"messages": st.lists(messages, max_size=4)}, optional={"tools": st.just([])}),
        preferred_output=st.lists(messages, max_size=2),
        non_preferred_output=st.lists(messages, max_size=2),
    ),
    "when2call": shaped(messages=st.lists(messages, max_size=4), chosen_response=sides, rejected_response=sides),
    "rejected-response": shaped(messages=st.lists(messages, max_size=4), rejected_response=sides),
    "rejected-message": shaped(messages=st.lists(messages, max_size=4), rejected_message=messages),
    "rejected-messages": shaped(
        messages=st.lists(messages, max_size=4), rejected_messages=st.lists(messages, max_size=4)
    ),
    "chosen-rejected-messages": shaped(
        chosen_messages=st.lists(messages, max_size=3), rejected_messages=st.lists(messages, max_size=3)
    ),
    "helpsteer2": shaped(prompt=texts, response_1=texts, response_2=texts, preference_strength=odd),
    "helpsteer3": shaped(
        context=st.lists(messages, max_size=4) | texts, response1=texts, response2=texts, overall_preference=odd
    ),
}
CHAT_SHAPES = {
    "messages": shaped(messages=st.lists(messages, max_size=5) | odd),
    "sharegpt": shaped(conversations=st.lists(said, max_size=5) | odd),
    "alpaca": shaped(instruction=texts | odd, input=texts | odd, output=texts | odd),
    "prompt-completion": shaped(prompt=sides, completion=sides),
}


def folder():
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


@pytest.mark.parametrize("layout", PAIR_SHAPES)
def test_whatever_is_written_validates_and_both_ways_agree_for_pairs(layout):
    plain = PAIRS[layout]

    @settings(max_examples=30 * TIMES, deadline=None)
    @given(PAIR_SHAPES[layout], st.booleans())
    def run(records, clean):
        with folder() as name:
            _, written = preferences(Path(name), plain, *records, layout=layout, clean_reserved=clean)
            report = PreferenceDataset.from_jsonl(Path(name) / "made.jsonl").report()
            assert report.errors == 0, report
            assert report.records == len(written)

    run()


exchanges = st.lists(st.tuples(texts, texts), max_size=3)


def transcript(said, asked, good, bad, other):
    before = "".join(f"\n\nHuman: {one}\n\nAssistant: {answer}" for one, answer in said)
    before += f"\n\nHuman: {asked}\n\nAssistant: "
    return {"chosen": before + good, "rejected": (other or before) + bad}


others = st.sampled_from(["", "", "", "\n\nHuman: ", "\n\nHuman: a\n\nAssistant: "])
transcripts = st.builds(transcript, exchanges, texts, texts, texts, others)


@settings(max_examples=40 * TIMES, deadline=None)
@given(st.lists(transcripts, min_size=1, max_size=4), st.booleans())
def test_both_ways_agree_on_transcripts_of_several_turns(records, clean):
    with folder() as name:
        preferences(Path(name), PAIRS["hh-rlhf"], *records, layout="hh-rlhf", clean_reserved=clean)
        report = PreferenceDataset.from_jsonl(Path(name) / "made.jsonl").report()
        assert report.errors == 0, report


@settings(max_examples=60 * TIMES, deadline=None)
@given(st.lists(bits, max_size=9).map("".join), texts, texts, st.sampled_from(["", " ", "word " * 150]))
def test_both_ways_agree_on_texts_that_begin_alike(asked, good, bad, before):
    record = {"chosen": before + asked + good, "rejected": before + asked + bad}
    with folder() as name:
        preferences(Path(name), *[{"chosen": "Q A", "rejected": "Q B"}] * 2, record, layout="chosen-rejected")
        report = PreferenceDataset.from_jsonl(Path(name) / "made.jsonl").report()
        assert report.errors == 0, report


@pytest.mark.parametrize("layout", CHAT_SHAPES | PAIR_SHAPES)
def test_whatever_is_written_validates_and_both_ways_agree_for_chats(layout):
    plain = (CHATS | PAIRS)[layout]

    @settings(max_examples=15 * TIMES, deadline=None)
    @given((CHAT_SHAPES | PAIR_SHAPES)[layout], st.booleans())
    def run(records, clean):
        with folder() as name:
            chats(Path(name), plain, *records, layout=layout, clean_reserved=clean)
            report = ChatDataset.from_jsonl(Path(name) / "made.jsonl").report()
            assert report.errors == 0, report

    run()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "from", "content", "value", "text", "type", "messages"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("layout", [*PAIRS, *CHATS])
def test_nothing_in_a_record_makes_the_conversion_crash(layout):
    plain = (PAIRS | CHATS)[layout]

    @settings(max_examples=25 * TIMES, deadline=None)
    @given(st.fixed_dictionaries({key: anything | st.just(value) for key, value in plain.items()}))
    def run(record):
        convert = convert_preferences if layout in PAIRS else convert_chats
        with folder() as name:
            result = convert([plain, record], Path(name) / "made.jsonl", layout=layout)
            assert result.read == 2
            assert result.written == result.read - sum(result.dropped.values())

    run()


@settings(max_examples=60 * TIMES, deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_no_bytes_make_the_conversion_crash(data):
    assume(data[:4] != b"PAR1")
    with folder() as name:
        source = Path(name) / "source"
        source.write_bytes(data)
        with pytest.raises(DatasetError):
            convert_preferences(source, Path(name) / "made.jsonl")


@settings(max_examples=60 * TIMES, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(data):
    records = [PAIRS["prompt-chosen-rejected"]] * 4
    whole = data.draw(st.sampled_from([json.dumps(records), "\n".join(map(json.dumps, records))])).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 9)) :]
    with folder() as name:
        source, to = Path(name) / "source", Path(name) / "made.jsonl"
        source.write_bytes(broken)
        try:
            result = convert_preferences(source, to, layout="prompt-chosen-rejected")
        except DatasetError:
            assert not to.exists()
        else:
            assert result.written == PreferenceDataset.from_jsonl(to).report().good

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from convert_support import chat, chats, pair, preferences

from nova_dpo_sdk.datasets._convert import convert_preferences
from nova_dpo_sdk.datasets._mend import DROPS, MENDS, Notes
from nova_dpo_sdk.datasets._own import own_line

GOOD = {"prompt": "Q", "chosen": "A", "rejected": "B"}
USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}
OTHER = {"role": "assistant", "content": "B"}


def talk(*messages):
    return {"prompt": list(messages), "chosen": [ANSWER], "rejected": [OTHER]}


DROPPED = [
    ("equal-pair", {"prompt": "Q", "chosen": "A", "rejected": "A"}),
    ("empty-candidate", {"prompt": "Q", "chosen": "A", "rejected": " \n"}),
    ("empty-candidate", {"prompt": "Q", "chosen": "\u3000", "rejected": "B"}),
    ("empty-turn", {"prompt": "", "chosen": "A", "rejected": "B"}),
    ("missing-field", {"prompt": "Q", "chosen": "A", "rejected": None}),
    ("not-text", {"prompt": "Q", "chosen": 5, "rejected": "B"}),
    ("not-text", {"prompt": ["Q"], "chosen": "A", "rejected": "B"}),
    ("not-text", talk({"role": "user", "content": 5})),
    ("not-text", talk({"role": "user", "content": ["Q", 5]})),
    ("not-text", talk({"role": "user", "content": [{"type": "text"}]})),
    ("missing-field", talk({"role": "user", "content": None})),
    ("tool-turn", talk({"role": "user", "content": [{"type": "tool_result", "text": "4"}]})),
    ("not-an-object", ["Q", "A", "B"]),
    ("tool-turn", talk(USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, USER)),
    ("tool-turn", talk(USER, {"role": "tool", "content": "4"})),
    ("tool-turn", talk(USER, {"role": "function_call", "content": "4"})),
    ("unknown-role", talk({"role": "narrator", "content": "Once"}, USER)),
    ("image-not-in-s3", GOOD | {"images": ["http://example.org/a.png"]}),
    ("image-not-in-s3", talk({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]})),
    ("media-not-supported", talk({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]})),
    ("prompt-ends-with-assistant", talk(USER, ANSWER)),
    ("contexts-differ", {"chosen": [USER, ANSWER], "rejected": [USER | {"content": "R"}, OTHER]}),
    ("contexts-differ", {"prompt": "Q", "chosen": [ANSWER, USER, ANSWER], "rejected": [OTHER, USER, OTHER]}),
    ("no-prompt", {"chosen": [ANSWER], "rejected": [OTHER]}),
    ("no-answer", {"prompt": "Q", "chosen": [], "rejected": [OTHER]}),
    ("no-answer", {"chosen": [USER, ANSWER, USER], "rejected": [USER, OTHER, USER]}),
    ("lone-surrogate", GOOD | {"prompt": "Q\ud800"}),
    ("reserved-word", GOOD | {"prompt": "Q\nUser: hi"}),
    ("reserved-word", GOOD | {"chosen": "see <image> here"}),
    ("line-too-long", GOOD | {"chosen": "long " * (1 << 20)}),
]


@pytest.mark.parametrize(("rule", "record"), DROPPED)
def test_what_nova_cannot_hold_is_dropped_by_name(tmp_path, rule, record):
    result, written = preferences(tmp_path, GOOD, record)
    assert result.dropped == {rule: 1}
    assert written == [pair("Q", "A", "B")]
    assert (result.read, result.written) == (2, 1)
    assert (result.details[0].record, result.details[0].code) == (2, rule)
    assert DROPS[rule] in result.details[0].message


def test_a_chat_whose_last_answer_is_blank_is_dropped(tmp_path):
    blank = {"messages": [USER, ANSWER | {"content": " "}]}
    result, written = chats(tmp_path, {"messages": [USER, ANSWER]}, blank)
    assert (result.dropped, written) == ({"empty-turn": 1}, [chat("Q", "A")])


def system(text):
    return {"role": "system", "content": text}


MENDED = [
    ("system-merged", talk(system("S"), system("T"), USER), pair("Q", "A", "B", "S\n\nT")),
    ("system-merged", talk(USER, ANSWER, system("S"), USER), pair(["Q", "A", "Q"], "A", "B", "S")),
    ("empty-system", talk(system(" "), USER), pair("Q", "A", "B")),
    ("same-role-merged", talk(USER, {"role": "user", "content": "R"}), pair("Q\n\nR", "A", "B")),
    ("leading-assistant", talk(ANSWER, USER), pair("Q", "A", "B")),
    ("null-field", GOOD | {"system": None}, pair("Q", "A", "B")),
    (
        "empty-part",
        talk({"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Q"}]}),
        pair("Q", "A", "B"),
    ),
]


@pytest.mark.parametrize(("rule", "record", "made"), MENDED)
def test_what_can_be_mended_is_mended_by_name(tmp_path, rule, record, made):
    result, written = preferences(tmp_path, record)
    assert written == [made]
    assert result.mended == {rule: 1}
    assert result.dropped == {}
    assert (result.details[0].record, result.details[0].code) == (1, rule)
    assert MENDS[rule] in result.details[0].message


def test_a_user_turn_after_the_last_answer_is_left_out_of_a_chat(tmp_path):
    result, written = chats(tmp_path, {"messages": [USER, ANSWER, USER]})
    assert written == [chat("Q", "A")]
    assert result.mended == {"trailing-user": 1}


def test_texts_are_never_changed(tmp_path):
    odd = ' \tleading and trailing \r\n\u00a0\u2028 é 😀 "quoted" back\\slash \x00 </s> '
    result, written = preferences(tmp_path, {"prompt": odd, "chosen": odd + "1", "rejected": odd + "2"})
    assert written == [pair(odd, odd + "1", odd + "2")]
    assert result.mended == {}


def test_parts_of_a_message_stay_apart(tmp_path):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]
    _, written = preferences(tmp_path, talk({"role": "user", "content": parts}))
    assert written[0]["messages"][0]["content"] == [{"text": "a"}, {"text": " b"}]


def test_reserved_words_are_removed_only_when_asked_and_only_at_the_start_of_a_line(tmp_path):
    record = {"prompt": "User: hi\n 1. Assistant: User: there", "chosen": "A", "rejected": "B"}
    middle = {"prompt": "Say User: now", "chosen": "A", "rejected": "B"}
    result, written = preferences(tmp_path, record, middle, clean_reserved=True)
    assert written == [pair("hi\n 1. there", "A", "B")]
    assert result.mended == {"reserved-prefix": 1}
    assert result.dropped == {"reserved-word": 1}
    assert result.details[0].message.endswith("(message 1)")


def test_a_reserved_word_inside_another_word_is_kept(tmp_path):
    _, written = preferences(tmp_path, GOOD | {"prompt": "set myUser: 1"})
    assert len(written) == 1


def test_a_record_counts_once_however_much_was_mended(tmp_path):
    messages = [system("S"), system("T"), system("U"), USER, USER, USER]
    result, _ = preferences(tmp_path, talk(*messages))
    assert result.mended == {"system-merged": 1, "same-role-merged": 1}


def test_details_are_capped_and_counts_are_not(tmp_path):
    bad = [{"prompt": "Q", "chosen": "A", "rejected": "A"}] * 50
    result = convert_preferences([*bad, GOOD], tmp_path / "a.jsonl", max_details=7)
    assert (len(result.details), result.dropped) == (7, {"equal-pair": 50})


def test_details_stand_in_the_order_of_the_source(tmp_path):
    records = [GOOD | {"rejected": "A"}, GOOD, GOOD | {"prompt": "User: x"}, GOOD | {"rejected": ""}]
    result, _ = preferences(tmp_path, *records)
    assert [detail.record for detail in result.details] == [1, 3, 4]


def test_a_pair_of_novas_own_without_a_preferred_side_is_no_chat(tmp_path):
    good, bad = pair("Q", "A", "B"), pair("Q", "A", "B")
    bad["messages"][-1]["candidates"].pop(0)
    result, written = chats(tmp_path, good, bad)
    assert (result.dropped, written) == ({"no-answer": 1}, [chat("Q", "A")])


def test_what_json_cannot_hold_is_dropped(tmp_path):
    good, odd = pair("Q", "A", "B"), pair("Q", "A", "B") | {"when": object()}
    result = convert_preferences([good, odd], tmp_path / "made.jsonl")
    assert (result.written, result.dropped) == (1, {"not-text": 1})


def test_nova_records_are_held_against_every_rule_of_their_layout(tmp_path):
    odd, equal = pair("Q", "A", "B") | {"extra": 1}, pair("Q", "A", "A")
    result, written = preferences(tmp_path, pair("Q", "A", "B"), odd, equal)
    assert written == [each for each in (pair("Q", "A", "B"), odd) if each in written]
    assert result.read == len(written) + sum(result.dropped.values())
    assert equal not in written


def test_nulls_that_a_table_adds_to_nova_records_are_left_out(tmp_path):
    table = pair("Q", "A", "B") | {"system": None}
    table["messages"][0] |= {"candidates": None}
    result, written = preferences(tmp_path, table)
    assert written == [pair("Q", "A", "B")]
    assert result.mended == {"null-field": 1}


def test_a_null_inside_a_tool_s_input_of_a_file_is_its_own():
    use = {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"a": None, "b": 1}}}
    record = {
        "schemaVersion": "bedrock-conversation-2024",
        "system": None,
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object", "default": None}}}}]
        },
        "messages": [
            {"role": "user", "content": [{"text": "Q"}]},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"c": None}}]}}]},
            {"role": "assistant", "content": [{"text": "A"}]},
        ],
    }
    source, notes = json.dumps(record).encode(), Notes()
    line = own_line("chat", source, record, notes, preferred=False)
    del record["system"]
    assert (json.loads(line), dict(notes.mended)) == (record, {"null-field": ""})


@pytest.mark.parametrize("other", ["caf\\u00E9 au lait", "café au lait"])
def test_a_tie_is_seen_however_its_characters_are_written(tmp_path: Path, other: str) -> None:
    source, said = tmp_path / "source.jsonl", ("\u6771", "a\\u006c", "")  # other ways of looking at a block
    for more in said:
        one = f'{{"prompt":"Q {more}","chosen":"caf\\u00e9 au lait","rejected":"{other}"}}\n'
        good = '{"prompt":"Q","chosen":"yes","rejected":"no"}\n'
        source.write_text(good + one, encoding="utf-8")
        done = convert_preferences(source, tmp_path / "made.jsonl", layout="prompt-chosen-rejected")
        assert (done.written, done.dropped) == (1, {"equal-pair": 1})


def test_a_text_is_parted_by_what_it_says_not_by_how_it_is_written(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text(
        '{"chosen":"Is it caf\\u00e9 or tea","rejected":"Is it caf\\u00E9 or milk"}\n'
        '{"chosen":"Is it\\u3000so much","rejected":"Is it\\u3000so little"}\n'
        '{"chosen":"Is it\\u3000much","rejected":"Is it\\u3000little"}\n'
    )
    convert_preferences(source, tmp_path / "made.jsonl", layout="chosen-rejected")
    made = [json.loads(each) for each in (tmp_path / "made.jsonl").read_text().splitlines()]
    asked = [each["messages"][0]["content"][0]["text"] for each in made]
    assert asked == ["Is it café or", "Is it\u3000so", "Is it"]


@pytest.mark.parametrize("layout", ["orca-pairs", "ultrafeedback"])
def test_equal_scores_are_a_tie_in_every_layout_that_has_them(tmp_path: Path, layout: str) -> None:
    sides = {side: [USER, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    shapes = {
        "orca-pairs": {"system": "S", "question": "Q", "chosen": "yes", "rejected": "no"},
        "ultrafeedback": {"prompt": "Q", **sides},
    }
    source = tmp_path / "source.jsonl"
    records = [{**shapes[layout], "score_chosen": score, "score_rejected": 4} for score in (5, 4)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = convert_preferences(source, tmp_path / "made.jsonl", layout=layout)
    assert (done.written, sum(done.dropped.values())) == (1, 1)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=timezone.utc), Decimal(1), b"x", {1, 2}])
def test_a_tool_that_json_cannot_hold_is_dropped_alone(tmp_path, value):
    result = convert_preferences([GOOD, GOOD | {"tools": [{"name": "now", "at": value}]}], tmp_path / "made.jsonl")
    assert (result.written, result.dropped) == (1, {"not-text": 1})
    assert "tools: " in result.details[0].message

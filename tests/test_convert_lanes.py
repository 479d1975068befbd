import json

import pytest
from convert_support import chat, chats, pair, preferences
from test_convert_layouts import BAD, CHATS, GOOD, PAIRS, USER

from nova_dpo_sdk.datasets._convert import convert_chats, convert_preferences
from nova_dpo_sdk.datasets._lane_doubts import _AT_BEGINNINGS, _IN_TEXTS, find, harmful
from nova_dpo_sdk.datasets._lanes import LANES, FastLane
from nova_dpo_sdk.datasets._layouts import BY_NAME
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS
from nova_dpo_sdk.datasets._sources import Block
from nova_dpo_sdk.datasets._texts import is_utf8


def made(layout, kind, *records):
    rows = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return FastLane(layout, kind).convert(Block(1, rows))


PLAIN = (
    PAIRS
    | CHATS
    | {
        "orca-pairs": PAIRS["orca-pairs"] | {"system": "S"},
        "chosen-rejected-messages": {"chosen_messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
    }
)


TWO_TEXTS = {"chosen": "Q A", "rejected": "Q B"}


@pytest.mark.parametrize("layout", LANES)
def test_plain_records_take_the_fast_lane(layout):
    kind = BY_NAME[layout].kind
    [(first, count, text)] = made(layout, kind, PLAIN[layout], PLAIN[layout])
    assert (first, count) == (0, 2)
    one, two, end = text.split(b"\n")
    assert one == two
    assert end == b""


def test_what_needs_care_is_left_to_the_exact_way():
    good = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    bad = [
        good | {"chosen": "B"},
        good | {"chosen": " "},
        good | {"chosen": None},
        good | {"chosen": 5},
        good | {"system": None},
        good | {"images": ["a"]},
        good | {"tools": ["a"]},
        good | {"prompt": "Q\u0000"},
        b"{broken",
        b"",
        b'{"prompt":"\xff","chosen":"A","rejected":"B"}',
        b'{"prompt":"\\u0055ser:","chosen":"A","rejected":"B"}',
        *(good | {"rejected": f"x {word} y"} for word in RESERVED_WORDS),
    ]
    start, middle, end = made("prompt-chosen-rejected", "preference", good, *bad, good)
    assert (start.first, start.rows, start.text) == (0, 1, end.text)
    assert (middle.first, middle.rows, middle.text) == (1, len(bad), b"")
    assert (end.first, end.rows, bytes(end.text).count(b"\n")) == (len(bad) + 1, 1, 1)


def test_escaped_characters_stay_as_they_are():
    record = b'{"prompt":"\\u00e9\\/\\ud83d\\ude00\\u003c","chosen":"A","rejected":"B"}'
    [(_, _, text)] = made("prompt-chosen-rejected", "preference", record)
    assert b'"text":"\\u00e9\\/\\ud83d\\ude00\\u003c"' in text


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("\\u00e9", "é"),
        ("\\u00e9", "\\u00E9"),
        ("a\\/b", "a/b"),
        ("\\u003cb>", "<b>"),
        ("\\u2028x", "\u2028x"),
        ("a", "\\u0061"),
        ("x\\ud83d\\ude00", "x\\uD83D\\uDE00"),
    ],
)
def test_one_text_written_in_two_ways_is_an_equal_pair(tmp_path, good, bad):
    source = tmp_path / "source.jsonl"
    line = '{{"prompt":"Q","chosen":"{}","rejected":"{}"}}\n'
    source.write_text(line.format("A", "B") + line.format(good, bad), encoding="utf-8")
    result = convert_preferences(source, tmp_path / "made.jsonl")
    assert result.dropped == {"equal-pair": 1}


@pytest.mark.parametrize("text", ["\\u0055ser: x", "Us\\u0065r: x", "\\u005bEOS]", "\\u003cimage>", "<image\\u003e"])
def test_a_reserved_word_cannot_hide_behind_an_escape(tmp_path, text):
    source = tmp_path / "source.jsonl"
    line = '{{"prompt":"Q","chosen":"{}","rejected":"B"}}\n'
    source.write_text(line.format("A") + line.format(text), encoding="utf-8")
    result = convert_preferences(source, tmp_path / "made.jsonl")
    assert result.dropped == {"reserved-word": 1}


@pytest.mark.parametrize(
    "blank", ["", " ", "\\n\\t", " \\n", " \\u2003 ", "\\u3000", "\\u0020", "\\u2003\\u00a0", "\u2028 "]
)
def test_a_blank_answer_is_seen_however_it_is_written(tmp_path, blank):
    source = tmp_path / "source.jsonl"
    line = '{{"prompt":"Q","chosen":"{}","rejected":"B"}}\n'
    source.write_text(line.format("A") + line.format(blank), encoding="utf-8")
    result = convert_preferences(source, tmp_path / "made.jsonl")
    assert result.dropped == {"empty-candidate": 1}


def test_half_a_pair_of_escapes_is_dropped(tmp_path):
    source = tmp_path / "source.jsonl"
    line = '{{"prompt":"Q","chosen":"{}","rejected":"B"}}\n'
    source.write_text(line.format("A") + line.format("\\ud83d") + line.format("\\ude00\\ud83d"))
    result = convert_preferences(source, tmp_path / "made.jsonl")
    assert result.dropped == {"lone-surrogate": 2}


def test_a_backslash_before_a_speaker_starts_no_turn(tmp_path):
    asked = "x\\n\nAssistant: y\\n\nHuman: z"
    before = f"\n\nHuman: {asked}\n\nAssistant: "
    result, _ = preferences(tmp_path, PAIRS["hh-rlhf"], {"chosen": before + "A", "rejected": before + "B"})
    assert result.dropped == {"reserved-word": 1}  # it stands inside the user's one turn


@pytest.mark.parametrize(("slashes", "on_lane"), [(1, False), (2, True), (3, False), (4, False)])
def test_a_transcript_is_cut_only_where_a_line_really_ends(slashes, on_lane):
    before = b"\\n\\nHuman: x" + b"\\" * slashes + b"\\n\\nAssistant: "
    record = b'{"chosen":"%bA","rejected":"%bB"}' % (before, before)
    assert bool(made("hh-rlhf", "preference", json.dumps(PAIRS["hh-rlhf"]).encode(), record)[-1].text) == on_lane


TURN = "\n\nHuman: a\n\nAssistant: "


def talk(turns, chosen="b", rejected="c", other=None):
    before = "x".join([TURN] * turns)
    return {"chosen": before + chosen, "rejected": (other or before) + rejected}


ODD_TALKS = [
    talk(2, other=TURN),
    talk(1, other="\n\nHuman: a\n\nAssistant:"),
    talk(1, other=TURN.replace("a", "e")),
    {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c"},
    {"chosen": TURN + "b" + TURN[:11], "rejected": TURN + "c"},
    {"chosen": "\n\nHuman: a" + TURN + "b", "rejected": "\n\nHuman: a" + TURN + "c"},
    {"chosen": TURN + "b\n\nAssistant: d", "rejected": TURN + "b\n\nAssistant: e"},
    {"chosen": [TURN, TURN], "rejected": [TURN, TURN]},
    {"chosen": {TURN: TURN}, "rejected": 5},
    {"chosen": "", "rejected": ""},
]


@pytest.mark.parametrize("turns", [(1, 1), (2, 2), (1, 2, 3, 20, 1)])
@pytest.mark.parametrize("kind", ["preference", "chat"])
def test_transcripts_are_cut_together_as_each_is_by_itself(turns, kind):
    records = list(map(talk, turns))
    [piece] = made("hh-rlhf", kind, *records)
    assert piece.rows == len(records)
    assert piece.text == b"".join(made("hh-rlhf", kind, record)[0].text for record in records)


@pytest.mark.parametrize("odd", ODD_TALKS)
@pytest.mark.parametrize("kind", ["preference", "chat"])
def test_an_odd_transcript_leaves_those_beside_it_on_the_lane(odd, kind):
    first, middle, last = made("hh-rlhf", kind, talk(1), talk(2), odd, odd, talk(3), talk(1))
    assert [(piece.first, piece.rows) for piece in (first, middle, last)] == [(0, 2), (2, 2), (4, 2)]
    assert middle.text == b""
    assert b"".join((first.text, last.text)) == made("hh-rlhf", kind, talk(1), talk(2), talk(3), talk(1))[0].text


@pytest.mark.parametrize("odd", ODD_TALKS)
def test_odd_transcripts_alone_are_all_for_the_exact_way(odd):
    lane = FastLane("hh-rlhf", "preference")
    good, bad = (json.dumps(record).encode() for record in (talk(1), odd))
    assert lane.convert(Block(1, [good]))[0].text
    assert lane.convert(Block(2, [bad, bad])) == [(0, 2, b"")]


def test_transcripts_are_told_apart_in_an_array_over_lines(tmp_path):
    records = [talk(1), *ODD_TALKS, talk(2)]
    _, written = preferences(tmp_path, *records, layout="hh-rlhf")  # files with an indent among them
    assert [written[0], written[-1]] == [pair("a", "b", "c"), pair(["a", "x", "a"], "b", "c")]


def test_a_question_that_is_not_there_is_not_written(tmp_path):
    good = {"system": "S", "question": "Q", "chosen": "A", "rejected": "B"}
    records = [good, {key: value for key, value in good.items() if key != "question"}]
    for convert in (preferences, chats):
        result, written = convert(tmp_path, *records, layout="orca-pairs")
        assert (result.dropped, len(written)) == ({"no-prompt": 1}, 1)


@pytest.mark.parametrize("layout", ["chosen-rejected", "hh-rlhf", "prompt-chosen-rejected", "ultrafeedback"])
def test_what_is_odd_in_a_block_is_told_by_its_row(layout):
    good = TWO_TEXTS if layout == "chosen-rejected" else PLAIN[layout]
    [whole] = made(layout, "preference", good, good)
    line = whole.text[: len(whole.text) // 2]
    reserved = json.loads(json.dumps(good).replace('A"', 'A User: [EOS]"'))
    rows = [good, {}, reserved, good, good, reserved, {}, {}, reserved, good]
    pieces = made(layout, "preference", *rows, {})
    assert [(piece.first, piece.rows, piece.text) for piece in pieces] == [
        (0, 1, line),
        (1, 2, b""),
        (3, 2, line * 2),
        (5, 4, b""),
        (9, 1, line),
        (10, 1, b""),
    ]


def said(*texts, names=("role", "content", "user", "assistant")):
    role, content, *speakers = names
    return [{role: speakers[at % 2], content: text} for at, text in enumerate(texts)]


TALKS = {
    "prompt-chosen-rejected": lambda turns: {"prompt": said(*turns), "chosen": [GOOD], "rejected": [BAD]},
    "sharegpt-ranking": lambda turns: {
        "conversations": said(*turns, names=("from", "value", "human", "gpt")),
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    },
    "messages": lambda turns: {"messages": said(*turns, "A")},
    "ultrafeedback": lambda turns: {
        "prompt": (turns or ["a"])[0],
        "chosen": said(*turns, "A"),
        "rejected": said(*turns, "B"),
    },
    "helpsteer3": lambda turns: {
        "context": said(*turns),
        "response1": "A",
        "response2": "B",
        "overall_preference": len(turns) - 2,
    },
}


@pytest.mark.parametrize("layout", TALKS)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 3, 3), (1, 3, 1), (5, 1, 3)])
def test_conversations_are_told_together_as_each_is_by_itself(layout, sizes):
    records = [TALKS[layout](["a", "b", "c", "d", "e"][:size]) for size in sizes]
    kind = BY_NAME[layout].kind
    [piece] = made(layout, kind, *records)
    assert piece.rows == len(records)
    assert piece.text == b"".join(made(layout, kind, record)[0].text for record in records)


@pytest.mark.parametrize(
    "odd",
    [
        {"score_chosen": 1, "score_rejected": 1},
        {"chosen": said("a", "b", "a", "A")},
        {"rejected": said("b", "B")},
        {"prompt": "b"},
        {"prompt": None},
        {"chosen": [GOOD], "rejected": [BAD]},
        {"rejected": [{"role": "system", "content": "a"}, BAD]},
        {side: [{"role": "system", "content": "a"}, answer] for side, answer in (("chosen", GOOD), ("rejected", BAD))},
    ],
)
def test_one_odd_pair_of_conversations_is_told_among_others(tmp_path, odd):
    good = TALKS["ultrafeedback"](["a"])
    result, written = preferences(tmp_path, good, good | odd, good, layout="ultrafeedback")
    alone, by_itself = preferences(tmp_path, good, good | odd, layout="ultrafeedback")
    assert (result.dropped, result.mended) == (alone.dropped, alone.mended)
    assert written == [*by_itself, by_itself[0]]
    lane = FastLane("ultrafeedback", "preference")
    first, second = (json.dumps(record).encode() for record in (good, good | odd))
    assert lane.convert(Block(1, [first]))[0].text
    assert bool(lane.convert(Block(2, [second, second]))[0].text) == (odd.get("chosen") == [GOOD])


@pytest.mark.parametrize("layout", TALKS)
def test_conversations_of_no_turn_or_the_wrong_turns_are_for_the_exact_way(layout):
    kind, good = BY_NAME[layout].kind, TALKS[layout](["a"])
    for turns in ([], ["a", "b"]):
        bad = TALKS[layout](turns)
        assert [piece.rows for piece in made(layout, kind, good, bad, good)] == [1, 1, 1]
        assert [bool(piece.text) for piece in made(layout, kind, good, bad, bad)] == [True, False]


def test_an_escaped_word_after_an_escaped_backslash_is_seen():
    record = b'{"prompt":"a\\\\\\u0055ser:","chosen":"A","rejected":"B"}'
    assert json.loads(record)["prompt"] == "a\\User:"
    assert made("prompt-chosen-rejected", "preference", PAIRS["prompt-chosen-rejected"], record)[-1].text == b""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("a b\nc d", "a b\nc e"),
        ("a b\nc", "a b\td"),
        ("a b\n\tc", "a b\n\td"),
        ("a b\\\nc", "a b\\\nd"),
        ("a b\\nc", "a b\\nd"),
        ("a b\n", "a b\nd"),
        ("a\nb", "a\nc"),
        ("a b\u2003c", "a b\u2003d"),
        ("a b\u2003c", "a b\u2004c"),
        ("a bc", "a bc d"),
        ("a b", "a b"),
        ("a b ", "a b"),
        ("a b é", "a b è"),
        ('a b"', "a b"),
        ("ab", "ac"),
        (" a", " b"),
        ("a " * 300 + "b", "a " * 300 + "c"),
        ("a " * 300, "a " * 299 + "b"),
        ("a " * 300, "a " * 200),
    ],
)
def test_both_ways_part_texts_at_the_same_place(tmp_path, good, bad):
    records = TWO_TEXTS, TWO_TEXTS, {"chosen": good, "rejected": bad}
    preferences(tmp_path, *records, layout="chosen-rejected")
    chats(tmp_path, *records, layout="chosen-rejected")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("\\u00e9 c", "é d"),
        ("é c", "\\u00e9 d"),
        ("\\u00e9 c", "\\u00E9 d"),
        ("x\\/ c", "x/ d"),
        ("\\u0020c", " d"),
        ("\\u000ac", "\\nd"),
    ],
)
def test_texts_that_part_at_two_forms_of_a_character_are_left_to_the_exact_way(good, bad):
    record = f'{{"chosen":"a b{good}","rejected":"a b{bad}"}}'.encode()
    *_, last = made("chosen-rejected", "preference", TWO_TEXTS, TWO_TEXTS, record)
    assert (last.rows, last.text) == (1, b"")


@pytest.mark.parametrize(
    ("one", "other"), [([{"role": "user", "content": "a b"}],) * 2, ({"a": "b"},) * 2, (5, 5), (5, 53), (53, 5)]
)
def test_what_is_no_text_is_never_cut_as_one(one, other):
    record = {"chosen": one, "rejected": other}
    *_, last = made("chosen-rejected", "preference", TWO_TEXTS, TWO_TEXTS, record)
    assert (last.rows, last.text) == (1, b"")


def test_a_line_end_is_a_place_to_part_at():
    record = {"chosen": "Q and A\nis:\nA", "rejected": "Q and A\nis:\nB"}
    [piece] = made("chosen-rejected", "preference", record, record)
    assert json.loads(piece.text.split(b"\n")[0]) == pair("Q and A\nis:", "\nA", "\nB")


def test_an_input_without_an_instruction_stands_alone(tmp_path):
    _, written = chats(tmp_path, CHATS["alpaca"], {"instruction": "", "input": "Q", "output": "A"})
    assert written[1] == chat("Q", "A")


def test_a_prompt_that_the_messages_do_not_repeat_is_not_lost(tmp_path):
    plain = PAIRS["ultrafeedback"]
    result, written = preferences(tmp_path, plain, plain | {"prompt": "P"})
    assert written[1] == pair("P\n\nQ", "A", "B")
    assert result.mended == {"same-role-merged": 1}


def test_a_pair_with_a_broken_side_is_no_chat_either(tmp_path):
    plain = PAIRS["prompt-chosen-rejected"]
    result, _ = chats(tmp_path, plain, plain | {"rejected": 5}, plain | {"rejected": " "}, plain | {"chosen": None})
    assert result.dropped == {"not-text": 1, "missing-field": 1}


@pytest.mark.parametrize("word", RESERVED_WORDS)
def test_every_reserved_word_is_spotted(word):
    text = b'[{"text":"a"}]' + b"\n" * 50 + word.encode()
    assert harmful(text, find(text)) == [len(text) - len(word)]


def test_utf8_is_told_across_pieces():
    text = ("x" + "é" * 70_000).encode()
    assert is_utf8(text)
    assert not is_utf8(text[:-1])
    assert not is_utf8(text[:16_385] + text[16_386:])


@pytest.mark.parametrize("instruction", [0, True, None, [], {"a": "b"}, ""])
def test_an_instruction_that_is_no_text_is_not_joined_with_its_input(tmp_path, instruction):
    odd = {"instruction": instruction, "input": "Paris.", "output": "Hello"}
    _, written = chats(tmp_path, CHATS["alpaca"], odd, layout="alpaca")  # reads what was written, on every way
    assert written[0] == chats(tmp_path, CHATS["alpaca"], layout="alpaca")[1][0]


@pytest.mark.parametrize("words", [_IN_TEXTS, _AT_BEGINNINGS])
def test_the_search_for_all_suspicions_stays_fast(words):
    assert len(words) <= 64  # one more, and it takes ten times as long


@pytest.mark.parametrize("convert", [convert_preferences, convert_chats])
def test_bytes_that_are_no_utf8_are_seen_in_fields_that_nobody_reads(tmp_path, convert):
    good = b'{"prompt":"a","chosen":"b","rejected":"c","source":"d"}'
    (tmp_path / "made.jsonl").write_bytes(b"\n".join([good, good.replace(b'"d"', b'"\xff"'), good]))
    result = convert(tmp_path / "made.jsonl", tmp_path / "nova.jsonl")
    assert (result.written, result.dropped) == (2, {"not-utf8": 1})


def test_texts_that_are_equal_are_no_chat_either(tmp_path):
    result, made = chats(
        tmp_path, {"chosen": "a b", "rejected": "a b"}, {"chosen": "a b", "rejected": "a c"}, layout="chosen-rejected"
    )
    assert (result.dropped, len(made)) == ({"equal-pair": 1}, 1)


@pytest.mark.parametrize("text", ["\n\nHuman: ", "\n\nHuman: again", " and\n\nHuman: again"])
def test_a_turn_after_the_answer_is_no_part_of_it(tmp_path, text):
    asked = "\n\nHuman: a\n\nAssistant:"
    result, made = chats(
        tmp_path,
        {"chosen": f"{asked} b{text}", "rejected": f"{asked} c"},
        {"chosen": f"{asked} b", "rejected": f"{asked} c"},
        layout="hh-rlhf",
    )
    assert len(made) == 2 - sum(result.dropped.values())
    assert all("Human" not in json.dumps(each) for each in made)


HALVES = [r"\ud800", r"\udc00", r"a\uDBFFb", r"\ud800\ud800", r"\udc00\ud800", r"\ud83d\\ude00", "\\ud800\u00e9"]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("layout", LANES)
def test_half_a_character_is_never_altered_nor_written(tmp_path, layout, half):
    convert = convert_chats if BY_NAME[layout].kind == "chat" else convert_preferences
    text, source = json.dumps(PLAIN[layout]), tmp_path / "source.jsonl"
    assert 'A"' in text  # the answer, or its end
    source.write_text("\n".join([text, text.replace('A"', f'{half}"'), text]))
    from_file = convert(source, tmp_path / "made.jsonl", layout)
    written = (tmp_path / "made.jsonl").read_bytes()
    records = [json.loads(line) for line in source.read_text().splitlines()]
    from_memory = convert(records, tmp_path / "again.jsonl", layout)
    assert (from_file.written, from_file.dropped) == (2, {"lone-surrogate": 1})
    assert (from_memory.written, from_memory.dropped, from_memory.details) == (2, from_file.dropped, from_file.details)
    assert (tmp_path / "again.jsonl").read_bytes() == written
    assert b"\\ud" not in written.lower()


def test_half_a_character_in_a_field_that_nobody_reads_harms_nothing(tmp_path):
    record = {"prompt": "Q", "chosen": "A", "rejected": "B", "source": "\ud800"}
    assert preferences(tmp_path, record)[1] == [pair("Q", "A", "B")]


@pytest.mark.parametrize("kind", ["preference", "chat"])
def test_half_a_character_in_a_record_of_novas_own_is_dropped(tmp_path, kind):
    made, convert = (pair, convert_preferences) if kind == "preference" else (lambda q, a, _: chat(q, a), convert_chats)
    (tmp_path / "source.jsonl").write_text("\n".join(json.dumps(made("Q", each, "B")) for each in ("A", "\udc00")))
    result = convert(tmp_path / "source.jsonl", tmp_path / "made.jsonl")
    assert (result.read, result.written, sum(result.dropped.values())) == (2, 1, 1)

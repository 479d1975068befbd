import pytest
from convert_support import chat, chats, pair, preferences

from nova_dpo_sdk.datasets._convert import detect_layout
from nova_dpo_sdk.datasets._layouts import LAYOUTS
from nova_dpo_sdk.datasets._mend import DROPS, MENDS
from nova_dpo_sdk.errors import DatasetError

USER = {"role": "user", "content": "Q"}
GOOD, BAD = {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}

PAIRS = {
    "prompt-chosen-rejected": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "sharegpt-ranking": {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    },
    "alpaca-ranking": {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
    "chosen-rejected-messages": {
        "chosen_messages": [
            {"role": "user", "content": [{"type": "text", "value": "Q"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "A"}], "loss_weight": 1.0},
        ],
        "rejected_messages": [
            {"role": "user", "content": [{"type": "text", "value": "Q"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "B"}], "loss_weight": 1.0},
        ],
    },
    "openai-preference": {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [GOOD],
        "non_preferred_output": [BAD],
    },
    "when2call": {"messages": [USER], "tools": [], "chosen_response": GOOD, "rejected_response": BAD},
    "rejected-response": {"messages": [USER, GOOD], "rejected_response": "B"},
    "rejected-messages": {"messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
    "rejected-message": {"messages": [USER, GOOD], "rejected_message": BAD},
    "helpsteer3": {
        "domain": "general",
        "context": [USER],
        "response1": "B",
        "response2": "A",
        "overall_preference": 2,
        "individual_preference": [],
    },
    "helpsteer2": {"prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": -1},
    "ultrafeedback": {
        "prompt": "Q",
        "prompt_id": "1",
        "chosen": [USER, GOOD],
        "rejected": [USER, BAD],
        "score_chosen": 8.0,
        "score_rejected": 4.0,
    },
    "distilabel": {
        "prompt": "Q",
        "chosen": [USER, GOOD],
        "rejected": [USER, BAD],
        "chosen_rating": 5,
        "rejected_rating": 2,
    },
    "orca-pairs": {"system": "", "input": "Q", "chosen": "A", "rejected": "B", "status": "unchanged"},
    "hh-rlhf": {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    "chosen-rejected": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "nova-preference": pair("Q", "A", "B"),
}
CHATS = {
    "messages": {"messages": [USER, GOOD]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "prompt-completion": {"prompt": "Q", "completion": "A"},
    "nova-chat": chat("Q", "A"),
}


@pytest.mark.parametrize("layout", PAIRS)
def test_every_preference_layout_becomes_the_same_record(tmp_path, layout):
    result, written = preferences(tmp_path, PAIRS[layout])
    assert (result.layout, result.read, result.written, result.dropped) == (layout, 1, 1, {})
    assert written == [pair("Q", "A", "B")]


@pytest.mark.parametrize("layout", PAIRS)
def test_the_chosen_side_of_every_preference_layout_is_a_chat(tmp_path, layout):
    result, written = chats(tmp_path, PAIRS[layout])
    assert result.layout == layout
    assert written == [chat("Q", "A")]


@pytest.mark.parametrize("layout", CHATS)
def test_every_chat_layout_becomes_the_same_record(tmp_path, layout):
    result, written = chats(tmp_path, CHATS[layout])
    assert (result.layout, result.dropped) == (layout, {})
    assert written == [chat("Q", "A")]


def test_the_table_and_these_examples_name_the_same_layouts():
    assert {layout.name for layout in LAYOUTS} == {*PAIRS, *CHATS}
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_the_rules_in_the_table_are_rules_that_exist():
    for layout in LAYOUTS:
        assert set(layout.rules) <= {*DROPS, *MENDS}, layout.name


@pytest.mark.parametrize("layout", [*PAIRS, *CHATS])
def test_a_layout_is_told_from_its_keys(layout):
    assert detect_layout([(PAIRS | CHATS)[layout]] * 3) == layout


def test_the_layout_that_fits_most_of_the_first_records_counts():
    odd = {"text": "?"}
    assert detect_layout([odd, PAIRS["hh-rlhf"], CHATS["alpaca"], CHATS["alpaca"]]) == "alpaca"


def test_keys_appear_in_the_order_of_the_guide(tmp_path):
    preferences(tmp_path, {"prompt": [{"role": "system", "content": "S"}, USER], "chosen": "A", "rejected": "B"})
    assert (tmp_path / "made.jsonl").read_text() == (
        '{"schemaVersion":"bedrock-conversation-2024","system":[{"text":"S"}],"messages":[{"role":"user","content":'
        '[{"text":"Q"}]},{"role":"assistant","candidates":[{"content":[{"text":"A"}],"preferenceLabel":"preferred"},'
        '{"content":[{"text":"B"}],"preferenceLabel":"non-preferred"}]}]}\n'
    )


def test_a_prompt_may_be_a_list_of_messages(tmp_path):
    prompt = [{"role": "system", "content": "S"}, USER, GOOD, USER]
    _, written = preferences(tmp_path, {"prompt": prompt, "chosen": [GOOD], "rejected": [BAD]})
    assert written == [pair(["Q", "A", "Q"], "A", "B", system="S")]


def test_two_texts_without_a_prompt_are_split_at_a_space(tmp_path):
    result, written = preferences(
        tmp_path,
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        {"chosen": "Yes.", "rejected": "No."},
        layout="chosen-rejected",
    )
    assert written == [pair("The sky is", " blue.", " black.")]
    assert result.dropped == {"no-prompt": 1}


def test_transcripts_become_turns(tmp_path):
    before = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant:"
    _, written = preferences(tmp_path, {"chosen": before + " Good", "rejected": before + " Bad"})
    assert written == [pair(["Hi", "Hello", "And?"], "Good", "Bad")]


def test_transcripts_that_part_before_the_last_turn_are_dropped(tmp_path):
    keep = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    part = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: x\n\nAssistant: c"}
    result, _ = preferences(tmp_path, keep, part)
    assert result.dropped == {"contexts-differ": 1}


def test_helpsteer2_prompts_with_markers_become_turns(tmp_path):
    prompt = "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nAnd?"
    record = {"prompt": prompt, "response_1": "bad", "response_2": "good", "preference_strength": 3}
    _, written = preferences(tmp_path, record)
    assert written == [pair(["Hi", "Hello", "And?"], "good", "bad")]


@pytest.mark.parametrize(
    "tie",
    [
        PAIRS["helpsteer2"] | {"preference_strength": 0},
        PAIRS["helpsteer3"] | {"overall_preference": 0},
        PAIRS["ultrafeedback"] | {"score_rejected": 8.0},
        PAIRS["distilabel"] | {"rejected_rating": 5},
        PAIRS["orca-pairs"] | {"status": "tie"},
    ],
)
def test_ties_are_dropped(tmp_path, tie):
    layout = detect_layout([tie])
    result, written = preferences(tmp_path, PAIRS[layout], tie)
    assert result.dropped == {"tie": 1}
    assert len(written) == 1


@pytest.mark.parametrize("tie", [{"score_rejected": 8.0}, {"rejected": None}])
def test_a_chat_needs_no_preference(tmp_path, tie):
    plain = PAIRS["ultrafeedback"]
    result, written = chats(tmp_path, plain, plain | tie)
    assert written == [chat("Q", "A"), chat("Q", "A")]
    assert result.mended == {"no-rejected" if "rejected" in tie else "tie-kept": 1}


MISSING = {
    "chosen-rejected-messages": "rejected_messages",
    "openai-preference": "non_preferred_output",
    "when2call": "rejected_response",
    "rejected-response": "rejected_response",
    "rejected-messages": "rejected_messages",
    "rejected-message": "rejected_message",
}


@pytest.mark.parametrize("layout", sorted(PAIRS.keys() - {"helpsteer2", "helpsteer3", "nova-preference"}))
def test_a_chat_needs_no_answer_that_is_not_chosen(tmp_path, layout):
    key = MISSING.get(layout, "rejected")
    alone = {name: value for name, value in PAIRS[layout].items() if name != key}
    result, written = chats(tmp_path, PAIRS[layout], alone, alone | {key: None}, layout=layout)
    assert written == [chat("Q", "A")] * 3
    assert result.mended["no-rejected"] == 2
    assert preferences(tmp_path, PAIRS[layout], alone, layout=layout)[0].dropped == {"missing-field": 1}


ODD = [
    ("hh-rlhf", {"chosen": 5}, "not-text"),
    ("hh-rlhf", {"rejected": "Q\n\nAssistant: B"}, "not-text"),
    ("openai-preference", {"input": "Q"}, "not-text"),
    ("openai-preference", {"preferred_output": None}, "missing-field"),
    ("helpsteer2", {"preference_strength": "much"}, "not-text"),
    ("helpsteer2", {"preference_strength": 0}, "tie"),
    ("helpsteer2", {"prompt": 5}, "not-text"),
    ("chosen-rejected", {"chosen": "one", "rejected": "two"}, "no-prompt"),
    ("chosen-rejected", {"chosen": "one two", "rejected": "one two"}, "equal-pair"),
    ("prompt-chosen-rejected", {"prompt": 5}, "not-text"),
    ("prompt-chosen-rejected", {"prompt": [5]}, "not-text"),
    ("prompt-chosen-rejected", {"prompt": [{"content": "Q"}]}, "missing-field"),
    ("prompt-chosen-rejected", {"image": "a.png"}, "image-not-in-s3"),
    ("prompt-chosen-rejected", {"audios": ["a.mp3"]}, "media-not-supported"),
    ("rejected-message", {"messages": [USER, GOOD | {"function_call": {"name": "f"}}]}, "tool-turn"),
    ("orca-pairs", {"status": "tie"}, "tie"),
    ("distilabel", {"rejected_rating": 5}, "tie"),
    ("alpaca", {"instruction": 5}, "not-text"),
    ("alpaca", {"input": 5}, "not-text"),
    ("alpaca", {"history": "Q"}, "not-text"),
    ("alpaca", {"history": {}}, "not-text"),
    ("alpaca", {"history": [["Q", "A", "?"]]}, "not-text"),
    ("sharegpt", {"conversations": []}, "no-answer"),
]


@pytest.mark.parametrize(("layout", "change", "rule"), ODD)
def test_what_a_layout_does_not_say_is_dropped_by_name(tmp_path, layout, change, rule):
    plain = (PAIRS | CHATS)[layout]
    result, written = (chats if layout in CHATS else preferences)(tmp_path, plain, plain | change, layout=layout)
    assert (result.dropped, len(written)) == ({rule: 1}, 1)


def test_tools_are_written_into_the_system_text(tmp_path):
    record = PAIRS["when2call"] | {"tools": ['{"name": "add"}', {"name": "sub"}]}
    result, written = preferences(tmp_path, record)
    assert written[0]["system"] == [
        {"text": 'You can call these tools:\n<tools>\n{"name": "add"}\n{"name": "sub"}\n</tools>'}
    ]
    assert result.mended == {"tools-to-system": 1}


def test_alpaca_joins_instruction_and_input_and_reads_history(tmp_path):
    record = {
        "instruction": "Add.",
        "input": "1 2",
        "output": "3",
        "system": "S",
        "history": [["Hi", "Hello"]],
    }
    _, written = chats(tmp_path, record)
    assert written == [chat("Hi", "Hello", "Add.\n1 2", "3", system="S")]


def test_a_rejected_answer_beside_a_conversation_may_be_a_text_or_messages(tmp_path):
    for rejected in ("B", BAD, [BAD], [USER, BAD]):
        _, written = preferences(tmp_path, {"messages": [USER, GOOD], "rejected_response": rejected})
        assert written == [pair("Q", "A", "B")]


def test_pairs_cannot_be_made_of_conversations(tmp_path):
    with pytest.raises(DatasetError, match=r"alpaca.*ChatDataset"):
        preferences(tmp_path, CHATS["alpaca"])


def test_an_unknown_layout_names_the_keys_and_the_known_layouts(tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)keys: frage, antwort.*sharegpt-ranking") as caught:
        preferences(tmp_path, {"frage": "Q", "antwort": "A"})
    assert "alpaca" in str(caught.value)


def test_a_misspelt_layout_names_the_nearest(tmp_path):
    with pytest.raises(DatasetError, match="'sharegpt-ranking'"):
        preferences(tmp_path, PAIRS["sharegpt-ranking"], layout="sharegpt_ranking")


EARLIER = [{"role": "user", "content": "P"}, {"role": "assistant", "content": "O"}]


@pytest.mark.parametrize(
    ("prompt", "before", "made"),
    [
        ("Q", [*EARLIER, USER], ["P", "O", "Q"]),
        ("Q \n", [USER], ["Q"]),
        ("Q", [USER | {"role": "human"}], ["Q"]),
        ("Q", [USER | {"content": [{"type": "text", "text": "Q"}]}], ["Q"]),
        ("", [USER], ["Q"]),
        ([USER], [*EARLIER, USER], ["P", "O", "Q"]),
        ([*EARLIER, USER | {"content": "Q "}], [*EARLIER, USER], ["P", "O", "Q"]),
    ],
)
def test_a_prompt_that_both_sides_say_again_is_there_once(tmp_path, prompt, before, made):
    record = {"prompt": prompt, "chosen": [*before, GOOD], "rejected": [*before, BAD]}
    result, written = preferences(tmp_path, PAIRS["distilabel"], record)
    assert (written[1], result.mended) == (pair(made, "A", "B"), {})


def test_the_system_text_of_a_prompt_that_is_said_again_is_kept(tmp_path):
    system = {"role": "system", "content": "S"}
    _, written = preferences(tmp_path, PAIRS["distilabel"] | {"prompt": [system, USER]})
    assert written == [pair("Q", "A", "B", "S")]
    said = {"prompt": [system, USER], "chosen": [system, USER, GOOD], "rejected": [system, USER, BAD]}
    result, written = preferences(tmp_path, said)
    assert (written, result.mended) == ([pair("Q", "A", "B", "S")], {})


@pytest.mark.parametrize("role", ["system", "System", "developer"])
@pytest.mark.parametrize("again", [None, "S", "S\n", [{"type": "text", "text": "S"}]])
@pytest.mark.parametrize("field", [{}, {"system": "S"}], ids=["", "field"])
def test_a_system_text_is_there_once_by_whatever_role_and_however_often_it_is_said(tmp_path, role, again, field):
    side = [] if again is None else [{"role": "developer", "content": again}]
    record = {**field, "prompt": [{"role": role, "content": "S"}, USER]}
    record |= {"chosen": [*side, USER, GOOD], "rejected": [*side, USER, BAD]}
    _, written = preferences(tmp_path, record)
    if field and side:  # what stands in a field of its own is joined with what the sides begin with, as ever
        assert written[0]["messages"] == pair("Q", "A", "B")["messages"]
    else:
        assert written == [pair("Q", "A", "B", "S\n" if again == "S\n" else "S")]


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        (
            [{"role": "user", "content": "P"}, {"role": "assistant", "content": "N"}, USER],
            ["P", "N", "Q\n\nP", "O", "Q"],
        ),
        ("O", ["O\n\nP", "O", "Q"]),
    ],
)
def test_what_the_sides_do_not_say_again_of_a_prompt_is_not_lost(tmp_path, prompt, made):
    before = [*EARLIER, USER]
    _, written = preferences(tmp_path, {"prompt": prompt, "chosen": [*before, GOOD], "rejected": [*before, BAD]})
    assert written == [pair(made, "A", "B")]

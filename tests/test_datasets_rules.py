"""Every rule of the data: broken once, found with its place, and switchable."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import candidate, changed, chat, document, drop, image, line, pair, put, tool_chat, video, write

from nova_dpo_sdk.datasets import RULES, ChatDataset, PreferenceDataset, Report
from nova_dpo_sdk.errors import ConfigurationError, Severity

if TYPE_CHECKING:
    from pathlib import Path

M = "messages"
LAST = (M, 3, "candidates")


def raw(text: str, old: str, new: str) -> bytes:
    assert old in text
    return text.replace(old, new, 1).encode() + b"\n"


PAIR = json.dumps(pair())
DEEP = b'{"messages":' + b"[" * 100_000 + b"\n"

# rule, record, path of the problem
PAIRS: list[tuple[str, Any, str]] = [
    ("bad-json", b'{"messages": \n', "$"),
    ("bad-json", PAIR.encode() + b" {}\n", "$"),
    ("bad-json", b"// a comment\n", "$"),
    ("bad-json", b"{\n", "$"),
    ("bad-json", raw(PAIR, '"Hello"', "1" * 5000), "$"),
    ("bad-json", raw(PAIR, "Hello", "Hel\x01lo"), "$"),
    ("invalid-utf8", PAIR.encode().replace(b"Paris", b"Par\xefs") + b"\n", "$"),
    ("invalid-utf8", PAIR.encode().replace(b"Paris", b"\xed\xa0\x80") + b"\n", "$"),
    ("too-deep", DEEP, "$"),
    ("too-deep", b'{"messages":[], "x": ' + b"[" * 70 + b"]" * 70 + b"}\n", "$"),
    ("not-an-object", b'"text"\n', "$"),
    ("json-array", line([pair()]), "$"),
    ("blank-line", b" \t\n", "$"),
    ("byte-order-mark", b"\xef\xbb\xbf" + line(pair()), "$"),
    ("not-a-number", changed(pair(), put(float("nan"), "x")), "$.x"),
    ("not-a-number", changed(pair(), put([1, -float("inf")], "x y")), '$["x y"][1]'),
    ("duplicate-key", raw(PAIR, '"role": "user"', '"role": "user", "role": "user"'), "$.messages[0]"),
    ("duplicate-key", raw(PAIR, '{"text": "Hello"}', '{"text": "Hello", "text": "Hello"}'), "$.messages[0].content[0]"),
    ("duplicate-key", raw(PAIR, '{"text": "Hello"}', '{"text": "x", "text": "x\\u003a"}'), "$.messages[0].content[0]"),
    ("lone-surrogate", raw(PAIR, "Hello", r"Hel\ud83dlo"), "$.messages[0].content[0].text"),
    ("missing-key", changed(pair(), drop(M)), "$"),
    ("missing-key", changed(pair(), drop(M, 0, "role")), "$.messages[0]"),
    ("missing-key", changed(pair(), drop(M, 0, "content")), "$.messages[0]"),
    ("missing-key", changed(pair(), drop(*LAST, 0, "preferenceLabel")), "$.messages[3].candidates[0]"),
    ("missing-key", changed(pair(), drop(*LAST, 1, "content")), "$.messages[3].candidates[1]"),
    ("wrong-type", changed(pair(), put("hello", M)), "$.messages"),
    ("wrong-type", changed(pair(), put("hello", M, 0)), "$.messages[0]"),
    ("wrong-type", changed(pair(), put("hello", M, 0, "content")), "$.messages[0].content"),
    ("wrong-type", changed(pair(), put("hello", M, 0, "content", 0)), "$.messages[0].content[0]"),
    ("wrong-type", changed(pair(), put(None, M, 0, "content", 0, "text")), "$.messages[0].content[0].text"),
    ("wrong-type", changed(pair(), put(None, "system")), "$.system"),
    ("wrong-type", changed(pair(), put("Be brief.", "system")), "$.system"),
    ("wrong-type", changed(pair(), put(1, "schemaVersion")), "$.schemaVersion"),
    ("wrong-type", changed(pair(), put({}, *LAST)), "$.messages[3].candidates"),
    ("wrong-type", changed(pair(), put(7, *LAST, 0)), "$.messages[3].candidates[0]"),
    ("wrong-type", changed(pair(), put(1, *LAST, 0, "preferenceLabel")), "$.messages[3].candidates[0].preferenceLabel"),
    ("wrong-type", changed(pair(), put(5, M, 0, "role")), "$.messages[0].role"),
    ("unknown-key", changed(pair(), put([], "sytem")), "$.sytem"),
    ("unknown-key", changed(pair(), put({}, "toolConfig")), "$.toolConfig"),
    ("unknown-key", changed(pair(), put(1, M, 0, "weight")), "$.messages[0].weight"),
    ("unknown-key", changed(pair(), put("text", M, 0, "content", 0, "type")), "$.messages[0].content[0].type"),
    ("unknown-key", changed(pair(), put(1, *LAST, 0, "score")), "$.messages[3].candidates[0].score"),
    ("unknown-key", changed(pair(), put("x", "system", 0, "x")), "$.system[0].x"),
    ("schema-version", changed(pair(), put("2", "schemaVersion")), "$.schemaVersion"),
    ("system-items", changed(pair(), put([], "system")), "$.system"),
    ("system-items", changed(pair(), put({"text": "And kind."}, "system", 1)), "$.system"),
    ("system-items", changed(pair(), put(" ", "system", 0, "text")), "$.system[0].text"),
    ("too-few-messages", changed(pair(), put([], M)), "$.messages"),
    ("too-few-messages", changed(pair(), put(pair()[M][3:], M)), "$.messages"),
    ("role-unknown", changed(pair(), put("system", M, 0, "role")), "$.messages[0].role"),
    ("role-unknown", changed(pair(), put("User", M, 0, "role")), "$.messages[0].role"),
    ("role-order", changed(pair(), drop(M, 0)), "$.messages[0].role"),
    ("role-order", changed(pair(), drop(M, 1)), "$.messages[1].role"),
    ("role-order", changed(pair(), drop(M, 3)), "$.messages[2].role"),
    ("content-item", changed(pair(), put({}, M, 0, "content", 0)), "$.messages[0].content[0]"),
    ("content-item", changed(pair(), put({"text": "a", **image()}, M, 0, "content", 0)), "$.messages[0].content[0]"),
    ("content-kind", changed(pair(), put(video(), M, 0, "content", 1)), "$.messages[0].content[1].video"),
    ("content-kind", changed(pair(), put(document(), M, 0, "content", 1)), "$.messages[0].content[1].document"),
    ("content-kind", changed(pair(), put(image(), M, 1, "content", 1)), "$.messages[1].content[1].image"),
    ("content-kind", changed(pair(), put(image(), *LAST, 0, "content", 1)),
     "$.messages[3].candidates[0].content[1].image"),
    ("empty-text", changed(pair(), put([], M, 0, "content")), "$.messages[0].content"),
    ("empty-text", changed(pair(), put("", M, 0, "content", 0, "text")), "$.messages[0].content"),
    ("empty-text", changed(pair(), put([{"text": ""}], *LAST, 1, "content")), "$.messages[3].candidates[1].content"),
    ("blank-text", changed(pair(), put(" \n", M, 0, "content", 0, "text")), "$.messages[0].content[0].text"),
    ("blank-text", changed(pair(), put({"text": ""}, M, 0, "content", 1)), "$.messages[0].content[1].text"),
    ("reserved-word", pair("User: hi"), "$.messages[2].content[0].text"),
    ("reserved-word", pair("Look:\nAssistant: hi"), "$.messages[2].content[0].text"),
    ("reserved-word", pair("こんにちはUser:"), "$.messages[2].content[0].text"),
    ("reserved-word", pair(poor="x<image>"), "$.messages[3].candidates[1].content[0].text"),
    ("reserved-word", changed(pair(), put("Thought: x", "system", 0, "text")), "$.system[0].text"),
    ("reserved-word", raw(PAIR, "Hello", r"\u003cimage>"), "$.messages[0].content[0].text"),
    ("reserved-word", raw(PAIR, "Hello", r"[EO\u0053]"), "$.messages[0].content[0].text"),
    ("reserved-word", raw(PAIR, "Hello", r"a\nUser\u003a"), "$.messages[0].content[0].text"),
    ("reserved-word-casing", pair("SuperUser: hi"), "$.messages[2].content[0].text"),
    ("reserved-word-casing", pair("éUser: hi"), "$.messages[2].content[0].text"),
    ("reserved-word-casing", pair("the operating system: Linux"), "$.messages[2].content[0].text"),
    ("reserved-word-casing", pair("<Image>"), "$.messages[2].content[0].text"),
    ("candidates-missing", changed(pair(), put(chat()[M][1], M, 3)), "$.messages[3]"),
    ("candidates-misplaced", changed(pair(), put(pair()[M][3], M, 1)), "$.messages[1].candidates"),
    ("candidates-misplaced", changed(pair(), put("user", M, 3, "role")), "$.messages[3].candidates"),
    ("candidates-with-content", changed(pair(), put([{"text": "a"}], M, 3, "content")), "$.messages[3].content"),
    ("candidates-count", changed(pair(), drop(*LAST, 0)), "$.messages[3].candidates"),
    ("candidates-count", changed(pair(), put(candidate("x", "preferred"), *LAST, 2)), "$.messages[3].candidates"),
    ("label-unknown", changed(pair(), put("Preferred", *LAST, 0, "preferenceLabel")),
     "$.messages[3].candidates[0].preferenceLabel"),
    ("label-repeated", changed(pair(), put("preferred", *LAST, 1, "preferenceLabel")), "$.messages[3].candidates"),
    ("candidates-identical", pair(good="Same.", poor="Same."), "$.messages[3].candidates"),
    ("candidates-prefix", pair(good="It is Paris.", poor="It is"), "$.messages[3].candidates"),
    ("image-format", changed(pair(), put(image(format="jpg"), M, 0, "content", 1)),
     "$.messages[0].content[1].image.format"),
    ("s3-uri", changed(pair(), put(image("https://x/y.png"), M, 0, "content", 1)),
     "$.messages[0].content[1].image.source.s3Location.uri"),
    ("s3-uri", changed(pair(), put(image(source={"bytes": "aGk="}), M, 0, "content", 1)),
     "$.messages[0].content[1].image.source"),
    ("local-image", changed(pair(), put(image(source={"path": "a.png"}), M, 0, "content", 1)),
     "$.messages[0].content[1].image.source"),
    ("s3-uri-characters", changed(pair(), put(image("s3://b/a b.png"), M, 0, "content", 1)),
     "$.messages[0].content[1].image.source.s3Location.uri"),
    ("bucket-owner", changed(pair(), put(image(), M, 0, "content", 1),
     put("me", M, 0, "content", 1, "image", "source", "s3Location", "bucketOwner")),
     "$.messages[0].content[1].image.source.s3Location.bucketOwner"),
    ("bucket-owner-missing", changed(pair(), put(image(), M, 0, "content", 1),
     drop(M, 0, "content", 1, "image", "source", "s3Location", "bucketOwner")),
     "$.messages[0].content[1].image.source.s3Location"),
    ("too-many-images", changed(pair(), put([image()] * 11, M, 0, "content")), "$.messages[0].content"),
    ("many-images", changed(pair(), put([image()] * 6, M, 0, "content"), put([image()] * 5, M, 2, "content")),
     "$.messages"),
    ("missing-key", changed(pair(), put({"image": {}}, M, 0, "content", 1)), "$.messages[0].content[1].image"),
]  # fmt: skip

CHATS: list[tuple[str, Any, str]] = [
    ("candidates-misplaced", pair(), "$.messages[3].candidates"),
    ("content-kind", tool_chat(), "$.messages[1].content[0].reasoningContent"),
    ("unknown-key", tool_chat(), "$.toolConfig"),
    ("video-format", changed(chat(), put(video(format="avi"), M, 0, "content", 1)),
     "$.messages[0].content[1].video.format"),
    ("too-many-videos", changed(chat(), put([video()] * 2, M, 0, "content")), "$.messages"),
    ("mixed-media", changed(chat(), put([video(), image()], M, 0, "content")), "$.messages"),
    ("missing-key", changed(chat(), drop(M, 1, "content")), "$.messages[1]"),
    ("empty-text", chat(answer=""), "$.messages[1].content"),
]  # fmt: skip

USE = (M, 1, "content", 1, "toolUse")
RESULT = (M, 2, "content", 0, "toolResult")
SPEC = ("toolConfig", "tools", 0, "toolSpec")

CHATS_NOVA_2: list[tuple[str, Any, str]] = [
    ("image-format", changed(chat(), put(image(format="webp"), M, 0, "content", 1)),
     "$.messages[0].content[1].image.format"),
    ("document-format", changed(chat(), put(document(format="docx"), M, 0, "content", 1)),
     "$.messages[0].content[1].document.format"),
    ("many-documents", changed(chat(), put(document(), M, 0, "content", 1), put(document(), M, 0, "content", 2)),
     "$.messages"),
    ("reasoning-with-media", changed(tool_chat(), put(image(), M, 1, "content", 2)), "$.messages[1].content"),
    ("content-kind", changed(tool_chat(), put(tool_chat()[M][1]["content"][1], M, 0, "content", 1)),
     "$.messages[0].content[1].toolUse"),
    ("tool-undeclared", changed(tool_chat(), drop("toolConfig")), "$.messages[1].content[1].toolUse.name"),
    ("tool-name-repeated", changed(tool_chat(), put(tool_chat()["toolConfig"]["tools"][0], "toolConfig", "tools", 1)),
     "$.toolConfig.tools[1].toolSpec.name"),
    ("tool-use-repeated", changed(tool_chat(), put(tool_chat()[M][1]["content"][1], M, 1, "content", 2)),
     "$.messages[1].content[2].toolUse.toolUseId"),
    ("tool-use-unanswered", changed(tool_chat(), put({"text": "well?"}, M, 2, "content", 0)),
     "$.messages[1].content[1].toolUse"),
    ("tool-use-last", changed(tool_chat(), drop(M, 3), drop(M, 2)), "$.messages[1].content[1].toolUse"),
    ("tool-result-unasked", changed(tool_chat(), put("t2", *RESULT, "toolUseId")),
     "$.messages[2].content[0].toolResult.toolUseId"),
    ("wrong-type", changed(tool_chat(), put("x", *USE, "input")), "$.messages[1].content[1].toolUse.input"),
    ("wrong-type", changed(tool_chat(), put("x", *SPEC, "inputSchema", "json")),
     "$.toolConfig.tools[0].toolSpec.inputSchema.json"),
    ("missing-key", changed(tool_chat(), drop(*SPEC, "inputSchema", "json", "type")),
     "$.toolConfig.tools[0].toolSpec.inputSchema.json"),
    ("content-item", changed(tool_chat(), put({}, *RESULT, "content", 0)),
     "$.messages[2].content[0].toolResult.content[0]"),
    ("reserved-word", changed(tool_chat(), put({"text": "User: x"}, *RESULT, "content", 0)),
     "$.messages[2].content[0].toolResult.content[0].text"),
    ("missing-key", changed(tool_chat(), put({}, M, 1, "content", 0, "reasoningContent", "reasoningText")),
     "$.messages[1].content[0].reasoningContent.reasoningText"),
]  # fmt: skip

KINDS = {
    "pair": (PreferenceDataset.from_jsonl, PAIRS, pair()),
    "chat": (ChatDataset.from_jsonl, CHATS, chat()),
    "nova2": (lambda path: ChatDataset.from_jsonl(path, nova2=True), CHATS_NOVA_2, tool_chat()),
}
CASES = [
    pytest.param(kind, code, record, path, id=f"{kind}-{code}-{number}")
    for kind, (_, table, _) in KINDS.items()
    for number, (code, record, path) in enumerate(table)
]


def look(tmp_path: Path, kind: str, *records: Any, **options: Any) -> Report:
    return KINDS[kind][0](write(tmp_path / "data.jsonl", *records)).report(**options)


@pytest.mark.parametrize(("kind", "code", "record", "path"), CASES)
def test_a_broken_rule_is_found_at_its_place(tmp_path: Path, kind: str, code: str, record: Any, path: str) -> None:
    good = KINDS[kind][2]
    report = look(tmp_path, kind, good, record, changed(good, put([{"text": "Another"}], M, 0, "content")))
    found = [problem for problem in report.problems if problem.code == code]
    assert found, report
    assert (found[0].line, found[0].path) == (2, path)
    assert found[0].offset == len(line(good))
    assert found[0].severity is RULES[code].severity
    assert found[0].fix
    assert {problem.line for problem in report.problems if problem.severity is Severity.ERROR} <= {2}


@pytest.mark.parametrize(("kind", "code", "record", "path"), CASES)
def test_every_rule_can_be_turned_down_or_off_unless_no_record_is_left(
    tmp_path: Path, kind: str, code: str, record: Any, path: str
) -> None:
    if RULES[code].fixed:
        with pytest.raises(ConfigurationError, match="cannot be 'off'"):
            look(tmp_path, kind, record, rules={code: "off"})
        return
    report = look(tmp_path, kind, record, rules={code: "warning"})
    assert next(problem.severity for problem in report.problems if problem.code == code) is Severity.WARNING
    report = look(tmp_path, kind, record, rules={code: "off"})
    assert code not in report.counts
    assert report.records == (code != "blank-line")
    assert path


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_record_has_no_problems(tmp_path: Path, kind: str) -> None:
    report = look(tmp_path, kind, KINDS[kind][2])
    assert (report.records, report.good, report.bad, report.problems) == (1, 1, 0, ())


def test_every_rule_about_a_line_is_broken_by_some_case() -> None:
    tried = {case.values[1] for case in CASES} | {"line-too-long"}  # which has a test of its own
    assert {rule.code for rule in RULES.values() if rule.scope == "line"} == tried


def test_every_rule_says_what_it_wants_and_who_says_so() -> None:
    for rule in RULES.values():
        assert rule.says.endswith(".")
        assert rule.fix.endswith(".")
        assert rule.source


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"reserved-wrod": "off"}, "did you mean 'reserved-word'"),
        ({"reserved-word": "silent"}, "allowed: error, warning, off"),
        ({"qqq": "off"}, "there is no rule 'qqq'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(tmp_path: Path, rules: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        look(tmp_path, "pair", pair(), rules=rules)


def test_rules_of_the_data_set_hold_for_every_look(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", pair("User: hi"))
    data = PreferenceDataset.from_jsonl(path, rules={"reserved-word": "warning"})
    assert data.check().warnings == 1
    assert data.report(rules={"reserved-word": "error"}).errors == 1


def test_a_warning_can_be_made_an_error(tmp_path: Path) -> None:
    report = look(tmp_path, "pair", pair(), pair(), rules={"duplicate-record": "error"})
    assert report.errors == 1


def test_hints_name_what_was_probably_meant(tmp_path: Path) -> None:
    records = [
        changed(pair(), put("chosen", *LAST, 0, "preferenceLabel")),
        changed(pair(), put("human", M, 0, "role")),
        changed(pair(), put("Hello", M, 0, "content")),
        changed(pair(), put("bedrock", "schemaVersoin")),
    ]
    text = str(look(tmp_path, "pair", *records))
    for hint in ("Write preferred.", "Write user.", 'Write [{"text": "Hello"}].', "Did you mean schemaVersion?"):
        assert hint in text


def test_texts_that_only_look_like_reserved_words_pass(tmp_path: Path) -> None:
    record = pair("The user : he; Bots: many; image> and <images>, [EOSX], users: all")
    assert look(tmp_path, "pair", record).problems == ()


def test_tools_of_a_model_without_tools_are_said_once(tmp_path: Path) -> None:
    for record in (tool_chat(), changed(tool_chat(), put([{"toolSpec": {"name": ["x"]}}, 3], "toolConfig", "tools"))):
        write(tmp_path / "data.jsonl", record)
        report = ChatDataset.from_jsonl(tmp_path / "data.jsonl").report()
        named = record["toolConfig"]["tools"][0]["toolSpec"]["name"] != ["x"]
        assert report.counts.get("tool-undeclared", 0) == (not named)
        assert report.counts["content-kind"] == 3

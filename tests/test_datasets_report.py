"""Reading files and reporting on them: places, hashes, amounts, renderings, and files that are none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import changed, chat, drop, image, line, pair, put, tool_chat, video, write

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._lines import Reader
from nova_dpo_sdk.errors import DatasetError, Severity

if TYPE_CHECKING:
    from pathlib import Path

M = "messages"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def codes(report: object) -> list[tuple[int, str]]:
    return [(problem.line, problem.code) for problem in report.problems]


def test_every_bad_line_is_reported_in_one_pass(file: Path) -> None:
    lines = [line(pair()), b"oops\n", line(pair("b")), b"\n", line(changed(pair("c"), drop(M))), line(pair("d"))]
    write(file, *lines)
    report = PreferenceDataset.from_jsonl(file).report(hashed=True)
    assert codes(report) == [(2, "bad-json"), (4, "blank-line"), (5, "missing-key")]
    assert [problem.offset for problem in report.problems] == [
        len(b"".join(lines[:1])), len(b"".join(lines[:3])), len(b"".join(lines[:4])),
    ]  # fmt: skip
    assert (report.records, report.good, report.bad) == (5, 3, 2)
    assert report.errors == 3
    assert report.size == file.stat().st_size
    assert report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_report_may_be_asked_twice(file: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(file, pair(), b"x\n"))
    assert data.report() == data.report()


def test_check_raises_with_findings_and_line_numbers(file: Path) -> None:
    write(file, pair(), b"x\n", b"y\n", pair())
    with pytest.raises(DatasetError) as caught:
        PreferenceDataset.from_jsonl(file).check()
    (finding,) = caught.value.findings
    assert finding.where == "data line 2 $"
    assert finding.value == 2
    assert "2 in all" in finding.message
    assert "2 of 4 records are bad" in str(caught.value)


def test_check_returns_the_report_when_there_are_only_warnings(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, pair(), pair())).check()
    assert report.ok
    assert codes(report) == [(2, "duplicate-record")]


def test_details_are_capped_but_totals_are_true_and_errors_come_first(file: Path) -> None:
    warned = [changed(pair(str(n)), put(1, "extra")) for n in range(50)]
    write(file, *warned, *[b"x\n"] * 7)
    report = PreferenceDataset.from_jsonl(file).report(max_details=10)
    assert len(report.problems) == 10
    assert [problem.severity for problem in report.problems].count(Severity.ERROR) == 7
    assert report.counts == {"unknown-key": 50, "bad-json": 7}
    assert (report.errors, report.warnings) == (7, 50)
    assert {finding.code: finding.where for finding in report.findings()} == {
        "bad-json": "data line 51 $", "unknown-key": "data line 1 $.extra",
    }  # fmt: skip
    assert PreferenceDataset.from_jsonl(file).report(max_details=0).counts == report.counts


def test_the_last_line_needs_no_newline_and_carriage_returns_are_only_noted(file: Path) -> None:
    write(file, line(pair()).rstrip() + b"\r\n", line(pair("b")).rstrip())
    report = PreferenceDataset.from_jsonl(file).check()
    assert (report.records, report.errors, report.warnings) == (2, 0, 0)
    assert report.counts == {"windows-newlines": 1, "no-final-newline": 1}
    assert {problem.severity for problem in report.problems} == {Severity.NOTE}


def test_a_pretty_printed_array_is_named_once(file: Path) -> None:
    file.write_text(json.dumps([pair(), pair("b")], indent=2))
    report = PreferenceDataset.from_jsonl(file).report(hashed=True)
    assert codes(report) == [(1, "json-array")]
    assert report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_array_with_one_element_a_line_is_named_once_too(file: Path) -> None:
    file.write_bytes(b"\n[\n" + b",\n".join(line(pair(str(n))).rstrip() for n in range(5)) + b"\n]\n")
    report = PreferenceDataset.from_jsonl(file).report()
    assert codes(report) == [(1, "blank-line"), (2, "json-array")]


def test_an_array_on_the_first_line_does_not_hide_the_rest(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, [pair()], b"x\n", pair())).report()
    assert codes(report) == [(1, "json-array"), (2, "bad-json")]


def test_only_blank_lines_are_no_data(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, b"\n\n")).report()
    assert report.records == 0
    assert codes(report) == [(1, "blank-line"), (1, "no-records"), (2, "blank-line")]


def test_a_huge_line_is_skipped_in_little_memory(file: Path) -> None:
    with file.open("wb") as stream:
        stream.write(line(pair()))
        for _ in range(40):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\n" + line(pair("after")))
    tracemalloc.start()
    report = PreferenceDataset.from_jsonl(file).report()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(report) == [(2, "line-too-long")]
    assert "40,000,001 bytes" in report.problems[0].message
    assert (report.records, report.good) == (3, 2)
    assert report.problems[0].offset == len(line(pair()))
    assert peak < 32_000_000


def test_a_huge_last_line_without_newline_is_reported_too(file: Path) -> None:
    write(file, pair(), b"x" * 5_000_000)
    assert codes(PreferenceDataset.from_jsonl(file).report()) == [(2, "line-too-long")]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("longest", [5, 20, 10_000])
def test_blocks_give_back_every_byte_in_its_place(file: Path, block: int, longest: int) -> None:
    text = b"one\n\ntwo two two two two two\nthree\r\n" + b"x" * 50 + b"\n\nlast"
    file.write_bytes(text)
    with file.open("rb") as stream:
        reader = Reader(stream, longest=longest, block=block)
        blocks = list(reader.blocks())
    seen = 0
    for item in blocks:
        assert item.offset == seen
        assert item.skipped or item.data == text[seen : seen + len(item.data)]
        assert not (item.skipped and item.data)
        seen += len(item.data) + item.skipped
    assert seen == len(text) == reader.size
    assert reader.sha256 == hashlib.sha256(text).hexdigest()


def test_duplicates_and_swapped_pairs_are_warned_about(file: Path) -> None:
    write(file, pair(), pair("b"), pair(), pair(good="Lyon.", poor="Paris."))
    report = PreferenceDataset.from_jsonl(file).report()
    assert codes(report) == [(3, "duplicate-record"), (4, "swapped-preference")]
    assert "line 1" in report.problems[0].message
    assert "Line 1" in report.problems[1].message


def test_the_same_candidates_in_another_order_are_the_same_record(file: Path) -> None:
    record = pair()
    record[M][3]["candidates"].reverse()
    report = PreferenceDataset.from_jsonl(write(file, pair(), record)).report()
    assert codes(report) == [(2, "duplicate-record")]


def test_an_image_makes_another_record(file: Path) -> None:
    records = [changed(pair(), put(image(f"s3://b/{n}.png"), M, 0, "content", 1)) for n in range(3)]
    assert PreferenceDataset.from_jsonl(write(file, *records)).check().warnings == 0


SEEN = "toolResult", "content", 0, "json"
CALLED = M, 1, "content", 1, "toolUse"
OTHER_TOOLS: dict[str, Any] = {
    "input": put({"city": "Oslo"}, *CALLED, "input"),
    "result": put({"sky": "grey"}, M, 2, "content", 0, *SEEN),
    "declaration": put("Tells it", "toolConfig", "tools", 0, "toolSpec", "description"),
    "id": lambda record: [
        put("t2", *place, "toolUseId")(record) for place in (CALLED, (M, 2, "content", 0, "toolResult"))
    ],
}


@pytest.mark.parametrize("what", OTHER_TOOLS)
def test_what_tools_take_and_give_makes_another_record(file: Path, what: str) -> None:
    write(file, tool_chat(), changed(tool_chat(), OTHER_TOOLS[what]))
    data = ChatDataset.from_jsonl(file, nova2=True)
    assert data.check(rules={"duplicate-record": "error"}).warnings == 0
    assert data.profile().prompts == 2


def test_neither_the_order_of_keys_nor_spaces_make_another_record_of_tools(file: Path) -> None:
    places = (*CALLED, "input"), (M, 2, "content", 0, *SEEN), ("toolConfig", "tools", 0, "toolSpec")
    one = changed(tool_chat(), *(put({"b": [1], "a": "\u00e9"}, *place) for place in places[:2]))
    other = changed(tool_chat(), *(put({"a": "\u00e9", "b": [1]}, *place) for place in places[:2]))
    other["toolConfig"]["tools"][0]["toolSpec"] = dict(reversed(other["toolConfig"]["tools"][0]["toolSpec"].items()))
    write(file, one, json.dumps(other, separators=(" , ", " : ")).encode() + b"\n")
    data = ChatDataset.from_jsonl(file, nova2=True)
    assert codes(data.report()) == [(2, "duplicate-record")]
    assert data.profile().prompts == 1


@pytest.mark.parametrize(
    "place",
    [
        (*CALLED, "input"),
        (M, 2, "content", 0, *SEEN),
        ("toolConfig", "tools", 0, "toolSpec", "inputSchema", "json", "x"),
    ],
)
def test_what_tools_take_and_give_has_a_length(file: Path, place: Any) -> None:
    write(file, changed(tool_chat(), put({"x": "y" * 40_000}, *place)))
    report = ChatDataset.from_jsonl(file, nova2=True).check()
    assert report.lengths == (0,) * 9 + (1,)  # 40,000 bytes are not quite 10 times 1,024 tokens
    assert [each.code for each in report.against(model="nova-lite-2", max_length=8192)] == ["records-too-long"]


def test_three_turns_are_not_one_turn_of_three_texts(file: Path) -> None:
    turns = chat("a", "b")[M] + chat("c", "x")[M]
    merged = [{"role": "user", "content": [{"text": text} for text in "abc"]}, turns[-1]]
    write(file, {M: turns}, {M: merged}, {M: turns}, {M: merged})
    data = ChatDataset.from_jsonl(file)
    assert codes(data.report()) == [(3, "duplicate-record"), (4, "duplicate-record")]
    assert (data.profile().prompts, data.profile().records) == (2, 4)


def test_system_in_some_records_only_is_warned_about(file: Path) -> None:
    write(file, pair(), pair("b"), changed(pair("c"), drop("system")), changed(pair("d"), drop("system")))
    report = PreferenceDataset.from_jsonl(file).report()
    assert codes(report) == [(3, "system-inconsistent")]
    assert "2 with system, 2 with no system" in report.problems[0].message
    assert report.system_records == 2


def test_images_in_some_records_only_is_warned_about(file: Path) -> None:
    write(file, pair(), changed(pair("b"), put(image(), M, 0, "content", 1)))
    report = PreferenceDataset.from_jsonl(file).report()
    assert codes(report) == [(2, "mixed-modalities")]
    assert report.image_records == 1


def test_bad_records_count_for_nothing(file: Path) -> None:
    bad = changed(pair("b"), put(image(format="bmp"), M, 0, "content", 1), drop("system"))
    report = PreferenceDataset.from_jsonl(write(file, pair(), bad)).report()
    assert (report.image_records, report.system_records) == (0, 1)
    assert sum(report.lengths) == 1
    assert report.counts == {"image-format": 1}


def test_lengths_are_counted_in_steps_of_1024_estimated_tokens(file: Path) -> None:
    fixed = len('"Be brief.""Hello""Hello, how can I help?""""Paris."')  # texts count as they stand in the file
    fits = pair("x" * (4096 - fixed))
    over = pair("x" * (4096 - fixed + 1))
    wide = pair("é" * ((4096 - fixed) // 2 + 1))
    report = PreferenceDataset.from_jsonl(write(file, fits, over, wide, pair("x" * 40_000))).report()
    assert report.lengths[:2] == (1, 2)
    assert sum(report.lengths) == 4
    (finding,) = [
        finding
        for finding in report.against(model="nova-lite", max_length=1024, global_batch_size=1)
        if finding.code == "records-too-long"
    ]
    assert finding.value == 3


def test_small_data_are_warned_about_against_a_recipe(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, pair())).report()
    found = report.against(model="nova-lite", max_length=8192, global_batch_size=64)
    assert {finding.code: str(finding.severity) for finding in found} == {
        "few-records": "warning", "fewer-than-a-batch": "warning",
    }  # fmt: skip
    assert all(finding.where == "data" and finding.fix and finding.source for finding in found)


def test_images_meet_the_limits_of_the_recipe(file: Path) -> None:
    write(file, changed(pair(), put(image(), M, 0, "content", 1)))
    report = dataclasses.replace(PreferenceDataset.from_jsonl(file).report(), image_records=20_001, good=20_001)
    found = report.against(model="nova-micro", max_length=32_768, global_batch_size=64)
    assert {finding.code for finding in found} == {"model-text-only", "too-many-image-records", "image-max-length"}
    assert all(finding.is_error for finding in found)
    assert (
        report.against(model="nova-lite", max_length=16_384, global_batch_size=64)[0].code == "too-many-image-records"
    )


def test_pairs_are_refused_for_nova_2(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, pair())).report()
    found = report.against(model="nova-lite-2", max_length=8192, global_batch_size=1)
    assert [finding.code for finding in found if finding.is_error] == ["model-without-dpo"]


def test_features_meet_the_model(file: Path) -> None:
    tools = ChatDataset.from_jsonl(write(file, tool_chat()), nova2=True).check()
    assert tools.features == {"document": 0, "reasoning": 1, "tools": 1, "webp": 0, "webm": 0}
    found = tools.against(model="nova-lite", max_length=8192, global_batch_size=1)
    assert [finding.code for finding in found] == ["model-without-feature"] * 2
    assert tools.against(model="nova-lite-2", max_length=8192, global_batch_size=1) == []
    webm = ChatDataset.from_jsonl(write(file, changed(chat(), put(video(format="webm"), M, 0, "content", 1)))).check()
    assert webm.video_records == 1
    assert webm.against(model="nova-lite", max_length=8192, global_batch_size=1) == []
    assert webm.against(model="nova-lite-2", max_length=8192, global_batch_size=1)[0].is_error


def test_a_report_renders_as_text_json_and_escaped_html(file: Path) -> None:
    write(file, changed(pair(), put("<script>alert(1)</script>", M, 0, "role")), *[b"x\n"] * 40)
    report = PreferenceDataset.from_jsonl(file).report()
    text = str(report)
    assert "role-unknown" in text
    assert "and 21 more" in text
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    plain = json.loads(report.to_json())
    assert plain["counts"] == report.counts
    assert plain["problems"][0]["severity"] == "error"
    assert plain["sha256"] == report.sha256


def test_a_report_pickles(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, b"x\n")).report()
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301 - our own bytes


def test_values_in_messages_are_plain_ascii_and_short(file: Path) -> None:
    nasty = changed(pair(), put("\x1b[31m\u202e\n" + "x" * 5000, M, 0, "role"))
    (problem,) = PreferenceDataset.from_jsonl(write(file, nasty)).report().problems
    assert problem.message.isascii()
    assert problem.message.isprintable()
    assert len(problem.message) < 200


# ------------------------------------------------------------------------------------------- files that are none


def refused(path: Path) -> str:
    data = PreferenceDataset.from_jsonl(path)
    with pytest.raises(DatasetError) as caught:
        data.report()
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.jsonl")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path)


def test_an_empty_file_is_refused(file: Path) -> None:
    file.touch()
    assert "is empty" in refused(file)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refused(tmp_path / "pipe")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "is a socket" in refused(tmp_path / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(file: Path) -> None:
    write(file, pair()).chmod(0)
    assert "may not be read" in refused(file)


def test_a_name_with_a_null_byte_is_refused() -> None:
    with pytest.raises(DatasetError, match="cannot be opened"):
        PreferenceDataset.from_jsonl("a\0b").report()


def test_building_a_data_set_reads_nothing(tmp_path: Path) -> None:
    assert PreferenceDataset.from_jsonl(tmp_path / "none.jsonl").path == tmp_path / "none.jsonl"
    assert ChatDataset.from_jsonl("none.jsonl", nova2=True).nova2
    with pytest.raises(DatasetError, match="pass the file's name"):
        PreferenceDataset(5)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("pairs.jsonl", "pairs.jsonl"),
        ("my pairs (2).jsonl", "my-pairs-2.jsonl"),
        ("data.json", "data.jsonl"),
        ("data.jsonl.gz", "data.jsonl"),
        ("日本.jsonl", "data.jsonl"),
        ("a.b_c-d", "a.b_c-d.jsonl"),
        ("x/y/..jsonl", "data.jsonl"),
    ],
)
def test_a_name_is_legal_for_s3(given: str, name: str) -> None:
    assert PreferenceDataset.from_jsonl(given).name == name


@pytest.mark.parametrize("text", [b'{"a', b'{"a": "\x01"}', b'{"a": 1,', b"{'a': 1}"])
def test_where_a_line_stops_being_json_is_said_once(tmp_path, text):
    (problem,) = PreferenceDataset.from_jsonl(write(tmp_path / "p.jsonl", text + b"\n")).report().problems
    assert " at character " in problem.message
    assert "at at" not in problem.message


def test_what_would_be_accepted_is_worded_in_one_place(tmp_path):
    data = PreferenceDataset.from_jsonl(write(tmp_path / "p.jsonl", pair(), b"x\n"))
    report = data.report()
    (of_a_line,) = [each for each in report.findings() if each.code == "bad-json"]
    (of_all,) = [each for each in report.against() if each.code == "few-records"]
    assert "Allowed" not in str(of_a_line)  # the message and the remedy say it
    of_validation = dataclasses.replace(of_a_line, where=of_a_line.where.replace("data", "validation", 1))
    assert str(of_validation) == str(of_a_line).replace("data line", "validation line", 1)
    assert f" {of_all.accepted} " in str(of_all)
    assert "Allowed" not in str(of_all)
    for place in ("dpo: ", "beta=0.05 replicas=3, beta=0.1 replicas=3: "):  # of a stage, of the trials of a sweep
        for each in (of_a_line, of_all):
            assert dataclasses.replace(each, where=place + each.where).accepted == each.accepted
    assert dataclasses.replace(of_all, where="extra['a: data']").accepted.startswith("Allowed: ")
    field = dataclasses.replace(of_all, where="beta")
    assert f" Allowed: {field.allowed}. " in str(field)

"""`nova-dpo data`."""

from __future__ import annotations

import json

from cli_support import CHATS, PAIRS, make_shell  # noqa: F401 - a fixture
from conftest import chat, pair


def test_the_samples_are_good(shell):
    for path, kind, warnings in ((CHATS, "chat", "0 warnings"), (PAIRS, "preference", "1 warning")):
        told = shell("data", "check", path)
        assert told.code == 0
        assert f"{kind} records, good; 0 errors, {warnings}" in " ".join(
            told.out.split()
        )  # wrapped to the terminal, wherever this is installed


def test_every_broken_rule_is_one_finding_with_its_line_and_fix(shell, write_jsonl):
    good, bad = pair("Why?", "Because.", "No."), pair("User: why?", "Because.", "No.")
    path = write_jsonl("p.jsonl", [good, bad, "{", {**bad, "system": [{"text": "Be kind."}]}])
    told = shell("data", "check", path)
    assert told.code == 1
    assert "error [reserved-word] data line 2 $.messages[0].content[0].text" in told.out
    assert "(2 in all)" in told.out
    assert "error [bad-json] data line 3" in told.out
    assert "1 good and 3 bad" in " ".join(told.out.split())


def test_all_lists_every_problem_by_file_and_line(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [pair("User: why?", "Because.", "No.")] * 3)
    lines = shell("data", "check", path, "--all").out.splitlines()
    assert [line.split(" [")[0] for line in lines if "[reserved-word]" in line] == [
        f"{path}:{n}: error" for n in (1, 2, 3)
    ]


def test_check_answers_in_json(shell, write_jsonl):
    told = shell("data", "check", write_jsonl("p.jsonl", [pair("User: why?", "Because.", "No.")]), "--json")
    assert told.code == 1
    assert told.json["counts"] == {"reserved-word": 1}


def test_the_kind_may_be_given(shell):
    told = shell("data", "check", CHATS, "--kind", "preference")
    assert told.code == 1
    assert "40 preference records" in " ".join(told.out.split())


def test_another_layout_is_named_with_the_command_that_converts_it(shell, write_jsonl):
    path = write_jsonl("t.jsonl", [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}])
    told = shell("data", "check", path)
    assert told.code == 1
    said = " ".join(told.err.split())
    assert "has the layout prompt-chosen-rejected" in said
    assert f"nova-dpo data convert {path} OUT.jsonl" in said


def test_convert_counts_what_it_dropped_and_the_result_is_good(shell, write_jsonl):
    rows = [{"prompt": f"Why {n}?", "chosen": f"Because {n}.", "rejected": "No."} for n in range(5)]
    rows.append({"prompt": "Why?", "chosen": "Same.", "rejected": "Same."})
    told = shell("data", "convert", write_jsonl("t.jsonl", rows), "out.jsonl")
    assert told.code == 0
    assert "6 records read as prompt-chosen-rejected, 5 written" in told.out
    assert "dropped       1" in told.out
    assert len((shell.folder / "out.jsonl").read_text().splitlines()) == 5


def test_convert_shows_one_record_for_each_rule(shell, write_jsonl, tmp_path):
    good = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    equal, blank = good | {"rejected": "Because."}, good | {"rejected": " "}
    path = write_jsonl("p.jsonl", [good, equal, equal, equal, blank, good | {"system": None}])
    told = shell("data", "convert", path, tmp_path / "made.jsonl")
    assert [line.split(":")[0] for line in told.out.splitlines() if "such as" in line] == [
        f"  such as record {number}" for number in (2, 5, 6)
    ]


def test_a_layout_that_nobody_knows_is_met_with_a_list_and_the_command_line(shell, write_jsonl, tmp_path):
    told = shell("data", "convert", write_jsonl("p.jsonl", [{"q": "Why?"}]), tmp_path / "made.jsonl")
    assert told.code == 1
    assert "or pass --layout." in " ".join(told.err.split())
    assert "  helpsteer2: prompt, response_1, response_2, preference_strength" in told.err.splitlines()


def test_chats_are_no_pairs_and_the_option_for_them_is_named(shell, write_jsonl, tmp_path):
    path = write_jsonl("c.jsonl", [{"instruction": "Why?", "output": "Because."}])
    told = shell("data", "convert", path, tmp_path / "made.jsonl", "--kind", "preference")
    assert told.code == 1
    assert "Convert it with --kind chat" in " ".join(told.err.split())


def test_convert_answers_in_json_and_takes_the_chosen_side_for_chats(shell, write_jsonl):
    path = write_jsonl("t.jsonl", [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}])
    told = shell("data", "convert", path, "out.jsonl", "--kind", "chat", "--json")
    assert (told.code, told.json["kind"], told.json["written"]) == (0, "chat", 1)
    record = json.loads((shell.folder / "out.jsonl").read_text())
    assert record["messages"][-1]["content"] == [{"text": "Because."}]


def test_an_unknown_layout_is_refused(shell, write_jsonl):
    path = write_jsonl("t.jsonl", [chat("Why?", "Because.")])
    told = shell("data", "convert", path, "out.jsonl", "--layout", "alpaka")
    assert told.code == 1
    assert "alpaca" in told.err


def test_profile_says_what_data_are_made_of_and_what_suits_them(shell):
    told = shell("data", "profile", PAIRS, "--validation", PAIRS)
    assert told.code == 0
    assert "48" in told.out
    assert "tokens" in told.out


def test_a_profile_of_nothing_is_not_good(shell, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("x\ny\n", encoding="utf-8")
    told = shell("data", "profile", path, "--kind", "preference")
    assert (told.code, "2 lines are no such record" in told.out) == (1, True)


def test_check_says_what_data_are_made_of_in_the_same_pass(shell, tmp_path):
    told, alone = shell("data", "check", PAIRS, "--profile"), shell("data", "profile", PAIRS)
    assert told.code == 0
    assert told.out.endswith(alone.out)
    assert "0 errors" in told.out
    profile = json.loads(shell("data", "check", PAIRS, "--profile", "--json").out)["profile"]
    assert profile == json.loads(shell("data", "profile", PAIRS, "--json").out)
    refused = shell("data", "check", PAIRS, "--profile", "--write-clean", tmp_path / "good.jsonl")
    assert refused.code == 2
    assert "does not go with --write-clean" in refused.err
    refused = shell("data", "check", PAIRS, "--profile", "--format", "sarif")
    assert (refused.code, "does not go with --format sarif" in refused.err) == (2, True)


def test_split_writes_two_files_and_counts_them(shell, tmp_path):
    train, validation = tmp_path / "t.jsonl", tmp_path / "v.jsonl"
    told = shell("data", "split", PAIRS, train, validation, "--fraction", "0.25")
    assert told.code == 0
    count = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (train, validation))
    assert count == 48
    assert "48 records" in told.out
    assert shell("data", "split", PAIRS, train, validation, "--fraction", "1.5").code == 2


def test_data_in_s3_are_fetched_before_they_are_converted(shell):
    told = shell("data", "convert", "s3://acme/d.jsonl", "out.jsonl")
    assert told.code == 1
    assert "s3://acme/d.jsonl is in S3; conversion reads files on this machine" in " ".join(told.err.split())

"""`nova-dpo data` with standard input and output, reports for machines, clean copies, rules, and S3."""

from __future__ import annotations

import gzip
import io
import json
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import CHATS, PAIRS, make_shell  # noqa: F401 - a fixture
from conftest import chat, pair
from dataset_records import changed, document, put, tool_chat

from nova_dpo_sdk.datasets import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Said, Shell

GOOD = [pair(f"Why {n}?", f"Because {n}.", f"No {n}.") for n in range(5)]
RESERVED = pair("User: why?", "Because.", "No.")


def lines(*records: Any) -> bytes:
    return b"".join((r if isinstance(r, str) else json.dumps(r)).encode() + b"\n" for r in records)


@pytest.fixture
def piped(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """Runs a command with bytes on its standard input."""

    def run(data: bytes, *words: object) -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return shell(*words)

    return run


def test_check_reads_standard_input_and_calls_it_by_name(piped):
    told = piped(lines(*GOOD, RESERVED), "data", "check", "-")
    assert told.code == 1
    assert "standard input: 6 preference records, 5 good and 1 bad" in told.out
    assert piped(lines(*GOOD), "data", "check", "-").code == 0


def test_nothing_on_standard_input_is_said(piped, shell, monkeypatch):
    assert "standard input is empty" in piped(b"", "data", "check", "-").err
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in shell("data", "check", "-").err


def test_convert_is_a_filter(piped):
    rows = [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": "?", "chosen": "A", "rejected": "A"},
    ]
    told = piped(lines(*rows), "data", "convert", "-", "-")
    assert told.code == 0
    (record,) = map(json.loads, told.out.splitlines())
    assert record["messages"][-1]["candidates"][0]["content"] == [{"text": "Because."}]
    assert "2 records read as prompt-chosen-rejected, 1 written" in told.err
    assert "standard output: 1 preference record, good" in told.err


def test_a_conversion_that_fails_writes_nothing_to_standard_output(piped):
    told = piped(b"{\n" * 3, "data", "convert", "-", "-")
    assert (told.code, told.out) == (1, "")
    assert "standard input" in told.err
    assert "data.jsonl" not in told.err


def test_profile_and_split_read_standard_input(piped, tmp_path: Path):
    assert "standard input: 5 preference records" in piped(lines(*GOOD), "data", "profile", "-").out
    told = piped(lines(*GOOD), "data", "split", "-", tmp_path / "t", tmp_path / "v", "--fraction", "0.5")
    assert told.code == 0
    assert sum(len((tmp_path / name).read_bytes().splitlines()) for name in "tv") == 5


def test_good_records_and_rejected_ones_are_all(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED, "{", GOOD[0]])
    told = shell("data", "check", path, "--write-clean", "good.jsonl")
    assert told.code == 1
    good = (shell.folder / "good.jsonl").read_bytes().splitlines()
    rejected = [json.loads(row) for row in (shell.folder / "good.rejected.jsonl").read_bytes().splitlines()]
    assert (len(good), [row["line"] for row in rejected]) == (6, [6, 7])
    assert [row["reasons"][0]["code"] for row in rejected] == ["reserved-word", "bad-json"]
    assert "8 records read, 6 written to good.jsonl" in told.err
    assert shell("data", "check", "good.jsonl").code == 0


def test_clean_records_may_go_to_standard_output(piped, shell):
    told = piped(lines(*GOOD, RESERVED), "data", "check", "-", "--write-clean", "-", "--rejected", "bad.jsonl")
    assert told.code == 1
    assert [json.loads(row) for row in told.out.splitlines()] == GOOD
    assert "[reserved-word]" in told.err
    assert len((shell.folder / "bad.jsonl").read_bytes().splitlines()) == 1
    assert piped(b"", "data", "check", "-", "--write-clean", "-").code == 2
    assert piped(b"", "data", "check", "-", "--rejected", "x").code == 2


def test_a_report_for_machines(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED])
    rows = [json.loads(row) for row in shell("data", "check", path, "--format", "jsonl").out.splitlines()]
    assert [row["type"] for row in rows] == ["summary", "problem", "finding"]
    assert (rows[1]["line"], rows[1]["code"], rows[2]["code"]) == (6, "reserved-word", "few-records")
    told = shell("data", "check", path, "--format", "sarif", "-o", "report.sarif")
    assert told.code == 1
    head, *more = told.out.splitlines()
    assert head.startswith(str(path))
    assert all(each.startswith("    ") for each in more), "one line only, broken where the path is long"
    assert "reserved-word" not in told.out
    (run,) = json.loads((shell.folder / "report.sarif").read_text())["runs"]
    assert [each["ruleId"] for each in run["results"]] == ["reserved-word", "few-records"]
    assert run["properties"]["counts"] == {"reserved-word": 1}
    assert [each["code"] for each in shell("data", "check", path, "--json").json["findings"]] == ["few-records"]


def test_a_report_that_cannot_be_written_is_an_error(shell):
    told = shell("data", "check", PAIRS, "-o", shell.folder / "nowhere" / "report.txt")
    assert told.code == 1
    assert "cannot be written: No such file or directory" in told.err


def test_a_report_never_takes_the_place_of_what_it_is_about(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED])
    before = path.read_bytes()
    (shell.folder / "link.jsonl").hardlink_to(path)
    for out in (path, "link.jsonl"):
        told = shell("data", "check", path, "--out", out)
        assert (told.code, "is the source itself" in " ".join(told.err.split())) == (1, True)
    told = shell("data", "check", path, "--write-clean", "good.jsonl", "--out", "good.jsonl")
    assert (told.code, "named twice" in told.err) == (1, True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("source", ["-", "s3"])
def test_a_report_never_takes_the_place_of_the_records(shell, piped, cloud, write_jsonl, source):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED])
    name, more = "-", list[str]()
    if source == "s3":
        name, more = f"s3://{cloud.bucket}/p.jsonl", shell.local(cloud)
        cloud.session().client("s3").put_object(Bucket=cloud.bucket, Key="p.jsonl", Body=path.read_bytes())
    for out, rejected in (("g.jsonl", []), ("g.rejected.jsonl", []), ("r.jsonl", ["--rejected", "r.jsonl"])):
        told = piped(path.read_bytes(), "data", "check", name, *more, "--write-clean", "g.jsonl", *rejected, "-o", out)
        assert (told.code, told.err.startswith(f"error: {out} is named twice")) == (1, True), told
        assert not list(shell.folder.glob("g*"))


def test_a_name_that_is_too_long_is_refused(shell):
    told = shell("data", "check", PAIRS, "--out", "a" * 300)
    assert (told.code, "File name too long. Pass another name" in " ".join(told.err.split())) == (1, True)


def test_rules_are_turned_down_from_the_shell(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED])
    assert shell("data", "check", path).code == 1
    told = shell("data", "check", path, "--rule", "reserved-word=warning", "--rule", "few-records=off")
    assert told.code == 0
    assert "warning [reserved-word]" in told.out
    assert "few-records" not in told.out
    strict = shell("data", "check", path, "--rule", "reserved-word=warning", "--strict")
    assert strict.code == 1


@pytest.mark.parametrize("rule", ["nope", "nope=off", "bad-json=off", "reserved-word=loud"])
def test_a_rule_that_cannot_be_set_is_wrong_usage(shell, rule):
    told = shell("data", "check", PAIRS, "--rule", rule)
    assert told.code == 2
    assert "--rule" in told.err


def test_data_are_held_against_a_recipe(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [pair("Why?" + " why" * 5000, "Because.", "No.")])
    told = shell("data", "check", path, "--recipe", shell.recipe("dpo", max_length="4096"))
    assert told.code == 0
    assert "[records-too-long]" in told.out
    assert "[fewer-than-a-batch]" in told.out


def test_data_for_nova_2_are_a_kind(shell, write_jsonl):
    reasoned = chat("Why?", "Because.")
    reasoned["messages"][1]["content"].insert(0, {"reasoningContent": {"reasoningText": {"text": "Let me think."}}})
    path = write_jsonl("c.jsonl", [reasoned])
    assert shell("data", "check", path, "--kind", "chat").code == 1
    assert shell("data", "check", path, "--kind", "chat-nova-2").code == 0


def test_the_option_for_what_only_nova_2_reads_is_named(shell, write_jsonl, tmp_path):
    path, copy = write_jsonl("tools.jsonl", [tool_chat()]), tmp_path / "copy.jsonl"
    for told in (shell("data", "check", path), shell("data", "convert", path, copy)):
        said = " ".join(told.out.split())
        assert told.code == 1
        assert "train Nova 2 Lite, which reads it (nova-dpo data: --kind chat-nova-2)" in said
        assert "Source: AWS sample data set validator for Nova." in said.partition("[unknown-key]")[0]
    path = write_jsonl(
        "p.jsonl", [changed(pair("Why?", "Because.", "No."), put(document(), "messages", 0, "content", 1))]
    )
    assert "Nova 2" not in shell("data", "check", path).out  # has no DPO
    path = write_jsonl("c.jsonl", [changed(chat("Why?", "Because."), put(document(), "messages", 1, "content", 1))])
    assert "Nova 2" not in shell("data", "check", path).out  # nor documents in an answer


def test_data_are_checked_for_what_the_recipe_trains_on(shell, write_jsonl, tmp_path):
    tools, nova2 = write_jsonl("tools.jsonl", [tool_chat()]), tmp_path / "nova2.yaml"
    assert shell("recipe", "new", "--technique", "sft", "--model", "nova-lite-2", "-o", nova2).code == 0
    told = shell("data", "check", tools, "--recipe", nova2)
    assert told.code == 0
    assert "1 chat record, good; 0 errors" in " ".join(told.out.split())
    sft, dpo = shell.recipe("sft"), shell.recipe("dpo")
    for data, recipe, rule in (
        (PAIRS, sft, "candidates-misplaced"),
        (CHATS, dpo, "candidates-missing"),
        (tools, sft, "content-kind"),
    ):
        told = shell("data", "check", data, "--recipe", recipe)
        assert told.code == 1
        assert f"error [{rule}]" in told.out
    told = shell("data", "check", PAIRS, "--recipe", sft, "--kind", "preference")
    assert told.code == 2
    assert "--kind preference does not go with" in told.err
    other = write_jsonl("t.jsonl", [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}])
    assert "data convert" in shell("data", "check", other, "--recipe", dpo).err


def test_all_formats_count_what_concerns_the_whole_file(shell, tmp_path):
    recipe = shell.recipe("dpo")
    few = ["--rule", "few-records=error", "--recipe", recipe]
    told = shell("data", "check", PAIRS, *few)
    assert told.code == 1
    assert "1 error, 1 warning" in " ".join(told.out.split())
    whole = shell("data", "check", PAIRS, *few, "--json").json
    summary = json.loads(shell("data", "check", PAIRS, *few, "--format", "jsonl").out.splitlines()[0])
    made = shell("data", "convert", PAIRS, tmp_path / "copy.jsonl", "--json").json
    assert [(each["errors"], each["warnings"]) for each in (whole, summary, made)] == [(1, 1), (1, 1), (0, 1)]
    assert (whole["bad"], whole["counts"]) == (0, {})


def test_the_rules_are_listed(shell):
    codes = [each["code"] for each in shell("data", "rules", "--json").json]
    assert codes == list(RULES)
    table = shell("data", "rules", "--format", "markdown").out.splitlines()
    assert [row.split("`")[1] for row in table[2:]] == codes
    assert all(row.count("|") - row.count("\\|") == 6 for row in table)
    assert all(f"[{code}]" in shell("data", "rules").out for code in codes)


def test_no_file_is_a_file_that_cannot_be_read(shell, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("s")
    try:
        for name, said in (("folder", "is a directory"), ("s", "is a socket"), ("gone", "does not exist")):
            for command in ("check", "profile", "upload"):
                more = ["--output", "s3://acme-nova/runs", "--account", "123456789012"] if command == "upload" else []
                told = shell("data", command, name, *more)
                assert told.code == 1
                assert said in told.err
    finally:
        listener.close()


def test_upload_prints_where_the_data_are_and_sends_them_once(shell, cloud, piped):
    where = ["--output", f"s3://{cloud.bucket}/runs", *shell.local(cloud)]
    told = shell("data", "upload", PAIRS, *where)
    assert told.code == 0, told.err
    uri = told.out.strip()
    assert uri.startswith(f"s3://{cloud.bucket}/runs/datasets/")
    assert uri.endswith("/preferences.jsonl")
    assert "48 preference records, good" in " ".join(told.err.split())
    assert shell("data", "upload", PAIRS, *where, "--json").json["uri"] == uri
    told = piped(lines(*GOOD), "data", "upload", "-", *where, "--name", "pairs.jsonl")
    assert told.out.strip().endswith("/pairs.jsonl")
    told = piped(lines(*GOOD), "data", "upload", "-", *where)
    assert (told.code, told.out.strip().rpartition("/")[2]) == (0, "data.jsonl")
    assert "standard input: 5 preference records, good" in " ".join(told.err.split())


def test_upload_of_a_prefix_prints_the_prefix(shell, cloud, write_jsonl):
    where = ["--output", f"s3://{cloud.bucket}/runs", *shell.local(cloud)]
    for path in (PAIRS, write_jsonl("more.jsonl", GOOD)):
        assert shell("data", "upload", path, *where).code == 0
    prefix = f"s3://{cloud.bucket}/runs/datasets/"
    told = shell("data", "upload", prefix, *where)
    assert (told.code, told.out.strip()) == (0, prefix)


def objects(cloud):
    return cloud.session().client("s3").list_objects_v2(Bucket=cloud.bucket).get("Contents", [])


def test_bad_data_are_not_uploaded(shell, cloud, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, RESERVED])
    where = ["--output", f"s3://{cloud.bucket}/runs", *shell.local(cloud)]
    told = shell("data", "upload", path, *where)
    assert (told.code, told.out) == (1, "")
    assert "[reserved-word]" in told.err
    assert shell("data", "upload", path, *where, "--rule", "reserved-word=warning").code == 0
    count = len(objects(cloud))
    told = shell("data", "upload", path, *where, "--rule", "reserved-word=off", "--rule", "few-records=error")
    assert (told.code, told.out, len(objects(cloud))) == (1, "", count)
    assert "1 error of the data as a whole" in " ".join(told.err.split())
    assert "[few-records]" in told.err
    told = shell("data", "upload", path, "--output", "s3://no-such-bucket-here/x", *shell.local(cloud))
    assert (told.code, "or create the bucket" in " ".join(told.err.split())) == (1, True)
    assert shell("data", "upload", path, "--output", "not-s3", *shell.local(cloud)).code == 1


def test_data_in_s3_are_checked_where_they_are(shell, cloud):
    where = shell.local(cloud)
    uri = shell("data", "upload", CHATS, "--output", f"s3://{cloud.bucket}/runs", *where).out.strip()
    told = shell("data", "check", uri, *where)
    assert told.code == 0, told.err
    assert f"{uri}: 40 chat records, good" in " ".join(told.out.split())
    told = shell("data", "check", f"s3://{cloud.bucket}/runs/datasets", *where, "--write-clean", "copy.jsonl")
    assert told.code == 0, told.err
    assert len((shell.folder / "copy.jsonl").read_bytes().splitlines()) == 40
    told = shell("data", "check", f"s3://{cloud.bucket}/nothing", *where)
    assert told.code == 1
    assert "is no object" in told.err


def test_compressed_data_in_s3_are_checked_as_such(shell, cloud):
    where = shell.local(cloud)
    packed = gzip.compress(lines(*GOOD), mtime=ord("\n"))  # what is packed may have newlines in it, too
    for name in ("d.jsonl.gz", "p/d.ndjson.gz"):
        cloud.session().client("s3").put_object(Bucket=cloud.bucket, Key=name, Body=packed)
    for uri in (f"s3://{cloud.bucket}/d.jsonl.gz", f"s3://{cloud.bucket}/p"):
        told = shell("data", "check", uri, *where)
        assert (told.code, told.err, "[compressed]" in told.out) == (1, "", True)
        assert "5 preference records, good, in a file that is not" in " ".join(told.out.split())


def test_a_split_goes_to_files(shell):
    told = shell("data", "split", PAIRS, "-", "v.jsonl")
    assert (told.code, "TRAIN and VALIDATION are files" in told.err) == (2, True)
    assert not (shell.folder / "-").exists()


def test_remedies_are_commands_in_a_shell(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [*GOOD, "broken"])
    assert "run nova-dpo data check)" in " ".join(shell("data", "profile", path).out.split())
    told = shell("data", "split", path, "t.jsonl", "v.jsonl")
    assert (told.code, "Run nova-dpo data check to see" in " ".join(told.err.split())) == (1, True)
    told = shell("data", "split", write_jsonl("one.jsonl", GOOD[:1]), "t.jsonl", "v.jsonl")
    assert "at --fraction 0.05; nothing was written. Prompts are few: pass another --fraction." in " ".join(
        told.err.split()
    )


def test_a_missing_turn_is_counted_in_words(shell, write_jsonl):
    record = {"messages": GOOD[0]["messages"][:1]}
    assert "There is 1 message. Add the missing turn." in shell("data", "check", write_jsonl("p.jsonl", [record])).out


def test_a_conversion_says_of_the_whole_file_what_a_check_would_say(shell, cloud, write_jsonl):
    path = write_jsonl("p.jsonl", GOOD)
    told = shell("data", "convert", path, "out.jsonl")
    assert (told.code, "[few-records]" in told.out, "0 errors, 1 warning" in told.out) == (0, True, True)
    assert told.out.splitlines()[1:] == shell("data", "check", "out.jsonl").out.splitlines()
    found = shell("data", "convert", path, "out.jsonl", "--json").json["findings"]
    assert [each["code"] for each in found] == ["few-records"]
    where = ["--output", f"s3://{cloud.bucket}/runs", *shell.local(cloud)]
    assert "[few-records]" in shell("data", "upload", path, *where).err
    assert "[few-records]" not in shell("data", "upload", path, *where, "--rule", "few-records=off").err


def test_good_records_in_a_file_that_cannot_be_used_are_told_apart(shell, write_jsonl):
    path = write_jsonl("p.jsonl", GOOD)
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    told = shell("data", "check", path.with_suffix(".jsonl.gz"))
    assert (told.code, "5 preference records, good, in a file that is not; 1 error" in " ".join(told.out.split())) == (
        1,
        True,
    )

"""Compressed files, several processes, cleaning, and renderings for machines."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dataset_records import changed, drop, image, line, pair, put, write

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._clean import Sorter
from nova_dpo_sdk.datasets._scan import Keys
from nova_dpo_sdk.datasets._workers import scan_in_parts
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, Severity

M = "messages"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


# --------------------------------------------------------------------------------------------------- compressed


def expect_unpacked(path: Path, packed: bytes) -> None:
    path.write_bytes(packed)
    report = PreferenceDataset.from_jsonl(path).report(hashed=True)
    assert (report.records, report.bad) == (3, 1)
    assert report.counts == {"compressed": 1, "bad-json": 1}
    assert (report.size, report.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())
    assert PreferenceDataset.from_jsonl(path).report(rules={"compressed": "off"}).errors == 1


LINES = line(pair()) + b"x\n" + line(pair("b"))


def test_gzip_is_unpacked_told_and_hashed_as_it_is(file: Path) -> None:
    expect_unpacked(file, gzip.compress(LINES))


def test_gzip_of_several_members_is_read_to_its_end(file: Path) -> None:
    expect_unpacked(file, gzip.compress(LINES[:100]) + gzip.compress(LINES[100:]))


def test_zstd_is_unpacked_told_and_hashed_as_it_is(file: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    expect_unpacked(file, zstandard.compress(LINES))


@pytest.mark.parametrize("cut", [20, -4])
def test_a_cut_off_gzip_is_refused_with_its_path(file: Path, cut: int) -> None:
    file.write_bytes(gzip.compress(LINES)[:cut])
    with pytest.raises(DatasetError, match=r"data\.jsonl is gzip that cannot be unpacked"):
        PreferenceDataset.from_jsonl(file).report()


def test_a_damaged_zstd_is_refused_with_its_path(file: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(LINES))
    packed[len(packed) // 2] ^= 0xFF
    file.write_bytes(packed)
    with pytest.raises(DatasetError, match=r"data\.jsonl is zstd that cannot be unpacked"):
        PreferenceDataset.from_jsonl(file).report()


# --------------------------------------------------------------------------------------------- several processes


def many(count: int) -> list[Any]:
    """Good records and, here and there, every sort of trouble."""
    records: list[Any] = [pair(f"Question {number}? " + "word " * 100) for number in range(count)]
    for number in range(50, count, 211):
        records[number] = b"broken\r\n"
        records[number + 1] = changed(records[number + 1], put(1, "extra"))
        records[number + 2] = records[7]
        records[number + 3] = changed(records[number - 1], lambda record: record[M][3]["candidates"].reverse())
        records[number + 4] = pair(f"Question {number + 5}? " + "word " * 100, good="Lyon.", poor="Paris.")
        records[number + 5] = b"\n"
    records[-3] = changed(records[-3], drop("system"))
    records[-2] = changed(records[-2], put(image(), M, 0, "content", 1))
    return records


@pytest.mark.parametrize("workers", [2, 3])
def test_several_processes_find_the_same(file: Path, workers: int) -> None:
    data = PreferenceDataset.from_jsonl(write(file, *many(4000)))
    assert file.stat().st_size > 3_000_000
    alone = data.report(workers=1)
    assert set(alone.counts) >= {"duplicate-record", "bad-json", "unknown-key", "blank-line", "system-inconsistent"}
    assert data.report(workers=workers) == alone
    assert data.report(max_details=5, workers=workers) == data.report(max_details=5)


def test_keys_go_to_another_process_whole_or_not_at_all(tmp_path: Path) -> None:
    keys, path = Keys(), tmp_path / "keys"
    keys.add([5, 2**64 - 1, 7], [2, 4, 7], iter([0, 100, 2**40]))
    with path.open("wb") as stream:
        keys.write(stream)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with path.open("rb") as stream:
            if size == len(whole):
                assert Keys.read(stream) == keys
            else:
                with pytest.raises(EOFError):
                    Keys.read(stream)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n ", b"\n\n"])
def test_a_last_line_without_a_line_feed_is_noted_by_any_number_of_processes(file: Path, end: bytes) -> None:
    whole = write(file, *many(3000)).read_bytes().rstrip(b"\n") + end
    file.write_bytes(whole)
    last, missing = whole.rfind(b"\n") + 1, not whole.endswith(b"\n")
    data = PreferenceDataset.from_jsonl(file)
    alone = data.report(workers=1)
    assert all(data.report(workers=workers) == alone for workers in (2, 3))
    assert alone.counts.get("no-final-newline", 0) == missing
    if missing:
        note = alone.firsts["no-final-newline"]
        assert (note.severity, note.line, note.offset) == (Severity.NOTE, 1 + whole.count(b"\n"), last)


def test_a_compressed_file_may_lack_the_last_line_feed_too(file: Path) -> None:
    whole = write(file, *[pair(str(number)) for number in range(1500)]).read_bytes().rstrip(b"\n")
    plain = PreferenceDataset.from_jsonl(file).report()
    assert plain.counts == {}
    file.write_bytes(gzip.compress(whole))
    packed = PreferenceDataset.from_jsonl(file).report()
    assert packed.counts == {"compressed": 1, "no-final-newline": 1}
    file.write_bytes(whole)
    assert packed.firsts["no-final-newline"] == PreferenceDataset.from_jsonl(file).report().firsts["no-final-newline"]


def test_a_missing_line_feed_is_no_reason_to_stop_and_cleaning_adds_it(file: Path) -> None:
    file.write_bytes(write(file, pair(), pair("b")).read_bytes().rstrip(b"\n"))
    data = PreferenceDataset.from_jsonl(file)
    assert data.check().ok
    cleaned = data.write_clean(file.with_name("clean.jsonl"))
    assert cleaned.dataset.path.read_bytes() == file.read_bytes() + b"\n"
    assert cleaned.dataset.report().counts == {}
    assert data.report(rules={"no-final-newline": "off"}).counts == {}
    assert not data.report(rules={"no-final-newline": "error"}).ok


def test_an_array_is_named_once_by_several_processes_too(file: Path) -> None:
    file.write_text(json.dumps(many(10)[:1] * 4000, indent=1))
    data = PreferenceDataset.from_jsonl(file)
    assert data.report(workers=2) == data.report(workers=1)
    assert data.report(workers=2).counts == {"json-array": 1}


def test_a_small_file_is_read_by_one_process_whatever_is_asked(file: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(file, pair()))
    assert data.report(workers=4) == data.report()


def test_a_file_that_another_takes_the_place_of_is_not_reported_in_part(file: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(file, *[pair()] * 8000))
    with data.open() as stream:
        write(file.with_name("other.jsonl"), pair()).replace(file)
        for gentle in (False, True):
            with pytest.raises(DatasetError, match="changed while it was read"):
                scan_in_parts(stream, replace(data._order(10, None), gentle=gentle), 2)


@pytest.mark.parametrize("workers", [0, -1, True, "2", 1.5])
def test_a_number_of_processes_that_is_none_is_refused(file: Path, workers: Any) -> None:
    with pytest.raises(ConfigurationError, match="workers is"):
        PreferenceDataset.from_jsonl(write(file, pair())).report(workers=workers)


def test_a_process_that_dies_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    data = PreferenceDataset.from_jsonl(write(file, *many(4000)))
    with pytest.raises(DatasetError, match=r"ended with code 1 and no answer.*workers=1"):
        data.report(workers=2)


# ------------------------------------------------------------------------------------------------------ cleaning


def test_good_lines_are_written_and_bad_ones_kept_beside_them_with_reasons(tmp_path: Path, file: Path) -> None:
    worse = changed(pair("c"), drop(M, 0, "role"), put("x", M, 3, "candidates", 0, "preferenceLabel"))
    write(file, pair(), b"x\xff\n", line(pair("b")).rstrip() + b"\r\n", b"\n", worse, line(pair("d")).rstrip())
    done = PreferenceDataset.from_jsonl(file).write_clean(tmp_path / "clean.jsonl")
    assert (done.read, done.written, done.rejected, done.blank) == (5, 3, 2, 1)
    assert done.dataset.path.read_bytes() == line(pair()) + line(pair("b")) + line(pair("d"))
    assert done.dataset.check().ok
    assert done.rejected_path == tmp_path / "clean.rejected.jsonl"
    entries = [json.loads(entry) for entry in done.rejected_path.read_text().splitlines()]
    assert [entry["line"] for entry in entries] == [2, 5]
    assert entries[0]["record"] == "x\\xff"
    assert json.loads(entries[1]["record"]) == worse
    assert [reason["code"] for reason in entries[1]["reasons"]] == ["missing-key", "label-unknown"]
    assert all(reason["fix"] and reason["path"] and reason["message"] for reason in entries[1]["reasons"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.jsonl", "clean.rejected.jsonl", "data.jsonl"]


def test_a_clean_file_leaves_no_sidecar(tmp_path: Path, file: Path) -> None:
    done = PreferenceDataset.from_jsonl(write(file, pair())).write_clean(tmp_path / "clean.jsonl")
    assert (done.written, done.rejected) == (1, 0)
    assert not done.rejected_path.exists()


def test_repeats_are_rejected_when_the_rule_says_so(tmp_path: Path, file: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(file, *[pair(str(number % 3)) for number in range(10)]))
    done = data.write_clean(tmp_path / "a.jsonl", rejected=tmp_path / "b.jsonl", rules={"duplicate-record": "error"})
    assert (done.written, done.rejected, done.read) == (3, 7, 10)
    assert done.dataset.report().counts == {}
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 7


def test_a_line_too_long_to_hold_is_noted_without_its_text(tmp_path: Path, file: Path) -> None:
    write(file, pair(), b"x" * 5_000_000 + b"\n", pair("b"))
    done = PreferenceDataset.from_jsonl(file).write_clean(tmp_path / "clean.jsonl")
    assert (done.read, done.written, done.rejected) == (3, 2, 1)
    (entry,) = map(json.loads, done.rejected_path.read_text().splitlines())
    assert (entry["line"], entry["record"], entry["reasons"][0]["code"]) == (2, None, "line-too-long")


@pytest.mark.parametrize("content", [b"x\n", b"[\n{}\n]\n"])
def test_nothing_is_written_when_nothing_is_good(tmp_path: Path, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    (tmp_path / "clean.jsonl").write_text("kept")
    with pytest.raises(DatasetError, match=r"[Nn]othing was written"):
        PreferenceDataset.from_jsonl(file).write_clean(tmp_path / "clean.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.jsonl", "data.jsonl"]
    assert (tmp_path / "clean.jsonl").read_text() == "kept"


@pytest.mark.parametrize("content", [[pair(), b"[]\n", pair("b")], [b"[]\n", pair(), pair("b")]])
def test_an_array_among_the_records_is_rejected_alone(tmp_path: Path, file: Path, content: list[Any]) -> None:
    done = PreferenceDataset.from_jsonl(write(file, *content)).write_clean(tmp_path / "clean.jsonl")
    assert (done.read, done.written, done.rejected) == (3, 2, 1)
    assert done.dataset.path.read_bytes() == line(pair()) + line(pair("b"))


def test_arrays_alone_are_no_good_records_and_one_is_the_file(tmp_path: Path, file: Path) -> None:
    for content, said in ((b"[]\n[]\n", "has no good record"), (b"[{}]\n", "is a JSON array")):
        with pytest.raises(DatasetError, match=said):
            PreferenceDataset.from_jsonl(write(file, content)).write_clean(tmp_path / "clean.jsonl")


def test_windows_newlines_reject_no_record(tmp_path: Path, file: Path) -> None:
    lines = [line(pair(text)).replace(b"\n", b"\r\n") for text in "ab"]
    data = PreferenceDataset.from_jsonl(write(file, *lines), rules={"windows-newlines": "error"})
    done = data.write_clean(tmp_path / "clean.jsonl")
    assert (done.written, done.rejected, done.report.ok) == (2, 0, False)
    assert done.dataset.check().ok


def test_a_file_is_not_cleaned_onto_itself(file: Path) -> None:
    with pytest.raises(DatasetError, match="is the source itself"):
        PreferenceDataset.from_jsonl(write(file, pair())).write_clean(file)


def test_gzip_is_cleaned_into_a_plain_file(tmp_path: Path, file: Path) -> None:
    file.write_bytes(gzip.compress(LINES))
    done = PreferenceDataset.from_jsonl(file).write_clean(tmp_path / "clean.jsonl")
    assert (done.written, done.rejected) == (2, 1)
    assert done.dataset.check().ok


def test_a_clean_data_set_keeps_its_kind_and_rules(tmp_path: Path, file: Path) -> None:
    record = {M: [pair()[M][0], pair()[M][1]]}
    data = ChatDataset.from_jsonl(write(file, record), nova2=True, rules={"unknown-key": "off"})
    done = data.write_clean(tmp_path / "clean.jsonl")
    assert done.dataset == ChatDataset.from_jsonl(tmp_path / "clean.jsonl", nova2=True, rules={"unknown-key": "off"})
    assert str(done) == "1 record read, 1 written, 0 rejected"


# ---------------------------------------------------------------------------------------------------- renderings


def test_a_report_renders_as_lines(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, pair(), b"x\n", b"y\n")).report()
    summary, *problems = map(json.loads, report.to_jsonl().splitlines())
    assert (summary["type"], summary["kind"], summary["records"]) == ("summary", "preference", 3)
    assert [(problem["type"], problem["line"]) for problem in problems] == [("problem", 2), ("problem", 3)]


def test_a_name_that_is_no_text_is_an_address_of_bytes_in_sarif(file: Path) -> None:
    report = PreferenceDataset.from_jsonl(write(file, b"x\n")).report().of(Path(os.fsdecode(b"cl\xe9.jsonl")))
    (run,) = json.loads(report.to_sarif())["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "cl%E9.jsonl"


def test_a_report_renders_as_sarif(tmp_path: Path) -> None:
    path = write(tmp_path / "my data.jsonl", changed(pair(), put(1, "extra")), b"x\n", b"y\n")
    sarif = json.loads(PreferenceDataset.from_jsonl(path).report().to_sarif())
    (run,) = sarif["runs"]
    assert sarif["version"] == "2.1.0"
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert set(rules) == {"unknown-key", "bad-json"}
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"].endswith("/my%20data.jsonl")
    assert [result["level"] for result in run["results"]] == ["warning", "error", "error"]
    assert run["results"][1]["locations"][0]["physicalLocation"]["region"]["startLine"] == 2


def test_a_full_disk_under_a_cleaning_is_not_taken_for_a_fault_of_reading():
    class Full(io.BytesIO):
        def write(self, _, /):
            raise OSError(28, "No space left on device")

    with pytest.raises(DatasetError, match="cannot be written: No space left"):
        Sorter(Full(), Full()).take([b"{}"], 1, [])

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import chat, line, pair, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova_dpo_sdk import ChatDataset, PreferenceDataset
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def many(count: int = 400) -> list[dict[str, Any]]:
    return [pair(f"Question {n}?", f"Good {n}.", f"Poor {n}.") for n in range(count)]


def split(path: Path, *records: Any, fraction: float = 0.2, **options: Any) -> Any:
    data = PreferenceDataset.from_jsonl(write(path / "all.jsonl", *records))
    return data.split(path / "train.jsonl", path / "val.jsonl", fraction=fraction, **options)


def lines_of(path: Path) -> set[bytes]:
    return set(path.read_bytes().splitlines())


def test_every_record_goes_to_exactly_one_side(tmp_path: Path) -> None:
    done = split(tmp_path, *many())
    train, held = lines_of(done.train.path), lines_of(done.validation.path)
    assert train | held == lines_of(tmp_path / "all.jsonl")
    assert not train & held
    assert (done.read, done.train_records, done.validation_records) == (400, len(train), len(held))
    assert 0.12 < len(held) / 400 < 0.28
    assert done.train.check().records == done.train_records
    assert "400 records" in str(done)


def test_the_same_prompt_never_stands_on_both_sides(tmp_path: Path) -> None:
    records = [pair(f"Question {n % 40}?", f"Good {n}.", f"Poor {n}.") for n in range(400)]
    done = split(tmp_path, *records)
    assert done.train.profile(done.validation).overlap.shared == 0
    asked = [{json.loads(each)["messages"][2]["content"][0]["text"] for each in lines_of(side.path)}
             for side in (done.train, done.validation)]  # fmt: skip
    assert not asked[0] & asked[1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), fraction=st.floats(0.1, 0.9), dropped=st.integers(0, 30))
def test_where_a_record_goes_does_not_depend_on_the_others(
    tmp_path: Path, seed: int, fraction: float, dropped: int
) -> None:
    records = many(120)
    before = split(tmp_path, *records, fraction=fraction)
    held = lines_of(before.validation.path)
    random.Random(seed).shuffle(records)  # noqa: S311 - shuffles a test
    after = split(tmp_path, *records[dropped:], fraction=fraction)
    assert lines_of(after.validation.path) == held & lines_of(tmp_path / "all.jsonl")


def test_spelling_of_the_json_does_not_move_a_record(tmp_path: Path) -> None:
    records = many(100)
    done = split(tmp_path, *records)
    spelled = [json.dumps(each, indent=None, ensure_ascii=True, sort_keys=True).encode() + b"\n" for each in records]
    again = split(tmp_path, *spelled)
    assert (again.train_records, again.validation_records) == (done.train_records, done.validation_records)


def test_another_salt_draws_another_split(tmp_path: Path) -> None:
    first = lines_of(split(tmp_path, *many()).validation.path)
    second = lines_of(split(tmp_path, *many(), salt="again").validation.path)
    assert first != second
    assert lines_of(split(tmp_path, *many()).validation.path) == first


def test_lines_are_copied_byte_for_byte_and_blank_ones_left_out(tmp_path: Path) -> None:
    odd = [line(each).rstrip(b"\n") + b" \r\n" for each in many(50)]
    odd[-1] = odd[-1].rstrip(b"\r\n")
    done = split(tmp_path, b"\xef\xbb\xbf", *odd[:25], b"\n  \n", *odd[25:])
    copied = done.train.path.read_bytes() + done.validation.path.read_bytes()
    assert sorted(copied.split(b"\n")) == sorted([*b"".join(odd).split(b"\n"), b""])
    assert done.read == 50


def test_chats_split_by_everything_before_the_answer(tmp_path: Path) -> None:
    records = [chat(f"Question {n % 30}?", f"Answer {n}.") for n in range(120)]
    data = ChatDataset.from_jsonl(write(tmp_path / "all.jsonl", *records), nova2=True)
    done = data.split(tmp_path / "train.jsonl", tmp_path / "val.jsonl", fraction=0.3)
    assert done.train_records + done.validation_records == 120
    assert done.validation_records % 4 == 0
    assert done.train.nova2


def test_a_line_without_a_prompt_stops_the_split_and_leaves_old_files(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("old")
    for bad in (b'{"messages": 3}\n', b"nonsense\n", line(chat()), b'"x"\n', b'{"messages": []}\n'):
        with pytest.raises(DatasetError, match="line 3 is no preference record"):
            split(tmp_path, *many(2), bad, *many(20))
        assert (tmp_path / "train.jsonl").read_text() == "old"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["all.jsonl", "train.jsonl"]


def test_a_side_without_records_is_an_error(tmp_path: Path) -> None:
    for fraction, name in ((0.001, "validation"), (0.999, "training")):
        with pytest.raises(DatasetError, match=f"would go to {name}"):
            split(tmp_path, *many(3), fraction=fraction)
    with pytest.raises(DatasetError, match="has no records"):
        split(tmp_path, b"\n\n")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan"), True])
def test_a_fraction_lies_between_none_and_all(tmp_path: Path, fraction: Any) -> None:
    with pytest.raises(ConfigurationError, match="above 0 and below 1"):
        split(tmp_path, *many(3), fraction=fraction)


def test_files_are_never_written_over_each_other(tmp_path: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(tmp_path / "all.jsonl", *many(20)))
    with pytest.raises(DatasetError, match="is the source itself"):
        data.split(tmp_path / "all.jsonl", tmp_path / "val.jsonl")
    with pytest.raises(DatasetError, match="named twice"):
        data.split(tmp_path / "a.jsonl", tmp_path / "x" / ".." / "a.jsonl")
    with pytest.raises(DatasetError, match="is a directory"):
        data.split(tmp_path, tmp_path / "val.jsonl")
    with pytest.raises(DatasetError, match="cannot be written"):
        data.split(tmp_path / "a.jsonl", tmp_path / "gone" / "val.jsonl", fraction=0.5)
    assert [each.name for each in tmp_path.iterdir()] == ["all.jsonl"]

"""Public demonstration files of LLaMA-Factory and others, read from the folder that NOVA_DPO_TEST_DATA names."""

import json
import os
from pathlib import Path

import pytest
from convert_support import read_lines

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._convert import convert_chats, convert_preferences, detect_layout

DATA = Path(os.environ.get("NOVA_DPO_TEST_DATA", "absent"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="NOVA_DPO_TEST_DATA names no folder")

PAIRS = {
    "dpo_en_demo.json": ("sharegpt-ranking", 300, 1),
    "dpo_zh_demo.json": ("sharegpt-ranking", 300, 1),
    "v1_dpo_demo.jsonl": ("chosen-rejected-messages", 10, 0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_real_pairs_become_valid_records(tmp_path, name):
    layout, read, reserved = PAIRS[name]
    result = convert_preferences(DATA / name, tmp_path / "made.jsonl")
    assert (result.layout, result.read) == (layout, read)
    assert result.dropped == ({"reserved-word": reserved} if reserved else {})
    assert PreferenceDataset.from_jsonl(result.path).report().errors == 0


@pytest.mark.parametrize("name", [*PAIRS, "alpaca_en_demo.json"])
def test_real_data_become_valid_chats(tmp_path, name):
    result = convert_chats(DATA / name, tmp_path / "made.jsonl")
    assert result.read == result.written + sum(result.dropped.values())
    assert ChatDataset.from_jsonl(result.path).report().errors == 0


def test_every_text_of_a_real_file_arrives_unchanged(tmp_path):
    source = json.loads((DATA / "dpo_en_demo.json").read_text(encoding="utf-8"))
    result = convert_preferences(DATA / "dpo_en_demo.json", tmp_path / "made.jsonl")
    gone = {detail.record for detail in result.details}
    kept = [record for number, record in enumerate(source, 1) if number not in gone]
    for record, made in zip(kept, read_lines(result.path), strict=True):
        texts = [item["text"] for item in made.get("system", [])]
        texts += [turn["content"][0]["text"] for turn in made["messages"][:-1]]
        texts += [side["content"][0]["text"] for side in made["messages"][-1]["candidates"]]
        wanted = [turn["value"] for turn in record["conversations"]]
        assert texts == [*wanted, record["chosen"]["value"], record["rejected"]["value"]]


def test_the_layout_of_a_real_file_is_told_from_its_keys():
    assert detect_layout(DATA / "alpaca_en_demo.json") == "alpaca"

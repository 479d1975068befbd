"""Reports for machines: JSON Lines and SARIF, and the rules as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from dataset_records import changed, line, pair, put, write

from nova_dpo_sdk import DPORecipe, NovaModel, PreferenceDataset
from nova_dpo_sdk.datasets import RULES
from nova_dpo_sdk.datasets._renderings import _uri, rules_as_markdown
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets import Report

M = "messages"
REQUIRED: dict[str, set[str]] = {
    "log": {"version", "runs"},
    "run": {"tool"},
    "tool": {"driver"},
    "driver": {"name"},
    "rules": {"id"},
    "results": {"message"},
    "message": {"text"},
    "shortDescription": {"text"},
    "help": {"text"},
}
"""What the JSON schema of SARIF 2.1.0 asks of each kind of object that is written here."""


@pytest.fixture
def report(tmp_path: Path) -> Report:
    bad = [changed(pair(f"{n}"), put("System", M, 0, "role")) for n in range(5)]
    path = write(tmp_path / "pairs & more.jsonl", line(pair()), *bad, b"{\n", line(pair("x", "Yes, it is.", "Yes")))
    return PreferenceDataset.from_jsonl(path).report(max_details=4)


def expect_required(value: Any, kind: str) -> None:
    if isinstance(value, list):
        for each in value:
            expect_required(each, kind)
    elif isinstance(value, dict):
        assert REQUIRED.get(kind, set()) <= value.keys(), (kind, value)
        for name, inner in value.items():
            expect_required(inner, "run" if name == "runs" else name)


def test_sarif_has_what_its_schema_requires(report: Report) -> None:
    log = json.loads(report.to_sarif(report.against(model="nova-lite")))
    expect_required(log, "log")
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"none", "note", "warning", "error"}
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert region.get("startLine", 1) >= 1
        assert region["byteOffset"] >= 0
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote(uri) == str(report.path)
        assert urlsplit(uri).scheme == ""


def test_sarif_counts_what_it_does_not_show(report: Report) -> None:
    (run,) = json.loads(report.to_sarif())["runs"]
    assert len(run["results"]) == 4
    assert run["properties"]["counts"] == {"role-unknown": 5, "bad-json": 1, "candidates-prefix": 1}
    assert (run["properties"]["records"], run["properties"]["good"], run["properties"]["bad"]) == (8, 2, 6)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (Path("a/b c.jsonl"), "a/b%20c.jsonl"),
        (Path("a: b#1.jsonl"), "a%3A%20b%231.jsonl"),
        ("s3://bucket/key 1.jsonl", "s3://bucket/key%201.jsonl"),
        ("standard input", "standard%20input"),
    ],
)
def test_a_file_of_any_name_has_a_uri(path: Path | str, uri: str) -> None:
    assert _uri(path) == uri


def test_json_lines_begin_with_a_summary(report: Report) -> None:
    rows = [json.loads(row) for row in report.to_jsonl(report.against()).splitlines()]
    assert [row["type"] for row in rows] == ["summary", *["problem"] * 4, "finding"]
    assert rows[0]["counts"]["role-unknown"] == 5
    assert {"line", "offset", "path", "code", "message", "fix", "severity"} <= rows[1].keys()


def test_every_rule_is_in_the_table_once() -> None:
    rows = rules_as_markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(RULES)
    assert all(
        rule.fix in row.replace("\\|", "|") or "<" in rule.fix for rule, row in zip(RULES.values(), rows, strict=True)
    )


def test_rules_that_need_the_whole_data_can_be_turned_down(report: Report) -> None:
    def found(**rules: str) -> dict[str, str]:
        settings = {code.replace("_", "-"): setting for code, setting in rules.items()}
        return {each.code: str(each.severity) for each in report.against(global_batch_size=64, rules=settings)}

    assert found() == {"few-records": "warning", "fewer-than-a-batch": "warning"}
    assert found(few_records="off") == {"fewer-than-a-batch": "warning"}
    assert found(few_records="error")["few-records"] == "error"
    with pytest.raises(ConfigurationError, match="no rule 'nope'"):
        found(nope="off")


def test_a_plan_hears_the_rules_of_its_data(tmp_path: Path, nova: Any) -> None:
    path = write(tmp_path / "pairs.jsonl", *(pair(f"{n}?", f"Yes {n}.", "No.") for n in range(80)))
    recipe = DPORecipe(name="few", model=NovaModel.MICRO, replicas=2)
    codes = [
        {each.code for each in nova.plan(recipe, PreferenceDataset.from_jsonl(path, rules=rules)).findings}
        for rules in ({}, {"few-records": "off"})
    ]
    assert codes[0] - codes[1] == {"few-records"}

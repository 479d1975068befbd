"""A report for machines: JSON Lines, and SARIF for code review and editors."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nova_dpo_sdk._version import __version__
from nova_dpo_sdk.datasets._rules import RULES
from nova_dpo_sdk.errors import Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets._report import Problem, Report

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def as_jsonl(report: Report) -> str:
    """One JSON object a line: the summary first, then every problem that was kept."""
    summary = {name: value for name, value in asdict(report).items() if name not in {"problems", "firsts"}}
    lines = [{"type": "summary", **summary, "path": str(report.path)}]
    lines += [{"type": "problem", **asdict(problem)} for problem in report.problems]
    return "".join(json.dumps(line) + "\n" for line in lines)


def as_sarif(report: Report) -> str:
    """SARIF 2.1.0, as GitHub's code scanning and many editors read it."""
    codes = list(report.counts)
    results = [_result(report, problem, codes.index(problem.code)) for problem in report.problems]
    driver = {"name": "nova_dpo_sdk", "version": __version__, "rules": [_rule(code) for code in codes]}
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    rule = RULES[code]
    return {
        "id": code,
        "shortDescription": {"text": rule.says},
        "help": {"text": f"{rule.fix} (source: {rule.source})"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(report: Report, problem: Problem, index: int) -> dict[str, Any]:
    uri = report.path if isinstance(report.path, str) else report.path.as_posix()
    artifact = {"uri": quote(uri, safe="/:")}
    region = {"startLine": problem.line, "byteOffset": problem.offset}
    return {
        "ruleId": problem.code,
        "ruleIndex": index,
        "level": _LEVELS[problem.severity],
        "message": {"text": f"{problem.path}: {problem.message} {problem.fix}"},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": artifact, "region": region},
                "logicalLocations": [{"fullyQualifiedName": problem.path}],
            }
        ],
    }

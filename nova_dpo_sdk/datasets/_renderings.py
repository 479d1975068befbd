"""A report for machines: JSON Lines, and SARIF for code review and editors; the rules as a table for readers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nova_dpo_sdk._version import __version__
from nova_dpo_sdk.datasets._report import totals
from nova_dpo_sdk.datasets._rules import RULES
from nova_dpo_sdk.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nova_dpo_sdk.datasets._report import Problem, Report
    from nova_dpo_sdk.errors import Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def as_jsonl(report: Report, findings: Iterable[Finding] = ()) -> str:
    """One JSON object a line: the summary first, then every problem that was kept, then what concerns the whole."""
    whole = list(findings)
    lines = [{"type": "summary", **report.summary(), **totals(report, whole)}]
    lines += [{"type": "problem", **asdict(problem)} for problem in report.problems]
    lines += [{"type": "finding", **asdict(finding)} for finding in whole]
    return "".join(json.dumps(line, default=str) + "\n" for line in lines)


def as_sarif(report: Report, findings: Iterable[Finding] = ()) -> str:
    """SARIF 2.1.0, as GitHub's code scanning and many editors read it."""
    whole = list(findings)
    codes = list(dict.fromkeys([*report.counts, *(finding.code for finding in whole)]))
    artifact = {"uri": _uri(report.path)}
    results = [_result(artifact, problem, codes.index(problem.code)) for problem in report.problems]
    region = {"byteOffset": 0, "byteLength": report.size}
    results += [_result_of_whole(artifact, region, finding, codes.index(finding.code)) for finding in whole]
    driver = {"name": "nova_dpo_sdk", "version": __version__, "rules": [_rule(code) for code in codes]}
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": {
            "records": report.records,
            "good": report.good,
            "bad": report.bad,
            "counts": dict(report.counts),
            **({"sha256": report.sha256} if report.sha256 else {}),
        },
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _uri(path: Path | str) -> str:
    """A URI for a file: relative as it was named, `file:` where it begins at a drive, as it is in S3."""
    if not isinstance(path, Path):
        return quote(path, safe="/:") if "://" in path else quote(path)
    return path.as_uri() if path.drive and path.is_absolute() else quote(os.fsencode(path.as_posix()))


def _rule(code: str) -> dict[str, Any]:
    rule = RULES[code]
    return {
        "id": code,
        "shortDescription": {"text": rule.says},
        "help": {"text": f"{rule.fix} (source: {rule.source})"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(artifact: dict[str, str], problem: Problem, index: int) -> dict[str, Any]:
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


def _result_of_whole(artifact: dict[str, str], region: dict[str, int], finding: Finding, index: int) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message} {finding.fix}"},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
    }


def rules_as_markdown() -> str:
    """Every rule as a table in Markdown: the documentation of the rules."""
    lines = ["| rule | severity | what holds | what to do | source |", "|---|---|---|---|---|"]
    for rule in RULES.values():
        severity = f"{rule.severity} (fixed)" if rule.fixed else str(rule.severity)
        cells = (f"`{rule.code}`", severity, rule.says, rule.fix, rule.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines) + "\n"

"""What a look at a data set found: the report, its problems, and their renderings."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import are, have, plural
from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._rules import LIMITS, RULES, severities
from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nova_dpo_sdk.datasets._media import MediaPlace
    from nova_dpo_sdk.datasets._profile import Profile

_SHOWN = 20
"""Problems in a printed report; the rest is counted."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or doubtful in one line.

    Attributes:
        line: Number of the line, from 1.
        offset: Byte offset of the line's start.
        path: JSON path inside the line, such as `$.messages[2].content[0].text`; `$` is the whole line.
        code: The rule that is broken; a key of `RULES`.
        severity: Error, warning or note.
        message: What is the case, with the value in it.
        fix: What to do.
    """

    line: int
    offset: int
    path: str
    code: str
    severity: Severity
    message: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line} {self.path}: {self.severity} [{self.code}] {self.message} {self.fix}"


@dataclass(frozen=True)
class Report:
    """What one pass over a data set found.

    Attributes:
        path: The file, or the address in S3.
        kind: `preference` or `chat`.
        records: Lines that are not blank; `good` of them have no error, `bad` have one or more.
        size: Bytes that were read.
        sha256: Hash of the bytes that were read, in hex; empty when nobody asked for it.
        image_records: Good records with images.
        video_records: Good records with a video.
        system_records: Good records with a system prompt.
        features: Good records with each further feature: `document`, `reasoning`, `tools`, `webp`, `webm`.
        lengths: Good records by estimated length; step `n` counts those with more than `n * 1024` and at most
            `(n + 1) * 1024` tokens. The estimate takes four bytes of text for a token and does not count media.
        media: The buckets that good records show images, videos and documents of, the first 100 of them.
        more_media: Whether there are others than these; several processes may then count too few records of some.
        problems: What is wrong, in the order of lines, capped; errors are kept before warnings.
        counts: How often each rule is broken, without a cap.
        errors: Problems that are errors, without a cap.
        warnings: Problems that are warnings, without a cap.
        firsts: The first problem of each rule, whatever the cap.
        profile: What the data are made of; None when nobody asked for it.
    """

    path: Path | str
    kind: str
    records: int
    good: int
    bad: int
    size: int
    sha256: str
    image_records: int = 0
    video_records: int = 0
    system_records: int = 0
    features: Mapping[str, int] = field(default_factory=dict[str, int])
    lengths: tuple[int, ...] = ()
    media: tuple[MediaPlace, ...] = ()
    more_media: bool = False
    problems: tuple[Problem, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    errors: int = 0
    warnings: int = 0
    firsts: Mapping[str, Problem] = field(default_factory=dict[str, Problem])
    profile: Profile | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def of(self, path: Path | str) -> Report:
        """The same report, and its profile, by another name of the data."""
        profile = None if self.profile is None else replace(self.profile, name=str(path))
        return replace(self, path=path, profile=profile)

    def findings(self) -> list[Finding]:
        """One finding for each rule that is broken: where it is broken first, and how often."""
        order = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
        found = [self._finding(problem) for problem in self.firsts.values()]
        return sorted(found, key=lambda finding: order[finding.severity])

    def _finding(self, problem: Problem) -> Finding:
        count = self.counts.get(problem.code, 1)
        more = f" ({count:,} in all)" if count > 1 else ""
        rule = RULES[problem.code]
        return Finding(
            code=problem.code,
            severity=problem.severity,
            where=f"data line {problem.line} {problem.path}",
            message=problem.message + more,
            value=count,
            allowed=rule.says.rstrip("."),
            fix=problem.fix,
            source=rule.source,
        )

    def against(
        self,
        *,
        model: str | None = None,
        max_length: int | None = None,
        global_batch_size: int | None = None,
        rules: Mapping[str, str] | None = None,
    ) -> list[Finding]:
        """What only the data as a whole show, and what only shows when they meet a recipe.

        Args:
            model: `nova-micro`, `nova-lite`, `nova-pro` or `nova-lite-2`; None leaves out what depends on it.
            max_length: The recipe's longest sequence, in tokens; None likewise.
            global_batch_size: The recipe's records per step; None likewise.
            rules: By rule code: `error`, `warning` or `off`, as for a look at the data.

        Raises:
            ConfigurationError: `rules` names an unknown rule or setting.
        """
        table = severities(rules or {})
        found = self._against(model, max_length or 0, global_batch_size or 0)
        kept = ((finding, table[finding.code]) for finding in found)
        return [replace(finding, severity=severity) for finding, severity in kept if severity is not None]

    def _against(self, model: str | None, max_length: int, global_batch_size: int) -> list[Finding]:
        found = [] if model is None else self._against_model(model)
        found += self._against_amounts(global_batch_size)
        if self.kind == "preference" and self.image_records:
            found += self._against_images(max_length)
        if max_length and (too_long := sum(self.lengths[max_length // _facts.LENGTH_STEP :])):
            some = f"About {too_long:,} of {plural(self.good, 'record')} {are(too_long)}"
            message = f"{some} longer than {max_length:,} tokens."
            found.append(_run("records-too-long", too_long, message))
        return found

    def _against_model(self, model: str) -> list[Finding]:
        found: list[Finding] = []
        if model == "nova-lite-2" and self.kind == "preference":
            found.append(_run("model-without-dpo", model, f"The model is {model}, the data are preference pairs."))
        media = self.image_records + self.video_records
        if model == "nova-micro" and media:
            found.append(_run("model-text-only", media, f"{plural(media, 'record')} {have(media)} images or videos."))
        lacking = ("webp", "webm") if model == "nova-lite-2" else ("document", "reasoning", "tools")
        for feature in lacking:
            if count := self.features.get(feature, 0):
                message = f"{plural(count, 'record')} {have(count)} {feature}, which {model} does not read."
                found.append(_run("model-without-feature", count, message))
        return found

    def _against_amounts(self, global_batch_size: int) -> list[Finding]:
        found: list[Finding] = []
        recommended = LIMITS["recommended-pairs"].value
        if self.kind == "preference" and self.good < recommended:
            found.append(_run("few-records", self.good, f"There {are(self.good)} {plural(self.good, 'good pair')}."))
        if self.good < global_batch_size:
            message = f"There {are(self.good)} {plural(self.good, 'good record')}; a batch takes {global_batch_size:,}."
            found.append(_run("fewer-than-a-batch", self.good, message))
        return found

    def _against_images(self, max_length: int) -> list[Finding]:
        found: list[Finding] = []
        if self.image_records > LIMITS["image-records"].value:
            message = f"There {are(self.image_records)} {plural(self.image_records, 'image record')}."
            found.append(_run("too-many-image-records", self.image_records, message))
        if max_length > LIMITS["image-max-length"].value:
            some = f"{plural(self.image_records, 'record')} {have(self.image_records)}"
            message = f"max_length is {max_length:,} and {some} images."
            found.append(_run("image-max-length", max_length, message))
        return found

    def to_json(self) -> str:
        """The whole report as one JSON object."""
        return json.dumps({**self.summary(), "problems": list(map(asdict, self.problems))}, indent=2)

    def summary(self) -> dict[str, Any]:
        """Everything but the problems, as plain values."""
        plain = asdict(replace(self, problems=(), firsts={}, profile=None))
        left_out = {"problems", "firsts", "profile"}
        summary = {name: value for name, value in plain.items() if name not in left_out}
        profile = {} if self.profile is None else {"profile": self.profile.to_dict()}
        return {**summary, "path": str(self.path), **profile}

    def to_jsonl(self, findings: Iterable[Finding] = ()) -> str:
        """One JSON object a line: a summary, then every problem that was kept.

        Args:
            findings: What `against` says, to stand there too; its errors and warnings are in the summary's numbers.
        """
        from nova_dpo_sdk.datasets._renderings import as_jsonl

        return as_jsonl(self, findings)

    def to_sarif(self, findings: Iterable[Finding] = ()) -> str:
        """The problems that were kept as SARIF 2.1.0, for code review and editors; all are counted in it.

        Args:
            findings: What `against` says, to stand there too.
        """
        from nova_dpo_sdk.datasets._renderings import as_sarif

        return as_sarif(self, findings)

    def __str__(self) -> str:
        lines = [self._headline(), *self._table()]
        shown = self.problems[:_SHOWN]
        lines += [f"  {problem}" for problem in shown]
        total = sum(self.counts.values())
        if total > len(shown):
            lines.append(f"  ... and {total - len(shown):,} more")
        return "\n".join(lines)

    def _headline(self) -> str:
        verdict = "ok" if self.ok else f"{self.bad:,} bad" if self.bad else "bad as a file"
        return (
            f"{self.path}: {verdict}; {plural(self.records, f'{self.kind} record')}, {plural(self.errors, 'error')}, "
            f"{plural(self.warnings, 'warning')}, {self.size:,} bytes"
            + (f", sha256 {self.sha256[:12]}" if self.sha256 else "")
        )

    def _table(self) -> list[str]:
        rows = [
            (f"{self.counts[code]:,}", str(first.severity), code, f"line {first.line}")
            for code, first in self.firsts.items()
        ]
        if not rows:
            return []
        rows.insert(0, ("count", "severity", "rule", "first"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return [
            f"  {count:>{widths[0]}}  {severity:<{widths[1]}}  {code:<{widths[2]}}  {first}"
            for count, severity, code, first in rows
        ]

    def _repr_html_(self) -> str:
        """A small table for notebooks; every word of it escaped."""
        head = "<tr><th>line</th><th>path</th><th>severity</th><th>rule</th><th>what</th><th>fix</th></tr>"
        rows = "".join(_row(problem) for problem in self.problems[:_SHOWN])
        more = sum(self.counts.values()) - min(len(self.problems), _SHOWN)
        foot = f"<p>... and {more:,} more</p>" if more > 0 else ""
        table = f"<table>{head}{rows}</table>{foot}" if rows else ""
        return f"<div><p>{html.escape(self._headline())}</p>{table}</div>"


def totals(report: Report, findings: Iterable[Finding]) -> dict[str, int]:
    """Errors and warnings, those about the whole included.

    Args:
        report: What was found in the lines.
        findings: What `against` says.
    """
    severities = [finding.severity for finding in findings]
    return {
        "errors": report.errors + severities.count(Severity.ERROR),
        "warnings": report.warnings + severities.count(Severity.WARNING),
    }


def _row(problem: Problem) -> str:
    cells = (problem.line, problem.path, problem.severity, problem.code, problem.message, problem.fix)
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _run(code: str, value: Any, message: str) -> Finding:
    rule = RULES[code]
    return Finding(
        code=code,
        severity=rule.severity,
        where="data",
        message=message,
        value=value,
        allowed=rule.says.rstrip("."),
        fix=rule.fix,
        source=rule.source,
    )

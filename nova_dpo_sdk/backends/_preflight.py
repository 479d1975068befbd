"""What only AWS and the cluster can answer, asked all at once before anything is sent."""

from __future__ import annotations

import html
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nova_dpo_sdk.errors import AWSError, ClusterError, ConfigurationError, Finding, Judged, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS = 12
"""Questions that are asked at the same time."""
JOB_THERE = "job-there"
"""Code of the note that the very same job was submitted before."""


@dataclass(frozen=True)
class Check:
    """The answer to one question of a preflight.

    Attributes:
        question: What was asked, in a few words.
        answer: What was learned, in a few words.
        findings: What is wrong about it; empty when nothing is.
    """

    question: str
    answer: str
    findings: tuple[Finding, ...] = ()

    @property
    def state(self) -> str:
        """`ok`, `note`, `warning` or `error`: the worst of its findings."""
        for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE):
            if any(each.severity is severity for each in self.findings):
                return str(severity)
        return "ok"


@dataclass(frozen=True)
class Preflight(Judged):
    """Every answer of a preflight.

    Attributes:
        name: The job that it was asked for.
        checks: The answers, in the order of the questions.
    """

    name: str
    checks: tuple[Check, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, in the order of the questions."""
        return tuple(finding for check in self.checks for finding in check.findings)

    @property
    def is_there(self) -> bool:
        """Whether this very job was submitted before: a submit would find it, not create it."""
        return any(finding.code == JOB_THERE for finding in self.findings)

    def __str__(self) -> str:
        from nova_dpo_sdk.backends._show import findings_text

        rows = check_lines(self.checks)
        verdict = "ready to submit" if self.ok else "cannot be submitted"
        return "\n".join([*rows, *findings_text(self.findings), f"{self.name}: {verdict}; nothing was sent."])

    def _repr_html_(self) -> str:
        verdict = "Ready to submit." if self.ok else "Cannot be submitted."
        return f"<table>{''.join(map(_html_row, self.checks))}</table><p>{verdict} Nothing was sent.</p>"


_MOOD = {"ok": "good", "warning": "trouble", "error": "bad"}


def _html_row(check: Check) -> str:
    from nova_dpo_sdk.backends._snapshots import COLOURS, LEFT

    colour = COLOURS[_MOOD.get(check.state, "")]
    told = "".join(f"<br>{html.escape(each.message)} {html.escape(each.fix)}" for each in check.findings)
    answer = html.escape(check.answer)
    cells = (f"<b style='color:{colour}'>{check.state}</b>", html.escape(check.question), f"{answer}{told}")
    return "<tr>" + "".join(f"<td style='{LEFT}'>{cell}</td>" for cell in cells) + "</tr>"


_STATE = 9
"""Columns for the state of a check."""


def check_lines(checks: Iterable[Check], width: int = 80) -> list[str]:
    """A row for each check: state, question and answer, wrapped under the answer.

    Args:
        checks: What to show.
        width: Columns of the terminal; addresses stay whole and may stand out.
    """
    listed = list(checks)
    column = max((len(check.question) for check in listed), default=0)
    lines: list[str] = []
    for check in listed:
        lead = f"{check.state:<{_STATE}}{check.question:<{column}}  "
        lines += textwrap.wrap(
            check.answer,
            width,
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [lead.rstrip()]
    return lines


Question = tuple[str, "Callable[[], Check]"]


def ask_all(questions: Iterable[Question]) -> tuple[Check, ...]:
    """Ask every question at the same time; a question that fails is an answer too.

    Args:
        questions: A few words for each, and what asks it.
    """
    listed = list(questions)
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="nova-preflight") as pool:
        return tuple(pool.map(_ask, listed))


def _ask(asked: Question) -> Check:
    question, ask = asked
    try:
        return ask()
    except (AWSError, ClusterError, ConfigurationError) as error:
        code = f"{question.replace(' ', '-')}-failed"
        return Check(question, "could not be answered", (Finding(code, Severity.ERROR, question, str(error)),))


def unknown(question: str, error: Exception, *, severity: Severity = Severity.NOTE) -> Check:
    """The answer to a question that this identity may not ask: a note or a warning, never a stop."""
    finding = Finding(
        code=f"{question.replace(' ', '-')}-unknown",
        severity=severity,
        where=question,
        message=f"This cannot be told in advance: {_short(error)}",
    )
    return Check(question, "may not be asked", (finding,))


def _short(error: Exception) -> str:
    """Without what a note need not say: whose right it is, and in which words it was refused."""
    if isinstance(error, ClusterError) and error.status == 403:
        return f"this identity may not {error.verb} {error.target}."
    return str(error)


def not_asked(question: str, because: str) -> Check:
    """The answer to a question that could not be asked because another one failed."""
    return Check(question, f"not asked: see {because}")

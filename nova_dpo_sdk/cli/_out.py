"""What the commands say: the only place that writes to a terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.cli._colour import harmless, has_colours, painted
from nova_dpo_sdk.errors import ConfigurationError, Finding, JobError, NovaError, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import TextIO

    from nova_dpo_sdk.backends import JobSnapshot

GOOD, BAD, INTERRUPTED = 0, 1, 130
"""Exit codes; 2, wrong usage, is argparse's."""

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def say(*lines: str) -> None:
    """Write lines to standard output, on a terminal in colours."""
    _write(sys.stdout, lines)


def complain(*lines: str) -> None:
    """Write lines to standard error, on a terminal in colours."""
    sys.stdout.flush()
    _write(sys.stderr, lines)


def say_json(value: Any) -> None:
    """Write a value as indented JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _write(stream: TextIO, texts: Iterable[str]) -> None:
    lines = [line for text in texts for line in text.split("\n")]
    if stream.isatty():
        lines = [harmless(line) for line in lines]
    if has_colours(stream):
        lines = [painted(line) for line in lines]
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()


def width() -> int:
    """Columns to write in: the terminal's, at most 100."""
    return min(100, max(40, shutil.get_terminal_size().columns))


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings, the worst first: one line of what and where, then message and fix, wrapped."""
    lines: list[str] = []
    for each in sorted(findings, key=lambda finding: _ORDER[finding.severity]):
        lines += wrapped(f"{each.severity} [{each.code}] {each.where}", "")
        lines += wrapped(" ".join(part for part in (each.message, each.accepted, in_shell_words(each.fix)) if part))
        lines += wrapped(f"Source: {each.source}." if each.source else "")
    return lines


def wrapped(text: str, first: str = "    ", then: str = "    ") -> list[str]:
    """A text in lines that fit the terminal; words stay whole, addresses too.

    Args:
        text: What to wrap.
        first: What the first line begins with.
        then: What the others begin with.
    """
    return textwrap.wrap(
        text, width(), initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


_SHELL_WORDS = (
    (r'allow=\["([^"]+)"\]', r"--allow \1"),
    (r'(?:in |with )?extra=[\[{]"([^"]+)"[^\]}]*[\]}]', r"with --extra \1"),
    (r"([Ss]ubmit) plan\.again\(\), (?:its|the) next attempt", r"\1 it with the next --attempt, a run"),
    (r"([Ss]ubmit) plan\.again\(\)", r"\1 it with the next --attempt"),
    (r"plan\.again\(\)", "the next --attempt"),
    (r"nova\.job\('([^']+)'\)\.wait\(\)", r"nova-dpo wait \1"),
    (r"\bjob\.(wait|cancel|delete|checkpoint)\(\)", r"nova-dpo \1"),
    (r"\bjob\.logs\(follow=True\)", "nova-dpo logs -f"),
    (r"\bjob\.logs\(follow=True, since=<the last line's at>\)", "nova-dpo logs -f --since TIME, the last line's"),
    (r"\bjob\.result\(\)", "nova-dpo wait"),
    (r"take it from job\.ref", "submit prints it"),
    (r"Convert it with ChatDataset\.convert,", "Convert it with --kind chat,"),
    (r"or pass layout=\.", "or pass --layout."),
    (r'(?:HyperPod|TrainingJob)Backend\((region|role)="([^"]+)"\)', r"--\1 \2"),
    (r"(Correct it) in TrainingJobBackend\(\.\.\.\)", r"\1"),
    (r"(?:HyperPod|TrainingJob)Options\((?:active_deadline|max_runtime)_seconds=\.\.\.\)", "--deadline"),
    (r"TrainingJobOptions\(volume_gb=\.\.\.\)", "--volume-gb"),
    (r"(?:HyperPod|TrainingJob)Options\(image=\.\.\.\)", "--image"),
    (r"TrainingJobOptions\(model_package_group=\.\.\.\)", "--model-package-group"),
    (r"TrainingJobOptions\(model_package=job\.model_package\(\)\)", "--model-package"),
    (r"Pass AWS\(region='([^']+)'\)", r"Give --region \1"),
    (r", or pass AWS\(session=.*?\)\)", ""),
    (r"\b([Rr])un check\(\)", r"\1un nova-dpo data check"),
    (r"\bwith_images\(\)", "nova-dpo data upload --local-images"),
    (r"Pass base_dir= of the images", "Name the images' folder: --local-images DIR"),
    (r"convert\(\.\.\., local_images=True\)", "nova-dpo data convert --local-images"),
    (r"`(clean|local)_(reserved|images)`", r"--\1-\2"),
    (r"with write_clean\(\)", "with nova-dpo data check --write-clean"),
    (r" fraction=([\d.]+)", r" --fraction \1"),
    (r"fraction, or another salt", "--fraction"),
    (r"with workers=1", "from Python with workers=1"),
    (r"\(ChatDataset: nova2=True\)", "(nova-dpo data: --kind chat-nova-2)"),
)
"""What the Python remedies are called in a shell."""


def in_shell_words(text: str) -> str:
    """A message with its Python remedies as commands and options."""
    for python, shell in _SHELL_WORDS:
        text = re.sub(python, shell, text)
    return text


def in_a_line(snapshot: JobSnapshot) -> str:
    """What a job is doing; when something is the matter, also why and what to do about it."""
    why = ": ".join(part for part in (snapshot.reason, snapshot.message) if part)
    step = f" Next: {in_shell_words(snapshot.next_step)}" if why and snapshot.next_step else ""
    return f"{snapshot.status}{f' ({why})' if why else ''}{step}"


def finding_dict(finding: Finding) -> dict[str, str]:
    """A finding as plain values."""
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "where": finding.where,
        "message": finding.message,
        "allowed": finding.allowed,
        "fix": finding.fix,
        "source": finding.source,
    }


def counted(findings: Iterable[Finding]) -> str:
    """How many errors and warnings, in words."""
    found = list(findings)
    errors = sum(each.is_error for each in found)
    warnings = sum(each.severity is Severity.WARNING for each in found)
    return f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"


def head_lines(rows: Iterable[str], indent: int) -> list[str]:
    """Rows of label and value, wrapped under the value where they hold no address."""
    lines: list[str] = []
    for line in (line for row in rows for line in row.splitlines()):
        lines += [line] if "s3://" in line else wrapped(line, "", " " * indent)
    return lines


def complain_of(error: NovaError) -> None:
    """Say an error and every finding that it carries, without a traceback."""
    findings = error.findings if isinstance(error, ConfigurationError) else ()
    message = str(error)
    for finding in findings:
        message = message.replace(f"\n  - {finding}", "")
    first, *rest = in_shell_words(message).split("\n")
    listed = [line for each in rest for line in wrapped(each.strip(), "  ", "      ")]
    complain(*wrapped(f"error: {first}", ""), *listed, *finding_lines(findings))
    if isinstance(error, JobError) and error.ref:
        complain(f"    Job: {error.ref}")


def write_file(path: Path, text: str) -> Path:
    """Write a text file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def silence_pipes() -> None:
    """Let the interpreter end quietly after a reader went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

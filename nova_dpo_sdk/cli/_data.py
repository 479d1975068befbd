"""`nova-dpo data`: check, convert, profile and split training data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._show import size
from nova_dpo_sdk.cli._out import BAD, GOOD, finding_lines, plural, say, say_json, wrapped
from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset, detect_layout
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    import argparse

    from nova_dpo_sdk.datasets import Conversion, Report

_NOVA: dict[str, type[PreferenceDataset | ChatDataset]] = {
    "nova-preference": PreferenceDataset,
    "nova-chat": ChatDataset,
}
_KINDS: dict[str, type[PreferenceDataset | ChatDataset]] = {"preference": PreferenceDataset, "chat": ChatDataset}
_LISTED = 10_000
"""Problems that --all lists at most."""


def check(arguments: argparse.Namespace) -> int:
    """Hold every line of a file against every rule."""
    kind = _KINDS[arguments.kind] if arguments.kind else _kind_of(arguments.file)
    report = kind.from_jsonl(arguments.file).report(max_details=_LISTED if arguments.all else 1000)
    if arguments.json:
        say_json(json.loads(report.to_json()))
        return GOOD if report.ok else BAD
    if arguments.all:
        say(*(f"{report.path}:{p.line}: {p.severity} [{p.code}] {p.path}: {p.message}" for p in report.problems))
    else:
        say(*finding_lines(report.findings()))
    say(headline(report))
    return GOOD if report.ok else BAD


def _opened(arguments: argparse.Namespace, path: str) -> PreferenceDataset | ChatDataset:
    kind = _KINDS[arguments.kind] if arguments.kind else _kind_of(path)
    return kind.from_jsonl(path)


def profile(arguments: argparse.Namespace) -> int:
    """Say what data are made of."""
    validation = _opened(arguments, arguments.validation) if arguments.validation else None
    found = _opened(arguments, arguments.file).profile(validation)
    say(str(found))
    if arguments.plot:
        found.plot(arguments.plot)
        say(f"Drew {arguments.plot}.")
    return GOOD


def split(arguments: argparse.Namespace) -> int:
    """Write data to two files, no prompt in both."""
    done = _opened(arguments, arguments.file).split(arguments.train, arguments.validation, fraction=arguments.fraction)
    say(str(done))
    return GOOD


def _kind_of(path: str) -> type[PreferenceDataset | ChatDataset]:
    layout = detect_layout(path)
    if layout in _NOVA:
        return _NOVA[layout]
    raise DatasetError(
        f"{path} has the layout {layout}, which is not Nova's. Convert it first: nova-dpo data convert {path} OUT.jsonl"
    )


def headline(report: Report) -> str:
    """What a report comes to, in one line."""
    state = "good" if report.ok else f"{report.good:,} good and {report.bad:,} bad"
    counts = f"{plural(report.errors, 'error')}, {plural(report.warnings, 'warning')}"
    return f"{report.path}: {plural(report.records, f'{report.kind} record')}, {state}; {counts}; {size(report.size)}"


def convert(arguments: argparse.Namespace) -> int:
    """Write data of any known layout as Nova JSONL."""
    layout = arguments.layout or detect_layout(arguments.source)
    kind = _KINDS[arguments.kind] if arguments.kind else _kind_that_fits(layout)
    done: Conversion[Any] = kind.convert(
        arguments.source, arguments.target, layout=layout, clean_reserved=arguments.clean_reserved
    )
    report: Report = done.dataset.report()
    if arguments.json:
        say_json(_plain(done, report))
    else:
        say(*conversion_lines(done), *finding_lines(report.findings()), headline(report))
    return GOOD if report.ok else BAD


def _kind_that_fits(layout: str) -> type[PreferenceDataset | ChatDataset]:
    from nova_dpo_sdk.datasets._layouts import BY_NAME

    known = BY_NAME.get(layout)
    return ChatDataset if known is not None and known.kind == "chat" else PreferenceDataset


def conversion_lines(done: Conversion[Any]) -> list[str]:
    """What a conversion did, one line for each rule that dropped or mended something."""
    lines = [f"{plural(done.read, 'record')} read as {done.layout}, {done.written:,} written"]
    for verb, counts in (("dropped", done.dropped), ("mended", done.mended)):
        lines += [f"  {verb:<7} {count:>7,}  {code}" for code, count in counts.items()]
    for each in done.details[:3]:
        lines += wrapped(f"such as record {each.record}: {each.message}", "  ")
    return lines


def _plain(done: Conversion[Any], report: Report) -> dict[str, Any]:
    return {
        "file": str(report.path),
        "kind": report.kind,
        "layout": done.layout,
        "read": done.read,
        "written": done.written,
        "dropped": dict(done.dropped),
        "mended": dict(done.mended),
        "details": [{"record": each.record, "code": each.code, "message": each.message} for each in done.details],
        "errors": report.errors,
        "warnings": report.warnings,
    }

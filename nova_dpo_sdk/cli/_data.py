"""`nova-dpo data`: check, convert, profile, split and upload training data, and list the rules."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._show import size
from nova_dpo_sdk.cli._out import (
    BAD,
    GOOD,
    complain,
    finding_dict,
    finding_lines,
    in_shell_words,
    say,
    say_json,
    wrapped,
)
from nova_dpo_sdk.cli._streams import STDIN, STDOUT, STREAM, readable, shown, temporary, writable, write_whole
from nova_dpo_sdk.datasets import RULES, ChatDataset, PreferenceDataset, detect_layout
from nova_dpo_sdk.datasets._clean import beside
from nova_dpo_sdk.datasets._files import held_back, refuse_same
from nova_dpo_sdk.datasets._remote import RangedStream
from nova_dpo_sdk.datasets._report import totals
from nova_dpo_sdk.datasets._rules import severities
from nova_dpo_sdk.datasets._unpack import Unpacked, compression
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, Severity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Sequence

    from nova_dpo_sdk.aws import AWS, S3Uri
    from nova_dpo_sdk.datasets import Conversion, Profile, Report
    from nova_dpo_sdk.datasets._clean import Cleaning
    from nova_dpo_sdk.datasets._images import LocalImage
    from nova_dpo_sdk.errors import Finding

    Data = PreferenceDataset | ChatDataset

_NOVA: dict[str, type[PreferenceDataset | ChatDataset]] = {
    "nova-preference": PreferenceDataset,
    "nova-chat": ChatDataset,
}
_LISTED = 10_000
"""Problems that --all lists at most."""

_LOCAL = "local-image"
"""The rule that images are in S3."""

_HEAD = 1 << 20
"""Bytes of data in S3 that their layout is told from."""


# --- opening --------------------------------------------------------------------------------------------------


@contextmanager
def _opened(arguments: argparse.Namespace, name: str, kind: str = "") -> Generator[Data]:
    """The data of that name: a file, `-`, or an address in S3; without --kind, of a kind that is wanted, if any."""
    rules = _rules(arguments)
    if name.startswith("s3://"):
        yield _in_s3(arguments, name, rules, kind)
        return
    with readable(name, getattr(arguments, "name", None) or "") as path, _told_as(path, name):
        yield _of_kind(arguments.kind or _kind_of(path, name, kind), path, rules)


def _of_kind(kind: str, path: Path, rules: dict[str, str]) -> Data:
    if kind == "preference":
        return PreferenceDataset.from_jsonl(path, rules=rules)
    return ChatDataset.from_jsonl(path, nova2=kind == "chat-nova-2", rules=rules)


def _in_s3(arguments: argparse.Namespace, uri: str, rules: dict[str, str], wanted: str) -> Data:
    from nova_dpo_sdk.cli._place import aws

    store = aws(arguments)
    kind = arguments.kind or _kind_in_s3(PreferenceDataset.from_s3(uri, aws=store), uri, wanted)
    if kind == "preference":
        return PreferenceDataset.from_s3(uri, aws=store, rules=rules)
    return ChatDataset.from_s3(uri, aws=store, nova2=kind == "chat-nova-2", rules=rules)


def _kind_in_s3(data: Data, uri: str, wanted: str) -> str:
    """The kind of data in S3, told from their first lines unless it is wanted."""
    with RangedStream(data.sources, size=_HEAD, ahead=1) as ranges, BufferedReader(ranges, _HEAD) as stream:
        packed = compression(stream)  # of one object alone; those of several are unpacked already
        head = (Unpacked(stream, packed, uri).read(_HEAD) or b"") if packed else stream.read1(_HEAD)
    with temporary(head[: head.rfind(b"\n") + 1] or head) as path, _told_as(path, uri):
        return _kind_of(path, uri, wanted)


def _kind_of(path: Path, name: str, wanted: str) -> str:
    layout = detect_layout(path)
    if layout not in _NOVA:
        raise DatasetError(
            f"{shown(name)} has the layout {layout}, which is not Nova's. "
            f"Convert it first: nova-dpo data convert {name} OUT.jsonl"
        )
    return wanted or _NOVA[layout].kind


@contextmanager
def _told_as(path: Path, name: str) -> Generator[None]:
    """Let errors speak of what the user named, not of a file of ours that stands for it."""
    try:
        yield
    except DatasetError as error:
        if str(path) == name:
            raise
        raise DatasetError(str(error).replace(str(path), shown(name)), error.findings) from error


def _rules(arguments: argparse.Namespace) -> dict[str, str]:
    """What --rule asks for; wrong usage when there is no such rule or setting."""
    rules = dict(arguments.rule)
    try:
        severities(rules)
    except ConfigurationError as error:
        arguments.usage(f"--rule: {error}")
    return rules


# --- check ----------------------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> int:
    """Hold every line of the data against every rule."""
    if arguments.write_clean == STREAM and not arguments.rejected:
        arguments.usage("--write-clean - goes with --rejected FILE, for the records that are not good")
    if arguments.rejected and not arguments.write_clean:
        arguments.usage("--rejected goes with --write-clean")
    if arguments.profile and arguments.write_clean:
        arguments.usage(
            "--profile does not go with --write-clean: nova-dpo data profile GOOD says it of the good records"
        )
    if arguments.profile and arguments.format == "sarif" and not arguments.json:
        arguments.usage("--profile does not go with --format sarif, which has no place for it")
    _refuse_overwriting(arguments)
    details = _LISTED if arguments.all else 1000
    kind, wishes = _recipe(arguments)
    with _opened(arguments, arguments.file, kind) as data:
        cleaning = _cleaned(arguments, data) if arguments.write_clean else None
        report = cleaning.report if cleaning else data.report(max_details=details, profile=arguments.profile)
        report = _named(arguments, data, report)
    whole = report.against(**wishes, rules=_rules(arguments))
    _tell(arguments, _rendered(arguments, report, whole), "\n".join(_summary(report, whole)))
    if cleaning is not None:
        complain(*_cleaning_lines(cleaning, arguments))
    return _code(arguments, report, whole)


def _named(arguments: argparse.Namespace, data: Data, report: Report) -> Report:
    """The report of what the user named."""
    return report if data.sources else report.of(STDIN if arguments.file == STREAM else Path(arguments.file))


def _refuse_overwriting(arguments: argparse.Namespace) -> None:
    """Let no report or copy take the place of what it is made of, or of another one."""
    good = arguments.write_clean
    rejected = arguments.rejected or (beside(Path(good)) if good else None)
    targets = [Path(name) for name in (arguments.out, good, rejected) if name and name != STREAM]
    refuse_same(None, *targets)
    for source in (arguments.file, arguments.recipe):
        if source and source != STREAM and not source.startswith("s3://"):
            refuse_same(Path(source), *targets)


def _recipe(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The kind of data that a recipe trains on, and what else it asks of them; wrong usage when --kind is another."""
    if not arguments.recipe:
        return "", {}
    from nova_dpo_sdk.recipes import DPORecipe, Nova2SFTRecipe, Recipe

    recipe = Recipe.from_file(arguments.recipe)
    is_chat, nova2 = not isinstance(recipe, DPORecipe), isinstance(recipe, Nova2SFTRecipe)
    kind = "chat-nova-2" if nova2 else "chat" if is_chat else "preference"
    if arguments.kind and arguments.kind.startswith("chat") is not is_chat:
        arguments.usage(f"--kind {arguments.kind} does not go with {arguments.recipe}, which trains on {kind} data")
    return kind, {
        "model": str(recipe.model),
        "max_length": recipe.max_length,
        "global_batch_size": recipe.global_batch_size,
    }


def _tell(arguments: argparse.Namespace, text: str, summary: str) -> None:
    """Write the report to --out, or show it; on standard error where standard output carries records."""
    tell = complain if arguments.write_clean == STREAM else say
    if arguments.out:
        write_whole(Path(arguments.out), text + "\n")
        tell(summary)
    else:
        tell(text)


def _code(arguments: argparse.Namespace, report: Report, whole: list[Finding]) -> int:
    doubtful = report.warnings or any(finding.severity is Severity.WARNING for finding in whole)
    return BAD if _is_bad(report, whole) or (arguments.strict and doubtful) else GOOD


def _is_bad(report: Report, whole: list[Finding]) -> bool:
    return not report.ok or any(finding.is_error for finding in whole)


def _rendered(arguments: argparse.Namespace, report: Report, whole: list[Finding]) -> str:
    wanted = "json" if arguments.json else arguments.format
    if wanted == "json":
        plain = {
            **json.loads(report.to_json()),
            **totals(report, whole),
            "findings": [finding_dict(each) for each in whole],
        }
        return json.dumps(plain, indent=2, ensure_ascii=False)
    if wanted == "jsonl":
        return report.to_jsonl(whole).rstrip("\n")
    if wanted == "sarif":
        return report.to_sarif(whole)
    if arguments.all:
        lines = [f"{report.path}:{p.line}: {p.severity} [{p.code}] {p.path}: {p.message}" for p in report.problems]
        lines += finding_lines(whole)
    else:
        lines = finding_lines([*report.findings(), *whole])
    made_of = ["", *profile_lines(report.profile)] if report.profile else []
    return "\n".join([*lines, *_summary(report, whole), *made_of])


def _cleaned(arguments: argparse.Namespace, data: Data) -> Cleaning[Data]:
    with writable(arguments.write_clean) as target:
        return cast("Cleaning[Data]", data.write_clean(target, rejected=arguments.rejected))


def _cleaning_lines(done: Cleaning[Data], arguments: argparse.Namespace) -> list[str]:
    good = STDOUT if arguments.write_clean == STREAM else arguments.write_clean
    lines = [f"{plural(done.read, 'record')} read, {done.written:,} written to {good}"]
    if done.rejected:
        lines.append(f"{done.rejected:,} rejected, each with its reasons, in {done.rejected_path}")
    if done.blank:
        lines.append(f"{plural(done.blank, 'blank line')} left out")
    return lines


def headline(report: Report, whole: Sequence[Finding] = ()) -> str:
    """What a report comes to, in one line."""
    errors, warnings = totals(report, whole).values()
    state = "good" if report.ok else f"{report.good:,} good and {report.bad:,} bad"
    if not (report.ok or report.bad):
        state = "good, in a file that is not"
    counts = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"
    return f"{report.path}: {plural(report.records, f'{report.kind} record')}, {state}; {counts}; {size(report.size)}"


def _summary(report: Report, whole: Sequence[Finding] = ()) -> list[str]:
    """The headline, in lines that fit the terminal."""
    return wrapped(headline(report, whole), "")


# --- rules ----------------------------------------------------------------------------------------------------


def rules(arguments: argparse.Namespace) -> int:
    """List every rule."""
    from nova_dpo_sdk.datasets._renderings import rules_as_markdown

    wanted = "json" if arguments.json else arguments.format
    if wanted == "json":
        say_json([{**asdict(rule), "severity": str(rule.severity)} for rule in RULES.values()])
    elif wanted == "markdown":
        say(rules_as_markdown().rstrip("\n"))
    else:
        for rule in RULES.values():
            texts = (f"{rule.says} {rule.fix}", f"Source: {rule.source}.")
            say(f"{rule.severity} [{rule.code}]", *(line for text in texts for line in wrapped(text)))
    return GOOD


# --- profile and split ----------------------------------------------------------------------------------------


def profile(arguments: argparse.Namespace) -> int:
    """Say what data are made of."""
    with ExitStack() as stack:
        data = stack.enter_context(_opened(arguments, arguments.file))
        other = arguments.validation and stack.enter_context(_opened(arguments, arguments.validation))
        found = data.profile(other or None)
    if arguments.file == STREAM:
        found = replace(found, name=STDIN)
    if arguments.json:
        say_json(found.to_dict())
    else:
        say(*profile_lines(found))
    if arguments.plot:
        found.plot(arguments.plot)
        complain(f"Drew {arguments.plot}.")
    return GOOD if found.records else BAD


def profile_lines(found: Profile) -> list[str]:
    """A profile in lines that fit the terminal."""
    lines = [*wrapped(in_shell_words(found.headline()), ""), "", *found.table(), ""]
    for remark in found.remarks():
        lines += wrapped(remark, "  ")
    advice = found.advice()
    if advice is None:
        return lines
    lines += ["", *wrapped(f"recommended {advice.headline()}", "")]
    for each in advice.recommendations:
        lines += wrapped(f"{each.name} {each.value:,}: {each.reason}", "  ")
        lines += wrapped(f"Careful: {each.warning}" if each.warning else "")
        lines += wrapped(f"Source: {each.source}.")
    return lines


def split(arguments: argparse.Namespace) -> int:
    """Write data to two files, no prompt in both."""
    if STREAM in (arguments.train, arguments.validation):
        arguments.usage("TRAIN and VALIDATION are files; - is for FILE alone")
    with _opened(arguments, arguments.file) as data:
        done = data.split(arguments.train, arguments.validation, fraction=arguments.fraction)
    if arguments.json:
        counts = {"records": done.read, "train": done.train_records, "validation": done.validation_records}
        say(json.dumps(counts | {"fraction": done.fraction}, indent=2))
    else:
        say(*wrapped(str(done), ""))
    return GOOD


# --- convert --------------------------------------------------------------------------------------------------


def convert(arguments: argparse.Namespace) -> int:
    """Write data of any known layout as Nova JSONL."""
    tell = complain if arguments.target == STREAM else say
    with (
        readable(arguments.source) as source,
        _told_as(source, arguments.source),
        writable(arguments.target) as target,
    ):
        done, report = _converted(arguments, source, target)
    report = replace(report, path=STDOUT if arguments.target == STREAM else Path(arguments.target))
    whole = report.against()
    step = _upload_of(arguments, report)
    if arguments.json:
        tell(json.dumps({**_plain(done, report, whole), "next": step}, indent=2, ensure_ascii=False))
    else:
        tell(*conversion_lines(done), *finding_lines([*report.findings(), *whole]), *_summary(report, whole))
        tell(*_next(step))
    return BAD if _is_bad(report, whole) else GOOD


def _converted(arguments: argparse.Namespace, source: Path, target: Path) -> tuple[Conversion[Any], Report]:
    layout = arguments.layout or detect_layout(source)
    kind = arguments.kind or _kind_that_fits(layout)
    made = PreferenceDataset if kind == "preference" else ChatDataset
    done: Conversion[Any] = made.convert(
        source,
        target,
        layout=layout,
        clean_reserved=arguments.clean_reserved,
        local_images=arguments.local_images,
    )
    rules = {_LOCAL: "warning"} if arguments.local_images else {}  # what was asked for is no error yet
    return done, _of_kind(kind, target, rules).report()


def _upload_of(arguments: argparse.Namespace, report: Report) -> str:
    """The command that brings the images of what was converted to S3; empty when all are there."""
    if not (arguments.local_images and report.counts.get(_LOCAL)):
        return ""
    target, folder = arguments.target, _folder(arguments.source)
    told = [] if target != STREAM and _folder(target).resolve() == folder.resolve() else [str(folder)]
    words = ["nova-dpo", "data", "upload", target, "--local-images", *told, "--to", "OUT.jsonl", "--output", "S3"]
    return shlex.join(words)


def _folder(name: str) -> Path:
    """Where the paths in data of that name start."""
    return Path() if name == STREAM or name.startswith("s3://") else Path(name).parent


def _next(command: str) -> list[str]:
    return [f"Next: {command}"] if command else []


def _kind_that_fits(layout: str) -> str:
    from nova_dpo_sdk.datasets._layouts import BY_NAME

    known = BY_NAME.get(layout)
    return "chat" if known is not None and known.kind == "chat" else "preference"


def conversion_lines(done: Conversion[Any]) -> list[str]:
    """What a conversion did, one line for each rule that dropped or mended something."""
    lines = [f"{plural(done.read, 'record')} read as {done.layout}, {done.written:,} written"]
    for verb, counts in (("dropped", done.dropped), ("mended", done.mended)):
        lines += [f"  {verb:<7} {count:>7,}  {code}" for code, count in counts.items()]
    first_of_each = {each.code: each for each in reversed(done.details)}
    for each in sorted(first_of_each.values(), key=lambda detail: detail.record):
        lines += wrapped(in_shell_words(f"such as record {each.record}: {each.message}"), "  ")
    return lines


def _plain(done: Conversion[Any], report: Report, whole: list[Finding]) -> dict[str, Any]:
    return {
        "file": str(report.path),
        "kind": report.kind,
        "layout": done.layout,
        "read": done.read,
        "written": done.written,
        "dropped": dict(done.dropped),
        "mended": dict(done.mended),
        "details": [{"record": each.record, "code": each.code, "message": each.message} for each in done.details],
        **totals(report, whole),
        "findings": [finding_dict(each) for each in whole],
    }


# --- upload ---------------------------------------------------------------------------------------------------


def upload(arguments: argparse.Namespace) -> int:
    """Check data and send them to S3 at the same time; print where they are."""
    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends import progress_bar
    from nova_dpo_sdk.backends._staging import stage
    from nova_dpo_sdk.cli._place import aws

    _refuse_lone(arguments)
    store = aws(arguments)
    output = S3Uri.parse(arguments.output)
    if arguments.local_images is not None:
        return _upload_with_images(arguments, store, output)
    with _opened(arguments, arguments.file) as data:
        total = data.path.stat().st_size if not data.sources else 0
        with progress_bar(total) as told:
            staged = stage(store, data, output, told)
    where = arguments.file if data.sources else staged.where  # what is in S3 stays where it is
    _tell_upload(arguments, where, _named(arguments, data, staged.report()), {})
    return GOOD


def _refuse_lone(arguments: argparse.Namespace) -> None:
    """Wrong usage when the options for images do not go together."""
    if (arguments.local_images is None) != (arguments.to is None):
        arguments.usage("--local-images and --to OUT go together; OUT is the file that plan and submit take afterwards")
    if arguments.to == STREAM:
        arguments.usage("--to names a file; standard output is for the address of the data")
    if arguments.local_images and not Path(arguments.local_images).is_dir():
        arguments.usage(f"--local-images: {arguments.local_images} is no directory; the images' paths start there")


def _upload_with_images(arguments: argparse.Namespace, store: AWS, output: S3Uri) -> int:
    """The same with images on this machine, which are sent before the data that name them."""
    from nova_dpo_sdk.backends import progress_bar
    from nova_dpo_sdk.backends._staging import expect_good, send_images, stage

    target = Path(arguments.to)
    refuse_same(None if arguments.file == STREAM else Path(arguments.file), target)
    store.check_bucket(output)
    with _opened(arguments, arguments.file) as data, held_back(target) as piece, _told_as(piece, arguments.file):
        expect_good(replace(data, rules={**data.rules, _LOCAL: "off"}))  # of the lines as the user knows them
        base = arguments.local_images or _folder(arguments.file)
        made = data.with_images(piece, output=str(output), owner=store.account(), base_dir=base)
        made = replace(made, known=made.check(hashed=True))
        with progress_bar(piece.stat().st_size + sum(each.size for each in made.images)) as told:
            sent = send_images(store, made.images, told)
            staged = stage(store, replace(made, images=()), output, told)
    step = _submit_of(arguments)
    more = {"images": len(made.images), "images_sent": sent, "file": arguments.to, "next": step}
    _tell_upload(arguments, staged.where, staged.report().of(target), more)
    if not arguments.json:
        complain(*_image_lines(made.images, sent), *_next(step))
    return GOOD


def _image_lines(images: Sequence[LocalImage], sent: int) -> list[str]:
    odd = [each.note for each in images if each.note]
    more = f"; {plural(len(odd), 'image')} by another format than their names end in: {odd[0]}" if odd else ""
    total = size(sum(each.size for each in images))
    counts = f"{sent:,} sent, {len(images) - sent:,} there before"
    return wrapped(f"{plural(len(images), 'image')} ({total}): {counts}{more}", "")


def _submit_of(arguments: argparse.Namespace) -> str:
    """The command that trains on what was uploaded, without what only the user knows."""
    words = ["nova-dpo", "submit", "--recipe", "RECIPE.yaml", "--data", arguments.to, "--output", arguments.output]
    return shlex.join([*words, *(["--local", arguments.local] if arguments.local else ["--cluster", "NAME"])])


def _tell_upload(arguments: argparse.Namespace, where: str, report: Report, more: dict[str, Any]) -> None:
    if arguments.json:
        say_json({"uri": where, "sha256": report.sha256, "size": report.size, "records": report.records} | more)
        return
    whole = report.against(rules=_rules(arguments))
    complain(*finding_lines([*report.findings(), *whole]), *_summary(report, whole))
    say(where)

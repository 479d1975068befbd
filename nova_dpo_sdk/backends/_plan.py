"""A plan: everything that would be sent, and everything that is to be said about it; nothing is sent here."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._version import __version__
from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._media import beyond, owner_findings
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, Finding, Judged, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends._contract import Backend
    from nova_dpo_sdk.datasets import Dataset, MediaPlace, Report
    from nova_dpo_sdk.recipes import Recipe

NAME_STEM = 34
"""Longest part of a job's name before its suffix, in characters (HyperPod's own launcher: 34 + 1 + 5 <= 40)."""
_SUFFIX_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SUFFIX = 5
_DATA_KEYS = ("data_s3_path", "validation_data_s3_path")
LABEL_DIGEST = 40
"""Characters of the digest that a Kubernetes label carries (a label value holds at most 63)."""


@dataclass(frozen=True)
class Upload:
    """One file and where its bytes go.

    Attributes:
        path: The file on this machine.
        uri: Where it is kept: under its own SHA-256, so the same bytes are never sent twice.
        sha256: SHA-256 of the bytes, in hexadecimal.
        size: Bytes.
        records: Records in it; 0 for an image.
        role: `data`, `validation` or `image`.
        version: For what is in S3 already and stays there: its entity tag. Nothing is sent then.
    """

    path: Path
    uri: str
    sha256: str
    size: int
    records: int
    role: str = "data"
    version: str = ""

    @property
    def in_place(self) -> bool:
        """Whether the bytes are in S3 already, under `uri`, and are used where they are."""
        return bool(self.version)


@dataclass(frozen=True)
class PlanInputs:
    """What a plan was made from, so that it can be made again."""

    recipe: Recipe
    data: Dataset
    validation: Dataset | None
    output: S3Uri
    allow: frozenset[str]
    attempt: int


@dataclass(frozen=True)
class Plan(Judged):
    """A run before it is sent: print it, read it, then submit the very same value.

    Attributes:
        name: The job's name: the recipe's, made legal, with a suffix from the digest.
        digest: SHA-256 over recipe, data, platform, cluster, namespace and attempt; the same for the same run.
        attempt: 1 for the first try; `again()` counts up.
        recipe: The recipe as it will be written, with the job's name and every S3 path in it.
        target: Where it would run.
        uploads: Which bytes would go where.
        objects: What would be sent, in order.
        findings: Errors, warnings and notes.
        unresolved: What only AWS knows, with the placeholder that stands for it until a submit asks.
        media: Where in S3 the images, videos and documents of the records lie.
    """

    name: str
    digest: str
    attempt: int
    recipe: Recipe
    target: dict[str, str]
    uploads: tuple[Upload, ...]
    objects: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    unresolved: dict[str, str]
    inputs: PlanInputs = field(repr=False)
    backend: Backend = field(repr=False, compare=False)
    media: tuple[MediaPlace, ...] = ()

    @property
    def ref(self) -> str:
        """The reference that the job will have."""
        return str(self.backend.ref(self.name))

    @property
    def folder(self) -> S3Uri:
        """Where the recipe and this plan are kept for later."""
        return self.inputs.output.join("plans", self.name)

    def again(self) -> Plan:
        """The next attempt of the same run: another name, so that a failed job is not in its way."""
        return draft(self.backend, replace(self.inputs, attempt=self.attempt + 1))

    def resolved(self) -> Plan:
        """The same plan with what its backend has learned from AWS since."""
        if not self.unresolved:
            return self
        objects = self.backend.render(self.recipe, self.digest)
        return replace(self, objects=objects, unresolved=self.backend.unresolved())

    def expect_place(self, backend: Backend, output: S3Uri, who: str) -> None:
        """Make sure that this plan is for the place where a backend runs jobs, and for an output.

        Args:
            backend: Where jobs run.
            output: Where everything is kept.
            who: Whose they are, to tell: the subject of a sentence.

        Raises:
            ConfigurationError: It is for another place, or another output.
        """
        if self.target != backend.identity() or self.inputs.output != output:
            raise ConfigurationError(
                f"{self.name} was planned for {self.target} and {self.inputs.output}; {who} runs on "
                f"{backend.identity()} and {output}. Plan it with this client, or use the one that planned it."
            )

    def on(self, backend: Backend) -> Plan:
        """The same plan with what a backend of the same place has learned from AWS.

        Args:
            backend: The plan's own one, or another for its place, such as one with new credentials.

        Raises:
            ConfigurationError: That backend would send something else than this plan shows.
        """
        here = replace(
            self, objects=backend.render(self.recipe, self.digest), unresolved=backend.unresolved(), backend=backend
        )
        placeholders = {**self.unresolved, **here.unresolved}.values()
        # An account that only one of the two has learned may stand in what the caller wrote for both, such as an image.
        account = backend.aws.known_account or self.backend.aws.known_account
        if _as_shown(self, placeholders, account) != _as_shown(here, placeholders, account):
            raise ConfigurationError(
                f"{self.name} was planned with other options than this client's backend has: what is sent would not be "
                f"what was printed. Plan it with this client; after a failure, with attempt={self.attempt + 1}."
            )
        return here

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, the same for the same plan; what is kept beside the run."""
        checkpoint = self.recipe.checkpoint
        return {
            "schema": 1,
            "sdk": __version__,
            "name": self.name,
            "ref": self.ref,
            "digest": self.digest,
            "attempt": self.attempt,
            "technique": str(self.recipe.technique),
            "model": str(self.recipe.model),
            "tuning": str(self.recipe.tuning.kind),
            "platform": str(self.backend.platform),
            "output": str(self.inputs.output),
            "target": dict(self.target),
            "starts_from": self.recipe.model_name_or_path,
            "parent": checkpoint.job if checkpoint else "",
            "uploads": [
                {"file": _readable(each.path.name), "uri": each.uri, "sha256": each.sha256, "size": each.size,
                 "records": each.records, "role": each.role, "in_place": each.in_place} for each in self.uploads
            ],
            "findings": [_finding_dict(each) for each in self.findings],
            "recipe": self.recipe.to_dict(),
            "objects": list(self.objects),
        }  # fmt: skip

    def to_json(self) -> str:
        """`to_dict()` as indented JSON with a last newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        from nova_dpo_sdk.backends._show import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from nova_dpo_sdk.backends._show import plan_html

        return plan_html(self)


def _finding_dict(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "where": finding.where,
        "message": finding.message,
        "allowed": finding.allowed,
        "fix": finding.fix,
        "source": finding.source,
    }


def _readable(name: str) -> str:
    """A file's name in Unicode: the system may hold bytes in it that no text has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _as_shown(plan: Plan, placeholders: Iterable[str], account: str | None) -> str:
    """What would be sent, with the placeholders for what was not known to everybody."""
    text = json.dumps(plan.objects, sort_keys=True)
    for placeholder in placeholders:
        text = text.replace(account or placeholder, placeholder)
    return text


def draft(backend: Backend, inputs: PlanInputs) -> Plan:
    """Make the plan of one run. Reads the data sets; asks no network.

    Args:
        backend: Where it would run.
        inputs: The recipe, its data, the output and the attempt.
    """
    recipe = inputs.recipe.for_instance(backend.instance_type)
    uploads, found, media = _read_data(recipe, inputs)
    recipe = recipe.replace(**_paths(inputs, uploads))
    digest = _digest(backend, recipe, uploads, inputs.attempt)
    name = job_name(recipe.name, digest)
    found = [
        *recipe.findings(backend.instance_type, backend.platform, backend.catalog),
        *backend.findings(recipe),
        *found,
        *owner_findings(media, backend, inputs.output),
    ]
    if name.rpartition("-")[0] != recipe.name:
        found.append(_renamed(recipe.name, name))
    written = recipe.replace(name=name)
    return Plan(
        name=name,
        digest=digest,
        attempt=inputs.attempt,
        recipe=written,
        target=backend.identity(),
        uploads=(*(upload for upload in uploads if upload is not None), *_images(inputs)),
        objects=backend.render(written, digest),
        findings=tuple(each for each in found if not (each.severity is Severity.WARNING and each.code in inputs.allow)),
        unresolved=backend.unresolved(),
        inputs=inputs,
        backend=backend,
        media=tuple(media),
    )


def job_name(name: str, digest: str) -> str:
    """A legal job name: a DNS label that starts with a letter, at most 40 characters, ending in the digest's suffix."""
    return f"{job_stem(name)}-{_suffix(digest)}"


def job_stem(name: str) -> str:
    """What the names of all jobs of a recipe begin with: the recipe's own name, made legal."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not stem or not stem[0].isalpha():
        stem = f"run-{stem}".strip("-")
    return stem[:NAME_STEM].rstrip("-")


def _suffix(digest: str) -> str:
    number = int(digest[:16], 16)
    letters = ""
    for _ in range(_SUFFIX):
        number, rest = divmod(number, len(_SUFFIX_LETTERS))
        letters += _SUFFIX_LETTERS[rest]
    return letters


def _renamed(given: str, name: str) -> Finding:
    return Finding(
        code="name-made-legal",
        severity=Severity.NOTE,
        where="name",
        message=f"The job is called {name}: {given!r} is not a legal job name.",
        value=given,
        allowed="small letters, digits and hyphens, starting with a letter",
    )


def _digest(backend: Backend, recipe: Recipe, uploads: list[Upload | None], attempt: int) -> str:
    tree = recipe.to_dict()
    for key, _ in zip(_DATA_KEYS, uploads, strict=False):
        tree["run"].pop(key, None)  # its checksum stands for it; a path that the recipe itself names has none
    covered = {
        "recipe": tree,
        "data": [upload.sha256 if upload else "" for upload in uploads],
        "place": backend.identity(),
        "attempt": attempt,
    }
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _paths(inputs: PlanInputs, uploads: list[Upload | None]) -> dict[str, str]:
    paths = {"output_s3_path": str(inputs.output)}
    for key, upload in zip(_DATA_KEYS, uploads, strict=False):
        if upload is not None:
            paths[key] = upload.uri
    return paths


def _read_data(recipe: Recipe, inputs: PlanInputs) -> tuple[list[Upload | None], list[Finding], list[MediaPlace]]:
    uploads: list[Upload | None] = []
    found: list[Finding] = []
    media: list[MediaPlace] = []
    for role, data in (("data", inputs.data), ("validation", inputs.validation)):
        if data is None:
            continue
        try:
            report = data.report(hashed=True)
        except DatasetError as error:
            found.append(Finding("data-unreadable", Severity.ERROR, role, str(error), data.where))
            uploads.append(None)
            continue
        found += [replace(each, where=each.where.replace("data", role, 1)) for each in report.findings()]
        if role == "data":
            found += _against(recipe, report, data.rules)
        found += [*_many_files(role, data), *_images_elsewhere(role, data, inputs.output), *beyond(role, report)]
        uploads.append(_upload(role, data, report, inputs.output))
        media += report.media
    return uploads, found, media


def _upload(role: str, data: Dataset, report: Report, output: S3Uri) -> Upload:
    size = (report.sha256, report.size, report.records)
    if data.sources:
        return Upload(data.path, data.sources[0].name, *size, role=role, version=data.sources[0].version)
    return Upload(data.path, str(output.join("datasets", report.sha256, data.name)), *size, role=role)


def _images(inputs: PlanInputs) -> tuple[Upload, ...]:
    """The pictures that go beside the data, each once."""
    shown = {each.uri: each for data in (inputs.data, inputs.validation) if data for each in data.images}
    return tuple(Upload(each.path, each.uri, each.sha256, each.size, 0, role="image") for each in shown.values())


def _many_files(role: str, data: Dataset) -> Iterable[Finding]:
    if len(data.sources) > 1:
        yield Finding(
            code="data-in-many-files",
            severity=Severity.ERROR,
            where=role,
            message=f"The records lie in {len(data.sources):,} files.",
            value=len(data.sources),
            allowed="A run reads one file",
            fix="Join the files into one: download them, `cat *.jsonl > all.jsonl`, and plan with from_jsonl().",
            source="AWS Nova user guide, data preparation",
        )


def _images_elsewhere(role: str, data: Dataset, output: S3Uri) -> Iterable[Finding]:
    outside = [each for each in data.images if not each.uri.startswith(f"s3://{output.bucket}/")]
    if outside:
        yield Finding(
            code="images-in-another-bucket",
            severity=Severity.WARNING,
            where=role,
            message=f"{plural(len(outside), 'image')} would go to another bucket than the data, "
            f"such as {outside[0].uri}.",
            value=outside[0].uri,
            allowed=f"Images lie in s3://{output.bucket}/, as the data will",
            fix=f"Write the records with with_images(output={str(output)!r}).",
            source="AWS Nova user guide, data preparation",
        )
    odd = [each for each in data.images if each.note]
    if odd:
        yield Finding(
            code="image-extension",
            severity=Severity.NOTE,
            where=role,
            message=f"{plural(len(odd), 'image')} by another format than their names end in; the first: {odd[0].note}.",
        )


def _against(recipe: Recipe, report: Report, rules: Mapping[str, str]) -> list[Finding]:
    found = report.against(
        model=str(recipe.model),
        max_length=recipe.max_length,
        global_batch_size=recipe.global_batch_size,
        rules=rules,
    )
    return [*found, *_warm_up(recipe, report.records)]


def _warm_up(recipe: Recipe, records: int) -> Iterable[Finding]:
    epochs: int | None = getattr(recipe, "max_epochs", None)
    warm_up: int = getattr(recipe, "warmup_steps", 0)
    batch = recipe.global_batch_size
    if epochs is None or batch < 1 or warm_up == 0:
        return
    steps = math.ceil(records / batch) * epochs
    if warm_up >= steps:
        yield Finding(
            code="warmup-outlasts-training",
            severity=Severity.WARNING,
            where="warmup_steps",
            message=f"warmup_steps is {warm_up}, but training on {plural(records, 'record')} ends after "
            f"{plural(steps, 'step')}: the learning rate never reaches lr.",
            value=warm_up,
            allowed=f"below {steps}",
            fix="Lower warmup_steps or global_batch_size, or train on more data.",
            source="steps = records / global_batch_size x max_epochs",
        )

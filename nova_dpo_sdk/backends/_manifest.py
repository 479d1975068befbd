"""The manifest that a finished run leaves in S3, and the checkpoint that it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.backends._archive import ArchiveError, find_members
from nova_dpo_sdk.errors import CheckpointError

if TYPE_CHECKING:
    from datetime import datetime

    from nova_dpo_sdk.aws import AWS, S3Uri

KEYS = ("checkpoint_s3_bucket", "checkpoint_s3_path", "checkpoint_s3_uri")
"""Where a manifest may say it, best first. Despite its name the first one holds a whole S3 path."""
MANIFEST = "manifest.json"
LARGEST = 1024 * 1024
"""Longest manifest, in bytes."""


@dataclass(frozen=True)
class RunManifest:
    """A manifest as it was found.

    Attributes:
        uri: The object that held it.
        checkpoint: What it names: a whole S3 path, or a path relative to the escrow location.
        raw: All of it.
    """

    uri: S3Uri
    checkpoint: str
    raw: dict[str, Any]


def find_manifest(aws: AWS, output: S3Uri, job: str, *, ref: str, not_before: datetime | None) -> RunManifest:
    """Find the manifest of a job wherever a platform may have left it.

    Args:
        aws: Where to look.
        output: The run's `output_s3_path`.
        job: The job's name.
        ref: Its reference, for errors.
        not_before: When the job was created: an older manifest belongs to somebody else. None when unknown.

    Raises:
        CheckpointError: There is none, it is older than the job, or it names no checkpoint.
    """
    folder = output.join(job)
    looked: list[str] = []
    for place, reader in (
        (folder.join("manifest.json"), _plain),
        (folder.join("output", "output", "manifest.json"), _plain),
        (folder.join("output", "output.tar.gz"), _archived),
    ):
        looked.append(str(place))
        head = aws.head(place)
        if head is None:
            continue
        if not_before is not None and head.last_modified < not_before.replace(microsecond=0):
            looked[-1] += " (older than the job, so not its own)"
            continue
        try:
            return _read(place, reader(aws, place), ref)
        except ArchiveError as error:
            message = f"{place} was left by {job}, and no manifest can be read from it: {error}. {_ASK}"
            raise CheckpointError(message, ref=ref) from error
    raise CheckpointError(
        f"No manifest of {job} was found; looked at {', '.join(looked)}. "
        "It is written at the end of a run: if the job succeeded just now, ask again in a minute.",
        ref=ref,
    )


def _plain(aws: AWS, place: S3Uri) -> bytes:
    return aws.read(place, limit=LARGEST).body


def _archived(aws: AWS, place: S3Uri) -> bytes:
    """The manifest inside an archive, read as a stream: nothing is extracted, so no path in it matters."""
    with aws_errors("GetObject", str(place)), aws.stream(place) as stream:
        found = find_members(stream, (MANIFEST,), largest=LARGEST)
    if MANIFEST not in found:
        raise ArchiveError(f"it holds no {MANIFEST} of at most {LARGEST:,} bytes")
    return found[MANIFEST].body


def _read(place: S3Uri, body: bytes, ref: str) -> RunManifest:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"The manifest {place} is not JSON: {error}. {_ASK}", ref=ref) from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"The manifest {place} is JSON, but not an object. {_ASK}", ref=ref)
    fields = cast("dict[str, Any]", raw)
    for key in KEYS:
        value = fields.get(key)
        if isinstance(value, str) and value.strip():
            return RunManifest(place, value.strip(), fields)
    raise CheckpointError(
        f"The manifest {place} names no checkpoint: none of {', '.join(KEYS)} holds a path. "
        f"It has {sorted(fields)}. {_ASK}",
        ref=ref,
    )


_ASK = "The run may still be sound: show the manifest to AWS support before training again."


def absolute(manifest: RunManifest, escrow: list[str], *, ref: str) -> str:
    """The checkpoint as a whole S3 path; a relative one is joined to the escrow location.

    Args:
        manifest: What was found.
        escrow: The distinct escrow locations that the run may have written to.
        ref: The job's reference, for errors.

    Raises:
        CheckpointError: It is relative and there is not exactly one escrow location.
    """
    if manifest.checkpoint.startswith("s3://"):
        return manifest.checkpoint.rstrip("/")
    if len(escrow) != 1:
        raise CheckpointError(
            f"The manifest {manifest.uri} names {manifest.checkpoint!r}, relative to the escrow location, and there "
            f"are {len(escrow)} of them ({', '.join(escrow) or 'none'}): which one it is must not be guessed. {_ASK}",
            ref=ref,
        )
    return f"{escrow[0].rstrip('/')}/{manifest.checkpoint.strip('/')}"

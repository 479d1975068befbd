"""Where a checkpoint comes from: every run before it, with its recipe and its data, back to the base model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import JobRef
from nova_dpo_sdk.errors import ConfigurationError, ServiceError
from nova_dpo_sdk.recipes import Checkpoint
from nova_dpo_sdk.recipes._checkpoint import STAND_IN

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import AWS

Json = dict[str, Any]

SCHEMA = 1
"""Version of a lineage's JSON."""
_LONGEST = 1000
_KEPT = ("technique", "model", "tuning", "platform", "target", "digest", "attempt", "sdk", "recipe")
_OF_DATA = ("role", "file", "uri", "sha256", "records", "size")


def lineage(aws: AWS, output: S3Uri, start: Checkpoint | str) -> Json:
    """Everything that a checkpoint was made of, from the records that lie beside the runs.

    Args:
        aws: Where S3 is.
        output: The output that the runs were submitted with.
        start: A checkpoint, its S3 path, or the reference of the job that made it.

    Returns:
        `steps`, the newest first: each with job, recipe, digest and data; `base_model`, what the first one started
        from; and `complete`: false when a run before has no record under this output, which `missing` names.

    Raises:
        ConfigurationError: `start` names no job, or none that has a record here.
    """
    uri, job = _named(start)
    steps: list[Json] = []
    told: Json = {"schema": SCHEMA, "checkpoint": uri, "complete": False, "base_model": None, "missing": None}
    while len(steps) < _LONGEST:
        plan = _plan(aws, output, job)
        if plan is None:
            told["missing"] = {"checkpoint": uri, "job": job}
            break
        steps.append(_step(uri, plan))
        begun = str(plan["starts_from"])
        if not begun.startswith("s3://"):
            told.update(complete=True, base_model=begun)
            break
        uri, job = _before(plan)
    if not steps:
        raise ConfigurationError(
            f"{job or uri} has no record under {output}/plans. Give the output that the run was submitted with."
        )
    return {**told, "steps": steps}


def _named(start: Checkpoint | str) -> tuple[str | None, str]:
    """The path and the job's name of what somebody asks about."""
    if isinstance(start, Checkpoint):
        return start.uri, JobRef.parse(start.job).name if start.job else _first_part(start.uri)
    if start.startswith("s3://"):
        return start.rstrip("/"), _first_part(start)
    return None, JobRef.parse(start).name


def _before(plan: Json) -> tuple[str | None, str]:
    """The same of the run before; a machine that handed a checkpoint over left only the name of its job."""
    uri = str(plan["starts_from"])
    ref = str(plan.get("parent") or "")
    job = JobRef.parse(ref).name if ref else _first_part(uri)
    return (None if uri.startswith(f"s3://{STAND_IN}") else uri), job


def _first_part(uri: str) -> str:
    """Nova keeps a checkpoint below the name of its job: s3://<escrow>/<job>/... (AWS Nova user guide)."""
    return S3Uri.parse(uri).key.partition("/")[0]


def _plan(aws: AWS, output: S3Uri, job: str) -> Json | None:
    if not job:
        return None
    place = output.join("plans", job, "plan.json")
    held = aws.read_or_none(place)
    if held is None:
        return None
    try:
        plan: Json = json.loads(held.body)
        _ = plan["starts_from"], plan["ref"], plan["uploads"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{place} is not the record of a plan: {error}.", target=str(place)) from error
    return plan


def _step(uri: str | None, plan: Json) -> Json:
    data = [{key: each.get(key) for key in _OF_DATA} for each in plan["uploads"] if each.get("role") != "image"]
    images = sum(each.get("role") == "image" for each in plan["uploads"])
    return {
        "checkpoint": uri,
        "job": plan["ref"],
        **{key: plan.get(key) for key in _KEPT},
        "data": data,
        "images": images,
        "starts_from": None if str(plan["starts_from"]).startswith(f"s3://{STAND_IN}") else plan["starts_from"],
    }

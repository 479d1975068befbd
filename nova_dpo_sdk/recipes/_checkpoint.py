"""A checkpoint: where a finished run's weights are, and what may be trained on from them."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from nova_dpo_sdk.catalog import NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.recipes._values import Value, refused, shown

ESCROW_PREFIX = "customer-escrow-"
"""How the service names the buckets that hold checkpoints (AWS Nova user guide, iterative training)."""

STAND_IN = "checkpoint-of."
"""What the bucket of a stand-in begins with, for a checkpoint that is not there yet; its job's name follows."""

_S3_PATH = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?\Z")
_PLATFORM_MARKS = {"-hp-": Platform.HYPERPOD, "-smtj-": Platform.TRAINING_JOBS}


def platform_of(uri: str) -> Platform | None:
    """The platform that an escrow bucket's name tells of, or None when it tells nothing."""
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if not bucket.startswith(ESCROW_PREFIX):
        return None
    return next((platform for mark, platform in _PLATFORM_MARKS.items() if mark in bucket), None)


def _inferred(data: dict[str, Any]) -> Platform | None:
    return platform_of(data.get("uri", ""))


class Checkpoint(Value, frozen=True):
    """The weights that a finished run left, as the next run's starting point.

    A next run must train the same model with the same kind of tuning on the same platform (AWS Nova user
    guide, iterative training); `recipe.starting_from(checkpoint)` holds it to that.
    """

    uri: str
    """S3 path of the weights, as the run's manifest states it. Usually in an escrow bucket that AWS manages."""
    model: NovaModel = Field(strict=False)
    """The model that was trained."""
    tuning: TuningKind = Field(strict=False)
    """Whether an adapter or all weights were trained."""
    technique: Technique | None = Field(default=None, strict=False)
    """What it was trained with; None when unknown."""
    platform: Platform | None = Field(default_factory=_inferred, strict=False)
    """Where it was trained; told from the bucket's name when left out; None when unknown."""
    job: str = ""
    """Reference of the job that made it; empty when unknown."""

    @field_validator("uri")
    @classmethod
    def _an_s3_path(cls, uri: str) -> str:
        if _S3_PATH.match(uri):
            return uri
        raise refused(
            "checkpoint-not-s3",
            "uri",
            f"{shown(uri)} is not an S3 path.",
            uri,
            "s3://<bucket>/<path>",
            "Take the path from the run's manifest: job.checkpoint() does.",
        )

    @field_validator("platform")
    @classmethod
    def _as_the_bucket_says(cls, platform: Platform | None, info: ValidationInfo) -> Platform | None:
        told = platform_of(info.data["uri"]) if "uri" in info.data else None
        if platform is not None and told is not None and platform is not told:
            raise refused(
                "checkpoint-platform",
                "platform",
                f"platform is {platform}, but the bucket of {info.data['uri']} belongs to {told}.",
                platform,
                str(told),
                "Leave platform out; it is told from the bucket's name.",
            )
        return platform

"""What is kept of a stage in S3: frozen values, to and from a versioned JSON that a person can read."""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nova_dpo_sdk.catalog import NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.errors import ConfigurationError, ServiceError
from nova_dpo_sdk.recipes import Checkpoint
from nova_dpo_sdk.recipes._values import findings_of

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = 1
"""Version of a stage's record; a reader refuses any other."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


def legal_name(name: str, what: str) -> str:
    """The name of a chain or a stage, if it can be one.

    Raises:
        ConfigurationError: It is anything but small letters, digits and hyphens, at most 63.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is not a {what}'s name: small letters, digits and hyphens, at most 63.")
    return name


class StageStatus(str, Enum):
    """How far a stage has come, as its record says; only the platform knows how far its job has."""

    CLAIMED = "claimed"
    """About to be submitted: the intent is written down, the job may or may not be there."""
    SUBMITTED = "submitted"
    """Its job is on the platform."""
    FINISHED = "finished"
    """Its checkpoint is there."""
    REFUSED = "refused"
    """The platform refused the job, so none was made. Anything may take its place."""
    FAILED = "failed"
    """Its last attempt failed, or passed its deadline, and its retries are used up."""
    STOPPED = "stopped"
    """Somebody stopped or deleted its job before it finished."""
    RESET = "reset"
    """Put back by `chain.reset()`: the next run begins it anew."""

    @property
    def is_under_way(self) -> bool:
        """Whether a job of it may be running."""
        return self in (StageStatus.CLAIMED, StageStatus.SUBMITTED)

    def __str__(self) -> str:
        return self.value


class Outcome(str, Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    """It left a checkpoint."""
    FAILED = "failed"
    """Its job failed, or did not get on."""
    STOPPED = "stopped"
    """Its job was stopped or deleted before it finished."""
    ABANDONED = "abandoned"
    """Its job did not get on for a reason of the infrastructure; it is stopped before the next attempt is made."""
    OVERDUE = "overdue"
    """The stage's deadline passed, and the job was stopped for it."""
    REFUSED = "refused"
    """The platform refused to make the job."""
    RESET = "reset"
    """Given up by `chain.reset()` before it had ended."""

    def __str__(self) -> str:
        return self.value


class Kept(BaseModel):
    """A frozen part of a record. It is strict, but for what JSON has no type for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    def replace(self, **changes: Any) -> Self:
        """The same with these fields changed, checked again."""
        kept = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items()}
        return type(self)(**{**kept, **changes})


class DataDigest(Kept):
    """One data set that a stage is trained or validated on.

    Attributes:
        role: `data` or `validation`.
        file: Name of the file.
        uri: Where it lies in S3.
        sha256: SHA-256 of its bytes, in hexadecimal.
        records: Records in it.
        size: Bytes.
    """

    role: str
    file: str
    uri: str
    sha256: str
    records: int
    size: int


class Parent(Kept):
    """Where a stage starts from, when it does not start from the base model.

    Attributes:
        uri: S3 path of the checkpoint.
        job: Reference of the job that made it; empty when unknown.
        stage: The stage of the same chain that made it; empty when it comes from elsewhere.
    """

    uri: str
    job: str = ""
    stage: str = ""


class Attempt(Kept):
    """One job of a stage.

    Attributes:
        number: The attempt's number in its plan, from 1.
        digest: Digest of the stage that it was for: the same for each attempt at the same thing.
        job: The job's name.
        ref: The job's reference.
        claimed_at: When its intent was written down.
        submitted_at: When its job was known to be on the platform; None before.
        started_at: When the first of its instances was its own, as far as was seen; None before, and when unknown.
        ended_at: When its end was seen; None while it is under way.
        outcome: How it ended; None while it is under way.
        reason: Why it ended so, in one word, such as `NodeLost`; empty when there is nothing to say.
        message: The same in a sentence.
        checkpoint: S3 path of the checkpoint that it left; empty for none. It outlives a reset of the stage.
        retryable: Whether it was the infrastructure that failed, so that another attempt may succeed.
        trouble: The state in which its job was last seen not to get on, such as `stalled`; empty for none.
        trouble_since: When it was first seen so; None for no trouble.
    """

    number: int = Field(ge=1)
    digest: str
    job: str
    ref: str
    claimed_at: datetime
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = Field(default=None, strict=False)
    reason: str = ""
    message: str = ""
    checkpoint: str = ""
    retryable: bool = False
    trouble: str = ""
    trouble_since: datetime | None = None


class Acceptance(Kept):
    """A change of recipe or data that `chain.accept()` has declared to be none.

    Attributes:
        digest: Digest of the stage as it was changed to.
        at: When it was accepted.
        changes: What differed, one line for each.
    """

    digest: str
    at: datetime
    changes: tuple[str, ...] = Field(default=(), strict=False)


class StageRecord(Kept):
    """Everything that is kept of one stage: enough to go on from another machine, and to tell where it came from.

    Attributes:
        schema_version: `SCHEMA`; `schema` in the JSON.
        sdk: Version of the package that wrote it last.
        chain: Name of the chain.
        stage: Name of the stage.
        status: How far it has come.
        digest: What it is: digest of its first attempt's plan, over recipe, data and place.
        technique: What it is trained with.
        model: What is trained.
        tuning: Adapter or all weights.
        platform: Where it runs.
        instance_type: Of each replica, such as `ml.p5.48xlarge`.
        replicas: Instances of one attempt.
        gpus: GPUs of one instance; 0 when the catalog does not say.
        parent: Where it starts from; None for the base model.
        data: What it is trained on.
        plan: The current attempt's plan, whole, as `Plan.to_dict()` gives it.
        attempts: Every job of it, the first one first, those before a reset included.
        checkpoint: What it left; None until it is finished.
        accepted: Changes that were declared to be none.
        claimed_at: When it was begun, or begun anew.
        submitted_at: When its current job was first known to be there.
        finished_at: When its checkpoint was resolved, or its failure was seen; None while it is under way.
        deadline_at: When it must be finished; None for never.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    sdk: str
    chain: str
    stage: str
    status: StageStatus = Field(strict=False)
    digest: str
    technique: Technique = Field(strict=False)
    model: NovaModel = Field(strict=False)
    tuning: TuningKind = Field(strict=False)
    platform: Platform = Field(strict=False)
    instance_type: str
    replicas: int
    gpus: int = 0
    parent: Parent | None = None
    data: tuple[DataDigest, ...] = Field(strict=False)
    plan: dict[str, Any]
    attempts: tuple[Attempt, ...] = Field(strict=False)
    checkpoint: Checkpoint | None = None
    accepted: tuple[Acceptance, ...] = Field(default=(), strict=False)
    claimed_at: datetime
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None

    @property
    def current(self) -> Attempt:
        """The last attempt: the one that runs, or that decided how the stage ended."""
        return self.attempts[-1]

    def is_for(self, digest: str) -> bool:
        """Whether a stage with this digest is this one, or was accepted to be."""
        return digest == self.digest or any(each.digest == digest for each in self.accepted)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """The record as indented JSON with a last newline: what lies in S3."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the text") -> StageRecord:
        """Read a record.

        Args:
            text: What `to_json()` gave.
            where: Where it comes from, for an error.

        Raises:
            ServiceError: It is no record of a stage, or one of another schema.
        """
        schema = _schema_of(text, where)
        if schema != SCHEMA:
            raise ServiceError(
                f"{where} has schema {schema!r}; this version reads {SCHEMA}. Upgrade nova-dpo-sdk.", target=where
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            found = "; ".join(str(each) for each in findings_of(error, _FIELDS))
            raise ServiceError(f"{where} is not the record of a chain's stage: {found}", target=where) from None


_FIELDS = tuple("schema" if name == "schema_version" else name for name in StageRecord.model_fields)


def _schema_of(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{where} is not the record of a chain's stage: {error}.", target=where) from None

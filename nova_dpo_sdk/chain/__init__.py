"""Stages in a row, remembered in S3: run the script again after a crash and it goes on where it stood."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol, overload

from nova_dpo_sdk.catalog import NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.errors import ConfigurationError, ServiceError
from nova_dpo_sdk.jobs import FIVE_DAYS
from nova_dpo_sdk.recipes import Checkpoint, DPORecipe, Nova2SFTRecipe, Recipe, SFTRecipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends import Backend, JobSnapshot, Plan
    from nova_dpo_sdk.datasets import ChatDataset, Dataset, PreferenceDataset
    from nova_dpo_sdk.jobs import Job

SCHEMA = 1
"""Version of a stage's record."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


class Client(Protocol):
    """What a chain needs of a client; `NovaClient` is one."""

    @property
    def backend(self) -> Backend:
        """Where jobs run."""
        ...

    @property
    def output(self) -> S3Uri:
        """Under which S3 prefix everything is kept."""
        ...

    def draft(self, recipe: Recipe, data: Dataset, *, allow: Iterable[str] = ()) -> Plan:
        """Plan a run of any technique; checks that recipe and data belong together."""
        ...

    def submit(self, plan: Plan) -> Job:
        """Send a plan exactly once."""
        ...


class Chain:
    """A named row of stages. Each stage's record lies beside the outputs and is written before the job is sent.

    Used as a context manager or not: nothing is kept in memory that a second run of the script would miss.
    """

    def __init__(self, client: Client, name: str) -> None:
        if not _NAME.match(name):
            raise ConfigurationError(f"{name!r} is not a chain's name: small letters, digits and hyphens, at most 63.")
        self.name = name
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"Chain({self.name!r})"

    @property
    def folder(self) -> S3Uri:
        """Where the stages' records are kept."""
        return self._client.output.join("chains", self.name)

    @overload
    def run(
        self,
        stage: str,
        recipe: SFTRecipe | Nova2SFTRecipe,
        data: ChatDataset,
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        allow: Iterable[str] = (),
    ) -> Checkpoint: ...
    @overload
    def run(
        self,
        stage: str,
        recipe: DPORecipe,
        data: PreferenceDataset,
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        allow: Iterable[str] = (),
    ) -> Checkpoint: ...
    def run(
        self,
        stage: str,
        recipe: Recipe,
        data: Dataset,
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        allow: Iterable[str] = (),
    ) -> Checkpoint:
        """Run one stage to its checkpoint, or take the checkpoint of the run that finished before.

        Args:
            stage: The stage's name within the chain.
            recipe: What to train.
            data: What to train on.
            timeout: Seconds after which to stop waiting; the job runs on, and running again goes on waiting.
            on_update: Called with every snapshot that differs from the one before.
            allow: Codes of warnings to leave out.

        Raises:
            ConfigurationError: The stage ran before with another recipe or other data.
            JobError: The stage's job failed, was stopped, or is not finished in time.
        """
        if not _NAME.match(stage):
            raise ConfigurationError(f"{stage!r} is not a stage's name: small letters, digits and hyphens, at most 63.")
        plan = self._client.draft(recipe, data, allow=allow)
        record = self._claim(stage, plan)
        if record.get("checkpoint"):
            return _checkpoint(record["checkpoint"])
        job = self._client.submit(plan)
        checkpoint = job.result(timeout, on_update)
        self._advance(stage, plan, checkpoint)
        return checkpoint

    def _place(self, stage: str) -> S3Uri:
        return self.folder.join(f"{stage}.json")

    def _claim(self, stage: str, plan: Plan) -> dict[str, Any]:
        """The stage's record: a new one with the intent, or the one that a run before this left."""
        record = {"schema": SCHEMA, "chain": self.name, "stage": stage, "digest": plan.digest, "ref": plan.ref}
        body = _text({**record, "plan": plan.to_dict(), "checkpoint": None})
        place = self._place(stage)
        aws = self._client.backend.aws
        if not plan.ok or aws.write(place, body, content_type="application/json", only_if_absent=True) is not None:
            return record
        held = _read(aws.read(place).body, place)
        if held.get("digest") != plan.digest:
            raise ConfigurationError(
                f"Stage {stage} of {self.name} was begun with another recipe or other data (job {held.get('ref')}), "
                f"recorded in {place}. Give the changed stage another name, or delete that record to begin it anew."
            )
        return held

    def _advance(self, stage: str, plan: Plan, checkpoint: Checkpoint) -> None:
        aws = self._client.backend.aws
        place = self._place(stage)
        held = aws.read(place)
        record = _read(held.body, place)
        if record.get("checkpoint") or record.get("digest") != plan.digest:
            return  # somebody who ran the same chain beside us was faster; it is the same job
        record["checkpoint"] = checkpoint.model_dump(mode="json")
        aws.write(place, _text(record), content_type="application/json", only_if_etag=held.etag)


def _text(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _read(body: bytes, place: S3Uri) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(body)
        schema = record["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{place} is not the record of a chain's stage: {error}.", target=str(place)) from error
    if schema != SCHEMA:
        raise ServiceError(
            f"{place} has schema {schema}; this version reads {SCHEMA}. Upgrade the package.", target=str(place)
        )
    return record


def _checkpoint(data: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        uri=data["uri"],
        model=NovaModel(data["model"]),
        tuning=TuningKind(data["tuning"]),
        technique=Technique(data["technique"]) if data.get("technique") else None,
        platform=Platform(data["platform"]) if data.get("platform") else None,
        job=data.get("job", ""),
    )

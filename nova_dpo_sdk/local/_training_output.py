"""What a rehearsed training job leaves: lines in CloudWatch, the checkpoint in escrow, the archive in the bucket."""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._container import ContainerError
from ._logs import LocalLogs

if TYPE_CHECKING:
    from datetime import datetime

    from ._buckets import Buckets
    from ._container import Training

Json = dict[str, Any]

STEPS = 10
"""Steps that a rehearsed run reports."""


class TrainingLogs(LocalLogs):
    """The log group of all training jobs, with a stream for each host of each job."""

    @property
    def group(self) -> str:
        """The log group's name."""
        return "/aws/sagemaker/TrainingJobs"

    def tell(self, job: str, host: int, born: datetime, text: str, at: datetime) -> None:
        """Let a host of a job write a line."""
        stream = f"{job}/algo-{host}-{int(born.timestamp())}"
        self.put(stream, f"algo-{host}", text, at)


@dataclass(frozen=True)
class TrainingOutput:
    """Writes what jobs leave.

    Attributes:
        buckets: The cloud's buckets.
        escrow: The bucket for checkpoints, closed to the customer.
        logs: The log group.
    """

    buckets: Buckets
    escrow: str
    logs: TrainingLogs

    def begin(self, request: Json, training: Training, now: datetime) -> None:
        """Let every host say that it starts."""
        for host in range(_hosts(request)):
            text = f"Starting {training.technique} Job {training.job}"
            self.logs.tell(training.job, host + 1, now, text, now)

    def step(self, training: Training, number: int, born: datetime, now: datetime) -> None:
        """Let the first host report a step."""
        loss = _rows(training.technique)[number - 1][1]
        text = f"Epoch 0: : {number}it, reduced_train_loss={loss:.4f}, global_step={number:.1f}, lr=1.000e-05"
        self.logs.tell(training.job, 1, born, text, now)

    def say(self, request: Json, text: str, now: datetime) -> None:
        """Let the first host write a line."""
        self.logs.tell(str(request["TrainingJobName"]), 1, now, text, now)

    def finish(self, request: Json, training: Training, born: datetime, now: datetime, *, archive: str = "") -> None:
        """Write metrics, checkpoint and archive.

        Args:
            request: The CreateTrainingJob request.
            training: What was trained.
            born: When training began.
            now: The present moment.
            archive: What is wrong with the archive: `missing` or `broken`.

        Raises:
            ContainerError: The bucket for output is gone.
        """
        rows = _rows(training.technique)
        for host in range(_hosts(request)):
            self.logs.tell(training.job, host + 1, born, f"{training.technique} Job completed", now)
        bucket, prefix = training.output
        if self.buckets.find(bucket) is None:
            raise ContainerError(f"NoSuchBucket: {bucket}")
        place = f"{training.job}/{STEPS}"
        marker = {"job": training.job, "model_type": training.model_type, "technique": training.technique,
                  "tuning": training.tuning}  # fmt: skip
        self.buckets.write(self.escrow, f"{place}/checkpoint.json", json.dumps(marker).encode(), now)
        folder = "/".join(part for part in (prefix, training.job, "output") if part)
        if archive == "missing":
            return
        members = _members(f"s3://{self.escrow}/{place}", rows)
        if request["OutputDataConfig"].get("CompressionType") == "NONE":
            for name, text in members.items():
                self.buckets.write(bucket, f"{folder}/output/{name}", text.encode(), now)
        else:
            body = _archive(members, now)
            self.buckets.write(bucket, f"{folder}/output.tar.gz", body[: 60 if archive == "broken" else None], now)


def _hosts(request: Json) -> int:
    config: Json = request.get("ResourceConfig") or {}
    return int(config.get("InstanceCount", 1))


def _rows(technique: str) -> list[tuple[int, float]]:
    start, end = (0.6931, 0.2) if technique == "DPO" else (2.2, 0.6)
    return [(step, end + (start - end) * math.exp(-2.2 * step / STEPS)) for step in range(1, STEPS + 1)]


def _members(checkpoint: str, rows: list[tuple[int, float]]) -> dict[str, str]:
    lines = "".join(f"{step},{loss:.6f}\n" for step, loss in rows)
    return {
        "manifest.json": json.dumps({"checkpoint_s3_bucket": checkpoint}),
        "step_wise_training_metrics.csv": f"step_number,training_loss\n{lines}",
        "validation_metrics.csv": f"step_number,validation_loss\n{STEPS},{rows[-1][1] * 1.05:.6f}\n",
    }


def _archive(members: dict[str, str], now: datetime) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text.encode()), int(now.timestamp())
            archive.addfile(member, io.BytesIO(text.encode()))
    return held.getvalue()

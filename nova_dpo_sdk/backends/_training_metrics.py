"""The tables of metrics that a training job leaves in its archive, as rows."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.backends._archive import ArchiveError, find_members
from nova_dpo_sdk.backends._metrics import MetricRow, Metrics
from nova_dpo_sdk.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from nova_dpo_sdk.aws import AWS, S3Uri

TRAINING, VALIDATION = "step_wise_training_metrics.csv", "validation_metrics.csv"
LARGEST = 64 * 1024 * 1024
"""Longest table, in bytes."""

_Row = dict[str, float]


def read_saved(aws: AWS, output: S3Uri, job: str) -> Metrics:
    """The rows of both tables, joined by their steps.

    Raises:
        NotFoundError: There is no archive and no table beside a manifest, or no table in the archive.
    """
    place = output.join(job, "output", "output.tar.gz")
    head = aws.head(place)
    if head is None:
        return _plain(aws, output.join(job, "output", "output"), job)
    try:
        with aws_errors("GetObject", str(place)), aws.stream(place) as stream:
            found = find_members(stream, (TRAINING, VALIDATION), largest=LARGEST)
    except ArchiveError as error:
        raise NotFoundError(f"No metrics can be read from {place}: {error}.", target=str(place)) from error
    if not found:
        raise NotFoundError(f"{place} holds neither {TRAINING} nor {VALIDATION}.", target=str(place))
    return _metrics({name: each.body for name, each in found.items()}, head.last_modified, job)


def _plain(aws: AWS, folder: S3Uri, job: str) -> Metrics:
    """The tables of a job whose output is not packed."""
    held = {name: aws.read_or_none(folder.join(name), limit=LARGEST) for name in (TRAINING, VALIDATION)}
    found = {name: each for name, each in held.items() if each is not None}
    if not found:
        raise NotFoundError(
            f"{job} has left no archive and no tables: neither output.tar.gz nor {folder} exists (yet).",
            target=str(folder),
        )
    return _metrics({name: each.body for name, each in found.items()}, next(iter(found.values())).last_modified, job)


def _metrics(tables: dict[str, bytes], at: datetime, job: str) -> Metrics:
    listed = [[*_rows(tables[name])] for name in (TRAINING, VALIDATION) if name in tables]
    return Metrics((_metric(row, at) for row in _joined(listed)), job)


def _rows(body: bytes) -> Iterator[_Row]:
    for line in csv.DictReader(io.StringIO(body.decode("utf-8-sig", "replace"))):
        numbers = {str(key).strip(): _number(value) for key, value in line.items()}
        yield {key: value for key, value in numbers.items() if value is not None}


def _number(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _joined(tables: list[list[_Row]]) -> list[_Row]:
    joined: list[_Row] = []
    places: dict[float, _Row] = {}
    for row in (row for table in tables for row in table):
        step = row.get("step_number")
        if step is not None and step in places:
            places[step].update(row)
            continue
        joined.append(row)
        if step is not None:
            places[step] = row
    return joined


def _metric(row: _Row, at: datetime) -> MetricRow:
    step, epoch = row.get("step_number"), row.get("epoch_number")
    values = {key: value for key, value in row.items() if key not in ("step_number", "epoch_number")}
    return MetricRow(
        at=at,
        step=int(step) if step is not None and step.is_integer() else None,
        epoch=epoch,
        loss=row.get("training_loss"),
        lr=row.get("learning_rate"),
        values=values,
    )

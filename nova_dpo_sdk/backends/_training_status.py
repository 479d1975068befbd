"""What a training job is doing, told from its two statuses; a word that nobody knows is never a failure."""

from __future__ import annotations

import re
from datetime import timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._contract import JobSnapshot, JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    Json = Mapping[str, Any]

_AGAIN = "then submit plan.again(), the next attempt under its own name."

_PRIMARY = {
    "Completed": JobStatus.SUCCEEDED,
    "Failed": JobStatus.FAILED,
    "Stopping": JobStatus.STOPPING,
    "Stopped": JobStatus.STOPPED,
    "Deleting": JobStatus.STOPPING,
}
_IN_PROGRESS = {
    "Pending": JobStatus.QUEUED,
    "Starting": JobStatus.PENDING,
    "LaunchingMLInstances": JobStatus.STARTING,
    "PreparingTrainingStack": JobStatus.STARTING,
    "Downloading": JobStatus.STARTING,
    "DownloadingTrainingImage": JobStatus.STARTING,
    "Training": JobStatus.RUNNING,
    "Uploading": JobStatus.RUNNING,
    "Updating": JobStatus.RUNNING,
    "Restarting": JobStatus.RESTARTING,
    "Interrupted": JobStatus.RESTARTING,
    "MaxRuntimeExceeded": JobStatus.STOPPING,
    "MaxWaitTimeExceeded": JobStatus.STOPPING,
    "Stopping": JobStatus.STOPPING,
    # SageMaker sets the second status first: the first one follows within moments.
    "Completed": JobStatus.RUNNING,
    "Failed": JobStatus.RUNNING,
    "Stopped": JobStatus.STOPPING,
}
_UNDER_WAY = (JobStatus.PENDING, JobStatus.STARTING, JobStatus.RUNNING)
_TIME_IS_UP = {
    "MaxRuntimeExceeded": "it ran longer than max_runtime_seconds allows, and SageMaker stopped it",
    "MaxWaitTimeExceeded": "it waited longer for capacity than was allowed, and SageMaker stopped it",
}
_TIME_STEPS = {
    "MaxRuntimeExceeded": "Give the backend TrainingJobOptions(max_runtime_seconds=...) of more, at most 28 days, and "
    "plan with it and the next number of attempt=.",
    "MaxWaitTimeExceeded": "Plan with a backend of another instance type or Region.",
}

# The first that is found in a FailureReason decides; the exact words differ from year to year.
_FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"capacityerror|insufficient ?(instance ?)?capacity|unable to provision",
        "AWS had no instances of this type free: wait, use another instance type or Region, or reserve a training plan",
    ),
    (
        r"resourcelimitexceeded|account.level service limit|quota",
        "Ask Service Quotas for more of this instance type (for training job usage)",
    ),
    (
        r"out of memory|outofmemory|oomkilled|sigkill|exit code 137",
        "Lower max_length or global_batch_size, or use larger instances",
    ),
    (r"no space left|disk.{0,20}full", "Give TrainingJobOptions(volume_gb=...) more"),
    (r"\bkms\b", "Let the role use the KMS keys of the data and of the output"),
    (
        r"access.?denied|not authorized|accessforbidden|\b403\b|permission",
        "Let the role read the data and the recipe, write the output and pull the image",
    ),
    (
        r"cannotpullcontainer|image.{0,40}(not found|does not exist|cannot be pulled)",
        "Check the image's Region and account and that the role may pull it",
    ),
    (r"data download|no s3 objects|nosuchkey|nosuchbucket|\b404\b", "Check that the data lies where the recipe says"),
    (
        r"incompatible model training techniques",
        "Start from a checkpoint of the same tuning (LoRA or full rank)",
    ),
    (r"does not match model_type|model configuration not found", "Start from a checkpoint of the same model"),
    (r"internalservererror|internal error", "The fault is AWS's: if it comes back, ask AWS support; wait"),
    (r"algorithmerror|exit code|exitcode", "The container ended with an error: read its log, mend what it names"),
)
_MEND = "Mend what the message names"
_CODE = re.compile(r"([A-Z][A-Za-z]{2,60}):\s")


def fold(ref: str, job: Json, now: datetime) -> JobSnapshot:
    """Tell what a job is doing.

    Args:
        ref: The job's reference.
        job: What DescribeTrainingJob said, or one summary of ListTrainingJobs.
        now: The present moment, in UTC.
    """
    first, second = str(job.get("TrainingJobStatus") or ""), str(job.get("SecondaryStatus") or "")
    status = _status(first, second)
    transition = _last_transition(job)
    reason, message = _why(status, first, second, job, transition)
    return JobSnapshot(
        ref=ref,
        status=status,
        observed_at=now,
        reason=reason,
        message=message,
        since=_utc(transition.get("StartTime")) or _utc(job.get("TrainingEndTime")),
        created_at=_utc(job.get("CreationTime")),
        started_at=_utc(job.get("TrainingStartTime")),
        next_step=_next_step(status, second, f"{reason}: {message}"),
    )


def gone(ref: str, now: datetime) -> JobSnapshot:
    """The snapshot of a job that SageMaker does not have."""
    return JobSnapshot(
        ref=ref,
        status=JobStatus.DELETED,
        observed_at=now,
        reason="NotFound",
        message="SageMaker has no such training job (any more)",
        next_step="If it had finished, job.checkpoint() still finds its manifest.",
    )


def _status(first: str, second: str) -> JobStatus:
    if first == "InProgress":
        return _IN_PROGRESS.get(second, JobStatus.UNKNOWN) if second else JobStatus.PENDING
    return _PRIMARY.get(first, JobStatus.UNKNOWN)


def _why(status: JobStatus, first: str, second: str, job: Json, transition: Json) -> tuple[str, str]:
    said = str(transition.get("StatusMessage") or "")
    if status is JobStatus.UNKNOWN:
        words = " / ".join(word for word in (first, second) if word) or "nothing"
        return second or first, f"SageMaker says {words}, which this version does not know"
    if status is JobStatus.FAILED:
        failure = str(job.get("FailureReason") or said)
        code = _CODE.match(failure)
        return (code[1], failure[code.end() :]) if code else (second if second != first else "", failure)
    if second in _TIME_IS_UP:
        return second, _TIME_IS_UP[second]
    if status in (JobStatus.SUCCEEDED, JobStatus.STOPPED):
        return ("" if second in (first, "") else second), "" if status is JobStatus.SUCCEEDED else said
    return ("" if status in _UNDER_WAY else second), said


def _last_transition(job: Json) -> Json:
    listed: list[Json] = job.get("SecondaryStatusTransitions") or []
    return listed[-1] if listed else {}


def _next_step(status: JobStatus, second: str, message: str) -> str:
    if status is JobStatus.FAILED:
        text = message.lower()
        step = next((step for pattern, step in _FAILURES if re.search(pattern, text)), _MEND)
        return f"{step}; {_AGAIN}"
    if status is JobStatus.STOPPED:
        return _TIME_STEPS.get(second, "To run it, submit plan.again(), the next attempt under its own name.")
    if status is JobStatus.QUEUED:
        return "Wait for capacity, or stop it and use another instance type."
    return ""


def _utc(moment: Any) -> datetime | None:
    return moment.astimezone(timezone.utc) if moment is not None else None

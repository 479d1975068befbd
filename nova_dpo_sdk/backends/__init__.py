"""The contract between what is planned and where it runs."""

from nova_dpo_sdk.backends._contract import (
    Backend,
    Deletes,
    JobRef,
    JobSnapshot,
    JobStatus,
    LogWish,
    ReplicaSnapshot,
)
from nova_dpo_sdk.backends._logs import LogLine, LogLines
from nova_dpo_sdk.backends._metrics import MetricRow, Metrics
from nova_dpo_sdk.backends._plan import LABEL_DIGEST, Plan, PlanInputs, Upload, draft, job_name
from nova_dpo_sdk.backends._preflight import Check, Preflight
from nova_dpo_sdk.backends._progress import progress_bar
from nova_dpo_sdk.errors import Finding, Severity

__all__ = [
    "LABEL_DIGEST",
    "Backend",
    "Check",
    "Deletes",
    "Finding",
    "JobRef",
    "JobSnapshot",
    "JobStatus",
    "LogLine",
    "LogLines",
    "LogWish",
    "MetricRow",
    "Metrics",
    "Plan",
    "PlanInputs",
    "Preflight",
    "ReplicaSnapshot",
    "Severity",
    "Upload",
    "draft",
    "job_name",
    "progress_bar",
]

"""The contract between what is planned and where it runs."""

from nova_dpo_sdk.backends._contract import Backend, JobRef, JobSnapshot, JobStatus, ReplicaSnapshot
from nova_dpo_sdk.backends._plan import LABEL_DIGEST, Plan, PlanInputs, Upload, draft, job_name
from nova_dpo_sdk.backends._preflight import Check, Preflight
from nova_dpo_sdk.errors import Finding, Severity

__all__ = [
    "LABEL_DIGEST",
    "Backend",
    "Check",
    "Finding",
    "JobRef",
    "JobSnapshot",
    "JobStatus",
    "Plan",
    "PlanInputs",
    "Preflight",
    "ReplicaSnapshot",
    "Severity",
    "Upload",
    "draft",
    "job_name",
]

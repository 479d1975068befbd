"""What Kueue says about a job that it holds back: its Workload, where that may be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._facts import moment
from nova_dpo_sdk.backends._resources import WORKLOADS
from nova_dpo_sdk.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI

    Json = Mapping[str, Any]

JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
"""The label by which Kueue ties a Workload to its job."""
DEACTIVATED = "Deactivated"
"""Why a Workload does not come back by itself."""
_GIVEN_UP = frozenset({"InactiveWorkload", "RequeuingLimitExceeded", "MaximumExecutionTimeExceeded"})


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """What is kept of a Workload.

    Attributes:
        job_uid: The identity of the job that it stands for.
        admitted: Whether the queue has let it in.
        reason: Why it has not, in one word, such as `Inadmissible` or `Preempted`; empty when nothing is said.
        message: The same in Kueue's own words.
        since: Since when.
    """

    job_uid: str
    admitted: bool
    reason: str
    message: str
    since: datetime | None


def workload_facts(workload: Json) -> WorkloadFacts:
    """Keep what matters of a Workload."""
    meta: Json = workload["metadata"]
    labels: Json = meta.get("labels") or {}
    status: Json = workload.get("status") or {}
    listed: list[Json] = status.get("conditions") or []
    conditions = {str(each.get("type")): each for each in listed}
    reason, told = _why(workload, conditions)
    return WorkloadFacts(
        job_uid=str(labels.get(JOB_UID_LABEL) or ""),
        admitted=_holds(conditions.get("Admitted")),
        reason=reason,
        message=str(told.get("message") or ""),
        since=moment(told.get("lastTransitionTime")),
    )


def _why(workload: Json, conditions: Mapping[str, Json]) -> tuple[str, Json]:
    """What keeps a Workload out; that it was thrown out weighs more than that there is no quota for it now."""
    evicted: Json = conditions.get("Evicted") or {}
    spec: Json = workload.get("spec") or {}
    if spec.get("active") is False:
        return DEACTIVATED, evicted
    if _holds(evicted):
        word = str(evicted.get("reason") or "Evicted")
        return (DEACTIVATED if word.startswith(DEACTIVATED) or word in _GIVEN_UP else word), evicted
    waits: Json = conditions.get("QuotaReserved") or {}
    return ("" if _holds(waits) else str(waits.get("reason") or "")), waits


def _holds(condition: Json | None) -> bool:
    return condition is not None and condition.get("status") == "True"


class Queue:
    """Reads Workloads, until it turns out that this identity may not, or that the cluster has no Kueue.

    Args:
        api: The cluster.
        namespace: Where the jobs are.
    """

    def __init__(self, api: KubernetesAPI, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._open = True

    def of(self, uid: str) -> WorkloadFacts | None:
        """The Workload of one job; None when there is none to be seen."""
        return self._read(f"{JOB_UID_LABEL}={uid}").get(uid)

    def all(self) -> dict[str, WorkloadFacts]:
        """Every Workload that stands for a job, by the job's identity; one list for all of them."""
        return self._read(JOB_UID_LABEL)

    def _read(self, selector: str) -> dict[str, WorkloadFacts]:
        if not self._open:
            return {}
        try:
            found = self._api.list(WORKLOADS, self._namespace, label_selector=selector)
        except ClusterError as error:
            if error.status not in (403, 404):
                raise
            self._open = False
            return {}
        facts = map(workload_facts, found)
        return {each.job_uid: each for each in facts}

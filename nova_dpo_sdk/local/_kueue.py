"""Kueue, as far as a job sees it: a Workload for each job that is held back, with what becomes of it."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from ._conditions import is_finished
from ._resources import PYTORCHJOBS, WORKLOADS, Kind
from ._store import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from ._store import ObjectStore

Json = dict[str, Any]

_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_UID_LABEL = "kueue.x-k8s.io/job-uid"


class Kueue:
    """Keeps a Workload beside each job that was ever suspended, and writes into it what Kueue would write.

    Who suspends jobs and lets them in are the faults that were asked for; there is no quota that is counted.

    Args:
        store: The objects.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        if kind is not PYTORCHJOBS or change == "DELETED" or "deletionTimestamp" in item["metadata"]:
            return
        meta: Json = item["metadata"]
        held = self._store.peek(WORKLOADS, meta["namespace"], _name(meta))
        policy: Json = item.get("spec", {}).get("runPolicy") or {}
        suspended = bool(policy.get("suspend"))
        if held is None and suspended:
            self._store.create(WORKLOADS, meta["namespace"], _workload(item), now)
            held = self._store.peek(WORKLOADS, meta["namespace"], _name(meta))
        if held is None:
            return
        conditions = _conditions(item, held.get("status", {}).get("conditions", []), suspended=suspended, now=now)
        self._store.set_status(WORKLOADS, meta["namespace"], _name(meta), {"conditions": conditions}, now)


def _conditions(job: Json, before: list[Json], *, suspended: bool, now: datetime) -> list[Json]:
    conditions = {str(each["type"]): each for each in copy.deepcopy(before)}
    queue = f"{job['metadata']['namespace']}-clusterqueue"
    was_in = conditions.get("Admitted", {}).get("status") == "True"
    ran = any(each["type"] == "Running" for each in job.get("status", {}).get("conditions", []))

    def put(kind: str, value: str, reason: str, message: str) -> None:
        old = conditions.get(kind, {})
        since = old.get("lastTransitionTime") if old.get("status") == value else None
        news = {"type": kind, "status": value, "reason": reason, "message": message}
        conditions[kind] = {**news, "lastTransitionTime": since or stamp(now)}

    if is_finished(job.get("status", {})):
        put("Finished", "True", "JobFinished", "Job finished")
    elif suspended and (was_in or (ran and "Evicted" not in conditions)):
        why = "Preempted to accommodate a workload of a higher priority in the ClusterQueue"
        put("Evicted", "True", "Preempted", why)
        put("Preempted", "True", "InClusterQueue", why)
        put("QuotaReserved", "False", "Pending", why)
        put("Admitted", "False", "NoReservation", "The workload has no reservation")
    elif suspended and "QuotaReserved" not in conditions:
        lacking = f"insufficient unused quota for nvidia.com/gpu, {_gpus(job)} more needed"
        why = f"couldn't assign flavors to pod set master: {lacking}"
        put("QuotaReserved", "False", "Pending", why)
    elif not suspended and not was_in:
        conditions.pop("Evicted", None)
        conditions.pop("Preempted", None)
        put("QuotaReserved", "True", "QuotaReserved", f"Quota reserved in ClusterQueue {queue}")
        put("Admitted", "True", "Admitted", "The workload is admitted")
    return list(conditions.values())


def _gpus(job: Json) -> int:
    total = 0
    for group in job.get("spec", {}).get("pytorchReplicaSpecs", {}).values():
        containers: list[Json] = group.get("template", {}).get("spec", {}).get("containers", [])
        asked = sum(int(each.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)) for each in containers)
        total += asked * int(group.get("replicas", 1))
    return total


def _name(meta: Json) -> str:
    return f"pytorchjob-{meta['name']}-{hashlib.sha256(str(meta['uid']).encode()).hexdigest()[:5]}"


def _workload(job: Json) -> Json:
    meta: Json = job["metadata"]
    labels: dict[str, str] = meta.get("labels") or {}
    owner = {
        "apiVersion": PYTORCHJOBS.api_version,
        "kind": PYTORCHJOBS.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    return {
        "apiVersion": WORKLOADS.api_version,
        "kind": WORKLOADS.kind,
        "metadata": {
            "name": _name(meta),
            "namespace": meta["namespace"],
            "labels": {_UID_LABEL: meta["uid"]},
            "ownerReferences": [owner],
        },
        "spec": {"active": True, "queueName": labels.get(_QUEUE_LABEL, "")},
    }

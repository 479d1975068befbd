"""The training operator: turns PyTorchJobs into pods, and pods into conditions."""

from __future__ import annotations

import copy
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ._admission import label_causes, pod_causes, write_quantities
from ._conditions import holds, is_finished, set_condition
from ._refusals import Refusal
from ._resources import PODS, PYTORCHJOBS, Kind
from ._store import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._agenda import Agenda
    from ._job_faults import JobFaults
    from ._store import ObjectStore

Json = dict[str, Any]

_PREFIX = "training.kubeflow.org"
_ROLES = ("Master", "Worker")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class Operator:
    """Does what training-operator (the build that HyperPod installs) does, `noticing` seconds after a change.

    Under restartPolicy OnFailure it never writes Failed, unless backoffLimit or activeDeadlineSeconds is set.

    Args:
        store: The objects.
        agenda: When things happen.
        noticing: Seconds from a job's change until it is seen.
        faults: What goes wrong with jobs, on request.
    """

    def __init__(self, store: ObjectStore, agenda: Agenda, noticing: float, faults: JobFaults) -> None:
        self.silent = False
        """Whether it sees nothing: jobs then keep an empty status, as when it cannot be scheduled itself."""
        self._store = store
        self._agenda = agenda
        self._faults = faults
        self._noticing = timedelta(seconds=noticing)
        self._seen: dict[str, int] = {}
        self._due: set[tuple[str, datetime]] = set()
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        meta: Json = item["metadata"]
        if kind is PYTORCHJOBS and change == "DELETED":
            self._seen.pop(meta["uid"], None)
        elif kind is PYTORCHJOBS and self._seen.get(meta["uid"]) != meta["generation"]:
            self._seen[meta["uid"]] = meta["generation"]
            self._plan(meta, now + self._noticing)
        elif kind is PODS:
            owner = next((each for each in meta.get("ownerReferences", []) if each["kind"] == "PyTorchJob"), None)
            if owner is not None:
                self._plan({**owner, "namespace": meta["namespace"]}, now)

    def _plan(self, meta: Json, moment: datetime) -> None:
        namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
        if (uid, moment) not in self._due:
            self._due.add((uid, moment))
            self._agenda.at(moment, lambda now: self._visit(namespace, name, uid, now))

    def _visit(self, namespace: str, name: str, uid: str, now: datetime) -> None:
        self._due.discard((uid, now))
        job = self._store.peek(PYTORCHJOBS, namespace, name)
        if job is None or job["metadata"]["uid"] != uid or "deletionTimestamp" in job["metadata"]:
            return
        if self.silent or self._faults.active("operator-silent", name, now):
            self._plan(job["metadata"], now + max(self._noticing, timedelta(seconds=1)))
            return
        status: Json = copy.deepcopy(job.get("status", {}))
        # An invalid spec gets an event, which nobody may read, and no condition.
        if is_finished(status) or not _is_valid(job):
            return
        self._reconcile(job, status, now)
        self._store.set_status(PYTORCHJOBS, namespace, name, status, now)

    def _reconcile(self, job: Json, status: Json, now: datetime) -> None:
        meta: Json = job["metadata"]
        name: str = meta["name"]
        policy: Json = job["spec"].get("runPolicy", {})
        set_condition(status, "Created", f"PyTorchJob {name} is created.", now)
        if policy.get("suspend"):
            self._suspend(job, status, now)
            return
        if holds(status, "Suspended"):
            resumed = {"value": "False", "reason": "PyTorchJobResumed"}
            set_condition(status, "Suspended", f"PyTorchJob {name} is resumed.", now, **resumed)
        if "startTime" not in status:
            status["startTime"] = stamp(now)
            if "activeDeadlineSeconds" in policy:
                self._plan(meta, now + timedelta(seconds=policy["activeDeadlineSeconds"]))
        pods = self._pods(job)
        if _past_limits(status, list(pods.values()), policy, now):
            _fail(name, status, now)
            return
        for role, index, pod_name in _places(job):
            if pod_name not in pods:
                self._create_pod(_pod(job, role, index), now)
            else:
                self._renew_failed(job, status, role, pods[pod_name], now)
        self._count(job, status, now)

    def _suspend(self, job: Json, status: Json, now: datetime) -> None:
        name = job["metadata"]["name"]
        for pod in self._pods(job).values():
            self._store.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], now)
        message = f"PyTorchJob {name} is suspended."
        if holds(status, "Running"):
            set_condition(status, "Running", message, now, value="False", reason="PyTorchJobSuspended")
        set_condition(status, "Suspended", message, now)
        status.pop("startTime", None)
        status["replicaStatuses"] = {role: {} for role in job["spec"]["pytorchReplicaSpecs"]}

    def _pods(self, job: Json) -> dict[str, Json]:
        meta = job["metadata"]
        found: dict[str, Json] = {}
        for _, _, name in _places(job):
            pod = self._store.peek(PODS, meta["namespace"], name)
            if pod is not None:
                found[name] = pod
        return found

    def _create_pod(self, pod: Json, now: datetime) -> None:
        meta: Json = pod["metadata"]
        labels: dict[str, str] = meta["labels"]
        causes = pod_causes(pod["spec"])
        for key, value in labels.items():
            causes += label_causes(key, value, "metadata.labels")
        if causes:
            return  # the API server refuses the pod: FailedCreatePod, an event that nobody may read
        try:
            self._store.create(PODS, meta["namespace"], pod, now)
        except Refusal:
            return  # somebody else's pod has the name

    def _renew_failed(self, job: Json, status: Json, role: str, pod: Json, now: datetime) -> None:
        if pod["status"].get("phase") != "Failed":
            return
        name = job["metadata"]["name"]
        if _policy(job, role) == "Never":
            _fail(name, status, now, f"PyTorchJob {name} is failed because 1 {role} replica(s) failed.")
            return
        message = f"PyTorchJob {name} is restarting because 1 {role} replica(s) failed."
        set_condition(status, "Restarting", message, now)
        self._store.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], now)

    def _count(self, job: Json, status: Json, now: datetime) -> None:
        name = job["metadata"]["name"]
        pods = self._pods(job)
        counts: Json = {}
        for role in _ROLES:
            if role in job["spec"]["pytorchReplicaSpecs"]:
                mine = [pod for key, pod in pods.items() if key.startswith(f"{name}-{role.lower()}-")]
                counts[role] = _counted(name, role, mine)
        status["replicaStatuses"] = counts
        if is_finished(status):
            return
        if counts["Master"].get("active"):
            set_condition(status, "Running", f"PyTorchJob {name} is running.", now)
        lost = [role for role in _ROLES if counts.get(role, {}).get("failed")]
        if lost:
            message = (
                f"PyTorchJob {name} is restarting because {counts[lost[0]]['failed']} {lost[0]} replica(s) failed."
            )
            set_condition(status, "Restarting", message, now)
        if counts["Master"].get("succeeded"):
            set_condition(status, "Succeeded", f"PyTorchJob {name} is successfully completed.", now)
            status["completionTime"] = stamp(now)


def _is_valid(job: Json) -> bool:
    groups: Json = job.get("spec", {}).get("pytorchReplicaSpecs", {})
    master = groups.get("Master")
    if not master or master.get("replicas", 1) != 1 or not set(groups) <= set(_ROLES):
        return False
    containers = [_containers(group) for group in groups.values()]
    named = all(any(each.get("name") == "pytorch" for each in some) for some in containers)
    with_images = all(each.get("image") for some in containers for each in some)
    return named and with_images and _DNS_1035.fullmatch(job["metadata"]["name"]) is not None


def _containers(group: Json) -> list[Json]:
    found: list[Json] = group.get("template", {}).get("spec", {}).get("containers", [])
    return found


def _policy(job: Json, role: str) -> str:
    return str(job["spec"]["pytorchReplicaSpecs"][role].get("restartPolicy") or "OnFailure")


def _places(job: Json) -> Iterator[tuple[str, int, str]]:
    """Role, index and name of every pod that the job wants."""
    groups: Json = job["spec"]["pytorchReplicaSpecs"]
    for role in _ROLES:
        for index in range(groups.get(role, {"replicas": 0}).get("replicas", 1)):
            yield role, index, f"{job['metadata']['name']}-{role.lower()}-{index}"


def _pod(job: Json, role: str, index: int) -> Json:
    meta = job["metadata"]
    world = sum(1 for _ in _places(job))
    template: Json = copy.deepcopy(job["spec"]["pytorchReplicaSpecs"][role]["template"])
    given: Json = template.get("metadata", {})
    spec: Json = template["spec"]
    policy = _policy(job, role)
    write_quantities(spec)
    spec["restartPolicy"] = "Never" if policy == "ExitCode" else policy
    rank = 0 if role == "Master" else index + 1
    for container in spec["containers"]:
        container["env"] = [*container.get("env", []), *_ranks(meta["name"], world, rank)]
    labels = {**given.get("labels", {}), **_labels(meta["name"], role), f"{_PREFIX}/replica-index": str(index)}
    if role == "Master":
        labels[f"{_PREFIX}/job-role"] = "master"
    owner = {
        "apiVersion": PYTORCHJOBS.api_version,
        "kind": PYTORCHJOBS.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-{role.lower()}-{index}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": given.get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": spec,
        "status": {"phase": "Pending"},
    }


def _labels(name: str, role: str) -> dict[str, str]:
    return {
        f"{_PREFIX}/job-name": name,
        f"{_PREFIX}/operator-name": "pytorchjob-controller",
        f"{_PREFIX}/replica-type": role.lower(),
    }


def _ranks(name: str, world: int, rank: int) -> list[Json]:
    values = {
        "PYTHONUNBUFFERED": "1",
        "MASTER_PORT": "23456",
        "PET_MASTER_PORT": "23456",
        "MASTER_ADDR": f"{name}-master-0",
        "PET_MASTER_ADDR": f"{name}-master-0",
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "PET_NODE_RANK": str(rank),
        "PET_NNODES": str(world),
    }
    return [{"name": key, "value": value} for key, value in values.items()]


def _counted(name: str, role: str, pods: list[Json]) -> Json:
    counts = {"active": 0, "succeeded": 0, "failed": 0}
    for pod in pods:
        phase = pod["status"].get("phase")
        if phase == "Running":
            counts["failed" if "deletionTimestamp" in pod["metadata"] else "active"] += 1
        elif phase in {"Succeeded", "Failed"}:
            counts[phase.lower()] += 1
    selector = ",".join(f"{key}={value}" for key, value in sorted(_labels(name, role).items()))
    return {key: value for key, value in counts.items() if value} | {"selector": selector}


def _past_limits(status: Json, pods: list[Json], policy: Json, now: datetime) -> bool:
    if "activeDeadlineSeconds" in policy:
        started = datetime.strptime(status["startTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        if now - started >= timedelta(seconds=policy["activeDeadlineSeconds"]):
            return True
    if "backoffLimit" not in policy:
        return False
    restarts: int = sum(
        each.get("restartCount", 0)
        for pod in pods
        if pod["status"].get("phase") in {"Running", "Pending"} and pod["spec"]["restartPolicy"] != "Never"
        for each in pod["status"].get("containerStatuses", [])
    )
    return bool(restarts >= max(policy["backoffLimit"], 1))


def _fail(name: str, status: Json, now: datetime, message: str = "") -> None:
    set_condition(status, "Failed", message or f"PyTorchJob {name} has failed because it has reached a limit.", now)
    status["completionTime"] = stamp(now)

"""The kubelets: start a placed pod's containers, let them run together, and restart them when they crash."""

from __future__ import annotations

import copy
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ._container import ContainerError
from ._narration import STEPS
from ._resources import CONFIGMAPS, PODS, Kind
from ._store import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from ._agenda import Agenda, Script
    from ._container import NovaContainer, Training
    from ._job_faults import JobFaults
    from ._narration import Narrator
    from ._store import ObjectStore

Json = dict[str, Any]

_FIRST_BACKOFF = 10
_LONGEST_BACKOFF = 300
_MOUNT_RETRY = timedelta(seconds=5)
_JOB_LABEL = "training.kubeflow.org/job-name"


class Kubelets:
    """Every node's kubelet, and the group of containers that each job's pods form.

    The containers of a job begin to work when all of its pods run, and end together.

    Args:
        store: The objects.
        agenda: When things happen.
        script: How long they take.
        nova: What the containers do.
        narrator: Lets them print.
        faults: What goes wrong with jobs, on request.
    """

    def __init__(
        self,
        store: ObjectStore,
        agenda: Agenda,
        script: Script,
        nova: NovaContainer,
        narrator: Narrator,
        faults: JobFaults,
    ) -> None:
        self._store = store
        self._agenda = agenda
        self._script = script
        self._nova = nova
        self._narrator = narrator
        self._faults = faults
        self._known: set[str] = set()
        self._groups: dict[tuple[str, str], set[str]] = {}
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        if kind is not PODS:
            return
        uid, name = item["metadata"]["uid"], item["metadata"]["name"]
        mates = self._groups.setdefault(_group_key(item), set())
        mates.add(name)
        if change == "DELETED":
            self._known.discard(uid)
            mates.discard(name)
        elif item["spec"].get("nodeName") and uid not in self._known:
            self._known.add(uid)
            self._start_later(item, now + self._seconds(self._script.starting))

    def _seconds(self, planned: float) -> timedelta:
        return timedelta(seconds=planned * self._script.pace)

    def _start_later(self, pod: Json, moment: datetime) -> None:
        self._agenda.at(moment, lambda now: self._start(pod["metadata"], now))

    def _present(self, meta: Json) -> Json | None:
        pod = self._store.peek(PODS, meta["namespace"], meta["name"])
        return pod if pod is not None and pod["metadata"]["uid"] == meta["uid"] else None

    def _start(self, meta: Json, now: datetime) -> None:
        pod = self._present(meta)
        if pod is None:
            return
        problem = self._nova.image_problem(pod["spec"])
        if self._lacks_configmap(pod):
            self._wait(pod, "containers", {"reason": "ContainerCreating"}, now)
            self._start_later(pod, now + _MOUNT_RETRY)
        elif problem is not None:
            group, message = problem
            self._wait(pod, group, {"reason": "ImagePullBackOff", "message": message}, now)
        elif not self._kept_from_starting(pod, now):
            self._run(pod, now)

    def _kept_from_starting(self, pod: Json, now: datetime) -> bool:
        """Whether a fault that was asked for keeps the containers from being started; tries again until it is over."""
        job = _group_key(pod)[1]
        pull = self._faults.active("image-pull", job, now)
        if pull is not None:
            message = f'Back-off pulling image "{pod["spec"]["containers"][0]["image"]}"'
            self._wait(pod, "containers", {"reason": "ImagePullBackOff", "message": message}, now)
            later, end = now + timedelta(seconds=_FIRST_BACKOFF), self._faults.end(pull, pull.begun[job])
            self._start_later(pod, later if end is None else min(later, end))
            return True
        crash = self._faults.strikes("init-crash", f"{job}", now) if pod["spec"].get("initContainers") else None
        if crash is not None:
            self._crash_init(pod, crash.message, now)
        return crash is not None

    def _crash_init(self, pod: Json, message: str, now: datetime) -> None:
        before: list[Json] = pod["status"].get("initContainerStatuses", [])
        restarts = before[0]["restartCount"] + 1 if before else 0
        pause = _backoff(restarts + 1)
        ended: Json = {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": stamp(now)}
        first: Json = pod["spec"]["initContainers"][0]
        told = f"back-off {pause}s restarting failed container={first['name']} pod={pod['metadata']['name']}"
        waiting: Json = {"waiting": {"reason": "CrashLoopBackOff", "message": told}}
        status = copy.deepcopy(pod["status"])
        status.setdefault("startTime", stamp(now))
        status["initContainerStatuses"] = [
            _container_status(each, waiting, restarts=restarts, last={"terminated": ended})
            for each in pod["spec"]["initContainers"]
        ]
        initializing: Json = {"waiting": {"reason": "PodInitializing"}}
        status["containerStatuses"] = [
            _container_status(each, initializing, restarts=0) for each in pod["spec"]["containers"]
        ]
        _set_ready(status, now, ready=False, reason="ContainersNotReady")
        self._write(pod, status, now)
        self._start_later(pod, now + timedelta(seconds=pause))

    def _lacks_configmap(self, pod: Json) -> bool:
        sources: list[Json] = [each.get("configMap", {}) for each in pod["spec"].get("volumes", [])]
        needed = [each["name"] for each in sources if each.get("name") and not each.get("optional")]
        namespace = pod["metadata"]["namespace"]
        return any(self._store.peek(CONFIGMAPS, namespace, name) is None for name in needed)

    def _wait(self, pod: Json, group: str, waiting: Json, now: datetime) -> None:
        status = copy.deepcopy(pod["status"])
        status.setdefault("startTime", stamp(now))
        field = "initContainerStatuses" if group == "initContainers" else "containerStatuses"
        status[field] = [_container_status(each, {"waiting": waiting}, restarts=0) for each in pod["spec"][group]]
        self._write(pod, status, now)

    def _run(self, pod: Json, now: datetime) -> None:
        status = copy.deepcopy(pod["status"])
        status["phase"] = "Running"
        status.setdefault("startTime", stamp(now))
        before = {each["name"]: each for each in status.get("containerStatuses", [])}
        running = {"running": {"startedAt": stamp(now)}}
        status["containerStatuses"] = [
            _container_status(
                each,
                running,
                restarts=before.get(each["name"], {}).get("restartCount", 0),
                last=before.get(each["name"], {}).get("lastState", {}),
            )
            for each in pod["spec"]["containers"]
        ]
        if pod["spec"].get("initContainers"):
            done = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": stamp(now)}}
            status["initContainerStatuses"] = [
                _container_status(each, done, restarts=0) for each in pod["spec"]["initContainers"]
            ]
        _set_ready(status, now, ready=True)
        self._write(pod, status, now)
        self._gather(pod, now)

    def _gather(self, pod: Json, now: datetime) -> None:
        group = self._group(pod)
        if group is not None:
            state = _fingerprint(group)
            later = now + self._seconds(self._script.loading)
            self._agenda.at(later, lambda at: self._begin(pod["metadata"], state, at))

    def _group(self, pod: Json) -> list[Json] | None:
        """The pods of the same job, if all of them are there and run."""
        key = _group_key(pod)
        if not key[1]:
            return None
        found = [self._store.peek(PODS, key[0], name) for name in sorted(self._groups.get(key, ()))]
        running = [each for each in found if each is not None and _is_running(each)]
        return running if len(running) == len(found) == _world_size(pod) else None

    def _same_group(self, meta: Json, state: frozenset[tuple[str, int]]) -> list[Json] | None:
        pod = self._present(meta)
        group = self._group(pod) if pod is not None else None
        return group if group is not None and _fingerprint(group) == state else None

    def _begin(self, meta: Json, state: frozenset[tuple[str, int]], now: datetime) -> None:
        group = self._same_group(meta, state)
        if group is None:
            return
        crash = self._faults.strikes("crash-loop", _group_key(group[0])[1], now)
        if crash is not None:
            self._crash_all(group, crash.message, now)
            return
        try:
            training = self._nova.prepare(group, self._config(group[0]))
        except ContainerError as error:
            self._crash_all(group, str(error), now)
            return
        end = now + self._seconds(self._script.training)
        written = max(now, end - self._seconds(self._script.manifest))
        self._narrator.begin(group, training, now)
        self._plan_lines(meta, state, training, now, written)
        self._agenda.at(written, lambda at: self._save(meta, state, training, at))
        self._agenda.at(end, lambda at: self._narrator.end(self._same_group(meta, state) or [], training, at))
        self._agenda.at(end, lambda at: self._end(meta, state, at))

    def _plan_lines(
        self, meta: Json, state: frozenset[tuple[str, int]], training: Training, begin: datetime, end: datetime
    ) -> None:
        def tell(number: int, at: datetime) -> None:
            group = self._same_group(meta, state)
            if group is not None:
                self._narrator.step(group, training, number, at)

        for number in range(1, STEPS + 1):
            self._agenda.at(begin + (end - begin) * number / STEPS, partial(tell, number))

    def _config(self, pod: Json) -> str | None:
        mounted = {
            mount["name"]
            for mount in pod["spec"]["containers"][0].get("volumeMounts", [])
            if mount["mountPath"] == "/config"
        }
        for volume in pod["spec"].get("volumes", []):
            if volume["name"] in mounted and "configMap" in volume:
                found = self._store.peek(CONFIGMAPS, pod["metadata"]["namespace"], volume["configMap"]["name"])
                data: Json = (found or {}).get("data", {})
                return data.get("config.yaml")
        return None

    def _save(self, meta: Json, state: frozenset[tuple[str, int]], training: Training, now: datetime) -> None:
        group = self._same_group(meta, state)
        if group is None:
            return
        fault = self._faults.manifest(training.job)
        if fault is not None and fault.name == "manifest-late":
            end = now + self._seconds(self._script.manifest) + self._faults.delay(fault)
            self._agenda.at(end, lambda at: self._nova.save(training, at))
            return
        try:
            self._nova.save(training, now, shape=fault.name.partition("-")[2] if fault else "")
        except ContainerError as error:
            self._crash_all(group, str(error), now)

    def _end(self, meta: Json, state: frozenset[tuple[str, int]], now: datetime) -> None:
        for pod in self._same_group(meta, state) or ():
            status = copy.deepcopy(pod["status"])
            status["phase"] = "Succeeded"
            done = {"exitCode": 0, "reason": "Completed", "finishedAt": stamp(now)}
            for each in status["containerStatuses"]:
                each |= {"state": {"terminated": done}, "ready": False, "started": False}
            _set_ready(status, now, ready=False, reason="PodCompleted")
            self._write(pod, status, now)

    def _crash_all(self, group: list[Json], message: str, now: datetime) -> None:
        for pod in group:
            self._crash(pod, message, now)

    def _crash(self, pod: Json, message: str, now: datetime) -> None:
        self._narrator.say(pod, f"ERROR: {message}", now)
        status = copy.deepcopy(pod["status"])
        ended: Json = {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": stamp(now)}
        restarts: int = status["containerStatuses"][0]["restartCount"]
        for each in status["containerStatuses"]:
            started: Json = each["state"].get("running", {})
            each |= {"ready": False, "started": False, "state": {"terminated": {**started, **ended}}}
        _set_ready(status, now, ready=False, reason="ContainersNotReady")
        if pod["spec"].get("restartPolicy") == "Never":
            status["phase"] = "Failed"
            self._write(pod, status, now)
            return
        pause = _backoff(restarts)
        if restarts:
            _back_off(status, pod["metadata"]["name"], pause)
        self._write(pod, status, now)
        later = now + timedelta(seconds=pause)
        self._agenda.at(later, lambda at: self._restart(pod["metadata"], restarts, at))

    def _restart(self, meta: Json, restarts: int, now: datetime) -> None:
        pod = self._present(meta)
        if pod is None or pod["status"]["containerStatuses"][0]["restartCount"] != restarts:
            return
        pod = copy.deepcopy(pod)
        for each in pod["status"]["containerStatuses"]:
            last = each["state"].get("terminated") or each["lastState"].get("terminated")
            each |= {"restartCount": restarts + 1, "lastState": {"terminated": last}}
        self._run(pod, now)

    def _write(self, pod: Json, status: Json, now: datetime) -> None:
        self._store.set_status(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], status, now)


def _container_status(container: Json, state: Json, *, restarts: int, last: Json | None = None) -> Json:
    running = "running" in state
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def _set_ready(status: Json, now: datetime, *, ready: bool, reason: str = "") -> None:
    value = "True" if ready else "False"
    kept = [each for each in status.get("conditions", []) if each["type"] not in {"Ready", "ContainersReady"}]
    for kind in ("ContainersReady", "Ready"):
        news: Json = {"type": kind, "status": value, "lastTransitionTime": stamp(now)}
        kept.append({**news, "reason": reason} if reason else news)
    status["conditions"] = kept


def _backoff(restarts: int) -> int:
    """Seconds before a container is started again: at once after its first crash, then 10, 20, 40 ... 300."""
    return min(_FIRST_BACKOFF * 2 ** (restarts - 1), _LONGEST_BACKOFF) if restarts else 1


def _back_off(status: Json, pod: str, pause: int) -> None:
    for each in status["containerStatuses"]:
        message = f"back-off {pause}s restarting failed container={each['name']} pod={pod}"
        each["lastState"] = each["state"]
        each["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}


def _group_key(pod: Json) -> tuple[str, str]:
    meta: Json = pod["metadata"]
    return meta["namespace"], meta.get("labels", {}).get(_JOB_LABEL, "")


def _is_running(pod: Json) -> bool:
    statuses: list[Json] = pod["status"].get("containerStatuses", [])
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return pod["status"].get("phase") == "Running" and all("running" in each["state"] for each in statuses)


def _world_size(pod: Json) -> int:
    environment: list[Json] = pod["spec"]["containers"][0].get("env", [])
    return next((int(each["value"]) for each in environment if each["name"] == "WORLD_SIZE"), 1)


def _fingerprint(group: list[Json]) -> frozenset[tuple[str, int]]:
    """Which pods they are, and which start of their containers this is."""
    return frozenset((pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in group)

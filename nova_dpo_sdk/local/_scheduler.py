"""The scheduler: puts pods on nodes that fit, and says why when none does."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ._resources import NODES, PODS, Kind
from ._store import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from ._agenda import Agenda
    from ._job_faults import JobFaults
    from ._store import ObjectStore

Json = dict[str, Any]

_JOB_LABEL = "training.kubeflow.org/job-name"
_OVER = frozenset({"Succeeded", "Failed"})


class Scheduler:
    """Heeds required node affinity, node selectors, taints and extended resources such as GPUs.

    Args:
        store: The objects.
        agenda: When things happen.
        faults: What goes wrong with jobs, on request.
    """

    def __init__(self, store: ObjectStore, agenda: Agenda, faults: JobFaults) -> None:
        self._store = store
        self._agenda = agenda
        self._faults = faults
        self._due: datetime | None = None
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        over = item.get("status", {}).get("phase") in _OVER
        news = kind is NODES or (kind is PODS and (change != "MODIFIED" or over))
        if news and self._due != now:
            self._due = now
            self._agenda.at(now, self._place_all)

    def _place_all(self, now: datetime) -> None:
        self._due = None
        pods = list(self._store.scan(PODS))
        used = _used(pods)
        nodes = list(self._store.scan(NODES))
        refused: dict[str, str] = {}
        for pod in pods:
            waits = not pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending"
            if waits and not self._kept_away(pod, len(nodes), now):
                # Nodes only fill up during a pass: where one pod found no place, its equals need not look.
                wish = _wish(pod["spec"])
                if wish not in refused:
                    refused[wish] = self._place(pod, nodes, used, now)
                if refused[wish]:
                    news = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                    self._tell(pod, {**news, "message": refused[wish]}, now)
                else:
                    del refused[wish]

    def _kept_away(self, pod: Json, nodes: int, now: datetime) -> bool:
        """Whether a fault that was asked for leaves no room for this pod."""
        job = pod["metadata"].get("labels", {}).get(_JOB_LABEL, "")
        fault = self._faults.active("unschedulable", job, now)
        if fault is None:
            return False
        end = self._faults.end(fault, fault.begun[job])
        if end is not None:
            self._agenda.at(end, self._place_all)
        message = f"0/{nodes} nodes are available: {nodes} Insufficient nvidia.com/gpu."
        news = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._tell(pod, news, now)
        return True

    def _place(self, pod: Json, nodes: list[Json], used: dict[str, Counter[str]], now: datetime) -> str:
        """Bind the pod to the first node that fits, or say why none does."""
        meta: Json = pod["metadata"]
        obstacles: Counter[str] = Counter()
        for node in nodes:
            name = node["metadata"]["name"]
            found = _obstacles(pod["spec"], node, used.get(name, Counter()))
            if not found:
                used.setdefault(name, Counter()).update(_asked(pod["spec"]))
                placed = {**pod, "spec": {**pod["spec"], "nodeName": name}}
                self._store.update(PODS, meta["namespace"], placed, now)
                self._tell(pod, {"type": "PodScheduled", "status": "True"}, now)
                return ""
            obstacles.update(found)
        listed = ", ".join(f"{count} {text}" for text, count in sorted(obstacles.items()))
        return f"0/{len(nodes)} nodes are available: {listed}."

    def _tell(self, pod: Json, condition: Json, now: datetime) -> None:
        meta: Json = pod["metadata"]
        before: Json = {**pod["status"].get("conditions", [{}])[0]}
        before.pop("lastTransitionTime", None)
        if before == condition:
            return
        status = {"phase": "Pending", "conditions": [{**condition, "lastTransitionTime": stamp(now)}]}
        self._store.set_status(PODS, meta["namespace"], meta["name"], status, now)


def _used(pods: list[Json]) -> dict[str, Counter[str]]:
    used: dict[str, Counter[str]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod["status"].get("phase") not in _OVER:
            used.setdefault(node, Counter()).update(_asked(pod["spec"]))
    return used


def _wish(spec: Json) -> str:
    """Everything about a pod that decides where it may go."""
    keys = ("affinity", "nodeSelector", "tolerations")
    return json.dumps([*(spec.get(key) for key in keys), sorted(_asked(spec).items())])


def _asked(spec: Json) -> Counter[str]:
    asked: Counter[str] = Counter()
    for container in spec["containers"]:
        for name, amount in container.get("resources", {}).get("limits", {}).items():
            if "/" in name:
                asked[name] += int(amount)
    return asked


def _obstacles(spec: Json, node: Json, used: Counter[str]) -> list[str]:
    tolerated: list[Json] = spec.get("tolerations", [])
    for taint in node["spec"].get("taints", []):
        if not any(_tolerates(each, taint) for each in tolerated):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"]
    if not _matches(spec, node["metadata"]["labels"]):
        return ["node(s) didn't match Pod's node affinity/selector"]
    offered: Json = node["status"]["allocatable"]
    asked = _asked(spec)
    return [f"Insufficient {name}" for name, amount in asked.items() if int(offered.get(name, 0)) - used[name] < amount]


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return (toleration.get("key"), toleration.get("value")) == (taint["key"], taint["value"])


def _matches(spec: Json, labels: Json) -> bool:
    selector: Json = spec.get("nodeSelector", {})
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity: Json = spec.get("affinity", {}).get("nodeAffinity", {})
    required: Json = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Json] = required.get("nodeSelectorTerms", [])
    return not terms or any(all(_meets(labels, each) for each in term.get("matchExpressions", [])) for term in terms)


def _meets(labels: Json, expression: Json) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values", [])
    answers = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return answers.get(expression["operator"], False)

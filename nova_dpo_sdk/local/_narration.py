"""What training containers print as they go: into CloudWatch by node, and into their pods' own logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from . import _refusals as refusals
from ._refusals import Refusal
from ._resources import NODES, PODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._calls import Call
    from ._container import Training
    from ._logs import LocalLogs
    from ._store import ObjectStore

Json = dict[str, Any]

STEPS = 10
"""Steps that a rehearsed run reports."""
_JOB_LABEL = "training.kubeflow.org/job-name"
_GROUP_LABEL = "sagemaker.amazonaws.com/instance-group-name"
_PEAK = {"SFT": 1e-5, "DPO": 1e-6}


@dataclass(frozen=True)
class _Line:
    start: int
    at: datetime
    text: str


class Narrator:
    """Lets pods print. The numbers are invented; the wordings are those of common training loops.

    Args:
        store: The objects.
        logs: The cluster's log group.
    """

    def __init__(self, store: ObjectStore, logs: LocalLogs) -> None:
        self._store = store
        self._logs = logs
        self._lines: dict[str, list[_Line]] = {}
        self.delay: Callable[[str], float] = lambda _: 0.0
        """Tells by how many seconds the lines of a job arrive late in the log group."""

    def say(self, pod: Json, text: str, at: datetime) -> None:
        """Let one pod print a line."""
        node = str(pod["spec"].get("nodeName", ""))
        self._lines.setdefault(pod["metadata"]["uid"], []).append(_Line(_starts(pod), at, text))
        job = str(pod["metadata"].get("labels", {}).get(_JOB_LABEL, ""))
        self._logs.write(self._group(node), node, text, at, self.delay(job))

    def begin(self, pods: list[Json], training: Training, at: datetime) -> None:
        """Let every pod say that the run starts."""
        for pod in pods:
            self.say(pod, f"Starting {training.technique} Job {training.job}", at)

    def step(self, pods: list[Json], training: Training, number: int, at: datetime) -> None:
        """Let the master report a step, and the workers say that they did it."""
        self.say(pods[0], _report(training.technique, number), at)
        for rank, pod in enumerate(pods[1:], start=1):
            self.say(pod, f"[node {rank}] step {number}/{STEPS} done", at + timedelta(milliseconds=rank))

    def end(self, pods: list[Json], training: Training, at: datetime) -> None:
        """Let every pod say that the run is over."""
        for pod in pods:
            self.say(pod, f"{training.technique} Job completed", at)

    def pod_log(self, call: Call) -> bytes:
        """Answer a request for a pod's log.

        Raises:
            Refusal: There is no such pod, it has not started, or it runs on a restricted node.
        """
        pod = self._store.get(PODS, call.namespace, call.name)
        node = str(pod["spec"].get("nodeName", ""))
        closed = {group.name for group in self._logs.cluster.groups if group.restricted}
        if self._group(node) in closed:
            message = f'pods "{call.name}" is forbidden: logs of pods on restricted nodes are not available'
            raise Refusal(403, "Forbidden", message)
        if not pod.get("status", {}).get("containerStatuses"):
            raise refusals.bad_request(f'container in pod "{call.name}" is waiting to start: ContainerCreating')
        start = _starts(pod) - (1 if call.query.get("previous") == "true" else 0)
        if start < 0:
            raise refusals.bad_request(f'previous terminated container in pod "{call.name}" not found')
        since = call.query.get("sinceTime", "")
        lines = [line for line in self._lines.get(pod["metadata"]["uid"], ()) if line.start == start]
        stamped = call.query.get("timestamps") == "true"
        shown = [f"{_stamp(line.at, self._logs.zone)} {line.text}\n" if stamped else f"{line.text}\n" for line in lines]
        kept = [text for text, line in zip(shown, lines, strict=True) if _stamp(line.at)[:19] >= since[:19]]
        return "".join(kept).encode()

    def _group(self, node: str) -> str:
        found = self._store.peek(NODES, "", node)
        return str(found["metadata"].get("labels", {}).get(_GROUP_LABEL, "")) if found is not None else ""


def _starts(pod: Json) -> int:
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount", 0))


def _report(technique: str, number: int) -> str:
    share = number / STEPS
    rate = _PEAK.get(technique, 1e-5) * (0.55 + 0.45 * math.cos(math.pi * share))
    if technique == "DPO":
        loss, right = 0.6931 * math.exp(-0.9 * share), 0.5 + 0.42 * share
        return (
            f"{{'loss': {loss:.4f}, 'rewards/chosen': {0.8 * share:.3f}, 'rewards/rejected': {-0.6 * share:.3f}, "
            f"'rewards/accuracies': {right:.3f}, 'rewards/margins': {1.4 * share:.3f}, 'learning_rate': {rate:.3e}, "
            f"'step': {number}, 'epoch': {share:.2f}}}"
        )
    loss = 0.6 + 1.6 * math.exp(-2.2 * share)
    return (
        f"Epoch 0: : {number}it [00:{2 * number:02d}, reduced_train_loss={loss:.4f}, global_step={number:.1f}, "
        f"lr={rate:.3e}]"
    )


def _stamp(moment: datetime, zone: timezone = timezone.utc) -> str:
    text = moment.astimezone(zone).isoformat(timespec="microseconds")
    return f"{text[:-6]}000{text[-6:].replace('+00:00', 'Z')}"

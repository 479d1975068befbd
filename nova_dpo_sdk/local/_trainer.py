"""The cluster's controllers and kubelets, wound up together: what moves when time passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._garbage import GarbageCollector
from ._job_faults import JobFaults
from ._kubelet import Kubelets
from ._kueue import Kueue
from ._operator import Operator
from ._resources import NAMESPACES, NODES
from ._scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ._agenda import Agenda, Script
    from ._container import NovaContainer
    from ._machines import Cluster
    from ._narration import Narrator
    from ._store import ObjectStore


@dataclass(frozen=True)
class Trainer:
    """Everything that acts in the cluster by itself.

    Attributes:
        agenda: When things happen.
        operator: Turns jobs into pods and pods into conditions.
        scheduler: Puts pods on nodes.
        kubelets: Run the containers.
        garbage: Deletes what an owner left behind.
        faults: What goes wrong with jobs, on request.
    """

    agenda: Agenda
    operator: Operator
    scheduler: Scheduler
    kubelets: Kubelets
    garbage: GarbageCollector
    faults: JobFaults

    def advance(self, now: datetime) -> None:
        """Let everything happen that was due until now."""
        self.agenda.advance(now)


def wind_up(store: ObjectStore, agenda: Agenda, script: Script, nova: NovaContainer, narrator: Narrator) -> Trainer:
    """Connect the controllers to the objects that they watch."""
    faults = JobFaults(store, agenda, script.pace)
    narrator.delay = faults.log_delay
    Kueue(store)
    return Trainer(
        agenda=agenda,
        operator=Operator(store, agenda, script.noticing * script.pace, faults),
        scheduler=Scheduler(store, agenda, faults),
        kubelets=Kubelets(store, agenda, script, nova, narrator, faults),
        garbage=GarbageCollector(store, agenda, script.collecting * script.pace),
        faults=faults,
    )


def furnish(store: ObjectStore, cluster: Cluster, namespaces: Iterable[str], now: datetime) -> None:
    """Put nodes and namespaces into an empty cluster."""
    for name in dict.fromkeys(("default", "kube-system", *namespaces)):
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "status": {"phase": "Active"},
        }
        store.create(NAMESPACES, "", body, now)
    for node in cluster.nodes():
        store.create(NODES, "", node, now)

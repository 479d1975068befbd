"""The kinds of object that the rehearsal cluster knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One resource of the API.

    Attributes:
        group: API group; empty for the core group.
        version: API version.
        plural: Name in URLs.
        kind: Name in objects.
        namespaced: Whether its objects live in namespaces.
        counted: Whether `metadata.generation` counts changes of its spec.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    counted: bool = False

    @property
    def api_version(self) -> str:
        """`apiVersion` as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """Plural and group, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CONFIGMAPS = Kind("", "v1", "configmaps", "ConfigMap")
PODS = Kind("", "v1", "pods", "Pod")
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
EVENTS = Kind("", "v1", "events", "Event")
PYTORCHJOBS = Kind("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob", counted=True)
WORKLOADS = Kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload", counted=True)
LOCAL_QUEUES = Kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue")
QUEUE_PRIORITIES = Kind(
    "kueue.x-k8s.io", "v1beta1", "workloadpriorityclasses", "WorkloadPriorityClass", namespaced=False
)
PRIORITY_CLASSES = Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
RULES_REVIEWS = Kind(
    "authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False
)
SELF_REVIEWS = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)

KINDS = (
    CONFIGMAPS,
    PODS,
    NAMESPACES,
    NODES,
    EVENTS,
    PYTORCHJOBS,
    WORKLOADS,
    LOCAL_QUEUES,
    QUEUE_PRIORITIES,
    PRIORITY_CLASSES,
    RULES_REVIEWS,
    SELF_REVIEWS,
)
BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
BY_OBJECT = {(kind.api_version, kind.kind): kind for kind in KINDS}

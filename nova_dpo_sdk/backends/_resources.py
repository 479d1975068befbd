"""The kinds of objects that a job needs, and one request about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Resource:
    """One kind of object that the API serves.

    Attributes:
        group: The API group; empty for the core.
        version: The group's version.
        plural: The kind's name in URLs.
        namespaced: Whether its objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "") -> str:
        """The URL's path of one object, or of all of them when `name` is empty.

        Raises:
            ConfigurationError: `namespace` or `name` can be no name, and in a URL might mean something else.
        """
        for part in (namespace, name):
            if part and not _NAME.fullmatch(part):
                raise ConfigurationError(
                    f"{part!r} cannot be a Kubernetes name: lower-case letters, digits, hyphens and dots, with a "
                    "letter or digit first and last."
                )
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")

    def target(self, namespace: str, name: str = "") -> str:
        """The object's name for people, such as `pytorchjobs/kubeflow/support-dpo-3f9a1`."""
        return "/".join(part for part in (self.plural, namespace if self.namespaced else "", name) if part)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PYTORCHJOBS = Resource("kubeflow.org", "v1", "pytorchjobs")
CONFIGMAPS = Resource("", "v1", "configmaps")
PODS = Resource("", "v1", "pods")
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
NODES = Resource("", "v1", "nodes", namespaced=False)
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta1", "workloads")
LOCAL_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "localqueues")
QUEUE_PRIORITIES = Resource("kueue.x-k8s.io", "v1beta1", "workloadpriorityclasses", namespaced=False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", namespaced=False)
RULES_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectrulesreviews", namespaced=False)
SELF_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)


@dataclass(frozen=True)
class Ask:
    """One request, and the words to speak of it."""

    verb: str
    method: str
    resource: Resource
    namespace: str
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = field(default=None, repr=False)
    part: str = ""

    @property
    def path(self) -> str:
        named = "" if self.method == "POST" else self.name
        part = f"/{self.part}" if self.part else ""
        return self.resource.path(self.namespace, named) + part + (f"?{urlencode(self.query)}" if self.query else "")

    @property
    def target(self) -> str:
        return self.resource.target(self.namespace, self.name) + (f"/{self.part}" if self.part else "")

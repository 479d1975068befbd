"""What an identity may do in a namespace: one review of all its rules, and single ones where that is not enough."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._resources import CONFIGMAPS, NODES, PODS, PYTORCHJOBS, RULES_REVIEWS, WORKLOADS, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI

    Json = Mapping[str, Any]

Right = tuple[str, Resource]

NEEDED: tuple[Right, ...] = (
    *((verb, PYTORCHJOBS) for verb in ("get", "list", "create", "update", "delete")),
    *((verb, CONFIGMAPS) for verb in ("get", "create", "update", "delete")),
)
"""What no job can do without."""
SIGHT: tuple[Right, ...] = (("list", PODS), ("get", PODS))
"""One of these shows pods: without them a crash loop looks like a job that runs."""
USEFUL: dict[Right, str] = {
    ("list", PODS): "all pods are seen with one request",
    ("watch", PYTORCHJOBS): "changes come by themselves, within a second, where pods may be watched, too",
    ("watch", PODS): "changes of pods come by themselves; jobs are watched only together with their pods",
    ("list", WORKLOADS): "it is told why a queue holds a job back",
    ("list", NODES): "free nodes are counted before a job is sent",
}
"""What makes things better where it is granted."""


def words(right: Right) -> str:
    """A right as people write it."""
    return f"{right[0]} {right[1].plural}"


class Rights:
    """Asks once for all rules; for a right that they do not show, asks alone if the answer was not complete.

    Clusters whose authorizer is a webhook, as EKS access policies are, cannot list every rule.

    Args:
        api: The cluster.
        namespace: Where.

    Raises:
        ClusterError: The cluster does not know this identity, or does not answer.
    """

    def __init__(self, api: KubernetesAPI, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        review = {
            "apiVersion": f"{RULES_REVIEWS.group}/{RULES_REVIEWS.version}",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        status: Json = api.create(RULES_REVIEWS, "", review).get("status") or {}
        self._rules: list[Json] = list(status.get("resourceRules") or ())
        self._complete = status.get("incomplete") is not True

    def missing(self, wanted: Iterable[Right]) -> list[Right]:
        """Those that this identity does not have, in their order."""
        unseen = [right for right in wanted if not any(_covers(rule, right) for rule in self._rules)]
        if self._complete or not unseen:
            return unseen
        with ThreadPoolExecutor(max_workers=len(unseen), thread_name_prefix="nova-rights") as pool:
            allowed = list(pool.map(self._allowed, unseen))
        return [right for right, may in zip(unseen, allowed, strict=True) if not may]

    def _allowed(self, right: Right) -> bool:
        verb, resource = right
        return self._api.allowed(verb, resource, self._namespace)


def _covers(rule: Json, right: Right) -> bool:
    verb, resource = right
    return (
        not rule.get("resourceNames")
        and _has(rule, "verbs", verb)
        and _has(rule, "apiGroups", resource.group)
        and _has(rule, "resources", resource.plural)
    )


def _has(rule: Json, key: str, wanted: str) -> bool:
    listed: list[str] = rule.get(key) or []
    return "*" in listed or wanted in listed

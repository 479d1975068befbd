"""Looking at many jobs and their pods with few requests."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._facts import JOB_LABEL, PodFacts, job_facts, pod_facts
from nova_dpo_sdk.backends._manifests import DIGEST_LABEL
from nova_dpo_sdk.backends._queue import Queue, WorkloadFacts
from nova_dpo_sdk.backends._resources import PODS, PYTORCHJOBS, Resource
from nova_dpo_sdk.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from nova_dpo_sdk.backends._facts import JobFacts
    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI
    from nova_dpo_sdk.backends._roster import Roster

FEW = 50
"""So many jobs are asked for by name, in one request; more of them by what they have in common."""
MANY = 400
"""So many changed jobs are looked at one page after the other; above it, all jobs are."""
LOOKUPS = 50
"""Pods that are looked up by name at each tick where pods may not be listed."""
_PAGE = 500


def selectors(names: Collection[str] | None) -> tuple[str, str]:
    """Which jobs and which pods to ask for: those of some names, or all that this package may have made."""
    if names is None or len(names) > FEW:
        return DIGEST_LABEL, JOB_LABEL
    listed = ",".join(sorted(names))
    return f"app in ({listed})", f"{JOB_LABEL} in ({listed})"


def items(api: KubernetesAPI, resource: Resource, namespace: str, selector: str) -> Iterator[dict[str, Any]]:
    """Every object, one page in memory at a time; the last thing yielded is the list's own metadata.

    Raises:
        ClusterError: `status` 410 when the pages grew too old: begin again.
    """
    following = ""
    while True:
        query = {"labelSelector": selector, "limit": str(_PAGE), **({"continue": following} if following else {})}
        page = api.request("list", "GET", resource, namespace, query=query)
        yield from page.get("items") or ()
        meta: dict[str, Any] = page.get("metadata") or {}
        following = str(meta.get("continue") or "")
        if not following:
            yield {"listed": str(meta.get("resourceVersion") or "")}
            return


class Looker:
    """Fills a roster with what the cluster says.

    Args:
        api: The cluster.
        namespace: Where the jobs are.
        roster: What is filled.
    """

    def __init__(self, api: KubernetesAPI, namespace: str, roster: Roster) -> None:
        self._api = api
        self._namespace = namespace
        self._roster = roster
        self._queue = Queue(api, namespace)
        self.lists_pods = True
        """Whether this role may list pods, as far as is known."""
        self._gets_pods = True
        self._next_pod = 0
        self._found: dict[str, dict[str, PodFacts | None]] = {}

    def load(self) -> tuple[str, str]:
        """Look at everything.

        Returns:
            The resource versions of the list of jobs and of the list of pods; empty for pods that may not be listed.
        """
        jobs, pods = selectors(self._roster.unfinished)
        seen, version = self._load_jobs(jobs)
        self._confirm(self._roster.unfinished - seen)
        self.ask_the_queue()
        return version, self._load_pods(self._roster.unfinished, pods)

    def look(self, names: Iterable[str]) -> None:
        """Look at some jobs, and at their pods."""
        left = sorted(name for name in names if name in self._roster)
        if len(left) > MANY:
            self.load()
            return
        for start in range(0, len(left), FEW):
            part = left[start : start + FEW]
            jobs, pods = selectors(part)
            seen, _ = self._load_jobs(jobs)
            self._confirm(set(part) - seen)
            self._load_pods(part, pods)
        if left:
            self.ask_the_queue()

    def ask_the_queue(self) -> None:
        """Ask Kueue why it holds jobs back, if it does: one list for all of them."""
        self._roster.put_workloads(self._queue.all() if self._roster.has_held() else {})

    def look_up_pods(self) -> None:
        """Where pods may not be listed: look up the next fifty by their names, in turn."""
        if self.lists_pods or not self._gets_pods:
            return
        wanted = list(self._roster.pod_names())
        start = self._next_pod if self._next_pod < len(wanted) else 0
        for job, name in islice([*wanted[start:], *wanted[:start]], LOOKUPS):
            try:
                pod = self._api.get_or_none(PODS, self._namespace, name)
            except ClusterError as error:
                if error.status != 403:
                    raise
                self._gets_pods = False
                return
            self._found.setdefault(job, {})[name] = pod_facts(pod) if pod is not None else None
        self._next_pod = start + LOOKUPS
        self._hand_over(wanted)

    def _hand_over(self, wanted: list[tuple[str, str]]) -> None:
        """Pods of a job count once all of them were looked up: before, nothing can be said of those not seen."""
        needed: dict[str, int] = {}
        for job, _ in wanted:
            needed[job] = needed.get(job, 0) + 1
        for job in [job for job in self._found if job not in needed]:
            del self._found[job]
        for job, found in self._found.items():
            if len(found) >= needed[job]:
                self._roster.put_pods(job, [pod for pod in found.values() if pod is not None])

    def _load_jobs(self, selector: str) -> tuple[set[str], str]:
        seen: set[str] = set()
        version = ""
        for item in items(self._api, PYTORCHJOBS, self._namespace, selector):
            if "metadata" in item:
                facts = job_facts(item)
                seen.add(facts.name)
                self._roster.put_job(facts)
            else:
                version = item["listed"]
        return seen, version

    def _confirm(self, missing: Iterable[str]) -> None:
        """A job that a list does not show may lack our label, or be gone: only a GET tells."""
        for name in sorted(missing):
            found = self._api.get_or_none(PYTORCHJOBS, self._namespace, name)
            if found is None:
                self._roster.drop_job(name)
            else:
                self._roster.put_job(job_facts(found))

    def _load_pods(self, names: Collection[str], selector: str) -> str:
        pods, version = list_pods(self._api, self._namespace, selector, names) if self.lists_pods else (None, "")
        if pods is None:
            self.lists_pods = False
            return ""
        for name in names:
            self._roster.put_pods(name, pods.get(name, ()))
        return version


def list_pods(
    api: KubernetesAPI, namespace: str, selector: str, names: Collection[str]
) -> tuple[dict[str, list[PodFacts]] | None, str]:
    """The pods of some jobs, by job; None when pods may not be listed. And the list's resource version."""
    found: dict[str, list[PodFacts]] = {}
    version = ""
    wanted = names if isinstance(names, frozenset) else frozenset(names)
    try:
        for item in items(api, PODS, namespace, selector):
            if "metadata" in item:
                facts = pod_facts(item)
                if facts.job in wanted:
                    found.setdefault(facts.job, []).append(facts)
            else:
                version = item["listed"]
    except ClusterError as error:
        if error.status != 403:
            raise
        return None, ""
    return found, version


def find(
    api: KubernetesAPI, namespace: str, selector: str
) -> tuple[list[JobFacts], dict[str, list[PodFacts]] | None, dict[str, WorkloadFacts]]:
    """All jobs of a selection, their pods by job (None when they may not be listed), and what Kueue says of them."""
    jobs = [job_facts(item) for item in items(api, PYTORCHJOBS, namespace, selector) if "metadata" in item]
    if not jobs:
        return [], {}, {}
    names = frozenset(job.name for job in jobs)
    pods, _ = list_pods(api, namespace, selectors(names)[1], names)
    held = any(job.is_held for job in jobs)
    return jobs, pods, Queue(api, namespace).all() if held else {}

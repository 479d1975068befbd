"""What a HyperPod cluster is asked whatever is to run on it: who asks, what it is, what may be done there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk.backends._preflight import Check, unknown
from nova_dpo_sdk.backends._resources import LOCAL_QUEUES, PRIORITY_CLASSES, QUEUE_PRIORITIES, Resource
from nova_dpo_sdk.backends._rights import NEEDED, SIGHT, Rights, words
from nova_dpo_sdk.errors import ClusterError, Finding, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import HyperPodCluster
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend

IN_SERVICE = "InService"
NOT_QUITE = frozenset({"SystemUpdating", "Updating", "Degraded"})


class ClusterQuestions:
    """Questions about one cluster; each method is one, and gives its answer.

    Args:
        backend: Where.
    """

    def __init__(self, backend: HyperPodBackend) -> None:
        self._backend = backend
        self._found: HyperPodCluster | None = None
        self._granted: Rights | None = None

    def look(self) -> HyperPodCluster:
        """What SageMaker says about the cluster; asked once."""
        if self._found is None:
            self._found = self._backend.aws.describe_hyperpod(self._backend.cluster)
        return self._found

    def _identity(self) -> Check:
        told = self._backend.aws.known_account
        account = self._backend.aws.ask_account()
        if told is not None and told != account:
            finding = Finding(
                "account-differs", Severity.ERROR, "account",
                f"account is {told}, but the credentials belong to {account}.", told, account,
                "Use credentials of that account, or leave account out.",
            )  # fmt: skip
            return Check("identity", f"account {account}", (finding,))
        return Check("identity", f"account {account}")

    def _cluster_state(self) -> Check:
        cluster = self.look()
        found: list[Finding] = []
        if cluster.status != IN_SERVICE:
            severity = Severity.WARNING if cluster.status in NOT_QUITE else Severity.ERROR
            found.append(
                Finding("cluster-not-in-service", severity, "cluster",
                        f"HyperPod cluster {cluster.name} is {cluster.status}.", cluster.status, IN_SERVICE,
                        "Wait until it is InService, or ask who runs it.")
            )  # fmt: skip
        if cluster.eks_name is None:
            found.append(
                Finding("cluster-not-eks", Severity.ERROR, "cluster",
                        f"HyperPod cluster {cluster.name} is orchestrated by Slurm.", "Slurm", "EKS",
                        "Nova needs a cluster on EKS with a restricted instance group.")
            )  # fmt: skip
        return Check("cluster", f"{cluster.name} is {cluster.status}, EKS {cluster.eks_name or 'none'}", tuple(found))

    def _connection(self) -> Check:
        self._granted = Rights(self._backend.api(self.look()), self._backend.namespace)
        return Check("kubernetes", "the API server knows this identity")

    def _rights(self) -> Check:
        api, namespace = self._backend.api(), self._backend.namespace
        granted = self._granted or Rights(api, namespace)
        missing = list(map(words, granted.missing(NEEDED)))
        if missing:
            finding = Finding(
                "rights-missing", Severity.ERROR, "permissions",
                f"This identity may not {', '.join(missing)} in namespace {namespace}.", missing,
                "the verbs that HyperPod's Helm chart grants to data scientists",
                "Have the role bound to this identity, or use another namespace.",
            )  # fmt: skip
            return Check("permissions", f"missing: {', '.join(missing)}", (finding,))
        if len(granted.missing(SIGHT)) == len(SIGHT):
            finding = Finding(
                "pods-hidden", Severity.WARNING, "permissions",
                f"This identity may see no pods in namespace {namespace}: a crash loop will look like a job that runs.",
                "neither list nor get pods", "list pods or get pods",
                "Have the role bound that HyperPod's Helm chart brings for data scientists.",
            )  # fmt: skip
            return Check("permissions", "sufficient, but pods are hidden", (finding,))
        return Check("permissions", "sufficient")

    def _classes(self) -> dict[str, tuple[Resource, str]]:
        """What the options name that must be in the cluster already."""
        options = self._backend.options
        named = {
            "queue": (LOCAL_QUEUES, options.queue),
            "queue_priority": (QUEUE_PRIORITIES, options.queue_priority),
            "priority_class": (PRIORITY_CLASSES, options.priority_class),
        }
        return {option: (resource, name) for option, (resource, name) in named.items() if name}

    def _queue(self) -> Check:
        """Whether queue and classes are there: a job of a queue that is not would wait for ever without a word."""
        named = self._classes()
        found = {option: self._class_finding(option, *named[option]) for option in named}
        seen = [f"{option} {named[option][1]}" for option, finding in found.items() if finding is None]
        answer = f"there: {', '.join(seen)}" if seen else "not seen"
        return Check("queue and priority", answer, tuple(each for each in found.values() if each))

    def _class_finding(self, option: str, resource: Resource, name: str) -> Finding | None:
        try:
            self._backend.api().get(resource, self._backend.namespace, name)
        except ClusterError as error:
            if error.status == 403:
                return unknown(f"{option} {name}", error).findings[0]
            if error.status == 404:
                return _class_missing(option, name, error, self._backend.namespace)
            raise
        return None


def _class_missing(option: str, name: str, error: ClusterError, namespace: str) -> Finding:
    where = f" in namespace {namespace}" if option == "queue" else ""
    kueue = "" if error.reason or option == "priority_class" else " Kueue (task governance) is not installed there."
    return Finding(
        f"{option.replace('_', '-')}-missing", Severity.ERROR, f"options.{option}",
        f"The cluster has no {option.replace('_', ' ')} {name}{where}.{kueue}", name, "",
        "Correct the name; a queue of task governance is usually called <namespace>-localqueue."
        if option == "queue"
        else "Correct the name, or leave it out.",
    )  # fmt: skip


def no_operator(error: ClusterError) -> Finding:
    """That the job's kind is not there."""
    return Finding(
        "job-kind-missing", Severity.ERROR, "cluster",
        "The cluster does not serve PyTorchJobs of kubeflow.org/v1: the training operator is not installed.",
        str(error), "",
        "Have HyperPod's Helm chart installed on the EKS cluster: it brings the operator and the job's kind.",
    )  # fmt: skip

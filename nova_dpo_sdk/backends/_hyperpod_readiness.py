"""Whether an account and a HyperPod cluster are ready for Nova jobs at all, whatever job it will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk.backends import _manifests as manifests
from nova_dpo_sdk.backends._hyperpod_preflight import count_free
from nova_dpo_sdk.backends._hyperpod_questions import IN_SERVICE, ClusterQuestions, no_operator
from nova_dpo_sdk.backends._preflight import Check, Question, ask_all, not_asked, unknown
from nova_dpo_sdk.backends._resources import CONFIGMAPS, NODES, PODS, PYTORCHJOBS
from nova_dpo_sdk.backends._rights import USEFUL, Rights, words
from nova_dpo_sdk.errors import ClusterError, Finding, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend

_TRIED = "nova-dpo-doctor"


class HyperPodReadiness(ClusterQuestions):
    """Asks about a place.

    Args:
        backend: Where.
        output: Where runs are to leave their output; not asked about when None.
    """

    def __init__(self, backend: HyperPodBackend, output: S3Uri | None = None) -> None:
        super().__init__(backend)
        self._output = output

    def checks(self) -> tuple[Check, ...]:
        """Ask everything at once; what can only be asked of the cluster itself, as soon as that is found."""
        first: list[Question] = [("identity", self._identity), ("cluster", self._cluster_state)]
        if self._output is not None:
            first.append(("output bucket", self._bucket))
        then: list[Question] = [
            ("permissions", self._rights),
            ("more rights", self._more_rights),
            ("namespace", self._namespace),
            ("training operator", self._operator),
            ("free nodes", self._free_nodes),
        ]
        answers = ask_all(first)
        if self._found is None:
            names = ("instance groups", "kubernetes", *(name for name, _ in then))
            return (*answers, *(not_asked(name, "cluster") for name in names))
        connected = ask_all([("instance groups", self._groups), ("kubernetes", self._connection)])
        if connected[1].state == "error":
            return (*answers, *connected, *(not_asked(name, "kubernetes") for name, _ in then))
        return (*answers, *connected, *ask_all(then))

    def _bucket(self) -> Check:
        assert self._output is not None  # noqa: S101 - asked about only then
        self._backend.aws.check_bucket(self._output)
        place = self._output.join("checks", "writable")
        self._backend.aws.write(place, b"nova-dpo-sdk may write here\n", content_type="text/plain")
        return Check("output bucket", f"{self._output} can be written")

    def _groups(self) -> Check:
        restricted = [group for group in self.look().groups if group.restricted]
        if not restricted:
            finding = Finding(
                "no-restricted-group", Severity.ERROR, "cluster",
                f"{self.look().name} has no restricted instance group, and Nova runs in no other.", "none", "",
                "Have one added to the cluster, of an instance type that your recipe runs on.",
            )  # fmt: skip
            return Check("instance groups", "no restricted one", (finding,))
        told = ", ".join(f"{group.name} {group.current_count} x {group.instance_type}" for group in restricted)
        findings = [
            Finding(
                "instance-group-not-in-service", Severity.WARNING, group.name,
                f"Instance group {group.name} is {group.status}.", group.status, IN_SERVICE, "Wait, or use another.",
            )
            for group in restricted
            if group.status != IN_SERVICE
        ]  # fmt: skip
        return Check("instance groups", told, tuple(findings))

    def _more_rights(self) -> Check:
        granted = self._granted or Rights(self._backend.api(), self._backend.namespace)
        missing = granted.missing(USEFUL)
        if not missing:
            return Check("more rights", "everything that makes following cheaper and fuller")
        findings = tuple(
            Finding(
                f"right-{words(right).replace(' ', '-')}", Severity.NOTE, "permissions",
                f"Without the right to {words(right)}, this is missing: {USEFUL[right]}.",
            )
            for right in missing
        )  # fmt: skip
        return Check("more rights", f"not granted: {', '.join(map(words, missing))}", findings)

    def _namespace(self) -> Check:
        namespace = self._backend.namespace
        tried = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _TRIED, "namespace": namespace}}
        self._backend.api().create(CONFIGMAPS, namespace, tried, dry_run=True)
        return Check("namespace", f"{namespace} takes ConfigMaps (tried as a dry run)")

    def _operator(self) -> Check:
        query = {"limit": "1"}
        try:
            self._backend.api().request("list", "GET", PYTORCHJOBS, self._backend.namespace, query=query)
        except ClusterError as error:
            if error.status == 404 and not error.reason:
                return Check("training operator", "not installed", (no_operator(error),))
            raise
        return Check("training operator", "the cluster serves PyTorchJobs of kubeflow.org/v1")

    def _free_nodes(self) -> Check:
        api = self._backend.api()
        try:
            nodes = api.list(NODES, "", label_selector=f"{manifests.GROUP_TYPE_LABEL}=Restricted")
            pods = api.list(PODS, "")
        except ClusterError as error:
            return unknown("free nodes", error)
        kinds: dict[str, list[dict[str, object]]] = {}
        for node in nodes:
            kind = str(node["metadata"].get("labels", {}).get(manifests.INSTANCE_TYPE_LABEL, "?"))
            kinds.setdefault(kind, []).append(node)
        told = ", ".join(f"{count_free(some, pods)} of {len(some)} {kind}" for kind, some in sorted(kinds.items()))
        return Check("free nodes", told or "no restricted node is there")

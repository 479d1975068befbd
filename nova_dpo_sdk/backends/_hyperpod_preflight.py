"""The questions that a HyperPod cluster is asked before a job is sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import _manifests as manifests
from nova_dpo_sdk.backends._hyperpod_questions import IN_SERVICE, NOT_QUITE, ClusterQuestions, no_operator
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, NODES, PODS, PYTORCHJOBS
from nova_dpo_sdk.backends._media import MEDIA, media_check
from nova_dpo_sdk.backends._plan import LABEL_DIGEST
from nova_dpo_sdk.backends._preflight import JOB_THERE, Check, Preflight, Question, ask_all, not_asked, unknown
from nova_dpo_sdk.backends._validation import VALIDATION, named_validation, validation_check
from nova_dpo_sdk.errors import ClusterError, Finding, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import InstanceGroup
    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend

GPU = "nvidia.com/gpu"


class HyperPodPreflight(ClusterQuestions):
    """Asks about one plan.

    Args:
        backend: Where the plan would run.
        plan: The plan.
    """

    def __init__(self, backend: HyperPodBackend, plan: Plan) -> None:
        super().__init__(backend)
        self._plan = plan

    def run(self) -> Preflight:
        """Ask everything at once; what can only be asked of the cluster itself, as soon as that is found."""
        first: list[Question] = [
            ("identity", self._identity),
            ("output bucket", self._output),
            ("data set", self._data),
            ("cluster", self._cluster_state),
        ]
        if self._plan.media:
            first.append((MEDIA, lambda: media_check(self._backend.aws, self._plan)))
        if named_validation(self._plan):
            first.append((VALIDATION, lambda: validation_check(self._backend.aws, self._plan)))
        then: list[Question] = [
            ("instance group", self._group),
            ("kubernetes", self._connection),
            ("permissions", self._rights),
            ("namespace", self._namespace),
            ("job name", self._name),
            ("free nodes", self._free_nodes),
        ]
        if self._classes():
            then.append(("queue and priority", self._queue))
        if self._plan.recipe.checkpoint is not None:
            then.append(("checkpoint", self._checkpoint))
        answers = ask_all(first)
        if self._found is None:
            return Preflight(self._plan.name, (*answers, *(not_asked(name, "cluster") for name, _ in then)))
        connected = ask_all(then[:2])
        if connected[1].state == "error":
            rest = tuple(not_asked(name, "kubernetes") for name, _ in then[2:])
        else:
            rest = ask_all(then[2:])
        return Preflight(self._plan.name, (*answers, *connected, *rest))

    def _group(self) -> Check:
        wanted, replicas = self._backend.instance_type, self._plan.recipe.replicas
        cluster = self.look()
        groups = [group for group in cluster.groups if group.restricted]
        of_type = [group for group in groups if group.instance_type == wanted]
        if not of_type:
            there = ", ".join(sorted({group.instance_type for group in groups})) or "none"
            finding = Finding(
                "instance-group-missing", Severity.ERROR, "instance_type",
                f"{cluster.name} has no restricted instance group of {wanted}.", wanted, there,
                "Use one of these instance types, or have a restricted instance group added.",
            )  # fmt: skip
            return Check("instance group", f"none of {wanted}", (finding,))
        best = max(of_type, key=lambda group: (group.status == IN_SERVICE, group.current_count))
        answer = f"{best.name}: {best.current_count} of {best.target_count} {wanted}, {best.status}"
        return Check("instance group", answer, tuple(_group_findings(best, replicas)))

    def _output(self) -> Check:
        self._backend.aws.check_bucket(self._plan.inputs.output)
        place = self._plan.inputs.output.join("checks", "writable")
        self._backend.aws.write(place, b"nova-dpo-sdk may write here\n", content_type="text/plain")
        return Check("output bucket", f"{self._plan.inputs.output} can be written")

    def _data(self) -> Check:
        there = 0
        planned = [upload for upload in self._plan.uploads if upload.role != "image"]
        for upload in planned:
            uri = S3Uri.parse(upload.uri)
            if upload.in_place:
                self._backend.aws.check_bucket(uri)
            held = self._backend.aws.head(uri)
            if upload.in_place and (held is None or held.etag != upload.version):
                return Check("data set", "changed since it was planned", (_changed(upload.uri),))
            if held is None:
                continue
            there += 1
            if held.size != upload.size or held.sha256 not in ("", upload.sha256):
                finding = Finding(
                    "data-differs", Severity.WARNING, "data",
                    f"{upload.uri} holds {held.size:,} bytes; planned are {upload.size:,}, of another checksum."
                    if held.size == upload.size
                    else f"{upload.uri} holds {held.size:,} bytes; planned are {upload.size:,}.",
                    held.size, "", "A submit will send the planned bytes again.",
                )  # fmt: skip
                return Check("data set", "other bytes are there", (finding,))
        return Check("data set", f"{there} of {plural(len(planned), 'file')} {are(there)} there already")

    def _namespace(self) -> Check:
        api, namespace = self._backend.api(), self._backend.namespace
        config_map = self._plan.objects[0]
        try:
            api.create(CONFIGMAPS, namespace, config_map, dry_run=True)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
        return Check("namespace", f"{namespace} takes ConfigMaps")

    def _name(self) -> Check:
        api, namespace = self._backend.api(), self._backend.namespace
        try:
            api.create(PYTORCHJOBS, namespace, self._plan.objects[1], dry_run=True)
        except ClusterError as error:
            if error.status == 404 and not error.reason:
                return Check("job name", "the cluster knows no PyTorchJobs", (no_operator(error),))
            if error.reason != "AlreadyExists":
                raise
        else:
            return Check("job name", f"{self._plan.name} is free, and the cluster would take the job")
        held = api.get(PYTORCHJOBS, namespace, self._plan.name)
        if held["metadata"].get("labels", {}).get(manifests.DIGEST_LABEL) == self._plan.digest[:LABEL_DIGEST]:
            note = Finding(
                JOB_THERE, Severity.NOTE, "name", f"{self._plan.name} was submitted before: it will be adopted."
            )
            return Check("job name", "this very job is there", (note,))
        finding = Finding(
            "job-name-taken", Severity.ERROR, "name", f"{self._plan.name} is another run's.", self._plan.name, "",
            "Give the recipe another name.",
        )  # fmt: skip
        return Check("job name", "taken", (finding,))

    def _free_nodes(self) -> Check:
        """Capacity against free capacity, where nodes and pods of every namespace may be listed."""
        api = self._backend.api()
        try:
            nodes = api.list(NODES, "", label_selector=f"{manifests.INSTANCE_TYPE_LABEL}={self._backend.instance_type}")
            pods = api.list(PODS, "")
        except ClusterError as error:
            return unknown("free nodes", error)
        free, total = count_free(nodes, pods), len(nodes)
        wanted = self._plan.recipe.replicas
        answer = f"{free} of {total} {self._backend.instance_type} are free, {wanted} are needed"
        if free >= wanted:
            return Check("free nodes", answer)
        finding = Finding(
            "nodes-busy", Severity.WARNING, "replicas", f"{answer}: the job will wait for the others.",
            free, f"{wanted}", "Submit anyway to wait in line, or use fewer replicas.",
        )  # fmt: skip
        return Check("free nodes", answer, (finding,))

    def _checkpoint(self) -> Check:
        checkpoint = self._plan.recipe.checkpoint
        uri = checkpoint.uri if checkpoint else ""
        group_places = {group.output_s3_uri for group in self.look().groups if group.output_s3_uri}
        bucket = uri.removeprefix("s3://").partition("/")[0]
        ours = {place.removeprefix("s3://").partition("/")[0] for place in group_places}
        if ours and bucket not in ours:
            finding = Finding(
                "checkpoint-of-another-cluster", Severity.WARNING, "checkpoint",
                f"{uri} is not in an escrow bucket of {self._backend.cluster} ({', '.join(sorted(ours))}).", bucket,
                ", ".join(sorted(ours)), "Make sure that this cluster may read it.",
            )  # fmt: skip
            return Check("checkpoint", "made elsewhere", (finding,))
        return Check("checkpoint", "in this cluster's escrow bucket" if ours else "its bucket is not known here")


def _group_findings(group: InstanceGroup, replicas: int) -> list[Finding]:
    found: list[Finding] = []
    if group.status != IN_SERVICE:
        severity = Severity.WARNING if group.status in NOT_QUITE else Severity.ERROR
        found.append(
            Finding("instance-group-not-in-service", severity, "instance_type",
                    f"Instance group {group.name} is {group.status}.", group.status, IN_SERVICE,
                    "Wait until it is InService.")
        )  # fmt: skip
    if group.current_count < replicas:
        growing = group.target_count >= replicas
        found.append(
            Finding("instance-group-too-small", Severity.WARNING if growing else Severity.ERROR, "replicas",
                    f"Instance group {group.name} has {plural(group.current_count, 'instance')}, "
                    f"{replicas} {are(replicas)} needed"
                    + (f"; it is growing to {group.target_count}." if growing else "."),
                    replicas, f"at most {group.current_count}",
                    "Wait until it has grown." if growing else "Have the group scaled up, or use fewer replicas.")
        )  # fmt: skip
    return found


def count_free(nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> int:
    """Nodes that are ready and whose GPUs no pod has asked for."""
    busy = {
        pod.get("spec", {}).get("nodeName")
        for pod in pods
        if pod.get("status", {}).get("phase") in ("Pending", "Running") and _gpus(pod) > 0
    }
    return sum(_ready(node) and node["metadata"]["name"] not in busy for node in nodes)


def _gpus(pod: dict[str, Any]) -> int:
    containers: list[dict[str, Any]] = pod.get("spec", {}).get("containers") or []
    return sum(int(each.get("resources", {}).get("requests", {}).get(GPU, 0)) for each in containers)


def _ready(node: dict[str, Any]) -> bool:
    if node.get("spec", {}).get("unschedulable"):
        return False
    conditions: list[dict[str, Any]] = node.get("status", {}).get("conditions") or []
    return all(each.get("status") == "True" for each in conditions if each.get("type") == "Ready")


__all__ = ["HyperPodPreflight", "count_free"]


def _changed(uri: str) -> Finding:
    return Finding(
        "data-changed", Severity.ERROR, "data",
        f"{uri} is gone, or is no longer what was checked.",
        uri, "", "Open it again with from_s3(), and plan again.",
    )  # fmt: skip

"""A stage on HyperPod as states: `eks:call` on the ConfigMap and the PyTorchJob, then the manifest from S3.

Sources: AWS Step Functions developer guide, "Call Amazon EKS" (`eks:call`: parameters, `ResponseBody`, errors named
`EKS.<HTTP status>`, public endpoints only; `eks:runJob` is for `batch/v1` Jobs alone), "AWS SDK service integrations"
(names of fields in PascalCase), "Intrinsic functions". kubeflow training-operator v1.7 for the conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._manifest import KEYS, MANIFEST
from nova_dpo_sdk.backends._manifests import DIGEST_LABEL
from nova_dpo_sdk.backends._plan import LABEL_DIGEST
from nova_dpo_sdk.export import _states as asl

if TYPE_CHECKING:
    from nova_dpo_sdk.backends import Plan
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
    from nova_dpo_sdk.export._draft import DraftStage

Json = dict[str, Any]

CLUSTER, ENDPOINT = "HyperPod cluster", "Kubernetes endpoint"
RESTARTS = 10
"""Restarts of the first replica after which a stage is given up."""
_CONTAINERS = {"restarts": "containerStatuses", "starts": "initContainerStatuses"}
"""Where a pod counts the restarts of its container and of its init container."""
MANIFEST_LOOKS, MANIFEST_PAUSE = 20, 30
"""How often, and how many seconds apart, a succeeded job's manifest is looked for."""


def connect(backend: HyperPodBackend, then: str) -> dict[str, Json]:
    """The states that find the cluster's Kubernetes API, and where its checkpoints are kept."""
    arn, escrow = "$.Orchestrator.Eks.ClusterArn", "$..RestrictedInstanceGroups[*].EnvironmentConfig.S3OutputPath"
    return {
        CLUSTER: asl.task(
            "aws-sdk:sagemaker:describeCluster",
            {"ClusterName": backend.cluster},
            ResultSelector={
                "name.$": f"States.ArrayGetItem(States.StringSplit({arn}, '/'), 1)",
                "escrow.$": f"States.ArrayUnique({escrow})",
            },
            ResultPath="$.cluster",
            Retry=asl.try_again("SageMaker", ["ResourceNotFoundException"]),
            Next=ENDPOINT,
        ),
        ENDPOINT: asl.task(
            "aws-sdk:eks:describeCluster",
            {"Name.$": "$.cluster.name"},
            ResultSelector={"url.$": "$.Cluster.Endpoint", "ca.$": "$.Cluster.CertificateAuthority.Data"},
            ResultPath="$.endpoint",
            Retry=asl.try_again("Eks", ["ResourceNotFoundException"]),
            Next=then,
        ),
    }


def stage_states(stage: DraftStage, poll_seconds: int, start: str, checkpoint: str, then: str) -> dict[str, Json]:
    """The states of one stage, the first one first.

    Args:
        stage: The stage.
        poll_seconds: Seconds between two looks at its job.
        start: Path of the checkpoint that it starts from; empty when that is known already.
        checkpoint: Path at which its own checkpoint is left.
        then: The state that follows.
    """
    backend: Any = stage.plan.backend
    return {
        **_sent(stage, _Calls(backend.namespace), start),
        **_followed(stage, _Calls(backend.namespace), poll_seconds),
        **_resolved(stage, poll_seconds, checkpoint, then),
    }


class _Calls:
    """Calls of the Kubernetes API in one namespace."""

    def __init__(self, namespace: str) -> None:
        self._core = f"/api/v1/namespaces/{namespace}"
        self._jobs = f"/apis/kubeflow.org/v1/namespaces/{namespace}/pytorchjobs"

    def create(self, kind: str, body: Json, then: str) -> Json:
        """Create an object; one of that name that is there already will do."""
        path = f"{self._core}/configmaps" if kind == "ConfigMap" else self._jobs
        call = {**_call("POST", path), "QueryParameters": {"fieldValidation": ["Strict"]}, "RequestBody": body}
        return _task(call, ResultPath=None, Catch=[asl.catch("EKS.409", then)], Next=then)

    def look(self, job: str, gone: str, then: str) -> Json:
        """Look at a job: which of its conditions have come, and whose it is."""
        kinds = "$..conditions[*].type"
        seen = {
            "succeeded.$": f"States.ArrayContains({kinds}, 'Succeeded')",
            "failed.$": f"States.ArrayContains({kinds}, 'Failed')",
            "labels.$": "$.ResponseBody.metadata.labels",
            "created.$": "$.ResponseBody.metadata.creationTimestamp",
        }
        call = _call("GET", f"{self._jobs}/{job}")
        lost = asl.catch("EKS.404", gone)
        return _task(call, ResultSelector=seen, ResultPath="$.job", Catch=[lost], Next=then)

    def look_at_master(self, job: str, then: str, otherwise: str) -> Json:
        """Look at the first replica; where that is not allowed, or there is none yet, go on without."""
        call = _call("GET", f"{self._core}/pods/{job}-master-0")
        seen = {f"{name}.$": f"$..{kind}[*].restartCount" for name, kind in _CONTAINERS.items()}
        skip = asl.catch("States.TaskFailed", otherwise)
        return _task(call, ResultSelector=seen, ResultPath="$.master", Catch=[skip], Next=then)


def _call(method: str, path: str) -> Json:
    return {
        "ClusterName.$": "$.cluster.name",
        "CertificateAuthority.$": "$.endpoint.ca",
        "Endpoint.$": "$.endpoint.url",
        "Method": method,
        "Path": path,
    }


def _task(call: Json, **fields: Any) -> Json:
    return asl.task("eks:call", call, TimeoutSeconds=60, Retry=asl.try_again("EKS", asl.REFUSED), **fields)


def _sent(stage: DraftStage, calls: _Calls, start: str) -> dict[str, Json]:
    """ConfigMap and PyTorchJob; the checkpoint is written into the recipe where its stand-in was."""
    called = asl.Names(stage.name)
    config_map, job = stage.objects
    states: dict[str, Json] = {}
    text: str = config_map["data"]["config.yaml"]
    if stage.parent is not None:
        pieces, joined = asl.text_with(text.split(stage.parent.stand_in), [start] * text.count(stage.parent.stand_in))
        states[called("recipe")] = asl.put(pieces, "$.text", called("put recipe"))
        config_map = {**config_map, "data": {"config.yaml.$": joined}}
    states[called("put recipe")] = calls.create("ConfigMap", config_map, called("create job"))
    states[called("create job")] = calls.create("PyTorchJob", job, called("look at job"))
    return states


def _followed(stage: DraftStage, calls: _Calls, poll_seconds: int) -> dict[str, Json]:
    """Look, and look again, until the job has ended one way or the other."""
    called, plan = asl.Names(stage.name), stage.plan
    label = f"$.job.labels['{DIGEST_LABEL}']"
    ours = asl.all_of(asl.present(label), asl.equals(label, plan.digest[:LABEL_DIGEST]))
    told = f"Look at it: nova-dpo status {plan.ref}"
    counts = [f"$.master.{name}[0]" for name in _CONTAINERS]
    return {
        called("look at job"): calls.look(plan.name, called("gone"), called("what it does")),
        called("what it does"): asl.choice(
            [
                (asl.none_of(ours), called("another run")),
                (asl.is_true("$.job.succeeded"), called("manifest")),
                (asl.is_true("$.job.failed"), called("failed")),
            ],
            called("look at master"),
        ),
        called("look at master"): calls.look_at_master(plan.name, called("in trouble?"), called("wait")),
        called("in trouble?"): asl.choice(
            [(asl.at_least(count, RESTARTS), called("in trouble")) for count in counts], called("wait")
        ),
        called("wait"): asl.wait(poll_seconds, called("look at job")),
        called("gone"): asl.fail("NovaJobDeleted", f"{plan.name} was deleted before it finished."),
        called("another run"): asl.fail(
            "NovaJobNameTaken", f"PyTorchJob {plan.name} is there and is another run. Give the recipe another name."
        ),
        called("failed"): asl.fail("NovaJobFailed", f"{plan.name} failed. {told}"),
        called("in trouble"): asl.fail(
            "NovaJobInTrouble",
            f"{plan.name} was restarted {RESTARTS} times and is still on the cluster. {told} "
            f"or free its nodes: nova-dpo cancel {plan.ref}",
        ),
    }


def _resolved(stage: DraftStage, poll_seconds: int, checkpoint: str, then: str) -> dict[str, Json]:
    """Read the manifest and take the checkpoint that it names, joined to the escrow location where it is relative."""
    called, plan = asl.Names(stage.name), stage.plan
    found = [asl.all_of(asl.present(each), {"Variable": each, "IsString": True}, asl.none_of(asl.equals(each, "")))
             for each in _manifest_paths()]  # fmt: skip
    whole, escrow, second = asl.matches("$.found", "s3://*"), "$.cluster.escrow[0]", "$.cluster.escrow[1]"
    only = [asl.present(escrow), asl.none_of(asl.present(second))]
    return {
        called("manifest"): _read_manifest(plan, called),
        called("whose is it?"): asl.choice(
            [({"Variable": "$.manifest.written", "TimestampLessThanPath": "$.job.created"}, called("wait for it"))],
            called("which key?"),
        ),
        called("wait for it"): asl.wait(min(poll_seconds, 60), called("manifest")),
        called("which key?"): asl.choice(
            [(rule, called(f"key {n}")) for n, rule in enumerate(found, 1)], called("no checkpoint")
        ),
        **{
            called(f"key {n}"): asl.keep(path, "$.found", called("whole path?"))
            for n, path in enumerate(_manifest_paths(), 1)
        },
        called("whole path?"): asl.choice(
            [
                (whole, called("checkpoint")),
                (asl.all_of(*only, asl.matches(escrow, "*/")), called("join")),
                (asl.all_of(*only), called("join with /")),
            ],
            called("no checkpoint"),
        ),
        called("join"): _joined("{}{}", called("joined")),
        called("join with /"): _joined("{}/{}", called("joined")),
        called("joined"): asl.keep("$.joined.path", checkpoint, then),
        called("checkpoint"): asl.keep("$.found", checkpoint, then),
        called("no checkpoint"): asl.fail(
            "NovaNoCheckpoint",
            f"{plan.name} succeeded, but no manifest of its own under {plan.inputs.output}/{plan.name} names a "
            "checkpoint. Show it to AWS support before training again.",
        ),
    }


def _manifest_paths() -> list[str]:
    return [f"$.manifest.body.{key}" for key in KEYS]


def _read_manifest(plan: Plan, called: asl.Names) -> Json:
    place = plan.inputs.output.join(plan.name, MANIFEST)
    absent = {"ErrorEquals": ["S3.NoSuchKeyException"], "IntervalSeconds": MANIFEST_PAUSE, "BackoffRate": 1.0,
              "MaxAttempts": MANIFEST_LOOKS}  # fmt: skip
    return asl.task(
        "aws-sdk:s3:getObject",
        {"Bucket": place.bucket, "Key": place.key},
        ResultSelector={"body.$": "States.StringToJson($.Body)", "written.$": "$.LastModified"},
        ResultPath="$.manifest",
        Retry=[absent, *asl.try_again("S3")],
        Catch=[asl.catch("S3.NoSuchKeyException", called("no checkpoint"))],
        Next=called("whose is it?"),
    )


def _joined(form: str, then: str) -> Json:
    return asl.put({"path.$": f"States.Format('{form}', $.cluster.escrow[0], $.found)"}, "$.joined", then)

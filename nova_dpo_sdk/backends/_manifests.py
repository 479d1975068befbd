"""The two Kubernetes objects of a HyperPod job, as values; equal in meaning to what AWS's launcher sends."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

TemplateProfile = Literal["declared", "2025-12", "faithful"]
"""How the init container gets the cluster's CA certificate.

`declared`: mounted, and the volume is declared (as AWS's PPO chart has it). `2025-12`: neither mount nor
environment, as the HyperPod CLI's release of that month sends it. `faithful`: mounted but not declared, as
the newest SFT/DPO chart has it; a cluster without a webhook that adds the volume refuses every such pod.
"""

RESTRICTED_TAINT = "sagemaker.amazonaws.com/RestrictedNode"
GROUP_TYPE_LABEL = "sagemaker.amazonaws.com/instance-group-type"
INSTANCE_TYPE_LABEL = "node.kubernetes.io/instance-type"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
OUR_PREFIX = "nova-dpo-sdk"
DIGEST_LABEL = f"{OUR_PREFIX}/digest"
NAME_LABEL = f"{OUR_PREFIX}/name"
TECHNIQUE_LABEL = f"{OUR_PREFIX}/technique"
PLAN_ANNOTATION = f"{OUR_PREFIX}/plan"

_CA_FILE = "/etc/kubernetes/pki/ca.crt"


@dataclass(frozen=True)
class JobShape:
    """Everything that goes into a job's objects besides the recipe.

    Attributes:
        name: The job's name; also `run.name` in the recipe.
        replicas: Nodes in all: one master, the others workers.
        gpus: `nvidia.com/gpu` per node.
        efa: `vpc.amazonaws.com/efa` per node.
        labels: Labels of both objects.
        annotations: Annotations of the job.
        backoff_limit: Restarts after which the operator fails the job; None as AWS's chart has it: never.
        active_deadline_seconds: Seconds after which the operator fails the job; None for never.
    """

    name: str
    namespace: str
    replicas: int
    instance_type: str
    gpus: int
    efa: int
    image: str
    init_image: str
    region: str
    account: str
    profile: TemplateProfile = "declared"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    priority_class: str | None = None
    service_account: str | None = None
    backoff_limit: int | None = None
    active_deadline_seconds: int | None = None


def config_map_name(job: str) -> str:
    """The name of the ConfigMap that carries a job's recipe."""
    return f"training-config-{job}"


def config_map(shape: JobShape, recipe_yaml: str) -> dict[str, Any]:
    """The ConfigMap with the recipe; the container reads `/config/config.yaml`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(shape.name),
            "namespace": shape.namespace,
            "labels": _own(shape.labels),
        },
        "data": {"config.yaml": recipe_yaml.rstrip("\n")},
    }


def pytorch_job(shape: JobShape) -> dict[str, Any]:
    """The PyTorchJob that the training operator turns into one pod per replica."""
    metadata: dict[str, Any] = {
        "name": shape.name,
        "namespace": shape.namespace,
        "labels": {"app": shape.name, **shape.labels},
    }
    if shape.annotations:
        metadata["annotations"] = dict(shape.annotations)
    specs = {"Master": _replicas(shape, 1)}
    if shape.replicas > 1:
        specs["Worker"] = _replicas(shape, shape.replicas - 1)
    policy = {"backoffLimit": shape.backoff_limit, "activeDeadlineSeconds": shape.active_deadline_seconds}
    policy = {key: value for key, value in policy.items() if value is not None}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": metadata,
        "spec": {**({"runPolicy": policy} if policy else {}), "pytorchReplicaSpecs": specs},
    }


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key.startswith(f"{OUR_PREFIX}/")}


def _replicas(shape: JobShape, count: int) -> dict[str, Any]:
    template: dict[str, Any] = {"spec": _pod(shape)}
    return copy.deepcopy({"replicas": count, "restartPolicy": "OnFailure", "template": template})


def _pod(shape: JobShape) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "tolerations": [{"key": RESTRICTED_TAINT, "operator": "Equal", "value": "Worker", "effect": "NoSchedule"}],
    }
    if shape.priority_class:
        pod["priorityClassName"] = shape.priority_class
    if shape.service_account:
        pod["serviceAccountName"] = shape.service_account
    pod["initContainers"] = [_init_container(shape)]
    pod["containers"] = [_container(shape)]
    pod["affinity"] = _affinity(shape)
    pod["volumes"] = _volumes(shape)
    return pod


def _environment(shape: JobShape) -> list[dict[str, str]]:
    return [
        {"name": "AWS_REGION", "value": shape.region},
        {"name": "INSTANCE_TYPE", "value": shape.instance_type},
        {"name": "X_AMZ_SOURCE_ACCOUNT", "value": shape.account},
    ]


def _init_container(shape: JobShape) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "fsx-path-init", "mountPath": "/sagemaker/fsx/init"},
        {"name": "training-config", "mountPath": "/config"},
        {"name": "logs", "mountPath": "/var/log/aws/clusters"},
    ]
    container: dict[str, Any] = {"name": "init-container", "image": shape.init_image, "imagePullPolicy": "Always"}
    if shape.profile != "2025-12":
        container["env"] = _environment(shape)
        mounts.append({"name": "k8s-ca-cert", "mountPath": _CA_FILE, "readOnly": True})
    return {**container, "volumeMounts": mounts}


def _container(shape: JobShape) -> dict[str, Any]:
    devices = {"nvidia.com/gpu": shape.gpus, "vpc.amazonaws.com/efa": shape.efa}
    return {
        "name": "pytorch",  # the operator looks for a container of this name
        "image": shape.image,
        "env": _environment(shape),
        "imagePullPolicy": "Always",
        "resources": {"limits": devices, "requests": devices},
        "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
        "volumeMounts": [
            {"name": "fsx-path-main", "mountPath": "/sagemaker/fsx/main"},
            {"name": "training-config", "mountPath": "/config"},
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - a path in the pod
            {"name": "logs", "mountPath": "/var/log/aws/clusters"},
            {"name": "fsx-path-output-artifacts", "mountPath": "/sagemaker/fsx/output_artifacts"},
            {"name": "tmp-storage", "mountPath": "/tmp"},  # noqa: S108 - a path in the pod
        ],
    }


def _affinity(shape: JobShape) -> dict[str, Any]:
    terms = [
        {"key": INSTANCE_TYPE_LABEL, "operator": "In", "values": [shape.instance_type]},
        {"key": GROUP_TYPE_LABEL, "operator": "In", "values": ["Restricted"]},
    ]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _volumes(shape: JobShape) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        _host_path("fsx-path-main", "/sagemaker/fsx/main"),
        _host_path("fsx-path-init", "/sagemaker/fsx/init"),
        {"name": "training-config", "configMap": {"name": config_map_name(shape.name)}},
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        _host_path("logs", "/var/log/aws/clusters"),
        _host_path("fsx-path-output-artifacts", "/sagemaker/fsx/output_artifacts"),
        _host_path("tmp-storage", "/opt/dlami/nvme", "Directory"),
    ]
    if shape.profile == "declared":
        volumes.append(_host_path("k8s-ca-cert", _CA_FILE, "File"))
    return volumes


def _host_path(name: str, path: str, kind: str = "DirectoryOrCreate") -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path, "type": kind}}

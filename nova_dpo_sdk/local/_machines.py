"""The rehearsal cluster's hardware: instance groups, and the nodes in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]


@dataclass
class InstanceGroup:
    """One group of equal instances.

    Attributes:
        name: The group's name.
        instance_type: Such as `ml.p5.48xlarge`.
        count: How many instances run.
        target: How many were asked for; as many as run when left out.
        restricted: Whether it is a restricted instance group, the only kind that runs Nova.
        status: `InService`, `Creating`, `Updating`, `Failed`, `Degraded`, `SystemUpdating` or `Deleting`.
    """

    name: str
    instance_type: str
    count: int
    target: int | None = None
    restricted: bool = True
    status: str = "InService"

    def described(self, account: str, escrow: str) -> Json:
        """The group as DescribeCluster shows it."""
        shown: Json = {
            "CurrentCount": self.count,
            "TargetCount": self.count if self.target is None else self.target,
            "InstanceGroupName": self.name,
            "InstanceType": self.instance_type,
            "ExecutionRole": f"arn:aws:iam::{account}:role/hyperpod-execution",
            "ThreadsPerCore": 2,
            "Status": self.status,
        }
        if self.restricted:
            shown["EnvironmentConfig"] = {
                "FSxLustreConfig": {"SizeInGiB": 12000, "PerUnitStorageThroughput": 125},
                "S3OutputPath": f"s3://{escrow}",
            }
        else:
            shown["LifeCycleConfig"] = {
                "SourceS3Uri": f"s3://sagemaker-{account}",
                "OnCreate": "on_create.sh",
            }
        return shown


def default_groups() -> list[InstanceGroup]:
    """Groups large enough for every published Nova 1.0 recipe on each of the instance types."""
    return [
        InstanceGroup("nova-p5", "ml.p5.48xlarge", 8),
        InstanceGroup("nova-p5en", "ml.p5en.48xlarge", 8),
        InstanceGroup("nova-p4d", "ml.p4d.24xlarge", 24),
        InstanceGroup("nova-g5", "ml.g5.12xlarge", 4),
        InstanceGroup("general", "ml.g5.12xlarge", 1, restricted=False),
    ]


@dataclass
class Cluster:
    """One HyperPod cluster, orchestrated by EKS.

    Attributes:
        name: The HyperPod cluster's name.
        region: Its Region.
        account: Its account.
        groups: Its instance groups.
        status: `InService` and so on, as DescribeCluster shows it.
        eks_status: `ACTIVE` and so on, as EKS shows it.
    """

    name: str
    region: str
    account: str
    groups: list[InstanceGroup] = field(default_factory=default_groups)
    status: str = "InService"
    eks_status: str = "ACTIVE"

    @property
    def id(self) -> str:
        """The twelve characters that the ARN ends in; they follow from account, Region and name."""
        return _digits(f"{self.account}/{self.region}/{self.name}", 12)

    @property
    def arn(self) -> str:
        """The cluster's ARN."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:cluster/{self.id}"

    @property
    def eks_name(self) -> str:
        """The EKS cluster's name, which is not the HyperPod cluster's."""
        return f"{self.name}-eks"

    @property
    def eks_arn(self) -> str:
        """The EKS cluster's ARN."""
        return f"arn:aws:eks:{self.region}:{self.account}:cluster/{self.eks_name}"

    @property
    def escrow(self) -> str:
        """The bucket that holds checkpoints and is closed to the customer."""
        return f"customer-escrow-{self.account}-hp-{self.id[:8]}"

    @property
    def training_escrow(self) -> str:
        """The bucket that holds the checkpoints of training jobs and is closed to the customer."""
        return f"customer-escrow-{self.account}-smtj-{self.id[:8]}"

    def described(self) -> Json:
        """The answer of SageMaker's DescribeCluster."""
        plain = [group for group in self.groups if not group.restricted]
        restricted = [group for group in self.groups if group.restricted]
        return {
            "ClusterArn": self.arn,
            "ClusterName": self.name,
            "ClusterStatus": self.status,
            "CreationTime": 1735689600.0,
            "InstanceGroups": [group.described(self.account, self.escrow) for group in plain],
            "RestrictedInstanceGroups": [group.described(self.account, self.escrow) for group in restricted],
            "Orchestrator": {"Eks": {"ClusterArn": self.eks_arn}},
            "NodeRecovery": "Automatic",
        }

    def nodes(self) -> Iterator[Json]:
        """One Kubernetes node for each instance that runs."""
        for group in self.groups:
            for index in range(group.count):
                yield self._node(group, index)

    def _node(self, group: InstanceGroup, index: int) -> Json:
        instance = hashlib.sha256(f"{self.arn}/{group.name}/{index}".encode()).hexdigest()[:17]
        offered = Catalog.packaged().instances.get(group.instance_type)
        capacity = {
            "nvidia.com/gpu": str(offered.gpus if offered else 0),
            "vpc.amazonaws.com/efa": str(offered.efa if offered else 0),
            "pods": "110",
        }
        labels = {
            "kubernetes.io/hostname": f"hyperpod-i-{instance}",
            "node.kubernetes.io/instance-type": group.instance_type,
            "sagemaker.amazonaws.com/cluster-name": self.name,
            "sagemaker.amazonaws.com/compute-type": "hyperpod",
            "sagemaker.amazonaws.com/instance-group-name": group.name,
            "sagemaker.amazonaws.com/node-health-status": "Schedulable",
        }
        spec: Json = {"providerID": f"aws:///{self.region}/sagemaker/cluster/hyperpod-{self.id}-i-{instance}"}
        if group.restricted:
            labels["sagemaker.amazonaws.com/instance-group-type"] = "Restricted"
            spec["taints"] = [
                {"key": "sagemaker.amazonaws.com/RestrictedNode", "value": "Worker", "effect": "NoSchedule"}
            ]
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"hyperpod-i-{instance}", "labels": labels},
            "spec": spec,
            "status": {"capacity": capacity, "allocatable": dict(capacity), "conditions": [ready]},
        }


def _digits(text: str, length: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    digits: list[str] = []
    for _ in range(length):
        number, rest = divmod(number, len(alphabet))
        digits.append(alphabet[rest])
    return "".join(digits)

"""HyperPod and EKS clusters, as AWS describes them."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class InstanceGroup:
    """One group of a HyperPod cluster's instances.

    Attributes:
        name: The group's name.
        instance_type: Such as `ml.p5.48xlarge`.
        current_count: Instances that are there: capacity, not free capacity.
        target_count: Instances that were asked for; more than `current_count` while the group is scaling.
        status: `InService`, `Creating`, `Updating`, `Failed`, `Degraded`, `SystemUpdating`, `Deleting`, or
            a later word.
        output_s3_uri: The escrow location that checkpoints are written to; None outside restricted groups.
        restricted: Whether it is a restricted instance group, the only kind that runs Nova.
    """

    name: str
    instance_type: str
    current_count: int
    target_count: int
    status: str
    output_s3_uri: str | None
    restricted: bool


@dataclass(frozen=True)
class HyperPodCluster:
    """A SageMaker HyperPod cluster.

    Attributes:
        name: The cluster's name.
        arn: Its ARN, which ends in an id, not in the name.
        status: `InService`, `Creating`, `Updating`, `Failed`, `RollingBack`, `SystemUpdating`,
            `Deleting`, or a later word.
        eks_arn: ARN of the EKS cluster that orchestrates it; None under Slurm.
        groups: Every instance group, restricted ones first.
    """

    name: str
    arn: str
    status: str
    eks_arn: str | None
    groups: tuple[InstanceGroup, ...]

    @property
    def id(self) -> str:
        """The last part of the ARN, which names the cluster's log group."""
        return self.arn.rpartition("/")[2]

    @property
    def eks_name(self) -> str | None:
        """Name of the EKS cluster, from its ARN; None under Slurm."""
        return self.eks_arn.partition(":cluster/")[2] or None if self.eks_arn else None

    @property
    def eks_region(self) -> str | None:
        """Region of the EKS cluster, from its ARN; None under Slurm."""
        parts = self.eks_arn.split(":") if self.eks_arn else []
        return parts[3] or None if len(parts) > 3 else None


@dataclass(frozen=True)
class EKSCluster:
    """An EKS cluster.

    Attributes:
        name: The cluster's name.
        endpoint: The Kubernetes API's URL; empty while the cluster is being created.
        ca_pem: The certificate authority that signed the endpoint's certificate, as PEM; empty while being created.
        status: `ACTIVE`, `CREATING`, `UPDATING`, `FAILED`, `DELETING`, `PENDING`, or a later word.
    """

    name: str
    endpoint: str
    ca_pem: str
    status: str


def describe_hyperpod(client: Any, cluster: str) -> HyperPodCluster:
    """Ask SageMaker (`client`) for a HyperPod cluster by name or ARN."""
    with aws_errors("DescribeCluster", f"HyperPod cluster {cluster}"):
        answer: Any = client.describe_cluster(ClusterName=cluster)
    restricted = [_group(each, restricted=True) for each in answer.get("RestrictedInstanceGroups") or ()]
    plain = [_group(each, restricted=False) for each in answer.get("InstanceGroups") or ()]
    return HyperPodCluster(
        name=str(answer.get("ClusterName") or cluster),
        arn=str(answer.get("ClusterArn") or ""),
        status=str(answer.get("ClusterStatus") or "Unknown"),
        eks_arn=_part(_part(answer, "Orchestrator"), "Eks").get("ClusterArn"),
        groups=(*restricted, *plain),
    )


def describe_eks(client: Any, name: str) -> EKSCluster:
    """Ask EKS (`client`) for a cluster by name."""
    target = f"EKS cluster {name}"
    with aws_errors("DescribeCluster", target):
        answer: Any = client.describe_cluster(name=name)["cluster"]
    authority = str(_part(answer, "certificateAuthority").get("data") or "")
    try:
        ca_pem = b64decode(authority, validate=True).decode("ascii")
    except (Base64Error, UnicodeDecodeError) as error:
        raise ServiceError(
            f"DescribeCluster on {target} gave a certificate authority that is not base64 text, so the cluster "
            "cannot be talked to safely. Look at the cluster in the EKS console.",
            operation="DescribeCluster",
            target=target,
        ) from error
    return EKSCluster(
        name=str(answer.get("name") or name),
        endpoint=str(answer.get("endpoint") or ""),
        ca_pem=ca_pem,
        status=str(answer.get("status") or "UNKNOWN"),
    )


def _group(answer: Any, *, restricted: bool) -> InstanceGroup:
    return InstanceGroup(
        name=str(answer.get("InstanceGroupName") or ""),
        instance_type=str(answer.get("InstanceType") or ""),
        current_count=int(answer.get("CurrentCount") or 0),
        target_count=int(answer.get("TargetCount") or 0),
        status=str(answer.get("Status") or "Unknown"),
        output_s3_uri=_part(answer, "EnvironmentConfig").get("S3OutputPath"),
        restricted=restricted,
    )


def _part(answer: Any, key: str) -> Mapping[str, Any]:
    part: Any = answer.get(key)
    return part if part is not None else {}

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from aws_loopback import loopback_aws, moto_server
from scripted import Reply, ScriptedServer

from nova_dpo_sdk.aws import EKSCluster, HyperPodCluster, InstanceGroup
from nova_dpo_sdk.errors import NotFoundError, ServiceError

ARN = "arn:aws:sagemaker:us-east-1:123456789012:cluster/abcdef123456"
EKS_ARN = "arn:aws:eks:us-east-1:123456789012:cluster/research-eks"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
RESTRICTED: dict[str, Any] = {
    "InstanceGroupName": "nova",
    "InstanceType": "ml.p5.48xlarge",
    "CurrentCount": 4,
    "TargetCount": 8,
    "Status": "InService",
    "EnvironmentConfig": {"S3OutputPath": "s3://customer-escrow-123456789012-hp-ab12/"},
}


def json_reply(body: dict[str, Any], status: int = 200, **headers: str) -> Reply:
    return Reply(status, body, {"Content-Type": "application/x-amz-json-1.1", **headers})


def test_a_cluster_on_eks_is_described_with_its_groups() -> None:
    answer = {
        "ClusterName": "research",
        "ClusterArn": ARN,
        "ClusterStatus": "InService",
        "Orchestrator": {"Eks": {"ClusterArn": EKS_ARN}},
        "RestrictedInstanceGroups": [RESTRICTED],
        "InstanceGroups": [{"InstanceGroupName": "cpu", "InstanceType": "ml.m5.xlarge", "CurrentCount": 1}],
    }
    with ScriptedServer(json_reply(answer)) as sagemaker:
        cluster = loopback_aws(sagemaker.url).describe_hyperpod("research")
    assert sagemaker.asked[0].json == {"ClusterName": "research"}
    assert cluster == HyperPodCluster(
        name="research",
        arn=ARN,
        status="InService",
        eks_arn=EKS_ARN,
        groups=(
            InstanceGroup(
                "nova",
                "ml.p5.48xlarge",
                4,
                8,
                "InService",
                "s3://customer-escrow-123456789012-hp-ab12/",
                restricted=True,
            ),
            InstanceGroup("cpu", "ml.m5.xlarge", 1, 0, "Unknown", None, restricted=False),
        ),
    )
    assert (cluster.id, cluster.eks_name, cluster.eks_region) == ("abcdef123456", "research-eks", "us-east-1")


def test_a_cluster_under_slurm_has_no_eks() -> None:
    with ScriptedServer(json_reply({"ClusterArn": ARN, "ClusterStatus": "Creating", "Orchestrator": None})) as it:
        cluster = loopback_aws(it.url).describe_hyperpod("research")
    assert (cluster.eks_arn, cluster.eks_name, cluster.eks_region, cluster.groups) == (None, None, None, ())


def test_a_cluster_that_does_not_exist_is_named() -> None:
    missing = json_reply({"__type": "ResourceNotFound", "message": "no cluster"}, 400)
    with ScriptedServer(missing) as it, pytest.raises(NotFoundError, match="HyperPod cluster research"):
        loopback_aws(it.url).describe_hyperpod("research")


def test_an_eks_cluster_is_described_with_its_authority_as_pem() -> None:
    answer = {
        "cluster": {
            "name": "research-eks",
            "endpoint": "https://abc.gr7.us-east-1.eks.amazonaws.com",
            "status": "ACTIVE",
            "certificateAuthority": {"data": b64encode(PEM.encode()).decode()},
        }
    }
    with ScriptedServer(json_reply(answer)) as eks:
        cluster = loopback_aws(eks.url).describe_eks("research-eks", "us-east-1")
    assert cluster == EKSCluster("research-eks", "https://abc.gr7.us-east-1.eks.amazonaws.com", PEM, "ACTIVE")


def test_an_eks_cluster_in_the_making_has_no_endpoint_yet() -> None:
    with ScriptedServer(json_reply({"cluster": {"name": "research-eks", "status": "CREATING"}})) as eks:
        cluster = loopback_aws(eks.url).describe_eks("research-eks")
    assert (cluster.endpoint, cluster.ca_pem, cluster.status) == ("", "", "CREATING")


def test_an_authority_that_cannot_be_read_is_an_error() -> None:
    answer = {"cluster": {"name": "e", "certificateAuthority": {"data": "not base64!"}}}
    with ScriptedServer(json_reply(answer)) as eks, pytest.raises(ServiceError, match="certificate authority"):
        loopback_aws(eks.url).describe_eks("research-eks")


def test_a_missing_eks_cluster_is_named() -> None:
    with moto_server() as url, pytest.raises(NotFoundError, match="EKS cluster research-eks"):
        loopback_aws(url).describe_eks("research-eks")

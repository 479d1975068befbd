"""What a state machine may do: the IAM policy of its role, and its rights in the cluster.

Source: AWS Step Functions developer guide, "IAM policies for integrated services" (SageMaker, EKS, Lambda).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._arns import key_target, literal
from nova_dpo_sdk.backends._manifest import MANIFEST
from nova_dpo_sdk.catalog import Platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nova_dpo_sdk.export._draft import DraftStage

Json = dict[str, Any]

GROUP = "nova-dpo-state-machine"
"""The Kubernetes group of a machine's role."""
_EVENTS_RULE = "StepFunctionsGetEventsForSageMakerTrainingJobsRule"


def policy(stages: Sequence[DraftStage], account: str, reader: str | None) -> Json:
    """The IAM policy that a machine's role needs, and nothing more."""
    backend: Any = stages[0].plan.backend
    if backend.platform is Platform.HYPERPOD:
        statements = _hyperpod(stages, backend.aws.region, account)
    else:
        statements = _training(stages, backend, account, reader)
    key: str | None = backend.aws.kms_key_id
    if key:
        target = key_target(key, f"arn:aws:kms:{backend.aws.region}:{account}")
        statements.append({**_allow(["kms:Decrypt", "kms:GenerateDataKey"], []), **target})
    return {"Version": "2012-10-17", "Statement": statements}


def _hyperpod(stages: Sequence[DraftStage], region: str, account: str) -> list[Json]:
    manifests = [_object_arn(str(each.plan.inputs.output.join(each.plan.name, MANIFEST))) for each in stages]
    buckets = sorted({f"arn:aws:s3:::{each.plan.inputs.output.bucket}" for each in stages})
    return [
        _allow(["sagemaker:DescribeCluster"], [f"arn:aws:sagemaker:{region}:{account}:cluster/*"]),
        _allow(["eks:DescribeCluster"], [f"arn:aws:eks:{region}:{account}:cluster/*"]),
        _allow(["s3:GetObject"], manifests),
        _allow(["s3:ListBucket"], buckets),  # without it an absent manifest is answered as 403 instead of 404
    ]


def _training(stages: Sequence[DraftStage], backend: Any, account: str, reader: str | None) -> list[Json]:
    region = backend.aws.region
    jobs = [f"arn:aws:sagemaker:{region}:{account}:training-job/{each.plan.name}" for each in stages]
    uploads = [each.plan.objects[0] for each in stages]
    asked = ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"]
    statements = [
        _allow([*asked, "sagemaker:AddTags"], jobs),
        _allow(["sagemaker:ListTags"], ["*"]),
        {
            **_allow(["iam:PassRole"], [backend.role]),
            "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        },
        _allow(
            ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
            [f"arn:aws:events:{region}:{account}:rule/{_EVENTS_RULE}"],
        ),
        _allow(["s3:PutObject"], [_object_arn(f"s3://{each['Bucket']}/{each['Key']}") for each in uploads]),
    ]
    return [*statements, *([_allow(["lambda:InvokeFunction"], [reader])] if reader else [])]


def _allow(actions: list[str], targets: list[str]) -> Json:
    return {"Effect": "Allow", "Action": actions, "Resource": targets}


def _object_arn(uri: str) -> str:
    return f"arn:aws:s3:::{literal(uri.removeprefix('s3://'))}"


def kubernetes_access(stages: Sequence[DraftStage]) -> list[Json]:
    """A Role and a RoleBinding for the machine's group; none where there is no cluster."""
    backend: Any = stages[0].plan.backend
    if backend.platform is not Platform.HYPERPOD:
        return []
    metadata = {"name": GROUP, "namespace": backend.namespace}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": ["create", "get"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "subjects": [{"kind": "Group", "name": GROUP, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": GROUP, "apiGroup": "rbac.authorization.k8s.io"},
    }
    return [role, binding]

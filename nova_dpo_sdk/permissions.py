"""What this package needs to be allowed: an IAM policy and Kubernetes roles, made from the calls that it makes.

from nova_dpo_sdk.permissions import iam_policy, kubernetes_access

print(json.dumps(iam_policy(backend, "s3://acme-nova/runs"), indent=2))
print(yaml.safe_dump_all(kubernetes_access(backend, group="nova-scientists")))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends._arns import key_target, literal
from nova_dpo_sdk.backends._resources import LOCAL_QUEUES, NODES, PODS, PRIORITY_CLASSES, QUEUE_PRIORITIES
from nova_dpo_sdk.backends._rights import NEEDED, SIGHT, USEFUL
from nova_dpo_sdk.catalog import Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

Json = dict[str, Any]

GROUP = "nova-dpo-users"
"""The Kubernetes group that the roles are bound to, unless another is named."""
_RBAC = "rbac.authorization.k8s.io"
_LOGS = {
    Platform.HYPERPOD: "/aws/sagemaker/Clusters/{cluster}/*",
    Platform.TRAINING_JOBS: "/aws/sagemaker/TrainingJobs",
}


@dataclass(frozen=True)
class Call:
    """One AWS call that this package makes.

    Attributes:
        service: boto3's name of the service.
        operations: The API operations, as CloudTrail names them.
        action: The IAM action that allows them.
        where: What it is about: a key of the ARNs of a place.
        why: What it is needed for.
        optional: Whether jobs run without it, and only something is not known beforehand or not seen.
        platforms: The platforms that need it.
    """

    service: str
    operations: tuple[str, ...]
    action: str
    where: str
    why: str
    optional: bool = False
    platforms: tuple[Platform, ...] = (Platform.HYPERPOD, Platform.TRAINING_JOBS)


_MORE: Any = {"optional": True, "platforms": (Platform.TRAINING_JOBS,)}
_HP = (Platform.HYPERPOD,)
_TJ = (Platform.TRAINING_JOBS,)
_PARTS = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")

CALLS = (
    Call("s3", ("HeadBucket", "ListObjectsV2"), "s3:ListBucket", "bucket", "sees that the output bucket is yours"),
    Call("s3", ("HeadObject", "GetObject"), "s3:GetObject", "output", "reads manifests, plans and chains"),
    Call("s3", ("PutObject", *_PARTS), "s3:PutObject", "output", "sends data, plans and chains"),
    Call("s3", ("AbortMultipartUpload",), "s3:AbortMultipartUpload", "output", "clears up after a refused upload"),
    Call("s3", ("ListParts",), "s3:ListMultipartUploadParts", "output", "resumes an interrupted upload"),
    Call(
        "s3", ("ListMultipartUploads",), "s3:ListBucketMultipartUploads", "bucket", "finds an interrupted upload"
    ),
    Call("sagemaker", ("DescribeCluster",), "sagemaker:DescribeCluster", "cluster", "finds the cluster", platforms=_HP),
    Call("eks", ("DescribeCluster",), "eks:DescribeCluster", "eks", "finds its Kubernetes API", platforms=_HP),
    Call("logs", ("FilterLogEvents",), "logs:FilterLogEvents", "logs", "reads logs and metrics", optional=True),
    Call("logs", ("DescribeLogStreams",), "logs:DescribeLogStreams", "logs", "finds a job's streams", optional=True),
    Call("sagemaker", ("CreateTrainingJob",), "sagemaker:CreateTrainingJob", "job", "submits", platforms=_TJ),
    Call("sagemaker", ("CreateTrainingJob",), "sagemaker:AddTags", "job", "labels what it submits", platforms=_TJ),
    Call("sagemaker", ("CreateTrainingJob",), "iam:PassRole", "role", "lets the job use its role", platforms=_TJ),
    Call("sagemaker", ("DescribeTrainingJob",), "sagemaker:DescribeTrainingJob", "job", "looks at it", platforms=_TJ),
    Call("sagemaker", ("StopTrainingJob",), "sagemaker:StopTrainingJob", "job", "cancels", platforms=_TJ),
    Call("sagemaker", ("DeleteTrainingJob",), "sagemaker:DeleteTrainingJob", "job", "deletes", **_MORE),
    Call("sagemaker", ("ListTags",), "sagemaker:ListTags", "job", "tells its own jobs from others", platforms=_TJ),
    Call("sagemaker", ("ListTrainingJobs",), "sagemaker:ListTrainingJobs", "any", "lists jobs", platforms=_TJ),
    Call("sagemaker", ("Search",), "sagemaker:Search", "any", "follows many jobs at once", platforms=_TJ),
    Call("s3", ("HeadObject", "GetObject"), "s3:GetObject", "escrow", "reads a job's output", platforms=_TJ),
    Call("iam", ("GetRole",), "iam:GetRole", "role", "checks the role before a submit", **_MORE),
    Call(
        "iam", ("SimulatePrincipalPolicy",), "iam:SimulatePrincipalPolicy", "any",
        "checks that the role may be passed", **_MORE,
    ),
    Call(
        "service-quotas", ("ListServiceQuotas",), "servicequotas:ListServiceQuotas", "any",
        "checks the quota before a submit", **_MORE,
    ),
    Call("ecr", ("DescribeImages",), "ecr:DescribeImages", "any", "checks the image", **_MORE),
    Call("ec2", ("DescribeSubnets",), "ec2:DescribeSubnets", "any", "checks the subnets", **_MORE),
    Call(
        "ec2", ("DescribeSecurityGroups",), "ec2:DescribeSecurityGroups", "any", "checks the security groups", **_MORE,
    ),
    Call(
        "sagemaker", ("DescribeModelPackageGroup",), "sagemaker:DescribeModelPackageGroup", "any",
        "checks the model package group", **_MORE,
    ),
)  # fmt: skip
"""Every call but `sts:GetCallerIdentity`, which AWS allows to everybody."""


def iam_policy(backend: HyperPodBackend | TrainingJobBackend, output: str, *, optional: bool = True) -> Json:
    """The least IAM policy for planning, submitting, following and ending jobs at one place.

    Args:
        backend: The place. Nobody is asked; an account that is not known is written as `*`, which in these ARNs means
            your own.
        output: The client's S3 prefix.
        optional: Whether to allow what jobs can do without, too: logs, and most of the preflight of training jobs.

    Returns:
        The policy document. Attach it to the identity that runs your scripts. Data sets (`from_s3`) and media in
        buckets of their own need `s3:GetObject` and `s3:ListBucket` there besides.

    Raises:
        ConfigurationError: `output` is no S3 path, or no Region is known.
    """
    places = _places(backend, S3Uri.parse(output.rstrip("/")))
    wanted = [each for each in CALLS if backend.platform in each.platforms and (optional or not each.optional)]
    statements = [_statement(where, wanted, arns) for where, arns in places.items()]
    key = backend.aws.kms_key_id
    if key:
        target = key_target(key, _home(backend, "kms"))
        statements.append({**_allow("NovaKey", {"kms:Decrypt", "kms:GenerateDataKey"}, []), **target})
    return {"Version": "2012-10-17", "Statement": [each for each in statements if each["Action"]]}


def _places(backend: HyperPodBackend | TrainingJobBackend, output: S3Uri) -> dict[str, list[str]]:
    partition, account = _partition(backend), backend.aws.known_account or "*"

    def arn(service: str, rest: str) -> str:
        return f"{_home(backend, service)}:{rest}"

    group = _LOGS[backend.platform].format(cluster=getattr(backend, "cluster", ""))
    prefix = literal(f"{output.key}/") if output.key else ""
    return {
        "bucket": [f"arn:{partition}:s3:::{output.bucket}"],
        "output": [f"arn:{partition}:s3:::{output.bucket}/{prefix}*"],
        "cluster": [arn("sagemaker", "cluster/*")],  # an ARN holds the cluster's id, which its name does not tell
        "eks": [arn("eks", "cluster/*")],
        "logs": [arn("logs", f"log-group:{group}"), arn("logs", f"log-group:{group}:*")],
        "job": [arn("sagemaker", "training-job/*")],
        "role": [str(getattr(backend, "role", ""))],
        "escrow": [f"arn:{partition}:s3:::customer-escrow-{account}-smtj-*/*"],
        "any": ["*"],
    }


def _partition(backend: HyperPodBackend | TrainingJobBackend) -> str:
    group = backend.aws.region.rpartition("-")[0].rpartition("-")[0]
    return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(group, "aws")


def _home(backend: HyperPodBackend | TrainingJobBackend, service: str) -> str:
    """What the ARNs of a service's things begin with, at one place."""
    return f"arn:{_partition(backend)}:{service}:{backend.aws.region}:{backend.aws.known_account or '*'}"


def _statement(where: str, calls: Iterable[Call], arns: list[str]) -> Json:
    made = _allow(f"Nova{where.title()}", {each.action for each in calls if each.where == where}, arns)
    if "iam:PassRole" in made["Action"]:
        made["Condition"] = {"StringEqualsIfExists": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    return made


def _allow(name: str, actions: set[str], arns: list[str]) -> Json:
    return {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": arns}


def kubernetes_access(backend: HyperPodBackend, *, group: str = GROUP, optional: bool = True) -> tuple[Json, ...]:
    """The least Kubernetes rights for jobs in one namespace, as objects to apply.

    The identity becomes a member of the group through an EKS access entry:

        aws eks create-access-entry --cluster-name EKS --principal-arn ARN --kubernetes-groups nova-dpo-users

    Args:
        backend: The cluster and namespace. Nobody is asked.
        group: The Kubernetes group to bind to.
        optional: Whether to allow what jobs can do without, too: watching, Kueue's words, free nodes.

    Returns:
        A Role and a RoleBinding; with `optional` a ClusterRole and a ClusterRoleBinding for what has no namespace.
    """
    rights = {*NEEDED, *SIGHT, *((right for right in USEFUL if right[1].namespaced) if optional else ())}
    rules = _rules({(verb, each.group, each.plural) for verb, each in rights})
    rules.append({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]})
    if optional:
        rules += _rules({("get", LOCAL_QUEUES.group, LOCAL_QUEUES.plural)})
    name = group
    granted = _bound("Role", {"name": name, "namespace": backend.namespace}, rules, group)
    if not optional:
        return granted
    wide = [("list", NODES), ("list", PODS), ("get", PRIORITY_CLASSES), ("get", QUEUE_PRIORITIES)]
    return granted + _bound("ClusterRole", {"name": name}, _rules({(v, r.group, r.plural) for v, r in wide}), group)


def _rules(rights: set[tuple[str, str, str]]) -> list[Json]:
    kinds = sorted({(group, plural) for _, group, plural in rights})
    return [
        {
            "apiGroups": [group],
            "resources": [plural],
            "verbs": sorted(verb for verb, *kind in rights if kind == [group, plural]),
        }
        for group, plural in kinds
    ]


def _bound(kind: str, metadata: Mapping[str, str], rules: list[Json], group: str) -> tuple[Json, ...]:
    version = f"{_RBAC}/v1"
    return (
        {"apiVersion": version, "kind": kind, "metadata": dict(metadata), "rules": rules},
        {
            "apiVersion": version,
            "kind": f"{kind}Binding",
            "metadata": dict(metadata),
            "subjects": [{"kind": "Group", "name": group, "apiGroup": _RBAC}],
            "roleRef": {"kind": kind, "name": metadata["name"], "apiGroup": _RBAC},
        },
    )

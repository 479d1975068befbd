"""What IAM, Service Quotas, ECR and EC2 know that decides whether a training job can run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import unquote

from nova_dpo_sdk.aws._errors import aws_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Json = dict[str, Any]

SAGEMAKER = "sagemaker.amazonaws.com"


@dataclass(frozen=True)
class Role:
    """An IAM role.

    Attributes:
        arn: Its ARN.
        trusts_sagemaker: Whether its trust policy lets SageMaker assume it.
    """

    arn: str
    trusts_sagemaker: bool


@dataclass(frozen=True)
class Subnet:
    """A subnet of a VPC."""

    id: str
    vpc: str
    zone: str
    free_addresses: int


def role(client: Any, name: str) -> Role:
    """Ask IAM (`client`) for a role by name.

    Raises:
        NotFoundError: There is none.
        AccessDeniedError: The caller may not look (iam:GetRole).
    """
    with aws_errors("GetRole", f"role {name}"):
        answer: Any = client.get_role(RoleName=name)["Role"]
    return Role(str(answer["Arn"]), _trusts(answer.get("AssumeRolePolicyDocument")))


def _trusts(document: Any) -> bool:
    policy: Any = json.loads(unquote(document)) if isinstance(document, str) else document or {}
    return any(
        each.get("Effect") == "Allow" and SAGEMAKER in _services(each.get("Principal"))
        for each in _listed(policy.get("Statement"))
    )


def _services(principal: Any) -> list[Any]:
    return _listed(principal.get("Service")) if isinstance(principal, dict) else []  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType] - JSON


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if _is_list(value) else [value]


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def may_pass(iam: Any, sts: Any, role_arn: str) -> bool:
    """Whether the caller may pass a role to SageMaker, as IAM simulates it.

    Raises:
        AWSError: The caller may not ask that, or is of a kind that cannot be simulated.
    """
    with aws_errors("GetCallerIdentity", "your credentials"):
        caller = str(sts.get_caller_identity()["Arn"])
    context = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string", "ContextKeyValues": [SAGEMAKER]}
    with aws_errors("SimulatePrincipalPolicy", f"the policies of {caller}"):
        answer: Any = iam.simulate_principal_policy(
            PolicySourceArn=_principal(caller),
            ActionNames=["iam:PassRole"],
            ResourceArns=[role_arn],
            ContextEntries=[context],
        )
    return all(each.get("EvalDecision") == "allowed" for each in answer.get("EvaluationResults") or ())


def _principal(caller: str) -> str:
    """The ARN whose policies can be simulated: an assumed role's session stands for its role."""
    parts = caller.split(":", 5)
    if len(parts) < 6 or not parts[5].startswith("assumed-role/"):
        return caller
    return f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"


def training_quota(client: Any, instance_type: str) -> float | None:
    """How many instances of a type training jobs may use at once; None when Service Quotas does not list it."""
    wanted = f"{instance_type} for training job usage"
    return next((float(each["Value"]) for each in _quotas(client) if each.get("QuotaName") == wanted), None)


def _quotas(client: Any) -> Iterator[Json]:
    given: Json = {"ServiceCode": "sagemaker", "MaxResults": 100}
    while True:
        with aws_errors("ListServiceQuotas", "the quotas of SageMaker"):
            page: Any = client.list_service_quotas(**given)
        yield from page.get("Quotas") or ()
        if not page.get("NextToken"):
            return
        given["NextToken"] = page["NextToken"]


def check_image(client: Any, account: str, repository: str, tag: str) -> None:
    """Ask ECR for an image.

    Raises:
        NotFoundError: The registry has no such repository or image.
        AccessDeniedError: The caller may not look; that the role may pull it is not excluded.
    """
    with aws_errors("DescribeImages", f"image {repository}:{tag}"):
        client.describe_images(registryId=account, repositoryName=repository, imageIds=[{"imageTag": tag}])


def subnets(client: Any, ids: Sequence[str]) -> list[Subnet]:
    """Ask EC2 for subnets by id.

    Raises:
        AWSError: One does not exist (`InvalidSubnetID.NotFound`), or the caller may not look.
    """
    with aws_errors("DescribeSubnets", ", ".join(ids)):
        answer: Any = client.describe_subnets(SubnetIds=list(ids))
    return [
        Subnet(str(each["SubnetId"]), str(each["VpcId"]), str(each.get("AvailabilityZone") or ""),
               int(each.get("AvailableIpAddressCount") or 0))
        for each in answer.get("Subnets") or ()
    ]  # fmt: skip


def group_vpcs(client: Any, ids: Sequence[str]) -> set[str]:
    """The VPCs of security groups.

    Raises:
        AWSError: One does not exist (`InvalidGroup.NotFound`), or the caller may not look.
    """
    with aws_errors("DescribeSecurityGroups", ", ".join(ids)):
        answer: Any = client.describe_security_groups(GroupIds=list(ids))
    return {str(each.get("VpcId") or "") for each in answer.get("SecurityGroups") or ()}

"""What AWS can be asked about a place for training jobs; what cannot be told in advance stops nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.aws import _training_checks as checks
from nova_dpo_sdk.aws import _training_jobs as calls
from nova_dpo_sdk.backends import _training_submit as sdk
from nova_dpo_sdk.backends._preflight import Check, unknown
from nova_dpo_sdk.errors import AccessDeniedError, AWSError, ConfigurationError, Finding, NotFoundError, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

_NOT_THERE = ("InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidGroupId.Malformed")


class TrainingJobQuestions:
    """Asks about a place, whatever job it will be.

    Args:
        backend: Where.
    """

    def __init__(self, backend: TrainingJobBackend) -> None:
        self._backend = backend

    def _identity(self) -> Check:
        told, account = self._backend.aws.known_account, self._backend.aws.ask_account()
        for name, given in (("account", told), ("role", self._backend.role_account)):
            if given is not None and given != account:
                finding = Finding(
                    "account-differs", Severity.ERROR, name,
                    f"{name} is of account {given}, but the credentials belong to {account}.", given, account,
                    f"Use credentials of account {given}, or a {name} of {account}.",
                )  # fmt: skip
                return Check("identity", f"account {account}", (finding,))
        return Check("identity", f"account {account}")

    def _writable(self, output: S3Uri) -> Check:
        unsure = self._unsure_bucket("output bucket", output)
        place = output.join("checks", "writable")
        self._backend.aws.write(place, b"nova-dpo-sdk may write here\n", content_type="text/plain")
        return Check("output bucket", f"{output} can be written", unsure)

    def _unsure_bucket(self, question: str, uri: S3Uri) -> tuple[Finding, ...]:
        """Refuse a bucket of another Region or account; a warning when this identity may not look."""
        try:
            self._backend.aws.check_bucket(uri)
        except AccessDeniedError as error:
            return unanswered(question, error).findings
        return ()

    def _sdk(self) -> Check:
        if sdk.is_installed():
            return Check("sagemaker sdk", "installed")
        finding = Finding(
            "sagemaker-sdk-missing", Severity.ERROR, "sagemaker",
            "Submitting a training job needs the SageMaker SDK v3, which is not installed.", None, "", f"{sdk.INSTALL}",
        )  # fmt: skip
        return Check("sagemaker sdk", "not installed", (finding,))

    def _role(self) -> Check:
        arn = self._backend.role or ""
        try:
            role = checks.role(self._backend.aws.client("iam"), arn.rpartition("/")[2])
        except NotFoundError:
            return Check("role", "does not exist", (wrong("role-missing", "role", f"{arn} does not exist.", arn),))
        if role.arn != arn:
            message = f"The role of that name is {role.arn}, not {arn}."
            return Check("role", "has another path", (wrong("role-missing", "role", message, arn),))
        if not role.trusts_sagemaker:
            message = f"{arn} does not trust {checks.SAGEMAKER}, so SageMaker cannot assume it."
            return Check("role", "does not trust SageMaker", (wrong("role-not-trusting", "role", message, arn),))
        return Check("role", "exists and trusts SageMaker")

    def _pass_role(self) -> Check:
        client = self._backend.aws.client
        if checks.may_pass(client("iam"), client("sts"), self._backend.role or ""):
            return Check("pass role", "allowed")
        finding = Finding(
            "pass-role-denied", Severity.WARNING, "role",
            f"As IAM simulates it, this identity may not pass {self._backend.role} to SageMaker.", self._backend.role,
            "iam:PassRole on the role", "Have iam:PassRole granted for this role.",
        )  # fmt: skip
        return Check("pass role", "denied, says the simulation", (finding,))

    def _group(self) -> Check:
        group = str(self._backend.options.model_package_group)
        try:
            place = f":{self._backend.aws.region}:{self._backend.aws.ask_account()}:"
            own = place in group  # a group of another place goes by its ARN only
            calls.describe_group(self._backend.aws.client("sagemaker"), group.rpartition("/")[2] if own else group)
        except NotFoundError:
            fix = "Create it: boto3's create_model_package_group, or the SageMaker console."
            finding = Finding(
                "model-package-group-missing", Severity.ERROR, "options.model_package_group",
                f"{group} does not exist.", group, "", fix,
            )  # fmt: skip
            return Check("model package group", "does not exist", (finding,))
        return Check("model package group", "exists")

    def _network(self) -> Check:
        client, options = self._backend.aws.client("ec2"), self._backend.options
        try:
            found = checks.subnets(client, options.subnets)
            vpcs = {each.vpc for each in found} | checks.group_vpcs(client, options.security_groups)
        except AWSError as error:
            if error.code not in _NOT_THERE:
                raise
            finding = wrong("network-missing", "options.subnets", str(error), options.subnets)
            return Check("network", "something is missing", (finding,))
        if len(vpcs) > 1:
            message = f"The subnets and security groups lie in several VPCs: {', '.join(sorted(vpcs))}."
            return Check(
                "network", "several VPCs", (wrong("network-torn", "options.subnets", message, options.subnets),)
            )
        free = sum(each.free_addresses for each in found)
        return Check("network", f"{plural(len(found), 'subnet')} in {', '.join(vpcs)}, free addresses: {free:,}")


def told(question: str, ask: Callable[[], Check]) -> Check:
    """An answer, or a warning that there is none: these questions may be forbidden to who may submit."""
    try:
        return ask()
    except (AWSError, ConfigurationError) as error:
        return unanswered(question, error)


def unanswered(question: str, error: Exception) -> Check:
    """A warning that a question has no answer."""
    return unknown(question, error, severity=Severity.WARNING)


def wrong(code: str, where: str, message: str, value: object) -> Finding:
    """An error about an argument of the backend."""
    return Finding(code, Severity.ERROR, where, message, value, "", "Correct it in TrainingJobBackend(...).")

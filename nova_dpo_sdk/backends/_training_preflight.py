"""The questions that AWS is asked before a training job is sent; what cannot be told in advance stops nobody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.aws import _training_checks as checks
from nova_dpo_sdk.aws import _training_jobs as calls
from nova_dpo_sdk.backends import _training_submit as sdk
from nova_dpo_sdk.backends._preflight import JOB_THERE, Check, Preflight, Question, ask_all, unknown
from nova_dpo_sdk.backends._training_status import fold
from nova_dpo_sdk.errors import AccessDeniedError, AWSError, ConfigurationError, Finding, NotFoundError, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+):([\w.-]+)\Z")
_NOT_THERE = ("InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidGroupId.Malformed")


class TrainingJobPreflight:
    """Asks about one plan.

    Args:
        backend: Where the plan would run.
        plan: The plan.
    """

    def __init__(self, backend: TrainingJobBackend, plan: Plan) -> None:
        self._backend = backend
        self._plan = plan

    def run(self) -> Preflight:
        """Ask everything at once."""
        questions: list[Question] = [
            ("identity", self._identity),
            ("output bucket", self._output),
            ("data set", self._data),
            ("job name", self._name),
            ("sagemaker sdk", self._sdk),
            ("role", lambda: _told("role", self._role)),
            ("pass role", lambda: _told("pass role", self._pass_role)),
        ]
        if self._backend.options.serverless:
            questions.append(("model package group", lambda: _told("model package group", self._group)))
        else:
            questions.append(("quota", lambda: _told("quota", self._quota)))
            questions.append(("image", lambda: _told("image", self._image)))
        if self._backend.options.subnets:
            questions.append(("network", lambda: _told("network", self._network)))
        return Preflight(self._plan.name, ask_all(questions))

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

    def _output(self) -> Check:
        output = self._plan.inputs.output
        unsure = self._unsure_bucket("output bucket", output)
        place = output.join("checks", "writable")
        self._backend.aws.write(place, b"nova-dpo-sdk may write here\n", content_type="text/plain")
        return Check("output bucket", f"{output} can be written", unsure)

    def _unsure_bucket(self, question: str, uri: S3Uri) -> tuple[Finding, ...]:
        """Refuse a bucket of another Region or account; a warning when this identity may not look."""
        try:
            self._backend.aws.check_bucket(uri)
        except AccessDeniedError as error:
            return _unknown(question, error).findings
        return ()

    def _data(self) -> Check:
        planned = [each for each in self._plan.uploads if each.role != "image"]
        there = 0
        unsure: list[Finding] = []
        for each in planned:
            uri = S3Uri.parse(each.uri)
            if each.in_place:
                unsure += self._unsure_bucket("data set", uri)
            held = self._backend.aws.head(uri)
            if each.in_place and (held is None or held.etag != each.version):
                message = f"{uri} is gone, or is no longer what was checked."
                fix = "Open it again with from_s3(), and plan again."
                finding = Finding("data-changed", Severity.ERROR, "data", message, str(uri), "", fix)
                return Check("data set", "changed since it was planned", (finding,))
            there += held is not None
        return Check("data set", f"{there} of {len(planned)} files are there already", tuple(unsure))

    def _name(self) -> Check:
        plan, backend = self._plan, self._backend
        existing = calls.describe_or_none(backend.aws.client("sagemaker"), plan.name)
        if existing is None:
            return Check("job name", f"{plan.name} is free")
        if not backend.is_same_run(plan, existing):
            finding = Finding(
                "job-name-taken", Severity.ERROR, "name", f"{plan.name} is another run's.", plan.name, "",
                "Give the recipe another name.",
            )  # fmt: skip
            return Check("job name", "taken", (finding,))
        status = fold(plan.ref, existing, backend.clock.now()).status
        note = Finding(JOB_THERE, Severity.NOTE, "name", f"{plan.name} was submitted before and is {status}.")
        return Check("job name", f"this very job is there ({status})", (note,))

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
            return Check("role", "does not exist", (_wrong("role-missing", "role", f"{arn} does not exist.", arn),))
        if role.arn != arn:
            message = f"The role of that name is {role.arn}, not {arn}."
            return Check("role", "has another path", (_wrong("role-missing", "role", message, arn),))
        if not role.trusts_sagemaker:
            message = f"{arn} does not trust {checks.SAGEMAKER}, so SageMaker cannot assume it."
            return Check("role", "does not trust SageMaker", (_wrong("role-not-trusting", "role", message, arn),))
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

    def _quota(self) -> Check:
        instance, wanted = self._backend.instance_type, self._plan.recipe.replicas
        quota = checks.training_quota(self._backend.aws.client("service-quotas"), instance)
        if quota is None:
            return _unknown("quota", LookupError(f"Service Quotas lists no {instance} for training jobs."))
        answer = f"{quota:.0f} {instance} for training jobs, {wanted} are needed"
        if quota >= wanted:
            return Check("quota", answer)
        finding = Finding(
            "quota-too-small", Severity.ERROR, "replicas",
            f"The account's quota is {quota:.0f} {instance} for training jobs, and {wanted} are needed.",
            wanted, f"at most {quota:.0f}",
            f"Ask Service Quotas for more of '{instance} for training job usage', or use another instance type.",
        )  # fmt: skip
        return Check("quota", answer, (finding,))

    def _image(self) -> Check:
        image = str(self._plan.objects[1]["AlgorithmSpecification"]["TrainingImage"])
        match = _IMAGE.match(image)
        if match is None:
            return Check("image", f"{image} is not looked up")
        account, region, repository, tag = match.groups()
        if region != self._backend.aws.region:
            message = f"{image} lies in {region}, and the job runs in {self._backend.aws.region}."
            return Check("image", "in another Region", (_wrong("image-region", "options.image", message, image),))
        try:
            checks.check_image(self._backend.aws.client("ecr"), account, repository, tag)
        except NotFoundError:
            return Check("image", "missing", (_wrong("image-missing", "image", f"{image} does not exist.", image),))
        return Check("image", "there")

    def _group(self) -> Check:
        group = str(self._backend.options.model_package_group)
        try:
            own = f":{self._backend.aws.ask_account()}:" in group  # another account's group goes by its ARN only
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
            finding = _wrong("network-missing", "options.subnets", str(error), options.subnets)
            return Check("network", "something is missing", (finding,))
        if len(vpcs) > 1:
            message = f"The subnets and security groups lie in several VPCs: {', '.join(sorted(vpcs))}."
            return Check(
                "network", "several VPCs", (_wrong("network-torn", "options.subnets", message, options.subnets),)
            )
        free = sum(each.free_addresses for each in found)
        return Check("network", f"{len(found)} subnets in {', '.join(vpcs)}, {free} free addresses")


def _told(question: str, ask: Callable[[], Check]) -> Check:
    """An answer, or a warning that there is none: these questions may be forbidden to who may submit."""
    try:
        return ask()
    except (AWSError, ConfigurationError) as error:
        return _unknown(question, error)


def _unknown(question: str, error: Exception) -> Check:
    return unknown(question, error, severity=Severity.WARNING)


def _wrong(code: str, where: str, message: str, value: object) -> Finding:
    return Finding(code, Severity.ERROR, where, message, value, "", "Correct it in TrainingJobBackend(...).")

"""The questions that AWS is asked before a training job is sent; what cannot be told in advance stops nobody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.aws import _training_checks as checks
from nova_dpo_sdk.aws import _training_jobs as calls
from nova_dpo_sdk.backends._media import MEDIA, media_check
from nova_dpo_sdk.backends._preflight import JOB_THERE, Check, Preflight, Question, ask_all
from nova_dpo_sdk.backends._training_questions import TrainingJobQuestions, told, unanswered, wrong
from nova_dpo_sdk.backends._training_status import fold
from nova_dpo_sdk.backends._validation import VALIDATION, named_validation, validation_check
from nova_dpo_sdk.errors import Finding, NotFoundError, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+):([\w.-]+)\Z")


class TrainingJobPreflight(TrainingJobQuestions):
    """Asks about one plan.

    Args:
        backend: Where the plan would run.
        plan: The plan.
    """

    def __init__(self, backend: TrainingJobBackend, plan: Plan) -> None:
        super().__init__(backend)
        self._plan = plan

    def run(self) -> Preflight:
        """Ask everything at once."""
        questions: list[Question] = [
            ("identity", self._identity),
            ("output bucket", lambda: self._writable(self._plan.inputs.output)),
            ("data set", self._data),
            ("job name", self._name),
            ("sagemaker sdk", self._sdk),
            ("role", lambda: told("role", self._role)),
            ("pass role", lambda: told("pass role", self._pass_role)),
        ]
        if self._plan.media:
            questions.append((MEDIA, lambda: media_check(self._backend.aws, self._plan)))
        if named_validation(self._plan):
            questions.append((VALIDATION, lambda: validation_check(self._backend.aws, self._plan)))
        if self._backend.options.serverless:
            questions.append(("model package group", lambda: told("model package group", self._group)))
        else:
            questions.append(("quota", lambda: told("quota", self._quota)))
            questions.append(("image", lambda: told("image", self._image)))
        if self._backend.options.subnets:
            questions.append(("network", lambda: told("network", self._network)))
        return Preflight(self._plan.name, ask_all(questions))

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
        return Check("data set", f"{there} of {plural(len(planned), 'file')} {are(there)} there already", tuple(unsure))

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

    def _quota(self) -> Check:
        instance, wanted = self._backend.instance_type, self._plan.recipe.replicas
        quota = checks.training_quota(self._backend.aws.client("service-quotas"), instance)
        if quota is None:
            return unanswered("quota", LookupError(f"Service Quotas lists no {instance} for training jobs."))
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
            return Check("image", "in another Region", (wrong("image-region", "options.image", message, image),))
        try:
            checks.check_image(self._backend.aws.client("ecr"), account, repository, tag)
        except NotFoundError:
            return Check("image", "missing", (wrong("image-missing", "image", f"{image} does not exist.", image),))
        return Check("image", "there")

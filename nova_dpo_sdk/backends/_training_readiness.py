"""Whether an account is ready for Nova training jobs at all, whatever job it will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk.aws import _training_checks as checks
from nova_dpo_sdk.backends._preflight import Check, Question, ask_all
from nova_dpo_sdk.backends._training_questions import TrainingJobQuestions, told, unanswered
from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend


class TrainingJobReadiness(TrainingJobQuestions):
    """Asks about a place.

    Args:
        backend: Where; without a role, the questions about one are left out.
        output: Where runs are to leave their output; not asked about when None.
    """

    def __init__(self, backend: TrainingJobBackend, output: S3Uri | None = None) -> None:
        super().__init__(backend)
        self._output = output

    def checks(self) -> tuple[Check, ...]:
        """Ask everything at once."""
        questions: list[Question] = [("identity", self._identity), ("sagemaker sdk", self._sdk)]
        output = self._output
        if output is not None:
            questions.append(("output bucket", lambda: self._writable(output)))
        if self._backend.role is not None:
            questions.append(("role", lambda: told("role", self._role)))
            questions.append(("pass role", lambda: told("pass role", self._pass_role)))
        questions.append(("quota", lambda: told("quota", self._any_quota)))
        return ask_all(questions)

    def _any_quota(self) -> Check:
        instance = self._backend.instance_type
        quota = checks.training_quota(self._backend.aws.client("service-quotas"), instance)
        if quota is None:
            return unanswered("quota", LookupError(f"Service Quotas lists no {instance} for training jobs."))
        answer = f"{quota:.0f} {instance} for training jobs"
        if quota:
            return Check("quota", answer)
        finding = Finding(
            "quota-too-small", Severity.ERROR, "instance_type", f"The account may use no {instance} for training jobs.",
            instance, "", f"Ask Service Quotas for '{instance} for training job usage', or use another instance type.",
        )  # fmt: skip
        return Check("quota", answer, (finding,))

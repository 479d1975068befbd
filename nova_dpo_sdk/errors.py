"""Every exception of the package, and the finding that many of them carry.

    NovaError
    ├─ ConfigurationError(ValueError)      you wrote it; nothing was sent
    │   ├─ RecipeError
    │   ├─ DatasetError
    │   └─ PlanRejectedError
    ├─ AWSError                            AWS said no: operation, code, request id
    │   ├─ AccessDeniedError
    │   ├─ NotFoundError
    │   ├─ ThrottledError
    │   └─ ServiceError
    ├─ ClusterError                        the cluster said no: verb, object, status, reason
    └─ JobError                            one job: ref, last snapshot
        ├─ JobFailedError
        ├─ JobStoppedError
        ├─ JobNotFinishedError
        ├─ JobTimeoutError(TimeoutError)   we stopped waiting; the job runs on
        └─ CheckpointError                 finished, but no usable manifest

Every error says what happened, to which object, and what to do next. Every error pickles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol


class Severity(str, Enum):
    """How much a finding matters."""

    ERROR = "error"
    """Refused: nothing is sent while one of these stands."""
    WARNING = "warning"
    """Some source refuses it, or it usually ends badly. `allow=["<code>"]` silences it."""
    NOTE = "note"
    """Worth knowing; nothing is wrong."""

    def __str__(self) -> str:
        return self.value


_OF_DATA = re.compile(r"(?:.*: )?(?:data|validation)(?P<line> line .*)?", re.DOTALL)
"""A `where` that means data: of a plan, or of one stage or trial of many, whose name is put before it."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, doubtful or worth knowing, found before anything was sent.

    Attributes:
        code: Stable name of the rule, such as `replicas-not-offered`; what `allow=` takes.
        severity: Error, warning or note.
        where: The field, YAML path or line that it is about.
        message: What is the case, in one sentence, with the value in it.
        value: The value that was found.
        allowed: What would be accepted, in words; where data are meant, as a sentence without its full stop.
        fix: What to do next.
        source: Who says so: the documents that state the limit.
    """

    code: str
    severity: Severity
    where: str
    message: str
    value: Any = None
    allowed: str = ""
    fix: str = ""
    source: str = ""

    @property
    def is_error(self) -> bool:
        """Whether this finding stops a submit."""
        return self.severity is Severity.ERROR

    @property
    def accepted(self) -> str:
        """What would be accepted, as a sentence; empty of a record, where message and fix say it."""
        of_data = _OF_DATA.fullmatch(self.where)
        if not self.allowed or (of_data and of_data["line"]):
            return ""
        return f"{self.allowed}." if of_data else f"Allowed: {self.allowed}."

    def __str__(self) -> str:
        source = f"(source: {self.source})" if self.source else ""
        said = (f"{self.severity} [{self.code}] {self.where}: {self.message}", self.accepted, self.fix, source)
        return " ".join(part for part in said if part)


class _HasFindings(Protocol):
    @property
    def findings(self) -> tuple[Finding, ...]: ...


class Judged:
    """What is judged by its findings before anything is sent."""

    @property
    def errors(self: _HasFindings) -> tuple[Finding, ...]:
        """The findings that stop it."""
        return tuple(each for each in self.findings if each.is_error)

    @property
    def warnings(self: _HasFindings) -> tuple[Finding, ...]:
        """The findings that a careful person looks at."""
        return tuple(each for each in self.findings if each.severity is Severity.WARNING)

    @property
    def ok(self: _HasFindings) -> bool:
        """Whether nothing stands in its way."""
        return not any(each.is_error for each in self.findings)


class NovaError(Exception):
    """Base of everything this package raises on purpose."""

    def also(self, sentence: str) -> None:
        """Let the error say one thing more, which only who let it through knows.

        Args:
            sentence: A whole sentence.
        """
        text = str(self)
        self.args = (f"{text}{'' if text.endswith(('.', ')')) else '.'} {sentence}", *self.args[1:])

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, dict(self.__dict__))


def _revive(cls: type[NovaError], args: tuple[Any, ...], state: dict[str, Any]) -> NovaError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(NovaError, ValueError):
    """What you wrote cannot work; nothing was sent.

    Attributes:
        findings: Everything that is wrong, all at once; empty for a plain misuse of a call.
    """

    def __init__(self, message: str, findings: tuple[Finding, ...] | list[Finding] = ()) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join([message, *(f"  - {finding}" for finding in self.findings)]))


class RecipeError(ConfigurationError):
    """A recipe, or the text of one, cannot be a Nova recipe."""


class DatasetError(ConfigurationError):
    """A data set cannot be used: missing, unreadable, empty, changed, or with bad records."""


class PlanRejectedError(ConfigurationError):
    """A plan has errors, so nothing of it was sent."""


_EXPIRED, _BUSY = 410, 429
_FAULT_OF_THEIRS = 500
"""HTTP statuses from here on are no fault of who asks."""


class AWSError(NovaError):
    """AWS refused or failed a call.

    Attributes:
        operation: The API operation, such as `PutObject`.
        target: The object it was about, such as an S3 URI or a cluster's name.
        code: AWS's error code, such as `AccessDenied`; empty when no answer came.
        request_id: AWS's request id, for a support case; empty when unknown.
        status: HTTP status; 0 when no answer came.
        may_pass: Whether it may be over by itself: AWS was busy or at fault, or the way to it was broken.
    """

    _passes: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        target: str = "",
        code: str = "",
        request_id: str = "",
        status: int = 0,
        may_pass: bool = False,
    ) -> None:
        self.operation = operation
        self.target = target
        self.code = code
        self.request_id = request_id
        self.status = status
        self.may_pass = may_pass or self._passes or status == _BUSY or status >= _FAULT_OF_THEIRS
        tail = f" (request id {request_id})" if request_id else ""
        super().__init__(message + tail)


class AccessDeniedError(AWSError):
    """The credentials are missing, expired or not allowed to do this."""


class NotFoundError(AWSError):
    """The object does not exist."""


class ThrottledError(AWSError):
    """AWS asks to slow down, and did so until the retries were used up."""

    _passes = True  # whatever the status: some services say so with a 400


class ServiceError(AWSError):
    """Anything else: a fault of the service, the network, or the request."""


class ClusterError(NovaError):
    """The cluster's Kubernetes API refused or failed a request.

    Attributes:
        verb: `get`, `list`, `create`, `update`, `delete` or `connect`.
        target: The object, such as `pytorchjobs/kubeflow/support-dpo-3f9a1`.
        status: HTTP status; 0 when no answer came.
        reason: The API server's reason, such as `AlreadyExists`; empty when no answer came.
        may_pass: Whether it may be over by itself: the API server was busy or at fault, or the way to it was broken.
    """

    def __init__(
        self,
        message: str,
        *,
        verb: str = "",
        target: str = "",
        status: int = 0,
        reason: str = "",
        may_pass: bool = False,
    ) -> None:
        self.verb = verb
        self.target = target
        self.status = status
        self.reason = reason
        self.may_pass = may_pass or status in (_EXPIRED, _BUSY) or status >= _FAULT_OF_THEIRS
        super().__init__(message)


class JobError(NovaError):
    """Something about one job.

    Attributes:
        ref: The job's reference, as `nova.job(ref)` takes it.
        snapshot: The last `JobSnapshot` that was seen, or None.
    """

    def __init__(self, message: str, *, ref: str = "", snapshot: Any = None) -> None:
        self.ref = ref
        self.snapshot = snapshot
        super().__init__(message)


class JobFailedError(JobError):
    """The job failed, or is failing in a way that does not mend itself."""


class JobStoppedError(JobError):
    """The job was stopped or deleted; it has no checkpoint."""


class JobNotFinishedError(JobError):
    """The job has not finished yet, so what was asked for does not exist yet."""


class JobTimeoutError(JobError, TimeoutError):
    """We stopped waiting; the job runs on."""


class CheckpointError(JobError):
    """The job finished, but its manifest is missing, older than the job, or unreadable."""

"""SageMaker Training Jobs of the rehearsal cloud: a state machine on the cloud's clock, in front of moto."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from ._aws_protocol import AWSRefusal
from ._container import ContainerError
from ._training_faults import DETOURS, TrainingFaults
from ._training_output import STEPS
from ._training_search import matches, page_of
from ._training_serverless import is_serverless, prepare, refuse, register

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._agenda import Agenda, Script
    from ._container import NovaContainer, Training
    from ._training_faults import TrainingFault
    from ._training_output import TrainingOutput
    from ._training_serverless import Made

Json = dict[str, Any]

_MESSAGES = {
    "Starting": "Starting the training job",
    "LaunchingMLInstances": "Launching requested ML instances",
    "PreparingTrainingStack": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "DownloadingTrainingImage": "Downloading the training image",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Pending": "Waiting for capacity",
    "Restarting": "Restarting the training job",
    "Interrupted": "The instances were taken away; the training job will start again",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}\Z")
_NOT_FOUND = "Requested resource not found."


@dataclass
class _Job:
    request: Json
    arn: str
    created: datetime
    tags: dict[str, str]
    status: str = "InProgress"
    transitions: list[Json] = field(default_factory=list[Json])
    failure: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    training: Training | None = None
    package: str = ""
    archive: str = ""

    @property
    def name(self) -> str:
        return str(self.request["TrainingJobName"])

    @property
    def secondary(self) -> str:
        return str(self.transitions[-1]["Status"])

    def enter(self, secondary: str, now: datetime, message: str = "") -> None:
        if self.transitions:
            self.transitions[-1]["EndTime"] = _seconds(now)
        shown = message or _MESSAGES.get(secondary, secondary)
        self.transitions.append({"Status": secondary, "StartTime": _seconds(now), "StatusMessage": shown})

    def end(self, status: str, secondary: str, now: datetime, message: str = "") -> None:
        self.status = status
        self.ended = now
        self.enter(secondary, now, message)
        self.transitions[-1]["EndTime"] = _seconds(now)


class LocalTrainingJobs:
    """The training jobs of one account and Region.

    Attributes:
        quotas: How many instances of a type jobs may use at once.
        roles: ARNs of the execution roles that exist, each with whether it trusts SageMaker.
        may_pass: Whether IAM lets the caller pass a role; None when the caller may not ask.
        images: Whether the registry shows its images to the caller.

    Args:
        region: The Region.
        account: The account.
        agenda: When things happen.
        script: How long each act takes.
        container: What runs in a job.
        output: Where jobs write.
        now: Tells the time.
    """

    def __init__(
        self,
        region: str,
        account: str,
        *,
        agenda: Agenda,
        script: Script,
        container: NovaContainer,
        output: TrainingOutput,
        now: Callable[[], datetime],
    ) -> None:
        self.region = region
        self.account = account
        self.quotas: dict[str, float] = {}
        self.roles: dict[str, bool] = {f"arn:aws:iam::{account}:role/nova-execution": True}
        self.may_pass: bool | None = True
        self.images = False
        self._agenda = agenda
        self._script = script
        self._container = container
        self._output = output
        self._now = now
        self._jobs: dict[str, _Job] = {}
        self._faults = TrainingFaults()
        self._packages: dict[str, Made] = {}
        self._actions: dict[str, Callable[[Json], Json]] = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "StopTrainingJob": self._stop,
            "DeleteTrainingJob": self._delete,
            "ListTrainingJobs": self._list,
            "Search": self._search,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
        }

    @property
    def role(self) -> str:
        """ARN of the execution role that is there from the start."""
        return f"arn:aws:iam::{self.account}:role/nova-execution"

    def script_fault(self, name: str, **options: Any) -> TrainingFault:
        """Let the next jobs have a bad day; see `TrainingFaults.plan` for the options.

        Args:
            name: One of `TRAINING_FAULTS`, such as `capacity` or `stopped`.
            options: `job`, `times`, `lasts`, `reason`, `at`.

        Returns:
            The fault; its `times` tells how often it will strike yet.

        Raises:
            ConfigurationError: There is no such fault.
        """
        return self._faults.plan(name, **options)

    def fail(self, reason: str, *, at: str = "Training", job: str = "*", times: int = 1) -> TrainingFault:
        """Let the next jobs fail for a reason when they reach a secondary status."""
        return self._faults.plan("failure", reason=reason, at=at, job=job, times=times)

    def capacity_error(self, times: int = 1) -> TrainingFault:
        """Let the next jobs find no instances."""
        return self._faults.plan("capacity", times=times)

    def answer(self, operation: str, region: str, body: bytes) -> Json | None:
        """Answer a request to SageMaker about training jobs; None for any other.

        Raises:
            AWSRefusal: As SageMaker words it.
        """
        if operation not in self._actions:
            return None
        given: Json = json.loads(body or b"{}")
        if operation in ("AddTags", "ListTags") and ":training-job/" not in str(given.get("ResourceArn")):
            return None
        if region != self.region and operation not in ("ListTrainingJobs", "Search"):
            raise _refused("ValidationException", _NOT_FOUND)
        return self._actions[operation](given)

    def _create(self, given: Json) -> Json:
        name = str(given.get("TrainingJobName"))
        arn = f"arn:aws:sagemaker:{self.region}:{self.account}:training-job/{name}"
        if not _NAME.match(name):
            raise _refused("ValidationException", f"1 validation error detected: Value '{name}' at 'trainingJobName'")
        if name in self._jobs:
            message = "Training job names must be unique within an AWS account and region, and a training job with this"
            raise _refused("ResourceInUse", f"{message} name already exists ({arn})")
        self._check(given)
        tags = {str(each["Key"]): str(each["Value"]) for each in given.get("Tags") or ()}
        job = _Job(given, arn, self._now(), tags)
        self._jobs[name] = job
        self._begin(job)
        return {"TrainingJobArn": arn}

    def _check(self, given: Json) -> None:
        role = str(given.get("RoleArn"))
        if not self.roles.get(role):
            message = f"Could not assume role {role}. Please ensure that the role exists and allows principal"
            raise _refused("ValidationException", f"{message} 'sagemaker.amazonaws.com' to assume the role.")
        if is_serverless(given):
            refuse(given, self.region)
        else:
            self._check_quota(given["ResourceConfig"])
        runtime = int(given["StoppingCondition"].get("MaxRuntimeInSeconds", 86_400))
        if runtime > 2_419_200:
            raise _refused("ValidationException", "MaxRuntimeInSeconds must be at most 2419200")

    def _check_quota(self, config: Json) -> None:
        instance, wanted = str(config["InstanceType"]), int(config["InstanceCount"])
        limit = self.quota(instance)
        if self._busy(instance) + wanted > limit:
            message = f"The account-level service limit '{instance} for training job usage' is {limit:.0f} Instances,"
            raise _refused("ResourceLimitExceeded", f"{message} and a request of {wanted} Instances exceeds it.")

    def quota(self, instance_type: str) -> float:
        """How many instances of a type jobs may use at once."""
        return self.quotas.get(instance_type, 64.0)

    def _busy(self, instance: str) -> int:
        configs: list[Json] = [
            job.request.get("ResourceConfig") or {} for job in self._jobs.values() if job.ended is None
        ]
        return sum(int(each["InstanceCount"]) for each in configs if each.get("InstanceType") == instance)

    def _begin(self, job: _Job) -> None:
        script = self._script
        acts: list[tuple[str, float]] = [
            ("Starting", script.noticing),
            ("LaunchingMLInstances", script.starting / 2),
            ("PreparingTrainingStack", script.starting / 2),
            ("Downloading", script.loading / 2),
            ("DownloadingTrainingImage", script.loading / 2),
            ("Training", script.training),
            ("Uploading", script.collecting),
        ]
        self._act(job, acts, job.created)

    def _act(self, job: _Job, acts: list[tuple[str, float]], now: datetime) -> None:
        """Enter the next secondary status, unless the job has taken another way since."""
        if job.status != "InProgress" or job.ended is not None:
            return
        if not acts:
            self._complete(job, now)
            return
        (secondary, lasts), *rest = acts
        fault = self._faults.strike(job.name, secondary)
        if fault is not None and fault.name in DETOURS:
            job.enter(DETOURS[fault.name], now)
            self._agenda.at(now + timedelta(seconds=fault.lasts), lambda moment: self._act(job, acts, moment))
            return
        job.enter(secondary, now)
        reason = self._work(job, secondary, now)
        if reason or (fault is not None and fault.name in ("capacity", "failure")):
            self._fail(job, reason or (fault.reason if fault else ""), now)
            return
        if fault is not None:
            self._befall(job, fault, now + timedelta(seconds=lasts * self._script.pace / 2))
        limit = float(job.request["StoppingCondition"].get("MaxRuntimeInSeconds", 86_400))
        lasts *= self._script.pace
        if secondary == "Training" and lasts > limit:
            self._agenda.at(now + timedelta(seconds=limit), lambda moment: self._exceed(job, moment))
            return
        if secondary == "Training":
            self._plan_steps(job, now, lasts)
        self._agenda.at(now + timedelta(seconds=lasts), lambda moment: self._act(job, rest, moment))

    def _plan_steps(self, job: _Job, born: datetime, lasts: float) -> None:
        for number in range(1, STEPS + 1):
            moment = born + timedelta(seconds=lasts * number / (STEPS + 1))
            self._agenda.at(moment, partial(self._step, job, number, born))

    def _step(self, job: _Job, number: int, born: datetime, now: datetime) -> None:
        if job.status == "InProgress" and job.training is not None:
            self._output.step(job.training, number, born, now)

    def _befall(self, job: _Job, fault: TrainingFault, later: datetime) -> None:
        """What a job does not recover from, and does not fail of."""
        if fault.name == "stopped":
            self._agenda.at(later, lambda moment: self._halt(job, moment))
        elif fault.name == "max-runtime":
            self._agenda.at(later, lambda moment: self._exceed(job, moment))
        else:
            job.archive = fault.name.removeprefix("archive-")

    def _work(self, job: _Job, secondary: str, now: datetime) -> str:
        """What happens on entering a secondary status; gives the reason of a failure."""
        try:
            if secondary == "Downloading":
                self._container.check_channels(job.request)
            elif secondary == "Training":
                job.started = now
                job.training = self._prepare(job.request)
                self._output.begin(job.request, job.training, now)
        except ContainerError as error:
            if secondary == "Downloading":
                return f"ClientError: Data download failed:{error}"
            self._output.say(job.request, str(error), now)
            return f"AlgorithmError: {error}, exit code: 1"
        return ""

    def _prepare(self, request: Json) -> Training:
        if not is_serverless(request):
            return self._container.prepare_training_job(request)
        training = prepare(request, self._packages)
        self._container.check_training_data(request, training)
        return training

    def _complete(self, job: _Job, now: datetime) -> None:
        training = job.training
        try:
            if training is not None:
                self._output.finish(job.request, training, job.started or now, now, archive=job.archive)
        except ContainerError as error:
            self._fail(job, f"ClientError: Artifact upload failed:{error}", now)
            return
        if is_serverless(job.request):
            job.package = register(job.request, self._packages)
        job.end("Completed", "Completed", now)

    def _fail(self, job: _Job, reason: str, now: datetime) -> None:
        job.failure = reason
        job.end("Failed", "Failed", now)

    def _exceed(self, job: _Job, now: datetime) -> None:
        if job.status != "InProgress" or job.ended is not None:
            return
        job.status = "Stopping"
        job.enter("MaxRuntimeExceeded", now)
        later = now + timedelta(seconds=self._script.collecting * self._script.pace)
        self._agenda.at(later, lambda moment: job.end("Stopped", "MaxRuntimeExceeded", moment))

    def _stop(self, given: Json) -> Json:
        job = self._found(given)
        if job.ended is not None:
            message = f"The request was rejected because the training job is in status {job.status}."
            raise _refused("ValidationException", message)
        self._halt(job, self._now())
        return {}

    def _halt(self, job: _Job, now: datetime) -> None:
        if job.status != "InProgress" or job.ended is not None:
            return
        job.status = "Stopping"
        job.enter("Stopping", now)
        later = now + timedelta(seconds=self._script.collecting * self._script.pace)
        self._agenda.at(later, lambda moment: job.end("Stopped", "Stopped", moment))

    def _delete(self, given: Json) -> Json:
        job = self._found(given)
        if job.ended is None:
            raise _refused("ResourceInUse", f"The training job {job.name} is in status {job.status}")
        del self._jobs[job.name]
        return {}

    def _found(self, given: Json) -> _Job:
        job = self._jobs.get(str(given.get("TrainingJobName")))
        if job is None:
            raise _refused("ValidationException", _NOT_FOUND)
        return job

    def _describe(self, given: Json) -> Json:
        return _described(self._found(given))

    def _sorted(self) -> list[Json]:
        return [_described(job) for job in sorted(self._jobs.values(), key=lambda job: job.created)]

    def _list(self, given: Json) -> Json:
        jobs = [job for job in self._sorted() if _wanted(job, given)]
        keys = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}
        jobs.sort(key=lambda job: job[keys.get(str(given.get("SortBy")), "CreationTime")])
        if given.get("SortOrder", "Descending") == "Descending":
            jobs.reverse()
        page, token = page_of(jobs, given, default=10)
        return {"TrainingJobSummaries": [_summary(job) for job in page], **token}

    def _search(self, given: Json) -> Json:
        if given.get("Resource") != "TrainingJob":
            raise _refused("ValidationException", "the rehearsal cloud searches for TrainingJob only")
        expression: Json = given.get("SearchExpression") or {}
        jobs = [
            {**_described(job), "Tags": _tag_list(job.tags)}
            for job in sorted(self._jobs.values(), key=lambda job: job.created)
        ]
        found = [job for job in jobs if matches(job, expression)]
        if given.get("SortOrder", "Descending") == "Descending":
            found.reverse()
        page, token = page_of(found, given, default=10)
        return {"Results": [{"TrainingJob": job} for job in page], **token}

    def _of_arn(self, given: Json) -> _Job:
        return self._found({"TrainingJobName": str(given["ResourceArn"]).rpartition("/")[2]})

    def _add_tags(self, given: Json) -> Json:
        job = self._of_arn(given)
        job.tags.update({str(each["Key"]): str(each["Value"]) for each in given["Tags"]})
        return {"Tags": _tag_list(job.tags)}

    def _list_tags(self, given: Json) -> Json:
        return {"Tags": _tag_list(self._of_arn(given).tags)}


def _wanted(job: Json, given: Json) -> bool:
    after, before = given.get("CreationTimeAfter"), given.get("CreationTimeBefore")
    return (
        str(given.get("NameContains") or "") in job["TrainingJobName"]
        and given.get("StatusEquals") in (None, job["TrainingJobStatus"])
        and (after is None or job["CreationTime"] >= float(after))
        and (before is None or job["CreationTime"] <= float(before))
    )


def _described(job: _Job) -> Json:
    changed = job.transitions[-1]["StartTime"]
    shown: Json = {key: value for key, value in job.request.items() if key != "Tags"}
    shown |= {
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
        "SecondaryStatusTransitions": [dict(each) for each in job.transitions],
        "CreationTime": _seconds(job.created),
        "LastModifiedTime": changed,
    }
    if job.package:
        shown["OutputModelPackageArn"] = job.package
    if job.failure:
        shown["FailureReason"] = job.failure
    if job.started is not None:
        shown["TrainingStartTime"] = _seconds(job.started)
    if job.ended is not None:
        shown["TrainingEndTime"] = _seconds(job.ended)
    return shown


def _summary(job: Json) -> Json:
    kept = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime",
            "TrainingJobStatus", "SecondaryStatus")  # fmt: skip
    return {key: job[key] for key in kept if key in job}


def _tag_list(tags: dict[str, str]) -> list[Json]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _refused(code: str, message: str) -> AWSRefusal:
    return AWSRefusal(400, code, message)


def _seconds(moment: datetime) -> float:
    return moment.astimezone(timezone.utc).timestamp()

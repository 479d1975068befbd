"""Bad days of a training job, on request: which turn it takes, at which of its secondary statuses, how often."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from nova_dpo_sdk.errors import ConfigurationError

CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
"""What a job says that finds no instances."""
CRASH = "AlgorithmError: ExecuteUserScriptError: the container ended by itself, exit code: 1"
"""What a job says whose container ends with an error."""

TRAINING_FAULTS = {
    "capacity": "it finds no instances, and fails",
    "failure": "its container ends with an error, and it fails",
    "stopped": "somebody stops it while it trains",
    "max-runtime": "its time is up while it trains, and SageMaker stops it",
    "pending": "it waits for capacity, and goes on when the fault is over",
    "restarting": "SageMaker starts it again while it trains, and it goes on when the fault is over",
    "interrupted": "its instances are taken away while it trains, and it goes on when the fault is over",
    "strange-status": "it has a secondary status that nobody knows, until the fault is over",
    "archive-missing": "it succeeds and leaves no archive",
    "archive-broken": "it succeeds and its archive is cut short",
}
"""By name: what happens to a training job."""

_AT = {"capacity": "LaunchingMLInstances", "pending": "LaunchingMLInstances"}
DETOURS = {
    "pending": "Pending",
    "restarting": "Restarting",
    "interrupted": "Interrupted",
    "strange-status": "Meditating",
}
"""By name of a fault: the secondary status that the job has meanwhile."""
STATUSES = (
    "Starting",
    "LaunchingMLInstances",
    "PreparingTrainingStack",
    "Downloading",
    "DownloadingTrainingImage",
    "Training",
    "Uploading",
)
"""The secondary statuses that a job goes through, in order."""


@dataclass
class TrainingFault:
    """A turn that a job will take.

    Attributes:
        name: Its name in `TRAINING_FAULTS`.
        at: The secondary status in which it strikes.
        job: Pattern of jobs' names.
        times: How many jobs it still strikes.
        lasts: Seconds until it is over, for what a job recovers from.
        reason: What DescribeTrainingJob will give as FailureReason.
    """

    name: str
    at: str
    job: str
    times: int
    lasts: float
    reason: str


class TrainingFaults:
    """The faults that are planned for training jobs."""

    def __init__(self) -> None:
        self._planned: list[TrainingFault] = []

    def plan(
        self, name: str, *, job: str = "*", times: int = 1, lasts: float = 60.0, reason: str = "", at: str = ""
    ) -> TrainingFault:
        """Let the next jobs have a bad day.

        Args:
            name: One of `TRAINING_FAULTS`.
            job: Pattern of jobs' names.
            times: How many jobs are struck.
            lasts: Seconds until it is over, for what a job recovers from.
            reason: FailureReason, for what a job fails of.
            at: The secondary status in which it strikes, one of `STATUSES`; the fault's own when left out.

        Returns:
            The fault; its `times` tells how often it will strike yet.

        Raises:
            ConfigurationError: There is no such fault or status.
        """
        for given, known in ((name, TRAINING_FAULTS), (at or "Training", STATUSES)):
            if given not in known:
                raise ConfigurationError(f"{given!r} is not known here; known are {', '.join(known)}.")
        said = reason or (CAPACITY if name == "capacity" else CRASH)
        where = at or ("Uploading" if name.startswith("archive-") else _AT.get(name, "Training"))
        fault = TrainingFault(name, where, job, times, lasts, said)
        self._planned.append(fault)
        return fault

    def strike(self, job: str, secondary: str) -> TrainingFault | None:
        """The fault that meets a job when it enters a secondary status; it is counted."""
        for fault in self._planned:
            if fault.times > 0 and fault.at == secondary and fnmatchcase(job, fault.job):
                fault.times -= 1
                return fault
        return None

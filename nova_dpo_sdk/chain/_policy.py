"""What is done about a stage that fails: which failures are worth another attempt, and how many."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from nova_dpo_sdk.backends import JobStatus
from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.jobs import Patience

if TYPE_CHECKING:
    from datetime import datetime

    from nova_dpo_sdk.backends import JobSnapshot

_LOST_PLACE = frozenset({"NodeLost", "Evicted", "Preempted"})
"""Reasons of a replica, or of a job, that say that its node or its place was taken from it (Kubernetes)."""
_AWS_S_OWN = frozenset({"CapacityError", "InsufficientCapacityError", "InternalServerError"})
"""Codes in a training job's FailureReason that say nothing against the job (SageMaker)."""
_NO_CAPACITY = re.compile(r"insufficient.{0,20}capacity|unable to provision", re.IGNORECASE)
"""What a failure without a code says when there were no instances. Beside a code it proves nothing: a container may
say the like of its own memory."""
_CANNOT_MEND = frozenset({"DeadlineExceeded"})


@dataclass(frozen=True)
class StagePolicy:
    """What is done about a stage that fails or takes too long. It is no part of what the stage is: change it freely.

    Attributes:
        retries: Further attempts after the first, each under a job name of its own, made only when the
            infrastructure failed (a node lost, no capacity): never when the recipe, the data or the image did.
        deadline: Seconds, or a timedelta, from the stage's beginning within which it must finish, all attempts
            together, whoever waits for it. When it passes, the job is stopped and the stage has failed. None for none.
        patience: How long a job is borne with that is in trouble but not over.

    Raises:
        ConfigurationError: `retries` is negative, or `deadline` is not positive.
    """

    retries: int = 2
    deadline: float | timedelta | None = None
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if isinstance(self.retries, bool) or self.retries < 0:
            raise ConfigurationError(f"retries is {self.retries!r}; it counts further attempts: 0 or more.")
        if self.allowed is not None and self.allowed <= timedelta(0):
            raise ConfigurationError(f"deadline is {self.deadline!r}; give seconds above 0, a timedelta, or None.")

    @property
    def allowed(self) -> timedelta | None:
        """How long the stage may take."""
        return timedelta(seconds=self.deadline) if isinstance(self.deadline, (int, float)) else self.deadline

    def ends(self, begun: datetime) -> datetime | None:
        """The deadline of a stage that began then."""
        return None if self.allowed is None else begun + self.allowed


def is_infrastructure(snapshot: JobSnapshot) -> bool:
    """Whether a job failed, or does not get on, because of what it ran on, so that another attempt may succeed.

    Anything that is not known to be the infrastructure's fault is not: trying it again would cost the same failure.
    """
    if snapshot.reason in _CANNOT_MEND:
        return False
    if snapshot.status is JobStatus.STALLED:
        return snapshot.reason == "NodeLost"
    if snapshot.status is not JobStatus.FAILED:
        return False
    lost = any(replica.reason in _LOST_PLACE for replica in snapshot.replicas)
    if snapshot.reason:
        return lost or snapshot.reason in _LOST_PLACE | _AWS_S_OWN
    return lost or bool(_NO_CAPACITY.search(snapshot.message))

"""What a sweep may take: jobs at one time, and replica-hours in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from nova_dpo_sdk.sweep._trials import Trial


@dataclass(frozen=True)
class Limits:
    """What a sweep may take.

    Attributes:
        max_concurrent: Most jobs at one time; None for all together.
        max_replica_hours: Most replica-hours of all trials together, retries included; None for no cap. No trial
            begins that could exceed it.
        trial_hours: Hours from its beginning within which a trial must end, waiting in a queue included; it is
            stopped then. None for no end. A cap on replica-hours needs it: only what ends can be kept within a cap.
    """

    max_concurrent: int | None = None
    max_replica_hours: float | None = None
    trial_hours: float | None = None

    def __post_init__(self) -> None:
        most = self.max_concurrent
        whole = isinstance(most, int) and not isinstance(most, bool)  # for callers without types
        if most is not None and not (whole and most >= 1):
            raise ConfigurationError(f"max_concurrent is {most!r}; it counts jobs: 1 or more, or None.")
        for name in ("max_replica_hours", "trial_hours"):
            value: object = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < float("inf")):
                raise ConfigurationError(f"{name} is {value!r}; give hours above 0, or None.")
        if self.max_replica_hours is not None and self.trial_hours is None:
            raise ConfigurationError(
                "max_replica_hours needs trial_hours, too: a cap can be kept only when each trial ends by a known time."
            )

    @property
    def capped(self) -> bool:
        """Whether a job that goes on without end would break a cap."""
        return self.max_concurrent is not None or self.max_replica_hours is not None

    def worst(self, trial: Trial) -> float:
        """Replica-hours that a trial may take at most."""
        return trial.recipe.replicas * (self.trial_hours or float("inf"))

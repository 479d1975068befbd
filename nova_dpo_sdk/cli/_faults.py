"""`nova-dpo demo --fault NAME`: a bad day for the rehearsed DPO run, hurried so that minutes take seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.catalog import Platform
from nova_dpo_sdk.cli._out import say, wrapped
from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.jobs import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.local import LocalCloud

PACE = 20.0
"""How many rehearsed seconds pass in one of the machine's."""
LOOK = 2.0
"""Rehearsed seconds between two looks at a job that has a bad day."""
PATIENCE = Patience(degraded=180, restarts=5, stalled=180)
"""How long the rehearsal bears with a job that does not mend itself."""
LATE = 120.0
"""Rehearsed seconds for which a manifest is waited for."""
LIST, RANDOM = "list", "random"
_JOBS = "dpo-*"
_OPTIONS: dict[str, dict[str, Any]] = {
    "unschedulable": {"lasts": 60},
    "queued": {"lasts": 60},
    "preempted": {"lasts": 60},
    "node-loss": {"lasts": 60},
    "operator-silent": {"lasts": 180},
    "slow": {"lasts": 1.0},
    "throttled": {"times": 3},
    "server-error": {"times": 3},
    "connection-reset": {"times": 3},
    "answer-lost": {"times": 3},
}
"""What makes a fault show and then mend itself; those that are not here stay, or mend themselves anyway."""


@dataclass(frozen=True)
class Day:
    """One bad day.

    Attributes:
        name: The fault, or `random`.
        seed: What random ones are drawn by.
        platform: Where the run is rehearsed.
    """

    name: str
    seed: int = 1
    platform: Platform = Platform.HYPERPOD

    @property
    def watches(self) -> bool:
        """Whether it can only be seen by one who watches."""
        return self.name.startswith("watch-")

    def before(self, cloud: LocalCloud) -> Iterator[str]:
        """Plan what must be there when the run begins, and tell it line by line."""
        from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS, TRAINING_FAULTS

        if self.platform is Platform.TRAINING_JOBS:
            cloud.training.script_fault(self.name, job=_JOBS)
            yield TRAINING_FAULTS[self.name]
        elif self.name == RANDOM:
            yield from (f"cloud.{call}" for call in cloud.script_random_faults(self.seed, job=_JOBS))
        elif self.name in JOB_FAULTS:
            cloud.script_fault(self.name, job=_JOBS, **_OPTIONS.get(self.name, {}))
            yield JOB_FAULTS[self.name]
        else:
            yield API_FAULTS[self.name]

    def during(self, cloud: LocalCloud) -> None:
        """Plan what befalls requests, once the run has been sent."""
        from nova_dpo_sdk.local import API_FAULTS

        if self.name in API_FAULTS and self.platform is Platform.HYPERPOD:
            cloud.script_fault(self.name, **_OPTIONS.get(self.name, {}))


def day_of(name: str | None, seed: int, platform: Platform) -> Day | None:
    """The bad day that was asked for; None for a good one.

    Raises:
        ConfigurationError: No fault of that platform has this name.
    """
    from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS, TRAINING_FAULTS

    if name is None:
        return None
    known = [*TRAINING_FAULTS] if platform is Platform.TRAINING_JOBS else [*JOB_FAULTS, *API_FAULTS, RANDOM]
    if name not in known:
        raise ConfigurationError(f"No fault is called {name!r}; there are {', '.join(known)}.")
    return Day(name, seed, platform)


def hurried(clock: Clock) -> Clock:
    """The clock of a bad day."""
    from nova_dpo_sdk.local import FakeClock, HurriedClock

    return clock if isinstance(clock, FakeClock) else HurriedClock(clock, PACE)


def list_faults() -> None:
    """Print every fault and what it does."""
    from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS, TRAINING_FAULTS

    for title, faults in (
        ("What may happen to the run", JOB_FAULTS),
        ("What may happen to the API", API_FAULTS),
        ("What may happen on --platform training-jobs", TRAINING_FAULTS),
    ):
        say(f"{title}:", "")
        for name, about in faults.items():
            say(*wrapped(about, f"  {name:<20}", " " * 22))
        say("")
    say(f"{RANDOM:<22}some of them, drawn by --seed, that mend themselves")

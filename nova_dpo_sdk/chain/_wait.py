"""Waiting for stages, one or many at the price of one: news of their jobs, and what the passing of time brings."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, cast

from nova_dpo_sdk._time import Outage
from nova_dpo_sdk.errors import (
    AWSError,
    ClusterError,
    JobTimeoutError,
    NovaError,
)
from nova_dpo_sdk.jobs import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from nova_dpo_sdk.backends import JobSnapshot
    from nova_dpo_sdk.chain._stage import Place, Stage
    from nova_dpo_sdk.jobs import Job

_log = logging.getLogger(__name__)

_SHORTEST = 0.05
"""Seconds of the shortest pause: one that is lost in a clock's rounding would be made again and again."""
_BREATH = 30.0
"""Seconds between two tries to reach a platform that does not answer."""


class Waiter:
    """Waits until stages are over, each through every attempt that its policy allows.

    Args:
        place: The chain.
        stages: What is waited for.
        timeout: Seconds after which to stop; the jobs run on.
        tell: Called with a stage's name and every snapshot of it that differs from the one before.
        first: Whether one that is over is enough.
    """

    def __init__(
        self,
        place: Place,
        stages: Iterable[Stage],
        timeout: float,
        tell: Callable[[str, JobSnapshot], None] | None,
        *,
        first: bool = False,
    ) -> None:
        self._place = place
        self._stages = list(dict.fromkeys(stages))
        self._timeout = timeout
        self._tell = tell
        self._first = first
        self._ends = place.clock.monotonic() + timeout
        self._outage = Outage(place.clock)

    def run(self) -> None:
        """Wait; every stage is over then, with a checkpoint or an error.

        Raises:
            JobTimeoutError: The time is up; names the stages that are not over.
            ClusterError: The cluster refused the look, or has not answered for a quarter of an hour; that says nothing
                about the jobs.
            AWSError: The same of AWS.
        """
        for stage in self._stages:
            stage.wait_anew()
        while waiting := self._waiting():
            left = self._ends - self._place.clock.monotonic()
            behind = [stage for stage in waiting if stage.is_behind]
            dues = [_BREATH if stage in behind else stage.horizon() for stage in waiting]
            self._pass_time(waiting, max(_SHORTEST, min(left, *dues)))
            for stage in self._waiting():
                if stage in behind:
                    self._guard(stage, stage.catch_up)
                elif not stage.is_behind:
                    self._guard(stage, stage.look)
            if self._place.clock.monotonic() >= self._ends:
                self._time_is_up()

    def _waiting(self) -> list[Stage]:
        waiting = [stage for stage in self._stages if not stage.is_over]
        return [] if self._first and len(waiting) < len(self._stages) else waiting

    def _pass_time(self, waiting: list[Stage], pause: float) -> None:
        followed = [stage for stage in waiting if stage.is_followed and not stage.is_behind]
        if not followed:
            self._place.clock.sleep(pause)
            self._outage.answered()  # nothing was asked meanwhile
            return
        try:
            self._follow(followed, pause)
            self._outage.answered()
        except (ClusterError, AWSError) as error:
            self._bear(error)

    def _follow(self, stages: list[Stage], pause: float) -> None:
        """Take note of news until the pause is over, or there is something to be done sooner."""
        by_ref: dict[str, list[Stage]] = {}
        jobs: list[Job] = []
        for stage in stages:
            jobs.append(stage.job)
            by_ref.setdefault(stage.job.ref, []).append(stage)
        until = self._place.clock.monotonic() + pause
        news = watch(jobs, self._place.client.backend, timeout=pause)
        # Closed at once when it is left early: it may have threads and connections of its own.
        with closing(cast("Generator[JobSnapshot, None, None]", news)):
            try:
                for snapshot in news:
                    self._outage.answered()
                    moved = [self._see(stage, snapshot, until) for stage in by_ref[snapshot.ref]]
                    if any(moved):
                        return
            except JobTimeoutError:
                return  # the pause is over

    def _see(self, stage: Stage, snapshot: JobSnapshot, until: float) -> bool:
        """Let a stage see a snapshot; whether following must be begun anew for it."""
        if self._tell is not None and stage.news(snapshot):
            self._tell(stage.name, snapshot)
        self._guard(stage, lambda: stage.see(snapshot))
        if stage.is_behind:
            return True
        if stage.is_over:
            # Who lost patience is over while its job is not: it would be followed to the end of the pause.
            return self._first or not snapshot.status.is_terminal
        moved = stage.job.ref != snapshot.ref or not stage.is_followed
        # No sooner than the shortest pause: what rounding leaves of a time would begin it anew for ever.
        return moved or self._place.clock.monotonic() + max(_SHORTEST, stage.horizon()) < until

    def _guard(self, stage: Stage, act: Callable[[], None]) -> None:
        """What goes wrong with one stage does not keep the others from being waited for; what may pass is borne."""
        try:
            act()
        except (ClusterError, AWSError) as error:
            if stage.falls_behind(error):
                _log.warning("stage %s could not be brought up to date, and will be: %s", stage.name, error)
                return
            error.also(f"That says nothing about the job of {stage.name}: run the script again to go on.")
            stage.error = error
        except NovaError as error:
            stage.error = error

    def _bear(self, error: ClusterError | AWSError) -> None:
        """A platform that does not answer says nothing about its jobs; it is borne with for a while."""
        clock = self._place.clock
        if not self._outage.bears(error):
            names = ", ".join(each.name for each in self._waiting())
            error.also(
                f"That says nothing about the jobs of {names}, which run on: run the script again to go on waiting."
            )
            raise error
        _log.warning("stages could not be looked at, and will be again: %s", error)
        clock.sleep(min(_BREATH, max(0.0, self._ends - clock.monotonic())))

    def _time_is_up(self) -> None:
        waiting = self._waiting()
        if not waiting:
            return
        shown = ", ".join(f"{stage.name} ({_seen(stage)})" for stage in waiting)
        first = waiting[0].job
        raise JobTimeoutError(
            f"Stopped waiting after {self._timeout:.0f} s; not over: {shown}. Their jobs run on: run the script again "
            "to go on waiting.",
            ref=first.ref,
            snapshot=first.last,
        )


def _seen(stage: Stage) -> str:
    return stage.job.last.summary if stage.job.last else "not seen"

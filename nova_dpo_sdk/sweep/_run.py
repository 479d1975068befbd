"""One run of a sweep: trials are begun while there is room, and each one's end is taken down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.chain import StageStatus
from nova_dpo_sdk.chain._show import is_at_most, stage_took
from nova_dpo_sdk.errors import (
    AWSError,
    ClusterError,
    DatasetError,
    Finding,
    JobFailedError,
    NovaError,
    PlanRejectedError,
)
from nova_dpo_sdk.sweep._results import SweepResults, TrialResult, replica_hours

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.backends import JobSnapshot
    from nova_dpo_sdk.chain import Chain, Client, Stage, StagePolicy
    from nova_dpo_sdk.sweep import SweepPlan
    from nova_dpo_sdk.sweep._trials import Trial


_IN_TROUBLE = "in trouble"
"""A trial whose job does not get on, or cannot be looked at, and is not over."""


class Run:
    """One run of a sweep: begins trials while there is room, and takes down how each ends."""

    def __init__(
        self,
        planned: SweepPlan,
        chain: Chain,
        policy: StagePolicy,
        tell: Callable[[str, JobSnapshot], None] | None,
        client: Client,
    ) -> None:
        self._planned = planned
        self._plans = {trial.stage: plan for trial, plan in zip(planned.sweep, planned.plans, strict=True)}
        self._limits = planned.limits
        self._chain = chain
        self._policy = policy
        self._tell = tell
        self._client = client
        self._clock = client.backend.clock
        self._running: dict[str, tuple[Trial, Stage]] = {}
        self._results: dict[str, TrialResult] = {}
        self._lost: set[str] = set()
        self._known = {trial.stage: chain.record(trial.stage) for trial in planned.sweep}
        self._spent = {
            name: replica_hours(record, self._clock.now())
            for name, record in self._known.items()
            if record is not None and not record.status.is_under_way
        }

    def to_end(self, timeout: float) -> SweepResults:
        self._ask_first()
        ends = self._clock.monotonic() + timeout
        waiting = sorted(self._planned.sweep, key=lambda trial: not self._takes_its_place_anyway(trial))
        while True:
            waiting = [trial for trial in waiting if not self._begin(trial)]
            if not self._running:
                break
            stages = [stage for _, stage in self._running.values()]
            self._chain.first(stages, timeout=max(0.0, ends - self._clock.monotonic()), on_update=self._tell)
            self._take_down()
        for trial in waiting:
            self._results[trial.stage] = TrialResult(trial, "left out", error=self._why_no_room())
        return SweepResults(
            self._planned.sweep.recipe.name, [self._results[each.stage] for each in self._planned.sweep]
        )

    def _ask_first(self) -> None:
        """Ask AWS and the cluster about new trials before any is sent: about one for each number of replicas."""
        self._client.backend.resolve()
        found: list[Finding] = []
        asked: set[int] = set()
        for trial in self._planned.sweep:
            if trial.recipe.replicas in asked or self._takes_its_place_anyway(trial):
                continue
            asked.add(trial.recipe.replicas)
            answer = self._client.backend.preflight(self._plans[trial.stage].resolved())
            found += [] if answer.is_there else [each for each in answer.errors if each not in found]
        if found:
            raise PlanRejectedError(f"{self._planned.sweep!r} cannot run; no job was sent:", found)

    def _takes_its_place_anyway(self, trial: Trial) -> bool:
        """Whether a trial runs already, or has finished: beginning it costs nothing more."""
        record = self._known[trial.stage]
        return record is not None and (record.status.is_under_way or record.status is StageStatus.FINISHED)

    def _begin(self, trial: Trial) -> bool:
        """Begin a trial, or find the one that was begun before; False when there is no room for it now."""
        if not self._takes_its_place_anyway(trial) and not self._has_room(trial):
            return False
        try:
            stage = self._chain.start_plan(trial.stage, self._plans[trial.stage], self._policy)
        except DatasetError:
            raise  # all trials are trained on the same data
        except NovaError as error:
            self._take_in(self._result(trial, error=str(error)), error)
            return True
        self._running[trial.stage] = trial, stage
        self._take_down()
        return True

    def _has_room(self, trial: Trial) -> bool:
        most, cap = self._limits.max_concurrent, self._limits.max_replica_hours
        if most is not None and len(self._running) + len(self._lost) >= most:
            return False
        if cap is None:
            return True
        reserved = sum(self._limits.worst(each) for each, _ in self._running.values())
        return sum(self._spent.values()) + reserved + self._limits.worst(trial) <= cap

    def _take_down(self) -> None:
        """Take down what has ended; its hours are known now, and what it held in reserve is free again."""
        for name, (trial, stage) in list(self._running.items()):
            if stage.is_over:
                del self._running[name]
                if self._limits.capped and isinstance(stage.error, JobFailedError) and stage.record.status.is_under_way:
                    stage.job.cancel()
                self._take_in(self._result(trial, stage=stage), stage.error)

    def _take_in(self, result: TrialResult, error: NovaError | None) -> None:
        """Keep how a trial ended, and what it took: all that it may take when it was lost sight of, as it runs on."""
        trial = result.trial
        self._results[trial.stage] = result
        lost = result.status == _IN_TROUBLE and isinstance(error, (AWSError, ClusterError))
        if lost:
            self._lost.add(trial.stage)
        self._spent[trial.stage] = self._limits.worst(trial) if lost else result.replica_hours

    def _why_no_room(self) -> str:
        if not self._lost:
            return "The cap on replica-hours left no room."
        return f"No room was left beside {plural(len(self._lost), 'trial')} out of sight that may run on. Run it again."

    def _result(self, trial: Trial, *, stage: Stage | None = None, error: str = "") -> TrialResult:
        record = stage.record if stage else self._chain.record(trial.stage)
        if stage is not None and stage.error is not None:
            error = str(stage.error)
        if record is None:
            return TrialResult(trial, "refused", error=error)
        now = self._clock.now()
        return TrialResult(
            trial,
            _IN_TROUBLE if error and record.status.is_under_way else str(record.status),
            checkpoint=record.checkpoint,
            job=stage.job if stage else None,
            took=stage_took(record, now),
            replica_hours=replica_hours(record, now),
            at_most=is_at_most(record),
            error="" if record.status is StageStatus.FINISHED else error,
        )

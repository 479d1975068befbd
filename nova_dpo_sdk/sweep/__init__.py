"""Many runs of one recipe with different values: planned together, kept within caps, remembered as stages."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._show import findings_text
from nova_dpo_sdk.chain import Chain, Client, StagePolicy
from nova_dpo_sdk.chain._show import html_table
from nova_dpo_sdk.errors import ConfigurationError, Finding, Judged, PlanRejectedError, Severity
from nova_dpo_sdk.jobs import FIVE_DAYS
from nova_dpo_sdk.sweep._limits import Limits
from nova_dpo_sdk.sweep._results import SweepResults, TrialResult, table
from nova_dpo_sdk.sweep._run import Run
from nova_dpo_sdk.sweep._trials import Trial, grid, make_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nova_dpo_sdk.backends import JobSnapshot, Plan
    from nova_dpo_sdk.datasets import Dataset
    from nova_dpo_sdk.recipes import Recipe

_COLUMNS = ("trial", "replicas", "at most", "job")

__all__ = ["Limits", "Sweep", "SweepPlan", "SweepResults", "Trial", "TrialResult", "grid"]


class Sweep:
    """Recipes that differ in some values; a value, made with `nova.sweep`. Sends nothing until `run`.

    Attributes:
        recipe: What they have in common.
        trials: Each of them.
    """

    def __init__(self, client: Client, recipe: Recipe, trials: Sequence[Mapping[str, Any]]) -> None:
        self.recipe = recipe
        self.trials = make_trials(recipe, trials)
        self._client = client

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __repr__(self) -> str:
        return f"Sweep({self.recipe.name!r}, trials={len(self.trials)})"

    def __str__(self) -> str:
        return "\n".join(
            [f"sweep of {self.recipe.name}: {plural(len(self), 'trial')}", *(f"  {each.label}" for each in self)]
        )

    def plan(
        self,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        allow: Iterable[str] = (),
        max_concurrent: int | None = None,
        max_replica_hours: float | None = None,
        trial_hours: float | None = None,
    ) -> SweepPlan:
        """Plan every trial: everything that is wrong with any of them is known before the first is sent.

        Args:
            data: What all are trained on.
            validation: What all are validated on, if anything.
            allow: Codes of warnings to leave out.
            max_concurrent: Most jobs at one time; None for all together.
            max_replica_hours: Most replica-hours of all trials together; needs `trial_hours`. See `Limits`.
            trial_hours: Hours from its beginning within which a trial must end; it is stopped then.

        Raises:
            ConfigurationError: The data is of the wrong kind for the recipe, or a limit cannot be one.
        """
        limits = Limits(max_concurrent, max_replica_hours, trial_hours)
        silent = tuple(allow)
        plans = [self._client.draft(each.recipe, data, validation=validation, allow=silent) for each in self]
        return SweepPlan(self._client, self, tuple(plans), limits)

    def run(
        self,
        chain: Chain | str,
        data: Dataset,
        *,
        policy: StagePolicy | None = None,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[str, JobSnapshot], None] | None = None,
        **planned: Any,
    ) -> SweepResults:
        """Plan every trial and run them, as stages of a chain: after a crash, run it again and it goes on.

        Args:
            chain: A chain, or the name of one.
            data: What all are trained on.
            policy: Retries and patience of each trial; its deadline comes from `trial_hours`.
            timeout: Seconds after which to stop waiting; the jobs run on.
            on_update: Called with a stage's name and every snapshot of it that differs from the one before.
            **planned: The other arguments of `plan`.

        Raises:
            PlanRejectedError: A trial, or a limit, has errors; nothing was sent.
            JobTimeoutError: The time is up; the jobs run on.
        """
        return self.plan(data, **planned).run(chain, policy=policy, timeout=timeout, on_update=on_update)


class SweepPlan(Judged):
    """Every trial of a sweep, planned: print it, read it, then run the very same value.

    Attributes:
        sweep: What was planned.
        plans: One plan for each trial, in order.
        limits: What the sweep may take.
    """

    def __init__(self, client: Client, sweep: Sweep, plans: tuple[Plan, ...], limits: Limits) -> None:
        self.sweep = sweep
        self.plans = plans
        self.limits = limits
        self._client = client

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said: what holds for all trials once, the rest by trial."""
        first, *others = self.plans
        common = [each for each in first.findings if all(each in plan.findings for plan in others)]
        found = list(common)
        some: list[tuple[Finding, list[str]]] = []
        for trial, plan in zip(self.sweep, self.plans, strict=True):
            for each in plan.findings:
                if each not in common:
                    _labels_of(each, some).append(trial.label)
        found += [replace(each, where=f"{_few(labels)}: {each.where}") for each, labels in some]
        return (*found, *self._budget_findings())

    def _budget_findings(self) -> list[Finding]:
        cap, hours = self.limits.max_replica_hours, self.limits.trial_hours
        if cap is None:
            return []
        worst = [self.limits.worst(trial) for trial in self.sweep]
        if sum(worst) <= cap:
            return []
        fits = max(worst) <= cap
        message = f"A trial of {hours:g} hours takes up to {max(worst):,.0f} replica-hours"
        if fits:
            message = f"{len(worst)} trials of up to {hours:g} hours take up to {sum(worst):,.0f} replica-hours"
        return [
            Finding(
                "sweep-over-cap",
                Severity.WARNING if fits else Severity.ERROR,
                "max_replica_hours",
                f"{message}; the cap is {cap:,.0f}.",
                cap,
                f"{sum(worst):,.0f} for all",
                "Trials begin while there is room: those that end early make some, the last ones may be left out."
                if fits
                else "Raise max_replica_hours, or lower trial_hours or replicas.",
            )
        ]

    def __str__(self) -> str:
        cells = [_COLUMNS, *self._rows()]
        return "\n".join([self._head(), *table(cells), *findings_text(self.findings), self._verdict()])

    def __repr__(self) -> str:
        return f"SweepPlan({self.sweep.recipe.name!r}, trials={len(self.plans)}, errors={len(self.errors)})"

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(line)}</p>" for line in (*map(str, self.findings), self._verdict()))
        return f"<p>{html.escape(self._head())}</p>{html_table(_COLUMNS, self._rows(), ('replicas', 'at most'))}{said}"

    def _head(self) -> str:
        return str(self.sweep).splitlines()[0]

    def _verdict(self) -> str:
        return (
            f"{plural(len(self.errors), 'error')}. Nothing was sent; {'ready to run' if self.ok else 'cannot be run'}."
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [self._row(trial, plan) for trial, plan in zip(self.sweep, self.plans, strict=True)]

    def _row(self, trial: Trial, plan: Plan) -> tuple[str, ...]:
        worst = self.limits.worst(trial)
        most = "no end" if worst == float("inf") else f"{worst:,.0f} replica-h"
        return trial.label, str(trial.recipe.replicas), most, plan.name

    def check(self) -> None:
        """Make sure that every trial may be sent.

        Raises:
            PlanRejectedError: A trial, or a limit, has errors.
        """
        if self.errors:
            raise PlanRejectedError(f"The sweep of {self.sweep.recipe.name} has errors; nothing was sent:", self.errors)

    def run(
        self,
        chain: Chain | str,
        *,
        policy: StagePolicy | None = None,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[str, JobSnapshot], None] | None = None,
    ) -> SweepResults:
        """Run the trials within the limits; those that ran before are found again. Arguments are those of `Sweep.run`.

        A trial that fails does not stop the others; its result says why. One that is in trouble which does not mend
        itself is left on the platform, unless there is a cap: then its job is stopped, as no cap could be kept.

        Raises:
            ConfigurationError: `chain` is neither a chain nor a name, or runs at another place than was planned for.
            PlanRejectedError: A trial, or a limit, has errors, or AWS or the cluster would refuse it; nothing was sent.
            DatasetError: A file changed since it was planned, and what was planned is not in S3 yet; no job was made.
            JobTimeoutError: The time is up; the jobs run on.
        """
        if not isinstance(chain, (Chain, str)):  # pyright: ignore[reportUnnecessaryIsInstance] - for callers without types
            raise ConfigurationError(
                f"A sweep runs on a chain, or under the name of one, not on a {type(chain).__name__}. To export its "
                "trials, start each: chain.start(trial.stage, trial.recipe, data)."
            )
        self.check()
        row = chain if isinstance(chain, Chain) else Chain(self._client, chain)
        row.check_place(self.plans[0])
        begun = policy or StagePolicy()
        if self.limits.trial_hours is not None:
            begun = replace(begun, deadline=self.limits.trial_hours * 3600)
        return Run(self, row, begun, on_update, self._client).to_end(timeout)


def _labels_of(finding: Finding, some: list[tuple[Finding, list[str]]]) -> list[str]:
    """The trials that a finding was made about so far; a new list when it is a new one."""
    for each, labels in some:
        if each == finding:
            return labels
    some.append((finding, list[str]()))
    return some[-1][1]


def _few(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= 2 else f"{labels[0]} and {len(labels) - 1} more"

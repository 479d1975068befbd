"""A chain as an AWS Step Functions state machine: its definition, and what it needs to run."""

from __future__ import annotations

import copy
import html
import json
import math
from dataclasses import replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._show import findings_text
from nova_dpo_sdk.catalog import Platform
from nova_dpo_sdk.errors import ConfigurationError, Finding, Judged, PlanRejectedError, Severity
from nova_dpo_sdk.export import _hyperpod as hyperpod
from nova_dpo_sdk.export import _permissions as permissions
from nova_dpo_sdk.export import _states as asl
from nova_dpo_sdk.export import _training as training
from nova_dpo_sdk.export._check import definition_findings
from nova_dpo_sdk.export._draft import DraftChain, DraftStage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nova_dpo_sdk.client import NovaClient

Json = dict[str, Any]

HISTORY = 20_000
"""Entries of an execution's history that looks may fill; Step Functions ends an execution at 25,000."""
LONGEST = 99_999_999
"""Most seconds of a wait and of an execution's TimeoutSeconds (Amazon States Language in AWS Step Functions)."""
SHORTEST_POLL = 60
"""Fewest seconds between two looks at a job."""
FIVE_DAYS = 120.0
"""Hours that a stage is given when nobody says."""
DONE = "done"


class StateMachine(Judged):
    """A chain that AWS runs by itself. Made with `of`; sends nothing until `prepare`.

    Each job has the name of its plan, so a second execution finds the jobs of the first instead of paying twice.
    What the machine cannot do, a chain in Python can: choose between checkpoints by a function of yours, retry a
    stage under another name, see trouble in other replicas than the first.

    Attributes:
        name: The chain's name.
        groups: The stages in order; those of one group run side by side.
        poll_seconds: Seconds between two looks at a job.
        stage_hours: Hours that the machine waits for each group of stages.
    """

    def __init__(
        self,
        client: NovaClient,
        name: str,
        groups: Sequence[Sequence[DraftStage]],
        *,
        poll_seconds: int | None = None,
        stage_hours: float = FIVE_DAYS,
        checkpoint_reader: str | None = None,
    ) -> None:
        self.name = name
        self.groups: tuple[tuple[DraftStage, ...], ...] = tuple(tuple(group) for group in groups)
        if not self.groups:
            raise ConfigurationError(f"{name} has no stage. Call chain.run(...) in the function that is exported.")
        _may_be(stage_hours, poll_seconds, len(self.groups))
        self.stage_hours = stage_hours
        self.poll_seconds = poll_seconds or max(SHORTEST_POLL, self._quietest)
        self._client = client
        self._reader = checkpoint_reader

    @classmethod
    def of(
        cls,
        client: NovaClient,
        name: str,
        build: Callable[[Any], object],
        *,
        poll_seconds: int | None = None,
        stage_hours: float = FIVE_DAYS,
        checkpoint_reader: str | None = None,
    ) -> StateMachine:
        """Export the chain that a function runs; the same function runs it from Python with `nova.chain(name)`.

        Args:
            client: Where the stages would run.
            name: The chain's name.
            build: Takes a chain and calls `run`, `start` and `gather` on it. Branches that look at results cannot be
                exported: here every result is a stand-in.
            poll_seconds: Whole seconds between two looks at a job on HyperPod; as few as an execution's history holds,
                and at least 60, when left out.
            stage_hours: Hours that the machine waits for each group of stages; the job runs on when they are over.
            checkpoint_reader: For training jobs: ARN of your Lambda function made of `reader_source()`. Needed as
                soon as one stage starts from another's checkpoint.

        Raises:
            ConfigurationError: There is no stage, or two have one name, or one cannot be exported, or a time cannot be.
        """
        draft = DraftChain(client, name)
        build(draft)
        return cls(
            client,
            name,
            draft.groups,
            poll_seconds=poll_seconds,
            stage_hours=stage_hours,
            checkpoint_reader=checkpoint_reader,
        )

    def __repr__(self) -> str:
        return f"StateMachine({self.name!r}, stages={[each.name for each in self.stages]!r})"

    @property
    def stages(self) -> tuple[DraftStage, ...]:
        """Every stage, in order."""
        return tuple(stage for group in self.groups for stage in group)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said about the plans, named by their stages, and about the definition."""
        told = [
            replace(each, where=f"{stage.name}: {each.where}") for stage in self.stages for each in stage.plan.findings
        ]
        ready = self._client.backend.aws.known_account and not any(each.is_error for each in told)
        return (*told, *self._history_findings(), *(definition_findings(self._definition) if ready else ()))

    def check(self) -> None:
        """Make sure that the machine can be handed over.

        Raises:
            PlanRejectedError: A plan or the definition has errors.
        """
        if self.errors:
            raise PlanRejectedError(f"{self.name} cannot be exported:", self.errors)

    def to_dict(self) -> Json:
        """The definition as plain values.

        Raises:
            PlanRejectedError: A plan or the definition has errors.
            ConfigurationError: The account is not known yet.
        """
        self.check()
        return copy.deepcopy(self._definition)

    def to_json(self) -> str:
        """The definition as CreateStateMachine takes it; the same for the same chain. Errors are those of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def policy(self) -> Json:
        """The IAM policy of the machine's role."""
        return permissions.policy(self.stages, self._account(), self._reader)

    def kubernetes_access(self) -> list[Json]:
        """The Role and RoleBinding that let the machine's role work in the cluster; none for training jobs.

        Give the role an EKS access entry with the Kubernetes group `nova-dpo-state-machine`.
        """
        return permissions.kubernetes_access(self.stages)

    def prepare(self) -> None:
        """Send what the machine expects to find in S3: data sets, and the record of each plan. Starts nothing.

        Raises:
            PlanRejectedError: A plan or the definition has errors; nothing was sent.
            AWSError: AWS refused.
        """
        self.check()
        for stage in self.stages:
            self._client.prepare(stage.plan)

    def __str__(self) -> str:
        rows = [("stage", "after", "job", "trains", "replicas"), *map(self._row, self.stages)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._head(), *table, *findings_text(self.findings)])

    def _repr_html_(self) -> str:
        head, *rows = [("stage", "after", "job", "trains", "replicas"), *map(self._row, self.stages)]
        cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        names = "".join(f"<th>{cell}</th>" for cell in head)
        return f"<p>{html.escape(self._head())}</p><table><tr>{names}</tr>{cells}</table>"

    def _head(self) -> str:
        days = len(self.groups) * self.stage_hours / 24
        return (
            f"state machine {self.name}: {plural(len(self.stages), 'stage')}; looks every {self.poll_seconds} s; "
            f"ends after {days:g} day{'' if days == 1 else 's'} at most"
        )

    def _row(self, stage: DraftStage) -> tuple[str, ...]:
        recipe = stage.plan.recipe
        before = stage.parent.name if stage.parent else "-"
        return stage.name, before, stage.plan.name, f"{recipe.model} {recipe.technique}", str(recipe.replicas)

    # --- the definition -------------------------------------------------------------------------------------------

    @property
    def _quietest(self) -> int:
        """Seconds between looks that an execution's history holds, in tens."""
        seconds = len(self.stages) * self.stage_hours * 3600 * asl.EVENTS_A_LOOK / HISTORY
        return math.ceil(seconds / 10) * 10

    def _history_findings(self) -> list[Finding]:
        if self._platform is not Platform.HYPERPOD or self.poll_seconds >= self._quietest:
            return []
        return [
            Finding(
                "history-too-long",
                Severity.ERROR,
                "poll_seconds",
                f"Looking every {self.poll_seconds} s for {self.stage_hours:g} hours in each of "
                f"{plural(len(self.stages), 'stage')} makes more than the 25,000 events that an execution may have.",
                self.poll_seconds,
                f"at least {self._quietest}",
                "Look less often, or give fewer stage_hours.",
                "AWS Step Functions quotas",
            )
        ]

    @property
    def _platform(self) -> Platform:
        return self._client.backend.platform

    def _account(self) -> str:
        account = self._client.backend.aws.known_account
        if account is None:
            raise ConfigurationError(
                "The account's number stands in the definition and is not known yet. Give the backend "
                'account="<twelve digits>", or call nova.backend.resolve(), which asks AWS once.'
            )
        return account

    @cached_property
    def _definition(self) -> Json:
        self._account()
        self._has_reader()
        firsts = [self._first(number) for number in range(len(self.groups))]
        states: dict[str, Json] = {}
        if self._platform is Platform.HYPERPOD:
            states = hyperpod.connect(self._client.backend, firsts[0])  # type: ignore[arg-type] # told by the platform
        for number, group in enumerate(self.groups):
            then = firsts[number + 1] if number + 1 < len(firsts) else DONE
            states |= self._group(number, group, then)
        ends = {f"{stage.name}.$": self._place(stage) for stage in self.stages if self._resolves}
        jobs = {stage.name: stage.plan.ref for stage in self.stages}
        states[DONE] = {"Type": "Pass", "Parameters": {"checkpoints": ends, "jobs": jobs}, "End": True}
        return {
            "Comment": f"{self.name}: {', '.join(each.name for each in self.stages)} (Amazon Nova, by nova-dpo-sdk)",
            "StartAt": next(iter(states)),
            "TimeoutSeconds": math.ceil(len(self.groups) * self.stage_hours * 3600),
            "States": states,
        }

    @property
    def _resolves(self) -> bool:
        return self._platform is Platform.HYPERPOD or self._reader is not None

    def _has_reader(self) -> None:
        waiting = next((each for each in self.stages if each.parent), None)
        if waiting is not None and waiting.parent is not None and not self._resolves:
            raise ConfigurationError(
                f"{waiting.name} starts from the checkpoint of {waiting.parent.name}, whose training job leaves it "
                "inside output.tar.gz. A state machine cannot unpack that: make a Lambda function of reader_source() "
                "and give its ARN as checkpoint_reader."
            )

    def _first(self, number: int) -> str:
        group = self.groups[number]
        return f"group {number + 1}" if len(group) > 1 else self._first_of(next(iter(group)))

    def _first_of(self, stage: DraftStage) -> str:
        return asl.Names(stage.name)("recipe" if stage.parent else "put recipe")

    def _group(self, number: int, group: Sequence[DraftStage], then: str) -> dict[str, Json]:
        if len(group) == 1:
            return self._states(group[0], self._place(group[0]), then)
        branches = [self._branch(stage) for stage in group]
        kept = {f"{stage.key}.$": f"$[{n}]" for n, stage in enumerate(group)} if self._resolves else {}
        side_by_side = {"Type": "Parallel", "Branches": branches, "ResultSelector": kept,
                        "ResultPath": f"$.group{number + 1}", "Next": then}  # fmt: skip
        return {f"group {number + 1}": side_by_side}

    def _branch(self, stage: DraftStage) -> Json:
        end = asl.Names(stage.name)("end")
        states = self._states(stage, "$.mine", end)
        states[end] = {"Type": "Pass", **({"InputPath": "$.mine"} if self._resolves else {}), "End": True}
        return {"StartAt": self._first_of(stage), "States": states}

    def _states(self, stage: DraftStage, place: str, then: str) -> dict[str, Json]:
        start = self._place(stage.parent) if stage.parent else ""
        if self._platform is Platform.HYPERPOD:
            return hyperpod.stage_states(stage, self.poll_seconds, start, place, then)
        return training.stage_states(stage, self.poll_seconds, start, place, then, reader=self._reader)

    def _place(self, stage: DraftStage) -> str:
        """Where a stage's checkpoint stands in the machine's data."""
        number = next(n for n, group in enumerate(self.groups, 1) if stage in group)
        return f"$.group{number}.{stage.key}" if len(self.groups[number - 1]) > 1 else f"$.checkpoints.{stage.key}"


def _may_be(stage_hours: Any, poll_seconds: Any, groups: int) -> None:
    """Refuse times that a machine cannot have, all at once."""
    wrong: list[str] = []
    if not isinstance(stage_hours, (int, float)) or not 0 < stage_hours * 3600 * groups <= LONGEST:
        most = f"{LONGEST // 3600 // groups:,} with {plural(groups, 'group')} of stages"
        wrong.append(f"stage_hours is {stage_hours!r}; give hours above 0, at most {most}.")
    whole = isinstance(poll_seconds, int) and not isinstance(poll_seconds, bool)
    if poll_seconds is not None and not (whole and 1 <= poll_seconds <= LONGEST):
        wrong.append(f"poll_seconds is {poll_seconds!r}; give whole seconds, 1 to {LONGEST:,}, or None.")
    if wrong:
        raise ConfigurationError(" ".join(wrong))


def reader_source() -> str:
    """The source of the Lambda function that reads the checkpoint of a training job; see `StateMachine.of`."""
    return resources.files("nova_dpo_sdk.export").joinpath("read_manifest.py").read_text(encoding="utf-8")

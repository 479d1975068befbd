"""Stages in a row, remembered in S3: run the script again after a crash and it goes on where it stood."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, overload

from nova_dpo_sdk.chain._changes import changes
from nova_dpo_sdk.chain._policy import StagePolicy
from nova_dpo_sdk.chain._records import Acceptance, Outcome, StageRecord, StageStatus, legal_name
from nova_dpo_sdk.chain._show import chain_html, chain_lines
from nova_dpo_sdk.chain._stage import Client, Place, Stage
from nova_dpo_sdk.chain._store import ChainStore, Held
from nova_dpo_sdk.chain._timeline import draw_timeline
from nova_dpo_sdk.chain._wait import Waiter
from nova_dpo_sdk.errors import ConfigurationError, NovaError
from nova_dpo_sdk.jobs import FIVE_DAYS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends import JobSnapshot, Plan
    from nova_dpo_sdk.datasets import ChatDataset, Dataset, PreferenceDataset
    from nova_dpo_sdk.recipes import Checkpoint, DPORecipe, Nova2SFTRecipe, Recipe, SFTRecipe

__all__ = ["Chain", "ChainStore", "Client", "Outcome", "Stage", "StagePolicy", "StageRecord", "StageStatus"]


class Chain:
    """A named row of stages. Each stage's record lies beside the outputs and is written before its job is made.

    Used as a context manager or not: nothing is kept in memory that a second run of the script would miss. Stages are
    plain calls, so that loops and branches are ordinary Python:

        with nova.chain("support-tone") as chain:
            taught = chain.run("sft", sft, chats)
            tries = [chain.start(f"dpo-{n}", dpo.replace(beta=beta).starting_from(taught), pairs)
                     for n, beta in enumerate((0.05, 0.1, 0.2))]
            best = max(chain.gather(tries), key=my_score)
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = legal_name(name, "chain")
        self.store = ChainStore(client.backend.aws, client.output)
        self._client = client
        self._place = Place(self.name, client, self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"Chain({self.name!r})"

    def _repr_html_(self) -> str:
        try:
            return chain_html(self.name, self.records(), self._place.now())
        except NovaError as error:  # a notebook shows a chain unasked: that S3 does not answer is no reason to fail
            return f"<p>{html.escape(f'chain {self.name}: {error}')}</p>"

    def summary(self) -> str:
        """Its stages as a table for 80 columns: states, durations, GPU-hours, and why some ended badly."""
        return "\n".join(chain_lines(self.name, self.records(), self._place.now()))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw its timeline into a file: every attempt of every stage, how it ended, and what it cost.

        Args:
            path: The picture to write; its ending names the format, such as `.png` or `.svg`.

        Raises:
            ConfigurationError: matplotlib is not installed, no stage was begun, or the file cannot be written.
        """
        draw_timeline(self.name, self.records(), path, self._place.now())

    @property
    def folder(self) -> S3Uri:
        """Where the stages' records are kept."""
        return self.store.folder.join(self.name)

    @overload
    def run(
        self,
        stage: str,
        recipe: SFTRecipe | Nova2SFTRecipe,
        data: ChatDataset,
        *,
        validation: ChatDataset | None = None,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        allow: Iterable[str] = (),
        policy: StagePolicy | None = None,
    ) -> Checkpoint: ...
    @overload
    def run(
        self,
        stage: str,
        recipe: DPORecipe,
        data: PreferenceDataset,
        *,
        validation: PreferenceDataset | None = None,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        allow: Iterable[str] = (),
        policy: StagePolicy | None = None,
    ) -> Checkpoint: ...
    def run(
        self,
        stage: str,
        recipe: Recipe,
        data: Dataset,
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        **options: Any,
    ) -> Checkpoint:
        """Run one stage to its checkpoint, or take the checkpoint of the run that finished before.

        Args:
            stage: The stage's name within the chain.
            recipe: What to train.
            data: What to train on.
            timeout: Seconds after which to stop waiting; the job runs on, and running again goes on waiting.
            on_update: Called with every snapshot that differs from the one before.
            **options: `validation`, `allow` and `policy`, as for `start`.

        Raises:
            ConfigurationError: The stage was begun before with another recipe or other data; says what differs.
            PlanRejectedError: The plan has errors, or cannot run there; nothing was sent.
            JobFailedError: It failed for good, or passed its deadline.
            JobStoppedError: Its job was stopped or deleted by somebody.
            JobTimeoutError: The time is up; the job runs on.
            CheckpointError: Its job succeeded, but no usable manifest appeared within ten minutes.
        """
        return self._begin(stage, recipe, data, **options).result(timeout, on_update)

    @overload
    def start(
        self,
        stage: str,
        recipe: SFTRecipe | Nova2SFTRecipe,
        data: ChatDataset,
        *,
        validation: ChatDataset | None = None,
        allow: Iterable[str] = (),
        policy: StagePolicy | None = None,
    ) -> Stage: ...
    @overload
    def start(
        self,
        stage: str,
        recipe: DPORecipe,
        data: PreferenceDataset,
        *,
        validation: PreferenceDataset | None = None,
        allow: Iterable[str] = (),
        policy: StagePolicy | None = None,
    ) -> Stage: ...
    def start(self, stage: str, recipe: Recipe, data: Dataset, **options: Any) -> Stage:
        """Bring one stage under way without waiting for it, or find the one that a run before this began.

        Args:
            stage: The stage's name within the chain.
            recipe: What to train.
            data: What to train on.
            **options: `validation`, what to validate on, if anything; `allow`, codes of warnings to leave out;
                `policy`, what to do when it fails or takes too long, see `StagePolicy`.

        Returns:
            A handle: `result()` waits, `chain.gather()` waits for many.

        Raises:
            ConfigurationError: The stage was begun before with another recipe or other data; says what differs.
            PlanRejectedError: The plan has errors, or cannot run there; nothing was sent.
            JobFailedError: It has failed before, and may not be tried again.
            JobStoppedError: Its job was stopped or deleted by somebody.
        """
        return self._begin(stage, recipe, data, **options)

    def start_plan(self, stage: str, plan: Plan, policy: StagePolicy | None = None) -> Stage:
        """`start` for what is planned already, such as a trial of a sweep: what was printed is sent.

        Args:
            stage: The stage's name within the chain.
            plan: What it is.
            policy: What to do when it fails or takes too long.

        Returns:
            A handle, as from `start`.

        Raises:
            ConfigurationError: The plan is for another place, or the stage was begun before with another one.
            DatasetError: A file changed since it was planned; no job was created.
            NovaError: What `start` raises.
        """
        self.check_place(plan)
        return Stage(self._place, stage, plan, policy or StagePolicy()).begin()

    def check_place(self, plan: Plan) -> None:
        """Make sure that a plan is for the place where this chain's jobs run, and for its output.

        Raises:
            ConfigurationError: It is for another one.
        """
        plan.expect_place(self._client.backend, self._client.output, f"chain {self.name}")

    def gather(
        self,
        stages: Iterable[Stage],
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[str, JobSnapshot], None] | None = None,
    ) -> list[Checkpoint]:
        """Wait for many stages at the price of one.

        Args:
            stages: Handles from `start`.
            timeout: Seconds after which to stop waiting; the jobs run on.
            on_update: Called with a stage's name and every snapshot of it that differs from the one before.

        Returns:
            Their checkpoints, in the order of the handles.

        Raises:
            NovaError: Some did not finish: the first one's error, after all are over. `stage.error` has each.
            JobTimeoutError: The time is up; the jobs run on.
        """
        handles = list(stages)
        Waiter(self._place, handles, timeout, on_update).run()
        return [stage.outcome() for stage in handles]

    def first(
        self,
        stages: Iterable[Stage],
        *,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[str, JobSnapshot], None] | None = None,
    ) -> list[Stage]:
        """Wait until at least one of many stages is over.

        Args:
            stages: Handles from `start`.
            timeout: Seconds after which to stop waiting; the jobs run on.
            on_update: Called with a stage's name and every snapshot of it that differs from the one before.

        Returns:
            Those that are over: with a checkpoint, or with an error.

        Raises:
            JobTimeoutError: The time is up and none is over; the jobs run on.
        """
        handles = list(stages)
        Waiter(self._place, handles, timeout, on_update, first=True).run()
        return [stage for stage in handles if stage.is_over]

    def follow(
        self,
        *stages: str,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[str, JobSnapshot], None] | None = None,
    ) -> list[StageRecord]:
        """Wait for stages that are under way, without recipe and data at hand: their records are brought up to date.

        Nothing is begun and nothing is tried again: that takes the script, which has recipe and data.

        Args:
            *stages: Which stages; every one that is under way when left out.
            timeout: Seconds after which to stop waiting; the jobs run on.
            on_update: Called with a stage's name and every snapshot of it that differs from the one before.

        Returns:
            The records of all stages of the chain as they are then.

        Raises:
            ConfigurationError: A stage was never begun.
            JobTimeoutError: The time is up; the jobs run on.
        """
        chosen = [self._held(each) for each in stages] if stages else self._under_way()
        handles = [Stage.recorded(self._place, held) for held in chosen]
        Waiter(self._place, [each for each in handles if each is not None], timeout, on_update).run()
        return self.records()

    def records(self) -> list[StageRecord]:
        """The record of every stage, in the order in which they were begun."""
        return self.store.stages(self.name)

    def record(self, stage: str) -> StageRecord | None:
        """One stage's record; None when it was never begun."""
        held = self.store.read(self.name, stage)
        return held.record if held else None

    def reset(self, stage: str, *, cancel: bool = False) -> StageRecord:
        """Forget how far a stage has come: the next run begins it anew, under a job name of its own.

        What was before stays in the record's attempts.

        Args:
            stage: Which stage.
            cancel: Whether to stop its job if it is still running.

        Returns:
            Its record now.

        Raises:
            ConfigurationError: The stage was never begun, its job is running and `cancel` is not set, or somebody
                changed the stage at this very moment.
        """
        held = self._held(stage)
        record = held.record
        if record.status.is_under_way:
            self._let_go(record, cancel=cancel)
        self._place.stop_given_up(record)
        now = self._place.now()
        last = record.current
        if last.ended_at is None:
            last = last.replace(ended_at=now, outcome=Outcome.RESET)
        return self._advance(
            held,
            record.replace(
                status=StageStatus.RESET, checkpoint=None, finished_at=now, attempts=(*record.attempts[:-1], last)
            ),
        )

    def _let_go(self, record: StageRecord, *, cancel: bool) -> None:
        job = self._client.job(record.current.ref)
        seen = job.status()
        if not seen.status.is_terminal and not cancel:
            raise ConfigurationError(
                f"Stage {record.stage} of chain {self.name} has a job that is not over: {record.current.ref} "
                f"({seen.summary}) Wait for it, or stop it: chain.reset({record.stage!r}, cancel=True)."
            )
        if cancel or record.submitted_at is None:
            job.cancel()  # without a job there may be what belongs to one

    @overload
    def accept(
        self,
        stage: str,
        recipe: SFTRecipe | Nova2SFTRecipe,
        data: ChatDataset,
        *,
        validation: ChatDataset | None = None,
    ) -> StageRecord: ...
    @overload
    def accept(
        self,
        stage: str,
        recipe: DPORecipe,
        data: PreferenceDataset,
        *,
        validation: PreferenceDataset | None = None,
    ) -> StageRecord: ...
    def accept(self, stage: str, recipe: Recipe, data: Dataset, *, validation: Dataset | None = None) -> StageRecord:
        """Declare that a changed recipe or changed data is the same stage: its job and checkpoint are kept.

        Args:
            stage: Which stage.
            recipe: What the script says now.
            data: What it is trained on now.
            validation: What it is validated on now.

        Returns:
            Its record, with what was accepted.

        Raises:
            ConfigurationError: There is no job or checkpoint to be kept, technique, model, tuning or platform differ,
                or somebody changed the stage at this very moment.
        """
        held = self._held(stage)
        record = held.record
        plan = self._client.draft(recipe, data, validation=validation)
        if record.is_for(plan.digest):
            return record
        if record.status not in (StageStatus.SUBMITTED, StageStatus.FINISHED):
            raise ConfigurationError(
                f"Stage {stage} of chain {self.name} is {record.status}: it has neither a job nor a checkpoint to be "
                "kept. Run the script: the changed stage takes its place."
            )
        _same_kind(record, plan)
        accepted = Acceptance(digest=plan.digest, at=self._place.now(), changes=tuple(changes(record, plan)))
        return self._advance(held, record.replace(accepted=(*record.accepted, accepted)))

    def _begin(
        self,
        stage: str,
        recipe: Recipe,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        allow: Iterable[str] = (),
        policy: StagePolicy | None = None,
    ) -> Stage:
        legal_name(stage, "stage")
        return self.start_plan(stage, self._client.draft(recipe, data, validation=validation, allow=allow), policy)

    def _held(self, stage: str) -> Held:
        held = self.store.read(self.name, stage)
        if held is None:
            known = ", ".join(each.stage for each in self.records()) or "none"
            raise ConfigurationError(f"Chain {self.name} has no stage {stage}; it has {known}.")
        return held

    def _under_way(self) -> list[Held]:
        found = (self.store.read(self.name, each.stage) for each in self.records() if each.status.is_under_way)
        return [held for held in found if held is not None]

    def _advance(self, held: Held, record: StageRecord) -> StageRecord:
        written = self.store.advance(held, record)
        if written is None:
            raise ConfigurationError(
                f"Stage {record.stage} of chain {self.name} was changed at this very moment by somebody else, so "
                "nothing was done. Look at it, and ask again if it is still wanted."
            )
        return written.record


def _same_kind(record: StageRecord, plan: Plan) -> None:
    recipe = plan.recipe
    pairs = (
        ("technique", record.technique, recipe.technique),
        ("model", record.model, recipe.model),
        ("tuning", record.tuning, recipe.tuning.kind),
        ("platform", record.platform, plan.backend.platform),
    )
    differ = [f"{what} {then} -> {now}" for what, then, now in pairs if then is not now]
    if differ:
        raise ConfigurationError(
            f"Stage {record.stage} of chain {record.chain} cannot be taken for that: {', '.join(differ)}. "
            "Its checkpoint is another thing; give the stage another name, or reset it."
        )

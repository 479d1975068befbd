"""The client: plan, submit exactly once, find a job again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, overload

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import Backend, JobRef, Plan, PlanInputs, Preflight, draft
from nova_dpo_sdk.chain import Chain
from nova_dpo_sdk.datasets import ChatDataset, Dataset, PreferenceDataset
from nova_dpo_sdk.errors import ConfigurationError, PlanRejectedError
from nova_dpo_sdk.jobs import Job
from nova_dpo_sdk.recipes import DPORecipe, Nova2SFTRecipe, Recipe, SFTRecipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class NovaClient:
    """Plans and submits Nova runs at one place.

    Args:
        backend: Where jobs run, such as `HyperPodBackend(...)`.
        output: S3 prefix for manifests, data sets and plans, such as `s3://acme-nova/runs`; in the cluster's
            account and Region.

    Raises:
        ConfigurationError: `output` is not an S3 path.
    """

    def __init__(self, backend: Backend, output: str) -> None:
        self.backend = backend
        self.output = S3Uri.parse(output.rstrip("/"))

    def __repr__(self) -> str:
        return f"NovaClient({self.backend!r}, output={str(self.output)!r})"

    @overload
    def plan(
        self,
        recipe: SFTRecipe | Nova2SFTRecipe,
        data: ChatDataset,
        *,
        validation: ChatDataset | None = None,
        allow: Iterable[str] = (),
        attempt: int = 1,
    ) -> Plan: ...
    @overload
    def plan(
        self,
        recipe: DPORecipe,
        data: PreferenceDataset,
        *,
        validation: PreferenceDataset | None = None,
        allow: Iterable[str] = (),
        attempt: int = 1,
    ) -> Plan: ...
    def plan(
        self,
        recipe: Recipe,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        allow: Iterable[str] = (),
        attempt: int = 1,
    ) -> Plan:
        """Say everything that would be sent, and everything that is wrong with it; sends nothing, asks nobody.

        Args:
            recipe: What to train.
            data: What to train on: chats for SFT, preference pairs for DPO.
            validation: What to validate on, if anything.
            allow: Codes of warnings to leave out.
            attempt: 1 for the first try; each attempt has a job name of its own.

        Returns:
            The plan; `plan.ok` tells whether it may be submitted.

        Raises:
            ConfigurationError: The data is of the wrong kind for the recipe, or `attempt` is below 1.
        """
        return self.draft(recipe, data, validation=validation, allow=allow, attempt=attempt)

    def draft(
        self,
        recipe: Recipe,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        allow: Iterable[str] = (),
        attempt: int = 1,
    ) -> Plan:
        """`plan()` for code that does not know statically which technique it plans, such as a chain."""
        _fits(recipe, data)
        if validation is not None:
            _fits(recipe, validation)
        if isinstance(attempt, bool) or attempt < 1:
            raise ConfigurationError(f"attempt is {attempt!r}; it counts from 1.")
        return draft(self.backend, PlanInputs(recipe, data, validation, self.output, frozenset(allow), attempt))

    def check(self, plan: Plan) -> Preflight:
        """Ask everything that only AWS and the cluster can answer, all at once; sends no job.

        Args:
            plan: What `plan()` made, without errors.

        Returns:
            Every answer, as a table to print; `.ok` tells whether a submit would be accepted.

        Raises:
            PlanRejectedError: The plan has errors of its own; nobody was asked.
        """
        self._may_run(plan)
        return self.backend.preflight(plan.resolved())

    def _may_run(self, plan: Plan) -> None:
        if not plan.ok:
            raise PlanRejectedError(f"{plan.name} has errors; nothing was sent:", plan.errors)
        if plan.target != self.backend.identity() or plan.inputs.output != self.output:
            raise ConfigurationError(
                f"{plan.name} was planned for {plan.target}, not for {self!r}. Plan it with this client."
            )

    def submit(self, plan: Plan, *, check: bool = True, on_upload: Callable[[str, int], None] | None = None) -> Job:
        """Send a plan exactly once: data, the record of the plan, then the job.

        Sent again, from here or anywhere, it finds the same job instead of creating a second one.

        Args:
            plan: What `plan()` made.
            check: Whether to ask first what `check()` asks, and to send nothing when it finds an error.
            on_upload: Called with an S3 URI and the bytes sent since the last call.

        Returns:
            The job; `job.adopted` when it was there already.

        Raises:
            PlanRejectedError: The plan has errors; nothing was sent.
            ConfigurationError: The plan is for another place, or the output bucket is in another Region or account.
            JobFailedError: The same job was submitted before and failed; names `plan.again()`.
            DatasetError: A file changed since it was planned; no job was created.
        """
        self._may_run(plan)
        self.backend.resolve()
        plan = plan.resolved()
        if check:
            _refuse_if_wrong(self.backend.preflight(plan))
        else:
            self.backend.aws.check_bucket(self.output)
        self._upload(plan, on_upload)
        known = not self._record(plan)
        job = Job(self.backend.ref(plan.name), self.backend, self.output, adopted=True)
        if known and job.left_a_checkpoint():
            return job  # finished before, and cleaned away from the cluster since: training it again helps nobody
        job.adopted = self.backend.submit(plan)
        return job

    def _upload(self, plan: Plan, on_upload: Callable[[str, int], None] | None) -> None:
        for each in plan.uploads:
            notify = partial(on_upload, each.uri) if on_upload else None
            self.backend.aws.upload(
                each.path, S3Uri.parse(each.uri), sha256=each.sha256, size=each.size, on_progress=notify
            )

    def _record(self, plan: Plan) -> bool:
        """Keep the recipe and the plan beside the run, to be read and repeated later; False when they were there."""
        written = False
        for name, text, kind in (
            ("recipe.yaml", plan.recipe.to_yaml(), "application/yaml"),
            ("plan.json", plan.to_json(), "application/json"),
        ):
            place = plan.folder.join(name)
            etag = self.backend.aws.write(place, text.encode(), content_type=kind, only_if_absent=True)
            written = etag is not None
        return written

    def job(self, ref: str) -> Job:
        """Find a job again by its reference, from any process.

        Raises:
            ConfigurationError: The reference is unreadable, or of another place than this client's.
        """
        parsed = JobRef.parse(ref)
        if parsed != self.backend.ref(parsed.name):
            mine = self.backend.ref("<job>")
            raise ConfigurationError(
                f"{ref} does not live here: this client looks after {mine}. Build one for its place."
            )
        return Job(parsed, self.backend, self.output)

    def chain(self, name: str) -> Chain:
        """A durable row of stages under this client's output; see `Chain`.

        Raises:
            ConfigurationError: The name is not made of small letters, digits and hyphens.
        """
        return Chain(self, name)


def _refuse_if_wrong(preflight: Preflight) -> None:
    if not preflight.ok:
        raise PlanRejectedError(f"{preflight.name} cannot run; no job was sent:", preflight.errors)


def _fits(recipe: Recipe, data: Dataset) -> None:
    wanted = PreferenceDataset if isinstance(recipe, DPORecipe) else ChatDataset
    if not isinstance(data, wanted):
        raise ConfigurationError(
            f"A {type(recipe).__name__} is trained on a {wanted.__name__}, not on a {type(data).__name__}. "
            f"Read the file with {wanted.__name__}.from_jsonl(...)."
        )

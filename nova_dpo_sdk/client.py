"""The client: plan, submit exactly once, find a job again."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import Backend, JobRef, Plan, PlanInputs, Preflight, draft
from nova_dpo_sdk.backends._differences import differences
from nova_dpo_sdk.backends._plan import job_stem
from nova_dpo_sdk.backends._staging import send_images, stage
from nova_dpo_sdk.catalog import Technique
from nova_dpo_sdk.chain import Chain
from nova_dpo_sdk.chain._lineage import lineage
from nova_dpo_sdk.datasets import ChatDataset, Dataset, PreferenceDataset
from nova_dpo_sdk.errors import AWSError, ClusterError, ConfigurationError, DatasetError, PlanRejectedError
from nova_dpo_sdk.jobs import FIVE_DAYS, Job, watch
from nova_dpo_sdk.recipes import DPORecipe, Nova2SFTRecipe, Recipe, SFTRecipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from nova_dpo_sdk.backends import JobSnapshot, Upload
    from nova_dpo_sdk.recipes import Checkpoint
    from nova_dpo_sdk.sweep import Sweep

_log = logging.getLogger(__name__)

_LONGEST_NAME = 256
"""Most characters of a recipe's name."""

D = TypeVar("D", bound=Dataset)


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
        self.output = S3Uri.parse(output).join()

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
        return self.backend.preflight(plan.on(self.backend))

    def _may_run(self, plan: Plan) -> None:
        if not plan.ok:
            raise PlanRejectedError(f"{plan.name} has errors; nothing was sent:", plan.errors)
        plan.expect_place(self.backend, self.output, "this client")

    def submit(
        self,
        plan: Plan,
        *,
        check: bool = True,
        on_upload: Callable[[str, int], None] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> Job:
        """Send a plan exactly once: data, the record of the plan, then the job.

        Sent again, from here or anywhere, it finds the same job instead of creating a second one.

        Args:
            plan: What `plan()` made.
            check: Whether to ask first what `check()` asks, and to send nothing when it finds an error.
            on_upload: Called with an S3 URI and the bytes sent since the last call.
            on_ready: Called when everything is in place but the job, right before it is made; what it raises is
                raised, and no job is made.

        Returns:
            The job; `job.adopted` when it was there already, and `job.differs` when with other options than the plan's.

        Raises:
            PlanRejectedError: The plan has errors; nothing was sent.
            ConfigurationError: The plan is for another place, or the output bucket is in another Region or account.
            JobFailedError: The same job was submitted before and failed; names `plan.again()`.
            DatasetError: A file changed since it was planned; no job was created.
        """
        self._may_run(plan)
        self.backend.resolve()
        plan = plan.on(self.backend)
        job = Job(self.backend.ref(plan.name), self.backend, self.output, adopted=True)
        if check:
            _refuse_if_wrong(self.backend.preflight(plan), job)
        else:
            self.backend.aws.check_bucket(self.output)
        self._upload(plan, on_upload)
        known = not self._record(plan)
        if on_ready is not None:
            on_ready()
        if known and job.left_a_checkpoint():
            return job  # finished before, and cleaned away from the cluster since: training it again helps nobody
        job.adopted = self.backend.submit(plan)
        if known:
            try:
                self._compare(plan, job)
            except AWSError as error:  # the job is there all the same, and is given
                _log.warning("the record of %s could not be compared with what was sent: %s", job.name, error)
        return job

    def _compare(self, plan: Plan, job: Job) -> None:
        """Where a record was there already: tell what an adopted job was not sent with, or record what was sent now."""
        held = self.backend.aws.read_or_none(plan.folder.join("plan.json"))
        then, now = _objects(held.body if held else b""), _objects(plan.to_json().encode())
        if job.adopted and then:
            job.differs = differences(then[-1], now[-1])
        elif then != now:
            self._record(plan, anew=True)
        if job.differs:
            told = "; ".join(job.differs)
            _log.warning("%s was there already and keeps what it was sent with, not this plan's: %s", job.name, told)

    def prepare(self, plan: Plan) -> None:
        """Send everything of a plan but the job: its data and its record. For jobs that something else will create.

        Args:
            plan: What `plan()` made.

        Raises:
            PlanRejectedError: The plan has errors; nothing was sent.
            ConfigurationError: The plan is for another place, or the output bucket is in another Region or account.
            DatasetError: A file changed since it was planned.
        """
        self._may_run(plan)
        self.backend.resolve()
        plan = plan.on(self.backend)
        self.backend.aws.check_bucket(self.output)
        self._upload(plan, None)
        self._record(plan)

    def upload(self, data: D, *, on_progress: Callable[[int], None] | None = None) -> D:
        """Check a data set and send it at the same time, for files so large that one after the other takes long.

        What is returned lies in S3, its images before it, and is known to be good: a plan of it reads nothing, and its
        submit sends nothing. The job's name is the same as for the file. A try that was interrupted is resumed by the
        next one; the same bytes are never sent twice.

        Args:
            data: What to check and send.
            on_progress: Called with the bytes sent since the last call, those of images included.

        Raises:
            DatasetError: There is an error in the data, or a file changed meanwhile; the data were not left in S3.
            ConfigurationError: The output bucket is in another Region or account.
        """
        return stage(self.backend.aws, data, self.output, on_progress)

    def _upload(self, plan: Plan, on_upload: Callable[[str, int], None] | None) -> None:
        send_images(self.backend.aws, [each for each in plan.uploads if each.role == "image"], on_upload)
        for each in plan.uploads:
            if each.in_place:
                self._expect(each)
            elif each.role != "image":
                self._send(each, partial(on_upload, each.uri) if on_upload else None)

    def _send(self, upload: Upload, notify: Callable[[int], None] | None = None) -> None:
        self.backend.aws.upload(
            upload.path,
            S3Uri.parse(upload.uri),
            sha256=upload.sha256,
            size=upload.size,
            on_progress=notify,
        )

    def _expect(self, upload: Upload) -> None:
        held = self.backend.aws.head(S3Uri.parse(upload.uri))
        if held is None or held.etag != upload.version:
            raise DatasetError(
                f"{upload.uri} is gone, or is no longer what was checked. Open it again with from_s3(), and plan again."
            )

    def _record(self, plan: Plan, *, anew: bool = False) -> bool:
        """Keep the recipe and the plan beside the run, to be read and repeated later; False when they were there."""
        written = False
        for name, text, kind in (
            ("recipe.yaml", plan.recipe.to_yaml(), "application/yaml"),
            ("plan.json", plan.to_json(), "application/json"),
        ):
            place = plan.folder.join(name)
            etag = self.backend.aws.write(place, text.encode(), content_type=kind, only_if_absent=not anew)
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

    def jobs(
        self,
        name: str | None = None,
        technique: Technique | str | None = None,
        since: datetime | timedelta | None = None,
    ) -> list[Job]:
        """Every job here that this package has made, as it is now: one list of jobs and one of their pods.

        Args:
            name: Only jobs of recipes of this name, such as `support-dpo`.
            technique: Only `SFT` or `DPO`.
            since: Only jobs created at this moment or later (aware), or within this time.

        Returns:
            The jobs, the newest first; `job.last` and `repr(job)` tell what each is doing.

        Raises:
            ConfigurationError: `name` can be no recipe's name, `technique` is unknown, or `since` names no time zone.
        """
        if name is not None and not 1 <= len(name) <= _LONGEST_NAME:
            raise ConfigurationError(f"name is {name!r}; a recipe's name has 1 to {_LONGEST_NAME} characters.")
        stem = None if name is None else job_stem(name)
        begun = _moment(since, self.backend.clock.now())
        found = self.backend.find_jobs(stem, _technique(technique), begun)
        return [Job(JobRef.parse(each.ref), self.backend, self.output, last=each) for each in found]

    def watch(
        self, jobs: Iterable[Job], *, timeout: float = FIVE_DAYS, interval: float | None = None
    ) -> Iterator[JobSnapshot]:
        """Follow many jobs, thousands if need be, at the price of one.

        Where the role may watch, changes are seen within a second; otherwise they are looked for, with a number of
        requests that does not grow with the number of jobs.

        Args:
            jobs: Which jobs, all of this client's place; each remembers what was last seen of it.
            timeout: Seconds after which to stop; the jobs run on.
            interval: Seconds between looks where changes are not sent; the backend's own when left out.

        Returns:
            A first snapshot of each job at once, then one for each change, until every job is over.

        Raises:
            ConfigurationError: A job lives elsewhere.
            JobTimeoutError: While iterating: the time is up; names the jobs that are not over.
        """
        return watch(jobs, self.backend, timeout=timeout, interval=interval)

    def sweep(
        self, recipe: Recipe, *, trials: Sequence[Mapping[str, Any]] | None = None, **values: Iterable[Any]
    ) -> Sweep:
        """Many runs of one recipe with different values, as a value: see `Sweep`.

        `nova.sweep(dpo, beta=[0.05, 0.1], lr=[1e-6, 5e-6])` makes every combination, four trials;
        `nova.sweep(dpo, trials=[{"beta": 0.05, "lr": 1e-6}, {"beta": 0.1}])` makes those that are listed.

        Args:
            recipe: What they have in common; with `starting_from`, all start from one checkpoint.
            trials: The values of each trial.
            **values: Lists of values by field of the recipe, or of its tuning.

        Raises:
            RecipeError: A value cannot be; names every one that cannot.
            ConfigurationError: A field is unknown, there is no trial, or two are the same.
        """
        from nova_dpo_sdk.sweep import Sweep, grid

        if (trials is None) == (not values):
            raise ConfigurationError("A sweep takes lists of values, such as beta=[0.05, 0.1], or trials=[{...}].")
        return Sweep(self, recipe, grid(values) if trials is None else trials)

    def lineage(self, start: Checkpoint | str) -> dict[str, Any]:
        """Everything that a checkpoint was made of: recipes, data digests and jobs, back to the base model.

        Args:
            start: A checkpoint, its S3 path, or the reference of the job that made it.

        Returns:
            Plain values for JSON: `steps`, the newest first, `base_model`, and `complete`, which is false when a run
            before has no record under this client's output.

        Raises:
            ConfigurationError: `start` names no job that has a record here.
        """
        return lineage(self.backend.aws, self.output, start)

    def chain(self, name: str) -> Chain:
        """A durable row of stages under this client's output; see `Chain`.

        Raises:
            ConfigurationError: The name is not made of small letters, digits and hyphens.
        """
        return Chain(self, name)


def _objects(record: bytes) -> list[Any]:
    """What a record of a plan says was sent; nothing where it cannot be read."""
    with suppress(ValueError, KeyError, TypeError):
        return list(json.loads(record)["objects"])
    return []


def _technique(given: Technique | str | None) -> Technique | None:
    if given is None or isinstance(given, Technique):
        return given
    try:
        return Technique(given.upper())
    except ValueError:
        raise ConfigurationError(f"technique is {given!r}; it is SFT or DPO.") from None


def _moment(since: datetime | timedelta | None, now: datetime) -> datetime | None:
    if since is None or isinstance(since, datetime):
        if since is not None and since.tzinfo is None:
            raise ConfigurationError(f"since is {since}, in no time zone: give datetime(..., tzinfo=timezone.utc).")
        return since
    return now - since


def _refuse_if_wrong(preflight: Preflight, job: Job) -> None:
    # What would stop a new job, such as a node that is being replaced, must not part us from one that runs already,
    # or has finished.
    if not preflight.ok and not preflight.is_there and not _finished_before(job):
        raise PlanRejectedError(f"{preflight.name} cannot run; no job was sent:", preflight.errors)


def _finished_before(job: Job) -> bool:
    try:
        return job.left_a_checkpoint()
    except (AWSError, ClusterError):
        return False  # the preflight has met the same, and tells it


def _fits(recipe: Recipe, data: Dataset) -> None:
    wanted = PreferenceDataset if isinstance(recipe, DPORecipe) else ChatDataset
    if not isinstance(data, wanted):
        raise ConfigurationError(
            f"A {type(recipe).__name__} is trained on a {wanted.__name__}, not on a {type(data).__name__}. "
            f"Read the file with {wanted.__name__}.from_jsonl(...)."
        )

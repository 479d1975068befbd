"""SageMaker Training Jobs: one request, sent through the SageMaker SDK; everything else asks SageMaker directly."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk._time import ticks
from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.aws import _training_jobs as calls
from nova_dpo_sdk.backends import _training_request as requests
from nova_dpo_sdk.backends import _training_submit as sdk
from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot, JobStatus
from nova_dpo_sdk.backends._images import image_doubts
from nova_dpo_sdk.backends._manifest import absolute, find_manifest
from nova_dpo_sdk.backends._training_options import ROLE_ARN, TrainingJobOptions, arn_findings, option_findings
from nova_dpo_sdk.backends._training_serverless import create_request as serverless_request
from nova_dpo_sdk.backends._training_serverless import serverless_findings
from nova_dpo_sdk.backends._training_status import fold, gone
from nova_dpo_sdk.catalog import SERVERLESS, Catalog, Platform
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    ConfigurationError,
    Finding,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    NotFoundError,
    ServiceError,
    Severity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import boto3

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends._contract import LogWish
    from nova_dpo_sdk.backends._logs import LogLines
    from nova_dpo_sdk.backends._metrics import Metrics
    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.backends._preflight import Preflight
    from nova_dpo_sdk.catalog import Technique
    from nova_dpo_sdk.recipes import Recipe

__all__ = ["TrainingJobBackend", "TrainingJobOptions"]

_TAKEN = "ResourceInUse"


_MAKES_ANOTHER_MODEL = ("model_package", "model_package_group", "sequence_length", "image")
"""Options on which it hangs which model comes out of a run, or where it is kept."""


class TrainingJobBackend:
    """SageMaker Training Jobs in one account and Region. Building one asks nobody; a plan for it asks nobody either.

    Only `submit` and `to_sagemaker` need the SageMaker SDK (extra `sagemaker`), and import it then.

    Args:
        role: ARN of the execution role that SageMaker assumes: it reads the data and writes the output. Looking at
            jobs needs none; a plan without one has an error.
        instance_type: Such as `ml.p5.48xlarge` (when left out), or `ml.g5.48xlarge`, where DPO runs on training jobs
            only. None for serverless jobs: AWS chooses.
        session: A boto3 session, or a `Session` of the SageMaker SDK; boto3's default when left out.
        region: AWS Region; the session's when left out.
        account: Twelve digits; asked of AWS once when left out.
        clock: What tells the time.
        kms_key_id: KMS key for what is written to S3, by this package and, unless the options say otherwise, the job.
        catalog: What Nova offers; the packaged catalog when left out.
        options: Everything else that a job may ask for; see `TrainingJobOptions`.

    Raises:
        ConfigurationError: An argument cannot be right; names every one that cannot.
    """

    platform = Platform.TRAINING_JOBS
    poll_interval = 30.0

    def __init__(
        self,
        role: str | None = None,
        *,
        instance_type: str | None = None,
        session: boto3.Session | Any = None,
        region: str | None = None,
        account: str | None = None,
        clock: Clock | None = None,
        kms_key_id: str | None = None,
        catalog: Catalog | None = None,
        options: TrainingJobOptions | None = None,
    ) -> None:
        self.role = role
        self.options = options or TrainingJobOptions()
        found = option_findings(role, instance_type, self.options)
        if found:
            raise ConfigurationError("This TrainingJobBackend cannot be used:", found)
        given = instance_type or "ml.p5.48xlarge"
        self.instance_type = given if given.startswith("ml.") else f"ml.{given}"
        self.kms_key_id = kms_key_id
        self.catalog = catalog or Catalog.packaged()
        if self.options.serverless:
            self.instance_type = SERVERLESS
            self.catalog = self.catalog.serverless_only()
        boto = cast("boto3.Session | None", getattr(session, "boto_session", session))
        self.aws = AWS(boto, region=region, account=account, clock=clock, kms_key_id=kms_key_id)
        self.clock = self.aws.clock

    def __repr__(self) -> str:
        return f"TrainingJobBackend({self.role!r}, instance_type={self.instance_type!r})"

    @property
    def role_account(self) -> str:
        """The account that the role's ARN names."""
        match = ROLE_ARN.match(self.role or "")
        return match[2] if match else ""

    def identity(self) -> dict[str, str]:
        """What tells this place from another, and what else a model comes from but its recipe and data."""
        options = self.options
        return {
            "platform": str(self.platform),
            "region": self._region() or "(no Region)",
            "instance_type": self.instance_type,
            **{name: value for name in _MAKES_ANOTHER_MODEL if (value := getattr(options, name))},
            **{f"hyperparameter {name}": value for name, value in sorted(options.hyperparameters.items())},
        }

    def _region(self) -> str | None:
        try:
            return self.aws.region
        except ConfigurationError:
            return None

    def unresolved(self) -> dict[str, str]:
        """Nothing: the request holds nothing that only AWS knows."""
        return {}

    def resolve(self) -> None:
        """Ask AWS for the account's number, once: every S3 request names it."""
        self.aws.account()

    def ref(self, name: str) -> JobRef:
        """The reference of the job of that name here."""
        return JobRef(self.platform, self._region() or "no-region", (name,))

    def findings(self, recipe: Recipe) -> list[Finding]:
        """What is wrong about this Region, the image and the start for a recipe."""
        region = self._region()
        if region is None:
            fix = 'Give TrainingJobBackend(region="us-east-1"), or set AWS_REGION.'
            return [Finding("region-missing", Severity.ERROR, "region", "No AWS Region is set.", fix=fix)]
        found: list[Finding] = []
        if self.role is None:
            fix = 'Give TrainingJobBackend(role="arn:aws:iam::<account>:role/<name>"), a role that trusts SageMaker.'
            found.append(Finding("role-missing", Severity.ERROR, "role", "No execution role is named.", fix=fix))
        if self.options.serverless:
            found += serverless_findings(recipe, region, self.catalog, self.options.hyperparameters)
        elif self._image(recipe, region) is None:
            found.append(_no_image(region, self.catalog))
        elif self.options.image:
            found += image_doubts(self.options.image, region, self.platform, recipe.family, self.catalog)
        if self.options.model_package and recipe.checkpoint is not None:
            found.append(_two_starts(self.options.model_package, recipe.checkpoint.uri))
        return [*found, *arn_findings(self.options, self.kms_key_id, region, self.role_account)]

    def _image(self, recipe: Recipe, region: str) -> str | None:
        return self.options.image or self.catalog.training_image(self.platform, recipe.family, region)

    def render(self, recipe: Recipe, digest: str) -> tuple[dict[str, Any], ...]:
        """The PutObject of the recipe and the CreateTrainingJob request; empty when image or role have no name.

        A serverless job reads no recipe file: then it is the request alone.
        """
        region = self._region()
        if self.options.serverless:
            return self._render_serverless(recipe, digest, region) if region and self.role else ()
        image = self._image(recipe, region) if region else None
        if image is None or self.role is None:
            return ()
        shape = requests.TrainingShape(
            role=self.role,
            instance_type=self.instance_type,
            image=image,
            kms_key=self.options.output_kms_key or self.kms_key_id,
            options=self.options,
        )
        upload = requests.recipe_upload(recipe, self.options)
        place = str(S3Uri(upload["Bucket"], upload["Key"]))
        return upload, requests.create_request(recipe, digest, place, shape)

    def _render_serverless(self, recipe: Recipe, digest: str, region: str) -> tuple[dict[str, Any], ...]:
        key = self.options.output_kms_key or self.kms_key_id
        request = serverless_request(
            recipe, digest, role=self.role or "", region=region, kms_key=key, options=self.options
        )
        return (request,)

    @property
    def _client(self) -> Any:
        return self.aws.client("sagemaker")

    def preflight(self, plan: Plan) -> Preflight:
        """Ask AWS, all at once, whether this plan can run here; sends no job.

        About a dozen requests. Asks whether the output can be written by writing a few bytes to `checks/writable`.
        """
        from nova_dpo_sdk.backends._training_preflight import TrainingJobPreflight

        return TrainingJobPreflight(self, plan).run()

    def submit(self, plan: Plan) -> bool:
        """Upload the recipe and create the training job, or adopt the very same job when it is there.

        Returns:
            True when it was there already.

        Raises:
            AWSError: AWS refused; no job was created.
            ConfigurationError: The SageMaker SDK is not installed, or the job's name is another run's.
            JobFailedError: The same job is there and has failed; names `plan.again()`.
            JobStoppedError: The same job is there and was stopped; names `plan.again()`.
        """
        *uploads, request = plan.objects
        existing = calls.describe_or_none(self._client, plan.name)
        if existing is not None:
            return self._adopt(plan, existing)
        for each in uploads:
            place = S3Uri(each["Bucket"], each["Key"])
            self.aws.write(place, each["Body"].encode(), content_type=each["ContentType"])
        try:
            sdk.send(request, self.aws.session(), self.aws.region)
        except ServiceError as error:
            if error.code != _TAKEN:
                raise
            return self._adopt(plan, calls.describe(self._client, plan.name))
        return False

    def is_same_run(self, plan: Plan, existing: dict[str, Any]) -> bool:
        """Whether a job of the plan's name is this very run: by its digest tag, else by what it reads.

        Args:
            plan: The plan.
            existing: What DescribeTrainingJob said.
        """
        try:
            label = calls.tags(self._client, str(existing["TrainingJobArn"])).get(requests.DIGEST_TAG)
        except AccessDeniedError:
            label = None
        return label == plan.digest if label is not None else requests.same_run(plan.objects[-1], existing)

    def _adopt(self, plan: Plan, existing: dict[str, Any]) -> bool:
        ref = str(self.ref(plan.name))
        if not self.is_same_run(plan, existing):
            raise ConfigurationError(
                f"Training job {plan.name} exists and is another run ({existing.get('TrainingJobArn')}). "
                "Give the recipe another name."
            )
        snapshot = fold(ref, existing, self.clock.now())
        again = "To try it again, submit plan.again(), its next attempt under its own name."
        if snapshot.status is JobStatus.FAILED:
            message = f"This very run was submitted before as {plan.name} and failed: {snapshot.summary} {again}"
            raise JobFailedError(message, ref=ref, snapshot=snapshot)
        if snapshot.status in (JobStatus.STOPPING, JobStatus.STOPPED):
            message = (
                f"This very run was submitted before as {plan.name} and is {snapshot.status}; SageMaker keeps the "
                f"name. {again}"
            )
            raise JobStoppedError(message, ref=ref, snapshot=snapshot)
        return True

    def snapshot(self, ref: JobRef) -> JobSnapshot:
        """Look at a job once."""
        self._mine(ref)
        job = calls.describe_or_none(self._client, ref.name)
        now = self.clock.now()
        return gone(str(ref), now) if job is None else fold(str(ref), job, now)

    def snapshots(self, refs: Iterable[JobRef]) -> dict[JobRef, JobSnapshot]:
        """Look at many jobs for the price of a few requests: a hundred in each, and one more for each that failed.

        Args:
            refs: Jobs of this place.
        """
        wanted = {ref.name: ref for ref in refs}
        for ref in wanted.values():
            self._mine(ref)
        found: dict[str, JobSnapshot] = {}
        for summary in calls.summaries(self._client) if wanted else ():
            name = str(summary.get("TrainingJobName"))
            if name in wanted and name not in found:
                found[name] = self._of_summary(wanted[name], summary)
            if len(found) == len(wanted):
                break
        now = self.clock.now()
        return {ref: found.get(name) or gone(str(ref), now) for name, ref in wanted.items()}

    def _of_summary(self, ref: JobRef, summary: dict[str, Any]) -> JobSnapshot:
        """A summary has no reason of a failure, and older services no second status: then the job itself is asked."""
        told = summary.get("SecondaryStatus") or summary.get("TrainingJobStatus") in ("Completed", "Stopping")
        if not told or summary.get("TrainingJobStatus") == "Failed":
            return self.snapshot(ref)
        return fold(str(ref), summary, self.clock.now())

    def find_jobs(
        self, name: str | None = None, technique: Technique | None = None, since: datetime | None = None
    ) -> list[JobSnapshot]:
        """Look at every job of this Region that this package has made: a search by its tags, a hundred jobs a request.

        SageMaker's search lags behind by moments: a job that was created just now may be missing.
        """
        chosen = {requests.NAME_TAG: name, requests.TECHNIQUE_TAG: str(technique).lower() if technique else None}
        tags = {requests.DIGEST_TAG: None, **{key: value for key, value in chosen.items() if value}}
        now = self.clock.now()
        found = calls.search(self._client, tags, created_after=since)
        return [fold(str(self.ref(str(job["TrainingJobName"]))), job, now) for job in found]

    def follow(self, refs: Iterable[JobRef], *, interval: float, timeout: float) -> Iterator[JobSnapshot]:
        """Look at many jobs together, with `snapshots`, until all are terminal or the time is up.

        Args:
            refs: Which jobs.
            interval: Seconds between looks.
            timeout: Seconds after which to stop.

        Yields:
            A first snapshot of each job, then one whenever a job's changes.
        """
        asked = list(dict.fromkeys(refs))
        for ref in asked:
            self._mine(ref)
        return self._changes(asked, interval, timeout)

    def _changes(self, asked: list[JobRef], interval: float, timeout: float) -> Iterator[JobSnapshot]:
        shown: dict[JobRef, JobSnapshot] = {}
        for _ in ticks(self.clock, interval=interval, timeout=timeout):
            alive = [ref for ref in asked if ref not in shown or not shown[ref].status.is_terminal]
            for ref, snapshot in self.snapshots(alive).items():
                if ref not in shown or shown[ref].face != snapshot.face:
                    shown[ref] = snapshot
                    yield snapshot
            if all(ref in shown and shown[ref].status.is_terminal for ref in asked):
                return

    def logs(self, ref: JobRef, wish: LogWish) -> LogLines:
        """A job's log lines, merged over its hosts by time.

        Raises:
            ConfigurationError: The job has no such host.
            JobNotFinishedError: The job has written nothing yet.
            NotFoundError: It has ended, and its lines are not there (any more).
            AccessDeniedError: The log group may not be read; names the IAM actions.
        """
        from nova_dpo_sdk.backends._training_logs import open_logs

        self._mine(ref)
        return open_logs(self, ref, wish)

    def cancel(self, ref: JobRef) -> None:
        """Stop a job; nothing happens when it has ended or is gone. SageMaker keeps its record and its name."""
        self._mine(ref)
        if self._is_over(ref):
            return
        try:
            calls.stop(self._client, ref.name)
        except NotFoundError:
            return
        except ServiceError:
            if not self._is_over(ref):
                raise

    def delete(self, ref: JobRef) -> None:
        """Delete a finished job and its record; nothing happens when it is gone. What it wrote to S3 stays.

        Raises:
            JobNotFinishedError: The job is not over.
        """
        snapshot = self.snapshot(ref)
        if not snapshot.status.is_terminal:
            raise JobNotFinishedError(
                f"{ref.name} is not over ({snapshot.summary}) job.cancel() stops it.", ref=str(ref), snapshot=snapshot
            )
        with suppress(NotFoundError):
            calls.delete(self._client, ref.name)

    def _is_over(self, ref: JobRef) -> bool:
        status = self.snapshot(ref).status
        return status.is_terminal or status is JobStatus.STOPPING

    def checkpoint_uri(self, ref: JobRef, output: S3Uri, not_before: datetime | None) -> str:
        """The S3 path of the checkpoint that the job's manifest states.

        Raises:
            CheckpointError: There is no usable manifest.
        """
        self._mine(ref)
        manifest = find_manifest(self.aws, output, ref.name, ref=str(ref), not_before=not_before)
        return absolute(manifest, [], ref=str(ref))

    def saved_metrics(self, ref: JobRef, output: S3Uri) -> Metrics:
        """The metrics that a finished job left in its archive: training loss of every step, and validation loss.

        Args:
            ref: The job.
            output: The run's `output_s3_path`.

        Raises:
            NotFoundError: There is no archive (yet), or no table of metrics in it.
        """
        from nova_dpo_sdk.backends._training_metrics import read_saved

        self._mine(ref)
        return read_saved(self.aws, output, ref.name)

    def model_package(self, ref: JobRef) -> str:
        """The ARN of the model package in which SageMaker has registered what a job trained.

        Raises:
            NotFoundError: There is no such job, or it has registered none (yet): it ran without
                `model_package_group`, or has not finished.
        """
        self._mine(ref)
        told = calls.describe(self._client, ref.name).get("OutputModelPackageArn")
        if not told:
            raise NotFoundError(
                f"{ref.name} has registered no model package (yet): a job does so when it has finished, if it was "
                "given TrainingJobOptions(model_package_group=...).",
                target=str(ref),
            )
        return str(told)

    def to_sagemaker(self, ref: JobRef) -> Any:
        """The SageMaker SDK's own `TrainingJob` of a job, on this backend's session.

        Raises:
            ConfigurationError: The SageMaker SDK is not installed.
            NotFoundError: There is no such job.
        """
        self._mine(ref)
        calls.describe(self._client, ref.name)
        return sdk.resource(ref.name, self.aws.session(), self.aws.region)

    def _mine(self, ref: JobRef) -> None:
        mine = self.ref(ref.name)
        if ref != mine:
            raise ConfigurationError(
                f"{ref} does not live here: this backend looks after {mine}. Build one for its place."
            )


def _no_image(region: str, catalog: Catalog) -> Finding:
    return Finding(
        code="region-not-offered",
        severity=Severity.ERROR,
        where="region",
        message=f"No training image for Nova is known in {region}.",
        value=region,
        allowed=", ".join(sorted(catalog.training_accounts)),
        fix="Use one of these Regions, or give TrainingJobOptions(image=...), "
        "or a catalog made by catalog.with_region(...).",
        source=catalog.titles(["launcher"]),
    )


def _two_starts(package: str, checkpoint: str) -> Finding:
    return Finding(
        code="two-starts",
        severity=Severity.ERROR,
        where="options.model_package",
        message=f"The run would start from {package} and from {checkpoint} at once.",
        value=package,
        allowed="one of them",
        fix="Leave out model_package, or plan the recipe without a checkpoint.",
    )

"""HyperPod on EKS: two objects sent straight to the Kubernetes API; no subprocess, no Helm, no kubeconfig."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import AWS, S3Uri, is_account
from nova_dpo_sdk.backends import _manifests as manifests
from nova_dpo_sdk.backends._arns import foreign_arn
from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot, JobStatus
from nova_dpo_sdk.backends._facts import job_facts
from nova_dpo_sdk.backends._follow import Follower
from nova_dpo_sdk.backends._images import REFERENCE, REFERENCE_FORM, image_doubts, registry_doubts
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PODS, PYTORCHJOBS, KubernetesAPI
from nova_dpo_sdk.backends._look import find
from nova_dpo_sdk.backends._manifest import absolute, find_manifest
from nova_dpo_sdk.backends._plan import LABEL_DIGEST, Plan
from nova_dpo_sdk.backends._queue import Queue
from nova_dpo_sdk.backends._status import fold, gone, judge
from nova_dpo_sdk.catalog import Catalog, Platform, Technique
from nova_dpo_sdk.errors import (
    AWSError,
    CheckpointError,
    ClusterError,
    ConfigurationError,
    Finding,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    Severity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import boto3

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import HyperPodCluster
    from nova_dpo_sdk.backends._contract import LogWish
    from nova_dpo_sdk.backends._facts import JobFacts
    from nova_dpo_sdk.backends._logs import LogLines
    from nova_dpo_sdk.backends._preflight import Preflight
    from nova_dpo_sdk.recipes import Recipe

_log = logging.getLogger(__name__)

ANSWER_WITHIN = 30.0
"""Seconds without a byte after which an answer of the cluster is given up, and asked for again."""

LARGEST_RECIPE = 1024 * 1024
"""Most that a ConfigMap holds, in bytes."""
LARGEST_ANNOTATIONS = 240 * 1024
"""Most that the annotations of a caller may hold, in bytes: Kubernetes' 256 KiB less room for our own."""
LARGEST_NUMBER = 2**31 - 1
"""Kubernetes takes no larger number of restarts, nor of seconds for a pod."""
UNKNOWN_ACCOUNT = "<account>"
"""Stands for the account's number in a plan until AWS was asked."""
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROFILES = ("declared", "2025-12", "faithful")


@dataclass(frozen=True)
class HyperPodOptions:
    """What a job on HyperPod asks of the cluster besides its recipe.

    Attributes:
        image: Training image; the catalog's for Region and technique when None.
        init_image: Init container's image; the catalog's when None.
        profile: How the init container gets the cluster's CA certificate; see `TemplateProfile`.
        priority_class: Kubernetes PriorityClass of the pods.
        service_account: Service account of the pods.
        queue: Kueue's local queue (task governance), as a label of the job.
        queue_priority: Kueue's WorkloadPriorityClass.
        labels: Further labels of the job.
        annotations: Further annotations of the job.
        backoff_limit: Restarts after which the operator fails the job; None as AWS's own launcher: never.
        active_deadline_seconds: Seconds after which the operator fails the job; None for never.
    """

    image: str | None = None
    init_image: str | None = None
    profile: manifests.TemplateProfile = "declared"
    priority_class: str | None = None
    service_account: str | None = None
    queue: str | None = None
    queue_priority: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    backoff_limit: int | None = None
    active_deadline_seconds: int | None = None


class HyperPodBackend:
    """A HyperPod cluster orchestrated by EKS. Building one asks nobody; a plan for it asks nobody either.

    Args:
        cluster: The HyperPod cluster's name.
        namespace: Kubernetes namespace of the jobs.
        instance_type: Of the restricted instance group, such as `ml.p5.48xlarge`.
        session: A boto3 session; boto3's default when left out.
        region: AWS Region; the session's when left out.
        account: Twelve digits; asked of AWS once, at submit, when left out.
        clock: What tells the time.
        kms_key_id: KMS key for what is written to S3.
        catalog: What Nova offers; the packaged catalog when left out.
        options: Everything else that a job may ask of the cluster; see `HyperPodOptions`.

    Raises:
        ConfigurationError: An argument cannot be right; names every one that cannot.
    """

    platform = Platform.HYPERPOD
    poll_interval = 30.0

    def __init__(
        self,
        cluster: str,
        *,
        namespace: str = "kubeflow",
        instance_type: str = "ml.p5.48xlarge",
        session: boto3.Session | None = None,
        region: str | None = None,
        account: str | None = None,
        clock: Clock | None = None,
        kms_key_id: str | None = None,
        catalog: Catalog | None = None,
        options: HyperPodOptions | None = None,
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.instance_type = instance_type if instance_type.startswith("ml.") else f"ml.{instance_type}"
        self.options = options or HyperPodOptions()
        found = [*_place_findings(cluster, namespace, account), *_option_findings(self.options)]
        if found:
            raise ConfigurationError("This HyperPodBackend cannot be used:", found)
        self.catalog = catalog or Catalog.packaged()
        self.aws = AWS(session, region=region, account=account, clock=clock, kms_key_id=kms_key_id)
        self.clock = self.aws.clock
        self._lock = threading.Lock()
        self._api: KubernetesAPI | None = None
        self._kueue: Queue | None = None

    def __repr__(self) -> str:
        return f"HyperPodBackend({self.cluster!r}, namespace={self.namespace!r}, instance_type={self.instance_type!r})"

    def identity(self) -> dict[str, str]:
        """What tells this place from another, and what else a model comes from but its recipe and data."""
        return {
            "platform": str(self.platform),
            "region": self._region() or "(no Region)",
            "cluster": self.cluster,
            "namespace": self.namespace,
            "instance_type": self.instance_type,
            **({"image": self.options.image} if self.options.image else {}),
        }

    def _region(self) -> str | None:
        try:
            return self.aws.region
        except ConfigurationError:
            return None

    def unresolved(self) -> dict[str, str]:
        """The account's number, as long as nobody said it."""
        return {} if self.aws.known_account else {"account": UNKNOWN_ACCOUNT}

    def resolve(self) -> None:
        """Ask AWS for the account's number, once."""
        self.aws.account()

    def ref(self, name: str) -> JobRef:
        """The reference of the job of that name here."""
        return JobRef(self.platform, self._region() or "no-region", (self.cluster, self.namespace, name))

    def findings(self, recipe: Recipe) -> list[Finding]:
        """What is wrong about this Region and image for a recipe."""
        region = self._region()
        if region is None:
            return [
                Finding(
                    "region-missing",
                    Severity.ERROR,
                    "region",
                    "No AWS Region is set.",
                    fix='Give HyperPodBackend(region="us-east-1"), or set AWS_REGION.',
                )
            ]
        accounts = self.catalog.training_accounts
        found: list[Finding] = []
        for what, image, known in (
            ("training", self._image(recipe, region), accounts),
            ("init", self._init_image(region), self.catalog.init_accounts),
        ):
            if image is None:
                found.append(_no_image(what, region, sorted(known), self.catalog))
        found += foreign_arn("kms_key_id", self.aws.kms_key_id, region)
        if self.options.image:
            found += image_doubts(self.options.image, region, self.platform, recipe.family, self.catalog)
        if self.options.init_image:
            found += registry_doubts("init_image", self.options.init_image, region)
        return [*found, *_choking_findings(self.options, recipe)]

    def _image(self, recipe: Recipe, region: str) -> str | None:
        return self.options.image or self.catalog.training_image(self.platform, recipe.family, region)

    def _init_image(self, region: str) -> str | None:
        return self.options.init_image or self.catalog.init_image(region)

    def render(self, recipe: Recipe, digest: str) -> tuple[dict[str, Any], ...]:
        """The ConfigMap and the PyTorchJob; empty when there is no image or instance type to name."""
        region = self._region()
        instance = self.catalog.instance(self.instance_type)
        image = self._image(recipe, region) if region else None
        init_image = self._init_image(region) if region else None
        if region is None or instance is None or image is None or init_image is None:
            return ()
        shape = manifests.JobShape(
            name=recipe.name,
            namespace=self.namespace,
            replicas=recipe.replicas,
            instance_type=self.instance_type,
            gpus=instance.gpus,
            efa=instance.efa,
            image=image,
            init_image=init_image,
            region=region,
            account=self.aws.known_account or UNKNOWN_ACCOUNT,
            profile=self.options.profile,
            labels=self._labels(recipe, digest),
            annotations={**self.options.annotations, manifests.PLAN_ANNOTATION: _plan_path(recipe)},
            priority_class=self.options.priority_class,
            service_account=self.options.service_account,
            backoff_limit=self.options.backoff_limit,
            active_deadline_seconds=self.options.active_deadline_seconds,
        )
        return manifests.config_map(shape, recipe.to_yaml()), manifests.pytorch_job(shape)

    def _labels(self, recipe: Recipe, digest: str) -> dict[str, str]:
        labels = dict(self.options.labels)
        if self.options.queue:
            labels[manifests.QUEUE_LABEL] = self.options.queue
        if self.options.queue_priority:
            labels[manifests.QUEUE_PRIORITY_LABEL] = self.options.queue_priority
        labels[manifests.DIGEST_LABEL] = digest[:LABEL_DIGEST]
        labels[manifests.NAME_LABEL] = recipe.name.rpartition("-")[0]
        labels[manifests.TECHNIQUE_LABEL] = str(recipe.technique).lower()
        return labels

    def api(self, described: HyperPodCluster | None = None) -> KubernetesAPI:
        """The cluster's Kubernetes API; found through SageMaker and EKS on first use.

        Args:
            described: What SageMaker says about the cluster, if it was asked just now.

        Raises:
            NotFoundError: There is no such cluster.
            ClusterError: It is not orchestrated by EKS, or EKS is not ready.
        """
        with self._lock:
            if self._api is None:
                self._api = self._connect(described or self.aws.describe_hyperpod(self.cluster))
            return self._api

    def _connect(self, cluster: HyperPodCluster) -> KubernetesAPI:
        name = cluster.eks_name
        if name is None:
            raise ClusterError(
                f"HyperPod cluster {self.cluster} is not orchestrated by EKS (it runs Slurm). "
                "Nova jobs need a cluster on EKS with a restricted instance group.",
                verb="connect",
                target=self.cluster,
            )
        eks = self.aws.describe_eks(name, cluster.eks_region)
        if eks.status not in ("ACTIVE", "UPDATING") or not eks.endpoint:
            raise ClusterError(
                f"EKS cluster {name} (of HyperPod cluster {self.cluster}) is {eks.status}; wait until it is ACTIVE.",
                verb="connect",
                target=name,
                may_pass=eks.status not in ("DELETING", "FAILED"),
            )
        token = partial(self.aws.eks_token, name)
        patience = min(ANSWER_WITHIN, self.aws.answer_within)
        return KubernetesAPI(eks.endpoint, eks.ca_pem, token, clock=self.clock, read_timeout=patience)

    def preflight(self, plan: Plan) -> Preflight:
        """Ask AWS and the cluster, all at once, whether this plan can run here; sends no job.

        About a dozen requests. Asks whether the output can be written by writing a few bytes to `checks/writable`.
        """
        from nova_dpo_sdk.backends._hyperpod_preflight import HyperPodPreflight

        return HyperPodPreflight(self, plan).run()

    def submit(self, plan: Plan) -> bool:
        """Create the ConfigMap and then the PyTorchJob, or adopt the very same job when it is there.

        Returns:
            True when it was there already.

        Raises:
            ClusterError: The cluster refused; what was created for this job is removed again.
            JobFailedError: The same job is there and has failed; names `plan.again()`.
            JobStoppedError: The same job is there and is being deleted; names `plan.again()`.
        """
        config_map, job = plan.objects
        api = self.api()
        existing = api.get_or_none(PYTORCHJOBS, self.namespace, plan.name)
        if existing is not None:
            return self._adopt(plan, existing)
        fresh = self._put_config_map(api, config_map)
        try:
            created = api.create(PYTORCHJOBS, self.namespace, job)
        except ClusterError as error:
            if error.reason == "AlreadyExists":
                return self._adopt(plan, api.get(PYTORCHJOBS, self.namespace, plan.name))
            # A refusal may answer the second try of a create whose first one arrived: the job then needs its recipe.
            there = api.get_or_none(PYTORCHJOBS, self.namespace, plan.name)
            if there is not None:
                return self._adopt(plan, there)
            if fresh is not None and 400 <= error.status < 500:
                api.delete(CONFIGMAPS, self.namespace, config_map["metadata"]["name"])
            raise
        self._own_config_map(api, created, fresh)
        return False

    def _put_config_map(self, api: KubernetesAPI, config_map: dict[str, Any]) -> dict[str, Any] | None:
        """Create the ConfigMap; None when the very same one is there already.

        One of this very run that a try without a job left behind is written anew: the same data may have another name.
        """
        name = config_map["metadata"]["name"]
        try:
            return api.create(CONFIGMAPS, self.namespace, config_map)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            held = api.get(CONFIGMAPS, self.namespace, name)
            if held.get("data") == config_map["data"]:
                return None
            labels: dict[str, str] = held["metadata"].get("labels") or {}
            if labels.get(manifests.DIGEST_LABEL) != config_map["metadata"]["labels"][manifests.DIGEST_LABEL]:
                raise ClusterError(
                    f"ConfigMap {self.namespace}/{name} exists with another recipe. It is not ours to overwrite: "
                    "delete it, or give the recipe another name.",
                    verb="create",
                    target=f"configmaps/{self.namespace}/{name}",
                    status=409,
                    reason="AlreadyExists",
                ) from error
            version = {"resourceVersion": held["metadata"]["resourceVersion"]}
            anew = {**config_map, "metadata": {**config_map["metadata"], **version}}
            return api.update(CONFIGMAPS, self.namespace, name, anew)

    def _own_config_map(self, api: KubernetesAPI, job: dict[str, Any], fresh: dict[str, Any] | None = None) -> None:
        """Make the ConfigMap go when the job goes; a failure here harms nobody, cancel removes both anyway."""
        owner = {
            "apiVersion": job["apiVersion"],
            "kind": job["kind"],
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
        }
        name = manifests.config_map_name(owner["name"])
        try:
            try:
                self._set_owner(api, name, owner, fresh)
            except ClusterError as error:
                if error.reason != "Conflict":
                    raise
                self._set_owner(api, name, owner)  # somebody who follows the same job was faster
        except ClusterError as error:
            if error.status != 404:  # one that is gone needs none
                _log.warning("ConfigMap %s keeps no owner reference: %s", name, error)

    def _set_owner(
        self, api: KubernetesAPI, name: str, owner: dict[str, Any], fresh: dict[str, Any] | None = None
    ) -> None:
        held = fresh or api.get(CONFIGMAPS, self.namespace, name)
        if held["metadata"].get("ownerReferences") != [owner]:
            held["metadata"]["ownerReferences"] = [owner]
            api.update(CONFIGMAPS, self.namespace, name, held)

    def _adopt(self, plan: Plan, existing: dict[str, Any]) -> bool:
        label = existing["metadata"].get("labels", {}).get(manifests.DIGEST_LABEL)
        if label != plan.digest[:LABEL_DIGEST]:
            raise ClusterError(
                f"PyTorchJob {self.namespace}/{plan.name} exists and is another run (digest {label or 'none'}). "
                "Give the recipe another name.",
                verb="create",
                target=f"pytorchjobs/{self.namespace}/{plan.name}",
                status=409,
                reason="AlreadyExists",
            )
        snapshot = self._fold(self.ref(plan.name), existing)
        again = "submit plan.again(), its next attempt under its own name"
        if snapshot.status is JobStatus.FAILED:
            seen = snapshot.summary
            message = f"This very run was submitted before as {plan.name} and failed: {seen} To try it again, {again}."
            raise JobFailedError(message, ref=str(self.ref(plan.name)), snapshot=snapshot)
        if snapshot.status is JobStatus.STOPPING:
            message = (
                f"This very run was submitted as {plan.name} before and is being deleted. Wait for that, or {again}."
            )
            raise JobStoppedError(message, ref=str(self.ref(plan.name)), snapshot=snapshot)
        if not snapshot.status.is_terminal:
            self._own_config_map(self.api(), existing)
        return True

    def snapshot(self, ref: JobRef) -> JobSnapshot:
        """Look at a job and its pods once."""
        self._mine(ref)
        job = self.api().get_or_none(PYTORCHJOBS, self.namespace, ref.name)
        return gone(str(ref), self.clock.now()) if job is None else self._fold(ref, job)

    def find_jobs(
        self, name: str | None = None, technique: Technique | None = None, since: datetime | None = None
    ) -> list[JobSnapshot]:
        """Look at every job of this namespace that this package has made: one list of jobs, one of pods.

        Without the right to list pods they are told from the jobs alone.
        """
        chosen = {manifests.NAME_LABEL: name, manifests.TECHNIQUE_LABEL: str(technique).lower() if technique else None}
        terms = [manifests.DIGEST_LABEL, *(f"{key}={value}" for key, value in chosen.items() if value)]
        jobs, pods, queued = find(self.api(), self.namespace, ",".join(terms))
        now = self.clock.now()
        found = [
            judge(
                str(self.ref(job.name)), job, None if pods is None else pods.get(job.name, []), now, queued.get(job.uid)
            )[0]
            for job in jobs
            if since is None or (job.created is not None and job.created >= since.replace(microsecond=0))
        ]
        return sorted(found, key=lambda each: (each.created_at or now, each.ref), reverse=True)

    def follow(self, refs: Iterable[JobRef], *, interval: float, timeout: float) -> Iterator[JobSnapshot]:
        """Look at many jobs together; see `Follower`."""
        asked = list(refs)
        for ref in asked:
            self._mine(ref)
        follower = Follower(
            self.api(),
            self.namespace,
            [ref.name for ref in asked],
            ref_of=lambda name: str(self.ref(name)),
            clock=self.clock,
            interval=interval,
            timeout=timeout,
        )
        return follower.snapshots()

    def _fold(self, ref: JobRef, job: dict[str, Any]) -> JobSnapshot:
        facts = job_facts(job)
        workload = self._queue().of(facts.uid) if facts.is_held else None
        return fold(str(ref), job, self._pods(job), self.clock.now(), workload)

    def _queue(self) -> Queue:
        if self._kueue is None:
            self._kueue = Queue(self.api(), self.namespace)
        return self._kueue

    def _pods(self, job: dict[str, Any]) -> list[dict[str, Any]] | None:
        """A job's pods: listed where that is allowed, else looked up by the names that the operator gives them."""
        name = job["metadata"]["name"]
        api = self.api()
        try:
            return api.list(PODS, self.namespace, label_selector=f"training.kubeflow.org/job-name={name}")
        except ClusterError as error:
            if error.status != 403:
                raise
        specs: dict[str, Any] = job.get("spec", {}).get("pytorchReplicaSpecs", {})
        names = [
            f"{name}-{role.lower()}-{index}"
            for role, spec in specs.items()
            for index in range(int(spec.get("replicas") or 1))
        ]
        try:
            pods = [api.get_or_none(PODS, self.namespace, each) for each in names]
        except ClusterError as error:
            if error.status != 403:
                raise
            return None
        return [pod for pod in pods if pod is not None]

    def observe(self, ref: JobRef) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None]:
        """The job and its pods as the API server has them; None for a job that is gone, or pods that are not shown."""
        self._mine(ref)
        job = self.api().get_or_none(PYTORCHJOBS, self.namespace, ref.name)
        return job, (self._pods(job) if job is not None else [])

    def logs(self, ref: JobRef, wish: LogWish) -> LogLines:
        """A job's log lines: from CloudWatch by the nodes that its pods ran on, and what else there is.

        When its pods are gone, lines that mention the job are searched for. Pods are asked for their own logs where
        the cluster has no restricted instance group, or no log group.

        Raises:
            NotFoundError: There is neither a log group nor a pod log that may be read.
            AccessDeniedError: The log group may not be read; names the IAM actions.
            JobNotFinishedError: The job is too young to have lines.
        """
        from nova_dpo_sdk.backends._hyperpod_logs import open_logs

        self._mine(ref)
        return open_logs(self, ref, wish)

    def cancel(self, ref: JobRef) -> None:
        """Stop a job by deleting it, its pods and its ConfigMap: a PyTorchJob knows no other way to stop for good.

        A job that is over stays as it is, so that its last state can still be looked at; see `delete`.
        """
        facts = self._job_facts(ref)
        if facts is None or not facts.is_finished:
            self._remove(ref)

    def delete(self, ref: JobRef) -> None:
        """Remove a finished job, its pods and its ConfigMap from the cluster; nothing happens when they are gone.

        What it wrote to S3 stays: its checkpoint can still be found by its manifest.

        Raises:
            JobNotFinishedError: The job is not over.
        """
        facts = self._job_facts(ref)
        if facts is not None and not facts.is_finished and facts.deleted is None:
            snapshot = self.snapshot(ref)
            raise JobNotFinishedError(
                f"{ref.name} is not over ({snapshot.summary}) job.cancel() stops and removes it.",
                ref=str(ref),
                snapshot=snapshot,
            )
        self._remove(ref)

    def _job_facts(self, ref: JobRef) -> JobFacts | None:
        self._mine(ref)
        job = self.api().get_or_none(PYTORCHJOBS, self.namespace, ref.name)
        return None if job is None else job_facts(job)

    def _remove(self, ref: JobRef) -> None:
        api = self.api()
        api.delete(PYTORCHJOBS, self.namespace, ref.name)
        api.delete(CONFIGMAPS, self.namespace, manifests.config_map_name(ref.name))

    def checkpoint_uri(self, ref: JobRef, output: S3Uri, not_before: datetime | None) -> str:
        """The S3 path of the checkpoint that the job's manifest states.

        Raises:
            CheckpointError: There is no usable manifest.
        """
        self._mine(ref)
        manifest = find_manifest(self.aws, output, ref.name, ref=str(ref), not_before=not_before)
        if manifest.checkpoint.startswith("s3://"):
            return absolute(manifest, [], ref=str(ref))
        ran_on = self._ran_on(ref, output)
        groups = [each for each in self.aws.describe_hyperpod(self.cluster).groups if each.output_s3_uri]
        places = {each.output_s3_uri or "" for each in groups if ran_on in (None, each.instance_type)}
        if ran_on is None and len(places) > 1:
            raise CheckpointError(
                f"The manifest {manifest.uri} names {manifest.checkpoint!r}, relative to the escrow location of the "
                f"instance group that {ref.name} ran on, and there are {', '.join(sorted(places))}. Which one it is "
                "tells the job, which is gone or not to be seen, or the record of its plan, "
                f"plans/{ref.name}/plan.json below the output it was submitted with: use a client with that output.",
                ref=str(ref),
            )
        return absolute(manifest, sorted(places), ref=str(ref))

    def _ran_on(self, ref: JobRef, output: S3Uri) -> str | None:
        """The instance type of a job, of the record of its plan or of the job itself: its reference does not say."""
        held = self.aws.read_or_none(output.join("plans", ref.name, "plan.json"))
        if held is not None:
            with suppress(ValueError, KeyError, TypeError):
                return str(json.loads(held.body)["target"]["instance_type"])
        try:
            job = self.api().get_or_none(PYTORCHJOBS, self.namespace, ref.name)
        except (AWSError, ClusterError) as error:
            if error.may_pass:
                raise
            return None  # who may not look at jobs, or whose cluster is gone, knows as much as where the job is gone
        with suppress(LookupError, TypeError):
            master = (job or {})["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
            return next(str(each["value"]) for each in master["env"] if each["name"] == "INSTANCE_TYPE")
        return None

    def _mine(self, ref: JobRef) -> None:
        mine = self.ref(ref.name)
        if ref != mine:
            raise ConfigurationError(
                f"{ref} does not live here: this backend looks after {mine}. Build one for its place."
            )


def _plan_path(recipe: Recipe) -> str:
    return f"{recipe.output_s3_path.rstrip('/')}/plans/{recipe.name}/plan.json"


def _no_image(what: str, region: str, known: list[str], catalog: Catalog) -> Finding:
    option = "image" if what == "training" else "init_image"
    return Finding(
        code="region-not-offered",
        severity=Severity.ERROR,
        where="region",
        message=f"No {what} image for Nova is known in {region}.",
        value=region,
        allowed=", ".join(known),
        fix=f"Use a cluster in one of these Regions, or give HyperPodOptions({option}=...), "
        "or a catalog made by catalog.with_region(...).",
        source=catalog.titles(["launcher"]),
    )


def _choking_findings(options: HyperPodOptions, recipe: Recipe) -> list[Finding]:
    """What the API server takes without a word, and a pod or etcd then chokes on."""
    found: list[Finding] = []
    if options.profile == "faithful":
        found.append(
            Finding(
                code="volume-undeclared",
                severity=Severity.WARNING,
                where="options.profile",
                message="The init container mounts k8s-ca-cert, and no volume of that name is declared: "
                "the job is accepted and every pod refused, unless a webhook of the cluster adds the volume.",
                value=options.profile,
                allowed="declared or 2025-12",
                fix='Use profile="declared".',
                source="Kubernetes, validation of volume mounts",
            )
        )
    size = len(recipe.to_yaml().encode())
    if size > LARGEST_RECIPE:
        found.append(
            Finding(
                "recipe-too-long",
                Severity.ERROR,
                "extra",
                f"The recipe has {size:,} bytes as YAML.",
                size,
                f"at most {LARGEST_RECIPE:,} bytes, what a ConfigMap holds",
                "Shorten extra.",
                "Kubernetes, ConfigMap",
            )
        )
    held = sum(len(key.encode()) + len(value.encode()) for key, value in options.annotations.items())
    if held > LARGEST_ANNOTATIONS:
        found.append(
            Finding(
                "annotations-too-long",
                Severity.ERROR,
                "options.annotations",
                f"They hold {held:,} bytes.",
                held,
                f"at most {LARGEST_ANNOTATIONS:,} bytes in all",
                "Shorten them.",
                "Kubernetes, annotations",
            )
        )
    return found


def _place_findings(cluster: str, namespace: str, account: str | None) -> list[Finding]:
    found: list[Finding] = []
    if account is not None and not is_account(account):
        found.append(_bad_option("account", account, "twelve digits, as a string"))
    if not cluster or cluster != cluster.strip() or "/" in cluster:
        found.append(
            Finding(
                "cluster-name",
                Severity.ERROR,
                "cluster",
                f"{cluster!r} is not the name of a HyperPod cluster.",
                cluster,
                "the cluster's name",
                "Take it from the SageMaker console.",
            )
        )
    if not _DNS_LABEL.match(namespace):
        found.append(
            Finding(
                "namespace-name",
                Severity.ERROR,
                "namespace",
                f"{namespace!r} is not the name of a namespace.",
                namespace,
                "small letters, digits and hyphens, at most 63",
                "Usually kubeflow or hyperpod-ns-<team>.",
            )
        )
    return found


def _option_findings(options: HyperPodOptions) -> list[Finding]:
    found: list[Finding] = []
    if options.profile not in _PROFILES:
        found.append(_bad_option("profile", options.profile, ", ".join(_PROFILES)))
    for name, least in (("backoff_limit", 0), ("active_deadline_seconds", 1)):
        value: object = getattr(options, name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER
        ):
            found.append(_bad_option(name, value, f"a whole number from {least} to {LARGEST_NUMBER:,}"))
    for name, pattern, allowed in (
        ("image", REFERENCE, REFERENCE_FORM),
        ("init_image", REFERENCE, REFERENCE_FORM),
        ("priority_class", _DNS_LABEL, "the name of an object: small letters, digits and hyphens"),
        ("service_account", _DNS_LABEL, "the name of an object: small letters, digits and hyphens"),
    ):
        text: object = getattr(options, name)
        if text is not None and (not isinstance(text, str) or not pattern.match(text)):
            found.append(_bad_option(name, text, allowed))
    return [*found, *_map_findings(options)]


def _map_findings(options: HyperPodOptions) -> Iterator[Finding]:
    given: dict[str, Any] = {"labels": options.labels, "annotations": options.annotations}
    for name, value in given.items():
        if not isinstance(value, Mapping):
            yield _bad_option(name, value, "a mapping of texts to texts")
            given[name] = {}
    own = {manifests.QUEUE_LABEL: options.queue, manifests.QUEUE_PRIORITY_LABEL: options.queue_priority}
    labels: dict[object, object] = {**given["labels"], **{k: v for k, v in own.items() if v is not None}}
    for key, value in labels.items():
        where = f"labels[{key!r}]"
        if not _is_key(key) or not isinstance(value, str) or not _LABEL_VALUE.match(value):
            yield _bad_option(where, value, "a legal label: a key, and a value of at most 63 letters")
        elif key == "app" or str(key).startswith(f"{manifests.OUR_PREFIX}/"):
            yield _bad_option(where, value, "any key but app and those of this package")
    for key, value in given["annotations"].items():
        if not _is_key(key) or not isinstance(value, str) or _SURROGATE.search(value):
            yield _bad_option(f"annotations[{key!r}]", value, "a legal key and a text in Unicode")


def _is_key(key: object) -> bool:
    return isinstance(key, str) and _LABEL_KEY.match(key) is not None


def _bad_option(where: str, value: object, allowed: str) -> Finding:
    return Finding(
        "option-not-allowed", Severity.ERROR, where, f"{where} is {value!r}.", value, allowed, f"Correct {where}."
    )

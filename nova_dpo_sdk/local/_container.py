"""The Nova container: what training image and init container do with a recipe, as far as the outside can see."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

from nova_dpo_sdk.catalog import Catalog

from ._records import check_records, media_of

if TYPE_CHECKING:
    from datetime import datetime

    from ._buckets import Buckets

Json = dict[str, Any]

_BASES = {
    "amazon.nova-micro-v1:0:128k": "nova-micro/prod",
    "amazon.nova-lite-v1:0:300k": "nova-lite/prod",
    "amazon.nova-pro-v1:0:300k": "nova-pro/prod",
    "amazon.nova-2-lite-v1:0:256k": "nova-lite-2/prod",
}
_NOVA_2 = "amazon.nova-2-lite-v1:0:256k"
_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([a-z0-9._/-]+):([A-Za-z0-9._-]+)")
_REPOSITORIES = {"containers": "nova-fine-tune-repo", "initContainers": "init-container-repo"}
_MARKER = "checkpoint.json"


class ContainerError(Exception):
    """The container exits with status 1; the text is its last message."""


@dataclass(frozen=True)
class Training:
    """One training run, as the container understood it.

    Attributes:
        job: The run's name.
        model_type: Such as `amazon.nova-lite-v1:0:300k`.
        technique: `DPO` or `SFT`.
        tuning: `lora` or `full`.
        output: Bucket and key prefix of `output_s3_path`.
    """

    job: str
    model_type: str
    technique: str
    tuning: str
    output: tuple[str, str]


class NovaContainer:
    """Reads the recipe, the data and the starting point; at the end writes checkpoint and manifest.

    Args:
        buckets: The cloud's buckets.
        region: The cluster's Region.
        account: The cluster's account.
        escrow: The bucket for checkpoints.
    """

    def __init__(self, buckets: Buckets, *, region: str, account: str, escrow: str) -> None:
        self._buckets = buckets
        self._region = region
        self._account = account
        self._escrow = escrow

    def image_problem(self, spec: Json) -> tuple[str, str] | None:
        """Which group of containers names an image that cannot be pulled, and what the kubelet says."""
        for group in ("initContainers", "containers"):
            for container in spec.get(group, []):
                image = str(container.get("image", ""))
                match = _IMAGE.fullmatch(image)
                if match is None or match[2] != _REPOSITORIES[group] or match[1] != self._region:
                    return group, f'Back-off pulling image "{image}"'
        return None

    def prepare(self, pods: list[Json], config: str | None) -> Training:
        """Read and check everything, as the container does when it begins.

        Args:
            pods: The pods of the job, all running.
            config: The text of `/config/config.yaml`; None when nothing is mounted there.

        Returns:
            What will be trained.

        Raises:
            ContainerError: Something is wrong with recipe, pods, data or starting point.
        """
        recipe = _read_recipe(config)
        run = _section(recipe, "run")
        _check_run(run, pods)
        for pod in pods:
            self._check_pod(pod)
        training = Training(
            job=str(run["name"]),
            model_type=str(run.get("model_type")),
            technique="DPO" if _model(recipe).get("dpo_cfg") is not None else "SFT",
            tuning=_tuning(recipe),
            output=self._output(run),
        )
        _check_image(pods[0], training)
        _check_numbers(recipe, training.technique)
        self._check_start(str(run.get("model_name_or_path")), training)
        self._check_data(str(run.get("data_s3_path")), training)
        return training

    def check_channels(self, request: Json) -> None:
        """Find every input of a training job, as SageMaker does before the container begins.

        Raises:
            ContainerError: A channel's object does not exist, or is in another account or Region.
        """
        for name, uri in _channels(request).items():
            bucket, key = split_uri(uri, name)
            self._check_access(bucket, name)
            if self._buckets.read(bucket, key) is None:
                raise ContainerError(f"NoSuchKey: {uri} of channel {name}")

    def prepare_training_job(self, request: Json) -> Training:
        """Read and check everything of a training job, as its container does when it begins.

        Args:
            request: The CreateTrainingJob request.

        Raises:
            ContainerError: Something is wrong with recipe, image, hyperparameters, data or starting point.
        """
        channels = _channels(request)
        bucket, key = split_uri(channels.get("recipe"), "channel recipe")
        text = self._buckets.read(bucket, key)
        recipe = _read_recipe(None if text is None else text.decode())
        run = _section(recipe, "run")
        _check_request(run, request)
        training = Training(
            job=str(request["TrainingJobName"]),
            model_type=str(run.get("model_type")),
            technique="DPO" if _model(recipe).get("dpo_cfg") is not None else "SFT",
            tuning=_tuning(recipe),
            output=split_uri(request["OutputDataConfig"]["S3OutputPath"], "S3OutputPath"),
        )
        _check_tag(str(request["AlgorithmSpecification"].get("TrainingImage")), training, "TJ")
        _check_numbers(recipe, training.technique)
        if "SourceModelPackageArn" not in (request.get("ModelPackageConfig") or {}):
            self._check_start(str(run.get("model_name_or_path")), training)
        self.check_training_data(request, training)
        return training

    def check_training_data(self, request: Json, training: Training) -> None:
        """Read the data of a training job, as its container does when it begins.

        Raises:
            ContainerError: A record is wrong, or the data cannot be read.
        """
        channels = _channels(request)
        for name in channels.keys() - {"recipe"}:
            self._check_data(channels[name], training)

    def save(self, training: Training, now: datetime, *, shape: str = "") -> None:
        """Write the checkpoint into escrow, and the manifest beside the run's output.

        Args:
            training: What was trained.
            now: The present moment.
            shape: What is wrong with the manifest: `missing`, `relative`, `broken` or `other-key`.

        Raises:
            ContainerError: The bucket for output is gone.
        """
        where = f"{training.job}/outputs/checkpoints"
        marker = {
            "job": training.job,
            "model_type": training.model_type,
            "technique": training.technique,
            "tuning": training.tuning,
        }
        self._buckets.write(self._escrow, f"{where}/{_MARKER}", json.dumps(marker).encode(), now)
        bucket, prefix = training.output
        if self._buckets.find(bucket) is None:
            raise ContainerError(f"output_s3_path: bucket {bucket} does not exist")
        named = "checkpoint_s3_path" if shape == "other-key" else "checkpoint_s3_bucket"
        manifest = json.dumps({named: where if shape == "relative" else f"s3://{self._escrow}/{where}"})
        key = "/".join(part for part in (prefix, training.job, "manifest.json") if part)
        if shape != "missing":
            self._buckets.write(bucket, key, manifest[: 20 if shape == "broken" else None].encode(), now)

    def _check_pod(self, pod: Json) -> None:
        container: Json = pod["spec"]["containers"][0]
        environment = {each["name"]: each.get("value") for each in container.get("env", [])}
        for name, value in (("AWS_REGION", self._region), ("X_AMZ_SOURCE_ACCOUNT", self._account)):
            if environment.get(name) != value:
                raise ContainerError(f"environment: {name} is {environment.get(name)!r}, not {value!r}")
        instance_type = str(environment.get("INSTANCE_TYPE"))
        offered = Catalog.packaged().instances.get(instance_type)
        if offered is None:
            raise ContainerError(f"environment: INSTANCE_TYPE {instance_type!r} is not known")
        limits: Json = container.get("resources", {}).get("limits", {})
        given = (int(limits.get("nvidia.com/gpu", 0)), int(limits.get("vpc.amazonaws.com/efa", 0)))
        if given != (offered.gpus, offered.efa):
            wanted = f"{instance_type} has {offered.gpus} GPUs and {offered.efa} EFA devices"
            raise ContainerError(f"{wanted}, the pod got {given[0]} and {given[1]}")

    def _output(self, run: Json) -> tuple[str, str]:
        bucket, prefix = split_uri(run.get("output_s3_path"), "output_s3_path")
        self._check_access(bucket, "output_s3_path")
        return bucket, prefix

    def _check_access(self, name: str, field: str) -> None:
        bucket = self._buckets.find(name)
        if bucket is None:
            raise ContainerError(f"{field}: NoSuchBucket: {name}")
        if bucket.account != self._account or bucket.region != self._region:
            raise ContainerError(f"{field}: AccessDenied: {name} is in another account or Region")

    def _check_start(self, path: str, training: Training) -> None:
        base = _BASES.get(training.model_type)
        if not path.startswith("s3://"):
            if path not in _BASES.values():
                raise ContainerError("Model configuration not found")
            if path != base:
                raise ContainerError(
                    "Base model for the job extracted from model_name_or_path does not match model_type"
                )
            return
        bucket, key = split_uri(path, "model_name_or_path")
        issued = self._buckets.read(bucket, f"{key}/{_MARKER}") if bucket == self._escrow else None
        if issued is None:
            raise ContainerError("Model configuration not found")
        made: Json = json.loads(issued)
        if made["model_type"] != training.model_type:
            raise ContainerError("Base model for the job extracted from model_name_or_path does not match model_type")
        if made["tuning"] != training.tuning:
            raise ContainerError("Incompatible model training techniques detected")

    def _check_data(self, path: str, training: Training) -> None:
        bucket, key = split_uri(path, "data_s3_path")
        self._check_access(bucket, "data_s3_path")
        body = self._buckets.read(bucket, key)
        if body is None:
            raise ContainerError(f"data_s3_path: NoSuchKey: {path}")
        problem = check_records(body, technique=training.technique, nova2=training.model_type == _NOVA_2)
        if problem:
            raise ContainerError(f"{path}: {problem}")
        for uri, owner in media_of(body):
            self._check_media(uri, owner)

    def _check_media(self, uri: str, owner: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self._check_access(bucket, uri)
        if owner not in ("", self._account):
            raise ContainerError(f"{uri}: AccessDenied: {bucket} is not of account {owner}, its bucketOwner")
        if not self._buckets.holds(bucket, key):
            raise ContainerError(f"{uri}: NoSuchKey")


class _Loader(yaml.SafeLoader):
    """Reads `1e-5` as the float that it is, which YAML 1.1 does not."""


_Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] - the stubs name no types here
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def _read_recipe(config: str | None) -> Json:
    if config is None:
        raise ContainerError("/config/config.yaml: no such file")
    try:
        recipe: Any = yaml.load(config, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ContainerError(f"/config/config.yaml is not YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ContainerError("/config/config.yaml is not a mapping")
    return cast("Json", recipe)


def _section(parent: Json, name: str) -> Json:
    section: Any = parent.get(name)
    if not isinstance(section, dict):
        raise ContainerError(f"/config/config.yaml has no section {name}")
    return cast("Json", section)


def _model(recipe: Json) -> Json:
    model: Any = _section(recipe, "training_config").get("model")
    return cast("Json", model) if isinstance(model, dict) else {}


def _tuning(recipe: Json) -> str:
    config = _section(recipe, "training_config")
    peft: Json = _model(recipe).get("peft") or config.get("peft") or {}
    return "lora" if peft.get("peft_scheme") == "lora" else "full"


def _check_run(run: Json, pods: list[Json]) -> None:
    job = pods[0]["metadata"]["labels"]["training.kubeflow.org/job-name"]
    if run.get("name") != job:
        raise ContainerError(f"run.name is {run.get('name')!r}, but the job is {job!r}")
    if run.get("replicas") != len(pods):
        raise ContainerError(f"run.replicas is {run.get('replicas')!r}, but {len(pods)} pods run")
    if run.get("model_type") not in _BASES:
        raise ContainerError(f"run.model_type {run.get('model_type')!r} is not known")


def _channels(request: Json) -> dict[str, str]:
    """Where every channel of a training job points."""
    channels: list[Json] = request.get("InputDataConfig") or []
    return {str(each["ChannelName"]): str(each["DataSource"]["S3DataSource"]["S3Uri"]) for each in channels}


def _check_request(run: Json, request: Json) -> None:
    given: Json = request.get("HyperParameters") or {}
    if given.get("sagemaker_recipe_local_path") != "/opt/ml/input/data/recipe/recipe.yaml":
        raise ContainerError("hyperparameters: sagemaker_recipe_local_path names no recipe")
    if run.get("model_type") not in _BASES:
        raise ContainerError(f"run.model_type {run.get('model_type')!r} is not known")
    path = str(run.get("model_name_or_path"))
    key = "base_model_location" if path.startswith("s3://") else "base_model"
    if not path.startswith("arn:") and given.get(key) != path:
        raise ContainerError(f"hyperparameters: {key} is {given.get(key)!r}, but the recipe says {path!r}")
    count = request["ResourceConfig"]["InstanceCount"]
    if run.get("replicas") != count:
        raise ContainerError(f"run.replicas is {run.get('replicas')!r}, but {count} instances run")


def _check_image(pod: Json, training: Training) -> None:
    _check_tag(str(pod["spec"]["containers"][0]["image"]), training, "HP")


def _check_tag(image: str, training: Training, platform: str) -> None:
    tag = image.rpartition(":")[2]
    version = "V2-" if training.model_type == _NOVA_2 else ""
    wanted = f"SM-{platform}-{training.technique}-{version}latest"
    if tag != wanted:
        raise ContainerError(f"image {tag} cannot run this {training.technique} recipe; {wanted} can")


def _check_numbers(recipe: Json, technique: str) -> None:
    config, model = _section(recipe, "training_config"), _model(recipe)
    optimizer: Json = model.get("optim") or config.get("optim_config") or {}
    numbers = {"lr": optimizer.get("lr"), "max_length": config.get("max_length")}
    if technique == "DPO":
        preference: Json = model.get("dpo_cfg") or {}
        numbers["dpo_cfg.beta"] = preference.get("beta")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ContainerError(f"{name} must be a number, not {value!r}")


def split_uri(uri: object, field: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI.

    Raises:
        ContainerError: It is none.
    """
    match = re.fullmatch(r"s3://([^/]+)/?(.*)", str(uri))
    if match is None:
        raise ContainerError(f"{field} is not an S3 URI: {uri!r}")
    return match[1], match[2].strip("/")

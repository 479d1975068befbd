"""The CreateTrainingJob request of a recipe, and the upload of the recipe that it points at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends._training_options import OUR_TAGS, TrainingJobOptions

if TYPE_CHECKING:
    from nova_dpo_sdk.recipes import Recipe

Json = dict[str, Any]

RECIPE_IN_CONTAINER = "/opt/ml/input/data/recipe/recipe.yaml"
"""Where the container finds the recipe: the channel `recipe` (SageMaker Python SDK 3.27)."""
RECIPE_CHANNEL = "recipe"
DIGEST_TAG = f"{OUR_TAGS}digest"
NAME_TAG = f"{OUR_TAGS}name"
TECHNIQUE_TAG = f"{OUR_TAGS}technique"


@dataclass(frozen=True)
class TrainingShape:
    """Everything that the request says besides its recipe.

    Attributes:
        role: ARN of the execution role.
        instance_type: Such as `ml.p5.48xlarge`.
        image: The training image.
        kms_key: KMS key for the job's output; None for the bucket's default.
        options: Everything else.
    """

    role: str
    instance_type: str
    image: str
    kms_key: str | None
    options: TrainingJobOptions


def recipe_text(recipe: Recipe, options: TrainingJobOptions) -> str:
    """The recipe as the container reads it: with the model package that the run starts from, if any."""
    if options.model_package is None and options.model_package_group is None:
        return recipe.to_yaml()
    from nova_dpo_sdk.recipes._yaml import dump

    tree = recipe.to_dict()
    if options.model_package is not None:
        tree["run"]["model_name_or_path"] = options.model_package
    tree["run"]["model_package_group"] = options.model_package_group
    return dump(tree)


def recipe_upload(recipe: Recipe, options: TrainingJobOptions) -> Json:
    """The PutObject of the recipe, under a key made from its own bytes: the same recipe is never sent twice."""
    text = recipe_text(recipe, options)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    place = S3Uri.parse(recipe.output_s3_path).join("recipes", sha256, "recipe.yaml")
    return {"Bucket": place.bucket, "Key": place.key, "ContentType": "application/yaml", "Body": text}


def create_request(recipe: Recipe, digest: str, recipe_uri: str, shape: TrainingShape) -> Json:
    """The CreateTrainingJob request.

    Args:
        recipe: The recipe as it will be written: with the job's name and every S3 path in it.
        digest: The plan's digest, for the tag by which the job is known again.
        recipe_uri: Where the recipe is uploaded to.
        shape: Everything else.
    """
    options = shape.options
    request: Json = {
        "TrainingJobName": recipe.name,
        "HyperParameters": {**_start(recipe, options), "sagemaker_recipe_local_path": RECIPE_IN_CONTAINER,
                            **options.hyperparameters},
        "AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": shape.image},
        "RoleArn": shape.role,
        "InputDataConfig": _channels(recipe, recipe_uri),
        "OutputDataConfig": present({"S3OutputPath": recipe.output_s3_path, "KmsKeyId": shape.kms_key,
                                      "CompressionType": "GZIP"}),
        "ResourceConfig": present({
            "InstanceType": shape.instance_type,
            "InstanceCount": recipe.replicas,
            "VolumeSizeInGB": options.volume_gb,
            "VolumeKmsKeyId": options.volume_kms_key,
            "KeepAlivePeriodInSeconds": options.warm_pool_seconds or None,
            "TrainingPlanArn": options.training_plan,
        }),
        "StoppingCondition": {"MaxRuntimeInSeconds": options.max_runtime_seconds},
        "Tags": tags(recipe, digest, options),
    }  # fmt: skip
    return {**request, **asked_for(options)}


def _start(recipe: Recipe, options: TrainingJobOptions) -> dict[str, str]:
    if options.model_package is not None:
        return {}
    path = recipe.model_name_or_path
    return {"base_model_location" if path.startswith("s3://") else "base_model": path}


def _channels(recipe: Recipe, recipe_uri: str) -> list[Json]:
    return [*data_channels(recipe), {**_channel(RECIPE_CHANNEL, recipe_uri, "S3Prefix"), "InputMode": "File"}]


def data_channels(recipe: Recipe) -> list[Json]:
    """The channels `train` and, if there is such data, `validation`: Nova reads chats as `Converse`."""
    data = [("train", recipe.data_s3_path)]
    if recipe.validation_data_s3_path:
        data.append(("validation", recipe.validation_data_s3_path))
    return [_channel(name, uri, "Converse") for name, uri in data]


def _channel(name: str, uri: str, kind: str) -> Json:
    source = {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def tags(recipe: Recipe, digest: str, options: TrainingJobOptions) -> list[dict[str, str]]:
    """The user's tags, and those by which a run is known again."""
    ours = {
        DIGEST_TAG: digest,
        NAME_TAG: recipe.name.rpartition("-")[0],
        TECHNIQUE_TAG: str(recipe.technique).lower(),
    }
    return [{"Key": key, "Value": value} for key, value in {**options.tags, **ours}.items()]


def asked_for(options: TrainingJobOptions) -> Json:
    """The parts that stand in a request only when somebody asked for them."""
    parts: Json = {}
    if options.subnets:
        parts["VpcConfig"] = {"SecurityGroupIds": [*options.security_groups], "Subnets": [*options.subnets]}
    if options.network_isolation:
        parts["EnableNetworkIsolation"] = True
    if options.encrypt_traffic:
        parts["EnableInterContainerTrafficEncryption"] = True
    if options.environment:
        parts["Environment"] = dict(options.environment)
    if options.model_package_group:
        parts["ModelPackageConfig"] = present(
            {"ModelPackageGroupArn": options.model_package_group, "SourceModelPackageArn": options.model_package}
        )
    return parts


def present(part: Json) -> Json:
    """A part of a request without what was not asked for."""
    return {key: value for key, value in part.items() if value is not None}


def same_run(request: Json, described: Json) -> bool:
    """Whether a job was created by this request, told from what it reads: the recipe's key is its own SHA-256."""
    told = ("HyperParameters", "ServerlessJobConfig", "ModelPackageConfig")
    return _reads(request) == _reads(described) and all(request.get(key) == described.get(key) for key in told)


def _reads(job: Json) -> dict[str, str]:
    channels: list[Json] = job.get("InputDataConfig") or []
    return {
        str(each.get("ChannelName")): str(each.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri"))
        for each in channels
    }

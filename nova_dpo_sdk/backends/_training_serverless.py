"""Serverless customization: a recipe as hyperparameters under their own names, on instances that AWS chooses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._training_request import asked_for, data_channels, present, tags
from nova_dpo_sdk.catalog import Catalog, TuningKind
from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nova_dpo_sdk.backends._training_options import TrainingJobOptions
    from nova_dpo_sdk.recipes import Recipe

Json = dict[str, Any]

_MLFLOW = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:\d{12}:mlflow-[a-zA-Z-]*/\S+\Z")


def create_request(
    recipe: Recipe, digest: str, *, role: str, region: str, kms_key: str | None, options: TrainingJobOptions
) -> Json:
    """The CreateTrainingJob request of a serverless job: no instances, no image, no recipe file.

    Args:
        recipe: The recipe with the job's name and every S3 path in it.
        digest: The plan's digest, for the tag by which the job is known again.
        role: ARN of the execution role.
        region: AWS Region.
        kms_key: KMS key for the job's output; None for the bucket's default.
        options: Everything else.
    """
    catalog = Catalog.packaged()
    config = {
        "BaseModelArn": catalog.serverless.base_model_arn(recipe.model, region),
        "AcceptEula": options.accept_eula or None,
        "JobType": "FineTuning",
        "CustomizationTechnique": str(recipe.technique),
        "Peft": "LORA" if recipe.tuning.kind is TuningKind.LORA else None,
        "SequenceLength": options.sequence_length,
    }
    request: Json = {
        "TrainingJobName": recipe.name,
        "HyperParameters": {**_said(recipe, catalog), **options.hyperparameters},
        "RoleArn": role,
        "InputDataConfig": data_channels(recipe),
        # uncompressed, so that the manifest is an object of its own
        "OutputDataConfig": present(
            {"S3OutputPath": recipe.output_s3_path, "KmsKeyId": kms_key, "CompressionType": "NONE"}
        ),
        "StoppingCondition": {"MaxRuntimeInSeconds": options.max_runtime_seconds},
        "ServerlessJobConfig": present(config),
        "Tags": tags(recipe, digest, options),
    }
    return {**request, **_mlflow(recipe), **asked_for(options)}


def _said(recipe: Recipe, catalog: Catalog) -> dict[str, str]:
    return {"name": recipe.name, **hyperparameters(recipe, catalog)}


def hyperparameters(recipe: Recipe, catalog: Catalog) -> dict[str, str]:
    """Every parameter of a recipe that a serverless job takes, by its name there."""
    names = catalog.serverless.names
    values = {name: _value(recipe, name) for name in _offered(recipe, catalog)}
    return {names.get(name, name): str(value) for name, value in values.items() if value is not None}


def _offered(recipe: Recipe, catalog: Catalog) -> list[str]:
    offers = catalog.serverless_only().find(recipe.technique, recipe.model, recipe.tuning.kind)
    return list(offers[0].limits) if offers else []


def _value(recipe: Recipe, name: str) -> Any:
    return getattr(recipe if hasattr(recipe, name) else recipe.tuning, name, None)


def _mlflow(recipe: Recipe) -> Json:
    if not recipe.mlflow_tracking_uri:
        return {}
    config = {
        "MlflowResourceArn": recipe.mlflow_tracking_uri,
        "MlflowExperimentName": recipe.mlflow_experiment_name,
        "MlflowRunName": recipe.mlflow_run_name,
    }
    return {"MlflowConfig": present(config)}


def serverless_findings(recipe: Recipe, region: str, catalog: Catalog, further: Mapping[str, str]) -> list[Finding]:
    """What a serverless job cannot be given of a recipe, or not here.

    Args:
        recipe: What to train.
        region: AWS Region.
        catalog: What Nova offers.
        further: The hyperparameters of the options.
    """
    context = " for serverless customization"
    found = [*catalog.judge("region", region, catalog.serverless.regions, where="region", context=context)]
    if recipe.checkpoint is not None:
        found.append(_checkpoint(recipe.checkpoint.uri, catalog))
    found += _without_a_name(recipe, catalog)
    found += _no_mlflow(recipe)
    found += _said_twice(recipe, further)
    if "replicas" in recipe.model_fields_set:
        message = f"replicas is {recipe.replicas}, which is not sent: AWS chooses the instances of a serverless job."
        found.append(Finding("replicas-not-sent", Severity.NOTE, "replicas", message, recipe.replicas))
    return found


def _checkpoint(uri: str, catalog: Catalog) -> Finding:
    return Finding(
        "checkpoint-needs-model-package",
        Severity.ERROR,
        "checkpoint",
        f"A serverless job cannot start from {uri}: it takes a model package.",
        uri,
        "the base model, or a model package",
        "Give TrainingJobOptions(model_package=job.model_package()) of the run that made it, and plan the recipe "
        "without a checkpoint; or start from it on instances of your own.",
        catalog.titles(["sagemaker-sdk"]),
    )


def _without_a_name(recipe: Recipe, catalog: Catalog) -> Iterator[Finding]:
    """Parameters that the route has no name for may only have their published values: they cannot be sent."""
    packaged = Catalog.packaged()
    published = packaged.find(recipe.technique, recipe.model, recipe.tuning.kind)
    taken = {*_offered(recipe, catalog), "replicas"}
    for name in published[0].limits if published else ():
        default = packaged.default(recipe.technique, recipe.model, recipe.tuning.kind, name)
        if name not in taken and _value(recipe, name) not in (None, default):
            yield _not_taken(name, _value(recipe, name), str(default), catalog)
    for path, value in recipe.extra.items():
        yield _not_taken(path, value, "nothing", catalog)


def _not_taken(name: str, value: Any, allowed: str, catalog: Catalog) -> Finding:
    return Finding(
        "parameter-not-serverless",
        Severity.ERROR,
        name,
        f"{name} is {value!r}, and a serverless job has no such parameter.",
        value,
        allowed,
        f"Leave {name} out, or train on instances of your own.",
        catalog.titles(catalog.serverless.source),
    )


def _said_twice(recipe: Recipe, further: Mapping[str, str]) -> Iterator[Finding]:
    """Hyperparameters that would take the place of what the recipe says, unseen by its limits."""
    for name in sorted(_said(recipe, Catalog.packaged()).keys() & further.keys()):
        yield Finding(
            "option-not-allowed",
            Severity.ERROR,
            f"hyperparameters[{name!r}]",
            f"hyperparameters[{name!r}] is {further[name]!r}, in the place of what the recipe says.",
            further[name],
            "what the recipe says",
            "Leave it out of TrainingJobOptions(hyperparameters=...), and say it in the recipe.",
        )


def _no_mlflow(recipe: Recipe) -> Iterator[Finding]:
    uri = recipe.mlflow_tracking_uri
    named = recipe.mlflow_experiment_name or recipe.mlflow_run_name
    if (uri and not _MLFLOW.match(uri)) or (named and not uri):
        yield Finding(
            "mlflow-not-an-arn",
            Severity.ERROR,
            "mlflow_tracking_uri",
            f"mlflow_tracking_uri is {uri!r}; a serverless job takes the ARN of an MLflow server or app only.",
            uri,
            "arn:aws:sagemaker:<region>:<account>:mlflow-...",
            "Give the ARN, or leave the MLflow fields out.",
            "Amazon SageMaker API reference, MlflowConfig",
        )

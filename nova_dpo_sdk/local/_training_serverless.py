"""What serverless customization makes of a request: model, technique, hyperparameters, the package it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.catalog import Catalog, NovaModel, Technique, TuningKind

from ._aws_protocol import AWSRefusal
from ._container import ContainerError, Training, split_uri

if TYPE_CHECKING:
    from nova_dpo_sdk.catalog import Limit

Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What a model package holds."""

    model: NovaModel
    tuning: TuningKind


def is_serverless(request: Json) -> bool:
    """Whether a CreateTrainingJob request leaves the instances to AWS."""
    return bool(request.get("ServerlessJobConfig"))


def refuse(request: Json, region: str) -> None:
    """Refuse what CreateTrainingJob refuses of a serverless job.

    Raises:
        AWSRefusal: As SageMaker words it.
    """
    if request.get("ResourceConfig") or request.get("AlgorithmSpecification"):
        raise _refused("ResourceConfig and AlgorithmSpecification cannot be given with ServerlessJobConfig")
    if region not in Catalog.packaged().serverless.regions.bounds.allowed:
        raise _refused(f"Serverless model customization is not supported in {region}")
    if not request.get("ModelPackageConfig"):
        raise _refused("ModelPackageConfig is required for serverless model customization")
    if _model(request) is None:
        raise _refused(f"Unknown base model {request['ServerlessJobConfig'].get('BaseModelArn')}")


def prepare(request: Json, packages: dict[str, Made]) -> Training:
    """Read a request as the service does when the job begins.

    Args:
        request: The CreateTrainingJob request.
        packages: Every model package that there is.

    Raises:
        ContainerError: A hyperparameter is unknown or not allowed, or the run cannot start from that package.
    """
    model, (technique, tuning) = _model(request), _way(request)
    if model is None:
        raise ContainerError("the base model is not known")
    given: dict[str, str] = dict(request.get("HyperParameters") or {})
    given.pop("name", None)
    for name, limit in _limits(technique, model, tuning).items():
        _judge(name, given.pop(name, None), limit)
    if given:
        raise ContainerError(f"unknown hyperparameters: {', '.join(sorted(given))}")
    source = request["ModelPackageConfig"].get("SourceModelPackageArn")
    if source is not None and packages.get(source) != Made(model, tuning):
        raise ContainerError(f"{source} is no model package of {model} with {tuning}")
    return Training(
        job=str(request["TrainingJobName"]),
        model_type=Catalog.packaged().models[model].model_type,
        technique=str(technique),
        tuning="lora" if tuning is TuningKind.LORA else "full",
        output=split_uri(request["OutputDataConfig"]["S3OutputPath"], "S3OutputPath"),
    )


def register(request: Json, packages: dict[str, Made]) -> str:
    """Register what a job has trained as the next version of its group; gives the package's ARN."""
    group = str(request["ModelPackageConfig"]["ModelPackageGroupArn"])
    stem = group.replace(":model-package-group/", ":model-package/")
    version = 1 + sum(arn.rpartition("/")[0] == stem for arn in packages)
    model = _model(request)
    if model is not None:
        packages[f"{stem}/{version}"] = Made(model, _way(request)[1])
    return f"{stem}/{version}"


def _model(request: Json) -> NovaModel | None:
    name = str(request["ServerlessJobConfig"].get("BaseModelArn")).partition("/Model/")[2].partition("/")[0]
    models = {hub: model for model, hub in Catalog.packaged().serverless.hub_names.items()}
    return models.get(name)


def _way(request: Json) -> tuple[Technique, TuningKind]:
    config: Json = request["ServerlessJobConfig"]
    tuning = TuningKind.LORA if config.get("Peft") == "LORA" else TuningKind.FULL_RANK
    return Technique(config["CustomizationTechnique"]), tuning


def _limits(technique: Technique, model: NovaModel, tuning: TuningKind) -> dict[str, Limit]:
    catalog = Catalog.packaged()
    offers = catalog.serverless_only().find(technique, model, tuning)
    if not offers:
        raise ContainerError(f"No recipe of {model} for {technique} with {tuning}")
    names = catalog.serverless.names
    return {names.get(name, name): limit for name, limit in offers[0].limits.items()}


def _judge(name: str, text: str | None, limit: Limit) -> None:
    if text is None:
        return
    try:
        value = {"True": True, "False": False}[text] if isinstance(limit.default, bool) else float(text)
    except (KeyError, ValueError):
        raise ContainerError(f"{name} is {text!r}, which is no {type(limit.default).__name__}") from None
    if not limit.bounds.admits(value):
        raise ContainerError(f"{name} is {text}; allowed: {limit.bounds}")


def _refused(message: str) -> AWSRefusal:
    return AWSRefusal(400, "ValidationException", message)

"""CreateTrainingJob through the SageMaker SDK: its typed shapes judge the request, its client sends it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, TypeGuard

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import boto3

Json = dict[str, Any]

INSTALL = 'pip install "nova-dpo-sdk[sagemaker]"'
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MAPS = frozenset({"HyperParameters", "Environment"})
_NAMED_APART = {"Tags": "Tag", "InputDataConfig": "Channel"}


def is_installed() -> bool:
    """Whether the SageMaker SDK v3 can be imported; imports nothing."""
    spec = importlib.util.find_spec("sagemaker")
    places = list(spec.submodule_search_locations or ()) if spec else []
    # importlib.util.find_spec("sagemaker.core") would import its parent
    return PathFinder.find_spec("sagemaker.core", places) is not None


def require_sdk() -> None:
    """Make sure that a training job can be submitted; imports nothing.

    Raises:
        ConfigurationError: The SageMaker SDK is not installed; says how to install it.
    """
    if not is_installed():
        raise ConfigurationError(
            f"Submitting a training job needs sagemaker.core of the SageMaker SDK v3. Install it: {INSTALL}. "
            "Looking at jobs works without it."
        )


def send(request: Json, session: boto3.Session, region: str) -> None:
    """Create the training job, once the SDK's own types have found nothing wrong with the request.

    `TrainingJob.create` is not used: it may fill a request that was printed already from the user's SageMaker
    configuration files, and it fails after the job was created if the job cannot be described.

    Args:
        request: What is sent, byte for byte in meaning.
        session: A boto3 session.
        region: AWS Region.

    Raises:
        ConfigurationError: The SDK is not installed, or it would not send this request as it is.
        AWSError: SageMaker refused.
    """
    core = _sdk()
    checked: Json = core.serialize({key: _typed(core.shapes, key, value) for key, value in request.items()})
    if checked != request:
        differs = sorted(key for key in {*checked, *request} if checked.get(key) != request.get(key))
        raise ConfigurationError(
            f"The installed SageMaker SDK would change {', '.join(differs)} of the request, so nothing was sent. "
            f"Install a version that was tried: {INSTALL}."
        )
    name = str(request["TrainingJobName"])
    with aws_errors("CreateTrainingJob", f"training job {name}"):
        core.client(session, region).create_training_job(**checked)


def resource(name: str, session: boto3.Session, region: str) -> Any:
    """The SageMaker SDK's own `TrainingJob` of a job.

    Raises:
        ConfigurationError: The SDK is not installed.
        NotFoundError: There is no such job.
    """
    _sdk()
    found = importlib.import_module("sagemaker.core.resources")
    with aws_errors("DescribeTrainingJob", f"training job {name}"):
        return found.TrainingJob.get(training_job_name=name, session=session, region=region)


class _SDK:
    """The few parts of `sagemaker.core` that are used."""

    def __init__(self) -> None:
        self.shapes: Any = importlib.import_module("sagemaker.core.shapes")
        self._utils: Any = importlib.import_module("sagemaker.core.utils.utils")

    def serialize(self, value: Any) -> Any:
        return self._utils.serialize(value)

    def client(self, session: boto3.Session, region: str) -> Any:
        return self._utils.SageMakerClient(session=session, region_name=region).get_client("sagemaker")


def _sdk() -> _SDK:
    try:
        return _SDK()
    except ImportError as error:
        raise ConfigurationError(
            f"Submitting a training job needs the SageMaker SDK v3, which cannot be imported ({error}). "
            f"Install it: {INSTALL}. Looking at jobs works without it."
        ) from error


def _typed(shapes: Any, key: str, value: Any) -> Any:
    """A part of the request as the SDK's type; its validation names what is wrong."""
    if key in _MAPS or not (_is_object(value) or _is_list(value)):
        return value
    shape = getattr(shapes, _NAMED_APART.get(key, key), None)
    if shape is None:
        raise ConfigurationError(f"The installed SageMaker SDK does not know {key}. Upgrade it: {INSTALL}.")
    parts: list[Any] = value if _is_list(value) else [value]
    try:
        made = [shape(**_snake(part)) for part in parts]
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"The SageMaker SDK refuses {key} of the request: {error}") from error
    return made if _is_list(value) else made[0]


def _snake(value: Any) -> Any:
    if _is_object(value):
        return {_WORD.sub("_", key).lower(): _snake(each) for key, each in value.items()}
    return [_snake(each) for each in value] if _is_list(value) else value


def _is_object(value: Any) -> TypeGuard[Json]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)

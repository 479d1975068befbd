"""What a training job asks of SageMaker besides its recipe, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._arns import foreign_arn
from nova_dpo_sdk.backends._images import REFERENCE, REFERENCE_FORM
from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400
LONGEST_RUN = 28 * DAY
"""Most seconds that SageMaker lets a training job run."""
LARGEST_VOLUME = 16_384
"""Most GB of one storage volume."""
LONGEST_WARM = 21_600
"""Most seconds for which instances may be kept warm."""
MOST_TAGS = 50
MOST_PAIRS = 100
"""Most environment variables, and most hyperparameters."""
OUR_TAGS = "nova-dpo-sdk/"
RESERVED = ("base_model", "base_model_location", "sagemaker_recipe_local_path")
"""Hyperparameters that the recipe decides."""

ROLE_ARN = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/([\w+=,.@/-]+)\Z", re.ASCII)
_KMS = re.compile(r"[a-zA-Z0-9:/_-]{1,2048}\Z")
_SUBNET = re.compile(r"subnet-[0-9a-zA-Z]{1,25}\Z")
_GROUP = re.compile(r"sg-[0-9a-zA-Z]{1,29}\Z")
_PACKAGE = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]{9,16}:\d{12}:model-package/\S{1,2048}\Z")
_PACKAGE_GROUP = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]{9,16}:\d{12}:model-package-group/\S{1,2048}\Z")
_LONGEST_SHOWN = 80
_LENGTH = re.compile(r"[1-9][0-9]{0,3}K\Z")
_PLAN = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:training-plan/\S+\Z")


class _Pairs(NamedTuple):
    """What may stand in a map of texts: the model of CreateTrainingJob in botocore 1.44 (HyperParameters and so on)."""

    most: int
    key: re.Pattern[str]
    value: re.Pattern[str]
    allowed: str


_TAG = r"(?:[\w.:/=+@-]|[^\S\t-\r\x1c-\x1f\x85])"  # \p{L}\p{Z}\p{N}: white space, but none that is a control character
_ON_ONE_LINE = r"[^\n\r\x85\u2028\u2029]"  # what a dot means to a service written in Java
_PAIRS = {
    "tags": _Pairs(
        MOST_TAGS - len(("digest", "name", "technique")),
        re.compile(rf"{_TAG}{{1,128}}\Z"),
        re.compile(rf"{_TAG}{{0,256}}\Z"),
        "a key of 1 to 128 and a value of at most 256 letters, digits, spaces and _.:/=+-@",
    ),
    "environment": _Pairs(
        MOST_PAIRS,
        re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}\Z"),
        re.compile(r"[\s\S]{0,512}\Z"),
        "a name of at most 512 letters, digits and _ that begins with no digit, and a text of at most 512 characters",
    ),
    "hyperparameters": _Pairs(
        MOST_PAIRS - len(("base_model", "sagemaker_recipe_local_path")),
        re.compile(rf"{_ON_ONE_LINE}{{1,256}}\Z"),  # SageMaker takes an empty name as well, and nothing can read it
        re.compile(rf"{_ON_ONE_LINE}{{0,2500}}\Z"),
        "a name of 1 to 256 and a text of at most 2500 characters, without line breaks",
    ),
}


@dataclass(frozen=True)
class TrainingJobOptions:
    """What a training job asks of SageMaker besides its recipe. Limits are those of CreateTrainingJob.

    Attributes:
        image: Training image; the catalog's for Region and technique when None.
        volume_gb: Storage of each instance in GB, 1 to 16384.
        max_runtime_seconds: Seconds after which SageMaker stops the job, at most 28 days. One day when left out:
            SageMaker's own default would be one hour.
        output_kms_key: KMS key for what the job writes to S3; the backend's `kms_key_id` when None.
        volume_kms_key: KMS key for the instances' storage.
        subnets: Subnets of a VPC that the instances join; give `security_groups` too.
        security_groups: Security groups of the instances, at most 5.
        network_isolation: Whether the container may make no network calls.
        encrypt_traffic: Whether traffic between instances is encrypted.
        tags: Further tags of the job.
        environment: Environment variables of the container. No secrets: plans and their records show them, and
            everybody who may describe the job reads them.
        hyperparameters: Further hyperparameters, as texts.
        warm_pool_seconds: Seconds for which the instances are kept for a next job, 0 to 21600.
        training_plan: ARN of a training plan that the instances are taken from.
        model_package: ARN of a model package to train on from, instead of the base model.
        model_package_group: ARN of the group in which SageMaker registers the trained model.
        serverless: Serverless customization: AWS chooses instances, storage and image. Needs `model_package_group`.
            Parameters are sent as hyperparameters; a run starts from the base model or from `model_package`.
        accept_eula: For serverless: whether you accept the model's end-user license agreement, if it has one.
        sequence_length: For serverless: for which sequences AWS chooses the configuration, such as `8K`; AWS decides
            when None.
    """

    image: str | None = None
    volume_gb: int = 30
    max_runtime_seconds: int = DAY
    output_kms_key: str | None = None
    volume_kms_key: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    network_isolation: bool = False
    encrypt_traffic: bool = False
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    hyperparameters: Mapping[str, str] = field(default_factory=dict[str, str])
    warm_pool_seconds: int | None = None
    training_plan: str | None = None
    model_package: str | None = None
    model_package_group: str | None = None
    serverless: bool = False
    accept_eula: bool = False
    sequence_length: str | None = None


def option_findings(role: object, instance_type: object, options: TrainingJobOptions) -> list[Finding]:
    """Everything that SageMaker would refuse about a role, an instance type and options."""
    found: list[Finding] = []
    if role is not None and (not isinstance(role, str) or not ROLE_ARN.match(role)):
        allowed = "arn:aws:iam::<account>:role/<name>"
        found.append(_bad("role", role, allowed, "Give the ARN of an execution role that SageMaker may assume."))
    if instance_type is not None and (not isinstance(instance_type, str) or options.serverless):
        allowed = "None: AWS chooses" if options.serverless else "a name such as ml.p5.48xlarge"
        found.append(_bad("instance_type", instance_type, allowed, "Leave instance_type out, or name one."))
    found += _numbers(options)
    found += _texts(options)
    found += _network(options)
    found += _maps(options)
    found += _serverless(options)
    return found


def arn_findings(options: TrainingJobOptions, kms_key_id: str | None, region: str, account: str) -> Iterator[Finding]:
    """Resources that are named by an ARN and lie elsewhere.

    Args:
        options: The options.
        kms_key_id: The backend's own key.
        region: Where the job runs.
        account: The account of the role; empty when unknown.
    """
    yield from foreign_arn("kms_key_id", kms_key_id, region)
    for name in ("output_kms_key", "volume_kms_key"):
        yield from foreign_arn(f"options.{name}", getattr(options, name), region)
    for name in ("training_plan", "model_package", "model_package_group"):
        yield from foreign_arn(f"options.{name}", getattr(options, name), region, account)


_OF_INSTANCES = (
    "image",
    "volume_gb",
    "volume_kms_key",
    "network_isolation",
    "environment",
    "warm_pool_seconds",
    "training_plan",
)
"""What AWS decides itself, or does not take, where it chooses the instances (SageMaker Python SDK 3.27)."""


def _serverless(options: TrainingJobOptions) -> Iterator[Finding]:
    plain = TrainingJobOptions()
    if not options.serverless:
        for name in ("accept_eula", "sequence_length"):
            if getattr(options, name) != getattr(plain, name):
                yield _bad(name, getattr(options, name), "nothing, unless serverless is True")
        return
    for name in _OF_INSTANCES:
        value = getattr(options, name)
        if value != getattr(plain, name):
            shown = "given" if name == "environment" else value
            yield _bad(name, shown, "nothing: for a serverless job AWS decides it", f"Leave {name} out.")
    if options.model_package_group is None:
        yield _bad(
            "model_package_group", None, "the ARN of a model package group: a serverless job registers its model"
        )


def _numbers(options: TrainingJobOptions) -> Iterator[Finding]:
    for name, low, high, unit in (
        ("volume_gb", 1, LARGEST_VOLUME, "GB"),
        ("max_runtime_seconds", 1, LONGEST_RUN, "seconds (28 days)"),
        ("warm_pool_seconds", 0, LONGEST_WARM, "seconds"),
    ):
        value: object = getattr(options, name)
        if value is None and name == "warm_pool_seconds":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield _bad(name, value, f"a whole number from {low} to {high} {unit}")


def _texts(options: TrainingJobOptions) -> Iterator[Finding]:
    for name, pattern, allowed in (
        ("image", REFERENCE, REFERENCE_FORM),
        ("output_kms_key", _KMS, "a KMS key's id, ARN or alias"),
        ("volume_kms_key", _KMS, "a KMS key's id, ARN or alias"),
        ("training_plan", _PLAN, "the ARN of a training plan"),
        ("model_package", _PACKAGE, "the ARN of a model package"),
        ("model_package_group", _PACKAGE_GROUP, "the ARN of a model package group"),
        ("sequence_length", _LENGTH, "a number of 1,024 tokens such as 8K"),
    ):
        value: object = getattr(options, name)
        if value is not None and (not isinstance(value, str) or not pattern.match(value)):
            yield _bad(name, value, allowed)
    if options.model_package and not options.model_package_group and not options.serverless:
        yield _bad("model_package_group", None, "the ARN of a model package group, when model_package is given")


def _network(options: TrainingJobOptions) -> Iterator[Finding]:
    for name, pattern, most in (("subnets", _SUBNET, 16), ("security_groups", _GROUP, 5)):
        values: Any = getattr(options, name)
        listed: list[Any] = [*values] if type(values) in (tuple, list) else [None]
        if len(listed) > most or not all(isinstance(each, str) and pattern.match(each) for each in listed):
            yield _bad(name, values, f"at most {most} ids such as {'subnet' if name == 'subnets' else 'sg'}-0abc")
    if bool(options.subnets) != bool(options.security_groups):
        missing = "security_groups" if options.subnets else "subnets"
        yield _bad(missing, (), "at least one id, because SageMaker takes subnets and security groups together only")


def _maps(options: TrainingJobOptions) -> Iterator[Finding]:
    for name, pairs in _PAIRS.items():
        held: object = getattr(options, name)
        if isinstance(held, Mapping):
            yield from _pairs(name, cast("Mapping[object, object]", held), pairs)
        else:
            yield _bad(name, _hidden(held) if name == "environment" else held, "texts by name, such as {}")


def _pairs(name: str, held: Mapping[object, object], pairs: _Pairs) -> Iterator[Finding]:
    if len(held) > pairs.most:
        yield _bad(name, len(held), f"at most {pairs.most}, this package's own not counted")
    for key, value in held.items():
        where = f"{name}[{_shown(key)}]"
        told = _hidden(value) if name == "environment" else value
        if not (isinstance(key, str) and pairs.key.match(key) and isinstance(value, str) and pairs.value.match(value)):
            yield _bad(where, told, pairs.allowed)
        elif name == "tags" and key.startswith((OUR_TAGS, "aws:")):
            yield _bad(where, value, f"any key but those that begin with {OUR_TAGS} or aws:")
        elif name == "hyperparameters" and key in RESERVED:
            yield _bad(where, value, "what the recipe says")


def _hidden(value: object) -> str:
    """What may be said of a value whose text should not get into a log with an error."""
    return f"<{plural(len(value), 'character')}>" if isinstance(value, str) else f"<{type(value).__name__}>"


def _shown(value: object) -> str:
    """A value as it is written; of a long text its beginning and its length."""
    if isinstance(value, str) and len(value) > _LONGEST_SHOWN:
        return f"{value[:_LONGEST_SHOWN]!r}... ({len(value):,} characters)"
    return repr(value)


def _bad(where: str, value: object, allowed: str, fix: str = "") -> Finding:
    return Finding(
        "option-not-allowed",
        Severity.ERROR,
        where,
        f"{where} is {_shown(value)}.",
        value,
        allowed,
        fix or f"Correct {where}.",
        "Amazon SageMaker API reference, CreateTrainingJob",
    )

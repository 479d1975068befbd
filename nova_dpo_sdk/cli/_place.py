"""Where a command's job runs: on a HyperPod cluster, as a training job, or in a rehearsal cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends.hyperpod import HyperPodBackend, HyperPodOptions
from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend, TrainingJobOptions
from nova_dpo_sdk.catalog import Platform
from nova_dpo_sdk.client import NovaClient
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import AWS
    from nova_dpo_sdk.backends import JobRef
    from nova_dpo_sdk.local import LocalConnection


_ONLY = {
    Platform.HYPERPOD: ("cluster", "namespace", "queue", "queue_priority", "backoff_limit"),
    Platform.TRAINING_JOBS: (
        "role", "volume_gb", "subnet", "security_group", "tag", "training_plan", "model_package",
        "model_package_group", "serverless", "accept_eula", "sequence_length",
    ),
}  # fmt: skip
"""Options that one platform alone has."""


def client(arguments: argparse.Namespace) -> NovaClient:
    """The client that plan and submit name by their options."""
    platform = _platform(arguments)
    needed = "role" if platform is Platform.TRAINING_JOBS else "cluster"
    missing = [f"--{name}" for name in (needed, "output") if getattr(arguments, name) is None]
    if missing and arguments.local is None:
        arguments.usage(f"{' and '.join(missing)} must be given (or --local FILE, for a rehearsal cloud)")
    given = _given(arguments, ("instance_type", "region", "account"), kms_key_id=arguments.kms_key)
    if platform is Platform.TRAINING_JOBS:
        given.update(_given(arguments, ("role",)), options=_training_options(arguments))
    else:
        given.update(_given(arguments, ("cluster", "namespace")), options=_hyperpod_options(arguments))
    output: str = arguments.output or connection(str(arguments.local), arguments.clock).output
    return NovaClient(_built(arguments, platform, given), output=output)


def _platform(arguments: argparse.Namespace) -> Platform:
    """The platform; wrong usage when an option of another one is given."""
    platform = Platform(arguments.platform)
    for other in set(_ONLY) - {platform}:
        strange = [name for name in _ONLY[other] if getattr(arguments, name, None) is not None]
        if strange:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
            arguments.usage(f"{words}: only with --platform {other}")
    return platform


def _given(arguments: argparse.Namespace, names: Iterable[str], **more: Any) -> dict[str, Any]:
    """What was said of these options, by their names; what was not is left out."""
    given = {name: getattr(arguments, name, None) for name in names} | more
    return {name: value for name, value in given.items() if value is not None}


def _hyperpod_options(arguments: argparse.Namespace) -> HyperPodOptions:
    return HyperPodOptions(
        image=arguments.image,
        queue=arguments.queue,
        queue_priority=arguments.queue_priority,
        backoff_limit=arguments.backoff_limit,
        active_deadline_seconds=arguments.deadline,
    )


def _training_options(arguments: argparse.Namespace) -> TrainingJobOptions:
    alike = ("image", "volume_gb", "training_plan", "model_package", "model_package_group", "serverless")
    given = _given(arguments, (*alike, "accept_eula", "sequence_length"), max_runtime_seconds=arguments.deadline)
    return TrainingJobOptions(
        subnets=tuple(arguments.subnet or ()),
        security_groups=tuple(arguments.security_group or ()),
        tags=dict(arguments.tag or ()),
        **given,
    )


def _built(
    arguments: argparse.Namespace, platform: Platform, given: dict[str, Any]
) -> HyperPodBackend | TrainingJobBackend:
    """A backend of the platform, in the account of these credentials or in a rehearsal cloud."""
    if arguments.local is not None:
        cloud = connection(arguments.local, arguments.clock)
        return cloud.training_jobs(**given) if platform is Platform.TRAINING_JOBS else cloud.hyperpod(**given)
    made = TrainingJobBackend if platform is Platform.TRAINING_JOBS else HyperPodBackend
    return made(clock=arguments.clock, **given)


def aws(arguments: argparse.Namespace) -> AWS:
    """The AWS account that data commands name by their options."""
    from nova_dpo_sdk.aws import AWS

    if arguments.local is not None:
        return connection(arguments.local, arguments.clock).hyperpod().aws
    return AWS(region=arguments.region, account=arguments.account, clock=arguments.clock)


def place(arguments: argparse.Namespace) -> HyperPodBackend | TrainingJobBackend:
    """The backend that `jobs` and `doctor` name by their options."""
    platform = _platform(arguments)
    if platform is Platform.TRAINING_JOBS:
        return _built(arguments, platform, _given(arguments, ("role", "instance_type", "region")))
    if arguments.cluster is None and arguments.local is None:
        arguments.usage("--cluster must be given (or --local FILE, for a rehearsal cloud)")
    return _built(arguments, platform, _given(arguments, ("cluster", "namespace", "region")))


def backend(arguments: argparse.Namespace, ref: JobRef) -> HyperPodBackend | TrainingJobBackend:
    """The backend that a job's reference names."""
    if ref.platform is Platform.TRAINING_JOBS:
        return _built(arguments, ref.platform, {"region": ref.region})
    cluster, namespace, _ = ref.path
    given = {"cluster": cluster, "namespace": namespace, "region": ref.region}
    return _built(arguments, ref.platform, given | _given(arguments, ("instance_type",)))


def connection(file: str, clock: Clock | None) -> LocalConnection:
    """The rehearsal cloud whose connection was written to a file."""
    from nova_dpo_sdk.local import LocalCloud

    try:
        return LocalCloud.attach(json.loads(Path(file).read_text(encoding="utf-8")), clock)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{file} is not the connection of a rehearsal cloud: {error}. "
            "`nova-dpo cloud FILE` writes one, and so does `nova-dpo demo --keep`."
        ) from error

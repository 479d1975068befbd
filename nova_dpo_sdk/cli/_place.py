"""Where a command's job runs: on a HyperPod cluster, or in a rehearsal cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends.hyperpod import HyperPodBackend, HyperPodOptions
from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend
from nova_dpo_sdk.catalog import Platform
from nova_dpo_sdk.client import NovaClient
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import AWS
    from nova_dpo_sdk.backends import JobRef
    from nova_dpo_sdk.local import LocalConnection


def client(arguments: argparse.Namespace) -> NovaClient:
    """The client that plan and submit name by their options."""
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("cluster", "namespace", "instance_type", "region", "account")
        if getattr(arguments, name) is not None
    }
    given["options"] = HyperPodOptions(
        queue=arguments.queue,
        queue_priority=arguments.queue_priority,
        backoff_limit=arguments.backoff_limit,
        active_deadline_seconds=arguments.deadline,
    )
    if arguments.local is None:
        missing = [f"--{name}" for name in ("cluster", "output") if getattr(arguments, name) is None]
        if missing:
            arguments.usage(f"{' and '.join(missing)} must be given (or --local FILE, for a rehearsal cloud)")
        return NovaClient(HyperPodBackend(clock=arguments.clock, **given), output=arguments.output)
    cloud = connection(arguments.local, arguments.clock)
    return NovaClient(cloud.hyperpod(**given), output=arguments.output or cloud.output)


def aws(arguments: argparse.Namespace) -> AWS:
    """The AWS account that data commands name by their options."""
    from nova_dpo_sdk.aws import AWS

    if arguments.local is not None:
        return connection(arguments.local, arguments.clock).hyperpod().aws
    return AWS(region=arguments.region, account=arguments.account, clock=arguments.clock)


def place(arguments: argparse.Namespace) -> HyperPodBackend:
    """The backend that `jobs` names by its options."""
    named = ("cluster", "namespace", "region")
    given = {name: getattr(arguments, name) for name in named if getattr(arguments, name) is not None}
    if arguments.local is not None:
        return connection(arguments.local, arguments.clock).hyperpod(**given)
    if "cluster" not in given:
        arguments.usage("--cluster must be given (or --local FILE, for a rehearsal cloud)")
    return HyperPodBackend(clock=arguments.clock, **given)


def backend(arguments: argparse.Namespace, ref: JobRef) -> HyperPodBackend | TrainingJobBackend:
    """The backend that a job's reference names."""
    if ref.platform is Platform.TRAINING_JOBS:
        if arguments.local is None:
            return TrainingJobBackend(clock=arguments.clock, region=ref.region)
        return connection(arguments.local, arguments.clock).training_jobs(region=ref.region)
    cluster, namespace, _ = ref.path
    options: dict[str, Any] = {"cluster": cluster, "namespace": namespace, "region": ref.region}
    options["instance_type"] = getattr(arguments, "instance_type", "ml.p5.48xlarge")
    if arguments.local is None:
        return HyperPodBackend(clock=arguments.clock, **options)
    return connection(arguments.local, arguments.clock).hyperpod(**options)


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

"""`nova-dpo permissions`: the least IAM policy and Kubernetes roles for a place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend
from nova_dpo_sdk.cli._out import GOOD, say, say_json
from nova_dpo_sdk.permissions import iam_policy, kubernetes_access

if TYPE_CHECKING:
    import argparse


def permissions(arguments: argparse.Namespace) -> int:
    """Print the policies; asks nobody."""
    optional = not arguments.required_only
    backend = _place(arguments)
    policy = iam_policy(backend, arguments.output, optional=optional)
    objects: tuple[dict[str, Any], ...] = ()
    if isinstance(backend, HyperPodBackend):
        objects = kubernetes_access(backend, group=arguments.group, optional=optional)
    if arguments.json:
        say_json({"iam": policy, "kubernetes": list(objects)})
    elif arguments.only == "iam":
        say(json.dumps(policy, indent=2))
    elif arguments.only == "kubernetes":
        say(_yaml(objects))
    else:
        say("IAM policy, to attach to the identity that runs nova-dpo:", "", json.dumps(policy, indent=2))
        if objects:
            say(
                "",
                f"Kubernetes roles of the group {arguments.group}, to apply with kubectl:",
                "",
                _yaml(objects),
                "",
                "The identity joins the group by an access entry of the EKS cluster:",
                "",
                "  aws eks create-access-entry --cluster-name EKS --principal-arn ARN \\",
                f"    --kubernetes-groups {arguments.group}",
            )
    return GOOD


def _place(arguments: argparse.Namespace) -> HyperPodBackend | TrainingJobBackend:
    shared: dict[str, Any] = {"region": arguments.region, "account": arguments.account, "clock": arguments.clock}
    if arguments.platform == "training-jobs":
        if arguments.role is None:
            arguments.usage("--role must be given for training jobs: the role that they run with")
        return TrainingJobBackend(role=arguments.role, **shared)
    if arguments.cluster is None:
        arguments.usage("--cluster must be given")
    return HyperPodBackend(str(arguments.cluster), namespace=arguments.namespace, **shared)


def _yaml(objects: tuple[dict[str, Any], ...]) -> str:
    import yaml

    text = yaml.safe_dump_all(objects, sort_keys=False)  # pyright: ignore[reportUnknownMemberType] - partly untyped in PyYAML's stubs
    return str(text).rstrip()

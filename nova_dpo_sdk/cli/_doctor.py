"""`nova-dpo doctor`: whether this machine, this account and a cluster are ready, and what is missing."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nova_dpo_sdk._version import __version__
from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.backends import Check
from nova_dpo_sdk.backends._preflight import check_lines
from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend
from nova_dpo_sdk.catalog import Catalog
from nova_dpo_sdk.cli._out import BAD, GOOD, finding_dict, finding_lines, say, say_json, width, wrapped
from nova_dpo_sdk.cli._place import place
from nova_dpo_sdk.errors import AWSError, ConfigurationError, Finding, Severity

if TYPE_CHECKING:
    import argparse

_EXTRAS = {
    "local": ("moto", "the rehearsal cloud and `nova-dpo demo`"),
    "sagemaker": ("sagemaker", "sending SageMaker Training Jobs"),
    "plots": ("matplotlib", "pictures of profiles and metrics"),
}
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def doctor(arguments: argparse.Namespace) -> int:
    """Look at machine, account and cluster."""
    parts = {"machine": _machine(), **_elsewhere(arguments)}
    checks = [check for part in parts.values() for check in part]
    bad = any(check.state == "error" for check in checks)
    if arguments.json:
        say_json({"ready": not bad, **{name: [_plain(each) for each in part] for name, part in parts.items()}})
        return BAD if bad else GOOD
    for name, part in parts.items():
        say(name, *check_lines(part, width()), "")
    say(*finding_lines(finding for check in checks for finding in check.findings))
    say(*_verdict(bad, arguments))
    return BAD if bad else GOOD


def _verdict(bad: bool, arguments: argparse.Namespace) -> list[str]:
    if bad:
        return wrapped("Not ready: mend the errors above, then ask again. Nothing was changed.", "", "")
    if _nowhere(arguments):
        return wrapped("Ready as far as it goes: name a cluster with --cluster to have it looked at, too.", "", "")
    return ["Ready."]


def _plain(check: Check) -> dict[str, object]:
    findings = [finding_dict(each) for each in check.findings]
    return {"question": check.question, "state": check.state, "answer": check.answer, "findings": findings}


# --- this machine -----------------------------------------------------------------------------------------------------


def _machine() -> list[Check]:
    return [_python(), _extras(), *_proxy()]


def _python() -> Check:
    import botocore

    told = f"nova-dpo-sdk {__version__}, Python {platform.python_version()}, botocore {botocore.__version__}"
    return Check("installed", f"{told} on {sys.platform}")


def _extras() -> Check:
    missing = {name: about for name, (module, about) in _EXTRAS.items() if find_spec(module) is None}
    there = ", ".join(name for name in _EXTRAS if name not in missing) or "none"
    findings = tuple(
        Finding(
            f"extra-{name}",
            Severity.NOTE,
            "extras",
            f"The extra {name} is not installed. It is for {about}.",
            fix=f"pip install 'nova-dpo-sdk[{name}]'",
        )
        for name, about in missing.items()
    )
    return Check("extras", there, findings)


def _proxy() -> list[Check]:
    name = next((name for name in _PROXIES if os.environ.get(name)), None)
    if name is None:
        return []
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "nothing"
    note = Finding(
        "proxy",
        Severity.NOTE,
        name,
        f"{name} is set, except for {spared}. A private EKS endpoint is usually reached without the proxy.",
        fix="If kubernetes cannot be reached, add .eks.amazonaws.com to NO_PROXY.",
    )
    return [Check("proxy", f"{name} is set; spared: {spared}", (note,))]


# --- account and cluster ----------------------------------------------------------------------------------------------


def _nowhere(arguments: argparse.Namespace) -> bool:
    """Whether no place is named that could be looked at."""
    return arguments.platform == "hyperpod" and arguments.cluster is None and arguments.local is None


def _elsewhere(arguments: argparse.Namespace) -> dict[str, list[Check]]:
    if _nowhere(arguments):
        return {"account": _account(arguments)}
    from nova_dpo_sdk.backends._hyperpod_readiness import HyperPodReadiness
    from nova_dpo_sdk.backends._training_readiness import TrainingJobReadiness

    output = S3Uri.parse(arguments.output.rstrip("/")) if arguments.output else None
    try:
        backend = place(arguments)
        region = _region(backend.aws)
    except ConfigurationError as error:
        return {"account": [_failed("region", error)]}
    if isinstance(backend, TrainingJobBackend):
        return {"account": [region], "training jobs": list(TrainingJobReadiness(backend, output).checks())}
    return {"account": [region], "cluster": list(HyperPodReadiness(backend, output).checks())}


def _account(arguments: argparse.Namespace) -> list[Check]:
    aws = AWS(region=arguments.region, clock=arguments.clock)
    checks: list[Check] = []
    for question, ask in (("region", _region), ("identity", _identity)):
        try:
            checks.append(ask(aws))
        except (AWSError, ConfigurationError) as error:  # noqa: PERF203 - two of them
            checks.append(_failed(question, error))
    return checks


def _region(aws: AWS) -> Check:
    known = Catalog.packaged().training_accounts
    if aws.region in known:
        return Check("region", f"{aws.region}, where Nova's training images are")
    finding = Finding(
        "region-not-offered",
        Severity.WARNING,
        "region",
        f"No training image for Nova is known in {aws.region}.",
        aws.region,
        ", ".join(sorted(known)),
        "Use one of these Regions, or give images of your own.",
    )
    return Check("region", aws.region, (finding,))


def _identity(aws: AWS) -> Check:
    return Check("identity", f"account {aws.ask_account()}")


def _failed(question: str, error: Exception) -> Check:
    finding = Finding(f"{question}-failed", Severity.ERROR, question, str(error))
    return Check(question, "could not be answered", (finding,))

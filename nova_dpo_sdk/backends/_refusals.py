"""Why a cluster did not do what it was asked, told from statuses and reasons, never from texts."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._resources import NAMESPACES, PYTORCHJOBS
from nova_dpo_sdk.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nova_dpo_sdk.backends._resources import Ask
    from nova_dpo_sdk.backends._transport import Answer, NoAnswerError

LARGEST_STORED = 1536 * 1024
"""Bytes of one object that etcd stores by default; the API server answers 500 on more."""

_TOKEN = re.compile(r"k8s-aws-v1\.[\w-]+")
_LONGEST_TEXT = 600
_CLOCK_TOLERANCE = timedelta(minutes=5)


def json_object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def unanswered(ask: Ask, endpoint: str, failure: NoAnswerError) -> ClusterError:
    size = len(ask.body or b"")
    hint = (
        f" The object has {size:,} bytes: it may be too large." if failure.connected and size > LARGEST_STORED else ""
    )
    verb, target = (ask.verb, ask.target) if failure.connected else ("connect", endpoint)
    said = f"{ask.verb} {ask.target} failed: {failure}{hint}"
    return ClusterError(said, verb=verb, target=target, may_pass=failure.may_help)


def refusal(ask: Ask, answer: Answer, now: datetime) -> ClusterError:
    status = json_object(answer.body) or {}
    reason = str(status.get("reason") or "")
    sentence = _explained(ask, answer, status, now)
    said = " ".join(_TOKEN.sub("[token]", str(status.get("message") or "")).split())
    if len(said) > _LONGEST_TEXT:
        said = said[: _LONGEST_TEXT - 1] + "…"
    tail = f" The API server says: {said}" if said else ""
    return ClusterError(
        f"{ask.verb} {ask.target} failed ({answer.status}{f' {reason}' if reason else ''}): {sentence}{tail}",
        verb=ask.verb,
        target=ask.target,
        status=answer.status,
        reason=reason,
    )


def _explained(ask: Ask, answer: Answer, status: Mapping[str, Any], now: datetime) -> str:
    told: dict[int, Callable[[], str]] = {
        401: lambda: _explained_401(answer, now),
        403: lambda: _explained_403(ask),
        404: lambda: _explained_404(ask, status),
        409: lambda: _explained_409(status),
        410: lambda: "the list has become too old to be continued. Ask for it again from the start.",
        413: lambda: f"the object is too large ({len(ask.body or b''):,} bytes).",
        429: lambda: "the API server is busy and asked to wait, also after several tries. Try again in a minute.",
    }
    if answer.status in told:
        return told[answer.status]()
    if answer.status in {400, 422}:
        return "the API server does not accept the object as it is."
    if answer.status == 500 and len(ask.body or b"") > LARGEST_STORED:
        return f"the object has {len(ask.body or b''):,} bytes, and etcd stores {LARGEST_STORED:,} by default."
    if answer.status >= 500:
        return "the API server failed, also after several tries. Try again in a minute."
    return "this is no answer of a Kubernetes API server. Check the endpoint and the proxy."


def _explained_403(ask: Ask) -> str:
    where = f" in namespace {ask.namespace}" if ask.resource.namespaced and ask.namespace else ""
    what = f"{ask.resource}/{ask.part}" if ask.part else f"{ask.resource}"
    return (
        f"this identity may not `{ask.verb}` `{what}`{where}. Have a role with that right bound to it; "
        "HyperPod's Helm chart brings roles for data scientists."
    )


def _explained_401(answer: Answer, now: datetime) -> str:
    theirs = _moment(answer.headers.get("date", ""))
    if theirs is not None and abs(now - theirs) > _CLOCK_TOLERANCE:
        minutes = (now - theirs).total_seconds() / 60
        side = "ahead of" if minutes > 0 else "behind"
        return (
            f"the token was refused because this machine's clock is {plural(round(abs(minutes)), 'minute')} {side} "
            "the cluster's. Set the clock (chrony, NTP)."
        )
    return (
        "the cluster does not know this AWS identity; a token made anew was refused too. Have an EKS access entry made "
        "for the caller's IAM role (`aws eks create-access-entry`), or an aws-auth mapping, and check that the "
        "credentials have not expired."
    )


def _explained_404(ask: Ask, status: Mapping[str, Any]) -> str:
    if not status.get("reason"):
        operator = " Is the training operator installed?" if ask.resource == PYTORCHJOBS else ""
        return f"this API server does not serve {ask.resource} {ask.resource.version}.{operator}"
    details: Any = status.get("details") or {}
    if details.get("kind") == NAMESPACES.plural and ask.resource != NAMESPACES:
        return f"there is no namespace {ask.namespace}. Check its name (HyperPod: kubeflow, or hyperpod-ns-<team>)."
    return "it does not exist."


def _explained_409(status: Mapping[str, Any]) -> str:
    if status.get("reason") == "AlreadyExists":
        return "an object of this name is there already."
    if status.get("reason") == "Conflict":
        return "it was changed by somebody else since it was read. Read it again."
    return "it cannot be done in the present state of the object."


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)

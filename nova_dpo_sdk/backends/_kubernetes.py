"""The part of the Kubernetes API that a job needs: get, list, create, update, delete, and asking what is allowed."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol, cast

from nova_dpo_sdk._time import Retryable, RetryPolicy, seconds_asked
from nova_dpo_sdk.backends._refusals import LARGEST_STORED, json_object, refusal, unanswered
from nova_dpo_sdk.backends._resources import (
    CONFIGMAPS,
    NAMESPACES,
    NODES,
    PODS,
    PYTORCHJOBS,
    SELF_REVIEWS,
    Ask,
    Resource,
)
from nova_dpo_sdk.backends._transport import Answer, NoAnswerError, Stream, Transport
from nova_dpo_sdk.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from nova_dpo_sdk._time import Clock

__all__ = [
    "CONFIGMAPS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "PYTORCHJOBS",
    "SELF_REVIEWS",
    "BearerToken",
    "KubernetesAPI",
    "Resource",
]

_log = logging.getLogger(__name__)

LARGEST_BODY = 3 * 1024 * 1024
"""Bytes that an API server reads of one object; it breaks the connection on more."""

_RENEW_BEFORE = timedelta(minutes=2)
_PAGE = 500
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_STRICT = {"fieldValidation": "Strict"}
_Objects = list[dict[str, Any]]


class BearerToken(Protocol):
    """A secret with an end, such as `nova_dpo_sdk.aws.Token`."""

    @property
    def value(self) -> str:
        """What follows `Bearer `."""
        ...

    @property
    def expires_at(self) -> datetime:
        """When it must have been replaced (aware)."""
        ...


class _Tokens:
    """The token in use, renewed two minutes before its end or when the API server refuses it."""

    def __init__(self, make: Callable[[], BearerToken], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._token: BearerToken | None = None

    def current(self) -> str:
        with self._lock:
            if self._token is None or self._clock.now() >= self._token.expires_at - _RENEW_BEFORE:
                self._token = self._make()
            return self._token.value

    def after_refusal_of(self, refused: str) -> str:
        with self._lock:
            if self._token is None or self._token.value == refused:
                self._token = self._make()
            return self._token.value


class KubernetesAPI:
    """One cluster's Kubernetes API. Building it opens nothing; it may be shared between threads.

    Every request is tried again after a broken connection and after 429, 500, 502, 503 and 504, with growing pauses,
    and not before the time that the server asks for. That is safe because names are made beforehand: when a first
    try was carried out and only its answer was lost, a second create is refused with AlreadyExists, a second update
    with Conflict, and a second delete finds nothing. The caller then looks at the object, and compares digests.

    Args:
        endpoint: The API's URL, https.
        ca_pem: The certificate authority of its certificate, as PEM; no other is trusted.
        token: Makes a new bearer token. Asked two minutes before the last one ends, and once after a 401.
        clock: Tells when a token ends, and passes the time between tries.
        connect_timeout: Seconds until a connection must stand.
        read_timeout: Seconds without a byte after which an answer is given up.
        retry: How often and how long one request is tried again.

    Raises:
        ConfigurationError: `endpoint` is not an https URL.
    """

    def __init__(
        self,
        endpoint: str,
        ca_pem: str,
        token: Callable[[], BearerToken],
        *,
        clock: Clock,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - a frozen value
    ) -> None:
        self._transport = Transport(endpoint, ca_pem, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._tokens = _Tokens(token, clock)
        self._clock = clock
        self._retry = retry

    def __repr__(self) -> str:
        return f"KubernetesAPI({self._transport.endpoint!r})"

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        self._transport.close()

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """One object.

        Raises:
            ClusterError: It is not there (`status` 404), or may not be read, or no answer came.
        """
        return self._ask(Ask("get", "GET", resource, namespace, _one(resource, name)))

    def get_or_none(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """One object; None when the API serves its kind and the object is not there."""
        try:
            return self.get(resource, namespace, name)
        except ClusterError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise

    def list(self, resource: Resource, namespace: str, *, label_selector: str = "") -> _Objects:
        """All objects of a namespace, or of the cluster when `namespace` is empty.

        Args:
            resource: Their kind.
            namespace: Where to look.
            label_selector: Such as `app=support-dpo-3f9a1`; everything when empty.
        """
        chosen = {"labelSelector": label_selector} if label_selector else {}
        try:
            return self._pages(resource, namespace, {**chosen, "limit": str(_PAGE)})
        except ClusterError as error:
            if error.status != 410:
                raise
            # The pages grew too old to be continued: all at once, as Kubernetes advises.
            return self._pages(resource, namespace, chosen)

    def _pages(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> _Objects:
        items: _Objects = []
        following = ""
        while True:
            more = {"continue": following} if following else {}
            page = self._ask(Ask("list", "GET", resource, namespace, query={**query, **more}))
            items += cast("_Objects", page.get("items") or [])
            meta: Any = page.get("metadata") or {}
            following = str(meta.get("continue") or "")
            if not following:
                return items

    def create(
        self, resource: Resource, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Make an object; a field that the API does not know is refused, not dropped.

        Args:
            resource: The kind of object.
            namespace: Where it is to live.
            body: The object.
            dry_run: Pass every check of the server, its webhooks included, without keeping anything.

        Raises:
            ClusterError: `reason` AlreadyExists when the name is taken, also by a lost first try of this very call;
                or the object, or the right to make it, was refused.
            ConfigurationError: The object is too large to be sent.
        """
        query = {**_STRICT, "dryRun": "All"} if dry_run else _STRICT
        ask = Ask("create", "POST", resource, namespace, _name(body), query=query, body=_encoded(resource, body))
        return self._ask(ask)

    def update(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; a field that the API does not know is refused, not dropped.

        Raises:
            ClusterError: `reason` Conflict when it was changed since `body` was read, also by a lost first try of
                this very call; or the object, or the right to change it, was refused.
            ConfigurationError: The object is too large to be sent.
        """
        named = _one(resource, name)
        ask = Ask("update", "PUT", resource, namespace, named, query=_STRICT, body=_encoded(resource, body))
        return self._ask(ask)

    def delete(self, resource: Resource, namespace: str, name: str, *, propagation: str = "Background") -> bool:
        """Remove an object.

        Args:
            resource: Its kind.
            namespace: Where it lives.
            name: Its name.
            propagation: What becomes of the objects it owns: `Background`, `Foreground` or `Orphan`.

        Returns:
            False when it was not there (any more).
        """
        query = {"propagationPolicy": propagation}
        try:
            self._ask(Ask("delete", "DELETE", resource, namespace, _one(resource, name), query=query))
        except ClusterError as error:
            if error.status == 404 and error.reason == "NotFound":
                return False
            raise
        return True

    def allowed(self, verb: str, resource: Resource, namespace: str) -> bool:
        """Whether this identity may do `verb` to a kind of object in a namespace (SelfSubjectAccessReview)."""
        attributes = {
            "verb": verb,
            "group": resource.group,
            "version": resource.version,
            "resource": resource.plural,
            "namespace": namespace if resource.namespaced else "",
        }
        review = {
            "apiVersion": f"{SELF_REVIEWS.group}/{SELF_REVIEWS.version}",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        verdict: Any = self.create(SELF_REVIEWS, "", review).get("status") or {}
        return verdict.get("allowed") is True

    def request(
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Any other request without a body whose answer is a JSON object, such as a list as a Table.

        Args:
            verb: What the RBAC rules call it, for messages.
            method: The HTTP method; one that may be sent twice.
            resource: The kind of object.
            namespace: Where it lives.
            name: Its name; all of them when empty.
            query: The query's parameters.
            headers: Further headers, such as Accept.
        """
        return self._ask(Ask(verb, method, resource, namespace, name, query=query or {}, headers=headers or {}))

    def raw(self, ask: Ask) -> bytes:
        """The body of any other answer, whatever it is; tried again like every request.

        Args:
            ask: The request, one that may be sent twice.
        """
        return self._retry.call(self._clock, lambda: self._answered(ask)).body

    def stream(self, ask: Ask, *, silence: float) -> Stream:
        """Begin a request whose answer goes on, such as a watch; asked once, with a new token after a 401.

        Args:
            ask: The request, a GET.
            silence: Seconds without a byte after which the answer is given up.

        Raises:
            ClusterError: It was refused, or no answer began.
        """
        try:
            token = self._tokens.current()
            stream = self._open(ask, token, silence)
            if stream.status == 401:
                stream.close()
                token = self._tokens.after_refusal_of(token)
                stream = self._open(ask, token, silence)
            if 200 <= stream.status < 300:
                return stream
            body = stream.read().replace(token.encode(), b"[token]")
        except NoAnswerError as failure:
            raise unanswered(ask, self._transport.endpoint, failure) from failure.__cause__
        raise refusal(ask, Answer(stream.status, stream.headers, body), self._clock.now())

    def _open(self, ask: Ask, token: str, silence: float) -> Stream:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}", **ask.headers}
        return self._transport.open(ask.path, headers=headers, silence=silence)

    def log(
        self, namespace: str, pod: str, *, container: str = "", since: datetime | None = None, previous: bool = False
    ) -> str:
        """What a pod's container has written, each line after its moment in RFC 3339.

        Args:
            namespace: Where the pod lives.
            pod: Its name.
            container: Which container; its only one when empty.
            since: No line of a second before this moment's.
            previous: What the container wrote before it was last started again.

        Raises:
            ClusterError: The pod is not there, has not started (`status` 400), or its log may not be read.
        """
        query = {"timestamps": "true"}
        if container:
            query["container"] = container
        if since is not None:
            query["sinceTime"] = since.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        if previous:
            query["previous"] = "true"
        ask = Ask("get", "GET", PODS, namespace, _one(PODS, pod), query=query, headers={"Accept": "*/*"}, part="log")
        answer = self._retry.call(self._clock, lambda: self._answered(ask))
        return answer.body.decode("utf-8", "replace")

    def _ask(self, ask: Ask) -> dict[str, Any]:
        return self._retry.call(self._clock, lambda: self._ask_once(ask))

    def _ask_once(self, ask: Ask) -> dict[str, Any]:
        answer = self._answered(ask)
        parsed = json_object(answer.body)
        if parsed is None:
            raise self._again(
                ClusterError(
                    f"{ask.verb} {ask.target} failed: the answer was cut short or is not JSON. Something between here "
                    "and the cluster may change answers.",
                    verb=ask.verb,
                    target=ask.target,
                    status=answer.status,
                    may_pass=True,
                )
            )
        return parsed

    def _answered(self, ask: Ask) -> Answer:
        try:
            answer = self._send_as_somebody(ask)
        except NoAnswerError as failure:
            error = unanswered(ask, self._transport.endpoint, failure)
            error.__cause__ = failure.__cause__
            if not failure.may_help:
                raise error from failure.__cause__
            raise self._again(error) from failure
        if answer.status in _TRY_AGAIN and not (answer.status == 500 and len(ask.body or b"") > LARGEST_STORED):
            now = self._clock.now()
            raise self._again(refusal(ask, answer, now), seconds_asked(answer.headers.get("retry-after", ""), now))
        if not 200 <= answer.status < 300:
            raise refusal(ask, answer, self._clock.now())
        return answer

    def _again(self, error: ClusterError, after: float | None = None) -> Retryable:
        _log.debug("%s; it may be tried again", error)
        return Retryable(error, after)

    def _send_as_somebody(self, ask: Ask) -> Answer:
        token = self._tokens.current()
        answer = self._send(ask, token)
        if answer.status != 401:
            return answer
        return self._send(ask, self._tokens.after_refusal_of(token))

    def _send(self, ask: Ask, token: str) -> Answer:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}", **ask.headers}
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
        answer = self._transport.send(ask.method, ask.path, headers=headers, body=ask.body)
        if answer.status < 300 or not token:
            return answer
        # Whatever refuses a request may quote it; no message made from the answer can hold the token then.
        return replace(answer, body=answer.body.replace(token.encode(), b"[token]"))


def _one(resource: Resource, name: str) -> str:
    if not name:
        # Without a name the same URL means all objects of the namespace.
        raise ConfigurationError(f"One of the {resource} was asked for without saying which: give its name.")
    return name


def _name(body: Mapping[str, Any]) -> str:
    meta: Any = body.get("metadata") or {}
    return str(meta.get("name") or "")


def _encoded(resource: Resource, body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > LARGEST_BODY:
        raise ConfigurationError(
            f"{resource.plural} {_name(body)} has {len(data):,} bytes; an API server reads at most {LARGEST_BODY:,} "
            f"and stores at most {LARGEST_STORED:,} by default. Nothing was sent."
        )
    return data

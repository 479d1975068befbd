"""The rehearsal cluster's Kubernetes API, as a WSGI application."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from . import _refusals as refusals
from ._admission import admit, check_body_size, check_stored_size, check_unchanged, part, write_quantities
from ._calls import read_call
from ._faults import half
from ._refusals import Refusal
from ._requests import Request
from ._resources import NAMESPACES, PODS, PYTORCHJOBS, RULES_REVIEWS, SELF_REVIEWS
from ._roles import Role, role_of
from ._selectors import selector
from ._server import HangUp
from ._tables import asks_for_table, table
from ._token import Keys, TokenRefusedError, check_token, signed_at
from ._watch import Watch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ._calls import Call
    from ._faults import Faults
    from ._resources import Kind
    from ._store import ObjectStore
    from ._watch import History

Json = dict[str, Any]

_ANONYMOUS = Role("anonymous", ())


@dataclass(frozen=True)
class Reply:
    """An answer on its way out."""

    code: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    stream: Iterable[bytes] | None = None


@dataclass
class Access:
    """Who is let in.

    Attributes:
        keys: The access keys that STS knows.
        cluster: The EKS cluster's name that tokens must have signed.
        user: The name under which those keys are mapped.
        role: What that user may do.
        lists_rules: Whether the authorizer can list every rule; one behind a webhook, as EKS access policies are,
            cannot, and says so.
    """

    keys: Keys = field(repr=False)
    cluster: str
    user: str
    role: Role
    lists_rules: bool = True
    seen: set[str] = field(default_factory=set[str], repr=False)
    refused: set[str] = field(default_factory=set[str], repr=False)

    def expire(self) -> None:
        """Refuse every token that was used so far."""
        self.refused |= self.seen

    def is_refused(self, token: str, now: datetime) -> bool:
        """Whether this token was made to expire."""
        self.seen.add(token)
        if token not in self.refused:
            return False
        if now - signed_at(token) < timedelta(seconds=2):
            # Signed anew within the same second it would be the same token: refused once is enough.
            self.refused.discard(token)
        return True


class KubernetesAPI:
    """Answers requests from an object store, as an API server of version 1.33 does.

    Served: get, list (selectors, limit and continue, Table), create, update and delete (each as a dry run too), the
    status of jobs and pods, SelfSubjectAccessReview, and watch. Not served: patch, deletecollection; pages of one list
    are not one snapshot.

    Args:
        store: The objects.
        access: Who is let in.
        lock: Held while a request is answered.
        now: Tells the time.
        advance: Called before each answer, so that controllers and trainer catch up with the time.
        faults: Faults that are planned.
        history: What changed, for watches.
        admit: Changes new objects as the cluster's webhooks do.
        pod_log: Answers requests for a pod's log.
        log: Takes down every request.
    """

    def __init__(
        self,
        store: ObjectStore,
        access: Access,
        *,
        lock: threading.RLock,
        now: Callable[[], datetime],
        advance: Callable[[], None],
        faults: Faults,
        history: History,
        admit: Callable[[Kind, Json, datetime], None],
        pod_log: Callable[[Call], bytes],
        log: Callable[[Request], None],
    ) -> None:
        self.store = store
        self.access = access
        self._lock = lock
        self._now = now
        self._advance = advance
        self._faults = faults
        self._history = history
        self._webhooks = admit
        self._pod_log = pod_log
        self._log = log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            reply = self._answer(environ)
        except Refusal as refusal:
            reply = _refused(refusal)
        phrase = HTTPStatus(reply.code).phrase
        headers = [("Content-Type", "application/json"), *reply.headers]
        start_response(f"{reply.code} {phrase}", headers)
        return [reply.body] if reply.stream is None else reply.stream

    def _answer(self, environ: WSGIEnvironment) -> Reply:
        call = read_call(environ)
        request = Request("kubernetes", call.verb, call.target)
        reply = self._tell(call, request, environ)
        if reply.stream is None and self._faults.takes_half(request, reply.body):
            whole = ("Content-Length", str(len(reply.body)))
            return Reply(reply.code, reply.body, (*reply.headers, whole), half(reply.body))
        return reply

    def _tell(self, call: Call, request: Request, environ: WSGIEnvironment) -> Reply:
        self._log(request)
        self._strike(request, after=False)
        with self._lock:
            self._advance()
            reply = self._carry_out(call, environ.get("HTTP_AUTHORIZATION", ""))
        self._strike(request, after=True)
        return reply

    def _strike(self, request: Request, *, after: bool) -> None:
        fault = self._faults.strike(request, after=after)
        if fault is None:
            return
        if fault.delay:
            self._faults.wait(fault)
            return
        if fault.answer is None:
            raise HangUp
        given = fault.answer
        raise Refusal(given.status, given.code, given.message, headers=given.headers)

    def _carry_out(self, call: Call, authorization: str) -> Reply:
        try:
            self._authorize(call, authorization)
            check_body_size(len(call.body))
            return self._dispatch(call)
        except Refusal as refusal:
            return _refused(refusal)
        except RecursionError:
            return _refused(refusals.bad_request("the object provided is unrecognized: exceeded max depth"))

    def _authorize(self, call: Call, authorization: str) -> None:
        user, role = self._identify(authorization)
        if not role.allows_kind(call.verb, call.kind, call.subresource, call.namespace):
            raise refusals.forbidden(
                user,
                call.verb,
                call.kind,
                subresource=call.subresource,
                namespace=call.namespace,
                name=call.name,
            )

    def _identify(self, authorization: str) -> tuple[str, Role]:
        if not authorization:
            return "system:anonymous", _ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        try:
            check_token(
                token if scheme.lower() == "bearer" else "",
                self.access.keys,
                cluster=self.access.cluster,
                now=self._now(),
            )
        except TokenRefusedError as error:
            raise refusals.unauthorized() from error
        if self.access.role.name == "unmapped" or self.access.is_refused(token, self._now()):
            raise refusals.unauthorized()
        return self.access.user, self.access.role

    def _dispatch(self, call: Call) -> Reply:
        if call.kind is SELF_REVIEWS:
            return self._review(call)
        if call.kind is RULES_REVIEWS:
            return self._review_rules(call)
        if (call.verb, call.kind, call.subresource) == ("get", PODS, "log"):
            return Reply(200, self._pod_log(call))
        if call.subresource and (call.subresource != "status" or call.kind not in (PYTORCHJOBS, PODS)):
            raise refusals.no_such_path()
        actions: dict[str, Callable[[Call], Reply]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "delete": self._delete,
        }
        if call.verb not in actions or (call.subresource and call.verb not in {"get", "update"}):
            raise refusals.method_not_allowed()
        return actions[call.verb](call)

    def _get(self, call: Call) -> Reply:
        return Reply(200, self.store.encoded(call.kind, call.namespace, call.name))

    def _list(self, call: Call) -> Reply:
        items, onward, left = self.store.page(
            call.kind,
            call.namespace,
            selector=selector(call.kind, call.query),
            limit=call.number("limit"),
            token=call.query.get("continue", ""),
        )
        meta: Json = {"resourceVersion": self.store.version}
        if onward:
            meta |= {"continue": onward, "remainingItemCount": left}
        if asks_for_table(call.accept):
            include = call.query.get("includeObject", "")
            return _reply(200, table(call.kind, [json.loads(item) for item in items], meta, include))
        head = {"apiVersion": call.kind.api_version, "kind": f"{call.kind.kind}List", "metadata": meta}
        opening = json.dumps(head, separators=(",", ":"))[:-1] + ',"items":['
        return Reply(200, opening.encode() + b",".join(items) + b"]}")

    def _watch(self, call: Call) -> Reply:
        watch = Watch(
            call,
            self._history,
            self.store,
            chosen=selector(call.kind, call.query),
            lock=self._lock,
            now=self._now,
            advance=self._advance,
        )
        return Reply(200, b"", stream=watch.lines())

    def _create(self, call: Call) -> Reply:
        if call.name:
            raise refusals.method_not_allowed()
        body = call.decoded()
        self._check_namespace(call)
        given = admit(call.kind, call.namespace, body, validation=call.query.get("fieldValidation", "Warn"))
        item = given.item
        item.pop("status", None)
        check_stored_size(len(call.body))
        item["metadata"].pop("resourceVersion", None)
        if call.kind is PODS:
            item["status"] = {"phase": "Pending"}
            write_quantities(item["spec"])
        if call.query.get("dryRun") == "All":
            if self.store.peek(call.kind, call.namespace, str(item["metadata"]["name"])) is not None:
                raise refusals.already_exists(call.kind, str(item["metadata"]["name"]))
            return _reply(201, item, given.warnings)
        self._webhooks(call.kind, item, self._now())
        kept = self.store.create(call.kind, call.namespace, item, self._now())
        return _reply(201, kept, given.warnings)

    def _update(self, call: Call) -> Reply:
        body = call.decoded()
        old = self.store.get(call.kind, call.namespace, call.name)
        given = admit(
            call.kind,
            call.namespace,
            body,
            validation=call.query.get("fieldValidation", "Warn"),
            name=call.name,
        )
        check_unchanged(call.kind, old, given.item)
        check_stored_size(len(call.body))
        status, dry = call.subresource == "status", call.query.get("dryRun") == "All"
        kept = self.store.update(call.kind, call.namespace, given.item, self._now(), status=status, dry=dry)
        return _reply(200, kept, given.warnings)

    def _delete(self, call: Call) -> Reply:
        options = call.decoded() if call.body else {}
        propagation = call.query.get("propagationPolicy") or options.get("propagationPolicy") or "Background"
        if propagation not in {"Background", "Foreground", "Orphan"}:
            message = f'DeleteOptions is invalid: propagationPolicy: Unsupported value: "{propagation}"'
            raise Refusal(422, "Invalid", message)
        item, gone = self.store.delete(
            call.kind,
            call.namespace,
            call.name,
            self._now(),
            propagation=str(propagation),
            preconditions=part(call.kind, options, "preconditions"),
            dry="All" in (call.query.get("dryRun"), *(options.get("dryRun") or ())),
        )
        return _reply(200, _deleted(call, item) if gone else item)

    def _review(self, call: Call) -> Reply:
        if call.verb != "create":
            raise refusals.method_not_allowed()
        body = call.decoded()
        asked = part(call.kind, part(call.kind, body, "spec"), "resourceAttributes")
        resource = "/".join(filter(None, (asked.get("resource", ""), asked.get("subresource", ""))))
        verb, namespace, group = (str(asked.get(name, "")) for name in ("verb", "namespace", "group"))
        allowed = self.access.role.allows(verb, resource, namespace, group)
        status: Json = {"allowed": allowed}
        if allowed:
            status["reason"] = f'RBAC: allowed by role "{self.access.role.name}"'
        return _reply(201, body | {"status": status})

    def _review_rules(self, call: Call) -> Reply:
        if call.verb != "create":
            raise refusals.method_not_allowed()
        body = call.decoded()
        spec = part(call.kind, body, "spec")
        rules = self.access.role.rules(str(spec.get("namespace", ""))) if self.access.lists_rules else []
        status: Json = {"resourceRules": rules, "nonResourceRules": [], "incomplete": not self.access.lists_rules}
        return _reply(201, body | {"status": status})

    def _check_namespace(self, call: Call) -> None:
        if call.kind.namespaced and self.store.peek(NAMESPACES, "", call.namespace) is None:
            raise refusals.not_found(NAMESPACES, call.namespace)


def mapped(keys: Keys, *, cluster: str, account: str, role: str | Role) -> Access:
    """The access of one identity, mapped through an EKS access entry."""
    return Access(keys, cluster, f"arn:aws:iam::{account}:user/rehearsal", role_of(role))


def _deleted(call: Call, item: Json) -> Json:
    details: Json = {"name": call.name, "kind": call.kind.plural, "uid": item["metadata"]["uid"]}
    if call.kind.group:
        details["group"] = call.kind.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _reply(code: int, item: Json, warnings: tuple[str, ...] = ()) -> Reply:
    headers = tuple(("Warning", f"299 - {json.dumps(text)}") for text in warnings)
    return Reply(code, json.dumps(item, separators=(",", ":")).encode(), headers)


def _refused(refusal: Refusal) -> Reply:
    body = json.dumps(refusal.body()).encode()
    return Reply(refusal.code, body, tuple(refusal.headers.items()))

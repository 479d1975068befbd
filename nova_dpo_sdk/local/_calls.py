"""Requests to the Kubernetes API, read from their URL, headers and body."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from . import _refusals as refusals
from ._resources import BY_PATH, Kind

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Json = dict[str, Any]

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Call:
    """One request to the API, parsed.

    Attributes:
        verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
        kind: The kind of object.
        namespace: The namespace; empty for all, and for kinds without one.
        name: The object's name; empty for a collection.
        subresource: `status`, or empty.
        query: The query parameters.
        body: The raw body.
        content_type: The media type of the body; empty when none was named.
        accept: What the client would like to read; empty when it did not say.
    """

    verb: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]
    body: bytes = field(repr=False)
    content_type: str
    accept: str

    @property
    def target(self) -> str:
        """What it is about, as error messages of the SDK name it."""
        parts = [self.kind.plural, self.namespace, self.name, self.subresource]
        return "/".join(part for part in parts if part)

    def decoded(self) -> Json:
        """The body as a JSON object.

        Raises:
            Refusal: 415 for another media type, 400 for anything but an object.
        """
        # Some clients name no media type; an API server then reads JSON.
        if self.content_type and self.content_type.split(";")[0].strip() != "application/json":
            raise refusals.unsupported_media_type(self.content_type)
        try:
            body: Any = json.loads(self.body)
        except ValueError as error:
            raise refusals.bad_request(f"the object provided is unrecognized: {error}") from error
        if not isinstance(body, dict):
            raise refusals.bad_request("the object provided is unrecognized (must be a JSON object)")
        return cast("Json", body)

    def number(self, name: str) -> int:
        """A number in the query, such as `limit` or `timeoutSeconds`; 0 when it is not there, or less.

        Raises:
            Refusal: 400 when it is no number.
        """
        given = self.query.get(name, "")
        try:
            return max(0, int(given or 0))
        except ValueError as error:
            raise refusals.bad_request(f'invalid {name} "{given}"') from error


def read_call(environ: WSGIEnvironment) -> Call:
    """Read one request.

    Raises:
        Refusal: 404 for a path that the cluster does not serve, 405 for an unknown method.
    """
    kind, namespace, rest = _place([part for part in str(environ["PATH_INFO"]).split("/") if part])
    if len(rest) > 2 or (rest and kind.namespaced is not bool(namespace)):
        raise refusals.no_such_path()
    name, subresource = [*rest, "", ""][:2]
    query = dict(parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True))
    return Call(
        verb=_verb(str(environ["REQUEST_METHOD"]), name, query),
        kind=kind,
        namespace=namespace,
        name=name,
        subresource=subresource,
        query=query,
        body=environ["wsgi.input"].read(),
        content_type=str(environ.get("CONTENT_TYPE", "")),
        accept=str(environ.get("HTTP_ACCEPT", "")),
    )


def _place(segments: list[str]) -> tuple[Kind, str, list[str]]:
    """Kind, namespace, and what stands behind the kind in the path."""
    if segments[:1] == ["api"]:
        group, version, rest = "", "".join(segments[1:2]), segments[2:]
    elif segments[:1] == ["apis"]:
        group, version, rest = "".join(segments[1:2]), "".join(segments[2:3]), segments[3:]
    else:
        raise refusals.no_such_path()
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, "".join(rest[:1])))
    if kind is None or (namespace and not kind.namespaced):
        raise refusals.no_such_path()
    return kind, namespace, rest[1:]


def _verb(method: str, name: str, query: dict[str, str]) -> str:
    verb = _VERBS.get(method)
    if verb is None:
        raise refusals.method_not_allowed()
    if verb == "get" and not name:
        return "watch" if query.get("watch", "").lower() in {"1", "true"} else "list"
    return "deletecollection" if verb == "delete" and not name else verb

"""What a Kubernetes API server says when it says no: `Status` bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._resources import Kind


class Refusal(Exception):  # noqa: N818 - an answer on its way to the client, never seen by users
    """An answer other than success.

    Attributes:
        code: HTTP status.
        reason: The machine-readable reason, such as `AlreadyExists`.
        message: The sentence for people; its wording differs between versions of Kubernetes.
        details: The object it is about, and the causes.
        headers: HTTP headers that go with it, such as `Retry-After`.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """The `Status` object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(kind: Kind, name: str = "") -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    details["kind"] = kind.plural
    return details


def not_found(kind: Kind, name: str) -> Refusal:
    """The object does not exist."""
    return Refusal(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def no_such_path() -> Refusal:
    """The server serves nothing there."""
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def already_exists(kind: Kind, name: str) -> Refusal:
    """The name is taken."""
    return Refusal(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> Refusal:
    """The object has changed since it was read, or is another one of that name."""
    why = why or ("the object has been modified; please apply your changes to the latest version and try again")
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return Refusal(409, "Conflict", message, _details(kind, name))


def invalid(kind: Kind, name: str, causes: Sequence[tuple[str, str]]) -> Refusal:
    """The object breaks a rule; `causes` are pairs of field and message."""
    texts = [f"{field}: {message}" for field, message in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(kind, name)
    details["kind"] = kind.kind
    details["causes"] = [
        {"reason": "FieldValueInvalid", "message": message, "field": field} for field, message in causes
    ]
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return Refusal(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details)


def bad_request(message: str) -> Refusal:
    """The request itself is malformed."""
    return Refusal(400, "BadRequest", message)


def undecodable(kind: Kind, why: str) -> Refusal:
    """The body is not an object of this kind."""
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')


def unauthorized() -> Refusal:
    """The token is not accepted."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(user: str, verb: str, kind: Kind, *, subresource: str, namespace: str, name: str) -> Refusal:
    """The caller is known, and not allowed."""
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    named = f' "{name}"' if name else ""
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = (
        f'{kind.qualified}{named} is forbidden: User "{user}" cannot {verb} resource "{resource}" '
        f'in API group "{kind.group}"{where}'
    )
    return Refusal(403, "Forbidden", message, _details(kind, name))


def method_not_allowed() -> Refusal:
    """The rehearsal cluster, or the resource, does not serve this verb."""
    return Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(given: str) -> Refusal:
    """The body is not JSON."""
    message = (
        f"the body of the request was in an unknown format ({given}) - accepted media types include: application/json"
    )
    return Refusal(415, "UnsupportedMediaType", message)


def too_large_for_server() -> Refusal:
    """The body has more than 3 MiB."""
    return Refusal(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


def too_large_for_storage() -> Refusal:
    """The object has more than 1.5 MiB."""
    return Refusal(500, "", "etcdserver: request is too large")

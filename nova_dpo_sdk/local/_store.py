"""The rehearsal cluster's objects: what etcd and the generic part of an API server do."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from . import _refusals as refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._resources import Kind

Json = dict[str, Any]


class ObjectStore:
    """Objects by kind, namespace and name, each change with a new resource version.

    Not thread-safe: whoever calls holds the cloud's lock. What it hands out is a copy, except for `peek` and `scan`.
    """

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], Json]] = {}
        self._encoded: dict[tuple[Kind, str, str], bytes] = {}
        self._version = 1000
        self.listeners: list[Callable[[str, Kind, Json, datetime], None]] = []

    @property
    def version(self) -> str:
        """The newest resource version."""
        return str(self._version)

    def peek(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The object itself, not to be changed; None when there is none."""
        return self._objects.get(kind, {}).get((namespace, name))

    def scan(self, kind: Kind) -> Iterator[Json]:
        """Every object of a kind, not to be changed, as they were when asked."""
        return iter(list(self._objects.get(kind, {}).values()))

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """A copy of the object, or a NotFound refusal."""
        found = self.peek(kind, namespace, name)
        if found is None:
            raise refusals.not_found(kind, name)
        return copy.deepcopy(found)

    def encoded(self, kind: Kind, namespace: str, name: str) -> bytes:
        """The object as JSON, or a NotFound refusal."""
        key = (kind, namespace, name)
        if key not in self._encoded:
            found = self.peek(kind, namespace, name)
            if found is None:
                raise refusals.not_found(kind, name)
            self._encoded[key] = json.dumps(found, separators=(",", ":")).encode()
        return self._encoded[key]

    def create(self, kind: Kind, namespace: str, body: Json, now: datetime) -> Json:
        """Store a new object; gives it uid, resource version and creation time.

        Raises:
            Refusal: AlreadyExists.
        """
        name = str(body["metadata"]["name"])
        if self.peek(kind, namespace, name) is not None:
            raise refusals.already_exists(kind, name)
        item = copy.deepcopy(body)
        meta = item["metadata"]
        for dropped in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(dropped, None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = stamp(now)
        if kind.namespaced:
            meta["namespace"] = namespace
        if kind.counted:
            meta["generation"] = 1
        return copy.deepcopy(self._keep("ADDED", kind, item, now))

    def update(
        self, kind: Kind, namespace: str, body: Json, now: datetime, *, status: bool = False, dry: bool = False
    ) -> Json:
        """Replace an object, or its status alone; a dry run changes nothing.

        Raises:
            Refusal: NotFound; Conflict when the resource version or the uid is another.
        """
        name = str(body["metadata"]["name"])
        old = self.get(kind, namespace, name)
        _check_identity(kind, name, old["metadata"], body["metadata"])
        item = old | {"status": copy.deepcopy(body.get("status", {}))} if status else _merged(kind, old, body)
        if dry or item == self.peek(kind, namespace, name):
            return item
        if _released(item):
            return self._forget(kind, item, now)
        return copy.deepcopy(self._keep("MODIFIED", kind, item, now))

    def set_status(self, kind: Kind, namespace: str, name: str, status: Json, now: datetime) -> None:
        """Write an object's status as its controller does; nothing happens when it is gone or unchanged."""
        old = self.peek(kind, namespace, name)
        if old is not None and old.get("status") != status:
            item = {**old, "metadata": {**old["metadata"]}, "status": copy.deepcopy(status)}
            self._keep("MODIFIED", kind, item, now)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        now: datetime,
        *,
        propagation: str = "Background",
        preconditions: Json | None = None,
        dry: bool = False,
    ) -> tuple[Json, bool]:
        """Delete an object, or mark it when its dependents or finalizers come first; a dry run changes nothing.

        Returns:
            The object, and whether it is gone.

        Raises:
            Refusal: NotFound, or Conflict when a precondition does not hold.
        """
        item = self.get(kind, namespace, name)
        meta = item["metadata"]
        _check_identity(kind, name, meta, preconditions or {})
        if propagation in {"Foreground", "Orphan"}:
            finalizer = "foregroundDeletion" if propagation == "Foreground" else "orphan"
            meta["finalizers"] = sorted({*meta.get("finalizers", []), finalizer})
        gone = not meta.get("finalizers")
        if not gone:
            meta.setdefault("deletionTimestamp", stamp(now))
            meta.setdefault("deletionGracePeriodSeconds", 0)
        if dry:
            return item, gone
        if gone:
            return self._forget(kind, item, now), True
        return copy.deepcopy(self._keep("MODIFIED", kind, item, now)), False

    def page(
        self, kind: Kind, namespace: str, *, selector: Callable[[Json], bool], limit: int, token: str
    ) -> tuple[list[bytes], str, int]:
        """Some of the objects of a kind, in order of namespace and name.

        Args:
            kind: The kind.
            namespace: The namespace; empty for all.
            selector: Chooses among the objects.
            limit: At most so many; 0 for all.
            token: Where the page before this one ended; empty for the first.

        Returns:
            The objects as JSON, the next page's token (empty when there is none), how many remain after this page.
        """
        after = _unfold(token) if token else ("", "")
        keys = sorted(
            key
            for key, item in self._objects.get(kind, {}).items()
            if (not namespace or key[0] == namespace) and key > after and selector(item)
        )
        here = keys[:limit] if limit else keys
        left = len(keys) - len(here)
        onward = _fold(here[-1]) if left else ""
        return [self.encoded(kind, *key) for key in here], onward, left

    def _keep(self, change: str, kind: Kind, item: Json, now: datetime) -> Json:
        self._version += 1
        meta = item["metadata"]
        meta["resourceVersion"] = str(self._version)
        namespace, name = str(meta.get("namespace", "")), str(meta["name"])
        self._objects.setdefault(kind, {})[namespace, name] = item
        self._encoded.pop((kind, namespace, name), None)
        self._tell(change, kind, item, now)
        return item

    def _forget(self, kind: Kind, item: Json, now: datetime) -> Json:
        self._version += 1
        meta = item["metadata"]
        namespace, name = str(meta.get("namespace", "")), str(meta["name"])
        self._objects.get(kind, {}).pop((namespace, name), None)
        self._encoded.pop((kind, namespace, name), None)
        self._tell("DELETED", kind, item, now)
        return item

    def _tell(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        for listener in self.listeners:
            listener(change, kind, item, now)


def stamp(moment: datetime) -> str:
    """A moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_identity(kind: Kind, name: str, old: Json, given: Json) -> None:
    uid = given.get("uid")
    if uid and uid != old["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['uid']}"
        raise refusals.conflict(kind, name, why)
    version = given.get("resourceVersion")
    if version and version != old["resourceVersion"]:
        raise refusals.conflict(kind, name)


_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "namespace",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)


def _merged(kind: Kind, old: Json, body: Json) -> Json:
    item = copy.deepcopy(body)
    meta = item["metadata"]
    for field in _SERVER_OWNED:
        meta.pop(field, None)
        if field in old["metadata"]:
            meta[field] = old["metadata"][field]
    item.pop("status", None)
    if "status" in old:
        item["status"] = old["status"]
    if kind.counted and item.get("spec") != old.get("spec"):
        meta["generation"] = old["metadata"]["generation"] + 1
    return item


def _released(item: Json) -> bool:
    meta = item["metadata"]
    return "deletionTimestamp" in meta and not meta.get("finalizers")


def _fold(key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _unfold(token: str) -> tuple[str, str]:
    try:
        namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return str(namespace), str(name)
    except (ValueError, TypeError) as error:
        raise refusals.bad_request("continue key is not valid") from error

"""The garbage collector: deletes what belonged to an object that is gone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ._resources import BY_OBJECT, CONFIGMAPS, PODS, PYTORCHJOBS, WORKLOADS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ._agenda import Agenda
    from ._store import ObjectStore

Json = dict[str, Any]

_COLLECTED = (CONFIGMAPS, PODS, PYTORCHJOBS, WORKLOADS)


class GarbageCollector:
    """Follows owner references, a little after each deletion, as the controller manager does.

    Args:
        store: The objects.
        agenda: When things happen.
        delay: Seconds between a deletion and the collection that follows from it.
    """

    def __init__(self, store: ObjectStore, agenda: Agenda, delay: float) -> None:
        self._store = store
        self._agenda = agenda
        self._delay = timedelta(seconds=delay)
        self._owned: dict[str, set[tuple[Kind, str, str]]] = {}
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        meta: Json = item["metadata"]
        for owner in meta.get("ownerReferences", []):
            self._owned.setdefault(owner["uid"], set()).add((kind, meta.get("namespace", ""), meta["name"]))
        if change == "DELETED":
            self._agenda.at(now + self._delay, lambda at: self._collect(meta["uid"], at))
        elif "deletionTimestamp" in meta:
            self._agenda.at(now + self._delay, lambda at: self._finish(kind, meta, at))
        elif "ownerReferences" in meta and kind in _COLLECTED:
            self._agenda.at(now + self._delay, lambda at: self._check(kind, meta, at))

    def _collect(self, uid: str, now: datetime) -> None:
        for kind, item in self._dependents(uid):
            self._check(kind, item["metadata"], now)
        self._owned.pop(uid, None)

    def _check(self, kind: Kind, meta: Json, now: datetime) -> None:
        namespace, name = meta.get("namespace", ""), meta["name"]
        item = self._store.peek(kind, namespace, name)
        if item is None or item["metadata"]["uid"] != meta["uid"]:
            return
        owners: list[Json] = item["metadata"].get("ownerReferences", [])
        if owners and not any(self._lives(owner, namespace) for owner in owners):
            self._store.delete(kind, namespace, name, now)

    def _finish(self, kind: Kind, meta: Json, now: datetime) -> None:
        item = self._store.peek(kind, meta.get("namespace", ""), meta["name"])
        if item is None or item["metadata"]["uid"] != meta["uid"]:
            return
        finalizers: list[str] = item["metadata"].get("finalizers", [])
        for dependent_kind, dependent in list(self._dependents(meta["uid"])):
            if "orphan" in finalizers:
                self._orphan(dependent_kind, dependent, meta["uid"], now)
            else:
                there: Json = dependent["metadata"]
                self._store.delete(dependent_kind, there["namespace"], there["name"], now)
        ours = {"foregroundDeletion", "orphan"}
        left = [name for name in finalizers if name not in ours]
        freed = {**item, "metadata": {**item["metadata"], "finalizers": left}}
        self._store.update(kind, meta.get("namespace", ""), freed, now)

    def _orphan(self, kind: Kind, item: Json, uid: str, now: datetime) -> None:
        meta = dict(item["metadata"])
        meta["ownerReferences"] = [owner for owner in meta["ownerReferences"] if owner["uid"] != uid]
        self._store.update(kind, meta["namespace"], {**item, "metadata": meta}, now)

    def _dependents(self, uid: str) -> Iterator[tuple[Kind, Json]]:
        for kind, namespace, name in sorted(self._owned.get(uid, ()), key=lambda each: each[1:]):
            item = self._store.peek(kind, namespace, name)
            owners: list[Json] = item["metadata"].get("ownerReferences", []) if item is not None else []
            if item is not None and any(owner["uid"] == uid for owner in owners):
                yield kind, item

    def _lives(self, owner: Json, namespace: str) -> bool:
        kind = BY_OBJECT.get((owner["apiVersion"], owner["kind"]))
        if kind is None:
            return False
        found = self._store.peek(kind, namespace if kind.namespaced else "", owner["name"])
        return found is not None and found["metadata"]["uid"] == owner["uid"]

"""Watches: what changed since a resource version, and then everything that changes, line by line."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ._server import HangUp
from ._tables import asks_for_table, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ._calls import Call
    from ._resources import Kind
    from ._store import ObjectStore

Json = dict[str, Any]

_KEPT = 1000
_BOOKMARK_EVERY = timedelta(seconds=60)
_BLINK = 0.02
_LONGEST = 366 * 86400


@dataclass(frozen=True)
class Entry:
    """One change of one object.

    Attributes:
        version: The resource version of the change.
        kind: The object's kind.
        before: The object as it was; None when it is new.
        after: The object as it is now; None when it is gone.
    """

    version: int
    kind: Kind
    before: Json | None
    after: Json | None


class History:
    """The last thousand changes; a watch from before them is refused as expired.

    Args:
        store: The objects.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._latest: dict[str, Json] = {}
        self._forgotten = int(store.version)
        self.news = threading.Condition()
        """Notified at each change, and when something happens to the streams."""
        self.closing = False
        self.cuts = 0
        """How often all open streams were cut."""
        self.freezes = 0
        """How often all open streams fell silent for good."""
        self.expiries = 0
        """How often the history was forgotten."""
        store.listeners.append(self._notice)

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        del now
        uid = str(item["metadata"]["uid"])
        before = self._latest.pop(uid, None)
        after = None if change == "DELETED" else item
        if after is not None:
            self._latest[uid] = after
        if len(self._entries) == _KEPT:
            self._forgotten = self._entries[0].version
        self._entries.append(Entry(int(self._store.version), kind, before, after))
        self._wake()

    def since(self, version: int) -> list[Entry] | None:
        """The changes after a version; None when they are no longer known."""
        if version < self._forgotten:
            return None
        return [each for each in self._entries if each.version > version]

    def cut(self) -> None:
        """Break every stream that is open."""
        self.cuts += 1
        self._wake()

    def freeze(self) -> None:
        """Let every stream that is open fall silent: it stays open, and nothing comes any more."""
        self.freezes += 1
        self._wake()

    def expire(self) -> None:
        """Forget every change so far, and end every stream that is open with 410."""
        self._entries.clear()
        self._forgotten = int(self._store.version) + 1
        self.expiries += 1
        self._wake()

    def close(self) -> None:
        """End every stream: the cloud stops."""
        self.closing = True
        self._wake()

    def _wake(self) -> None:
        with self.news:
            self.news.notify_all()


class Watch:
    """One stream of changes.

    Args:
        call: The request.
        history: What changed.
        store: The objects.
        chosen: Chooses among the objects.
        lock: Held while changes are read.
        now: Tells the time.
        advance: Lets controllers catch up with the time.
    """

    def __init__(
        self,
        call: Call,
        history: History,
        store: ObjectStore,
        *,
        chosen: Callable[[Json], bool],
        lock: threading.RLock,
        now: Callable[[], datetime],
        advance: Callable[[], None],
    ) -> None:
        self._call = call
        self._history = history
        self._store = store
        self._chosen = chosen
        self._lock = lock
        self._now = now
        self._advance = advance
        self._marks = history.cuts, history.freezes, history.expiries
        self._ends = now() + timedelta(seconds=min(call.number("timeoutSeconds") or 1800, _LONGEST))
        self._position = 0

    def lines(self) -> Iterator[bytes]:
        """Events, each in a line."""
        yield from self._begin()
        bookmark = self._now() + _BOOKMARK_EVERY
        while not self._history.closing and self._now() < self._ends:
            cuts, freezes, expiries = self._marks
            if self._history.cuts > cuts:
                raise HangUp
            if self._history.freezes > freezes:
                self._blink()
                continue
            with self._lock:
                self._advance()
                entries = None if self._history.expiries > expiries else self._history.since(self._position)
            if entries is None:
                yield self._expired()
                return
            yield from self._events(entries)
            if self._now() >= bookmark and self._call.query.get("allowWatchBookmarks") in ("1", "true"):
                yield self._line("BOOKMARK", self._bookmark())
                bookmark = self._now() + _BOOKMARK_EVERY
            self._blink()

    def _blink(self) -> None:
        """Wait for news; time brings some of it, and tells nobody."""
        with self._history.news:
            self._history.news.wait(_BLINK)

    def _begin(self) -> Iterator[bytes]:
        given = self._call.query.get("resourceVersion", "")
        with self._lock:
            self._position = int(given) if given.isdigit() and given != "0" else int(self._store.version)
            there = [] if given not in ("", "0") else list(self._store.scan(self._call.kind))
        for item in there:
            if self._wanted(self._call.kind, item) is not None:
                yield self._line("ADDED", item)

    def _events(self, entries: list[Entry]) -> Iterator[bytes]:
        """What the changes are to this watch: an object that no longer fits its selectors is gone, as a deleted one."""
        for each in entries:
            self._position = each.version
            before, after = self._wanted(each.kind, each.before), self._wanted(each.kind, each.after)
            if after is not None:
                yield self._line("MODIFIED" if before is not None else "ADDED", after)
            elif before is not None:
                meta: Json = {**before["metadata"], "resourceVersion": str(each.version)}
                yield self._line("DELETED", {**before, "metadata": meta})

    def _wanted(self, kind: Kind, item: Json | None) -> Json | None:
        if item is None or kind is not self._call.kind:
            return None
        here = self._call.namespace in ("", item["metadata"].get("namespace", ""))
        return item if here and self._chosen(item) else None

    def _bookmark(self) -> Json:
        meta = {"resourceVersion": str(self._position)}
        return {"kind": self._call.kind.kind, "apiVersion": self._call.kind.api_version, "metadata": meta}

    def _line(self, change: str, item: Json) -> bytes:
        if change != "BOOKMARK" and asks_for_table(self._call.accept):
            meta = {"resourceVersion": item["metadata"]["resourceVersion"]}
            item = table(self._call.kind, [item], meta, self._call.query.get("includeObject", ""))
        return json.dumps({"type": change, "object": item}, separators=(",", ":")).encode() + b"\n"

    def _expired(self) -> bytes:
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f"too old resource version: {self._position} ({self._store.version})",
            "reason": "Expired",
            "code": 410,
        }
        return self._line("BOOKMARK", status).replace(b"BOOKMARK", b"ERROR", 1)

"""Watching one kind of object: a stream of changes that is taken up again wherever it breaks."""

from __future__ import annotations

import json
import logging
import random
import threading
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._resources import Ask, Resource
from nova_dpo_sdk.backends._transport import NoAnswerError
from nova_dpo_sdk.errors import ClusterError, NovaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI
    from nova_dpo_sdk.backends._transport import Stream

    Json = dict[str, Any]

_log = logging.getLogger(__name__)

SILENCE = 90.0
"""Seconds without a byte after which a stream is taken for dead; a server sends a bookmark about every minute."""
LASTING = (240, 300)
"""Seconds after which the server is asked to end a stream; drawn, so that many watchers do not return as one."""
PACE = 1.0
"""Seconds at least from one stream to the next; after a failure twice as many, and twice as many after each more."""
_LONGEST_PAUSE = 30.0
_BROKEN_AFTER = 3


class Change(str, Enum):
    """What a watcher tells."""

    CHANGED = "changed"
    """An object is new, or another than before."""
    DELETED = "deleted"
    """An object is gone."""
    EXPIRED = "expired"
    """The server no longer knows what happened since; the watcher has ended. List anew."""
    REFUSED = "refused"
    """This role may not watch; the watcher has ended."""
    BROKEN = "broken"
    """The stream broke several times on end; it is tried on, and something may go unseen for long. List anew."""
    ENDED = "ended"
    """The watcher has ended by an error that does not mend itself."""


@dataclass(frozen=True)
class Told:
    """One thing that a watcher tells.

    Attributes:
        watcher: Who tells it.
        change: What happened.
        thing: What was made of the object.
        error: Why, for what is not a change of an object.
    """

    watcher: Watcher
    change: Change
    thing: Any = None
    error: NovaError | None = None


class Watcher:
    """Follows the changes of one kind of object from a resource version on, in a thread of its own.

    Whole objects are asked for, not Tables: a row would say that something changed, and cost a request to see what.

    Args:
        api: The cluster.
        resource: The kind of object.
        namespace: Where they are.
        version: The resource version of the list that came before.
        selector: Which objects.
        make: Called with each object, for what is told of it.
        tell: Called with everything that happens, in the watcher's thread.
        silence: Seconds without a byte after which a stream is given up.
        pace: Seconds at least from one stream to the next.
    """

    def __init__(
        self,
        api: KubernetesAPI,
        resource: Resource,
        namespace: str,
        version: str,
        *,
        selector: str,
        make: Callable[[Json], Any],
        tell: Callable[[Told], None],
        silence: float = SILENCE,
        pace: float = PACE,
    ) -> None:
        self.resource = resource
        self._api = api
        self._namespace = namespace
        self._version = version
        self._selector = selector
        self._make = make
        self._tell = tell
        self._silence = silence
        self._pace = pace
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{resource.plural}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tell nothing any more, and end: at once while a stream is open, else when a connection attempt ends."""
        self._over.set()
        with self._lock:
            if self._stream is not None:
                self._stream.interrupt()

    def join(self, timeout: float = 1.0) -> None:
        """Wait for the end of the thread, but not for long: it does no harm any more."""
        self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._over.is_set():
            begun = monotonic()
            try:
                heard = self._listen()
                failures = 0 if heard else failures
            except ClusterError as error:
                if not self._bear(error):
                    return
                failures += 1
                if failures % _BROKEN_AFTER == 0:
                    self._say(Change.BROKEN, error=error)
            except NovaError as error:
                self._say(Change.ENDED, error=error)
                return
            longest = min(_LONGEST_PAUSE, self._pace * 2.0**failures) if failures else 0.0
            pause = random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads load; nothing secret hangs on it
            self._over.wait(max(pause, self._pace - (monotonic() - begun)))

    def _bear(self, error: ClusterError) -> bool:
        """Whether to go on after an error; says so if not."""
        if self._over.is_set():
            return False
        if error.status == 410:
            self._say(Change.EXPIRED, error=error)
        elif error.status in (401, 403, 404, 405):
            self._say(Change.REFUSED, error=error)
        else:
            _log.debug("watching %s goes on after: %s", self.resource, error)
            return True
        return False

    def _listen(self) -> bool:
        """Hear one stream to its end; whether anything was heard."""
        ask = Ask("watch", "GET", self.resource, self._namespace, query=self._query())
        heard = False
        stream = self._api.stream(ask, silence=self._silence)
        with self._lock:
            self._stream = stream
        try:
            if self._over.is_set():
                return False
            for line in stream.lines():
                self._hear(ask, line)
                heard = True
        except NoAnswerError as failure:
            # What came before the break is known, and the next stream begins after it.
            if not heard and not self._over.is_set():
                raise ClusterError(
                    f"watch {ask.target} broke: {failure}", verb="watch", target=ask.target, may_pass=True
                ) from failure
        finally:
            with self._lock:
                self._stream = None
            stream.close()
        return heard

    def _query(self) -> dict[str, str]:
        return {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*LASTING)),  # noqa: S311 - spreads load; nothing secret hangs on it
            "labelSelector": self._selector,
        }

    def _hear(self, ask: Ask, line: bytes) -> None:
        try:
            event: Json = json.loads(line)
            kind, thing = str(event["type"]), event["object"]
            version = "" if kind == "ERROR" else str(thing["metadata"]["resourceVersion"])
            made = None if kind in ("ERROR", "BOOKMARK") else self._make(thing)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterError(
                f"watch {ask.target}: a line is no event.", verb="watch", target=ask.target, may_pass=True
            ) from error
        if kind == "ERROR":
            raise ClusterError(
                f"watch {ask.target} failed: {thing.get('message') or 'no reason given'}",
                verb="watch",
                target=ask.target,
                status=int(thing.get("code") or 0),
                reason=str(thing.get("reason") or ""),
            )
        self._version = version
        if kind != "BOOKMARK":
            self._say(Change.DELETED if kind == "DELETED" else Change.CHANGED, made)

    def _say(self, change: Change, thing: Any = None, *, error: NovaError | None = None) -> None:
        if not self._over.is_set():
            self._tell(Told(self, change, thing, error))

"""A clock that runs faster than the machine's, so that minutes of waiting can be watched in seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from nova_dpo_sdk._time import Clock


class HurriedClock:
    """Another clock's time, faster by a factor; give it to a `LocalCloud`, which its clients then follow.

    Args:
        base: The clock that really passes.
        pace: How many seconds pass here while one passes there.
    """

    def __init__(self, base: Clock, pace: float) -> None:
        self._base = base
        self._pace = pace
        self._start = base.now()
        self._first = base.monotonic()

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return (self._base.monotonic() - self._first) * self._pace

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of this clock pass."""
        self._base.sleep(seconds / self._pace)

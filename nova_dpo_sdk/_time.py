"""Time: the clock, polling with an end, and retries. The only `sleep` and the only tenacity."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tenacity import RetryCallState

    from nova_dpo_sdk.errors import AWSError, ClusterError

T = TypeVar("T")


class Clock(Protocol):
    """What tells the time and waits; pass a `FakeClock` to wait for nothing."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass; none when negative."""
        time.sleep(max(0.0, seconds))


class FakeClock:
    """A clock that moves only when somebody sleeps on it or moves it.

    Args:
        start: The first moment; the machine's present time when left out.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime.now(timezone.utc)
        self._passed = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The fake moment, aware, in UTC."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Fake seconds since the start."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds` at once."""
        with self._lock:
            self._passed += max(0.0, seconds)

    advance = sleep


_NO_TIME = 1e-6
"""Seconds; a pause this short may be lost in rounding, and a clock that moves only by pauses would stand still."""


def time_left(clock: Clock, ends: float) -> float:
    """Seconds until a moment of `clock.monotonic()`; 0 when it has come, or all but come.

    Args:
        clock: What is asked for the time.
        ends: The moment; `math.inf` for none.
    """
    left = ends - clock.monotonic()
    return left if left > _NO_TIME else 0.0


def ticks(
    clock: Clock, *, interval: float, timeout: float, jitter: float = 0.1, seed: int | None = None
) -> Iterator[float]:
    """Yield the seconds passed, now and after every interval, until `timeout`; the last tick is at the end.

    Args:
        clock: What is asked for the time and slept on.
        interval: Seconds between ticks.
        timeout: Seconds after which no further tick comes; `math.inf` for none.
        jitter: Share of the interval by which a pause may be longer, so that many waiters do not beat as one.
        seed: Fixes the jitter, for tests.

    Yields:
        Seconds since the first tick.
    """
    rng = random.Random(seed)  # noqa: S311 - spreads load; nothing secret hangs on it
    start = clock.monotonic()
    while True:
        passed = clock.monotonic() - start
        yield passed
        left = time_left(clock, start + timeout)
        if not left:
            return
        clock.sleep(min(left, interval * (1 + jitter * rng.random())))


OUTAGE = 900.0
"""Seconds for which a platform may fail to answer before waiting ends; the jobs run on."""


class Outage:
    """Bears with a platform that does not answer, for a while since it last did: that says nothing about its jobs.

    Args:
        clock: Tells how long it has lasted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered = clock.monotonic()

    def answered(self) -> None:
        """Take note of an answer."""
        self._answered = self._clock.monotonic()

    def bears(self, error: AWSError | ClusterError) -> bool:
        """Whether to ask again after this error: it may pass, and they have not lasted for too long."""
        return error.may_pass and self._clock.monotonic() - self._answered <= OUTAGE


class Retryable(Exception):  # noqa: N818 - a signal between layers, never seen by users
    """A failed try that may be tried again.

    Attributes:
        error: What to raise when the budget is used up.
        after: Seconds that the other side asked us to wait; None when it did not say.
    """

    def __init__(self, error: Exception, after: float | None = None) -> None:
        self.error = error
        self.after = after
        super().__init__(str(error))


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long one call is tried again.

    Attributes:
        attempts: Tries in all.
        base: Seconds before the second try, doubled for each further one (with full jitter).
        cap: Longest single pause, in seconds.
        budget: Seconds after which no further try is begun.
    """

    attempts: int = 5
    base: float = 0.5
    cap: float = 20.0
    budget: float = 120.0

    def pause(self, tried: int, passed: float, asked: float | None = None) -> float | None:
        """How long to wait before the next try; None when there is to be none.

        Args:
            tried: Tries so far, at least 1.
            passed: Seconds since the first one began.
            asked: Seconds that the other side asked us to wait, such as by Retry-After; never waited for less.

        Returns:
            Seconds, drawn between half and the whole of what doubles with each try.
        """
        if tried >= self.attempts:
            return None
        ceiling = min(self.cap, self.base * 2 ** (tried - 1))
        drawn = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, nothing secret
        wait = drawn if asked is None else max(drawn, asked)
        return None if passed + wait > self.budget else wait

    def call(self, clock: Clock, try_once: Callable[[], T]) -> T:
        """Call `try_once` until it answers, raises anything but `Retryable`, or the budget is used up.

        Args:
            clock: Passes the time between tries; the budget is counted on it.
            try_once: The call. Raises `Retryable` where another try is safe and may help.

        Returns:
            What `try_once` returned.

        Raises:
            Exception: The error inside the last `Retryable`, or what `try_once` raised itself.
        """
        from tenacity import Retrying, retry_if_exception_type

        started = clock.monotonic()

        # tenacity's own stops read the machine's clock, so that pauses and the budget are counted here. It asks for
        # the pause first; none means to stop.
        def pause(state: RetryCallState) -> float:
            wait = self.pause(state.attempt_number, clock.monotonic() - started, _asked_pause(state))
            return -1.0 if wait is None else wait

        retrying = Retrying(
            sleep=clock.sleep,
            wait=pause,
            stop=lambda state: state.upcoming_sleep < 0,
            retry=retry_if_exception_type(Retryable),
            reraise=True,
        )
        try:
            return retrying(try_once)
        except Retryable as last:
            raise last.error from last.error.__cause__


def _asked_pause(state: RetryCallState) -> float | None:
    outcome = state.outcome
    failure = outcome.exception() if outcome is not None else None
    return failure.after if isinstance(failure, Retryable) else None


def seconds_asked(retry_after: str, now: datetime) -> float | None:
    """What a Retry-After header asks for, in seconds: it holds a number of them, or a date; None for anything else."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (aware - now).total_seconds())

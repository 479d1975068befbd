from __future__ import annotations

import itertools
import math

import pytest

from nova_dpo_sdk._time import FakeClock, Retryable, RetryPolicy, SystemClock, ticks


def failing(times, after=None):
    error = ValueError("busy")
    state = {"left": times, "calls": 0}

    def call():
        state["calls"] += 1
        if state["left"] > 0:
            state["left"] -= 1
            raise Retryable(error, after)
        return "done"

    return call, state


def test_ticks_come_at_once_then_at_intervals_and_last_at_the_end():
    clock = FakeClock()
    assert list(ticks(clock, interval=4, timeout=10, jitter=0)) == [0, 4, 8, 10]


def test_ticks_end_even_when_the_caller_is_slow():
    clock = FakeClock()
    seen = []
    for passed in ticks(clock, interval=1, timeout=5, jitter=0):
        seen.append(passed)
        clock.advance(100)
    assert seen == [0]


def test_endless_ticks_do_not_end():
    clock = FakeClock()
    endless = ticks(clock, interval=3600, timeout=math.inf, seed=1)
    last = [next(endless) for _ in range(1000)][-1]
    assert last > 3600 * 999


def test_jitter_is_bounded_and_repeatable():
    first = list(ticks(FakeClock(), interval=10, timeout=100, jitter=0.5, seed=7))
    assert first == list(ticks(FakeClock(), interval=10, timeout=100, jitter=0.5, seed=7))
    steps = [b - a for a, b in itertools.pairwise(first[:-1])]
    assert all(10 <= step <= 15 for step in steps)


def test_a_call_that_recovers_is_answered():
    clock = FakeClock()
    call, state = failing(3)
    assert RetryPolicy().call(clock, call) == "done"
    assert state["calls"] == 4
    assert clock.monotonic() > 0


def test_the_last_error_is_raised_itself():
    call, state = failing(99)
    with pytest.raises(ValueError, match="busy"):
        RetryPolicy(attempts=3).call(FakeClock(), call)
    assert state["calls"] == 3


def test_other_errors_are_not_retried():
    calls = []

    def call():
        calls.append(1)
        raise KeyError("no")

    with pytest.raises(KeyError):
        RetryPolicy().call(FakeClock(), call)
    assert calls == [1]


def test_the_other_side_s_wish_is_honoured():
    clock = FakeClock()
    call, _ = failing(1, after=17)
    RetryPolicy().call(clock, call)
    assert clock.monotonic() == 17


def test_a_wish_beyond_the_budget_ends_it():
    clock = FakeClock()
    call, state = failing(9, after=500)
    with pytest.raises(ValueError, match="busy"):
        RetryPolicy(budget=60).call(clock, call)
    assert (state["calls"], clock.monotonic()) == (1, 0)


def test_the_budget_is_counted_on_the_injected_clock():
    clock = FakeClock()
    call, state = failing(99, after=10)
    with pytest.raises(ValueError, match="busy"):
        RetryPolicy(attempts=99, budget=35).call(clock, call)
    assert state["calls"] == 4


def test_the_system_clock_is_aware_and_does_not_sleep_backwards():
    clock = SystemClock()
    assert clock.now().tzinfo is not None
    clock.sleep(-1)
    assert clock.monotonic() <= clock.monotonic()


def test_ticks_end_where_rounding_leaves_a_rest_of_time() -> None:
    clock = FakeClock()
    clock.advance(1e9)
    for seed in range(200):
        assert len(list(itertools.islice(ticks(clock, interval=0.1, timeout=0.3, seed=seed), 20))) < 20

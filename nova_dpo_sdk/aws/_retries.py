"""The project's own retries inside botocore: its loop asks here whether, and after how long, a call is sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import seconds_asked

if TYPE_CHECKING:
    from nova_dpo_sdk._time import Clock, RetryPolicy

_PASSING = frozenset({429, 500, 502, 503, 504})
_BUSY = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "InternalFailure",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Codes after which the AWS SDKs send a call again (AWS SDKs and Tools reference guide, retry behavior)."""
_STARTED = "nova_dpo_sdk_started"


def install_retries(client: Any, policy: RetryPolicy, clock: Clock) -> None:
    """Let a policy decide on every call of a boto3 client that itself was told to try once.

    That is safe for what this package sends: reads; writes under a condition, where `retries_before` tells a lost
    answer from a lost race; and creates whose name is made beforehand, so that a second one finds the first.

    Args:
        client: The client.
        policy: How often and how long one call is tried again.
        clock: Passes the time between tries; the budget is counted on it.
    """
    client.meta.events.register("needs-retry", _Retrier(policy, clock), unique_id="nova-dpo-sdk-retries")


@dataclass(frozen=True)
class _Retrier:
    policy: RetryPolicy
    clock: Clock

    def __call__(
        self, *, response: Any, attempts: int, caught_exception: Exception | None, request_dict: Any, **_: Any
    ) -> int | None:
        """What botocore asks after each try: None for no other one, or how long it is to sleep before it."""
        context: dict[str, Any] = request_dict["context"]
        started = context.setdefault(_STARTED, self.clock.monotonic())
        if not (_is_lost(caught_exception) if response is None else _is_passing(response)):
            return None
        wait = self.policy.pause(attempts, self.clock.monotonic() - started, self._asked(response))
        if wait is None:
            return None
        self.clock.sleep(wait)  # on our clock; botocore would sleep on the machine's
        return 0

    def _asked(self, response: Any) -> float | None:
        if response is None:
            return None
        return seconds_asked(str(response[0].headers.get("retry-after") or ""), self.clock.now())


def _is_lost(error: Exception | None) -> bool:
    """Whether no whole answer came."""
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.exceptions import HTTPClientError

    return isinstance(error, (NoConnectionError, HTTPClientError))


def _is_passing(response: Any) -> bool:
    answer, parsed = response
    code = str(parsed.get("Error", {}).get("Code") or "")
    return int(answer.status_code) in _PASSING or code in _BUSY

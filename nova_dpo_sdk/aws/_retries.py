"""The project's own retries inside botocore: its loop asks here whether, and after how long, a call is sent again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

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
_NO_SUCCESS = 300


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
        self,
        *,
        response: Any,
        attempts: int,
        caught_exception: Exception | None,
        request_dict: Any,
        operation: Any,
        **_: Any,
    ) -> int | None:
        """What botocore asks after each try: None for no other one, or how long it is to sleep before it.

        Raises:
            ResponseParserError: The answer is damaged, and there is no other try; botocore would take it for empty.
        """
        context: dict[str, Any] = request_dict["context"]
        started = context.setdefault(_STARTED, self.clock.monotonic())
        damaged = response is not None and _is_damaged(operation, response[0])
        if not (damaged or (_is_lost(caught_exception) if response is None else _is_passing(response))):
            return None
        wait = self.policy.pause(attempts, self.clock.monotonic() - started, self._asked(response))
        if wait is None:
            if damaged:
                _raise_damaged(operation)
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


def _is_damaged(operation: Any, answer: Any) -> bool:
    """Whether an answer should be JSON and is not: then botocore goes on with an answer in which nothing stands."""
    protocol = str(operation.service_model.metadata.get("protocol") or "")
    if not protocol.endswith("json") or operation.has_streaming_output or answer.status_code >= _NO_SUCCESS:
        return False
    try:
        return bool(answer.content) and json.loads(answer.content) is None
    except ValueError:
        return True


def _raise_damaged(operation: Any) -> NoReturn:
    from botocore.parsers import ResponseParserError

    raise ResponseParserError(f"the answer to {operation.name} is no JSON")

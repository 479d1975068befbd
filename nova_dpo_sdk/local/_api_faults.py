"""Bad days of the Kubernetes API, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._faults import Faults
    from ._kubernetes import Access
    from ._watch import History

API_FAULTS = {
    "throttled": "the API answers 429 and asks to wait a second",
    "server-error": "the API answers 500",
    "connection-reset": "the connection breaks before the request was carried out",
    "answer-lost": "the connection breaks after the request was carried out",
    "slow": "the answer takes long",
    "token-expired": "every token used so far is refused, until it is renewed",
    "watch-cut": "every open watch breaks",
    "watch-silent": "every open watch stays open, and nothing comes any more",
    "watch-expired": "what a watch would have to know is forgotten: 410",
}
"""By name: what happens to the next requests to the Kubernetes API, or to the watches that are open."""


def script_api_fault(
    faults: Faults, history: History, access: Access, name: str, *, times: int = 1, lasts: float = 1.0
) -> None:
    """Plan one of `API_FAULTS`.

    Args:
        faults: The faults of requests.
        history: What watches are told from.
        access: Who is let in.
        name: Which fault.
        times: How many requests are met.
        lasts: Seconds that a slow answer takes, of real time.
    """
    if name == "throttled":
        faults.answer("*", 429, code="TooManyRequests", headers={"Retry-After": "1"}, service="kubernetes", times=times)
    elif name == "server-error":
        faults.answer("*", 500, code="InternalError", service="kubernetes", times=times)
    elif name in ("connection-reset", "answer-lost"):
        faults.hang_up("*", service="kubernetes", after=name == "answer-lost", times=times)
    elif name == "slow":
        faults.slow("*", lasts, service="kubernetes", times=times)
    elif name == "token-expired":
        access.expire()
    else:
        {"watch-cut": history.cut, "watch-silent": history.freeze, "watch-expired": history.expire}[name]()

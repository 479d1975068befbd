"""Faults on request: answers that a cloud gives on a bad day, in place of, or after, the real one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ._server import HangUp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._requests import Request


@dataclass(frozen=True)
class Answer:
    """An error to answer with.

    Attributes:
        status: HTTP status.
        code: AWS error code, or Kubernetes reason.
        message: The sentence for people.
        headers: HTTP headers, such as `Retry-After`.
    """

    status: int
    code: str = ""
    message: str = "a fault that was asked for"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class Fault:
    """One planned fault.

    Attributes:
        operation: Pattern of operations, such as `PutObject`, `create` or `*`.
        target: Pattern of targets, such as `pytorchjobs/*`.
        service: Pattern of services.
        answer: The error to give; None to close the connection without an answer.
        after: Whether the request is carried out first, and only its answer lost.
        times: How many requests it still meets.
        delay: Seconds of real time after which the request is carried out as if nothing had been.
        cut: Whether the answer's body ends halfway, and the connection with it.
    """

    operation: str
    target: str
    service: str
    answer: Answer | None
    after: bool
    times: int
    delay: float = 0.0
    cut: bool = False

    def meets(self, request: Request, *, after: bool) -> bool:
        """Whether it strikes this request now."""
        return (
            self.times > 0
            and self.after is after
            and fnmatchcase(request.operation, self.operation)
            and fnmatchcase(request.target, self.target)
            and fnmatchcase(request.service, self.service)
        )


def half(body: bytes) -> Iterator[bytes]:
    """The first half of a body, and then a connection that breaks."""
    yield body[: len(body) // 2]
    raise HangUp


class Faults:
    """The faults that are planned, in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    def answer(
        self,
        operation: str,
        status: int,
        *,
        code: str = "",
        message: str = "a fault that was asked for",
        headers: Mapping[str, str] | None = None,
        target: str = "*",
        service: str = "*",
        after: bool = False,
        times: int = 1,
    ) -> Fault:
        """Answer the next matching requests with an error.

        Args:
            operation: Pattern of operations: an AWS operation such as `PutObject`, or a verb such as `create`.
            status: HTTP status.
            code: AWS error code (`SlowDown`), or Kubernetes reason (`TooManyRequests`).
            message: The sentence for people.
            headers: HTTP headers, such as `Retry-After`.
            target: Pattern of targets, such as `pytorchjobs/*` or `s3://bucket/*`.
            service: Pattern of services.
            after: Carry the request out first; only its answer is replaced.
            times: How many requests are met.

        Returns:
            The fault; its `times` tells how often it will strike yet.
        """
        given = Answer(status, code, message, headers or {})
        return self._plan(Fault(operation, target, service, given, after, times))

    def hang_up(
        self, operation: str, *, target: str = "*", service: str = "*", after: bool = False, times: int = 1
    ) -> Fault:
        """Close the connection of the next matching requests without an answer.

        Args:
            operation: Pattern of operations.
            target: Pattern of targets.
            service: Pattern of services.
            after: Carry the request out first, so that it has happened though nobody was told.
            times: How many requests are met.

        Returns:
            The fault.
        """
        return self._plan(Fault(operation, target, service, None, after, times))

    def truncate(self, operation: str, *, target: str = "*", service: str = "*", times: int = 1) -> Fault:
        """Carry out the next matching requests, and break the connection halfway through the answer's body.

        Args:
            operation: Pattern of operations.
            target: Pattern of targets.
            service: Pattern of services.
            times: How many requests are met.

        Returns:
            The fault.
        """
        return self._plan(Fault(operation, target, service, None, after=True, times=times, cut=True))

    def slow(self, operation: str, seconds: float, *, target: str = "*", service: str = "*", times: int = 1) -> Fault:
        """Let the next matching requests wait before they are carried out.

        Args:
            operation: Pattern of operations.
            seconds: Seconds of real time, whatever the cloud's clock says: a socket waits in no other.
            target: Pattern of targets.
            service: Pattern of services.
            times: How many requests are met.

        Returns:
            The fault.
        """
        return self._plan(Fault(operation, target, service, None, after=False, times=times, delay=seconds))

    def wait(self, fault: Fault) -> None:
        """Let a slow answer's time pass, or the cloud stop."""
        self._over.wait(fault.delay)

    def close(self) -> None:
        """Let nobody wait any more: the cloud stops."""
        self._over.set()

    def clear(self) -> None:
        """Plan nothing any more."""
        with self._lock:
            self._planned.clear()

    def strike(self, request: Request, *, after: bool) -> Fault | None:
        """The first fault that meets this request, counted as used; None when none does."""
        return self._first(request, after=after, cut=False)

    def takes_half(self, request: Request, body: bytes) -> bool:
        """Whether a fault cuts the body of this request's answer, counted as used.

        Raises:
            HangUp: It does, and there is no body to be cut.
        """
        if self._first(request, after=True, cut=True) is None:
            return False
        if not body:
            raise HangUp
        return True

    def _first(self, request: Request, *, after: bool, cut: bool) -> Fault | None:
        with self._lock:
            for fault in self._planned:
                if fault.cut is cut and fault.meets(request, after=after):
                    fault.times -= 1
                    return fault
        return None

    def _plan(self, fault: Fault) -> Fault:
        with self._lock:
            self._planned.append(fault)
        return fault

"""CloudWatch Logs: which streams a log group has, and what they say between two moments."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.errors import AccessDeniedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

ACTIONS = ("logs:DescribeLogStreams", "logs:FilterLogEvents")
"""What a reader of logs must be allowed to do on the log group."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MOST_STREAMS = 100  # names that one FilterLogEvents request takes
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


@dataclass(frozen=True)
class LogEvent:
    """One line as CloudWatch keeps it.

    Attributes:
        id: The event's id, unique in the log group.
        at: The moment that the line carries (aware, UTC, whole milliseconds).
        stream: The log stream it lies in.
        text: The line.
    """

    id: str
    at: datetime
    stream: str
    text: str


@dataclass(frozen=True)
class LogGroup:
    """One log group. Building it asks nobody.

    Attributes:
        name: Its name.
        client: boto3's client of CloudWatch Logs.
    """

    name: str
    client: Any = field(repr=False)

    def streams(self, prefix: str) -> list[str]:
        """The names of all streams that begin with `prefix`.

        Raises:
            NotFoundError: There is no such log group.
            AccessDeniedError: The caller may not look; names the IAM actions.
        """
        found: list[str] = []
        for page in self._pages("DescribeLogStreams", {"logStreamNamePrefix": prefix}):
            found += [str(each["logStreamName"]) for each in page.get("logStreams") or ()]
        return found

    def events(
        self,
        *,
        streams: Sequence[str] = (),
        prefix: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        pattern: str = "",
    ) -> Iterator[LogEvent]:
        """Lines between two moments, page by page; those of one stream come in the order of their moments.

        Args:
            streams: Only these streams, which must exist.
            prefix: Only streams that begin so; not together with `streams`.
            start: No line before this moment.
            end: No line after this moment.
            pattern: A CloudWatch filter pattern, such as `"support-dpo-3f9a1"` in double quotes.

        Raises:
            NotFoundError: There is no such log group or stream.
            AccessDeniedError: The caller may not read; names the IAM actions.
            ThrottledError: AWS asked to slow down until the retries were used up.
        """
        given: dict[str, Any] = {"logStreamNamePrefix": prefix, "filterPattern": pattern}
        if start is not None:
            given["startTime"] = max(0, _milliseconds(start))
        if end is not None:
            given["endTime"] = max(0, _milliseconds(end))
        given = {name: value for name, value in given.items() if value != ""}
        for first in range(0, max(1, len(streams)), _MOST_STREAMS):
            some = list(streams[first : first + _MOST_STREAMS])
            yield from self._events({**given, "logStreamNames": some} if some else given)

    def _events(self, given: dict[str, Any]) -> Iterator[LogEvent]:
        for page in self._pages("FilterLogEvents", given):
            for each in page.get("events") or ():
                at = _EPOCH + timedelta(milliseconds=int(each["timestamp"]))
                yield LogEvent(str(each["eventId"]), at, str(each["logStreamName"]), str(each["message"]).rstrip("\n"))

    def _pages(self, operation: str, given: dict[str, Any]) -> Iterator[Any]:
        call = {"DescribeLogStreams": "describe_log_streams", "FilterLogEvents": "filter_log_events"}[operation]
        token: str | None = None
        while True:
            more = {"nextToken": token} if token else {}
            with self._explained(operation):
                page: Any = getattr(self.client, call)(logGroupName=self.name, **given, **more)
            yield page
            # A page may be empty and yet have a successor: only a missing token is the end, or one that stands still.
            before, token = token, page.get("nextToken")
            if not token or token == before:
                return

    @contextmanager
    def _explained(self, operation: str) -> Generator[None]:
        target = f"log group {self.name}"
        try:
            with aws_errors(operation, target):
                yield
        except AccessDeniedError as error:
            if error.code not in _REFUSED:
                raise
            raise AccessDeniedError(
                f"{operation} on {target} failed: access denied ({error.code}). Reading a job's log needs the IAM "
                f"actions {' and '.join(ACTIONS)} on this log group (and kms:Decrypt, if it has a KMS key of yours).",
                operation=operation,
                target=target,
                code=error.code,
                request_id=error.request_id,
            ) from error.__cause__
        except NotFoundError as error:
            raise NotFoundError(
                f"{operation} on {target} failed: the group, or a stream in it, does not exist ({error.code}).",
                operation=operation,
                target=target,
                code=error.code,
                request_id=error.request_id,
            ) from error.__cause__


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)

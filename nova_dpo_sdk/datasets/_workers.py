"""Several processes for one big file: each looks at a range of whole lines; what they find is put together."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from nova_dpo_sdk.datasets._lines import FileState, Reader, open_file, state_of
from nova_dpo_sdk.datasets._rules import LIMITS
from nova_dpo_sdk.datasets._scan import Keys, Ledger, Order, Part, without_collector
from nova_dpo_sdk.datasets._seen import FEWER, Seen
from nova_dpo_sdk.datasets._unpack import compression
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from nova_dpo_sdk.datasets._report import Report
    from nova_dpo_sdk.datasets._scan import Measured

WORTH_TWO = 90_000_000
"""Bytes of a file from which two processes are faster than one."""

_CHUNK = 1 << 20
_AHEAD = 40_000_000
"""Bytes that this process has read when another one has started and can begin."""
_SHARE = 8
"""At most one in so many bytes of a file is read ahead of the others."""
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C is for the parent, which ends this process
    "from nova_dpo_sdk.datasets import _workers; _workers.main()"
)
_GENTLE = 10
"""Nice value of processes that work beside something more urgent."""


def processes(stream: BinaryIO, asked: int | None) -> int:
    """How many processes should look at a file.

    Args:
        stream: The open file.
        asked: As many as the caller wants; None to leave it to the file's size.

    Raises:
        ConfigurationError: `asked` is no number, or below 1.
    """
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise ConfigurationError(f"workers is {asked!r}; pass a whole number from 1 on, or nothing.")
    if compression(stream) or not sys.executable or getattr(sys, "frozen", False):
        return 1
    size = os.fstat(stream.fileno()).st_size
    if asked is None:
        return 2 if size > WORTH_TWO and (os.cpu_count() or 1) > 1 else 1
    return max(1, min(asked, size // _CHUNK))


def scan_in_parts(stream: BinaryIO, order: Order, workers: int, measured: Measured | None = None) -> Report:
    """Look at a plain file with several processes.

    Args:
        stream: The open file; its bytes are hashed here while the others look at them.
        order: What is to be looked at, and how.
        workers: How many processes; this one looks at the first part, unless it has something more urgent to do.
        measured: Bytes and hash, when these are known already; the file is not hashed again then.

    Raises:
        DatasetError: The file changed while it was read, or a process ended without an answer.
    """
    before, size = _state(stream), os.fstat(stream.fileno()).st_size
    # A profile takes memory in this process, which has the table of repeats already: it does no more than merge then.
    own = not order.gentle and not order.profiled and (measured is not None or not order.hashed)
    starts = _starts(stream, workers, ahead=_AHEAD if own else 0)
    with ExitStack() as stack:
        tasks = [_Task(order, before, start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
        running = [stack.enter_context(_Worker(task)) for task in tasks[own:]]
        measured = measured or _Measured.of(stream, hashed=order.hashed)
        ledger = Ledger(order, seen=Seen(FEWER))  # it holds the keys of another part as well
        if own:
            tasks[0].show(ledger)
        for worker in running:
            ledger.merge(worker.part(), worker.task.start)
    if _state(stream) != before or measured.size != size:
        raise _changed(order)
    return ledger.report(measured)


@dataclass(frozen=True)
class _Task:
    order: Order
    state: FileState
    start: int
    end: int

    def run(self) -> Part:
        """Look at the range in a process of its own."""
        ledger = Ledger(replace(self.order, start=self.start), keys=Keys())
        self.show(ledger)
        return ledger.part()

    def show(self, ledger: Ledger) -> None:
        """Show the range to a ledger."""
        with open_file(self.order.path) as file:
            if _state(file) != self.state:
                raise _changed(self.order)  # another file has the name by now
            file.seek(self.start)
            stream = cast("BinaryIO", _Range(file, self.end - self.start))
            reader = Reader(stream, longest=LIMITS["line-bytes"].value, block=self.order.block, hashed=False)
            with without_collector():
                for block in reader.blocks():
                    ledger.take(block)


class _Range(io.RawIOBase):
    """The next so many bytes of a file."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        super().__init__()
        self._file = file
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer).cast("B")
        data = self._file.read(min(len(target), self._left))
        target[: len(data)] = data
        self._left -= len(data)
        return len(data)


@dataclass(frozen=True)
class _Measured:
    size: int
    sha256: str

    @classmethod
    def of(cls, stream: BinaryIO, *, hashed: bool) -> _Measured:
        """Size and hash of a whole file."""
        if not hashed:
            return cls(os.fstat(stream.fileno()).st_size, "")
        stream.seek(0)
        found, size = hashlib.sha256(), 0
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
        return cls(size, found.hexdigest())


class _Worker:
    """A process that looks at one range; ended when the `with` block ends."""

    def __init__(self, task: _Task) -> None:
        self.task = task
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # to find this package
        command = [sys.executable, "-c", _PROGRAM]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __enter__(self) -> Self:
        assert self._process.stdin is not None  # noqa: S101 - for the type checkers; it was asked for
        # One that is dead already says so when its answer is asked for.
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(pickle.dumps(self.task))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def part(self) -> Part:
        """Wait for the answer."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checkers; it was asked for
        try:
            found: Any = pickle.load(self._process.stdout)  # noqa: S301 - from our own process
            if isinstance(found, Part):
                found = replace(found, keys=Keys.read(cast("BinaryIO", self._process.stdout)))
        except (EOFError, pickle.UnpicklingError):
            found = None
        if self._process.wait() or found is None:
            raise DatasetError(
                f"A process that read {self.task.order.path} ended with code {self._process.returncode} and no"
                " answer; its own words are on the standard error. Look again with workers=1."
            )
        if isinstance(found, DatasetError):
            raise found
        return cast("Part", found)


def main() -> None:
    """Answer one task: read from standard input, written to standard output."""
    task: _Task = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own process
    if task.order.gentle:
        with suppress(OSError, AttributeError):
            os.nice(_GENTLE)
    try:
        answer: Part | DatasetError = task.run()
    except DatasetError as error:
        answer = error
    try:
        out = sys.stdout.buffer
        pickle.dump(replace(answer, keys=Keys()) if isinstance(answer, Part) else answer, out)
        if isinstance(answer, Part):
            answer.keys.write(out)
        out.flush()
    except BrokenPipeError:  # nobody is there any more to whom it matters
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _state(stream: BinaryIO) -> FileState:
    return state_of(os.fstat(stream.fileno()))


def _changed(order: Order) -> DatasetError:
    return DatasetError(f"{order.path} changed while it was read; write it to its end first, then look again.")


def _starts(stream: BinaryIO, parts: int, *, ahead: int) -> list[int]:
    """Where to begin reading, so that each part has whole lines and about the same size.

    Args:
        stream: The open file.
        parts: How many there should be.
        ahead: Bytes that the first part should have more than the others.
    """
    size = os.fstat(stream.fileno()).st_size
    ahead = min(ahead, size // _SHARE)
    each = (size - ahead) // parts
    starts = [0]
    for number in range(1, parts):
        start = _line_start(stream, max(starts[-1], ahead + each * number))
        if starts[-1] < start < size:
            starts.append(start)
    return starts


def _line_start(stream: BinaryIO, offset: int) -> int:
    """Where the next line begins after a byte offset."""
    stream.seek(offset)
    while chunk := stream.read(_CHUNK):
        end = chunk.find(b"\n")
        if end >= 0:
            return offset + end + 1
        offset += len(chunk)
    return offset

"""Bytes that are somewhere else: read in ranges, several at a time, as one stream from front to end."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from nova_dpo_sdk._defaults import default
from nova_dpo_sdk.datasets._unpack import Unpacked, compression
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Buffer

    from nova_dpo_sdk.datasets._report import Problem, Report

RANGE = 4 * 1024 * 1024
"""Bytes asked for at once."""

AHEAD = 4
"""Ranges on their way while one is being read. Memory: one range more than this."""

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst")
"""What the names of data files under a prefix end in; other objects there are passed over."""


class ByteSource(Protocol):
    """Bytes with a name that can be read in ranges, such as an object in S3."""

    @property
    def name(self) -> str:
        """What messages call it, such as `s3://bucket/key`."""
        ...

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the bytes do."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, that one not included; safe to call from several threads.

        Raises:
            DatasetError: The bytes are no longer of this version.
        """
        ...


class ByteStore(Protocol):
    """Where byte sources are found, such as `AWS`."""

    def find(self, uri: str, endings: tuple[str, ...]) -> Sequence[ByteSource]:
        """The object of that name, or every object below it whose name ends so, in the order of their names."""
        ...


def find_sources(uri: str, store: ByteStore | None) -> tuple[ByteSource, ...]:
    """The one object with this address, or the data files below it.

    Args:
        uri: The address.
        store: Where it is; None for what boto3 finds by itself.

    Raises:
        DatasetError: There is nothing, or nothing with bytes in it.
    """
    known: ByteStore = store or default("aws")
    found = known.find(uri, SUFFIXES)
    if not found:
        raise DatasetError(
            f"{uri} is no object, and there is no {' or '.join(SUFFIXES[:2])} file below it. Check the address."
        )
    if not any(each.size for each in found):
        raise DatasetError(f"{uri} is empty; a data set has at least one record.")
    return tuple(each for each in found if each.size)


@dataclass(frozen=True)
class _Piece:
    source: ByteSource
    start: int
    end: int


@dataclass(frozen=True)
class Begin:
    """Where a file begins among all of them, and how it is compressed, if it is."""

    name: str
    offset: int
    line: int
    packed: str


class _Inner(Protocol):
    """The bytes of one source, unpacked if need be."""

    def readinto(self, buffer: Buffer, /) -> int: ...


class RangedStream(io.RawIOBase):
    """Several sources as one stream of bytes, the next ranges always on their way.

    Args:
        sources: Read in this order; a newline is put between two where the first has none at its end. Of several,
            those that are compressed are unpacked; one alone is read as it is.
        size: Bytes asked for at once.
        ahead: Ranges on their way at once.
    """

    def __init__(self, sources: Sequence[ByteSource], *, size: int = RANGE, ahead: int = AHEAD) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="nova-ranges")
        self._pieces = _pieces(sources, size)
        self._coming: deque[tuple[_Piece, Future[bytes]]] = deque()
        self._sources = iter(sources)
        self._several = len(sources) > 1
        self._part: _Inner | None = None
        self._offset, self._line, self._is_line_end = 0, 1, True
        self.begins: list[Begin] = []
        for _ in range(ahead):
            self._ask()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as the source at hand goes; 0 at the end."""
        target = memoryview(buffer).cast("B")
        count = self._part.readinto(target) if self._part else 0
        while not count and (source := next(self._sources, None)):
            if not self._is_line_end:
                target[:1] = b"\n"
                count = 1
            self._part = self._begun(source, self._offset + count, self._line + count)
            count = count or self._part.readinto(target)
        self._count(target[:count])
        return count

    def _begun(self, source: ByteSource, offset: int, line: int) -> _Inner:
        stream = cast("BinaryIO", io.BufferedReader(_Part(self._next)))
        packed = compression(stream) if self._several else ""
        self.begins.append(Begin(source.name, offset, line, packed))
        return Unpacked(stream, packed, source.name) if packed else cast("_Inner", stream)

    def _count(self, data: memoryview) -> None:
        if self._several and data:
            text = data.tobytes()
            self._offset += len(text)
            self._line += text.count(b"\n")
            self._is_line_end = text.endswith(b"\n")

    def close(self) -> None:
        """Stop asking; waits for the ranges on their way."""
        if not self.closed:
            self._pool.shutdown(cancel_futures=True)
        super().close()

    def _ask(self) -> None:
        piece = next(self._pieces, None)
        if piece is not None:
            self._coming.append((piece, self._pool.submit(piece.source.read, piece.start, piece.end)))

    def _next(self) -> tuple[bytes, bool]:
        """The next range, and whether its source has more of them."""
        piece, future = self._coming.popleft()
        self._ask()
        return future.result(), piece.end < piece.source.size


class _Part(io.RawIOBase):
    """The bytes of one source.

    Args:
        take: Gives its next range, and whether there are more.
    """

    def __init__(self, take: Callable[[], tuple[bytes, bool]]) -> None:
        super().__init__()
        self._take = take
        self._rest, self._has_more = memoryview(b""), True

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as the range at hand goes; 0 at the end."""
        if not self._rest and self._has_more:
            data, self._has_more = self._take()
            self._rest = memoryview(data)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _pieces(sources: Sequence[ByteSource], size: int) -> Iterator[_Piece]:
    for source in sources:
        for start in range(0, source.size, size):
            yield _Piece(source, start, min(start + size, source.size))


def named(report: Report, begins: Sequence[Begin]) -> Report:
    """The report with the file and the line in it added to each problem, when there are several files."""
    if len(begins) < 2:
        return report
    offsets = [begin.offset for begin in begins]

    def told(problem: Problem) -> Problem:
        begin = begins[bisect_right(offsets, problem.offset) - 1]
        if problem.code == "compressed":  # one that is empty begins where the next one does
            begin = next(each for each in begins if each.packed and each.offset == problem.offset)
        where = f"{begin.name} line {problem.line - begin.line + 1}"
        return replace(problem, message=f"{problem.message} ({where})")

    return replace(
        report,
        problems=tuple(map(told, report.problems)),
        firsts={code: told(problem) for code, problem in report.firsts.items()},
    )

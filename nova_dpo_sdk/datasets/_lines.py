"""Bytes in, whole lines out: big blocks, line numbers, byte offsets, and the hash of what was read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from bisect import bisect_left, bisect_right
from functools import cached_property
from io import BytesIO
from itertools import accumulate, compress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BLOCK = 256 * 1024
"""Bytes per read; many lines at once make each cheap, and still stay in a processor's cache."""


BOM = b"\xef\xbb\xbf"
"""The byte order mark that some editors put before the first line."""

BLANK = b" \t\r\n"
"""The white space of JSON: a line of nothing else is blank."""

FileState: TypeAlias = "tuple[int, int, int, int]"
"""Which file, its size in bytes, and the time of its last change in nanoseconds."""

_OPEN, _CLOSE = b"{}"


class Block(NamedTuple):
    """Some whole lines of a file.

    Attributes:
        data: The lines, each with its newline (the file's last may have none); empty when `skipped` is not 0.
        offset: Byte offset of the first line.
        skipped: Bytes of a single line that was too long to be kept; 0 for a normal block.
    """

    data: bytes
    offset: int
    skipped: int = 0


class Lines:
    """The lines of a block, found but not cut out: most are never needed alone.

    Args:
        data: Whole lines, with a newline between them; not empty.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._count = 0

    @cached_property
    def _bounds(self) -> list[int]:
        """Where each line begins, and where one more would."""
        # Nothing finds line ends faster than reading lines.
        bounds = [0, *accumulate(map(len, BytesIO(self.data)))]
        if not self.data.endswith(b"\n"):
            bounds[-1] += 1
        return bounds

    @cached_property
    def starts(self) -> list[int]:
        """Where each line begins."""
        return self._bounds[:-1]

    @cached_property
    def ends(self) -> list[int]:
        """Where each line ends, its newline left out."""
        return [bound - 1 for bound in self._bounds[1:]]

    def start(self, row: int) -> int:
        """Where a line begins, when few are asked for."""
        return self._bounds[row]

    def at(self, place: int) -> int:
        """Which line a byte belongs to; the newline belongs to the line that it ends."""
        return bisect_right(self._bounds, place) - 1

    def first_from(self, place: int) -> int:
        """The first line that begins at a byte or after it."""
        return bisect_left(self._bounds, place)

    def counted(self, count: int) -> None:
        """Be told how many lines there are by somebody who knows."""
        self._count = count

    def __len__(self) -> int:
        return self._count or len(self._bounds) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self._bounds[row] : self._bounds[row + 1] - 1]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.data.__getitem__, map(slice, self.starts, self.ends))

    def has_longer(self, size: int) -> bool:
        """Whether one of the lines has more than so many bytes."""
        start, left = 0, len(self.data)
        while left - start > size:
            # The last newline within reach: most lines need not be looked at.
            start = self.data.rfind(b"\n", start, start + size + 1) + 1
            if not start:
                return True
        return False

    def longest(self, rows: Sequence[int]) -> int:
        """Bytes of the longest of some lines, its newline included; 0 when there are none."""
        if len(rows) == len(self):
            return max(map(len, BytesIO(self.data)))
        return max([self._bounds[row + 1] - self._bounds[row] for row in rows], default=0)

    def are_objects(self, rows: Sequence[int]) -> bool:
        """Whether some lines begin with `{` and end with `}`.

        Then no record goes on in the next line, and as many values as lines are one in each: nothing in JSON but a
        new value brings these two characters together without a comma.
        """
        data, starts, ends = self.data, self.starts, self.ends
        firsts = [data[starts[row]] for row in rows]
        lasts = [data[ends[row] - 1] for row in rows]
        return firsts.count(_OPEN) == lasts.count(_CLOSE) == len(rows)

    def size_without(self, rows: Sequence[int]) -> int:
        """Bytes of all lines but some, each with a newline."""
        size = len(self.data) + (not self.data.endswith(b"\n"))
        return size - sum([self._bounds[row + 1] - self._bounds[row] for row in rows])

    def joined(self, rows: Sequence[int]) -> bytes:
        """Some lines, in their order, each with its newline; the last of all may have none."""
        return self.without(self.others(rows))

    def without(self, rows: Sequence[int]) -> bytes:
        """All lines but some, which are in their order; each with its newline, the last of all may have none."""
        if not rows:
            return self.data
        data, pieces, start = memoryview(self.data), list[memoryview](), 0
        for row in rows:
            pieces.append(data[start : self._bounds[row]])
            start = self._bounds[row + 1]
        return b"".join([*pieces, data[start:]])

    def others(self, rows: Sequence[int]) -> list[int]:
        """The lines that are not among some, each of which is named once."""
        if len(rows) == len(self):
            return []
        others = bytearray(b"\1") * len(self)
        for row in rows:
            others[row] = 0
        return list(compress(range(len(self)), others))


class Reader:
    """Reads a stream in blocks of whole lines and remembers what it read.

    Args:
        stream: Where the bytes come from.
        longest: Bytes; a line that is longer may be skipped without being held in memory.
        block: Bytes per read.
        hashed: Whether to hash what is read.
    """

    def __init__(self, stream: BinaryIO, *, longest: int, block: int = BLOCK, hashed: bool = True) -> None:
        self._stream = stream
        self._longest = longest
        self._block = block
        self._hashed = hashed
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hex; empty when they are not hashed."""
        return self._hash.hexdigest() if self._hashed else ""

    def blocks(self) -> Iterator[Block]:
        """Yield the file's lines in blocks, in order."""
        offset = 0
        rest = _Rest(self._longest)
        for chunk in self._chunks():
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest.add(chunk)
                continue
            first = chunk.find(b"\n") + 1 if rest.skipped else 0
            if first:
                yield Block(b"", offset, rest.skipped + first)
                offset += rest.skipped + first
            data = rest.take(memoryview(chunk)[first:cut])
            if data:
                yield Block(data, offset)
                offset += len(data)
            rest.add(chunk[cut:])
        if rest.skipped:
            yield Block(b"", offset, rest.skipped)
        elif tail := rest.take():
            yield Block(tail, offset)

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self._stream.read(self._block):
            if self._hashed:
                self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk


class _Rest:
    """The beginning of a line whose end has not been read yet."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._held = 0
        self.skipped = 0

    def add(self, part: bytes) -> None:
        if self.skipped:
            self.skipped += len(part)
            return
        self._parts.append(part)
        self._held += len(part)
        if self._held > self._longest:
            self.skipped = self._held
            self._parts.clear()

    def take(self, end: bytes | memoryview = b"") -> bytes:
        data = b"".join((*self._parts, end))
        self._parts.clear()
        self._held = self.skipped = 0
        return data


def state_of(status: os.stat_result) -> FileState:
    """Which file it is, and when it was written last: another one of its name and size has another state."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_file(path: Path) -> BinaryIO:
    """Open a regular, readable, non-empty file for reading, without ever waiting for a pipe.

    Raises:
        DatasetError: It is missing, empty, a directory, a pipe, a socket or a device, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise DatasetError(_unopened(path, error)) from error
    try:
        _expect_content(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _unopened(path: Path, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        return f"{path} does not exist; check the path (relative paths start at {_here()})."
    if number in {errno.EACCES, errno.EPERM}:
        return f"{path} may not be read by this user; change its permissions."
    if number == errno.ENXIO:
        return f"{path} is a socket or a device, not a file; write the data to a regular .jsonl file."
    return f"{path} cannot be opened: {error}."


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - only its text is wanted
    except OSError:
        return "a working directory that is gone"


def _expect_content(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise DatasetError(f"{path} is a directory; name the .jsonl file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise DatasetError(f"{path} is a pipe or a device, not a file; write the data to a regular .jsonl file.")
    if status.st_size == 0:
        raise DatasetError(f"{path} is empty; a data set has at least one record.")

"""Bytes in, whole lines out: big blocks, line numbers, byte offsets, and the hash of what was read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 64 * 1024
"""Bytes per read; big enough to make reads free, small enough to stay in a processor's cache."""


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
        """Hash of the bytes read so far, in hex."""
        return self._hash.hexdigest()

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
            data = rest.take(chunk[first:cut])
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

    def take(self, end: bytes = b"") -> bytes:
        data = b"".join((*self._parts, end)) if self._parts else end
        self._parts.clear()
        self._held = self.skipped = 0
        return data


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

"""A few small files out of a tar.gz that is read as a stream: nothing is extracted, and nothing in it is trusted."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BLOCK = tarfile.BLOCKSIZE
MEMBERS = 100_000
"""Most members that are looked at."""
UNPACKED = 16 * 1024**3
"""Most bytes that are unpacked, in all, while looking for a file."""
HEADER = 1024 * 1024
"""Most bytes of one extended header."""
_CHUNK = 1024 * 1024
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
"""Kinds of members that no bytes follow, whatever size they claim."""


class ArchiveError(Exception):
    """An archive that cannot be read; the text says why."""


@dataclass(frozen=True)
class Member:
    """One file that was looked for.

    Attributes:
        name: Its whole name in the archive.
        body: Its bytes.
    """

    name: str
    body: bytes

    @property
    def depth(self) -> int:
        """How many folders it lies in."""
        return sum(part not in ("", ".") for part in self.name.split("/")) - 1


def find_members(stream: Any, names: Collection[str], *, largest: int) -> dict[str, Member]:
    """Read files by their last name, whatever folder they lie in; the one nearest to the root counts.

    The stream is read until all of them were found at the root, or to its end. Links, devices, sparse files and files
    longer than `largest` are passed over. Memory holds one file at most. Names are compared, never opened.

    Args:
        stream: The bytes of the tar.gz, to be read once.
        names: Last parts of names, such as `manifest.json`.
        largest: Longest file in bytes.

    Raises:
        ArchiveError: It is no tar.gz, is cut off, or unpacks to more than is looked at.
    """
    found: dict[str, Member] = {}
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            for member in _members(_Counted(unpacked), names, largest):
                last = member.name.rpartition("/")[2]
                if last not in found or member.depth < found[last].depth:
                    found[last] = member
                if len(found) == len(names) and not any(each.depth for each in found.values()):
                    break
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArchiveError(str(error) or type(error).__name__) from error
    return found


class _Counted:
    """Unpacked bytes, counted."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._left = UNPACKED

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        body = self._source.read(size)
        self._count(len(body))
        if len(body) < size:
            raise ArchiveError(f"it ends after {UNPACKED - self._left:,} bytes, in the middle of a file")
        return body

    def skip(self, size: int) -> None:
        """Pass over so many bytes, a little at a time."""
        while size > 0:
            size -= len(self.read(min(size, _CHUNK)))

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ArchiveError(f"it unpacks to more than {UNPACKED:,} bytes")


def _members(archive: _Counted, names: Collection[str], largest: int) -> Iterator[Member]:
    told: dict[str, str] = {}
    for _ in range(MEMBERS):
        header = archive.read(BLOCK)
        if not header.strip(b"\0"):
            return
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.type in (*_LONG_NAMES, *_PAX):
            told |= _extended(info, archive)
            continue
        name, size = told.get("path", info.name), _size(info, told)
        is_plain = info.type in tarfile.REGULAR_TYPES and not any(key.startswith("GNU.sparse") for key in told)
        told = {}
        if is_plain and size <= largest and name.rpartition("/")[2] in names:
            yield Member(name, _padded(archive, size))
        else:
            archive.skip(_rounded(size))
    raise ArchiveError(f"it has more than {MEMBERS:,} members")


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _padded(archive: _Counted, size: int) -> bytes:
    return archive.read(_rounded(size))[:size]


def _size(info: tarfile.TarInfo, told: dict[str, str]) -> int:
    """How many bytes follow a member's header; an extended header says it of files beyond 8 GiB."""
    if info.type in _EMPTY:
        return 0
    size = int(told["size"]) if told.get("size", "").isascii() and told.get("size", "").isdigit() else info.size
    if size < 0:
        raise ArchiveError(f"one of its members claims {size:,} bytes")
    return size


def _extended(info: tarfile.TarInfo, archive: _Counted) -> dict[str, str]:
    """What an extended header says of the next member."""
    if not 0 <= info.size <= HEADER:
        raise ArchiveError(f"one of its headers has {info.size:,} bytes")
    body = _padded(archive, info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": body.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}
    return dict(_records(body)) if info.type == tarfile.XHDTYPE else {}


def _records(body: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header: each begins with its own length."""
    while body:
        length, _, _ = body[:20].partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(body):
            return
        key, _, value = body[len(length) + 1 : int(length) - 1].partition(b"=")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        body = body[int(length) :]

"""Compressed streams: told by their first bytes, unpacked as they are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


class Meter(io.RawIOBase):
    """Hands bytes on and remembers how many there were, and their hash."""

    def __init__(self, stream: BinaryIO, *, hashed: bool) -> None:
        super().__init__()
        self._stream = stream
        self._hashed = hashed
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hex; empty when they are not hashed."""
        return self._hash.hexdigest() if self._hashed else ""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as one read goes; 0 at the end."""
        target = memoryview(buffer).cast("B")
        data = self._stream.read(len(target))
        target[: len(data)] = data
        if self._hashed:
            self._hash.update(data)
        self.size += len(data)
        return len(data)


class Unpacked(io.RawIOBase):
    """The bytes inside a compressed stream.

    Args:
        stream: Gives gzip or zstd.
        kind: `gzip` or `zstd`.
        path: The file, or the address in S3, for messages.
        hashed: Whether to hash the compressed bytes.
    """

    def __init__(self, stream: BinaryIO, kind: str, path: Path | str, *, hashed: bool = False) -> None:
        super().__init__()
        self._path = path
        self._kind = kind
        self.meter = Meter(stream, hashed=hashed)
        inner: Any = io.BufferedReader(self.meter)
        self._file: Any = gzip.GzipFile(fileobj=inner) if kind == "gzip" else _zstd(inner, path)
        self._faults: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, *_zstd_faults())

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` with unpacked bytes; 0 at the end.

        Raises:
            DatasetError: The compressed bytes are damaged or cut off.
        """
        target = memoryview(buffer).cast("B")
        try:
            data: bytes = self._file.read(len(target))
        except self._faults as error:
            raise DatasetError(
                f"{self._path} is {self._kind} that cannot be unpacked to its end: {error}. Fetch the file again."
            ) from error
        target[: len(data)] = data
        return len(data)


def compression(stream: BinaryIO) -> str:
    """`gzip`, `zstd`, or nothing for a stream that is not compressed; reads nothing away from it."""
    head = cast("io.BufferedReader", stream).peek(len(ZSTD))
    return "gzip" if head.startswith(GZIP) else "zstd" if head.startswith(ZSTD) else ""


def _zstd(stream: BinaryIO, path: Path | str) -> Any:
    module = _module("compression.zstd")
    if module is not None:
        return module.ZstdFile(stream)
    module = _module("zstandard")
    if module is None:
        raise DatasetError(f"{path} is compressed with zstd. Install `nova-dpo-sdk[zstd]`, or unpack the file first.")
    return io.BufferedReader(_Frames(stream, module.ZstdDecompressor().decompressobj))


class _Frames(io.RawIOBase):
    """The bytes in zstd frames, one frame after another; the package's own reader takes a cut-off file for a whole one.

    Args:
        stream: Gives zstd.
        fresh: Makes what unpacks one frame.
    """

    def __init__(self, stream: BinaryIO, fresh: Callable[[], Any]) -> None:
        super().__init__()
        self._stream = stream
        self._fresh = fresh
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as one step goes; 0 at the end.

        Raises:
            EOFError: The last frame is cut off.
        """
        while not self._ready:
            self._packed = self._packed or self._stream.read(_STEP)
            if not self._packed:
                if self._frame is None:
                    return 0
                raise EOFError("it ends inside a frame")
            self._step()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _step(self) -> None:
        self._frame = self._frame or self._fresh()
        self._ready = memoryview(self._frame.decompress(self._packed))
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None


_STEP = 1 << 13
"""Packed bytes at a time: few, because they may become very many."""


def _zstd_faults() -> list[type[Exception]]:
    modules = (_module("compression.zstd"), _module("zstandard"))
    return [cast("type[Exception]", module.ZstdError) for module in modules if module is not None]


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None

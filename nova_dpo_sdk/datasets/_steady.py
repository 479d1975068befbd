"""A file that must stay as it is while it is read: whoever reaches its end learns whether it did."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer


def steady(stream: BinaryIO, path: Path) -> BinaryIO:
    """The same open file, as a stream that refuses to end well when the file was written to meanwhile."""
    return io.BufferedReader(_Steady(cast("io.FileIO", cast("io.BufferedReader", stream).detach()), path))


class _Steady(io.RawIOBase):
    def __init__(self, file: io.FileIO, path: Path) -> None:
        super().__init__()
        self._file = file
        self._path = path
        self._state = _state(file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Buffer, /) -> int | None:
        count = self._file.readinto(buffer)
        if not count and _state(self._file) != self._state:
            raise DatasetError(
                f"{self._path} changed while it was read; write it to its end first, then look at it again."
            )
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _state(file: io.FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns

"""Standard input and output in the place of files: `-` is read to its end first, and written when all is well."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk.datasets._files import refuse_same, replacing_all
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Generator

STREAM = "-"
STDIN = "standard input"
STDOUT = "standard output"
_CHUNK = 1 << 20


@contextmanager
def readable(name: str, called: str = "") -> Generator[Path]:
    """The file of that name; for `-` a file with all of standard input, which is gone afterwards.

    Data are looked at more than once (what layout, then the records) and a pipe cannot be read again.

    Args:
        name: A file's name, or `-`.
        called: A name for what comes from standard input.

    Raises:
        DatasetError: Standard input is closed or a terminal, or the disk is full.
    """
    if name != STREAM:
        yield Path(name)
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise DatasetError("standard input is closed or a terminal; pipe the data in, or name a file.")
    with tempfile.TemporaryDirectory(prefix="nova-dpo-") as folder:
        path = Path(folder) / (Path(called).name or "data.jsonl")
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, _CHUNK)
        except OSError as error:
            raise DatasetError(
                f"{STDIN} could not be kept in {folder}: {error.strerror or error}. Point TMPDIR at a roomier folder."
            ) from error
        yield path


def shown(name: str) -> str:
    """What messages call it."""
    return STDIN if name == STREAM else name


@contextmanager
def temporary(data: bytes) -> Generator[Path]:
    """A file with these bytes, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nova-dpo-") as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes(data)
        yield path


def write_whole(path: Path, text: str) -> None:
    """Write a text file, or leave what is there.

    Raises:
        DatasetError: It cannot be written.
    """
    refuse_same(None, path)
    with replacing_all([path]) as (file,):
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def writable(name: str) -> Generator[Path]:
    """The file of that name; for `-` a file that goes to standard output when all is well, and is gone then."""
    if name != STREAM:
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="nova-dpo-") as folder:
        path = Path(folder) / "stdout.jsonl"
        yield path
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
        sys.stdout.buffer.flush()

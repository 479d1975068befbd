"""Writing files so that each appears whole under its name, or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

BUFFER = 1 << 20
_umask_lock = threading.Lock()


@contextmanager
def replacing_all(targets: Sequence[Path]) -> Generator[list[BinaryIO]]:
    """Open a new file beside each target; all take their targets' places at the end, none when anything is raised.

    Args:
        targets: The files to write. Those that exist are replaced.

    Raises:
        DatasetError: A file cannot be written.
    """
    pieces = [target.with_name(f".{target.name}.{secrets.token_hex(4)}.part") for target in targets]
    with ExitStack() as undo:
        files: list[BinaryIO] = []
        for target, piece in zip(targets, pieces, strict=True):
            with _told(target):
                files.append(open_private(piece))
            undo.callback(_forget, piece)
            undo.callback(_close, files[-1])
        try:
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
        except OSError as error:
            named = ", ".join(map(str, targets))
            raise DatasetError(
                f"{named} cannot be written: {error.strerror or error}. Nothing was left there; free space, or pass "
                "another name."
            ) from error
        for target, piece in zip(targets, pieces, strict=True):
            with _told(target):
                publish(piece, target)


@contextmanager
def held_back(target: Path) -> Generator[Path]:
    """A file to write of the target's name, in a folder of its own; it takes the target's place at the end.

    Args:
        target: The file that is replaced; left as it is when anything is raised.

    Raises:
        DatasetError: A file cannot be written there.
    """
    with ExitStack() as undo:
        with _told(target):
            folder = undo.enter_context(tempfile.TemporaryDirectory(prefix=".nova-dpo-", dir=target.parent))
        piece = Path(folder) / target.name
        yield piece
        with _told(target):
            publish(piece, target)


def open_private(path: Path) -> BinaryIO:
    """A new file that nobody else can read while it is being written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb", BUFFER)


def publish(piece: Path, target: Path) -> None:
    """Give a written file its name, and the mode that new files have here."""
    with _umask_lock:
        umask = os.umask(0o077)
        os.umask(umask)
    piece.chmod(0o666 & ~umask)
    piece.replace(target)


@contextmanager
def _told(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{target} cannot be written: {error.strerror or error}. "
            "Pass another name, in a folder that can be written to."
        ) from error


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # what is still to be written does not fit on a full disk either
        file.close()


def _forget(piece: Path) -> None:
    with suppress(OSError):
        piece.unlink(missing_ok=True)


def refuse_same(source: Path | None, *targets: Path) -> None:
    """Refuse to write over what is being read, or two files over each other.

    Raises:
        DatasetError: Two of the paths are the same file, or a target is something else than a file.
    """
    for target in targets:
        with _told(target):
            _refuse_target(source, target)
    places = [Path(os.path.realpath(target.parent), target.name) for target in targets]
    if twice := [str(target) for target, place in zip(targets, places, strict=True) if places.count(place) > 1]:
        raise DatasetError(f"{twice[0]} is named twice, or would be written twice. Pass two names.")


def _refuse_target(source: Path | None, target: Path) -> None:
    if target.is_dir():
        raise DatasetError(f"{target} is a directory; name a file in it.")
    if target.exists() and not target.is_file():
        raise DatasetError(f"{target} is a device, a pipe or a socket, which is never replaced; name a file.")
    if source is not None and target.exists() and source.exists() and target.samefile(source):
        raise DatasetError(f"{target} is the source itself. Pass another name.")

"""Images on this machine: looked at, named by their content, and written into records as Nova reads them.

Before they are in S3, records name images by a local path, in a form of this package's own:

    {"image": {"source": {"path": "img/a.png"}}}
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.datasets import _rules
from nova_dpo_sdk.datasets._files import refuse_same, replacing_all
from nova_dpo_sdk.datasets._records import lines
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, Finding, Severity

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from nova_dpo_sdk.datasets._dataset import Dataset

MOST_BYTES = 10 * 1024 * 1024
"""Largest image, in bytes."""

LEAST_SIDE = 25
"""Least width and height of an image, in pixels."""

_SHOWN = 1000
_OUTPUT = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_./-]*)?")
_OWNER = re.compile(r"[0-9]{12}")
_EXTENSIONS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".gif": "gif", ".webp": "webp"}


@dataclass(frozen=True)
class LocalImage:
    """One image on this machine and where it goes.

    Attributes:
        path: The file.
        uri: Where its bytes go: under their own SHA-256, so the same picture is never sent twice.
        sha256: SHA-256 of the bytes, in hex.
        size: Bytes.
        format: `jpeg`, `png`, `gif` or `webp`, as its first bytes say.
        width: Pixels.
        height: Pixels.
        note: What is odd about it without being wrong; empty when nothing is.
    """

    path: Path
    uri: str
    sha256: str
    size: int
    format: str
    width: int
    height: int
    note: str = ""


class _BadImageError(Exception):
    """An image that cannot be used; says why by a rule's code."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        self.code, self.message, self.fix = code, message, fix
        super().__init__(message)


def place_images(
    data: Dataset, to: str | os.PathLike[str], *, output: str, owner: str, base_dir: str | os.PathLike[str]
) -> tuple[LocalImage, ...]:
    """Write the records with every local image given as the S3 object that it will be; see `Dataset.with_images`."""
    if not _OUTPUT.fullmatch(output):
        raise ConfigurationError(
            f"output is {output!r}; write s3://bucket/prefix with letters, digits, and _ - / . only, because these "
            "are what Nova's tools accept in the address of an image."
        )
    if not _OWNER.fullmatch(owner):
        raise ConfigurationError(
            f"owner is {owner!r}; it is the number of the account that owns the bucket: 12 digits."
        )
    if not Path(base_dir).is_dir():
        raise ConfigurationError(f"base_dir is {base_dir}, which is no directory. The images' paths start there.")
    target = Path(to)
    refuse_same(None if data.sources else data.path, target)
    gallery = _Gallery(Path(base_dir), output.rstrip("/"), owner)
    with replacing_all([target]) as (file,):
        for number, line in lines(data):
            file.write(gallery.hang(number, line) + b"\n")
        gallery.refuse_bad(data)
        if not file.tell():
            raise DatasetError(f"{data.where} has no records, only blank lines; nothing was written.")
    return gallery.images()


class _Gallery:
    """Looks at each image once."""

    def __init__(self, base: Path, output: str, owner: str) -> None:
        self._base, self._output, self._owner = base, output, owner
        self._seen: dict[str, LocalImage | _BadImageError] = {}
        self._bad: list[Finding] = []
        self._bad_count = 0

    def hang(self, number: int, line: bytes) -> bytes:
        """The line with its local images as S3 objects; any other line as it is."""
        if b'"path"' not in line or b'"image"' not in line:
            return line
        try:
            record: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        changed = False
        for path, image in _local_images(record):
            changed = True
            self._replace(number, path, image)
        return msgspec.json.encode(record) if changed else line

    def _replace(self, number: int, path: str, image: dict[str, Any]) -> None:
        name = image["source"]["path"]
        held = self._seen.get(name)
        if held is None:
            held = self._seen[name] = self._looked_at(name)
        if isinstance(held, LocalImage):
            held = _as_declared(held, image.get("format")) or held
        if isinstance(held, _BadImageError):
            self._complain(number, path, name, held)
            return
        image["format"] = held.format
        image["source"] = {"s3Location": {"uri": held.uri, "bucketOwner": self._owner}}

    def _looked_at(self, name: str) -> LocalImage | _BadImageError:
        try:
            return _look(self._found(name), self._output)
        except _BadImageError as bad:
            return bad

    def _found(self, name: str) -> Path:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", name):
            raise _BadImageError("image-not-local", "It is a URL.", "Download the image, and name the file.")
        base = self._base.resolve()
        try:
            path = (base / name).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise _BadImageError("image-missing", f"It cannot be found: {error}.", "Correct the path.") from error
        if not path.is_relative_to(base):
            raise _BadImageError("image-outside", f"It lies outside {base}.", "Pass base_dir= of the images.")
        return path

    def _complain(self, number: int, path: str, name: str, bad: _BadImageError) -> None:
        self._bad_count += 1
        if len(self._bad) < _SHOWN:
            where = f"line {number} {path}"
            message = f"{name}: {bad.message}"
            self._bad.append(Finding(bad.code, Severity.ERROR, where, message, name, "", bad.fix, _rules.GUIDE))

    def refuse_bad(self, data: Dataset) -> None:
        if self._bad:
            message = f"{data.where}: {plural(self._bad_count, 'image')} cannot be used; nothing was written."
            raise DatasetError(message, self._bad)

    def images(self) -> tuple[LocalImage, ...]:
        """Each different picture once, in the order of their addresses."""
        found = {each.uri: each for each in self._seen.values() if isinstance(each, LocalImage)}
        return tuple(found[uri] for uri in sorted(found))


def _local_images(record: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every image of a record that is named by a local path, with its JSON path."""
    if not _is_object(record):
        return
    for turn, message in enumerate(_listed(record.get("messages"))):
        for index, item in enumerate(_listed(message.get("content") if _is_object(message) else None)):
            image = item.get("image") if _is_object(item) else None
            source = image.get("source") if _is_object(image) else None
            if _is_object(image) and _is_object(source) and isinstance(source.get("path"), str):
                yield f"$.messages[{turn}].content[{index}].image", image


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType] - JSON


def _as_declared(image: LocalImage, declared: object) -> _BadImageError | None:
    if declared is None or declared == image.format or (declared == "jpg" and image.format == "jpeg"):
        return None
    fix = f"Write {image.format}, leave format out, or name the right file."
    return _BadImageError("image-format-mismatch", f"It is {image.format}, and the record says {declared!r}.", fix)


def _look(path: Path, output: str) -> LocalImage:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            message = "It is a directory, a pipe or a device, not a file."
            raise _BadImageError("image-missing", message, f"Correct the path ({path}).")
        size = status.st_size
        if size > MOST_BYTES:
            message = f"It has {size:,} bytes; at most {MOST_BYTES:,} are read."
            raise _BadImageError("image-too-large", message, "Make the picture smaller.")
        data = path.read_bytes()
    except OSError as error:
        message = f"It cannot be read: {error.strerror or error}."
        raise _BadImageError("image-missing", message, f"Correct the path ({path}).") from error
    form = image_format(data)
    if form is None:
        allowed = ", ".join(_rules.IMAGE_FORMATS)
        raise _BadImageError(
            "image-format", f"Its first bytes are not those of {allowed}.", f"Convert it to {allowed}."
        )
    sides = dimensions(data, form)
    if sides is None:
        message = f"It begins like a {form} file, but its header is broken or cut off."
        raise _BadImageError("image-broken", message, "Fetch or export the picture again.")
    width, height = sides
    if min(sides) < LEAST_SIDE:
        message = f"It has {width} x {height} pixels; at least {LEAST_SIDE} x {LEAST_SIDE} are needed."
        raise _BadImageError("image-too-small", message, "Use a larger picture, or drop it.")
    sha256 = hashlib.sha256(data).hexdigest()
    expected = _EXTENSIONS.get(path.suffix.lower(), "")
    note = f"{path.name} is a {form} file; it goes by what it is" if expected != form else ""
    return LocalImage(path, f"{output}/images/{sha256}.{form}", sha256, len(data), form, width, height, note)


# --- headers ------------------------------------------------------------------------------------------------------


def image_format(data: bytes) -> str | None:
    """The format that the first bytes of a file tell; None for any that Nova does not read."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def dimensions(data: bytes, form: str) -> tuple[int, int] | None:
    """Width and height in pixels, from the header; None when it is broken or cut off."""
    try:
        return _SIZES[form](data)
    except (struct.error, IndexError):
        return None


def _png(data: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> tuple[int, int] | None:
    return struct.unpack_from("<HH", data, 6)


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        return low[0] + (low[1] << 16) + 1, low[2] + (low[3] << 16) + 1
    if kind == b"VP8L" and data[20] == 0x2F:  # its signature
        bits: int = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments that begin a frame tell its size
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in (0xD9, 0xDA):  # the end, or the picture itself, before any frame
            return None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


_SIZES: Mapping[str, Callable[[bytes], tuple[int, int] | None]] = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "webp": _webp,
}

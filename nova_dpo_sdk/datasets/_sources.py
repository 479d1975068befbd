"""Where source records come from: files in any of the usual forms, and collections already in memory.

A source yields blocks of rows. A row of a text file stays the bytes of its JSON, so that whoever reads it decides
how to decode it; a row of a table or a collection is a mapping already. Every row has a number: the line in a
JSONL file, else the position, counted from 1.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, cast

import msgspec

from nova_dpo_sdk.datasets._lines import BOM, open_file
from nova_dpo_sdk.datasets._steady import steady
from nova_dpo_sdk.datasets._unpack import Unpacked, compression
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

BLOCK = 1 << 17
"""Bytes handed on at once from a text file: few enough for a cache, enough to forget what a block costs by itself."""

LONGEST = 32 << 20
"""Bytes of a line that is read from a text file; a longer one is dropped without being held."""

ROWS = 512
"""Rows handed on at once from a table or a collection."""

Row: TypeAlias = Any
"""`bytes` or `msgspec.Raw` of one JSON value, or a mapping."""

SourceLike: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A path, or anything that yields mappings: a list, a generator, a Hugging Face data set, a pandas frame."""


@dataclass(frozen=True)
class Block:
    """Some rows in a row.

    Attributes:
        first: The number of the first row.
        rows: The rows; one of white space was a blank line. A line of a file may have its end still.
        is_text: Whether all of them are JSON text still.
    """

    first: int
    rows: list[Row]
    is_text: bool = True


@dataclass(frozen=True)
class Source:
    """Where records come from.

    Attributes:
        name: What messages call it.
        unit: What its rows are called: `line` or `record`.
        path: The file, or None for a collection in memory.
        blocks: Reads it from the start; a one-shot iterator can be read once only.
    """

    name: str
    unit: str
    path: Path | None
    blocks: Callable[[], Iterator[Block]]

    @property
    def opening(self) -> str:
        """Its name where a sentence begins with it."""
        return self.name if self.path else self.name[:1].upper() + self.name[1:]

    def peek(self, count: int) -> tuple[list[tuple[int, Row]], Source]:
        """The first rows that are not blank, with their numbers, and a source that still begins with them."""
        stream = self.blocks()
        seen: list[Block] = []
        rows: list[tuple[int, Row]] = []
        while len(rows) < count and (block := next(stream, None)) is not None:
            seen.append(block)
            rows += [(at, row) for at, row in enumerate(block.rows, block.first) if not is_blank(row)]
        rest = chain(seen, stream)
        return rows[:count], Source(self.name, self.unit, self.path, lambda: rest)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a JSON array."""
    return isinstance(value, list)


def is_record(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a JSON object."""
    return isinstance(value, Mapping)


def is_blank(row: Row) -> bool:
    """Whether a row is a blank line, which is no record."""
    return isinstance(row, bytes) and not row.strip()


def open_source(source: SourceLike) -> Source:
    """Say how to read a source, looking at its first bytes rather than at its name.

    Args:
        source: A path (JSONL or a JSON array; plain, gzip or zstd; or Parquet), or an iterable of mappings.

    Raises:
        DatasetError: If there is nothing that can be read.
    """
    if isinstance(source, str | os.PathLike):
        return _file_source(Path(os.fspath(source)))
    if is_record(source):
        keys = ", ".join(map(str, list(source)[:10]))
        raise DatasetError(
            f"The source is one mapping with the keys {keys}. Pass an iterable of records; of a data set with"
            " several splits, pass one split, such as source['train']."
        )
    if not isinstance(source, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise DatasetError(
            f"The source is a {type(source).__name__}. Pass a path or an iterable of mappings; of an Arrow table, pass "
            "table.to_pylist()."
        )
    rows = _frame_rows(source) if _is_frame(source) else (lambda: iter(_as_rows(source)))
    return Source(f"the {type(source).__name__}", "record", None, lambda: _batches(rows()))


def _file_source(path: Path) -> Source:
    if path.parts[:1] == ("s3:",):
        raise DatasetError(
            f"{path} is in S3; conversion reads files on this machine and rows in memory. Fetch it first, as with "
            "`aws s3 cp`."
        )
    with open_file(path) as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return Source(str(path), "record", path, lambda: _batches(_parquet_rows(path)))
    head = _text_head(path)
    if head.startswith(b"PAR1"):
        raise DatasetError(f"{path} is a Parquet file that was compressed once more. Unpack it first.")
    if head.lstrip()[:1] == b"[":
        return Source(str(path), "record", path, lambda: _array_blocks(path))
    return Source(str(path), "line", path, lambda: _line_blocks(path))


# --- text ---------------------------------------------------------------------------------------------------


def _text_head(path: Path) -> bytes:
    with _Text(path) as text:
        while True:
            head = text.read()
            if not head or head.strip():
                return head


class _Text:
    """The decompressed bytes of a file without their byte order mark; faults of the file become `DatasetError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = steady(open_file(path), path)
        try:
            kind = compression(self._raw)
            self._file: BinaryIO = Unpacked(self._raw, kind, path) if kind else self._raw  # type: ignore[assignment]
        except BaseException:
            self._raw.close()
            raise
        self._fresh = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()

    def read(self) -> bytes:
        try:
            data = self._file.read(BLOCK)
        except OSError as error:
            raise DatasetError(f"{self.path} cannot be read to its end: {error}. Fetch the file again.") from error
        if not self._fresh:
            return data
        self._fresh = False
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DatasetError(f"{self.path} is UTF-16. Save it as UTF-8.")
        return data.removeprefix(BOM)


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


class LongLine(bytes):
    """Stands for a line that is too long to be held; no JSON, whoever reads it.

    Attributes:
        size: Bytes that the line has.
    """

    size: int = 0


class _Line:
    """A line that has not ended yet; of one that is too long its length alone."""

    def __init__(self, begun: bytes = b"") -> None:
        self._parts = [begun]
        self.size = len(begun)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > LONGEST:
            self._parts.clear()
        else:
            self._parts.append(data)

    def ended(self, end: bytes = b"") -> bytes:
        self.add(end)
        if self.size <= LONGEST:
            return b"".join(self._parts)
        line = LongLine(b"{")
        line.size = self.size
        return line


def _line_blocks(path: Path) -> Iterator[Block]:
    first, line = 1, _Line()
    with _Text(path) as text:
        while data := text.read():
            rows: list[Row] = BytesIO(data).readlines()  # splitting would look at each byte by itself
            rest = b"" if data.endswith(b"\n") else rows.pop()
            if rows:
                rows[0] = line.ended(rows[0])
                line = _Line(rest)
                yield Block(first, rows)
                first += len(rows)
            else:
                line.add(rest)
    if line.size:
        yield Block(first, [line.ended()])


# --- one JSON array, element by element -----------------------------------------------------------------------


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE_OR_COMMA = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_STRUCTURE = re.compile(rb'["\[\]{},]')
_STRING_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_JOINT = re.compile(rb'\}\s*,\s*\{\s*"(?:[^"\\]|\\.){0,200}"')


def _array_blocks(path: Path) -> Iterator[Block]:
    with _Text(path) as text:
        buffer = b""
        while b"[" not in buffer:
            buffer += text.read()
        array = _Array(path, buffer[buffer.index(b"[") + 1 :])
        first = 1
        while not array.closed:
            data = text.read()
            rows = array.take(data)
            if rows:
                yield Block(first, rows)
                first += len(rows)


class _Array:
    """Cuts a growing piece of a JSON array into whole elements, and remembers what is left over.

    A good place to cut is guessed from how the first two elements meet, then proved: the bytes up to the cut parse
    as an array of their own only if the cut stands between two elements. Where the guess fails, the brackets
    are counted.
    """

    def __init__(self, path: Path, buffer: bytes) -> None:
        self.path = path
        self.closed = False
        self._buffer = buffer
        self._parts = [buffer]
        self._size = len(buffer)
        self._line = 1
        self._joint: bytes | None = None
        self._wanted = 0

    def take(self, data: bytes) -> list[Row]:
        """The elements that end within what was read so far; `data` is empty at the end of the file."""
        self._parts.append(data)
        self._size += len(data)
        if data and self._size < self._wanted:
            return []
        self._buffer = b"".join(self._parts)
        rows, used = self._guessed(final=not data)
        if not rows:
            rows, used = self._counted(final=not data)
        self._line += self._buffer.count(b"\n", 0, used)
        self._keep(self._buffer[used:])
        # An element longer than the buffer is looked at again only when twice as much of it is there.
        self._wanted = 0 if rows else 2 * self._size
        if not data and not self.closed:
            raise self._broken("ends before the array is closed; the file may be cut off")
        return rows

    def _keep(self, rest: bytes) -> None:
        self._buffer, self._parts, self._size = rest, [rest], len(rest)

    def _guessed(self, *, final: bool) -> tuple[list[Row], int]:
        buffer, start = self._buffer, self._start(self._buffer)
        if final:
            rows = _as_array(b"[" + buffer[start:])
            self.closed = rows is not None
            return rows or [], len(buffer)
        if self._joint is None:
            self._joint = self._first_joint(start)
        cut = buffer.rfind(self._joint) + 1 if self._joint else 0
        rows = _as_array(b"[" + buffer[start:cut] + b"]") if cut > start else None
        return rows or [], cut if rows else 0

    def _first_joint(self, start: int) -> bytes | None:
        end = self._element_end(self._buffer, start)
        match = _JOINT.match(self._buffer, end - 1) if end else None
        return match.group() if match else None

    def _counted(self, *, final: bool) -> tuple[list[Row], int]:
        buffer, rows, used = self._buffer, list[Row](), 0
        while True:
            start = self._start(buffer, used)
            if start < len(buffer) and buffer[start] == 0x5D:  # ]
                self._close(start + 1, final=final)
                return rows, used
            end = self._element_end(buffer, start)
            if end is None:
                return rows, used
            if end == start:
                raise self._broken("has a stray bracket")
            rows.append(buffer[start:end])
            used = end

    def _start(self, buffer: bytes, used: int = 0) -> int:
        match = _SPACE_OR_COMMA.match(buffer, used)
        return match.end() if match else used

    def _close(self, end: int, *, final: bool) -> None:
        if _NOT_SPACE.search(self._buffer, end):
            raise self._broken("goes on after the array is closed. Make it one array, or one record per line")
        self.closed = final  # until the end is seen, what follows may be more than space

    def _element_end(self, buffer: bytes, start: int) -> int | None:
        """Where the element ends that begins at `start`; None when the buffer ends before it does."""
        depth, at = 0, start
        while match := _STRUCTURE.search(buffer, at):
            token, at = match.group(), match.end()
            if token == b'"':
                string = _STRING_END.match(buffer, at)
                if string is None:
                    return None
                at = string.end()
            elif token in b"[{":
                depth += 1
            elif token in b"]}":
                depth -= 1
                if depth < 0:
                    return match.start()
                if depth == 0:
                    return at
            elif depth == 0:  # a comma after a bare value
                return match.start()
        return None

    def _broken(self, what: str) -> DatasetError:
        line = self._line + self._buffer.count(b"\n")
        return DatasetError(f"{self.path} is a broken JSON array: it {what} (line {line}).")


def _as_array(text: bytes) -> list[Row] | None:
    try:
        return cast("list[Row]", _RAWS.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# --- tables and collections -----------------------------------------------------------------------------------


def _batches(rows: Iterator[Any]) -> Iterator[Block]:
    first = 1
    while batch := list(islice(rows, ROWS)):
        yield Block(first, batch, is_text=False)
        first += len(batch)


def _parquet_rows(path: Path) -> Iterator[Any]:
    parquet = _optional("pyarrow.parquet")
    if parquet is None:
        raise DatasetError(f"{path} is a Parquet file. Install `nova-dpo-sdk[parquet]`, or export it as JSONL.")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # what pyarrow's own errors derive from
        raise DatasetError(f"{path} cannot be read as Parquet: {str(error).rstrip('.')}. Fetch it again.") from error


def _is_frame(source: object) -> bool:
    return hasattr(source, "columns") and hasattr(source, "itertuples")


def _as_rows(source: Any) -> Iterable[Any]:
    """A data set of Hugging Face's that is set to hand out tables hands out rows as well."""
    handed = getattr(source, "format", None)
    tables = is_record(handed) and handed.get("type") in ("arrow", "pandas", "polars")
    return cast("Iterable[Any]", source.with_format(None) if tables else source)


def _frame_rows(frame: Any) -> Callable[[], Iterator[Any]]:
    index = getattr(getattr(frame, "index", None), "names", ())
    named = [name for name in index if name is not None and name not in frame.columns]
    if named:
        frame = frame.reset_index(level=named)  # an index that has a name was a column
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"The DataFrame has several columns called {', '.join(twice)}. Keep one of each.")
    return lambda: (dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None))


_MISSING = frozenset({"NAType", "NaTType"})
"""What pandas puts where nothing is."""


def plain(value: Any) -> Any:
    """A value out of a table as JSON holds it: arrays as lists, mappings as dicts, null for what is missing."""
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)  # NumPy has strings of its own
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_record(value):
        return {str(key): plain(item) for key, item in value.items()}
    if is_list(value) or isinstance(value, tuple):
        return [plain(item) for item in cast("Iterable[Any]", value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if type(value).__name__ in _MISSING else value


# --- one row ----------------------------------------------------------------------------------------------------


def decode(row: Row) -> Any:
    """The value of a row.

    Raises:
        ValueError: If the row is not JSON (a `UnicodeDecodeError` if it is not UTF-8 either).
        RecursionError: If it is nested too deeply.
    """
    if not isinstance(row, bytes | msgspec.Raw):
        return plain(row)
    text = bytes(row).removesuffix(b"\n")  # an error tells columns of the line
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, msgspec.ValidationError):
        # Python's own reader also takes NaN, huge numbers and lone surrogates, which other writers leave in files.
        return json.loads(text.decode("utf-8"), parse_constant=lambda _: None)

"""Conversion: records of any known layout become Nova JSONL, and everything left out or changed is counted by name."""

from __future__ import annotations

import difflib
import os
import secrets
from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - dataclass fields
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.datasets._files import open_private, publish, refuse_same
from nova_dpo_sdk.datasets._lanes import FastLane, Piece
from nova_dpo_sdk.datasets._layouts import BY_NAME, LAYOUTS, Layout, Record, detect
from nova_dpo_sdk.datasets._local_images import place_local
from nova_dpo_sdk.datasets._mend import (
    DROPS,
    MENDS,
    Drop,
    Notes,
    Pair,
    chat_record,
    encoded,
    preference_record,
    refuse_line,
)
from nova_dpo_sdk.datasets._own import own_line
from nova_dpo_sdk.datasets._sources import (
    Block,
    LongLine,
    Row,
    Source,
    SourceLike,
    decode,
    is_blank,
    is_record,
    open_source,
)
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

D = TypeVar("D")

PEEK = 32
"""Records looked at to tell the layout."""

BUFFER = 1 << 18
"""Bytes written at once."""

PEEK_LIMIT = PEEK * 8**4
"""Rows looked at when the first ones cannot be read at all."""


@dataclass(frozen=True)
class ConversionDetail:
    """What happened to one source record.

    Attributes:
        record: Its number in the source, from 1: the line of a JSONL file, else the position.
        code: The rule that dropped or mended it.
        message: The rule in a sentence, with what it was about.
    """

    record: int
    code: str
    message: str


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion did.

    Attributes:
        path: The Nova JSONL file.
        layout: The layout that the source was read as.
        read: Records read from the source.
        written: Records in the new file; `read` less everything dropped.
        dropped: Records left out, by rule.
        mended: Records kept but changed, by rule; one record may count under several.
        details: Which records those were, the first `max_details` of them, in the order of the source.
    """

    path: Path
    layout: str
    read: int
    written: int
    dropped: Mapping[str, int]
    mended: Mapping[str, int]
    details: tuple[ConversionDetail, ...]


@dataclass(frozen=True)
class Conversion(Generic[D]):
    """A finished conversion: the new data set, and what was done to get it.

    Attributes:
        dataset: The new data set.
        layout: The layout that the source was read as.
        read: Records read from the source.
        written: Records in the new data set.
        dropped: Records left out, by rule.
        mended: Records kept but changed, by rule; one record may count under several.
        details: Which records those were, up to the limit that was asked for, in the order of the source.
    """

    dataset: D
    layout: str
    read: int
    written: int
    dropped: Mapping[str, int]
    mended: Mapping[str, int]
    details: tuple[ConversionDetail, ...]

    @classmethod
    def of(cls, dataset: D, result: ConversionResult) -> Conversion[D]:
        """Join a data set and the result that made it."""
        return cls(
            dataset=dataset,
            layout=result.layout,
            read=result.read,
            written=result.written,
            dropped=result.dropped,
            mended=result.mended,
            details=result.details,
        )

    def __str__(self) -> str:
        lines = [f"{plural(self.read, 'record')} read as {self.layout}, {self.written:,} written"]
        lines += [f"  dropped {count:>7,}  {code}: {DROPS[code]}" for code, count in self.dropped.items()]
        lines += [f"  mended  {count:>7,}  {code}: {MENDS[code]}" for code, count in self.mended.items()]
        return "\n".join(lines)


def convert_preferences(
    source: SourceLike,
    to: str | os.PathLike[str],
    layout: str | None = None,
    *,
    clean_reserved: bool = False,
    local_images: bool = False,
    max_details: int = 1000,
) -> ConversionResult:
    """Write preference data of any known layout as Nova DPO JSONL.

    Texts are kept as they are, spaces included. What Nova cannot hold is dropped or mended by named rules, and
    counted. The file appears under its name only when it is complete.

    Args:
        source: A path (JSONL or a JSON array; plain, gzip or zstd; or Parquet), or an iterable of mappings.
        to: The file to write; one that exists is replaced, but never the source itself.
        layout: The name of the layout; told from the first records when left out.
        clean_reserved: Remove reserved words (`User:`, `Assistant:` ...) where they begin a line, and say where.
            Otherwise records that contain one are dropped.
        local_images: Keep what a field `images` names by local path, in the places that `<image>` marks in the user's
            texts, or before the first of them. `Dataset.with_images` brings such images to S3.
        max_details: How many dropped or mended records are listed one by one.

    Raises:
        DatasetError: If the source cannot be read, is empty, has no known layout or no usable record, or if the
            file cannot be written.
    """
    return _convert(source, to, layout, "preference", Options(clean_reserved, max_details, local_images))


def convert_chats(
    source: SourceLike,
    to: str | os.PathLike[str],
    layout: str | None = None,
    *,
    clean_reserved: bool = False,
    local_images: bool = False,
    max_details: int = 1000,
) -> ConversionResult:
    """Write conversations, or the chosen side of preference data, as Nova SFT JSONL.

    Args:
        source: A path (JSONL or a JSON array; plain, gzip or zstd; or Parquet), or an iterable of mappings.
        to: The file to write; one that exists is replaced, but never the source itself.
        layout: The name of the layout; told from the first records when left out.
        clean_reserved: Remove reserved words (`User:`, `Assistant:` ...) where they begin a line, and say where.
            Otherwise records that contain one are dropped.
        local_images: Keep what a field `images` names by local path, in the places that `<image>` marks in the user's
            texts, or before the first of them. `Dataset.with_images` brings such images to S3.
        max_details: How many dropped or mended records are listed one by one.

    Raises:
        DatasetError: If the source cannot be read, is empty, has no known layout or no usable record, or if the
            file cannot be written.
    """
    return _convert(source, to, layout, "chat", Options(clean_reserved, max_details, local_images))


def detect_layout(source: SourceLike) -> str:
    """The name of the layout of a source, told from its first records.

    Args:
        source: As for a conversion. A one-shot iterator loses the records that are looked at.

    Raises:
        DatasetError: If it cannot be read or has no known layout; names the keys that were found.
    """
    layout, _ = _detected(open_source(source))
    return layout.name


@dataclass(frozen=True)
class Options:
    """How a conversion is done."""

    clean_reserved: bool = False
    max_details: int = 1000
    local_images: bool = False


# --- the conversion -------------------------------------------------------------------------------------------


def _convert(
    source: SourceLike, to: str | os.PathLike[str], name: str | None, kind: str, options: Options
) -> ConversionResult:
    target = Path(os.fspath(to))
    opened = open_source(source)
    refuse_same(opened.path, target)
    layout, opened = (_named(name), opened) if name is not None else _detected(opened)
    if kind == "preference" and layout.kind == "chat":
        raise DatasetError(
            f"{opened.name} has the layout {layout.name} ({layout.shape}), which holds conversations, not pairs."
            " Convert it with ChatDataset.convert, or pass preference data."
        )
    work = _Work(layout, kind, options, FastLane(layout.name, kind))
    with _replacing(target) as file:
        for block in opened.blocks():
            for piece in work.convert(block):
                file.write(piece)
        work.refuse_nothing(opened)
    return work.result(target)


@dataclass
class _Work:
    """One conversion under way: turns blocks into lines and counts."""

    layout: Layout
    kind: str
    options: Options
    lane: FastLane
    read: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    mended: Counter[str] = field(default_factory=Counter[str])
    details: list[ConversionDetail] = field(default_factory=list[ConversionDetail])

    def convert(self, block: Block) -> Iterator[bytes | memoryview]:
        """The Nova lines of a block, in pieces."""
        # All before the first is written: the exact way takes half of the time when it does not begin anew each time.
        yield from [self._lines(block, piece) for piece in self.lane.convert(block)]

    def _lines(self, block: Block, piece: Piece) -> bytes | memoryview:
        if piece.text:
            self.read += piece.rows
            self.written += piece.rows
            return piece.text
        lines = list[bytes]()
        for at in range(piece.first, piece.first + piece.rows):
            row = block.rows[at]
            if not is_blank(row) and (line := self.line(block.first + at, row)) is not None:
                self.written += 1
                lines += (line, b"\n")
        return b"".join(lines)

    def line(self, number: int, row: Row) -> bytes | None:
        """The Nova line of one row, or None when it is dropped."""
        self.read += 1
        notes = Notes(
            self.options.clean_reserved, local_images=self.options.local_images, chosen_only=self.kind == "chat"
        )
        try:
            line = _line(self.layout, self.kind, row, notes)
        except Drop as drop:
            self.dropped[drop.code] += 1
            self._note(number, drop.code, DROPS, drop.what)
            return None
        for code, what in notes.mended.items():
            self.mended[code] += 1
            self._note(number, code, MENDS, what)
        return line

    def _note(self, number: int, code: str, rules: Mapping[str, str], what: str) -> None:
        if len(self.details) < self.options.max_details:
            self.details.append(ConversionDetail(number, code, f"{rules[code]} ({what})" if what else rules[code]))

    def refuse_nothing(self, source: Source) -> None:
        if self.written:
            return
        if not self.read:
            raise DatasetError(f"{source.opening} is empty: it has no records.")
        counts = ", ".join(f"{code} {count}" for code, count in self.dropped.most_common())
        first = self.details[0] if self.details else None
        example = f" The first, {source.unit} {first.record}: {first.message}" if first else ""
        raise DatasetError(
            f"None of the records of {source.name} ({self.read:,}) can be kept, read as {self.layout.name}"
            f" ({self.layout.shape}): {counts}.{example} Nothing was written."
        )

    def result(self, path: Path) -> ConversionResult:
        return ConversionResult(
            path=path,
            layout=self.layout.name,
            read=self.read,
            written=self.written,
            dropped=dict(self.dropped.most_common()),
            mended=dict(self.mended.most_common()),
            details=tuple(self.details),
        )


# --- one record -------------------------------------------------------------------------------------------------


def _line(layout: Layout, kind: str, row: Row, notes: Notes) -> bytes:
    try:
        if layout.read is None:
            return own_line(kind, row, _object(row), notes, preferred=layout.kind != kind)
        source = layout.read(_object(row), notes)
        made = preference_record(cast("Pair", source), notes) if kind == "preference" else chat_record(source, notes)
        if notes.images:
            place_local(made, notes)
        line = encoded(made)
    except RecursionError:
        raise Drop("nested-too-deep") from None
    refuse_line(line, made)
    return line


def _object(row: Row) -> Record:
    if isinstance(row, LongLine):
        raise Drop("source-too-long", f"{row.size:,} bytes")
    try:
        record = decode(row)
    except UnicodeDecodeError as error:
        raise Drop("not-utf8", f"byte {error.start}") from None
    except ValueError as error:
        raise Drop("broken-json", str(error)) from None
    if not is_record(record):
        raise Drop("not-an-object", f"it is a {type(record).__name__}")
    return record


# --- telling the layout -----------------------------------------------------------------------------------------


def _named(name: str) -> Layout:
    if name in BY_NAME:
        return BY_NAME[name]
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DatasetError(f"There is no layout {name!r}.{hint} Known layouts: {', '.join(BY_NAME)}.")


def _detected(source: Source) -> tuple[Layout, Source]:
    """The layout of a source, and the source as if nobody had looked."""
    rows, source = source.peek(PEEK)
    count = PEEK
    while not (records := list(_readable(rows))) and len(rows) == count < PEEK_LIMIT:
        count *= 8
        rows, source = source.peek(count)
    if not rows:
        raise DatasetError(f"{source.opening} is empty: it has no records.")
    if not records:
        raise DatasetError(_unreadable(source, rows))
    layout = detect(records[:PEEK])
    if layout is None:
        raise DatasetError(_unknown(source, records[0]))
    return layout, source


def _readable(rows: list[tuple[int, Row]]) -> Iterator[Record]:
    for _, row in rows:
        with suppress(Drop, RecursionError):
            yield _object(row)


def _unknown(source: Source, record: Record) -> str:
    keys = ", ".join(str(key)[:60] for key in list(record)[:20]) or "none"
    known = "\n".join(f"  {layout.name}: {layout.shape}" for layout in LAYOUTS)
    return (
        f"{source.opening} has no known layout; its first record has the keys: {keys}. Rename the keys to those of"
        f" a known layout, or pass layout=. Known layouts:\n{known}"
    )


def _unreadable(source: Source, rows: list[tuple[int, Row]]) -> str:
    number, row = rows[0]
    what = ""
    try:
        _object(row)
    except Drop as drop:
        what = f"{DROPS[drop.code]} ({drop.what})"
    except RecursionError:
        what = DROPS["nested-too-deep"]
    remedy = "Write one JSON object per line, or one JSON array of objects."
    if source.path is None:
        remedy = "Pass an iterable of mappings, one for each record."
    return (
        f"None of the first {source.unit}s of {source.name} ({len(rows):,}) can be read as a record."
        f" The first, {source.unit} {number}: {what} {remedy}"
    )


# --- the file ---------------------------------------------------------------------------------------------------


class _NewFile:
    """The file being written; its faults become `DatasetError`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".nova-{secrets.token_hex(8)}.tmp")
        try:
            self._file = open_private(self.temporary)
        except OSError as error:
            raise self._fault(error) from error

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._fault(error) from error

    def publish(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            publish(self.temporary, self.target)
        except OSError as error:
            raise self._fault(error) from error
        _sync_folder(self.target.parent)

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    def _fault(self, error: OSError) -> DatasetError:
        return DatasetError(
            f"{self.target} cannot be written: {error.strerror or error}. Nothing was left under that name that was"
            " not there before; free space or pass another name, and convert again."
        )


@contextmanager
def _replacing(target: Path) -> Generator[_NewFile]:
    """A file that takes its name only when everything is in it and on the disk."""
    file = _NewFile(target)
    try:
        yield file
        file.publish()
    finally:
        file.discard()


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some systems cannot sync a folder; the file itself is on the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""One pass over a data set: lines in, report out."""

from __future__ import annotations

import gc
from array import array
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import add, itemgetter
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._exact import Explainer, Fault
from nova_dpo_sdk.datasets._fast import QuickLook
from nova_dpo_sdk.datasets._lines import BLANK, BLOCK, Block, Lines, Reader
from nova_dpo_sdk.datasets._media import Places
from nova_dpo_sdk.datasets._report import Problem, Report
from nova_dpo_sdk.datasets._rules import LIMITS, RULES, severities
from nova_dpo_sdk.datasets._seen import FEW, FEWER, Seen
from nova_dpo_sdk.datasets._unpack import Unpacked, compression
from nova_dpo_sdk.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from nova_dpo_sdk.datasets._census import Census
    from nova_dpo_sdk.datasets._facts import Facts
    from nova_dpo_sdk.datasets._harvest import Harvest
    from nova_dpo_sdk.datasets._profile import Profile
    from nova_dpo_sdk.datasets._remote import Begin
    from nova_dpo_sdk.datasets._seen import Numbers

MOST_KEYS = 1 << 18
"""Records of a part whose repeats in other parts are looked for; 24 bytes each."""

_KEYS_AT_ONCE = 4096
_COUNT = 8
"""Bytes of a number of keys, where they are written."""

_LONGEST = LIMITS["line-bytes"].value


@dataclass(frozen=True)
class Order:
    """What is to be looked at, and how.

    Attributes:
        path: The file, as the report names it.
        explainer: Knows the kind of record.
        rules: By rule code: `error`, `warning` or `off`.
        max_details: Problems to keep; all are counted.
        quick: Whether clean lines are taken in by the quick look; the report is the same without it.
        block: Bytes that are read at a time.
        start: Where in the file the reading begins.
        hashed: Whether to hash what is read (SHA-256).
        gentle: Whether processes that look at parts stand back behind others.
        profiled: Whether to count what the data are made of as well.
    """

    path: Path
    explainer: Explainer
    rules: Mapping[str, str]
    max_details: int = 1000
    quick: bool = True
    block: int = BLOCK
    start: int = 0
    hashed: bool = False
    gentle: bool = False
    profiled: bool = False


class Measured(Protocol):
    """What knows how many bytes a file has, and their hash."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Hash, in hex; empty when nobody asked for it."""
        ...


def scan(stream: BinaryIO, order: Order, sink: Sink | None = None, begins: Sequence[Begin] = ()) -> Report:
    """Read `stream` to its end and report on every line of it.

    Args:
        stream: A buffered stream; gzip and zstd are unpacked, and reported as a problem.
        order: What is to be looked at, and how.
        sink: Is shown every line together with what is wrong with it.
        begins: What is known of the files that the stream is made of, when it has been read to its end.

    Raises:
        DatasetError: The stream is compressed and cannot be unpacked.
    """
    ledger = Ledger(order, sink)
    packed = compression(stream)
    if not packed:
        reader = _read(stream, order, ledger)
        return ledger.report(reader, packed=[(each.packed, each.line, each.offset) for each in begins if each.packed])
    unpacked = Unpacked(stream, packed, order.path, hashed=order.hashed)
    _read(cast("BinaryIO", unpacked), order, ledger)
    return ledger.report(unpacked.meter, packed=[(packed, 1, 0)])


def _read(stream: BinaryIO, order: Order, ledger: Ledger) -> Reader:
    hashed = order.hashed and not isinstance(stream, Unpacked)
    reader = Reader(stream, longest=_LONGEST, block=order.block, hashed=hashed)
    with without_collector():
        for block in reader.blocks():
            ledger.take(block)
    return reader


@contextmanager
def without_collector() -> Generator[None]:
    """Let the garbage collector rest: a scan makes many objects and no rings."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Sink(Protocol):
    """What is shown every line together with what is wrong with it."""

    def take(self, lines: list[bytes], first: int, problems: list[Problem]) -> None:
        """Some lines, the number of the first, and the problems of all of them."""
        ...

    def take_too_long(self, problem: Problem) -> None:
        """A line that was too long to be held."""
        ...


def _census(order: Order) -> Census | None:
    if not order.profiled:
        return None
    from nova_dpo_sdk.datasets._census import Census, Spread

    return Census(preference=order.explainer.preference, spread=Spread())


class Ledger:
    """Counts what the lines are and keeps what is wrong with them.

    Args:
        order: What is to be looked at, and how.
        sink: Is shown every line together with what is wrong with it.
        keys: Takes the keys of records, to look for repeats later; None to look for them at once.
        seen: Looks for repeats.
    """

    def __init__(
        self, order: Order, sink: Sink | None = None, *, keys: Keys | None = None, seen: Seen | None = None
    ) -> None:
        self._sink = sink
        self._kept_keys = keys
        self._preference = order.explainer.preference
        self._kind = "preference" if self._preference else "chat"
        self._order = order
        self._severities = severities(order.rules)
        words = any(self._severities[code] for code in ("reserved-word", "reserved-word-casing"))
        self._quick = QuickLook(order.explainer, words=words) if order.quick else None
        self._repeats = any(self._severities[code] for code in ("duplicate-record", "swapped-preference"))
        self._census = _census(order)
        self._problems = Problems(order.max_details)
        self._shapes: dict[int, Shape] = {}
        self._lengths: dict[int, int] = {}
        self._media = Places()
        self._seen = seen or Seen(FEWER if order.profiled else FEW)
        self._line = 1
        self._records = self._bad = 0
        self._array = self._carriage_return = False
        self._unended: tuple[int, int] | None = None

    # -- lines

    def take(self, block: Block) -> None:
        """Look at every line of a block."""
        if self._array:
            return
        self._unended = None
        if block.skipped:
            self._too_long(self._line, block.offset, block.skipped)
            if self._census is not None:
                self._census.take_too_long()
            if self._sink is not None:
                self._sink.take_too_long(self._problems.new[-1])
            self._line += 1
        else:
            self._lines(block)
        self._problems.settle()

    def _lines(self, block: Block) -> None:
        if not self._carriage_return and b"\r" in block.data:
            self._windows_newlines(block)
        lines = Lines(block.data)
        if self._quick is None or lines.has_longer(_LONGEST) or self._may_be_array(lines):
            self._take_in(self._one_by_one(lines, range(len(lines)), block.offset), lines, block.offset)
            self._count(lines, None, block.offset)
        else:
            harvest = self._quick.look(lines)
            self._together(harvest, lines, block.offset)
            self._count(lines, harvest, block.offset)
        if self._sink is not None:
            self._sink.take(list(lines), self._line, self._problems.new)
        self._line += len(lines)
        if not block.data.endswith(b"\n"):
            self._unended = self._line - 1, block.offset + lines.starts[-1]

    def _count(self, lines: Lines, harvest: Harvest | None, offset: int) -> None:
        """Count what the lines are made of, if it is asked for."""
        if self._census is not None:
            self._census.take(lines, harvest, self._order.start + offset)

    def _windows_newlines(self, block: Block) -> None:
        at = block.data.find(b"\r\n")
        if at < 0:
            return
        self._carriage_return = True
        line = self._line + block.data.count(b"\n", 0, at)
        offset = block.offset + block.data.rfind(b"\n", 0, at) + 1
        self._file("windows-newlines", line, offset, "Lines end with a carriage return and a line feed.")

    def _together(self, harvest: Harvest, lines: Lines, offset: int) -> None:
        """Take in what the quick look found, and judge the rest of the lines one by one."""
        self._records += len(harvest.rows)
        found = self._one_by_one(lines, harvest.doubtful, offset) if harvest.doubtful else []
        if found or not harvest.ordered:
            found += zip(harvest.rows, harvest.facts(), strict=True)
            self._take_in(sorted(found, key=itemgetter(0)), lines, offset)
        elif harvest.rows:
            self._take_in_clean(harvest, lines, offset)

    def _one_by_one(self, lines: Lines, places: Iterable[int], offset: int) -> list[tuple[int, Facts]]:
        """Judge lines by the exact diagnosis; the places and facts of the good ones."""
        judged = [
            (place, self._judged(lines[place], self._line + place, offset + lines.start(place))) for place in places
        ]
        return [(place, facts) for place, facts in judged if facts is not None]

    def _take_in(self, found: list[tuple[int, Facts]], lines: Lines, offset: int) -> None:
        """Add good records to the picture, each with its place among the lines."""
        for place, facts in found:
            self._shape(facts.features, self._line + place, offset + lines.starts[place])
            self._length(facts.size)
            if facts.media:
                self._media.add(facts.media)
        if self._repeats:
            rows, turned = [place for place, _ in found], [facts.turned for _, facts in found]
            numbers = partial(_numbers, rows, self._line, turned)
            self._repeated([facts.key for _, facts in found], numbers, lines, offset)

    def _take_in_clean(self, harvest: Harvest, lines: Lines, offset: int) -> None:
        """The same for a harvest, many at a time."""
        features, rows, first = harvest.features, harvest.rows, self._line
        if features.count(features[0]) == len(rows):
            start = lines.starts[rows[0]] if rows[0] else 0
            self._shape(features[0], first + rows[0], offset + start, len(rows))
        else:
            for row, feature in zip(rows, features, strict=True):
                self._shape(feature, first + row, offset + lines.starts[row])
        if not lines.has_longer(_facts.BYTES_PER_STEP):
            self._lengths[0] = self._lengths.get(0, 0) + len(rows)
        else:
            for size in harvest.sizes():
                self._length(size)
        if harvest.media:
            for row in rows:
                self._media.add(harvest.media.get(row, ()))
        if self._repeats:
            keys, turned = harvest.keys()
            self._repeated(keys, partial(_numbers, rows, first, turned), lines, offset)

    def _judged(self, line: bytes, number: int, offset: int) -> Facts | None:
        """Judge one line by the exact diagnosis; what it adds to the picture, if it is good."""
        if len(line) > _LONGEST:
            self._too_long(number, offset, len(line) + 1)
            return None
        if self._array:
            return None
        if not line.strip(BLANK):
            self._judge([Fault("blank-line", "$", "The line is blank.")], number, offset, record=False)
            return None
        self._records += 1
        diagnosis = self._order.explainer.explain(line)
        faults = diagnosis.faults
        if diagnosis.walk is None and self._records == 1 and self._may_be_array([line]):
            self._array = faults[0].code == "bad-json"
            faults = [Fault("json-array", "$", "The file begins with '[': it is one JSON array.")]
        return diagnosis.facts() if self._judge(faults, number, offset) and diagnosis.walk is not None else None

    def _may_be_array(self, lines: Iterable[bytes]) -> bool:
        if self._records > 1 or self._order.start:
            return False
        return next((line for line in lines if line.strip(BLANK)), b"").lstrip(BLANK).startswith(b"[")

    def _too_long(self, number: int, offset: int, size: int) -> None:
        self._records += 1
        self._judge([Fault("line-too-long", "$", f"The line has {size:,} bytes.")], number, offset)

    def _judge(self, faults: Iterable[Fault], number: int, offset: int, *, record: bool = True) -> bool:
        """Keep the faults of a line; whether the line is good."""
        bad = False
        for fault in faults:
            severity = self._severities[fault.code]
            if severity is None:
                continue
            bad = bad or severity is Severity.ERROR
            fix = fault.fix or RULES[fault.code].fix
            self._problems.add(Problem(number, offset, fault.path, fault.code, severity, fault.message, fix))
        self._bad += bad and record
        return not bad

    def _file(self, code: str, number: int, offset: int, message: str) -> None:
        self._judge([Fault(code, "$", message)], number, offset, record=False)

    # -- the picture of the file

    def _shape(self, features: int, number: int, offset: int, count: int = 1) -> None:
        shape = self._shapes.get(features)
        if shape is None:
            shape = self._shapes[features] = Shape(number, offset)
        shape.count += count

    def _length(self, size: int) -> None:
        step = _facts.step(size)
        self._lengths[step] = self._lengths.get(step, 0) + 1

    def _repeated(self, keys: list[int], numbers: Numbers, lines: Lines, offset: int) -> None:
        """Say which records were there before."""
        line = self._line
        if self._kept_keys is not None:
            if self._kept_keys.has_room:
                starts, known = lines.starts, numbers()
                if len(keys) < len(starts):
                    starts = [starts[number // 2 - line] for number in known]
                self._kept_keys.add(keys, known, map(offset.__add__, starts))
            return
        for number, first in self._seen.add(keys, numbers):
            self._repeat(number, first, offset + lines.starts[number // 2 - line])

    def _repeat(self, number: int, first: int, offset: int) -> None:
        line, earlier = number // 2, first // 2
        if number % 2 == first % 2:
            fault = Fault("duplicate-record", "$", f"The record is the same as the one in line {earlier}.")
        else:
            fault = Fault("swapped-preference", "$", f"Line {earlier} has the same pair the other way round.")
        self._judge([fault], line, offset)

    # -- parts

    def part(self) -> Part:
        """What was found in a part of a file, to be merged with the other parts."""
        return Part(
            lines=self._line - 1,
            records=self._records,
            bad=self._bad,
            array=self._array,
            unended=self._unended,
            shapes=self._shapes,
            lengths=self._lengths,
            media=self._media,
            problems=self._problems,
            keys=self._kept_keys or Keys(),
            census=self._census,
        )

    def merge(self, part: Part, offset: int) -> None:
        """Add the next part of the file, which begins at a byte offset."""
        if self._array:
            return
        before = self._line - 1
        self._records += part.records
        self._bad += part.bad
        self._array = part.array
        self._unended = (part.unended[0] + before, part.unended[1] + offset) if part.unended else None
        for features, shape in part.shapes.items():
            self._shape(features, shape.line + before, shape.offset + offset, shape.count)
        for step, count in part.lengths.items():
            self._lengths[step] = self._lengths.get(step, 0) + count
        self._media.merge(part.media)
        self._problems.merge(part.problems, before, offset)
        if self._census is not None and part.census is not None:
            self._census.merge(part.census)
        keys, numbers, offsets = part.keys.keys, part.keys.numbers, part.keys.offsets
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            span = slice(start, start + _KEYS_AT_ONCE)
            moved = list(map((2 * before).__add__, numbers[span]))
            for number, first in self._seen.add(list(keys[span]), moved.copy):
                self._repeat(number, first, offsets[start + bisect_left(moved, number)] + offset)
        self._problems.settle()
        self._line += part.lines

    def report(self, measured: Measured, *, packed: Iterable[tuple[str, int, int]] = ()) -> Report:
        """Everything that was found; of what is packed, how and where it begins is told."""
        self._consistency()
        for kind, line, offset in packed:
            self._file("compressed", line, offset, f"The file is {kind}.")
        if self._unended and not self._array:
            self._file("no-final-newline", *self._unended, "The last line ends without a line feed.")
        self._problems.settle()
        if not self._records:
            self._file("no-records", 1, 0, "There are only blank lines.")
        problems = self._problems
        problems.settle()
        features = {name: self._with(bit) for name, bit in _facts.FEATURES.items()}
        return Report(
            path=self._order.path,
            kind=self._kind,
            records=self._records,
            good=self._records - self._bad,
            bad=self._bad,
            size=measured.size,
            sha256=measured.sha256,
            image_records=features.pop("image"),
            video_records=features.pop("video"),
            system_records=features.pop("system"),
            features=features,
            lengths=self._steps(),
            media=self._media.kept(),
            more_media=self._media.more,
            problems=problems.kept(),
            counts=problems.counts,
            errors=problems.totals[Severity.ERROR],
            warnings=problems.totals[Severity.WARNING],
            firsts=problems.firsts,
            profile=self._profile(),
        )

    def _steps(self) -> tuple[int, ...]:
        """Good records by the step of their length."""
        return tuple(self._lengths.get(step, 0) for step in range(max(self._lengths, default=-1) + 1))

    def _profile(self) -> Profile | None:
        if self._census is None:
            return None
        from nova_dpo_sdk.datasets._profile import profile_from

        most = len(self._steps()) * _facts.LENGTH_STEP
        nova2 = self._order.explainer.nova2
        return profile_from(self._census, str(self._order.path), self._kind, most_tokens=most, nova2=nova2)

    def _with(self, bit: int) -> int:
        return sum(shape.count for features, shape in self._shapes.items() if features & bit)

    def _consistency(self) -> None:
        systems = self._families(lambda features: "system" if features & _facts.SYSTEM else "no system")
        if len(systems) > 1:
            self._mixed("system-inconsistent", systems)
        media = sum(_facts.MEDIA.values())
        modalities = self._families(lambda features: _modality(features & media))
        if len(modalities) > 1:
            self._mixed("mixed-modalities", modalities)

    def _families(self, family: Callable[[int], str]) -> dict[str, Shape]:
        """The shapes of records put together by `family`, in the order of their first line."""
        families: dict[str, Shape] = {}
        for features, shape in sorted(self._shapes.items(), key=lambda item: item[1].line):
            name = family(features)
            known = families.get(name)
            families[name] = replace(shape) if known is None else replace(known, count=known.count + shape.count)
        return families

    def _mixed(self, code: str, families: dict[str, Shape]) -> None:
        counted = ", ".join(f"{shape.count:,} with {name}" for name, shape in families.items())
        second = list(families.values())[1]
        self._file(code, second.line, second.offset, f"There are records of several kinds: {counted}.")


@dataclass
class Keys:
    """Keys of records, the first `MOST_KEYS` of them, with their numbers and the offsets of their lines."""

    keys: array[int] = field(default_factory=lambda: array("Q"))
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def has_room(self) -> bool:
        """Whether some more may be taken in."""
        return len(self.keys) < MOST_KEYS

    def add(self, keys: list[int], numbers: list[int], offsets: Iterable[int]) -> None:
        """Take in some more."""
        self.keys.extend(keys)
        self.numbers.extend(numbers)
        self.offsets.extend(offsets)

    def write(self, stream: BinaryIO) -> None:
        """Write them for another process of this machine: a pickle would hold them twice when it is read."""
        stream.write(len(self.keys).to_bytes(_COUNT, "big"))
        for each in (self.keys, self.numbers, self.offsets):
            each.tofile(stream)

    @classmethod
    def read(cls, stream: BinaryIO) -> Keys:
        """Read what was written.

        Raises:
            EOFError: There is less than that.
        """
        head = stream.read(_COUNT)
        if len(head) < _COUNT:
            raise EOFError
        found, count = cls(), int.from_bytes(head, "big")
        try:
            for each in (found.keys, found.numbers, found.offsets):
                each.fromfile(stream, count)
        except ValueError as error:  # it ends within a number
            raise EOFError from error
        return found


@dataclass(frozen=True)
class Part:
    """What was found in a part of a file; lines and offsets count from its start."""

    lines: int
    records: int
    bad: int
    array: bool
    unended: tuple[int, int] | None
    shapes: dict[int, Shape]
    lengths: dict[int, int]
    media: Places
    problems: Problems
    keys: Keys
    census: Census | None


@dataclass
class Shape:
    """Records that have the same features: the first of them, and how many."""

    line: int
    offset: int
    count: int = 0


class Problems:
    """Counts every problem; keeps the first `limit` of each severity."""

    def __init__(self, limit: int) -> None:
        self._limit = max(0, limit)
        self._kept: dict[Severity, list[Problem]] = {severity: [] for severity in Severity}
        self.new: list[Problem] = []
        self.counts: dict[str, int] = {}
        self.totals: dict[Severity, int] = dict.fromkeys(Severity, 0)
        self.firsts: dict[str, Problem] = {}

    def add(self, problem: Problem) -> None:
        """Take a problem in; the problems of a block may come in any order."""
        self.new.append(problem)

    def settle(self) -> None:
        """Count what came in since the last time, in the order of lines, and keep it while there is room."""
        if not self.new:
            return
        self.new.sort(key=lambda problem: problem.line)
        for problem in self.new:
            count = self.counts.get(problem.code, 0)
            self.counts[problem.code] = count + 1
            if not count:
                self.firsts[problem.code] = problem
            self.totals[problem.severity] += 1
            kept = self._kept[problem.severity]
            if len(kept) < self._limit:
                kept.append(problem)
        self.new.clear()

    def merge(self, other: Problems, lines: int, offset: int) -> None:
        """Add the problems of the next part of a file, whose lines and offsets count from its start."""
        once = {"windows-newlines"} & self.counts.keys()
        for severity, kept in other._kept.items():
            for problem in kept:
                if problem.code not in once and len(self._kept[severity]) < self._limit:
                    self._kept[severity].append(_moved(problem, lines, offset))
            self.totals[severity] += other.totals[severity]
        for code, count in other.counts.items():
            if code not in once:
                self.counts[code] = self.counts.get(code, 0) + count
                self.firsts.setdefault(code, _moved(other.firsts[code], lines, offset))

    def kept(self) -> tuple[Problem, ...]:
        """The problems that were kept, errors before warnings before notes, then in the order of lines."""
        chosen = [problem for severity in Severity for problem in self._kept[severity]][: self._limit]
        return tuple(sorted(chosen, key=lambda problem: problem.line))


def _numbers(rows: Sequence[int], first: int, turned: Sequence[bool]) -> list[int]:
    """Twice the lines of rows that begin at a first line, plus 1 where the candidates are turned."""
    if isinstance(rows, range):
        doubled = list(range(2 * (first + rows.start), 2 * (first + rows.stop), 2 * rows.step))
    else:
        doubled = [2 * (first + row) for row in rows]
    return list(map(add, doubled, turned)) if turned else doubled


def _moved(problem: Problem, lines: int, offset: int) -> Problem:
    return replace(problem, line=problem.line + lines, offset=problem.offset + offset)


def _modality(media: int) -> str:
    names = [name for name, bit in _facts.MEDIA.items() if media & bit]
    return " and ".join(names) if names else "text only"

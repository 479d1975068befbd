"""What a data set is made of, counted while it is read: most records many at a time, as columns."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from operator import add, itemgetter, sub
from typing import TYPE_CHECKING

import msgspec

from nova_dpo_sdk.datasets._facts import BYTES_PER_TOKEN, IMAGE, MEDIA, SYSTEM, joined, minimal_or_odd, prompt_key
from nova_dpo_sdk.datasets._histogram import Histogram, Sample
from nova_dpo_sdk.datasets._lines import BLANK, BOM
from nova_dpo_sdk.datasets._records import look
from nova_dpo_sdk.datasets._rules import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nova_dpo_sdk.datasets._harvest import Harvest
    from nova_dpo_sdk.datasets._lines import Lines
    from nova_dpo_sdk.datasets._records import Sight

_LOOKED_AT = 120
"""Characters at the beginning of a text that tell its script."""

_LONGEST = LIMITS["line-bytes"].value

_SHORT = 1500
"""Bytes of a line up to which many are measured as fast as it is told that none of them is longer."""

_ANY_MEDIA = sum(MEDIA.values())

_strings = msgspec.json.Decoder(str).decode_lines


@dataclass(frozen=True)
class Spread:
    """Which bytes of a file stand for all: its beginning, and after that stretches at equal distances.

    It hangs on nothing but the place in the file, so that the same records are measured in how many processes ever.

    Attributes:
        tiers: Where each begins, the first at 0, and of how many stretches the middle one is measured from there on:
            it counts as many times.
        stretch: Bytes of a stretch.
    """

    tiers: tuple[tuple[int, int], ...] = ((0, 1), (4 << 20, 16), (64 << 20, 64))
    stretch: int = 1 << 16

    def weight(self, place: int) -> int:
        """How many times a record counts that begins at a place; 0 where none is measured."""
        begin, every = max(tier for tier in self.tiers if tier[0] <= place)
        return every if (place - begin) // self.stretch % every == every // 2 else 0

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """What is measured between two places: from where, to where, and how many times it counts."""
        ends = [*(begin for begin, _ in self.tiers[1:]), end]
        for (begin, every), limit in zip(self.tiers, ends, strict=True):
            if start < limit and begin < end:
                for low, high in self._stretches(begin, every, start, min(end, limit)):
                    yield low, high, every

    def _stretches(self, begin: int, every: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        if every == 1:
            yield max(begin, start), end
            return
        step, first = self.stretch * every, begin + every // 2 * self.stretch
        for place in range(first + max(0, start - first) // step * step, end, step):
            low, high = max(place, start), min(place + self.stretch, end)
            if low < high:
                yield low, high


class Census:
    """Counts records as they pass: lengths, turns, images, scripts, different prompts.

    Args:
        preference: Whether they are preference pairs.
        spread: Which of the records that the quick look takes in are measured; None for all. Others always are.

    Attributes:
        records: Records that were readable.
        unreadable: Lines that were not.
        systems: Records with a system prompt.
        image_records: Records with images.
        media_records: Records with images, videos or documents.
        prompts: Hashes of prompts.
        measured: Records of which the rest was measured.
        longest: Bytes of the longest line that was not measured.
        preferred_longer: Pairs whose preferred candidate is the longer one.
        scripts: Records by the script of their texts.
        tokens: Estimated tokens of the prompt and the longer answer.
        prompt: Characters before the answer.
        answer: Characters of the preferred candidate, or of the answer.
        rejected: Characters of the other candidate.
        margin: Characters by which the preferred candidate is longer.
        turns: Messages.
        images: Images, of records with any.
    """

    def __init__(self, *, preference: bool, spread: Spread | None = None) -> None:
        self._preference = preference
        self._spread = spread
        self.records = self.unreadable = self.systems = self.image_records = self.media_records = 0
        self.measured = self.longest = self.preferred_longer = 0
        self.prompts = Sample()
        self.scripts: Counter[str] = Counter()
        self.tokens, self.prompt, self.answer, self.rejected = (Histogram() for _ in range(4))
        self.margin, self.turns, self.images = (Histogram() for _ in range(3))

    def take(self, lines: Lines, harvest: Harvest | None, offset: int) -> list[int]:
        """Count the records in lines; the hashes of their prompts.

        Args:
            lines: Whole lines.
            harvest: What the quick look took in of them; None when it did not look.
            offset: Where they begin in the file.
        """
        others = lines.others(harvest.rows) if harvest is not None else range(len(lines))
        prompts = self._clean(harvest, lines, offset) if harvest is not None and harvest.rows else []
        for row in others:
            line = lines[row].removeprefix(BOM) if not (offset or row) else lines[row]
            if line.strip(BLANK):
                prompts += self._one(line)
        self.prompts.update(prompts)
        return prompts

    def take_too_long(self) -> None:
        """Count a line that is too long to be looked at."""
        self.unreadable += 1

    def merge(self, other: Census) -> None:
        """Add what was counted elsewhere."""
        self.records += other.records
        self.unreadable += other.unreadable
        self.systems += other.systems
        self.image_records += other.image_records
        self.media_records += other.media_records
        self.measured += other.measured
        self.longest = max(self.longest, other.longest)
        self.preferred_longer += other.preferred_longer
        self.prompts.merge(other.prompts)
        self.scripts += other.scripts
        for one, more in zip(self._histograms(), other._histograms(), strict=True):
            one.merge(more)

    def _histograms(self) -> list[Histogram]:
        return [self.tokens, self.prompt, self.answer, self.rejected, self.margin, self.turns, self.images]

    # -- one by one

    def _one(self, line: bytes) -> list[int]:
        """Count and measure a line of which nothing is known; the hash of its prompt, if it is readable."""
        sight = look(line, preference=self._preference) if len(line) <= _LONGEST else None
        if sight is None:
            self.unreadable += 1
            return []
        self.records += 1
        self.systems += bool(sight.systems)
        self.image_records += sight.images > 0
        self.media_records += bool(sight.media)
        self._measure_one(sight, 1)
        return [_key_of(sight)]

    def _measure_one(self, sight: Sight, weight: int) -> None:
        prompt, longest = sight.prompt, _size(sight.answer)
        if sight.rejected is not None:
            margin = len(sight.answer) - len(sight.rejected)
            self.rejected.extend([len(sight.rejected)], weight)
            self.margin.extend([margin], weight)
            self.preferred_longer += weight * (margin > 0)
            longest = max(longest, _size(sight.rejected))
        self.measured += 1
        self.prompt.extend([sum(map(len, prompt))], weight)
        self.answer.extend([len(sight.answer)], weight)
        self.tokens.extend([tokens_of(sum(map(_size, prompt)) + longest)], weight)
        self.turns.extend([sight.turns], weight)
        if sight.images:
            self.images.extend([sight.images], weight)
        self.scripts[_script(prompt[-1] if prompt else "", sight.answer)] += weight

    # -- many at a time

    def _clean(self, harvest: Harvest, lines: Lines, offset: int) -> list[int]:
        """Count the records of a harvest and measure those that stand for all; the hashes of their prompts."""
        self.records += len(harvest.rows)
        self.systems += _having(SYSTEM, harvest.features)
        self.image_records += _having(IMAGE, harvest.features)
        self.media_records += _having(_ANY_MEDIA, harvest.features)
        if harvest.plain:
            self._plain(harvest, lines, offset)
        left_out: list[int] = []
        for row in harvest.rows[harvest.plain :]:
            weight = 1 if self._spread is None else self._spread.weight(offset + lines.start(row))
            sight = look(lines[row], preference=self._preference) if weight else None
            if sight is None:
                left_out.append(row)
            else:
                self._measure_one(sight, weight)
        self._left_out(lines, left_out)
        return list(harvest.prompt_keys())

    def _plain(self, harvest: Harvest, lines: Lines, offset: int) -> None:
        """Measure those of a harvest's first records that stand for all; in these every turn is one text."""
        rows, done = harvest.rows[: harvest.plain], 0
        for low, high, weight in self._spans(offset, len(lines.data)):
            # A line belongs to where it begins.
            start, end = (bisect_left(rows, lines.first_from(place - offset)) for place in (low, high))
            self._left_out(lines, rows[done:start])
            done = end
            if start < end:
                self._measure(_Columns(harvest, start, end), weight)
        self._left_out(lines, rows[done:])

    def _left_out(self, lines: Lines, rows: Sequence[int]) -> None:
        """Remember how long the lines are that are not measured."""
        if rows and (self.longest < _SHORT or lines.has_longer(self.longest - 1)):  # but for its newline
            self.longest = max(self.longest, lines.longest(rows))

    def _spans(self, offset: int, size: int) -> Iterable[tuple[int, int, int]]:
        end = offset + size
        return [(offset, end, 1)] if self._spread is None else self._spread.spans(offset, end)

    def _measure(self, columns: _Columns, weight: int) -> None:
        """Measure records, each of which counts so many times."""
        longest = columns.answer_sizes
        if columns.rejected:
            margin = list(map(sub, columns.answer, columns.rejected))
            self.rejected.extend(columns.rejected, weight)
            self.margin.extend(margin, weight)
            self.preferred_longer += weight * sum([each > 0 for each in margin])
            longest = list(map(max, longest, columns.rejected_sizes))
        tokens = [tokens_of(one + two) for one, two in zip(columns.prompt_sizes, longest, strict=True)]
        self.measured += len(tokens)
        self.prompt.extend(columns.prompt, weight)
        self.answer.extend(columns.answer, weight)
        self.tokens.extend(tokens, weight)
        self.turns.extend([asked + 1 for asked in columns.counts], weight)
        for script, count in columns.scripts().items():
            self.scripts[script] += weight * count


def _having(feature: int, features: list[int]) -> int:
    """How many records have a feature."""
    first = features[0]
    if features.count(first) == len(features):  # as nearly always
        return len(features) if first & feature else 0
    return sum([each & feature > 0 for each in features])


class _Columns:
    """Some records of a harvest: characters and bytes of UTF-8 of their texts.

    Args:
        harvest: In these records every turn is one text.
        first: The first of them.
        last: The one after the last.
    """

    def __init__(self, harvest: Harvest, first: int, last: int) -> None:
        self.counts = harvest.counts[first:last]
        self._systems = harvest.systems[first:last]
        before, asked = sum(harvest.counts[:first]), sum(self.counts)
        said = *harvest.prompts[before : before + asked], *harvest.firsts[first:last], *harvest.seconds[first:last]
        run = b"\n".join(said)
        self._ascii = run.isascii()
        self._texts = _strings(run)
        self._bounds = list(accumulate(self.counts, initial=0))
        characters = list(map(len, self._texts))
        sizes = characters if self._ascii else [len(text if text.isascii() else text.encode()) for text in self._texts]
        end = asked + last - first
        self.prompt, self.prompt_sizes = (
            self._of_prompts(characters[:asked], len),
            self._of_prompts(sizes[:asked], _size),
        )
        self.answer, self.answer_sizes = characters[asked:end], sizes[asked:end]
        self.rejected, self.rejected_sizes = characters[end:], sizes[end:]

    def _of_prompts(self, measured: list[int], measure: Callable[[str], int]) -> list[int]:
        """A measure of the prompt of each record, its system text included."""
        if len(self._bounds) > len(measured):
            sums = measured
        else:
            ends = itemgetter(*self._bounds)(list(accumulate(measured, initial=0)))
            sums = list(map(sub, ends[1:], ends))
        if not self._systems:
            return sums
        known = {text: measure(*_strings(text)) if text else 0 for text in set(self._systems)}
        return list(map(add, sums, map(known.__getitem__, self._systems)))

    def scripts(self) -> dict[str, int]:
        """Records by the script of their texts."""
        count = len(self.counts)
        if self._ascii:
            return {"Latin": count}
        lasts = [self._texts[bound - 1] for bound in self._bounds[1:]]
        return Counter(map(_script, lasts, self._texts[self._bounds[-1] : self._bounds[-1] + count]))


def tokens_of(size: int) -> int:
    """Estimated tokens of so many bytes of UTF-8."""
    return -(-size // BYTES_PER_TOKEN)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _key_of(sight: Sight) -> int:
    """A hash of a prompt, as the quick look makes it: without a text for what is an image."""
    said = [list(filter(None, texts)) for texts in (sight.tools, *sight.asked)]
    return prompt_key(map(minimal_or_odd, sight.systems), joined([*said, *([uri] for uri in sight.media)]))


def _script(prompt: str, answer: str) -> str:
    """The script of most letters at the beginning of two texts; `none` when there are no letters."""
    text = prompt[:_LOOKED_AT] + answer[:_LOOKED_AT]
    if text.isascii():
        return "Latin"
    data = text.encode("utf-8", "surrogatepass")
    codes = data.translate(None, _ASCII).decode("utf-8", "surrogatepass").translate(_CODES)
    counts = {_NAMES[ord(code)]: codes.count(code) for code in dict.fromkeys(codes)}
    if counts.keys() == {"Latin"}:
        return "Latin"
    counts["Latin"] = counts.get("Latin", 0) + len(data.translate(None, _NO_LETTERS))
    if "Kana" in counts and counts["Kana"] * 10 >= counts.get("Han", 0):
        return "Japanese"
    script = max(counts, key=counts.__getitem__)
    return script if counts[script] else "none"


_ASCII = bytes(range(128))
_NO_LETTERS = bytes(byte for byte in range(256) if byte >= len(_ASCII) or not chr(byte).isalpha())

_SCRIPTS = (
    (0x0041, 0x024F, "Latin"), (0x0370, 0x03FF, "Greek"), (0x0400, 0x052F, "Cyrillic"), (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"), (0x0600, 0x077F, "Arabic"), (0x0900, 0x097F, "Devanagari"), (0x0980, 0x09FF, "Bengali"),
    (0x0B80, 0x0BFF, "Tamil"), (0x0C00, 0x0C7F, "Telugu"), (0x0E00, 0x0E7F, "Thai"), (0x10A0, 0x10FF, "Georgian"),
    (0x1E00, 0x1EFF, "Latin"), (0x1F00, 0x1FFF, "Greek"), (0x3040, 0x30FF, "Kana"), (0x3400, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"), (0x20000, 0x3FFFF, "Han"),
)  # fmt: skip
_NAMES = [*dict.fromkeys(name for _, _, name in _SCRIPTS), "other"]


class _Codes(dict[int, str]):
    """By character: the place of its script in `_NAMES`, as a character; nothing for what is no letter."""

    def __missing__(self, point: int) -> str:
        code = _code(point)
        if len(self) < _MOST_CODES:
            self[point] = code
        return code


def _code(point: int) -> str:
    if not chr(point).isalpha():
        return ""
    return chr(_NAMES.index(next((name for low, high, name in _SCRIPTS if low <= point <= high), "other")))


_MOST_CODES = 1 << 15
"""Characters whose script is remembered, about 100 bytes each."""

_CODES = _Codes()

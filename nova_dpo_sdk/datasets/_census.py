"""What a data set is made of, counted while it is read: most records many at a time, as columns."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import accumulate, islice, repeat
from operator import add, itemgetter, sub
from typing import TYPE_CHECKING

import msgspec

from nova_dpo_sdk.datasets._facts import BYTES_PER_TOKEN, digest, minimal_or_odd
from nova_dpo_sdk.datasets._histogram import Histogram, Sample
from nova_dpo_sdk.datasets._lines import BLANK, BOM
from nova_dpo_sdk.datasets._records import look
from nova_dpo_sdk.datasets._rules import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.datasets._harvest import Harvest
    from nova_dpo_sdk.datasets._lines import Lines
    from nova_dpo_sdk.datasets._records import Sight

_LOOKED_AT = 120
"""Characters at the beginning of a text that tell its script."""

_LONGEST = LIMITS["line-bytes"].value

_strings = msgspec.json.Decoder(str).decode_lines


class Census:
    """Counts records as they pass: lengths, turns, images, scripts, different prompts.

    Args:
        preference: Whether they are preference pairs.

    Attributes:
        records: Records that were readable.
        unreadable: Lines that were not.
        preferred_longer: Pairs whose preferred candidate is the longer one.
        systems: Records with a system prompt.
        prompts: Hashes of prompts.
        scripts: Records by the script of their texts.
        tokens: Estimated tokens of the prompt and the longer answer.
        prompt: Characters before the answer.
        answer: Characters of the preferred candidate, or of the answer.
        rejected: Characters of the other candidate.
        margin: Characters by which the preferred candidate is longer.
        turns: Messages.
        images: Images, of records with any.
    """

    def __init__(self, *, preference: bool) -> None:
        self._preference = preference
        self.records = self.unreadable = self.preferred_longer = self.systems = 0
        self.prompts = Sample()
        self.scripts: Counter[str] = Counter()
        self.tokens, self.prompt, self.answer, self.rejected = (Histogram() for _ in range(4))
        self.margin, self.turns, self.images = (Histogram() for _ in range(3))

    def take(self, lines: Lines, harvest: Harvest | None, *, head: bool = False) -> list[int]:
        """Count the records in lines; the hashes of their prompts.

        Args:
            lines: Whole lines.
            harvest: What the quick look took in of them; None when it did not look.
            head: Whether they are the first ones of a file.
        """
        plain = harvest.plain if harvest is not None else 0
        others = lines.others(harvest.rows[:plain]) if harvest is not None else range(len(lines))
        prompts = self._many(harvest, plain) if harvest is not None and plain else []
        for row in others:
            line = lines[row].removeprefix(BOM) if head and not row else lines[row]
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
        self.preferred_longer += other.preferred_longer
        self.systems += other.systems
        self.prompts.merge(other.prompts)
        self.scripts += other.scripts
        for one, more in zip(self._histograms(), other._histograms(), strict=True):
            one.merge(more)

    def _histograms(self) -> list[Histogram]:
        return [self.tokens, self.prompt, self.answer, self.rejected, self.margin, self.turns, self.images]

    # -- one by one

    def _one(self, line: bytes) -> list[int]:
        sight = look(line, preference=self._preference) if len(line) <= _LONGEST else None
        if sight is None:
            self.unreadable += 1
            return []
        self.records += 1
        self.systems += sight.has_system
        longest = sight.answer
        if sight.rejected is not None:
            margin = len(sight.answer) - len(sight.rejected)
            self.rejected.add(len(sight.rejected))
            self.margin.add(margin)
            self.preferred_longer += margin > 0
            longest = sight.answer if margin >= 0 else sight.rejected
        self.prompt.add(sum(map(len, sight.prompt)))
        self.answer.add(len(sight.answer))
        self.tokens.add(_tokens(sum(map(_size, sight.prompt)) + _size(longest)))
        self.turns.add(sight.turns)
        if sight.images:
            self.images.add(sight.images)
        self.scripts[_script(sight.prompt[-1] if sight.prompt else "", sight.answer)] += 1
        return [_key_of(sight)]

    # -- many at a time

    def _many(self, harvest: Harvest, count: int) -> list[int]:
        """The same for the first records of a harvest, in which every turn is one text."""
        columns = _Columns(harvest, count)
        self.records += count
        self.systems += count - harvest.systems[:count].count(b"") if harvest.systems else 0
        longest = columns.answer_sizes
        if columns.rejected:
            margin = list(map(sub, columns.answer, columns.rejected))
            self.rejected.extend(columns.rejected)
            self.margin.extend(margin)
            self.preferred_longer += sum([each > 0 for each in margin])
            pairs = zip(margin, longest, columns.rejected_sizes, strict=True)
            longest = [one if more >= 0 else other for more, one, other in pairs]
        self.prompt.extend(columns.prompt)
        self.answer.extend(columns.answer)
        self.tokens.extend([_tokens(one + two) for one, two in zip(columns.prompt_sizes, longest, strict=True)])
        self.turns.extend([asked + 1 for asked in harvest.counts[:count]])
        self.scripts.update(columns.scripts())
        return columns.prompts()


class _Columns:
    """The first records of a harvest: characters and bytes of UTF-8 of their texts.

    Args:
        harvest: In these records every turn is one text.
        count: How many.
    """

    def __init__(self, harvest: Harvest, count: int) -> None:
        self._counts = harvest.counts[:count]
        self._systems = harvest.systems[:count]
        self._asked = harvest.prompts[: sum(self._counts)]
        run = b"\n".join([*self._asked, *harvest.firsts[:count], *harvest.seconds[:count]])
        self._ascii = run.isascii()
        self._texts = _strings(run)
        self._bounds = list(accumulate(self._counts, initial=0))
        characters = list(map(len, self._texts))
        sizes = characters if self._ascii else [len(text if text.isascii() else text.encode()) for text in self._texts]
        start, end = len(self._asked), len(self._asked) + count
        self.prompt, self.prompt_sizes = (
            self._of_prompts(characters[:start], len),
            self._of_prompts(sizes[:start], _size),
        )
        self.answer, self.answer_sizes = characters[start:end], sizes[start:end]
        self.rejected, self.rejected_sizes = characters[end:], sizes[end:]

    def _of_prompts(self, measured: list[int], measure: Callable[[str], int]) -> list[int]:
        """A measure of the prompt of each record, its system text included."""
        if len(self._bounds) > len(self._asked):
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
        count = len(self._counts)
        if self._ascii:
            return {"Latin": count}
        lasts = [self._texts[bound - 1] for bound in self._bounds[1:]]
        return Counter(map(_script, lasts, self._texts[len(self._asked) : len(self._asked) + count]))

    def prompts(self) -> list[int]:
        """Hashes of the prompts."""
        left = iter(self._asked)
        systems = self._systems or repeat(b"")
        return [
            digest(b"".join((_head(count + 1, bool(system)), system, *islice(left, count))))
            for count, system in zip(self._counts, systems, strict=False)
        ]


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _key_of(sight: Sight) -> int:
    """A hash of a prompt."""
    texts = [*sight.prompt, *sight.media]
    return digest(b"".join((_head(sight.turns, sight.has_system), *map(minimal_or_odd, texts))))


@lru_cache(maxsize=1024)
def _head(turns: int, has_system: bool) -> bytes:
    return b"%d %d" % (turns, has_system)


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

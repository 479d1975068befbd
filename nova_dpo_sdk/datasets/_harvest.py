"""What a quick look took in, as columns: one entry in each for every clean line."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, pairwise, repeat
from operator import add, lt
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from msgspec import Raw

from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._facts import digest
from nova_dpo_sdk.datasets._texts import Texts, shortest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nova_dpo_sdk.datasets._media import Files

T = TypeVar("T")

_xor = cast("Callable[[int, int], int]", operator.xor)  # pyright: ignore[reportUnknownMemberType] - its own types say nothing

_FEW = 8
"""Records that are sooner cut out of the columns than left out of new ones."""

Text: TypeAlias = bytes | Raw
"""A text as the file has it: cut out of its block, or still a part of it."""


@dataclass(slots=True)
class Harvest:
    """Clean lines as columns, and the doubtful ones.

    Attributes:
        rows: Places of the clean lines among those that were given.
        features: Bits of `FEATURES`.
        systems: System texts, `b""` for a record without one; the list is empty when no record has one.
        prompts: The turns before the answer, each as its texts, and URIs of media, of all records one after the other.
        counts: How many of `prompts` belong to each record.
        firsts: The preferred candidate, or the answer.
        seconds: The other candidate; the list stays empty for chats.
        media: By place, the files of each clean line that has some, and of some doubtful ones.
        doubtful: Places of the other lines, in order.
        plain: So many of the clean lines, the first ones, have one text in every turn and nothing else.
        ordered: Whether the clean lines are in the order of their places.
    """

    rows: Sequence[int] = field(default_factory=list[int])
    features: list[int] = field(default_factory=list[int])
    systems: list[bytes] = field(default_factory=list[bytes])
    prompts: list[Text] = field(default_factory=list[Text])
    counts: list[int] = field(default_factory=list[int])
    firsts: list[Text] = field(default_factory=list[Text])
    seconds: list[Text] = field(default_factory=list[Text])
    media: dict[int, Files] = field(default_factory=dict[int, "Files"])
    doubtful: list[int] = field(default_factory=list[int])
    plain: int = 0
    ordered: bool = True
    _joined: Texts | None = field(default=None, init=False, repr=False, compare=False)
    _prompt_keys: list[int] | None = field(default=None, init=False, repr=False, compare=False)

    def append(self, features: int, system: bytes, prompt: list[Text], first: bytes, second: bytes = b"") -> None:
        """Add a record; its row is added by the caller."""
        self.features.append(features)
        self.systems.append(system)
        self.prompts += prompt
        self.counts.append(len(prompt))
        self.firsts.append(first)
        if second:
            self.seconds.append(second)

    def _changed(self) -> None:
        self._joined = self._prompt_keys = None

    def joined(self) -> Texts:
        """Every text and URI: of systems, of prompts, the first candidates, the second ones; no system text twice.

        Not before all records were added.
        """
        if self._joined is None:
            self._joined = Texts([*self._known(), *self.prompts, *self.firsts, *self.seconds])
        return self._joined

    def _known(self) -> list[bytes]:
        return list(filter(None, dict.fromkeys(self.systems)))

    def size(self) -> int:
        """Bytes of all texts."""
        return self.joined().size + self._again(len)

    def count(self, char: bytes) -> int:
        """How often a character is in all texts."""
        return self.joined().run.count(char) + self._again(lambda text: text.count(char))

    def _again(self, measure: Callable[[bytes], int]) -> int:
        """A measure of the system texts but for those that `joined()` has."""
        systems, first = self.systems, self.systems[0] if self.systems else b""
        if systems.count(first) == len(systems):
            return max(0, len(systems) - 1) * measure(first)
        again = Counter(filter(None, systems))
        return sum((count - 1) * measure(text) for text, count in again.items())

    def records_of(self, texts: Sequence[int]) -> set[int]:
        """Whose some of the texts are, by their places in `joined()`."""
        if not texts:
            return set()
        known, ends = self._known(), list(accumulate(self.counts))
        systems = {known[at] for at in texts if at < len(known)}
        owners = {record for record, system in enumerate(self.systems) if system in systems} if systems else set[int]()
        for at in texts:
            place = at - len(known)
            if place >= len(self.prompts):
                owners.add((place - len(self.prompts)) % len(self.firsts))
            elif place >= 0:
                owners.add(bisect_right(ends, place))
        return owners

    def shorten(self) -> None:
        """Bring all texts into their shortest form; records with half a surrogate pair in a text become doubtful."""
        self.drop(self.records_of([at for at, text in enumerate(self.joined()) if shortest(text) is None]))
        self.systems = [text and (shortest(text) or b"") for text in self.systems]
        self.prompts, self.firsts, self.seconds = (
            [shortest(bytes(text)) or b"" for text in column] for column in (self.prompts, self.firsts, self.seconds)
        )
        self._changed()

    def facts(self) -> list[_facts.Facts]:
        """The facts of every clean line."""
        keys, turned = self.keys()
        turned = turned or [False] * len(keys)
        media = map(self.media.get, self.rows, repeat(()))
        return list(map(_facts.Facts, self.features, self.sizes(), keys, turned, media))

    def sizes(self) -> list[int]:
        """Bytes of text that a model would see at most, for every clean line."""
        sizes = list(map(len, self.firsts))
        if self.seconds:
            sizes = list(map(max, sizes, map(len, self.seconds)))
        if self.systems:
            sizes = list(map(add, sizes, map(len, self.systems)))
        ends = list(accumulate(map(len, self.prompts), initial=0))
        return [size + ends[end] - ends[start] for size, (start, end) in zip(sizes, self._bounds(), strict=True)]

    def keys(self) -> tuple[list[int], list[bool]]:
        """Hashes of all texts, and which way round the candidates stand; nothing of the latter for chats."""
        keys = list(map(digest, self.firsts))
        turned: list[bool] = []
        if self.seconds:
            others = list(map(digest, self.seconds))
            turned = list(map(lt, keys, others))
            keys = list(map(_xor, keys, others))
        return list(map(_xor, keys, self.prompt_keys())), turned

    def prompt_keys(self) -> list[int]:
        """Hashes of what stands before the answers."""
        if self._prompt_keys is None:
            self._prompt_keys = list(map(digest, self._asked(), self._seeds()))
        return self._prompt_keys

    def _seeds(self) -> Iterable[int]:
        systems, first = self.systems, self.systems[0] if self.systems else b""
        if systems.count(first) == len(systems):
            return repeat(_facts.system_seed([first]))
        known = {text: _facts.system_seed([text]) for text in set(systems)}
        return map(known.__getitem__, systems)

    def _asked(self) -> list[Text]:
        """The turns before the answer, those of a record as one."""
        prompts, start, join = self.prompts, 0, _facts.BETWEEN_TURNS.join
        if len(prompts) == len(self.counts) == self.counts.count(1):
            return prompts
        asked: list[Text] = []
        add_asked = asked.append
        for count in self.counts:
            add_asked(prompts[start] if count == 1 else join(prompts[start : start + count]))
            start += count
        return asked

    def _bounds(self) -> list[tuple[int, int]]:
        ends = list(accumulate(self.counts, initial=0))
        return list(pairwise(ends))

    def add(self, other: Harvest) -> None:
        """Add the harvest of other lines."""
        self._changed()
        self.doubtful += other.doubtful
        if not other.rows:
            return
        if self.systems or other.systems:
            empty, others_empty = [b""] * len(self.rows), [b""] * len(other.rows)
            self.systems = (self.systems or empty) + (other.systems or others_empty)
        follows = not self.rows or not other.rows or self.rows[-1] < other.rows[0]
        self.ordered = self.ordered and other.ordered and follows
        self.rows = [*self.rows, *other.rows]
        self.features += other.features
        self.prompts += other.prompts
        self.counts += other.counts
        self.firsts += other.firsts
        self.seconds += other.seconds
        self.media.update(other.media)

    def drop(self, records: Iterable[int]) -> None:
        """Make some records doubtful, if there are any."""
        places = set(records)
        if len(places) > _FEW:
            self.keep([place not in places for place in range(len(self.rows))])
        elif places:
            self._cut(sorted(places, reverse=True))

    def _cut(self, places: list[int]) -> None:
        """Take out a few records, the last of them first."""
        self._changed()
        rows = self.rows = list(self.rows)
        columns: list[list[Any]] = [rows, self.features, self.counts, self.firsts]
        columns += [column for column in (self.systems, self.seconds) if column]
        self.doubtful += [rows[place] for place in places]
        self.doubtful.sort()
        for place in places:
            start = sum(self.counts[:place])
            self.plain -= place < self.plain
            del self.prompts[start : start + self.counts[place]]
            for column in columns:
                del column[place]

    def keep(self, clean: list[bool]) -> None:
        """Keep the clean lines that are marked; the others become doubtful."""
        self._changed()
        self.doubtful += [row for row, stays in zip(self.rows, clean, strict=True) if not stays]
        self.doubtful.sort()
        self.prompts = kept(self.prompts, chain.from_iterable(map(repeat, clean, self.counts)))
        self.rows = kept(self.rows, clean)
        self.plain = sum(clean[: self.plain])
        self.features = kept(self.features, clean)
        self.counts = kept(self.counts, clean)
        self.systems = kept(self.systems, clean) if self.systems else []
        self.firsts = kept(self.firsts, clean)
        self.seconds = kept(self.seconds, clean) if self.seconds else []


def kept(items: Sequence[T], stays: Iterable[bool]) -> list[T]:
    """The items that are marked."""
    return list(compress(items, stays))

"""Which records were seen before, in bounded memory."""

from __future__ import annotations

from array import array
from operator import eq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RECENT = 1 << 16
"""Records that are remembered one by one. Most files have fewer, and none of theirs is ever moved."""

FEW_RECENT = 1 << 14
"""The same where memory is needed for something else as well."""

SLOTS = 1 << 20
"""Places for older records; two that fall on one place push each other out."""


class Seen:
    """Remembers keys of 64 bits and a number for each.

    The last `recent` keys are all known; older ones are known as long as no other has taken their place, so a key
    that comes again far later may go unnoticed. Nothing is ever taken for another.

    Args:
        recent: Keys that are remembered one by one, about 100 bytes each.
        slots: Places for older keys, 16 bytes each; a power of two.
    """

    def __init__(self, recent: int = RECENT, slots: int = SLOTS) -> None:
        self._limit = recent
        self._slots = slots
        self._recent: dict[int, int] = {}
        # Key and number of each place beside each other: they are then in one line of the processor's cache.
        self._table: array[int] | None = None
        self._mask = 2 * (slots - 1)

    def add(self, keys: list[int], numbers: list[int]) -> Iterator[tuple[int, int]]:
        """Remember keys with their numbers, which are not 0.

        Yields:
            For each key that is known already: its number now, and the one it had first.
        """
        if self._any_older(keys):
            yield from self._add_one_by_one(keys, numbers)
        else:
            firsts = list(map(self._recent.setdefault, keys, numbers))
            if firsts != numbers:
                yield from [(now, first) for now, first in zip(numbers, firsts, strict=True) if now != first]
        if len(self._recent) > self._limit:
            self._settle()

    def _any_older(self, keys: list[int]) -> bool:
        if self._table is None:
            return False
        table, mask = self._table, self._mask
        return any(map(eq, [table[key & mask] for key in keys], keys))

    def _older(self, key: int) -> int:
        if self._table is None:
            return 0
        place = key & self._mask
        return self._table[place + 1] if self._table[place] == key else 0

    def _add_one_by_one(self, keys: list[int], numbers: list[int]) -> Iterator[tuple[int, int]]:
        for key, number in zip(keys, numbers, strict=True):
            first = self._recent.get(key) or self._older(key)
            if first:
                yield number, first
            else:
                self._recent[key] = number

    def _settle(self) -> None:
        """Move what is recent to the older ones."""
        if self._table is None:
            self._table = array("Q", [0]) * (2 * self._slots)
        table, mask = self._table, self._mask
        for key, number in self._recent.items():
            place = key & mask
            table[place] = key
            table[place + 1] = number
        self._recent.clear()

"""Which records were seen before, in bounded memory."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = 1 << 16
"""Records up to which every one is remembered; most files have fewer."""

FEWER = 1 << 14
"""The same where memory is needed for something else as well."""

SLOTS = 1 << 20
"""Places for the records of a larger file; two that fall on one place push each other out."""


Numbers: TypeAlias = "Callable[[], list[int]]"
"""Tells the numbers of keys, if they are asked for: they are not, as long as nothing comes twice."""


class Seen:
    """Remembers keys of 64 bits and a number for each.

    Up to `few` keys, all are known. Beyond that each has its place, and is known until another takes it: one that
    comes again after a hundredth as many others as there are places goes unnoticed once in a hundred times. Nothing is
    ever taken for another.

    Args:
        few: Keys that are remembered one by one, about 100 bytes each.
        slots: Places for keys when there are more, 16 bytes each; a power of two.
    """

    def __init__(self, few: int = FEW, slots: int = SLOTS) -> None:
        self._few = few
        self._slots = slots
        # While they are few: as they came as long as all are different, with their numbers from the first repeat on.
        self._different: set[int] = set()
        self._came: list[tuple[list[int], Numbers]] = []
        self._numbered: dict[int, int] = {}
        # Key and number of each place beside each other: they are then in one line of the processor's cache.
        self._table: array[int] | None = None
        self._mask = 2 * (slots - 1)

    def add(self, keys: list[int], numbers: Numbers) -> list[tuple[int, int]]:
        """Remember keys with their numbers, which are not 0.

        Returns:
            For each key that is known already: its number now, and the one it had first.
        """
        if self._table is not None:
            return self._place(self._table, keys, numbers())
        again = [] if self._are_different(keys, numbers) else self._number(keys, numbers())
        if len(self._different) + len(self._numbered) > self._few:
            self._move()
        return again

    def _are_different(self, keys: list[int], numbers: Numbers) -> bool:
        """Remember keys, if none was ever there twice."""
        if self._numbered:
            return False
        known = len(self._different)
        self._different.update(keys)
        if len(self._different) != known + len(keys):
            return False
        self._came.append((keys, numbers))
        return True

    def _number(self, keys: list[int], numbers: list[int]) -> list[tuple[int, int]]:
        """Remember keys of which some may be there already."""
        for earlier, theirs in self._came:
            self._numbered.update(zip(earlier, theirs(), strict=True))
        self._came.clear()
        self._different.clear()
        firsts = list(map(self._numbered.setdefault, keys, numbers))
        return [(now, first) for now, first in zip(numbers, firsts, strict=True) if now != first]

    def _move(self) -> None:
        """Give all keys their places."""
        table = self._table = array("Q", [0]) * (2 * self._slots)
        for keys, numbers in self._came or [(list(self._numbered), lambda: list(self._numbered.values()))]:
            self._place(table, keys, numbers())
        self._came.clear()
        self._different.clear()
        self._numbered.clear()

    def _place(self, table: array[int], keys: list[int], numbers: list[int]) -> list[tuple[int, int]]:
        mask, again = self._mask, list[tuple[int, int]]()
        for key, number in zip(keys, numbers, strict=True):
            place = key & mask
            if table[place] == key:
                again.append((number, table[place + 1]))
            else:
                table[place] = key
                table[place + 1] = number
        return again

"""What plain records say: their texts one after the other, as a fast lane of conversion hands them on."""

from __future__ import annotations

from itertools import accumulate, chain, compress, repeat
from operator import add, concat, getitem, itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from msgspec import Raw  # noqa: TC002 - read when the alias is read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Text: TypeAlias = "Raw | bytes"
"""A JSON string as it stands in the source, quotes and escapes included."""

Roles: TypeAlias = "tuple[str, ...]"
"""Who speaks before the answer, in the source's own words."""

USER: Roles = ("user",)
SYSTEM_USER: Roles = ("system", "user")


class Said(NamedTuple):
    """What the plain ones of some records say.

    Attributes:
        fits: Of all records, whether each is plain.
        orders: The roles before the answer, of each record that is.
        texts: The texts of these records, one after the other; a pair has two answers at the end.
        answers: How many answers a record has.
    """

    fits: list[bool]
    orders: list[Roles]
    texts: list[Text]
    answers: int = 2

    @classmethod
    def in_columns(cls, roles: Roles, columns: Sequence[Sequence[Text]]) -> Said:
        """Records that are all plain and have one order, of which the first, second ... texts are known."""
        count = len(columns[0])
        return cls([True] * count, [roles] * count, interleaved(columns), len(columns) - len(roles))

    @property
    def is_even(self) -> bool:
        """Whether all records have the same order."""
        return self.orders.count(self.orders[0]) == len(self.orders) if self.orders else True

    def last(self) -> list[Text]:
        """The last text of each record."""
        return list(map(getitem, repeat(self.texts), [end - 1 for end in self._ends()]))

    def sides(self) -> tuple[list[Text], list[Text]]:
        """The two answers of each pair."""
        if self.orders and self.is_even:
            size = len(self.orders[0]) + self.answers
            return self.texts[size - 2 :: size], self.texts[size - 1 :: size]
        if not self.orders:
            return [], []
        pick = itemgetter(*self._ends())  # more than one: by itself, a record would be even
        return list(pick([b"", b"", *self.texts])), list(pick([b"", *self.texts]))

    def only(self, keep: Sequence[bool]) -> Said:
        """Some of the records that are plain; the others are not plain any more."""
        ends, texts = list(self._ends()), list(self.texts)
        for at in reversed([at for at, is_kept in enumerate(keep) if not is_kept]):  # mostly few
            del texts[ends[at - 1] if at else 0 : ends[at]]
        return Said(spread(self.fits, keep), list(compress(self.orders, keep)), texts, self.answers)

    def without_last(self) -> Said:
        """The same records without the last answer of each."""
        texts = list(chain.from_iterable(each[:-1] for each in self._each()))
        return self._replace(texts=texts, answers=self.answers - 1)

    def one_by_one(self) -> Iterator[Said]:
        """Each record that is plain by itself."""
        for roles, texts in zip(self.orders, self._each(), strict=True):
            yield Said([True], [roles], texts, self.answers)

    def _each(self) -> Iterator[list[Text]]:
        start = 0
        for end in self._ends():
            yield self.texts[start:end]
            start = end

    def _ends(self) -> Iterator[int]:
        return accumulate(map(add, map(len, self.orders), repeat(self.answers)))


def copies(texts: Sequence[Text]) -> list[bytes]:
    """Each text as bytes: `bytes` would look for a method of the text first, which takes longer."""
    return list(map(_joined, repeat(b""), texts))


_joined = cast("Callable[[bytes, Text], bytes]", concat)  # takes whatever has a buffer


def interleaved(columns: Sequence[Sequence[Text]]) -> list[Text]:
    """The first of each column, then the second of each, and so on."""
    texts: list[Text] = [b""] * (len(columns) * len(columns[0]))
    for place, column in enumerate(columns):
        texts[place :: len(columns)] = column
    return texts


def spread(fits: Sequence[bool], more: Sequence[bool]) -> list[bool]:
    """What is known of those that fit, told of all; the others do not fit."""
    if all(fits):
        return list(more)
    rest = iter(more)
    return [fit and next(rest) for fit in fits]

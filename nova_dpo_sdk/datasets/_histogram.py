"""Distributions in bounded memory: a histogram whose steps widen with the value, and a bounded set of prompts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_AT_ONCE = 4096
"""Numbers that are put into their steps together."""


def _step(value: int) -> int:
    """The step of a number: its own below 64; above, one at most a 64th of the number wide."""
    if value < 0:
        return -_step(-value) - 1
    shift = max(0, value.bit_length() - 7)
    return (shift << 6) + (value >> shift)


def _bounds(step: int) -> tuple[int, int]:
    """The smallest number of a step, and the smallest of the next one."""
    if step < 0:
        low, high = _bounds(-step - 1)
        return 1 - high, 1 - low
    shift = max(0, (step >> 6) - 1)
    low = (step - (shift << 6)) << shift
    return low, low + (1 << shift)


@dataclass(frozen=True)
class Distribution:
    """How a number is distributed over the records.

    Quantiles are right to 1.6 % of their value; count, mean, smallest and largest are exact, unless only a part of the
    records was measured (`Profile.measured`): then they are estimates, the smallest and largest those of that part.

    Attributes:
        count: Records that it stands for.
        mean: Their mean; 0.0 without records.
        minimum: The smallest.
        maximum: The largest.
        bins: Steps with something in them, in order: smallest number, smallest of the next step, records.
    """

    count: int
    mean: float
    minimum: int
    maximum: int
    bins: tuple[tuple[int, int, int], ...]

    def quantile(self, share: float) -> int:
        """A number that is reached or exceeded by no more than the rest: 0.5 gives the median.

        Args:
            share: From 0 to 1.
        """
        wanted, seen = share * self.count, 0
        for low, high, count in self.bins:
            seen += count
            if seen >= wanted:
                return min(max((low + high - 1) // 2, self.minimum), self.maximum)
        return self.maximum

    @property
    def median(self) -> int:
        """Half of the records lie at or below."""
        return self.quantile(0.5)

    def to_dict(self) -> dict[str, float]:
        """Count, mean, smallest, largest and the quantiles that tables show."""
        shares = {"median": 0.5, "p90": 0.9, "p99": 0.99}
        quantiles = {name: self.quantile(share) for name, share in shares.items()} if self.count else {}
        return {
            "count": self.count,
            "mean": self.mean,
            "smallest": self.minimum,
            **quantiles,
            "largest": self.maximum,
        }

    def above(self, value: int) -> int:
        """About how many records lie above a value."""
        if value >= self.maximum:
            return 0
        return sum(count for low, high, count in self.bins if low + high - 1 > 2 * value)


class Histogram:
    """Collects numbers; memory depends on their range, not on how many there are.

    Numbers are put into their steps many at a time: one by one, that took a third of a whole profile.
    """

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}
        self._new: list[int] = []
        self._weight = 1
        self._sum = self._count = self._minimum = self._maximum = 0

    def extend(self, values: list[int], weight: int = 1) -> None:
        """Take numbers in, each of which counts so many times."""
        if weight != self._weight:
            self._settle()
            self._weight = weight
        self._new += values
        if len(self._new) >= _AT_ONCE:
            self._settle()

    def merge(self, other: Histogram) -> None:
        """Add what another one collected."""
        self._settle()
        other._settle()
        if not other._count:
            return
        self._minimum = min(self._minimum, other._minimum) if self._count else other._minimum
        self._maximum = max(self._maximum, other._maximum) if self._count else other._maximum
        self._count += other._count
        self._sum += other._sum
        for step, count in other._steps.items():
            self._steps[step] = self._steps.get(step, 0) + count

    def _settle(self) -> None:
        if not self._new:
            return
        smallest, largest = min(self._new), max(self._new)
        self._minimum = min(self._minimum, smallest) if self._count else smallest
        self._maximum = max(self._maximum, largest) if self._count else largest
        self._count += self._weight * len(self._new)
        self._sum += self._weight * sum(self._new)
        for value, count in Counter(self._new).items():
            step = _step(value)
            self._steps[step] = self._steps.get(step, 0) + self._weight * count
        self._new.clear()

    def distribution(self) -> Distribution:
        """What was collected."""
        self._settle()
        bins = tuple((*_bounds(step), count) for step, count in sorted(self._steps.items()))
        mean = self._sum / self._count if self._count else 0.0
        return Distribution(self._count, mean, self._minimum, self._maximum, bins)


class Sample:
    """A set of hashes that stays small: beyond `limit` it keeps every second one, then every fourth, and so on.

    Args:
        limit: Hashes to keep at most, about 100 bytes each.
    """

    def __init__(self, limit: int = 1 << 16) -> None:
        self._limit = limit
        self.kept: set[int] = set()
        self.mask = 0

    @property
    def scale(self) -> int:
        """How many hashes each that is kept stands for."""
        return self.mask + 1

    def update(self, keys: Iterable[int]) -> None:
        """Take hashes in, but for those left out."""
        self.kept.update([key for key in keys if not key & self.mask] if self.mask else keys)
        while len(self.kept) > self._limit:
            self.mask = self.mask << 1 | 1
            self.kept = {each for each in self.kept if not each & self.mask}

    def merge(self, other: Sample) -> None:
        """Add the hashes of another one."""
        self.mask = max(self.mask, other.mask)
        self.kept = {each for each in self.kept if not each & self.mask}
        self.update(other.kept)

    def distinct(self) -> int:
        """How many different hashes there were; exact while `scale` is 1."""
        return len(self.kept) * self.scale

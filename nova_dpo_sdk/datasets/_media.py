"""Where the images, videos and documents of records lie: the buckets, whose they are said to be, and an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MOST_PLACES = 100
"""Different places that are kept of a data set, or of a part of it."""

Files: TypeAlias = tuple[tuple[str, str], ...]
"""The media of one record: the address in S3 and the owner of each, which is empty where none is named."""


@dataclass(frozen=True)
class MediaPlace:
    """A bucket that records show media of.

    Attributes:
        bucket: The bucket's name.
        owner: Number of the account that owns it, as the records say; empty where they say none.
        records: Good records with media there.
        example: The first address there.
    """

    bucket: str
    owner: str
    records: int
    example: str


class Places:
    """Counts the records of each place; keeps the first `MOST_PLACES`.

    Attributes:
        more: Whether there were others.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], str] = {}
        self.more = False

    def add(self, files: Files) -> None:
        """Count a record."""
        first: dict[tuple[str, str], str] = {}
        for uri, owner in files:
            first.setdefault((uri.split("/", 3)[2], owner), uri)
        for place, uri in first.items():
            self._count(place, uri, 1)

    def merge(self, other: Places) -> None:
        """Add the places of the next part of a file."""
        for place, count in other._counts.items():
            self._count(place, other._examples[place], count)
        self.more = self.more or other.more

    def _count(self, place: tuple[str, str], uri: str, count: int) -> None:
        if place in self._counts:
            self._counts[place] += count
        elif len(self._counts) < MOST_PLACES:
            self._counts[place], self._examples[place] = count, uri
        else:
            self.more = True

    def kept(self) -> tuple[MediaPlace, ...]:
        """The places, in the order of their first records."""
        return tuple(MediaPlace(*place, count, self._examples[place]) for place, count in self._counts.items())

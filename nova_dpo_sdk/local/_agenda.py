"""What will happen when: the rehearsal cloud's only engine, driven by the clock and by no thread."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@dataclass(frozen=True)
class Script:
    """How long each act of a rehearsed job takes, in seconds before `pace` is applied.

    Attributes:
        noticing: From a job's creation until the operator has seen it and created its pods.
        starting: From a pod's placement on a node until its containers run (image pull, mounts).
        loading: From all pods running until the recipe and the data have been read.
        training: From then until the container ends.
        manifest: How long before its end the container writes the manifest.
        collecting: From an owner's deletion until its dependents are deleted.
        pace: Factor on all of these; 0.1 makes everything ten times faster.
    """

    noticing: float = 1.0
    starting: float = 2.0
    loading: float = 1.0
    training: float = 20.0
    manifest: float = 0.5
    collecting: float = 0.5
    pace: float = 1.0


class Agenda:
    """Actions in order of their moments; each is called with the moment that was planned for it.

    So a jump of an hour gives the same history, with the same time stamps, as an hour of single seconds.
    """

    def __init__(self) -> None:
        self._planned: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._order = itertools.count()

    def at(self, moment: datetime, action: Callable[[datetime], None]) -> None:
        """Plan an action; actions of one moment keep the order in which they were planned."""
        heapq.heappush(self._planned, (moment, next(self._order), action))

    def advance(self, now: datetime) -> None:
        """Do everything whose moment has come."""
        while self._planned and self._planned[0][0] <= now:
            moment, _, action = heapq.heappop(self._planned)
            action(moment)

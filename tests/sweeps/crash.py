"""Kill the process that runs a chain at every request, run it again, and see that nothing was done twice or lost.

    python tests/sweeps/crash.py                     # every point: the whole sweep
    python tests/sweeps/crash.py --share 12 --seed 3 # so many points, drawn with this seed
    python tests/sweeps/crash.py --only race-hold    # one kind of the three

At each point the child is killed with SIGKILL either before its request is carried out, or after that and before it is
answered. The race has two children; the first is killed, or held back until the second has finished, at each point.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from chain_rig import Counted, EndState, Rig, child, command, rig, spread, total, undisturbed, workshop

from nova_dpo_sdk.local._faults import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nova_dpo_sdk.local._requests import Request

KINDS = ("crash", "race-kill", "race-hold")
PHASES = ("before", "after")
PATIENCE = 60.0
_HANG_UP = Fault("*", "*", "*", answer=None, after=False, times=1)
_AROUND = 6
"""Points beyond the requests of an undisturbed run: one that goes on from a crash may make a few more."""


class Trap(Faults):
    """Does something at one request of one run, and breaks its connection."""

    def __init__(self) -> None:
        super().__init__()
        self._counted = Counted()
        self._at: tuple[int, str] | None = None
        self._act: Callable[[], bool] = lambda: False
        self.met: Request | None = None

    def set(self, point: int, phase: str, act: Callable[[], bool]) -> None:
        """At the so manieth request from now, before or after it is carried out; `act` says whether to hang up."""
        self._counted, self._at, self._act, self.met = Counted(), (point, phase), act, None

    def strike(self, request: Request, *, after: bool) -> Fault | None:
        number = self._counted.number(after=after)
        if self._at != (number, "after" if after else "before"):
            return None
        self._at, self.met = None, request
        return _HANG_UP if self._act() else None


class Children:
    """Processes that run the script: forked from one that has everything loaded, so that one takes no time to start."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["chain_rig_loaded"])
        # The server of forks takes no path from here, and passes over what it cannot import without a word.
        here = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(here)
        self._count = 0

    def start(self, made: Rig) -> tuple[Any, Path]:
        self._count += 1
        result = made.folder / f"result-{os.getpid()}-{self._count}.json"
        given = (made.cloud.connection().to_dict(), str(made.clock.path), str(made.folder), str(result))
        process = self._context.Process(target=child, args=given)
        process.start()
        return process, result

    def run(self, made: Rig) -> list[str] | None:
        """Run the script to its end; None when it failed."""
        return self.end(*self.start(made))

    def end(self, process: Any, result: Path) -> list[str] | None:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        return json.loads(result.read_text()) if process.exitcode == 0 else None


@dataclass(frozen=True)
class Outcome:
    """What came of one point."""

    kind: str
    point: int
    phase: str
    request: str
    problems: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """What was tried."""
        return f"{self.kind} {self.phase} request {self.point} ({self.request})"


def kill(process: Any) -> bool:
    os.kill(process.pid, signal.SIGKILL)
    return True


def crash_at(children: Children, folder: Path, point: int, phase: str, whole: EndState) -> Outcome | None:
    """Kill the script at one request, run it again; None when it makes no such request."""
    begun = time.perf_counter()
    trap = Trap()
    with rig(folder, trap) as made:
        ready = threading.Event()
        held: list[Any] = []

        def act() -> bool:
            ready.wait(PATIENCE)
            return kill(held[0])

        trap.set(point, phase, act)
        process, result = children.start(made)
        held.append(process)
        ready.set()
        first = children.end(process, result)
        if trap.met is None:
            return None
        problems = [] if first is None else ["it was not killed"]
        uris = children.run(made)
        if uris is None:
            problems.append("the second run failed")
        state = made.end_state()
        problems += state.differs_from(whole)
        return _outcome("crash", point, phase, trap.met, problems, begun)


def race_at(children: Children, folder: Path, kind: str, point: int, phase: str, whole: EndState) -> Outcome | None:
    """Two at once: at one request the first is killed, or held back there until the second has finished."""
    begun = time.perf_counter()
    trap = Trap()
    with rig(folder, trap) as made:
        crew: list[tuple[Any, Path]] = []
        ready, done = threading.Event(), threading.Event()

        def act() -> bool:
            ready.wait(PATIENCE)
            if kind == "race-kill":
                return kill(crew[0][0])
            done.wait(PATIENCE)
            return False

        trap.set(point, phase, act)
        crew.append(children.start(made))
        if kind == "race-kill":
            crew.append(children.start(made))
        ready.set()
        if kind == "race-hold":
            # The first one stands still at its request while the second one does everything.
            _wait_for(lambda: trap.met is not None or not crew[0][0].is_alive())
            if trap.met is None:
                return None
            crew.append(children.start(made))
        other = children.end(*crew[1])
        done.set()
        first = children.end(*crew[0])
        if trap.met is None:
            return None
        problems = [] if other is not None else ["the other process failed"]
        if kind == "race-hold" and first is None:
            problems.append("the process that was held back failed")
        if first is not None and other is not None and first != other:
            problems.append(f"they disagree: {first} and {other}")
        problems += made.end_state().differs_from(whole)
        return _outcome(kind, point, phase, trap.met, problems, begun)


def _wait_for(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < ends:
        time.sleep(0.002)


def _outcome(kind: str, point: int, phase: str, met: Request, problems: list[str], begun: float) -> Outcome:
    return Outcome(
        kind, point, phase, f"{met.operation} {met.target}".strip(), tuple(problems), time.perf_counter() - begun
    )


def try_at(folder: Path, whole: EndState, point: tuple[str, int, str]) -> Outcome | None:
    """One point of any kind."""
    kind, number, phase = point
    if kind == "crash":
        return crash_at(children(), folder, number, phase, whole)
    return race_at(children(), folder, kind, number, phase, whole)


@cache
def children() -> Children:
    """This process's own."""
    return Children()


def sweep(kinds: Iterable[str] = KINDS, share: int | None = None, seed: int = 0, jobs: int = 1) -> Iterator[Outcome]:
    """Every point of these kinds, or a share of them drawn with a seed."""
    with workshop() as folder:
        whole, count = undisturbed(folder)
        points = [(kind, point, phase) for kind in kinds for point in range(1, count + 1 + _AROUND) for phase in PHASES]
        if share is not None:
            points = random.Random(seed).sample(points, min(share, len(points)))
        yield from spread(try_at, points, whole, folder, jobs)


def report(outcomes: list[Outcome]) -> str:
    """The figures: how many points, and how many of each evil."""
    lines = [
        f"{'sweep':<12}{'points':>8}{'jobs twice or lost':>20}{'other checkpoint':>18}{'left over':>11}{'failed':>8}"
    ]
    for kind in dict.fromkeys(each.kind for each in outcomes):
        mine = [each for each in outcomes if each.kind == kind]

        def with_(*words: str, among: list[Outcome] = mine) -> int:
            return sum(any(p.startswith(words) for p in each.problems) for each in among)

        lines.append(
            f"{kind:<12}{len(mine):>8}{with_('jobs made'):>20}{with_('checkpoints', 'they disagree', 'statuses'):>18}"
            f"{with_('objects', 'keys'):>11}{with_('the ', 'it was'):>8}"
        )
    lines += total(outcomes)
    for each in outcomes:
        lines += [f"{each.name}: {problem}" for problem in each.problems]
    return "\n".join(lines)


def main() -> int:
    return command(
        __doc__,
        KINDS,
        lambda given: sweep((given.only,) if given.only else KINDS, given.share, given.seed, given.jobs),
        report,
    )


if __name__ == "__main__":
    sys.exit(main())

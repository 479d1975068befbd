"""Let every request of a chain meet every fault, and see that it ends the same, or in one clear error and then the same.

    python tests/sweeps/faults.py                     # every request, every fault, passing and lasting
    python tests/sweeps/faults.py --share 20 --seed 3 # so many of these, drawn with this seed
    python tests/sweeps/faults.py --only passing      # or lasting

A passing fault meets one request. A lasting one meets that request and every one after it until the script has given
up; then it is over, and the script is run again.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from chain_rig import Counted, EndState, Rig, command, rig, script, spread, total, undisturbed, workshop

from nova_dpo_sdk import NovaClient
from nova_dpo_sdk.aws import AWS
from nova_dpo_sdk.errors import NovaError
from nova_dpo_sdk.local._faults import Answer, Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.local._requests import Request

ANSWER_WITHIN = 0.4
"""Seconds of real time for which these clients wait for an answer: a socket waits in no other time."""
_ASKED = 7.0
_NONE = Fault("*", "*", "*", answer=None, after=False, times=1)


def _answering(status: int, code: str, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(_NONE, answer=Answer(status, code, "a fault that was asked for", named))


def _fault(name: str, request: Request) -> Fault:
    kubernetes = request.service == "kubernetes"
    expired = {"kubernetes": (401, "Unauthorized"), "s3": (400, "ExpiredToken")}
    return {
        "reset before": _NONE,
        "reset after": replace(_NONE, after=True),
        "429": _answering(429, "TooManyRequests" if kubernetes else "SlowDown", Retry_After=f"{_ASKED:.0f}"),
        "500": _answering(500, "InternalError"),
        "503": _answering(503, "ServiceUnavailable"),
        "timeout": replace(_NONE, delay=ANSWER_WITHIN * 2),
        "expired": _answering(*expired.get(request.service, (403, "ExpiredTokenException"))),
        "truncated": replace(_NONE, after=True, cut=True),
    }[name]


KINDS = ("reset before", "reset after", "429", "500", "503", "timeout", "expired", "truncated")


class Storm(Faults):
    """One kind of fault, at one request or from one request on."""

    def __init__(self) -> None:
        super().__init__()
        self.stop()

    def set(self, kind: str, point: int, *, lasting: bool) -> None:
        self._counted = Counted()
        self._kind, self._point, self._lasting = kind, point, lasting

    def stop(self) -> None:
        self.set("", 0, lasting=False)
        self.met: list[Request] = []

    def _first(self, request: Request, *, after: bool, cut: bool) -> Fault | None:
        number = self._counted.number(after=after)
        meets = self._kind and (number == self._point or (self._lasting and number > self._point))
        fault = _fault(self._kind, request) if meets else None
        if fault is None or (fault.after, fault.cut) != (after, cut):
            return None
        self.met.append(request)
        return fault


@dataclass(frozen=True)
class Outcome:
    """What came of one fault at one request.

    Attributes:
        fault: Which fault.
        lasting: Whether it met every later request too.
        request: The first that it met.
        error: What the script gave up with; empty when it did not.
        problems: What is wrong in the end.
        seconds: How long it took.
    """

    fault: str
    lasting: bool
    request: str
    error: str
    problems: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """What was tried."""
        return f"{self.fault}, {'lasting' if self.lasting else 'passing'} at {self.request}"


def client(made: Rig) -> NovaClient:
    """A client that does not wait long for an answer."""
    backend = made.cloud.hyperpod()
    backend.aws = AWS(
        made.cloud.session(), region=made.cloud.region, clock=made.cloud.clock, answer_within=ANSWER_WITHIN
    )
    return NovaClient(backend, output=made.cloud.output)


def fault_at(folder: Path, kind: str, point: int, whole: EndState, *, lasting: bool) -> Outcome | None:
    """One fault at one request; None when there is no such request."""
    begun = time.perf_counter()
    storm = Storm()
    with rig(folder, storm) as made:
        nova = client(made)
        storm.set(kind, point, lasting=lasting)
        started = made.clock.monotonic()
        error, problems = "", []
        try:
            script(nova, folder)
        except NovaError as given_up:
            error = type(given_up).__name__
            problems += _unclear(given_up)
        except Exception as unexpected:  # noqa: BLE001 - an untyped error is what is looked for
            problems.append(f"untyped error: {type(unexpected).__name__}: {unexpected}")
        met = list(storm.met)
        if not met:
            return None
        if kind == "429" and made.clock.monotonic() - started < _ASKED:
            problems.append("it did not wait as long as it was asked to")
        storm.stop()
        if error or problems:
            try:
                script(client(made), folder)
            except Exception as unexpected:  # noqa: BLE001 - whatever it is, it is a defect here
                problems.append(f"the second run failed: {type(unexpected).__name__}: {unexpected}")
        problems += made.end_state().differs_from(whole)
        first = f"{met[0].service} {met[0].operation} {met[0].target}".strip()
        return Outcome(kind, lasting, first, error, tuple(problems), time.perf_counter() - begun)


def _unclear(error: NovaError) -> list[str]:
    text = str(error)
    return [] if len(text) > 40 and "Traceback" not in text else [f"an unclear error: {text!r}"]


def try_at(folder: Path, whole: EndState, point: tuple[str, int, bool]) -> Outcome | None:
    """One fault at one request."""
    kind, number, lasting = point
    logger = logging.getLogger("nova_dpo_sdk")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every look that fails
    try:
        return fault_at(folder, kind, number, whole, lasting=lasting)
    finally:
        logger.setLevel(level)


def sweep(
    lasts: tuple[bool, ...] = (False, True), share: int | None = None, seed: int = 0, jobs: int = 1
) -> Iterator[Outcome]:
    """Every fault at every request, or a share of them drawn with a seed."""
    with workshop() as folder:
        whole, count = undisturbed(folder)
        points = [(kind, point, lasting) for lasting in lasts for kind in KINDS for point in range(1, count + 1)]
        if share is not None:
            points = random.Random(seed).sample(points, min(share, len(points)))
        yield from spread(try_at, points, whole, folder, jobs)


def report(outcomes: list[Outcome]) -> str:
    """The table: what each fault came to."""
    lines = [f"{'fault':<24}{'requests':>9}{'passed':>8}{'clear error, then passed':>26}{'wrong':>7}  errors"]
    for lasting in (False, True):
        for kind in KINDS:
            mine = [each for each in outcomes if (each.fault, each.lasting) == (kind, lasting)]
            if not mine:
                continue
            wrong = sum(bool(each.problems) for each in mine)
            errors = sorted({each.error for each in mine if each.error})
            clear = sum(bool(each.error) and not each.problems for each in mine)
            name = f"{kind}, {'lasting' if lasting else 'passing'}"
            lines.append(
                f"{name:<24}{len(mine):>9}{len(mine) - wrong - clear:>8}{clear:>26}{wrong:>7}  {', '.join(errors)}".rstrip()
            )
    lines += total(outcomes)
    for each in outcomes:
        lines += [f"{each.name}: {problem}" for problem in each.problems]
        if not each.lasting and each.error and each.fault != "expired":
            lines.append(f"{each.name} did not pass by itself: {each.error}")
    return "\n".join(lines)


LASTS = {"passing": False, "lasting": True}


def main() -> int:
    return command(
        __doc__,
        tuple(LASTS),
        lambda given: sweep((LASTS[given.only],) if given.only else (False, True), given.share, given.seed, given.jobs),
        report,
    )


if __name__ == "__main__":
    sys.exit(main())

"""Bad days by chance: faults that mend themselves, drawn by a seed."""

from __future__ import annotations

import random
from typing import Any

Draw = tuple[str, dict[str, Any]]

_LASTING = ("unschedulable", "queued", "image-pull", "operator-silent", "manifest-late", "logs-late")
_LATER = ("preempted", "node-loss")
_COUNTED = ("init-crash", "crash-loop")
_ONCE = ("manifest-relative", "manifest-other-key", "token-expired", "watch-cut", "watch-expired")
_REQUESTS = ("throttled", "server-error", "connection-reset", "answer-lost")
_LONGEST = 150
_MOST_CRASHES = 3
_MOST_REQUESTS = 3


def draw_faults(seed: int, count: int) -> list[Draw]:
    """Draw faults, each with the options that it is planned with; a run survives all of them.

    Args:
        seed: What is drawn by.
        count: How many; each at most once.
    """
    rng = random.Random(seed)  # noqa: S311 - a rehearsal; nothing secret hangs on it
    names = [*_LASTING, *_LATER, *_COUNTED, *_ONCE, *_REQUESTS]
    return [(name, _options(name, rng)) for name in rng.sample(names, min(count, len(names)))]


def _options(name: str, rng: random.Random) -> dict[str, Any]:
    if name in _LASTING:
        return {"lasts": float(rng.randint(5, _LONGEST))}
    if name in _LATER:
        return {"after": float(rng.randint(1, 15)), "lasts": float(rng.randint(5, _LONGEST))}
    if name in _COUNTED:
        return {"times": rng.randint(1, _MOST_CRASHES)}
    return {"times": rng.randint(1, _MOST_REQUESTS)} if name in _REQUESTS else {}

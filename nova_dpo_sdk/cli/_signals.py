"""Signals that end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_ENDINGS = ("SIGTERM", "SIGHUP")
"""Signals of whoever ends a process in an orderly way, and of a terminal that is closed (POSIX)."""


@contextmanager
def ended_like_ctrl_c() -> Generator[None]:
    """Let a request to end, or a closed terminal, end what runs as Ctrl-C does: with everything put away."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    numbers = [getattr(signal, name) for name in _ENDINGS if hasattr(signal, name)]
    mine = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]  # nohup's wish is left alone
    for each in mine:
        signal.signal(each, signal.default_int_handler)
    try:
        yield
    finally:
        for each in mine:
            signal.signal(each, signal.SIG_DFL)

"""The same sentences from a shell: `nova-dpo`."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from nova_dpo_sdk.cli._out import BAD, INTERRUPTED, complain, complain_of, silence_pipes
from nova_dpo_sdk.cli._parser import parser
from nova_dpo_sdk.cli._signals import ended_like_ctrl_c
from nova_dpo_sdk.errors import NovaError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from nova_dpo_sdk._time import Clock

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `nova-dpo`; those of this process when left out.
        clock: What tells the time and waits; the machine's when left out.

    Returns:
        0 when all is well, 1 for findings, a failed job or an error, 2 for wrong usage, 130 after Ctrl-C or another
        signal to end.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    try:
        arguments = parser().parse_args(argv)
        arguments.clock = clock
        return _run(arguments)
    except SystemExit as stop:  # argparse has said all there is to say
        return stop.code if isinstance(stop.code, int) else 2


def _run(arguments: argparse.Namespace) -> int:
    module, _, function = str(arguments.run).partition(":")
    try:
        with ended_like_ctrl_c():
            code: int = getattr(import_module(f"nova_dpo_sdk.cli.{module}"), function)(arguments)
            sys.stdout.flush()
    except NovaError as error:
        complain_of(error)
    except KeyboardInterrupt:
        complain(arguments.interrupted)
        return INTERRUPTED
    except BrokenPipeError:
        silence_pipes()
    except OSError as error:
        complain(f"error: {error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:  # the last line of defence: users never see a traceback unasked
        if os.environ.get("NOVA_DPO_DEBUG"):
            raise
        complain(
            f"error: this is a fault of nova-dpo ({type(error).__name__}: {error}). "
            "Set NOVA_DPO_DEBUG=1 to see where it happened, and please report it."
        )
    else:
        return code
    return BAD

"""`nova-dpo cloud`: a rehearsal cloud that outlives the scripts that use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.cli._out import GOOD, say, write_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.local import LocalCloud


def cloud(arguments: argparse.Namespace) -> int:
    """Run a rehearsal cloud until it is interrupted."""
    from nova_dpo_sdk.local import LocalCloud, Script

    clock = arguments.clock or SystemClock()
    with LocalCloud(clock=clock, script=Script(pace=arguments.pace)) as running:
        tries = (
            "nova-dpo chain list --local {file}",
            "python: nova = LocalCloud.attach(json.loads(Path({file!r}).read_text()))",
        )
        keep(running, Path(arguments.file), clock, tries)
    return GOOD


def keep(running: LocalCloud, path: Path, clock: Clock, tries: Iterable[str]) -> None:
    """Let a cloud run on until Ctrl-C, with its connection in a file that goes with it.

    Args:
        running: The cloud.
        path: The file.
        clock: Passes the time.
        tries: What to try meanwhile; `{file}` stands for the file.
    """
    file = write_file(path, json.dumps(running.connection().to_dict(), indent=2) + "\n")
    say("", "The rehearsal cloud runs on until you press Ctrl-C. Try this in another shell:", "")
    say(*(f"  {each.format(file=str(file))}" for each in tries), "")
    try:
        while True:
            clock.sleep(1.0)
    except KeyboardInterrupt:
        say("", "The rehearsal cloud is gone.")
    finally:
        file.unlink(missing_ok=True)

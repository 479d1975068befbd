"""`nova-dpo cloud`: a rehearsal cloud that outlives the scripts that use it."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.cli._out import GOOD, complain, say, write_file
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.local import LocalCloud


def cloud(arguments: argparse.Namespace) -> int:
    """Run a rehearsal cloud until it is interrupted."""
    from nova_dpo_sdk.local import LocalCloud, Script

    clock = arguments.clock or SystemClock()
    path = Path(arguments.file)
    _refuse_what_is_not_ours(path)
    with LocalCloud(clock=clock, script=Script(pace=arguments.pace)) as running:
        tries = (
            "nova-dpo chain list --local {file}",
            "python: cloud = LocalCloud.attach(json.loads(Path({file!r}).read_text()))",
            "        nova = NovaClient(cloud.hyperpod(), output=cloud.output)",
        )
        keep(running, path, clock, tries)
    return GOOD


def keep(running: LocalCloud, path: Path, clock: Clock, tries: Iterable[str]) -> None:
    """Let a cloud run on until Ctrl-C, with its connection in a file that goes with it.

    Args:
        running: The cloud.
        path: The file.
        clock: Passes the time.
        tries: What to try meanwhile; `{file}` stands for the file.

    Raises:
        ConfigurationError: The file is there, and is no connection to a rehearsal cloud, or to one that still runs.
    """
    _refuse_what_is_not_ours(path)
    text = json.dumps(running.connection().to_dict(), indent=2) + "\n"
    try:
        file = write_file(path, text)
        say("", "The rehearsal cloud runs on until you press Ctrl-C. Try this in another shell:", "")
        say(*(f"  {each.format(file=str(file))}" for each in tries), "")
        while True:
            clock.sleep(1.0)
    except KeyboardInterrupt:
        with suppress(OSError):  # a terminal that was closed
            say("", "The rehearsal cloud is gone.")
    finally:
        _remove(path, text)


def _remove(path: Path, text: str) -> None:
    """Remove the file, if it is still the one that was written."""
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") != text:
            complain(f"{path} was written by somebody else since; it is left as it is.")
            return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        complain(f"{path} could not be removed ({error.strerror or error}); it leads nowhere now.")


def _refuse_what_is_not_ours(path: Path) -> None:
    """The file of a cloud that was killed may be taken; no other one may, as it would be removed in the end.

    Raises:
        ConfigurationError: The file is there, and is no connection to a rehearsal cloud, or to one that still runs.
    """
    if not path.exists():
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        held = None
    if not (isinstance(held, dict) and {"aws_endpoint", "kubernetes_endpoint"} <= held.keys()):
        raise ConfigurationError(
            f"{path} is there, and is no file of a rehearsal cloud: it would be overwritten, and removed in the end. "
            "Give another name, such as cloud.json."
        )
    known = cast("dict[str, object]", held)
    if _runs(str(known["kubernetes_endpoint"]), str(known.get("ca_pem"))):
        raise ConfigurationError(
            f"{path} leads to a rehearsal cloud that still runs: nobody would find it any more. Press Ctrl-C there "
            "first, or give another name."
        )


def _runs(endpoint: str, ca_pem: str) -> bool:
    """Whether the cloud answers; only it has a certificate of its own authority."""
    try:
        there = urlsplit(endpoint)
        context = ssl.create_default_context(cadata=ca_pem)
        with socket.create_connection((there.hostname or "", there.port or 443), timeout=5) as plain:
            context.wrap_socket(plain, server_hostname=there.hostname).close()
    except (OSError, ValueError):
        return False
    return True

"""Record the terminal sessions of the documentation: run their commands again and write down what they say.

    python tools/sessions.py docs/sessions.md

Every block of the page that is marked `console recorded` is a session of its own, in a folder with the sample data,
with a fake clock and a rehearsal cloud; a word more, such as `crash-loop`, is a fault that meets the cloud's jobs.
Lines that begin with `$ ` are commands: `nova-dpo` runs, also as `NAME=$(nova-dpo ...)`, `sleep` lets time pass, `cat`,
`head` and `sed -i` do to files what they do everywhere. What follows is written anew. A test holds the page to it.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timezone
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk.cli import main as nova_dpo
from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SESSION = re.compile(r"^(```console recorded *([a-z-]*)\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
START = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
ASIDE = ("NO_COLOR", "FORCE_COLOR", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION")


def replayed(page: str) -> str:
    """The page with every recorded session run again."""
    return SESSION.sub(lambda found: found[1] + Session(found[2]).run(found[3]), page)


class Session:
    """One terminal.

    Args:
        fault: What happens to the jobs of the rehearsal cloud; nothing when empty.
    """

    def __init__(self, fault: str = "") -> None:
        self._fault = fault
        self._clock = FakeClock(START)
        self._kept: dict[str, str] = {}
        self._words: dict[str, Callable[[list[str]], str]] = {
            "nova-dpo": self._nova_dpo,
            "sleep": self._sleep,
            "cat": lambda words: Path(words[0]).read_text(encoding="utf-8"),
            "head": lambda words: _first(Path(words[-1]), int(words[0].removeprefix("-"))),
            "sed": lambda words: _replaced(Path(words[-1]), words[1]),
        }

    def run(self, session: str) -> str:
        """Its commands, each with what it says."""
        commands = re.findall(r"^\$ (?:.*\\\n)*.*$", session, re.MULTILINE)
        with _desk() as folder:
            _furnish(folder)
            if "--local" not in session:
                return "".join(map(self._shown, commands))
            with LocalCloud(clock=self._clock) as cloud:
                if self._fault:
                    cloud.script_fault(self._fault)
                (folder / "cloud.json").write_text(json.dumps(cloud.connection().to_dict()), encoding="utf-8")
                return "".join(map(self._shown, commands))

    def _shown(self, command: str) -> str:
        line = command.removeprefix("$ ").replace("\\\n", "")
        keep = re.fullmatch(r"(\w+)=\$\((.*)\)", line)
        line, _, most = line.partition(" | head -")
        filled = re.sub(r"\$(\w+)", lambda name: self._kept[name[1]], keep[2] if keep else line)
        first, *words = shlex.split(filled)
        if keep is None:
            told = self._words[first](words).splitlines(keepends=True)
            return "".join([f"{command}\n", *told[: int(most) if most else None]])
        out = io.StringIO()
        complaints = self._run(words, out, io.StringIO())
        self._kept[keep[1]] = out.getvalue().strip()
        return f"{command}\n{complaints}"

    def _nova_dpo(self, words: list[str]) -> str:
        said = io.StringIO()
        return self._run(words, said, said)

    def _run(self, words: list[str], out: io.StringIO, err: io.StringIO) -> str:
        with redirect_stdout(out), redirect_stderr(err):
            code = nova_dpo(words, clock=self._clock)
        return err.getvalue() + (f"[exit code {code}]\n" if code else "")

    def _sleep(self, words: list[str]) -> str:
        self._clock.sleep(float(words[0]))
        return ""


@contextmanager
def _desk() -> Iterator[Path]:
    """An empty folder to work in, and nothing of this machine's settings."""
    before, here = dict(os.environ), Path.cwd()
    for name in ASIDE:
        os.environ.pop(name, None)
    os.environ["COLUMNS"] = "80"
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            yield Path(folder)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def _first(path: Path, lines: int) -> str:
    with path.open(encoding="utf-8") as file:
        return "".join(islice(file, lines))


def _replaced(path: Path, script: str) -> str:
    text = path.read_text(encoding="utf-8")
    for old, new in re.findall(r"s/([^/]+)/([^/]+)/", script):
        if old not in text:
            sys.exit(f"{path} has no {old!r}")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return ""


def _furnish(folder: Path) -> None:
    """The files that the sessions speak of: chats and pairs of Nova's layout, and pairs as data sets have them."""
    samples = resources.files("nova_dpo_sdk.local") / "samples"
    for sample, name in (("chats", "support_chats"), ("preferences", "support_preferences")):
        (folder / f"{name}.jsonl").write_bytes((samples / f"{sample}.jsonl").read_bytes())
    rows = [
        {"prompt": f"Where is order {n}?", "chosen": f"Order {n} is on its way.", "rejected": "No idea."}
        for n in range(64)
    ]
    rows[7]["chosen"] = rows[7]["rejected"]
    rows[20]["chosen"] = ""
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "hf_preferences.jsonl").write_text(text, encoding="utf-8")


def main() -> int:
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(replayed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The real command in this process, with what it wrote and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nova_dpo_sdk
from nova_dpo_sdk.cli import main

if TYPE_CHECKING:
    from nova_dpo_sdk.local import FakeClock, LocalCloud

SAMPLES = Path(nova_dpo_sdk.__file__).parent / "local" / "samples"
CHATS = str(SAMPLES / "chats.jsonl")
PAIRS = str(SAMPLES / "preferences.jsonl")
PLACE = ["--cluster", "research", "--region", "us-east-1", "--output", "s3://acme-nova/runs"]


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def overlong(text: str, columns: int = 80) -> list[str]:
    """Lines that leave the screen although they need not: an address, a path or a reference stays whole."""
    return [line for line in text.splitlines() if len(line) > columns and max(map(len, line.split())) <= columns // 2]


class Shell:
    """Runs `nova-dpo` and reads what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], clock: FakeClock, folder: Path) -> None:
        self._capsys = capsys
        self.clock = clock
        self.folder = folder

    def __call__(self, *words: object) -> Said:
        self._capsys.readouterr()
        code = main([str(word) for word in words], clock=self.clock)
        told = self._capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return Said(code, told.out, told.err)

    def recipe(self, technique: str, **changes: str) -> Path:
        """A recipe with the published defaults, and some of its lines changed."""
        path = self.folder / f"{technique}.yaml"
        assert self("recipe", "new", "--technique", technique, "-o", path).code == 0
        text = path.read_text(encoding="utf-8")
        for name, value in changes.items():
            lines = [
                f"{line.partition(':')[0]}: {value}" if line.strip().startswith(f"{name}:") else line
                for line in text.splitlines()
            ]
            assert "\n".join(lines) != text.rstrip("\n")
            text = "\n".join(lines) + "\n"
        path.write_text(text, encoding="utf-8")
        return path

    def local(self, cloud: LocalCloud) -> list[str]:
        """The options that reach a rehearsal cloud."""
        path = self.folder / "cloud.json"
        path.write_text(json.dumps(cloud.connection().to_dict()), encoding="utf-8")
        return ["--local", str(path)]


@pytest.fixture(name="shell")
def make_shell(
    capsys: pytest.CaptureFixture[str], clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, clock, tmp_path)

from __future__ import annotations

import builtins
import io
from typing import Any

import pytest

from nova_dpo_sdk.backends._progress import progress_bar


def test_a_terminal_shows_bytes_and_time() -> None:
    rich_console = pytest.importorskip("rich.console")
    screen = io.StringIO()
    console = rich_console.Console(file=screen, force_terminal=True, width=100)
    with progress_bar(2_000_000, console=console) as told:
        told("s3://bucket/key", 500_000)
        told(1_500_000)
    shown = screen.getvalue()
    assert "sending" in shown
    assert "2.0/2.0 MB" in shown


def test_it_is_silent_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(1000) as told:
        told("s3://bucket/key", 500)
        told(500)
    assert capfd.readouterr() == ("", "")


def test_without_rich_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with progress_bar(1000) as told:
        told(1000)

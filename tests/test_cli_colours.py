"""Colours on a real terminal (a pty), and none where nobody wants them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys

import pytest
from cli_support import PAIRS, make_shell  # noqa: F401 - a fixture

from nova_dpo_sdk.cli._colour import painted

COLOUR = re.compile(r"\x1b\[[0-9;]*3[1-7]m")


def on_a_terminal(*words, env=None, stdout=None):
    """What a command shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    running = subprocess.Popen(
        [sys.executable, "-m", "nova_dpo_sdk.cli", *map(str, words)],
        stdin=theirs, stdout=stdout or theirs, stderr=theirs, env=kept | {"COLUMNS": "80"} | (env or {}),
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    running.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": []}\n' * 3, encoding="utf-8")
    return ("data", "check", path, "--kind", "preference")


def test_a_terminal_gets_colours_for_what_matters(bad):
    shown = on_a_terminal(*bad, env={"TERM": "xterm-256color"})
    assert "\x1b[1;31merror\x1b[0m [" in shown


@pytest.mark.parametrize(
    "env",
    [{"TERM": "dumb"}, {}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}],
    ids=["dumb", "no TERM", "NO_COLOR", "NO_COLOR before FORCE_COLOR"],
)
def test_no_colours_where_nobody_wants_them(bad, env):
    shown = on_a_terminal(*bad, env=env)
    assert "error [" in shown
    assert "\x1b" not in shown


def test_an_empty_no_color_forbids_nothing(bad):
    assert COLOUR.search(on_a_terminal(*bad, env={"TERM": "xterm", "NO_COLOR": ""}))


def test_a_pipe_has_colours_only_if_they_are_forced(bad, tmp_path):
    for forced, wanted in (({}, False), ({"FORCE_COLOR": "1"}, True)):
        with (tmp_path / "out").open("w+b") as out:
            on_a_terminal(*bad, env={"TERM": "xterm", **forced}, stdout=out)
            out.seek(0)
            assert (b"\x1b[" in out.read()) is wanted


def test_json_on_a_terminal_stays_json():
    shown = on_a_terminal("recipe", "new", "--technique", "dpo", "--json", env={"TERM": "xterm"})
    assert "\x1b" not in shown


def test_the_live_table_moves_on_terminals_that_can(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()
    assert shell("wait", ref, *local).code == 0
    words = ("status", ref, "--watch", *local)
    lively = on_a_terminal(*words, env={"TERM": "xterm"})
    assert COLOUR.search(lively)
    assert "\x1b[?25l" in lively  # the cursor is hidden while the table moves
    assert not COLOUR.search(on_a_terminal(*words, env={"TERM": "xterm", "NO_COLOR": "1"}))
    dumb = on_a_terminal(*words, env={"TERM": "dumb"})
    assert "\x1b" not in dumb
    assert dumb.rstrip().endswith("1 job: 1 succeeded")


def test_a_name_gives_a_terminal_no_orders(tmp_path):
    path = tmp_path / "a\x1b]0;owned\x07\x1b[31m.jsonl"
    path.write_text('{"messages": []}\n', encoding="utf-8")
    shown = on_a_terminal("data", "check", path, "--kind", "preference", env={"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07" in shown


def test_what_a_container_says_gives_the_live_table_no_orders(shell, cloud):
    local = shell.local(cloud)
    cloud.script_fault("crash-loop", message="\x1b]0;owned\x07 out of memory")
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()
    cloud.clock.sleep(30)
    words = ("status", ref, "--watch", "--timeout", "2", *local)
    assert "]0;owned\x07" not in on_a_terminal(*words, env={"TERM": "xterm"})
    assert "]0;owned\x07" not in on_a_terminal("status", ref, *local, env={"TERM": "xterm"})


def test_only_what_says_how_things_stand_is_painted():
    assert painted("    error [x] in a wrapped message") == "    error [x] in a wrapped message"
    assert painted("run:") == "run:"
    assert painted("ok       cluster  research") == "\x1b[32mok\x1b[0m       cluster  research"
    assert painted("status   running") == "\x1b[36mstatus\x1b[0m   \x1b[32mrunning\x1b[0m"
    assert painted("status   starting").endswith("   starting")

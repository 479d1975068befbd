"""`nova-dpo cloud FILE`, in a process of its own: it ends cleanly whoever ends it, and takes its file along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from cli_support import make_shell  # noqa: F401 - a fixture

from nova_dpo_sdk import NovaClient
from nova_dpo_sdk.local import LocalCloud

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent")
PATIENCE = 60.0


@contextmanager
def a_cloud(file, *before):
    """A cloud that has said what to try, and is killed if the test does not end it."""
    words = [*before, sys.executable, "-m", "nova_dpo_sdk.cli", "cloud", str(file)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for line in running.stdout:
            if "LocalCloud.attach" in line:
                break
        yield running
    finally:
        running.kill()
        running.communicate()


def ended(running):
    out, err = running.communicate(timeout=PATIENCE)
    return running.returncode, out, err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whoever_ends_it_it_says_so_and_takes_its_file_along(tmp_path, name):
    file = tmp_path / "cloud.json"
    with a_cloud(file) as running:
        cloud = LocalCloud.attach(json.loads(file.read_text()))
        assert NovaClient(cloud.hyperpod(), output=cloud.output).jobs() == []
        os.killpg(running.pid, getattr(signal, name))  # a terminal tells everybody in it
        code, out, err = ended(running)
    assert (code, err) == (0, "")
    assert out.endswith("The rehearsal cloud is gone.\n")
    assert not file.exists()


def test_a_file_that_somebody_else_has_written_since_is_left(tmp_path):
    file = tmp_path / "cloud.json"
    with a_cloud(file) as running:
        file.write_text('{"aws_endpoint": "of the next one"}')
        running.send_signal(signal.SIGTERM)
        code, out, err = ended(running)
    assert (code, out.splitlines()[-1]) == (0, "The rehearsal cloud is gone.")
    assert "cloud.json was written by somebody else since; it is left as it is" in " ".join(err.split())
    assert file.exists()


def test_nohup_is_respected(tmp_path):
    with a_cloud(tmp_path / "cloud.json", "nohup") as running:
        running.send_signal(signal.SIGHUP)
        running.send_signal(signal.SIGTERM)
        code, out, _ = ended(running)
    assert (code, out.count("is gone")) == (0, 1)


def test_the_file_of_a_cloud_that_was_killed_is_taken_and_any_other_is_not(shell, tmp_path):
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}')
    told = shell("cloud", notes)
    assert told.code == 1
    assert "is no file of a rehearsal cloud" in told.err
    assert notes.read_text() == '{"mine": 1}'
    file = tmp_path / "cloud.json"
    with a_cloud(file) as running:
        running.kill()
        ended(running)
    left = file.read_text()
    with a_cloud(file) as running:
        assert file.read_text() != left
        running.send_signal(signal.SIGTERM)
        assert ended(running)[0] == 0
    assert not file.exists()


def test_the_file_of_a_cloud_that_still_runs_is_not_taken(shell, tmp_path):
    file = tmp_path / "cloud.json"
    with a_cloud(file) as running:
        held = file.read_text()
        told = shell("cloud", file)
        assert told.code == 1
        assert "leads to a rehearsal cloud that still runs" in " ".join(told.err.split())
        assert "give another name" in " ".join(told.err.split())
        assert file.read_text() == held
        running.send_signal(signal.SIGTERM)
        assert ended(running)[0] == 0
    assert not file.exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_every_command_puts_its_half_written_files_away_when_it_is_ended(tmp_path, name):
    words = [sys.executable, "-m", "nova_dpo_sdk.cli", "data", "convert", "-", str(tmp_path / "out.jsonl")]
    held = tmp_path / "temporary"
    held.mkdir()
    running = subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(held)}
    )
    try:
        patience = time.monotonic() + PATIENCE
        while not list(held.glob("*/data.jsonl")) and time.monotonic() < patience:
            running.poll()
        running.send_signal(getattr(signal, name))
        _, err = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert (running.returncode, err) == (130, "Interrupted.\n")
    assert list(tmp_path.rglob("*")) == [held]

"""Whatever writes a file leaves the old one, or none, when the disk is full or the process dies on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from dataset_records import line, pair

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
    import resource, signal, sys
    from nova_dpo_sdk.datasets import PreferenceDataset
    from nova_dpo_sdk.errors import DatasetError
    task, fate = sys.argv[1:]
    data = PreferenceDataset.from_jsonl("data.jsonl")
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fate == "dies" else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        if task == "clean":
            data.write_clean("made.jsonl")
        elif task == "split":
            data.split("made.jsonl", "held.jsonl", fraction=0.4)
        elif task == "images":
            data.with_images("made.jsonl", output="s3://acme/x", owner="123456789012")
        else:
            PreferenceDataset.convert("data.jsonl", "made.jsonl")
    except DatasetError as error:
        sys.exit(0 if "cannot be written" in str(error) else 2)
    sys.exit(3)
"""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on the size of files")


@pytest.mark.parametrize("fate", ["full", "dies"])
@pytest.mark.parametrize("task", ["clean", "split", "images", "convert"])
def test_the_old_file_or_none_is_left_under_the_name(tmp_path: Path, task: str, fate: str) -> None:
    records = [line(pair(f"Question {number}?", good="word " * 100)) for number in range(500)]
    (tmp_path / "data.jsonl").write_bytes(b"".join(records))
    (tmp_path / "made.jsonl").write_text("older")
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), task, fate]
    done = subprocess.run(program, cwd=tmp_path, check=False)
    assert done.returncode == (0 if fate == "full" else -signal.SIGXFSZ)
    assert (tmp_path / "made.jsonl").read_text() == "older"
    left = {path.name for path in tmp_path.iterdir()} - {"data.jsonl", "made.jsonl"}
    assert all(name.startswith(".") for name in left) if fate == "dies" else not left

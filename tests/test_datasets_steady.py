"""Data that change under the reader, and disks that are full: nothing is believed, nothing half-written stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from dataset_records import line, pair

from nova_dpo_sdk import PreferenceDataset
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

LINES = [line(pair(f"Question {n}?", f"Good {n}.", f"Poor {n}.")) for n in range(3000)]


@pytest.fixture
def data(tmp_path: Path) -> PreferenceDataset:
    (tmp_path / "pairs.jsonl").write_bytes(b"".join(LINES))
    return PreferenceDataset.from_jsonl(tmp_path / "pairs.jsonl")


@contextmanager
def written_to(path: Path) -> Generator[None]:
    """Somebody writes to the file again and again."""
    enough = threading.Event()

    def write() -> None:
        moment = 10**18
        while not enough.is_set():
            moment += 1000
            os.utime(path, ns=(moment, moment))

    writer = threading.Thread(target=write)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the writer has its turns while the file is read
    writer.start()
    try:
        yield
    finally:
        enough.set()
        writer.join()
        sys.setswitchinterval(usual)


@pytest.mark.parametrize(
    "use",
    [
        lambda data: data.report(),
        lambda data: data.profile(),
        lambda data: data.write_clean(data.path.with_name("clean.jsonl")),
        lambda data: data.split(data.path.with_name("t.jsonl"), data.path.with_name("v.jsonl")),
    ],
    ids=["report", "profile", "write_clean", "split"],
)
def test_a_file_that_is_written_to_while_it_is_read_is_an_error(
    data: PreferenceDataset, use: Callable[[PreferenceDataset], object]
) -> None:
    data.path.write_bytes(b"".join(LINES) * 3)  # not read in a moment, however busy the machine is
    with written_to(data.path), pytest.raises(DatasetError, match=r"pairs\.jsonl changed while it was read"):
        use(data)
    assert [each.name for each in data.path.parent.iterdir()] == ["pairs.jsonl"]


def test_a_file_that_stays_as_it_is_reads_as_ever(data: PreferenceDataset) -> None:
    with data.open() as stream:
        assert stream.read() == b"".join(LINES)
        assert stream.seek(5) == 5
        assert stream.read(3) == LINES[0][5:8]
        assert os.fstat(stream.fileno()).st_size == len(b"".join(LINES))
    assert stream.closed


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk, writing fails
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from nova_dpo_sdk.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="only Unix limits the size of files")
@pytest.mark.parametrize(
    "words",
    [
        ("check", "pairs.jsonl", "--write-clean", "clean.jsonl"),
        ("split", "pairs.jsonl", "t.jsonl", "v.jsonl", "--fraction", "0.5"),
        ("convert", "pairs.jsonl", "out.jsonl"),
        ("convert", "pairs.jsonl", "-"),
        ("check", "pairs.jsonl", "--rule", "candidates-prefix=error", "--format", "jsonl", "-o", "report.jsonl"),
        ("check", "-"),
    ],
    ids=["write-clean", "split", "convert", "convert-to-stdout", "report", "stdin"],
)
def test_a_full_disk_leaves_nothing_under_the_name(data: PreferenceDataset, words: tuple[str, ...]) -> None:
    data.path.write_bytes(b"".join(line(pair(f"Question {n}?", f"Good {n}. More.", f"Good {n}.")) for n in range(4000)))
    with data.path.open("rb") as stdin:
        told = subprocess.run(
            [sys.executable, "-c", LIMITED, "data", *words],
            cwd=data.path.parent, stdin=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert told.returncode == 1
    assert told.stdout == ""
    assert "File too large" in " ".join(told.stderr.split())
    assert "fault of nova-dpo" not in told.stderr
    assert [each.name for each in data.path.parent.iterdir()] == ["pairs.jsonl"]

"""The good lines of a data set in a file of their own; the others beside it, each with its reasons."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

import msgspec

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.datasets._lines import BLANK
from nova_dpo_sdk.errors import DatasetError, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from nova_dpo_sdk.datasets._report import Problem, Report

D = TypeVar("D")


@dataclass(frozen=True)
class Cleaning(Generic[D]):
    """A finished cleaning.

    Attributes:
        dataset: The new data set, of good records only.
        rejected_path: The sidecar: one JSON object for each rejected record, with `line`, `offset`, `reasons` and
            the `record` as it stood (None where it was too long to be held).
        read: Records read; `written` and `rejected` together.
        written: Records in the new data set.
        rejected: Records in the sidecar.
        blank: Blank lines, which are in neither.
        report: What was found in the source.
    """

    dataset: D
    rejected_path: Path
    read: int
    written: int
    rejected: int
    blank: int
    report: Report

    def __str__(self) -> str:
        return f"{plural(self.read, 'record')} read, {self.written:,} written, {self.rejected:,} rejected"


class Sorter:
    """Writes good lines to one file and bad ones to another, as a scan shows them."""

    def __init__(self, good: BinaryIO, bad: BinaryIO) -> None:
        self._good = good
        self._bad = bad
        self.written = self.rejected = self.blank = 0

    def take(self, lines: list[bytes], first: int, problems: list[Problem]) -> None:
        """Sort some lines, of which `first` is the number of the first."""
        reasons: dict[int, list[Problem]] = {}
        for problem in problems:
            # Windows newlines are a fault of the file, which is mended here.
            if problem.severity is Severity.ERROR and problem.code != "windows-newlines":
                reasons.setdefault(problem.line, []).append(problem)
        good: list[bytes] = []
        for number, line in enumerate(lines, first):
            if not line.strip(BLANK):
                self.blank += 1
            elif number in reasons:
                self._reject(line.decode("utf-8", "backslashreplace"), reasons[number])
            else:
                good.append(line.removesuffix(b"\r"))
        self.written += len(good)
        _write(self._good, b"".join([line + b"\n" for line in good]))

    def take_too_long(self, problem: Problem) -> None:
        """Note a line that was not held."""
        self._reject(None, [problem])

    def _reject(self, record: str | None, problems: list[Problem]) -> None:
        self.rejected += 1
        reasons = [
            {"path": each.path, "code": each.code, "message": each.message, "fix": each.fix} for each in problems
        ]
        entry: dict[str, Any] = {
            "line": problems[0].line,
            "offset": problems[0].offset,
            "reasons": reasons,
            "record": record,
        }
        _write(self._bad, msgspec.json.encode(entry) + b"\n")


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:  # told here, because around a scan it would pass for a fault of reading
        raise DatasetError(
            f"The cleaned file cannot be written: {error.strerror or error}. Nothing was left; free space, or pass"
            " another name."
        ) from error


def beside(target: Path) -> Path:
    """The usual name of the sidecar."""
    return target.with_name(f"{target.name.removesuffix('.jsonl')}.rejected.jsonl")


def expect_sorted(report: Report, sorter: Sorter) -> None:
    """Refuse a cleaning that left something out.

    Raises:
        DatasetError: The file is one JSON array, or has no good record.
    """
    is_array = report.records == 1 and report.counts.get("json-array")
    if sorter.written + sorter.rejected != report.records or is_array:
        raise DatasetError(f"{report.path} is a JSON array, not JSON Lines; convert() reads it. Nothing was written.")
    if not sorter.written:
        raise DatasetError(f"{report.path} has no good record; nothing was written.", report.findings())


def forget_empty(path: Path, rejected: int) -> None:
    """Leave no empty sidecar behind."""
    if not rejected:
        with suppress(OSError):
            path.unlink()

"""Bad data by the million: nothing but findings and typed errors, and both ways of looking at a line agree.

    python tests/fuzz_datasets.py [--minutes 25] [--seed 1] [--keep FOLDER]

Takes turns between four kinds of input, each made from the seed and its number alone, so that a failure can be made
again with `--seed S --only NUMBER`:

- records: files of valid records with values, keys, spaces and bytes changed; the report with and without the quick
  look must be the same, so that it takes in no line in which the exact diagnosis finds a fault, nor the reverse;
- bytes: files of noise, of JSON tokens in any order, of damaged gzip; through the public methods, with every
  rendering of the report, `write_clean` (good and rejected together are what was read), conversion and split;
- parts: larger files of such records; one process and several must report the same, and the profile of that pass must
  be that of a pass of its own;
- layouts: records of other layouts with values changed; what conversion writes must be without an error.

Prints counts at the end; the exit code is 1 when anything failed. Inputs that failed are kept in a folder.
"""

# ruff: noqa: T201, S311, BLE001 - a script that prints, draws no secrets, and goes on after any failure

from __future__ import annotations

import argparse
import collections
import dataclasses
import gzip
import io
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from test_datasets_fast import KINDS, mutate, places, some_line

from nova_dpo_sdk.datasets import RULES, ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._scan import Order, scan
from nova_dpo_sdk.errors import NovaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.datasets import Report

LINES = 200
"""Mutated records in one file."""

TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r\n", b" ", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"0123", b"1" * 5000, b"[" * 70, b'{"a":' * 70, b'"\\ud83d\\ude00"',
    b'"\\ud800"', b'"\\u0000"', b'"messages"', b'"role"', b'"user"', b'"content"', b'"text"', b'"candidates"', b"\xe2\x80\xa8", b"\x1f\x8b",
    b"PAR1", b"\x28\xb5\x2f\xfd", b'"prompt"', b'"chosen"', b'"rejected"', b'{"text":"x"}',
]  # fmt: skip

LAYOUTS: list[dict[str, Any]] = [
    {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
    {"prompt": "Why?", "chosen": [{"role": "assistant", "content": "A"}], "rejected": [{"role": "assistant", "content": "B"}]},
    {"chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "A"}],
     "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "B"}]},
    {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
    {"instruction": "Say hello", "input": "", "output": "Hello"},
    {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
    {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
    {"question": "Why?", "response_0": "A", "response_1": "B", "better_response_id": 0},
    {"input": {"messages": [{"role": "user", "content": "Why?"}]}, "preferred_output": [{"role": "assistant", "content": "A"}],
     "non_preferred_output": [{"role": "assistant", "content": "B"}]},
]  # fmt: skip


class WrongError(Exception):
    """Something that must hold does not."""


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise WrongError(what)


class Fuzz:
    """Inputs by number, what is expected of them, and counts of what they were."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.counts: collections.Counter[str] = collections.Counter()
        self.rules: collections.Counter[str] = collections.Counter()
        self.input = b""

    def run(self, number: int) -> None:
        """Make one input and hold it against what is expected."""
        rng = Random(f"{self.seed}/{number}")
        if number % 997 == 996:
            self.parts(rng)
        else:
            ways: tuple[Callable[[Random], None], ...] = (self.records, self.records, self.noise, self.layouts)
            ways[number % len(ways)](rng)

    def records(self, rng: Random) -> None:
        """Mutated records: the quick look and the exact diagnosis agree."""
        kind = rng.choice(list(KINDS))
        lines = [some_line(kind, rng) for _ in range(LINES)]
        lines += [rng.choice(lines) for _ in range(rng.randrange(10))]
        rng.shuffle(lines)
        self.input = rng.choice([b"\n", b"\n", b"\n", b"\r\n"]).join(lines) + rng.choice([b"", b"\n", b"\n\n"])
        self.counts["mutated records"] += len(lines)
        rules = {rng.choice(LOOSE): rng.choice(["error", "warning", "off"]) for _ in range(rng.choice([0, 0, 1, 5]))}
        order = Order(Path("a.jsonl"), KINDS[kind], rules, max_details=rng.choice([0, 3, 1000, 100_000]))
        blocks = (1, 100, 5_000, 1 << 16, 1 << 20)
        reports = [self.scanned(dataclasses.replace(order, quick=q, block=rng.choice(blocks))) for q in (True, False)]
        expect(reports[0] == reports[1], "the reports with and without the quick look differ")
        self.rules.update(reports[0].counts)
        self.counts["good records"] += reports[0].good

    def scanned(self, order: Order) -> Report:
        return scan(io.BufferedReader(io.BytesIO(self.input)), order)  # type: ignore[arg-type]

    def noise(self, rng: Random) -> None:
        """Any bytes, through the public methods."""
        self.input = self.some_bytes(rng)
        self.counts["files of bytes"] += 1
        path = self.folder / "noise.jsonl"
        path.write_bytes(self.input)
        data = rng.choice([PreferenceDataset.from_jsonl(path), ChatDataset.from_jsonl(path, nova2=rng.random() < 0.5)])
        report = self.typed(data.report)
        if report is not None:
            self.rules.update(report.counts)
            renderings(report)
        self.clean(data)
        if rng.random() < 0.3:
            self.converted(type(data), path, rng)
        if rng.random() < 0.1:
            self.typed(data.profile)
            self.typed(lambda: data.split(self.folder / "t.jsonl", self.folder / "v.jsonl"))

    def some_bytes(self, rng: Random) -> bytes:
        """Noise, tokens, records with noise in them; now and then compressed, and cut."""
        way = rng.randrange(4)
        if way == 0:
            data = rng.randbytes(rng.choice([1, 10, 1000, 20_000]))
        elif way == 1:
            data = b"".join(rng.choices(TOKENS, k=rng.randrange(1, 300)))
        else:
            lines = [some_line(rng.choice(list(KINDS)), rng) for _ in range(rng.randrange(1, 20))]
            body = bytearray(b"\n".join(lines))
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(body) + 1)
                body[at : at + rng.randrange(3)] = rng.choice(TOKENS) if way == 2 else rng.randbytes(2)
            data = bytes(body)
        if rng.random() < 0.15:
            data = gzip.compress(data, 1)
            data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data
        return data or b"\n"

    def clean(self, data: PreferenceDataset | ChatDataset) -> None:
        """What `write_clean` wrote and what it rejected are what it read."""
        target, sidecar = self.folder / "clean.jsonl", self.folder / "clean.rejected.jsonl"
        target.unlink(missing_ok=True)
        sidecar.unlink(missing_ok=True)
        done = self.typed(lambda: data.write_clean(target))
        if done is None:
            expect(not target.exists() and not sidecar.exists(), "a cleaning that failed left a file")
            return
        written = target.read_bytes().splitlines(keepends=False) if b"\r" not in target.read_bytes() else None
        lines = target.read_bytes().count(b"\n")
        rejected = sidecar.read_bytes().count(b"\n") if sidecar.exists() else 0
        expect(lines == done.written and rejected == done.rejected, "a cleaning miscounted what it wrote")
        expect(done.written + done.rejected == done.read == done.report.records, "good and rejected are not all")
        expect(written is None or len(written) >= done.written, "lines are missing")
        expect(done.dataset.report().ok or not done.written, "what was written clean has errors")
        self.counts["cleanings"] += 1

    def layouts(self, rng: Random) -> None:
        """Records of other layouts: what conversion writes is without an error."""
        records = []
        seed = rng.choice(LAYOUTS)
        for _ in range(rng.randrange(1, 30)):
            record = json.loads(json.dumps(seed))
            for _ in range(rng.choice([0, 1, 2])):
                if places(record):
                    mutate(record, rng)
            records.append(record)
        text = json.dumps(records) if rng.random() < 0.2 else "\n".join(map(json.dumps, records))
        self.input = text.encode()
        self.counts["files of other layouts"] += 1
        self.counts["records of other layouts"] += len(records)
        source = self.folder / "source.jsonl"
        source.write_bytes(self.input)
        self.converted(rng.choice([PreferenceDataset, ChatDataset]), source, rng)

    def converted(self, kind: type[PreferenceDataset | ChatDataset], source: Path, rng: Random) -> None:
        """A conversion counts every record, and what it writes is without an error."""
        target = self.folder / "target.jsonl"
        target.unlink(missing_ok=True)
        done = self.typed(lambda: kind.convert(source, target, clean_reserved=rng.random() < 0.5))
        if done is None:
            expect(not target.exists(), "a conversion that failed left a file")
            return
        dropped = sum(done.dropped.values())
        expect(done.written + dropped == done.read, f"{done.written} written and {dropped} dropped of {done.read} read")
        if done.written:
            report = done.dataset.report()
            clean = report.ok or done.layout.startswith("nova-")  # records in Nova's own layout are copied as they are
            expect(clean and report.records == done.written, f"what was converted has errors: {report}")
        self.counts["conversions"] += 1

    def parts(self, rng: Random) -> None:
        """A larger file: several processes report what one reports."""
        kind = rng.choice(["pair", "chat"])
        lines = [some_line(kind, rng) for _ in range(3000)] * 2
        rng.shuffle(lines)
        self.input = b"\n".join(lines)
        path = self.folder / "parts.jsonl"
        path.write_bytes(self.input)
        cls = PreferenceDataset if kind == "pair" else ChatDataset
        data = cls.from_jsonl(path)
        one, two = (data.report(workers=workers, max_details=1_000_000, profile=True) for workers in (1, 3))
        expect(one == two, "one process and several report differently")
        expect(one.profile == data.profile(), "a profile differs in the pass of the report")
        self.counts["files in parts"] += 1

    def typed(self, act: Callable[[], Any]) -> Any:
        """The answer; None for a typed error with a message."""
        try:
            return act()
        except NovaError as error:
            expect(len(str(error)) > 10, "an error without a message")
            self.counts["typed errors"] += 1
            return None


LOOSE = [code for code, rule in RULES.items() if not rule.fixed]


def renderings(report: Report) -> None:
    """Every way to write a report down can be read back."""
    str(report)
    json.loads(report.to_json())
    rows = [json.loads(row) for row in report.to_jsonl().splitlines()]
    results = json.loads(report.to_sarif())["runs"][0]["results"]
    expect(len(rows) - 1 == len(results) == len(report.problems), "renderings show different numbers of problems")
    expect("<script" not in report._repr_html_(), "a text reached HTML as it was")


def main() -> int:
    """Run for some minutes, then say what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="make this input alone, and let its error out")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for inputs that failed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(arguments.seed, Path(folder))
        if arguments.only is not None:
            fuzz.run(arguments.only)
            return 0
        return until(fuzz, time.monotonic() + arguments.minutes * 60, arguments.keep)


def until(fuzz: Fuzz, end: float, keep: Path) -> int:
    """Take one input after the other until the time is over."""
    begun, failed, slowest, number = time.monotonic(), 0, (0.0, 0), 0
    while time.monotonic() < end:
        started = time.monotonic()
        try:
            fuzz.run(number)
        except Exception:
            failed += 1
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{fuzz.seed}-{number}.bin").write_bytes(fuzz.input)
            print(f"input {number} failed (--seed {fuzz.seed} --only {number}):\n{traceback.format_exc()}", flush=True)
        slowest = max(slowest, (time.monotonic() - started, number))
        number += 1
    print(f"{number:,} inputs in {(time.monotonic() - begun) / 60:.1f} minutes, seed {fuzz.seed}, {failed:,} failed")
    for name, count in fuzz.counts.items():
        print(f"  {count:>12,}  {name}")
    print(f"  {len(fuzz.rules)} rules were met, {sum(fuzz.rules.values()):,} problems; ", end="")
    print(f"the slowest input (number {slowest[1]}) took {slowest[0]:.2f} s")
    missed = [rule.code for rule in RULES.values() if rule.scope != "run" and rule.code not in fuzz.rules]
    print(f"  not met: {', '.join(missed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

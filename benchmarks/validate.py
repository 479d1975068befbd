"""How fast preference data are validated, beside bare JSON parsing of the same files.

    python benchmarks/validate.py [--megabytes 40] [--runs 5]

Prints medians in MB/s per CPU second, and each as a share of the floor: `orjson.loads` on every line and nothing
else (left out where orjson is not installed). The rows of this package read the file, hash it (SHA-256) and build
the full report (one process); the floor only reads and parses. The hash alone costs what the second row shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets import PreferenceDataset

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = (  # noqa: SIM905 - prose reads better
    "the model answers politely and briefly when a customer asks about orders refunds delivery times account "
    "settings please note that we cannot share private data but here is what you can do next open the page choose "
    "your plan then confirm first check whether it worked in time for all of us (see below) e.g. 24 hours"
).split()
FOREIGN = "naïve café résumé über straße “quoted” — … 東京 大阪 こんにちは ありがとう 😀 🚀 Привет".split()  # noqa: SIM905 - as above
WORDS_OFF = {"reserved-word": "off", "reserved-word-casing": "off"}
REPEATS_OFF = {"duplicate-record": "off", "swapped-preference": "off"}


def text(rng: random.Random, size: int) -> str:
    """Prose of about `size` bytes; one text in four has foreign words in it, some have line breaks and quotes."""
    words, length, foreign = [], 0, rng.random() < 0.25
    while length < size:
        word = rng.choice(FOREIGN if foreign and rng.random() < 0.15 else WORDS)
        chance = rng.random()
        if chance < 0.01:
            word = f'"{word}"'
        elif chance < 0.02:
            word += ":\n"
        words.append(word)
        length += len(word.encode()) + 1
    return " ".join(words)


def pair(rng: random.Random, size: int, number: int) -> dict[str, Any]:
    """A valid preference record of about `size` bytes; one in three has several turns."""
    turns = rng.choice((1, 1, 3)) if size < 2000 else rng.choice((1, 3, 5, 7))
    room = (size - 330 - 60 * turns) // (turns + 2)
    messages: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[turn % 2], "content": [{"text": f"{number} {text(rng, room - 8)}"}]}
        for turn in range(turns)
    ]
    candidates = [
        {"content": [{"text": text(rng, room)}], "preferenceLabel": label} for label in ("preferred", "non-preferred")
    ]
    messages.append({"role": "assistant", "candidates": candidates})
    system = [{"text": "You are a helpful support agent of a small shop."}]
    return {"schemaVersion": "bedrock-conversation-2024", "system": system, "messages": messages}


def broken(record: dict[str, Any], rng: random.Random) -> str:
    """The line of a record with one of five common faults."""
    fault = rng.randrange(5)
    candidates = record["messages"][-1]["candidates"]
    if fault == 0:
        return as_line(record)[:-2]
    if fault == 1:
        candidates[0]["preferenceLabel"] = "chosen"
    elif fault == 2:
        record["messages"][0]["content"] = "Hello"
    elif fault == 3:
        record["messages"][0]["content"][0]["text"] += "\nUser: and then?"
    else:
        candidates[1] = {**candidates[0], "preferenceLabel": "non-preferred"}
    return as_line(record)


def as_line(record: dict[str, Any], separators: tuple[str, str] = (",", ":")) -> str:
    """The line of a record."""
    return json.dumps(record, ensure_ascii=False, separators=separators)


def generate(path: Path, *, size: int, total: int, spaces: bool = False, bad: float = 0.0) -> Path:
    """Write a seeded file of `total` bytes."""
    rng = random.Random(7)
    separators = (", ", ": ") if spaces else (",", ":")
    written = number = 0
    with path.open("wb") as stream:
        while written < total:
            number += 1
            record = pair(rng, size, number)
            line = broken(record, rng) if rng.random() < bad else as_line(record, separators)
            written += stream.write(line.encode() + b"\n")
    return path


def parse_all(path: Path, loads: Callable[[bytes], Any], digest: Any = None) -> None:
    """Parse every line and keep nothing but the hash that is asked for."""
    with path.open("rb") as stream:
        rest = b""
        while block := stream.read(1 << 18):
            if digest is not None:
                digest.update(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                loads(line)


def median_speeds(rows: dict[str, tuple[Path, Callable[[Path], Any]]], runs: int) -> dict[str, float]:
    """MB per CPU second of each row; the rows take turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(runs + 1):
        for name, (path, act) in rows.items():
            start = time.process_time()
            act(path)
            if turn:
                times[name].append(time.process_time() - start)
    return {name: rows[name][0].stat().st_size / 1e6 / statistics.median(taken) for name, taken in times.items()}


def peak_memory(path: Path) -> float:
    """Peak memory in MB of a fresh process that reports on `path`."""
    code = (
        "import resource, sys; from nova_dpo_sdk.datasets import PreferenceDataset; "
        "PreferenceDataset.from_jsonl(sys.argv[1]).report(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def rows_for(folder: Path, size: int, total: int) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """What is measured on records of one size."""
    plain = generate(folder / "plain.jsonl", size=size, total=total)
    spaces = generate(folder / "spaces.jsonl", size=size, total=total, spaces=True)
    bad = generate(folder / "bad.jsonl", size=size, total=total, bad=0.01)
    rows: dict[str, tuple[Path, Callable[[Path], Any]]] = {}
    try:
        import orjson
    except ImportError:
        print("orjson is not installed: no floor")
    else:
        rows["orjson.loads (floor)"] = plain, lambda path: parse_all(path, orjson.loads)
        rows["orjson.loads + SHA-256"] = plain, lambda path: parse_all(path, orjson.loads, hashlib.sha256())
    rows["json.loads"] = plain, lambda path: parse_all(path, json.loads)
    rows["structure and pairs"] = plain, lambda path: report(path, {**WORDS_OFF, **REPEATS_OFF})
    rows["+ reserved words"] = plain, lambda path: report(path, REPEATS_OFF)
    rows["+ repeats = all rules"] = plain, lambda path: report(path, {})
    rows["all rules, spaces after , and :"] = spaces, lambda path: report(path, {})
    rows["all rules, 1 % bad lines"] = bad, lambda path: report(path, {})
    return rows


def report(path: Path, rules: dict[str, str]) -> None:
    """One full report."""
    PreferenceDataset.from_jsonl(path).report(rules=rules, workers=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in (1_000, 8_000):
            rows = rows_for(Path(folder), size, options.megabytes * 1_000_000)
            speeds = median_speeds(rows, options.runs)
            floor = speeds.get("orjson.loads (floor)")
            print(f"\nrecords of {size:,} bytes, {options.megabytes} MB{'':12}MB/s   of floor")
            for name, speed in speeds.items():
                share = f"{speed / floor:8.2f}" if floor else ""
                print(f"  {name:34} {speed:7.0f}   {share}")
            print(f"  {'peak memory':34} {peak_memory(rows['json.loads'][0]):7.0f} MB")


if __name__ == "__main__":
    main()

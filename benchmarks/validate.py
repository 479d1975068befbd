"""How fast preference data are validated, beside bare JSON parsing of the same files and beside other validators.

    python benchmarks/validate.py [--megabytes 40] [--runs 5] [--large 1000] [--aws-validator PATH]

Prints medians in MB/s per CPU second, and each as a share of the floor, `orjson.loads` on every line and nothing else
(left out where orjson is not installed): the median of the shares in each turn. The rows of this package read the
file and build the full report in one process, with the rules that are named. Then:

- what one bad line in a hundred costs, as a share of the speed of the same lines without it,
- what repeats and the profile add in a large file (`--large` megabytes; 0 leaves it out), and what share of the floor
  is left with them,
- two processes against one on that file, by the clock,
- the peak memory of a process that reads that file plain, as gzip and as zstd,
- other validators on records of 1 KB: AWS's sample script (`nova_ft_dataset_validator.py` of aws-samples'
  amazon-nova-samples, where `--aws-validator` names it) and the Nova Forge SDK's validator for SFT
  (`pip install amzn-nova-forge`, where it can be imported). Each reads the file from the disk as its own users do.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import importlib
import importlib.util
import io
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Rows: TypeAlias = dict[str, tuple[Path, Callable[[Path], Any]]]
    """By name: a file, and what is done with it."""

WORDS = (  # noqa: SIM905 - prose reads better
    "the model answers politely and briefly when a customer asks about orders refunds delivery times account "
    "settings please note that we cannot share private data but here is what you can do next open the page choose "
    "your plan then confirm first check whether it worked in time for all of us (see below) e.g. 24 hours"
).split()
FOREIGN = "naïve café résumé über straße “quoted” — … 東京 大阪 こんにちは ありがとう 😀 🚀 Привет".split()  # noqa: SIM905 - as above
WORDS_OFF = {"reserved-word": "off", "reserved-word-casing": "off"}
REPEATS_OFF = {"duplicate-record": "off", "swapped-preference": "off"}
FLOOR = "orjson.loads (floor)"
ALL = "+ repeats = all rules"
BAD = "all rules, 1 % bad lines"


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


def times_of(rows: Rows, runs: int, clock: Callable[[], float] = time.process_time) -> dict[str, list[float]]:
    """Seconds of each run of each row; the rows take turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(runs + 1):
        for name, (path, act) in rows.items():
            start = clock()
            act(path)
            if turn:
                times[name].append(clock() - start)
    return times


def rate(path: Path, seconds: float) -> float:
    """MB per second."""
    return path.stat().st_size / 1e6 / seconds


# --- our own rows and the floors


def rows_for(folder: Path, size: int, total: int) -> Rows:
    """What is measured on records of one size."""
    plain = generate(folder / "plain.jsonl", size=size, total=total)
    spaces = generate(folder / "spaces.jsonl", size=size, total=total, spaces=True)
    bad = generate(folder / "bad.jsonl", size=size, total=total, bad=0.01)
    rows: Rows = {}
    if importlib.util.find_spec("orjson") is None:
        print("orjson is not installed: no floor")
    else:
        loads = importlib.import_module("orjson").loads
        rows[FLOOR] = plain, lambda path: parse_all(path, loads)
        rows["orjson.loads + SHA-256"] = plain, lambda path: parse_all(path, loads, hashlib.sha256())
    rows["json.loads"] = plain, lambda path: parse_all(path, json.loads)
    rows["structure and pairs"] = plain, lambda path: report(path, {**WORDS_OFF, **REPEATS_OFF})
    rows["+ reserved words"] = plain, lambda path: report(path, REPEATS_OFF)
    rows[ALL] = plain, report
    rows["all rules, spaces after , and :"] = spaces, report
    rows[BAD] = bad, report
    rows["all rules and SHA-256"] = plain, lambda path: report(path, hashed=True)
    rows["all rules and the profile, one pass"] = plain, lambda path: report(path, profile=True)
    rows["profile(), a pass of its own"] = plain, lambda path: PreferenceDataset.from_jsonl(path).profile()
    return rows


def report(path: Path, rules: dict[str, str] | None = None, *, workers: int = 1, **more: bool) -> None:
    """One full report, lengths of records included."""
    PreferenceDataset.from_jsonl(path).report(rules=rules or {}, workers=workers, **more)


def print_table(folder: Path, size: int, megabytes: int, runs: int) -> None:
    """Floors and rows of records of one size."""
    rows = rows_for(folder, size, megabytes * 1_000_000)
    times = times_of(rows, runs)
    rates = {name: [rate(rows[name][0], seconds) for seconds in taken] for name, taken in times.items()}
    print(f"\nrecords of {size:,} bytes, {megabytes} MB{'':12}MB/s   of floor (least-most)")
    for name, speeds in rates.items():
        share = ratio(speeds, rates[FLOOR]) if FLOOR in rates else ""
        print(f"  {name:34} {statistics.median(speeds):7.0f}   {share}")
    print(f"  {'1 % bad lines, of the clean speed':34} {'':7}   {ratio(rates[BAD], rates[ALL])}", flush=True)


def ratio(speeds: list[float], others: list[float]) -> str:
    """The median of the ratios of each turn, the least and the most of them."""
    found = [one / other for one, other in zip(speeds, others, strict=True)]
    return f"{statistics.median(found):8.2f} ({min(found):.2f}-{max(found):.2f})"


# --- a large file


def enlarge(source: Path, path: Path, total: int) -> Path:
    """Write a file of `total` bytes: the records of `source` again and again, no two the same."""
    lines = source.read_bytes().splitlines(keepends=True)
    with path.open("wb", buffering=1 << 20) as stream:
        copy = 0
        while stream.tell() < total:
            copy += 1
            stream.writelines(each.replace(b'[{"text":"', b'[{"text":"%d-' % copy) for each in lines)
    return path


def print_large(folder: Path, megabytes: int, runs: int) -> None:
    """What repeats and the profile cost in a large file, two processes against one, and the peak memory."""
    for size in (8_000, 1_000):
        small = generate(folder / "small.jsonl", size=size, total=min(megabytes, 20) * 1_000_000)
        large = enlarge(small, folder / "large.jsonl", megabytes * 1_000_000)
        print(f"\none file of {megabytes:,} MB, records of {size:,} bytes")
        print_shares(large, min(runs, 3))
    rows: Rows = {
        "one": (large, lambda path: report(path, workers=1)),
        "two": (large, lambda path: report(path, workers=2)),
    }
    taken = times_of(rows, min(runs, 3), time.perf_counter)
    one, two = map(statistics.median, taken.values())
    print(f"  one process {one:.2f} s ({rate(large, one):.0f} MB/s), two {two:.2f} s: {one / two:.2f} times as fast")
    for name, path in {"plain": large, "gzip": as_gzip(large), "zstd": as_zstd(large)}.items():
        if path is not None:
            own, others = peak_memory(path)
            more = f", each of two helpers {others:.0f} MB" if others else ""
            print(f"  peak memory, {name}: {own:.0f} MB{more}", flush=True)


def print_shares(large: Path, runs: int) -> None:
    """What repeats, and repeats and the profile, add to the time of all other rules."""
    rows: Rows = {
        "all other rules": (large, lambda path: report(path, REPEATS_OFF)),
        "+ repeats": (large, report),
        "+ repeats and the profile": (large, lambda path: report(path, profile=True)),
    }
    if importlib.util.find_spec("orjson") is not None:
        loads = importlib.import_module("orjson").loads
        rows[FLOOR] = large, lambda path: parse_all(path, loads)
    taken = times_of(rows, runs)
    floor, bare = taken.pop(FLOOR, None), taken["all other rules"]
    for name, times in taken.items():
        more = statistics.median(time / other - 1 for time, other in zip(times, bare, strict=True))
        share = f"{ratio(floor, times)} of floor" if floor else ""
        print(f"  {name:34} +{more:4.0%} of the time   {share}", flush=True)


def as_gzip(path: Path) -> Path:
    """The file as gzip."""
    packed = path.with_suffix(".gz")
    with path.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as stream:
        shutil.copyfileobj(plain, stream, 1 << 20)
    return packed


def as_zstd(path: Path) -> Path | None:
    """The file as zstd, where the package for it is installed."""
    if importlib.util.find_spec("zstandard") is None:
        return None
    packed = path.with_suffix(".zst")
    with path.open("rb") as plain, packed.open("wb") as stream:
        importlib.import_module("zstandard").ZstdCompressor().copy_stream(plain, stream)
    return packed


MEASURE = """
import pathlib, re, resource, sys
from nova_dpo_sdk.datasets import PreferenceDataset
PreferenceDataset.from_jsonl(sys.argv[1]).report()
own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
status = pathlib.Path("/proc/self/status")
if status.exists():  # there, getrusage counts what the process was forked from
    own = re.search(r"VmHWM:\\s*([0-9]+)", status.read_text())[1]
print(own, others)
"""


def peak_memory(path: Path) -> tuple[float, float]:
    """Peak memory in MB of a fresh process that reports on `path`, and of the largest helper that it starts."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own, others = (int(size) / (1 << 20 if sys.platform == "darwin" else 1 << 10) for size in done.stdout.split())
    return own, others


# --- peers


def aws_sample(script: Path) -> Callable[[Path], Any]:
    """AWS's sample validator for DPO, all records."""
    spec = importlib.util.spec_from_file_location("aws_sample_validator", script)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--aws-validator {script}: this is no Python file")
    module = sys.modules["aws_sample_validator"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(path: Path) -> None:
        found = module.validate_jsonl_file(str(path), "lite", module.TaskType.DPO, skip_bad_samples=True)
        if found.failed_samples:
            raise SystemExit(f"AWS's validator refuses {found.failed_samples} of our records: {found.errors[:3]}")

    return run


def forge() -> Callable[[Path], Any] | None:
    """The Nova Forge SDK's validator for SFT, where it can be imported."""
    try:
        enums = importlib.import_module("amzn_nova_forge.core.enums")
        validators = importlib.import_module("amzn_nova_forge.dataset.dataset_validator")
    except ImportError as error:
        print(f"  the Nova Forge SDK is left out: {error}")
        return None

    def run(path: Path) -> None:
        with path.open(encoding="utf-8") as lines, contextlib.redirect_stdout(io.StringIO()):
            validator = validators.SFTDatasetValidator()
            validator.validate(map(json.loads, lines), enums.Model.NOVA_LITE, region="us-east-1")

    return run


def as_chats(pairs: Path, path: Path) -> Path:
    """The same conversations with the preferred answer alone."""
    with pairs.open("rb") as lines, path.open("wb") as stream:
        for line in lines:
            record = json.loads(line)
            last = record["messages"][-1]
            last["content"] = last.pop("candidates")[0]["content"]
            stream.write(as_line(record).encode() + b"\n")
    return path


def print_peers(folder: Path, script: Path | None, runs: int) -> None:
    """How much faster we are than others on records of 1 KB, with all rules on."""
    pairs = generate(folder / "pairs.jsonl", size=1_000, total=10_000_000)
    print("\nother validators, records of 1 KB, 10 MB, all rules on")
    if script is None:
        print("  AWS's sample validator is left out: name it with --aws-validator")
    else:
        print_peer("AWS's sample validator, DPO", pairs, aws_sample(script), report, runs)
    run = forge()
    if run is not None:
        chats = as_chats(pairs, folder / "chats.jsonl")
        ours = lambda path: ChatDataset.from_jsonl(path).report(workers=1)  # noqa: E731 - as short as the rows above
        print_peer("Nova Forge SDK, SFT", chats, run, ours, runs)


def print_peer(name: str, path: Path, theirs: Callable[[Path], Any], ours: Callable[[Path], Any], runs: int) -> None:
    """Both speeds and the median of the ratios of each turn."""
    times = times_of({"theirs": (path, theirs), "ours": (path, ours)}, min(runs, 3))
    ratio = statistics.median(a / b for a, b in zip(times["theirs"], times["ours"], strict=True))
    shown = " ".join(f"{who} {rate(path, statistics.median(taken)):.1f}" for who, taken in times.items())
    print(f"  {name:34} MB/s: {shown}; ours is {ratio:.1f} times as fast", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument("--aws-validator", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (1_000, 8_000) if options.megabytes else ():
            print_table(folder, size, options.megabytes, options.runs)
        if options.large:
            print_large(folder, options.large, options.runs)
        print_peers(folder, options.aws_validator, options.runs)


if __name__ == "__main__":
    main()

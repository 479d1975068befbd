"""How fast conversion is, against reading and writing the same bytes with a JSON library.

    python benchmarks/convert.py [--megabytes 40] [--runs 5]

Prints CPU megabytes of source per second: the median of the runs, which take turns so that a busy machine slows all
of them alike, and the median of ratios to the faster floor of the same turn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset

if TYPE_CHECKING:
    from collections.abc import Callable

ENGLISH = ["the", "answer", "of", "a", "model", "is", "what", "we", "train", "on", "so", "that", "it", "says", "more"]
WORLD = [*ENGLISH, "café", "naïve", "“quoted”", 'say "so"', "東京", "😀", "line\n", "tab\t", "back\\slash"]


def text(rng: random.Random, size: float, words: list[str]) -> str:
    """Words of about `size` bytes in all."""
    said: list[str] = []
    while size > 0:
        said.append(rng.choice(words))
        size -= len(said[-1].encode()) + 1
    return " ".join(said)


def strings(say: Callable[[float], str]) -> dict[str, Any]:
    """A prompt and two answers, as texts."""
    return {"prompt": say(0.2), "chosen": say(0.4), "rejected": say(0.4)}


def ranking(say: Callable[[float], str]) -> dict[str, Any]:
    """A conversation and two answers, as LLaMA-Factory keeps them."""
    said = [{"from": who, "value": say(0.1)} for who in ("human", "gpt", "human")]
    sides = {side: {"from": "gpt", "value": say(0.35)} for side in ("chosen", "rejected")}
    return {"conversations": said, **sides}


def feedback(say: Callable[[float], str]) -> dict[str, Any]:
    """Two whole conversations with scores."""
    asked = {"role": "user", "content": say(0.2)}
    sides = {side: [asked, {"role": "assistant", "content": say(0.2)}] for side in ("chosen", "rejected")}
    return {"prompt": asked["content"], **sides, "score_chosen": 8.0, "score_rejected": 4.5}


def transcript(say: Callable[[float], str]) -> dict[str, Any]:
    """Two transcripts in one text each."""
    before = f"\n\nHuman: {say(0.2)}\n\nAssistant: {say(0.1)}\n\nHuman: {say(0.1)}\n\nAssistant: "
    return {"chosen": before + say(0.1), "rejected": before + say(0.1)}


def alpaca(say: Callable[[float], str]) -> dict[str, Any]:
    """An instruction, its input and the answer."""
    return {"instruction": say(0.2), "input": say(0.2), "output": say(0.6)}


def messages(say: Callable[[float], str]) -> dict[str, Any]:
    """A conversation of four turns."""
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": say(0.25)} for at in range(4)]}


LAYOUTS = {
    "prompt-chosen-rejected": (strings, PreferenceDataset),
    "sharegpt-ranking": (ranking, PreferenceDataset),
    "ultrafeedback": (feedback, PreferenceDataset),
    "hh-rlhf": (transcript, PreferenceDataset),
    "alpaca": (alpaca, ChatDataset),
    "messages": (messages, ChatDataset),
}


def write(path: Path, records: list[Any], form: str) -> None:
    """Write a source file."""
    with path.open("w", encoding="utf-8") as file:
        if form == "array":
            json.dump(records, file, ensure_ascii=False, indent=2)
        else:
            file.writelines(json.dumps(record, ensure_ascii=form == "escaped") + "\n" for record in records)


def round_trip(loads: Callable[[bytes], Any], dumps: Callable[[Any], bytes]) -> Callable[[Path, Path], None]:
    """Read every record with one library and write it again, and nothing else."""

    def run(source: Path, to: Path) -> None:
        with source.open("rb") as lines, to.open("wb") as out:
            records = loads(lines.read()) if source.suffix == ".json" else map(loads, lines)
            for record in records:
                out.write(dumps(record) + b"\n")
            out.flush()
            os.fsync(out.fileno())

    return run


def floors() -> dict[str, Callable[[Path, Path], None]]:
    """What we are held against."""
    found = {"json": round_trip(json.loads, lambda value: json.dumps(value, ensure_ascii=False).encode())}
    try:
        orjson = importlib.import_module("orjson")
    except ImportError:
        return found
    return found | {"orjson": round_trip(orjson.loads, orjson.dumps)}


def measure(run: Callable[[Path, Path], object], source: Path, to: Path) -> float:
    """CPU megabytes of source per second."""
    started = time.process_time()
    run(source, to)
    return source.stat().st_size / 1e6 / (time.process_time() - started)


def compare(name: str, source: Path, to: Path, runs: int) -> str:
    """Medians of all ways, and of our ratio to the last floor, as a piece of a table row."""
    dataset = LAYOUTS[name][1]
    ways = {**floors(), "ours": lambda source, to: dataset.convert(source, to, layout=name)}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs + 1):
        for way, run in ways.items():
            rates[way].append(measure(run, source, to))
    best = "orjson" if "orjson" in rates else "json"
    ratios = [ours / floor for ours, floor in zip(rates["ours"][1:], rates[best][1:], strict=True)]
    shown = [f"{statistics.median(rate[1:]):8.0f}" for rate in rates.values()]
    return " ".join(shown) + f" {statistics.median(ratios):9.2f}"


def records(name: str, size: int, words: list[str], count: int) -> list[Any]:
    """`count` records of about `size` bytes."""
    rng = random.Random(7)
    return [LAYOUTS[name][0](lambda share: text(rng, share * size, words)) for _ in range(count)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--layout", choices=LAYOUTS, action="append")
    options = parser.parse_args()
    head = " ".join(f"{way:>8}" for way in [*floors(), "ours"])
    print(f"{'layout':<24}{'bytes':>6} {'text':<8}{'file':<8}{head} {'ratio':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.layout or LAYOUTS:
            for size, words, form in CASES:
                count = options.megabytes * 1_000_000 // size
                source = Path(folder, "source.json" if form == "array" else "source.jsonl")
                write(source, records(name, size, ENGLISH if words == "english" else WORLD, count), form)
                figures = compare(name, source, Path(folder, "made.jsonl"), options.runs)
                print(f"{name:<24}{size:>6} {words:<8}{form:<8}{figures}", flush=True)


CASES = (
    (1000, "world", "lines"),
    (8000, "world", "lines"),
    (1000, "english", "lines"),
    (8000, "english", "lines"),
    (1000, "world", "array"),
    (1000, "world", "escaped"),
)

if __name__ == "__main__":
    main()

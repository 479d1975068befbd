"""How fast conversion is, against reading and writing the same records with a JSON library.

    python benchmarks/convert.py [--megabytes 20] [--runs 5] [--layout NAME] [--source KIND]

Every way reads the source, makes a value of every record and writes a file that is on the disk when it ends. The
floors do no more than that; ours also tells the turns, holds every text against the rules of conversion, counts what
it leaves out or mends, and writes Nova's layout, which is longer than most. Prints CPU megabytes of source per
second: the median of the runs, in which the ways take turns so that a busy machine slows all of them alike, and the
median of our ratios to each floor of orjson in the same turn:

- `orjson`: what a competent user writes, files opened the default way, one line read and one written at a time;
- `tuned`: the same with large buffers, which saves most of the calls to the system.

An array is read whole by both; nobody streams one with orjson.

The texts have the line ends, quotes, commas and colons that the answers of a public preference set have: 8.5, 1.5, 9
and 2.5 in a kilobyte.
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

Say = "Callable[[float], str]"
BUFFER = 1 << 18

ENGLISH = ["the", "answer", "of", "a", "model", "is", "what", "we", "train", "on", "so", "that", "it", "says", "more"]
WORLD = [*ENGLISH, "café", "naïve", "“quoted”", "東京", "😀", "back\\slash", "tab\t"]
CHINESE = ["我们", "训练", "一个", "模型", "的", "回答", "是", "它", "所", "说", "更多", "好"]
MARKS = ("\n", '"', ",", ":")
RATES = (8.5, 1.5, 9.0, 2.5)  # in 1,000 bytes


def text(rng: random.Random, size: float, words: list[str]) -> str:
    """Words of about `size` bytes in all, with the marks of written answers between them."""
    said: list[str] = []
    mean = sum(len(word.encode()) for word in words) / len(words) + 1
    marked = sum(RATES) * mean / 1000
    while size > 0:
        word = rng.choice(words)
        if rng.random() < marked:
            word += rng.choices(MARKS, RATES)[0]
        said.append(word)
        size -= len(word.encode()) + 1
    return " ".join(said)


def strings(say: Say) -> dict[str, Any]:
    """A prompt and two answers, as texts."""
    return {"prompt": say(0.2), "chosen": say(0.4), "rejected": say(0.4)}


def two_strings(say: Say) -> dict[str, Any]:
    """Two texts that begin alike."""
    asked = say(0.2)
    return {"chosen": f"{asked} {say(0.3)}", "rejected": f"{asked} {say(0.3)}"}


def said_by(who: str, what: str) -> dict[str, str]:
    """A message."""
    return {"role": who, "content": what}


def lists(say: Say) -> dict[str, Any]:
    """A list of messages, and one of one answer for each side."""
    asked = [said_by(("user", "assistant")[at % 2], say(0.1)) for at in range(3)]
    return {"prompt": asked, **{side: [said_by("assistant", say(0.35))] for side in ("chosen", "rejected")}}


def ranking(say: Say) -> dict[str, Any]:
    """A conversation and two answers, as LLaMA-Factory keeps them."""
    said = [{"from": who, "value": say(0.1)} for who in ("human", "gpt", "human")]
    sides = {side: {"from": "gpt", "value": say(0.35)} for side in ("chosen", "rejected")}
    return {"conversations": said, **sides}


def openai(say: Say) -> dict[str, Any]:
    """A conversation and two answers, as for OpenAI's fine-tuning."""
    asked = [said_by("system", say(0.1)), said_by("user", say(0.2))]
    sides = {side: [said_by("assistant", say(0.35))] for side in ("preferred_output", "non_preferred_output")}
    return {"input": {"messages": asked, "tools": [], "parallel_tool_calls": True}, **sides}


def feedback(say: Say) -> dict[str, Any]:
    """Two whole conversations with scores."""
    asked = said_by("user", say(0.2))
    sides = {side: [asked, said_by("assistant", say(0.2))] for side in ("chosen", "rejected")}
    return {"prompt": asked["content"], **sides, "score_chosen": 8.0, "score_rejected": 4.5}


def transcript(say: Say) -> dict[str, Any]:
    """Two transcripts in one text each."""
    before = f"\n\nHuman: {say(0.1)}\n\nAssistant: {say(0.1)}\n\nHuman: {say(0.1)}\n\nAssistant: "
    return {"chosen": before + say(0.15), "rejected": before + say(0.15)}


def helpsteer(say: Say) -> dict[str, Any]:
    """A context, two responses and which is better."""
    return {
        "domain": "general",
        "context": [said_by("user", say(0.3))],
        "response1": say(0.35),
        "response2": say(0.35),
        "overall_preference": -2,
    }


def alpaca(say: Say) -> dict[str, Any]:
    """An instruction, its input and the answer."""
    return {"instruction": say(0.2), "input": say(0.2), "output": say(0.6)}


def messages(say: Say) -> dict[str, Any]:
    """A conversation of four turns."""
    return {"messages": [said_by(("user", "assistant")[at % 2], say(0.25)) for at in range(4)]}


def sharegpt(say: Say) -> dict[str, Any]:
    """The same as LLaMA-Factory and others keep it."""
    return {"conversations": [{"from": ("human", "gpt")[at % 2], "value": say(0.25)} for at in range(4)]}


SHAPES: dict[str, tuple[str, Callable[[Any], dict[str, Any]], Any]] = {
    "prompt-chosen-rejected": ("prompt-chosen-rejected", strings, PreferenceDataset),
    "  lists of messages": ("prompt-chosen-rejected", lists, PreferenceDataset),
    "chosen-rejected": ("chosen-rejected", two_strings, PreferenceDataset),
    "sharegpt-ranking": ("sharegpt-ranking", ranking, PreferenceDataset),
    "openai-preference": ("openai-preference", openai, PreferenceDataset),
    "ultrafeedback": ("ultrafeedback", feedback, PreferenceDataset),
    "hh-rlhf": ("hh-rlhf", transcript, PreferenceDataset),
    "helpsteer3": ("helpsteer3", helpsteer, PreferenceDataset),
    "alpaca": ("alpaca", alpaca, ChatDataset),
    "messages": ("messages", messages, ChatDataset),
    "sharegpt": ("sharegpt", sharegpt, ChatDataset),
}

SOURCES: dict[str, tuple[list[str], int, str]] = {
    "ascii": (ENGLISH, 1000, "lines"),
    "ascii 8 KB": (ENGLISH, 8000, "lines"),
    "mixed": (WORLD, 1000, "lines"),
    "mixed 8 KB": (WORLD, 8000, "lines"),
    "escaped": (WORLD, 1000, "escaped"),
    "escaped 8 KB": (WORLD, 8000, "escaped"),
    "chinese": (CHINESE, 1000, "lines"),
    "chinese esc.": (CHINESE, 1000, "escaped"),
    "array": (WORLD, 1000, "array"),
    "2 % in need": (ENGLISH, 1000, "needy"),
}
"""Words, bytes of a record, and how the file is written."""


def records(shape: str, source: str, count: int) -> list[Any]:
    """`count` records; of a needy source one in fifty has a reserved word or a blank answer."""
    words, size, form = SOURCES[source]
    rng = random.Random(7)
    make = SHAPES[shape][1]
    made = [make(lambda share: text(rng, share * size, words)) for _ in range(count)]
    if form == "needy":
        for at in range(0, count, 100):
            made[at] = make(lambda share: "User: " + text(rng, share * size, words))
            made[at + 50 if at + 50 < count else at] = make(lambda _: " ")
    return made


def write(path: Path, values: list[Any], form: str) -> None:
    """Write a source file."""
    with path.open("w", encoding="utf-8") as file:
        if form == "array":
            json.dump(values, file, ensure_ascii=False, indent=2)
        else:
            file.writelines(json.dumps(value, ensure_ascii=form == "escaped") + "\n" for value in values)


def round_trip(
    loads: Callable[[bytes], Any], dumps: Callable[[Any], bytes], buffering: int = -1
) -> Callable[[Path, Path], None]:
    """Read every record with one library and write it again, and nothing else."""

    def run(source: Path, to: Path) -> None:
        with source.open("rb", buffering) as lines, to.open("wb", buffering) as out:
            if source.suffix == ".json":
                for value in loads(lines.read()):
                    out.write(dumps(value) + b"\n")
            else:
                for line in lines:
                    out.write(dumps(loads(line)) + b"\n")
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
    tuned = round_trip(orjson.loads, orjson.dumps, BUFFER)
    return found | {"orjson": round_trip(orjson.loads, orjson.dumps), "tuned": tuned}


def measure(run: Callable[[Path, Path], object], source: Path, to: Path) -> float:
    """CPU megabytes of source per second."""
    to.unlink(missing_ok=True)
    started = time.process_time()
    run(source, to)
    return source.stat().st_size / 1e6 / (time.process_time() - started)


def compare(shape: str, source: Path, to: Path, runs: int) -> str:
    """Medians of all ways, and of our ratios to the floors of orjson, as a piece of a table row."""
    layout, _, dataset = SHAPES[shape]
    ways = {**floors(), "ours": lambda source, to: dataset.convert(source, to, layout=layout)}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs + 1):
        for way, run in ways.items():
            rates[way].append(measure(run, source, to))
    shown = [f"{statistics.median(rate[1:]):8.0f}" for rate in rates.values()]
    return " ".join([*shown, *(ratios(rates["ours"], rates[way]) for way in rates if way not in {"json", "ours"})])


def ratios(ours: list[float], floor: list[float]) -> str:
    """The median of our ratios to a floor, the least and the most of them; the first run warmed up."""
    found = [one / other for one, other in zip(ours[1:], floor[1:], strict=True)]
    return f"{statistics.median(found):7.2f} ({min(found):.2f}-{max(found):.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--layout", choices=SHAPES, action="append")
    parser.add_argument("--source", choices=SOURCES, action="append")
    options = parser.parse_args()
    head = " ".join(f"{way:>8}" for way in [*floors(), "ours"])
    print(f"{'layout':<24}{'source':<14}{head}   to orjson          to tuned (least-most)")
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.layout or SHAPES:
            for kind in options.source or SOURCES:
                _, size, form = SOURCES[kind]
                source = Path(folder, "source.json" if form == "array" else "source.jsonl")
                write(source, records(shape, kind, options.megabytes * 1_000_000 // size), form)
                figures = compare(shape, source, Path(folder, "made.jsonl"), options.runs)
                print(f"{shape:<24}{kind:<14}{figures}", flush=True)


if __name__ == "__main__":
    main()

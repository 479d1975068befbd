"""A two-stage chain, a cloud for each try of it, and what both must look like in the end."""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import struct
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset, SFTRecipe
from nova_dpo_sdk.local import LocalCloud
from nova_dpo_sdk.local._resources import BY_PATH, PYTORCHJOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)
RECORDS = 64
_START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class SharedClock:
    """A clock that moves only when somebody sleeps on it, in whatever process: its time is eight bytes of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(struct.pack("d", 0.0))
        with path.open("r+b") as file:
            self._cell = mmap.mmap(file.fileno(), 8)

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return struct.unpack_from("d", self._cell)[0]

    def sleep(self, seconds: float) -> None:
        # Two who sleep at the same time may both move it from the same moment: time then passes once for both.
        struct.pack_into("d", self._cell, 0, self.monotonic() + max(0.0, seconds))


def write_data(folder: Path) -> None:
    """The two data sets of the chain, small and the same each time."""

    def said(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"text": text}]}

    def preferred(n: int) -> dict[str, Any]:
        labelled = ((f"Kind answer {n}.", "preferred"), (f"Rude answer {n}.", "non-preferred"))
        candidates = [{"content": [{"text": text}], "preferenceLabel": label} for text, label in labelled]
        return {"role": "assistant", "candidates": candidates}

    asked = [said("user", f"Question {n}?") for n in range(RECORDS)]
    chats = [[question, said("assistant", f"Answer {n}.")] for n, question in enumerate(asked)]
    pairs = [[question, preferred(n)] for n, question in enumerate(asked)]
    for name, talks in (("chats.jsonl", chats), ("pairs.jsonl", pairs)):
        lines = [json.dumps({"schemaVersion": "bedrock-conversation-2024", "messages": talk}) for talk in talks]
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def script(nova: NovaClient, folder: Path) -> list[str]:
    """What the user runs, and runs again."""
    chats = ChatDataset.from_jsonl(folder / "chats.jsonl")
    pairs = PreferenceDataset.from_jsonl(folder / "pairs.jsonl")
    with nova.chain("tone") as chain:
        taught = chain.run("sft", SFT, chats)
        aligned = chain.run("dpo", DPO.starting_from(taught), pairs)
    return [taught.uri, aligned.uri]


def child(connection: dict[str, str], clock: str, folder: str, result: str) -> None:
    """The same in a process of its own; writes what came of it."""
    attached = LocalCloud.attach(connection, SharedClock(Path(clock)))
    uris = script(NovaClient(attached.hyperpod(), output=attached.output), Path(folder))
    Path(result).write_text(json.dumps(uris), encoding="utf-8")


@dataclass(frozen=True)
class EndState:
    """What a chain has left, to be compared with what an undisturbed one leaves.

    Attributes:
        made: Names of PyTorchJobs and how often each was made, those deleted since included.
        objects: Every object of the cluster that is not furniture.
        keys: Every object in S3.
        checkpoints: What the stages' records name.
        statuses: How far the records say that the stages have come.
    """

    made: tuple[tuple[str, int], ...]
    objects: frozenset[str]
    keys: frozenset[str]
    checkpoints: tuple[str, ...]
    statuses: tuple[str, ...]

    def differs_from(self, other: EndState) -> list[str]:
        found = [] if self.made == other.made else [f"jobs made: {self.made} instead of {other.made}"]
        for what in ("objects", "keys"):
            mine, theirs = getattr(self, what), getattr(other, what)
            found += [f"{what} left over: {each}" for each in sorted(mine - theirs)]
            found += [f"{what} missing: {each}" for each in sorted(theirs - mine)]
        for what in ("checkpoints", "statuses"):
            mine, theirs = getattr(self, what), getattr(other, what)
            found += [] if mine == theirs else [f"{what}: {mine} instead of {theirs}"]
        return found


class Rig:
    """One cloud, counting what is made in it."""

    def __init__(self, cloud: LocalCloud, clock: Any, folder: Path) -> None:
        self.cloud = cloud
        self.clock = clock
        self.folder = folder
        self._made: Counter[str] = Counter()
        cloud.store.listeners.append(self._notice)
        self._furniture = self._objects()

    def _notice(self, change: str, kind: Any, item: Any, now: Any) -> None:
        del now
        if kind is PYTORCHJOBS and change == "ADDED":
            self._made[str(item["metadata"]["name"])] += 1

    def _objects(self) -> frozenset[str]:
        return frozenset(
            f"{kind.plural}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
            for kind in BY_PATH.values()
            for item in self.cloud.store.scan(kind)
        )

    def client(self) -> NovaClient:
        return NovaClient(self.cloud.hyperpod(), output=self.cloud.output)

    def end_state(self) -> EndState:
        self.clock.sleep(60.0)  # what goes with its owner has gone then
        self.cloud.advance()
        client = self.client()
        s3 = self.cloud.session().client("s3")
        listed = s3.list_objects_v2(Bucket=self.cloud.bucket).get("Contents", [])
        uploads = s3.list_multipart_uploads(Bucket=self.cloud.bucket).get("Uploads", [])
        records = client.chain("tone").records()
        return EndState(
            made=tuple(sorted(self._made.items())),
            objects=self._objects() - self._furniture,
            keys=frozenset([*(each["Key"] for each in listed), *(f"upload of {each['Key']}" for each in uploads)]),
            checkpoints=tuple(each.checkpoint.uri if each.checkpoint else "" for each in records),
            statuses=tuple(str(each.status) for each in records),
        )


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder with the data sets, for as many clouds as one likes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        yield folder


@contextmanager
def rig(folder: Path, faults: Any = None) -> Iterator[Rig]:
    """A fresh cloud on a clock that other processes may share."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".clock")
    os.close(handle)
    path = Path(name)
    path.write_bytes(struct.pack("d", 0.0))
    clock = SharedClock(path)
    cloud = LocalCloud(clock=clock)
    if faults is not None:
        cloud.faults = faults
    try:
        with cloud:
            yield Rig(cloud, clock, folder)
    finally:
        path.unlink()


def undisturbed(folder: Path) -> tuple[EndState, int]:
    """What the chain leaves when nothing goes wrong, and how many requests it makes."""
    with rig(folder) as made:
        script(made.client(), folder)
        count = len(made.cloud.requests)
        return made.end_state(), count


def spread(
    try_one: Callable[[Path, EndState, Any], Any], points: list[Any], whole: EndState, folder: Path, jobs: int
) -> Iterator[Any]:
    """What comes of each point, from so many processes at once; nothing for a point that does not exist."""
    attempt = partial(try_one, folder, whole)
    if jobs == 1:
        found = map(attempt, points)
        yield from (each for each in found if each is not None)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from (each for each in pool.map(attempt, points) if each is not None)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has not begun is not waited for
            raise


class Counted:
    """Numbers the requests of one run, also after they were carried out, when another thread has come between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()
        self.count = 0

    def number(self, *, after: bool) -> int:
        """The number of a request; of one that was on its way before counting began, 0."""
        if not after:
            with self._lock:
                self.count += 1
                self._mine.number = self.count
        return getattr(self._mine, "number", 0)


def command(
    about: str,
    kinds: Sequence[str],
    sweep: Callable[[argparse.Namespace], Iterator[Any]],
    report: Callable[[list[Any]], str],
) -> int:
    """A sweep from a shell: says how far it has come, and prints what it has found, also when it is interrupted."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=int, help="so many points instead of all")
    parser.add_argument("--seed", type=int, default=0, help="draws the share")
    parser.add_argument("--only", choices=kinds, help="one kind alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many at once")
    outcomes: list[Any] = []
    try:
        for outcome in sweep(parser.parse_args()):
            outcomes.append(outcome)
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} points tried ", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted; so far:")
    print(report(outcomes))
    return int(any(each.problems for each in outcomes))


def total(outcomes: Sequence[Any]) -> list[str]:
    """How many points there were, how long they took, and which one the longest."""
    seconds = sum(each.seconds for each in outcomes)
    lines = [f"N = {len(outcomes)} points, {seconds:.0f} s, {seconds / max(1, len(outcomes)):.2f} s each"]
    slowest = max(outcomes, key=lambda each: each.seconds, default=None)
    return lines if slowest is None else [*lines, f"slowest: {slowest.name}, {slowest.seconds:.2f} s"]

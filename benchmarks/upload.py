"""How long it takes to check and send a data set, beside the bare transfer of the same bytes.

    python benchmarks/upload.py [--megabytes 320] [--rate 125] [--runs 3]

Needs two idle cores. The sink is an S3 on loopback, in a process of its own, that takes bytes at a limited rate
(125 MB/s is a network of 1 Gbit/s). The rows take turns. Prints medians: wall seconds, these as a multiple of the
bare transfer (four connections that send the file in parts, without hashing or looking at them) with the spread of
that multiple over the rounds, and processor seconds of the sender.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3

from nova_dpo_sdk import DPORecipe, HyperPodBackend, NovaClient, NovaModel, PreferenceDataset
from nova_dpo_sdk.aws import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

MB = 1_000_000
PART = 16 * 1024 * 1024
WORDS = "the model answers questions about orders refunds delivery times and accounts while it stays kind".split()  # noqa: SIM905 - prose


class Sink(ThreadingHTTPServer):
    """Takes bytes at a limited rate, over all connections together, and forgets them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Let the time pass that `count` bytes take on the wire."""
        with self._lock:
            self._free = max(time.monotonic(), self._free) + count / self._rate
            pause = self._free - time.monotonic()
        if pause > 0:
            time.sleep(pause)


class Handler(BaseHTTPRequestHandler):
    """As much of S3 as an upload asks for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer in two writes would wait 40 ms for the sender's acknowledgement
    sizes: dict[str, int] = {}  # noqa: RUF012 - what completed uploads came to, for HEAD

    def do_HEAD(self) -> None:
        """Buckets are there; objects are when they were sent."""
        key = urlsplit(self.path).path
        if key.strip("/").count("/") == 0:
            self._answer(200, headers={"x-amz-bucket-region": "us-east-1"})
        elif key in self.sizes:
            headers = {"ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 01:57:45 GMT"}
            self._answer(200, headers=headers, length=self.sizes[key])
        else:
            self._answer(404)

    def do_GET(self) -> None:
        """No unfinished uploads."""
        self._answer(200, b"<R></R>")

    def do_PUT(self) -> None:
        """An object, or a part of one."""
        left = int(self.headers["Content-Length"])
        sink: Any = self.server
        while left:
            data = self.rfile.read1(min(left, 256 * 1024))
            left -= len(data)
            sink.take(len(data))
        if "partNumber" not in self.path:
            self.sizes[urlsplit(self.path).path] = 1
        self._answer(200, headers={"ETag": '"p"'})

    def do_POST(self) -> None:
        """Begin an upload in parts, or end it."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        if "uploads" in parse_qs(parts.query, keep_blank_values=True):
            self._answer(200, b"<R><UploadId>U</UploadId></R>")
        else:
            self.sizes[parts.path] = 1
            self._answer(200, b"<R><ETag>e</ETag></R>")

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(length or len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def serve(rate: float, pipe: Connection) -> None:
    """Run the sink; says its port first."""
    sink = Sink(rate)
    pipe.send(sink.server_address[1])
    sink.serve_forever()


class Loopback(boto3.Session):
    """A session whose every client talks to the sink."""

    url = ""

    def client(self, *names: Any, **options: Any) -> Any:
        """The same client, elsewhere."""
        return super().client(*names, endpoint_url=self.url, **options)


def session(url: str) -> Loopback:
    """A session for the sink."""
    made = Loopback(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    made.url = url
    return made


def client(url: str) -> NovaClient:
    """A client whose S3 is the sink."""
    backend = HyperPodBackend("research", session=session(url), account="123456789012")
    return NovaClient(backend, output="s3://acme-nova/runs")


def text(rng: random.Random, size: int) -> str:
    """Words of about `size` bytes in all."""
    return " ".join(rng.choices(WORDS, k=size // 6))


def write(path: Path, size: int) -> None:
    """Valid preference records of about 1 KB, until the file has `size` bytes."""
    rng = random.Random(7)
    bodies = [json.dumps(text(rng, 300)) for _ in range(2000)]
    number = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            number += 1
            good, poor = rng.sample(bodies, 2)
            written += file.write(
                '{"schemaVersion":"bedrock-conversation-2024","system":[{"text":"Be brief."}],"messages":['
                f'{{"role":"user","content":[{{"text":"Question {number}: {bodies[number % 2000][1:-1]}"}}]}},'
                f'{{"role":"assistant","candidates":[{{"content":[{{"text":{good}}}],"preferenceLabel":"preferred"}},'
                f'{{"content":[{{"text":{poor}}}],"preferenceLabel":"non-preferred"}}]}}]}}\n'
            )


def bare(path: Path, url: str) -> None:
    """Send the bytes and nothing else."""
    host = urlsplit(url).netloc
    size = path.stat().st_size

    def send(start: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(PART)
        connection = HTTPConnection(host)
        connection.request("PUT", f"/b/k?partNumber={start}", body=data)
        connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(0, size, PART)))


def plain_boto(path: Path, url: str) -> None:
    """boto3's own upload of a file."""
    session(url).client("s3").upload_file(str(path), "acme-nova", f"plain/{time.monotonic_ns()}")


def one_after_the_other(path: Path, url: str) -> None:
    """Plan, then send what was planned."""
    nova = client(url)
    plan = nova.plan(DPORecipe(name="bench", model=NovaModel.LITE, replicas=4), PreferenceDataset.from_jsonl(path))
    assert plan.ok, plan
    for each in plan.uploads:
        nova.backend.aws.upload(each.path, S3Uri.parse(each.uri), sha256=each.sha256, size=each.size)


def side_by_side(path: Path, url: str) -> None:
    """Check and send at the same time."""
    client(url).upload(PreferenceDataset.from_jsonl(path))


def side_by_side_and_plan(path: Path, url: str) -> None:
    """The same, then plan what is in S3."""
    nova = client(url)
    staged = nova.upload(PreferenceDataset.from_jsonl(path))
    plan = nova.plan(DPORecipe(name="bench", model=NovaModel.LITE, replicas=4), staged)
    assert plan.ok, plan


def check_alone(path: Path, url: str) -> None:  # noqa: ARG001 - the same shape as the others
    """Check with as many processes as the file is worth, and send nothing."""
    assert PreferenceDataset.from_jsonl(path).report().ok


ROWS: dict[str, Callable[[Path, str], None]] = {
    "bare transfer": bare,
    "boto3 upload_file": plain_boto,
    "plan, then submit's upload": one_after_the_other,
    "upload (checks meanwhile)": side_by_side,
    "upload (checks meanwhile), then plan": side_by_side_and_plan,
    "check alone": check_alone,
}


def processor() -> float:
    """Processor seconds of this process and of those it waited for."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def timed(run: Callable[[Path, str], None], path: Path, rate: float) -> tuple[float, float]:
    """Wall and processor seconds of one run against a fresh sink."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(rate, theirs), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    begun, used = time.perf_counter(), processor()
    try:
        run(path, url)
        return time.perf_counter() - begun, processor() - used
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=320)
    parser.add_argument("--rate", type=float, default=125.0, help="MB/s that the sink takes")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write(path, arguments.megabytes * MB)
        for run in ROWS.values():  # what is imported on first use is no part of a transfer
            write(warm := Path(folder) / "warm.jsonl", 3 * MB)
            timed(run, warm, arguments.rate * MB)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
        for _ in range(arguments.runs):
            for name, run in ROWS.items():
                taken[name].append(timed(run, path, arguments.rate * MB))
        size = path.stat().st_size / MB
    floor = statistics.median(wall for wall, _ in taken["bare transfer"])
    print(
        f"{size:.0f} MB, sink {arguments.rate:.0f} MB/s (at best {size / arguments.rate:.2f} s), {arguments.runs} runs"
    )
    for name, seconds in taken.items():
        wall, used = (statistics.median(each) for each in zip(*seconds, strict=True))
        ratios = [mine / bare for (mine, _), (bare, _) in zip(seconds, taken["bare transfer"], strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"  {name:<38}{wall:6.2f} s  {wall / floor:5.2f} x ({spread})  processor {used:5.2f} s")


if __name__ == "__main__":
    main()

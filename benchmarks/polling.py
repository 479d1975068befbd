"""What one look at many unchanged jobs costs: GET each, LIST, LIST as Table as this package polls, and WATCH.

    python benchmarks/polling.py [--jobs 10 1000 10000] [--ticks 5]

A server in another process answers over TLS on loopback with canned bodies: PyTorchJobs of 7 KB, two pods of 6 KB for
each, Tables of cells, gzip above 128 KB as an API server does. Prints medians for each tick: requests, bytes on the
wire, CPU seconds of this process; and each as a multiple of this package's polling. The GET row is measured on at most
1,000 jobs and scaled. Polling is shown idle, when nothing but the list's own version differs; when a tenth of the ages
that a server prints differ from the tick before, as among jobs of up to two days; and at its worst, when all of them
do. The WATCH row is a tick in which one job in a hundred changes; with none, it costs nothing.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import multiprocessing
import queue
import ssl
import statistics
import time
import tracemalloc
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.backends._facts import job_facts, pod_facts
from nova_dpo_sdk.backends._follow import Follower
from nova_dpo_sdk.backends._kubernetes import PODS, PYTORCHJOBS, KubernetesAPI
from nova_dpo_sdk.backends._tables import Tables
from nova_dpo_sdk.backends._watch import Change, Watcher
from nova_dpo_sdk.local._certificates import make_certificates

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
NOW = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
PAGE = 500
GZIP_FROM = 128 * 1024
GOAL_CPU, GOAL_BYTES = 0.010, 100_000


def name_of(number: int) -> str:
    """The name of one job."""
    return f"support-dpo-{number:05}"


def padded(body: Json, size: int) -> Json:
    """Environment variables until the object has about the size of a real one."""
    missing = size - len(json.dumps(body))
    body["spec"]["filler"] = [{"name": f"VARIABLE_{n}", "value": "value " * 4} for n in range(max(0, missing // 56))]
    return body


def job(number: int, version: int = 5) -> Json:
    """A running PyTorchJob of two replicas."""
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": f"PyTorchJob{kind}",
            "message": f"PyTorchJob {name_of(number)} is {kind.lower()}.",
            "lastUpdateTime": NOW,
            "lastTransitionTime": NOW,
        }
        for kind in ("Created", "Running")
    ]
    meta = {
        "name": name_of(number),
        "namespace": "kubeflow",
        "uid": f"00000000-0000-0000-0000-{number:012}",
        "resourceVersion": str(version),
        "creationTimestamp": NOW,
        "labels": {"app": name_of(number), "nova-dpo-sdk/digest": "0" * 40},
    }
    specs = {"Master": {"replicas": 1}, "Worker": {"replicas": 1}}
    body = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": meta}
    return padded({**body, "spec": {"pytorchReplicaSpecs": specs}, "status": {"conditions": conditions}}, 7000)


def pod(number: int, role: str) -> Json:
    """A running pod of a job."""
    meta = {
        "name": f"{name_of(number)}-{role}-0",
        "namespace": "kubeflow",
        "uid": f"00000000-0000-0001-0000-{number:012}",
        "resourceVersion": "5",
        "creationTimestamp": NOW,
        "labels": {"training.kubeflow.org/job-name": name_of(number)},
    }
    running = {"state": {"running": {"startedAt": NOW}}, "lastState": {}, "name": "pytorch", "restartCount": 0}
    status = {"phase": "Running", "containerStatuses": [running]}
    return padded({"metadata": meta, "spec": {"nodeName": f"hyperpod-i-{number:017x}"}, "status": status}, 6000)


JOB_COLUMNS = ("Name", "State", "Age")
POD_COLUMNS = ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates")


def table(columns: tuple[str, ...], cells: list[list[str]]) -> bytes:
    """A Table of cells alone, as a server writes it with `includeObject=None`."""
    described = [{"name": name, "type": "string", "format": "", "description": "", "priority": 0} for name in columns]
    rows = [{"cells": each, "object": None} for each in cells]
    body = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "10"}}
    return json.dumps({**body, "columnDefinitions": described, "rows": rows}, separators=(",", ":")).encode()


class Canned:
    """Every body that is asked for, made once."""

    def __init__(self, count: int) -> None:
        jobs = [json.dumps(job(n), separators=(",", ":")).encode() for n in range(count)]
        pods = [
            json.dumps(pod(n, role), separators=(",", ":")).encode()
            for n in range(count)
            for role in ("master", "worker")
        ]
        self.objects = {name_of(n): body for n, body in enumerate(jobs)}
        self.lists = {"pytorchjobs": _pages(jobs), "pods": _pages(pods)}
        cells = [
            [
                f"{name_of(n)}-{role}-0",
                "1/1",
                "Running",
                "0",
                "5d",
                "10.1.2.3",
                f"hyperpod-i-{n:017x}",
                "<none>",
                "<none>",
            ]
            for n in range(count)
            for role in ("master", "worker")
        ]
        self.tables = {
            "pytorchjobs": table(JOB_COLUMNS, [[name_of(n), "Running", "5d"] for n in range(count)]),
            "pods": table(POD_COLUMNS, cells),
        }
        changed = (json.dumps({"type": "MODIFIED", "object": job(n, 20)}) for n in range(0, count, 100))
        self.events = "".join(f"{line}\n" for line in changed).encode()


def _pages(bodies: list[bytes]) -> list[bytes]:
    pages = []
    for start in range(0, len(bodies), PAGE):
        following = str(start // PAGE + 1) if start + PAGE < len(bodies) else ""
        head = json.dumps({"kind": "List", "metadata": {"resourceVersion": "10", "continue": following}})
        pages.append(head[:-1].encode() + b',"items":[' + b",".join(bodies[start : start + PAGE]) + b"]}")
    return pages


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Any

    def do_GET(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/stats":
            self._send(json.dumps(self.server.stats).encode(), counted=False)
            self.server.stats.update(requests=0, bytes=0)
        elif parts.path == "/ages":
            self.server.ages = int(query["move"])
            self._send(b"{}", counted=False)
        elif parts.path == "/change":
            self.server.changes.put(None)
            self._send(b"{}", counted=False)
        elif query.get("watch"):
            self._watch(parts.path)
        else:
            self._answer(parts.path, query)

    def _answer(self, path: str, query: dict[str, str]) -> None:
        canned: Canned = self.server.canned
        kind = "pods" if "/pods" in path else "pytorchjobs"
        last = path.rpartition("/")[2]
        if last != kind:
            self._send(canned.objects[last])
        elif "as=Table" in self.headers.get("Accept", ""):
            share, self.server.days = self.server.ages, self.server.days + 1
            body = canned.tables[kind].replace(b'"5d"', b'"%dd"' % (5 + self.server.days), share)
            packed = len(body) > GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", "")
            self._send(gzip.compress(body, 1) if packed else body, encoding="gzip" if packed else "")
        else:
            self._send(canned.lists[kind][int(query.get("continue") or 0)])

    def _watch(self, path: str) -> None:
        self.send_response_only(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while path.endswith("/pytorchjobs"):
            self.server.changes.get()
            for line in self.server.canned.events.splitlines(keepends=True):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.server.stats["bytes"] += len(line)
            self.wfile.flush()

    def _send(self, body: bytes, *, encoding: str = "", counted: bool = True) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if counted:
            self.server.stats["requests"] += 1
            self.server.stats["bytes"] += len(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def serve(count: int, tell: Any) -> None:
    """The server's process."""
    certificates = make_certificates()
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.canned = Canned(count)
    server.stats = {"requests": 0, "bytes": 0}
    server.ages, server.days = 0, 0
    server.changes = queue.SimpleQueue()
    context: ssl.SSLContext = certificates.server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    tell.send((server.server_address[1], certificates.ca_pem))
    server.serve_forever()


class Token:
    """A bearer token that lasts as long as the benchmark."""

    value = "token"
    expires_at = datetime.now(timezone.utc) + timedelta(days=1)


@dataclass
class Cost:
    """What one tick cost."""

    requests: float
    bytes: float
    cpu: float
    wall: float


class Bench:
    """A server with so many jobs, and the ways of looking at them."""

    def __init__(self, count: int, ticks: int) -> None:
        self.count, self.ticks = count, ticks
        here, there = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(count, there), daemon=True)
        self.process.start()
        port, ca_pem = here.recv()
        self.endpoint = f"https://127.0.0.1:{port}"
        self.api = KubernetesAPI(self.endpoint, ca_pem, Token, clock=SystemClock())
        self.pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=ca_pem))
        self.names = [name_of(n) for n in range(count)]

    def close(self) -> None:
        """End the server."""
        self.pool.clear()
        self.api.close()
        self.process.terminate()
        self.process.join()

    def ask(self, path: str) -> Json:
        """A question about the benchmark itself, which is not counted."""
        body: Json = json.loads(self.pool.request("GET", self.endpoint + path).data)
        return body

    def measure(self, tick: Callable[[], object], *, ticks: int | None = None, scale: float = 1.0) -> Cost:
        """The medians of some ticks, after one that is not counted."""
        tick()
        self.ask("/stats")
        costs = []
        for _ in range(ticks or self.ticks):
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            tick()
            spent = time.process_time() - cpu, time.perf_counter() - wall
            stats = self.ask("/stats")
            costs.append(Cost(stats["requests"] * scale, stats["bytes"] * scale, spent[0] * scale, spent[1] * scale))
        return Cost(*(statistics.median(getattr(each, field) for each in costs) for field in Cost.__annotations__))

    def get_each(self) -> Cost:
        """One request for each job; nothing of its pods."""
        some = self.names[:1000]
        scale = self.count / len(some)
        return self.measure(
            lambda: [self.api.get(PYTORCHJOBS, "kubeflow", name) for name in some], ticks=2, scale=scale
        )

    def list_all(self) -> Cost:
        """Every job and every pod, whole."""
        return self.measure(lambda: (self.api.list(PYTORCHJOBS, "kubeflow"), self.api.list(PODS, "kubeflow")), ticks=2)

    def follower(self) -> Follower:
        """This package's follower of all jobs."""
        return Follower(
            self.api,
            "kubeflow",
            self.names,
            ref_of=lambda name: f"hyperpod://us-east-1/research/kubeflow/{name}",
            clock=SystemClock(),
            interval=30,
            timeout=1e9,
        )

    def poll(self) -> tuple[dict[str, Cost], float]:
        """This package's polling, and the memory that it took for each job, in bytes."""
        follower, clock = self.follower(), SystemClock()

        def tick() -> None:
            follower.poller.tick()
            follower.roster.settle(clock.now())

        tracemalloc.start()
        tick()
        grown = tracemalloc.get_traced_memory()[0] / self.count
        tracemalloc.stop()
        idle = self.measure(tick, ticks=2)  # fewer than ten in all: the tenth would be a sweep
        self.ask(f"/ages?move={max(1, self.count // 10)}")
        some = self.measure(tick, ticks=2)
        self.ask("/ages?move=-1")
        moving = self.measure(tick, ticks=2)
        tables = Tables(self.api, PYTORCHJOBS, "kubeflow")
        alone = self.measure(lambda: tables.read(""))
        self.ask("/ages?move=0")
        return {JOBS_ALONE: alone, IDLE: idle, SOME: some, MOVING: moving}, grown

    def watch(self) -> Cost:
        """From a change on the server until the roster knows it, one job in a hundred at a time."""
        follower, clock = self.follower(), SystemClock()
        follower.looker.load()
        follower.roster.settle(clock.now())
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        watchers = [
            Watcher(self.api, kind, "kubeflow", "10", selector="", make=make, tell=heard.put)
            for kind, make in ((PYTORCHJOBS, job_facts), (PODS, pod_facts))
        ]
        for each in watchers:
            each.start()
        changes = len(range(0, self.count, 100))

        def tick() -> None:
            self.ask("/change")
            for _ in range(changes):
                told = heard.get()
                assert told.change is Change.CHANGED, told
                follower.roster.put_job(told.thing)
            follower.roster.settle(clock.now())

        cost = self.measure(tick)
        for each in watchers:
            each.stop()
        return cost


JOBS_ALONE = "polling here, jobs alone"
IDLE = "polling here, jobs and pods, idle"
SOME = "polling here, a tenth of the ages"
MOVING = "polling here, all ages differ"


def show(count: int, rows: dict[str, Cost], against: Cost) -> None:
    """Print one size."""
    print(f"\n{count:,} jobs, {2 * count:,} pods")
    print(f"  {'':34}{'requests':>10}{'bytes':>14}{'CPU ms':>10}{'wall ms':>10}   of polling here")
    for name, cost in rows.items():
        ratio = f"{cost.bytes / against.bytes:8.2f} bytes {cost.cpu / against.cpu:8.2f} CPU" if against.bytes else ""
        spent = f"{cost.cpu * 1e3:>10.2f}{cost.wall * 1e3:>10.2f}"
        print(f"  {name:34}{cost.requests:>10,.0f}{cost.bytes:>14,.0f}{spent}{ratio}")


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--ticks", type=int, default=5)
    options = parser.parse_args()
    requests: dict[int, float] = {}
    for count in options.jobs:
        bench = Bench(count, options.ticks)
        try:
            polled, memory = bench.poll()
            both = polled[SOME]
            rows = {
                **polled,
                "WATCH, 1 % of the jobs change": bench.watch(),
                "LIST of jobs and pods": bench.list_all(),
                "GET each job": bench.get_each(),
            }
        finally:
            bench.close()
        show(count, rows, both)
        thousands = max(count, 1000) / 1000
        met = both.cpu / thousands <= GOAL_CPU and both.bytes / thousands <= GOAL_BYTES
        requests[count] = both.requests
        print(
            f"  for 1,000 unchanged jobs and tick: {both.cpu / thousands * 1e3:.1f} ms CPU, "
            f"{both.bytes / thousands:,.0f} bytes: goal {'met' if met else 'MISSED'}; "
            f"remembered: {memory:,.0f} bytes a job"
        )
    print(f"\nrequests for each tick by number of jobs: {requests}")


if __name__ == "__main__":
    main()

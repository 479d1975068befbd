"""`nova-dpo jobs`, `status`, `wait`, `logs`, `cancel` and `checkpoint`: what is done with jobs that were sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import JobRef, JobSnapshot, JobStatus
from nova_dpo_sdk.backends._manifests import PLAN_ANNOTATION
from nova_dpo_sdk.backends._snapshots import snapshot_lines
from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
from nova_dpo_sdk.catalog import Platform, Technique
from nova_dpo_sdk.cli._out import BAD, GOOD, in_a_line, in_shell_words, say, say_json, width, wrapped
from nova_dpo_sdk.cli._place import backend, connection, place
from nova_dpo_sdk.jobs import FIVE_DAYS, Job

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_NOWHERE = S3Uri("output-not-given", "")
"""Stands for the output in what never reads it: looking, waiting, cancelling."""
_LOST = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.DELETED)


def _job(arguments: argparse.Namespace, output: S3Uri = _NOWHERE) -> Job:
    ref = JobRef.parse(arguments.ref)
    return Job(ref, backend(arguments, ref), output)


def status(arguments: argparse.Namespace) -> int:
    """Look at jobs once, or go on looking at them."""
    if arguments.watch:
        return _watched(arguments, arguments.ref)
    if len(arguments.ref) > 1:
        arguments.usage("several jobs can be looked at with --watch, or one after the other")
    arguments.ref = arguments.ref[0]
    snapshot = _job(arguments).status()
    if arguments.json:
        say_json(_plain(snapshot))
    else:
        say(*_lines(snapshot))
    return BAD if snapshot.status in _LOST else GOOD


def _watched(arguments: argparse.Namespace, refs: list[str]) -> int:
    from nova_dpo_sdk.cli._live import show

    asked = [JobRef.parse(ref) for ref in dict.fromkeys(refs)]
    where = backend(arguments, asked[0])
    interval = arguments.interval or where.poll_interval
    news = where.follow(asked, interval=interval, timeout=arguments.timeout or FIVE_DAYS)
    board = show(_told(news, arguments), where.clock)
    return BAD if board.lost else GOOD


def _told(news: Iterator[JobSnapshot], arguments: argparse.Namespace) -> Iterator[JobSnapshot]:
    """The news, each also as a line of JSON if so asked."""
    for snapshot in news:
        if arguments.json:
            say(json.dumps(_plain(snapshot)))
        yield snapshot


def wait(arguments: argparse.Namespace) -> int:
    """Wait until a job has finished."""
    told = None if arguments.json else _tell
    snapshot = _job(arguments).wait(arguments.timeout or FIVE_DAYS, told, interval=arguments.interval)
    if arguments.json:
        say_json(_plain(snapshot))
    return GOOD if snapshot.status is JobStatus.SUCCEEDED else BAD


def cancel(arguments: argparse.Namespace) -> int:
    """Stop a job."""
    job = _job(arguments)
    seen = job.status().status
    job.cancel()
    if arguments.json:
        say_json({"ref": job.ref, "status_before": str(seen), "cancelled": not seen.is_terminal})
    else:
        on_cluster = JobRef.parse(job.ref).platform is Platform.HYPERPOD
        say(*wrapped(_cancelled(job.name, seen, on_cluster=on_cluster), ""))
    return GOOD


def _cancelled(name: str, seen: JobStatus, *, on_cluster: bool) -> str:
    if seen is JobStatus.DELETED:
        return f"{name} is not there (any more); nothing is left of it but what it wrote to S3."
    if seen.is_terminal:
        return f"{name} was over already: {seen}. `nova-dpo delete` removes its record."
    if on_cluster:
        return f"{name} is cancelled: the job and what belonged to it are deleted from the cluster."
    return f"{name} is being stopped; SageMaker keeps its record and its name."


def delete(arguments: argparse.Namespace) -> int:
    """Remove a finished job."""
    job = _job(arguments)
    job.delete()
    if arguments.json:
        say_json({"ref": job.ref, "deleted": True})
    else:
        say(f"{job.name} is deleted; what it wrote to S3 stays.")
    return GOOD


def checkpoint(arguments: argparse.Namespace) -> int:
    """Print a finished job's checkpoint."""
    found = _job(arguments, _output(arguments)).checkpoint()
    if arguments.json:
        say_json(found.model_dump(mode="json"))
    else:
        say(found.uri)
    return GOOD


def _output(arguments: argparse.Namespace) -> S3Uri:
    output: str | None = arguments.output or _noted_output(arguments)
    if output is None and arguments.local is None:
        arguments.usage("--output must be given: the S3 prefix that the job was submitted with")
    output = output or connection(str(arguments.local), arguments.clock).output
    return S3Uri.parse(output.rstrip("/"))


def _noted_output(arguments: argparse.Namespace) -> str | None:
    """The output that a job on a cluster was submitted with, as its annotation has it; None when it is gone."""
    ref = JobRef.parse(arguments.ref)
    where = backend(arguments, ref)
    if not isinstance(where, HyperPodBackend):
        return None
    held, _ = where.observe(ref)
    annotations: dict[str, str] = (held["metadata"].get("annotations") or {}) if held else {}
    noted = annotations.get(PLAN_ANNOTATION, "")
    output, found, _ = noted.rpartition(f"/plans/{ref.name}/")
    return output if found else None


def jobs(arguments: argparse.Namespace) -> int:
    """List the jobs of a namespace or a Region that this package made."""
    technique = Technique(arguments.technique.upper()) if arguments.technique else None
    found = place(arguments).find_jobs(arguments.name, technique, arguments.since)
    if arguments.watch and found:
        return _watched(arguments, [each.ref for each in found if not each.status.is_terminal] or [found[0].ref])
    if arguments.json:
        say_json([_plain(each) for each in found])
        return GOOD
    say(*(f"{each.ref}  {in_a_line(each)}" for each in found))
    if not found:
        say("No jobs of this package here.")
    return GOOD


def logs(arguments: argparse.Namespace) -> int:
    """Print a job's log lines."""
    for line in _job(arguments, _output(arguments)).logs(arguments.follow, arguments.since, arguments.node):
        plain = {"at": line.at.isoformat(), "node": line.node, "replica": line.replica, "text": line.text}
        say(json.dumps(plain, ensure_ascii=False) if arguments.json else str(line))
    return GOOD


def _tell(snapshot: JobSnapshot) -> None:
    say(f"{snapshot.observed_at:%H:%M:%S}  {in_a_line(snapshot)}")


def _lines(snapshot: JobSnapshot) -> list[str]:
    told = replace(snapshot, next_step=in_shell_words(snapshot.next_step))
    return [f"job      {snapshot.ref}", *snapshot_lines(told, width())]


def _plain(snapshot: JobSnapshot) -> dict[str, Any]:
    return {
        "ref": snapshot.ref,
        "status": str(snapshot.status),
        "finished": snapshot.status.is_terminal,
        "reason": snapshot.reason,
        "message": snapshot.message,
        "next_step": snapshot.next_step,
        "observed_at": snapshot.observed_at.isoformat(),
        "since": snapshot.since.isoformat() if snapshot.since else None,
        "created_at": snapshot.created_at.isoformat() if snapshot.created_at else None,
        "restarts": snapshot.restarts,
        "replicas": [vars(each) for each in snapshot.replicas],
    }

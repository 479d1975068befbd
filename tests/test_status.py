from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nova_dpo_sdk.backends import JobStatus
from nova_dpo_sdk.backends._status import fold, gone

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def moment(minutes_ago):
    return (NOW - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(*conditions, age=60, **metadata):
    listed = [
        {
            "type": kind,
            "status": status,
            "reason": f"PyTorchJob{kind}",
            "message": f"{kind} it is",
            "lastTransitionTime": moment(age - n),
        }
        for n, (kind, status) in enumerate(conditions)
    ]
    return {
        "metadata": {"name": "run", "creationTimestamp": moment(age), **metadata},
        "spec": {},
        "status": {"conditions": listed} if listed else {},
    }


def pod(name="run-master-0", phase="Running", *, waiting=None, scheduled=None, restarts=0, ended=None, init=False):
    container = {"name": "pytorch", "restartCount": restarts, "state": {}, "lastState": {}}
    if waiting:
        container["state"] = {"waiting": {"reason": waiting, "message": f"{waiting} it is"}}
    if ended:
        container["lastState"] = {"terminated": {"exitCode": 1, "message": ended}}
    status = {"phase": phase, ("initContainerStatuses" if init else "containerStatuses"): [container]}
    if scheduled:
        status["conditions"] = [
            {"type": "PodScheduled", "status": "False", "reason": scheduled, "message": "0/4 nodes are available"}
        ]
    return {"metadata": {"name": name}, "spec": {"nodeName": "hyperpod-i-1"}, "status": status}


TRUE = "True"
CASES = {
    "nothing yet": (job(age=1), [], JobStatus.PENDING, ""),
    "operator silent": (job(age=10), [], JobStatus.STALLED, "OperatorSilent"),
    "created, no pods yet": (job(("Created", TRUE), age=1), [], JobStatus.PENDING, ""),
    "created, no pods for long": (job(("Created", TRUE), age=10), [], JobStatus.STALLED, "NoPods"),
    "created, pods starting": (job(("Created", TRUE)), [pod(phase="Pending")], JobStatus.STARTING, ""),
    "unschedulable looks like created": (job(("Created", TRUE)), [pod(phase="Pending", scheduled="Unschedulable")], JobStatus.UNSCHEDULABLE, "Unschedulable"),
    "running": (job(("Created", TRUE), ("Running", TRUE)), [pod()], JobStatus.RUNNING, ""),
    "running, a worker still starts": (job(("Created", TRUE), ("Running", TRUE)), [pod(), pod("run-worker-0", "Pending")], JobStatus.STARTING, ""),
    "running, pods may not be seen": (job(("Created", TRUE), ("Running", TRUE)), None, JobStatus.RUNNING, ""),
    "crash loop looks like running": (job(("Created", TRUE), ("Running", TRUE)), [pod(waiting="CrashLoopBackOff", ended="bad data")], JobStatus.DEGRADED, "CrashLoopBackOff"),
    "init crash looks like created": (job(("Created", TRUE)), [pod(phase="Pending", waiting="CrashLoopBackOff", init=True)], JobStatus.DEGRADED, "CrashLoopBackOff"),
    "image pull": (job(("Created", TRUE)), [pod(phase="Pending", waiting="ImagePullBackOff")], JobStatus.DEGRADED, "ImagePullBackOff"),
    "restarting": (job(("Created", TRUE), ("Running", "False"), ("Restarting", TRUE)), [pod()], JobStatus.RESTARTING, ""),
    "restarting is over": (job(("Created", TRUE), ("Restarting", "False"), ("Running", TRUE)), [pod()], JobStatus.RUNNING, ""),
    "suspended": (job(("Created", TRUE), ("Suspended", TRUE)), [], JobStatus.QUEUED, "Suspended"),
    "suspended before": (job(("Created", TRUE), ("Suspended", "False"), ("Running", TRUE)), [pod()], JobStatus.RUNNING, ""),
    "succeeded": (job(("Created", TRUE), ("Running", "False"), ("Succeeded", TRUE)), [pod(phase="Succeeded")], JobStatus.SUCCEEDED, ""),
    "failed": (job(("Created", TRUE), ("Running", "False"), ("Failed", TRUE)), [pod(phase="Failed")], JobStatus.FAILED, ""),
    "succeeded stays so while deleted": (job(("Succeeded", TRUE), deletionTimestamp=moment(1)), [], JobStatus.SUCCEEDED, ""),
    "being deleted": (job(("Running", TRUE), deletionTimestamp=moment(1)), [pod()], JobStatus.STOPPING, "Deleted"),
    "a word of the future": (job(("Created", TRUE), ("Hibernating", TRUE)), [pod()], JobStatus.UNKNOWN, "Hibernating"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_conditions_and_pods_fold_into_one_truth(name):
    state, pods, status, reason = CASES[name]
    seen = fold("ref", state, pods, NOW)
    assert (seen.status, seen.reason) == (status, reason)


def test_only_what_is_over_is_terminal():
    over = {status for status in JobStatus if status.is_terminal}
    assert over == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.DELETED}


def test_a_crash_loop_says_its_last_words_and_the_next_step():
    seen = fold(
        "ref", job(("Running", TRUE)), [pod(waiting="CrashLoopBackOff", ended="line 3: no messages", restarts=4)], NOW
    )
    assert "line 3: no messages" in seen.message
    assert "plan.again()" in seen.next_step
    assert seen.restarts == 4
    assert seen.replicas[0].node == "hyperpod-i-1"


def test_troubles_have_a_next_step():
    for state, pods, status, _ in CASES.values():
        if status in (
            JobStatus.DEGRADED,
            JobStatus.UNSCHEDULABLE,
            JobStatus.QUEUED,
            JobStatus.STALLED,
            JobStatus.FAILED,
        ):
            assert fold("ref", state, pods, NOW).next_step


def test_a_job_that_is_gone_is_deleted_not_failed():
    assert gone("ref", NOW).status is JobStatus.DELETED


def test_since_and_creation_are_told():
    seen = fold("ref", job(("Created", TRUE), ("Running", TRUE), age=30), [pod()], NOW)
    assert seen.created_at == NOW - timedelta(minutes=30)
    assert seen.since == NOW - timedelta(minutes=29)

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nova_dpo_sdk.backends import JobStatus
from nova_dpo_sdk.backends._facts import job_facts, pod_facts
from nova_dpo_sdk.backends._next_steps import next_step
from nova_dpo_sdk.backends._status import fold, gone, judge

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


def ours(*conditions, age=60, replicas=2, policy=None, **metadata):
    """A job with a spec, as the backend sends it."""
    made = job(*conditions, age=age, **metadata)
    specs = {"Master": {"replicas": 1}, **({"Worker": {"replicas": replicas - 1}} if replicas > 1 else {})}
    return {**made, "spec": {"runPolicy": policy or {}, "pytorchReplicaSpecs": specs}}


def test_a_job_has_started_when_its_first_pod_got_its_node():
    pods = [pod(f"run-worker-{n}") for n in range(3)]
    for minutes, each in zip((5, 7), pods, strict=False):
        held = {"type": "PodScheduled", "status": TRUE, "lastTransitionTime": moment(minutes)}
        each["status"]["conditions"] = [{"type": "Ready", "status": TRUE}, held]
    waiting = pod("run-master-0", "Pending", scheduled="Unschedulable")
    assert fold("ref", ours(("Created", TRUE)), [*pods, waiting], NOW).started_at == NOW - timedelta(minutes=7)
    assert fold("ref", ours(("Created", TRUE)), [waiting], NOW).started_at is None
    assert fold("ref", ours(("Created", TRUE), ("Running", TRUE)), None, NOW).started_at is None


def leaving(minutes, reason=None, name="run-worker-0"):
    held = pod(name)
    held["metadata"]["deletionTimestamp"] = moment(minutes)
    if reason:
        target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": f"{reason} it is"}
        held["status"]["conditions"] = [target]
    return held


def lost():
    held = pod("run-worker-0", "Unknown")
    held["status"]["reason"] = "NodeLost"
    return held


def crashed(words="CUDA error"):
    held = pod(restarts=1)
    ended = {"exitCode": 139, "reason": "Error", "message": words, "finishedAt": moment(1)}
    held["status"]["containerStatuses"][0]["state"] = {"terminated": ended}
    return held


def creating(minutes):
    held = pod(phase="Pending", waiting="ContainerCreating")
    held["status"]["conditions"] = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": moment(minutes)}]
    return held


def finished(minutes):
    held = pod(phase="Succeeded")
    held["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0, "finishedAt": moment(minutes)}}
    return held


UP = (("Created", TRUE), ("Running", TRUE))
WAS_UP = (("Created", TRUE), ("Running", "False"), ("Suspended", TRUE))
MORE = {
    "let in, not taken up yet": (ours(("Created", TRUE), ("Suspended", TRUE), policy={"suspend": False}), [], JobStatus.PENDING, "Admitted", "pods come"),
    "suspended before the operator saw it": (ours(age=90, policy={"suspend": True}), [], JobStatus.QUEUED, "Suspended", "quota"),
    "preempted by the queue": (ours(*WAS_UP, policy={"suspend": True}), [], JobStatus.QUEUED, "Preempted", "queue_priority"),
    "gated": (ours(("Created", TRUE)), [pod(phase="Pending", scheduled="SchedulingGated")], JobStatus.QUEUED, "SchedulingGated", "quota"),
    "preempted by the scheduler": (ours(*UP), [pod(), leaving(1, "PreemptionByScheduler")], JobStatus.RESTARTING, "Preempted", "priority_class"),
    "its node is tainted": (ours(*UP), [pod(), leaving(1, "DeletionByTaintManager")], JobStatus.RESTARTING, "NodeLost", "replaced"),
    "evicted": (ours(*UP), [pod(), leaving(1, "TerminationByKubelet")], JobStatus.RESTARTING, "Evicted", "made anew"),
    "a pod is deleted by somebody": (ours(*UP), [pod(), leaving(1)], JobStatus.RESTARTING, "PodDeleted", "made anew"),
    "a pod cannot leave its node": (ours(*UP), [pod(), leaving(11)], JobStatus.STALLED, "NodeLost", "replace the node"),
    "the node does not answer": (ours(*UP), [pod(), lost()], JobStatus.RESTARTING, "NodeLost", "replaced"),
    "a container has just ended badly": (ours(*UP), [crashed(), pod("run-worker-0")], JobStatus.RESTARTING, "Error", "logs"),
    "containers are created": (ours(("Created", TRUE), replicas=1), [creating(20)], JobStatus.STARTING, "", "minutes"),
    "containers are not created for long": (ours(("Created", TRUE), replicas=1), [creating(50)], JobStatus.STALLED, "ContainerCreating", "mounted"),
    "a pod is not made yet": (ours(*UP, age=4), [pod()], JobStatus.STARTING, "", "minutes"),
    "a pod is missing": (ours(*UP), [pod()], JobStatus.RESTARTING, "NoPods", "anew"),
    "the master was never made": (ours(("Created", TRUE)), [pod("run-worker-0")], JobStatus.STALLED, "NoPods", "cannot create pods"),
    "a worker cannot be made, the rest pull their image": (ours(("Created", TRUE)), [creating(20)], JobStatus.STALLED, "NoPods", "cannot create pods"),
    "the image is pulled again on a new node": (ours(("Created", TRUE), ("Restarting", TRUE)), [creating(40), pod("run-worker-0")], JobStatus.STARTING, "", "minutes"),
    "the master has finished, a worker is gone": (ours(*UP), [finished(5)], JobStatus.STALLED, "OperatorSilent", "manifest"),
    "running without pods": (ours(*UP), [], JobStatus.RESTARTING, "NoPods", "anew"),
    "just finished": (ours(*UP, replicas=1), [finished(1)], JobStatus.RUNNING, "", "result()"),
    "finished, and nobody takes note": (ours(*UP, replicas=1), [finished(5)], JobStatus.STALLED, "OperatorSilent", "manifest"),
    "config missing": (ours(("Created", TRUE)), [pod(phase="Pending", waiting="CreateContainerConfigError")], JobStatus.DEGRADED, "CreateContainerConfigError", "ConfigMap"),
    "no image name": (ours(("Created", TRUE)), [pod(phase="Pending", waiting="InvalidImageName")], JobStatus.DEGRADED, "InvalidImageName", "image="),
    "trouble outlasts a restart": (ours(("Created", TRUE), ("Restarting", TRUE)), [pod(waiting="CrashLoopBackOff")], JobStatus.DEGRADED, "CrashLoopBackOff", "plan.again()"),
}  # fmt: skip


@pytest.mark.parametrize("name", MORE)
def test_what_hinders_a_job_is_named_with_what_to_do(name):
    state, pods, status, reason, step = MORE[name]
    seen = fold("ref", state, pods, NOW)
    assert (seen.status, seen.reason) == (status, reason)
    assert step in seen.next_step


def test_every_state_has_a_next_step():
    for status in JobStatus:
        assert next_step(status), status


@pytest.mark.parametrize(
    ("policy", "minutes", "reason"),
    [
        ({"activeDeadlineSeconds": 600}, 10, "DeadlineExceeded"),
        ({"activeDeadlineSeconds": 6000, "backoffLimit": 3}, 10, "BackoffLimitExceeded"),
        ({"backoffLimit": 3}, 10, "BackoffLimitExceeded"),
        ({}, 10, ""),
    ],
)
def test_a_failure_is_told_from_the_limit_that_was_reached(policy, minutes, reason):
    state = ours(("Created", TRUE), ("Running", "False"), ("Failed", TRUE), policy=policy)
    state["status"] |= {"startTime": moment(minutes), "completionTime": moment(0)}
    seen = fold("ref", state, [crashed("shape mismatch")], NOW)
    assert (seen.status, seen.reason) == (JobStatus.FAILED, reason)
    assert "run-master-0: exit code 139: shape mismatch" in seen.message
    assert ("attempt=" if reason == "DeadlineExceeded" else "plan.again()") in seen.next_step


def test_pods_that_are_missing_are_named_from_the_moment_they_are_due():
    state, held = job_facts(ours(*UP, age=6, replicas=8)), [pod_facts(pod())]
    seen, until = judge("ref", state, held, NOW - timedelta(minutes=1))
    assert (seen.status, until) == (JobStatus.STARTING, NOW)
    seen, until = judge("ref", state, held, NOW + timedelta(seconds=1))
    assert (seen.status, until) == (JobStatus.RESTARTING, None)
    assert seen.message.startswith("run-worker-0, run-worker-1, run-worker-2 and 4 more not there")


@pytest.mark.parametrize("name", ["operator silent", "created, no pods for long"])
def test_what_changes_by_time_alone_says_when(name):
    state, pods, status, reason = CASES[name]
    early = NOW - timedelta(minutes=9)
    seen, until = judge("ref", job_facts(state), [pod_facts(each) for each in pods], early)
    assert seen.status is JobStatus.PENDING
    assert until is not None
    later, _ = judge("ref", job_facts(state), [pod_facts(each) for each in pods], until + timedelta(seconds=1))
    assert (later.status, later.reason) == (status, reason)
    before, _ = judge("ref", job_facts(state), [pod_facts(each) for each in pods], until - timedelta(seconds=1))
    assert before.face == seen.face


def test_the_queue_is_named():
    state = ours(age=5, policy={"suspend": True}, labels={"kueue.x-k8s.io/queue-name": "team-a"})
    assert fold("ref", state, [], NOW).message == "it waits for queue team-a to let it in"


def test_without_pods_to_see_a_running_job_says_so():
    seen = fold("ref", ours(*UP), None, NOW)
    assert "crash loop would look the same" in seen.message


def test_nulls_as_servers_write_them_are_read():
    state = {"metadata": {"name": "run", "labels": None}, "spec": None, "status": {"conditions": None}}
    held = {
        "metadata": {"name": "run-master-0"},
        "spec": None,
        "status": {"containerStatuses": None, "conditions": None},
    }
    seen = fold("ref", state, [held], NOW)
    assert seen.status is JobStatus.PENDING
    assert seen.replicas[0].phase == "Unknown"


def test_a_job_that_waited_for_an_hour_is_not_stalled_when_it_is_let_in():
    state = ours(("Created", TRUE), ("Suspended", "False"), age=60)
    state["status"]["conditions"][1]["lastTransitionTime"] = moment(3)
    assert fold("ref", state, [], NOW).status is JobStatus.PENDING
    state["status"]["conditions"][1]["lastTransitionTime"] = moment(6)
    assert fold("ref", state, [], NOW).reason == "NoPods"

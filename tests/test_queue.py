"""What Kueue says of a job that it holds back, where its Workload may be read and where not."""

from __future__ import annotations

import pytest
from test_faults import DPO, at
from test_status import NOW, ours

from nova_dpo_sdk import JobStatus, NovaClient
from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.backends._queue import workload_facts
from nova_dpo_sdk.backends._status import fold
from nova_dpo_sdk.local import LocalCloud, Script

QUEUED = JobStatus.QUEUED


def asked(cloud):
    return [each for each in cloud.requests if each.target.startswith("workloads")]


def submit(nova, pairs, **options):
    return nova.submit(nova.plan(DPO.replace(**options), pairs), check=False)


@pytest.mark.parametrize(
    ("role", "namespace", "reads"), [("team", "hyperpod-ns-nlp", True), ("namespaced", "kubeflow", False)]
)
def test_each_role_is_told_what_it_may_read(clock, pairs, role, namespace, reads):
    with LocalCloud(clock=clock, namespaces=[namespace], role=role) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        cloud.script_fault("preempted", after=5, lasts=600)
        job = submit(nova, pairs)
        assert at(clock, job, 6).status is JobStatus.RUNNING
        assert asked(cloud) == []  # nobody asks the queue about a job that runs
        for _ in range(3):
            seen = at(clock, job, 10)
            assert (seen.status, seen.reason) == (QUEUED, "Preempted")
            assert ("to accommodate a workload" in seen.message) is reads
            assert "queue_priority" in seen.next_step
        assert len(asked(cloud)) == (3 if reads else 1)
        (listed,) = nova.jobs()
        assert listed.last.message == seen.message


def test_many_held_jobs_cost_one_request_and_change_their_reason_when_the_queue_does(cloud, nova, pairs):
    cloud.script_fault("queued", lasts=500)
    jobs = [submit(nova, pairs, name=f"run-{n}") for n in range(4)]
    told = {}
    for snapshot in nova.watch(jobs, interval=5.0):
        if snapshot.status is QUEUED and snapshot.ref not in told:
            told[snapshot.ref] = snapshot
            if len(told) == 1:
                before = len(asked(cloud))
                assert before <= 2
    assert {each.reason for each in told.values()} == {"Suspended"}
    assert all("more needed" in each.message for each in told.values())
    assert not [each for each in cloud.store.scan(_workloads()) if "Finished" not in _kinds(each)]


def _workloads():
    from nova_dpo_sdk.local._resources import WORKLOADS

    return WORKLOADS


def _kinds(workload):
    return {each["type"] for each in workload["status"]["conditions"] if each["status"] == "True"}


def test_a_watch_tells_why_a_job_was_put_out(pairs):
    with LocalCloud(clock=SystemClock(), script=Script(pace=0.03)) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        cloud.script_fault("preempted", after=3, lasts=20)
        job = submit(nova, pairs)
        news = list(job.events(timeout=30))
    held = [each for each in news if each.status is QUEUED]
    assert held
    assert {each.reason for each in held} == {"Preempted"}
    assert all("to accommodate a workload" in each.message for each in held)
    assert news[-1].status is JobStatus.SUCCEEDED


def test_a_job_s_workload_goes_with_it(cloud, clock, nova, pairs):
    cloud.script_fault("queued")
    job = submit(nova, pairs)
    assert at(clock, job, 5).status is QUEUED
    assert len(list(cloud.store.scan(_workloads()))) == 1
    job.cancel()
    clock.sleep(10)
    cloud.advance()
    assert list(cloud.store.scan(_workloads())) == []


HELD = ours(
    ("Created", "True"), ("Suspended", "True"), policy={"suspend": True}, labels={"kueue.x-k8s.io/queue-name": "nlp"}
)


def workload(*conditions, **spec):
    listed = [
        {"type": kind, "status": value, "reason": reason, "message": f"{reason} it is"}
        for kind, value, reason in conditions
    ]
    meta = {"name": "w", "labels": {"kueue.x-k8s.io/job-uid": "u"}}
    return workload_facts({"metadata": meta, "spec": spec, "status": {"conditions": listed}})


WAITS = ("QuotaReserved", "False", "Pending")
CASES = {
    "no quota now": ([WAITS], {}, QUEUED, "Suspended", "Wait for quota"),
    "it can never fit": ([("QuotaReserved", "False", "Inadmissible")], {}, QUEUED, "Inadmissible", "quota for"),
    "let in": ([("QuotaReserved", "True", "QuotaReserved"), ("Admitted", "True", "Admitted")], {}, JobStatus.PENDING, "Admitted", "pods come"),
    "preempted": ([WAITS, ("Evicted", "True", "Preempted"), ("Preempted", "True", "InClusterQueue")], {}, QUEUED, "Preempted", "queue_priority"),
    "pods were not ready in time": ([WAITS, ("Evicted", "True", "PodsReadyTimeout")], {}, QUEUED, "PodsReadyTimeout", "image pull"),
    "the queue is stopped": ([WAITS, ("Evicted", "True", "ClusterQueueStopped")], {}, QUEUED, "ClusterQueueStopped", "stopped"),
    "somebody deactivated it": ([WAITS], {"active": False}, QUEUED, "Deactivated", "activated again"),
    "requeued too often": ([WAITS, ("Evicted", "True", "DeactivatedDueToRequeuingLimitExceeded")], {}, QUEUED, "Deactivated", "activated again"),
    "a reason that is not known": ([WAITS, ("Evicted", "True", "Surprise")], {}, QUEUED, "Surprise", "Wait for quota"),
    "nothing said yet": ([], {}, QUEUED, "Suspended", "Wait for quota"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_why_a_queue_holds_a_job_is_named_with_what_to_do(case):
    conditions, spec, status, reason, step = CASES[case]
    seen = fold("ref", HELD, [], NOW, workload(*conditions, **spec))
    assert (seen.status, seen.reason) == (status, reason)
    assert step in seen.next_step
    assert "queue nlp" in seen.message

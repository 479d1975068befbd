"""Waiting while the cluster or AWS does not answer: borne with for a quarter of an hour, refusals not at all."""

from __future__ import annotations

import math

import pytest

from nova_dpo_sdk import JobStatus, LoRA, NovaModel, SFTRecipe
from nova_dpo_sdk._time import OUTAGE
from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot
from nova_dpo_sdk.backends._follow import follow_each
from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS
from nova_dpo_sdk.chain import Outcome, StagePolicy, StageStatus
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    CheckpointError,
    ClusterError,
    JobFailedError,
    JobStoppedError,
    JobTimeoutError,
    ServiceError,
    ThrottledError,
)

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
SEVERAL, EVER = 12, 10**9
"""Requests; one call is tried five times."""


def jobs(nova):
    return [each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow")]


def cluster_is_busy(cloud, times=SEVERAL):
    cloud.faults.answer("*", 503, code="ServiceUnavailable", service="kubernetes", times=times)


def connections_break(cloud, times=SEVERAL):
    cloud.faults.hang_up("*", service="kubernetes", times=times)


def s3_is_busy(cloud, times=SEVERAL):
    cloud.faults.answer("*", 503, code="SlowDown", service="s3", times=times)


def once_seen(begin, status=None):
    """Called with snapshots: begins something when a job was seen for the first time, or in this state."""
    begun = []

    def tell(*seen):
        if not begun and status in (None, seen[-1].status):
            begun.append(begin())

    return tell


@pytest.mark.parametrize("fault", [cluster_is_busy, connections_break])
def test_a_wait_bears_a_cluster_that_does_not_answer_for_a_while(cloud, nova, chats, fault):
    job = nova.submit(nova.plan(SFT, chats))
    assert job.wait(on_update=once_seen(lambda: fault(cloud))).status is JobStatus.SUCCEEDED


def test_a_wait_ends_after_a_quarter_of_an_hour_without_an_answer(cloud, clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    begun = clock.monotonic()
    with pytest.raises(ClusterError, match=r"says nothing about support-sft-.*\.wait\(\)"):
        job.wait(on_update=once_seen(lambda: cluster_is_busy(cloud, EVER)))
    assert OUTAGE < clock.monotonic() - begun < OUTAGE + 120
    with pytest.raises(JobTimeoutError):
        job.wait(60)


def test_a_wait_ends_at_once_when_nobody_ever_answered_or_a_look_is_refused(cloud, clock, nova, chats):
    ref = nova.submit(nova.plan(SFT, chats)).ref
    begun = clock.monotonic()
    cluster_is_busy(cloud, EVER)
    with pytest.raises(ClusterError, match="503"):
        nova.job(ref).wait()
    cloud.faults.clear()
    with pytest.raises(ClusterError, match="403"):
        nova.job(ref).wait(
            on_update=once_seen(lambda: cloud.faults.answer("*", 403, code="Forbidden", service="kubernetes"))
        )
    assert clock.monotonic() - begun < 120


def test_a_result_bears_an_s3_that_does_not_answer_for_a_while(cloud, clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    assert job.result(on_update=once_seen(lambda: s3_is_busy(cloud), JobStatus.SUCCEEDED)).uri
    begun = clock.monotonic()
    with pytest.raises(ThrottledError):
        nova.job(job.ref).result(on_update=once_seen(lambda: s3_is_busy(cloud, EVER)))
    assert OUTAGE < clock.monotonic() - begun < OUTAGE + 120
    cloud.faults.clear()
    with pytest.raises(AccessDeniedError):
        nova.job(job.ref).result(
            on_update=once_seen(lambda: cloud.faults.answer("*", 403, code="ExpiredToken", service="s3"))
        )


def test_stages_bear_an_s3_that_does_not_answer_while_their_jobs_end(cloud, nova, chats):
    chain = nova.chain("tone")
    stages = [chain.start(each, SFT.replace(name=each), chats) for each in ("a", "b")]
    found = chain.gather(stages, on_update=once_seen(lambda: s3_is_busy(cloud), JobStatus.SUCCEEDED))
    assert len({each.uri for each in found}) == 2
    assert {each.status for each in chain.records()} == {StageStatus.FINISHED}


def test_a_stage_is_waited_for_again_after_an_outage_that_was_too_long(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    begun = clock.monotonic()
    with pytest.raises(ThrottledError, match=r"nothing about the job of sft: run the script again to go on\."):
        stage.result(on_update=once_seen(lambda: s3_is_busy(cloud, EVER), JobStatus.SUCCEEDED))
    assert OUTAGE < clock.monotonic() - begun < OUTAGE + 240
    cloud.faults.clear()
    assert stage.result().uri


def test_a_stage_whose_manifest_alone_cannot_be_read_ends_as_soon(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    cloud.faults.answer("*", 503, code="SlowDown", target="*manifest.json", times=EVER)
    begun, sent = clock.monotonic(), len(cloud.requests)
    with pytest.raises(ServiceError, match="manifest"):
        stage.result()
    assert OUTAGE < clock.monotonic() - begun < OUTAGE + 240
    assert len(cloud.requests) - sent < 500


def when_it_is(clock, moment, begin):
    """Begin something as soon as the clock has come so far, and do it again whenever the given seconds have passed."""
    sleep, due = clock.sleep, [moment]

    def watched(seconds):
        sleep(seconds)
        if clock.monotonic() >= due[0]:
            due[0] = clock.monotonic() + (begin() or math.inf)

    clock.sleep = watched


def test_two_short_outages_are_not_one_long_one(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)

    def the_cluster_is_busy_instead():
        cloud.faults.clear()
        cluster_is_busy(cloud)

    def outage():
        s3_is_busy(cloud, EVER)
        when_it_is(clock, clock.monotonic() + OUTAGE - 20, the_cluster_is_busy_instead)

    assert stage.result(on_update=once_seen(outage, JobStatus.SUCCEEDED)).uri
    assert clock.monotonic() > OUTAGE


def test_the_wait_for_a_manifest_ends_though_s3_hiccups_now_and_then(cloud, clock, nova, chats):
    cloud.script_fault("manifest-missing")
    stage = nova.chain("tone").start("sft", SFT, chats)

    def hiccup():
        cloud.faults.answer("*", 503, code="SlowDown", target="*manifest.json", times=5)
        return 300

    when_it_is(clock, 60, hiccup)
    with pytest.raises(CheckpointError, match="manifest"):
        stage.result(timeout=7200)
    assert 600 < clock.monotonic() < 900


def test_a_stage_ends_at_once_when_s3_refuses_its_credentials(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    begun = clock.monotonic()
    expired = once_seen(lambda: cloud.faults.answer("*", 403, code="ExpiredToken", service="s3"), JobStatus.SUCCEEDED)
    with pytest.raises(AccessDeniedError):
        stage.result(on_update=expired)
    assert clock.monotonic() - begun < 120


def busy_deletes(cloud):
    cloud.faults.answer("delete", 503, code="ServiceUnavailable", target="pytorchjobs/*", times=SEVERAL)


def test_a_lost_job_that_cannot_be_stopped_yet_is_stopped_before_the_next_attempt(cloud, nova, chats):
    nova.backend.poll_interval = 300.0
    stage = nova.chain("tone").start("sft", SFT, chats)
    cloud.script_fault("node-loss", after=5, job=stage.job.name)
    busy_deletes(cloud)
    assert stage.result().uri
    assert [each.outcome for each in stage.record.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert jobs(nova) == [stage.record.current.job]


def test_a_late_job_that_cannot_be_stopped_yet_is_stopped_after_all(cloud, nova, chats):
    cloud.script_fault("unschedulable", lasts=3600)
    stage = nova.chain("tone").start("sft", SFT, chats, policy=StagePolicy(deadline=10))
    busy_deletes(cloud)
    with pytest.raises(JobFailedError, match="DeadlineExceeded"):
        stage.result()
    assert jobs(nova) == []


def test_a_stage_that_is_reset_during_an_outage_is_not_begun_anew(cloud, nova, chats):
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)

    def outage_and_reset():
        chain.reset("sft")
        s3_is_busy(cloud)

    with pytest.raises(JobStoppedError, match="was reset while it was waited for"):
        stage.result(on_update=once_seen(outage_and_reset, JobStatus.SUCCEEDED))
    assert len(jobs(nova)) == 1


def test_a_busy_cluster_does_not_count_as_a_refusal(cloud, nova, chats):
    real = nova.backend.submit  # what comes after the preflight, whose own dry run of a create is to pass

    def busy(plan):
        cloud.faults.answer("create", 429, code="TooManyRequests", target="pytorchjobs/*", times=5)
        return real(plan)

    nova.backend.submit = busy
    with pytest.raises(ClusterError, match="429"):
        nova.chain("tone").start("sft", SFT, chats)
    nova.backend.submit = real
    assert nova.chain("tone").record("sft").status is StageStatus.CLAIMED
    assert nova.chain("tone").run("sft", SFT, chats).uri


def test_following_jobs_one_by_one_bears_the_same(clock):
    ref = JobRef.parse("training-jobs://us-east-1/support-sft-12345")
    answers = [JobStatus.RUNNING, None, None, JobStatus.SUCCEEDED]

    def look(_ref):
        status = answers.pop(0)
        if status is None:
            raise ThrottledError("slow down")
        return JobSnapshot(ref=str(ref), status=status, observed_at=clock.now())

    seen = follow_each(look, [ref], clock=clock, interval=30, timeout=3600)
    assert [each.status for each in seen] == [JobStatus.RUNNING, JobStatus.SUCCEEDED]
    answers = [None]
    with pytest.raises(ThrottledError):
        next(follow_each(look, [ref], clock=clock, interval=30, timeout=3600))
    answers = [JobStatus.RUNNING, *[None] * 100]
    with pytest.raises(ThrottledError):
        list(follow_each(look, [ref], clock=clock, interval=30, timeout=math.inf))

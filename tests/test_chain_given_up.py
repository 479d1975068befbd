"""Jobs that a chain has given up: they are stopped whatever comes in between, and paid for until then."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nova_dpo_sdk import JobStatus, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PYTORCHJOBS
from nova_dpo_sdk.chain import Outcome, StagePolicy, StageStatus
from nova_dpo_sdk.errors import DatasetError, JobFailedError, JobTimeoutError

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
CHANGED = SFT.replace(max_epochs=1)
BRIEF = StagePolicy(deadline=10)


def jobs(nova):
    return [each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow")]


def die(_ref):
    raise KeyboardInterrupt


def died_before_it_stopped(cloud, chats, policy):
    """The job of what a process leaves that died between writing a job off and stopping it."""
    nova = NovaClient(cloud.hyperpod(), output=cloud.output)
    nova.backend.poll_interval = 300.0
    nova.backend.cancel = die
    stage = nova.chain("tone").start("sft", SFT, chats, policy=policy)
    with pytest.raises(KeyboardInterrupt):
        stage.result()
    return stage.record.attempts[0]


@pytest.mark.parametrize("way", ["changed", "reset"])
def test_a_job_past_its_deadline_is_stopped_whatever_becomes_of_its_stage(cloud, nova, chats, way):
    late = died_before_it_stopped(cloud, chats, BRIEF)
    assert late.outcome is Outcome.OVERDUE
    assert jobs(nova) == [late.job]
    chain = nova.chain("tone")
    if way == "reset":
        chain.reset("sft")
    else:
        chain.start("sft", CHANGED, chats)
    assert late.job not in jobs(nova)


@pytest.mark.parametrize("way", ["changed", "reset"])
def test_a_job_on_a_lost_node_is_stopped_whatever_becomes_of_its_stage(cloud, clock, nova, chats, way):
    cloud.script_fault("node-loss", after=5)
    lost = died_before_it_stopped(cloud, chats, None)
    assert lost.outcome is Outcome.ABANDONED
    cloud.trainer.faults._planned.clear()
    chain = nova.chain("tone")
    if way == "reset":
        chain.reset("sft", cancel=True)
    else:
        clock.advance(600)  # a claim without a job keeps a changed stage out for so long
        chain.start("sft", CHANGED, chats)
    assert lost.job not in jobs(nova)
    assert not [each for each in nova.backend.api().list(CONFIGMAPS, "kubeflow") if lost.job in str(each)]


def test_a_job_that_was_given_up_elsewhere_does_not_stand_in_the_way(cloud, chats, caplog):
    late = died_before_it_stopped(cloud, chats, BRIEF)
    elsewhere = NovaClient(cloud.hyperpod(namespace="default"), output=cloud.output)
    elsewhere.chain("tone").reset("sft")
    assert f"{late.ref}, which was given up, lives elsewhere" in caplog.text


def test_a_later_job_of_the_same_plan_is_somebody_else_s(clock, nova, chats):
    chain = nova.chain("tone")
    with pytest.raises(JobFailedError, match="DeadlineExceeded"):
        chain.run("sft", SFT, chats, policy=BRIEF)
    clock.advance(60)
    theirs = nova.chain("other").start("sft", SFT, chats).job
    assert theirs.ref == chain.record("sft").current.ref
    chain.reset("sft")
    chain.start("sft", CHANGED, chats)
    assert theirs.name in jobs(nova)


def test_an_attempt_that_was_given_up_is_paid_for_until_then(cloud, chats):
    cloud.script_fault("node-loss", after=5)
    lost = died_before_it_stopped(cloud, chats, None)
    assert lost.ended_at - lost.submitted_at > timedelta(minutes=30)


def look_now_and_then(cloud, clock, chats):
    """What a scheduler's sensor does: one look each five minutes, by a handle of its own; ends with the stage."""
    for _ in range(20):
        stage = NovaClient(cloud.hyperpod(), output=cloud.output).chain("tone").start("sft", SFT, chats)
        try:
            return stage.result(timeout=30)
        except JobTimeoutError:
            clock.advance(270)
    pytest.fail("it still looks")


def records_written(cloud):
    return sum(
        each.operation == "PutObject" and each.target.endswith("chains/tone/sft.json") for each in cloud.requests
    )


def test_who_only_looks_now_and_then_loses_patience_too(cloud, clock, nova, chats):
    cloud.script_fault("image-pull")
    begun = clock.monotonic()
    with pytest.raises(JobFailedError, match="ImagePullBackOff"):
        look_now_and_then(cloud, clock, chats)
    assert 1800 < clock.monotonic() - begun < 2700
    assert records_written(cloud) == 5  # claimed, submitted, with instances, in trouble, given up
    stage = nova.chain("tone").start("sft", SFT, chats)
    with pytest.raises(JobTimeoutError):  # borne with anew: it may have been mended
        stage.result(timeout=1500)
    with pytest.raises(JobFailedError):
        stage.result(timeout=600)


def test_who_only_looks_now_and_then_tries_again_after_a_lost_node(cloud, clock, nova, chats):
    first = nova.chain("tone").start("sft", SFT, chats).job
    cloud.script_fault("node-loss", after=5, job=first.name)
    begun = clock.monotonic()
    assert look_now_and_then(cloud, clock, chats).uri
    assert clock.monotonic() - begun < 3600
    assert [each.outcome for each in nova.chain("tone").record("sft").attempts] == [
        Outcome.ABANDONED,
        Outcome.SUCCEEDED,
    ]


def test_a_trouble_that_ended_is_forgotten(cloud, nova, chats):
    cloud.script_fault("image-pull", lasts=600)
    stage = nova.chain("tone").start("sft", SFT, chats)
    kept = []
    assert stage.result(on_update=lambda _: kept.append(stage.record.current.trouble)).uri
    assert "degraded" in kept
    assert (stage.record.current.trouble, stage.record.current.trouble_since) == ("", None)


def test_of_two_who_see_a_trouble_the_first_tells_since_when(cloud, clock, nova, chats):
    cloud.script_fault("image-pull")
    chain = nova.chain("tone")
    late = chain.start("sft", SFT, chats)
    with pytest.raises(JobTimeoutError):
        chain.start("sft", SFT, chats).result(timeout=900)
    since = chain.record("sft").current.trouble_since
    with pytest.raises(JobFailedError):
        late.result(timeout=1000)
    assert clock.now() - since < timedelta(seconds=1900)


def test_a_trouble_that_came_back_while_nobody_looked_is_a_new_one(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    node_lost = replace(stage.job.status(), status=JobStatus.STALLED, reason="NodeLost")
    stage.see(replace(node_lost, since=clock.now()))
    clock.advance(86_400)
    again = NovaClient(cloud.hyperpod(), output=cloud.output).chain("tone").start("sft", SFT, chats)
    again.see(replace(node_lost, since=clock.now() - timedelta(seconds=60)))
    assert [each.outcome for each in again.record.attempts] == [None]
    clock.advance(1800)
    again.look()
    assert [each.outcome for each in again.record.attempts] == [Outcome.ABANDONED, None]


def test_a_trouble_that_ended_with_the_job_is_not_kept(cloud, clock, nova, chats):
    cloud.script_fault("image-pull", lasts=600)
    chain = nova.chain("tone")
    with pytest.raises(JobTimeoutError):
        chain.start("sft", SFT, chats).result(timeout=60)
    assert chain.record("sft").current.trouble == "degraded"
    clock.advance(7200)
    assert chain.start("sft", SFT, chats).result().uri
    assert (chain.record("sft").current.trouble, chain.record("sft").current.trouble_since) == ("", None)


def test_an_attempt_that_failed_is_written_down_though_its_data_changed_before_the_next(nova, chats):
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    lines = chats.path.read_text(encoding="utf-8")
    chats.path.write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="attempt 2 would train on other data"):
        stage.see(replace(stage.job.status(), status=JobStatus.FAILED, reason="NodeLost"))
    record = chain.record("sft")
    assert (record.status, record.current.outcome) == (StageStatus.FAILED, Outcome.FAILED)
    chats.path.write_text(lines, encoding="utf-8")
    assert chain.start("sft", SFT, chats).record.current.number == 2


@pytest.mark.parametrize("stopped", ["at once", "by the next run"])
def test_a_lost_job_is_stopped_though_its_data_changed_before_the_next_attempt(cloud, nova, chats, stopped):
    nova.backend.poll_interval = 300.0
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    cloud.script_fault("node-loss", after=5)
    cancel = nova.backend.cancel
    if stopped == "by the next run":
        nova.backend.cancel = die
    with pytest.raises(DatasetError if stopped == "at once" else KeyboardInterrupt):
        stage.result(on_update=lambda _: chats.path.write_text("", encoding="utf-8"))
    nova.backend.cancel = cancel
    record = chain.record("sft")
    assert (record.status, record.current.outcome) == (StageStatus.FAILED, Outcome.ABANDONED)
    assert (record.current.reason, record.current.retryable) == ("NodeLost", True)
    if stopped == "by the next run":
        assert jobs(nova) == [record.current.job]
        with pytest.raises(DatasetError, match="attempt 2 would train on other data"):
            chain.start_plan("sft", stage.plan)
    assert jobs(nova) == []

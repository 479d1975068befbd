"""Jobs that a chain has given up: they are stopped whatever comes in between, and paid for until then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nova_dpo_sdk import LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PYTORCHJOBS
from nova_dpo_sdk.chain import Outcome, StagePolicy
from nova_dpo_sdk.errors import JobFailedError

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

"""Chains over real sockets: resumed, raced, refused, retried, reset; each stage's job is made exactly once."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import timedelta

import pytest

from nova_dpo_sdk import ChatDataset, DPORecipe, JobStatus, LoRA, NovaClient, NovaModel, Patience, SFTRecipe
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PYTORCHJOBS
from nova_dpo_sdk.chain import Outcome, StagePolicy, StageStatus
from nova_dpo_sdk.chain._stage import CLAIM_LASTS
from nova_dpo_sdk.errors import (
    CheckpointError,
    ClusterError,
    ConfigurationError,
    JobFailedError,
    JobStoppedError,
    JobTimeoutError,
    PlanRejectedError,
)

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)
BETAS = (0.05, 0.1, 0.2)


def jobs(nova):
    return sorted(each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow"))


def config_maps(nova):
    return [each["metadata"]["name"] for each in nova.backend.api().list(CONFIGMAPS, "kubeflow")]


def somewhere_else(cloud):
    return NovaClient(cloud.hyperpod(), output=cloud.output)


def two_stages(client, chats, pairs):
    with client.chain("tone") as chain:
        taught = chain.run("sft", SFT, chats)
        return chain.run("dpo", DPO.starting_from(taught), pairs)


def test_a_chain_goes_on_where_it_stood(cloud, nova, chats, pairs):
    aligned = two_stages(nova, chats, pairs)
    assert two_stages(somewhere_else(cloud), chats, pairs) == aligned
    assert len(jobs(nova)) == 2
    lying = json.loads(nova.backend.aws.read(nova.output.join("chains", "tone", "dpo.json")).body)
    assert lying["checkpoint"]["uri"] == aligned.uri
    assert lying["schema"] == 1


def test_the_record_tells_the_whole_story(nova, chats, pairs):
    aligned = two_stages(nova, chats, pairs)
    sft, dpo = nova.chain("tone").records()
    assert (sft.stage, dpo.stage) == ("sft", "dpo")
    assert (sft.parent, dpo.parent.stage, dpo.parent.uri) == (None, "sft", sft.checkpoint.uri)
    assert (dpo.checkpoint, dpo.current.checkpoint) == (aligned, aligned.uri)
    assert (dpo.status, dpo.current.outcome) == (StageStatus.FINISHED, Outcome.SUCCEEDED)
    assert (dpo.replicas, dpo.gpus, dpo.instance_type) == (4, 8, "ml.p5.48xlarge")
    assert [(each.role, each.records) for each in dpo.data] == [("data", 70)]
    times = [dpo.claimed_at, dpo.submitted_at, dpo.current.ended_at, dpo.finished_at]
    assert times == sorted(times)
    assert dpo.plan["recipe"]["run"]["name"] == dpo.current.job


def test_the_intent_is_what_was_sent_without_placeholders(nova, chats):
    nova.chain("tone").start("sft", SFT, chats)
    _, sent = nova.chain("tone").record("sft").plan["objects"]
    held = nova.backend.api().get(PYTORCHJOBS, "kubeflow", sent["metadata"]["name"])
    assert held["spec"]["pytorchReplicaSpecs"] == sent["spec"]["pytorchReplicaSpecs"]
    assert "<account>" not in json.dumps(sent)


def test_the_intent_of_another_clients_plan_has_no_placeholders_in_any_attempt(cloud, clock, nova, chats):
    planner = NovaClient(cloud.hyperpod(account=None), output=cloud.output)
    plan = planner.plan(SFT, chats)
    assert "<account>" in plan.to_json()
    stage = nova.chain("tone").start_plan("sft", plan)
    assert "<account>" not in json.dumps(nova.chain("tone").record("sft").plan)
    stage.see(replace(stage.job.status(), status=JobStatus.FAILED, reason="NodeLost", since=clock.now()))
    assert stage.record.current.number == 2
    assert "<account>" not in json.dumps(nova.chain("tone").record("sft").plan)


def test_a_deadline_is_said_as_people_say_it(nova, chats):
    with pytest.raises(JobFailedError, match=r"by its deadline, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, and was stopped"):
        nova.chain("tone").run("sft", SFT, chats, policy=StagePolicy(deadline=10))


def test_who_stops_waiting_for_a_cluster_that_does_not_answer_is_told_that_the_jobs_run_on(cloud, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    cloud.faults.hang_up("list", times=100_000)
    with pytest.raises(ClusterError, match=r"try again\. That .* jobs of sft, which run on: run the script") as error:
        stage.result()
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # noqa: S301 - our own bytes
    cloud.faults.clear()
    assert nova.chain("tone").run("sft", SFT, chats).uri
    assert len(jobs(nova)) == 1


def test_a_finished_stage_costs_one_get(cloud, nova, chats, pairs):
    two_stages(nova, chats, pairs)
    again = somewhere_else(cloud)
    again.backend.aws.account()
    before = len(cloud.requests)
    two_stages(again, chats, pairs)
    assert [(each.operation, each.target) for each in cloud.requests[before:]] == [
        ("GetObject", f"{cloud.output}/chains/tone/sft.json"),
        ("GetObject", f"{cloud.output}/chains/tone/dpo.json"),
    ]


def test_a_chain_follows_the_job_that_a_crash_left_behind(cloud, nova, chats):
    with pytest.raises(JobTimeoutError, match=r"sft \(.*Their jobs run on"):
        nova.chain("tone").run("sft", SFT, chats, timeout=1)
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert len(jobs(nova)) == 1


def test_many_stages_from_one_are_waited_for_at_the_price_of_one(cloud, nova, chats, pairs):
    chain = nova.chain("tone")
    taught = chain.run("sft", SFT, chats)

    def waiting_for(count):
        tries = [
            chain.start(f"dpo-{n}", DPO.replace(beta=beta).starting_from(taught), pairs)
            for n, beta in enumerate(BETAS[:count])
        ]
        before = len(cloud.requests)
        found = chain.gather(tries)
        polls = [each for each in cloud.requests[before:] if each.operation == "list"]
        return found, len(polls)

    (one, alone), (three, together) = waiting_for(1), waiting_for(3)
    assert three[0] == one[0]
    assert len({each.uri for each in three}) == 3
    assert together <= alone + 6
    assert len(jobs(nova)) == 4
    uploads = [each for each in cloud.requests if each.operation == "PutObject" and "/datasets/" in each.target]
    assert len(uploads) == 2  # chats and pairs, each once


def test_gather_tells_what_each_stage_does_and_gives_every_error(cloud, nova, chats):
    cloud.script_fault("crash-loop", job="bad-*", message="the recipe cannot be read")
    chain = nova.chain("tone")
    policy = StagePolicy(patience=Patience(degraded=300))
    bad = chain.start("bad", SFT.replace(name="bad"), chats, policy=policy)
    good = chain.start("good", SFT.replace(name="good"), chats)
    seen = []
    with pytest.raises(JobFailedError, match="the recipe cannot be read"):
        chain.gather([bad, good], on_update=lambda stage, snapshot: seen.append((stage, snapshot.status)))
    assert good.checkpoint is not None
    assert bad.error is not None
    assert ("good", JobStatus.SUCCEEDED) in seen
    assert ("bad", JobStatus.DEGRADED) in seen


@pytest.mark.parametrize("rest", [0.0, 1e-9, 0.03])
def test_a_patience_that_is_all_but_over_does_not_hold_the_clock(cloud, nova, chats, rest):
    cloud.script_fault("crash-loop", job="bad-*", message="the recipe cannot be read")
    asked = []

    class Slipping(Patience):
        def ends(self, snapshot, seconds):
            asked.append(seconds)
            assert len(asked) < 500
            return super().ends(snapshot, seconds - rest)

    bad = nova.chain("tone").start(
        "bad", SFT.replace(name="bad"), chats, policy=StagePolicy(patience=Slipping(degraded=300))
    )
    with pytest.raises(JobFailedError, match="the recipe cannot be read"):
        bad.result()


def test_other_validation_data_in_the_recipe_are_another_stage(cloud, nova, chats):
    place = f"s3://{cloud.bucket}"
    first, other = (SFT.replace(validation_data_s3_path=f"{place}/{name}.jsonl") for name in ("a", "b"))
    cloud.session().client("s3").put_object(Bucket=cloud.bucket, Key="a.jsonl", Body=b"{}")
    nova.chain("tone").start("sft", first, chats)
    with pytest.raises(ConfigurationError, match=f"run.validation_data_s3_path: {place}/a.jsonl -> {place[:10]}"):
        nova.chain("tone").start("sft", other, chats)


def test_a_changed_stage_is_refused_and_told_what_differs(nova, chats, write_jsonl):
    chain = nova.chain("tone")
    chain.run("sft", SFT, chats)
    lines = chats.path.read_text().splitlines()[:-1]
    fewer = ChatDataset.from_jsonl(write_jsonl("fewer.jsonl", lines))
    with pytest.raises(ConfigurationError) as error:
        chain.run("sft", SFT.replace(max_epochs=1, name="other"), fewer)
    text = str(error.value)
    assert "recipe training_config.trainer.max_epochs: 2 -> 1" in text
    assert "recipe run.name: support-sft -> other" in text
    assert "data: chats.jsonl (70 records, sha256" in text
    assert "-> fewer.jsonl (69 records" in text
    assert "data_s3_path" not in text
    for way in ("another name", "chain.reset('sft')", "chain.accept('sft'"):
        assert way in text
    assert chain.run("sft-2", SFT.replace(max_epochs=1), fewer).uri


def test_a_stage_elsewhere_is_another_stage(cloud, nova, chats):
    nova.chain("tone").run("sft", SFT, chats)
    smaller = NovaClient(cloud.hyperpod(instance_type="ml.p4d.24xlarge"), output=cloud.output)
    with pytest.raises(ConfigurationError, match=r"place instance_type: ml\.p5\.48xlarge -> ml\.p4d\.24xlarge"):
        smaller.chain("tone").run("sft", SFT, chats)


def test_an_accepted_change_keeps_the_checkpoint(cloud, nova, chats):
    chain = nova.chain("tone")
    first = chain.run("sft", SFT, chats)
    changed = SFT.replace(max_epochs=1)
    record = chain.accept("sft", changed, chats)
    assert record.accepted[0].changes == ("recipe training_config.trainer.max_epochs: 2 -> 1",)
    assert somewhere_else(cloud).chain("tone").run("sft", changed, chats) == first
    assert chain.run("sft", SFT, chats) == first
    assert chain.accept("sft", changed, chats) == record
    with pytest.raises(ConfigurationError, match="model nova-lite -> nova-micro"):
        chain.accept("sft", SFT.replace(model=NovaModel.MICRO), chats)
    with pytest.raises(ConfigurationError, match="has no stage dpo; it has sft"):
        chain.accept("dpo", SFT, chats)


def test_a_reset_stage_begins_anew_under_another_name_and_keeps_its_history(nova, chats):
    chain = nova.chain("tone")
    first = chain.run("sft", SFT, chats)
    assert chain.reset("sft").status is StageStatus.RESET
    second = chain.run("sft", SFT, chats)
    assert first.uri != second.uri
    record = chain.record("sft")
    assert [(each.number, each.checkpoint) for each in record.attempts] == [(1, first.uri), (2, second.uri)]
    assert record.checkpoint == second
    chain.reset("sft")
    assert chain.run("sft", SFT.replace(max_epochs=1), chats).uri not in (first.uri, second.uri)
    assert len(jobs(nova)) == 3


def test_a_stage_whose_job_runs_is_reset_only_when_the_job_is_cancelled(nova, chats):
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    with pytest.raises(ConfigurationError, match="cancel=True"):
        chain.reset("sft")
    assert chain.reset("sft", cancel=True).current.outcome is Outcome.RESET
    assert (jobs(nova), config_maps(nova)) == ([], [])
    with pytest.raises(JobStoppedError, match="was reset while it was waited for"):
        stage.result()
    assert chain.run("sft", SFT, chats).uri


def test_a_stage_refused_before_any_job_was_sent_does_not_block_a_changed_one(cloud, nova, chats):
    chain = nova.chain("tone")
    elsewhere = NovaClient(cloud.hyperpod(cluster="no-such-cluster"), output=cloud.output).chain("tone")
    with pytest.raises(PlanRejectedError, match="no-such-cluster"):
        elsewhere.run("sft", SFT, chats)
    assert chain.record("sft") is None
    assert chain.run("sft", SFT.replace(max_epochs=1), chats).uri
    assert len(jobs(nova)) == 1


def test_a_job_that_the_cluster_refuses_leaves_a_record_that_anything_may_replace(cloud, nova, chats):
    chain = nova.chain("tone")
    real = nova.backend.submit  # what comes after the preflight, whose own dry run of a create is to pass

    def refused(plan):
        cloud.faults.answer("create", 422, code="Invalid", target="pytorchjobs/*")
        return real(plan)

    nova.backend.submit = refused
    with pytest.raises(ClusterError, match="Invalid"):
        chain.run("sft", SFT, chats)
    nova.backend.submit = real
    record = chain.record("sft")
    assert (record.status, record.current.outcome) == (StageStatus.REFUSED, Outcome.REFUSED)
    assert config_maps(nova) == []
    assert chain.run("sft", SFT.replace(max_epochs=1), chats).uri
    assert [each.outcome for each in chain.record("sft").attempts] == [Outcome.REFUSED, Outcome.SUCCEEDED]


def claimed_only(nova, chats):
    """What a process leaves that died between its claim and its job."""
    with pytest.raises(KeyboardInterrupt):
        _claim_and_die(nova, chats)


def _claim_and_die(nova, chats):
    real = nova.backend.submit

    def die(_plan):
        raise KeyboardInterrupt

    nova.backend.submit = die
    try:
        nova.chain("tone").start("sft", SFT, chats)
    finally:
        nova.backend.submit = real


def test_a_claim_without_a_job_is_gone_on_with(nova, chats):
    claimed_only(nova, chats)
    assert nova.chain("tone").record("sft").status is StageStatus.CLAIMED
    assert nova.chain("tone").run("sft", SFT, chats).uri
    assert len(jobs(nova)) == 1
    assert nova.chain("tone").record("sft").current.number == 1


def test_a_claim_without_a_job_keeps_a_changed_stage_out_for_ten_minutes(clock, nova, chats):
    claimed_only(nova, chats)
    changed = SFT.replace(max_epochs=1)
    with pytest.raises(ConfigurationError, match="What differs"):
        nova.chain("tone").run("sft", changed, chats)
    clock.advance(CLAIM_LASTS.total_seconds())
    assert nova.chain("tone").run("sft", changed, chats).uri
    assert len(jobs(nova)) == 1


def test_who_was_overtaken_by_another_recipe_takes_its_job_away(clock, nova, chats):
    chain = nova.chain("tone")
    real = nova.backend.submit

    def slow(plan):
        nova.backend.submit = real
        clock.advance(CLAIM_LASTS.total_seconds())
        chain.start("sft", SFT.replace(max_epochs=1), chats)
        return real(plan)

    nova.backend.submit = slow
    with pytest.raises(ConfigurationError, match=r"max_epochs: 1 -> 2"):
        chain.run("sft", SFT, chats)
    assert jobs(nova) == [chain.record("sft").current.job]


def test_a_lost_node_is_tried_again_under_a_name_of_its_own(cloud, nova, chats):
    nova.backend.poll_interval = 300.0
    cloud.script_fault("node-loss", after=5)
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    first = stage.job.name
    cloud.trainer.faults._planned[0].job = first
    assert stage.result().uri
    record = chain.record("sft")
    assert [(each.number, each.outcome, each.reason) for each in record.attempts] == [
        (1, Outcome.ABANDONED, "NodeLost"),
        (2, Outcome.SUCCEEDED, ""),
    ]
    assert jobs(nova) == [record.current.job]
    assert first != record.current.job


def test_retries_have_a_budget_and_a_larger_one_goes_on(cloud, nova, chats):
    nova.backend.poll_interval = 300.0
    cloud.script_fault("node-loss", after=5)
    chain = nova.chain("tone")
    with pytest.raises(JobFailedError, match="does not get on"):
        chain.run("sft", SFT, chats, policy=StagePolicy(retries=1))
    record = chain.record("sft")
    assert [each.outcome for each in record.attempts] == [Outcome.ABANDONED, None]
    assert jobs(nova) == [record.current.job]
    cloud.trainer.faults._planned.clear()
    assert chain.run("sft", SFT, chats, policy=StagePolicy(retries=2)).uri
    assert [each.number for each in chain.record("sft").attempts] == [1, 2, 3]


def test_a_configuration_error_is_never_tried_again(cloud, clock, nova, chats):
    nova.backend.poll_interval = 150.0
    begun = clock.monotonic()
    cloud.script_fault("crash-loop", message="exit code 1: bad recipe")
    chain = nova.chain("tone")
    policy = StagePolicy(retries=5, patience=Patience(restarts=2))
    with pytest.raises(JobFailedError, match="CrashLoopBackOff"):
        chain.run("sft", SFT, chats, policy=policy)
    assert clock.monotonic() - begun < 600  # within three looks; one may meet the container between two restarts
    assert len(chain.record("sft").attempts) == 1
    assert len(jobs(nova)) == 1


def test_who_lost_patience_with_one_stage_goes_on_with_the_others(cloud, clock, nova, chats):
    cloud.script_fault("crash-loop", job="bad-*", message="the recipe cannot be read")
    cloud.script_fault("unschedulable", job="good-*", lasts=3600)
    chain = nova.chain("tone")
    bad = chain.start("bad", SFT.replace(name="bad"), chats, policy=StagePolicy(patience=Patience(restarts=2)))
    good = chain.start("good", SFT.replace(name="good"), chats)
    seen = []
    with pytest.raises(JobFailedError, match="the recipe cannot be read"):
        chain.gather([bad, good], on_update=lambda stage, _: seen.append((stage, clock.monotonic())))
    assert max(at for stage, at in seen if stage == "bad") < 600
    assert good.checkpoint is not None


def test_a_stage_past_its_deadline_is_stopped_and_stays_resumable(nova, chats):
    chain = nova.chain("tone")
    policy = StagePolicy(deadline=timedelta(seconds=10))
    with pytest.raises(JobFailedError, match="DeadlineExceeded"):
        chain.run("sft", SFT, chats, policy=policy)
    assert (jobs(nova), config_maps(nova)) == ([], [])
    with pytest.raises(JobFailedError, match="DeadlineExceeded"):
        chain.run("sft", SFT, chats)
    assert chain.record("sft").current.outcome is Outcome.OVERDUE
    chain.reset("sft")
    assert chain.run("sft", SFT, chats).uri


def test_what_somebody_stopped_is_not_begun_again_unasked(cloud, nova, chats):
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    stage.job.cancel()
    for client in (nova, somewhere_else(cloud)):
        with pytest.raises(JobStoppedError, match=r"chain\.reset\('sft'\)"):
            client.chain("tone").run("sft", SFT, chats)
    chain.reset("sft")
    assert chain.run("sft", SFT, chats).uri


def test_a_failed_stage_gives_way_to_a_changed_one(nova, chats):
    chain = nova.chain("tone")
    chain.start("sft", SFT, chats).job.cancel()
    with pytest.raises(JobStoppedError):
        chain.run("sft", SFT, chats)
    assert chain.run("sft", SFT.replace(max_epochs=1), chats).uri
    assert len(chain.record("sft").attempts) == 2


def test_the_next_stage_starts_when_the_checkpoint_is_there(cloud, nova, chats):
    cloud.script_fault("manifest-late", lasts=120)
    seen = []
    checkpoint = nova.chain("tone").run("sft", SFT, chats, on_update=lambda each: seen.append(each.status))
    assert checkpoint.uri
    assert seen[-1] is JobStatus.SUCCEEDED
    record = nova.chain("tone").record("sft")
    assert record.finished_at - record.current.ended_at >= timedelta(seconds=100)


def test_a_manifest_that_comes_after_we_gave_up_is_found_by_the_next_run(cloud, nova, chats):
    cloud.script_fault("manifest-late", lasts=1000)
    with pytest.raises(CheckpointError, match="No manifest"):
        nova.chain("tone").run("sft", SFT, chats)
    assert nova.chain("tone").record("sft").status is StageStatus.SUBMITTED
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert len(jobs(nova)) == 1


def test_two_who_begin_a_stage_at_once_follow_one_job(cloud, nova, chats):
    other = somewhere_else(cloud)
    real = nova.backend.submit

    def overtaken(plan):
        nova.backend.submit = real
        other.chain("tone").start("sft", SFT, chats)
        return real(plan)

    nova.backend.submit = overtaken
    mine = nova.chain("tone").start("sft", SFT, chats)
    theirs = other.chain("tone").start("sft", SFT, chats)
    assert mine.job.ref == theirs.job.ref
    assert mine.result() == theirs.result()
    assert len(jobs(nova)) == 1


def test_a_chain_is_followed_without_its_script(cloud, nova, chats):
    claimed_only(nova, chats)
    chain = nova.chain("tone")
    chain.start("other", SFT.replace(name="other"), chats)
    records = {each.stage: each.status for each in somewhere_else(cloud).chain("tone").follow()}
    assert records == {"sft": StageStatus.CLAIMED, "other": StageStatus.FINISHED}
    with pytest.raises(ConfigurationError, match="has no stage nothing"):
        chain.follow("nothing")


@pytest.mark.parametrize("given", [{"retries": -1}, {"retries": True}, {"deadline": 0}, {"deadline": timedelta(-1)}])
def test_a_policy_that_cannot_be_is_refused(given):
    with pytest.raises(ConfigurationError):
        StagePolicy(**given)


def test_names_and_data_that_cannot_be_are_refused(nova, chats):
    with pytest.raises(ConfigurationError, match="not a stage's name"):
        nova.chain("tone").run("SFT stage", SFT, chats)
    with pytest.raises(ConfigurationError, match="not a chain's name"):
        nova.chain("Tone of voice")
    with pytest.raises(ConfigurationError, match="trained on a PreferenceDataset"):
        nova.chain("tone").run("dpo", DPO, chats)

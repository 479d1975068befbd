"""What every backend promises, held against each of them on the rehearsal cloud: one suite, two platforms."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sagemaker_support import needs_sdk

from nova_dpo_sdk import (
    DPORecipe,
    HyperPodOptions,
    JobStatus,
    LoRA,
    NovaClient,
    NovaModel,
    Platform,
    SFTRecipe,
    Technique,
)
from nova_dpo_sdk.backends import Backend, JobRef
from nova_dpo_sdk.errors import (
    AWSError,
    ClusterError,
    ConfigurationError,
    JobError,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    JobTimeoutError,
    PlanRejectedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.local import LocalCloud

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)
MANY = 4


@dataclass(frozen=True)
class Place:
    """One platform, and what the suite must know of it to reach it."""

    platform: Platform
    backend: Callable[[LocalCloud], Any]
    failing: Callable[[LocalCloud], Any]
    escrow: str

    def client(self, cloud: LocalCloud) -> NovaClient:
        return NovaClient(self.backend(cloud), output=cloud.output)


def no_capacity(cloud):
    cloud.training.capacity_error(times=99)
    return cloud.training_jobs()


HYPERPOD = Place(
    Platform.HYPERPOD,
    lambda cloud: cloud.hyperpod(),
    lambda cloud: cloud.hyperpod(options=HyperPodOptions(active_deadline_seconds=1)),
    "-hp-",
)
TRAINING_JOBS = Place(Platform.TRAINING_JOBS, lambda cloud: cloud.training_jobs(), no_capacity, "-smtj-")


@pytest.fixture(
    params=[pytest.param(HYPERPOD, id="hyperpod"), pytest.param(TRAINING_JOBS, id="training-jobs", marks=needs_sdk)]
)
def place(request):
    return request.param


@pytest.fixture
def nova(place, cloud):
    return place.client(cloud)


def creations(cloud):
    return [
        each.target
        for each in cloud.requests
        if each.operation == "CreateTrainingJob"
        or (each.operation == "create" and each.target.startswith("pytorchjob"))
    ]


# ------------------------------------------------------------------------------------------------ planning


def test_building_and_planning_ask_nobody(cloud, place, chats):
    before = len(cloud.requests)
    nova = place.client(cloud)
    backend: Backend = nova.backend
    plan = nova.plan(SFT, chats)
    assert (plan.ok, backend.platform) == (True, place.platform)
    assert str(plan)
    assert str(backend.ref(plan.name)) == plan.ref
    assert len(cloud.requests) == before


def test_the_same_run_has_the_same_name_and_the_next_attempt_another(cloud, place, chats, nova):
    plan = nova.plan(SFT, chats)
    assert place.client(cloud).plan(SFT, chats).name == plan.name
    assert plan.again().name != plan.name
    assert nova.plan(SFT.replace(max_epochs=1), chats).digest != plan.digest


def test_what_was_printed_is_what_is_kept(nova, chats):
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    sent = plan.resolved()
    kept = json.loads(nova.backend.aws.read(plan.folder.join("plan.json")).body)
    assert kept["objects"] == list(sent.objects)
    assert kept["ref"] == job.ref == plan.ref


def test_a_preflight_sends_no_job(nova, chats):
    found = nova.check(nova.plan(SFT, chats))
    assert found.ok, str(found)
    assert {"output bucket", "data set"} <= {each.question for each in found.checks}
    assert nova.backend.find_jobs() == []


# ------------------------------------------------------------------------------------------------ exactly once


def test_a_run_is_sent_once_however_often_it_is_submitted(cloud, place, nova, chats):
    plan = nova.plan(SFT, chats)
    first = nova.submit(plan)
    again = place.client(cloud)
    second = again.submit(again.plan(SFT, chats))
    assert (first.adopted, second.adopted, first.ref) == (False, True, second.ref)
    assert len(nova.backend.find_jobs()) == 1


def test_a_finished_run_is_adopted_with_its_checkpoint(nova, chats):
    plan = nova.plan(SFT, chats)
    made = nova.submit(plan).result()
    again = nova.submit(plan)
    assert again.adopted
    assert again.result() == made


def test_a_failed_run_names_the_next_attempt(cloud, place, chats):
    nova = NovaClient(place.failing(cloud), output=cloud.output)
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    snapshot = job.wait()
    assert snapshot.status is JobStatus.FAILED
    assert snapshot.reason
    assert snapshot.next_step
    with pytest.raises(JobFailedError, match=r"plan\.again\(\)"):
        nova.submit(plan)
    with pytest.raises(JobFailedError, match="has no checkpoint"):
        job.checkpoint()
    assert nova.submit(plan.again()).ref != job.ref


def test_a_rejected_plan_sends_nothing(cloud, nova, chats):
    before = len(cloud.requests)
    with pytest.raises(PlanRejectedError, match="replicas"):
        nova.submit(nova.plan(SFT.replace(replicas=3), chats))
    assert len(cloud.requests) == before


# ------------------------------------------------------------------------------------------------ following


def test_a_job_goes_on_until_it_has_succeeded_and_only_then_is_over(cloud, clock, place, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    seen = []
    for _ in range(200):
        snapshot = job.status()
        if not seen or seen[-1] is not snapshot.status:
            seen.append(snapshot.status)
        assert snapshot.observed_at.tzinfo is not None
        if snapshot.status.is_terminal:
            break
        clock.advance(0.5)
    assert seen[-1] is JobStatus.SUCCEEDED
    assert JobStatus.RUNNING in seen
    assert JobStatus.UNKNOWN not in seen
    assert not any(each.is_terminal for each in seen[:-1])
    checkpoint = job.checkpoint()
    assert place.escrow in checkpoint.uri
    assert (checkpoint.platform, checkpoint.job, checkpoint.model) == (place.platform, job.ref, NovaModel.LITE)
    assert place.client(cloud).job(job.ref).result() == checkpoint


def test_a_wait_has_an_end_and_the_job_runs_on(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobTimeoutError, match="runs on") as error:
        job.wait(timeout=2, interval=1)
    assert not error.value.snapshot.status.is_terminal
    with pytest.raises(JobNotFinishedError):
        job.checkpoint()
    assert job.wait().status is JobStatus.SUCCEEDED


def test_a_job_that_never_was_is_deleted_and_not_failed(nova):
    job = nova.job(str(nova.backend.ref("no-such-job")))
    assert job.status().status is JobStatus.DELETED
    job.cancel()


def test_cancel_may_be_called_at_any_time_and_leaves_no_success(clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    for _ in range(3):
        job.cancel()
        clock.advance(30)
    assert job.status().status in (JobStatus.STOPPED, JobStatus.DELETED)
    with pytest.raises(JobStoppedError):
        job.checkpoint()


def test_cancel_of_a_finished_job_takes_nothing_away(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    made = job.result()
    job.cancel()
    assert job.checkpoint() == made


def test_delete_is_for_what_is_over_and_leaves_the_checkpoint(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobNotFinishedError, match=r"job\.cancel\(\)"):
        job.delete()
    made = job.result()
    job.delete()
    job.delete()
    assert job.status().status is JobStatus.DELETED
    assert job.checkpoint() == made


def test_many_jobs_are_followed_to_their_ends(clock, nova, chats):
    jobs = [nova.submit(nova.plan(SFT.replace(name=f"run-{n}", replicas=4), chats, attempt=n + 1)) for n in range(MANY)]
    news = list(nova.watch(jobs, timeout=3600))
    assert [each.ref for each in news[:MANY]] == [job.ref for job in jobs] or {each.ref for each in news[:MANY]} == {
        job.ref for job in jobs
    }
    last = {each.ref: each.status for each in news}
    assert set(last.values()) == {JobStatus.SUCCEEDED}
    assert all(job.last.status is JobStatus.SUCCEEDED for job in jobs)
    clock.advance(1)
    assert len(list(nova.watch(jobs, timeout=60))) == MANY


def test_a_watch_has_an_end_too(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobTimeoutError, match="running on"):
        list(nova.watch([job], timeout=2, interval=1))


def test_jobs_are_found_by_name_technique_and_age_the_newest_first(clock, nova, chats, pairs):
    first = nova.submit(nova.plan(SFT, chats))
    clock.advance(60)
    second = nova.submit(nova.plan(DPO, pairs))
    assert [job.ref for job in nova.jobs()] == [second.ref, first.ref]
    assert [job.ref for job in nova.jobs(name="support-sft")] == [first.ref]
    assert [job.ref for job in nova.jobs(technique=Technique.DPO)] == [second.ref]
    assert [job.ref for job in nova.jobs(since=timedelta(seconds=30))] == [second.ref]
    assert all(job.last is not None for job in nova.jobs())


@pytest.mark.parametrize("name", ["Support_DPO", "support dpo", "7days", "x" * 100])
def test_a_job_is_found_by_its_recipe_s_name_even_where_that_was_made_legal(nova, pairs, name):
    job = nova.submit(nova.plan(DPO.replace(name=name), pairs))
    assert [each.ref for each in nova.jobs(name=name)] == [job.ref]
    with pytest.raises(ConfigurationError, match="1 to 256 characters"):
        nova.jobs(name="")


# ------------------------------------------------------------------------------------------------ logs


def test_logs_are_merged_by_time_and_have_their_metrics(clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobNotFinishedError, match="no log"):
        job.logs()
    job.wait()
    clock.advance(120)
    lines = list(job.logs())
    assert len({line.node for line in lines}) > 1
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert job.logs().source
    rows = job.metrics()
    assert rows
    assert rows[-1].loss < rows[0].loss


def test_a_followed_log_gives_every_line_once(clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    lines = list(job.logs(follow=True))
    clock.advance(120)
    assert len(lines) == len(set(lines))
    assert set(lines) == set(job.logs())


# ------------------------------------------------------------------------------------------------ places


def test_a_job_of_another_place_is_never_asked_for(cloud, nova, place):
    backend, before = nova.backend, len(cloud.requests)
    strange = {
        Platform.HYPERPOD: ["hyperpod://us-east-1/elsewhere/kubeflow/x", "training-jobs://us-east-1/x"],
        Platform.TRAINING_JOBS: ["training-jobs://us-west-2/x", "hyperpod://us-east-1/research/kubeflow/x"],
    }[place.platform]
    for text in strange:
        ref = JobRef.parse(text)
        for ask in (backend.snapshot, backend.cancel, backend.delete):
            with pytest.raises(ConfigurationError, match="does not live here"):
                ask(ref)
        with pytest.raises(ConfigurationError, match="does not live here"):
            nova.job(text)
    assert len(cloud.requests) == before


def test_a_bucket_of_another_region_stops_a_submit(cloud, place, chats):
    there = cloud.session().client("s3", region_name="us-west-2")
    there.create_bucket(Bucket="acme-west", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    nova = NovaClient(place.backend(cloud), output="s3://acme-west/runs")
    with pytest.raises((ConfigurationError, PlanRejectedError), match="us-west-2"):
        nova.submit(nova.plan(SFT, chats))
    assert nova.backend.find_jobs() == []


def test_errors_about_a_job_pickle_and_know_their_job(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobError) as error:
        job.checkpoint()
    copied = pickle.loads(pickle.dumps(error.value))  # noqa: S301 - our own bytes
    assert (copied.ref, copied.snapshot.status, str(copied)) == (job.ref, error.value.snapshot.status, str(error.value))


def test_nothing_shows_a_secret(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    keys = cloud.session().get_credentials()
    shown = " ".join([repr(nova), repr(nova.backend), repr(plan), str(plan), repr(job), job._repr_html_()])
    assert keys.secret_key not in shown
    assert keys.access_key not in shown


def test_a_broken_service_says_nothing_about_the_job(cloud, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    operation = "DescribeTrainingJob" if nova.backend.platform is Platform.TRAINING_JOBS else "list"
    for each in (operation, "get"):
        cloud.faults.answer(each, 500, code="InternalFailure", times=50)
    with pytest.raises((AWSError, ClusterError)):
        job.status()
    cloud.faults.clear()
    assert job.wait().status is JobStatus.SUCCEEDED


# ------------------------------------------------------------------------------------------------ chains


def test_sft_then_dpo_and_the_chain_remembers(nova, place, chats, pairs):
    chain = nova.chain("support-tone")
    taught = chain.run("sft", SFT, chats)
    plan = nova.plan(DPO.starting_from(taught), pairs)
    aligned = chain.run("dpo", DPO.starting_from(taught), pairs)
    assert plan.recipe.model_name_or_path == taught.uri
    assert (aligned.technique, aligned.platform) == (Technique.DPO, place.platform)
    jobs = len(nova.backend.find_jobs())
    assert nova.chain("support-tone").run("dpo", DPO.starting_from(taught), pairs) == aligned
    assert len(nova.backend.find_jobs()) == jobs == 2


@needs_sdk
@pytest.mark.parametrize(("begun", "other"), [(HYPERPOD, TRAINING_JOBS), (TRAINING_JOBS, HYPERPOD)])
def test_a_chain_does_not_cross_platforms_and_says_so_before_it_submits(cloud, begun, other, chats, pairs):
    here, there = begun.client(cloud), other.client(cloud)
    taught = here.chain("support-tone").run("sft", SFT, chats)
    before = len(creations(cloud))
    with pytest.raises(
        PlanRejectedError, match=f"trained on {begun.platform} and cannot be continued on {other.platform}"
    ):
        there.chain("elsewhere").run("dpo", DPO.starting_from(taught), pairs)
    with pytest.raises(ConfigurationError, match=str(begun.platform)):
        there.chain("support-tone").run("sft", SFT, chats)
    assert len(creations(cloud)) == before
    assert there.backend.find_jobs() == []

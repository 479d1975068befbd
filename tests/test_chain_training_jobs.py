"""Chains on SageMaker training jobs: what is tried again and what is not, and what a crash in between leaves behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import (
    CredentialRetrievalError,
    DataNotFoundError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from sagemaker_support import needs_sdk

from nova_dpo_sdk import DPORecipe, LoRA, NovaClient, NovaModel, Platform, SFTRecipe
from nova_dpo_sdk.chain import Outcome, StagePolicy, StageStatus
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    ConfigurationError,
    JobFailedError,
    JobStoppedError,
    PlanRejectedError,
    ServiceError,
)

pytestmark = needs_sdk

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)

INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
OWN_FAULTS = [
    "AlgorithmError: ExecuteUserScriptError: exit code: 1",
    "AlgorithmError: insufficient shared memory capacity for the data loader, exit code: 1",
    "ClientError: Data download failed: No S3 objects found under S3 URL",
    "ResourceLimitExceeded: the account-level service limit is 0 Instances",
    "",
]


@pytest.fixture
def nova(cloud):
    return NovaClient(cloud.training_jobs(), output=cloud.output)


def somewhere_else(cloud):
    return NovaClient(cloud.training_jobs(), output=cloud.output)


def created(cloud):
    return [each.target for each in cloud.requests if each.operation == "CreateTrainingJob"]


def attempts(nova, stage="sft"):
    return [(each.number, each.outcome, each.reason) for each in nova.chain("tone").record(stage).attempts]


def jobs_of(nova, stage="sft"):
    return [each.job for each in nova.chain("tone").record(stage).attempts]


def test_a_chain_of_training_jobs_goes_on_where_it_stood(cloud, nova, chats, pairs):
    def script(client):
        with client.chain("tone") as chain:
            taught = chain.run("sft", SFT, chats)
            return taught, chain.run("dpo", DPO.starting_from(taught), pairs)

    taught, aligned = script(nova)
    assert script(somewhere_else(cloud)) == (taught, aligned)
    assert created(cloud) == [*jobs_of(nova), *jobs_of(nova, "dpo")]
    assert nova.chain("tone").record("dpo").parent.uri == taught.uri


@pytest.mark.parametrize("fault", ["capacity", "internal"])
def test_a_fault_of_aws_is_tried_again_under_a_name_of_its_own(cloud, nova, chats, fault):
    reason = "CapacityError" if fault == "capacity" else "InternalServerError"
    if fault == "capacity":
        cloud.training.capacity_error()
    else:
        cloud.training.fail(INTERNAL)
    assert nova.chain("tone").run("sft", SFT, chats).uri
    assert attempts(nova) == [(1, Outcome.FAILED, reason), (2, Outcome.SUCCEEDED, "")]
    first, second = jobs_of(nova)
    assert first != second
    assert created(cloud) == [first, second]
    assert nova.chain("tone").record("sft").attempts[0].retryable


def test_the_budget_ends_and_a_larger_one_goes_on(cloud, nova, chats):
    cloud.training.capacity_error(times=3)
    with pytest.raises(JobFailedError, match=r"after 2 attempts.*CapacityError.*StagePolicy\(retries=2\)"):
        nova.chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=1))
    assert [outcome for _, outcome, _ in attempts(nova)] == [Outcome.FAILED] * 2
    with pytest.raises(JobFailedError, match=r"after 2 attempts"):
        somewhere_else(cloud).chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=1))
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=3)).uri
    assert [number for number, _, _ in attempts(nova)] == [1, 2, 3, 4]
    assert created(cloud) == jobs_of(nova)


@pytest.mark.parametrize("reason", OWN_FAULTS)
def test_a_fault_of_the_run_itself_is_never_tried_again(cloud, nova, chats, reason):
    cloud.training.script_fault("failure", reason=reason)
    for client in (nova, somewhere_else(cloud)):
        with pytest.raises(JobFailedError, match="Mend what that names"):
            client.chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=5))
    assert len(created(cloud)) == 1
    assert nova.chain("tone").record("sft").status is StageStatus.FAILED
    assert nova.chain("tone").run("sft", SFT.replace(max_epochs=1), chats).uri


def test_what_somebody_stopped_is_not_tried_again(cloud, nova, chats):
    cloud.training.script_fault("stopped")
    for client in (nova, somewhere_else(cloud)):
        with pytest.raises(JobStoppedError, match=r"chain\.reset\('sft'\)"):
            client.chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=5))
    assert len(created(cloud)) == 1
    nova.chain("tone").reset("sft")
    assert nova.chain("tone").run("sft", SFT, chats).uri
    assert created(cloud) == jobs_of(nova)


def test_a_job_that_found_no_capacity_while_nobody_looked_is_tried_again(cloud, clock, nova, chats):
    cloud.training.capacity_error()
    nova.chain("tone").start("sft", SFT, chats)
    clock.advance(3600)
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert [outcome for _, outcome, _ in attempts(nova)] == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert created(cloud) == jobs_of(nova)


class DiedError(Exception):
    """The process is gone."""


def dying(nova, number, *, created):
    """Let the so manieth submit be the last thing that the process does, before or after it is carried out."""
    real, calls = nova.backend.submit, []

    def submit(plan):
        calls.append(plan)
        if len(calls) < number:
            return real(plan)
        if created:
            real(plan)
        raise DiedError

    nova.backend.submit = submit


@pytest.mark.parametrize("made", [False, True])
def test_a_crash_around_the_first_create_makes_one_job(cloud, nova, chats, made):
    dying(nova, 1, created=made)
    with pytest.raises(DiedError):
        nova.chain("tone").run("sft", SFT, chats)
    assert nova.chain("tone").record("sft").status is StageStatus.CLAIMED
    assert len(created(cloud)) == made
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert len(created(cloud)) == 1
    assert attempts(nova) == [(1, Outcome.SUCCEEDED, "")]


@pytest.mark.parametrize("made", [False, True])
def test_a_crash_around_the_next_attempt_makes_one_more_job(cloud, nova, chats, made):
    cloud.training.capacity_error()
    dying(nova, 2, created=made)
    with pytest.raises(DiedError):
        nova.chain("tone").run("sft", SFT, chats)
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert attempts(nova) == [(1, Outcome.FAILED, "CapacityError"), (2, Outcome.SUCCEEDED, "")]
    assert created(cloud) == jobs_of(nova)


def test_a_create_that_found_no_capacity_before_it_was_recorded_is_tried_again(cloud, clock, nova, chats):
    cloud.training.capacity_error()
    dying(nova, 1, created=True)
    with pytest.raises(DiedError):
        nova.chain("tone").run("sft", SFT, chats)
    clock.advance(3600)  # the job has failed before anybody wrote down that it was made
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert [outcome for _, outcome, _ in attempts(nova)] == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert created(cloud) == jobs_of(nova)


def test_a_create_that_aws_refuses_leaves_a_record_that_anything_may_replace(cloud, nova, chats):
    cloud.faults.answer("CreateTrainingJob", 400, code="ResourceLimitExceeded")
    with pytest.raises(ServiceError, match="ResourceLimitExceeded"):
        nova.chain("tone").run("sft", SFT, chats, policy=StagePolicy(retries=5))
    record = nova.chain("tone").record("sft")
    assert (record.status, record.current.outcome) == (StageStatus.REFUSED, Outcome.REFUSED)
    assert nova.chain("tone").run("sft", SFT.replace(max_epochs=1), chats).uri


def test_a_job_that_is_there_is_not_asked_again_whether_it_may_be(cloud, nova, chats):
    dying(nova, 1, created=True)
    with pytest.raises(DiedError):
        nova.chain("tone").run("sft", SFT, chats)
    cloud.training.quotas["ml.p5.48xlarge"] = 0.0  # a plan would be turned down now, and the job runs
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert attempts(nova) == [(1, Outcome.SUCCEEDED, "")]
    assert len(created(cloud)) == 1


def test_a_refusal_of_a_create_that_was_heard_before_loses_no_job(cloud, nova, chats):
    cloud.faults.answer("CreateTrainingJob", 400, code="ResourceLimitExceeded", after=True)
    with pytest.raises(ServiceError, match="ResourceLimitExceeded"):
        nova.chain("tone").run("sft", SFT, chats)
    assert somewhere_else(cloud).chain("tone").run("sft", SFT, chats).uri
    assert attempts(nova) == [(1, Outcome.SUCCEEDED, "")]
    assert len(set(created(cloud))) == 1


def test_a_plan_that_is_turned_down_says_nothing_of_the_claim_it_was_to_replace(cloud, clock, nova, chats):
    dying(nova, 1, created=False)
    with pytest.raises(DiedError):
        nova.chain("tone").run("sft", SFT, chats)
    clock.advance(3600)
    cloud.training.quotas["ml.p5.48xlarge"] = 0.0
    with pytest.raises(PlanRejectedError, match="quota"):
        somewhere_else(cloud).chain("tone").run("sft", SFT.replace(max_epochs=1), chats)
    assert nova.chain("tone").record("sft").status is StageStatus.CLAIMED


def test_an_outage_of_aws_is_borne_for_a_quarter_of_an_hour(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    begun = clock.monotonic()
    outage = cloud.faults.answer("ListTrainingJobs", 503, code="ServiceUnavailable", times=40)
    assert stage.result().uri
    assert outage.times == 0
    cloud.faults.answer("ListTrainingJobs", 503, code="ServiceUnavailable", times=10_000)
    stage = nova.chain("tone").start("again", SFT.replace(max_epochs=1), chats)
    begun = clock.monotonic()
    with pytest.raises(ServiceError, match=r"ServiceUnavailable.* jobs of again, which run on: run the script again"):
        stage.result()
    assert 900 <= clock.monotonic() - begun < 1200
    cloud.faults.clear()
    assert somewhere_else(cloud).chain("tone").run("again", SFT.replace(max_epochs=1), chats).uri


def test_a_refused_look_ends_the_wait_at_once(cloud, clock, nova, chats):
    stage = nova.chain("tone").start("sft", SFT, chats)
    cloud.faults.answer("ListTrainingJobs", 400, code="ExpiredTokenException", times=10)
    begun = clock.monotonic()
    with pytest.raises(AccessDeniedError, match="expired"):
        stage.result()
    assert clock.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("met", "error", "says"),
    [
        (CredentialRetrievalError(provider="sso", error_msg="over"), AccessDeniedError, "sso did not give any"),
        (ParamValidationError(report="no such parameter"), ConfigurationError, "a value cannot be right"),
        (SSLError(endpoint_url="https://a", error="certificate verify failed"), ServiceError, "TLS certificate"),
        (DataNotFoundError(data_path="endpoints"), ServiceError, "DataNotFoundError"),
    ],
)
def test_what_no_waiting_mends_ends_the_wait_at_once(clock, nova, chats, met, error, says):
    stage = nova.chain("tone").start("sft", SFT, chats)

    def fail(**_):
        raise met

    nova.backend.aws.client("sagemaker").meta.events.register("before-send", fail)
    begun = clock.monotonic()
    with pytest.raises(error, match=says):
        stage.result()
    assert clock.monotonic() - begun < 60


@pytest.mark.parametrize(
    "met",
    [
        EndpointConnectionError(endpoint_url="https://a"),
        ReadTimeoutError(endpoint_url="https://a"),
        SSLError(endpoint_url="https://a", error="EOF occurred in violation of protocol"),
    ],
)
def test_a_broken_way_to_aws_is_waited_out(nova, chats, met):
    stage = nova.chain("tone").start("sft", SFT, chats)
    broken = iter(range(20))

    def fail(**_):
        if next(broken, None) is not None:
            raise met

    nova.backend.aws.client("sagemaker").meta.events.register("before-send", fail)
    assert stage.result().uri
    assert next(broken, None) is None


def test_a_create_whose_answer_is_lost_makes_one_job(cloud, nova, chats):
    cloud.faults.hang_up("CreateTrainingJob", after=True)
    assert nova.chain("tone").run("sft", SFT, chats).uri
    assert len(set(created(cloud))) == 1
    assert attempts(nova) == [(1, Outcome.SUCCEEDED, "")]


def test_a_reset_stops_the_job_and_begins_anew_under_another_name(cloud, nova, chats):
    chain = nova.chain("tone")
    stage = chain.start("sft", SFT, chats)
    chain.reset("sft", cancel=True)
    with pytest.raises(JobStoppedError, match="was reset while it was waited for"):
        stage.result()
    assert chain.run("sft", SFT, chats).uri
    assert [each.outcome for each in chain.record("sft").attempts] == [Outcome.RESET, Outcome.SUCCEEDED]
    assert created(cloud) == jobs_of(nova)


def test_a_deadline_stops_the_job(nova, chats):
    with pytest.raises(JobFailedError, match="DeadlineExceeded"):
        nova.chain("tone").run("sft", SFT, chats, policy=StagePolicy(deadline=20))
    assert nova.job(nova.chain("tone").record("sft").current.ref).wait().status == "stopped"
    assert nova.chain("tone").record("sft").current.outcome is Outcome.OVERDUE


def test_many_stages_are_followed_together_each_through_its_own_attempts(cloud, nova, chats, pairs):
    chain = nova.chain("tone")
    taught = chain.run("sft", SFT, chats)
    cloud.training.capacity_error()
    tries = [
        chain.start(f"dpo-{n}", DPO.replace(beta=beta).starting_from(taught), pairs)
        for n, beta in enumerate((0.05, 0.1, 0.2))
    ]
    assert len({each.uri for each in chain.gather(tries)}) == 3
    assert sorted(len(chain.record(f"dpo-{n}").attempts) for n in range(3)) == [1, 1, 2]


@pytest.mark.parametrize("taught_on", [Platform.HYPERPOD, Platform.TRAINING_JOBS])
def test_a_chain_cannot_cross_from_one_platform_to_the_other(cloud, chats, pairs, taught_on):
    there = NovaClient(cloud.hyperpod(), output=cloud.output)
    here = NovaClient(cloud.training_jobs(), output=cloud.output)
    first, second = (there, here) if taught_on is Platform.HYPERPOD else (here, there)
    taught = first.chain("tone").run("sft", SFT, chats)
    before = len(cloud.requests)
    with pytest.raises(PlanRejectedError, match=rf"was trained on {taught_on} and cannot be continued"):
        second.chain("tone").run("dpo", DPO.starting_from(taught), pairs)
    asked = {each.operation for each in cloud.requests[before:]}
    assert asked <= {"GetObject", "GetCallerIdentity", "DescribeCluster"}
    assert second.chain("tone").record("dpo") is None


def test_a_stage_begun_on_one_platform_is_refused_on_the_other(cloud, nova, chats):
    NovaClient(cloud.hyperpod(), output=cloud.output).chain("tone").run("sft", SFT, chats)
    with pytest.raises(ConfigurationError, match="place platform: hyperpod -> training-jobs"):
        nova.chain("tone").run("sft", SFT, chats)
    assert created(cloud) == []


def test_waiting_in_the_queue_costs_no_gpu_hours(nova, cloud, chats):
    cloud.training.script_fault("pending", lasts=36_000)
    chain = nova.chain("tone")
    chain.run("sft", SFT, chats)
    (record,) = chain.records()
    assert record.current.started_at - record.current.submitted_at >= timedelta(hours=10)
    assert "at most" not in chain.summary()

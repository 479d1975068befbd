"""Bad days of a training job on the rehearsal cloud, seen as its user sees them."""

from __future__ import annotations

import pytest

from nova_dpo_sdk import JobStatus, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.errors import CheckpointError, ConfigurationError, JobFailedError, JobStoppedError
from nova_dpo_sdk.local import TRAINING_FAULTS

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)


@pytest.fixture
def job(cloud, chats):
    """What a submit sends, without the SageMaker SDK: the plan's own objects."""

    def send(attempt=1):
        nova = NovaClient(cloud.training_jobs(), output=cloud.output)
        plan = nova.plan(SFT, chats, attempt=attempt)
        nova.backend.resolve()
        nova._upload(plan, None)
        nova._record(plan)
        upload, request = plan.objects
        nova.backend.aws.client("s3").put_object(**{**upload, "Body": upload["Body"].encode()})
        nova.backend.aws.client("sagemaker").create_training_job(**request)
        return nova.job(plan.ref)

    return send


def seen(job):
    statuses = []
    job.wait(on_update=lambda each: statuses.append(each.status), interval=0.2)
    return list(dict.fromkeys(statuses))


ENDS = {
    "capacity": (JobStatus.FAILED, "CapacityError"),
    "failure": (JobStatus.FAILED, "AlgorithmError"),
    "stopped": (JobStatus.STOPPED, ""),
    "max-runtime": (JobStatus.STOPPED, "MaxRuntimeExceeded"),
}
MEANWHILE = {
    "pending": JobStatus.QUEUED,
    "restarting": JobStatus.RESTARTING,
    "interrupted": JobStatus.RESTARTING,
    "strange-status": JobStatus.UNKNOWN,
}


@pytest.mark.parametrize(("fault", "end"), ENDS.items())
def test_what_a_job_ends_of(cloud, job, fault, end):
    planned = cloud.training.script_fault(fault)
    handle = job()
    snapshot = handle.wait()
    assert (snapshot.status, snapshot.reason) == end
    assert planned.times == 0
    assert ("attempt=" if fault == "max-runtime" else "plan.again()") in snapshot.next_step
    with pytest.raises((JobFailedError, JobStoppedError), match="no checkpoint"):
        handle.checkpoint()


@pytest.mark.parametrize(("fault", "status"), MEANWHILE.items())
def test_what_a_job_recovers_from_is_neither_failed_nor_over(cloud, job, fault, status):
    cloud.training.script_fault(fault, lasts=30)
    statuses = seen(job())
    assert status in statuses
    assert statuses[-1] is JobStatus.SUCCEEDED
    assert not any(each.is_terminal for each in statuses[:-1])


def test_a_stop_while_training_goes_through_stopping(cloud, job):
    cloud.training.script_fault("stopped")
    statuses = seen(job())
    assert statuses[-2:] == [JobStatus.STOPPING, JobStatus.STOPPED]


@pytest.mark.parametrize(
    ("fault", "says"), [("archive-missing", "No manifest"), ("archive-broken", "no manifest can be read")]
)
def test_a_success_without_a_manifest_is_said_and_never_made_up_for(cloud, job, fault, says):
    cloud.training.script_fault(fault)
    handle = job()
    assert handle.wait().status is JobStatus.SUCCEEDED
    with pytest.raises(CheckpointError, match=says):
        handle.checkpoint()


def test_a_failure_has_its_own_words_and_strikes_where_it_is_told(cloud, job):
    cloud.training.script_fault(
        "failure", reason="ClientError: no space left on device", at="Downloading", job="support-*"
    )
    handle = job()
    snapshot = handle.wait()
    assert (snapshot.reason, snapshot.message) == ("ClientError", "no space left on device")
    assert "volume_gb" in snapshot.next_step
    assert job(attempt=2).wait().status is JobStatus.SUCCEEDED


def test_a_fault_that_nobody_knows_is_refused(cloud):
    for given in ({"name": "earthquake"}, {"name": "failure", "at": "Nowhere"}):
        with pytest.raises(ConfigurationError, match="known are"):
            cloud.training.script_fault(**given)


def test_every_fault_is_tried_here():
    assert {*ENDS, *MEANWHILE, "archive-missing", "archive-broken"} == set(TRAINING_FAULTS)

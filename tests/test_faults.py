"""What a user sees of a job on each bad day: state, reason, next step; and what the operator alone would say."""

from __future__ import annotations

import pytest

from nova_dpo_sdk import DPORecipe, HyperPodOptions, JobStatus, LoRA, NovaClient, NovaModel
from nova_dpo_sdk.backends._resources import PODS
from nova_dpo_sdk.errors import AccessDeniedError, CheckpointError, ClusterError, ConfigurationError, JobFailedError
from nova_dpo_sdk.jobs import Patience
from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS, FakeClock, LocalCloud

SUCCEEDED = JobStatus.SUCCEEDED
DPO = DPORecipe(name="support-dpo", model=NovaModel.MICRO, replicas=2, tuning=LoRA(alpha=64), warmup_steps=1)


@pytest.fixture
def job(nova, pairs):
    """Submits a job and gives it back: faults are planned before."""

    def submit(recipe=DPO):
        return nova.submit(nova.plan(recipe, pairs), check=False)

    return submit


def naive(nova, job):
    """What tools that take the last condition for the status would say."""
    from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS

    conditions = nova.backend.api().get(PYTORCHJOBS, "kubeflow", job.name).get("status", {}).get("conditions") or []
    return conditions[-1]["type"] if conditions else None


def at(clock, job, seconds):
    clock.sleep(seconds)
    return job.status()


def statuses(news):
    return [(each.status, each.reason) for each in news]


def test_every_fault_is_said_in_one_line(cloud):
    for name in (*JOB_FAULTS, *API_FAULTS):
        cloud.script_fault(name)
    with pytest.raises(ConfigurationError, match=r"'rain'.*unschedulable.*watch-cut"):
        cloud.script_fault("rain")


def test_a_fault_meets_only_the_jobs_it_was_meant_for(cloud, clock, job):
    cloud.script_fault("image-pull", job="billing-*")
    assert at(clock, job(), 10).status is JobStatus.RUNNING


def test_an_unschedulable_job_is_not_merely_created(cloud, clock, nova, job):
    cloud.script_fault("unschedulable", job="support-*")
    mine = job()
    seen = at(clock, mine, 60)
    assert (seen.status, seen.reason) == (JobStatus.UNSCHEDULABLE, "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in seen.message
    assert "and 1 more" in seen.message
    assert "scale the instance group" in seen.next_step
    assert seen.since is not None
    assert (seen.observed_at - seen.since).total_seconds() > 50
    assert naive(nova, mine) == "Created"


def test_an_unschedulable_job_starts_when_there_is_room(cloud, clock, job):
    cloud.script_fault("unschedulable", lasts=60)
    mine = job()
    assert at(clock, mine, 30).status is JobStatus.UNSCHEDULABLE
    assert at(clock, mine, 120).status is JobStatus.SUCCEEDED


def test_a_queued_job_has_not_failed(cloud, clock, nova, job):
    cloud.script_fault("queued", lasts=3600)
    mine = job()
    seen = at(clock, mine, 1800)
    assert (seen.status, seen.reason) == (JobStatus.QUEUED, "Suspended")
    assert "insufficient unused quota for nvidia.com/gpu, 16 more needed" in seen.message
    assert "quota" in seen.next_step
    assert naive(nova, mine) == "Suspended"
    seen = at(clock, mine, 1805)
    assert seen.status in (JobStatus.STARTING, JobStatus.RUNNING)
    # It has waited for an hour, and is nevertheless not called stalled while its pods are made.
    assert at(clock, mine, 60).status is JobStatus.SUCCEEDED


def test_a_preempted_job_is_queued_again_and_says_that_it_ran(cloud, clock, nova, job):
    cloud.script_fault("preempted", after=5, lasts=60)
    mine = job()
    assert at(clock, mine, 5).status is JobStatus.RUNNING
    seen = at(clock, mine, 10)
    assert (seen.status, seen.reason) == (JobStatus.QUEUED, "Preempted")
    assert "it ran, and its queue holds it back: Preempted to accommodate a workload" in seen.message
    assert "queue_priority" in seen.next_step
    assert naive(nova, mine) == "Suspended"
    assert at(clock, mine, 120).status is JobStatus.SUCCEEDED


def test_an_image_that_cannot_be_pulled_is_named(cloud, clock, nova, job):
    cloud.script_fault("image-pull")
    mine = job()
    seen = at(clock, mine, 120)
    assert (seen.status, seen.reason) == (JobStatus.DEGRADED, "ImagePullBackOff")
    assert "nova-fine-tune-repo" in seen.message
    assert "Region and account" in seen.next_step
    assert naive(nova, mine) == "Created"


def test_an_image_that_can_be_pulled_later_is_forgiven(cloud, clock, job):
    cloud.script_fault("image-pull", lasts=60)
    mine = job()
    assert at(clock, mine, 30).status is JobStatus.DEGRADED
    assert at(clock, mine, 120).status is JobStatus.SUCCEEDED


def test_an_init_crash_is_told_with_its_last_words(cloud, clock, nova, job):
    cloud.script_fault("init-crash", message="no access to s3://acme-nova/runs")
    mine = job()
    seen = at(clock, mine, 120)
    assert (seen.status, seen.reason) == (JobStatus.DEGRADED, "CrashLoopBackOff")
    assert "no access to s3://acme-nova/runs" in seen.message
    assert "init container" in seen.next_step
    assert seen.restarts > 2
    assert seen.replicas[0].reason == "Init:CrashLoopBackOff"
    assert naive(nova, mine) == "Created"


def test_a_crash_loop_is_not_running(cloud, clock, nova, job):
    cloud.script_fault("crash-loop", message="CUDA out of memory")
    mine = job()
    seen = at(clock, mine, 60)
    assert (seen.status, seen.reason) == (JobStatus.DEGRADED, "CrashLoopBackOff")
    assert "exit code 1: CUDA out of memory" in seen.message
    assert "plan.again()" in seen.next_step
    assert seen.restarts > 2
    assert naive(nova, mine) == "Running"
    with pytest.raises(JobFailedError, match=r"does not get on: degraded.*CUDA out of memory"):
        mine.wait()


def test_a_crash_that_mends_itself_ends_well_and_is_remembered(cloud, job):
    cloud.script_fault("crash-loop", times=2, message="NCCL timeout")
    mine = job()
    news = list(mine.events(interval=1.0))
    assert news[-1].status is JobStatus.SUCCEEDED
    assert (JobStatus.RESTARTING, "Error") in statuses(news)
    recovered = [each for each in news if each.status is JobStatus.RUNNING and each.restarts]
    assert "was restarted" in recovered[-1].message
    assert "NCCL timeout" in recovered[-1].message


def test_a_lost_node_is_told_and_after_ten_minutes_called_stalled(cloud, clock, nova, job):
    cloud.script_fault("node-loss", after=5)
    mine = job()
    seen = at(clock, mine, 15)
    assert (seen.status, seen.reason) == (JobStatus.RESTARTING, "NodeLost")
    assert "support-dpo" in seen.message
    assert "does not answer" in seen.message
    assert "replaced" in seen.next_step
    seen = at(clock, mine, 900)
    assert (seen.status, seen.reason) == (JobStatus.STALLED, "NodeLost")
    assert "replace the node" in seen.next_step
    assert naive(nova, mine) == "Restarting"


def test_a_lost_node_that_is_replaced_costs_only_time(cloud, clock, job):
    cloud.script_fault("node-loss", after=5, lasts=60)
    mine = job()
    assert at(clock, mine, 20).reason == "NodeLost"
    assert at(clock, mine, 200).status is JobStatus.SUCCEEDED


def test_a_silent_operator_is_named(cloud, clock, nova, job):
    cloud.script_fault("operator-silent")
    mine = job()
    assert at(clock, mine, 30).status is JobStatus.PENDING
    seen = at(clock, mine, 300)
    assert (seen.status, seen.reason) == (JobStatus.STALLED, "OperatorSilent")
    assert "operator" in seen.next_step
    assert naive(nova, mine) is None


def test_an_operator_that_wakes_is_forgiven(cloud, clock, job):
    cloud.script_fault("operator-silent", lasts=300)
    mine = job()
    assert at(clock, mine, 200).status is JobStatus.STALLED
    assert at(clock, mine, 300).status is JobStatus.SUCCEEDED


def test_an_operator_that_falls_silent_at_the_end_does_not_hide_it(cloud, clock, job):
    mine = job()
    assert at(clock, mine, 15).status is JobStatus.RUNNING
    cloud.script_fault("operator-silent")
    seen = at(clock, mine, 300)
    assert (seen.status, seen.reason) == (JobStatus.STALLED, "OperatorSilent")
    assert "ended well" in seen.message
    assert "manifest may be there" in seen.next_step


def test_a_late_manifest_is_waited_for(cloud, job):
    cloud.script_fault("manifest-late", lasts=120)
    assert job().result().uri.startswith("s3://customer-escrow-")


def test_a_missing_manifest_is_said_with_the_places_looked_at(cloud, job):
    cloud.script_fault("manifest-missing")
    with pytest.raises(CheckpointError, match=r"No manifest of support-dpo.*manifest.json") as error:
        job().result()
    assert error.value.ref


def test_a_relative_manifest_is_joined_to_the_escrow_location(cloud, job):
    cloud.script_fault("manifest-relative")
    mine = job()
    assert mine.result().uri == f"s3://{cloud.cluster.escrow}/{mine.name}/outputs/checkpoints"


def test_a_broken_manifest_is_not_guessed_at(cloud, job):
    cloud.script_fault("manifest-broken")
    with pytest.raises(CheckpointError, match=r"is not JSON.*show the manifest to AWS support"):
        job().result()


def test_a_manifest_of_another_key_is_read(cloud, job):
    cloud.script_fault("manifest-other-key")
    assert job().result().uri.endswith("/outputs/checkpoints")


@pytest.mark.parametrize("name", ["throttled", "server-error", "connection-reset", "answer-lost", "token-expired"])
def test_a_bad_day_of_the_api_does_not_reach_the_user(cloud, clock, job, name):
    mine = job()
    clock.sleep(10)
    cloud.script_fault(name, times=3)
    assert mine.status().status is JobStatus.RUNNING


@pytest.mark.parametrize("name", ["throttled", "server-error", "connection-reset", "answer-lost", "token-expired"])
def test_a_bad_day_of_the_api_creates_no_second_job(cloud, nova, job, name):
    job().cancel()
    cloud.script_fault(name, times=2)
    first = job(DPO.model_copy(update={"name": "other"}))
    assert [each.name for each in nova.jobs()] == [first.name]


def test_an_api_that_stays_down_is_an_error_and_says_nothing_about_the_job(cloud, job):
    mine = job()
    cloud.script_fault("server-error", times=50)
    with pytest.raises(ClusterError) as error:
        mine.status()
    assert error.value.status == 500


def test_a_slow_answer_is_given_up_and_asked_for_again(cloud, job):
    mine = job()
    api = cloud.hyperpod().api()
    api._transport._read_timeout = 0.1
    cloud.script_fault("slow", lasts=0.5)
    from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS

    assert api.get(PYTORCHJOBS, "kubeflow", mine.name)["metadata"]["name"] == mine.name


@pytest.mark.parametrize("role", ["namespaced", "scientist"])
def test_a_crash_loop_is_seen_without_the_right_to_list_pods(clock, pairs, role):
    with LocalCloud(clock=clock, role=role) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        cloud.script_fault("crash-loop")
        mine = nova.submit(nova.plan(DPO, pairs), check=False)
        assert at(clock, mine, 60).reason == "CrashLoopBackOff"


def test_a_snapshot_shows_its_replicas_as_a_table(cloud, clock, job):
    cloud.script_fault("crash-loop", message="<b>bad & ugly</b>")
    mine = job()
    seen = at(clock, mine, 60)
    lines = str(seen).splitlines()
    assert max(map(len, lines)) <= 80
    labels = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert labels == ["status", "since", "why", "next", "replica", "master-0", "worker-0"]
    assert lines[-3].split() == ["replica", "phase", "restarts", "node", "why"]
    assert "CrashLoopBackOff" in lines[-1]
    assert "last='degraded'" in repr(mine)
    page = mine._repr_html_()
    assert "<b>bad" not in page
    assert "&lt;b&gt;bad &amp; ugly" in seen._repr_html_()
    assert page.count("<tr>") == 8
    assert page.count("<td ") == page.count("<td style='text-align:left")


def test_the_fake_clock_is_what_a_fault_lasts_on():
    clock = FakeClock()
    with LocalCloud(clock=clock) as cloud:
        cloud.script_fault("queued", lasts=10)
        assert cloud.trainer.faults.active("queued", "any", clock.now())
        clock.sleep(11)
        assert not cloud.trainer.faults.active("queued", "any", clock.now())


def test_the_restart_budget_is_one_replica_s_whatever_their_number(cloud, job):
    cloud.script_fault("crash-recovers", times=3, job="wide-*")
    wide = DPO.replace(name="wide", replicas=8)
    news = []
    assert job(wide).wait(on_update=news.append, interval=5, patience=Patience(restarts=4)).status is SUCCEEDED
    assert max(each.restarts for each in news) == 24
    cloud.script_fault("crash-loop", job="support-*")
    with pytest.raises(JobFailedError, match="does not get on"):
        job(DPO).wait(interval=5, patience=Patience(restarts=4))


@pytest.mark.parametrize(
    ("fault", "patience"), [("image-pull", {"degraded": 120}), ("operator-silent", {"stalled": 300})]
)
def test_a_trouble_is_borne_for_its_grace_and_no_longer(cloud, clock, job, fault, patience):
    cloud.script_fault(fault)
    mine = job()
    begun = clock.monotonic()
    with pytest.raises(JobFailedError, match=r"still on the cluster and holds its nodes: job.cancel\(\)") as error:
        mine.wait(interval=5, patience=Patience(**patience))
    grace = next(iter(patience.values()))
    assert grace <= clock.monotonic() - begun < grace + 180
    assert error.value.snapshot.next_step


def leave_alone(cloud, clock, nova, job, *pods):
    """The operator dies while a job runs, and then these pods of it go."""
    while job.status().status is not JobStatus.RUNNING:
        clock.sleep(1)
    cloud.script_fault("operator-silent")
    for each in pods:
        nova.backend.api().delete(PODS, "kubeflow", f"{job.name}-{each}")


@pytest.mark.parametrize("pods", [("worker-0",), ("master-0", "worker-0")])
def test_a_job_whose_pods_are_not_made_anew_is_given_up(cloud, clock, nova, job, pods):
    mine = job()
    leave_alone(cloud, clock, nova, mine, *pods)
    begun = clock.monotonic()
    with pytest.raises(JobFailedError, match=r"does not get on: restarting \(NoPods: .*frees them") as error:
        mine.wait()
    assert 1800 <= clock.monotonic() - begun < 2400
    assert all(f"{mine.name}-{each}" in str(error.value) for each in pods if len(pods) == 1)


def test_a_chain_gives_up_a_job_whose_pods_are_not_made_anew(cloud, clock, nova, pairs):
    stage = nova.chain("tone").start("dpo", DPO, pairs)
    leave_alone(cloud, clock, nova, stage.job, "worker-0")
    begun = clock.monotonic()
    with pytest.raises(JobFailedError, match=r"worker-0 not there.*job.cancel\(\) frees them"):
        stage.result()
    assert 1800 <= clock.monotonic() - begun < 2400


def test_what_is_under_a_closed_kms_key_is_not_waited_for_and_names_the_action(cloud, clock, job):
    cloud.script_fault("output-kms-denied")
    mine = job()
    begun = clock.monotonic()
    with pytest.raises(AccessDeniedError, match=r"manifest.json.*have kms:Decrypt.*nothing is lost"):
        mine.result()
    assert clock.monotonic() - begun < 120
    assert mine.status().status is JobStatus.SUCCEEDED


def test_log_lines_that_arrive_late_are_told_once_and_all(cloud, job):
    good = job(DPO.replace(name="good"))
    cloud.script_fault("logs-late", job="support-*", lasts=45)
    late = job(DPO)
    lines = {mine.name: [line.text for line in mine.logs(follow=True)] for mine in (good, late)}
    assert len(lines[good.name]) == len(lines[late.name]) > 20


def test_a_pipeline_meets_the_same_random_day_again_by_its_seed(cloud, job):
    drawn = cloud.script_random_faults(7, job="support-*", count=4)
    assert len(drawn) == 4
    assert all(line.startswith("script_fault('") and "job='support-*'" in line for line in drawn)
    assert job().result(patience=Patience(restarts=50)).uri


@pytest.mark.parametrize(
    ("options", "reason", "after"),
    [
        (HyperPodOptions(backoff_limit=3), "BackoffLimitExceeded", 300),
        (HyperPodOptions(active_deadline_seconds=100), "DeadlineExceeded", 130),
    ],
)
def test_a_limit_of_the_job_ends_a_crash_loop_for_good_and_is_named(cloud, clock, pairs, options, reason, after):
    nova = NovaClient(cloud.hyperpod(options=options), output=cloud.output)
    cloud.script_fault("crash-loop", message="bad data")
    mine = nova.submit(nova.plan(DPO, pairs), check=False)
    seen = at(clock, mine, after)
    assert (seen.status, seen.reason) == (JobStatus.FAILED, reason)
    assert "Last words" in seen.message
    assert "HyperPodOptions(" in seen.next_step
    assert mine.wait().status is JobStatus.FAILED
    with pytest.raises(JobFailedError, match=r"plan\.again\(\)"):
        nova.submit(nova.plan(DPO, pairs))

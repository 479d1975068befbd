"""What becomes of runs on HyperPod: where their checkpoints lie, and what submitting them again does."""

from __future__ import annotations

import json
import sys

import pytest

from nova_dpo_sdk import ChatDataset, HyperPodOptions, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.backends import JobRef
from nova_dpo_sdk.backends._differences import differences
from nova_dpo_sdk.backends._resources import CONFIGMAPS
from nova_dpo_sdk.errors import CheckpointError, ClusterError, PlanRejectedError
from nova_dpo_sdk.local import InstanceGroup, LocalCloud

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)


class OwnEscrow(InstanceGroup):
    """A group that keeps its checkpoints in a bucket of its own."""

    def described(self, account, escrow):
        return super().described(account, f"{escrow}-{self.name}")


@pytest.fixture
def p4d_job(clock, chats):
    """A finished job of a p4d group, and a client of the p5 group that has an escrow bucket of its own."""
    groups = [OwnEscrow("five", "ml.p5.48xlarge", 8), OwnEscrow("four", "ml.p4d.24xlarge", 8)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        cloud.script_fault("manifest-relative")
        mine = NovaClient(cloud.hyperpod(instance_type="ml.p4d.24xlarge"), output=cloud.output)
        job = mine.submit(mine.plan(SFT, chats))
        assert "-four/" in job.result().uri
        yield NovaClient(cloud.hyperpod(), output=cloud.output), job


def test_a_relative_checkpoint_is_where_its_job_ran_whoever_asks(p4d_job):
    other, job = p4d_job
    assert other.job(job.ref).checkpoint() == job.checkpoint()
    job.delete()
    assert other.job(job.ref).checkpoint().uri.endswith(f"-four/{job.name}/outputs/checkpoints")


def test_without_a_record_the_job_tells_where_it_ran_and_nobody_guesses(p4d_job):
    other, job = p4d_job
    ref, uri = JobRef.parse(job.ref), job.checkpoint().uri
    place = other.output.join("plans", job.name, "plan.json")
    other.backend.aws.write(place, b'{"target": null}', content_type="application/json")
    assert other.backend.checkpoint_uri(ref, other.output, None) == uri
    job.delete()
    with pytest.raises(CheckpointError, match=r"-five.*-four.*use a client with that output"):
        other.backend.checkpoint_uri(ref, other.output, None)


def test_without_a_record_who_may_not_look_at_jobs_finds_the_only_place(cloud, nova, chats):
    cloud.script_fault("manifest-relative")
    job = nova.submit(nova.plan(SFT, chats))
    uri = job.result().uri
    nova.backend.aws.write(
        nova.output.join("plans", job.name, "plan.json"), b'{"target": null}', content_type="application/json"
    )
    cloud.faults.answer("*", 403, code="Forbidden", service="kubernetes", times=100)
    other = NovaClient(cloud.hyperpod(), output=cloud.output)
    assert other.backend.checkpoint_uri(JobRef.parse(job.ref), other.output, None) == uri


def test_a_finished_run_is_found_again_when_its_group_was_scaled_down(cloud, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    taught = job.result()
    job.delete()
    for group in cloud.cluster.groups:
        group.count = 0
    again = nova.submit(nova.plan(SFT, chats))
    assert again.adopted
    assert again.result() == taught
    with pytest.raises(PlanRejectedError, match="instance-group-too-small"):
        nova.submit(nova.plan(SFT.replace(name="another"), chats))


def test_what_the_preflight_met_is_told_not_that_nothing_was_found(cloud, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    job.result()
    job.delete()
    cloud.faults.answer("HeadObject", 403, code="AccessDenied", target="*manifest.json", times=10)
    for group in cloud.cluster.groups:
        group.count = 0
    with pytest.raises(PlanRejectedError, match="instance-group-too-small"):
        nova.submit(nova.plan(SFT, chats))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file's name is a text")
def test_data_whose_name_is_no_text_are_trained_on(nova, chats, tmp_path):
    odd = tmp_path / "a\udcffb.jsonl"
    odd.write_bytes(chats.path.read_bytes())
    job = nova.submit(nova.plan(SFT, ChatDataset.from_jsonl(odd)))
    assert job.result().uri
    assert "a\ufffdb.jsonl" in nova.backend.aws.read(nova.output.join("plans", job.name, "plan.json")).body.decode()


@pytest.fixture
def orphan(cloud, nova, chats):
    """The ConfigMap of a run whose job could not be created."""
    cloud.faults.answer("create", 503, code="ServiceUnavailable", target="pytorchjobs/*", times=50)
    plan = nova.plan(SFT, chats)
    with pytest.raises(ClusterError):
        nova.submit(plan, check=False)
    cloud.faults.clear()
    return nova.backend.api().get(CONFIGMAPS, "kubeflow", f"training-config-{plan.name}")


def renamed(chats, tmp_path):
    """The same data under another name: the same run, which reads another path."""
    other = tmp_path / "renamed.jsonl"
    other.write_bytes(chats.path.read_bytes())
    return ChatDataset.from_jsonl(other)


def test_a_recipe_that_was_left_without_a_job_is_written_anew(nova, chats, orphan, tmp_path):
    job = nova.submit(nova.plan(SFT, renamed(chats, tmp_path)))
    held = nova.backend.api().get(CONFIGMAPS, "kubeflow", orphan["metadata"]["name"])
    assert "renamed.jsonl" in held["data"]["config.yaml"]
    assert [each["name"] for each in held["metadata"]["ownerReferences"]] == [job.name]
    assert job.result().uri


def test_a_recipe_of_another_run_is_not_written_over(nova, chats, orphan, tmp_path):
    orphan["metadata"]["labels"] = {}
    nova.backend.api().update(CONFIGMAPS, "kubeflow", orphan["metadata"]["name"], orphan)
    with pytest.raises(ClusterError, match="not ours to overwrite"):
        nova.submit(nova.plan(SFT, renamed(chats, tmp_path)))


def test_an_adopted_job_says_which_options_of_the_plan_it_does_not_have(cloud, nova, chats, caplog):
    plain = nova.submit(nova.plan(SFT, chats))
    options = HyperPodOptions(active_deadline_seconds=3600, labels={"team": "nlp"})
    other = NovaClient(cloud.hyperpod(options=options), output=cloud.output)
    again = other.submit(other.plan(SFT, chats))
    assert again.adopted
    assert again.differs == (
        "metadata.labels.team: (none) -> nlp",
        "spec.runPolicy.activeDeadlineSeconds: (none) -> 3600",
    )
    assert f"{plain.name} was there already and keeps what it was sent with" in caplog.text
    assert "activeDeadlineSeconds: (none) -> 3600" in caplog.text
    caplog.clear()
    assert nova.submit(nova.plan(SFT, chats)).differs == ()
    assert not caplog.text


def test_the_record_of_a_job_that_is_made_anew_holds_what_was_sent(cloud, nova, chats):
    nova.submit(nova.plan(SFT, chats)).cancel()
    other = NovaClient(cloud.hyperpod(options=HyperPodOptions(backoff_limit=3)), output=cloud.output)
    plan = other.plan(SFT, chats)
    job = other.submit(plan)
    assert not job.adopted
    record = json.loads(nova.backend.aws.read(plan.folder.join("plan.json")).body)
    assert record["objects"][1]["spec"]["runPolicy"] == {"backoffLimit": 3}
    again = nova.submit(nova.plan(SFT, chats))
    assert again.differs == ("spec.runPolicy.backoffLimit: 3 -> (none)",)


def test_what_may_be_secret_is_not_told():
    then = {"Environment": {"KEY": "old"}, "Tags": [{"Key": "a"}, {"Key": "b"}]}
    now = {"Environment": {"KEY": "new"}, "Tags": [{"Key": "a"}, {"Key": "x" * 100}]}
    assert differences(then, now) == ("Environment.KEY differs", f"Tags[1].Key: b -> {'x' * 80}...")

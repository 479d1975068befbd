"""The whole way over real sockets: client, backend, Kubernetes API and S3 of the rehearsal cloud."""

from __future__ import annotations

import json
import pickle

import pytest
import yaml

from nova_dpo_sdk import (
    ChatDataset,
    DPORecipe,
    FullRank,
    HyperPodOptions,
    JobStatus,
    LoRA,
    NovaClient,
    NovaModel,
    Patience,
    SFTRecipe,
)
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PODS, PYTORCHJOBS
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    CheckpointError,
    ClusterError,
    ConfigurationError,
    DatasetError,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    JobTimeoutError,
    NotFoundError,
    PlanRejectedError,
    RecipeError,
)
from nova_dpo_sdk.local import LocalCloud

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)


def jobs(nova):
    return [each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow")]


def config_maps(nova):
    return [each["metadata"]["name"] for each in nova.backend.api().list(CONFIGMAPS, "kubeflow")]


def body(nova, *parts):
    return nova.backend.aws.read(nova.output.join(*parts)).body


def test_sft_then_dpo_ends_with_a_checkpoint_that_started_from_the_first(nova, chats, pairs):
    taught = nova.submit(nova.plan(SFT, chats)).result()
    plan = nova.plan(DPO.starting_from(taught), pairs)
    aligned = nova.submit(plan).result()
    assert aligned.uri.startswith("s3://customer-escrow-")
    assert plan.name in aligned.uri
    sent = yaml.safe_load(body(nova, "plans", plan.name, "recipe.yaml"))
    assert sent["run"]["model_name_or_path"] == taught.uri
    assert (aligned.model, aligned.tuning.value, aligned.technique.value) == (NovaModel.LITE, "lora", "DPO")


def test_what_was_printed_is_what_was_sent(nova, chats):
    nova.backend.resolve()
    plan = nova.plan(SFT, chats)
    assert plan.unresolved == {}
    nova.submit(plan)
    api = nova.backend.api()
    config_map, job = plan.objects
    held = api.get(CONFIGMAPS, "kubeflow", config_map["metadata"]["name"])
    assert held["data"] == config_map["data"]
    assert api.get(PYTORCHJOBS, "kubeflow", plan.name)["spec"] == job["spec"]
    assert json.loads(body(nova, "plans", plan.name, "plan.json")) == plan.to_dict()
    assert body(nova, "plans", plan.name, "recipe.yaml").decode() == plan.recipe.to_yaml()
    assert body(nova, "datasets", plan.uploads[0].sha256, "chats.jsonl") == chats.path.read_bytes()


@pytest.mark.parametrize("asked", [False, True], ids=["nobody knew the account", "one knew it"])
def test_a_plan_is_sent_by_another_client_of_its_place_with_what_that_one_knows(cloud, chats, asked):
    planner, sender = (NovaClient(cloud.hyperpod(account=None), output=cloud.output) for _ in range(2))
    if asked:
        planner.backend.resolve()
    plan = planner.plan(SFT, chats)
    assert bool(plan.unresolved) is not asked
    assert sender.check(plan).ok
    job = sender.submit(plan)
    assert job.result().uri.startswith("s3://customer-escrow-")
    held = sender.backend.api().get(PYTORCHJOBS, "kubeflow", plan.name)
    assert "<account>" not in json.dumps(held)
    assert "<account>" not in body(sender, "plans", plan.name, "plan.json").decode()


def test_the_own_account_may_stand_in_what_the_caller_wrote(cloud, chats):
    options = HyperPodOptions(
        image=f"{cloud.account}.dkr.ecr.us-east-1.amazonaws.com/mine:1",
        annotations={"owner": f"arn:aws:iam::{cloud.account}:role/tuning"},
    )
    planner, sender = (NovaClient(cloud.hyperpod(account=None, options=options), output=cloud.output) for _ in range(2))
    plan = planner.plan(SFT, chats)
    assert plan.unresolved
    sender.submit(plan)
    assert jobs(sender) == [plan.name]


@pytest.mark.parametrize("act", ["check", "submit", "prepare"])
def test_a_plan_is_not_sent_by_a_client_that_would_send_something_else(cloud, nova, chats, act):
    longer = NovaClient(cloud.hyperpod(options=HyperPodOptions(backoff_limit=9)), output=cloud.output)
    again = nova.plan(SFT, chats).again()
    with pytest.raises(ConfigurationError, match=r"was planned with other options .* with attempt=3"):
        getattr(longer, act)(again)
    assert jobs(nova) == []
    assert restarts_of(longer, longer.plan(SFT, chats, attempt=2)) == 9


def restarts_of(nova, plan):
    """The restarts that the job of a plan is allowed, once it was sent."""
    nova.submit(plan)
    return nova.backend.api().get(PYTORCHJOBS, "kubeflow", plan.name)["spec"]["runPolicy"]["backoffLimit"]


def test_a_plan_makes_no_request(cloud, nova, chats):
    before = len(cloud.requests)
    str(nova.plan(SFT, chats))
    assert len(cloud.requests) == before


def test_a_second_submit_adopts_the_first_job(nova, chats):
    plan = nova.plan(SFT, chats)
    first, second = nova.submit(plan), nova.submit(nova.plan(SFT, chats))
    assert (first.adopted, second.adopted) == (False, True)
    assert first.ref == second.ref
    assert jobs(nova) == [plan.name]
    first.wait()
    assert nova.submit(plan).adopted
    assert jobs(nova) == [plan.name]


def test_the_same_bytes_are_uploaded_once(cloud, nova, chats):
    nova.submit(nova.plan(SFT, chats))
    nova.submit(nova.plan(SFT.replace(name="other"), chats))
    puts = [r for r in cloud.requests if r.operation == "PutObject" and "/datasets/" in r.target]
    assert len(puts) == 1


def test_another_run_of_the_same_name_is_refused(nova, chats):
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    api = nova.backend.api()
    held = api.get(PYTORCHJOBS, "kubeflow", plan.name)
    held["metadata"]["labels"]["nova-dpo-sdk/digest"] = "another"
    api.update(PYTORCHJOBS, "kubeflow", plan.name, held)
    with pytest.raises(PlanRejectedError, match="is another run's"):
        nova.submit(plan)
    with pytest.raises(ClusterError, match="is another run"):
        nova.submit(plan, check=False)


def test_somebody_else_s_config_map_is_not_overwritten(nova, chats):
    plan = nova.plan(SFT, chats)
    name = plan.objects[0]["metadata"]["name"]
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"config.yaml": "theirs"}}
    nova.backend.api().create(CONFIGMAPS, "kubeflow", theirs)
    with pytest.raises(ClusterError, match="not ours to overwrite"):
        nova.submit(plan)
    assert jobs(nova) == []
    assert nova.backend.api().get(CONFIGMAPS, "kubeflow", name)["data"] == {"config.yaml": "theirs"}


def test_a_refused_job_leaves_no_config_map(cloud, nova, chats):
    cloud.faults.answer("create", 403, code="Forbidden", target="pytorchjobs/*")
    with pytest.raises(ClusterError) as error:
        nova.submit(nova.plan(SFT, chats), check=False)
    assert error.value.status == 403
    assert config_maps(nova) == []
    assert not nova.submit(nova.plan(SFT, chats)).adopted


def test_an_unclear_answer_keeps_what_may_be_needed(cloud, nova, chats):
    cloud.faults.hang_up("create", target="pytorchjobs/*", after=True)
    job = nova.submit(nova.plan(SFT, chats), check=False)
    assert job.adopted  # the first try had arrived; the second found it
    assert len(jobs(nova)) == 1
    assert job.wait().status is JobStatus.SUCCEEDED


def test_a_refusal_after_an_unclear_answer_does_not_take_the_recipe_from_its_job(cloud, nova, chats):
    cloud.faults.hang_up("create", target="pytorchjobs/*", after=True)
    cloud.faults.answer("create", 403, code="Forbidden", target="pytorchjobs/*", after=True)
    job = nova.submit(nova.plan(SFT, chats), check=False)
    assert (len(jobs(nova)), len(config_maps(nova))) == (1, 1)
    assert job.wait().status is JobStatus.SUCCEEDED


def owners(nova, plan):
    held = nova.backend.api().get(CONFIGMAPS, "kubeflow", f"training-config-{plan.name}")
    return [each["name"] for each in held["metadata"].get("ownerReferences", ())]


def test_the_recipe_goes_with_its_job_though_the_answer_was_lost(cloud, nova, chats, caplog):
    cloud.faults.hang_up("update", target="configmaps/*", after=True)
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    assert owners(nova, plan) == [plan.name]
    assert caplog.messages == []  # what has been done after all worries nobody


def test_a_recipe_that_does_not_go_with_its_job_is_told(cloud, nova, chats, caplog):
    cloud.faults.answer("update", 403, code="Forbidden", target="configmaps/*")
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    assert owners(nova, plan) == []
    (told,) = caplog.messages
    assert "keeps no owner reference" in told


def test_a_failed_run_is_not_adopted_and_names_the_next_attempt(cloud, chats):
    nova = NovaClient(cloud.hyperpod(options=HyperPodOptions(active_deadline_seconds=1)), output=cloud.output)
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    assert job.wait().status is JobStatus.FAILED
    with pytest.raises(JobFailedError, match=r"plan\.again\(\)") as error:
        nova.submit(plan)
    assert error.value.ref == job.ref
    assert error.value.snapshot.status is JobStatus.FAILED
    with pytest.raises(JobFailedError, match="has no checkpoint"):
        job.checkpoint()
    assert not nova.submit(plan.again()).adopted
    assert len(jobs(nova)) == 2


def test_a_crash_loop_ends_the_wait_with_the_container_s_own_words(nova, chats):
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    place = plan.uploads[0].uri
    nova.backend.aws.write(S3Uri.parse(place), b'{"messages": []}\n', content_type="application/json")
    seen = []
    with pytest.raises(JobFailedError, match="still on the cluster") as error:
        job.wait(on_update=lambda snapshot: seen.append(snapshot.status), patience=Patience(degraded=600))
    assert error.value.snapshot.status is JobStatus.DEGRADED
    assert error.value.snapshot.reason == "CrashLoopBackOff"
    assert "exit code" in error.value.snapshot.message
    assert JobStatus.DEGRADED in seen
    job.cancel()
    assert job.status().status is JobStatus.DELETED


def test_a_wait_has_an_end_and_the_job_runs_on(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobTimeoutError, match="runs on") as error:
        job.wait(timeout=5, interval=1)
    assert isinstance(error.value, TimeoutError)
    assert not error.value.snapshot.status.is_terminal
    with pytest.raises(JobNotFinishedError):
        job.checkpoint()
    assert job.wait().status is JobStatus.SUCCEEDED


def test_a_job_is_found_again_from_its_reference_alone(cloud, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    other = NovaClient(cloud.hyperpod(), output=cloud.output).job(job.ref)
    assert other.result().job == job.ref
    assert repr(other) == f"Job({job.ref!r}, last='succeeded')"
    with pytest.raises(ConfigurationError, match="does not live here"):
        nova.job(job.ref.replace("research", "elsewhere"))


def test_cancel_removes_both_objects_and_may_be_called_twice(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    job.cancel()
    job.cancel()
    assert (jobs(nova), config_maps(nova)) == ([], [])
    with pytest.raises(JobStoppedError, match="deleted before it finished"):
        job.checkpoint()


def test_a_checkpoint_outlives_its_job(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    before = job.result()
    job.delete()
    assert nova.job(job.ref).checkpoint() == before


def test_cancelling_a_finished_job_leaves_it_to_be_looked_at(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    job.cancel()
    assert job.status().status is JobStatus.SUCCEEDED


def test_a_job_that_runs_is_not_deleted_by_mistake(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobNotFinishedError, match=r"is not over.*job\.cancel\(\) stops and removes it"):
        job.delete()
    assert len(jobs(nova)) == 1


def test_delete_leaves_nothing_on_the_cluster_and_may_be_called_twice(clock, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    job.delete()
    job.delete()
    clock.advance(60)
    assert (jobs(nova), config_maps(nova)) == ([], [])
    assert nova.backend.api().list(PODS, "kubeflow") == []
    assert job.status().status is JobStatus.DELETED


def test_what_a_submit_left_behind_when_it_was_killed_is_cancelled_too(nova, chats):
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    nova.backend.api().delete(PYTORCHJOBS, "kubeflow", plan.name, propagation="Orphan")
    job.cancel()
    assert config_maps(nova) == []


def test_a_finished_run_that_was_cleaned_away_is_not_trained_again(nova, chats):
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    before = job.result()
    job.delete()
    again = nova.submit(plan)
    assert again.adopted
    assert again.result() == before
    assert jobs(nova) == []


def test_a_cancelled_run_may_be_submitted_again(nova, chats):
    plan = nova.plan(SFT, chats)
    nova.submit(plan).cancel()
    job = nova.submit(plan)
    assert not job.adopted
    assert job.result().uri


def test_the_config_map_goes_with_its_job(clock, nova, chats):
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    nova.backend.api().delete(PYTORCHJOBS, "kubeflow", plan.name)
    clock.advance(60)
    assert config_maps(nova) == []


@pytest.mark.parametrize(("role", "namespace"), [("namespaced", "kubeflow"), ("team", "hyperpod-ns-nlp")])
def test_the_roles_that_hyperpod_grants_suffice(clock, chats, role, namespace):
    with LocalCloud(clock=clock, namespaces=[namespace], role=role) as cloud:
        _submit_follow_and_cancel(NovaClient(cloud.hyperpod(), output=cloud.output), chats)


def _submit_follow_and_cancel(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    assert job.wait().status is JobStatus.SUCCEEDED
    assert nova.submit(nova.plan(SFT, chats)).adopted
    job.delete()
    assert job.status().status is JobStatus.DELETED


MANIFEST = "s3://customer-escrow-123456789012-hp-x/job/outputs/checkpoints"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (json.dumps({"checkpoint_s3_bucket": MANIFEST}), MANIFEST),
        (json.dumps({"checkpoint_s3_path": MANIFEST + "/"}), MANIFEST),
        (json.dumps({"checkpoint_s3_uri": MANIFEST, "more": 1}), MANIFEST),
        (json.dumps({"checkpoint_s3_bucket": "", "checkpoint_s3_path": MANIFEST}), MANIFEST),
    ],
)
def test_every_key_of_a_manifest_is_read(nova, chats, text, uri):
    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    nova.backend.aws.write(nova.output.join(job.name, "manifest.json"), text.encode(), content_type="application/json")
    assert job.checkpoint().uri == uri


def test_a_relative_manifest_is_joined_to_the_escrow_location(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    text = json.dumps({"checkpoint_s3_bucket": "x/outputs/checkpoints"})
    nova.backend.aws.write(nova.output.join(job.name, "manifest.json"), text.encode(), content_type="application/json")
    uri = job.checkpoint().uri
    assert uri.startswith("s3://customer-escrow-")
    assert uri.endswith("/x/outputs/checkpoints")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "names no checkpoint"),
        (b'{"checkpoint_s3_bucket": 3}', "names no checkpoint"),
    ],
)
def test_a_manifest_that_says_nothing_is_never_made_up_for(nova, chats, text, says):
    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    nova.backend.aws.write(nova.output.join(job.name, "manifest.json"), text, content_type="application/json")
    with pytest.raises(CheckpointError, match=says):
        job.checkpoint()


def test_other_places_of_the_manifest_are_looked_at(nova, chats):
    import io
    import tarfile

    job = nova.submit(nova.plan(SFT, chats))
    job.wait()
    aws = nova.backend.aws
    text = json.dumps({"checkpoint_s3_bucket": MANIFEST}).encode()
    aws.client("s3").delete_object(Bucket=nova.output.bucket, Key=nova.output.join(job.name, "manifest.json").key)
    with pytest.raises(CheckpointError, match="No manifest"):
        job.checkpoint()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in (("../../etc/passwd", b"x"), ("deep/manifest.json", text)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    aws.write(
        nova.output.join(job.name, "output", "output.tar.gz"), archive.getvalue(), content_type="application/gzip"
    )
    assert job.checkpoint().uri == MANIFEST
    other = json.dumps({"checkpoint_s3_bucket": MANIFEST + "2"}).encode()
    aws.write(nova.output.join(job.name, "output", "output", "manifest.json"), other, content_type="application/json")
    assert job.checkpoint().uri == MANIFEST + "2"


def test_a_manifest_older_than_the_job_is_not_the_job_s(clock, nova, chats):
    plan = nova.plan(SFT, chats)
    old = json.dumps({"checkpoint_s3_bucket": MANIFEST}).encode()
    nova.backend.aws.write(nova.output.join(plan.name, "manifest.json"), old, content_type="application/json")
    clock.advance(3600)
    job = nova.submit(plan)
    job.cancel()
    with pytest.raises(JobStoppedError, match="older than the job"):
        job.checkpoint()


def test_a_checkpoint_is_refused_by_another_model_tuning_and_platform(nova, chats):
    taught = nova.submit(nova.plan(SFT, chats)).result()
    with pytest.raises(RecipeError, match="checkpoint of nova-lite"):
        DPO.replace(model=NovaModel.MICRO, replicas=2).starting_from(taught)
    with pytest.raises(RecipeError, match="trained with lora"):
        DPO.replace(tuning=FullRank()).starting_from(taught)


def test_a_bucket_in_another_region_or_account_stops_everything(cloud, chats):
    cloud.add_bucket("acme-west", region="us-west-2")
    cloud.add_bucket("their-bucket", account="999988887777")
    for output, error in (
        ("s3://acme-west/runs", ConfigurationError),
        ("s3://their-bucket/runs", (ConfigurationError, AccessDeniedError)),
        ("s3://no-such-bucket-anywhere/runs", NotFoundError),
    ):
        nova = NovaClient(cloud.hyperpod(), output=output)
        with pytest.raises(PlanRejectedError, match=output.split("/")[2]):
            nova.submit(nova.plan(SFT, chats))
        with pytest.raises(error, match=output.split("/")[2]):
            nova.submit(nova.plan(SFT, chats), check=False)
        assert jobs(nova) == []
    assert not [r for r in cloud.requests if r.operation == "PutObject"]


def test_a_file_that_changed_since_the_plan_is_not_sent(nova, chats):
    plan = nova.plan(SFT, chats)
    with chats.path.open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(DatasetError, match="changed"):
        nova.submit(plan)
    assert jobs(nova) == []


def test_a_plan_for_another_place_is_refused(cloud, nova, chats):
    plan = NovaClient(cloud.hyperpod(namespace="elsewhere"), output=cloud.output).plan(SFT, chats)
    with pytest.raises(ConfigurationError, match="Plan it with this client"):
        nova.submit(plan)


def test_a_cluster_that_is_not_there_is_named(cloud, chats):
    nova = NovaClient(cloud.hyperpod(cluster="no-such-cluster"), output=cloud.output)
    with pytest.raises(PlanRejectedError, match="no-such-cluster") as error:
        nova.submit(nova.plan(SFT, chats))
    assert len(error.value.findings) == 1  # what follows from it is not said again
    with pytest.raises(NotFoundError, match="no-such-cluster"):
        nova.submit(nova.plan(SFT, chats), check=False)


def test_job_errors_pickle(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    with pytest.raises(JobTimeoutError) as error:
        job.wait(timeout=1)
    copy = pickle.loads(pickle.dumps(error.value))  # noqa: S301 - our own bytes
    assert (copy.ref, copy.snapshot, str(copy)) == (job.ref, error.value.snapshot, str(error.value))


def test_reprs_cost_nothing_and_hide_secrets(cloud, nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    before = len(cloud.requests)
    texts = repr(nova) + repr(job) + job._repr_html_() + repr(nova.backend) + repr(nova.plan(SFT, chats))
    assert len(cloud.requests) == before
    assert "k8s-aws-v1" not in texts
    keys = cloud.session().get_credentials()
    assert keys.secret_key not in texts


def test_nova_2_lite_runs_sft(cloud, chats):
    from nova_dpo_sdk import Nova2SFTRecipe

    nova = NovaClient(cloud.hyperpod(), output=cloud.output)
    recipe = Nova2SFTRecipe(name="second", replicas=1, reasoning_enabled=False)
    data = ChatDataset.from_jsonl(chats.path, nova2=True)
    checkpoint = nova.submit(nova.plan(recipe, data)).result()
    assert checkpoint.model is NovaModel.LITE_2

"""What only AWS and the cluster can answer, asked of the rehearsal cloud."""

from __future__ import annotations

import pytest
from conftest import pair

from nova_dpo_sdk import (
    Checkpoint,
    DPORecipe,
    HyperPodOptions,
    LoRA,
    Nova2SFTRecipe,
    NovaClient,
    NovaModel,
    PreferenceDataset,
)
from nova_dpo_sdk.backends._hyperpod_preflight import count_free
from nova_dpo_sdk.backends._validation import validation_check
from nova_dpo_sdk.errors import PlanRejectedError
from nova_dpo_sdk.local import ROLES, Grant, InstanceGroup, LocalCloud, Role
from nova_dpo_sdk.local._resources import LOCAL_QUEUES, PRIORITY_CLASSES, QUEUE_PRIORITIES

DPO = DPORecipe(name="dpo", model=NovaModel.LITE, tuning=LoRA(), warmup_steps=1, global_batch_size=16)


def findings(nova, pairs, recipe=DPO):
    return {finding.code: finding for finding in nova.check(nova.plan(recipe, pairs)).findings}


def test_a_place_where_all_is_well_says_so(cloud, nova, pairs):
    plan = nova.plan(DPO, pairs)
    nova.backend.resolve()
    before = len(cloud.requests)
    answers = nova.check(plan)
    assert answers.ok
    assert len(cloud.requests) - before <= 12
    text = str(answers)
    for question in ("identity", "cluster", "instance group", "output bucket", "permissions", "job name", "free nodes"):
        assert question in text
    assert "ready to submit; nothing was sent" in text
    assert nova.backend.api().list(_jobs(), "kubeflow") == []


def _jobs():
    from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS

    return PYTORCHJOBS


def test_every_error_is_found_at_once_and_nothing_is_sent(clock, pairs):
    groups = [InstanceGroup(name="small", instance_type="ml.p5.48xlarge", count=2)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        cloud.add_bucket("acme-west", region="us-west-2")
        cloud.cluster.status = "Failed"
        nova = NovaClient(cloud.hyperpod(namespace="nowhere"), output="s3://acme-west/runs")
        plan = nova.plan(DPO, pairs)
        with pytest.raises(PlanRejectedError) as error:
            nova.submit(plan)
        codes = {finding.code for finding in error.value.findings}
        assert {
            "cluster-not-in-service",
            "instance-group-too-small",
            "output-bucket-failed",
            "namespace-failed",
        } <= codes
        assert not [r for r in cloud.requests if r.operation == "PutObject"]


def test_an_instance_type_without_a_group_names_those_that_have_one(clock, pairs):
    groups = [InstanceGroup(name="small", instance_type="ml.p4d.24xlarge", count=8)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        found = findings(NovaClient(cloud.hyperpod(), output=cloud.output), pairs)
        assert found["instance-group-missing"].allowed == "ml.p4d.24xlarge"


def test_a_growing_group_is_a_warning(clock, pairs):
    groups = [InstanceGroup(name="g", instance_type="ml.p5.48xlarge", count=2, target=8)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        found = findings(NovaClient(cloud.hyperpod(), output=cloud.output), pairs)
        assert not found["instance-group-too-small"].is_error


def test_a_job_that_is_there_is_found_again_though_its_cluster_has_lost_nodes(cloud, nova, pairs):
    plan = nova.plan(DPO, pairs)
    first = nova.submit(plan)
    cloud.cluster.status = "Failed"
    assert not nova.check(plan).ok
    again = nova.submit(plan)
    assert again.adopted
    assert again.ref == first.ref
    with pytest.raises(PlanRejectedError):
        nova.submit(plan.again())


def test_an_identity_without_rights_is_told_which(cloud, nova, pairs):
    cloud.role = "unmapped"
    answers = nova.check(nova.plan(DPO, pairs))
    assert not answers.ok
    assert any("access entry" in finding.message for finding in answers.errors)


def test_an_account_that_is_not_the_credentials_own_is_an_error(cloud, pairs):
    nova = NovaClient(cloud.hyperpod(account="999988887777"), output=cloud.output)
    assert findings(nova, pairs)["account-differs"].allowed == "123456789012"


def test_busy_nodes_are_a_warning_and_the_job_s_own_name_a_note(clock, pairs):
    groups = [InstanceGroup(name="g", instance_type="ml.p5.48xlarge", count=4)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        nova.submit(nova.plan(DPO, pairs))
        clock.advance(5)
        found = findings(nova, pairs)
        assert "job-there" in found
        assert "0 of 4" in found["nodes-busy"].message


def test_nodes_that_may_not_be_listed_are_a_note(clock, pairs):
    with LocalCloud(clock=clock, namespaces=["hyperpod-ns-nlp"], role="team") as cloud:
        found = findings(NovaClient(cloud.hyperpod(), output=cloud.output), pairs)
        assert set(found) == {"free-nodes-unknown"}
        assert not found["free-nodes-unknown"].is_error


def test_a_checkpoint_of_another_cluster_is_a_warning(nova, pairs):
    uri = "s3://customer-escrow-123456789012-hp-elsewhere/x/outputs/checkpoints"
    start = Checkpoint(uri=uri, model=NovaModel.LITE, tuning=DPO.tuning.kind)
    assert "checkpoint-of-another-cluster" in findings(nova, pairs, DPO.starting_from(start))


def test_a_plan_with_errors_is_not_asked_about(cloud, nova, write_jsonl):
    bad = PreferenceDataset.from_jsonl(write_jsonl("bad.jsonl", [pair("Q?", "same", "same")]))
    before = len(cloud.requests)
    with pytest.raises(PlanRejectedError):
        nova.check(nova.plan(DPO, bad))
    assert len(cloud.requests) == before


def test_free_nodes_are_ready_schedulable_and_without_gpu_pods():
    def node(name, ready="True", **spec):
        return {
            "metadata": {"name": name},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }

    def pod(name, gpus, phase="Running"):
        container = {"resources": {"requests": {"nvidia.com/gpu": gpus}}}
        return {"spec": {"nodeName": name, "containers": [container]}, "status": {"phase": phase}}

    nodes = [node("a"), node("b"), node("c", ready="False"), node("d", unschedulable=True), node("e")]
    pods = [pod("a", 8), pod("b", 0), pod("e", "8", phase="Succeeded")]
    assert count_free(nodes, pods) == 2


def test_tables_are_escaped(nova, pairs):
    page = nova.check(nova.plan(DPO, pairs))._repr_html_()
    assert page.startswith("<table>")
    assert "<script" not in page


def asked_of(cloud, options=None, **more):
    return NovaClient(cloud.hyperpod(options=options, **more), output=cloud.output)


def test_every_right_that_is_missing_is_named(clock, pairs):
    half = Role(
        "half", (Grant("pytorchjobs", frozenset({"get", "create"}), "*"), Grant("configmaps", frozenset("*"), "*"))
    )
    with LocalCloud(clock=clock, role=half) as cloud:
        found = findings(asked_of(cloud), pairs)
        assert "may not list pytorchjobs, update pytorchjobs, delete pytorchjobs in" in found["rights-missing"].message


def test_a_cluster_that_cannot_list_every_rule_is_asked_right_by_right(clock, pairs):
    with LocalCloud(clock=clock, role="namespaced") as cloud:
        cloud._access.lists_rules = False
        found = findings(asked_of(cloud), pairs)
        assert "rights-missing" not in found
        reviews = [each for each in cloud.requests if each.target.startswith("selfsubjectaccessreviews")]
        assert len(reviews) == 11


def test_a_role_that_sees_no_pods_is_warned_of_what_it_will_not_see(clock, pairs):
    blind = Role("blind", tuple(each for each in ROLES["namespaced"].grants if each.resource != "pods"))
    with LocalCloud(clock=clock, role=blind) as cloud:
        found = findings(asked_of(cloud), pairs)
        assert not found["pods-hidden"].is_error
        assert "a crash loop will look like a job that runs" in found["pods-hidden"].message


def test_queue_and_priorities_must_be_there(cloud, clock, pairs):
    options = HyperPodOptions(queue="nlp", queue_priority="urgent", priority_class="high")
    found = findings(asked_of(cloud, options), pairs)
    assert {"queue-missing", "queue-priority-missing", "priority-class-missing"} <= found.keys()
    assert all(found[code].is_error for code in ("queue-missing", "queue-priority-missing", "priority-class-missing"))
    assert "no queue nlp in namespace kubeflow" in found["queue-missing"].message
    for kind, namespace, name in (
        (LOCAL_QUEUES, "kubeflow", "nlp"),
        (QUEUE_PRIORITIES, "", "urgent"),
        (PRIORITY_CLASSES, "", "high"),
    ):
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
        cloud.store.create(kind, namespace, body, clock.now())
    checks = {
        each.question: each for each in asked_of(cloud, options).check(asked_of(cloud, options).plan(DPO, pairs)).checks
    }
    assert checks["queue and priority"].state == "ok"
    cloud.role = "namespaced"
    found = findings(asked_of(cloud, options), pairs)
    assert not found["queue-nlp-unknown"].is_error


def test_a_cluster_without_the_operator_s_kind_is_told_so(cloud, nova, pairs):
    cloud.faults.answer("create", 404, message="404 page not found", target="pytorchjobs/*")
    found = findings(nova, pairs)
    assert "training operator is not installed" in found["job-kind-missing"].message


def test_other_bytes_under_the_data_set_s_address_are_told(cloud, nova, pairs):
    plan = nova.plan(DPO, pairs)
    (upload,) = [each for each in plan.uploads if each.role == "data"]
    for body in (b"x" * upload.size, b"short"):
        bucket, _, key = upload.uri.removeprefix("s3://").partition("/")
        cloud.session().client("s3").put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")
        told = {each.code: each for each in nova.check(plan).findings}["data-differs"]
        assert ("of another checksum" in told.message) is (len(body) == upload.size)


@pytest.mark.parametrize("platform", ["hyperpod", "training_jobs"])
def test_validation_data_that_the_recipe_names_are_asked_for(cloud, pairs, platform):
    nova = NovaClient(getattr(cloud, platform)(), output=cloud.output)
    uri = f"s3://{cloud.bucket}/validation.jsonl"
    recipe = DPO.replace(validation_data_s3_path=uri)
    missing = findings(nova, pairs, recipe)["validation-data-missing"]
    assert (missing.is_error, missing.where, missing.value) == (True, "validation_data_s3_path", uri)
    cloud.session().client("s3").put_object(Bucket=cloud.bucket, Key="validation.jsonl", Body=b"{}")
    told = nova.check(nova.plan(recipe, pairs))
    assert [each.answer for each in told.checks if each.question == "validation data"] == ["1 of 1 file is there"]
    sent_along = nova.check(nova.plan(DPO, pairs, validation=pairs))
    assert "validation data" not in {each.question for each in sent_along.checks}


def test_every_listed_set_of_validation_data_is_asked_for(cloud, nova, chats):
    paths = {"mine": f"s3://{cloud.bucket}/lost.jsonl", "theirs": "s3://nobody-has-this/a.jsonl"}
    recipe = Nova2SFTRecipe(name="two", validation_data_s3_path_list=paths)
    told = nova.check(nova.plan(recipe, chats)).errors
    missing = [each for each in told if each.code == "validation-data-missing"]
    assert [each.value for each in missing] == list(paths.values())
    assert missing[0].where == "validation_data_s3_path_list.mine"


def test_who_may_not_look_for_validation_data_is_warned(cloud, nova, pairs):
    cloud.add_bucket("other-bucket")
    plan = nova.plan(DPO.replace(validation_data_s3_path="s3://other-bucket/a.jsonl"), pairs)
    nova.backend.resolve()
    cloud.faults.answer("HeadObject", 403, code="AccessDenied", times=9)
    answer = validation_check(nova.backend.aws, plan)
    assert (answer.state, [each.code for each in answer.findings]) == ("warning", ["validation-data-unknown"])

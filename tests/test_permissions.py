"""The policies that the package asks for allow what it does, and nothing that it does not do."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cli_support import CHATS, PAIRS, make_shell  # noqa: F401 - a fixture
from sagemaker_support import needs_sdk

from nova_dpo_sdk import (
    ChatDataset,
    DPORecipe,
    HyperPodBackend,
    HyperPodOptions,
    JobStatus,
    NovaClient,
    NovaModel,
    PreferenceDataset,
    SFTRecipe,
)
from nova_dpo_sdk.errors import ClusterError, ConfigurationError
from nova_dpo_sdk.local import Grant, LocalCloud, Role, Script
from nova_dpo_sdk.permissions import CALLS, iam_policy, kubernetes_access

if TYPE_CHECKING:
    from nova_dpo_sdk.local import FakeClock, Request

Json = dict[str, Any]
EVERYBODY = {("sts", "GetCallerIdentity")}


def a_working_day(nova: NovaClient) -> None:
    """Everything that a user does: check, submit, follow, read logs, list, chain, upload, cancel, delete."""
    chats, pairs = ChatDataset.from_jsonl(CHATS), PreferenceDataset.from_jsonl(PAIRS)
    sft, dpo = SFTRecipe(name="sft", model=NovaModel.LITE), DPORecipe(name="dpo", model=NovaModel.LITE)
    plan = nova.plan(sft, chats)
    assert nova.check(plan).ok
    job = nova.submit(plan)
    taught = job.result()
    assert list(job.logs())
    job.metrics()
    assert list(nova.watch(nova.jobs()))
    with nova.chain("day") as chain:
        chain.run("dpo", dpo.starting_from(taught), pairs)
    sent = nova.upload(pairs)
    PreferenceDataset.from_s3(str(sent.where), aws=nova.backend.aws).report()
    nova.submit(nova.plan(dpo, pairs)).cancel()
    job.delete()


def role_from(objects: tuple[Json, ...]) -> Role:
    """The generated objects as a role that the rehearsal cluster enforces."""
    grants = [
        Grant(resource, frozenset(rule["verbs"]), each["metadata"].get("namespace", ""))
        for each in objects
        if "rules" in each
        for rule in each["rules"]
        for resource in rule["resources"]
    ]
    return Role("generated", tuple(grants))


def arn_of(request: Request, cloud: LocalCloud) -> str:
    where = f"{cloud.region}:{cloud.account}"
    if request.service == "s3":
        return request.target.replace("s3://", "arn:aws:s3:::")
    kinds = {
        ("iam", "GetRole"): cloud.training.role,
        ("sagemaker", "DescribeCluster"): f"arn:aws:sagemaker:{where}:cluster/x1",
        ("eks", "DescribeCluster"): f"arn:aws:eks:{where}:cluster/{request.target}",
    }
    if request.service == "logs":
        return f"arn:aws:logs:{where}:log-group:{request.target}:*"
    return kinds.get((request.service, request.operation), f"arn:aws:sagemaker:{where}:training-job/{request.target}")


def allowed(policy: Json, action: str, arn: str) -> bool:
    return any(
        action in each["Action"] and any(fnmatchcase(arn, pattern) for pattern in each["Resource"])
        for each in policy["Statement"]
    )


def refused(cloud: LocalCloud, policy: Json) -> list[Request]:
    """What the cloud was asked that the policy does not allow."""
    asked = {each for each in cloud.requests if each.service != "kubernetes"}
    return [
        each
        for each in sorted(asked, key=str)
        if (each.service, each.operation) not in EVERYBODY
        and not any(
            allowed(policy, call.action, arn_of(each, cloud))
            for call in CALLS
            if call.service.replace("service-", "service") == each.service and each.operation in call.operations
        )
    ]


def test_a_working_day_on_hyperpod_needs_no_more_than_the_policies_allow(cloud: LocalCloud, nova: NovaClient):
    backend = nova.backend
    assert isinstance(backend, HyperPodBackend)
    cloud.role = role_from(kubernetes_access(backend))
    a_working_day(nova)
    policy = iam_policy(backend, cloud.output)
    assert refused(cloud, policy) == []
    for each in policy["Statement"]:
        less = {"Statement": [other for other in policy["Statement"] if other is not each]}
        assert refused(cloud, less) != [], f"{each['Sid']} is not needed"
    asked = {(each.service, each.operation) for each in cloud.requests}
    unused = [
        call.action
        for call in CALLS
        if backend.platform in call.platforms and not any((call.service, each) in asked for each in call.operations)
    ]
    # A small file is sent whole; parts are sent in tests/test_aws_upload.py and tests/test_upload_resume.py.
    assert {*unused} <= {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"}


def test_the_roles_allow_to_watch():
    with LocalCloud(script=Script(noticing=0.05, starting=0.1, loading=0.05, training=0.4, manifest=0.01)) as cloud:
        backend = cloud.hyperpod()
        nova = NovaClient(backend, output=cloud.output)
        cloud.role = role_from(kubernetes_access(backend))
        recipe = SFTRecipe(name="sft", model=NovaModel.LITE)
        job = nova.submit(nova.plan(recipe, ChatDataset.from_jsonl(CHATS)), check=False)
        cloud.requests.clear()
        assert [each.status for each in job.events(timeout=30)][-1] is JobStatus.SUCCEEDED
        # Whoever is refused a watch lists again and again.
        asked = [each.operation for each in cloud.requests if each.service == "kubernetes"]
        assert asked == ["list", "list", "watch", "watch"]


def test_the_required_roles_alone_do_for_a_job(cloud: LocalCloud, nova: NovaClient):
    assert isinstance(nova.backend, HyperPodBackend)
    cloud.role = role_from(kubernetes_access(nova.backend, optional=False))
    job = nova.submit(nova.plan(SFTRecipe(name="sft", model=NovaModel.LITE), ChatDataset.from_jsonl(CHATS)))
    assert job.result().uri


@pytest.mark.parametrize(("resource", "verb"), [("pytorchjobs", "create"), ("configmaps", "update")])
def test_a_role_without_one_right_is_noticed(cloud: LocalCloud, nova: NovaClient, resource: str, verb: str):
    assert isinstance(nova.backend, HyperPodBackend)
    whole = role_from(kubernetes_access(nova.backend, optional=False))
    cloud.role = Role("less", tuple(
        Grant(each.resource, each.verbs - {verb} if each.resource == resource else each.verbs, each.namespace)
        for each in whole.grants
    ))  # fmt: skip
    plan = nova.plan(SFTRecipe(name="sft", model=NovaModel.LITE), ChatDataset.from_jsonl(CHATS))
    told = nova.check(plan)
    assert f"{verb} {resource}" in str(told) or not told.ok


def test_the_roles_hold_in_one_namespace_only(cloud: LocalCloud, nova: NovaClient):
    cloud.role = role_from(kubernetes_access(HyperPodBackend("research", namespace="elsewhere", region="us-east-1")))
    with pytest.raises(ClusterError, match="may not"):
        nova.jobs()


def test_queues_and_priorities_may_be_looked_at(clock: FakeClock):
    with LocalCloud(clock=clock) as cloud:
        backend = cloud.hyperpod(options=HyperPodOptions(queue="team", priority_class="high"))
        cloud.role = role_from(kubernetes_access(backend))
        nova = NovaClient(backend, output=cloud.output)
        told = str(nova.check(nova.plan(SFTRecipe(name="s", model=NovaModel.LITE), ChatDataset.from_jsonl(CHATS))))
        assert "may not" not in told


@needs_sdk
def test_a_working_day_of_training_jobs_needs_no_more_than_the_policy_allows(cloud: LocalCloud):
    backend = cloud.training_jobs()
    a_working_day(NovaClient(backend, output=cloud.output))
    assert refused(cloud, iam_policy(backend, cloud.output)) == []


def test_a_role_may_only_be_passed_to_sagemaker(cloud: LocalCloud):
    policy = iam_policy(cloud.training_jobs(), cloud.output)
    (passing,) = [each for each in policy["Statement"] if "iam:PassRole" in each["Action"]]
    assert passing["Resource"] == [f"arn:aws:iam::{cloud.account}:role/nova-execution"]
    assert passing["Condition"]["StringEqualsIfExists"] == {"iam:PassedToService": "sagemaker.amazonaws.com"}


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_name_the_partition_and_the_key(region, partition):
    backend = HyperPodBackend("research", region=region, account="123456789012", kms_key_id="alias/nova")
    policy = iam_policy(backend, "s3://bucket/a/b/")
    arns = [arn for each in policy["Statement"] for arn in each["Resource"] if arn != "*"]
    assert {arn.split(":")[1] for arn in arns} == {partition}
    assert f"arn:{partition}:s3:::bucket/a/b/*" in arns
    assert policy["Statement"][-1]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]


HOME = "arn:aws:kms:us-east-1:123456789012"
THEIRS = "arn:aws:kms:us-east-1:210987654321"


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        (f"{THEIRS}:key/1234-ab", f"{THEIRS}:key/1234-ab", ""),
        ("1234-ab", f"{HOME}:key/1234-ab", ""),
        ("alias/nova", f"{HOME}:key/*", "alias/nova"),
        (f"{THEIRS}:alias/nova", f"{THEIRS}:key/*", "alias/nova"),
    ],
)
def test_a_key_is_allowed_and_no_other(key, resource, alias):
    backend = HyperPodBackend("research", region="us-east-1", account="123456789012", kms_key_id=key)
    told = iam_policy(backend, "s3://bucket/a")["Statement"][-1]
    assert told["Resource"] == [resource]
    wanted = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}} if alias else None
    assert told.get("Condition") == wanted


def test_what_is_a_wildcard_in_a_policy_is_none_in_an_output():
    policy = iam_policy(HyperPodBackend("research", region="us-east-1"), "s3://bucket/a*b?/${aws:username}")
    assert "arn:aws:s3:::bucket/a${*}b${?}/${$}{aws:username}/*" in str(policy)


def test_a_place_without_output_or_region_is_refused(monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="S3"):
        iam_policy(HyperPodBackend("research", region="us-east-1"), "runs")
    with pytest.raises(ConfigurationError, match="Region"):
        iam_policy(HyperPodBackend("research"), "s3://acme-nova/runs")


PLACE = ("permissions", "--cluster", "research", "--region", "us-east-1", "--output", "s3://acme-nova/runs")


def test_the_command_prints_what_can_be_applied(shell):
    told = shell(*PLACE)
    assert told.code == 0
    assert "aws eks create-access-entry" in told.out
    assert json.loads(shell(*PLACE, "--only", "iam").out)["Version"] == "2012-10-17"
    objects = list(yaml.safe_load_all(shell(*PLACE, "--only", "kubernetes", "--group", "team-a").out))
    assert [each["kind"] for each in objects] == ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
    assert objects[1]["subjects"][0]["name"] == "team-a"
    short = shell(*PLACE, "--json", "--required-only").json
    assert [each["kind"] for each in short["kubernetes"]] == ["Role", "RoleBinding"]
    assert "logs:FilterLogEvents" not in str(short["iam"])


def test_the_command_says_what_is_missing(shell):
    assert "--cluster must be given" in shell("permissions", "--output", "s3://a-b/c").err
    told = shell("permissions", "--platform", "training-jobs", "--output", "s3://a-b/c")
    assert (told.code, "--role must be given" in told.err) == (2, True)

"""`nova-dpo plan`, `submit` and what follows, on SageMaker Training Jobs, against the rehearsal cloud."""

from __future__ import annotations

import pytest
from cli_support import CHATS, PAIRS, make_shell, overlong  # noqa: F401 - a fixture
from sagemaker_support import needs_sdk

ROLE = "arn:aws:iam::123456789012:role/nova-execution"
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/nova"
ON = ["--platform", "training-jobs"]
PLACE = [*ON, "--role", ROLE, "--region", "us-east-1", "--output", "s3://acme-nova/runs"]


def plain(told):
    return " ".join((told.out + told.err).split())


def test_a_plan_for_training_jobs_needs_no_cloud_and_shows_the_request(shell):
    words = ("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE)
    told = shell(*words)
    assert told.code == 0
    assert "ready to submit" in told.out
    assert "training-jobs" in told.out
    assert overlong(told.out) == []
    assert "  TrainingJobName: " in shell(*words, "--full").out
    answer = shell(*words, "--json").json
    assert answer["ref"] == f"training-jobs://us-east-1/{answer['name']}"
    assert answer["objects"][1]["RoleArn"] == ROLE


def test_every_option_of_training_jobs_is_in_the_request(shell):
    told = shell(
        "plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--json",
        "--volume-gb", "500", "--deadline", "7200", "--subnet", "subnet-0a", "--subnet", "subnet-0b",
        "--security-group", "sg-0c", "--tag", "team=support", "--kms-key", "alias/nova", "--image", "1/img:2",
        "--training-plan", "arn:aws:sagemaker:us-east-1:123456789012:training-plan/p",
        "--model-package-group", GROUP,
    )  # fmt: skip
    assert told.code == 0, told.err
    request = told.json["objects"][1]
    resources = request["ResourceConfig"]
    assert resources["VolumeSizeInGB"] == 500
    assert resources["TrainingPlanArn"].endswith("training-plan/p")
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 7200
    assert request["VpcConfig"] == {"Subnets": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0c"]}
    assert {"Key": "team", "Value": "support"} in request["Tags"]
    assert request["OutputDataConfig"]["KmsKeyId"] == "alias/nova"
    assert request["AlgorithmSpecification"]["TrainingImage"] == "1/img:2"
    assert request["ModelPackageConfig"]["ModelPackageGroupArn"] == GROUP


def test_a_serverless_job_names_no_instances(shell):
    words = ("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--serverless")
    more = ("--model-package-group", GROUP, "--accept-eula", "--sequence-length", "8K")
    (request,) = shell(*words, *more, "--json").json["objects"]
    assert request["ServerlessJobConfig"]["AcceptEula"] is True
    assert "InstanceType" not in str(request)
    refused = shell(*words, *more, "--instance-type", "ml.p5.48xlarge")
    assert (refused.code, "AWS chooses" in refused.err) == (1, True)
    assert "model_package_group" in shell(*words).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", ROLE, "--cluster", "c"], "--role: only with --platform training-jobs"),
        ([*ON, "--role", ROLE, "--queue", "q", "--backoff-limit", "3"], "--queue, --backoff-limit: only with --plat"),
        (ON, "--role and --output must be given"),
        ([*ON, "--role", ROLE, "--output", "s3://b/o", "--tag", "team"], "'team' is not KEY=VALUE"),
    ],
)
def test_options_of_the_other_platform_are_wrong_usage(shell, words, said):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *words)
    assert (told.code, said in told.err) == (2, True), told.err


def test_a_role_that_is_none_is_told_with_what_is_allowed(shell):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--role", "nova-execution")
    assert told.code == 1
    assert "arn:aws:iam::<account>:role/<name>" in told.err


def test_jobs_need_no_cluster_on_training_jobs_and_tell_of_an_empty_region(shell, cloud):
    assert shell("jobs", *ON, *shell.local(cloud)).out == "No jobs of this package here.\n"
    assert shell("jobs", *ON, "--cluster", "research", *shell.local(cloud)).code == 2


def test_doctor_looks_at_role_quota_and_output_of_training_jobs(shell, cloud):
    local = shell.local(cloud)
    told = shell("doctor", *ON, *local, "--output", cloud.output)
    rows = [line.split()[:2] for line in told.out.splitlines()]
    assert ["ok", "identity"] in rows
    assert ["ok", "output"] in rows
    assert any(row[1:] == ["role"] for row in rows)
    assert max(map(len, told.out.splitlines())) <= 80
    answer = shell("doctor", *ON, *local, "--role", "arn:aws:iam::999999999999:role/x", "--json")
    assert answer.code == 1
    identity = next(each for each in answer.json["training jobs"] if each["question"] == "identity")
    assert identity["findings"][0]["code"] == "account-differs"


@needs_sdk
def test_two_stages_are_sent_followed_and_chained_by_references_alone(shell, cloud):
    local = shell.local(cloud)
    words = ("submit", "--recipe", shell.recipe("sft"), "--data", CHATS, *ON, *local)
    ref = shell(*words).out.strip()
    assert ref.startswith("training-jobs://us-east-1/nova-lite-sft-")
    again = shell(*words)
    assert (again.out.strip(), "nothing was sent twice" in again.err) == (ref, True)
    early = shell("checkpoint", ref, *local)
    assert (early.code, "nova-dpo wait" in plain(early)) == (1, True)
    waited = shell("wait", ref, *local, "--interval", "1")
    assert waited.code == 0
    assert waited.out.splitlines()[-1].endswith("succeeded")
    assert shell("checkpoint", ref, *local, "--json").json["platform"] == "training-jobs"
    second = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, "--from", ref, *ON, *local, "--json")
    assert second.code == 0, second.err
    assert shell("wait", second.json["ref"], *local, "--json").json["status"] == "succeeded"
    shell.clock.advance(60)
    assert {each["ref"] for each in shell("jobs", *ON, *local, "--json").json} == {ref, second.json["ref"]}
    lines = shell("logs", ref, *local, "--json").out.splitlines()
    assert '"text": ' in lines[0]
    assert shell("delete", ref, *local).out.strip().endswith("is deleted; what it wrote to S3 stays.")


@needs_sdk
def test_a_training_job_is_stopped_and_ends_with_one(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *ON, *local).out.strip()
    told = shell("cancel", ref, *local)
    assert (told.code, "SageMaker keeps its record" in told.out) == (0, True)
    waited = shell("wait", ref, *local)
    assert (waited.code, "stopped" in waited.out) == (1, True)
    assert shell("cancel", ref, *local, "--json").json["cancelled"] is False
    assert shell("status", ref, "--watch", *local).code == 1
    resent = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *ON, *local)
    assert (resent.code, "--attempt" in resent.err) == (1, True)


@needs_sdk
def test_check_asks_aws_whether_a_training_job_would_be_taken(shell, cloud):
    words = ("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *ON, *shell.local(cloud), "--check")
    told = shell(*words)
    assert told.code == 0, told.out
    assert "Ready to submit." in told.out


@needs_sdk
def test_a_wait_that_ends_too_early_says_that_the_training_job_runs_on(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *ON, *local).out.strip()
    told = shell("wait", ref, *local, "--timeout", "5", "--interval", "1")
    assert (told.code, "the job runs on" in told.err) == (1, True)
    assert f"nova-dpo wait {ref}" in plain(told)
    assert shell("delete", ref, *local).code == 1

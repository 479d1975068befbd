"""The CreateTrainingJob request: against what the SageMaker SDK 3.27 sends, and against what the API allows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from botocore.session import Session

from nova_dpo_sdk import Checkpoint, DPORecipe, NovaClient, NovaModel, TrainingJobBackend, TrainingJobOptions
from nova_dpo_sdk.catalog import TuningKind
from nova_dpo_sdk.errors import ConfigurationError

REFERENCE = Path(__file__).parent / "reference"
ROLE = "arn:aws:iam::123456789012:role/NovaExec"
KEY = "arn:aws:kms:us-east-1:123456789012:key/abc"
ESCROW = "s3://customer-escrow-123456789012-smtj-abc123/job-a/123"
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/nova"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/nova/3"


def backend(**options):
    place = {"region": "us-east-1", "account": "123456789012", "instance_type": "ml.p5.48xlarge"}
    named = {key: options.pop(key) for key in list(options) if key in {*place, "catalog", "kms_key_id", "role"}}
    role = named.pop("role", ROLE)
    return TrainingJobBackend(role, **{**place, **named}, options=TrainingJobOptions(**options))


def recipe(**changes):
    given = {
        "name": "nova-micro-dpo-abcde",
        "model": NovaModel.MICRO,
        "replicas": 2,
        "data_s3_path": "s3://my-bucket/data/train.jsonl",
        "output_s3_path": "s3://my-bucket/output",
    }
    return DPORecipe(**{**given, **changes})


def from_checkpoint():
    return recipe().starting_from(Checkpoint(uri=ESCROW, model=NovaModel.MICRO, tuning=TuningKind.LORA))


def channel(request, name):
    return next(each for each in request["InputDataConfig"] if each["ChannelName"] == name)


def in_meaning(request):
    """A request without what may differ: the name, our tags, and the key that the recipe was uploaded under."""
    kept = json.loads(json.dumps(request))
    kept.pop("TrainingJobName")
    kept.pop("Tags", None)
    channel(kept, "recipe")["DataSource"]["S3DataSource"]["S3Uri"] = "(the recipe)"
    return kept


@pytest.mark.parametrize(
    ("file", "made", "options"),
    [
        ("create_training_job_dpo.json", recipe(), {"output_kms_key": KEY}),
        ("create_training_job_dpo_from_checkpoint.json", from_checkpoint(), {}),
    ],
)
def test_the_request_says_what_the_sagemaker_sdk_would_say(file, made, options):
    theirs = json.loads((REFERENCE / file).read_text(encoding="utf-8"))
    upload, ours = backend(**options).render(made, "0" * 64)
    assert in_meaning(ours) == in_meaning(theirs)
    # what differs, and why: the name is known before; the recipe's key is its content; tags make the job ours
    assert ours["TrainingJobName"] == made.name
    assert channel(ours, "recipe")["DataSource"]["S3DataSource"]["S3Uri"] == f"s3://{upload['Bucket']}/{upload['Key']}"
    assert {each["Key"] for each in ours["Tags"]} == {f"nova-dpo-sdk/{key}" for key in ("digest", "name", "technique")}


def test_the_recipe_is_uploaded_under_its_own_sha256():
    upload, _ = backend().render(recipe(), "0" * 64)
    sha256 = hashlib.sha256(upload["Body"].encode()).hexdigest()
    assert upload["Key"] == f"output/recipes/{sha256}/recipe.yaml"
    assert upload["Body"] == recipe().to_yaml()


def test_validation_data_is_a_channel_of_its_own():
    _, request = backend().render(recipe(validation_data_s3_path="s3://my-bucket/data/val.jsonl"), "0" * 64)
    assert [each["ChannelName"] for each in request["InputDataConfig"]] == ["train", "validation", "recipe"]
    assert channel(request, "validation")["DataSource"]["S3DataSource"] == {
        "S3DataType": "Converse",
        "S3Uri": "s3://my-bucket/data/val.jsonl",
        "S3DataDistributionType": "FullyReplicated",
    }


def test_a_model_package_stands_in_the_request_and_in_the_recipe():
    upload, request = backend(model_package=PACKAGE, model_package_group=GROUP).render(recipe(), "0" * 64)
    assert request["HyperParameters"] == {
        "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml",
    }
    assert request["ModelPackageConfig"] == {"ModelPackageGroupArn": GROUP, "SourceModelPackageArn": PACKAGE}
    run = yaml.safe_load(upload["Body"])["run"]
    assert (run["model_name_or_path"], run["model_package_group"]) == (PACKAGE, GROUP)


def test_a_model_package_and_a_checkpoint_are_one_start_too_many():
    found = backend(model_package=PACKAGE, model_package_group=GROUP).findings(from_checkpoint())
    assert [each.code for each in found] == ["two-starts"]


def test_another_model_package_is_another_run():
    plain, packaged = backend(), backend(model_package=PACKAGE, model_package_group=GROUP)
    assert plain.identity() != packaged.identity()
    assert backend(volume_gb=500).identity() == plain.identity()


def test_every_option_finds_its_place_in_the_request():
    _, request = backend(
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1",
        volume_gb=200,
        max_runtime_seconds=28 * 86_400,
        volume_kms_key=KEY,
        subnets=("subnet-0a", "subnet-0b"),
        security_groups=("sg-0a",),
        network_isolation=True,
        encrypt_traffic=True,
        tags={"team": "nlp"},
        environment={"NCCL_DEBUG": "INFO"},
        hyperparameters={"extra": "1"},
        warm_pool_seconds=600,
        training_plan="arn:aws:sagemaker:us-east-1:123456789012:training-plan/week",
    ).render(recipe(), "0" * 64)
    assert request["AlgorithmSpecification"]["TrainingImage"].endswith("/mine:1")
    assert request["ResourceConfig"] == {
        "InstanceType": "ml.p5.48xlarge",
        "InstanceCount": 2,
        "VolumeSizeInGB": 200,
        "VolumeKmsKeyId": KEY,
        "KeepAlivePeriodInSeconds": 600,
        "TrainingPlanArn": "arn:aws:sagemaker:us-east-1:123456789012:training-plan/week",
    }
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 2_419_200}
    assert request["VpcConfig"] == {"SecurityGroupIds": ["sg-0a"], "Subnets": ["subnet-0a", "subnet-0b"]}
    assert request["EnableNetworkIsolation"] is True
    assert request["EnableInterContainerTrafficEncryption"] is True
    assert request["Environment"] == {"NCCL_DEBUG": "INFO"}
    assert request["HyperParameters"]["extra"] == "1"
    assert {"Key": "team", "Value": "nlp"} in request["Tags"]


def test_the_output_takes_the_backend_s_own_key_unless_told_otherwise():
    assert backend(kms_key_id=KEY).render(recipe(), "0" * 64)[1]["OutputDataConfig"]["KmsKeyId"] == KEY
    _, request = backend(kms_key_id=KEY, output_kms_key="alias/other").render(recipe(), "0" * 64)
    assert request["OutputDataConfig"]["KmsKeyId"] == "alias/other"


def test_botocore_finds_nothing_wrong_with_the_request():
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob")
    if "ModelPackageConfig" not in model.input_shape.members:
        pytest.skip("this botocore does not know ModelPackageConfig; the extra `sagemaker` brings one that does")
    _, request = backend(model_package=PACKAGE, model_package_group=GROUP).render(recipe(), "0" * 64)
    assert not ParamValidator().validate(request, model.input_shape).has_errors()


@pytest.mark.parametrize(
    ("model", "instance_type", "offered"),
    [
        (NovaModel.MICRO, "ml.g5.12xlarge", True),
        (NovaModel.MICRO, "ml.g6.48xlarge", True),
        (NovaModel.LITE, "ml.g5.48xlarge", True),
        (NovaModel.LITE, "ml.g5.12xlarge", False),
        (NovaModel.PRO, "ml.g6.48xlarge", False),
    ],
)
def test_dpo_on_g5_and_g6_is_offered_here(model, instance_type, offered, pairs):
    nova = NovaClient(backend(instance_type=instance_type), output="s3://my-bucket/output")
    plan = nova.plan(DPORecipe(name="small", model=model, replicas=1, max_length=4096), pairs)
    assert ("instance-type-not-offered" not in {each.code for each in plan.errors}) is offered


def test_a_region_without_images_is_refused_by_the_plan(pairs):
    nova = NovaClient(backend(region="eu-west-1"), output="s3://my-bucket/output")
    plan = nova.plan(DPORecipe(name="far", model=NovaModel.MICRO, replicas=2), pairs)
    assert "region-not-offered" in {each.code for each in plan.errors}
    assert plan.objects == ()
    assert "eu-west-1" in str(plan)


WRONG = [
    ({"role": "NovaExec"}, "role"),
    ({"role": ""}, "role"),
    ({"volume_gb": 0}, "volume_gb"),
    ({"volume_gb": True}, "volume_gb"),
    ({"max_runtime_seconds": 28 * 86_400 + 1}, "max_runtime_seconds"),
    ({"max_runtime_seconds": 1.5}, "max_runtime_seconds"),
    ({"warm_pool_seconds": 21_601}, "warm_pool_seconds"),
    ({"output_kms_key": "a key"}, "output_kms_key"),
    ({"subnets": "subnet-1"}, "subnets"),
    ({"subnets": ("subnet-1",)}, "security_groups"),
    ({"security_groups": ("sg-1",)}, "subnets"),
    ({"subnets": ("net-1",), "security_groups": ("sg-1",)}, "subnets"),
    ({"subnets": ("subnet-1",), "security_groups": tuple(f"sg-{n}" for n in range(6))}, "security_groups"),
    ({"tags": {"nova-dpo-sdk/digest": "x"}}, "tags['nova-dpo-sdk/digest']"),
    ({"tags": {"aws:x": "x"}}, "tags['aws:x']"),
    ({"tags": {"team": "a" * 257}}, "tags['team']"),
    ({"tags": {f"t{n}": "x" for n in range(48)}}, "tags"),
    ({"tags": {1: "x"}}, "tags[1]"),
    ({"tags": {"team": "a\tb"}}, "tags['team']"),
    ({"tags": None}, "tags"),
    ({"environment": {"A": 1}}, "environment['A']"),
    ({"environment": {"BAD-NAME": "x"}}, "environment['BAD-NAME']"),
    ({"environment": {"A": "x" * 513}}, "environment['A']"),
    ({"environment": {f"V{n}": "x" for n in range(101)}}, "environment"),
    ({"environment": None}, "environment"),
    ({"hyperparameters": {"": "x"}}, "hyperparameters['']"),
    ({"hyperparameters": {"k" * 257: "x"}}, f"hyperparameters['{'k' * 80}'... (257 characters)]"),
    ({"hyperparameters": {"k": "x" * 2501}}, "hyperparameters['k']"),
    ({"hyperparameters": {"k": "a\nb"}}, "hyperparameters['k']"),
    ({"hyperparameters": {f"k{n}": "x" for n in range(99)}}, "hyperparameters"),
    ({"hyperparameters": ["k"]}, "hyperparameters"),
    ({"hyperparameters": {"base_model": "nova-pro/prod"}}, "hyperparameters['base_model']"),
    ({"model_package": PACKAGE}, "model_package_group"),
    ({"model_package": "nova/3", "model_package_group": GROUP}, "model_package"),
    ({"training_plan": "week"}, "training_plan"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "where"), WRONG)
def test_what_sagemaker_would_refuse_is_refused_before_anything_is_sent(options, where):
    with pytest.raises(ConfigurationError) as error:
        backend(**options)
    assert where in [each.where for each in error.value.findings]
    assert all(each.allowed for each in error.value.findings)


def test_every_wrong_option_is_named_at_once():
    with pytest.raises(ConfigurationError) as error:
        backend(role="x", volume_gb=0, warm_pool_seconds=-1)
    assert [each.where for each in error.value.findings] == ["role", "volume_gb", "warm_pool_seconds"]


@pytest.mark.parametrize(
    "more",
    [
        {"image": "1.dkr.ecr.us-east-1.amazonaws.com/mine:v2"},
        {"hyperparameters": {"seed": "7"}},
        {"model_package_group": "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/other"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_makes_another_model_makes_another_run(pairs, more):
    names = {
        NovaClient(backend(**options), output="s3://my-bucket/output").plan(recipe(name="run"), pairs).name
        for options in ({}, more, {"volume_gb": 50})
    }
    assert len(names) == 2  # more room on the disk is the same run


def test_what_sagemaker_takes_at_its_limits_is_taken():
    backend(
        tags={"Ünïté": "a\u00a0b", **{f"t{n}": "" for n in range(46)}},
        environment={f"_{n:0511}": "x\n" * 256 for n in range(100)},
        hyperparameters={f"{n:0256}": "x" * 2500 for n in range(98)},
    )


def test_the_limits_are_those_of_the_service_model():
    model = Session().get_service_model("sagemaker").shape_for("CreateTrainingJobRequest").members
    told = {name: (model[name].metadata["max"], model[name].key.metadata["max"], model[name].value.metadata["max"])
            for name in ("Environment", "HyperParameters")}  # fmt: skip
    assert told == {"Environment": (100, 512, 512), "HyperParameters": (100, 256, 2500)}
    tag = model["Tags"].member.members
    assert (model["Tags"].metadata["max"], tag["Key"].metadata["max"], tag["Value"].metadata["max"]) == (50, 128, 256)
    assert model["Environment"].key.metadata["pattern"] == "[a-zA-Z_][a-zA-Z0-9_]*"


def test_the_environment_is_shown_by_a_plan_and_by_repr(pairs):
    made = backend(environment={"NCCL_DEBUG": "INFO"})
    plan = NovaClient(made, output="s3://my-bucket/output").plan(recipe(name="run"), pairs)
    assert "NCCL_DEBUG: INFO" in str(plan)
    assert "'NCCL_DEBUG': 'INFO'" in repr(made.options)


ELSEWHERE = {
    "kms_key_id": KEY.replace("us-east-1", "eu-west-1"),
    "output_kms_key": KEY.replace("us-east-1", "eu-west-1"),
    "volume_kms_key": KEY.replace("us-east-1", "eu-west-1"),
    "training_plan": "arn:aws:sagemaker:eu-west-1:123456789012:training-plan/week",
    "model_package": PACKAGE.replace("us-east-1", "eu-west-1"),
    "model_package_group": GROUP.replace("us-east-1", "eu-west-1"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_lies_in_another_region_is_an_error(name):
    group = {"model_package_group": GROUP} if name == "model_package" else {}
    (found,) = backend(**group, **{name: ELSEWHERE[name]}).findings(recipe())
    assert (found.code, found.is_error) == ("arn-region", True)
    assert found.where == (name if name == "kms_key_id" else f"options.{name}")
    assert found.value == ELSEWHERE[name]
    assert "us-east-1" in found.allowed


def test_an_arn_stays_whole_where_a_plan_is_printed(pairs):
    made = backend(model_package_group=ELSEWHERE["model_package_group"])
    plan = NovaClient(made, output="s3://my-bucket/output").plan(recipe(name="run"), pairs)
    assert ELSEWHERE["model_package_group"] + "," in str(plan)


def test_a_group_of_another_account_is_a_warning_and_a_key_of_one_is_nothing():
    theirs = {"model_package_group": GROUP.replace("123456789012", "210987654321")}
    (found,) = backend(**theirs, output_kms_key=KEY.replace("123456789012", "210987654321")).findings(recipe())
    assert (found.code, found.is_error, found.where) == ("arn-account", False, "options.model_package_group")
    assert backend(output_kms_key="alias/nova", model_package_group=GROUP).findings(recipe()) == []


def test_a_missing_region_is_a_finding_not_a_crash(monkeypatch, pairs):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    made = TrainingJobBackend(ROLE)
    plan = NovaClient(made, output="s3://my-bucket/output").plan(recipe(name="run"), pairs)
    assert "region-missing" in {each.code for each in plan.errors}
    assert made.identity()["region"] == "(no Region)"

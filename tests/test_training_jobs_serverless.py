"""Serverless customization: parameters under their own names, limits of that route, and a model package to go on from."""

from __future__ import annotations

import json

import pytest
from botocore.session import Session
from sagemaker_support import needs_sdk

from nova_dpo_sdk import (
    Checkpoint,
    DPORecipe,
    FullRank,
    JobStatus,
    LoRA,
    NovaClient,
    NovaModel,
    SFTRecipe,
    TrainingJobBackend,
    TrainingJobOptions,
)
from nova_dpo_sdk.backends import JobRef
from nova_dpo_sdk.catalog import Catalog, TuningKind
from nova_dpo_sdk.errors import ConfigurationError, JobFailedError, NotFoundError
from nova_dpo_sdk.recipes import Nova2SFTRecipe

pytestmark = pytest.mark.skipif(
    "ServerlessJobConfig"
    not in Session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape.members,
    reason="the installed botocore is older than serverless customization",
)

ROLE = "arn:aws:iam::123456789012:role/nova-execution"
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/nova"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/nova/1"
SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, beta=0.05, tuning=LoRA(alpha=96), warmup_steps=1)


def options(group=GROUP, **more):
    return TrainingJobOptions(serverless=True, model_package_group=group, **more)


def backend(region="us-east-1", **more):
    given = options(GROUP.replace("us-east-1", region), **more)
    return TrainingJobBackend(ROLE, region=region, account="123456789012", options=given)


def planned(recipe, data, **more):
    return NovaClient(backend(**more), output="s3://my-bucket/output").plan(recipe, data)


@pytest.fixture
def nova(cloud):
    cloud.session().client("sagemaker", region_name="us-east-1").create_model_package_group(
        ModelPackageGroupName="nova"
    )
    return NovaClient(cloud.training_jobs(options=options()), output=cloud.output)


def test_a_hyperparameter_never_takes_the_place_of_what_the_recipe_says(pairs):
    plan = planned(DPO, pairs, hyperparameters={"learning_rate": "0.5", "name": "x", "seed": "7"})
    assert [each.where for each in plan.errors] == ["hyperparameters['learning_rate']", "hyperparameters['name']"]
    assert {each.code for each in plan.errors} == {"option-not-allowed"}
    assert planned(DPO, pairs, hyperparameters={"seed": "7"}).ok


def send(nova, plan):
    """What a submit sends, without the SageMaker SDK: the plan's own request."""
    nova.backend.resolve()
    nova._upload(plan, None)
    nova._record(plan)
    nova.backend.aws.client("sagemaker").create_training_job(**plan.objects[0])
    return nova.job(plan.ref)


# ------------------------------------------------------------------------------------------------ the request


def test_the_request_names_a_model_and_no_instances(pairs):
    plan = planned(DPO, pairs, accept_eula=True, sequence_length="16K")
    (request,) = plan.objects
    assert request["ServerlessJobConfig"] == {
        "BaseModelArn": "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/nova-textgeneration-lite",
        "AcceptEula": True,
        "JobType": "FineTuning",
        "CustomizationTechnique": "DPO",
        "Peft": "LORA",
        "SequenceLength": "16K",
    }
    assert not request.keys() & {"ResourceConfig", "AlgorithmSpecification"}
    assert request["ModelPackageConfig"] == {"ModelPackageGroupArn": GROUP}
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://my-bucket/output", "CompressionType": "NONE"}
    (channel,) = request["InputDataConfig"]
    assert channel["ChannelName"] == "train"
    assert channel["DataSource"]["S3DataSource"]["S3DataType"] == "Converse"
    assert plan.target["instance_type"] == "serverless"
    text = str(plan)
    assert "instances that AWS chooses" in text
    assert "output/output/manifest.json" in text
    assert "replicas-not-sent" not in text


def test_a_plan_says_from_which_package_it_starts(pairs):
    assert f"from       {PACKAGE}" in str(planned(DPO, pairs, model_package=PACKAGE))


def test_parameters_go_by_the_names_of_that_route(pairs):
    given = planned(DPO, pairs).objects[0]["HyperParameters"]
    assert given.pop("name").startswith("support-dpo-")
    assert given == {
        "global_batch_size": "64",
        "max_epochs": "2",
        "learning_rate": "1e-05",
        "min_lr": "1e-06",
        "warmup_steps": "1",
        "weight_decay": "0.01",
        "adam_beta": "0.05",
        "lora_alpha": "96",
        "learning_rate_ratio": "20.0",
        "max_context_length": "16384",
    }


def test_full_rank_names_no_adapter(pairs):
    recipe = DPORecipe(name="full", model=NovaModel.PRO, tuning=FullRank())
    (request,) = planned(recipe, pairs).objects
    assert "Peft" not in request["ServerlessJobConfig"]
    assert not request["HyperParameters"].keys() & {"lora_alpha", "learning_rate_ratio"}


def test_nova_2_lite_has_parameters_of_its_own(chats):
    plan = planned(Nova2SFTRecipe(name="two", reasoning_enabled=False), chats)
    given = plan.objects[0]["HyperParameters"]
    assert given["reasoning_enabled"] == "False"
    assert {"max_steps", "save_steps", "fine_tuned_model", "val_check_interval"} <= given.keys()
    assert plan.objects[0]["ServerlessJobConfig"]["BaseModelArn"].endswith("/nova-textgeneration-lite-v2")


def test_botocore_finds_nothing_wrong_with_the_request(pairs):
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob")
    arn = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/app-1"
    recipe = DPO.replace(mlflow_tracking_uri=arn, mlflow_run_name="first")
    (request,) = planned(recipe, pairs, model_package=PACKAGE, sequence_length="8K").objects
    assert not ParamValidator().validate(request, model.input_shape).has_errors()
    assert request["MlflowConfig"] == {"MlflowResourceArn": arn, "MlflowRunName": "first"}
    assert request["ModelPackageConfig"]["SourceModelPackageArn"] == PACKAGE


# ------------------------------------------------------------------------------------------------ its limits


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"beta": 0.2}, "beta-not-allowed"),
        ({"global_batch_size": 128}, "global-batch-size-not-allowed"),
        ({"tuning": LoRA(loraplus_lr_ratio=80.0)}, "loraplus-lr-ratio-not-allowed"),
        ({"hidden_dropout": 0.1}, "parameter-not-serverless"),
        ({"extra": {"training_config.new_key": 1}}, "parameter-not-serverless"),
        ({"mlflow_tracking_uri": "https://mlflow.example"}, "mlflow-not-an-arn"),
        ({"mlflow_run_name": "first"}, "mlflow-not-an-arn"),
    ],
)
def test_what_that_route_does_not_take_is_an_error_of_the_plan(pairs, change, code):
    plan = planned(DPO.replace(**change), pairs)
    assert code in {each.code for each in plan.errors}
    assert all(each.source for each in plan.errors)


def test_replicas_are_not_sent_and_that_is_said(pairs):
    plan = planned(DPO.replace(replicas=4), pairs)
    assert plan.ok
    assert "replicas-not-sent" in {each.code for each in plan.findings}
    assert "replicas-not-sent" not in {each.code for each in planned(DPO, pairs).findings}


@pytest.mark.parametrize(
    ("region", "errors", "warnings"),
    [
        ("us-east-1", set(), set()),
        ("eu-west-1", set(), {"region-disputed"}),
        ("eu-west-3", {"region-not-allowed"}, set()),
    ],
)
def test_regions_are_those_of_that_route(pairs, region, errors, warnings):
    plan = planned(DPO, pairs, region=region)
    assert {each.code for each in plan.errors} == errors
    assert {each.code for each in plan.warnings} - {"few-records"} == warnings


def test_a_checkpoint_is_refused_and_the_model_package_named_instead(pairs):
    theirs = Checkpoint(uri="s3://customer-escrow-1-smtj-x/j/1", model=NovaModel.LITE, tuning=TuningKind.LORA)
    plan = planned(DPO.starting_from(theirs), pairs)
    (error,) = plan.errors
    assert error.code == "checkpoint-needs-model-package"
    assert "job.model_package()" in error.fix


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"options": TrainingJobOptions(serverless=True)}, "model_package_group"),
        ({"options": options(image="x")}, "image"),
        ({"options": options(volume_gb=100)}, "volume_gb"),
        ({"options": options(warm_pool_seconds=60)}, "warm_pool_seconds"),
        ({"options": options(environment={"A": "secret"})}, "environment"),
        ({"options": options(sequence_length="8192")}, "sequence_length"),
        ({"options": options(), "instance_type": "ml.p5.48xlarge"}, "instance_type"),
        ({"options": TrainingJobOptions(accept_eula=True)}, "accept_eula"),
        ({"options": TrainingJobOptions(sequence_length="8K")}, "sequence_length"),
    ],
)
def test_what_only_instances_have_is_refused_before_anything_is_sent(wrong, where):
    with pytest.raises(ConfigurationError) as error:
        TrainingJobBackend(ROLE, region="us-east-1", **wrong)
    assert [each.where for each in error.value.findings] == [where]
    assert "secret" not in str(error.value)


def test_every_fact_of_that_route_names_its_source():
    catalog = Catalog.packaged()
    limits = [limit for each in catalog.serverless.combinations for limit in each.limits.values()]
    assert limits
    for limit in [*limits, catalog.serverless.regions]:
        assert set(limit.bounds.source) <= catalog.sources.keys()
        assert limit.bounds.admits(limit.default)
    assert set(catalog.serverless.hub_names) == set(catalog.models)


# ------------------------------------------------------------------------------------------------ the whole way


def test_sft_then_dpo_from_its_model_package(cloud, nova, chats, pairs):
    job = send(nova, nova.plan(SFT, chats))
    with pytest.raises(NotFoundError, match="no model package"):
        job.model_package()
    taught = job.result()
    assert taught.uri == f"s3://{cloud.cluster.training_escrow}/{job.name}/10"
    package = job.model_package()
    assert package == PACKAGE
    held = nova.backend.aws.read(nova.output.join(job.name, "output", "output", "manifest.json"))
    assert json.loads(held.body)["checkpoint_s3_bucket"] == taught.uri
    onward = NovaClient(cloud.training_jobs(options=options(model_package=package)), output=cloud.output)
    second = send(onward, onward.plan(DPO, pairs))
    assert second.result().uri.endswith(f"/{second.name}/10")
    assert second.model_package().endswith("/nova/2")
    assert len(nova.backend.saved_metrics(JobRef.parse(job.ref), nova.output)) == 10


def test_the_service_refuses_what_a_plan_would_have_refused(nova, pairs):
    plan = nova.plan(DPO, pairs)
    (request,) = plan.objects
    wrong = {**request, "HyperParameters": {**request["HyperParameters"], "adam_beta": "0.5"}}
    nova._upload(plan, None)
    nova.backend.aws.client("sagemaker").create_training_job(**wrong)
    snapshot = nova.job(plan.ref).wait()
    assert (snapshot.status, snapshot.reason) == (JobStatus.FAILED, "AlgorithmError")
    assert "adam_beta" in snapshot.message


def test_a_package_of_another_model_fails_the_job(cloud, nova, chats, pairs):
    send(nova, nova.plan(SFT, chats)).result()
    onward = NovaClient(cloud.training_jobs(options=options(model_package=PACKAGE)), output=cloud.output)
    with pytest.raises(JobFailedError, match="no model package of nova-pro"):
        send(onward, onward.plan(DPO.replace(model=NovaModel.PRO), pairs)).result()


def test_the_preflight_asks_for_the_group_and_not_for_instances(cloud, nova, pairs):
    found = {check.question: check for check in nova.check(nova.plan(DPO, pairs)).checks}
    assert not found.keys() & {"quota", "image"}
    assert found["model package group"].state == "ok"
    elsewhere = TrainingJobOptions(serverless=True, model_package_group=GROUP.replace("/nova", "/gone"))
    lost = NovaClient(cloud.training_jobs(options=elsewhere), output=cloud.output)
    found = {check.question: check for check in lost.check(lost.plan(DPO, pairs)).checks}
    assert [each.code for each in found["model package group"].findings] == ["model-package-group-missing"]


@needs_sdk
def test_a_serverless_job_is_submitted_once_through_the_sdk(cloud, nova, pairs):
    plan = nova.plan(DPO, pairs)
    job = nova.submit(plan)
    assert cloud.training._jobs[plan.name].request == plan.objects[0]
    assert nova.submit(plan).adopted
    assert job.result().uri
    assert job.to_sagemaker().output_model_package_arn == job.model_package()

"""The same recipe through the SageMaker SDK's own ModelTrainer and through ours: the two requests, field by field."""

from __future__ import annotations

import pytest
import yaml
from sagemaker_support import needs_trainer

from nova_dpo_sdk import Checkpoint, DPORecipe, NovaClient, NovaModel, TrainingJobOptions
from nova_dpo_sdk.catalog import TuningKind

pytestmark = [
    needs_trainer,
    pytest.mark.filterwarnings("ignore"),  # the SDK's own deprecations
]

GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/nova"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/nova/3"
KEY = "arn:aws:kms:us-east-1:123456789012:key/abc"
DPO = DPORecipe(name="support-dpo", model=NovaModel.MICRO, replicas=2, beta=0.1, warmup_steps=1)

# field: why ours is another one
DIFFERENCES = {
    "TrainingJobName": "ours is known before it is sent, and creating it twice is creating it once",
    "InputDataConfig.recipe.S3Uri": "ours is named after the recipe's own bytes, so the same recipe is sent once",
    "Tags": "ours carries the digest by which a run is known again",
}


@pytest.fixture(autouse=True)
def no_telemetry(tmp_path, monkeypatch):
    config = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for name in ("ADMIN", "USER"):
        monkeypatch.setenv(f"SAGEMAKER_{name}_CONFIG_OVERRIDE", str(tmp_path / "config.yaml"))


def fields(value, path=""):
    """Every leaf of a request by its path; channels by their names."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from fields(each, f"{path}.{key}" if path else key)
    elif path == "InputDataConfig":
        for channel in value:
            source = channel["DataSource"]["S3DataSource"]
            rest = {key: each for key, each in channel.items() if key not in ("ChannelName", "DataSource")}
            yield from fields({**source, **rest}, f"{path}.{channel['ChannelName']}")
    else:
        yield path, value


def theirs(cloud, plan, tmp_path):
    """What ModelTrainer sends for the recipe of a plan, and the recipe that it uploads."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.train.configs import Compute, InputData, OutputDataConfig, S3DataSource, StoppingCondition
    from sagemaker.train.model_trainer import ModelTrainer

    upload, request = plan.objects
    file = tmp_path / "recipe.yaml"
    file.write_text(upload["Body"], encoding="utf-8")
    trainer = ModelTrainer.from_recipe(
        training_recipe=str(file),
        compute=Compute(instance_type=plan.backend.instance_type),
        role=cloud.training.role,
        sagemaker_session=Session(boto_session=cloud.session(), default_bucket=cloud.bucket),
        training_image=request["AlgorithmSpecification"]["TrainingImage"],
        base_job_name="support-dpo",
        output_data_config=OutputDataConfig(
            s3_output_path=cloud.output, kms_key_id=request["OutputDataConfig"].get("KmsKeyId")
        ),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=86_400),
    )
    names = ["train", "validation"][: len(plan.uploads)]
    channels = [
        InputData(
            channel_name=name,
            data_source=S3DataSource(
                s3_data_type="Converse", s3_uri=each.uri, s3_data_distribution_type="FullyReplicated"
            ),
        )
        for name, each in zip(names, plan.uploads, strict=True)
    ]
    before = set(cloud.training._jobs)
    trainer.train(input_data_config=channels, wait=False)
    (name,) = set(cloud.training._jobs) - before
    sent = cloud.training._jobs[name].request
    place = dict(fields(sent))["InputDataConfig.recipe.S3Uri"]
    return sent, plan.backend.aws.read(plan.inputs.output.parse(place)).body.decode()


def start_from(checkpoint):
    return DPO.starting_from(Checkpoint(uri=checkpoint, model=NovaModel.MICRO, tuning=TuningKind.LORA))


@pytest.mark.parametrize(
    ("recipe", "options", "validated"),
    [
        (DPO, TrainingJobOptions(), False),
        (DPO, TrainingJobOptions(), True),
        (start_from("s3://customer-escrow-123456789012-smtj-abc123/job-a/123"), TrainingJobOptions(), False),
        (DPO, TrainingJobOptions(model_package=PACKAGE, model_package_group=GROUP), False),
        (DPO, TrainingJobOptions(output_kms_key=KEY), False),
    ],
    ids=["base model", "validation data", "checkpoint", "model package", "kms"],
)
def test_both_ways_send_the_same_but_for_named_differences(cloud, pairs, tmp_path, recipe, options, validated):
    nova = NovaClient(cloud.training_jobs(options=options), output=cloud.output)
    plan = nova.plan(recipe, pairs, validation=pairs if validated else None)
    nova.submit(plan)
    ours = dict(fields(cloud.training._jobs[plan.name].request))
    sent, text = theirs(cloud, plan, tmp_path)
    other = dict(fields(sent))
    differing = {path for path in ours.keys() | other.keys() if ours.get(path) != other.get(path)}
    assert differing == set(DIFFERENCES)
    assert yaml.safe_load(text) == yaml.safe_load(plan.objects[0]["Body"])


def test_our_submit_asks_for_less(cloud, pairs):
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    plan = nova.plan(DPO, pairs)
    before = len(cloud.requests)
    nova.backend.resolve()
    nova.backend.submit(plan)
    asked = [each.operation for each in cloud.requests[before:]]
    assert asked == ["GetCallerIdentity", "DescribeTrainingJob", "PutObject", "CreateTrainingJob"]

"""A stage on SageMaker Training Jobs as states: `sagemaker:createTrainingJob.sync`, then a reader of the manifest.

A training job leaves its manifest inside `output.tar.gz`. A state machine reads text from S3 but unpacks nothing, so
the checkpoint is read by a Lambda function of yours; `read_manifest.py` beside this file is its whole source.

Sources: AWS Step Functions developer guide, "Manage Amazon SageMaker" (the parameters that the integration takes),
"Run a Job (.sync)", "Invoke Lambda"; AWS CDK, `SageMakerCreateTrainingJob` (EnableNetworkIsolation, Environment).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.export import _states as asl

if TYPE_CHECKING:
    from nova_dpo_sdk.export._draft import DraftStage

Json = dict[str, Any]

TAKEN = frozenset({
    "AlgorithmSpecification", "EnableNetworkIsolation", "Environment", "HyperParameters", "InputDataConfig",
    "OutputDataConfig", "ResourceConfig", "RoleArn", "StoppingCondition", "Tags", "TrainingJobName", "VpcConfig",
})  # fmt: skip
"""What the native integration takes of a CreateTrainingJob request."""
ARCHIVE = ("output", "output.tar.gz")
"""Where a job's archive lies below its folder."""


def stage_states(
    stage: DraftStage, poll_seconds: int, start: str, checkpoint: str, then: str, *, reader: str | None
) -> dict[str, Json]:
    """The states of one stage, the first one first.

    Args:
        stage: The stage.
        poll_seconds: Seconds between two looks at a job that was there already.
        start: Path of the checkpoint that it starts from; empty when that is known already.
        checkpoint: Path at which its own checkpoint is left.
        then: The state that follows.
        reader: ARN of the function that reads manifests; without one the checkpoint is not read.

    Raises:
        ConfigurationError: The request says something that the integration does not take.
    """
    called = asl.Names(stage.name)
    after = called("manifest") if reader else then
    states = {**_sent(stage, start, after), **_followed(stage, poll_seconds, after)}
    if reader:
        states |= _read(stage, reader, checkpoint, then)
    return states


def _sent(stage: DraftStage, start: str, after: str) -> dict[str, Json]:
    called = asl.Names(stage.name)
    upload, request = stage.objects
    _integration_takes(stage, request)
    states: dict[str, Json] = {}
    upload = {**upload, **_encryption(stage)}
    if stage.parent is not None:
        there = stage.parent.stand_in
        pieces, joined = asl.text_with(upload["Body"].split(there), [start] * upload["Body"].count(there))
        states[called("recipe")] = asl.put(pieces, "$.text", called("put recipe"))
        upload = {**{key: value for key, value in upload.items() if key != "Body"}, "Body.$": joined}
        request = {**request, "HyperParameters": _handed_over(request["HyperParameters"], there, start)}
    states[called("put recipe")] = asl.task(
        "aws-sdk:s3:putObject", upload, ResultPath=None, Retry=asl.try_again("S3"), Next=called("train")
    )
    states[called("train")] = asl.task(
        "sagemaker:createTrainingJob.sync",
        request,
        ResultSelector={"status.$": "$.TrainingJobStatus"},
        ResultPath="$.job",
        Catch=[asl.catch("SageMaker.ResourceInUseException", called("look at job"))],
        Next=called("how it ended"),
    )
    states[called("how it ended")] = asl.choice([(asl.equals("$.job.status", "Completed"), after)], called("failed"))
    return states


def _integration_takes(stage: DraftStage, request: Json) -> None:
    left_out = sorted(set(request) - TAKEN)
    if left_out:
        raise ConfigurationError(
            f"Stage {stage.name} asks for {', '.join(left_out)}, which Step Functions' SageMaker integration does not "
            "take. Leave it out of TrainingJobOptions, or run this chain from Python. "
            f"It takes {', '.join(sorted(TAKEN))}."
        )


def _encryption(stage: DraftStage) -> Json:
    key = stage.plan.backend.aws.kms_key_id
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}


def _handed_over(hyperparameters: Json, stand_in: str, start: str) -> Json:
    return {
        (f"{key}.$" if value == stand_in else key): (start if value == stand_in else value)
        for key, value in hyperparameters.items()
    }


def _followed(stage: DraftStage, poll_seconds: int, after: str) -> dict[str, Json]:
    """For a name that is taken: make sure that it is this very run, and wait for it."""
    called, plan = asl.Names(stage.name), stage.plan
    status = "$.seen.status"
    return {
        called("look at job"): asl.task(
            "aws-sdk:sagemaker:describeTrainingJob",
            {"TrainingJobName": plan.name},
            ResultSelector={"status.$": "$.TrainingJobStatus", "arn.$": "$.TrainingJobArn"},
            ResultPath="$.seen",
            Retry=asl.try_again("SageMaker", ["ResourceNotFoundException"]),
            Next=called("whose is it?"),
        ),
        called("whose is it?"): asl.task(
            "aws-sdk:sagemaker:listTags",
            {"ResourceArn.$": "$.seen.arn"},
            ResultSelector={"ours.$": f"States.ArrayContains($.Tags[*].Value, '{plan.digest}')"},
            ResultPath="$.tags",
            Retry=asl.try_again("SageMaker"),
            Next=called("what it does"),
        ),
        called("what it does"): asl.choice(
            [
                (asl.none_of(asl.is_true("$.tags.ours")), called("another run")),
                (asl.equals(status, "Completed"), after),
                (asl.equals(status, "InProgress"), called("wait")),
                (asl.equals(status, "Stopping"), called("wait")),
            ],
            called("failed"),
        ),
        called("wait"): asl.wait(poll_seconds, called("look at job")),
        called("another run"): asl.fail(
            "NovaJobNameTaken", f"Training job {plan.name} is there and is another run. Give the recipe another name."
        ),
        called("failed"): asl.fail(
            "NovaJobFailed",
            f"{plan.name} failed or was stopped, now or in an earlier execution. SageMaker keeps the name: export the "
            "machine again with the next attempt of this stage.",
        ),
    }


def _read(stage: DraftStage, reader: str, checkpoint: str, then: str) -> dict[str, Json]:
    called, plan = asl.Names(stage.name), stage.plan
    place = plan.inputs.output.join(plan.name, *ARCHIVE)
    return {
        called("manifest"): asl.task(
            "lambda:invoke",
            {"FunctionName": reader, "Payload": {"bucket": place.bucket, "key": place.key}},
            ResultSelector={"checkpoint.$": "$.Payload.checkpoint"},
            ResultPath="$.manifest",
            Retry=asl.try_again("Lambda"),
            Next=called("checkpoint"),
        ),
        called("checkpoint"): asl.keep("$.manifest.checkpoint", checkpoint, then),
    }

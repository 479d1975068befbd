"""SageMaker's training jobs as its API shows them: look, list, stop, read tags."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.errors import ConfigurationError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

PAGE = 100
"""Most jobs that one answer of ListTrainingJobs holds."""
_MISSING = "not found"
_REFUSED = frozenset({"ValidationException", "ValidationError"})


def describe(client: Any, name: str) -> Json:
    """A training job by name.

    Raises:
        NotFoundError: There is no such job in this account and Region.
    """
    try:
        with aws_errors("DescribeTrainingJob", f"training job {name}"):
            return dict(client.describe_training_job(TrainingJobName=name))
    except ServiceError as error:
        # SageMaker says "Requested resource not found" as a ValidationException.
        if error.code in _REFUSED and _MISSING in str(error).lower():
            raise _not_there(name, error) from error
        raise


def _not_there(name: str, error: ServiceError) -> NotFoundError:
    return NotFoundError(
        f"There is no training job {name} in this account and Region.",
        operation=error.operation,
        target=error.target,
        code=error.code,
        request_id=error.request_id,
    )


def describe_group(client: Any, name: str) -> Json:
    """A model package group by its name or ARN.

    Raises:
        NotFoundError: There is no such group.
    """
    try:
        with aws_errors("DescribeModelPackageGroup", f"model package group {name}"):
            return dict(client.describe_model_package_group(ModelPackageGroupName=name))
    except ServiceError as error:
        if error.code in _REFUSED and any(word in str(error).lower() for word in (_MISSING, "does not exist")):
            raise NotFoundError(
                f"There is no model package group {name}.",
                operation=error.operation,
                target=error.target,
                code=error.code,
                request_id=error.request_id,
            ) from error
        raise


def describe_or_none(client: Any, name: str) -> Json | None:
    """A training job by name; None when there is none."""
    try:
        return describe(client, name)
    except NotFoundError:
        return None


def summaries(client: Any, *, created_after: datetime | None = None, name_contains: str = "") -> Iterator[Json]:
    """Every training job in short, the newest first, a page of a hundred for each request.

    Args:
        client: A boto3 client of SageMaker.
        created_after: Leave out what is older.
        name_contains: Leave out what does not have this in its name.
    """
    given: Json = {"MaxResults": PAGE, "SortBy": "CreationTime", "SortOrder": "Descending"}
    if created_after is not None:
        given["CreationTimeAfter"] = created_after
    if name_contains:
        given["NameContains"] = name_contains
    while True:
        with aws_errors("ListTrainingJobs", "training jobs"):
            page: Any = client.list_training_jobs(**given)
        yield from page.get("TrainingJobSummaries") or ()
        if not page.get("NextToken"):
            return
        given["NextToken"] = page["NextToken"]


def search(client: Any, tags: Mapping[str, str | None], *, created_after: datetime | None = None) -> Iterator[Json]:
    """Every training job with these tags, in full, the newest first, a page of a hundred for each request.

    Args:
        client: A boto3 client of SageMaker.
        tags: Keys and values; any value will do where it is None.
        created_after: Leave out what is older.
    """
    filters: list[Json] = [
        {"Name": f"Tags.{key}", **({"Operator": "Exists"} if value is None else {"Operator": "Equals", "Value": value})}
        for key, value in tags.items()
    ]
    if created_after is not None:
        moment = created_after.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        filters.append({"Name": "CreationTime", "Operator": "GreaterThanOrEqualTo", "Value": moment})
    given: Json = {
        "Resource": "TrainingJob",
        "SearchExpression": {"Filters": filters},
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "MaxResults": PAGE,
    }
    while True:
        with aws_errors("Search", "training jobs"):
            page: Any = client.search(**given)
        yield from (each["TrainingJob"] for each in page.get("Results") or () if "TrainingJob" in each)
        if not page.get("NextToken"):
            return
        given["NextToken"] = page["NextToken"]


def stop(client: Any, name: str) -> None:
    """Ask SageMaker to stop a job.

    Raises:
        NotFoundError: There is no such job.
        ServiceError: It cannot be stopped any more (`ValidationException`), or something else is wrong.
    """
    with aws_errors("StopTrainingJob", f"training job {name}"):
        client.stop_training_job(TrainingJobName=name)


def delete(client: Any, name: str) -> None:
    """Delete a job that is over, with its record; its name is free again.

    Raises:
        NotFoundError: There is no such job (any more).
        ServiceError: It is not over, or its instances are kept warm.
        ConfigurationError: The installed boto3 is older than this request.
    """
    if not hasattr(client, "delete_training_job"):
        raise ConfigurationError("The installed boto3 does not know DeleteTrainingJob: pip install -U boto3")
    try:
        with aws_errors("DeleteTrainingJob", f"training job {name}"):
            client.delete_training_job(TrainingJobName=name)
    except ServiceError as error:
        if error.code in _REFUSED and _MISSING in str(error).lower():
            raise _not_there(name, error) from error
        raise


def tags(client: Any, arn: str) -> dict[str, str]:
    """Every tag of a job.

    Raises:
        AccessDeniedError: The caller may not look (sagemaker:ListTags).
    """
    found: dict[str, str] = {}
    given: Json = {"ResourceArn": arn}
    while True:
        with aws_errors("ListTags", arn):
            page: Any = client.list_tags(**given)
        found.update({str(each["Key"]): str(each["Value"]) for each in page.get("Tags") or ()})
        if not page.get("NextToken"):
            return found
        given["NextToken"] = page["NextToken"]

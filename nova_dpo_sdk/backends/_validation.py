"""Whether the validation data that a recipe itself names are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends._preflight import Check, unknown
from nova_dpo_sdk.errors import AccessDeniedError, Finding, NotFoundError, Severity

if TYPE_CHECKING:
    from nova_dpo_sdk.aws import AWS
    from nova_dpo_sdk.backends._plan import Plan

VALIDATION = "validation data"
"""The question."""

_FIELD = "validation_data_s3_path"


def named_validation(plan: Plan) -> dict[str, str]:
    """The paths that nothing of the plan lies at, by the fields of the recipe."""
    listed: dict[str, str] = getattr(plan.recipe, f"{_FIELD}_list", None) or {}
    fields = {_FIELD: plan.recipe.validation_data_s3_path, **{f"{_FIELD}_list.{k}": v for k, v in listed.items()}}
    planned = {each.uri for each in plan.uploads}
    return {where: uri for where, uri in fields.items() if uri and uri not in planned}


def validation_check(aws: AWS, plan: Plan) -> Check:
    """Ask for every such object, and whether its bucket is the account's and lies in its Region.

    Raises:
        ConfigurationError: A bucket is not, or a path is no address.
    """
    named = named_validation(plan)
    found = tuple(finding for where, uri in named.items() for finding in _looked_for(aws, where, uri))
    there = len(named) - len(found)
    return Check(VALIDATION, f"{there} of {plural(len(named), 'file')} {are(there)} there", found)


def _looked_for(aws: AWS, where: str, uri: str) -> tuple[Finding, ...]:
    try:
        there = _is_there(aws, S3Uri.parse(uri))
    except AccessDeniedError as error:
        return unknown(VALIDATION, error, severity=Severity.WARNING).findings
    return () if there else (_missing(where, uri),)


def _is_there(aws: AWS, uri: S3Uri) -> bool:
    try:
        aws.check_bucket(uri)
    except NotFoundError:
        return False
    return aws.head(uri) is not None


def _missing(where: str, uri: str) -> Finding:
    return Finding(
        "validation-data-missing", Severity.ERROR, where, f"{uri} does not exist.", uri, "",
        "Correct the path in the recipe, or plan with validation=, which is sent along.",
    )  # fmt: skip

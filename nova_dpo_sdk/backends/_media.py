"""Whether a run can read the media that its records show: what the records say, and what S3 says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends._preflight import Check, ask_all, unknown
from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError, Finding, NotFoundError, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nova_dpo_sdk.aws import AWS
    from nova_dpo_sdk.backends._contract import Backend
    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.datasets import MediaPlace, Report

MEDIA = "media"
"""The question, and where its findings are."""

_NAMED = 3
"""Further buckets that a message names."""
_ALLOWED = "every S3 location in the account and Region of the cluster"
_FIX = "Copy the media into a bucket of the job's account and Region, and write its address and owner into the records."
_MISTAKEN = f"{_FIX} If the bucket is that account's own, correct bucketOwner."
_COMPARE = "Make sure that it is this one; give the backend its account= to have them compared."
_SOURCE = "AWS Nova user guide, DPO"


def owner_findings(media: Sequence[MediaPlace], backend: Backend, output: S3Uri) -> Iterator[Finding]:
    """What is wrong about the accounts that the records name; asks nobody.

    Args:
        media: Where the media of all records lie.
        backend: Where they would be read.
        output: The client's output: its bucket is the account's own, or nothing runs.
    """
    # A job runs in the account of its role; only training jobs name one before they are sent.
    account: str | None = backend.aws.known_account or getattr(backend, "role_account", None)
    owned = [each for each in media if each.owner]
    if account:
        yield from _foreign(media, account)
    elif len(owners := sorted({each.owner for each in owned})) > 1:
        said = f"the records name {len(owners)} accounts, and a job reads from one"
        yield _finding("media-of-several-accounts", Severity.ERROR, owned, said, _MISTAKEN)
    elif elsewhere := [each for each in owned if each.bucket != output.bucket]:
        said = "which account the job will run in is not known yet"
        yield _finding("media-owner-unknown", Severity.WARNING, elsewhere, said, _COMPARE)


def beyond(role: str, report: Report) -> Iterator[Finding]:
    """That there are more places than a report keeps, if there are."""
    if report.more_media:
        message = (
            f"Media lie in more than {len(report.media)} places; only the first {len(report.media)} are looked at."
        )
        yield Finding("media-in-many-places", Severity.NOTE, role, message, fix="Keep them in few buckets.")


def _foreign(media: Sequence[MediaPlace], account: str) -> Iterator[Finding]:
    foreign = [each for each in media if each.owner not in ("", account)]
    if foreign:
        said = f"the job runs in account {account}"
        yield _finding("media-of-another-account", Severity.ERROR, foreign, said, _MISTAKEN)


def _finding(code: str, severity: Severity, places: Sequence[MediaPlace], said: str, fix: str) -> Finding:
    first, *others = _each_once(places)
    more = f" The same of {plural(len(others), 'other place')}: {_listed(others)}." if others else ""
    message = f"{_lie(first)} of account {first.owner}, such as {first.example}; {said}.{more}"
    return Finding(code, severity, MEDIA, message, first.owner, _ALLOWED, fix, _SOURCE)


def _each_once(places: Sequence[MediaPlace]) -> list[MediaPlace]:
    """The places of training and validation data, those of both put together."""
    found: dict[tuple[str, str], MediaPlace] = {}
    for each in places:
        key = (each.bucket, each.owner)
        found[key] = replace(found[key], records=found[key].records + each.records) if key in found else each
    return list(found.values())


def _lie(place: MediaPlace) -> str:
    return f"In {plural(place.records, 'record')}, media lie in s3://{place.bucket}"


def _listed(places: Sequence[MediaPlace]) -> str:
    named = [f"s3://{each.bucket} of {each.owner}" for each in places[:_NAMED]]
    return ", ".join([*named, *(["..."] if len(places) > _NAMED else [])])


def media_check(aws: AWS, plan: Plan) -> Check:
    """Ask of every bucket with media whether it is there and the account's, and of an object in it whether it is.

    What the plan itself sends need not be there yet, and the output's bucket is asked about anyway.
    """
    buckets: dict[str, list[MediaPlace]] = {}
    for each in plan.media:
        buckets.setdefault(each.bucket, []).append(each)
    answers = ask_all((MEDIA, partial(_bucket, aws, plan, places)) for places in buckets.values())
    found = [*_foreign(plan.media, aws.account()), *(each for answer in answers for each in answer.findings)]
    named = plural(len(buckets), "bucket")
    return Check(MEDIA, f"in doubt in {named}" if found else f"an example is there in {named}", tuple(found))


def _bucket(aws: AWS, plan: Plan, places: Sequence[MediaPlace]) -> Check:
    sent = {each.uri for each in plan.uploads}
    try:
        if places[0].bucket != plan.inputs.output.bucket:
            aws.check_bucket(S3Uri(places[0].bucket))
        looked = [each for each in places if each.example not in sent]
        missing = [each for each in looked if aws.head(S3Uri.parse(each.example)) is None]
    except AccessDeniedError as error:
        return unknown(MEDIA, error, severity=Severity.WARNING)
    except (ConfigurationError, NotFoundError) as error:
        return Check(MEDIA, "", (_unusable(places[0], error),))
    return Check(MEDIA, "", tuple(map(_missing, missing)))


def _unusable(place: MediaPlace, error: Exception) -> Finding:
    message = f"{_lie(place)}, such as {place.example}. {error}"
    return Finding("media-bucket-unusable", Severity.ERROR, MEDIA, message, place.bucket, _ALLOWED, _FIX, _SOURCE)


def _missing(place: MediaPlace) -> Finding:
    message = f"{_lie(place)}. {place.example}, the first of them, does not exist."
    fix = "Bring the media to S3 first, or correct their addresses in the records."
    return Finding("media-missing", Severity.ERROR, MEDIA, message, place.example, "", fix)

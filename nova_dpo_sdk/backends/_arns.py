"""ARNs: those of another Region or account than the one where a job runs, and how policies name things."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = "AWS General Reference, Amazon Resource Names"


def literal(text: str) -> str:
    """A text in a policy's ARN in which `*`, `?` and `$` mean themselves.

    Source: IAM user guide, "IAM policy elements: Variables and tags".
    """
    return re.sub(r"[*?$]", r"${\g<0>}", text)


def key_target(key: str, home: str) -> dict[str, Any]:
    """The part of a policy's statement that says which KMS key it is about.

    An alias's ARN as the resource is the alias itself and allows the use of no key, so that an alias is a condition.

    Args:
        key: A key's ARN or id, or an alias's ARN or name.
        home: What the key's ARN begins with if `key` is none, such as `arn:aws:kms:us-east-1:123456789012`.

    Source: AWS KMS developer guide, "Use aliases to control access to KMS keys".
    """
    if key.startswith("arn:"):
        home, _, key = key.rpartition(":")
    if not key.startswith("alias/"):
        return {"Resource": [f"{home}:key/{key.removeprefix('key/')}"]}
    return {"Resource": [f"{home}:key/*"], "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": key}}}


def foreign_arn(where: str, arn: str | None, region: str, account: str = "") -> Iterator[Finding]:
    """An error when the resource lies in another Region, a warning when it lies in another account.

    Args:
        where: The field that names the resource.
        arn: Its ARN; an id or None lies nowhere else.
        region: Where it has to lie.
        account: Whose it should be; empty when that does not matter or is not known.
    """
    _, _, _, its_region, its_account, *_ = f"{arn or ''}:::::".split(":")
    if its_region and its_region != region:
        yield Finding(
            "arn-region", Severity.ERROR, where, f"{where} is {arn}, of {its_region}; the run is in {region}.",
            arn, f"a resource in {region}", f"Name one in {region}, or run in {its_region}.", _SOURCE,
        )  # fmt: skip
    elif its_account and account and its_account != account:
        yield Finding(
            "arn-account", Severity.WARNING, where, f"{where} is {arn}, and the role is of account {account}.",
            arn, f"a resource of {account}, or one that {its_account} shares with it", f"Check the account in {where}.",
            _SOURCE,
        )  # fmt: skip

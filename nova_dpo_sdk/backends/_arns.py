"""ARNs of another Region or account than the one where a job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = "AWS General Reference, Amazon Resource Names"


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

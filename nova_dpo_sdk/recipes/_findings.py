"""What is wrong or disputed about a recipe on one instance type and platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk.catalog import Catalog, Combination, Platform, Technique
from nova_dpo_sdk.errors import Finding, Severity
from nova_dpo_sdk.recipes._checkpoint import ESCROW_PREFIX
from nova_dpo_sdk.recipes._models import platform_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.recipes._models import Recipe


def recipe_findings(recipe: Recipe, instance_type: str, platform: Platform, catalog: Catalog) -> list[Finding]:
    """Errors and warnings about one recipe; the widest mistakes first."""
    offer = next(iter(catalog.find(recipe.technique, recipe.model, recipe.tuning.kind, instance_type)), None)
    found = [*_offer_findings(recipe, instance_type, platform, catalog, offer)]
    if offer is not None:
        found += _limit_findings(recipe, catalog, offer)
    found += _start_findings(recipe, platform)
    found += _disputed_keys(recipe, catalog)
    return found


def _subject(recipe: Recipe, catalog: Catalog) -> str:
    return f"{catalog.models[recipe.model].title} {recipe.technique} with {recipe.tuning.kind}"


def _offer_findings(
    recipe: Recipe, instance_type: str, platform: Platform, catalog: Catalog, offer: Combination | None
) -> Iterator[Finding]:
    subject = _subject(recipe, catalog)
    homes = catalog.find(recipe.technique, recipe.model, recipe.tuning.kind, platform=platform)
    here = ", ".join(sorted({each.instance_type for each in homes})) or "none"
    source = catalog.titles(["recipes"])
    if offer is None:
        known = catalog.instance(instance_type) is not None
        yield Finding(
            "instance-type-not-offered" if known else "instance-type-unknown",
            Severity.ERROR,
            "instance_type",
            f"{subject} has no published recipe for {instance_type!r}.",
            instance_type,
            here,
            f"Use one of the instance types that {platform} offers for it.",
            source,
        )
    elif platform not in offer.platforms:
        where = " and ".join(sorted(str(each) for each in offer.platforms))
        yield Finding(
            "platform-not-offered",
            Severity.ERROR,
            "instance_type",
            f"{subject} on {instance_type} has no image for {platform}; it runs on {where} only.",
            instance_type,
            here,
            f"Use another instance type, or run it on {where}.",
            source,
        )


def _limit_findings(recipe: Recipe, catalog: Catalog, offer: Combination) -> Iterator[Finding]:
    context = f" for {_subject(recipe, catalog)} on {offer.instance_type}"
    for name, limit in offer.limits.items():
        holder, where = (recipe, name) if hasattr(recipe, name) else (recipe.tuning, f"tuning.{name}")
        value = getattr(holder, name, None)
        if value is not None:
            yield from catalog.judge(name, value, limit, where=where, context=context)


def _start_findings(recipe: Recipe, platform: Platform) -> Iterator[Finding]:
    checkpoint = recipe.checkpoint
    if checkpoint is None:
        return
    yield from platform_mismatch(checkpoint, platform)
    if not checkpoint.uri.removeprefix("s3://").startswith(ESCROW_PREFIX):
        yield Finding(
            "checkpoint-not-escrow",
            Severity.WARNING,
            "checkpoint.uri",
            f"{checkpoint.uri} is not in a {ESCROW_PREFIX}* bucket, where Nova keeps checkpoints.",
            checkpoint.uri,
            f"s3://{ESCROW_PREFIX}<account>-.../<job>/...",
            "Take the path from the run's manifest.",
        )


def _disputed_keys(recipe: Recipe, catalog: Catalog) -> Iterator[Finding]:
    if recipe.technique is not Technique.DPO:
        return
    source = catalog.titles(["guide-dpo"])
    if recipe.mlflow_tracking_uri:
        yield Finding(
            "mlflow-disputed",
            Severity.WARNING,
            "mlflow_tracking_uri",
            "The published recipes carry MLflow fields, but an earlier guide says DPO does not log to MLflow.",
            "(set)",
            "",
            'Expect no MLflow run, or silence this with allow=["mlflow-disputed"].',
            source,
        )
    if recipe.validation_data_s3_path:
        yield Finding(
            "validation-data-disputed",
            Severity.WARNING,
            "validation_data_s3_path",
            "The guide lists validation data for DPO; the published DPO recipes have no such key.",
            recipe.validation_data_s3_path,
            "",
            'It may be ignored; silence this with allow=["validation-data-disputed"].',
            catalog.titles(["guide-dpo", "recipes"]),
        )

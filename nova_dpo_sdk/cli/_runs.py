"""`nova-dpo plan` and `submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._preflight import check_lines
from nova_dpo_sdk.backends._show import plan_head, size, verdict
from nova_dpo_sdk.cli._out import (
    BAD,
    GOOD,
    complain,
    finding_dict,
    finding_lines,
    head_lines,
    say,
    say_json,
    width,
)
from nova_dpo_sdk.cli._place import client
from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.recipes import Checkpoint, DPORecipe, Nova2SFTRecipe, Recipe

if TYPE_CHECKING:
    import argparse

    from nova_dpo_sdk.backends import Plan
    from nova_dpo_sdk.backends._preflight import Preflight
    from nova_dpo_sdk.client import NovaClient
    from nova_dpo_sdk.datasets import Dataset


def plan(arguments: argparse.Namespace) -> int:
    """Say everything that would be sent."""
    nova = client(arguments)
    made = _made(arguments, nova)
    asked = nova.check(made) if arguments.check and made.ok else None
    ok = made.ok and (asked is None or asked.ok)
    if arguments.json:
        say_json({**made.to_dict(), "ok": ok, **(_asked(asked) if asked else {})})
    elif arguments.full:
        say(str(made), *(["", str(asked)] if asked else []))
    else:
        say(*head_lines(plan_head(made), 11), "", *finding_lines(made.findings), verdict(made))
        say(*(["", *_answers(asked)] if asked else []))
    return GOOD if ok else BAD


def _asked(asked: Preflight) -> dict[str, object]:
    checks = [
        {"question": each.question, "answer": each.answer, "findings": [finding_dict(found) for found in each.findings]}
        for each in asked.checks
    ]
    return {"checks": checks}


def _answers(asked: Preflight) -> list[str]:
    return [
        *check_lines(asked.checks, width()),
        *finding_lines(asked.findings),
        "Ready to submit." if asked.ok else "It would be refused.",
    ]


def submit(arguments: argparse.Namespace) -> int:
    """Send a run exactly once."""
    nova = client(arguments)
    made = _made(arguments, nova)
    if made.ok and not arguments.json:
        complain(*finding_lines(made.warnings), *_sending(made))
    job = nova.submit(made)
    if arguments.json:
        say_json(
            {"ref": job.ref, "name": job.name, "adopted": job.adopted, "differs": job.differs, "digest": made.digest}
        )
    else:
        there = "It was there already; nothing was sent twice."
        kept = " It keeps what it was sent with." if job.differs else ""
        complain(f"{there}{kept}" if job.adopted else "Submitted.")
        say(job.ref)
    return GOOD


def _sending(made: Plan) -> list[str]:
    sent = [each for each in made.uploads if not each.in_place]
    what = f"{plural(len(sent), 'file')}, {size(sum(each.size for each in sent))}" if sent else "its data are there"
    return [f"Sending {made.name}: {what}"]


def _made(arguments: argparse.Namespace, nova: NovaClient) -> Plan:
    recipe = Recipe.from_file(arguments.recipe, extra=arguments.extra)
    if arguments.start:
        recipe = recipe.starting_from(_start(arguments.start, recipe, nova))
    return nova.draft(
        recipe,
        _data(recipe, arguments.data, nova),
        validation=_data(recipe, arguments.validation, nova) if arguments.validation else None,
        allow=arguments.allow,
        attempt=arguments.attempt,
    )


def _start(where: str, recipe: Recipe, nova: NovaClient) -> Checkpoint:
    if where.startswith("s3://"):  # the path alone does not say what it is, so the recipe is believed
        return Checkpoint(uri=where, model=recipe.model, tuning=recipe.tuning.kind)
    return nova.job(where).checkpoint()


def _data(recipe: Recipe, name: str, nova: NovaClient) -> Dataset:
    aws, nova2 = nova.backend.aws, isinstance(recipe, Nova2SFTRecipe)
    in_s3 = name.startswith("s3://")
    if isinstance(recipe, DPORecipe):
        return PreferenceDataset.from_s3(name, aws=aws) if in_s3 else PreferenceDataset.from_jsonl(name)
    return ChatDataset.from_s3(name, aws=aws, nova2=nova2) if in_s3 else ChatDataset.from_jsonl(name, nova2=nova2)

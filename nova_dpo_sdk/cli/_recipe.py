"""`nova-dpo recipe`: write, check and normalise recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk.catalog import NovaModel, Platform
from nova_dpo_sdk.cli._out import BAD, GOOD, complain, counted, finding_dict, finding_lines, say, say_json, write_file
from nova_dpo_sdk.errors import RecipeError
from nova_dpo_sdk.recipes import DPORecipe, FullRank, LoRA, Nova2SFTRecipe, Recipe, SFTRecipe

if TYPE_CHECKING:
    import argparse


def new(arguments: argparse.Namespace) -> int:
    """Write a recipe with the published defaults."""
    recipe = _published(arguments)
    place = _full(arguments.instance_type)
    errors = [each for each in recipe.findings(place, Platform(arguments.platform)) if each.is_error]
    if errors:
        raise RecipeError("There is no such recipe:", errors)
    text = recipe.to_yaml()
    if arguments.out is not None:
        written = write_file(Path(arguments.out), text)
        complain(f"Wrote {written}. Data and output paths are filled in by plan and submit.")
    if arguments.json:
        say_json({"file": arguments.out, "recipe": recipe.to_dict()})
    elif arguments.out is None:
        say(text.rstrip("\n"))
    return GOOD


def _published(arguments: argparse.Namespace) -> Recipe:
    model = NovaModel(arguments.model)
    tuning = LoRA() if arguments.tuning == "lora" else FullRank()
    name = arguments.name or f"{model}-{arguments.technique}"
    kind: type[DPORecipe | SFTRecipe | Nova2SFTRecipe] = DPORecipe
    if arguments.technique == "sft":
        kind = Nova2SFTRecipe if model is NovaModel.LITE_2 else SFTRecipe
    return kind(name=name, model=model, tuning=tuning).for_instance(_full(arguments.instance_type))


def _full(instance_type: str) -> str:
    return instance_type if instance_type.startswith("ml.") else f"ml.{instance_type}"


def check(arguments: argparse.Namespace) -> int:
    """Say everything that is wrong or disputed about a recipe."""
    try:
        recipe = Recipe.from_file(arguments.file, extra=arguments.extra)
    except RecipeError as error:
        if not (arguments.json and error.findings):
            raise
        say_json({"file": arguments.file, "ok": False, "findings": [finding_dict(each) for each in error.findings]})
        return BAD
    place = _full(arguments.instance_type)
    found = recipe.findings(place, Platform(arguments.platform))
    ok = not any(each.is_error for each in found)
    if arguments.json:
        say_json({"file": arguments.file, "ok": ok, "findings": [finding_dict(each) for each in found]})
    else:
        say(*finding_lines(found))
        what = f"{recipe.model} {recipe.technique}, {recipe.tuning.kind}, {recipe.replicas} x {place}"
        say(f"{arguments.file}: {what}: {counted(found)}")
    return GOOD if ok else BAD


def show(arguments: argparse.Namespace) -> int:
    """Print a recipe as it would be sent."""
    recipe = Recipe.from_file(arguments.file, extra=arguments.extra)
    if arguments.json:
        say_json(recipe.to_dict())
    else:
        say(recipe.to_yaml().rstrip("\n"))
    return GOOD

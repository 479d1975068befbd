"""Tables made from the code for pages of the reference: the catalog, rules of data, commands, permissions, states, faults."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import yaml

from nova_dpo_sdk import Catalog, HyperPodBackend, JobStatus, TrainingJobBackend
from nova_dpo_sdk.backends._next_steps import _OF_STATUS
from nova_dpo_sdk.cli._parser import parser
from nova_dpo_sdk.datasets import LIMITS, RULES
from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS
from nova_dpo_sdk.permissions import CALLS, iam_policy, kubernetes_access

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nova_dpo_sdk.catalog import Bounds, Limit

OUTPUT = "s3://acme-nova/runs"
ACCOUNT = "123456789012"


def write(folder: Path) -> None:
    """Write the tables of every page whose text has changed."""
    folder.mkdir(exist_ok=True)
    pages = {
        "catalog": catalog(),
        "rules": rules(),
        "cli": commands(),
        "permissions": permissions(),
        "states": states(),
        "faults": faults(),
    }
    for name, lines in pages.items():
        text = "\n".join(lines) + "\n"
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table in Markdown; cells may hold anything."""
    head = list(header)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("<", "&lt;") for cell in row) + " |"
    yield ""


def catalog() -> Iterator[str]:
    """Models, limits, images and sources."""
    held = Catalog.packaged()
    yield f"Revision {held.revision}."
    yield ""
    yield "## Models"
    yield ""
    rows = [(m.title, f"`{m.name}`", f"`{m.model_type}`", ", ".join(sorted(map(str, m.techniques))), "yes" if m.images else "no")
            for m in held.models.values()]  # fmt: skip
    yield from table(("model", "`model=`", "in the recipe", "techniques", "images"), rows)
    for family, limits in held.widest.items():
        yield f"## Limits of {family}"
        yield ""
        yield "The widest over all models and instance types; a plan holds a recipe to those of its own combination."
        yield ""
        yield from table(("parameter", "allowed", "cautions", "sources"), (_limit(*each) for each in limits.items()))
    yield "## Combinations"
    yield ""
    combos = [
        (f"{c.technique} {c.model}", c.tuning, f"`{c.instance_type}`",
         _span(c.limits["replicas"].bounds, c.limits["replicas"].default),
         _span(c.limits["max_length"].bounds, c.limits["max_length"].default),
         ", ".join(sorted(map(str, c.platforms))), f"`{c.recipe}`")
        for c in held.combinations
    ]  # fmt: skip
    yield from table(
        ("run", "tuning", "instance type", "replicas", "max_length", "platforms", "published recipe"), combos
    )
    yield "## Sources"
    yield ""
    yield from table(("key", "document"), ((f"`{k}`", f"[{s.title}]({s.url})") for k, s in held.sources.items()))


def _limit(name: str, limit: Limit) -> tuple[str, ...]:
    cautions = "; ".join(f"{c.kind}: {c.bounds} ({', '.join(c.bounds.source)})" for c in limit.cautions)
    return f"`{name}`", str(limit.bounds), cautions, ", ".join(f"`{key}`" for key in limit.bounds.source)


def _span(bounds: Bounds, default: object) -> str:
    return f"{bounds}; published {default}"


def rules() -> Iterator[str]:
    """Every rule of training data."""
    rows = [
        (f"`{r.code}`", f"{r.severity}{' (fixed)' if r.fixed else ''}", r.says, r.fix, r.source) for r in RULES.values()
    ]
    yield from table(("rule", "severity", "says", "what to do", "source"), rows)
    yield "## Numbers"
    yield ""
    yield from table(
        ("limit", "value", "of", "source"), ((f"`{k}`", f"{v.value:,}", v.unit, v.source) for k, v in LIMITS.items())
    )


def commands() -> Iterator[str]:
    """The help of every command."""
    for name, each in walk("nova-dpo", parser()):
        yield f"{'#' * (2 if name.count(' ') < 2 else 3)} {name}"
        yield ""
        yield "```text"
        yield each.format_help().rstrip()
        yield "```"
        yield ""


def walk(name: str, word: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those below it."""
    yield name, word
    for action in word._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below, each in action.choices.items():
                yield from walk(f"{name} {below}", each)


def permissions() -> Iterator[str]:
    """What has to be allowed, as documents to copy."""
    place = HyperPodBackend("research", region="us-east-1", account=ACCOUNT)
    training = TrainingJobBackend(
        role=f"arn:aws:iam::{ACCOUNT}:role/nova-execution", region="us-east-1", account=ACCOUNT
    )
    for title, backend in (("HyperPod", place), ("Training Jobs", training)):
        yield f"## IAM policy for {title}"
        yield ""
        yield "```json"
        yield json.dumps(iam_policy(backend, OUTPUT), indent=2)
        yield "```"
        yield ""
    yield "## Kubernetes roles for HyperPod"
    yield ""
    yield "```yaml"
    yield yaml.safe_dump_all(kubernetes_access(place), sort_keys=False).rstrip()
    yield "```"
    yield ""
    yield "## Why"
    yield ""
    rows = [(f"`{c.action}`", ", ".join(map(str, c.platforms)), c.why, "no" if c.optional else "yes") for c in CALLS]
    yield from table(("action", "platform", "what for", "required"), rows)


def states() -> Iterator[str]:
    """The states of a job and what to do."""
    rows = [(f"`{s.value}`", "yes" if s.is_terminal else "no", _OF_STATUS[s]) for s in JobStatus]
    yield from table(("state", "over", "what to do"), rows)


def faults() -> Iterator[str]:
    """What can be made to go wrong."""
    yield from table(("fault of a job", "what happens"), ((f"`{k}`", v) for k, v in JOB_FAULTS.items()))
    yield from table(("fault of the API", "what happens"), ((f"`{k}`", v) for k, v in API_FAULTS.items()))

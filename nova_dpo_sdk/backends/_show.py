"""A plan for human eyes: as text for a terminal, as a small escaped table for a notebook."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._snapshots import LEFT
from nova_dpo_sdk.catalog import SERVERLESS, Platform
from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nova_dpo_sdk.backends._plan import Plan, Upload

_WIDTH = 80

_LEFT = {
    Platform.HYPERPOD: "manifest.json",
    Platform.TRAINING_JOBS: "output/output.tar.gz",
    SERVERLESS: "output/output/manifest.json",
}
"""What a finished run leaves in its folder."""


def plan_text(plan: Plan) -> str:
    """Everything about a plan, as text."""
    documents = "---\n".join(_as_yaml(each) for each in plan.objects)
    return "\n".join(
        [
            *plan_head(plan),
            "",
            "recipe, sent as hyperparameters:" if _is_serverless(plan) else "recipe, as the container reads it:",
            textwrap.indent(plan.recipe.to_yaml().rstrip("\n"), "  "),
            "",
            f"objects, in the order in which they are sent ({len(plan.objects)}):",
            textwrap.indent(documents.rstrip("\n"), "  "),
            "",
            *findings_text(plan.findings),
            verdict(plan),
        ]
    )


def _as_yaml(thing: dict[str, Any]) -> str:
    """An object as YAML, texts of several lines as blocks: what would be sent, readable."""
    import yaml

    class Blocks(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is yaml's
            return True

        def block(self, text: str) -> yaml.ScalarNode:
            style = "|" if "\n" in text else None
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType] - untyped in PyYAML's stubs

    Blocks.add_representer(str, Blocks.block)
    text = yaml.dump(thing, Dumper=Blocks, sort_keys=False, allow_unicode=True, width=4096)  # pyright: ignore[reportUnknownMemberType] - partly untyped in PyYAML's stubs
    return str(text)


def _is_serverless(plan: Plan) -> bool:
    return plan.target.get("instance_type") == SERVERLESS


def plan_head(plan: Plan) -> list[str]:
    """The few lines that tell one plan from another."""
    recipe = plan.recipe
    serverless = _is_serverless(plan)
    crew = "instances that AWS chooses" if serverless else plural(recipe.replicas, "replica")
    left = _LEFT[SERVERLESS if serverless else plan.backend.platform]
    rows = [
        ("plan", plan.name + (f" (attempt {plan.attempt})" if plan.attempt > 1 else "")),
        ("trains", f"{recipe.model} {recipe.technique}, {recipe.tuning.kind}, {crew}"),
        ("from", plan.target.get("model_package") or recipe.model_name_or_path),
        ("where", ", ".join(f"{key} {value}" for key, value in plan.target.items())),
        *((u.role, _upload_line(u)) for u in plan.uploads if u.role != "image"),
        *_images_line([u for u in plan.uploads if u.role == "image"]),
        ("output", f"{plan.inputs.output}/{plan.name}/{left}"),
        ("record", f"{plan.folder}/"),
        ("digest", plan.digest),
        *(("unresolved", f"{name}: shown as {mark}, asked of AWS at submit") for name, mark in plan.unresolved.items()),
    ]  # fmt: skip
    return [f"{label:<11}" + value.replace("\n", "\n" + " " * 11) for label, value in rows]


def _upload_line(upload: Upload) -> str:
    amount = f"({plural(upload.records, 'record')}, {size(upload.size)})"
    if upload.in_place:
        return f"{upload.uri} {amount}\nstays where it is"
    return f"{upload.path} {amount}\n-> {upload.uri}"


def _images_line(images: Sequence[Upload]) -> list[tuple[str, str]]:
    if not images:
        return []
    first = images[0].uri.rpartition("/")[0]
    return [("images", f"{len(images):,} ({size(sum(each.size for each in images))})\n-> {first}/")]


def findings_text(findings: Iterable[Finding]) -> list[str]:
    """Findings, the worst first, wrapped for a terminal."""
    order = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
    lines: list[str] = []
    for each in sorted(findings, key=lambda finding: order[finding.severity]):
        lines.append(f"{each.severity} [{each.code}] {each.where}")
        details = [each.message, each.accepted, each.fix]
        details.append(f"Source: {each.source}." if each.source else "")
        lines += textwrap.wrap(
            " ".join(d for d in details if d),
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,  # an ARN or an address stays whole, to be copied
            break_on_hyphens=False,
        )
    return lines


def verdict(plan: Plan) -> str:
    """Whether it can be submitted, in one line."""
    counts = f"{plural(len(plan.errors), 'error')}, {plural(len(plan.warnings), 'warning')}"
    return f"{counts}. " + (
        "Nothing was sent; ready to submit." if plan.ok else "Nothing was sent; cannot be submitted."
    )


def plan_html(plan: Plan) -> str:
    """A plan's head and findings as an escaped HTML table."""
    head = "".join(
        f"<tr><th style='{LEFT}'>{html.escape(line[:11].strip())}</th>"
        f"<td style='{LEFT}'>{html.escape(line[11:])}</td></tr>"
        for text in plan_head(plan)
        for line in text.splitlines()
    )
    found = "".join(
        f"<tr><th style='{LEFT}'>{html.escape(str(each.severity))}</th>"
        f"<td style='{LEFT}'><code>{html.escape(each.code)}</code> {html.escape(each.where)}: "
        f"{html.escape(each.message)} {html.escape(each.fix)}</td></tr>"
        for each in plan.findings
    )
    return f"<table>{head}{found}</table><p>{html.escape(verdict(plan))}</p>"


def size(count: int) -> str:
    """Bytes in a unit that a person reads."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{count} B"

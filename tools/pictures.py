"""Draw the pictures of the README and the documentation: what the program itself prints, light and dark, as SVG.

python tools/pictures.py
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from contextlib import redirect_stdout
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.cli import main as cli
from nova_dpo_sdk.cli._live import Board, rows
from nova_dpo_sdk.local import FakeClock, InstanceGroup, LocalCloud

PLACE = Path(__file__).resolve().parents[1] / "docs" / "_static"
_ANSI = [
    (36, 41, 47), (207, 34, 46), (17, 99, 41), (149, 96, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131),
    (87, 96, 106),
]  # fmt: skip
_ANSI_DARK = [
    (72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
    (177, 186, 196),
]  # fmt: skip
THEMES = {
    "light": TerminalTheme((255, 255, 255), (36, 41, 47), _ANSI, _ANSI),
    "dark": TerminalTheme((22, 27, 34), (230, 237, 243), _ANSI_DARK, _ANSI_DARK),
}
PLACE_WORDS = [
    "--cluster",
    "research",
    "--region",
    "us-east-1",
    "--account",
    "123456789012",
    "--output",
    "s3://acme-nova/runs",
]
START = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def a_day(cloud: LocalCloud, clock: FakeClock, nova: NovaClient) -> Text:
    """Four jobs, as the live table shows them: one done, one crashing, one without nodes, one running."""
    chats = ChatDataset.from_jsonl("support_chats.jsonl")
    sft = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64))
    cloud.script_fault("crash-loop", job="bold-*", message="CUDA out of memory")
    cloud.script_fault("unschedulable", job="patient-*")
    jobs = [nova.submit(nova.plan(sft, chats))]
    jobs[0].wait()
    names = ("bold-sft", "patient-sft", "second-sft")
    jobs += [nova.submit(nova.plan(sft.replace(name=name), chats), check=False) for name in names]
    board = Board(clock)
    for _ in range(6):
        clock.advance(3)
        for job in jobs:
            board.put(job.status())
    shown = rows(board, 96, 40)
    return Text("\n").join(Text(text, style=style) for text, style in shown)


def folded(shown: Text, width: int) -> Text:
    """Long lines go on in the next one where the screen ends, as on a terminal."""
    lines = [part for line in shown.split() for part in line.divide(range(width, len(line), width))]
    return Text("\n").join(lines)


def draw(name: str, title: str, shown: Text, width: int = 100) -> None:
    for theme, colours in THEMES.items():
        console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, legacy_windows=False)
        console.print(folded(shown, width))
        svg = console.export_svg(title=title, theme=colours, unique_id=f"{name}-{theme}")
        svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing is fetched from elsewhere
        svg = svg.replace("Fira Code,", "ui-monospace, SFMono-Regular, Menlo, Consolas,").replace(
            "font-family: Fira Code", "font-family: ui-monospace, Menlo, Consolas"
        )
        (PLACE / f"{name}-{theme}.svg").write_text(svg, encoding="utf-8")


def main() -> int:
    PLACE.mkdir(parents=True, exist_ok=True)
    clock = FakeClock(START)
    groups = [InstanceGroup("nova-p5", "ml.p5.48xlarge", 16)]
    here, samples = Path.cwd(), resources.files("nova_dpo_sdk.local") / "samples"
    with LocalCloud(clock=clock, instance_groups=groups) as cloud, tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.environ["FORCE_COLOR"] = "1"
        for name, chosen in (("chats", "support_chats.jsonl"), ("preferences", "pairs.jsonl")):
            Path(chosen).write_bytes((samples / f"{name}.jsonl").read_bytes())
        nova = NovaClient(cloud.hyperpod(account=cloud.account), output=cloud.output)
        recipe = DPORecipe(
            name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.2, global_batch_size=16, warmup_steps=1
        )
        Path("dpo.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        words = ["plan", "--recipe", "dpo.yaml", "--data", "pairs.jsonl", *PLACE_WORDS]
        with redirect_stdout(io.StringIO()) as said:
            if cli(words, clock=clock):
                sys.exit(said.getvalue())
        draw(
            "plan",
            "nova-dpo plan --recipe dpo.yaml --data pairs.jsonl",
            Text.from_ansi(said.getvalue().rstrip()),
            92,
        )
        draw("status", "nova-dpo jobs --watch", a_day(cloud, clock, nova))
        os.chdir(here)
    return 0


if __name__ == "__main__":
    sys.exit(main())

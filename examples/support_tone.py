"""Teach Nova Lite a support desk's tone: SFT on chats, then DPO on pairs, rehearsed on this machine.

The program is the one that runs on AWS; only the first line of `main` differs. On your own cluster write

    nova = NovaClient(
        HyperPodBackend(cluster="research", namespace="kubeflow", instance_type="ml.p5.48xlarge"),
        output="s3://acme-nova/runs",
    )

Run it: python examples/support_tone.py
"""

from __future__ import annotations

import argparse
from importlib import resources
from typing import TYPE_CHECKING

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset, SFTRecipe
from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from pathlib import Path

    from nova_dpo_sdk import Checkpoint


def align(nova: NovaClient, samples: Path) -> Checkpoint:
    """Both stages: what is planned is printed, then sent as it was printed."""
    chats = ChatDataset.from_jsonl(samples / "chats.jsonl")
    pairs = PreferenceDataset.from_jsonl(samples / "preferences.jsonl")

    sft = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), max_epochs=2)
    plan = nova.plan(sft, chats)
    print(plan)
    taught = nova.submit(plan).result()

    dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1).starting_from(taught)
    plan = nova.plan(dpo, pairs, allow=["few-records"])
    for finding in plan.findings:
        print(finding)
    return nova.submit(plan).result(on_update=print)


def main() -> None:
    """Rehearse it; the fake clock lets hours of training pass in no time."""
    argparse.ArgumentParser(description="Rehearse SFT and DPO of a support desk's tone.").parse_args()
    with (
        LocalCloud(clock=FakeClock()) as cloud,
        resources.as_file(resources.files("nova_dpo_sdk.local") / "samples") as samples,
    ):
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        print(align(nova, samples).uri)


if __name__ == "__main__":
    main()

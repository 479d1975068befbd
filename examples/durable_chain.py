"""A chain that survives its script: SFT once, DPO at three betas, and the best kept by a function of your own.

Stop the program wherever you like, even with SIGKILL, and run it again from any folder or machine: it goes on where it
stood. To see that, give it a cloud that outlives it. In one shell

    nova-dpo cloud /tmp/cloud.json

and in another one, as often as you like,

    python examples/durable_chain.py --cloud /tmp/cloud.json

On your own cluster write

    nova = NovaClient(
        HyperPodBackend(cluster="research", namespace="kubeflow", instance_type="ml.p5.48xlarge"),
        output="s3://acme-nova/runs",
    )

Without --cloud it is rehearsed in this process alone: python examples/durable_chain.py
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset, SFTRecipe
from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from nova_dpo_sdk import Checkpoint, JobSnapshot

BETAS = (0.02, 0.05, 0.1)
SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, warmup_steps=1)


def reward_accuracy(nova: NovaClient, checkpoint: Checkpoint) -> float:
    """How a checkpoint is judged here: the best share of pairs whose preferred answer got the higher reward."""
    rows = nova.job(checkpoint.job).metrics()
    return max((row.values.get("rewards/accuracies", 0.0) for row in rows), default=0.0)


def told(stage: str, snapshot: JobSnapshot) -> None:
    """Say what a stage is doing."""
    print(f"{stage:<12} {snapshot.status}", flush=True)


def best_of_three(nova: NovaClient, samples: Path) -> Checkpoint:
    """Teach once, align three times side by side, keep the best."""
    chats = ChatDataset.from_jsonl(samples / "chats.jsonl")
    pairs = PreferenceDataset.from_jsonl(samples / "preferences.jsonl")
    few = ["few-records"]
    with nova.chain("support-tone") as chain:
        taught = chain.run("sft", SFT, chats, on_update=lambda snapshot: told("sft", snapshot), allow=few)
        tries = []
        for beta in BETAS:
            stage = f"dpo-{beta}".replace(".", "-")
            recipe = DPO.replace(beta=beta).starting_from(taught)
            tries.append(chain.start(stage, recipe, pairs, allow=few))
        aligned = chain.gather(tries, on_update=told)
        print(chain.summary())
    return max(aligned, key=lambda checkpoint: reward_accuracy(nova, checkpoint))


def main() -> None:
    """Run it on a cloud that outlives it, or rehearse it in no time."""
    parser = argparse.ArgumentParser(description="SFT, DPO at three betas, the best kept; run it again to go on.")
    parser.add_argument("--cloud", type=Path, metavar="FILE", help="connection that `nova-dpo cloud FILE` wrote")
    given = parser.parse_args()
    with resources.as_file(resources.files("nova_dpo_sdk.local") / "samples") as samples:
        if given.cloud is not None:
            attached = LocalCloud.attach(json.loads(given.cloud.read_text()))
            best = best_of_three(NovaClient(attached.hyperpod(), output=attached.output), samples)
        else:
            with LocalCloud(clock=FakeClock()) as cloud:
                best = best_of_three(NovaClient(cloud.hyperpod(), output=cloud.output), samples)
    print(f"best: {best.uri}")


if __name__ == "__main__":
    main()

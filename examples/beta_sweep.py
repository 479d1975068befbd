"""Find the best beta: SFT once, then DPO at several betas side by side, within a cap; rehearsed on this machine.

Every trial is a stage of a durable chain: stop the program and run it again, and it goes on where it stood. On your
own cluster write

    nova = NovaClient(
        HyperPodBackend(cluster="research", namespace="kubeflow", instance_type="ml.p5.48xlarge"),
        output="s3://acme-nova/runs",
    )

Run it: python examples/beta_sweep.py
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
    from nova_dpo_sdk.sweep import TrialResult


def accuracy(result: TrialResult) -> float:
    """How a trial is judged here: the last share of pairs whose preferred answer got the higher reward."""
    rows = result.job.metrics() if result.job else ()
    return max((row.values.get("rewards/accuracies", 0.0) for row in rows), default=0.0)


def best_beta(nova: NovaClient, samples: Path, picture: Path | None) -> Checkpoint:
    """Teach once, try three betas with at most two jobs at one time, and keep the best."""
    chats = ChatDataset.from_jsonl(samples / "chats.jsonl")
    pairs = PreferenceDataset.from_jsonl(samples / "preferences.jsonl")
    sft = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
    dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, warmup_steps=1)

    with nova.chain("support-tone") as chain:
        taught = chain.run("sft", sft, chats)
        sweep = nova.sweep(dpo.starting_from(taught), beta=[0.02, 0.05, 0.1])
        plan = sweep.plan(pairs, allow=["few-records"], max_concurrent=2, max_replica_hours=200, trial_hours=12)
        print(plan)  # every finding of every trial; nothing was sent for them yet
        results = plan.run(chain)
        print(results)
        print(chain.summary())
        if picture is not None:
            results.plot(picture, accuracy, "reward accuracy")
        best = results.best(accuracy)
        print(f"best: {best.trial.label}")
        assert best.checkpoint is not None
        return best.checkpoint


def main() -> None:
    """Rehearse it; the fake clock lets hours of training pass in no time."""
    from pathlib import Path

    parser = argparse.ArgumentParser(description="Rehearse a sweep over beta.")
    parser.add_argument("--plot", type=Path, help="draw the scores into this file (needs the extra plots)")
    picture: Path | None = parser.parse_args().plot
    with (
        LocalCloud(clock=FakeClock()) as cloud,
        resources.as_file(resources.files("nova_dpo_sdk.local") / "samples") as samples,
    ):
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        print(best_beta(nova, samples, picture).uri)


if __name__ == "__main__":
    main()

"""Hand a chain over to AWS Step Functions: the function that runs it from Python is exported as a state machine.

The definition needs no machine of yours: AWS submits each stage, follows it, reads its manifest and starts the next
stage from its checkpoint. Here the data sets and the records of the plans go to a rehearsal cloud, and the definition
to a file. On AWS, create it with

    aws stepfunctions create-state-machine --name support-tone --definition file://support-tone.asl.json --role-arn ...

with a role that has the printed policy, and an EKS access entry for the group nova-dpo-state-machine.

Run it: python examples/hand_over.py --out /tmp/hand-over
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset, SFTRecipe
from nova_dpo_sdk.export import StateMachine
from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk import Chain


def tone(samples: Path) -> Callable[[Chain], object]:
    """The chain, as a function of a chain: for `nova.chain(...)` it runs, for `StateMachine.of(...)` it is exported."""
    chats = ChatDataset.from_jsonl(samples / "chats.jsonl")
    pairs = PreferenceDataset.from_jsonl(samples / "preferences.jsonl")
    sft = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
    dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, warmup_steps=1)

    def build(chain: Chain) -> object:
        taught = chain.run("sft", sft, chats)
        tries = [
            chain.start(f"dpo-{n}", dpo.replace(beta=beta).starting_from(taught), pairs, allow=["few-records"])
            for n, beta in enumerate((0.05, 0.1))
        ]
        return chain.gather(tries)

    return build


def export(nova: NovaClient, samples: Path, folder: Path) -> StateMachine:
    """Export the chain, check it, send what it will read, and write what AWS is given."""
    nova.backend.resolve()  # asks for the account's number, which stands in the definition
    machine = StateMachine.of(nova, "support-tone", tone(samples))
    print(machine)
    machine.prepare()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "support-tone.asl.json").write_text(machine.to_json(), encoding="utf-8")
    (folder / "policy.json").write_text(json.dumps(machine.policy(), indent=2) + "\n", encoding="utf-8")
    (folder / "access.yaml").write_text(yaml.safe_dump_all(machine.kubernetes_access()), encoding="utf-8")
    return machine


def main() -> None:
    """Export it for a rehearsal cloud."""
    parser = argparse.ArgumentParser(description="Export a chain as a Step Functions state machine.")
    parser.add_argument("--out", type=Path, help="folder for definition, policy and access (default: a new one)")
    folder: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="hand-over-"))
    with (
        LocalCloud(clock=FakeClock()) as cloud,
        resources.as_file(resources.files("nova_dpo_sdk.local") / "samples") as samples,
    ):
        machine = export(NovaClient(cloud.hyperpod(), output=cloud.output), samples, folder)
        states = len(machine.to_dict()["States"])
        print(f"{folder}: {states} states for {len(machine.stages)} stages, the policy, and the cluster's roles")


if __name__ == "__main__":
    main()

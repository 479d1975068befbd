"""A user's mistakes, never run: mypy and pyright refuse each marked line for the reason named there, and no other."""

from __future__ import annotations

from nova_dpo_sdk import (
    ChatDataset,
    Checkpoint,
    DPORecipe,
    HyperPodBackend,
    Job,
    LoRA,
    NovaClient,
    NovaModel,
    PreferenceDataset,
    SFTRecipe,
)
from nova_dpo_sdk.local import LocalCloud

nova = NovaClient(HyperPodBackend("research"), output="s3://acme-nova/runs")
chats = ChatDataset.from_jsonl("chats.jsonl")
pairs = PreferenceDataset.from_jsonl("pairs.jsonl")
sft = SFTRecipe(name="support-sft", model=NovaModel.LITE)
dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE)

# A recipe meets only its own kind of data.
nova.plan(dpo, chats)  # refused: call-overload reportCallIssue,reportArgumentType
nova.plan(sft, pairs)  # refused: call-overload reportCallIssue,reportArgumentType
nova.plan(dpo, pairs, validation=chats)  # refused: call-overload reportCallIssue,reportArgumentType

# A value of another type, a misspelt or unknown field, a missing one.
DPORecipe(name="a", model=NovaModel.LITE, beta="0.1")  # refused: arg-type reportArgumentType
DPORecipe(name="a", model=NovaModel.LITE, betta=0.1)  # refused: call-arg reportCallIssue
SFTRecipe(name="a", model=NovaModel.LITE, beta=0.1)  # refused: call-arg reportCallIssue
DPORecipe(name="a")  # refused: call-arg reportCallIssue
DPORecipe(name="a", model="nova-lite")  # refused: arg-type reportArgumentType
DPORecipe(name="a", model=NovaModel.LITE, tuning="lora")  # refused: arg-type reportArgumentType
LoRA(alpha=64.5)  # refused: arg-type reportArgumentType
HyperPodBackend(clutser="research")  # refused: call-arg reportCallIssue

# Values are frozen.
dpo.beta = 0.2  # refused: misc reportAttributeAccessIssue

# A run is submitted from a plan, and continued from a checkpoint, not from its address.
nova.submit(dpo)  # refused: arg-type reportArgumentType
dpo.starting_from("s3://bucket/checkpoint")  # refused: arg-type reportArgumentType

# What comes back has a type.
job: Job = nova.submit(nova.plan(dpo, pairs)).result()  # refused: assignment reportAssignmentType
checkpoint: Checkpoint = nova.job("hyperpod://r/c/n/j").wait()  # refused: assignment reportAssignmentType
status: int = nova.job("hyperpod://r/c/n/j").status().status  # refused: assignment reportAssignmentType


def test_pipeline(nova_local: LocalCloud) -> None:
    nova_local.script_fault(7)  # refused: arg-type reportArgumentType
    NovaClient(nova_local.hyperpod())  # refused: call-arg reportCallIssue

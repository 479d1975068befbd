"""Tests of somebody's own pipeline, with the fixture that ships with nova-dpo-sdk.

Run it: pytest examples/test_my_pipeline.py
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import pytest

from nova_dpo_sdk import DPORecipe, JobStatus, NovaClient, NovaModel, PreferenceDataset
from nova_dpo_sdk.errors import JobFailedError

if TYPE_CHECKING:
    from nova_dpo_sdk import Checkpoint, JobSnapshot
    from nova_dpo_sdk.local import FakeClock, LocalCloud

RECIPE = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, global_batch_size=16, warmup_steps=1)


class Pager:
    """Whoever is woken up at night."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def look(self, snapshot: JobSnapshot) -> None:
        """Wake somebody up when a job needs a person."""
        if snapshot.status in (JobStatus.DEGRADED, JobStatus.STALLED):
            self.messages.append(f"{snapshot.status}: {snapshot.message} {snapshot.next_step}")


def pipeline(nova: NovaClient, pager: Pager) -> Checkpoint:
    """The program under test: align a model, and call somebody if it goes wrong."""
    with resources.as_file(resources.files("nova_dpo_sdk.local") / "samples" / "preferences.jsonl") as path:
        plan = nova.plan(RECIPE, PreferenceDataset.from_jsonl(path), allow=["few-records"])
        return nova.submit(plan).result(on_update=pager.look)


@pytest.fixture
def nova(nova_local: LocalCloud) -> NovaClient:
    """A client of the rehearsal cloud, as the program gets one of AWS."""
    return NovaClient(nova_local.hyperpod(), output=nova_local.output)


def test_a_good_night_wakes_nobody(nova: NovaClient) -> None:
    pager = Pager()
    assert pipeline(nova, pager).uri.startswith("s3://customer-escrow-")
    assert pager.messages == []


def test_a_lost_node_is_survived(nova: NovaClient, nova_local: LocalCloud, nova_clock: FakeClock) -> None:
    begun = nova_clock.now()
    nova_local.script_fault("node-loss", lasts=600)
    assert pipeline(nova, Pager()).uri
    assert (nova_clock.now() - begun).total_seconds() > 600


def test_out_of_memory_wakes_somebody_and_says_why(nova: NovaClient, nova_local: LocalCloud) -> None:
    pager = Pager()
    nova_local.script_fault("crash-loop", message="CUDA out of memory")
    with pytest.raises(JobFailedError, match="out of memory"):
        pipeline(nova, pager)
    assert any("CUDA out of memory" in each for each in pager.messages)

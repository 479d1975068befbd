"""Whatever happens to a chain, in whatever order: its jobs are made once for each attempt, and its record stays true.

Hypothesis draws runs that crash at some request, resume from another client, cancel, reset, lose nodes and wait for
late manifests, and shrinks whatever breaks an invariant to the shortest story.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import chat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nova_dpo_sdk import ChatDataset, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.chain import Outcome, StagePolicy, StageRecord, StageStatus
from nova_dpo_sdk.errors import ConfigurationError, NovaError
from nova_dpo_sdk.local import FakeClock, LocalCloud
from nova_dpo_sdk.local._faults import Fault, Faults
from nova_dpo_sdk.local._resources import PYTORCHJOBS

SFT = SFTRecipe(name="tone", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
_HANG_UP = Fault("*", "*", "*", answer=None, after=False, times=1)


class Death(Faults):
    """Lets so many requests pass, and none after them; the last one may be carried out, and never answered."""

    def __init__(self):
        super().__init__()
        self.left = None
        self.last_words = False

    def set(self, left, *, last_words):
        self.left, self.last_words = left, last_words

    def _first(self, request, *, after, cut):
        if self.left is None or cut:
            return super()._first(request, after=after, cut=cut)
        if after:
            return _HANG_UP if self.left < 0 else None
        self.left -= 1
        return _HANG_UP if self.left < (-1 if self.last_words else 0) else None


class Chains(RuleBasedStateMachine):
    """One stage, its cloud, and everything that may happen to both."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.cloud = LocalCloud(clock=self.clock)
        self.cloud.faults = self.death = Death()
        self.cloud.start()
        self.nova = NovaClient(self.cloud.hyperpod(), output=self.cloud.output)
        self.nova.backend.poll_interval = 120.0
        self.made = Counter()
        self.cloud.store.listeners.append(self._notice)
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "chats.jsonl"
        path.write_text("".join(f"{json.dumps(chat(f'Question {n}?', 'Answer.'))}\n" for n in range(64)))
        self.chats = ChatDataset.from_jsonl(path)
        self.epochs = 2
        self.handles = []
        self.cancelled = 0
        self.resets = 0

    def teardown(self):
        self.cloud.stop()
        self.folder.cleanup()

    def _notice(self, change, kind, item, now):
        del now
        if kind is PYTORCHJOBS and change == "ADDED":
            self.made[item["metadata"]["name"]] += 1

    def chain(self):
        return self.nova.chain("tone")  # it keeps nothing that another machine would miss

    def start(self):
        return self.chain().start("sft", SFT.replace(max_epochs=self.epochs), self.chats, policy=StagePolicy(retries=3))

    def record(self):
        body = self.cloud._buckets.read(self.cloud.bucket, "runs/chains/tone/sft.json")
        return StageRecord.from_json(body) if body else None

    @rule()
    def begin(self):
        with suppress(NovaError):
            self.handles.append(self.start())

    @rule(after=st.integers(0, 40), answered=st.booleans())
    def crash(self, after, answered):
        """A run whose every request from some moment on is lost, as those of a process that has died are."""
        self.death.set(after, last_words=answered)
        with suppress(NovaError):
            self.start().result(timeout=100)
        self.death.set(None, last_words=False)

    @rule(seconds=st.sampled_from([1, 10, 100, 700]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.cloud.advance()

    @rule()
    @precondition(lambda self: self.handles)
    def go_on_waiting(self):
        with suppress(NovaError):
            self.handles[-1].result(timeout=200)

    @rule()
    def resume(self):
        with suppress(NovaError):
            self.start().result(timeout=200)

    @rule()
    def follow_without_the_script(self):
        with suppress(NovaError):
            self.chain().follow(timeout=200)

    @rule()
    @precondition(lambda self: self.record() is not None)
    def cancel(self):
        self.nova.job(self.record().current.ref).cancel()
        self.cancelled += 1

    @rule(cancel=st.booleans())
    def reset(self, cancel):
        with suppress(ConfigurationError):
            self.chain().reset("sft", cancel=cancel)
            self.resets += 1

    @rule()
    def change_the_recipe(self):
        self.epochs = 3 - self.epochs

    @rule(lasts=st.sampled_from([30, 500]))
    def late_manifests(self, lasts):
        self.cloud.script_fault("manifest-late", lasts=lasts)

    @invariant()
    def no_job_is_made_twice(self):
        record = self.record()
        attempts = {each.job for each in record.attempts} if record else set()
        assert set(self.made) <= attempts, "a job that no attempt knows of"
        # A job that was cancelled may be made again under its name, as long as nothing has seen that it was gone.
        assert sum(self.made.values()) <= len(self.made) + self.cancelled + self.resets

    @invariant()
    def at_most_one_job_is_alive(self):
        names = [each["metadata"]["name"] for each in self.cloud.store.scan(PYTORCHJOBS) if not _over(each)]
        assert len(names) <= 1, names

    @invariant()
    def a_finished_stage_names_the_checkpoint_of_its_last_attempt(self):
        record = self.record()
        if record is not None and record.status is StageStatus.FINISHED:
            assert record.current.job in record.checkpoint.uri
            assert record.current.outcome is Outcome.SUCCEEDED

    @rule()
    def finish(self):
        """Whatever was before: when nothing is in the way any more, a run ends with the checkpoint."""
        assert self._come_to_an_end() == self.record().checkpoint

    def _come_to_an_end(self):
        with suppress(NovaError):
            return self.start().result()
        self.clock.advance(3600)  # a claim without a job has died by then
        if self.record() is not None:
            self.chain().reset("sft", cancel=True)
            self.resets += 1
        return self.start().result()


def _over(job):
    kinds = {each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"}
    return bool(kinds & {"Succeeded", "Failed"})


def run(examples, steps):
    run_state_machine_as_test(
        Chains,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.sweep
def test_any_order_of_events_leaves_one_job_for_each_attempt_and_a_true_record():
    run(examples=6, steps=12)


if __name__ == "__main__":
    run(examples=300, steps=25)

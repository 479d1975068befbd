"""A user's program, never run: mypy and pyright, both strict, have nothing to say about it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import assert_type

from nova_dpo_sdk import (
    Catalog,
    ChatDataset,
    Checkpoint,
    DPORecipe,
    Finding,
    FullRank,
    HyperPodBackend,
    HyperPodOptions,
    Job,
    JobSnapshot,
    JobStatus,
    LoRA,
    Nova2SFTRecipe,
    NovaClient,
    NovaError,
    NovaModel,
    Plan,
    PreferenceDataset,
    Recipe,
    SFTRecipe,
    Technique,
    TrainingJobBackend,
)
from nova_dpo_sdk.errors import JobFailedError, JobTimeoutError, PlanRejectedError
from nova_dpo_sdk.local import FakeClock, LocalCloud, Script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

nova = NovaClient(
    HyperPodBackend("research", namespace="kubeflow", instance_type="p5.48xlarge", options=HyperPodOptions(queue="q")),
    output="s3://acme-nova/runs",
)
elsewhere = NovaClient(TrainingJobBackend(role="arn:aws:iam::123456789012:role/nova"), output="s3://acme-nova/runs")

chats = ChatDataset.from_jsonl("chats.jsonl")
pairs = PreferenceDataset.from_jsonl(Path("pairs.jsonl"), rules={"few-records": "off"})

sft = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), max_epochs=2)
full = SFTRecipe(name="support-sft", model=NovaModel.MICRO, tuning=FullRank(), lr=1e-5, betas=(0.9, 0.98))
nova2 = Nova2SFTRecipe(name="support-2", max_steps=100, reasoning_enabled=False)


def both_stages() -> Checkpoint:
    plan = nova.plan(sft, chats, validation=chats, allow=["few-records"], attempt=2)
    assert_type(plan, Plan)
    findings: list[Finding] = [each for each in plan.findings if not each.is_error]
    print(plan, len(findings))
    job = nova.submit(plan, on_upload=lambda uri, sent: print(uri, sent))
    assert_type(job, Job)
    taught = job.result(timeout=3600, on_update=lambda snapshot: print(snapshot.status.value))
    dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1).starting_from(taught)
    assert_type(dpo, DPORecipe)
    assert_type(dpo.replace(beta=0.2), DPORecipe)
    return nova.submit(nova.plan(dpo, pairs)).result()


def durable() -> str:
    with nova.chain("support-tone") as chain:
        taught = chain.run("sft", sft, chats)
        dpo = DPORecipe(name="support-dpo", model=NovaModel.LITE).starting_from(taught)
        return chain.run("dpo", dpo, pairs).uri


def careful(ref: str) -> str:
    try:
        return nova.job(ref).result().uri
    except JobTimeoutError as late:
        return f"{late.ref} runs on"
    except JobFailedError as failed:
        return str(failed.snapshot)
    except PlanRejectedError as refused:
        return "; ".join(each.fix for each in refused.findings)
    except NovaError as error:
        return str(error)


def looking(ref: str) -> Iterator[JobSnapshot]:
    job = nova.job(ref)
    snapshot = job.wait(timeout=60.0)
    assert_type(snapshot.status, JobStatus)
    since: datetime | None = snapshot.since
    print(since)
    for replica in snapshot.replicas:
        print(replica.name, replica.restarts + 1)
    for line in job.logs(follow=True):
        print(line)
    yield from nova.watch(nova.jobs(technique=Technique.DPO, since=timedelta(days=1)))


def reading() -> Recipe:
    recipe = DPORecipe.from_yaml(Path("dpo.yaml").read_text(encoding="utf-8"))
    assert_type(recipe, DPORecipe)
    assert_type(recipe.beta, float)
    assert_type(recipe.tuning, "LoRA | FullRank")
    anything = Recipe.from_file("recipe.yaml", extra=["run.new_key"])
    if isinstance(anything, DPORecipe):
        assert_type(anything.beta, float)
    print(recipe.to_yaml(), Catalog.packaged().revision)
    return anything


def looking_at_data() -> None:
    report = pairs.report()
    assert_type(report.ok, bool)
    for problem in report.problems:
        print(problem.line, problem.path, problem.code)
    halves = pairs.split("train.jsonl", "validation.jsonl", fraction=0.05)
    assert_type(halves.train, PreferenceDataset)
    print(pairs.profile(halves.validation), nova.plan(reading_dpo(), halves.train))


def reading_dpo() -> DPORecipe:
    return DPORecipe.from_file("dpo.yaml")


def test_pipeline(nova_local: LocalCloud, nova_clock: FakeClock) -> None:
    nova_local.script_fault("node-loss", lasts=60)
    rehearsed = NovaClient(nova_local.hyperpod(), output=nova_local.output)
    nova_clock.advance(60.0)
    assert rehearsed.submit(rehearsed.plan(nova2, chats)).wait().status is JobStatus.SUCCEEDED
    with LocalCloud(clock=FakeClock(), script=Script(training=5.0), bucket="another") as cloud:
        print(cloud.output)

"""A chain for human eyes: the table, the picture, and where a checkpoint comes from."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from test_chain_records import NOON, record

from nova_dpo_sdk import Checkpoint, DPORecipe, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.chain import Outcome, StageStatus
from nova_dpo_sdk.chain._records import Attempt, Parent
from nova_dpo_sdk.chain._show import chain_html, chain_lines, chains_lines, duration, gpu_hours, stage_took
from nova_dpo_sdk.chain._timeline import draw_timeline
from nova_dpo_sdk.errors import ConfigurationError, ServiceError
from nova_dpo_sdk.export import StateMachine

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)


def at(hours):
    return NOON + timedelta(hours=hours)


def attempt(number, claimed, submitted, ended, outcome=None, **told):
    started = told.pop("started", submitted)
    return Attempt(
        number=number,
        digest="d1",
        job=f"job-{number}",
        ref="hyperpod://r/c/n/job",
        claimed_at=at(claimed),
        submitted_at=None if submitted is None else at(submitted),
        started_at=None if started is None else at(started),
        ended_at=None if ended is None else at(ended),
        outcome=outcome,
        **told,
    )


def stages():
    long = "a-stage-whose-name-is-as-long-as-a-name-can-be-" + "x" * 16
    lost = attempt(1, 5, 5.5, 6.5, Outcome.FAILED, reason="NodeLost")
    return [
        record(
            stage="sft", parent=None, status=StageStatus.FINISHED, attempts=(attempt(1, 0, 1, 5, Outcome.SUCCEEDED),)
        ),
        record(stage="dpo", status=StageStatus.FINISHED, attempts=(lost, attempt(2, 7, 7, 10, Outcome.SUCCEEDED))),
        record(
            stage=long,
            status=StageStatus.FAILED,
            attempts=(attempt(1, 5, 5, 9, Outcome.OVERDUE, reason="DeadlineExceeded", message="too late"),),
        ),
        record(stage="again", parent=Parent(uri="s3://e/x", stage=long), attempts=(attempt(1, 11, 11, None),)),
        record(stage="elsewhere", parent=Parent(uri="s3://e/y"), attempts=(attempt(1, 12, None, None),)),
    ]


def test_hours_are_those_of_every_attempt_from_its_first_instance_to_its_end():
    _, dpo, _, running, claimed = stages()
    assert stage_took(dpo, at(12)) == timedelta(hours=4)
    assert gpu_hours(dpo, at(12)) == 4 * 8 * 4
    assert gpu_hours(running, at(12)) == 4 * 8 * 1
    assert gpu_hours(claimed, at(12)) == 0
    waited = record(attempts=(attempt(1, 0, 0, 10, Outcome.SUCCEEDED, started=9),))
    assert stage_took(waited, at(12)) == timedelta(hours=1)
    adopted = record(attempts=(attempt(1, 6, 6, 10, started=2),))
    assert stage_took(adopted, at(12)) == timedelta(hours=4)


def test_hours_that_may_have_been_spent_waiting_are_said_to_be_the_most():
    unknown = record(stage="dpo", parent=None, attempts=(attempt(1, 0, 0, 10, Outcome.SUCCEEDED, started=None),))
    lines = chain_lines("tone", [stages()[0], unknown], at(12))
    assert lines[0].endswith("at most 448.0 GPU-hours")
    assert "at most" not in lines[2]
    assert lines[3].endswith("at most 10h 00m  at most 320.0")
    assert chains_lines({"tone": [unknown]}, at(12))[1].endswith("at most 320.0")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s"), (59, "59s"), (61, "1m 01s"), (3600, "1h 00m"), (93_600, "1d 02h")]
)
def test_durations_are_said_shortly(seconds, said):
    assert duration(timedelta(seconds=seconds)) == said


def test_the_table_fits_80_columns_and_says_why_a_stage_failed():
    lines = chain_lines("tone", stages(), at(12), {"again": "running"})
    assert max(map(len, lines)) <= 80
    assert lines[0] == "chain tone: 2 of 5 stages finished, 416.0 GPU-hours"
    assert lines[1].split() == ["stage", "after", "state", "tries", "took", "GPU-hours"]
    assert lines[2].split() == ["sft", "-", "finished", "1", "4h", "00m", "128.0"]
    assert "running" in lines[5]
    assert "DeadlineExceeded: too late" in " ".join(lines[7:])
    assert chain_lines("tone", [], NOON) == ["chain tone: no stage was begun yet"]


def test_html_says_each_reason_whole_and_sets_figures_below_each_other():
    told = chain_html("tone", stages(), at(12))
    (reason,) = [each for each in told.split("<p>") if "DeadlineExceeded" in each]
    assert reason.startswith(f"{stages()[2].stage}: DeadlineExceeded: too late</p>")
    assert told.count("<td style='text-align:right'>") == 3 * len(stages())
    assert told.count("<th style='text-align:left'>") == 3
    assert "<th style='text-align:right'>tries</th>" in told
    alone = chain_html("tone", stages()[:1], at(12))
    assert "tries" not in alone


def test_chains_are_listed_with_what_asks_for_somebody_first():
    finished, retried, failed, running, claimed = stages()
    refused = record(stage="refused", status=StageStatus.REFUSED)
    chains = {
        "good": [finished, retried],
        "bad": [finished, failed, running],
        "on": [finished, running],
        "new": [claimed],
        "a-chain-whose-name-is-as-long-as-a-name-can-be-" + "x" * 16: [refused],
        "begun-anew": [finished, record(stage="again", status=StageStatus.RESET)],
    }
    lines = chains_lines(chains, at(12))
    assert max(map(len, lines)) <= 80
    states = [line[lines[0].index("state") :].split("  ")[0] for line in lines[1:]]
    assert states == ["finished", "failed", "under way", "under way", "refused", "reset"]
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "GPU-hours",
        "256.0",
        "288.0",
        "160.0",
        "0.0",
        "0.0",
        "128.0",
    ]


def test_html_is_escaped():
    bad = attempt(1, 0, 0, 1, Outcome.FAILED, reason="<script>", message="</p>")
    told = chain_html("<b>", [record(stage="<i>", status=StageStatus.FAILED, attempts=(bad,))], NOON)
    assert "<script>" not in told
    assert "<b>" not in told
    assert "<i>" not in told
    assert "&lt;script&gt;: &lt;/p&gt;" in told


def test_the_timeline_is_a_picture(tmp_path):
    draw_timeline("a $chain$", stages(), tmp_path / "t.png", at(12))
    draw_timeline("moments", [record()], tmp_path / "m.svg", NOON)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "a $chain$" not in (tmp_path / "m.svg").read_text()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        draw_timeline("x", stages(), tmp_path / "no" / "t.png", at(12))
    with pytest.raises(ConfigurationError, match="no stage to draw"):
        draw_timeline("x", [], tmp_path / "t.png", NOON)


def test_a_chain_shows_itself_in_a_notebook(nova, cloud, chats, tmp_path):
    chain = nova.chain("tone")
    chain.run("sft", SFT, chats)
    assert "1 of 1 stage finished" in chain._repr_html_()
    assert chain.summary().splitlines()[2].startswith("sft")
    chain.plot(tmp_path / "tone.png")
    assert (tmp_path / "tone.png").stat().st_size > 10_000
    place = nova.output.join("chains", "tone", "sft.json")
    nova.backend.aws.write(place, b"{", content_type="application/json")
    assert "is not the record" in chain._repr_html_()
    del cloud


def test_a_lineage_leads_back_to_the_base_model(nova, chats, pairs):
    chain = nova.chain("tone")
    taught = chain.run("sft", SFT, chats)
    aligned = chain.run("dpo", DPO.starting_from(taught), pairs)
    told = nova.lineage(aligned)
    assert json.loads(json.dumps(told)) == told
    assert (told["complete"], told["base_model"], told["missing"]) == (True, "nova-lite/prod", None)
    dpo, sft = told["steps"]
    assert (dpo["checkpoint"], dpo["starts_from"], sft["checkpoint"]) == (aligned.uri, taught.uri, taught.uri)
    assert dpo["recipe"]["training_config"]["model"]["dpo_cfg"]["beta"] == 0.1
    assert [each["sha256"] for each in sft["data"]] == [hashlib.sha256(chats.path.read_bytes()).hexdigest()]
    assert sft["job"] == taught.job
    by_path, by_job = nova.lineage(aligned.uri), nova.lineage(aligned.job)
    assert by_path == told
    assert by_job["steps"][1:] == told["steps"][1:]


def test_a_lineage_that_leaves_the_output_says_where_it_ends(nova, pairs):
    start = Checkpoint(
        uri="s3://customer-escrow-123456789012-hp-8gt1sdfb/far-away-12345/outputs/checkpoints",
        model=NovaModel.LITE,
        tuning="lora",
    )
    plan = nova.plan(DPO.starting_from(start), pairs)
    nova.prepare(plan)
    told = nova.lineage(plan.ref)
    assert (told["complete"], told["base_model"]) == (False, None)
    assert told["missing"] == {"checkpoint": start.uri, "job": "far-away-12345"}


def test_a_lineage_goes_through_a_state_machines_hand_over(nova, chats, pairs):
    nova.backend.resolve()

    def build(chain):
        chain.run("dpo", DPO.starting_from(chain.run("sft", SFT, chats)), pairs)

    machine = StateMachine.of(nova, "tone", build)
    machine.prepare()
    told = nova.lineage(machine.stages[1].plan.ref)
    assert told["complete"]
    assert [each["checkpoint"] for each in told["steps"]] == [None, None]
    assert [each["job"] for each in told["steps"]] == [each.plan.ref for each in reversed(machine.stages)]


def test_what_has_no_record_has_no_lineage(nova: NovaClient):
    with pytest.raises(ConfigurationError, match="has no record under s3://acme-nova/runs/plans"):
        nova.lineage("s3://customer-escrow-1-hp-x/some-job-12345/outputs")
    with pytest.raises(ConfigurationError, match="not a job reference"):
        nova.lineage("some-job")
    nova.backend.aws.write(nova.output.join("plans", "odd", "plan.json"), b"[]", content_type="application/json")
    with pytest.raises(ServiceError, match="not the record of a plan"):
        nova.lineage("s3://customer-escrow-1-hp-x/odd/outputs")

"""`nova-dpo chain list|show|resume|reset` and `lineage`, against the rehearsal cloud."""

from __future__ import annotations

import pytest
from cli_support import make_shell  # noqa: F401 - a fixture

from nova_dpo_sdk import DPORecipe, LoRA, NovaModel, SFTRecipe

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)


@pytest.fixture
def begun(nova, chats, pairs):
    """A chain whose first stage is finished and whose second is under way."""
    chain = nova.chain("tone")
    taught = chain.run("sft", SFT, chats)
    chain.start("dpo", DPO.starting_from(taught), pairs, allow=["few-records"])
    return chain


def test_chains_are_listed_with_how_far_they_have_come(shell, cloud, begun):
    local = shell.local(cloud)
    told = shell("chain", "list", *local)
    assert told.code == 0
    head, line = told.out.splitlines()
    assert head.split() == ["chain", "finished", "state", "newest", "GPU-hours"]
    assert line.split()[:6] == [begun.name, "1", "of", "2", "under", "way"]
    assert line.index("under way") == head.index("state")
    (one,) = shell("chain", "list", *local, "--json").json
    assert (one["chain"], one["finished"], one["stages"]) == ("tone", 1, ["sft", "dpo"])
    elsewhere = shell("chain", "list", *local, "--output", "s3://acme-nova/other")
    assert elsewhere.out == "No chains below s3://acme-nova/other.\n"


def test_show_asks_about_what_is_under_way(shell, cloud, begun, tmp_path):
    local = shell.local(cloud)
    cloud.clock.sleep(10)
    told = shell("chain", "show", "tone", *local, "--plot", tmp_path / "tone.png")
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[3].split()[:3] == ["dpo", "sft", "running"]
    assert lines[-1].startswith("newest checkpoint: s3://customer-escrow-")
    assert max(len(line) for line in lines if "s3://" not in line) <= 80
    assert (tmp_path / "tone.png").read_bytes().startswith(b"\x89PNG")
    before = len(cloud.requests)
    recorded = shell("chain", "show", "tone", *local, "--recorded")
    assert recorded.out.splitlines()[3].split()[:3] == ["dpo", "sft", "submitted"]
    assert {each.service for each in cloud.requests[before:]} <= {"s3", "sts"}
    told = shell("chain", "show", "tone", *local, "--json").json
    assert [each["seen"] for each in told["stages"]] == [None, "running"]
    assert told["stages"][0]["checkpoint"]["uri"] == begun.record("sft").checkpoint.uri


def test_show_falls_back_to_the_record_where_the_cluster_does_not_answer(shell, cloud, begun):
    cloud.script_fault("server-error", times=100)
    told = shell("chain", "show", begun.name, *shell.local(cloud))
    assert told.code == 0
    assert told.out.splitlines()[3].split()[:3] == ["dpo", "sft", "submitted"]
    assert "dpo cannot be asked about, so its record is shown" in " ".join(told.err.split())


def test_resume_waits_and_brings_the_records_up_to_date(shell, cloud, begun):
    local = shell.local(cloud)
    told = shell("chain", "resume", "tone", *local)
    assert told.code == 0
    assert "dpo: succeeded" in told.out
    assert "2 of 2 stages finished" in told.out
    assert begun.record("dpo").checkpoint is not None
    again = shell("chain", "resume", "tone", *local)
    assert again.code == 0
    assert "Nothing is under way" in again.err


def test_resume_ends_with_one_when_the_time_is_up(shell, cloud, begun):
    del begun
    told = shell("chain", "resume", "tone", *shell.local(cloud), "--timeout", "1")
    assert told.code == 1
    assert "jobs run on" in " ".join(told.err.split())


def test_reset_refuses_a_running_stage_and_stops_it_when_told_to(shell, cloud, begun):
    local = shell.local(cloud)
    refused = shell("chain", "reset", "tone", "dpo", *local)
    assert refused.code == 1
    assert "is not over" in " ".join(refused.err.split())
    told = shell("chain", "reset", "tone", "dpo", *local, "--cancel")
    assert told.code == 0
    assert "dpo is reset" in told.out
    assert str(begun.record("dpo").status) == "reset"
    again = shell("chain", "reset", "tone", "sft", *local, "--json").json
    assert (again["stage"], again["status"], again["checkpoint"]) == ("sft", "reset", None)
    assert [each["outcome"] for each in again["attempts"]] == ["succeeded"]
    assert shell("chain", "list", *local).out.splitlines()[1].split()[1:5] == ["0", "of", "2", "reset"]


def test_lineage_is_told_in_words_and_in_json(shell, cloud, begun):
    local = shell.local(cloud)
    ref = begun.record("dpo").current.ref
    told = shell("lineage", ref, *local)
    assert told.code == 0
    assert told.out.splitlines()[-1] == "nova-lite/prod"
    assert "chats.jsonl (70 records, sha256 " in told.out
    answer = shell("lineage", begun.record("sft").checkpoint.uri, *local, "--json").json
    assert (answer["complete"], len(answer["steps"])) == (True, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("chain", "show", "none"), "There is no chain none"),
        (("chain", "show", "No Name"), "is not a chain's name"),
        (("chain", "reset", "tone", "other"), "has no stage 'other'; it has sft, dpo"),
        (("lineage", "x"), "not a job reference"),
        (("lineage", "s3://customer-escrow-1-hp-x/lost/y"), "has no record under"),
    ],
)
@pytest.mark.usefixtures("begun")
def test_mistakes_are_named(shell, cloud, words, says):
    told = shell(*words, *shell.local(cloud))
    assert told.code == 1
    assert says in " ".join(told.err.split())


def test_without_an_output_nothing_is_found(shell):
    assert shell("chain", "list").code == 2
    assert shell("lineage", "s3://customer-escrow-1-hp-x/a/b").code == 2

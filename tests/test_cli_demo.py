"""`nova-dpo demo`."""

from __future__ import annotations

import json
import sys

import pytest
from cli_support import make_shell  # noqa: F401 - a fixture
from conftest import chat, pair
from sagemaker_support import needs_sdk, without_sdk

from nova_dpo_sdk import Platform, Recipe
from nova_dpo_sdk.cli import main
from nova_dpo_sdk.cli._screen import PlainScreen, RichScreen, bar
from nova_dpo_sdk.local import FakeClock


def test_the_samples_go_through_both_stages(shell):
    told = shell("demo", "--out", "out")
    assert (told.code, told.err) == (0, "")
    assert told.out.count("succeeded") == 2
    assert "There are 48 good pairs. Preference training has at least 1,000 pairs. Fine for a rehearsal." in " ".join(
        told.out.split()
    )
    assert "no model was trained" in told.out
    checkpoints = [line.split()[-1] for line in told.out.splitlines() if line.split()[1:2] == ["checkpoint"]]
    assert len(checkpoints) == 2
    out = shell.folder / "out"
    dpo = Recipe.from_file(out / "dpo" / "recipe.yaml")
    assert dpo.checkpoint is not None
    assert dpo.checkpoint.uri == checkpoints[0]
    plan = json.loads((out / "dpo" / "plan.json").read_text())
    assert plan["parent"] == json.loads((out / "sft" / "plan.json").read_text())["ref"]
    assert Recipe.from_file(out / "sft" / "recipe.yaml").findings("ml.p5.48xlarge", Platform.HYPERPOD) == []
    assert len((out / "data" / "pairs.jsonl").read_text().splitlines()) == 48


@pytest.mark.parametrize("model", ["nova-micro", "nova-pro"])
def test_every_model_goes_through(shell, model):
    told = shell("demo", "--model", model)
    assert told.code == 0
    assert (shell.folder / "nova-dpo-demo" / "dpo" / "plan.json").exists()


def test_pairs_in_another_layout_are_converted_and_their_better_sides_are_the_chats(shell, write_jsonl):
    rows = [{"prompt": f"Why {n}?", "chosen": f"Because {n}.", "rejected": f"No {n}."} for n in range(30)]
    told = shell("demo", "--pairs", write_jsonl("t.jsonl", rows), "--out", "out")
    assert told.code == 0
    assert "30 records read as prompt-chosen-rejected, 30 written" in told.out
    first = json.loads((shell.folder / "out/data/chats.jsonl").read_text().splitlines()[0])
    assert first["messages"][-1]["content"] == [{"text": "Because 0."}]


def test_your_own_nova_files_are_used_where_they_are(shell, write_jsonl):
    chats = write_jsonl("c.jsonl", [chat(f"Why {n}?", "Because.") for n in range(20)])
    pairs = write_jsonl("p.jsonl", [pair(f"Why {n}?", "Because.", "No.") for n in range(20)])
    told = shell("demo", "--chats", chats, "--pairs", pairs, "--out", "out")
    assert told.code == 0
    assert not (shell.folder / "out" / "data").exists()
    assert json.loads((shell.folder / "out/dpo/plan.json").read_text())["uploads"][0]["file"] == "p.jsonl"


def test_bad_data_are_said_with_findings_and_nothing_is_started(shell, write_jsonl):
    path = write_jsonl("p.jsonl", [pair("User: why?", "Because.", "No."), pair("Why?", "Because.", "No.")])
    told = shell("demo", "--pairs", path, "--out", "out")
    assert told.code == 1
    assert "[reserved-word]" in told.out
    assert "nothing was started" in told.out
    assert not (shell.folder / "out" / "dpo").exists()


def test_bad_chats_and_bad_pairs_are_said_together(shell, write_jsonl):
    chats = write_jsonl("c.jsonl", [chat("Why?", "System: because.")])
    pairs = write_jsonl("p.jsonl", [pair("User: why?", "Because.", "No.")])
    told = shell("demo", "--chats", chats, "--pairs", pairs, "--out", "out")
    assert told.code == 1
    assert told.out.count("[reserved-word]") == 2
    assert told.out.count("nova-dpo data check") == 2
    assert "cloud" not in told.out


def test_a_plan_that_is_refused_ends_the_demo(shell, write_jsonl):
    image = {
        "image": {
            "format": "png",
            "source": {"s3Location": {"uri": "s3://acme-nova/a.png", "bucketOwner": "123456789012"}},
        }
    }
    record = pair("What is this?", "A router.", "No idea.")
    record["messages"][0]["content"].append(image)
    told = shell("demo", "--pairs", write_jsonl("p.jsonl", [record]), "--model", "nova-micro")
    assert told.code == 1
    assert "[model-text-only]" in told.out
    assert "Nothing was sent." in told.out


def test_a_file_that_does_not_exist_is_an_error(shell):
    told = shell("demo", "--pairs", "no.jsonl")
    assert told.code == 1
    assert "no.jsonl does not exist" in told.err


def test_without_the_extra_it_says_how_to_install_it(shell, monkeypatch):
    monkeypatch.setitem(sys.modules, "moto", None)
    told = shell("demo")
    assert told.code == 1
    assert " ".join(told.err.split()) == (
        "error: The rehearsal cloud needs moto. Install it: pip install 'nova-dpo-sdk[local]'"
    )


def test_kept_the_cloud_can_be_asked_until_ctrl_c(shell):
    asked = []

    class Pressed(FakeClock):
        def sleep(self, seconds):
            connection = shell.folder / "out" / "cloud.json"
            if connection.exists():
                ref = json.loads((shell.folder / "out/dpo/plan.json").read_text())["ref"]
                asked.append(main(["status", ref, "--local", str(connection)], clock=self))
                raise KeyboardInterrupt
            super().sleep(seconds)

    shell.clock = Pressed()
    told = shell("demo", "--keep", "--out", "out")
    assert told.code == 0
    assert asked == [0]
    assert "status   succeeded" in told.out
    assert not (shell.folder / "out" / "cloud.json").exists()


def test_a_cloud_of_its_own_serves_other_shells_until_ctrl_c(shell):
    file = shell.folder / "cloud.json"
    asked = []

    class Pressed(FakeClock):
        def sleep(self, seconds):
            assert seconds
            asked.append(main(["chain", "list", "--local", str(file)], clock=self))
            raise KeyboardInterrupt

    shell.clock = Pressed()
    told = shell("cloud", file, "--pace", "0.5")
    assert (told.code, asked) == (0, [0])
    assert f"nova-dpo chain list --local {file}" in told.out
    assert not file.exists()


def test_a_bar_is_full_at_the_end():
    assert bar(0, 10) == "─" * 24
    assert bar(10, 10) == bar(3, 0) == "━" * 24
    assert bar(5, 10) == "━" * 12 + "─" * 12


def test_the_rich_screen_fits_into_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    screen = RichScreen()
    screen.heading("1  SFT", "teach")
    screen.row("warning", "[few-records] markup like [bold] is text " * 4, "warning")
    told = ["working"]
    with screen.busy("job", lambda: told[0]):
        screen.changed("job", "running")
    screen.summed_up("job", "pending > succeeded")
    screen.end("done", [("SFT checkpoint", "s3://" + "x" * 70)], "next")
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "s3://" + "x" * 70 in text
    assert "[bold]" in text


def test_both_screens_can_do_the_same():
    public = {name for name in vars(PlainScreen) if not name.startswith("_")}
    assert public == {name for name in vars(RichScreen) if not name.startswith("_")}


@needs_sdk
def test_both_stages_go_through_on_training_jobs_too(shell):
    told = shell("demo", "--platform", "training-jobs", "--out", "out")
    assert (told.code, told.err) == (0, "")
    assert told.out.count("succeeded") == 2
    assert told.out.count("then the recipe and CreateTrainingJob") == 2
    out = shell.folder / "out"
    plans = {stage: json.loads((out / stage / "plan.json").read_text()) for stage in ("sft", "dpo")}
    assert plans["dpo"]["parent"] == plans["sft"]["ref"]
    assert plans["dpo"]["objects"][1]["HyperParameters"]["base_model_location"] == plans["dpo"]["starts_from"]
    assert "-smtj-" in plans["dpo"]["starts_from"]


@needs_sdk
def test_a_bad_day_on_training_jobs_is_said_in_its_own_words(shell):
    told = shell("demo", "--platform", "training-jobs", "--fault", "capacity", "--out", "out")
    assert told.code == 1
    assert "CapacityError" in told.err
    assert "another instance type" in " ".join(told.err.split())
    told = shell("demo", "--platform", "training-jobs", "--fault", "crash-loop", "--out", "out")
    assert told.code == 1
    assert "No fault is called 'crash-loop'; there are capacity," in " ".join(told.err.split())


@without_sdk
def test_training_jobs_without_the_sdk_are_refused_before_anything_starts(shell):
    told = shell("demo", "--platform", "training-jobs", "--out", "out")
    assert told.code == 1
    assert "nova-dpo-sdk[sagemaker]" in told.err
    assert not (shell.folder / "out").exists()

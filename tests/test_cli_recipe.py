"""`nova-dpo recipe`."""

from __future__ import annotations

import pytest
from cli_support import make_shell  # noqa: F401 - a fixture

from nova_dpo_sdk import DPORecipe, NovaModel, Recipe


def test_a_new_recipe_is_the_published_one_and_is_read_back(shell):
    told = shell("recipe", "new", "--technique", "dpo")
    assert told.code == 0
    assert Recipe.from_yaml(told.out) == Recipe.from_yaml(
        DPORecipe(name="nova-lite-dpo", model=NovaModel.LITE).to_yaml()
    )


@pytest.mark.parametrize("tuning", ["lora", "full-rank"])
@pytest.mark.parametrize("model", ["nova-micro", "nova-lite", "nova-pro", "nova-lite-2"])
@pytest.mark.parametrize("technique", ["sft", "dpo"])
def test_what_new_writes_check_finds_good(shell, technique, model, tuning):
    words = ("--technique", technique, "--model", model, "--tuning", tuning, "-o", "r.yaml")
    told = shell("recipe", "new", *words)
    if (technique, model) == ("dpo", "nova-lite-2"):
        assert told.code == 1
        assert "Nova 2 Lite has no DPO" in " ".join(told.err.split())
        return
    assert (told.code, told.out) == (0, "")
    checked = shell("recipe", "check", "r.yaml")
    assert checked.code == 0
    assert "0 errors, 0 warnings" in checked.out


def test_the_defaults_are_those_of_the_instance_type(shell):
    told = shell("recipe", "new", "--technique", "sft", "--model", "nova-micro", "--instance-type", "g5.12xlarge")
    assert "max_length: 8192" in told.out
    assert "replicas: 1" in told.out


def test_an_instance_type_that_is_not_offered_is_refused(shell):
    told = shell("recipe", "new", "--technique", "dpo", "--instance-type", "ml.t3.large")
    assert told.code == 1
    assert "error [instance-type-unknown] instance_type" in told.err
    assert "ml.p5.48xlarge" in told.err


def test_check_prints_errors_first_and_ends_with_one(shell):
    told = shell("recipe", "check", shell.recipe("dpo", replicas="3", beta="0.3"))
    assert told.code == 1
    assert told.out.index("error [replicas-not-allowed]") < told.out.index("warning [beta-disputed]")
    assert "--allow beta-disputed" in told.out
    assert "1 error, 1 warning" in told.out


def test_a_warning_alone_is_no_failure(shell):
    told = shell("recipe", "check", shell.recipe("dpo", beta="0.3"))
    assert told.code == 0
    assert "0 errors, 1 warning" in told.out


def test_a_misspelt_key_is_answered_with_the_nearest(shell):
    path = shell.recipe("dpo")
    path.write_text(path.read_text().replace("global_batch_size", "global_batchsize"))
    told = shell("recipe", "check", path)
    assert told.code == 1
    assert "Did you mean training_config.global_batch_size?" in " ".join(told.err.split())
    listed = shell("recipe", "check", path, "--json")
    assert listed.code == 1
    assert [each["code"] for each in listed.json["findings"]] == ["unknown-key"]


def test_an_unknown_key_is_carried_when_asked(shell):
    path = shell.recipe("dpo")
    path.write_text(path.read_text().replace("run:\n", "run:\n  new_key: 7\n"))
    assert shell("recipe", "show", path).code == 1
    shown = shell("recipe", "show", path, "--extra", "run.new_key")
    assert shown.code == 0
    assert "new_key: 7" in shown.out


def test_check_answers_in_json(shell):
    told = shell("recipe", "check", shell.recipe("dpo", replicas="3"), "--json")
    assert told.code == 1
    assert told.json["ok"] is False
    assert told.json["findings"][0]["code"] == "replicas-not-allowed"


def test_show_writes_floats_that_every_reader_takes_for_floats(shell):
    path = shell.recipe("dpo", lr="1e-5  # as published")
    assert "lr: 1.0e-05" in shell("recipe", "show", path).out
    assert shell("recipe", "show", path, "--json").json["training_config"]["model"]["optim"]["lr"] == 1e-05


def test_the_same_recipe_is_judged_for_training_jobs(shell):
    assert shell("recipe", "check", shell.recipe("dpo"), "--platform", "training-jobs").code == 0


def test_what_only_training_jobs_offer_is_written_for_them(shell):
    words = ("--technique", "dpo", "--instance-type", "ml.g5.48xlarge")
    refused = shell("recipe", "new", *words)
    assert refused.code == 1
    assert "run it on training-jobs" in " ".join(refused.err.split())
    assert shell("recipe", "new", *words, "--platform", "training-jobs", "-o", "r.yaml").code == 0
    assert shell("recipe", "check", "r.yaml", *words[2:], "--platform", "training-jobs").code == 0

from __future__ import annotations

import json
import re

import pytest
import yaml
from conftest import pair

from nova_dpo_sdk import (
    ChatDataset,
    DPORecipe,
    HyperPodBackend,
    HyperPodOptions,
    LoRA,
    NovaClient,
    NovaModel,
    PreferenceDataset,
    SFTRecipe,
)
from nova_dpo_sdk.backends import JobRef, job_name
from nova_dpo_sdk.errors import ConfigurationError, PlanRejectedError

RECIPE = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, warmup_steps=1, global_batch_size=16)


def offline(output="s3://acme-nova/runs", **place):
    options = {"region": "us-east-1", "account": "123456789012", **place}
    return NovaClient(HyperPodBackend("research", **options), output=output)


def test_a_plan_asks_nobody_and_says_everything(pairs):
    plan = offline().plan(RECIPE, pairs)
    text = str(plan)
    assert re.fullmatch(r"support-dpo-[0-9a-z]{5}", plan.name)
    for piece in (
        plan.name,
        plan.digest,
        plan.uploads[0].uri,
        "beta: 0.1",
        "kind: PyTorchJob",
        "70 records",
        "Nothing was sent",
    ):
        assert piece in text
    assert [each["kind"] for each in plan.objects] == ["ConfigMap", "PyTorchJob"]
    assert yaml.safe_load(plan.objects[0]["data"]["config.yaml"])["run"]["name"] == plan.name
    assert plan.uploads[0].uri == f"s3://acme-nova/runs/datasets/{plan.uploads[0].sha256}/pairs.jsonl"
    assert json.loads(plan.to_json())["digest"] == plan.digest


def test_the_same_run_has_the_same_name_wherever_it_is_planned(pairs, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "pairs.jsonl").write_bytes(pairs.path.read_bytes())
    again = offline().plan(RECIPE, PreferenceDataset.from_jsonl(copy / "pairs.jsonl"))
    plan = offline().plan(RECIPE, pairs)
    assert (again.name, again.digest, again.to_dict()) == (plan.name, plan.digest, plan.to_dict())


@pytest.mark.parametrize(
    "other",
    [
        lambda data: offline().plan(RECIPE.replace(beta=0.2), data),
        lambda data: offline().plan(RECIPE, data, attempt=2),
        lambda data: offline(namespace="other").plan(RECIPE, data),
        lambda data: offline(instance_type="ml.p5en.48xlarge").plan(RECIPE, data),
        lambda data: offline(output="s3://acme-nova/elsewhere").plan(RECIPE, data),
        lambda data: offline().plan(RECIPE, data, validation=data),
    ],
)
def test_another_run_has_another_name(pairs, other):
    assert other(pairs).digest != offline().plan(RECIPE, pairs).digest


def test_other_data_is_another_run(pairs, write_jsonl):
    others = PreferenceDataset.from_jsonl(write_jsonl("pairs2.jsonl", [pair("Q?", "Yes, gladly.", "No.")]))
    assert offline().plan(RECIPE, others).digest != offline().plan(RECIPE, pairs).digest


def test_again_is_the_next_attempt_under_its_own_name(pairs):
    plan = offline().plan(RECIPE, pairs)
    again = plan.again()
    assert (again.attempt, again.again().attempt) == (2, 3)
    assert len({plan.name, again.name, again.again().name}) == 3
    assert again.recipe.replace(name="x") == plan.recipe.replace(name="x")


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("support-dpo", "support-dpo"),
        ("Support_DPO", "support-dpo"),
        ("9 lives", "run-9-lives"),
        ("日本", "run"),
        ("a" * 80, "a" * 34),
        ("a" * 33 + "--b", "a" * 33),
        ("--x--", "x"),
    ],
)
def test_names_are_made_legal(given, stem):
    name = job_name(given, "f" * 64)
    assert name.rpartition("-")[0] == stem
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 40


def test_a_changed_name_is_shown(pairs):
    plan = offline().plan(RECIPE.replace(name="Support_DPO"), pairs)
    note = next(finding for finding in plan.findings if finding.code == "name-made-legal")
    assert plan.name in note.message
    assert plan.ok


def test_everything_wrong_is_in_one_plan(write_jsonl, tmp_path):
    bad = write_jsonl("bad.jsonl", [pair("Q?", "a", "a"), '{"messages": [', json.dumps({"messages": []})])
    recipe = RECIPE.replace(replicas=3, max_length=32768)
    plan = offline(region="eu-west-1", instance_type="ml.p4d.24xlarge").plan(recipe, PreferenceDataset.from_jsonl(bad))
    codes = {finding.code for finding in plan.errors}
    assert {"replicas-not-allowed", "max-length-not-allowed", "region-not-offered"} <= codes
    assert len([finding for finding in plan.errors if finding.where.startswith("data line")]) >= 3
    assert not plan.ok
    with pytest.raises(PlanRejectedError) as error:
        offline(region="eu-west-1", instance_type="ml.p4d.24xlarge").submit(plan)
    assert set(error.value.findings) == set(plan.errors)
    missing = offline().plan(recipe, PreferenceDataset.from_jsonl(tmp_path / "absent.jsonl"))
    assert {"replicas-not-allowed", "data-unreadable"} <= {finding.code for finding in missing.errors}
    assert "absent.jsonl" in str(missing)


def test_allowed_warnings_are_left_out_and_errors_never(pairs):
    recipe = RECIPE.replace(replicas=32, beta=0.5)
    assert "beta-disputed" in {f.code for f in offline().plan(recipe, pairs).warnings}
    plan = offline().plan(
        recipe.replace(global_batch_size=512), pairs, allow=["beta-disputed", "global-batch-size-not-allowed"]
    )
    assert "beta-disputed" not in {f.code for f in plan.findings}
    assert "global-batch-size-not-allowed" in {f.code for f in plan.errors}


def test_warm_up_that_outlasts_the_training_is_a_warning(pairs):
    codes = {f.code for f in offline().plan(RECIPE.replace(warmup_steps=10), pairs).warnings}
    assert "warmup-outlasts-training" in codes  # 70 records / 16 x 2 epochs = 10 steps


def test_the_account_is_shown_as_unresolved_until_somebody_says_it(pairs):
    plan = offline(account=None).plan(RECIPE, pairs)
    assert plan.unresolved == {"account": "<account>"}
    assert "asked of AWS at submit" in str(plan)
    assert plan.digest == offline().plan(RECIPE, pairs).digest


def test_a_recipe_meets_only_its_own_kind_of_data(pairs, chats):
    sft = SFTRecipe(name="sft", model=NovaModel.LITE, tuning=LoRA())
    with pytest.raises(ConfigurationError, match="PreferenceDataset, not on a ChatDataset"):
        offline().plan(RECIPE, chats)
    with pytest.raises(ConfigurationError, match="ChatDataset, not on a PreferenceDataset"):
        offline().plan(sft, pairs)
    with pytest.raises(ConfigurationError, match="counts from 1"):
        offline().plan(RECIPE, pairs, attempt=0)


def test_html_is_escaped(write_jsonl):
    data = PreferenceDataset.from_jsonl(write_jsonl("pairs.jsonl", [pair("Q?", "Yes.", "No.")]))
    page = offline().plan(RECIPE.replace(name="<script>alert(1)</script>"), data)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_validation_data_that_the_recipe_names_make_another_run(chats):
    sft = SFTRecipe(name="s", model=NovaModel.LITE, replicas=4)
    paths = ("s3://acme-nova/a.jsonl", "s3://acme-nova/b.jsonl", None)
    plans = [offline().plan(sft.replace(validation_data_s3_path=path), chats) for path in paths]
    assert [plan.recipe.validation_data_s3_path for plan in plans] == list(paths)
    assert len({plan.name for plan in plans}) == 3


def test_another_image_is_another_run(pairs):
    plain, other = offline(), offline(options=HyperPodOptions(image="1.dkr.ecr.us-east-1.amazonaws.com/mine:v2"))
    assert plain.plan(RECIPE, pairs).name != other.plan(RECIPE, pairs).name
    with pytest.raises(ConfigurationError, match="image"):
        other.submit(plain.plan(RECIPE, pairs))


def test_a_region_that_nobody_set_is_a_finding(pairs, monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    plan = offline(region=None).plan(RECIPE, pairs)
    (told,) = [f for f in plan.errors if f.code == "region-missing"]
    monkeypatch.setenv(re.findall(r"AWS_\w+", told.fix)[0], "us-east-1")
    assert offline(region=None).plan(RECIPE, pairs).ok


def test_one_of_a_kind_is_told_as_one(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair("Which?", "This.", "That.")) + "\n")
    recipe = RECIPE.replace(replicas=1, max_epochs=1, warmup_steps=10)
    text = " ".join(str(offline().plan(recipe, PreferenceDataset.from_jsonl(tmp_path / "pairs.jsonl"))).split())
    assert "There is 1 good pair." in text
    assert "training on 1 record ends after 1 step:" in text
    assert ", 1 replica " in text
    assert "1 error, " in text
    assert re.findall(r"(?<![\d.,])1 [a-z]+s\b", text) == []


@pytest.mark.parametrize("output", [None, 5, b"s3://acme-nova/runs", "acme-nova/runs"])
def test_an_output_that_is_no_address_is_refused(output):
    with pytest.raises(ConfigurationError, match=r"is not an S3 address\. Write s3://bucket/key"):
        NovaClient(offline().backend, output)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "hyperpod://us-east-1/c/n",
        "hyperpod://us-east-1//n/j",
        "http://a/b/c/d",
        "training-jobs://us-east-1/a/b",
    ],
)
def test_what_is_no_job_reference_is_refused(text):
    with pytest.raises(ConfigurationError, match="not a job reference"):
        JobRef.parse(text)


@pytest.mark.parametrize("text", ["hyperpod://us-east-1/research/kubeflow/job-1", "training-jobs://us-west-2/job-1"])
def test_job_references_survive_being_read(text):
    assert str(JobRef.parse(text)) == text


def test_two_kinds_of_validation_data_are_planned(pairs, chats):
    plan = offline().plan(RECIPE, pairs, validation=pairs)
    assert plan.recipe.validation_data_s3_path == plan.uploads[1].uri
    assert "validation-data-disputed" in {f.code for f in plan.warnings}
    with pytest.raises(ConfigurationError):
        offline().plan(RECIPE, pairs, validation=ChatDataset.from_jsonl(chats.path))

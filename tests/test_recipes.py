from __future__ import annotations

import pickle

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from published import DPO_FULL_MICRO, DPO_LORA_LITE, PUBLISHED, SFT_NOVA_2_LORA

from nova_dpo_sdk.catalog import Catalog, NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.errors import RecipeError
from nova_dpo_sdk.recipes import Checkpoint, DPORecipe, FullRank, LoRA, Nova2SFTRecipe, Recipe, SFTRecipe

LITE = NovaModel.LITE


def codes(error: pytest.ExceptionInfo[RecipeError]) -> dict[str, str]:
    return {finding.code: finding.where for finding in error.value.findings}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_recipe_is_read_and_written_back_the_same(name):
    _, text = PUBLISHED[name]
    recipe = Recipe.from_yaml(text)
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_means_what_was_published(name):
    _, text = PUBLISHED[name]
    written = yaml.safe_load(Recipe.from_yaml(text).to_yaml())
    published = yaml.safe_load(
        text.replace("1e-5", "1.0e-05").replace("1e-6", "1.0e-06").replace("5e-6", "5.0e-06").replace("5e-7", "5.0e-07")
        .replace("1e-08", "1.0e-08").replace("1e-06", "1.0e-06").replace("${oc.select:training_config.max_steps}", "100")
    )  # fmt: skip
    assert written == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones(name):
    instance_type, text = PUBLISHED[name]
    published = Recipe.from_yaml(text)
    tuning = LoRA() if published.tuning.kind is TuningKind.LORA else FullRank()
    bare = type(published)(name=published.name, model=published.model, tuning=tuning).for_instance(instance_type)
    for field in type(published).model_fields:
        if field.startswith(("mlflow", "validation_data", "data_s3", "output_s3")):
            continue
        assert getattr(bare, field) == getattr(published, field), field


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_no_finding_where_they_are_published(name):
    instance_type, text = PUBLISHED[name]
    recipe = Recipe.from_yaml(text)
    offers = Catalog.packaged().find(recipe.technique, recipe.model, recipe.tuning.kind, instance_type)
    assert [offer.recipe for offer in offers] == [name]
    platform = Platform.HYPERPOD if Platform.HYPERPOD in offers[0].platforms else Platform.TRAINING_JOBS
    assert recipe.findings(instance_type, platform) == []


@pytest.mark.parametrize("text", [DPO_FULL_MICRO, DPO_LORA_LITE])
def test_the_recipes_of_the_dpo_guide_are_read(text):
    recipe = DPORecipe.from_yaml(text)
    assert DPORecipe.from_yaml(recipe.to_yaml()) == recipe
    assert recipe.lr == 1e-5
    assert recipe.min_lr == 1e-6
    assert recipe.validation_data_s3_path == "s3://my-bucket/validation.jsonl"
    errors = [f for f in recipe.findings("ml.p5.48xlarge", Platform.HYPERPOD) if f.is_error]
    assert errors == []


def test_the_guide_s_lora_recipe_keeps_its_own_beta():
    recipe = DPORecipe.from_yaml(DPO_LORA_LITE)
    assert (recipe.beta, recipe.model, recipe.tuning) == (
        0.01, LITE, LoRA(alpha=64, loraplus_lr_ratio=20.0, adapter_dropout=0.01),
    )  # fmt: skip


def test_every_float_is_a_float_to_both_generations_of_yaml():
    text = DPORecipe(name="run", model=LITE, lr=3e-6, min_lr=1e-300, eps=1e-10).to_yaml()
    optim = yaml.safe_load(text)["training_config"]["model"]["optim"]  # YAML 1.1
    assert (optim["lr"], optim["sched"]["min_lr"], optim["eps"]) == (3e-6, 1e-300, 1e-10)
    assert "lr: 3.0e-06" in text


@pytest.mark.parametrize(
    "name", ["1e5", "no", "y", "null", "1.5", "a: b", "a #b", " x", "'", "日本", "~", "0x1F", "2024-01-01"]
)
def test_texts_stay_texts_whatever_they_look_like(name):
    recipe = DPORecipe(name=name, model=LITE, mlflow_run_name=name)
    text = recipe.to_yaml()
    assert yaml.safe_load(text)["run"]["name"] == name
    assert DPORecipe.from_yaml(text) == recipe.replace(
        **{f: getattr(recipe, f) for f in type(recipe).model_fields if f != "technique"}
    )


def test_every_wrong_field_is_said_at_once():
    with pytest.raises(RecipeError) as error:
        DPORecipe(name="", model=LITE, beta=0.7, max_length=5000, lr=float("nan"), replicas="2", betta=1)
    assert set(codes(error)) == {
        "beta-not-allowed",
        "max-length-not-allowed",
        "not-finite",
        "wrong-type",
        "unknown-key",
    }
    text = str(error.value)
    assert "beta is 0.7" in text
    assert "0.001 to 0.5" in text
    assert "Did you mean beta?" in text
    assert "nearest that is allowed is 5120" in text


def test_yaml_errors_name_line_path_value_and_the_nearest_key():
    text = (
        DPO_LORA_LITE.replace("beta: 0.01", "betta: 0.01")
        .replace("replicas: 4 ", "replicas: four ")
        .replace("alpha: 64", "alpha: 50")
    )
    with pytest.raises(RecipeError) as error:
        Recipe.from_yaml(text)
    found = {finding.code: finding for finding in error.value.findings}
    assert found["unknown-key"].where == "line 35, training_config.model.dpo_cfg.betta"
    assert "training_config.model.dpo_cfg.beta" in found["unknown-key"].fix
    assert found["wrong-type"].where == "line 6, run.replicas"
    assert "'four'" in found["wrong-type"].message
    assert found["alpha-not-allowed"].where == "line 40, training_config.model.peft.lora_tuning.alpha"
    assert found["alpha-not-allowed"].allowed == "32, 64, 96, 128, 160 or 192"


def test_keys_of_the_future_are_carried_when_asked():
    text = DPO_FULL_MICRO.replace("  max_length:", "  new_key: {deep: [1, 2]}\n  max_length:")
    with pytest.raises(RecipeError, match=r"training_config.new_key.deep is not a key"):
        DPORecipe.from_yaml(text)
    recipe = DPORecipe.from_yaml(text, extra=["training_config.new_key"])
    assert recipe.extra == {"training_config.new_key.deep": [1, 2]}
    assert DPORecipe.from_yaml(recipe.to_yaml(), extra=recipe.extra) == recipe


@pytest.mark.parametrize(
    "path", ["training_config.max_length", "training_config", "elsewhere.key", "run..x", "run.name.x"]
)
def test_extra_cannot_stand_for_a_known_parameter(path):
    with pytest.raises(RecipeError):
        DPORecipe(name="run", model=LITE, extra={path: 1})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a recipe"),
        ("- a\n- b\n", "not a recipe"),
        ("run: [1\n", "not YAML: line 2"),
        ("run:\n\tname: x\n", "not YAML: line 2"),
        ("run: &a {name: x}\nother: *a\n", "aliases"),
        ("run: {name: !!python/object:os.system x}\n", "not YAML"),
        ("run: {name: x, name: y}\n", "stands twice"),
        ("run: {name: \x07}\n", "does not allow"),
        ("run: " + "[" * 50_000, "nested too deeply"),
        ("{" * 3000, "nested too deeply"),
        ("run: {replicas: " + "9" * 5000 + "}", "cannot be read"),
        ("a" * (1024 * 1024 + 1), "longer than"),
        ("run: {name: x, model_type: gpt-5}\ntraining_config: {model: {dpo_cfg: {beta: 0.1}}}\n", "no Nova model"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_in_words(text, says):
    with pytest.raises(RecipeError, match=says):
        Recipe.from_yaml(text)


def test_a_recipe_of_another_technique_is_named(tmp_path):
    with pytest.raises(RecipeError, match="Read it with DPORecipe"):
        SFTRecipe.from_yaml(DPO_FULL_MICRO)
    with pytest.raises(RecipeError, match="Read it with Nova2SFTRecipe"):
        DPORecipe.from_yaml(SFT_NOVA_2_LORA)
    with pytest.raises(RecipeError, match="does not exist"):
        Recipe.from_file(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"run: {name: \xff}")
    with pytest.raises(RecipeError, match="not UTF-8"):
        Recipe.from_file(tmp_path / "latin.yaml")


def test_dpo_of_nova_2_lite_cannot_be_written():
    with pytest.raises(RecipeError, match="Nova 2 Lite has no DPO"):
        DPORecipe(name="run", model=NovaModel.LITE_2)
    with pytest.raises(RecipeError, match="Nova2SFTRecipe"):
        SFTRecipe(name="run", model=NovaModel.LITE_2)


@pytest.mark.parametrize(
    "values",
    [
        {"model": LITE, "replicas": 32},
        {"model": LITE, "beta": 0.5},
        {"model": LITE, "warmup_steps": 1},
        {"model": LITE, "warmup_steps": 20},
        {"model": LITE, "max_epochs": 5},
        {"model": LITE, "max_length": 32768},
        {"model": LITE, "global_batch_size": 256},
        {"model": NovaModel.MICRO, "tuning": FullRank(), "eps": 1e-6, "weight_decay": 0.0},
        {"model": NovaModel.PRO, "replicas": 24},
        {"model": LITE, "mlflow_tracking_uri": "arn:aws:sagemaker:us-east-1:111122223333:mlflow-tracking-server/x"},
    ],
)
def test_what_the_guide_allows_is_never_an_error(values):
    found = DPORecipe(name="run", **values).findings("ml.p5.48xlarge", Platform.HYPERPOD)
    assert [finding for finding in found if finding.is_error] == []
    assert all(finding.source for finding in found)


@pytest.mark.parametrize(
    ("values", "instance_type", "code", "allowed"),
    [
        ({"model": LITE, "replicas": 3}, "ml.p5.48xlarge", "replicas-not-allowed", "4, 8, 16 or 32"),
        ({"model": LITE, "max_length": 32768}, "ml.p4d.24xlarge", "max-length-not-allowed", "1024 to 16384, in steps of 1024"),
        ({"model": NovaModel.PRO, "tuning": FullRank(), "replicas": 6}, "ml.p4d.24xlarge", "replicas-not-allowed", "12 or 24"),
        ({"model": NovaModel.PRO, "global_batch_size": 256}, "ml.p5.48xlarge", "global-batch-size-not-allowed", "16, 32, 64 or 128"),
        ({"model": LITE}, "ml.g5.48xlarge", "platform-not-offered", "ml.p4d.24xlarge, ml.p5.48xlarge, ml.p5en.48xlarge"),
        ({"model": LITE}, "ml.p3.16xlarge", "instance-type-unknown", "ml.p4d.24xlarge, ml.p5.48xlarge, ml.p5en.48xlarge"),
    ],
)  # fmt: skip
def test_what_depends_on_the_instance_type_is_a_finding(values, instance_type, code, allowed):
    found = DPORecipe(name="run", **values).findings(instance_type, Platform.HYPERPOD)
    match = next(finding for finding in found if finding.code == code)
    assert match.is_error
    assert match.allowed == allowed
    assert match.source


def test_disputed_values_name_who_disputes_them():
    found = DPORecipe(name="run", model=LITE, replicas=32, beta=0.3).findings("ml.p5.48xlarge", Platform.HYPERPOD)
    assert {finding.code for finding in found} == {"replicas-disputed", "beta-disputed"}
    assert all("sagemaker-hyperpod-recipes" in finding.source for finding in found)


def test_left_out_fields_follow_the_instance_type_and_given_ones_do_not():
    recipe = DPORecipe(name="run", model=NovaModel.PRO, tuning=FullRank())
    assert (recipe.replicas, recipe.for_instance("ml.p4d.24xlarge").replicas) == (6, 12)
    assert recipe.replace(replicas=24).for_instance("ml.p4d.24xlarge").replicas == 24
    assert DPORecipe(name="run", model=LITE).for_instance("ml.g5.48xlarge").max_length == 4096


def test_min_lr_stays_below_lr():
    with pytest.raises(RecipeError, match="not below lr"):
        DPORecipe(name="run", model=LITE, lr=1e-6)
    assert DPORecipe(name="run", model=LITE, lr=1e-6, min_lr=0.0).min_lr == 0.0


def test_nova_2_saves_at_the_end_unless_told():
    recipe = Nova2SFTRecipe(name="run", max_steps=200)
    assert recipe.to_dict()["training_config"]["save_steps"] == 200
    with pytest.raises(RecipeError, match="above max_steps"):
        Nova2SFTRecipe(name="run", max_steps=100, save_steps=101)
    with pytest.raises(RecipeError, match="adapter_dropout is not a parameter"):
        Nova2SFTRecipe(name="run", tuning=LoRA(adapter_dropout=0.1))


CHECKPOINT = Checkpoint(
    uri="s3://customer-escrow-111122223333-hp-a1b2/sft-x/outputs/checkpoints",
    model=LITE,
    tuning=TuningKind.LORA,
    technique=Technique.SFT,
)


def test_a_checkpoint_tells_its_platform_from_the_bucket():
    assert CHECKPOINT.platform is Platform.HYPERPOD
    with pytest.raises(RecipeError, match="belongs to hyperpod"):
        Checkpoint(uri=CHECKPOINT.uri, model=LITE, tuning=TuningKind.LORA, platform=Platform.TRAINING_JOBS)
    with pytest.raises(RecipeError, match="not an S3 path"):
        Checkpoint(uri="weights/x", model=LITE, tuning=TuningKind.LORA)


def test_starting_from_refuses_another_model_tuning_and_platform_at_once():
    recipe = DPORecipe(name="run", model=NovaModel.PRO, tuning=FullRank())
    with pytest.raises(RecipeError) as error:
        recipe.starting_from(CHECKPOINT, platform=Platform.TRAINING_JOBS)
    assert set(codes(error)) == {"checkpoint-model", "checkpoint-tuning", "checkpoint-platform"}


def test_a_recipe_that_starts_from_a_checkpoint_says_so_in_yaml():
    recipe = DPORecipe(name="run", model=LITE).starting_from(CHECKPOINT)
    assert recipe.to_dict()["run"]["model_name_or_path"] == CHECKPOINT.uri
    assert recipe.findings("ml.p5.48xlarge", Platform.HYPERPOD) == []
    assert [f.code for f in recipe.findings("ml.p5.48xlarge", Platform.TRAINING_JOBS)] == ["checkpoint-platform"]
    read = DPORecipe.from_yaml(recipe.to_yaml())
    assert read.checkpoint is not None
    assert read.checkpoint.uri == CHECKPOINT.uri
    assert DPORecipe.from_yaml(read.to_yaml()) == read


def test_a_checkpoint_outside_escrow_is_a_warning():
    strange = Checkpoint(uri="s3://my-bucket/weights", model=LITE, tuning=TuningKind.LORA)
    found = DPORecipe(name="run", model=LITE).starting_from(strange).findings("ml.p5.48xlarge", Platform.HYPERPOD)
    assert [(f.code, f.is_error) for f in found] == [("checkpoint-not-escrow", False)]


def test_values_are_frozen_and_changes_are_checked():
    recipe = DPORecipe(name="run", model=LITE)
    with pytest.raises(Exception, match="frozen"):
        recipe.beta = 0.2
    with pytest.raises(RecipeError, match="beta is 9"):
        recipe.replace(beta=9.0)
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301 - our own bytes


def test_errors_pickle_with_their_findings():
    with pytest.raises(RecipeError) as error:
        DPORecipe(name="run", model=LITE, beta=0.7)
    copy = pickle.loads(pickle.dumps(error.value))  # noqa: S301 - our own bytes
    assert copy.findings == error.value.findings
    assert str(copy) == str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()),
    model=st.sampled_from([NovaModel.MICRO, NovaModel.LITE, NovaModel.PRO]),
    tuning=st.one_of(
        st.just(FullRank()),
        st.builds(
            LoRA,
            alpha=st.sampled_from([32, 64, 192]),
            loraplus_lr_ratio=st.floats(0, 100),
            adapter_dropout=st.floats(0, 1),
        ),
    ),
    beta=st.floats(0.001, 0.5),
    lr=st.floats(1e-12, 1),
    dropout=st.floats(0, 1),
    warmup=st.integers(0, 100),
    path=st.sampled_from(["", "s3://bucket/key", "s3://bucket/päth #1: x"]),
)
def test_any_recipe_survives_being_written_and_read(name, model, tuning, beta, lr, dropout, warmup, path):
    recipe = DPORecipe(
        name=name, model=model, tuning=tuning, beta=beta, lr=lr, min_lr=0.0, hidden_dropout=dropout,
        warmup_steps=warmup, data_s3_path=path,
    )  # fmt: skip
    text = recipe.to_yaml()
    read = DPORecipe.from_yaml(text)
    assert read == recipe
    assert read.to_yaml() == text
    assert yaml.safe_load(text) == recipe.to_dict()  # YAML 1.1 reads the same values

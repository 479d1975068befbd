from __future__ import annotations

import pytest

from nova_dpo_sdk.catalog import Catalog, NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.errors import ConfigurationError

CATALOG = Catalog.packaged()


def test_every_model_technique_and_tuning_that_nova_offers_is_there():
    offers = {(c.model, c.technique, c.tuning) for c in CATALOG.combinations}
    nova_1 = {
        (model, technique, tuning)
        for model in (NovaModel.MICRO, NovaModel.LITE, NovaModel.PRO)
        for technique in Technique
        for tuning in TuningKind
    }
    assert offers == nova_1 | {(NovaModel.LITE_2, Technique.SFT, tuning) for tuning in TuningKind}


def test_every_limit_names_documents_that_exist():
    for combination in CATALOG.combinations:
        for name, limit in combination.limits.items():
            sources = [*limit.bounds.source, *(key for caution in limit.cautions for key in caution.bounds.source)]
            assert sources, (combination.recipe, name)
            assert set(sources) <= set(CATALOG.sources), (combination.recipe, name)


def test_every_default_is_allowed_and_undisputed():
    for combination in CATALOG.combinations:
        for name, limit in combination.limits.items():
            found = list(CATALOG.judge(name, limit.default, limit, where=name, context=""))
            assert found == [], (combination.recipe, name)


def test_every_instance_type_that_is_offered_is_known():
    assert {each.instance_type for each in CATALOG.combinations} <= set(CATALOG.instances)
    assert (CATALOG.instances["ml.p5.48xlarge"].gpus, CATALOG.instances["ml.p5.48xlarge"].efa) == (8, 32)
    assert (CATALOG.instances["ml.p5en.48xlarge"].efa, CATALOG.instances["ml.p4d.24xlarge"].efa) == (16, 4)


def test_dpo_on_small_gpus_runs_on_training_jobs_only():
    for combination in CATALOG.find(Technique.DPO, NovaModel.MICRO, instance_type="ml.g5.12xlarge"):
        assert combination.platforms == {Platform.TRAINING_JOBS}
    for combination in CATALOG.find(Technique.SFT, NovaModel.MICRO, instance_type="ml.g5.12xlarge"):
        assert Platform.HYPERPOD in combination.platforms


def test_a_region_can_be_added():
    assert CATALOG.training_image(Platform.HYPERPOD, "DPO", "eu-west-1") is None
    wider = CATALOG.with_region("eu-west-1", training_account="111122223333")
    image = wider.training_image(Platform.HYPERPOD, "DPO", "eu-west-1")
    assert image == "111122223333.dkr.ecr.eu-west-1.amazonaws.com/nova-fine-tune-repo:SM-HP-DPO-latest"
    assert CATALOG.training_image(Platform.HYPERPOD, "DPO", "eu-west-1") is None


def test_no_default_is_invented_for_what_is_not_offered():
    with pytest.raises(ConfigurationError, match="not offered"):
        CATALOG.default(Technique.DPO, NovaModel.LITE_2, TuningKind.LORA, "replicas")

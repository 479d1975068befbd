from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from nova_dpo_sdk import (
    DPORecipe,
    HyperPodBackend,
    HyperPodOptions,
    LoRA,
    NovaModel,
    Recipe,
    TrainingJobBackend,
    TrainingJobOptions,
)
from nova_dpo_sdk.catalog import Catalog
from nova_dpo_sdk.errors import ConfigurationError

REFERENCE = Path(__file__).parent / "reference" / "pytorchjob_dpo.yaml"


def backend(**options):
    place = {"region": "us-east-1", "account": "123456789012", "instance_type": "ml.p5.48xlarge"}
    named = {key: options.pop(key) for key in list(options) if key in {*place, "catalog", "namespace", "kms_key_id"}}
    return HyperPodBackend("research", **{**place, **named}, options=HyperPodOptions(**options))


def without_ours(thing):
    thing = copy.deepcopy(thing)
    for kind in ("labels", "annotations"):
        marks = thing["metadata"].get(kind, {})
        kept = {key: value for key, value in marks.items() if not key.startswith("nova-dpo-sdk/")}
        thing["metadata"].pop(kind, None)
        if kept:
            thing["metadata"][kind] = kept
    return thing


def test_the_objects_equal_the_reference_object_for_object():
    config_map, job = yaml.safe_load_all(REFERENCE.read_text(encoding="utf-8"))
    recipe = Recipe.from_yaml(config_map["data"]["config.yaml"])
    made_map, made_job = backend().render(recipe, "0" * 64)
    assert without_ours(made_job) == job
    made_map = without_ours(made_map)
    ours, theirs = made_map.pop("data"), config_map.pop("data")
    assert made_map == config_map
    assert yaml.safe_load(ours["config.yaml"]) == yaml.safe_load(theirs["config.yaml"])
    assert not ours["config.yaml"].endswith("\n")


@pytest.mark.parametrize(
    ("instance_type", "gpus", "efa", "model", "replicas"),
    [
        ("ml.p5.48xlarge", 8, 32, NovaModel.MICRO, 2),
        ("ml.p5en.48xlarge", 8, 16, NovaModel.LITE, 4),
        ("ml.p4d.24xlarge", 8, 4, NovaModel.PRO, 12),
        ("ml.g5.12xlarge", 4, 1, NovaModel.MICRO, 1),
        ("ml.g6.12xlarge", 4, 1, NovaModel.MICRO, 1),
        ("ml.g5.48xlarge", 8, 1, NovaModel.LITE, 1),
        ("ml.g6.48xlarge", 8, 1, NovaModel.LITE, 1),
    ],
)
def test_every_instance_type_asks_for_its_own_devices(instance_type, gpus, efa, model, replicas):
    recipe = DPORecipe(name="run", model=model, replicas=replicas)
    _, job = backend(instance_type=instance_type).render(recipe, "0" * 64)
    specs = job["spec"]["pytorchReplicaSpecs"]
    assert specs["Master"]["replicas"] == 1
    assert sum(spec["replicas"] for spec in specs.values()) == replicas
    for spec in specs.values():
        pod = spec["template"]["spec"]
        container = pod["containers"][0]
        devices = {"nvidia.com/gpu": gpus, "vpc.amazonaws.com/efa": efa}
        assert container["resources"] == {"limits": devices, "requests": devices}
        assert {"name": "INSTANCE_TYPE", "value": instance_type} in container["env"]
        terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms[0]["matchExpressions"][0]["values"] == [instance_type]


def test_one_replica_has_no_worker():
    _, job = backend(instance_type="ml.g5.12xlarge").render(
        DPORecipe(name="run", model=NovaModel.MICRO, replicas=1), "0" * 64
    )
    assert list(job["spec"]["pytorchReplicaSpecs"]) == ["Master"]


@pytest.mark.parametrize(("profile", "mounts", "volumes"), [("declared", 1, 1), ("2025-12", 0, 0), ("faithful", 1, 0)])
def test_the_ca_certificate_follows_the_profile(profile, mounts, volumes):
    _, job = backend(profile=profile).render(DPORecipe(name="run", model=NovaModel.MICRO), "0" * 64)
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    init = pod["initContainers"][0]
    assert sum(mount["name"] == "k8s-ca-cert" for mount in init["volumeMounts"]) == mounts
    assert sum(volume["name"] == "k8s-ca-cert" for volume in pod["volumes"]) == volumes
    assert ("env" in init) is (profile != "2025-12")


def test_options_go_where_the_cluster_looks_for_them():
    options = {
        "priority_class": "high",
        "service_account": "trainer",
        "queue": "team-localqueue",
        "queue_priority": "prod",
        "labels": {"team": "nlp"},
        "annotations": {"sagemaker.amazonaws.com/enable-job-auto-resume": "true"},
        "backoff_limit": 3,
        "active_deadline_seconds": 3600,
    }
    _, job = backend(namespace="hyperpod-ns-nlp", **options).render(
        DPORecipe(name="run", model=NovaModel.MICRO), "0" * 64
    )
    labels = job["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team-localqueue"
    assert labels["kueue.x-k8s.io/priority-class"] == "prod"
    assert labels["team"] == "nlp"
    assert job["metadata"]["namespace"] == "hyperpod-ns-nlp"
    assert job["metadata"]["annotations"]["sagemaker.amazonaws.com/enable-job-auto-resume"] == "true"
    assert job["spec"]["runPolicy"] == {"backoffLimit": 3, "activeDeadlineSeconds": 3600}
    pod = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "trainer")


def test_every_wrong_option_is_said_at_once():
    with pytest.raises(ConfigurationError) as error:
        HyperPodBackend(
            "",
            namespace="Kube_Flow",
            options=HyperPodOptions(
                profile="newest",
                backoff_limit=-1,
                priority_class="High Priority",
                labels={"app": "mine", "team": "a b"},
                annotations={"x": 1},
            ),
        )
    wheres = {finding.where for finding in error.value.findings}
    assert wheres == {
        "cluster", "namespace", "profile", "backoff_limit", "priority_class", "labels['app']", "labels['team']",
        "annotations['x']",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "wheres"),
    [
        ({"labels": None, "annotations": ["x"]}, {"labels", "annotations"}),
        ({"labels": {1: "a"}, "annotations": {"a": "\ud800", "b": "\u00e9"}}, {"labels[1]", "annotations['a']"}),
        ({"priority_class": 1, "image": 2, "backoff_limit": 2**40}, {"priority_class", "image", "backoff_limit"}),
        ({"active_deadline_seconds": 2**70}, {"active_deadline_seconds"}),
        ({"active_deadline_seconds": 0, "backoff_limit": 0}, {"active_deadline_seconds"}),
    ],
)
def test_options_of_another_kind_are_named(options, wheres):
    with pytest.raises(ConfigurationError) as error:
        HyperPodBackend("research", account=123456789012, options=HyperPodOptions(**options))
    assert {finding.where for finding in error.value.findings} == {"account", *wheres}


ECR = "708977205387.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    "image",
    [
        "",
        "not an image!!",
        "a/b:c\n",
        f"{ECR}/Repo:tag",
        "a//b",
        "a/b:",
        "a/b@sha256:12",
        "a:b:c",
        "a/b:-x",
        "a/\u00e9:1",
    ],
)
def test_an_image_that_is_no_reference_is_refused_everywhere(image):
    with pytest.raises(ConfigurationError, match=r"init_image is(.|\n)*repository in lower case"):
        HyperPodBackend("research", options=HyperPodOptions(image=image, init_image=image))
    with pytest.raises(ConfigurationError, match="repository in lower case"):
        TrainingJobBackend("arn:aws:iam::123456789012:role/nova", options=TrainingJobOptions(image=image))


@pytest.mark.parametrize(
    "image",
    [
        "nova",
        "registry/own:1",
        "localhost:5000/a/b",
        f"{ECR}/my.repo_x/y__z--1:V1.2_3-x",
        f"a.b/c:1@sha256:{'0a' * 32}",
    ],
)
def test_an_image_of_one_s_own_is_nobody_s_business(image):
    recipe = DPORecipe(name="run", model=NovaModel.MICRO)
    assert backend(region="us-east-1", image=image, init_image=image).findings(recipe) == []


@pytest.mark.parametrize(
    ("image", "codes"),
    [
        (f"{ECR}/nova-fine-tune-repo:SM-HP-DPO-latest", []),
        (f"{ECR}/nova-fine-tune-repo:SM-HP-DPO-v1.2", []),
        (f"{ECR}/nova-fine-tune-repo:SM-HP-SFT-latest", ["image-of-another-kind"]),
        (f"{ECR}/nova-fine-tune-repo:SM-HP-SFT-V2-latest", ["image-of-another-kind"]),
        (f"{ECR}/nova-fine-tune-repo:SM-TJ-DPO-latest", ["image-of-another-kind"]),
        (f"{ECR.replace('east-1', 'west-2')}/mine:1", ["image-in-another-region"]),
    ],
)
def test_an_image_that_does_not_fit_the_run_is_doubted(image, codes):
    found = backend(region="us-east-1", image=image).findings(DPORecipe(name="run", model=NovaModel.MICRO))
    assert [(each.code, each.is_error) for each in found] == [(code, False) for code in codes]


def test_the_image_of_a_training_job_and_of_the_init_container_are_doubted_too():
    options = TrainingJobOptions(image=f"{ECR}/nova-fine-tune-repo:SM-HP-DPO-latest")
    place = TrainingJobBackend("arn:aws:iam::123456789012:role/nova", region="us-east-1", options=options)
    recipe = DPORecipe(name="run", model=NovaModel.MICRO)
    assert [each.code for each in place.findings(recipe)] == ["image-of-another-kind"]
    far = backend(region="us-west-2", init_image=f"{ECR}/init-container-repo:latest").findings(recipe)
    assert [(each.code, each.where) for each in far] == [("image-in-another-region", "options.init_image")]


def test_regions_without_images_are_said_and_can_be_given():
    recipe = DPORecipe(name="run", model=NovaModel.MICRO)
    found = backend(region="eu-west-1").findings(recipe)
    assert [finding.code for finding in found] == ["region-not-offered", "region-not-offered"]
    assert found[0].allowed == "ap-northeast-1, us-east-1, us-west-2"
    assert backend(region="eu-west-1").render(recipe, "0" * 64) == ()
    wider = Catalog.packaged().with_region("eu-west-1", training_account="111122223333")
    assert backend(region="eu-west-1", catalog=wider).findings(recipe) == []
    given = backend(region="eu-west-1", image="registry/own:1", init_image="registry/init:1")
    assert given.findings(recipe) == []
    _, job = given.render(recipe, "0" * 64)
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["initContainers"][0]["image"]) == ("registry/own:1", "registry/init:1")


def test_a_key_of_another_region_is_an_error():
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    (found,) = backend(kms_key_id=key).findings(DPORecipe(name="run", model=NovaModel.MICRO))
    assert (found.code, found.is_error, found.where, found.value) == ("arn-region", True, "kms_key_id", key)


def test_what_a_pod_would_choke_on_is_said_before():
    recipe = DPORecipe(name="run", model=NovaModel.MICRO)
    assert [f.code for f in backend(profile="faithful").findings(recipe)] == ["volume-undeclared"]
    long = recipe.replace(extra={"run.notes": "x" * 1024 * 1024})
    assert [f.code for f in backend().findings(long) if f.is_error] == ["recipe-too-long"]
    assert [f.code for f in backend(annotations={"a": "x" * 250_000}).findings(recipe)] == ["annotations-too-long"]


def test_tuning_is_part_of_the_recipe_not_of_the_objects():
    lora = DPORecipe(name="run", model=NovaModel.LITE, tuning=LoRA(alpha=96))
    _, one = backend().render(lora, "0" * 64)
    _, other = backend().render(lora.replace(tuning=LoRA(alpha=32)), "0" * 64)
    assert one == other

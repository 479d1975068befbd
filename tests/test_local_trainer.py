from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from rehearsal import (
    CONFIGMAPS,
    JOBS,
    PODS,
    Kubectl,
    both_specs,
    configmap,
    job,
    pod_spec,
    put_pairs,
    recipe,
)

from nova_dpo_sdk.local import FakeClock, InstanceGroup, LocalCloud, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = itertools.count()
MODEL = "amazon.nova-micro-v1:0:128k"


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCloud]:
    with LocalCloud(FakeClock()) as running:
        running.add_bucket("elsewhere", region="eu-west-1")
        running.add_bucket("not-ours", account="999999999999")
        put_pairs(running)
        yield running


@pytest.fixture(scope="module")
def wire(shared: LocalCloud) -> Iterator[Kubectl]:
    client = Kubectl(shared)
    yield client
    client.close()


@pytest.fixture
def kubectl(shared: LocalCloud, wire: Kubectl) -> Iterator[Kubectl]:
    yield wire
    for each in list(shared.store.scan(next(kind for kind in shared.store._objects if kind.plural == "pytorchjobs"))):
        wire("DELETE", f"{JOBS}/{each['metadata']['name']}")
    shared.clock.sleep(5)
    shared.advance()


@pytest.fixture
def name() -> str:
    return f"run-{next(NUMBERS)}"


def manifest(cloud: LocalCloud, name: str) -> Any:
    body = cloud.session().client("s3").get_object(Bucket="acme-nova", Key=f"runs/{name}/manifest.json")["Body"]
    return json.loads(body.read())


def crash_message(kubectl: Kubectl, name: str) -> str:
    """What the container of the master said when it ended, a few seconds after the start."""
    kubectl.cloud.clock.sleep(6)
    pods = kubectl.pods(name)
    assert pods, kubectl.status(name)
    (container,) = pods[0]["status"]["containerStatuses"]
    ended = container["state"].get("terminated") or container["lastState"]["terminated"]
    assert ended["exitCode"] == 1
    return str(ended["message"])


def test_a_job_walks_from_created_to_succeeded(kubectl: Kubectl, name: str) -> None:
    clock = kubectl.cloud.clock
    kubectl.submit(name)
    assert kubectl.status(name) == {}
    clock.sleep(1)
    assert kubectl.conditions(name) == {"Created": "True"}
    assert {each["status"]["phase"] for each in kubectl.pods(name)} == {"Pending"}
    clock.sleep(2)
    assert kubectl.conditions(name) == {"Created": "True", "Running": "True"}
    assert kubectl.status(name)["replicaStatuses"]["Worker"]["active"] == 1
    clock.sleep(20.4)
    with pytest.raises(ClientError):
        kubectl.cloud.session().client("s3").head_object(Bucket="acme-nova", Key=f"runs/{name}/manifest.json")
    assert kubectl.conditions(name) == {"Created": "True", "Running": "True"}
    clock.sleep(0.6)
    status = kubectl.status(name)
    assert [(each["type"], each["status"], each["reason"]) for each in status["conditions"]] == [
        ("Created", "True", "PyTorchJobCreated"),
        ("Running", "False", "PyTorchJobRunning"),
        ("Succeeded", "True", "PyTorchJobSucceeded"),
    ]
    assert status["replicaStatuses"]["Master"]["succeeded"] == 1
    assert status["completionTime"] > status["startTime"]
    uri = f"s3://{kubectl.cloud.cluster.escrow}/{name}/outputs/checkpoints"
    assert manifest(kubectl.cloud, name) == {"checkpoint_s3_bucket": uri}


def test_the_manifest_is_younger_than_the_job(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(3600)
    status = kubectl.status(name)
    head = kubectl.cloud.session().client("s3").head_object(Bucket="acme-nova", Key=f"runs/{name}/manifest.json")
    written = head["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert status["startTime"] < written <= status["completionTime"]


def test_a_long_jump_gives_the_same_history_as_small_steps(kubectl: Kubectl, name: str) -> None:
    def history(job_name: str, steps: int) -> list[tuple[str, int]]:
        start = kubectl.cloud.clock.now().replace(microsecond=0)
        kubectl.submit(job_name)
        for _ in range(steps):
            kubectl.cloud.clock.sleep(60 / steps)
            kubectl.status(job_name)
        times = [(each["type"], each["lastTransitionTime"]) for each in kubectl.status(job_name)["conditions"]]
        base = start.strftime("%H:%M:%S")
        seconds = [sum(int(x) * y for x, y in zip(t[11:19].split(":"), (3600, 60, 1), strict=True)) for _, t in times]
        begun = sum(int(x) * y for x, y in zip(base.split(":"), (3600, 60, 1), strict=True))
        return [(kind, (second - begun) % 86400) for (kind, _), second in zip(times, seconds, strict=True)]

    assert history(name, 1) == history(f"{name}-steps", 60)


def test_pods_look_as_the_operator_makes_them(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(5)
    master, worker = kubectl.pods(name)
    assert master["metadata"]["name"] == f"{name}-master-0"
    assert worker["metadata"]["name"] == f"{name}-worker-0"
    assert master["metadata"]["labels"] == {
        "training.kubeflow.org/job-name": name,
        "training.kubeflow.org/operator-name": "pytorchjob-controller",
        "training.kubeflow.org/replica-type": "master",
        "training.kubeflow.org/replica-index": "0",
        "training.kubeflow.org/job-role": "master",
    }
    assert master["spec"]["nodeName"].startswith("hyperpod-i-")
    assert master["spec"]["nodeName"] != worker["spec"]["nodeName"]
    assert master["metadata"]["ownerReferences"][0]["kind"] == "PyTorchJob"
    environment = {each["name"]: each["value"] for each in worker["spec"]["containers"][0]["env"]}
    assert (environment["RANK"], environment["WORLD_SIZE"]) == ("1", "2")
    assert environment["MASTER_ADDR"] == f"{name}-master-0"
    assert master["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {each["type"]: each["status"] for each in master["status"]["conditions"]}["Ready"] == "True"


def test_a_crash_loop_stays_running_for_the_operator(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name, parsed=recipe(name, data_s3_path="s3://acme-nova/data/nothing.jsonl"))
    clock = kubectl.cloud.clock
    clock.sleep(6)
    (container,) = kubectl.pods(name)[0]["status"]["containerStatuses"]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert "NoSuchKey" in container["lastState"]["terminated"]["message"]
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    clock.sleep(3600)
    restarts = kubectl.pods(name)[0]["status"]["containerStatuses"][0]["restartCount"]
    assert 12 < restarts < 25
    assert kubectl.pods(name)[0]["status"]["phase"] == "Running"
    assert kubectl.conditions(name) == {"Created": "True", "Running": "True"}


def test_a_crash_loop_ends_when_its_cause_is_mended(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name, parsed=recipe(name, data_s3_path="s3://acme-nova/data/late.jsonl"))
    kubectl.cloud.clock.sleep(6)
    put_pairs(kubectl.cloud, key="data/late.jsonl")
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"


@pytest.mark.parametrize("limit", [0, 3])
def test_a_backoff_limit_makes_the_operator_fail_the_job(kubectl: Kubectl, name: str, limit: int) -> None:
    body = job(name)
    body["spec"]["runPolicy"] = {"backoffLimit": limit}
    kubectl.submit(name, parsed=recipe(name, replicas=7), body=body)
    kubectl.cloud.clock.sleep(120)
    status = kubectl.status(name)
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Created": "True",
        "Running": "False",
        "Failed": "True",
    }
    assert status["completionTime"]


def test_a_deadline_makes_the_operator_fail_the_job(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    body["spec"]["runPolicy"] = {"activeDeadlineSeconds": 10}
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(11.5)
    assert kubectl.conditions(name) == {"Created": "True", "Running": "False", "Failed": "True"}
    kubectl.cloud.clock.sleep(3600)
    assert "Succeeded" not in kubectl.conditions(name)


def test_restart_policy_never_fails_at_the_first_crash(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    for role in ("Master", "Worker"):
        body["spec"]["pytorchReplicaSpecs"][role]["restartPolicy"] = "Never"
    kubectl.submit(name, parsed=recipe(name, replicas=7), body=body)
    kubectl.cloud.clock.sleep(10)
    assert kubectl.conditions(name)["Failed"] == "True"
    assert kubectl.pods(name)[0]["status"]["phase"] == "Failed"


def test_a_suspended_job_has_no_pods_until_it_is_resumed(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    body["spec"]["runPolicy"] = {"suspend": True}
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name) == {"Created": "True", "Suspended": "True"}
    assert kubectl.pods(name) == []
    resumed = kubectl("GET", f"{JOBS}/{name}").body
    resumed["spec"]["runPolicy"]["suspend"] = False
    assert kubectl("PUT", f"{JOBS}/{name}", resumed).status == 200
    kubectl.cloud.clock.sleep(60)
    conditions = kubectl.conditions(name)
    assert (conditions["Suspended"], conditions["Succeeded"]) == ("False", "True")


def test_suspending_a_running_job_takes_its_pods_away(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(5)
    running = kubectl("GET", f"{JOBS}/{name}").body
    running["spec"]["runPolicy"] = {"suspend": True}
    kubectl("PUT", f"{JOBS}/{name}", running)
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name) == {"Created": "True", "Running": "False", "Suspended": "True"}
    assert kubectl.pods(name) == []


def without_master(body: Any) -> None:
    del body["spec"]["pytorchReplicaSpecs"]["Master"]


def without_spec(body: Any) -> None:
    del body["spec"]


def two_masters(body: Any) -> None:
    body["spec"]["pytorchReplicaSpecs"]["Master"]["replicas"] = 2


def odd_group(body: Any) -> None:
    groups = body["spec"]["pytorchReplicaSpecs"]
    groups["Foo"] = groups["Worker"]


def other_container(body: Any) -> None:
    pod_spec(body)["containers"][0]["name"] = "trainer"


def without_image(body: Any) -> None:
    del pod_spec(body, "Worker")["containers"][0]["image"]


@pytest.mark.parametrize(
    "breakage", [without_master, without_spec, two_masters, odd_group, other_container, without_image]
)
def test_a_job_that_the_operator_finds_invalid_never_gets_a_condition(
    kubectl: Kubectl, name: str, breakage: Callable[[Any], None]
) -> None:
    body = job(name)
    breakage(body)
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(600)
    assert kubectl.status(name) == {}
    assert kubectl.pods(name) == []


def mount_without_volume(spec: Any) -> None:
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "k8s-ca-cert"]


def duplicate_volume(spec: Any) -> None:
    spec["volumes"].append(dict(spec["volumes"][0]))


def unequal_gpus(spec: Any) -> None:
    spec["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = 4


@pytest.mark.parametrize("breakage", [mount_without_volume, duplicate_volume, unequal_gpus])
def test_pods_that_the_api_refuses_leave_the_job_created(
    kubectl: Kubectl, name: str, breakage: Callable[[Any], None]
) -> None:
    body = job(name)
    for spec in both_specs(body):
        breakage(spec)
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(600)
    assert kubectl.conditions(name) == {"Created": "True"}
    assert kubectl.pods(name) == []


def test_a_job_without_its_configmap_waits_for_it(kubectl: Kubectl, name: str) -> None:
    kubectl("POST", JOBS, job(name))
    kubectl.cloud.clock.sleep(60)
    pod = kubectl.pods(name)[0]
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    assert kubectl.conditions(name) == {"Created": "True"}
    kubectl("POST", CONFIGMAPS, configmap(name))
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"


@pytest.mark.parametrize(
    ("group", "image"),
    [
        ("containers", "docker.io/library/python:3.11"),
        ("containers", "708977205387.dkr.ecr.us-west-2.amazonaws.com/nova-fine-tune-repo:SM-HP-DPO-latest"),
        ("initContainers", "<account>.dkr.ecr.us-east-1.amazonaws.com/init-container-repo:latest"),
    ],
)
def test_an_image_that_cannot_be_pulled_keeps_the_pods_pending(
    kubectl: Kubectl, name: str, group: str, image: str
) -> None:
    body = job(name)
    for spec in both_specs(body):
        spec[group][0]["image"] = image
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(60)
    status = kubectl.pods(name)[0]["status"]
    field = "initContainerStatuses" if group == "initContainers" else "containerStatuses"
    waiting = status[field][0]["state"]["waiting"]
    assert (status["phase"], waiting["reason"]) == ("Pending", "ImagePullBackOff")
    assert image in waiting["message"]
    assert kubectl.conditions(name) == {"Created": "True"}


def other_type(spec: Any) -> None:
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    terms[0]["matchExpressions"][0]["values"] = ["ml.p6.48xlarge"]


def without_toleration(spec: Any) -> None:
    spec["tolerations"] = []


def too_many_gpus(spec: Any) -> None:
    for amounts in spec["containers"][0]["resources"].values():
        amounts["nvidia.com/gpu"] = 16


@pytest.mark.parametrize(
    ("breakage", "why"),
    [
        (other_type, "didn't match Pod's node affinity/selector"),
        (without_toleration, "untolerated taint {sagemaker.amazonaws.com/RestrictedNode"),
        (too_many_gpus, "8 Insufficient nvidia.com/gpu"),
    ],
)
def test_pods_that_fit_nowhere_say_why(kubectl: Kubectl, name: str, breakage: Callable[[Any], None], why: str) -> None:
    body = job(name)
    for spec in both_specs(body):
        breakage(spec)
    kubectl.submit(name, body=body)
    kubectl.cloud.clock.sleep(60)
    (condition,) = kubectl.pods(name)[0]["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"].startswith("0/45 nodes are available: ")
    assert why in condition["message"]


def test_a_full_cluster_makes_the_next_job_wait() -> None:
    groups = [InstanceGroup("nova", "ml.p5.48xlarge", 3)]
    with LocalCloud(FakeClock(), account="210987654321", bucket="acme-2", instance_groups=groups) as running:
        kubectl = Kubectl(running)
        put_pairs(running)
        for name in ("first", "second"):
            body = json.loads(json.dumps(job(name)).replace("123456789012", "210987654321"))
            parsed = recipe(name, data_s3_path="s3://acme-2/data/train.jsonl", output_s3_path="s3://acme-2/runs")
            kubectl.submit(name, parsed=parsed, body=body)
        running.clock.sleep(10)
        assert kubectl.conditions("first")["Running"] == "True"
        # One of the second job's pods found a node, and holds it while it waits for the other.
        phases = sorted(each["status"]["phase"] for each in kubectl.pods("second"))
        assert phases == ["Pending", "Running"]
        running.clock.sleep(60)
        assert kubectl.conditions("first")["Succeeded"] == "True"
        assert kubectl.conditions("second")["Succeeded"] == "True"
        kubectl.close()


def section(parsed: Any, *path: str) -> Any:
    for step in path:
        parsed = parsed[step]
    return parsed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("run", "name"), "another-name", "run.name is 'another-name'"),
        (("run", "replicas"), 4, "run.replicas is 4, but 2 pods run"),
        (("run", "model_type"), "amazon.nova-huge-v9", "run.model_type"),
        (("run", "model_name_or_path"), "nova-lite/prod", "does not match model_type"),
        (("run", "model_name_or_path"), "nova-mini/prod", "Model configuration not found"),
        (("run", "model_name_or_path"), "s3://acme-nova/x", "Model configuration not found"),
        (("run", "data_s3_path"), "/local/train.jsonl", "data_s3_path is not an S3 URI"),
        (("run", "data_s3_path"), "s3://no-such-bucket/x", "NoSuchBucket"),
        (("run", "data_s3_path"), "s3://elsewhere/x", "another account or Region"),
        (("run", "data_s3_path"), "s3://not-ours/x", "another account or Region"),
        (("run", "output_s3_path"), "", "output_s3_path is not an S3 URI"),
        (("run", "output_s3_path"), "s3://no-such-bucket/x", "NoSuchBucket"),
        (("training_config", "model", "optim", "lr"), "fast", "lr must be a number, not 'fast'"),
        (("training_config", "model", "dpo_cfg", "beta"), None, "dpo_cfg.beta must be a number"),
        (("training_config", "model", "dpo_cfg"), None, "SM-HP-DPO-latest cannot run this SFT recipe"),
    ],
)
def test_the_container_says_what_is_wrong_with_the_recipe(
    kubectl: Kubectl, name: str, path: tuple[str, ...], value: Any, message: str
) -> None:
    parsed = recipe(name)
    section(parsed, *path[:-1])[path[-1]] = value
    kubectl.submit(name, parsed=parsed)
    assert message in crash_message(kubectl, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: [", "is not YAML"),
        ("- a", "is not a mapping"),
        ("run: {}", "run.name is None"),
        ("x: 1", "no section run"),
    ],
)
def test_the_container_needs_a_recipe_it_can_read(kubectl: Kubectl, name: str, text: str, message: str) -> None:
    body = configmap(name)
    body["data"] = {"config.yaml": text}
    kubectl("POST", CONFIGMAPS, body)
    kubectl("POST", JOBS, job(name))
    assert message in crash_message(kubectl, name)


def test_the_container_needs_its_recipe_at_the_agreed_place(kubectl: Kubectl, name: str) -> None:
    body = configmap(name)
    body["data"] = {"recipe.yaml": body["data"]["config.yaml"]}
    kubectl("POST", CONFIGMAPS, body)
    kubectl("POST", JOBS, job(name))
    assert "no such file" in crash_message(kubectl, name)


def test_exponents_without_a_point_are_numbers(kubectl: Kubectl, name: str) -> None:
    body = configmap(name)
    body["data"]["config.yaml"] = body["data"]["config.yaml"].replace("lr: 1.0e-05", "lr: 1e-5")
    assert "lr: 1e-5" in body["data"]["config.yaml"]
    kubectl("POST", CONFIGMAPS, body)
    kubectl("POST", JOBS, job(name))
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_REGION", "us-west-2"), ("INSTANCE_TYPE", "ml.p9.48xlarge"), ("X_AMZ_SOURCE_ACCOUNT", "<account>")],
)
def test_the_container_checks_its_environment(kubectl: Kubectl, name: str, variable: str, value: str) -> None:
    body = job(name)
    for spec in both_specs(body):
        for each in spec["containers"][0]["env"]:
            if each["name"] == variable:
                each["value"] = value
    kubectl.submit(name, body=body)
    assert variable in crash_message(kubectl, name)


def test_the_container_wants_all_gpus_of_its_machine(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    for spec in both_specs(body):
        for amounts in spec["containers"][0]["resources"].values():
            amounts["nvidia.com/gpu"] = 4
    kubectl.submit(name, body=body)
    assert "the pod got 4 and 32" in crash_message(kubectl, name)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the data set is empty"),
        (["not json"], "line 1"),
        ([{"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}], "line 1"),
    ],
)
def test_the_container_reads_every_record(kubectl: Kubectl, name: str, lines: list[Any], message: str) -> None:
    put_pairs(kubectl.cloud, lines, key=f"data/{name}.jsonl")
    kubectl.submit(name, parsed=recipe(name, data_s3_path=f"s3://acme-nova/data/{name}.jsonl"))
    assert message in crash_message(kubectl, name)


def run_sft(kubectl: Kubectl, name: str, *, tuning: str | None = "lora") -> str:
    """Train a Nova Micro by SFT, and hand back its checkpoint's URI."""
    record = {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [
            {"role": "user", "content": [{"text": "Hi"}]},
            {"role": "assistant", "content": [{"text": "Hello."}]},
        ],
    }
    put_pairs(kubectl.cloud, [record], key="data/chats.jsonl")
    parsed = recipe(name, data_s3_path="s3://acme-nova/data/chats.jsonl")
    del parsed["training_config"]["model"]["dpo_cfg"]
    parsed["training_config"]["model"]["peft"]["peft_scheme"] = tuning
    body = json.loads(json.dumps(job(name)).replace("SM-HP-DPO-latest", "SM-HP-SFT-latest"))
    kubectl.submit(name, parsed=parsed, body=body)
    kubectl.cloud.clock.sleep(60)
    return str(manifest(kubectl.cloud, name)["checkpoint_s3_bucket"])


def test_a_run_continues_from_a_checkpoint_of_this_cloud(kubectl: Kubectl, name: str) -> None:
    taught = run_sft(kubectl, f"{name}-sft")
    kubectl.submit(name, parsed=recipe(name, model_name_or_path=taught))
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"


def test_another_tuning_cannot_continue(kubectl: Kubectl, name: str) -> None:
    taught = run_sft(kubectl, f"{name}-sft", tuning=None)
    kubectl.submit(name, parsed=recipe(name, model_name_or_path=taught))
    assert crash_message(kubectl, name) == "Incompatible model training techniques detected"


def test_another_model_cannot_continue(kubectl: Kubectl, name: str) -> None:
    taught = run_sft(kubectl, f"{name}-sft")
    parsed = recipe(name, model_name_or_path=taught, model_type="amazon.nova-lite-v1:0:300k")
    kubectl.submit(name, parsed=parsed)
    assert "does not match model_type" in crash_message(kubectl, name)


def test_a_checkpoint_that_nobody_made_is_not_found(kubectl: Kubectl, name: str) -> None:
    invented = f"s3://{kubectl.cloud.cluster.escrow}/invented/outputs/checkpoints"
    kubectl.submit(name, parsed=recipe(name, model_name_or_path=invented))
    assert crash_message(kubectl, name) == "Model configuration not found"


def test_a_copy_of_a_checkpoint_outside_escrow_is_not_one(kubectl: Kubectl, name: str) -> None:
    run_sft(kubectl, f"{name}-sft")
    issued = kubectl.cloud._buckets.read(
        kubectl.cloud.cluster.escrow, f"{name}-sft/outputs/checkpoints/checkpoint.json"
    )
    kubectl.cloud.session().client("s3").put_object(Bucket="acme-nova", Key="copy/checkpoint.json", Body=issued)
    kubectl.submit(name, parsed=recipe(name, model_name_or_path="s3://acme-nova/copy"))
    assert crash_message(kubectl, name) == "Model configuration not found"


def test_a_deleted_job_takes_its_pods_along_and_writes_no_manifest(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(5)
    assert len(kubectl.pods(name)) == 2
    kubectl("DELETE", f"{JOBS}/{name}", propagationPolicy="Background")
    kubectl.cloud.clock.sleep(60)
    assert kubectl.pods(name) == []
    with pytest.raises(ClientError):
        manifest(kubectl.cloud, name)


def test_a_job_of_the_same_name_starts_anew(kubectl: Kubectl, name: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(15)
    kubectl("DELETE", f"{JOBS}/{name}")
    kubectl("POST", JOBS, job(name))
    kubectl.cloud.clock.sleep(15)
    assert "Succeeded" not in kubectl.conditions(name)
    kubectl.cloud.clock.sleep(30)
    assert kubectl.conditions(name)["Succeeded"] == "True"


@pytest.mark.parametrize("lost", ["master-0", "worker-0"])
def test_a_lost_pod_is_made_again_and_the_run_begins_again(kubectl: Kubectl, name: str, lost: str) -> None:
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(15)
    kubectl("DELETE", f"{PODS}/{name}-{lost}")
    kubectl.cloud.clock.sleep(5)
    assert len(kubectl.pods(name)) == 2
    kubectl.cloud.clock.sleep(10)
    assert "Succeeded" not in kubectl.conditions(name)
    kubectl.cloud.clock.sleep(30)
    assert kubectl.conditions(name)["Succeeded"] == "True"


def test_a_pod_of_ones_own_is_placed_and_run(kubectl: Kubectl, name: str) -> None:
    spec = {**pod_spec(job(name)), "volumes": [], "initContainers": [], "restartPolicy": "Never"}
    spec["containers"][0]["volumeMounts"] = []
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    assert kubectl("POST", PODS, {**body, "spec": pod_spec(job(name)) | {"volumes": []}}).status == 422
    assert kubectl("POST", PODS, {**body, "spec": None}).status == 422
    assert kubectl("POST", PODS, body).body["status"] == {"phase": "Pending"}
    kubectl.cloud.clock.sleep(60)
    pod = kubectl("GET", f"{PODS}/{name}").body
    assert (pod["status"]["phase"], pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) == (
        "Running",
        "8",
    )
    kubectl("DELETE", f"{PODS}/{name}")


def test_a_silent_operator_leaves_the_status_empty(kubectl: Kubectl, name: str) -> None:
    kubectl.cloud.trainer.operator.silent = True
    kubectl.submit(name)
    kubectl.cloud.clock.sleep(600)
    assert kubectl.status(name) == {}
    kubectl.cloud.trainer.operator.silent = False
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"


def test_a_single_node_job_has_a_master_alone(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    del body["spec"]["pytorchReplicaSpecs"]["Worker"]
    kubectl.submit(name, parsed=recipe(name, replicas=1), body=body)
    kubectl.cloud.clock.sleep(60)
    assert kubectl.conditions(name)["Succeeded"] == "True"
    assert list(kubectl.status(name)["replicaStatuses"]) == ["Master"]


def test_the_pace_makes_everything_faster() -> None:
    script = Script(training=100, pace=0.1)
    with LocalCloud(FakeClock(), account="210987654321", script=script, bucket="acme-2") as running:
        kubectl = Kubectl(running)
        put_pairs(running)
        body = json.loads(json.dumps(job("quick")).replace("123456789012", "210987654321"))
        parsed = recipe("quick", data_s3_path="s3://acme-2/data/train.jsonl", output_s3_path="s3://acme-2/runs")
        kubectl.submit("quick", parsed=parsed, body=body)
        running.clock.sleep(10)
        assert kubectl.conditions("quick")["Running"] == "True"
        running.clock.sleep(0.5)
        assert kubectl.conditions("quick")["Succeeded"] == "True"
        kubectl.close()

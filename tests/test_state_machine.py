"""A chain exported as a state machine: sound by our own check, and executed on moto against the rehearsal cloud."""

from __future__ import annotations

import json
import math

import pytest
import urllib3
import yaml
from state_machine_run import READER, Bridge, Execution

from nova_dpo_sdk import (
    DPORecipe,
    HyperPodBackend,
    LoRA,
    NovaClient,
    NovaModel,
    SFTRecipe,
    TrainingJobBackend,
    TrainingJobOptions,
)
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PYTORCHJOBS
from nova_dpo_sdk.errors import ConfigurationError, PlanRejectedError
from nova_dpo_sdk.export import StateMachine, definition_findings, reader_source

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)
ACCOUNT = "123456789012"


@pytest.fixture
def bridge(cloud, monkeypatch):
    config = f"{cloud.aws_endpoint}/moto-api/config"

    def execute(*, really: bool) -> None:
        urllib3.request("POST", config, json={"stepfunctions": {"execute_state_machine": really}})

    with Bridge(cloud) as running:
        monkeypatch.setenv("MOTO_PORT", str(running.port))
        execute(really=True)
        yield running
        execute(really=False)


@pytest.fixture
def tone(chats, pairs):
    """SFT, then DPO; the same function runs on a chain in Python."""

    def build(chain):
        taught = chain.run("sft", SFT, chats)
        return chain.run("dpo", DPO.starting_from(taught), pairs)

    return build


@pytest.fixture
def fan(chats, pairs):
    """SFT, then DPO at two betas side by side, then one more DPO on the second."""

    def build(chain):
        taught = chain.run("sft", SFT, chats)
        both = [
            chain.start(f"dpo-{n}", DPO.replace(beta=beta).starting_from(taught), pairs)
            for n, beta in enumerate((0.05, 0.1))
        ]
        last = chain.gather(both)[1]
        return chain.run("more", DPO.replace(name="more").starting_from(last), pairs)

    return build


@pytest.fixture
def offline():
    return NovaClient(HyperPodBackend("research", region="us-east-1", account=ACCOUNT), output="s3://acme-nova/runs")


@pytest.fixture
def ready(nova):
    nova.backend.resolve()
    return nova


def job_names(nova):
    return sorted(each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow"))


def start_of(nova, stage):
    held = nova.backend.api().get(CONFIGMAPS, "kubeflow", f"training-config-{stage.plan.name}")
    return yaml.safe_load(held["data"]["config.yaml"])["run"]["model_name_or_path"]


@pytest.mark.usefixtures("bridge")
def test_an_execution_trains_every_stage_from_its_parents_checkpoint(ready, cloud, fan):
    machine = StateMachine.of(ready, "support-tone", fan)
    machine.prepare()
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.error, done.cause) == ("SUCCEEDED", "", "")
    sft, low, high, more = machine.stages
    found = done.output["checkpoints"]
    assert list(found) == ["sft", "dpo-0", "dpo-1", "more"]
    assert [start_of(ready, each) for each in (low, high, more)] == [found["sft"], found["sft"], found["dpo-1"]]
    assert start_of(ready, sft) == "nova-lite/prod"
    for stage in machine.stages:
        again = ready.job(done.output["jobs"][stage.name])
        assert again.checkpoint().uri == found[stage.name]


@pytest.mark.usefixtures("bridge")
def test_a_second_execution_finds_the_jobs_of_the_first(ready, cloud, tone):
    machine = StateMachine.of(ready, "support-tone", tone)
    machine.prepare()
    first = Execution(cloud, machine.to_dict())
    names = job_names(ready)
    second = Execution(cloud, machine.to_dict())
    assert first.output == second.output
    assert job_names(ready) == names
    assert len(names) == 2


@pytest.mark.usefixtures("bridge")
def test_a_job_in_a_crash_loop_ends_the_execution_and_says_what_to_do(ready, cloud, tone):
    cloud.script_fault("crash-loop", job="support-sft-*", message="out of memory")
    machine = StateMachine.of(ready, "support-tone", tone)
    machine.prepare()
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.error) == ("FAILED", "NovaJobInTrouble")
    assert f"nova-dpo cancel {machine.stages[0].plan.ref}" in done.cause
    assert job_names(ready) == [machine.stages[0].plan.name]


@pytest.mark.usefixtures("bridge")
def test_a_name_that_another_run_has_is_not_adopted(ready, cloud, tone):
    machine = StateMachine.of(ready, "support-tone", tone)
    machine.prepare()
    taken = json.loads(json.dumps(machine.stages[0].objects[1]))
    taken["metadata"]["labels"]["nova-dpo-sdk/digest"] = "0" * 40
    ready.backend.api().create(PYTORCHJOBS, "kubeflow", taken)
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.error) == ("FAILED", "NovaJobNameTaken")


def test_a_deleted_job_ends_the_execution(ready, cloud, bridge, tone):
    machine = StateMachine.of(ready, "support-tone", tone)
    machine.prepare()
    bridge.failures["GET"] = "EKS.404"
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.error) == ("FAILED", "NovaJobDeleted")


def test_a_passing_fault_is_tried_again_and_a_refusal_is_not(ready, cloud, bridge, tone):
    machine = StateMachine.of(ready, "support-tone", tone)
    machine.prepare()
    bridge.failures["POST"] = "EKS.503"
    assert Execution(cloud, machine.to_dict()).status == "SUCCEEDED"
    bridge.calls.clear()
    bridge.failures["POST"] = "EKS.403"
    refused = Execution(cloud, machine.to_dict())
    assert (refused.status, refused.error) == ("FAILED", "EKS.403")
    assert len(bridge.calls) == 1


@pytest.mark.parametrize("fault", ["manifest-relative", "manifest-other-key", "manifest-late"])
@pytest.mark.usefixtures("bridge")
def test_a_manifest_that_is_late_or_odd_still_names_the_checkpoint(ready, cloud, chats, fault):
    cloud.script_fault(fault)
    machine = StateMachine.of(ready, "one", lambda chain: chain.run("sft", SFT, chats))
    machine.prepare()
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.cause) == ("SUCCEEDED", "")
    assert done.output["checkpoints"]["sft"] == ready.job(done.output["jobs"]["sft"]).checkpoint().uri


@pytest.mark.usefixtures("bridge")
def test_a_manifest_that_never_comes_ends_the_execution(ready, cloud, chats):
    cloud.script_fault("manifest-missing")
    machine = StateMachine.of(ready, "one", lambda chain: chain.run("sft", SFT, chats))
    machine.prepare()
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.error) == ("FAILED", "NovaNoCheckpoint")


@pytest.mark.usefixtures("bridge")
def test_a_manifest_older_than_the_job_is_not_the_jobs(ready, cloud, chats):
    machine = StateMachine.of(ready, "one", lambda chain: chain.run("sft", SFT, chats))
    machine.prepare()
    place = ready.output.join(machine.stages[0].plan.name, "manifest.json")
    old = json.dumps({"checkpoint_s3_bucket": "s3://customer-escrow-old/x"}).encode()
    ready.backend.aws.write(place, old, content_type="application/json")
    cloud.clock.sleep(3600)
    cloud.script_fault("manifest-late", lasts=600)
    done = Execution(cloud, machine.to_dict())
    assert done.status == "SUCCEEDED"
    assert "sft: wait for it" in done.states
    assert done.output["checkpoints"]["sft"] != "s3://customer-escrow-old/x"


@pytest.mark.usefixtures("bridge")
def test_training_jobs_hand_over_through_the_reader(cloud, tone):
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    nova.backend.resolve()
    machine = StateMachine.of(nova, "support-tone", tone, checkpoint_reader=READER)
    machine.prepare()
    done = Execution(cloud, machine.to_dict())
    assert (done.status, done.cause) == ("SUCCEEDED", "")
    dpo = machine.stages[1].plan.name
    sent = cloud.session().client("sagemaker").describe_training_job(TrainingJobName=dpo)
    assert sent["HyperParameters"]["base_model_location"] == done.output["checkpoints"]["sft"]
    place = next(c for c in sent["InputDataConfig"] if c["ChannelName"] == "recipe")["DataSource"]["S3DataSource"][
        "S3Uri"
    ]
    bucket, _, key = place.removeprefix("s3://").partition("/")
    recipe = yaml.safe_load(cloud.session().client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    assert recipe["run"]["model_name_or_path"] == done.output["checkpoints"]["sft"]
    again = Execution(cloud, machine.to_dict())
    assert again.output == done.output
    assert "sft: look at job" in again.states


@pytest.mark.usefixtures("bridge")
def test_a_training_job_that_failed_before_is_not_taken_for_a_success(cloud, tone):
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    nova.backend.resolve()
    cloud.training.capacity_error()
    machine = StateMachine.of(nova, "support-tone", tone, checkpoint_reader=READER)
    machine.prepare()
    first = Execution(cloud, machine.to_dict())
    assert first.status == "FAILED"
    second = Execution(cloud, machine.to_dict())
    assert (second.status, second.error) == ("FAILED", "NovaJobFailed")


def test_without_a_reader_one_training_job_cannot_start_from_another(chats, tone):
    backend = TrainingJobBackend(f"arn:aws:iam::{ACCOUNT}:role/Nova", region="us-east-1", account=ACCOUNT)
    nova = NovaClient(backend, output="s3://acme-nova/runs")
    with pytest.raises(ConfigurationError, match="cannot unpack that: make a Lambda function of reader_source"):
        StateMachine.of(nova, "support-tone", tone).to_dict()
    alone = StateMachine.of(nova, "alone", lambda chain: chain.run("sft", SFT, chats)).to_dict()
    assert "sft: manifest" not in alone["States"]
    compile(reader_source(), "read_manifest.py", "exec")


def test_the_policy_names_what_the_machine_touches_and_no_more(offline, tone):
    machine = StateMachine.of(offline, "support-tone", tone)
    told = {action: each["Resource"] for each in machine.policy()["Statement"] for action in each["Action"]}
    assert sorted(told) == ["eks:DescribeCluster", "s3:GetObject", "s3:ListBucket", "sagemaker:DescribeCluster"]
    assert told["s3:GetObject"] == [
        f"arn:aws:s3:::acme-nova/runs/{each.plan.name}/manifest.json" for each in machine.stages
    ]
    role, binding = machine.kubernetes_access()
    assert [rule["verbs"] for rule in role["rules"]] == [["create"], ["get"], ["create", "get"]]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_policy_names_the_key_of_an_alias(chats):
    backend = HyperPodBackend("research", region="us-east-1", account=ACCOUNT, kms_key_id="alias/nova")
    nova = NovaClient(backend, output="s3://acme-nova/what*ever")
    policy = StateMachine.of(nova, "alone", lambda chain: chain.run("sft", SFT, chats)).policy()
    assert policy["Statement"][-1]["Resource"] == [f"arn:aws:kms:us-east-1:{ACCOUNT}:key/*"]
    assert policy["Statement"][-1]["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/nova"}}
    assert "acme-nova/what${*}ever/" in str(policy)


def test_the_same_chain_gives_the_same_definition(offline, fan):
    first, second = (StateMachine.of(offline, "support-tone", fan) for _ in range(2))
    assert first.to_json() == second.to_json()
    definition = json.loads(first.to_json())
    assert definition_findings(definition) == []
    assert definition["TimeoutSeconds"] == 3 * 120 * 3600
    assert "<account>" not in first.to_json()


FAULTS = {
    "a state that is not there": lambda states: states["sft: wait"].update(Next="sft: luck at job"),
    "a state that nothing leads to": lambda states: states.update(lost={"Type": "Pass", "End": True}),
    "a way without an end": lambda states: states.update(
        {"sft: gone": {"Type": "Wait", "Seconds": 1, "Next": "sft: gone"}}
    ),
    "two ways on": lambda states: states["sft: wait"].update(End=True),
    "a missing Default": lambda states: states["sft: in trouble?"].pop("Default"),
    "an unknown type": lambda states: states["sft: wait"].update(Type="Sleep"),
    "a value that nobody wrote": lambda states: states["dpo: recipe"].update(Next="dpo: create job"),
    "a catch that leads nowhere": lambda states: states["sft: look at job"]["Catch"][0].update(Next="away"),
    "a misspelt path": lambda states: states["sft: which key?"]["Choices"][0].update(
        And=[{"Variable": "$.manifesto.body.x", "IsString": True}]
    ),
    "too long a name": lambda states: states.update({"x" * 81: states["done"]}),
    "a name twice": lambda states: states.update(
        {
            "done": {
                "Type": "Parallel",
                "Branches": [{"StartAt": "done", "States": {"done": {"Type": "Succeed"}}}],
                "End": True,
            }
        }
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees(offline, tone, fault):
    definition = StateMachine.of(offline, "support-tone", tone).to_dict()
    FAULTS[fault](definition["States"])
    assert definition_findings(definition) != []


def test_a_start_that_is_not_there_is_seen():
    (found,) = definition_findings({"StartAt": "here", "States": {}})
    assert "'here', which is no state" in found.message


def test_a_plan_with_errors_is_not_exported_and_nothing_is_sent(nova, cloud, chats):
    nova.backend.resolve()
    before = len(cloud.requests)
    machine = StateMachine.of(nova, "wrong", lambda chain: chain.run("sft", SFT.replace(replicas=3), chats))
    assert "replicas-not-allowed" in str(machine)
    with pytest.raises(PlanRejectedError, match="sft: replicas"):
        machine.to_json()
    with pytest.raises(PlanRejectedError):
        machine.prepare()
    assert cloud.requests[before:] == []


def test_a_machine_shows_itself_before_the_account_is_known(chats):
    nova = NovaClient(HyperPodBackend("research", region="us-east-1"), output="s3://acme-nova/runs")
    machine = StateMachine.of(nova, "one", lambda chain: chain.run("sft", SFT, chats))
    lines = str(machine).splitlines()
    assert lines[0] == "state machine one: 1 stage; looks every 350 s; ends after 5 days at most"
    assert max(map(len, lines)) <= 80
    with pytest.raises(ConfigurationError, match=r"nova\.backend\.resolve"):
        machine.to_json()


def test_mistakes_are_told_apart(offline, chats, pairs):
    with pytest.raises(ConfigurationError, match="has no stage"):
        StateMachine.of(offline, "empty", lambda _: None)
    with pytest.raises(ConfigurationError, match="two stages that are called 'sft'"):
        StateMachine.of(offline, "twice", lambda chain: [chain.run("sft", SFT, chats) for _ in range(2)])
    with pytest.raises(ConfigurationError, match="not a stage's name"):
        StateMachine.of(offline, "odd", lambda chain: chain.run("S F T", SFT, chats))
    with pytest.raises(ConfigurationError, match="stage_hours"):
        StateMachine.of(offline, "x", lambda chain: chain.run("sft", SFT, chats), stage_hours=0)
    with pytest.raises(PlanRejectedError, match="25,000 events"):
        StateMachine.of(offline, "often", lambda chain: chain.run("sft", SFT, chats), poll_seconds=1).to_json()
    taken = []
    StateMachine.of(offline, "one", lambda chain: taken.append(chain.run("sft", SFT, chats)))
    with pytest.raises(ConfigurationError, match="another draft"):
        StateMachine.of(offline, "two", lambda chain: chain.run("dpo", DPO.starting_from(taken[0]), pairs))


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (
            {"stage_hours": math.inf, "poll_seconds": 90.5},
            r"stage_hours is inf; .*poll_seconds is 90\.5; give whole seconds",
        ),
        ({"stage_hours": math.nan}, "stage_hours is nan; give hours above 0, at most 27,777 with 1 group of stages"),
        ({"stage_hours": 27_778}, "at most 27,777"),
        ({"stage_hours": "5"}, "stage_hours is '5'"),
        ({"poll_seconds": True}, "poll_seconds is True"),
        ({"poll_seconds": 100_000_000}, "1 to 99,999,999"),
    ],
)
def test_times_that_a_machine_cannot_have_are_refused_all_at_once(offline, chats, times, says):
    with pytest.raises(ConfigurationError, match=says):
        StateMachine.of(offline, "one", lambda chain: chain.run("sft", SFT, chats), **times)


def test_a_serverless_stage_is_not_exported(pairs):
    group = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model-package-group/nova"
    options = TrainingJobOptions(serverless=True, model_package_group=group, accept_eula=True)
    backend = TrainingJobBackend(
        f"arn:aws:iam::{ACCOUNT}:role/nova", region="us-east-1", account=ACCOUNT, options=options
    )
    nova = NovaClient(backend, output="s3://acme-nova/runs")
    with pytest.raises(ConfigurationError, match=r"dpo is serverless, .*run this chain from Python"):
        StateMachine.of(nova, "one", lambda chain: chain.run("dpo", DPO, pairs))


def test_html_is_escaped(offline, chats):
    machine = StateMachine.of(offline, "one", lambda chain: chain.run("sft", SFT, chats))
    shown = StateMachine(offline, "<b>", machine.groups)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown

"""`nova-dpo plan`, `submit`, `status`, `wait`, `cancel` and `checkpoint`, against the rehearsal cloud."""

from __future__ import annotations

from cli_support import CHATS, PAIRS, PLACE, make_shell  # noqa: F401 - a fixture
from sagemaker_support import needs_sdk

from nova_dpo_sdk import NovaClient, NovaModel, SFTRecipe


def test_plan_needs_no_cloud_and_says_what_would_be_sent(shell):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE)
    assert told.code == 0
    assert "trains     nova-lite DPO, lora, 4 replicas" in told.out
    assert "at least 1,000 pairs" in told.out
    assert "ready to submit" in told.out
    assert "kind: PyTorchJob" not in told.out


def test_plan_in_full_shows_every_object(shell):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--full")
    assert told.code == 0
    assert "kind: PyTorchJob" in told.out
    assert "kind: ConfigMap" in told.out


def test_plan_answers_in_json_and_the_reference_is_known_before(shell):
    told = shell(
        "plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--account", "123456789012", "--json"
    )
    assert told.json["ok"] is True
    assert told.json["ref"] == f"hyperpod://us-east-1/research/kubeflow/{told.json['name']}"
    assert [each["kind"] for each in told.json["objects"]] == ["ConfigMap", "PyTorchJob"]


def test_a_plan_with_errors_ends_with_one_and_an_allowed_warning_is_gone(shell):
    told = shell(
        "plan", "--recipe", shell.recipe("dpo", replicas="3"), "--data", PAIRS, *PLACE, "--allow", "few-records"
    )
    assert told.code == 1
    assert "replicas-not-allowed" in told.out
    assert "few-records" not in told.out
    assert "cannot be submitted" in told.out


def test_data_of_the_wrong_kind_are_refused(shell):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", CHATS, *PLACE)
    assert told.code == 1
    assert "candidates" in told.out


def test_a_checkpoint_path_becomes_the_start(shell):
    start = "s3://customer-escrow-123456789012-hp-abc/sft-x/outputs/checkpoints"
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--from", start)
    assert told.code == 0
    assert f"from       {start}" in told.out


def test_check_asks_the_cluster(shell, cloud):
    words = ("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *shell.local(cloud), "--check")
    told = shell(*words)
    assert told.code == 0
    assert "Ready to submit." in told.out
    assert all(check["question"] for check in shell(*words, "--json").json["checks"])


def test_two_stages_are_chained_by_references_alone(shell, cloud):
    local = shell.local(cloud)
    sent = shell("submit", "--recipe", shell.recipe("sft"), "--data", CHATS, *local)
    assert sent.code == 0
    ref = sent.out.strip()
    assert ref.startswith("hyperpod://us-east-1/research/kubeflow/nova-lite-sft-")
    assert "Submitted." in sent.err

    early = shell("checkpoint", ref, *local)
    assert early.code == 1
    assert "Wait for it with nova-dpo wait" in " ".join(early.err.split())

    waited = shell("wait", ref, *local, "--interval", "1")
    assert waited.code == 0
    assert [line.split("  ")[1] for line in waited.out.splitlines()][-2:] == ["running", "succeeded"]

    found = shell("checkpoint", ref, *local, "--json")
    assert found.json["technique"] == "SFT"
    assert found.json["job"] == ref

    second = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, "--from", ref, *local, "--json")
    assert second.code == 0
    assert shell("wait", second.json["ref"], *local, "--json").json["status"] == "succeeded"
    assert shell("checkpoint", second.json["ref"], *local).out.startswith("s3://customer-escrow-123456789012-hp-")


def test_data_in_s3_are_trained_on_where_they_are(shell, cloud):
    local = shell.local(cloud)
    uri = shell("data", "upload", PAIRS, *local, "--output", cloud.output, "--json").json["uri"]
    words = ("--recipe", shell.recipe("dpo"), "--data", uri, *local)
    planned = shell("plan", *words, "--full")
    assert planned.code == 0
    assert uri in planned.out
    sent = shell("submit", *words)
    assert sent.code == 0
    assert "its data are there" in sent.err
    assert shell("wait", sent.out.strip(), *local, "--json").json["status"] == "succeeded"

    chats = shell("plan", "--recipe", shell.recipe("sft"), "--data", uri, *local)
    assert chats.code == 1
    assert "candidates" in chats.out
    gone = shell("plan", "--recipe", shell.recipe("dpo"), "--data", f"{uri}x", *local)
    assert gone.code == 1
    assert f"{uri}x is no object" in " ".join(gone.err.split())


def test_submitting_twice_finds_the_same_job(shell, cloud):
    words = ("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *shell.local(cloud))
    first, again = shell(*words), shell(*words)
    assert again.code == 0
    assert first.out == again.out
    assert "nothing was sent twice" in again.err
    assert "keeps" not in again.err
    other = shell(*words, "--deadline", "3600")
    assert "It keeps what it was sent with." in other.err
    assert shell(*words, "--deadline", "3600", "--json").json["differs"] == [
        "spec.runPolicy.activeDeadlineSeconds: (none) -> 3600"
    ]


def test_queue_and_limits_are_options_of_a_run(shell):
    words = ("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *PLACE, "--full")
    told = shell(*words, "--queue", "nlp", "--queue-priority", "high", "--backoff-limit", "3", "--deadline", "3600")
    assert told.code == 0
    for line in (
        "kueue.x-k8s.io/queue-name: nlp",
        "priority-class: high",
        "backoffLimit: 3",
        "activeDeadlineSeconds: 3600",
    ):
        assert line in told.out
    assert "kueue" not in shell(*words).out


def test_a_plan_with_errors_is_not_sent(shell, cloud):
    told = shell("submit", "--recipe", shell.recipe("dpo", replicas="3"), "--data", PAIRS, *shell.local(cloud))
    assert (told.code, told.out) == (1, "")
    assert "nothing was sent" in told.err
    assert "error [replicas-not-allowed] replicas" in told.err
    assert not [each for each in cloud.requests if each.method in ("PUT", "POST")]


def test_status_shows_the_replicas_and_a_cancelled_job_is_gone(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()
    cloud.clock.sleep(10)
    told = shell("status", ref, *local)
    assert told.code == 0
    assert "status   running" in told.out
    assert told.out.count("Running") == 4
    assert len(shell("status", ref, *local, "--json").json["replicas"]) == 4
    assert shell("cancel", ref, *local).code == 0
    assert shell("cancel", ref, *local).code == 0
    gone = shell("status", ref, *local)
    assert gone.code == 1
    assert "status   deleted" in gone.out


def test_a_wait_that_ends_too_early_says_that_the_job_runs_on(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()
    told = shell("wait", ref, *local, "--timeout", "5", "--interval", "1")
    assert told.code == 1
    assert "the job runs on" in told.err
    assert f"nova-dpo wait {ref}" in " ".join(told.err.split())


def test_an_interrupted_wait_ends_with_130_and_leaves_the_job_alone(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()

    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    shell.clock.sleep = pressed  # type: ignore[method-assign]
    told = shell("wait", ref, *local)
    assert told.code == 130
    assert "The job runs on" in told.err
    assert shell("status", ref, *local).code == 0


def test_jobs_lists_what_was_sent_and_logs_tells_its_story(shell, cloud):
    local = shell.local(cloud)
    assert shell("jobs", *local).out == "No jobs of this package here.\n"
    sent = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local, "--json")
    ref = sent.json["ref"]
    early = shell("logs", ref, *local)
    assert (early.code, "nova-dpo logs -f waits for them" in " ".join(early.err.split())) == (1, True)
    assert shell("wait", ref, *local).code == 0
    told = shell("jobs", *local, "--technique", "dpo")
    assert told.out == f"{ref}  succeeded\n"
    assert shell("jobs", *local, "--technique", "sft").out == "No jobs of this package here.\n"
    assert shell("jobs", *local, "--json").json[0]["status"] == "succeeded"
    lines = shell("logs", ref, *local)
    assert lines.code == 0
    assert "DPO" in lines.out
    assert len(lines.out.splitlines()) > 3


def test_jobs_and_logs_need_to_know_where(shell):
    assert shell("jobs").code == 2


@needs_sdk
def test_jobs_on_training_jobs_are_followed_like_any_other(shell, cloud, clock, chats):
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    ref = nova.submit(nova.plan(SFTRecipe(name="sft", model=NovaModel.LITE, replicas=4, warmup_steps=1), chats)).ref
    local = shell.local(cloud)
    assert "pending" in shell("status", ref, *local).out
    assert shell("wait", ref, *local).code == 0
    clock.advance(60)
    assert "Starting SFT Job" in shell("logs", ref, *local).out
    assert "-smtj-" in shell("checkpoint", ref, *local).out
    assert shell("cancel", ref, *local).code == 0

"""`nova-dpo doctor` and the live table of `status --watch` and `jobs --watch`."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cli_support import PAIRS, make_shell  # noqa: F401 - a fixture
from test_status import NOW

from nova_dpo_sdk.backends import JobSnapshot, JobStatus, ReplicaSnapshot
from nova_dpo_sdk.cli._live import Board, age, rows
from nova_dpo_sdk.local import FakeClock


def plain(told):
    return " ".join((told.out + told.err).split())


def test_a_ready_place_is_told_row_by_row_on_eighty_columns(shell, cloud, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = shell("doctor", *shell.local(cloud), "--output", cloud.output)
    assert told.code == 0
    rows = [line.split()[:2] for line in told.out.splitlines()]
    for question in ("identity", "cluster", "kubernetes", "permissions", "namespace"):
        assert ["ok", question] in rows
    assert told.out.rstrip().endswith("Ready.")
    assert max(map(len, told.out.splitlines())) <= 80


def test_what_is_missing_is_told_with_what_to_do_and_nothing_is_changed(shell, cloud):
    cloud.role = "namespaced"
    cloud.cluster.groups[:] = [each for each in cloud.cluster.groups if not each.restricted]
    told = shell("doctor", *shell.local(cloud), "--namespace", "nowhere", "--output", "s3://not-there/runs")
    assert told.code == 1
    for code in ("no-restricted-group", "output-bucket-failed", "rights-missing", "namespace-failed"):
        assert f"[{code}]" in told.out
    assert "Have one added to the cluster" in plain(told)
    assert "Not ready: mend the errors above" in plain(told)
    written = [each for each in cloud.requests if each.operation in ("update", "delete", "PutObject")]
    assert written == []


def test_the_rights_that_a_role_has_not_are_notes_that_say_what_they_would_bring(shell, cloud):
    cloud.role = "namespaced"
    told = shell("doctor", *shell.local(cloud), "--json").json
    assert told["ready"] is True
    more = next(each for each in told["cluster"] if each["question"] == "more rights")
    assert more["state"] == "note"
    assert more["answer"] == "not granted: list pods, watch pytorchjobs, watch pods, list workloads, list nodes"
    assert "why a queue holds a job back" in more["findings"][3]["message"]


def test_somebody_whom_the_cluster_does_not_know_is_told_about_the_access_entry(shell, cloud):
    cloud.role = "unmapped"
    told = shell("doctor", *shell.local(cloud))
    assert told.code == 1
    assert "EKS access entry" in plain(told)
    assert "not asked: see kubernetes" in told.out


def test_without_a_cluster_machine_and_account_are_looked_at(shell, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    told = shell("doctor")
    assert told.code == 1
    assert "No AWS Region is known" in plain(told)
    assert "add .eks.amazonaws.com to NO_PROXY" in plain(told)


def test_several_jobs_are_watched_until_all_are_over(shell, cloud):
    local = shell.local(cloud)
    cloud.script_fault("crash-recovers", job="second-*")
    refs = []
    for name in ("first", "second"):
        recipe = shell.folder / f"{name}.yaml"
        assert shell("recipe", "new", "--technique", "dpo", "--name", name, "-o", recipe).code == 0
        refs.append(shell("submit", "--recipe", recipe, "--data", PAIRS, *local).out.strip())
    told = shell("status", *refs, "--watch", "--interval", "1", *local)
    assert told.code == 0
    assert told.out.rstrip().endswith("2 jobs: 2 succeeded")
    assert "degraded CrashLoopBackOff" in plain(told)
    again = shell("jobs", "--watch", *local)
    assert again.code == 0
    assert "succeeded" in again.out
    assert shell("status", *refs, *local).code == 2


def test_a_watched_job_that_is_lost_ends_with_one(shell, cloud):
    local = shell.local(cloud)
    ref = shell("submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local).out.strip()
    shell("cancel", ref, *local)
    told = shell("status", ref, "--watch", "--json", *local)
    assert told.code == 1
    assert '"status": "deleted"' in told.out


def test_logs_find_their_output_by_the_job_and_begin_where_they_were_asked_to(shell, cloud):
    local = shell.local(cloud)
    ref = shell(
        "submit", "--recipe", shell.recipe("dpo"), "--data", PAIRS, *local, "--output", "s3://acme-nova/mine"
    ).out
    shell("wait", ref.strip(), *local)
    assert shell("checkpoint", ref.strip(), *local).out.startswith("s3://customer-escrow-")
    everything = shell("logs", "-f", ref.strip(), *local).out.splitlines()
    late = everything[len(everything) // 2].split()[0]
    some = shell("logs", ref.strip(), "--since", late, *local).out.splitlines()
    assert some == [line for line in everything if line.split()[0] >= late]
    assert shell("logs", ref.strip(), "--since", "yesterday", *local).code == 2
    assert shell("jobs", "--since", "1h", *local).code == 0


def snapshot(name, status, **more):
    return JobSnapshot(f"hyperpod://us-east-1/research/kubeflow/{name}", status, NOW, **more)


def drawn(*snapshots, width=80, height=24):
    clock = FakeClock(NOW + timedelta(seconds=75))
    board = Board(clock)
    for each in snapshots:
        board.put(each)
    return "\n".join(text for text, _ in rows(board, width, height))


def test_the_table_puts_those_first_that_need_somebody_and_fits():
    text = drawn(
        snapshot("fine-12345", JobStatus.SUCCEEDED, since=NOW),
        snapshot("runs-12345", JobStatus.RUNNING, since=NOW),
        snapshot(
            "broken-with-a-very-long-name-of-forty-ch",
            JobStatus.DEGRADED,
            reason="CrashLoopBackOff",
            message="x-master-0: exit code 1: no such file",
            next_step="Mend it.",
            since=NOW - timedelta(hours=2),
            replicas=(ReplicaSnapshot("x-master-0", "Running", restarts=7),),
        ),
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0][:6] for line in lines if line[:1].strip()][1:4] == ["broken", "runs-1", "fine-1"]
    assert "2h01m" in text
    assert "1m15s" in text
    assert "no such file Next: Mend it." in " ".join(text.split())
    assert "3 jobs: 1 degraded, 1 running, 1 succeeded" in text


def test_a_single_job_shows_its_replicas_and_thousands_do_not_leave_the_screen():
    replicas = tuple(ReplicaSnapshot(f"a-worker-{n}", "Running", node=f"hyperpod-i-{n}") for n in range(3))
    assert drawn(snapshot("a", JobStatus.RUNNING, replicas=replicas)).count("  worker-") == 3
    text = drawn(*(snapshot(f"run-{n:04}", JobStatus.RUNNING) for n in range(2000)), height=20)
    assert len(text.rstrip().splitlines()) <= 20
    assert "... 1,983 more" in text
    assert "2,000 jobs: 2000 running" in text


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "5s"), (65, "1m05s"), (3700, "1h01m"), (90000, "1d01h"), (-3, "0s"), (None, "")]
)
def test_ages_are_short(seconds, told):
    since = None if seconds is None else NOW - timedelta(seconds=seconds)
    assert age(since, NOW) == told

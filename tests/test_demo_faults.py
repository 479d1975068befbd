"""`nova-dpo demo --fault NAME`: what a user is shown on each bad day."""

from __future__ import annotations

import pytest
from cli_support import make_shell  # noqa: F401 - a fixture

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.local import API_FAULTS, JOB_FAULTS, FakeClock, HurriedClock, LocalCloud

HEALED = {
    "unschedulable": "unschedulable (Unschedulable",
    "queued": "queued (",
    "preempted": "queued (Preempted",
    "crash-recovers": "degraded (CrashLoopBackOff",
    "node-loss": "restarting (NodeLost",
    "operator-silent": "stalled (OperatorSilent",
    "manifest-late": "written after it has succeeded",
    "manifest-relative": "relative to the escrow location",
    "manifest-other-key": "under another key",
    "logs-late": "arrive late",
}
LOST = {
    "image-pull": "Check the image's Region and account",
    "init-crash": "The init container ends before training begins",
    "crash-loop": "The container ends by itself",
    "manifest-missing": "No manifest of dpo-",
    "manifest-broken": "is not JSON",
    "output-kms-denied": "have kms:Decrypt (to read)",
}


def plain(text):
    return " ".join(text.split())


def test_every_fault_of_a_job_has_an_expectation_here():
    assert HEALED.keys() | LOST.keys() == JOB_FAULTS.keys()


@pytest.mark.parametrize("name", HEALED)
def test_a_bad_day_that_passes_is_shown_and_survived(shell, name):
    told = shell("demo", "--fault", name, "--out", "out")
    assert (told.code, told.err) == (0, "")
    assert HEALED[name] in plain(told.out)
    assert "DPO checkpoint" in told.out


@pytest.mark.parametrize("name", LOST)
def test_a_bad_day_that_stays_ends_with_what_to_do(shell, name):
    told = shell("demo", "--fault", name, "--out", "out")
    assert told.code == 1
    assert LOST[name] in plain(told.out + told.err)


@pytest.mark.parametrize("name", [name for name in API_FAULTS if name != "slow" and not name.startswith("watch-")])
def test_a_bad_day_of_the_api_is_not_noticed(shell, name):
    told = shell("demo", "--fault", name, "--out", "out")
    assert (told.code, told.err) == (0, "")
    assert API_FAULTS[name] in plain(told.out)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "pace"), [("slow", 1), ("watch-cut", 20), ("watch-silent", 20), ("watch-expired", 20)]
)
def test_what_takes_real_time_is_survived_too(shell, name, pace):
    shell.clock = None if pace == 1 else HurriedClock(SystemClock(), pace)  # none: the machine's own, as for a user
    told = shell("demo", "--fault", name, "--out", "out")
    assert (told.code, told.err) == (0, "")


def test_the_faults_are_listed_and_a_wrong_name_is_refused(shell):
    told = shell("demo", "--fault", "list")
    assert told.code == 0
    assert all(name in told.out for name in (*JOB_FAULTS, *API_FAULTS, "random"))
    assert max(map(len, told.out.splitlines())) <= 80
    told = shell("demo", "--fault", "rain")
    assert told.code == 1
    assert "No fault is called 'rain'; there are unschedulable," in plain(told.err)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_bad_day_is_survived_and_is_the_same_for_the_same_seed(shell, seed):
    first, second = (shell("demo", "--fault", "random", "--seed", seed, "--out", "out") for _ in "12")
    assert first.code == 0
    calls = [[line for line in told.out.splitlines() if "script_fault" in line] for told in (first, second)]
    assert calls[0] == calls[1]
    assert calls[0]


def test_seeds_differ(clock):
    with LocalCloud(clock=clock) as cloud:
        days = {tuple(cloud.script_random_faults(seed, job="none-*")) for seed in range(20)}
    assert len(days) == 20


def test_a_hurried_clock_passes_faster_by_its_factor():
    base = FakeClock()
    hurried = HurriedClock(base, 20)
    begun = hurried.now()
    hurried.sleep(60)
    assert base.monotonic() == 3
    assert hurried.monotonic() == 60
    assert (hurried.now() - begun).total_seconds() == 60

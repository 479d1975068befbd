"""What holds for every command: help, versions, exit codes, errors without tracebacks."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from cli_support import PAIRS, PLACE, make_shell  # noqa: F401 - a fixture

import nova_dpo_sdk
from nova_dpo_sdk.cli import main
from nova_dpo_sdk.cli._out import in_shell_words
from nova_dpo_sdk.local import FakeClock

COMMANDS = [
    (), ("demo",), ("recipe",), ("recipe", "new"), ("recipe", "check"), ("recipe", "show"), ("data",), ("data", "check"),
    ("data", "convert"), ("data", "profile"), ("data", "split"), ("data", "upload"), ("data", "rules"), ("plan",), ("submit",), ("status",), ("wait",), ("cancel",), ("checkpoint",),
]  # fmt: skip


def test_the_version_is_told_without_loading_anything_heavy():
    code = (
        "import sys; from nova_dpo_sdk.cli import main; code = main(['--version']); "
        "print(code, [m for m in 'boto3 pydantic rich yaml msgspec urllib3 moto'.split() if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [f"nova-dpo-sdk {nova_dpo_sdk.__version__}", "0 []"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_fits_into_eighty_columns(shell, words):
    told = shell(*words, "--help")
    assert told.code == 0
    assert max(len(line) for line in told.out.splitlines()) <= 80
    assert told.err == ""


def test_the_help_says_what_the_exit_codes_mean(shell):
    told = shell("--help").out
    assert "exit codes: 0 all is well; 1 findings" in told
    assert re.search(r"^    checkpoint +print the checkpoint", told, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("recipe",), ("plan",), ("wait", "ref", "--timeout", "soon"), ("wait", "ref", "--timeout", "nan"),
     ("plan", "--recipe", "r", "--data", "d", "--attempt", "0"), ("recipe", "new", "--technique", "ppo")],
)  # fmt: skip
def test_wrong_usage_is_exit_code_two(shell, words):
    told = shell(*words)
    assert told.code == 2
    assert "usage: nova-dpo" in told.err


def test_plan_without_a_place_is_wrong_usage_and_names_the_options(shell):
    told = shell("plan", "--recipe", shell.recipe("dpo"), "--data", PAIRS)
    assert told.code == 2
    assert "--cluster and --output must be given" in told.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("recipe", "check", "no.yaml"), "no.yaml does not exist"),
        (("recipe", "show", "."), ". is not a file"),
        (("data", "check", "no.jsonl"), "no.jsonl does not exist"),
        (("data", "convert", "no.jsonl", "out.jsonl"), "no.jsonl does not exist"),
        (("status", "job-7"), "'job-7' is not a job reference"),
        (("status", "training-jobs://us-east-1/a/b"), "not a job reference"),
        (("checkpoint", "hyperpod://us-east-1/c/kubeflow/j", "--output", "acme"), "acme"),
        (("status", "hyperpod://us-east-1/c/kubeflow/j", "--local", "no.json"), "no.json"),
        (("recipe", "new", "--technique", "sft", "-o", "."), "."),
    ],
)
def test_errors_are_one_short_text_on_standard_error_and_exit_code_one(shell, words, text):
    told = shell(*words)
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("error: ")
    assert text in told.err
    assert max(len(line) for line in told.err.splitlines()) <= 80


def test_a_file_that_is_no_connection_is_refused_with_the_way_to_get_one(shell):
    (shell.folder / "c.json").write_text('{"region": "us-east-1"}', encoding="utf-8")
    told = shell("status", "hyperpod://us-east-1/c/kubeflow/j", "--local", "c.json")
    assert told.code == 1
    assert "nova-dpo demo --keep" in told.err


def test_a_fault_of_our_own_is_told_without_a_traceback_unless_asked_for(shell, monkeypatch):
    (shell.folder / "f.jsonl").write_bytes(b"{}\n")

    class Broken(FakeClock):
        def monotonic(self):
            raise ZeroDivisionError("a fault")

    words = ["demo", "--out", str(shell.folder / "out")]
    assert main(words, clock=Broken()) == 1
    monkeypatch.setenv("NOVA_DPO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(words, clock=Broken())


def test_a_reader_that_goes_away_is_no_error_message(shell):
    words = ["plan", "--recipe", str(shell.recipe("dpo")), "--data", PAIRS, *PLACE, "--full"]
    command = subprocess.Popen(
        [sys.executable, "-m", "nova_dpo_sdk.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout
    assert command.stderr
    command.stdout.close()
    said = command.stderr.read()
    command.stderr.close()
    assert command.wait() == 1
    assert said == b""


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ('silence this with allow=["beta-disputed"].', "silence this with --allow beta-disputed."),
        ('carried with extra=["run.new"].', "carried with --extra run.new."),
        ("Wait again with nova.job('hyperpod://r/c/n/j').wait().", "Wait again with nova-dpo wait hyperpod://r/c/n/j."),
        ("holds its nodes: job.cancel() frees them.", "holds its nodes: nova-dpo cancel frees them."),
        ("job.logs(follow=True) waits for them.", "nova-dpo logs -f waits for them."),
        ("Go on with job.logs(follow=True, since=<the last line's at>).", "Go on with nova-dpo logs -f --since TIME, the last line's."),
        ("To try it again, submit plan.again(), its next attempt under its own name.", "To try it again, submit it with the next --attempt, a run under its own name."),
    ],
)  # fmt: skip
def test_remedies_are_told_in_the_words_of_a_shell(python, words):
    assert in_shell_words(python) == words

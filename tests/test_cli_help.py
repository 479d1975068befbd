"""Help that can be read in 80 columns, completion, and colours for terminals only."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import CHATS, PAIRS, make_shell, overlong  # noqa: F401 - a fixture

from nova_dpo_sdk import NovaModel, SFTRecipe
from nova_dpo_sdk.cli._parser import parser


def every_command(word: argparse.ArgumentParser):
    yield word
    for action in word._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from every_command(each)


COMMANDS = list(every_command(parser()))


@pytest.mark.parametrize("word", COMMANDS, ids=[each.prog for each in COMMANDS])
def test_help_fits_80_columns_and_explains_every_option(word):
    assert [line for line in word.format_help().splitlines() if len(line) > 81] == []
    bare = [
        action for action in word._actions if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert [action.dest for action in bare] == []


NO_JSON = {
    "demo": "is for eyes; what it makes lies in files",
    "cloud": "runs until Ctrl-C; its file is JSON",
    "completion": "prints a script for a shell",
}


def test_every_command_answers_in_json_or_is_known_to_have_no_answer():
    without = {
        each.prog.removeprefix("nova-dpo ")
        for each in COMMANDS
        if each._defaults.get("run") and "--json" not in each._option_string_actions
    }
    assert without == set(NO_JSON)


def test_profile_and_new_recipes_answer_in_json(shell):
    told = shell("data", "profile", PAIRS, "--validation", PAIRS, "--json").json
    assert (told["records"], told["kind"], told["overlap"]["shared"]) == (48, "preference", 48)
    assert told["tokens"]["smallest"] <= told["tokens"]["median"] <= told["tokens"]["p99"] <= told["tokens"]["largest"]
    assert told["rejected"]["count"] == 48
    assert set(told["recommended"]["values"]) == {"max_length", "max_epochs", "warmup_steps"}
    assert shell("data", "profile", CHATS, "--json").json["rejected"]["count"] == 0
    made = shell("recipe", "new", "--technique", "dpo", "-o", "dpo.yaml", "--json").json
    assert made["file"] == "dpo.yaml"
    assert made["recipe"] == shell("recipe", "show", "dpo.yaml", "--json").json


def test_what_commands_say_fits_80_columns(shell, cloud):
    local = shell.local(cloud)
    Path("pairs.jsonl").write_bytes(Path(PAIRS).read_bytes())
    Path("bad.jsonl").write_text(Path(PAIRS).read_text().replace("non-preferred", "worse", 5), encoding="utf-8")
    run = ("--recipe", shell.recipe("dpo").name, "--data", "pairs.jsonl")
    ref = shell("submit", *run, *local).out.strip()
    cloud.clock.sleep(10)
    said = (
        ("data", "check", "bad.jsonl"),
        ("data", "check", "bad.jsonl", "--write-clean", "good.jsonl"),
        ("data", "convert", PAIRS, "again.jsonl"),
        ("data", "profile", "pairs.jsonl", "--validation", "again.jsonl"),
        ("data", "split", "pairs.jsonl", "t.jsonl", "v.jsonl"),
        ("data", "rules"),
        ("recipe", "check", "dpo.yaml"),
        ("plan", *run, *local),
        ("plan", *run, *local, "--check"),
        ("plan", *run, *local, "--platform", "training-jobs"),
        ("submit", *run, *local),
        ("status", ref, *local),
        ("status", ref, *local, "--watch"),
        ("wait", ref, *local),
        ("checkpoint", ref, *local),
        ("doctor", *local),
        ("doctor",),
        ("chain", "list", *local),
        ("chain", "show", "nothing", *local),
        ("demo",),
        ("demo", "--fault", "list"),
        ("plan", "--recipe", "nothing.yaml", "--data", "nothing.jsonl", *local),
        ("cancel", ref, *local),
        ("delete", ref, *local),
    )
    told = {words: shell(*words) for words in said}
    wide = {words: overlong(each.out + each.err) for words, each in told.items()}
    assert [(words, lines) for words, lines in wide.items() if lines] == []


def test_split_and_cancel_answer_in_json(shell, cloud, nova, chats):
    job = nova.submit(nova.plan(SFTRecipe(name="a", model=NovaModel.LITE), chats))
    told = shell("cancel", job.ref, "--json", *shell.local(cloud)).json
    assert told == {"ref": job.ref, "status_before": "pending", "cancelled": True}
    counts = shell("data", "split", chats.path, "t.jsonl", "v.jsonl", "--fraction", "0.5", "--json").json
    assert counts["train"] + counts["validation"] == counts["records"] == 70


def test_exit_codes_are_in_the_help():
    told = parser().format_help()
    assert "exit codes: 0 all is well; 1 findings, a failed job or an error; 2 wrong usage" in told
    assert "130 interrupted" in told


def test_bash_completes_commands(shell, tmp_path):
    told = shell("completion", "bash")
    assert told.code == 0
    script = tmp_path / "completion.sh"
    script.write_text(told.out, encoding="utf-8")
    ask = f"source {script}; COMP_WORDS=(nova-dpo sub); COMP_CWORD=1; _shtab_nova_dpo; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False)  # noqa: S607
    assert "submit" in done.stdout, done.stderr


def test_completion_without_its_extra_says_what_to_install(shell, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    told = shell("completion", "zsh")
    assert (told.code, "nova-dpo-sdk[completion]" in told.err.replace("\n", "")) == (1, True)


def test_nothing_has_colours_in_a_pipe(shell):
    assert "\x1b" not in shell("permissions", "--help").out + shell("demo", "--out", "d").out

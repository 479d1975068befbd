"""The programs in `examples/` and in the documentation do what they say, on the rehearsal cloud."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cli_support import SAMPLES

from nova_dpo_sdk.export import definition_findings

ROOT = Path(__file__).parents[1]


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks():
    """The programs of the page on handing over, by the file name in their first line."""
    text = (ROOT / "docs" / "hand-over.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(# (\S+?\.py).*?)```", text, flags=re.DOTALL)
    return {Path(name).stem: body for body, name in found}


def test_support_tone_ends_with_a_checkpoint(nova, capsys):
    aligned = example("support_tone").align(nova, SAMPLES)
    assert "support-dpo-" in aligned.uri
    assert "ready to submit" in capsys.readouterr().out


def test_beta_sweep_finds_a_best_beta_and_goes_on_when_run_again(nova, capsys, tmp_path):
    program = example("beta_sweep")
    best = program.best_beta(nova, SAMPLES, tmp_path / "betas.png")
    assert "3 of 3 trials finished" in capsys.readouterr().out
    assert (tmp_path / "betas.png").stat().st_size > 10_000
    assert program.best_beta(nova, SAMPLES, None) == best


def test_durable_chain_stopped_in_the_middle_ends_with_the_same_best(cloud, nova, monkeypatch, capsys):
    program = example("durable_chain")
    began = program.NovaClient(cloud.hyperpod(), output=cloud.output)

    def stop(stage, _snapshot):
        if stage.startswith("dpo"):
            raise KeyboardInterrupt

    monkeypatch.setattr(program, "told", stop)
    with pytest.raises(KeyboardInterrupt):
        program.best_of_three(began, SAMPLES)
    monkeypatch.undo()
    best = program.best_of_three(nova, SAMPLES)
    assert program.best_of_three(nova, SAMPLES) == best
    assert len(nova.jobs()) == 4
    out = capsys.readouterr().out
    assert out.count("4 of 4 stages finished") == 2
    assert "tries" not in out  # one each


def test_hand_over_writes_a_sound_definition_and_starts_nothing(nova, tmp_path, capsys):
    machine = example("hand_over").export(nova, SAMPLES, tmp_path)
    definition = json.loads((tmp_path / "support-tone.asl.json").read_text(encoding="utf-8"))
    assert definition == machine.to_dict()
    assert definition_findings(definition) == []
    kinds = [each["kind"] for each in yaml.safe_load_all((tmp_path / "access.yaml").read_text(encoding="utf-8"))]
    assert kinds == ["Role", "RoleBinding"]
    assert nova.jobs() == []
    for upload in machine.stages[0].plan.uploads:
        assert nova.backend.aws.head(nova.output.parse(upload.uri)) is not None
    assert "3 stages" in capsys.readouterr().out


@pytest.fixture
def support_tone(nova, chats, pairs, monkeypatch):
    """The first program of the page, with the rehearsal cloud's client and the tests' data."""
    module = ModuleType("support_tone")
    exec(blocks()["support_tone"], module.__dict__)  # noqa: S102 - the page's own program
    module.SFT = module.SFT.replace(warmup_steps=1)
    module.DPO = module.DPO.replace(warmup_steps=1)
    module.client, module.chats, module.pairs = (lambda: nova), (lambda: chats), (lambda: pairs)
    monkeypatch.setitem(sys.modules, "support_tone", module)
    return module


@pytest.mark.usefixtures("support_tone")
def test_the_page_runs_a_chain_from_plain_python_and_exports_it(nova, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks()["run_tone"], {})  # noqa: S102 - the page's own program
    assert capsys.readouterr().out.startswith("s3://customer-escrow-")
    exec(blocks()["export_tone"], {})  # noqa: S102 - the page's own program
    assert definition_findings(json.loads((tmp_path / "support-tone.asl.json").read_text(encoding="utf-8"))) == []
    assert len(nova.jobs()) == 2


@dataclass
class Poke:
    is_done: bool
    xcom_value: Any = None


class Airflow(ModuleType):
    """As much of `airflow.sdk` as the page uses: a sensor is asked again until it is done."""

    PokeReturnValue = Poke

    def __init__(self):
        super().__init__("airflow.sdk")
        self.pokes = []
        self.results = {}
        self.task = self

    def dag(self, **_):
        return lambda function: function

    def sensor(self, **_):
        def decorate(function):
            def run(*given):
                while True:
                    self.pokes.append(function.__name__)
                    told = function(*given)
                    if told.is_done:
                        self.results[function.__name__] = json.loads(json.dumps(told.xcom_value))
                        return self.results[function.__name__]

            return run

        return decorate


@pytest.mark.usefixtures("support_tone")
def test_the_pages_airflow_dag_looks_until_each_stage_is_done(nova, cloud, monkeypatch):
    cloud.script_fault("unschedulable", job="support-sft-*", lasts=90)
    airflow = Airflow()
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", airflow)
    exec(blocks()["support_tone_dag"], {})  # noqa: S102 - the page's own program
    assert airflow.pokes.count("sft") > 1
    record = nova.chain("support-tone").record("dpo")
    assert record.checkpoint.uri == airflow.results["dpo"]["uri"]
    assert record.parent.uri == airflow.results["sft"]["uri"]

"""Sweeps: every finding before the first submit, caps that hold, results that survive a second run."""

from __future__ import annotations

import functools
import json
import math

import pytest

from nova_dpo_sdk import DPORecipe, FullRank, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS
from nova_dpo_sdk.chain import StagePolicy
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, JobTimeoutError, PlanRejectedError, RecipeError
from nova_dpo_sdk.export import StateMachine

DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, warmup_steps=1)
QUIET = ("few-records",)


def jobs(nova):
    return sorted(each["metadata"]["name"] for each in nova.backend.api().list(PYTORCHJOBS, "kubeflow"))


def alive_at_once(nova, clock):
    """Watches how many jobs of the cluster are not over, whenever time passes."""
    most = [0]
    sleep = clock.sleep

    def counted(seconds):
        found = [each for each in nova.jobs() if not each.last.status.is_terminal]
        most[0] = max(most[0], len(found))
        sleep(seconds)

    clock.sleep = counted
    return most


def test_a_grid_is_every_combination_and_the_last_field_changes_fastest(nova):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1], lr=[5e-6, 1e-5])
    assert [each.label for each in sweep] == [
        "beta=0.05 lr=5e-06", "beta=0.05 lr=1e-05", "beta=0.1 lr=5e-06", "beta=0.1 lr=1e-05",
    ]  # fmt: skip
    assert [(each.recipe.beta, each.recipe.lr) for each in sweep][1] == (0.05, 1e-5)
    assert sweep.trials[0].stage == "support-dpo-beta-0p05-lr-5e-06"
    assert repr(sweep) == "Sweep('support-dpo', trials=4)"


def test_a_list_of_trials_may_change_different_fields_and_those_of_the_tuning(nova):
    sweep = nova.sweep(DPO.replace(tuning=LoRA(alpha=64)), trials=[{"beta": 0.05}, {"alpha": 128, "max_epochs": 3}])
    assert [each.recipe.tuning.alpha for each in sweep] == [64, 128]
    assert sweep.trials[1].stage == "support-dpo-alpha-128-max-epochs-3"


def test_a_trials_own_tuning_is_kept_when_a_field_of_it_differs_too(nova):
    sweep = nova.sweep(DPO, tuning=[LoRA(adapter_dropout=0.05), LoRA(adapter_dropout=0.1)], alpha=[32, 64])
    tried = [(each.recipe.tuning.adapter_dropout, each.recipe.tuning.alpha) for each in sweep]
    assert tried == [(0.05, 32), (0.05, 64), (0.1, 32), (0.1, 64)]
    (adapted,) = nova.sweep(DPO.replace(tuning=FullRank()), trials=[{"tuning": LoRA(alpha=32), "adapter_dropout": 0.1}])
    assert (adapted.recipe.tuning.alpha, adapted.recipe.tuning.adapter_dropout) == (32, 0.1)


def test_tunings_are_told_apart_by_what_was_given_of_them(nova, pairs):
    sweep = nova.sweep(DPO, tuning=[FullRank(), LoRA(adapter_dropout=0.1)])
    assert [each.label for each in sweep] == ["tuning=FullRank()", "tuning=LoRA(adapter_dropout=0.1)"]
    assert [each.stage for each in sweep] == [
        "support-dpo-tuning-fullrank",
        "support-dpo-tuning-lora-adapter-dropout-0p1",
    ]
    rows = sweep.run("tunings", pairs, allow=QUIET).to_rows()
    assert [json.loads(json.dumps(each))["tuning"] for each in rows] == ["FullRank()", "LoRA(adapter_dropout=0.1)"]


def test_long_values_make_a_stage_name_that_is_legal_and_stays_the_same(nova):
    recipe = DPO.replace(name="a-recipe-with-a-name-that-is-as-long-as-it-can-be")
    first, again = (nova.sweep(recipe, beta=[0.0123456789, 0.0123456788]) for _ in range(2))
    assert [each.stage for each in first] == [each.stage for each in again]
    assert len({each.stage for each in first}) == 2
    assert all(len(each.stage) <= 63 for each in first)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, ConfigurationError, "takes lists of values"),
        ({"beta": []}, ConfigurationError, r"beta=\[\.\.\.\]"),
        ({"beta": 0.1}, ConfigurationError, r"beta is 0\.1; a sweep takes a list"),
        ({"beta": "0.1"}, ConfigurationError, "a sweep takes a list"),
        ({"betta": [0.1]}, ConfigurationError, "no field of a DPORecipe. Did you mean beta"),
        ({"model": ["nova-pro"]}, ConfigurationError, "model cannot differ within a sweep"),
        ({"beta": [0.1, 0.1]}, ConfigurationError, "Two trials are the same"),
        ({"trials": []}, ConfigurationError, "1 to 1000 trials, not 0"),
        (
            {"trials": {"beta": 0.1}},
            ConfigurationError,
            r"trials is {'beta': 0\.1}; a sweep takes a list with the values",
        ),
        ({"trials": 5}, ConfigurationError, "trials is 5; a sweep takes a list"),
        ({"trials": [["beta", 0.1]]}, ConfigurationError, "a sweep takes a list"),
        ({"trials": [{1: 0.1}]}, ConfigurationError, "1 is no field of a DPORecipe"),
        (
            {"trials": [{"tuning": FullRank(), "alpha": 64}]},
            ConfigurationError,
            r"with tuning=FullRank\(\): it is LoRA's",
        ),
        ({"trials": [{"beta": 0.1}], "lr": [1e-5]}, ConfigurationError, "takes lists of values"),
        ({"lr": [1e-5, 1e-7], "beta": [0.1, -1.0]}, RecipeError, r"lr=1e-07 beta=0\.1: min_lr(.|\n)*beta=-1: beta"),
    ],
)
def test_a_sweep_that_cannot_be_says_everything_that_is_wrong(nova, given, error, says):
    with pytest.raises(error, match=says):
        nova.sweep(DPO, **given)


def test_full_rank_recipes_have_no_alpha(nova):
    with pytest.raises(ConfigurationError, match="alpha is no field"):
        nova.sweep(DPO.replace(tuning=FullRank()), alpha=[32, 64])


def test_every_finding_is_known_before_the_first_submit(nova, cloud, pairs):
    plan = nova.sweep(DPO, beta=[0.05, 0.1], replicas=[4, 3]).plan(pairs, allow=QUIET)
    assert not plan.ok
    assert {each.code for each in plan.errors} == {"replicas-not-allowed"}
    (told,) = plan.errors
    assert told.where == "beta=0.05 replicas=3, beta=0.1 replicas=3: replicas"
    before = len(cloud.requests)
    with pytest.raises(PlanRejectedError, match="nothing was sent"):
        plan.run("betas")
    assert cloud.requests[before:] == []
    assert max(map(len, str(plan).splitlines())) <= 80
    assert str(plan).endswith("1 error. Nothing was sent; cannot be run.")


def test_what_only_the_cluster_knows_is_asked_before_the_first_submit(nova, cloud, pairs):
    cloud.role = "team"  # may work in other namespaces only
    with pytest.raises(PlanRejectedError, match="cannot run; no job was sent") as refused:
        nova.sweep(DPO, beta=[0.05, 0.1]).run("betas", pairs, allow=QUIET)
    assert len(refused.value.findings) == len({str(each) for each in refused.value.findings})
    written = [each.target for each in cloud.requests if each.operation == "PutObject"]
    assert set(written) <= {"s3://acme-nova/runs/checks/writable"}


def test_a_finding_that_all_trials_share_is_said_once(nova, pairs):
    plan = nova.sweep(DPO, beta=[0.05, 0.08, 0.1]).plan(pairs)
    assert [each.where for each in plan.findings if each.code == "few-records"] == ["data"]


def test_no_more_jobs_at_one_time_than_the_cap(nova, clock, pairs):
    most = alive_at_once(nova, clock)
    results = nova.sweep(DPO, beta=[0.02, 0.04, 0.06, 0.08, 0.1]).run("betas", pairs, allow=QUIET, max_concurrent=2)
    assert most == [2]
    assert len(results.finished) == 5
    assert len(jobs(nova)) == 5


def test_a_place_that_is_free_is_taken_while_a_slow_trial_goes_on(nova, cloud, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.08, 0.1])
    plan = sweep.plan(pairs, allow=QUIET, max_concurrent=2)
    cloud.script_fault("unschedulable", job=plan.plans[0].name, lasts=600)
    chain = nova.chain("betas")
    assert len(plan.run(chain).finished) == 3
    slow, _, last = (chain.record(each.stage) for each in sweep)
    assert last.finished_at < slow.finished_at


def test_the_first_of_many_stages_is_enough(nova, cloud, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    chain = nova.chain("betas")
    cloud.script_fault("unschedulable", job=sweep.plan(pairs).plans[0].name, lasts=600)
    slow, quick = (chain.start(each.stage, each.recipe, pairs) for each in sweep)
    assert chain.first([slow, quick]) == [quick]
    assert quick.checkpoint is not None
    assert not slow.is_over
    with pytest.raises(JobTimeoutError):
        chain.first([slow], timeout=1)


def test_a_second_run_finds_every_trial_and_sends_nothing(nova, cloud, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    first = sweep.run("betas", pairs, allow=QUIET)
    before = len(cloud.requests)
    second = sweep.run("betas", pairs, allow=QUIET)
    assert second.to_rows() == first.to_rows()
    assert {each.operation for each in cloud.requests[before:]} == {"GetObject"}
    assert len(jobs(nova)) == 2


def test_a_run_that_was_given_up_goes_on_where_it_stood(nova, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.08, 0.1])
    with pytest.raises(JobTimeoutError):
        sweep.run("betas", pairs, allow=QUIET, max_concurrent=1, timeout=3)
    assert len(jobs(nova)) == 1
    results = sweep.run("betas", pairs, allow=QUIET, max_concurrent=1)
    assert len(results.finished) == 3
    assert len(jobs(nova)) == 3


def test_no_trial_begins_that_could_exceed_the_cap_on_replica_hours(nova, clock, pairs):
    most = alive_at_once(nova, clock)
    sweep = nova.sweep(DPO, beta=[0.05, 0.08, 0.1])
    plan = sweep.plan(pairs, allow=QUIET, max_replica_hours=10, trial_hours=1)
    assert [each.code for each in plan.warnings if each.where == "max_replica_hours"] == ["sweep-over-cap"]
    results = plan.run("betas")
    assert most == [2]  # two of four replica-hours each; the third begins when one has ended early
    assert len(results.finished) == 3
    assert results.replica_hours < 10


@pytest.mark.parametrize("fault", ["unschedulable", "queued"])
def test_waiting_for_instances_costs_no_replica_hours(nova, cloud, pairs, fault):
    cloud.script_fault(fault, lasts=36_000)
    sweep = nova.sweep(DPO, beta=[0.05])
    results = sweep.run("betas", pairs, allow=QUIET, max_replica_hours=100, trial_hours=12)
    assert results.replica_hours < 0.1
    assert "at most" not in str(results)
    assert sweep.run("betas", pairs, allow=QUIET).to_rows() == results.to_rows()


def test_a_trial_that_does_not_end_is_stopped_and_the_rest_is_left_out(nova, cloud, pairs):
    cloud.script_fault("unschedulable")
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    results = sweep.run("betas", pairs, allow=QUIET, max_replica_hours=4, trial_hours=1)
    assert [each.status for each in results] == ["failed", "left out"]
    assert "deadline" in results.trials[0].error
    assert results.replica_hours <= 4.01
    assert "at most 4.0 replica-hours" in str(
        results
    )  # it never had an instance, which nobody can tell from not knowing
    assert jobs(nova) == []
    assert "The cap on replica-hours left no room." in str(results)
    with pytest.raises(ConfigurationError, match="No trial of support-dpo finished"):
        results.best(lambda _: 0)


def test_one_failed_trial_does_not_stop_the_others(nova, cloud, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    lost = sweep.plan(pairs, allow=QUIET).plans[0].name
    cloud.script_fault("crash-loop", job=lost)
    results = sweep.run("betas", pairs, allow=QUIET)
    assert [each.status for each in results] == ["in trouble", "finished"]
    assert "does not get on" in results.trials[0].error
    assert results.best(lambda each: -each.values["beta"]).values == {"beta": 0.1}
    assert max(map(len, str(results).splitlines())) <= 80


def test_under_a_cap_a_job_that_does_not_get_on_is_stopped(nova, cloud, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    plan = sweep.plan(pairs, allow=QUIET, max_concurrent=1)
    cloud.script_fault("crash-loop", job=plan.plans[0].name)
    results = plan.run("betas")
    assert [each.status for each in results] == ["in trouble", "finished"]
    assert jobs(nova) == [plan.plans[1].name]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_concurrent": 0}, "1 or more"),
        ({"max_concurrent": 1.5}, r"max_concurrent is 1\.5; it counts jobs"),
        ({"max_concurrent": "2"}, "max_concurrent is '2'; it counts jobs"),
        ({"trial_hours": "6"}, "trial_hours is '6'; give hours"),
        ({"max_replica_hours": -1, "trial_hours": 1}, "above 0"),
        ({"trial_hours": float("inf")}, "above 0"),
        ({"max_replica_hours": 5}, "needs trial_hours"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(nova, pairs, given, says):
    with pytest.raises(ConfigurationError, match=says):
        nova.sweep(DPO, beta=[0.1]).plan(pairs, **given)


def test_a_sweep_is_not_run_on_a_draft_but_its_trials_are_exported(nova, pairs):
    sweep = nova.sweep(DPO, beta=[0.05, 0.1])
    with pytest.raises(ConfigurationError, match=r"start each: chain\.start"):
        StateMachine.of(nova, "betas", lambda chain: sweep.run(chain, pairs))
    machine = StateMachine.of(
        nova, "betas", lambda chain: [chain.start(each.stage, each.recipe, pairs) for each in sweep]
    )
    assert [[each.name for each in group] for group in machine.groups] == [[each.stage for each in sweep]]


def test_what_was_printed_is_sent_or_nothing(nova, pairs):
    plan = nova.sweep(DPO, beta=[0.05, 0.1]).plan(pairs, allow=QUIET)
    lines = pairs.path.read_text(encoding="utf-8").splitlines(keepends=True)
    pairs.path.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(DatasetError, match="changed since it was checked"):
        plan.run("betas")
    assert jobs(nova) == []
    pairs.path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(JobTimeoutError):
        plan.run("betas", timeout=3)
    pairs.path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert len(plan.run("betas").finished) == 2  # what was planned lies in S3 now
    assert jobs(nova) == sorted(each.name for each in plan.plans)


def test_a_trial_is_not_tried_again_on_other_data(nova, cloud, pairs):
    plan = nova.sweep(DPO, beta=[0.05]).plan(pairs, allow=QUIET)
    nova.backend.poll_interval = 300.0
    cloud.script_fault("node-loss", after=5)

    def change(*_):
        pairs.path.write_text("", encoding="utf-8")

    results = plan.run("betas", policy=StagePolicy(retries=1), on_update=change)
    assert "attempt 2 would train on other data" in results.trials[0].error
    assert jobs(nova) == []  # the lost one was stopped all the same


@pytest.mark.parametrize("limits", [{"max_concurrent": 1}, {"max_replica_hours": 12, "trial_hours": 2}])
def test_a_trial_that_was_lost_sight_of_in_an_outage_still_counts(nova, cloud, pairs, limits):
    plan = nova.sweep(DPO, beta=[0.05, 0.1]).plan(pairs, allow=QUIET, **limits)
    first = plan.plans[0].name

    def hide(*_):
        cloud.faults.answer("*", 503, code="SlowDown", target="*betas/*beta-0p05.json", times=2000)

    results = plan.run("betas", on_update=hide)
    assert [each.status for each in results] == ["in trouble", "left out"]
    assert results.trials[1].error == "No room was left beside 1 trial out of sight that may run on. Run it again."
    assert jobs(nova) == [first]
    cloud.faults.clear()
    assert len(plan.run("betas").finished) == 2


def test_a_sweep_runs_on_chains_of_the_place_that_it_was_planned_for(nova, cloud, pairs):
    plan = nova.sweep(DPO, beta=[0.05]).plan(pairs, allow=QUIET)
    jobs_elsewhere = NovaClient(cloud.training_jobs(), output=cloud.output)
    output_elsewhere = NovaClient(nova.backend, output=f"{cloud.output}/other")
    before = len(cloud.requests)
    for client in (jobs_elsewhere, output_elsewhere):
        with pytest.raises(ConfigurationError, match=f"was planned for .*{cloud.output}; chain betas runs on"):
            plan.run(client.chain("betas"))
    assert cloud.requests[before:] == []
    same = NovaClient(cloud.hyperpod(), output=cloud.output)
    assert len(plan.run(same.chain("betas")).finished) == 1


def test_a_diverged_trial_is_not_the_best(nova, pairs, tmp_path):
    results = nova.sweep(DPO, beta=[0.05, 0.08, 0.1]).run("betas", pairs, allow=QUIET)
    scores = {0.05: math.nan, 0.08: 0.5, 0.1: 0.9}
    assert results.best(lambda each: scores[each.values["beta"]]).values == {"beta": 0.1}
    results.plot(tmp_path / "scores.png", lambda each: scores[each.values["beta"]])
    for score, says in (
        (math.nan, "Every score of support-dpo is NaN"),
        (None, r"beta=0\.05 is None"),
        ("1", "is '1'"),
    ):
        for ask in (results.best, functools.partial(results.plot, tmp_path / "none.png")):
            with pytest.raises(ConfigurationError, match=says):
                ask(lambda _, score=score: score)


def test_a_plan_shows_itself_in_a_notebook_and_is_escaped(nova, pairs):
    plan = nova.sweep(DPO, trials=[{"mlflow_run_name": "<b>"}]).plan(pairs)
    assert repr(plan) == "SweepPlan('support-dpo', trials=1, errors=0)"
    told = plan._repr_html_()
    assert told.startswith("<p>sweep of support-dpo: 1 trial</p><table>")
    assert "<b>" not in told
    assert "few-records" in told
    assert told.endswith("<p>0 errors. Nothing was sent; ready to run.</p>")


def test_a_cap_that_no_trial_fits_is_an_error(nova, pairs):
    plan = nova.sweep(DPO, beta=[0.1]).plan(pairs, max_replica_hours=3, trial_hours=1)
    assert [each.code for each in plan.errors] == ["sweep-over-cap"]


def test_data_of_the_wrong_kind_are_refused(nova, chats, pairs):
    with pytest.raises(ConfigurationError, match="trained on a PreferenceDataset"):
        nova.sweep(DPO, beta=[0.1]).plan(chats)
    sft = SFTRecipe(name="sft", model=NovaModel.LITE, replicas=4)
    with pytest.raises(ConfigurationError, match="trained on a ChatDataset"):
        nova.sweep(sft, max_epochs=[1, 2]).plan(pairs)


def test_results_are_drawn_and_their_html_is_escaped(nova, pairs, tmp_path):
    results = nova.sweep(DPO, beta=[0.05, 0.1], max_epochs=[1, 2]).run("betas", pairs, allow=QUIET)
    results.plot(tmp_path / "hours.png")
    results.plot(tmp_path / "scores.png", lambda each: each.values["beta"] * each.values["max_epochs"], "a $score$")
    for name in ("hours.png", "scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        results.plot(tmp_path / "nowhere" / "x.png")
    assert results._repr_html_().count("<tr>") == 5
    named = type(results)("<b>", results.trials)
    assert "<b>" not in named._repr_html_()

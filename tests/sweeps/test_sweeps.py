"""A seeded share of the sweeps; each is a command that does the whole."""

from __future__ import annotations

import crash
import faults
import pytest

pytestmark = pytest.mark.sweep


@pytest.mark.parametrize("kind", ["crash", "race-kill", "race-hold"])
def test_a_share_of_crashes_ends_as_if_nothing_had_been(kind):
    outcomes = list(crash.sweep((kind,), share=4, seed=7))
    assert outcomes
    assert [each for each in outcomes if each.problems] == [], crash.report(outcomes)


@pytest.mark.parametrize(("lasting", "share"), [(False, 10), (True, 2)])
def test_a_share_of_faults_ends_the_same_or_in_one_clear_error(lasting, share):
    outcomes = list(faults.sweep((lasting,), share=share, seed=7))
    assert len(outcomes) == share
    assert [each for each in outcomes if each.problems] == [], faults.report(outcomes)
    unmended = [each for each in outcomes if each.error and not each.lasting and each.fault != "expired"]
    assert unmended == [], faults.report(outcomes)


def test_a_sweep_that_finds_something_says_where():
    found = crash.Outcome("crash", 3, "after", "create pytorchjobs/kubeflow", ("jobs made: 2 instead of 1",), 0.5)
    assert "N = 1 points" in crash.report([found])
    assert "crash after request 3 (create pytorchjobs/kubeflow): jobs made: 2 instead of 1" in crash.report([found])

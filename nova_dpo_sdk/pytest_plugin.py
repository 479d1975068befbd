"""Fixtures for the tests of your own pipeline; pytest finds them by itself.

def test_my_pipeline(nova_local):
    nova = NovaClient(nova_local.hyperpod(), output=nova_local.output)
    nova_local.script_fault("node-loss", lasts=60)
    job = nova.submit(nova.plan(my_recipe, my_pairs))
    assert job.result().uri.startswith("s3://")
"""

# Every pytest run of every project that has this package installed imports this module: so it imports nothing itself.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from nova_dpo_sdk.local import FakeClock, LocalCloud

_MARKER = "nova_local(**arguments): arguments of nova_dpo_sdk.local.LocalCloud for this test's nova_local"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def nova_clock() -> FakeClock:
    """The clock of `nova_local`: 2026-01-01 12:00 UTC, and it moves only when somebody sleeps on it or moves it."""
    from datetime import datetime, timezone

    from nova_dpo_sdk.local import FakeClock

    return FakeClock(datetime(2026, 1, 1, 12, tzinfo=timezone.utc))


@pytest.fixture
def nova_local(request: pytest.FixtureRequest, nova_clock: FakeClock) -> Generator[LocalCloud]:
    """A rehearsal cloud of this test's own: S3, STS, SageMaker, EKS and a cluster on loopback.

    It follows `nova_clock`, so a job that trains for hours ends in no time. `nova_local.script_fault(...)` lets
    something go wrong; the marker `nova_local` passes arguments to the cloud, such as
    `@pytest.mark.nova_local(role="team")`. Markers of a class and of a module add theirs; of two that name the same
    argument, the one that is closest to the test counts.
    """
    from nova_dpo_sdk.errors import ConfigurationError
    from nova_dpo_sdk.local import LocalCloud

    try:
        arguments: dict[str, Any] = {"clock": nova_clock, **_marked(request.node)}
        cloud = LocalCloud(**arguments)
        cloud.start()
    except ConfigurationError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield cloud
    finally:
        cloud.stop()


def _marked(test: pytest.Item) -> dict[str, Any]:
    """The arguments of all markers of a test, the closest ones last."""
    from inspect import signature

    from nova_dpo_sdk.errors import ConfigurationError
    from nova_dpo_sdk.local import LocalCloud

    known = signature(LocalCloud).parameters
    arguments: dict[str, Any] = {}
    for marker in reversed(list(test.iter_markers("nova_local"))):
        wrong = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in known)]
        if wrong:
            raise ConfigurationError(
                f"The marker nova_local takes arguments by name, such as role='team', not {', '.join(wrong)}. "
                f"It knows {', '.join(known)}."
            )
        arguments |= marker.kwargs
    return arguments

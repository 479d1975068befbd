"""Which tests need the SageMaker SDK: `pytest -m sagemaker` runs them alone.

They are skipped where it is missing, unless NOVA_DPO_TEST_SAGEMAKER is set: then they fail.
"""

from __future__ import annotations

import importlib.util
import os

import pytest


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _unless(missing: bool, reason: str) -> pytest.MarkDecorator:
    must_run = bool(os.environ.get("NOVA_DPO_TEST_SAGEMAKER"))
    return pytest.mark.skipif(missing and not must_run, reason=reason)


_SKIPS = {
    "core": _unless(not _is_installed("sagemaker.core"), "needs sagemaker.core (extra `sagemaker`)"),
    "train": _unless(not _is_installed("sagemaker.train"), "needs sagemaker.train of the SageMaker SDK"),
}
needs_sdk = pytest.mark.sagemaker("core")
needs_trainer = pytest.mark.sagemaker("train")
without_sdk = pytest.mark.skipif(_is_installed("sagemaker.core"), reason="the SageMaker SDK is installed")


def skip_what_misses_the_sdk(items: list[pytest.Item]) -> None:
    """Skip every test whose part of the SDK is missing."""
    for item in items:
        for mark in item.iter_markers("sagemaker"):
            item.add_marker(_SKIPS[mark.args[0]])

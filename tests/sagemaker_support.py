"""Which tests need the SageMaker SDK. Where NOVA_DPO_TEST_SAGEMAKER is set, none of them may be skipped."""

from __future__ import annotations

import importlib.util
import os

import pytest


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


HAS_SDK = _is_installed("sagemaker.core")
_MUST_RUN = bool(os.environ.get("NOVA_DPO_TEST_SAGEMAKER"))

needs_sdk = pytest.mark.skipif(
    not (HAS_SDK or _MUST_RUN), reason="needs sagemaker.core of the SageMaker SDK (extra `sagemaker`)"
)
needs_trainer = pytest.mark.skipif(
    not (_is_installed("sagemaker.train") or _MUST_RUN), reason="needs sagemaker.train of the SageMaker SDK"
)
without_sdk = pytest.mark.skipif(HAS_SDK, reason="the SageMaker SDK is installed")

"""The rehearsal cloud: AWS and a HyperPod cluster on loopback, for trying a pipeline without an account."""

from __future__ import annotations

from nova_dpo_sdk._time import FakeClock

from ._agenda import Script
from ._api_faults import API_FAULTS
from ._cloud import LocalCloud
from ._connection import LocalConnection
from ._extra import require_local
from ._hurried_clock import HurriedClock
from ._job_faults import JOB_FAULTS
from ._machines import InstanceGroup
from ._requests import Request
from ._roles import ROLES, Grant, Role
from ._training_faults import TRAINING_FAULTS

__all__ = [
    "API_FAULTS",
    "JOB_FAULTS",
    "ROLES",
    "TRAINING_FAULTS",
    "FakeClock",
    "Grant",
    "HurriedClock",
    "InstanceGroup",
    "LocalCloud",
    "LocalConnection",
    "Request",
    "Role",
    "Script",
    "require_local",
]

"""The rehearsal cloud: AWS and a HyperPod cluster on loopback, for trying a pipeline without an account."""

from __future__ import annotations

from nova_dpo_sdk._time import FakeClock

from ._agenda import Script
from ._cloud import LocalCloud
from ._connection import LocalConnection
from ._machines import InstanceGroup
from ._requests import Request
from ._roles import ROLES, Grant, Role

__all__ = [
    "ROLES",
    "FakeClock",
    "Grant",
    "InstanceGroup",
    "LocalCloud",
    "LocalConnection",
    "Request",
    "Role",
    "Script",
]

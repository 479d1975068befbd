"""What to train on: preference pairs and chats, their rules, and the way to them from other layouts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets._dataset import ChatDataset, Dataset, PreferenceDataset
from nova_dpo_sdk.datasets._report import Problem, Report
from nova_dpo_sdk.datasets._rules import LIMITS, RULES, Limit, Rule

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets._advice import Advice, Recommendation
    from nova_dpo_sdk.datasets._convert import Conversion, ConversionDetail, detect_layout
    from nova_dpo_sdk.datasets._histogram import Distribution
    from nova_dpo_sdk.datasets._images import LocalImage
    from nova_dpo_sdk.datasets._media import MediaPlace
    from nova_dpo_sdk.datasets._profile import Overlap, Profile
    from nova_dpo_sdk.datasets._remote import ByteSource, ByteStore
    from nova_dpo_sdk.datasets._split import Split

__all__ = [
    "LIMITS",
    "RULES",
    "Advice",
    "ByteSource",
    "ByteStore",
    "ChatDataset",
    "Conversion",
    "ConversionDetail",
    "Dataset",
    "Distribution",
    "Limit",
    "LocalImage",
    "MediaPlace",
    "Overlap",
    "PreferenceDataset",
    "Problem",
    "Profile",
    "Recommendation",
    "Report",
    "Rule",
    "Split",
    "detect_layout",
]

_HOMES = {
    "_advice": ("Advice", "Recommendation"),
    "_convert": ("Conversion", "ConversionDetail", "detect_layout"),
    "_histogram": ("Distribution",),
    "_images": ("LocalImage",),
    "_media": ("MediaPlace",),
    "_profile": ("Overlap", "Profile"),
    "_remote": ("ByteSource", "ByteStore"),
    "_split": ("Split",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

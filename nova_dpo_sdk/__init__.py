"""Fine-tune Amazon Nova by preference: recipes and data as values, jobs sent exactly once, checkpoints found again.

Importing the package loads neither boto3 nor pydantic: every public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._defaults import offer
from nova_dpo_sdk._version import __version__

if TYPE_CHECKING:
    from nova_dpo_sdk.backends import Finding as Finding
    from nova_dpo_sdk.backends import JobSnapshot as JobSnapshot
    from nova_dpo_sdk.backends import JobStatus as JobStatus
    from nova_dpo_sdk.backends import Plan as Plan
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend as HyperPodBackend
    from nova_dpo_sdk.backends.hyperpod import HyperPodOptions as HyperPodOptions
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend as TrainingJobBackend
    from nova_dpo_sdk.backends.training_jobs import TrainingJobOptions as TrainingJobOptions
    from nova_dpo_sdk.catalog import Catalog as Catalog
    from nova_dpo_sdk.catalog import NovaModel as NovaModel
    from nova_dpo_sdk.catalog import Platform as Platform
    from nova_dpo_sdk.catalog import Technique as Technique
    from nova_dpo_sdk.chain import Chain as Chain
    from nova_dpo_sdk.client import NovaClient as NovaClient
    from nova_dpo_sdk.datasets import ChatDataset as ChatDataset
    from nova_dpo_sdk.datasets import PreferenceDataset as PreferenceDataset
    from nova_dpo_sdk.errors import NovaError as NovaError
    from nova_dpo_sdk.jobs import Job as Job
    from nova_dpo_sdk.jobs import Patience as Patience
    from nova_dpo_sdk.recipes import Checkpoint as Checkpoint
    from nova_dpo_sdk.recipes import DPORecipe as DPORecipe
    from nova_dpo_sdk.recipes import FullRank as FullRank
    from nova_dpo_sdk.recipes import LoRA as LoRA
    from nova_dpo_sdk.recipes import Nova2SFTRecipe as Nova2SFTRecipe
    from nova_dpo_sdk.recipes import Recipe as Recipe
    from nova_dpo_sdk.recipes import SFTRecipe as SFTRecipe

_HOMES = {
    "backends": ("Finding", "JobSnapshot", "JobStatus", "Plan"),
    "backends.hyperpod": ("HyperPodBackend", "HyperPodOptions"),
    "backends.training_jobs": ("TrainingJobBackend", "TrainingJobOptions"),
    "catalog": ("Catalog", "NovaModel", "Platform", "Technique"),
    "chain": ("Chain",),
    "client": ("NovaClient",),
    "datasets": ("ChatDataset", "PreferenceDataset"),
    "errors": ("NovaError",),
    "jobs": ("Job", "Patience"),
    "recipes": ("Checkpoint", "DPORecipe", "FullRank", "LoRA", "Nova2SFTRecipe", "Recipe", "SFTRecipe"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll] - loaded on first use
    "Catalog",
    "Chain",
    "ChatDataset",
    "Checkpoint",
    "DPORecipe",
    "Finding",
    "FullRank",
    "HyperPodBackend",
    "HyperPodOptions",
    "Job",
    "JobSnapshot",
    "JobStatus",
    "LoRA",
    "Nova2SFTRecipe",
    "NovaClient",
    "NovaError",
    "NovaModel",
    "Patience",
    "Plan",
    "Platform",
    "PreferenceDataset",
    "Recipe",
    "SFTRecipe",
    "Technique",
    "TrainingJobBackend",
    "TrainingJobOptions",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


offer("aws", lambda: importlib.import_module(f"{__name__}.aws").AWS())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

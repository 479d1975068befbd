"""What to train: typed recipes, to and from the YAML that Nova reads."""

from nova_dpo_sdk.recipes._checkpoint import ESCROW_PREFIX, Checkpoint, platform_of
from nova_dpo_sdk.recipes._models import (
    DPORecipe,
    FullRank,
    LoRA,
    Nova2SFTRecipe,
    Recipe,
    SFTRecipe,
    Tuning,
)

__all__ = [
    "ESCROW_PREFIX",
    "Checkpoint",
    "DPORecipe",
    "FullRank",
    "LoRA",
    "Nova2SFTRecipe",
    "Recipe",
    "SFTRecipe",
    "Tuning",
    "platform_of",
]

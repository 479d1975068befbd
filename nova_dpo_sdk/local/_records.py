"""The check that the rehearsed container makes of its training data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets import Dataset


def check_records(body: bytes, *, technique: str, nova2: bool) -> str:
    """Say what is wrong with the first bad line.

    Args:
        body: The data set, JSON Lines.
        technique: `DPO` or `SFT`.
        nova2: Whether the model is Nova 2.

    Returns:
        Line, path and problem; empty when every line is a record of that technique.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.jsonl")
        path.write_bytes(body)
        try:
            report = _dataset(path, technique, nova2=nova2).report(max_details=1)
        except DatasetError:
            return "the data set is empty"
    return str(report.problems[0]) if report.errors else ""


def _dataset(path: Path, technique: str, *, nova2: bool) -> Dataset:
    if technique == "DPO":
        return PreferenceDataset.from_jsonl(path)
    return ChatDataset.from_jsonl(path, nova2=nova2)

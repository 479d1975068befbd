"""What the rehearsed container makes of its training data: the check of its records, and the media they show."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def media_of(body: bytes) -> dict[tuple[str, str], None]:
    """Address and owner of every image, video and document, each once; the owner is empty where none is named.

    Args:
        body: A data set in which every line is good.
    """
    if _MARK not in body:
        return {}
    records = map(_decode, body.splitlines())
    return dict.fromkeys(location for record in records for location in _locations(record["messages"]))


_MARK = b"s3Location"
_decode = msgspec.json.Decoder().decode


def _locations(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for item in (item for message in messages for item in message.get("content", ())):
        for kind in item.keys() & {"image", "video", "document"}:
            location = item[kind]["source"]["s3Location"]
            yield location["uri"], location.get("bucketOwner", "")

"""What the tests of conversion share: converting in one line, and Nova records in short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets._convert import ConversionResult, convert_chats, convert_preferences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = "bedrock-conversation-2024"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return values(path.read_bytes())


def write_lines(path: Path, records: Any, **options: Any) -> Path:
    path.write_bytes(b"".join(json.dumps(record, **options).encode() + b"\n" for record in records))
    return path


def preferences(tmp_path: Path, *records: Any, **options: Any) -> tuple[ConversionResult, list[dict[str, Any]]]:
    """Convert records to pairs; the result, and what was written."""
    return everyway(convert_preferences, tmp_path, records, options)


def chats(tmp_path: Path, *records: Any, **options: Any) -> tuple[ConversionResult, list[dict[str, Any]]]:
    """Convert records to conversations; the result, and what was written."""
    return everyway(convert_chats, tmp_path, records, options)


def everyway(
    convert: Callable[..., ConversionResult], tmp_path: Path, records: Any, options: dict[str, Any]
) -> tuple[ConversionResult, list[dict[str, Any]]]:
    """Convert by the exact way, and from memory and files, which take the fast lane: all must agree."""
    to = tmp_path / "made.jsonl"
    result = convert(list(records), to, **options)
    made = to.read_bytes()
    if result.layout.startswith("nova"):
        return result, read_lines(to)
    assert convert(map(exactly, records), to, **options) == result
    assert to.read_bytes() == made
    for file in files(tmp_path, records):
        again = convert(file, to, **options)
        # What the source escapes stays escaped on the fast lane; the values are the same.
        same = to.read_bytes() == made or (file.stem == "escaped" and values(to.read_bytes()) == values(made))
        assert same, file
        assert again == result, file
    return result, read_lines(to)


def exactly(record: Any) -> Any:
    """The same record with something in it that no layout reads and JSON cannot hold: no fast lane takes it."""
    return record | {"of no use": object()} if isinstance(record, dict) else record


def values(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def files(tmp_path: Path, records: Any) -> list[Path]:
    """The records as JSONL and as an array, with characters escaped and as they are."""
    made = [write_lines(tmp_path / "escaped.jsonl", records)]
    (tmp_path / "escaped.json").write_text(json.dumps(records, indent=2))
    made.append(tmp_path / "escaped.json")
    try:
        made.append(write_lines(tmp_path / "plain.jsonl", records, ensure_ascii=False, separators=(",", ":")))
        (tmp_path / "plain.json").write_bytes(json.dumps(records, ensure_ascii=False).encode())
        made.append(tmp_path / "plain.json")
    except UnicodeEncodeError:  # half a pair cannot be written plainly
        made = made[:2]
    return made


def pair(prompt: str | list[str], good: str, bad: str, system: str | None = None) -> dict[str, Any]:
    """A Nova preference record; a list of texts is said by user and assistant in turn."""
    said = [prompt] if isinstance(prompt, str) else prompt
    candidates = [
        {"content": [{"text": good}], "preferenceLabel": "preferred"},
        {"content": [{"text": bad}], "preferenceLabel": "non-preferred"},
    ]
    return _record(system, [*turns(said), {"role": "assistant", "candidates": candidates}])


def chat(*said: str, system: str | None = None) -> dict[str, Any]:
    return _record(system, turns(said))


def turns(said: Any) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": [{"text": text}]} for at, text in enumerate(said)]


def _record(system: str | None, messages: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"schemaVersion": VERSION} | ({"system": [{"text": system}]} if system else {})
    return head | {"messages": messages}

"""Small valid records, and ways to change them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, Any]


def image(uri: str = "s3://my-bucket/img/a.png", **changes: Any) -> Record:
    location = {"uri": uri, "bucketOwner": "111122223333"}
    return {"image": {"format": "png", "source": {"s3Location": location}, **changes}}


def video(uri: str = "s3://my-bucket/v/a.mp4", **changes: Any) -> Record:
    location = {"uri": uri, "bucketOwner": "111122223333"}
    return {"video": {"format": "mp4", "source": {"s3Location": location}, **changes}}


def document(uri: str = "s3://my-bucket/d/a.pdf", **changes: Any) -> Record:
    location = {"uri": uri, "bucketOwner": "111122223333"}
    return {"document": {"format": "pdf", "name": "a", "source": {"s3Location": location}, **changes}}


def candidate(text: str, label: str) -> Record:
    return {"content": [{"text": text}], "preferenceLabel": label}


def pair(prompt: str = "What is the capital of France?", good: str = "Paris.", poor: str = "Lyon.") -> Record:
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "Hello"}]},
            {"role": "assistant", "content": [{"text": "Hello, how can I help?"}]},
            {"role": "user", "content": [{"text": prompt}]},
            {
                "role": "assistant",
                "candidates": [candidate(good, "preferred"), candidate(poor, "non-preferred")],
            },
        ],
    }


def chat(prompt: str = "What is the capital of France?", answer: str = "Paris.") -> Record:
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": prompt}]},
            {"role": "assistant", "content": [{"text": answer}]},
        ],
    }


def tool_chat() -> Record:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    spec = {"name": "weather", "description": "Tells the weather", "inputSchema": {"json": schema}}
    return {
        "toolConfig": {"tools": [{"toolSpec": spec}]},
        "messages": [
            {"role": "user", "content": [{"text": "Weather in Paris?"}]},
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "I should look."}}},
                    {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Paris"}}},
                ],
            },
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"sky": "blue"}}]}}]},
            {"role": "assistant", "content": [{"text": "The sky is blue."}]},
        ],
    }


def changed(record: Record, *changes: Callable[[Record], Any]) -> Record:
    record = copy.deepcopy(record)
    for change in changes:
        change(record)
    return record


def put(value: Any, *path: str | int) -> Callable[[Record], None]:
    """A change that sets what stands at `path`."""

    def change(record: Any) -> None:
        for step in path[:-1]:
            record = record[step]
        if isinstance(record, list) and path[-1] == len(record):
            record.append(value)
        else:
            record[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Record], None]:
    """A change that removes what stands at `path`."""

    def change(record: Any) -> None:
        for step in path[:-1]:
            record = record[step]
        del record[path[-1]]

    return change


def line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def write(path: Path, *records: Any) -> Path:
    """Write records, or lines that are bytes already, to a file."""
    path.write_bytes(b"".join(item if isinstance(item, bytes) else line(item) for item in records))
    return path

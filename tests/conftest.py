from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import pytest
from sagemaker_support import skip_what_misses_the_sdk

from nova_dpo_sdk import ChatDataset, NovaClient, PreferenceDataset
from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_what_misses_the_sdk(items)


@pytest.fixture(scope="module", autouse=True)
def old_objects_are_left_alone() -> Iterator[None]:
    """Look for garbage only among the objects that a module's own tests have made.

    moto and botocore load half a million objects that live as long as the process; looking through all of them again
    and again took a fifth of the time of tests with a rehearsal cloud.
    """
    gc.collect()  # so that what a module has left unclosed is told, and not frozen
    gc.freeze()
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, 10 * old)
    yield
    gc.set_threshold(young, middle, old)


def chat(question: str, answer: str) -> dict[str, Any]:
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [
            {"role": "user", "content": [{"text": question}]},
            {"role": "assistant", "content": [{"text": answer}]},
        ],
    }


def pair(question: str, preferred: str, rejected: str) -> dict[str, Any]:
    labelled = ((preferred, "preferred"), (rejected, "non-preferred"))
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [
            {"role": "user", "content": [{"text": question}]},
            {
                "role": "assistant",
                "candidates": [{"content": [{"text": text}], "preferenceLabel": label} for text, label in labelled],
            },
        ],
    }


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, Iterable[Any]], Path]:
    def write(name: str, records: Iterable[Any]) -> Path:
        path = tmp_path / name
        lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def chats(write_jsonl: Callable[[str, Iterable[Any]], Path]) -> ChatDataset:
    return ChatDataset.from_jsonl(
        write_jsonl("chats.jsonl", (chat(f"Question {n}?", f"Answer {n}.") for n in range(70)))
    )


@pytest.fixture
def pairs(write_jsonl: Callable[[str, Iterable[Any]], Path]) -> PreferenceDataset:
    return PreferenceDataset.from_jsonl(
        write_jsonl(
            "pairs.jsonl", (pair(f"Question {n}?", f"Kind answer {n}.", f"Rude answer {n}.") for n in range(70))
        )
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterable[LocalCloud]:
    with LocalCloud(clock=clock) as running:
        yield running


@pytest.fixture
def nova(cloud: LocalCloud) -> NovaClient:
    return NovaClient(cloud.hyperpod(), output=cloud.output)

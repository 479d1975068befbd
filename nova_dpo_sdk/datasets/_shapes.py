"""The shapes of clean records, for the quick look: what does not fit one of these is left to the exact diagnosis.

Texts stay as the file has them (`Raw`). Optional keys have `UNSET`, not None, for a default: null is not absence.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

NO_TEXT = Raw()
"""Stands where an item has no text."""


class Text(Struct, forbid_unknown_fields=True, gc=False):
    """`{"text": ...}`."""

    text: Raw


class Location(Struct, forbid_unknown_fields=True, gc=False):
    """Where a file is in S3."""

    uri: Raw
    bucketOwner: str  # noqa: N815 - Nova's name


class Source(Struct, forbid_unknown_fields=True, gc=False):
    """The source of a file."""

    s3Location: Location  # noqa: N815 - Nova's name


class Image(Struct, forbid_unknown_fields=True, gc=False):
    """An image."""

    format: Literal["jpeg", "png", "gif", "webp"]
    source: Source


class Video(Struct, forbid_unknown_fields=True, gc=False):
    """A video."""

    format: Literal["mov", "mkv", "mp4", "webm"]
    source: Source


class Reasoning(Struct, forbid_unknown_fields=True, gc=False, rename={"inner": "reasoningText"}):
    """What the model thought."""

    inner: Text


class Item(Struct, forbid_unknown_fields=True, gc=False):
    """A content item of a preference record."""

    text: Raw = NO_TEXT
    image: Image | UnsetType = UNSET


class ChatItem(Struct, forbid_unknown_fields=True, gc=False, rename={"reasoning": "reasoningContent"}):
    """A content item of a chat."""

    text: Raw = NO_TEXT
    image: Image | UnsetType = UNSET
    video: Video | UnsetType = UNSET
    reasoning: Reasoning | UnsetType = UNSET


class Candidate(Struct, forbid_unknown_fields=True, gc=False, rename={"label": "preferenceLabel"}):
    """One of the two answers of a preference record."""

    content: list[Text]
    label: Literal["preferred", "non-preferred"]


class Turn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of a preference record."""

    role: Literal["user", "assistant"]
    content: list[Item] | UnsetType = UNSET
    candidates: tuple[Candidate, Candidate] | UnsetType = UNSET


class ChatTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of a chat."""

    role: Literal["user", "assistant"]
    content: list[ChatItem]


class PlainCandidate(Struct, forbid_unknown_fields=True, gc=False, rename={"label": "preferenceLabel"}):
    """A candidate of one text."""

    content: tuple[Text]
    label: Literal["preferred", "non-preferred"]


class PlainTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of a preference record, of one text."""

    role: Literal["user", "assistant"]
    content: tuple[Text] | UnsetType = UNSET
    candidates: tuple[PlainCandidate, PlainCandidate] | UnsetType = UNSET


class PlainChatTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of a chat, of one text."""

    role: Literal["user", "assistant"]
    content: tuple[Text]


class PlainPair(
    Struct, forbid_unknown_fields=True, gc=False, kw_only=True, omit_defaults=True, rename={"version": "schemaVersion"}
):
    """A preference record in which every turn and candidate is one text, as nearly all are.

    Its system is not looked at: nearly always, all records have the same.
    """

    version: Literal["bedrock-conversation-2024"] | UnsetType = UNSET
    system: Raw = NO_TEXT
    messages: list[PlainTurn]


class PlainChat(
    Struct, forbid_unknown_fields=True, gc=False, kw_only=True, omit_defaults=True, rename={"version": "schemaVersion"}
):
    """A chat in which every turn is one text; its system is not looked at."""

    version: Literal["bedrock-conversation-2024"] | UnsetType = UNSET
    system: Raw = NO_TEXT
    messages: list[PlainChatTurn]


class Pair(Struct, forbid_unknown_fields=True, gc=False, rename={"version": "schemaVersion"}):
    """A preference record."""

    messages: list[Turn]
    system: tuple[Text] | UnsetType = UNSET
    version: Literal["bedrock-conversation-2024"] | UnsetType = UNSET


class Chat(Struct, forbid_unknown_fields=True, gc=False, rename={"version": "schemaVersion"}):
    """A chat."""

    messages: list[ChatTurn]
    system: tuple[Text] | UnsetType = UNSET
    version: Literal["bedrock-conversation-2024"] | UnsetType = UNSET

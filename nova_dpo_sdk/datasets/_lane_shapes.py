"""What plain records of the usual layouts look like, for the fast lanes of conversion.

A field that needs care has a type that nothing fits, so that msgspec refuses the record. Texts stay as the source has
them (`Raw`).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

ABSENT = Raw(b"")
"""Stands for a field that the record does not have."""

Empty: TypeAlias = Annotated[list[int], Meta(max_length=0)]
Role: TypeAlias = Literal["user", "human", "assistant", "gpt", "system"]
Answerer: TypeAlias = Literal["assistant", "gpt"]


class Base(Struct, gc=False):
    images: Empty | None = None
    image: None = None
    videos: Empty | None = None
    audios: Empty | None = None
    tools: Empty | None = None


class Plain(Base, gc=False):
    system: UnsetType = UNSET


class Scored(Base, gc=False):
    status: Literal["unchanged", "swapped"] | None = None
    score_chosen: float | None = None
    score_rejected: float | None = None
    chosen_score: float | None = None
    rejected_score: float | None = None
    chosen_rating: float | None = None
    rejected_rating: float | None = None

    def is_tie(self) -> bool:
        """Whether two scores are the same."""
        return (
            (self.score_chosen is not None and self.score_chosen == self.score_rejected)
            or (self.chosen_score is not None and self.chosen_score == self.rejected_score)
            or (self.chosen_rating is not None and self.chosen_rating == self.rejected_rating)
        )


class Unscored(Base, gc=False):
    status: None = None
    score_chosen: None = None
    chosen_score: None = None
    chosen_rating: None = None


class Message(Struct, gc=False):
    role: Role
    content: Raw
    tool_calls: None = None
    function_call: None = None


class Answer(Struct, gc=False):
    role: Answerer
    content: Raw
    tool_calls: None = None
    function_call: None = None


class Said(Struct, gc=False):
    role: Role = msgspec.field(name="from")
    content: Raw = msgspec.field(name="value")
    other_role: UnsetType = msgspec.field(name="role", default=UNSET)
    other_content: UnsetType = msgspec.field(name="content", default=UNSET)
    tool_calls: None = None
    function_call: None = None


class SaidAnswer(Struct, gc=False):
    role: Answerer = msgspec.field(name="from")
    content: Raw = msgspec.field(name="value")
    other_role: UnsetType = msgspec.field(name="role", default=UNSET)
    other_content: UnsetType = msgspec.field(name="content", default=UNSET)
    tool_calls: None = None
    function_call: None = None


class Texts(Unscored, kw_only=True, gc=False):
    prompt: Raw
    chosen: Raw
    rejected: Raw
    system: UnsetType = UNSET


class SystemTexts(Unscored, kw_only=True, gc=False):
    system: Raw
    prompt: Raw
    chosen: Raw
    rejected: Raw


class TwoTexts(Unscored, kw_only=True, gc=False):
    chosen: Raw
    rejected: Raw
    system: UnsetType = UNSET
    prompt: None = None
    input: None = None
    question: None = None


class Transcripts(Plain, kw_only=True, gc=False):
    chosen: Raw
    rejected: Raw


class Orca(Scored, kw_only=True, gc=False):
    system: Raw
    chosen: Raw
    rejected: Raw
    prompt: None = None
    input: Raw = ABSENT
    question: Raw = ABSENT


class Sides(Scored, kw_only=True, gc=False):
    chosen: list[Message]
    rejected: list[Message]
    prompt: Raw = ABSENT
    input: None = None
    question: None = None
    system: UnsetType = UNSET


class Lists(Unscored, kw_only=True, gc=False):
    prompt: list[Message]
    chosen: tuple[Answer]
    rejected: tuple[Answer]
    system: UnsetType = UNSET


class ScoredLists(Scored, kw_only=True, gc=False):
    prompt: list[Message]
    chosen: tuple[Answer]
    rejected: tuple[Answer]
    system: UnsetType = UNSET


class TwoLists(Plain, kw_only=True, gc=False):
    chosen: list[Message] = msgspec.field(name="chosen_messages")
    rejected: list[Message] = msgspec.field(name="rejected_messages")


class Ranked(Unscored, kw_only=True, gc=False):
    conversations: list[Said]
    chosen: SaidAnswer
    rejected: SaidAnswer
    system: UnsetType = UNSET


class Asked(Plain, kw_only=True, gc=False):
    messages: list[Message]


class Preferred(Struct, gc=False):
    input: Asked
    preferred_output: tuple[Answer]
    non_preferred_output: tuple[Answer]


class Responses(Plain, kw_only=True, gc=False):
    messages: list[Message]
    chosen: Answer = msgspec.field(name="chosen_response")
    rejected: Answer = msgspec.field(name="rejected_response")


class RejectedText(Plain, kw_only=True, gc=False):
    messages: list[Message]
    rejected_response: Raw


class RejectedMessage(Plain, kw_only=True, gc=False):
    messages: list[Message]
    rejected_message: Answer


class RejectedMessages(Plain, kw_only=True, gc=False):
    messages: list[Message]
    rejected_messages: list[Message]


class HelpSteer2(Plain, kw_only=True, gc=False):
    prompt: Raw
    response_1: Raw
    response_2: Raw
    preference_strength: float


class HelpSteer3(Plain, kw_only=True, gc=False):
    context: list[Message]
    response1: Raw
    response2: Raw
    overall_preference: float


class Alpaca(Base, kw_only=True, gc=False):
    instruction: Raw
    output: Raw
    input: Raw = ABSENT
    history: Empty = []
    system: Raw = ABSENT


class AlpacaRanked(Unscored, kw_only=True, gc=False):
    instruction: Raw
    chosen: Raw
    rejected: Raw
    input: Raw = ABSENT
    history: Empty = []
    system: Raw = ABSENT


class Messages(Plain, kw_only=True, gc=False):
    messages: list[Message]


class Conversations(Plain, kw_only=True, gc=False):
    conversations: list[Said]


class Completion(Plain, kw_only=True, gc=False):
    prompt: Raw
    completion: Raw


class Completions(Plain, kw_only=True, gc=False):
    prompt: list[Message]
    completion: list[Message]

"""From the messages of any source to turns that Nova takes: what is mended, and what is dropped, by named rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from nova_dpo_sdk.datasets._exact import reserved_words
from nova_dpo_sdk.datasets._rules import LIMITS, RESERVED_WORDS, SCHEMA_VERSION
from nova_dpo_sdk.datasets._search import finder
from nova_dpo_sdk.datasets._sources import is_list, is_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DROPS: Mapping[str, str] = {
    "broken-json": "The row is not JSON.",
    "not-utf8": "The row is not UTF-8.",
    "nested-too-deep": "The row is nested too deeply to be a record.",
    "not-an-object": "The row is JSON, but no object.",
    "missing-field": "A field that the layout needs is missing or null.",
    "not-text": "Something that should be a text or a message is not.",
    "tie": "Neither answer is preferred.",
    "equal-pair": "Both answers are the same text.",
    "empty-candidate": "An answer has no text.",
    "empty-turn": "A turn has no text.",
    "no-prompt": "There is no user turn before the answers.",
    "no-answer": "The conversation does not end with an answer of the assistant.",
    "prompt-ends-with-assistant": "The answers continue a turn that the assistant began; Nova has no place for that.",
    "contexts-differ": "The two sides differ before the last turn.",
    "tool-turn": "A turn calls a tool or answers such a call, which Nova 1 preference and chat data cannot hold.",
    "unknown-role": "A turn has a role that is none of user, assistant and system.",
    "image-not-in-s3": "An image is given by URL, by path or as bytes; Nova reads images from S3 only.",
    "image-places": "There are `<image>` places in the texts, but not as many as images.",
    "media-not-supported": "A turn has audio, video or a document.",
    "lone-surrogate": "A text has half of a UTF-16 pair, which UTF-8 cannot write.",
    "source-too-long": "The line in the source has more than 32 MiB, which no record needs.",
    "line-too-long": "The record would take more than 4 MiB, which no context of Nova holds.",
    "reserved-word": "A text has a word that Nova's training reserves for itself.",
    "bad-record": "The record is in Nova's own layout and breaks a rule of it.",
}
"""Why a record is left out: one sentence for each rule."""

MENDS: Mapping[str, str] = {
    "null-field": "A field that may be missing is null; it is taken as missing.",
    "empty-system": "The system text is empty; it is left out.",
    "system-merged": "Several or late system messages were joined into one, with a blank line between them.",
    "same-role-merged": "Turns of the same role in a row were joined, with a blank line between them.",
    "leading-assistant": "The turns of the assistant before the first user turn were left out.",
    "trailing-user": "The user turn after the last answer was left out.",
    "tie-kept": "Neither answer is preferred; of a conversation, the one that stands as chosen was kept.",
    "no-rejected": "The answer that is not chosen is missing; a conversation needs none.",
    "empty-part": "An empty part of a message was left out.",
    "tools-to-system": "The definitions of the tools were written into the system text.",
    "image-placed": "Local images were put in their places in the user's turns, because `local_images` asked for it.",
    "reserved-prefix": "A reserved word at the start of a line was removed, because `clean_reserved` asked for it.",
}
"""What was changed about a record that was kept: one sentence for each rule."""

_reserved = finder([word.encode() for word in RESERVED_WORDS])
_SPEAKER = "|".join(re.escape(word) for word in RESERVED_WORDS if word.endswith(":"))
_PREFIX = re.compile(rf"^([ \t]*(?:\d+\.[ \t]*)?)(?:(?:{_SPEAKER})[ \t]*)+", re.MULTILINE)

ROLES: Mapping[str, str] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "function_call": "tool",
    "function_response": "tool",
    "tool_call": "tool",
    "tool_calls": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}

_IMAGES = frozenset({"image", "image_url", "input_image"})
_MEDIA = frozenset({"audio", "input_audio", "audio_url", "video", "video_url", "file", "input_file", "document"})

Message: TypeAlias = "tuple[str, Any]"
"""A role in the source's own word, and whatever the source has as content."""


class Drop(Exception):  # noqa: N818 - a signal between layers, never seen by users
    """This record is left out.

    Attributes:
        code: The rule, a key of `DROPS`.
        what: What it was about this record; empty when the rule says it all.
    """

    def __init__(self, code: str, what: str = "") -> None:
        self.code = code
        self.what = what
        super().__init__(code)


@dataclass
class Notes:
    """What is allowed for one record, and what was mended about it.

    Attributes:
        clean_reserved: Whether reserved words at the start of a line are removed.
        mended: For each rule that applied, what it was about.
        local_images: Whether images that are named by a local path are kept.
        images: The paths of such images of this record.
        chosen_only: Whether only the chosen side of a pair is asked for.
    """

    clean_reserved: bool = False
    mended: dict[str, str] = field(default_factory=dict[str, str])
    local_images: bool = False
    images: list[str] = field(default_factory=list[str])
    chosen_only: bool = False

    def mend(self, code: str, what: str = "") -> None:
        """Note that a rule changed this record."""
        self.mended.setdefault(code, what)


class Pair(NamedTuple):
    """One preference: what was said before, and the two sides as lists of messages."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class Chat(NamedTuple):
    """One conversation."""

    messages: list[Message]


class Turn(NamedTuple):
    """One turn as Nova takes it: a role and its texts."""

    role: str
    texts: list[str]

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing."""
        said = "".join(self.texts)
        return not said or said.isspace()


class Talk(NamedTuple):
    """The system text and the turns of one conversation."""

    system: str
    turns: list[Turn]


Heard: TypeAlias = "tuple[list[str], list[Turn]]"
"""The texts of the system messages so far, and the turns so far."""


# --- records ----------------------------------------------------------------------------------------------------


def preference_record(pair: Pair, notes: Notes) -> dict[str, Any]:
    """The Nova DPO record of a pair.

    Raises:
        Drop: If it cannot be one.
    """
    _refuse_prefill(pair)
    before, said = _heard(pair.prompt, notes), len(pair.prompt)
    chosen = _talk(_heard(pair.chosen, notes, before, said), notes)
    rejected = _talk(_heard(pair.rejected, notes, before, said), notes)
    good, bad = _answer(chosen), _answer(rejected)
    if chosen.system != rejected.system or chosen.turns[:-1] != rejected.turns[:-1]:
        raise Drop("contexts-differ")
    if good.is_blank or bad.is_blank:
        raise Drop("empty-candidate", f"the {'preferred' if good.is_blank else 'non-preferred'} answer")
    if "".join(good.texts) == "".join(bad.texts):
        raise Drop("equal-pair")
    candidates = [
        {"content": _content(good), "preferenceLabel": "preferred"},
        {"content": _content(bad), "preferenceLabel": "non-preferred"},
    ]
    return _record(chosen.system, chosen.turns[:-1], {"role": "assistant", "candidates": candidates})


def chat_record(source: Chat | Pair, notes: Notes) -> dict[str, Any]:
    """The Nova SFT record of a conversation, or of the chosen side of a pair.

    Raises:
        Drop: If it cannot be one.
    """
    messages = source.messages if isinstance(source, Chat) else source.prompt + source.chosen
    talk = _talk(_heard(messages, notes), notes)
    if isinstance(source, Chat) and talk.turns and talk.turns[-1].role == "user":
        notes.mend("trailing-user")
        talk = Talk(talk.system, talk.turns[:-1])
    answer = _answer(talk)
    if answer.is_blank:
        raise Drop("empty-turn", "the last answer")
    return _record(talk.system, talk.turns[:-1], {"role": "assistant", "content": _content(answer)})


def _record(system: str, turns: Sequence[Turn], last: dict[str, Any]) -> dict[str, Any]:
    if not turns:
        raise Drop("no-prompt")
    for number, turn in enumerate(turns, 1):
        if turn.is_blank:
            raise Drop("empty-turn", f"turn {number} ({turn.role})")
    messages = [{"role": turn.role, "content": _content(turn)} for turn in turns]
    head: dict[str, Any] = {"schemaVersion": SCHEMA_VERSION}
    if system:
        head["system"] = [{"text": system}]
    return {**head, "messages": [*messages, last]}


def _content(turn: Turn) -> list[dict[str, str]]:
    return [{"text": text} for text in turn.texts]


def _answer(talk: Talk) -> Turn:
    if not talk.turns or talk.turns[-1].role != "assistant":
        raise Drop("no-answer")
    return talk.turns[-1]


def _refuse_prefill(pair: Pair) -> None:
    if pair.prompt and ROLES.get(pair.prompt[-1][0].lower()) == "assistant":
        raise Drop("prompt-ends-with-assistant")


# --- turns ------------------------------------------------------------------------------------------------------


def _heard(messages: Sequence[Message], notes: Notes, before: Heard = ([], []), said: int = 0) -> Heard:
    """The texts of the system messages, and turns that alternate, of messages after those that were heard before.

    Raises:
        Drop: If a message cannot be a turn.
    """
    systems, turns = list(before[0]), list(before[1])
    for number, (name, content) in enumerate(messages, said + 1):
        role = _role(name, number)
        texts = _texts(content, notes, number)
        if role == "system":
            _add_system(systems, texts, notes, late=bool(turns))
        elif turns and turns[-1].role == role:
            notes.mend("same-role-merged", f"message {number} ({role})")
            turns[-1] = Turn(role, _joined(turns[-1].texts, texts))
        else:
            turns.append(Turn(role, texts))
    return systems, turns


def _talk(heard: Heard, notes: Notes) -> Talk:
    """Turns that begin with the user, and one system text."""
    systems, turns = heard
    if len(turns) > 1 and turns[0].role == "assistant":
        notes.mend("leading-assistant")
        del turns[0]
    return Talk("\n\n".join(systems), turns)


def _add_system(systems: list[str], texts: list[str], notes: Notes, *, late: bool) -> None:
    text = "\n\n".join(texts)
    if not text.strip():
        notes.mend("empty-system")
        return
    if systems or late:
        notes.mend("system-merged")
    systems.append(text)


def _joined(before: list[str], after: list[str]) -> list[str]:
    return [*before[:-1], f"{before[-1]}\n\n{after[0]}", *after[1:]]


def _role(name: str, number: int) -> str:
    role = ROLES.get(name.lower())
    if role is None:
        raise Drop("unknown-role", f"message {number} has the role {_shown(name)}")
    if role == "tool":
        raise Drop("tool-turn", f"message {number} has the role {_shown(name)}")
    return role


def _texts(content: Any, notes: Notes, number: int) -> list[str]:
    if isinstance(content, str):
        return [cleaned(content, notes, number)]
    if content is None:
        raise Drop("missing-field", f"message {number} has no content")
    parts = [content] if is_record(content) else content
    if not is_list(parts):
        raise Drop("not-text", f"the content of message {number} is {_shown(content)}")
    texts = [_part(part, number) for part in parts]
    kept = [cleaned(text, notes, number) for text in texts if text]
    if kept and len(kept) < len(texts):
        notes.mend("empty-part", f"message {number}")
    return kept or [""]


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    if not is_record(part):
        raise Drop("not-text", f"a part of message {number} is {_shown(part)}")
    kind = part.get("type")
    _refuse_media(kind if isinstance(kind, str) else "", part, number)
    text = next((part[key] for key in ("text", "value", "content") if part.get(key) is not None), None)
    if not isinstance(text, str):
        raise Drop("not-text", f"a part of message {number} has no text")
    return text


def _refuse_media(kind: str, fields: Mapping[str, Any], number: int) -> None:
    named = {kind, *(key for key, value in fields.items() if value is not None)}
    if named & _IMAGES:
        raise Drop("image-not-in-s3", f"message {number}")
    if named & _MEDIA:
        raise Drop("media-not-supported", f"message {number}")
    if kind in {"tool_use", "tool_result", "tool_call", "function_call"}:
        raise Drop("tool-turn", f"message {number}")


def cleaned(text: str, notes: Notes, number: int) -> str:
    """A text without reserved words where they begin a line, if that was asked for."""
    if not notes.clean_reserved:
        return text
    rest = _PREFIX.sub(r"\1", text)
    if rest != text:
        notes.mend("reserved-prefix", f"message {number}" if number else "the system text")
    return rest


_ENCODER = msgspec.json.Encoder()


def encoded(record: Mapping[str, Any]) -> bytes:
    """The record as one line of JSON.

    Raises:
        Drop: JSON cannot hold it.
    """
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        raise Drop("lone-surrogate") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise Drop("not-text", str(error)) from None


def refuse_line(line: bytes, record: Mapping[str, Any]) -> None:
    """Refuse a finished record that is too long, or in which a reserved word is left.

    Raises:
        Drop: `line-too-long` or `reserved-word`.
    """
    if len(line) >= LIMITS["line-bytes"].value:
        raise Drop("line-too-long", f"{len(line):,} bytes")
    if not _reserved(line):
        return
    for text in _texts_of(record):
        words, _ = reserved_words(text)
        if words:
            raise Drop("reserved-word", ", ".join(words))


def _texts_of(record: Mapping[str, Any]) -> Iterator[str]:
    *turns, last = record["messages"]
    contents = [turn["content"] for turn in turns]
    contents += [answer["content"] for answer in last.get("candidates", [last])]
    for content in [record.get("system", ()), *contents]:
        for item in content:
            yield item.get("text", "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

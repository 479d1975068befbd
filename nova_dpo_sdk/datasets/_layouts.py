"""The layouts in which people keep their data: how each is recognised, and how a record of it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nova_dpo_sdk.datasets._local_images import are_local
from nova_dpo_sdk.datasets._mend import ROLES, Chat, Drop, Message, Notes, Pair
from nova_dpo_sdk.datasets._sources import is_list, is_record

if TYPE_CHECKING:
    from collections.abc import Callable

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        name: Its stable name; what `layout=` takes.
        kind: `preference` or `chat`. Preference data can be read as chats, from the chosen side.
        shape: Its keys in words.
        fits: Whether a record has this layout.
        read: Makes a pair or a chat of a record; raises `Drop`. None: Nova's own layout, of which good records are
            copied.
        rules: The rules of its own that may drop or mend a record, besides those that every layout shares.
    """

    name: str
    kind: str
    shape: str
    fits: Callable[[Record], bool]
    read: Callable[[Record, Notes], Pair | Chat] | None
    rules: tuple[str, ...] = ()


def detect(records: Sequence[Record]) -> Layout | None:
    """The layout that fits most of the records; the first in the table where several fit as many."""
    counts = {layout.name: 0 for layout in LAYOUTS}
    for record in records:
        if layout := next((layout for layout in LAYOUTS if layout.fits(record)), None):
            counts[layout.name] += 1
    best = max(counts, key=lambda name: counts[name])
    return BY_NAME[best] if counts[best] else None


# --- reading fields ---------------------------------------------------------------------------------------------


def _has(record: Record, *keys: str) -> bool:
    return None not in map(record.get, keys)


def _needed(record: Record, key: str) -> Any:
    value = record.get(key)
    if value is None:
        raise Drop("missing-field", f"{key} is {'null' if key in record else 'missing'}")
    return value


def _text(record: Record, key: str) -> str:
    value = _needed(record, key)
    if not isinstance(value, str):
        raise Drop("not-text", f"{key} is a {type(value).__name__}")
    return value


def _optional(record: Record, key: str, notes: Notes) -> Any:
    value = record.get(key)
    if value is None and key in record:
        notes.mend("null-field", key)
    return value


def _optional_text(record: Record, key: str, notes: Notes) -> str:
    value = _optional(record, key, notes)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Drop("not-text", f"{key} is a {type(value).__name__}")
    return value


def _message(value: Any) -> Message:
    if not is_record(value):
        raise Drop("not-text", f"a message is a {type(value).__name__}")
    fields = value
    if fields.get("tool_calls") or fields.get("function_call"):
        raise Drop("tool-turn", "a message has tool_calls")
    role = _either(fields, "role", "from")
    if not isinstance(role, str):
        raise Drop("missing-field", "a message has no role")
    return role, _either(fields, "content", "value")


def _either(record: Record, one: str, other: str) -> Any:
    value = record.get(one)
    return record.get(other) if value is None else value


def _messages(value: Any, alone: str = "user") -> list[Message]:
    """Messages from a list of them, from one, or from a text, which is then said by `alone`."""
    if isinstance(value, str):
        return [(alone, value)]
    if is_list(value):
        return [_message(item) for item in value]
    if is_record(value):
        return [_message(value)]
    raise Drop("not-text", f"the messages are of type {type(value).__name__}")


def _side(record: Record, key: str) -> list[Message]:
    return _messages(_needed(record, key), "assistant")


def _head(record: Record, notes: Notes) -> list[Message]:
    """The system messages that a record keeps beside the conversation; refuses what cannot be kept at all."""
    for key, code in _ATTACHMENTS.items():
        if not record.get(key):
            continue
        local = key == "images" and are_local(record[key])
        if not local or not notes.local_images:
            raise Drop(code, f"{key}: local paths, which convert(..., local_images=True) keeps" if local else key)
        notes.images = record[key]
    head: list[Message] = []
    if (system := _optional(record, "system", notes)) is not None:
        head += [("system", system)]
    return head + _tools(record, notes)


_ATTACHMENTS = {
    "images": "image-not-in-s3",
    "image": "image-not-in-s3",
    "videos": "media-not-supported",
    "audios": "media-not-supported",
}


def _tools(record: Record, notes: Notes) -> list[Message]:
    tools = record.get("tools")
    if not tools or tools == "[]":
        return []
    notes.mend("tools-to-system")
    each: list[Any] = tools if is_list(tools) else [tools]
    try:
        lines = [tool if isinstance(tool, str) else json.dumps(tool, ensure_ascii=False) for tool in each]
    except (TypeError, ValueError) as error:
        raise Drop("not-text", f"tools: {error}") from None
    return [("system", "\n".join(["You can call these tools:", "<tools>", *lines, "</tools>"]))]


def _other_side(record: Record, key: str, notes: Notes) -> list[Message]:
    """The side that is not chosen; nothing where it is missing and none is needed."""
    if notes.chosen_only and record.get(key) is None:
        notes.mend("no-rejected", key)
        return []
    return _side(record, key)


def _refuse_tie(record: Record, notes: Notes) -> None:
    tie = "status is tie" if record.get("status") == "tie" else ""
    for one, other in _SCORES:
        if (score := record.get(one)) is not None and score == record.get(other):
            tie = tie or f"{one} and {other} are both {score}"
    if tie and not notes.chosen_only:
        raise Drop("tie", tie)
    if tie:
        notes.mend("tie-kept", tie)


_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)


# --- pairs ------------------------------------------------------------------------------------------------------


_PROMPTS = ("prompt", "input", "question")


def _chosen_rejected(record: Record, notes: Notes) -> Pair:
    _refuse_tie(record, notes)
    head = _head(record, notes)
    chosen, rejected = _side(record, "chosen"), _other_side(record, "rejected", notes)
    key = next((key for key in _PROMPTS if _has(record, key)), None)
    if key is None:
        if isinstance(record["chosen"], str) and isinstance(record.get("rejected"), str):
            return _split_texts(head, record["chosen"], record["rejected"])
        return Pair(head, chosen, rejected)
    prompt = _messages(record[key])
    if _is_whole(chosen, prompt) and _is_whole(rejected or chosen, prompt):
        return Pair(head + _untold(prompt, head + chosen), chosen, rejected)
    return Pair(head + prompt, chosen, rejected)


def _is_whole(side: list[Message], prompt: list[Message]) -> bool:
    """Whether one side repeats the prompt, as the published preference sets do: at its beginning, or further down."""
    asked, said = _spoken(prompt), _spoken(side)
    if len(said) <= len(asked) or (said[0][0] != "user" and said[:1] != asked[:1]):
        return False
    rest = iter(said)
    return all(turn in rest for turn in asked if turn[1] != "")


def _untold(prompt: list[Message], told: list[Message]) -> list[Message]:
    """The system messages of a prompt that are not among others, compared as `_spoken` compares."""
    known = [_bare(content) for role, content in told if _is_system(role)]
    return [message for message in prompt if _is_system(message[0]) and _bare(message[1]) not in known]


def _spoken(messages: list[Message]) -> list[Message]:
    """Who says what, however the role is called and whatever white space is around a text."""
    return [(ROLES.get(role.lower(), role), _bare(content)) for role, content in messages if not _is_system(role)]


def _is_system(role: str) -> bool:
    return ROLES.get(role.lower()) == "system"


def _bare(content: Any) -> Any:
    if isinstance(content, str):
        return content.strip()
    parts: list[Any] = content if is_list(content) else [content]
    texts: list[Any] = [part.get("text") if is_record(part) else part for part in parts]
    return "".join(texts).strip() if all(isinstance(text, str) for text in texts) else content


def _split_texts(head: list[Message], chosen: str, rejected: str) -> Pair:
    """Two texts without a prompt: what they share, up to a space, is the prompt."""
    end = _parting(chosen, rejected)
    cut = next((at for at in range(end - 1, -1, -1) if chosen[at].isspace()), 0)
    if chosen == rejected:
        raise Drop("equal-pair")
    if not chosen[:cut].strip():
        raise Drop("no-prompt", "the two texts do not begin alike")
    return Pair([*head, ("user", chosen[:cut])], [("assistant", chosen[cut:])], [("assistant", rejected[cut:])])


def _parting(one: str, other: str) -> int:
    """How many characters two texts begin with alike, found by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


_SPEAKERS = ("Human:", "Assistant:")
_SPEAKER = re.compile(r"\n\n(Human|Assistant):(?: |(?=\n)|$)")  # begins with what `re` searches for fast


def _transcripts(record: Record, notes: Notes) -> Pair:
    head = _head(record, notes)
    chosen = _transcript(_text(record, "chosen"))
    rejected = _transcript(_text(record, "rejected")) if _other_side(record, "rejected", notes) else []
    return Pair(head, chosen, rejected)


def _transcript(text: str) -> list[Message]:
    start, *rest = _SPEAKER.split(f"\n\n{text}" if text.startswith(_SPEAKERS) else text)
    if start.strip() or not rest:
        raise Drop("not-text", "the transcript does not begin with a speaker")
    return list(zip(rest[::2], rest[1::2], strict=True))


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def _alpaca_ranking(record: Record, notes: Notes) -> Pair:
    _refuse_tie(record, notes)
    return Pair(_alpaca_prompt(record, notes), _side(record, "chosen"), _other_side(record, "rejected", notes))


def _sharegpt_ranking(record: Record, notes: Notes) -> Pair:
    _refuse_tie(record, notes)
    prompt = _head(record, notes) + _messages(_needed(record, "conversations"))
    return Pair(prompt, _side(record, "chosen"), _other_side(record, "rejected", notes))


def _two_lists(record: Record, notes: Notes) -> Pair:
    return Pair(_head(record, notes), _side(record, "chosen_messages"), _other_side(record, "rejected_messages", notes))


def _openai_preference(record: Record, notes: Notes) -> Pair:
    asked = _needed(record, "input")
    if not is_record(asked):
        raise Drop("not-text", f"input is a {type(asked).__name__}")
    prompt = _head(asked, notes) + _messages(_needed(asked, "messages"))
    return Pair(prompt, _side(record, "preferred_output"), _other_side(record, "non_preferred_output", notes))


def _when2call(record: Record, notes: Notes) -> Pair:
    prompt = _head(record, notes) + _messages(_needed(record, "messages"))
    return Pair(prompt, _side(record, "chosen_response"), _other_side(record, "rejected_response", notes))


def _rejected_beside(key: str) -> Callable[[Record, Notes], Pair]:
    """A conversation whose last turn is the chosen answer, and the rejected one under `key`."""

    def read(record: Record, notes: Notes) -> Pair:
        head = _head(record, notes)
        *prompt, chosen = _messages(_needed(record, "messages")) or [("", None)]
        rejected = _other_side(record, key, notes)
        whole = _is_whole(rejected, prompt) and bool(prompt)
        return Pair(head, [*prompt, chosen], rejected if whole else prompt + rejected)

    return read


_EXTRA_ID = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def _helpsteer2(record: Record, notes: Notes) -> Pair:
    head = _head(record, notes)
    first, *rest = _EXTRA_ID.split(_text(record, "prompt"))
    prompt = [("User", first), *zip(rest[::2], rest[1::2], strict=True)]
    one, two = _side(record, "response_1"), _side(record, "response_2")
    chosen, rejected = _by_sign(record, "preference_strength", one, two)
    return Pair(head + prompt, chosen, rejected)


def _helpsteer3(record: Record, notes: Notes) -> Pair:
    prompt = _head(record, notes) + _messages(_needed(record, "context"))
    one, two = _side(record, "response1"), _side(record, "response2")
    chosen, rejected = _by_sign(record, "overall_preference", one, two)
    return Pair(prompt, chosen, rejected)


def _by_sign(record: Record, key: str, one: list[Message], two: list[Message]) -> tuple[list[Message], list[Message]]:
    strength = _needed(record, key)
    if not isinstance(strength, int | float):
        raise Drop("not-text", f"{key} is a {type(strength).__name__}")
    if strength == 0:
        raise Drop("tie", f"{key} is {strength}")
    return (one, two) if strength < 0 else (two, one)


# --- chats ------------------------------------------------------------------------------------------------------


def _alpaca_prompt(record: Record, notes: Notes) -> list[Message]:
    messages = _head(record, notes)
    history = _optional(record, "history", notes)
    if history is not None and not is_list(history):
        raise Drop("not-text", f"history is a {type(history).__name__}")
    for turn in history or ():
        messages += _exchange(turn)
    instruction, extra = _text(record, "instruction"), _optional_text(record, "input", notes)
    return [*messages, ("user", f"{instruction}\n{extra}" if instruction and extra else instruction or extra)]


def _exchange(turn: Any) -> list[Message]:
    if not is_list(turn) or len(turn) != 2:
        raise Drop("not-text", "history is not a list of [user, assistant]")
    return [("user", turn[0]), ("assistant", turn[1])]


def _alpaca(record: Record, notes: Notes) -> Chat:
    return Chat([*_alpaca_prompt(record, notes), ("assistant", _text(record, "output"))])


def _conversation(key: str) -> Callable[[Record, Notes], Chat]:
    def read(record: Record, notes: Notes) -> Chat:
        return Chat(_head(record, notes) + _messages(_needed(record, key)))

    return read


def _completion(record: Record, notes: Notes) -> Chat:
    head = _head(record, notes)
    return Chat(head + _messages(_needed(record, "prompt")) + _side(record, "completion"))


# --- the table --------------------------------------------------------------------------------------------------


def _items(record: Record, key: str) -> list[Record]:
    value = record.get(key)
    return cast("list[Record]", value) if is_list(value) and all(map(is_record, value)) else []


def _is_nova_preference(record: Record) -> bool:
    return any("candidates" in message for message in _items(record, "messages")[-1:])


def _is_nova_chat(record: Record) -> bool:
    contents = [message.get("content") for message in _items(record, "messages")]
    parts = [part for content in contents if is_list(content) for part in content]
    return bool(parts) and all(is_record(part) and "type" not in part for part in parts)


def _keys(*keys: str) -> Callable[[Record], bool]:
    return lambda record: _has(record, *keys)


def _lists(*keys: str) -> Callable[[Record], bool]:
    return lambda record: all(_items(record, key) for key in keys)


def _is_orca(record: Record) -> bool:
    return _has(record, "chosen", "rejected") and "system" in record and bool({"input", "question"} & set(record))


def _is_hh(record: Record) -> bool:
    return not _has(record, "prompt") and all(_is_transcript(record.get(key)) for key in ("chosen", "rejected"))


def _has_prompt(record: Record) -> bool:
    return _has(record, "chosen", "rejected") and any(_has(record, key) for key in _PROMPTS)


_SPLIT = ("contexts-differ", "prompt-ends-with-assistant")

LAYOUTS: tuple[Layout, ...] = (
    Layout("nova-preference", "preference", "messages, the last with candidates", _is_nova_preference, None),
    Layout(
        "sharegpt-ranking",
        "preference",
        "conversations[{from, value}], chosen, rejected",
        _keys("conversations", "chosen", "rejected"),
        _sharegpt_ranking,
        ("tie", "tie-kept", "tools-to-system", *_SPLIT),
    ),
    Layout(
        "alpaca-ranking",
        "preference",
        "instruction, input, chosen, rejected (system, history)",
        _keys("instruction", "chosen", "rejected"),
        _alpaca_ranking,
        ("tie", "tie-kept", *_SPLIT),
    ),
    Layout(
        "chosen-rejected-messages",
        "preference",
        "chosen_messages, rejected_messages",
        _keys("chosen_messages", "rejected_messages"),
        _two_lists,
        _SPLIT,
    ),
    Layout(
        "openai-preference",
        "preference",
        "input{messages}, preferred_output, non_preferred_output",
        _keys("input", "preferred_output", "non_preferred_output"),
        _openai_preference,
        ("tools-to-system", *_SPLIT),
    ),
    Layout(
        "when2call",
        "preference",
        "messages, tools, chosen_response, rejected_response",
        _keys("messages", "chosen_response", "rejected_response"),
        _when2call,
        ("tools-to-system", *_SPLIT),
    ),
    Layout(
        "rejected-response",
        "preference",
        "messages (the last is chosen), rejected_response",
        _keys("messages", "rejected_response"),
        _rejected_beside("rejected_response"),
        ("tools-to-system", *_SPLIT),
    ),
    Layout(
        "rejected-messages",
        "preference",
        "messages (the last is chosen), rejected_messages",
        _keys("messages", "rejected_messages"),
        _rejected_beside("rejected_messages"),
        ("tools-to-system", *_SPLIT),
    ),
    Layout(
        "rejected-message",
        "preference",
        "messages (the last is chosen), rejected_message{role, content}",
        _keys("messages", "rejected_message"),
        _rejected_beside("rejected_message"),
        ("tools-to-system", *_SPLIT),
    ),
    Layout(
        "helpsteer3",
        "preference",
        "context[{role, content}], response1, response2, overall_preference",
        _keys("context", "response1", "response2", "overall_preference"),
        _helpsteer3,
        ("tie", *_SPLIT),
    ),
    Layout(
        "helpsteer2",
        "preference",
        "prompt, response_1, response_2, preference_strength",
        _keys("prompt", "response_1", "response_2", "preference_strength"),
        _helpsteer2,
        ("tie", *_SPLIT),
    ),
    Layout(
        "ultrafeedback",
        "preference",
        "prompt, chosen[...], rejected[...], score_chosen, score_rejected",
        _keys("chosen", "rejected", "score_chosen", "score_rejected"),
        _chosen_rejected,
        ("tie", "tie-kept", *_SPLIT),
    ),
    Layout(
        "distilabel",
        "preference",
        "prompt, chosen[...], rejected[...], chosen_rating, rejected_rating",
        _keys("chosen", "rejected", "chosen_rating", "rejected_rating"),
        _chosen_rejected,
        ("tie", "tie-kept", *_SPLIT),
    ),
    Layout(
        "orca-pairs",
        "preference",
        "system, input or question, chosen, rejected (status)",
        _is_orca,
        _chosen_rejected,
        ("tie", "tie-kept", *_SPLIT),
    ),
    Layout(
        "hh-rlhf",
        "preference",
        "chosen, rejected: transcripts of Human: and Assistant:",
        _is_hh,
        _transcripts,
        ("not-text", *_SPLIT),
    ),
    Layout(
        "prompt-chosen-rejected",
        "preference",
        "prompt, chosen, rejected: texts or lists of messages",
        _has_prompt,
        _chosen_rejected,
        ("tie", "tie-kept", *_SPLIT),
    ),
    Layout(
        "chosen-rejected",
        "preference",
        "chosen, rejected: texts that begin alike, or whole lists of messages",
        _keys("chosen", "rejected"),
        _chosen_rejected,
        ("tie", "tie-kept", "no-prompt", *_SPLIT),
    ),
    Layout("nova-chat", "chat", "messages[{role, content[{text}]}]", _is_nova_chat, None),
    Layout(
        "messages",
        "chat",
        "messages[{role, content}]",
        _lists("messages"),
        _conversation("messages"),
        ("trailing-user", "tools-to-system"),
    ),
    Layout(
        "sharegpt",
        "chat",
        "conversations[{from, value}] (system)",
        _lists("conversations"),
        _conversation("conversations"),
        ("trailing-user", "tools-to-system"),
    ),
    Layout("alpaca", "chat", "instruction, input, output (system, history)", _keys("instruction", "output"), _alpaca),
    Layout(
        "prompt-completion",
        "chat",
        "prompt, completion: texts or lists of messages",
        _keys("prompt", "completion"),
        _completion,
    ),
)
"""Every known layout; where several fit a record, the first one counts."""

BY_NAME: Mapping[str, Layout] = {layout.name: layout for layout in LAYOUTS}

"""The exact diagnosis of one line: every problem in it, each with its place."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from itertools import chain, product
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.datasets import _facts, _rules
from nova_dpo_sdk.datasets._lines import BOM
from nova_dpo_sdk.datasets._search import finder
from nova_dpo_sdk.datasets._tools import Tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nova_dpo_sdk.datasets._facts import Facts


class Fault(NamedTuple):
    """One problem in a line: rule, JSON path, what is the case, and a fix where the rule's own is too general."""

    code: str
    path: str
    message: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything about one line.

    Attributes:
        faults: What is wrong with it.
        walk: The walk through its record; None when there is no record in it.
    """

    faults: list[Fault]
    walk: Walk | None = None

    def facts(self) -> Facts:
        """What the record adds to the picture of the file; only where there is a record."""
        if self.walk is None:
            raise ValueError("there is no record in this line")
        return self.walk.facts()


@dataclass(frozen=True)
class Explainer:
    """Explains lines of one kind.

    Args:
        preference: Whether records end with two candidates (DPO) or with an answer (SFT).
        nova2: Whether reasoning, tools and documents are allowed, as Nova 2 Lite has them.
    """

    preference: bool
    nova2: bool = False

    def explain(self, line: bytes) -> Diagnosis:
        """Everything that is wrong with `line`."""
        faults: list[Fault] = []
        if line.startswith(BOM):
            faults.append(Fault("byte-order-mark", "$", "The line begins with a byte order mark."))
            line = line[len(BOM) :]
        marked = bool(_marks(line))
        try:
            value = _parse(line, faults, escapes=marked and _ESCAPE in line)
        except _UnreadableError as unreadable:
            faults.append(unreadable.fault)
            return Diagnosis(faults)
        if not isinstance(value, dict):
            message = f"The line is {_named(value)}, not an object."
            faults.append(Fault("json-array" if isinstance(value, list) else "not-an-object", "$", message))
            return Diagnosis(faults)
        walk = Walk(self, faults, words=marked)
        walk.record(cast("dict[str, Any]", value))
        return Diagnosis(faults, walk)


class _UnreadableError(Exception):
    def __init__(self, code: str, message: str, fix: str = "") -> None:
        self.fault = Fault(code, "$", message, fix)
        super().__init__(code)


class _NotANumber(float):
    """What `json` makes of NaN and Infinity; stands for itself until it is found again."""

    __slots__ = ()


class _Doubled(dict[str, Any]):
    """An object in which a key stood more than once."""

    __slots__ = ("keys_twice",)
    keys_twice: list[str]


def _parse(line: bytes, faults: list[Fault], *, escapes: bool) -> Any:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"Byte {error.start + 1} of the line (0x{byte:02x}) is not UTF-8: {error.reason}."
        raise _UnreadableError("invalid-utf8", message) from error
    odd: list[str] = []
    value = _UNREAD if escapes else _plainly(line)
    if value is _UNREAD:
        value = _loads(text, odd)
    openers = line.count(b"[") + line.count(b"{")
    if openers > _rules.LIMITS["nesting"].value and _depth_exceeds(value, _rules.LIMITS["nesting"].value):
        raise _UnreadableError("too-deep", "Values nest more than 64 levels deep.")
    if odd or escapes:
        faults.extend(_oddities(value))
    return value


_UNREAD: Any = object()
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def _plainly(line: bytes) -> Any:
    r"""What `json` reads in a line without `\u` escapes, where nothing is odd about it; `_UNREAD` otherwise.

    Reading takes the last of several equal keys without a word. But then the line has more colons than what was read.
    """
    try:
        value = _read(line)
        return value if _write(value).count(b":") == line.count(b":") else _UNREAD
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return _UNREAD


def _loads(text: str, odd: list[str]) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) == len(items):
            return found
        doubled = _Doubled(found)
        keys = [key for key, _ in items]
        doubled.keys_twice = sorted({key for key in keys if keys.count(key) > 1})
        odd.append("duplicate-key")
        return doubled

    def constant(name: str) -> float:
        odd.append("not-a-number")
        return _NotANumber(name.replace("Infinity", "inf"))

    try:
        json.loads(text)  # far cheaper, and most texts that come here cannot be read
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as error:
        raise _UnreadableError("too-deep", "Values nest more than 64 levels deep.") from error
    except json.JSONDecodeError as error:
        raise _UnreadableError("bad-json", *_not_json(text, error)) from error
    except ValueError as error:
        raise _UnreadableError("bad-json", f"A number in the line is too long to be read: {error}.") from error


def _not_json(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    place = f"at character {error.pos + 1}"
    bare = text.strip()
    if bare in {"{", "}", "},", "[", "]", "],"}:
        return f"The line is only {bare!r}.", "A record is spread over several lines; write it on one."
    if error.msg == "Extra data":
        return f"Something follows the record {place}: {_excerpt(text, error.pos)}.", ""
    if bare.startswith(("//", "#", "/*")):
        return f"The line is a comment: {_excerpt(bare, 0)}.", "Remove the line; JSON has no comments."
    what = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"The line is not JSON: {what} {place}: {_excerpt(text, error.pos)}.", ""


def _excerpt(text: str, position: int, width: int = 24) -> str:
    piece = text[position : position + width].rstrip("\r\n")
    return _shown(piece) + ("..." if position + width < len(text.rstrip()) else "") if piece else "the end of the line"


def _shown(value: Any, width: int = 60) -> str:
    """`value` as JSON in plain ASCII, shortened; safe to print whatever is in it."""
    if isinstance(value, str) and len(value) > width:
        return json.dumps(value[:width])[:-1] + '..."'
    if isinstance(value, (dict, list)):
        return _named(cast("Any", value))
    try:
        text = json.dumps(value)
    except ValueError:
        return "a very long number"
    return text if len(text) <= width else text[:width] + "..."


def _depth_exceeds(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    """What stands in an array or object; the containers themselves count as one level."""
    if not isinstance(value, (dict, list)):
        return []
    inner = list(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else _elements(value)
    return inner or [None]


def _elements(array: Any) -> list[Any]:
    return list(array)


def _oddities(value: Any, path: str = "$") -> Iterator[Fault]:
    """What `json` reads but JSON does not know, or readers disagree on, anywhere in `value`."""
    if isinstance(value, _Doubled):
        for key in value.keys_twice:
            yield Fault("duplicate-key", path, f"The key {_shown(key)} stands more than once.")
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            if _has_lone_surrogate(key):
                yield Fault("lone-surrogate", path, f"The key {_shown(key)} has half a surrogate pair in it.")
            yield from _oddities(inner, _below(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(_elements(value)):
            yield from _oddities(inner, f"{path}[{index}]")
    elif isinstance(value, _NotANumber):
        yield Fault("not-a-number", path, f"The value is {_shown(value)}, which is not JSON.")
    elif isinstance(value, str) and _has_lone_surrogate(value):
        yield Fault("lone-surrogate", path, f"Half a surrogate pair stands in {_shown(_around_surrogate(value))}.")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _has_lone_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


def _around_surrogate(text: str) -> str:
    match = _SURROGATE.search(text)
    start = max(0, match.start() - 10) if match else 0
    return text[start : start + 20]


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if _PLAIN_KEY.match(key) else f"{path}[{_shown(key)}]"


def _named(value: Any) -> str:
    """The JSON type of `value`, with its article."""
    names: dict[type, str] = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    for kind, name in names.items():
        if isinstance(value, kind):
            return name
    return "a number"


# ---------------------------------------------------------------------------------------------- reserved words

_WORDS = re.compile("|".join(re.escape(word) for word in _rules.RESERVED_WORDS), re.IGNORECASE | re.ASCII)
_EXACT = frozenset(_rules.RESERVED_WORDS)
# Each begins with one plain character, for which `re` searches far faster than for several words at once.
_roles, _tags, _ends = (re.compile(what).finditer for what in (":(?<=[mrtMRT]:)", "<(?=[iuvIUV])", r"\[(?=[eE])"))
_REACH = max(map(len, _rules.RESERVED_WORDS))

_ESCAPE = b"\\u"


def _known_by(word: str) -> Iterator[bytes]:
    """What a word is looked for by in the bytes of a whole line, in every casing."""
    piece = word[-2:] if word.endswith(":") else word[:2]
    return ("".join(chars).encode() for chars in product(*({char, char.swapcase()} for char in piece)))


_marks = finder(sorted({_ESCAPE, *chain.from_iterable(map(_known_by, _rules.RESERVED_WORDS))}))
"""Where a line may have a reserved word, or an escape: none of the texts in it has one when there is no such place."""


def reserved_words(text: str) -> tuple[list[str], list[str]]:
    """The reserved words in `text`: those that stand alone, and those in another casing or inside a word."""
    places = [match.start() for match in chain(_roles(text), _tags(text), _ends(text))]
    if not places:
        return [], []
    exact: dict[str, None] = {}
    other: dict[str, None] = {}
    for place in sorted(places):
        for match in _WORDS.finditer(text, max(0, place - _REACH), place + _REACH):
            word = match.group()
            own = word in _EXACT and not (word[0].isalpha() and _inside_word(text, match.start()))
            (exact if own else other)[word] = None
    return list(exact), list(other)


def _inside_word(text: str, start: int) -> bool:
    if start == 0:
        return False
    before = text[start - 1]
    # Letters without case (Japanese, Chinese) stand beside Latin words without a space between them.
    return before == "_" or (before.isalnum() and (before.isascii() or before.lower() != before.upper()))


# ---------------------------------------------------------------------------------------------- the record

_KINDS = ("text", "image", "video", "document", "reasoningContent", "toolUse", "toolResult")
_MEDIA_KINDS = frozenset({"image", "video", "document"})
_NOVA_2_KINDS = {
    "document": "the user's turn",
    "toolResult": "the user's turn",
    "reasoningContent": "the assistant's turn",
    "toolUse": "the assistant's turn",
}
"""What only Nova 2 Lite reads, and where in a chat."""
_TRAIN_NOVA_2 = "Remove the item, or train Nova 2 Lite, which reads it (ChatDataset: nova2=True)."
_ACCOUNT = re.compile(r"[0-9]{12}\Z")
_S3_URI = re.compile(r"s3://[^/\s]+/[^\s/].*\Z", re.DOTALL)
_S3_PLAIN = re.compile(r"s3://[A-Za-z0-9_\-/.]+\Z")


def _are(count: int, noun: str) -> str:
    return f"{are(count)} {plural(count, noun)}"


def _local_path(image: Any) -> str:
    """The path of an image that is on a disk still, as text to show; empty of any other."""
    source: Any = image.get("source") if _is_object(image) else None
    path: Any = source.get("path") if _is_object(source) and "s3Location" not in source else None
    return _shown(path) if isinstance(path, str) else ""


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_TURN = frozenset({"role", "content"})
_CANDIDATE = frozenset({"content", "preferenceLabel"})


def _plain_text(turn: Any, keys: frozenset[str]) -> str:
    """The text of a turn or candidate that has these keys and only one text, as nearly all have; otherwise nothing."""
    return _only_text(turn["content"]) if _is_object(turn) and turn.keys() == keys else ""


def _only_text(items: Any) -> str:
    """The text of a list of one text with something to see in it, as nearly all are; otherwise nothing."""
    try:
        (item,) = items
        text = item["text"]
    except (TypeError, ValueError, KeyError):
        return ""
    return text if isinstance(text, str) and len(item) == 1 and not text.isspace() else ""


def _wrapped(value: Any, template: str) -> str:
    """How a bare string is to be written; empty when `value` is none."""
    return f"Write {template.format(_shown(value))}." if isinstance(value, str) else ""


def _role_fix(role: str) -> str:
    wanted = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}.get(
        role.lower(), role.lower()
    )
    return f"Write {wanted}." if wanted in _rules.ROLES else ""


def _label_fix(label: str) -> str:
    wanted = re.sub(r"[\s_]+", "-", label.strip().lower())
    wanted = {"chosen": "preferred", "rejected": "non-preferred", "nonpreferred": "non-preferred"}.get(wanted, wanted)
    return f"Write {wanted}." if wanted in _rules.LABELS else ""


def _by_label(answer: tuple[str, list[str]]) -> bool:
    return answer[0] == "preferred"


class Walk:
    """Walks through one record and says everything that is wrong.

    Args:
        explainer: Knows the kind of record.
        faults: Takes what is wrong.
        words: Whether some text may have a reserved word in it.
    """

    def __init__(self, explainer: Explainer, faults: list[Fault], *, words: bool) -> None:
        self._preference = explainer.preference
        self._nova2 = explainer.nova2
        self._faults = faults
        self._words = words
        self._features = 0
        self._system_texts: list[str] = []
        self._prompt: list[list[str]] = []
        self._answers: list[tuple[str, list[str]]] = []
        self._media: dict[str, int] = {}
        self._uris: list[str] = []
        self._files: list[tuple[str, str]] = []
        self._tools = Tools()

    def say(self, code: str, path: str, message: str, fix: str = "") -> None:
        self._faults.append(Fault(code, path, message, fix))

    def facts(self) -> Facts:
        """What the record adds to the picture of the file; call it after `record`."""
        answers = [texts for _, texts in sorted(self._answers, key=_by_label, reverse=True)]
        first, second = [*answers, [], []][:2]
        return _facts.facts_of(
            self._features,
            self._system_texts,
            [*self._prompt, *([uri] for uri in self._uris)],
            first,
            second if self._preference else None,
            tuple(self._files),
        )

    def record(self, record: dict[str, Any]) -> None:
        optional = ["schemaVersion", "system"]
        if not self._preference and self._nova2:
            optional.append("toolConfig")
        self._keys(record, "$", required=("messages",), optional=optional)
        self._version(record)
        if "system" in record:
            self._system(record["system"])
        if self._nova2 and "toolConfig" in record:
            self._tools.declared(self, record["toolConfig"])
            self._prompt.append([_facts.canonical(record["toolConfig"])])
        else:
            self._tools.named(record.get("toolConfig"))
        if "messages" in record:
            self._messages(record["messages"])
        self._amounts()

    # -- shapes

    def _keys(self, value: dict[str, Any], path: str, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        for key in required:
            if key not in value:
                self.say("missing-key", path, f"The key {key} is missing.")
        known = (*required, *optional)
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
                self.say("unknown-key", _below(path, key), f"The key {_shown(key)} is not known here. {hint}")

    def _is(self, value: Any, kind: type, path: str, fix: str = "") -> bool:
        if isinstance(value, kind):
            return True
        names: dict[type, str] = {dict: "an object", list: "an array", str: "a string"}
        self.say("wrong-type", path, f"This is {_named(value)} ({_shown(value)}); it must be {names[kind]}.", fix)
        return False

    def an_object(self, value: Any, path: str) -> bool:
        """Whether `value` is an object, with whatever keys; says so when it is not."""
        return self._is(value, dict, path)

    def object(self, value: Any, path: str, required: Sequence[str], optional: Sequence[str] = ()) -> bool:
        """Whether `value` is an object; says which keys are missing or unknown."""
        if not isinstance(value, dict):
            return self._is(value, dict, path)
        self._keys(cast("dict[str, Any]", value), path, required, optional)
        return True

    def string(self, value: dict[str, Any], key: str, path: str) -> str | None:
        """The string at `key`, or None when there is none; says so when it is something else."""
        found = value.get(key)
        if isinstance(found, str):
            return found
        if key in value:
            self._is(found, str, f"{path}.{key}")
        return None

    def array(self, value: Any, path: str) -> list[Any]:
        """The array, or an empty one; says so when it is something else."""
        return value if self._is(value, list, path) else []

    # -- top level

    def _version(self, record: dict[str, Any]) -> None:
        version = self.string(record, "schemaVersion", "$")
        if version is not None and version != _rules.SCHEMA_VERSION:
            self.say("schema-version", "$.schemaVersion", f"schemaVersion is {_shown(version)}.")

    def _system(self, system: Any) -> None:
        if not isinstance(system, list):
            fix = _wrapped(system, '[{{"text": {}}}]') or "Leave the key out, or write a list."
            self._is(system, list, "$.system", fix)
            return
        self._features |= _facts.SYSTEM
        system = _elements(system)
        if only := _only_text(system):
            self.text(only, "$.system[0].text", self._system_texts)
            return
        if len(system) != 1:
            self.say("system-items", "$.system", f"system has {len(system)} items.")
        for index, item in enumerate(system):
            path = f"$.system[{index}]"
            if self.object(item, path, ("text",)):
                text = self.string(item, "text", path)
                if text is not None:
                    self.text(text, f"{path}.text", self._system_texts)
                    if not text.strip():
                        self.say("system-items", f"{path}.text", "The system text is blank.")

    def _messages(self, messages: Any) -> None:
        if not self._is(messages, list, "$.messages"):
            return
        if len(messages) < 2:
            self.say("too-few-messages", "$.messages", f"There {_are(len(messages), 'message')}.")
        messages, previous = _elements(messages), ""
        for index, message in enumerate(messages):
            last = index == len(messages) - 1
            text = _plain_text(message, _TURN)
            if text and not last and message["role"] == _rules.NEXT_ROLE[previous]:
                previous = message["role"]
                self._plain(text, index)
                continue
            previous = self._message(message, f"$.messages[{index}]", previous, index, last=last)
        self._tools.finish(self, len(messages))

    def _plain(self, text: str, index: int) -> None:
        """Take in the only text of a turn; the path is only spelled out where it may be needed."""
        self._prompt.append([text])
        if self._words:
            self.text(text, f"$.messages[{index}].content[0].text", [])

    def _message(self, message: Any, path: str, previous: str, index: int, *, last: bool) -> str:
        self._tools.begin(index)
        if not isinstance(message, dict):
            self._is(message, dict, path)
            return ""
        message = cast("dict[str, Any]", message)
        with_candidates = "candidates" in message
        required = ["role"] if with_candidates else ["role", "content"]
        awaited = self._preference and last and not with_candidates and message.get("role") != "user"
        if awaited:
            self.say("candidates-missing", path, "The last turn has no candidates.")
            required = ["role"]
        self._keys(message, path, required, ("content", "candidates"))
        role = self._role(message, path, previous, index, last=last)
        if with_candidates:
            self._with_candidates(message, path, role, last=last)
        if "content" in message:
            self._content(message["content"], f"{path}.content", role, answer=last and not self._preference)
        return role

    def _role(self, message: dict[str, Any], path: str, previous: str, index: int, *, last: bool) -> str:
        role = self.string(message, "role", path) or ""
        place = f"{path}.role"
        if role not in _rules.ROLES:
            if "role" in message and isinstance(message["role"], str):
                self.say("role-unknown", place, f"The role is {_shown(role)}.", _role_fix(role))
            return ""
        if index == 0 and role != "user":
            self.say("role-order", place, f"The first turn is the {role}'s; it must be the user's.")
        elif role == previous:
            self.say("role-order", place, f"Two turns of the {role} follow each other.")
        if last and role != "assistant":
            self.say("role-order", place, f"The last turn is the {role}'s; it must be the assistant's.")
        return role

    # -- candidates

    def _with_candidates(self, message: dict[str, Any], path: str, role: str, *, last: bool) -> None:
        place = f"{path}.candidates"
        if not self._preference or not last or role == "user":
            whose = (
                "a chat record" if not self._preference else "a user's turn" if role == "user" else "an earlier turn"
            )
            self.say("candidates-misplaced", place, f"Candidates stand in {whose}.")
        if "content" in message and self._preference:
            self.say("candidates-with-content", f"{path}.content", "The turn has candidates and content.")
        candidates = self.array(message["candidates"], place)
        count = _rules.LIMITS["candidates"].value
        if isinstance(message["candidates"], list) and len(candidates) != count:
            self.say("candidates-count", place, f"There {_are(len(candidates), 'candidate')}.")
        for index, candidate in enumerate(candidates):
            self._candidate(candidate, f"{place}[{index}]")
        self._compare(place)

    def _candidate(self, candidate: Any, path: str) -> None:
        texts = list[str]()
        text = _plain_text(candidate, _CANDIDATE)
        if text and candidate["preferenceLabel"] in _rules.LABELS:
            self.text(text, f"{path}.content[0].text", texts)
            self._answers.append((candidate["preferenceLabel"], texts))
            return
        if not self.object(candidate, path, ("content", "preferenceLabel")):
            return
        label = self.string(candidate, "preferenceLabel", path)
        if label is not None and label not in _rules.LABELS:
            self.say("label-unknown", f"{path}.preferenceLabel", f"The label is {_shown(label)}.", _label_fix(label))
        if "content" in candidate:
            self._items(candidate["content"], f"{path}.content", ("text",), texts, "a candidate")
        self._answers.append((label or "", texts))

    def _compare(self, path: str) -> None:
        if len(self._answers) != 2:  # another number is a fault of its own
            return
        (label, one), (other_label, other) = self._answers
        if label == other_label and label in _rules.LABELS:
            self.say("label-repeated", path, f"Both candidates are {label}.")
        first, second = "".join(one), "".join(other)
        if first == second:
            self.say("candidates-identical", path, "Both candidates have the same text.")
        elif first and second and (first.startswith(second) or second.startswith(first)):
            shorter = 0 if len(first) < len(second) else 1
            self.say("candidates-prefix", path, f"Candidate {shorter} is the beginning of the other one.")

    # -- content

    def _content(self, content: Any, path: str, role: str, *, answer: bool) -> None:
        texts: list[str] = []
        if not role:
            self._items(content, path, _KINDS, texts, "a turn")
        else:
            self._items(content, path, self._kinds(role), texts, f"the {role}'s turn")
        if answer:
            self._answers.append(("", texts))
        else:
            self._prompt.append(texts)

    def _kinds(self, role: str) -> tuple[str, ...]:
        if self._preference:
            return ("text", "image") if role == "user" else ("text",)
        if not self._nova2:
            return ("text", "image", "video") if role == "user" else ("text",)
        if role == "user":
            return ("text", "image", "video", "document", "toolResult")
        return ("text", "reasoningContent", "toolUse")

    def _items(self, content: Any, path: str, allowed: Sequence[str], texts: list[str], where: str) -> None:
        if not isinstance(content, list):
            self._is(content, list, path, _wrapped(content, '[{{"text": {}}}]'))
            return
        items = _elements(content)
        if only := _only_text(items):
            self.text(only, f"{path}[0].text", texts)
            return
        kinds: dict[str, int] = {}
        blank: list[str] = []
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if not _is_object(item):
                self._is(item, dict, place, _wrapped(item, '{{"text": {}}}'))
                kinds["?"] = 1
                continue
            for kind in self._item(item, place, allowed, where):
                kinds[kind] = kinds.get(kind, 0) + 1
                text = self._kind(kind, item[kind], f"{place}.{kind}", texts)
                if text is not None and not text.strip():
                    blank.append(f"{place}.text")
        self._emptiness(path, kinds, texts, blank)
        self._crowding(path, kinds)

    def _item(self, item: dict[str, Any], path: str, allowed: Sequence[str], where: str) -> list[str]:
        kinds = [kind for kind in item if kind in _KINDS]
        if len(kinds) != 1:
            found = " and ".join(kinds) if kinds else f"none of {', '.join(allowed)}"
            self.say("content-item", path, f"The item has {found}.")
        if kinds:
            self._keys(item, path, (), kinds)
        for kind in kinds:
            if kind not in allowed:
                message = f"{kind} cannot stand in {where}; allowed: {', '.join(allowed)}."
                fix = _TRAIN_NOVA_2 if where == _NOVA_2_KINDS.get(kind) and not self._preference else ""
                self.say("content-kind", f"{path}.{kind}", message, fix)
        return kinds

    def _kind(self, kind: str, value: Any, path: str, texts: list[str]) -> str | None:
        """Check one thing inside a content item; the text itself if it is one."""
        if kind == "text":
            if not self._is(value, str, path):
                return None
            self.text(value, path, texts)
            return cast("str", value)
        if kind in _MEDIA_KINDS:
            self._file(kind, value, path)
        elif kind == "reasoningContent":
            self._reasoning(value, path, texts)
        elif kind == "toolUse":
            self._features |= _facts.TOOLS
            self._tools.use(self, value, path, texts)
        else:
            self._features |= _facts.TOOLS
            self._tools.result(self, value, path, texts)
        return None

    def text(self, text: str, path: str, texts: list[str]) -> None:
        """Remember a text and look for reserved words in it."""
        texts.append(text)
        if not self._words:
            return
        exact, other = reserved_words(text)
        if exact:
            self.say("reserved-word", path, f"The text contains {', '.join(map(_shown, exact))}.")
        if other:
            self.say("reserved-word-casing", path, f"The text contains {', '.join(map(_shown, other))}.")

    def _emptiness(self, path: str, kinds: dict[str, int], texts: list[str], blank: list[str]) -> None:
        if not kinds:
            self.say("empty-text", path, "There is no content.")
        elif set(kinds) == {"text"} and not any(texts):
            self.say("empty-text", path, "The text is empty.")
        else:
            for place in blank:
                self.say("blank-text", place, "The text is blank.")

    def _crowding(self, path: str, kinds: dict[str, int]) -> None:
        for kind in _MEDIA_KINDS & kinds.keys():
            self._media[kind] = self._media.get(kind, 0) + kinds[kind]
        if kinds.get("image", 0) > _rules.LIMITS["images-per-message"].value:
            self.say("too-many-images", path, f"The message has {kinds['image']} images.")
        if "reasoningContent" in kinds and _MEDIA_KINDS & kinds.keys():
            self.say("reasoning-with-media", path, "Reasoning stands beside media.")

    def _amounts(self) -> None:
        media, limits = self._media, _rules.LIMITS
        if not media:
            return
        for kind in media:
            self._features |= _facts.MEDIA[kind]
        if len(media) > 1:
            self.say("mixed-media", "$.messages", f"The record has {' and '.join(sorted(media))}.")
        for kind, limit, code in (
            ("image", "images-per-record", "many-images"),
            ("video", "videos-per-record", "too-many-videos"),
            ("document", "documents-per-record", "many-documents"),
        ):
            if media.get(kind, 0) > limits[limit].value:
                self.say(code, "$.messages", f"The record has {media[kind]} {kind}s.")

    # -- media

    def _file(self, kind: str, value: Any, path: str) -> None:
        required = ("format", "name", "source") if kind == "document" else ("format", "source")
        local = _local_path(value) if kind == "image" else ""
        if local:
            self.say("local-image", f"{path}.source", f"{local} is a local path.")
            return
        if not self.object(value, path, required):
            return
        self._format(kind, value, path)
        if "source" not in value or not self._is(value["source"], dict, f"{path}.source"):
            return
        source = value["source"]
        if "s3Location" not in source:
            found = ", ".join(_shown(key) for key in source) or "nothing"
            self.say("s3-uri", f"{path}.source", f"The source is {found}, not an s3Location.")
            return
        self._keys(source, f"{path}.source", (), ("s3Location",))
        self._location(source["s3Location"], f"{path}.source.s3Location")

    def _format(self, kind: str, value: dict[str, Any], path: str) -> None:
        found = self.string(value, "format", path)
        if found is None:
            return
        allowed = {
            "image": _rules.IMAGE_FORMATS_NOVA_2 if self._nova2 else _rules.IMAGE_FORMATS,
            "video": _rules.VIDEO_FORMATS_NOVA_2 if self._nova2 else _rules.VIDEO_FORMATS,
            "document": _rules.DOCUMENT_FORMATS,
        }[kind]
        if found not in allowed:
            self.say(
                f"{kind}-format", f"{path}.format", f"The format is {_shown(found)}; allowed: {', '.join(allowed)}."
            )
        self._features |= {"webp": _facts.WEBP, "webm": _facts.WEBM}.get(found, 0)

    def _location(self, location: Any, path: str) -> None:
        if not self.object(location, path, ("uri",), ("bucketOwner",)):
            return
        uri = self.string(location, "uri", path)
        if uri is not None:
            self._uris.append(uri)
            if not _S3_URI.match(uri):
                self.say("s3-uri", f"{path}.uri", f"The URI is {_shown(uri)}, not s3://bucket/key.")
            elif not _S3_PLAIN.match(uri):
                self.say("s3-uri-characters", f"{path}.uri", f"The URI is {_shown(uri)}.")
        owner = self._owner(location, path)
        if uri is not None and _S3_URI.match(uri):
            self._files.append((uri, owner))

    def _owner(self, location: dict[str, Any], path: str) -> str:
        """The account that is said to own a file; empty when none is."""
        if "bucketOwner" not in location:
            self.say("bucket-owner-missing", path, "There is no bucketOwner.")
            return ""
        owner = self.string(location, "bucketOwner", path)
        if owner is not None and not _ACCOUNT.match(owner):
            self.say("bucket-owner", f"{path}.bucketOwner", f"bucketOwner is {_shown(owner)}.")
            return ""
        return owner or ""

    def _reasoning(self, value: Any, path: str, texts: list[str]) -> None:
        self._features |= _facts.REASONING
        if not self.object(value, path, ("reasoningText",)) or "reasoningText" not in value:
            return
        inner = f"{path}.reasoningText"
        if self.object(value["reasoningText"], inner, ("text",)):
            text = self.string(value["reasoningText"], "text", inner)
            if text is not None:
                self.text(text, f"{inner}.text", texts)

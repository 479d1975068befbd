"""The rules of Nova training data: one table of what is refused, what is doubtful, why, and what to do."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

GUIDE = "AWS Nova user guide, data preparation"
DPO = "AWS Nova user guide, DPO"
SFT = "AWS Nova user guide, SFT"
TUNING = "AWS Nova user guide, fine-tuning Nova 1.0"
VALIDATOR = "AWS sample data set validator for Nova"
FORGE = "Nova Forge SDK"
SCHEMA = "SageMaker Python SDK, JSON schema for DPO"
JSON = "RFC 8259 (JSON)"
LINES = "jsonlines.org"
OURS = "this package"


@dataclass(frozen=True)
class Limit:
    """A number that the data is held against, and who says so."""

    value: int
    unit: str
    source: str


LIMITS: Mapping[str, Limit] = {
    "candidates": Limit(2, "candidates in the last turn", DPO),
    "images-per-message": Limit(10, "images in one message", DPO),
    "images-per-record": Limit(10, "images in one record", GUIDE),
    "videos-per-record": Limit(1, "videos in one record", GUIDE),
    "documents-per-record": Limit(1, "documents in one record", VALIDATOR),
    "recommended-pairs": Limit(1_000, "preference pairs", DPO),
    "image-records": Limit(20_000, "image records in a DPO job", DPO),
    "image-max-length": Limit(16_384, "tokens of max_length in a DPO job with images", DPO),
    "line-bytes": Limit(4 * 1024 * 1024, "bytes in one line", OURS),
    "nesting": Limit(64, "levels of arrays and objects", OURS),
}

ROLES = ("user", "assistant")
NEXT_ROLE = {"": "user", "user": "assistant", "assistant": "user"}
"""Whose turn follows whose; the first is the user's."""
LABELS = ("preferred", "non-preferred")
SCHEMA_VERSION = "bedrock-conversation-2024"
IMAGE_FORMATS = ("jpeg", "png", "gif", "webp")
IMAGE_FORMATS_NOVA_2 = ("jpeg", "png", "gif")
VIDEO_FORMATS = ("mov", "mkv", "mp4", "webm")
VIDEO_FORMATS_NOVA_2 = ("mov", "mkv", "mp4")
DOCUMENT_FORMATS = ("pdf",)
RESERVED_WORDS = (
    "System:", "SYSTEM:", "User:", "USER:", "Bot:", "BOT:", "Assistant:", "ASSISTANT:", "Thought:",
    "[EOS]", "<image>", "<video>", "<unk>",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One rule of the data.

    Attributes:
        code: Stable name; what `rules={code: ...}` takes.
        severity: How much it matters unless `rules=` says otherwise.
        says: The rule, in one sentence.
        fix: What to do about a record that breaks it.
        source: Who says so.
        scope: `line` (one record alone tells), `file` (the whole file tells) or `run` (the recipe is needed).
        fixed: Whether the rule cannot be turned down, because a line that breaks it has no record in it.
    """

    code: str
    severity: Severity
    says: str
    fix: str
    source: str
    scope: str = "line"
    fixed: bool = False


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

_READING = (
    Rule("bad-json", _E, "Every line is one complete JSON value.",
         "Write one record per line with a JSON writer; comments and trailing commas are not JSON.", JSON, fixed=True),
    Rule("invalid-utf8", _E, "The file is UTF-8 text.", "Save the file as UTF-8.", JSON, fixed=True),
    Rule("too-deep", _E, "Values nest at most 64 levels deep.", "Flatten the value.", OURS, fixed=True),
    Rule("line-too-long", _E, "A line has at most 4 MiB; the longest context does not need more.",
         "Shorten the record, or write one record per line.", OURS, fixed=True),
    Rule("json-array", _E, "The file is JSON Lines, not one JSON array.",
         "Write each element on a line of its own, without brackets and commas around it.", LINES, fixed=True),
    Rule("not-an-object", _E, "Every line is a JSON object.", "Write {\"messages\": [...]}.", GUIDE, fixed=True),
    Rule("blank-line", _E, "There are no blank lines.", "Remove the line.", VALIDATOR),
    Rule("byte-order-mark", _E, "A line does not begin with a byte order mark.",
         "Save the file as UTF-8 without BOM.", JSON),
    Rule("not-a-number", _E, "NaN, Infinity and -Infinity are not JSON.", "Write a number, or null.", JSON),
    Rule("duplicate-key", _E, "A key stands once in an object; readers disagree on which one counts.",
         "Remove one of them.", JSON),
    Rule("lone-surrogate", _E, "A \\ud800-\\udfff escape comes in pairs; half a pair is no character.",
         "Write the whole character, or remove it.", JSON),
    Rule("windows-newlines", _N, "Lines end with a line feed alone.",
         "Nothing needs to be done; readers take the carriage return for white space.", LINES, scope="file"),
    Rule("no-final-newline", _N, "The last line ends with a line feed too.",
         "Nothing needs to be done; whoever appends a record or joins files begins with a line feed.", OURS,
         scope="file"),
    Rule("compressed", _E, "Training reads plain JSON Lines, not a compressed file.",
         "Unpack the file, or write it plain with write_clean().", GUIDE, scope="file"),
    Rule("no-records", _E, "The file has at least one record.",
         "Check that this is the right file.", OURS, scope="file"),
)  # fmt: skip

_STRUCTURE = (
    Rule("missing-key", _E, "Every required key is there.", "Add the key.", VALIDATOR),
    Rule("wrong-type", _E, "Every value has the JSON type that Nova reads.",
         "Write the type that is named.", VALIDATOR),
    Rule("unknown-key", _W, "There are no keys that Nova does not know; some readers refuse them, others ignore them.",
         "Remove the key, or correct its spelling.", SCHEMA),
    Rule("schema-version", _W, "schemaVersion, if written, is \"bedrock-conversation-2024\".",
         "Write \"bedrock-conversation-2024\", or leave the key out.", FORGE),
    Rule("system-items", _W, "system, if written, has exactly one item with some text.",
         "Join the texts into one item, or leave system out.", FORGE),
    Rule("too-few-messages", _E, "There are at least two messages: a user's and an assistant's.",
         "Add the missing turn.", VALIDATOR),
    Rule("role-unknown", _E, "A role is user or assistant, in lower case.",
         "Write user or assistant; a system prompt belongs in the top-level key system.", VALIDATOR),
    Rule("role-order", _E, "Roles alternate, beginning with user and ending with assistant.",
         "Merge neighbouring turns of one role, or add the missing turn.", VALIDATOR),
    Rule("content-item", _E, "A content item holds exactly one thing: text, an image, and so on.",
         "Write one item for each thing.", VALIDATOR),
    Rule("content-kind", _E, "Content is of a kind that this model, technique and role can take.",
         "Remove the item.", VALIDATOR),
    Rule("empty-text", _E, "Every message and every candidate has some text, or some media where media are allowed.",
         "Write the text, or remove the record.", VALIDATOR),
    Rule("blank-text", _W, "A text is more than white space.", "Write the text, or remove the item.", OURS),
    Rule("reserved-word", _E, "A text does not contain the words that mark turns and media inside Nova's own prompt.",
         "Reword it without the colon or the brackets.", GUIDE),
    Rule("reserved-word-casing", _W, "A text does not contain a reserved word in another casing or inside a word.",
         "Reword it if training refuses it.", VALIDATOR),
)  # fmt: skip

_PREFERENCE = (
    Rule("candidates-missing", _E, "The last turn has candidates.",
         "Give the last turn two candidates instead of content.", DPO),
    Rule("candidates-misplaced", _E, "Only the last turn of a preference record has candidates.",
         "Give the turn content; for preference data use PreferenceDataset.", DPO),
    Rule("candidates-with-content", _E, "A turn with candidates has no content.", "Remove content from it.", DPO),
    Rule("candidates-count", _E, "There are exactly two candidates.", "Keep the best and the worst.", DPO),
    Rule("label-unknown", _E, "preferenceLabel is preferred or non-preferred, in lower case with a hyphen.",
         "Write preferred or non-preferred.", VALIDATOR),
    Rule("label-repeated", _E, "One candidate is preferred, the other is non-preferred.",
         "Correct one of the labels.", VALIDATOR),
    Rule("candidates-identical", _E, "The two candidates differ; a tie teaches nothing.", "Remove the record.", OURS),
    Rule("candidates-prefix", _W, "Neither candidate is merely the beginning of the other.",
         "Check that the longer one is not just cut off.", OURS),
)  # fmt: skip

_MEDIA = (
    Rule("image-format", _E, "An image's format is one that the model reads.",
         "Write jpeg (not jpg), png, gif or webp; Nova 2 does not read webp.", GUIDE),
    Rule("video-format", _E, "A video's format is one that the model reads.",
         "Write mov, mkv, mp4 or webm; Nova 2 does not read webm.", GUIDE),
    Rule("document-format", _E, "A document is a PDF.", "Write pdf.", VALIDATOR),
    Rule("s3-uri", _E, "Media stand in S3, as s3://bucket/key.",
         "Upload the file to S3 and write its URI; URLs and base64 are not read.", DPO),
    Rule("local-image", _E, "Images stand in S3, not on this machine.",
         "Bring the file to S3 with with_images().", DPO),
    Rule("s3-uri-characters", _W, "An S3 URI of media has only letters, digits, and _ - / . in it.",
         "Rename the object.", VALIDATOR),
    Rule("bucket-owner", _E, "bucketOwner is an account number of 12 digits.",
         "Write the number of the account that owns the bucket, as a string.", DPO),
    Rule("bucket-owner-missing", _W, "bucketOwner is there.",
         "Add the number of the account that owns the bucket.", FORGE),
    Rule("too-many-images", _E, "A message has at most 10 images.", "Drop images, or split the message.", DPO),
    Rule("many-images", _W, "A record has at most 10 images in all.", "Drop images, or split the record.", GUIDE),
    Rule("too-many-videos", _E, "A record has at most one video.", "Split the record.", GUIDE),
    Rule("many-documents", _W, "A record has at most one document.", "Split the record.", VALIDATOR),
    Rule("mixed-media", _E, "A record has images or videos or documents, not several kinds.",
         "Split the record.", GUIDE),
)  # fmt: skip

_TOOLS = (
    Rule("reasoning-with-media", _E, "Reasoning does not stand beside media in one turn.",
         "Move one of them to another turn.", SFT),
    Rule("tool-undeclared", _E, "Every tool that is used is declared in toolConfig.", "Declare it.", VALIDATOR),
    Rule("tool-name-repeated", _E, "Every tool is declared once.", "Remove one declaration.", VALIDATOR),
    Rule("tool-use-repeated", _E, "Every toolUseId is used once.", "Give each call its own id.", VALIDATOR),
    Rule("tool-use-unanswered", _E, "Every toolUse is answered by a toolResult in the next user turn.",
         "Add the result.", VALIDATOR),
    Rule("tool-use-last", _W, "A record does not end with a toolUse that nothing answers.",
         "Add the result and the answer after it, if there is one.", VALIDATOR),
    Rule("tool-result-unasked", _E, "Every toolResult answers a toolUse of the turn before, once.",
         "Remove the result, or correct its id.", VALIDATOR),
)  # fmt: skip

_FILE = (
    Rule("duplicate-record", _W, "No record stands in the file twice.", "Remove one of them.", OURS, scope="file"),
    Rule("swapped-preference", _W, "No pair stands in the file both ways round.",
         "Keep the one that is right; the two cancel out.", OURS, scope="file"),
    Rule("system-inconsistent", _W, "Either all records have system, or none.",
         "Add system to all of them, or remove it.", FORGE, scope="file"),
    Rule("mixed-modalities", _W, "A file has text, or text with images, or text with video, not several of these.",
         "Train each in a job of its own.", GUIDE, scope="file"),
)  # fmt: skip

_RUN = (
    Rule("model-text-only", _E, "Nova Micro reads text only.",
         "Use Nova Lite or Pro, or text records.", DPO, scope="run"),
    Rule("model-without-dpo", _E, "Nova 2 Lite has no DPO.", "Use Nova Micro, Lite or Pro.", VALIDATOR, scope="run"),
    Rule("model-without-feature", _E, "Reasoning, tools, documents are for Nova 2 only; webp and webm for Nova 1 only.",
         "Use the other model, or remove these records.", VALIDATOR, scope="run"),
    Rule("few-records", _W, "Preference training has at least 1,000 pairs.",
         "Add pairs, or train more epochs at a low learning rate.", DPO, scope="run"),
    Rule("fewer-than-a-batch", _W, "There are at least as many records as the global batch size.",
         "Add records, or lower global_batch_size.", FORGE, scope="run"),
    Rule("too-many-image-records", _E, "A DPO job has at most 20,000 image records.",
         "Split the data.", DPO, scope="run"),
    Rule("image-max-length", _E, "max_length is at most 16,384 in a DPO job with images.",
         "Lower max_length.", DPO, scope="run"),
    Rule("records-too-long", _W, "Records fit into max_length; the estimate takes four bytes of text for a token.",
         "Raise max_length, or shorten the records; what does not fit is cut off.", DPO, scope="run"),
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    rule.code: rule for rule in (*_READING, *_STRUCTURE, *_PREFERENCE, *_MEDIA, *_TOOLS, *_FILE, *_RUN)
}
"""Every rule by its code, in the order in which the documentation lists them."""

SETTINGS = ("error", "warning", "off")


def severities(overrides: Mapping[str, str]) -> dict[str, Severity | None]:
    """The severity of every rule under `overrides`; None where it is off.

    Args:
        overrides: By rule code: `error`, `warning` or `off`.

    Raises:
        ConfigurationError: A code or a setting is unknown, or the rule cannot be turned down.
    """
    table: dict[str, Severity | None] = {rule.code: rule.severity for rule in RULES.values()}
    for code, setting in overrides.items():
        table[code] = _setting(code, setting)
    return table


def _setting(code: Any, setting: Any) -> Severity | None:
    rule = RULES.get(code)
    if rule is None:
        near = difflib.get_close_matches(str(code), RULES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(RULES)}."
        raise ConfigurationError(f"rules: there is no rule {code!r}{hint}")
    if setting not in SETTINGS:
        raise ConfigurationError(f"rules[{code!r}] is {setting!r}; allowed: {', '.join(SETTINGS)}.")
    if rule.fixed and setting != "error":
        raise ConfigurationError(
            f"rules[{code!r}] cannot be {setting!r}: a line that breaks this rule has no record in it. {rule.fix}"
        )
    return None if setting == "off" else Severity(setting)

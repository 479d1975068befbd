"""YAML as Nova's container reads it: written byte-stable, read with the number rules of YAML 1.2."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (the stubs of PyYAML leave its parser's inside untyped; what leaves this module is typed)

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from nova_dpo_sdk.errors import Finding, RecipeError, Severity

LARGEST = 1024 * 1024
"""Longest recipe text, in bytes: what fits a ConfigMap."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./:-]*\Z")
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_WORDS = frozenset(
    word
    for each in ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf")
    for word in (each, each.capitalize(), each.upper())
)


class _Writer(yaml.SafeDumper):
    """Writes strings quoted unless no YAML reader could take them for anything else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is yaml's
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if _BREAKS.search(text):  # a reader would take these for ends of lines, or drop them
        return writer.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    plain = bool(_PLAIN.match(text)) and text not in _WORDS and not text.endswith(":")
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


def _write_float(writer: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    mantissa, mark, exponent = repr(number).partition("e")
    if mark and "." not in mantissa:
        mantissa += ".0"  # YAML 1.1 readers take 1e-05 for a string
    return writer.represent_scalar("tag:yaml.org,2002:float", mantissa + mark + exponent)


_Writer.add_representer(str, _write_text)
_Writer.add_representer(float, _write_float)


def dump(tree: dict[str, Any]) -> str:
    """Plain values as YAML text, the same bytes for the same values."""
    return yaml.dump(tree, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=4096)


class _Reader(yaml.SafeLoader):
    """Reads scalars by YAML 1.2's core rules, so `1e-5` is a float and `no` is a word; refuses aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = cast("Any", self).peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not read in recipes", mark)
        return super().compose_node(parent, index)


_Reader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Reader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"(?:{_pattern})\Z"),
        list(_first) + ([""] if _tag == "null" else []),
    )


def _read_int(reader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # PyYAML's own reads 010 as eight; YAML 1.2 and Nova's reader say ten.
    return int(reader.construct_scalar(node))


_Reader.add_constructor("tag:yaml.org,2002:int", _read_int)


def load(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Read YAML text.

    Args:
        text: At most 1 MiB.

    Returns:
        The leaves by dotted path (a sequence is a leaf), and the line of each path.

    Raises:
        RecipeError: Not YAML, not a mapping, a key twice, an alias, a tag, too long or too deep.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise RecipeError(f"The recipe is longer than {LARGEST} bytes, which no ConfigMap can hold.")
    reader = _Reader(text) if _printable(text) else None
    leaves: dict[str, Any] = {}
    lines: dict[str, int] = {}
    try:
        node = reader.get_single_node() if reader else None
        if not isinstance(node, yaml.MappingNode) or reader is None:
            raise RecipeError(
                "This is not a recipe: the text is no YAML mapping with the keys run and training_config."
            )
        _walk(reader, node, "", leaves, lines)
    except yaml.YAMLError as error:
        raise RecipeError(_yaml_message(error)) from error
    except ValueError as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"This is not a recipe: a value cannot be read ({str(error)[:120]}).") from error
    except RecursionError as error:
        raise RecipeError("This is not a recipe: it is nested too deeply.") from error
    finally:
        if reader is not None:
            reader.dispose()
    return leaves, lines


def _printable(text: str) -> bool:
    bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise RecipeError(f"Line {line} holds the character {bad.group()!r}, which YAML does not allow. Remove it.")
    return True


def _walk(reader: _Reader, node: yaml.MappingNode, above: str, leaves: dict[str, Any], lines: dict[str, int]) -> None:
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError(f"Line {line}: a key of a recipe is a word, not a collection.")
        path = f"{above}{key_node.value}"
        if path in lines:
            raise RecipeError(
                "This recipe cannot be read:",
                [
                    Finding(
                        "key-twice",
                        Severity.ERROR,
                        f"line {line}, {path}",
                        f"{path} stands twice (first on line {lines[path]}).",
                        fix="Keep one of them.",
                    )
                ],
            )
        lines[path] = line
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            _walk(reader, value_node, f"{path}.", leaves, lines)
        else:
            leaves[path] = reader.construct_object(value_node, deep=True)


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"This is not YAML: {where}{problem}. Correct the text; comments begin with #."

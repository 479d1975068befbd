"""Label and field selectors, as list requests carry them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import _refusals as refusals

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

_COMMA = re.compile(r",(?![^(]*\))")
_KEY = r"([A-Za-z0-9][-A-Za-z0-9_./]*)"
_EQUALITY = re.compile(rf"{_KEY}\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)")
_SET = re.compile(rf"{_KEY}\s+(in|notin)\s+\(([^()]*)\)")
_PRESENCE = re.compile(rf"(!?)\s*{_KEY}")


def label_selector(text: str) -> Callable[[Json], bool]:
    """Read a label selector, such as `app=x,tier in (a, b),!old`.

    Returns:
        A test of an object's metadata.

    Raises:
        Refusal: 400 for anything that is no selector.
    """
    tests = [_label_test(term) for term in _terms(text)]

    def chosen(meta: Json) -> bool:
        labels: Json = meta.get("labels", {})
        return all(test(labels) for test in tests)

    return chosen


def field_selector(text: str) -> Callable[[Json], bool]:
    """Read a field selector; only `metadata.name` and `metadata.namespace` are known for every kind.

    Returns:
        A test of an object's metadata.

    Raises:
        Refusal: 400 for other fields.
    """
    tests = [_field_test(term) for term in _terms(text)]
    return lambda meta: all(test(meta) for test in tests)


def _terms(text: str) -> list[str]:
    return [term.strip() for term in _COMMA.split(text) if term.strip()]


def _label_test(term: str) -> Callable[[Json], bool]:
    if match := _EQUALITY.fullmatch(term):
        key, operator, value = match.groups()
        return lambda labels: (labels.get(key) == value) is (operator != "!=")
    if match := _SET.fullmatch(term):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        return lambda labels: (labels.get(key) in values) is (operator == "in")
    if match := _PRESENCE.fullmatch(term):
        absent, key = match.groups()
        return lambda labels: (key in labels) is not bool(absent)
    raise refusals.bad_request(f'unable to parse requirement: found "{term}"')


def _field_test(term: str) -> Callable[[Json], bool]:
    match = _EQUALITY.fullmatch(term)
    if match is None or match[1] not in {"metadata.name", "metadata.namespace"}:
        raise refusals.bad_request(f'field label not supported: "{term}"')
    field, operator, value = match[1].partition(".")[2], match[2], match[3]
    return lambda meta: (meta.get(field) == value) is (operator != "!=")

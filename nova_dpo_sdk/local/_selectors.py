"""Label and field selectors, as list requests carry them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import _refusals as refusals
from ._resources import PODS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._resources import Kind

Json = dict[str, Any]

_COMMA = re.compile(r",(?![^(]*\))")
_KEY = r"([A-Za-z0-9][-A-Za-z0-9_./]*)"
_EQUALITY = re.compile(rf"{_KEY}\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)")
_SET = re.compile(rf"{_KEY}\s+(in|notin)\s+\(([^()]*)\)")
_PRESENCE = re.compile(rf"(!?)\s*{_KEY}")
_FIELDS = frozenset({"metadata.name", "metadata.namespace"})
_FIELDS_OF_PODS = _FIELDS | {"spec.nodeName", "status.phase"}


def selector(kind: Kind, query: Mapping[str, str]) -> Callable[[Json], bool]:
    """Read the selectors of a request.

    Returns:
        A test of an object.

    Raises:
        Refusal: 400 for anything that is no selector.
    """
    labelled = label_selector(query.get("labelSelector", ""))
    fields = _FIELDS_OF_PODS if kind is PODS else _FIELDS
    tests = [_field_test(term, fields) for term in _terms(query.get("fieldSelector", ""))]
    return lambda item: labelled(item["metadata"]) and all(test(item) for test in tests)


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


def _field_test(term: str, fields: frozenset[str]) -> Callable[[Json], bool]:
    match = _EQUALITY.fullmatch(term)
    if match is None or match[1] not in fields:
        raise refusals.bad_request(f'field label not supported: "{term}"')
    (part, _, field), operator, value = match[1].partition("."), match[2], match[3]
    return lambda item: (item.get(part, {}).get(field, "") == value) is (operator != "!=")

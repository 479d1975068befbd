"""Lists as Tables: the few cells that a server prints of each object, in place of all of it."""

from __future__ import annotations

import gc
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._refusals import json_object
from nova_dpo_sdk.backends._resources import Ask, Resource

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI

Json = dict[str, Any]

AS_TABLE = {
    "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "Accept-Encoding": "gzip",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_AGE = re.compile(r"(?:\d+[smhdy])+\Z")
_STEP = re.compile(r"(\d+)([smhdy])")
_WATCHED = ("State", "Ready", "Status", "Restarts", "Node")


@dataclass(frozen=True)
class Rows:
    """One list, row by row.

    Attributes:
        faces: By name, the cells in which a change can be seen.
        ages: By name, the age as the server writes it.
    """

    faces: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, "tuple[Any, ...]"])
    ages: Mapping[str, str] = field(default_factory=dict[str, str])

    def changed_since(self, before: Rows) -> set[str]:
        """The names that are new, gone, made anew under the same name, or look different."""
        changed: set[str] = set()
        if self is before:
            return changed
        if self.faces != before.faces:
            changed |= {name for name, face in self.faces.items() if before.faces.get(name) != face}
            changed |= before.faces.keys() - self.faces.keys()
        # Thousands of ages differ at each tick, and few of them from each other: look at pairs, not at rows.
        pairs = set(zip(self.ages.values(), map(before.ages.get, self.ages), strict=True))
        younger = {pair for pair in pairs if pair[1] not in (None, pair[0]) and _is_younger(*pair)}
        if younger:
            changed |= {name for name, age in self.ages.items() if (age, before.ages.get(name)) in younger}
        return changed


class Tables:
    """One list, asked for again and again as a Table of cells alone: some 60 bytes a job, some 140 a pod.

    Only rows that are written differently than before are parsed.

    Args:
        api: The cluster.
        resource: The kind of object.
        namespace: Where they are.
    """

    def __init__(self, api: KubernetesAPI, resource: Resource, namespace: str) -> None:
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._body = b""
        self._names: dict[bytes, str] = {}
        self._columns: Mapping[str, int] = {}
        self._rows: Rows | None = None

    def read(self, selector: str) -> Rows | None:
        """The rows as they are now; None when the server answers with something else.

        Args:
            selector: Which objects.
        """
        query = {"labelSelector": selector, "includeObject": "None", "resourceVersion": "0"}
        ask = Ask("list", "GET", self._resource, self._namespace, query=query, headers=AS_TABLE)
        body = self._api.raw(ask)
        # Only the list's own version differs while nothing happens: then there is nothing to parse.
        shown = body[body.find(b'"columnDefinitions"') :]
        if self._rows is None or shown != self._body:
            with _without_collector():
                self._rows = self._renewed(shown) or self._parsed(body, shown)
            self._body = shown
        return self._rows

    def _parsed(self, body: bytes, shown: bytes) -> Rows | None:
        answer = json_object(body) or {}
        columns = {str(each["name"]): index for index, each in enumerate(answer.get("columnDefinitions") or ())}
        if answer.get("kind") != "Table" or "Name" not in columns or not columns.keys() & set(_WATCHED):
            return None
        found = _read([row["cells"] for row in answer.get("rows") or ()], columns)
        self._columns = columns
        parts = _split(shown)
        self._names = dict(zip(parts, found.faces, strict=True)) if len(parts) == len(found.faces) else {}
        return found

    def _renewed(self, shown: bytes) -> Rows | None:
        """The rows of before, with those that are written differently; None when everything is to be parsed."""
        before = self._rows
        parts = _split(shown)
        fresh = [part for part in parts if part not in self._names]
        if before is None or 2 * len(fresh) > len(parts) or not _same_head(shown, self._body):
            return None
        cells = _cells(fresh)
        if cells is None or any(len(row) != len(self._columns) for row in cells):
            return None
        found = _read(cells, self._columns)
        faces, ages, names = dict(before.faces), dict(before.ages), dict(self._names)
        for part in names.keys() - set(parts):
            name = names.pop(part)
            faces.pop(name, None)
            ages.pop(name, None)
        names.update(zip(fresh, (row[self._columns["Name"]] for row in cells), strict=True))
        self._names = names
        return Rows({**faces, **found.faces}, {**ages, **found.ages})


_ROW = b'{"cells":'


def _split(shown: bytes) -> list[bytes]:
    """Every row as it is written, each with a comma at its end."""
    parts = shown.split(_ROW)[1:]
    if parts:
        parts[-1] = parts[-1][: parts[-1].rfind(b"]")] + b","
    return parts


def _same_head(shown: bytes, before: bytes) -> bool:
    end = before.find(_ROW)
    return end > 0 and shown[:end] == before[:end]


def _cells(parts: list[bytes]) -> list[list[Any]] | None:
    try:
        rows: list[Json] = json.loads(b"[" + b"".join(_ROW + part for part in parts)[:-1] + b"]")
        return [row["cells"] for row in rows]
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _without_collector() -> Generator[None]:
    """Let the garbage collector rest: rows are many objects and no rings, beside all that a follower remembers."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def versions(api: KubernetesAPI, resource: Resource, namespace: str, selector: str) -> dict[str, str] | None:
    """List the resource version of every object, by its name; no change escapes it, and it costs more bytes.

    Returns:
        The versions; None when the server answers with something else.
    """
    query = {"labelSelector": selector, "includeObject": "Metadata", "resourceVersion": "0"}
    answer = api.request("list", "GET", resource, namespace, query=query, headers=AS_TABLE)
    if answer.get("kind") != "Table":
        return None
    objects: list[Json] = [row.get("object") or {} for row in answer.get("rows") or ()]
    metas: list[Json] = [each.get("metadata") or {} for each in objects]
    return {str(meta.get("name")): str(meta.get("resourceVersion")) for meta in metas}


def _read(cells: list[list[Any]], columns: Mapping[str, int]) -> Rows:
    if not cells:
        return Rows()
    by_column: list[Sequence[Any]] = list(zip(*cells, strict=True))
    if "Restarts" in columns:
        at = columns["Restarts"]
        by_column[at] = [_count(cell) for cell in by_column[at]]
    names: Sequence[str] = by_column[columns["Name"]]
    watched = [by_column[columns[name]] for name in _WATCHED if name in columns]
    faces = dict(zip(names, zip(*watched, strict=True), strict=True))
    ages = dict(zip(names, by_column[columns["Age"]], strict=True)) if "Age" in columns else {}
    return Rows(faces, ages)


def _count(cell: Any) -> Any:
    """The restarts alone: "2 (5m ago)" would change all the time."""
    return cell.partition(" ")[0] if isinstance(cell, str) else cell


def _is_younger(age: str, before: str | None) -> bool:
    now, then = _seconds(age), _seconds(before or "")
    return True if now is None or then is None else now < then


def _seconds(age: str) -> int | None:
    if not _AGE.match(age):
        return None  # a moment, which never changes by itself
    return sum(int(count) * _UNITS[unit] for count, unit in _STEP.findall(age))

"""Lists as a Table: the few columns that an API server prints, at a fraction of the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._resources import PODS, PYTORCHJOBS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]


def asks_for_table(accept: str) -> bool:
    """Whether a client's `Accept` header asks for a Table before plain JSON."""
    first = accept.split(",", maxsplit=1)[0].replace(" ", "")
    return first.startswith("application/json;") and "as=Table" in first and "g=meta.k8s.io" in first


def table(kind: Kind, items: list[Json], meta: Json, include: str = "") -> Json:
    """The objects of one list as rows; each row carries its object's metadata.

    Args:
        kind: The kind.
        items: The objects.
        meta: The list's own metadata.
        include: What each row carries: `None`, `Metadata` (also when empty) or `Object`.

    Returns:
        A `Table` of `meta.k8s.io/v1`.
    """
    columns = _COLUMNS.get(kind, _NAME)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [{"name": name, "type": "string"} for name in columns],
        "rows": [
            {
                "cells": [cell(item) for cell in columns.values()],
                "object": _included(item, include),
            }
            for item in items
        ],
    }


def _included(item: Json, include: str) -> Json | None:
    if include == "None":
        return None
    if include == "Object":
        return item
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])


def _created(item: Json) -> str:
    # A real server writes an age here; the moment says the same, and does not depend on when it is read.
    return str(item["metadata"]["creationTimestamp"])


def _state(item: Json) -> str:
    conditions: list[Json] = item.get("status", {}).get("conditions", [])
    return str(conditions[-1]["type"]) if conditions else ""


def _containers(item: Json) -> list[Json]:
    found: list[Json] = item.get("status", {}).get("containerStatuses", [])
    return found


def _ready(item: Json) -> str:
    ready = sum(1 for each in _containers(item) if each["ready"])
    return f"{ready}/{len(item['spec']['containers'])}"


def _phase(item: Json) -> str:
    status: Json = item.get("status", {})
    if "deletionTimestamp" in item["metadata"]:
        return "Terminating"
    for prefix, group in (("Init:", "initContainerStatuses"), ("", "containerStatuses")):
        for each in status.get(group, []):
            if "waiting" in each["state"]:
                return f"{prefix}{each['state']['waiting']['reason']}"
    phase = str(status.get("phase", "Pending"))
    return "Completed" if phase == "Succeeded" else phase


def _restarts(item: Json) -> str:
    return str(sum(int(each["restartCount"]) for each in _containers(item)))


def _node(item: Json) -> str:
    return str(item["spec"].get("nodeName", "<none>"))


_NAME: dict[str, Callable[[Json], str]] = {"Name": _name, "Age": _created}
_COLUMNS: dict[Kind, dict[str, Callable[[Json], str]]] = {
    PYTORCHJOBS: {"Name": _name, "State": _state, "Age": _created},
    PODS: {
        "Name": _name,
        "Ready": _ready,
        "Status": _phase,
        "Restarts": _restarts,
        "Age": _created,
        "Node": _node,
    },
}

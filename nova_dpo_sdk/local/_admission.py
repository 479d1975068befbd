"""What the API server checks before it stores an object."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, cast

from . import _refusals as refusals
from ._resources import CONFIGMAPS, NAMESPACES, PODS, PYTORCHJOBS, Kind
from ._schema import SHAPES, Reading, json_type

Json = dict[str, Any]

_MIB = 1024 * 1024
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_LARGEST_BODY = 3 * _MIB
_LARGEST_STORED = 3 * _MIB // 2
_LARGEST_ANNOTATIONS = 256 * 1024

Causes = list[tuple[str, str]]


@dataclass(frozen=True)
class Admitted:
    """An object that may be stored, and the warnings that go back with the answer."""

    item: Json
    warnings: tuple[str, ...] = ()


def admit(kind: Kind, namespace: str, body: Any, *, validation: str, name: str = "") -> Admitted:
    """Check one object as it was sent.

    Args:
        kind: The kind that the URL names.
        namespace: The namespace that the URL names.
        body: The decoded request body.
        validation: `fieldValidation`: `Strict`, `Warn` or `Ignore`.
        name: The name that the URL names, in an update.

    Returns:
        The object with unknown fields dropped.

    Raises:
        Refusal: 400 or 422, with every cause.
    """
    item = _object(kind, body)
    meta = _metadata(kind, namespace, item, name)
    reading = Reading([], [])
    cleaned = reading.read(item, SHAPES[kind], "") if kind in SHAPES else item
    warnings = _unknown(kind, reading.unknown, validation)
    if not name:
        _generate_name(cleaned["metadata"])
    elif kind is PYTORCHJOBS and not meta.get("resourceVersion"):
        # Custom resources cannot be overwritten blindly; built-in ones can.
        reading.wrong.append(("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update"))
    meta = cleaned["metadata"]
    given = str(meta.get("name", ""))
    causes = [*_metadata_causes(meta), *reading.wrong]
    if not causes:
        causes += _kind_causes(kind, cleaned)
    if causes:
        raise refusals.invalid(kind, given, causes)
    return Admitted(cleaned, warnings)


def check_body_size(size: int) -> None:
    """Refuse a body that the server does not read to its end."""
    if size > _LARGEST_BODY:
        raise refusals.too_large_for_server()


def check_stored_size(size: int) -> None:
    """Refuse an object that etcd does not take."""
    if size > _LARGEST_STORED:
        raise refusals.too_large_for_storage()


def check_unchanged(kind: Kind, old: Json, item: Json) -> None:
    """Refuse another content for a ConfigMap that was made immutable."""
    if kind is CONFIGMAPS and old.get("immutable"):
        rule = "Forbidden: field is immutable when `immutable` is set"
        changed = [field for field in ("immutable", "data", "binaryData") if old.get(field) != item.get(field)]
        if changed:
            raise refusals.invalid(kind, str(item["metadata"]["name"]), [(field, rule) for field in changed])


def part(kind: Kind, parent: Json, field: str) -> Json:
    """A part of a body that must be an object; empty when it is not there, or null."""
    given: Any = parent.get(field)
    if given is not None and not isinstance(given, dict):
        raise refusals.undecodable(kind, f"json: cannot unmarshal {json_type(given)} into Go struct field .{field}")
    return cast("Json", given or {})


def _object(kind: Kind, body: Any) -> Json:
    if not isinstance(body, dict):
        raise refusals.bad_request("the object provided is unrecognized (must be a JSON object)")
    item = cast("Json", body)
    for field in ("kind", "apiVersion"):
        if not item.get(field):
            raise refusals.bad_request(f"the object provided is unrecognized: Object '{field}' is missing")
    given = (item["apiVersion"], item["kind"])
    if given != (kind.api_version, kind.kind):
        wrong = f"Invalid value: {given[0]}, Kind={given[1]}: must be {kind.api_version}, Kind={kind.kind}"
        raise refusals.invalid(kind, "", [("kind", wrong)])
    return item


def _metadata(kind: Kind, namespace: str, item: Json, name: str) -> Json:
    meta = part(kind, item, "metadata")
    item["metadata"] = meta
    for field in ("name", "generateName"):
        if not isinstance(meta.get(field) or "", str):
            found = json_type(meta[field])
            why = f"json: cannot unmarshal {found} into Go struct field ObjectMeta.metadata.{field} of type string"
            raise refusals.undecodable(kind, why)
    for field in ("labels", "annotations"):
        _texts(kind, meta.get(field), f"ObjectMeta.metadata.{field}")
    if kind is CONFIGMAPS:
        _texts(kind, item.get("data"), "ConfigMap.data")
    if kind.namespaced and meta.get("namespace", namespace) != namespace:
        raise refusals.bad_request(
            f"the namespace of the provided object does not match the namespace sent on the request "
            f"({meta['namespace']} != {namespace})"
        )
    if name and meta.get("name") != name:
        raise refusals.bad_request(
            f"the name of the object ({meta.get('name')}) does not match the name on the URL ({name})"
        )
    return meta


def _generate_name(meta: Json) -> None:
    prefix = meta.get("generateName")
    if prefix and not meta.get("name"):
        meta["name"] = f"{prefix}{secrets.token_hex(4)[:5]}"


def _texts(kind: Kind, given: Any, field: str) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        raise refusals.undecodable(kind, f"json: cannot unmarshal into Go struct field {field}")
    texts = cast("Json", given)
    for key, value in texts.items():
        if value is None:
            texts[key] = ""
        elif not isinstance(value, str):
            found = json_type(value)
            why = f"json: cannot unmarshal {found} into Go struct field {field} of type string"
            raise refusals.undecodable(kind, why)


def _unknown(kind: Kind, unknown: list[str], validation: str) -> tuple[str, ...]:
    named = [f'unknown field "{path}"' for path in unknown]
    if named and validation == "Strict":
        raise refusals.undecodable(kind, f"strict decoding error: {', '.join(named)}")
    return () if validation == "Ignore" else tuple(named)


def _metadata_causes(meta: Json) -> Causes:
    name = meta.get("name") or ""
    causes = _name_causes(name)
    labels: Json = meta.get("labels") or {}
    for key, value in labels.items():
        causes += label_causes(key, value, "metadata.labels")
    annotations: Json = meta.get("annotations") or {}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _LARGEST_ANNOTATIONS:
        causes.append(("metadata.annotations", f"Too long: may not be more than {_LARGEST_ANNOTATIONS} bytes"))
    return causes


def _name_causes(name: str) -> Causes:
    if not name:
        return [("metadata.name", "Required value: name or generateName is required")]
    if len(name) > _LONGEST_NAME:
        wrong = f"must be no more than {_LONGEST_NAME} characters"
        return [("metadata.name", f'Invalid value: "{name}": {wrong}')]
    if not _SUBDOMAIN.fullmatch(name):
        rule = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        return [("metadata.name", f'Invalid value: "{name}": {rule}')]
    return []


def label_causes(key: str, value: str, field: str) -> Causes:
    """What is wrong with one label."""
    causes: Causes = []
    if not _QUALIFIED.fullmatch(key):
        causes.append((field, f'Invalid value: "{key}": name part must consist of alphanumeric characters'))
    if len(value) > _LONGEST_LABEL:
        causes.append((field, f'Invalid value: "{value}": must be no more than {_LONGEST_LABEL} characters'))
    elif not _LABEL.fullmatch(value):
        rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
        causes.append((field, f'Invalid value: "{value}": {rule}'))
    return causes


def _kind_causes(kind: Kind, item: Json) -> Causes:
    if kind is CONFIGMAPS:
        return _configmap_causes(item)
    if kind is PYTORCHJOBS:
        return _job_causes(item)
    if kind is PODS:
        return pod_causes(item["spec"]) if "spec" in item else [("spec", "Required value")]
    if kind is NAMESPACES and len(item["metadata"]["name"]) > _LONGEST_LABEL:
        return [("metadata.name", f"Invalid value: must be no more than {_LONGEST_LABEL} characters")]
    return []


def _configmap_causes(item: Json) -> Causes:
    data: dict[str, str] = item.get("data") or {}
    rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    causes: Causes = [
        (f"data[{key}]", f'Invalid value: "{key}": {rule}') for key in data if not _CONFIG_KEY.fullmatch(key)
    ]
    if sum(len(value.encode()) for value in data.values()) > _MIB:
        causes.append(("[]", f"Too long: may not be more than {_MIB} bytes"))
    return causes


def _job_causes(item: Json) -> Causes:
    # The CRD's scale subresource points at the workers' count, so only theirs must not be negative.
    groups: Json = item.get("spec", {}).get("pytorchReplicaSpecs", {})
    replicas = groups.get("Worker", {}).get("replicas", 0)
    if replicas < 0:
        field = "spec.pytorchReplicaSpecs.Worker.replicas"
        return [(field, f"Invalid value: {replicas}: should be a non-negative integer")]
    return []


def pod_causes(spec: Json) -> Causes:
    """What is wrong with a pod: rules that a PyTorchJob's template is not held to until its pods are created."""
    causes: Causes = []
    names = [volume["name"] for volume in spec.get("volumes", [])]
    causes += [
        (f"spec.volumes[{index}].name", f'Duplicate value: "{name}"')
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, [])):
            causes += _container_causes(container, set(names), f"spec.{group}[{index}]")
    if spec.get("restartPolicy", "Always") not in {"Always", "OnFailure", "Never"}:
        causes.append(("spec.restartPolicy", f'Unsupported value: "{spec["restartPolicy"]}"'))
    if not spec.get("containers"):
        causes.append(("spec.containers", "Required value"))
    return causes


def write_quantities(spec: Json) -> None:
    """Turn a pod's amounts into strings, as an API server stores them for its own kinds."""
    for group in ("initContainers", "containers"):
        for container in spec.get(group, []):
            for part in ("limits", "requests"):
                amounts: Json = container.get("resources", {}).get(part, {})
                amounts.update({name: str(amount) for name, amount in amounts.items()})


def _container_causes(container: Json, volumes: set[str], path: str) -> Causes:
    causes: Causes = []
    if not container.get("image"):
        causes.append((f"{path}.image", "Required value"))
    for index, mount in enumerate(container.get("volumeMounts", [])):
        if mount["name"] not in volumes:
            causes.append((f"{path}.volumeMounts[{index}].name", f'Not found: "{mount["name"]}"'))
    paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    if len(set(paths)) != len(paths):
        causes.append((f"{path}.volumeMounts", "Invalid value: must be unique"))
    resources: Json = container.get("resources", {})
    limits: Json = resources.get("limits", {})
    for name, amount in (resources.get("requests", {})).items():
        if "/" in name and str(limits.get(name)) != str(amount):
            field = f"{path}.resources.requests"
            causes.append((field, f'Invalid value: "{amount}": must be equal to {name} limit of {limits.get(name)}'))
    return causes

"""Which fields the API server knows in each kind of object, and of which type.

Field names follow the public OpenAPI description of Kubernetes 1.33 and the PyTorchJob CRD of training-operator 1.7.
Rarely used corners (probes, life-cycle hooks, uncommon volumes) are known by name only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union, cast

from ._resources import CONFIGMAPS, PODS, PYTORCHJOBS, SELF_REVIEWS, Kind

Json = dict[str, Any]
Shape = Union[str, "Fields", "Listed", "Mapped"]


@dataclass(frozen=True)
class Fields:
    """An object with these fields; those in `required` must be there."""

    shapes: dict[str, Shape]
    required: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listed:
    """A list of one shape."""

    item: Shape


@dataclass(frozen=True)
class Mapped:
    """An object with free keys and values of one shape."""

    value: Shape


STRING, INTEGER, BOOLEAN, QUANTITY, NUMBER, ANY = (
    "string",
    "integer",
    "boolean",
    "integer or string",
    "number",
    "any",
)


def _fields(required: str = "", /, **groups: Any) -> Fields:
    """Fields by type: `strings="a b"`, and further fields by name."""
    plain = {"strings": STRING, "integers": INTEGER, "booleans": BOOLEAN, "anything": ANY}
    shapes: dict[str, Shape] = {}
    for key, value in groups.items():
        if key in plain:
            shapes.update(dict.fromkeys(value.split(), plain[key]))
        else:
            shapes[key] = value
    return Fields(shapes, frozenset(required.split()))


_STRINGS = Listed(STRING)
_TEXTS = Mapped(STRING)

METADATA = _fields(
    strings="name generateName namespace uid resourceVersion creationTimestamp deletionTimestamp selfLink",
    integers="generation deletionGracePeriodSeconds",
    labels=_TEXTS,
    annotations=_TEXTS,
    finalizers=_STRINGS,
    ownerReferences=Listed(
        _fields(
            "apiVersion kind name uid",
            strings="apiVersion kind name uid",
            booleans="controller blockOwnerDeletion",
        )
    ),
    anything="managedFields",
)
_EXPRESSIONS = Listed(_fields("key operator", strings="key operator", values=_STRINGS))
_NODE_TERM = _fields(matchExpressions=_EXPRESSIONS, matchFields=_EXPRESSIONS)
_AFFINITY = _fields(
    nodeAffinity=_fields(
        requiredDuringSchedulingIgnoredDuringExecution=_fields(
            "nodeSelectorTerms", nodeSelectorTerms=Listed(_NODE_TERM)
        ),
        preferredDuringSchedulingIgnoredDuringExecution=Listed(
            _fields("preference weight", preference=_NODE_TERM, integers="weight")
        ),
    ),
    anything="podAffinity podAntiAffinity",
)
_CONTAINER = _fields(
    "name",
    strings="name image imagePullPolicy workingDir terminationMessagePath terminationMessagePolicy restartPolicy",
    booleans="stdin stdinOnce tty",
    command=_STRINGS,
    args=_STRINGS,
    env=Listed(_fields("name", strings="name value", anything="valueFrom")),
    resources=_fields(limits=Mapped(QUANTITY), requests=Mapped(QUANTITY), anything="claims"),
    volumeMounts=Listed(
        _fields(
            "mountPath name",
            strings="name mountPath subPath subPathExpr mountPropagation recursiveReadOnly",
            booleans="readOnly",
        )
    ),
    anything=(
        "envFrom lifecycle livenessProbe ports readinessProbe resizePolicy securityContext startupProbe volumeDevices"
    ),
)
_VOLUME = _fields(
    "name",
    strings="name",
    hostPath=_fields("path", strings="path type"),
    emptyDir=_fields(strings="medium", sizeLimit=QUANTITY),
    configMap=_fields(
        strings="name",
        integers="defaultMode",
        booleans="optional",
        items=Listed(_fields("key path", strings="key path", integers="mode")),
    ),
    anything=(
        "awsElasticBlockStore azureDisk azureFile cephfs cinder csi downwardAPI ephemeral fc flexVolume flocker "
        "gcePersistentDisk gitRepo glusterfs image iscsi nfs persistentVolumeClaim photonPersistentDisk "
        "portworxVolume projected quobyte rbd scaleIO secret storageos vsphereVolume"
    ),
)
POD_SPEC = _fields(
    "containers",
    strings=(
        "dnsPolicy hostname nodeName preemptionPolicy priorityClassName restartPolicy runtimeClassName schedulerName "
        "serviceAccount serviceAccountName subdomain"
    ),
    integers="activeDeadlineSeconds priority terminationGracePeriodSeconds",
    booleans=(
        "automountServiceAccountToken enableServiceLinks hostIPC hostNetwork hostPID hostUsers setHostnameAsFQDN "
        "shareProcessNamespace"
    ),
    affinity=_AFFINITY,
    containers=Listed(_CONTAINER),
    initContainers=Listed(_CONTAINER),
    nodeSelector=_TEXTS,
    tolerations=Listed(_fields(strings="key operator value effect", integers="tolerationSeconds")),
    volumes=Listed(_VOLUME),
    anything=(
        "dnsConfig ephemeralContainers hostAliases imagePullSecrets os overhead readinessGates resourceClaims "
        "resources schedulingGates securityContext topologySpreadConstraints"
    ),
)
_REPLICAS = _fields(
    strings="restartPolicy",
    integers="replicas",
    template=_fields(
        metadata=_fields(strings="name namespace", labels=_TEXTS, annotations=_TEXTS, finalizers=_STRINGS),
        spec=POD_SPEC,
    ),
)
_JOB_SPEC = _fields(
    "pytorchReplicaSpecs",
    strings="nprocPerNode",
    pytorchReplicaSpecs=Mapped(_REPLICAS),
    runPolicy=_fields(
        strings="cleanPodPolicy",
        integers="activeDeadlineSeconds backoffLimit ttlSecondsAfterFinished",
        booleans="suspend",
        schedulingPolicy=_fields(
            strings="priorityClass queue",
            integers="minAvailable scheduleTimeoutSeconds",
            minResources=Mapped(QUANTITY),
        ),
    ),
    elasticPolicy=_fields(
        strings="rdzvBackend rdzvHost rdzvId",
        integers="maxReplicas maxRestarts minReplicas nProcPerNode rdzvPort",
        booleans="standalone",
        anything="metrics rdzvConf",
    ),
)
_REVIEW_SPEC = _fields(
    resourceAttributes=_fields(
        strings="group name namespace resource subresource verb version", anything="fieldSelector labelSelector"
    ),
    nonResourceAttributes=_fields(strings="path verb"),
)


def _top(**shapes: Any) -> Fields:
    return _fields(strings="apiVersion kind", metadata=METADATA, anything="status", **shapes)


SHAPES: dict[Kind, Fields] = {
    CONFIGMAPS: _fields(
        strings="apiVersion kind", booleans="immutable", metadata=METADATA, data=_TEXTS, binaryData=_TEXTS
    ),
    PYTORCHJOBS: _top(spec=_JOB_SPEC),
    PODS: _top(spec=POD_SPEC),
    SELF_REVIEWS: _top(spec=_REVIEW_SPEC),
}
"""Kinds without an entry are not looked into."""


@dataclass
class Reading:
    """What reading an object against its shape brought to light.

    Attributes:
        unknown: Paths of fields that the API server does not know.
        wrong: Pairs of path and message for values of the wrong type, or missing.
    """

    unknown: list[str]
    wrong: list[tuple[str, str]]

    def read(self, value: Any, shape: Shape, path: str) -> Any:
        """The value with unknown fields and nulls dropped."""
        if isinstance(shape, Fields):
            return self._read_fields(value, shape, path)
        if isinstance(shape, Listed):
            if not isinstance(value, list):
                return self._mistyped(value, "array", path)
            return [self.read(item, shape.item, f"{path}[{index}]") for index, item in enumerate(_items(value))]
        if isinstance(shape, Mapped):
            if not isinstance(value, dict):
                return self._mistyped(value, "object", path)
            entries = cast("Json", value)
            return {key: self.read(item, shape.value, _join(path, key)) for key, item in entries.items()}
        return self._read_plain(value, shape, path)

    def _read_fields(self, value: Any, shape: Fields, path: str) -> Any:
        if not isinstance(value, dict):
            return self._mistyped(value, "object", path)
        entries = cast("Json", value)
        known: Json = {}
        for key, item in entries.items():
            if key not in shape.shapes:
                self.unknown.append(_join(path, key))
            elif item is not None:
                known[key] = self.read(item, shape.shapes[key], _join(path, key))
        self.wrong += [(_join(path, key), "Required value") for key in sorted(shape.required - set(known))]
        return known

    def _read_plain(self, value: Any, shape: str, path: str) -> Any:
        fits = {
            STRING: isinstance(value, str),
            INTEGER: isinstance(value, int) and not isinstance(value, bool),
            BOOLEAN: isinstance(value, bool),
            QUANTITY: isinstance(value, (str, int)) and not isinstance(value, bool),
            NUMBER: isinstance(value, (int, float)) and not isinstance(value, bool),
            ANY: True,
        }
        return value if fits[shape] else self._mistyped(value, shape, path)

    def _mistyped(self, value: Any, wanted: str, path: str) -> Any:
        given = json_type(value)
        self.wrong.append((path, f'Invalid value: "{given}": {path} in body must be of type {wanted}: "{given}"'))
        return value


def _items(value: Any) -> list[Any]:
    return list(value)


def json_type(value: Any) -> str:
    """The JSON name of a value's type."""
    names: dict[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return next((name for kind, name in names.items() if isinstance(value, kind)), "null")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

"""Where the cluster's contract is checked: the rehearsal cluster, or a real API server that a kubeconfig names.

Environment variables, all of them optional:

- `NOVA_DPO_TEST_KUBECONFIG`: a kubeconfig whose current context carries a bearer token; best an administrator's, who
  may install the job's kind and make the roles.
- `NOVA_DPO_TEST_OPERATOR_KUBECONFIG`: the same for whoever may write the status of jobs and pods.
- `NOVA_DPO_TEST_NAMESPACE`: where objects are made and removed again; `kubeflow` when left out.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import ssl
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import rehearsal
import urllib3
import yaml

from nova_dpo_sdk._time import Clock, SystemClock
from nova_dpo_sdk.backends._kubernetes import KubernetesAPI
from nova_dpo_sdk.local import ROLES, FakeClock, Grant, LocalCloud, Role
from nova_dpo_sdk.local._resources import PYTORCHJOBS
from nova_dpo_sdk.local._schema import SHAPES, Fields, Listed, Mapped

Json = dict[str, Any]
ADMINISTRATOR, TEAM, NAMESPACED, OPERATOR = "administrator", "team", "namespaced", "operator"
ON_CLUSTER = ("nodes", "namespaces")
GROUPS = {
    "pytorchjobs": "kubeflow.org",
    "pytorchjobs/status": "kubeflow.org",
    "workloads": "kueue.x-k8s.io",
}


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "")) if isinstance(self.body, dict) else ""

    @property
    def said(self) -> tuple[int, str]:
        return self.status, self.reason


@dataclass(frozen=True)
class Token:
    value: str = field(repr=False)
    expires_at: datetime


class Caller:
    """Sends requests as they are in one identity's name, and removes at the end what it made."""

    def __init__(self, endpoint: str, ca_pem: str, token: Any, clock: Clock) -> None:
        self.token = token
        self.api = KubernetesAPI(endpoint, ca_pem, self._fresh, clock=clock)
        self._clock = clock
        self._endpoint = endpoint
        self._pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=ca_pem), retries=False)
        self.made: list[str] = []

    def _fresh(self) -> Token:
        return Token(self.token(), self._clock.now() + timedelta(minutes=14))

    def __call__(
        self, method: str, path: str, body: Any = None, *, headers: Json | None = None, **query: str
    ) -> Answer:
        given = {"Authorization": f"Bearer {self.token()}", **(headers or {})}
        if body is not None and "Content-Type" not in given and not isinstance(body, bytes):
            given["Content-Type"] = "application/json"
        given = {key: value for key, value in given.items() if value is not None}
        sent = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        url = self._endpoint + path + (f"?{urlencode(query)}" if query else "")
        answer = self._pool.request(method, url, body=sent, headers=given)
        parsed = _parsed(answer.data)
        if method == "POST" and answer.status == 201 and isinstance(parsed, dict) and query.get("dryRun") is None:
            name = parsed.get("metadata", {}).get("name")
            if name and "subjectaccessreviews" not in path and not path.endswith("/token"):
                self.made.append(f"{path}/{name}")
        return Answer(answer.status, parsed, answer.headers)

    def watch(self, path: str, count: int, **query: str) -> list[Json]:
        """The first events of a watch."""
        told: list[Json] = []
        answer = self._pool.request(
            "GET",
            self._endpoint + path,
            fields={"watch": "true", "timeoutSeconds": "8", **query},
            headers={"Authorization": f"Bearer {self.token()}"},
            preload_content=False,
            timeout=20.0,  # a watch that tells too little fails, where a clock that stands still would let it hang
        )
        if answer.status != 200:
            return [{"type": "REFUSED", "object": _parsed(answer.read())}]
        rest = b""
        for piece in answer.stream(1 << 16):
            *lines, rest = (rest + piece).split(b"\n")
            told += [json.loads(line) for line in lines if line]
            if len(told) >= count:
                break
        answer.close()
        return told

    def clear(self) -> None:
        for path in reversed(self.made):
            self("DELETE", path, propagationPolicy="Background")
        self.made.clear()

    def close(self) -> None:
        self.api.close()
        self._pool.clear()


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


class Place:
    """One API server."""

    name = ""
    namespaces: dict[str, str]
    strict = True
    """Whether it knows `fieldValidation=Strict`; servers before 1.25 do not look at it."""
    collects = True
    """Whether somebody follows owner references."""

    clock: Clock

    def caller(self, role: str) -> Caller:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class LocalPlace(Place):
    """The rehearsal cluster, its operator asleep: the suite writes every status itself, as on a real server."""

    name = "rehearsal"

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.namespaces = {TEAM: "hyperpod-ns-contract", NAMESPACED: "kubeflow"}
        self._cloud = LocalCloud(clock=self.clock, namespaces=["kubeflow", "hyperpod-ns-contract"])
        self._cloud.start()
        self._cloud.trainer.operator.silent = True
        self._callers: dict[str, Caller] = {}

    def caller(self, role: str) -> Caller:
        cloud, given = self._cloud, ADMINISTRATOR if role == OPERATOR else role

        class Switching(Caller):
            """Takes its role before each request: the rehearsal cluster has one identity, whose role may be set."""

            def __call__(self, *asked: Any, **more: Any) -> Answer:
                cloud.role = given
                return super().__call__(*asked, **more)

            def watch(self, *asked: Any, **more: Any) -> list[Json]:
                cloud.role = given
                return super().watch(*asked, **more)

        if role not in self._callers:
            self._callers[role] = Switching(cloud.kubernetes_endpoint, cloud.ca_pem, cloud.kubernetes_token, self.clock)
        cloud.role = given
        return self._callers[role]

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def close(self) -> None:
        for each in self._callers.values():
            each.close()
        self._cloud.stop()


class RealPlace(Place):
    """A real API server. What an administrator may not make here is taken as it is, or skipped."""

    name = "real"

    def __init__(self, kubeconfig: str, operator: str | None, namespace: str) -> None:
        self.clock = SystemClock()
        self.namespaces = {TEAM: namespace, NAMESPACED: namespace}
        self._server = _read_kubeconfig(kubeconfig)
        self._tokens = {ADMINISTRATOR: self._server["token"]}
        if operator:
            self._tokens[OPERATOR] = _read_kubeconfig(operator)["token"]
        self._callers: dict[str, Caller] = {}
        self._foundations: list[str] = []
        admin = self.caller(ADMINISTRATOR)
        self._lay_foundations(admin, namespace)
        surprising = {**job(namespace, "contract-strict"), "surprise": 1}
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        self.strict = admin("POST", jobs_in(namespace), surprising, **query).status == 400
        self.collects = self._is_collected(admin, namespace)

    def caller(self, role: str) -> Caller:
        if role not in self._callers:
            token = self._tokens.get(role) or self._made_token(role)
            self._callers[role] = Caller(self._server["endpoint"], self._server["ca"], lambda: token, self.clock)
        return self._callers[role]

    def pass_time(self, seconds: float) -> None:
        time.sleep(min(seconds, 2.0))

    def close(self) -> None:
        admin = self.caller(ADMINISTRATOR)
        for each in self._callers.values():
            each.clear()
        for path in reversed(self._foundations):
            # Without a controller manager a namespace would never be gone, and could not be used again.
            if self.collects or path != f"/api/v1/namespaces/{self.namespaces[TEAM]}":
                admin("DELETE", path)
        for each in self._callers.values():
            each.close()

    def _lay_foundations(self, admin: Caller, namespace: str) -> None:
        self._lay(
            admin, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        if self._lay(admin, crds, job_kind()):
            for _ in range(50):
                if admin("GET", jobs_in(namespace)).status == 200:
                    break
                time.sleep(0.2)

    def _lay(self, admin: Caller, path: str, body: Json) -> bool:
        answer = admin("POST", path, body)
        if answer.status == 201:
            self._foundations.append(admin.made.pop())
        elif answer.status not in (403, 409):
            pytest.fail(f"{path}: {answer.status} {answer.body}")
        return answer.status == 201

    def _made_token(self, role: str) -> str:
        admin, namespace = self.caller(ADMINISTRATOR), self.namespaces[TEAM]
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        name = f"contract-{role}"
        meta = {"name": name, "namespace": namespace}
        self._lay(admin, accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        granted = OPERATOR_ROLE if role == OPERATOR else ROLES[role]
        for kind in ("", "Cluster"):
            self._grant(admin, kind, name, namespace, granted)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = admin("POST", f"{accounts}/{name}/token", review)
        if answer.status != 201:
            pytest.skip(f"no token for {role} can be made here: {answer.said}")
        time.sleep(1.0)  # the authorizer sees new bindings a moment later
        return str(answer.body["status"]["token"])

    def _grant(self, admin: Caller, kind: str, name: str, namespace: str, granted: Role) -> None:
        rules = [
            {
                "apiGroups": [GROUPS.get(each.resource, "")],
                "resources": [each.resource],
                "verbs": sorted(each.verbs),
            }
            for each in granted.grants
            if (each.resource in ON_CLUSTER) is bool(kind)
        ]
        if not rules:
            return
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        where = rbac if kind else f"{rbac}/namespaces/{namespace}"
        meta = {"name": name} | ({} if kind else {"namespace": namespace})
        head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": meta}
        self._lay(admin, f"{where}/{kind.lower()}roles", {**head, "kind": f"{kind}Role", "rules": rules})
        binding = {
            **head,
            "kind": f"{kind}RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{kind}Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        self._lay(admin, f"{where}/{kind.lower()}rolebindings", binding)

    def _is_collected(self, admin: Caller, namespace: str) -> bool:
        maps = maps_in(namespace)
        owner = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "nobody",
            "uid": "00000000-0000-0000-0000-000000000000",
        }
        name = f"contract-orphan-{os.getpid()}"
        meta = {"name": name, "ownerReferences": [owner]}
        admin("POST", maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        for _ in range(10):
            if admin("GET", f"{maps}/{name}").status == 404:
                return True
            time.sleep(0.5)
        return False


def _read_kubeconfig(path: str) -> dict[str, str]:
    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    chosen = next(each["context"] for each in config["contexts"] if each["name"] == config["current-context"])
    cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == chosen["cluster"])
    user = next(each["user"] for each in config["users"] if each["name"] == chosen["user"])
    ca = cluster.get("certificate-authority-data")
    pem = base64.b64decode(ca).decode() if ca else Path(cluster["certificate-authority"]).read_text(encoding="utf-8")
    if "token" not in user:
        pytest.skip(f"{path}: the user of its current context has no `token`, the only way in that this package knows")
    return {"endpoint": cluster["server"], "ca": pem, "token": user["token"]}


OPERATOR_ROLE = Role(
    OPERATOR,
    tuple(
        Grant(resource, frozenset(verbs.split()), "*")
        for resource, verbs in (
            ("pytorchjobs", "get list watch update"),
            ("pytorchjobs/status", "get update"),
            ("pods", "get list watch create delete"),
            ("pods/status", "get update"),
        )
    ),
)
"""Who plays the training operator and the kubelets."""


def job_kind() -> Json:
    """The kind of the jobs, for a server without it: the training operator's columns and subresources, few fields."""
    columns = [
        {"name": "State", "type": "string", "jsonPath": ".status.conditions[-1:].type"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    shape = SHAPES[PYTORCHJOBS]
    assert isinstance(shape, Fields)
    schema = _schema(shape)
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.pytorchReplicaSpecs.Worker.replicas",
                "statusReplicasPath": ".status.replicaStatuses.Worker.active",
            },
        },
    }
    names = {"kind": "PyTorchJob", "plural": "pytorchjobs", "singular": "pytorchjob", "listKind": "PyTorchJobList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "pytorchjobs.kubeflow.org"},
        "spec": {"group": "kubeflow.org", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _schema(shape: Any) -> Json:
    if isinstance(shape, Fields):
        found: Json = {"type": "object", "properties": {name: _schema(each) for name, each in shape.shapes.items()}}
        return found | ({"required": sorted(shape.required)} if shape.required else {})
    if isinstance(shape, Listed):
        return {"type": "array", "items": _schema(shape.item)}
    if isinstance(shape, Mapped):
        return {"type": "object", "additionalProperties": _schema(shape.value)}
    return {
        "any": {"x-kubernetes-preserve-unknown-fields": True},
        "integer or string": {"x-kubernetes-int-or-string": True},
    }.get(shape, {"type": shape})


def jobs_in(namespace: str) -> str:
    return f"/apis/kubeflow.org/v1/namespaces/{namespace}/pytorchjobs"


def maps_in(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def pods_in(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def config_map(namespace: str, name: str, **data: str) -> Json:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def job(namespace: str, name: str) -> Json:
    body = copy.deepcopy(rehearsal.job(name))
    body["metadata"]["namespace"] = namespace
    return body


def pod(namespace: str, job_name: str, name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"training.kubeflow.org/job-name": job_name},
        },
        "spec": {"containers": [{"name": "pytorch", "image": "example.org/nova:1"}], "restartPolicy": "Never"},
    }


def stamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

"""A bare client of the rehearsal cluster, and the two objects of a job, for tests of the cluster itself."""

from __future__ import annotations

import copy
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
import yaml

if TYPE_CHECKING:
    from nova_dpo_sdk.local import LocalCloud

Json = dict[str, Any]
_REFERENCE = Path(__file__).parent / "reference" / "pytorchjob_dpo.yaml"
_OLD_NAME = "my-dpo-run-0gkk5"
CONFIGMAPS = "/api/v1/namespaces/kubeflow/configmaps"
PODS = "/api/v1/namespaces/kubeflow/pods"
JOBS = "/apis/kubeflow.org/v1/namespaces/kubeflow/pytorchjobs"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def _load() -> tuple[Json, Json]:
    with _REFERENCE.open(encoding="utf-8") as stream:
        configmap, job = yaml.safe_load_all(stream)
    return configmap, job


_CONFIGMAP, _JOB = _load()


def recipe(name: str, **run: Any) -> Json:
    """A small Nova Micro DPO recipe whose `run` section has these changes."""
    text = _CONFIGMAP["data"]["config.yaml"]
    parsed: Json = yaml.safe_load(text)
    parsed["run"] |= {
        "name": name,
        "data_s3_path": "s3://acme-nova/data/train.jsonl",
        "output_s3_path": "s3://acme-nova/runs",
        **run,
    }
    return parsed


def configmap(name: str, parsed: Json | None = None) -> Json:
    """The ConfigMap of a job; its recipe, or the small one."""
    text = yaml.safe_dump(parsed or recipe(name), sort_keys=False)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"training-config-{name}", "namespace": "kubeflow"},
        "data": {"config.yaml": text},
    }


def job(name: str) -> Json:
    """The PyTorchJob of the published launcher: one master and one worker on ml.p5.48xlarge."""
    text = json.dumps(_JOB).replace(_OLD_NAME, name)
    return json.loads(text)


def pod_spec(body: Json, role: str = "Master") -> Json:
    """The pod template's spec, to be changed in place."""
    return body["spec"]["pytorchReplicaSpecs"][role]["template"]["spec"]


def both_specs(body: Json) -> list[Json]:
    return [pod_spec(body, "Master"), pod_spec(body, "Worker")]


@dataclass
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Kubectl:
    """Sends requests as they are, and hands back what comes."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self._pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=cloud.ca_pem), retries=False)

    def close(self) -> None:
        self._pool.clear()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Json | None = None,
        **query: str,
    ) -> Answer:
        given = dict(headers or {})
        if token != "":
            given["Authorization"] = f"Bearer {token or self.cloud.kubernetes_token()}"
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        url = self.cloud.kubernetes_endpoint + path
        if query:
            url += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        answer = self._pool.request(method, url, body=sent, headers=given)
        return Answer(answer.status, json.loads(answer.data), answer.headers)

    def submit(self, name: str, *, parsed: Json | None = None, body: Json | None = None) -> None:
        made = self("POST", CONFIGMAPS, configmap(name, parsed), fieldValidation="Strict")
        assert made.status == 201, made.body
        made = self("POST", JOBS, copy.deepcopy(body) or job(name), fieldValidation="Strict")
        assert made.status == 201, made.body

    def status(self, name: str) -> Json:
        return self("GET", f"{JOBS}/{name}").body.get("status", {})

    def conditions(self, name: str) -> dict[str, str]:
        return {each["type"]: each["status"] for each in self.status(name).get("conditions", [])}

    def pods(self, name: str) -> list[Json]:
        selector = f"training.kubeflow.org/job-name%3D{name}"
        return self("GET", PODS, labelSelector=selector).body["items"]


def put_pairs(cloud: LocalCloud, lines: list[Any] | None = None, *, key: str = "data/train.jsonl") -> None:
    """Store a data set of preference pairs in the cloud's bucket."""
    pair = {
        "messages": [
            {"role": "user", "content": [{"text": "Where is my order?"}]},
            {
                "role": "assistant",
                "candidates": [
                    {"content": [{"text": "On its way."}], "preferenceLabel": "preferred"},
                    {"content": [{"text": "No idea."}], "preferenceLabel": "non-preferred"},
                ],
            },
        ]
    }
    chosen = [pair] if lines is None else lines
    body = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in chosen)
    cloud.session().client("s3").put_object(Bucket=cloud.bucket, Key=key, Body=body.encode())

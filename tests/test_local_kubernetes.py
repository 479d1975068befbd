from __future__ import annotations

import base64
import itertools
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import urllib3
from rehearsal import CONFIGMAPS, JOBS, PODS, REVIEWS, Kubectl, configmap, job, pod_spec

from nova_dpo_sdk.local import FakeClock, Grant, LocalCloud, Role
from nova_dpo_sdk.local._token import LOCAL_KEYS, Keys, _signature, sign_token

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCloud]:
    with LocalCloud(FakeClock(), namespaces=("kubeflow", "hyperpod-ns-a")) as running:
        yield running


@pytest.fixture(scope="module")
def wire(shared: LocalCloud) -> Iterator[Kubectl]:
    client = Kubectl(shared)
    yield client
    client.close()


@pytest.fixture
def kubectl(shared: LocalCloud, wire: Kubectl) -> Kubectl:
    shared.role = "administrator"
    shared.faults.clear()
    shared.requests.clear()
    return wire


@pytest.fixture
def name() -> str:
    return f"run-{next(NUMBERS)}"


def test_a_new_object_gets_identity_and_version(kubectl: Kubectl, name: str) -> None:
    made = kubectl("POST", JOBS, job(name), fieldValidation="Strict")
    assert made.status == 201
    meta = made.body["metadata"]
    assert meta["uid"]
    assert int(meta["resourceVersion"]) > 0
    assert meta["generation"] == 1
    assert meta["creationTimestamp"] == kubectl.cloud.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert made.body["spec"] == job(name)["spec"]
    assert kubectl("GET", f"{JOBS}/{name}").body == made.body
    assert kubectl("POST", CONFIGMAPS, configmap(name), fieldValidation="Strict").status == 201


def test_the_same_name_twice_and_a_stale_version_differ_in_reason_only(kubectl: Kubectl, name: str) -> None:
    made = kubectl("POST", JOBS, job(name)).body
    again = kubectl("POST", JOBS, job(name))
    assert (again.status, again.reason) == (409, "AlreadyExists")
    made["metadata"]["labels"]["x"] = "1"
    assert kubectl("PUT", f"{JOBS}/{name}", made).status == 200
    stale = kubectl("PUT", f"{JOBS}/{name}", made)
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert stale.body["details"] == {"name": name, "group": "kubeflow.org", "kind": "pytorchjobs"}


def test_an_update_of_the_spec_counts_a_generation(kubectl: Kubectl, name: str) -> None:
    made = kubectl("POST", JOBS, job(name)).body
    made["metadata"]["annotations"] = {"note": "x"}
    noted = kubectl("PUT", f"{JOBS}/{name}", made).body
    assert noted["metadata"]["generation"] == 1
    noted["spec"]["runPolicy"] = {"suspend": True}
    suspended = kubectl("PUT", f"{JOBS}/{name}", noted).body
    assert suspended["metadata"]["generation"] == 2
    assert suspended["metadata"]["uid"] == made["metadata"]["uid"]
    assert kubectl("PUT", f"{JOBS}/{name}", suspended).body == suspended


def test_a_custom_resource_is_not_overwritten_blindly(kubectl: Kubectl, name: str) -> None:
    kubectl("POST", JOBS, job(name))
    kubectl("POST", CONFIGMAPS, configmap(name))
    blind = kubectl("PUT", f"{JOBS}/{name}", job(name))
    assert (blind.status, blind.reason) == (422, "Invalid")
    assert kubectl("PUT", f"{CONFIGMAPS}/training-config-{name}", configmap(name)).status == 200
    assert kubectl("PUT", f"{JOBS}/missing", job("missing")).status == 404
    assert kubectl("PUT", f"{JOBS}/{name}", job("other")).status == 400


@pytest.mark.parametrize(
    ("bad", "status"),
    [("Upper", 422), ("under_score", 422), ("-first", 422), ("a" * 254, 422), ("a.b", 201), ("b" * 63, 201)],
)
def test_names_follow_rfc_1123(kubectl: Kubectl, bad: str, status: int) -> None:
    body = job("x")
    body["metadata"] |= {"name": bad, "labels": {}}
    made = kubectl("POST", JOBS, body)
    assert made.status == status
    assert made.reason == ("" if status == 201 else "Invalid")


def test_a_name_of_64_characters_fails_as_a_label_only(kubectl: Kubectl) -> None:
    long = "c" * 64
    made = kubectl("POST", JOBS, job(long))
    assert (made.status, made.reason) == (422, "Invalid")
    assert made.body["details"]["causes"][0]["field"] == "metadata.labels"
    body = job(long)
    del body["metadata"]["labels"]
    assert kubectl("POST", JOBS, body).status == 201


def test_a_name_can_be_generated(kubectl: Kubectl, name: str) -> None:
    body = configmap(name)
    body["metadata"] = {"generateName": "gen-"}
    assert kubectl("POST", CONFIGMAPS, body).body["metadata"]["name"].startswith("gen-")
    body["metadata"] = {}
    assert kubectl("POST", CONFIGMAPS, body).status == 422


def test_unknown_fields_are_named_when_strict_and_dropped_when_not(kubectl: Kubectl, name: str) -> None:
    body = job(name)
    body["spec"]["bogus"] = 1
    pod_spec(body)["containers"][0]["imagePullpolicy"] = "Always"
    strict = kubectl("POST", JOBS, body, fieldValidation="Strict")
    assert (strict.status, strict.reason) == (400, "BadRequest")
    assert '"spec.bogus"' in strict.message
    assert '"spec.pytorchReplicaSpecs.Master.template.spec.containers[0].imagePullpolicy"' in strict.message
    loose = kubectl("POST", JOBS, body)
    assert loose.status == 201
    assert "spec.bogus" in loose.headers["Warning"]
    assert "bogus" not in loose.body["spec"]
    silent = kubectl(
        "POST", JOBS, job(name) | {"bogus": 1, "metadata": {"name": f"{name}-s"}}, fieldValidation="Ignore"
    )
    assert "Warning" not in silent.headers


@pytest.mark.parametrize(
    ("role", "replicas", "status"),
    [
        ("Worker", "2", 422),
        ("Worker", 1.5, 422),
        ("Worker", -1, 422),
        ("Master", -1, 201),
        ("Worker", 0, 201),
        ("Worker", None, 201),
    ],
)
def test_replica_counts_are_checked_as_loosely_as_in_a_real_cluster(
    kubectl: Kubectl, name: str, role: str, replicas: Any, status: int
) -> None:
    body = job(name)
    body["spec"]["pytorchReplicaSpecs"][role]["replicas"] = replicas
    made = kubectl("POST", JOBS, body)
    assert made.status == status
    if replicas is None:
        assert "replicas" not in made.body["spec"]["pytorchReplicaSpecs"][role]


@pytest.mark.parametrize("value", [1, True])
def test_an_environment_value_must_be_a_string(kubectl: Kubectl, name: str, value: Any) -> None:
    body = job(name)
    pod_spec(body)["containers"][0]["env"][0]["value"] = value
    made = kubectl("POST", JOBS, body)
    assert (made.status, made.reason) == (422, "Invalid")
    assert "containers[0].env[0].value" in made.message


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_label_or_annotation_must_be_a_string(kubectl: Kubectl, name: str, field: str) -> None:
    body = job(name)
    body["metadata"][field] = {"x": 1}
    made = kubectl("POST", JOBS, body)
    assert (made.status, made.reason) == (400, "BadRequest")


def breakages() -> dict[str, Any]:
    def no_spec(body: Any) -> None:
        del body["spec"]

    def no_master(body: Any) -> None:
        del body["spec"]["pytorchReplicaSpecs"]["Master"]

    def odd_type(body: Any) -> None:
        groups = body["spec"]["pytorchReplicaSpecs"]
        groups["Foo"] = groups.pop("Worker")

    def odd_policy(body: Any) -> None:
        body["spec"]["pytorchReplicaSpecs"]["Master"]["restartPolicy"] = "Sometimes"

    def other_container(body: Any) -> None:
        pod_spec(body)["containers"][0]["name"] = "trainer"

    def no_image(body: Any) -> None:
        del pod_spec(body)["containers"][0]["image"]

    def duplicate_env(body: Any) -> None:
        env = pod_spec(body)["containers"][0]["env"]
        env.append(dict(env[0]))

    def duplicate_volume(body: Any) -> None:
        volumes = pod_spec(body)["volumes"]
        volumes.append(dict(volumes[0]))

    def mount_without_volume(body: Any) -> None:
        pod_spec(body)["volumes"].pop()

    def unequal_resources(body: Any) -> None:
        pod_spec(body)["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = 4

    return {change.__name__: change for change in list(locals().values())}


@pytest.mark.parametrize("breakage", breakages().values(), ids=breakages().keys())
def test_the_api_accepts_what_no_pod_can_live_with(kubectl: Kubectl, name: str, breakage: Any) -> None:
    body = job(name)
    breakage(body)
    assert kubectl("POST", JOBS, body, fieldValidation="Strict").status == 201


def test_namespaces_must_exist_and_agree(kubectl: Kubectl, name: str) -> None:
    absent = kubectl("POST", "/api/v1/namespaces/nowhere/configmaps", {**configmap(name), "metadata": {"name": name}})
    assert (absent.status, absent.reason) == (404, "NotFound")
    assert absent.body["details"] == {"name": "nowhere", "kind": "namespaces"}
    other = kubectl("POST", "/api/v1/namespaces/hyperpod-ns-a/configmaps", configmap(name))
    assert (other.status, other.reason) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("change", "status"),
    [({"kind": "Secret"}, 422), ({"kind": ""}, 400), ({"apiVersion": ""}, 400), ({"apiVersion": "v2"}, 422)],
)
def test_kind_and_version_must_be_the_urls(kubectl: Kubectl, name: str, change: Any, status: int) -> None:
    assert kubectl("POST", CONFIGMAPS, configmap(name) | change).status == status


def test_sizes_are_limited_where_a_real_server_limits_them(kubectl: Kubectl, name: str) -> None:
    body = configmap(name)
    body["data"] = {"config.yaml": "x" * 1024 * 1024}
    assert kubectl("POST", CONFIGMAPS, body).status == 201
    body["metadata"]["name"] = f"{name}-more"
    body["data"]["config.yaml"] += "x"
    assert kubectl("POST", CONFIGMAPS, body).status == 422
    annotated = job(name)
    annotated["metadata"]["annotations"] = {"a": "x" * 256 * 1024}
    assert kubectl("POST", JOBS, annotated).status == 422
    heavy = job(name)
    pod_spec(heavy)["containers"][0]["args"] = ["x" * 1600 * 1024]
    refused = kubectl("POST", JOBS, heavy)
    assert (refused.status, refused.message) == (500, "etcdserver: request is too large")
    pod_spec(heavy)["containers"][0]["args"] = ["x" * 3200 * 1024]
    assert kubectl("POST", JOBS, heavy).status == 413


def test_configmap_data_must_be_strings(kubectl: Kubectl, name: str) -> None:
    body = configmap(name)
    body["data"] = {"a": 1}
    assert kubectl("POST", CONFIGMAPS, body).status == 400
    body["data"] = {"a": None}
    assert kubectl("POST", CONFIGMAPS, body).body["data"] == {"a": ""}
    body["data"] = {"no spaces": ""}
    assert kubectl("POST", CONFIGMAPS, body).status == 422


def test_status_is_written_through_its_own_path_only(kubectl: Kubectl, name: str) -> None:
    made = kubectl("POST", JOBS, job(name) | {"status": {"startTime": "2020-01-01T00:00:00Z"}}).body
    assert "status" not in made
    sneaked = kubectl("PUT", f"{JOBS}/{name}", made | {"status": {"x": 1}}).body
    assert "status" not in sneaked
    written = kubectl("PUT", f"{JOBS}/{name}/status", made | {"status": {"startTime": "2020-01-01T00:00:00Z"}})
    assert written.status == 200
    assert kubectl("GET", f"{JOBS}/{name}/status").body["status"] == {"startTime": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize("sent", [None, "application/json", "application/json; charset=utf-8"])
def test_a_missing_content_type_means_json(kubectl: Kubectl, name: str, sent: str | None) -> None:
    headers = {} if sent is None else {"Content-Type": sent}
    assert kubectl("POST", CONFIGMAPS, configmap(name), headers=headers).status == 201


def test_other_bodies_are_refused(kubectl: Kubectl) -> None:
    assert kubectl("POST", CONFIGMAPS, b"{}", headers={"Content-Type": "application/yaml"}).status == 415
    assert kubectl("POST", CONFIGMAPS, b"{nonsense").status == 400
    assert kubectl("POST", CONFIGMAPS, b"[]").status == 400


def test_unknown_paths_and_verbs_are_refused(kubectl: Kubectl) -> None:
    for path in ("/", "/api/v1/secrets", "/apis/kubeflow.org/v2/namespaces/kubeflow/pytorchjobs", f"{JOBS}/a/b/c"):
        assert kubectl("GET", path).reason == "NotFound"
    assert kubectl("PATCH", f"{JOBS}/a", {}).status == 405
    assert kubectl("DELETE", JOBS).status == 405


def test_a_background_delete_is_done_at_once(kubectl: Kubectl, name: str) -> None:
    uid = kubectl("POST", JOBS, job(name)).body["metadata"]["uid"]
    gone = kubectl("DELETE", f"{JOBS}/{name}", {"kind": "DeleteOptions", "propagationPolicy": "Background"})
    assert gone.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "group": "kubeflow.org", "kind": "pytorchjobs", "uid": uid},
    }
    assert kubectl("GET", f"{JOBS}/{name}").status == 404
    again = kubectl("DELETE", f"{JOBS}/{name}")
    assert (again.status, again.reason) == (404, "NotFound")


def test_a_foreground_delete_waits_for_the_dependents(kubectl: Kubectl, name: str) -> None:
    uid = kubectl("POST", JOBS, job(name)).body["metadata"]["uid"]
    owned = configmap(name)
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": name, "uid": uid}
    ]
    kubectl("POST", CONFIGMAPS, owned)
    marked = kubectl("DELETE", f"{JOBS}/{name}", propagationPolicy="Foreground")
    assert marked.status == 200
    assert marked.body["kind"] == "PyTorchJob"
    assert marked.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in kubectl("GET", f"{JOBS}/{name}").body["metadata"]
    kubectl.cloud.clock.sleep(1)
    assert kubectl("GET", f"{JOBS}/{name}").status == 404
    assert kubectl("GET", f"{CONFIGMAPS}/training-config-{name}").status == 404


def test_a_delete_can_insist_on_the_object_it_means(kubectl: Kubectl, name: str) -> None:
    uid = kubectl("POST", JOBS, job(name)).body["metadata"]["uid"]
    other = kubectl("DELETE", f"{JOBS}/{name}", {"preconditions": {"uid": "someone-else"}})
    assert (other.status, other.reason) == (409, "Conflict")
    assert kubectl("DELETE", f"{JOBS}/{name}", {"preconditions": {"uid": uid}}).status == 200
    assert kubectl("DELETE", f"{JOBS}/{name}", propagationPolicy="Sideways").status == 422


@pytest.mark.parametrize("policy", ["Background", "Orphan"])
def test_what_a_deleted_job_owned_is_collected_later_or_orphaned(kubectl: Kubectl, name: str, policy: str) -> None:
    uid = kubectl("POST", JOBS, job(name)).body["metadata"]["uid"]
    owned = configmap(name)
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": name, "uid": uid}
    ]
    kubectl("POST", CONFIGMAPS, owned)
    kubectl("DELETE", f"{JOBS}/{name}", propagationPolicy=policy)
    path = f"{CONFIGMAPS}/training-config-{name}"
    assert kubectl("GET", path).status == 200
    kubectl.cloud.clock.sleep(1)
    left = kubectl("GET", path)
    assert left.status == (404 if policy == "Background" else 200)
    if policy == "Orphan":
        assert left.body["metadata"]["ownerReferences"] == []
    assert kubectl("GET", f"{JOBS}/{name}").status == 404


def test_an_owner_of_another_uid_does_not_keep_an_object_alive(kubectl: Kubectl, name: str) -> None:
    kubectl("POST", JOBS, job(name))
    owned = configmap(name)
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": name, "uid": "an-earlier-one"}
    ]
    kubectl("POST", CONFIGMAPS, owned)
    kubectl.cloud.clock.sleep(1)
    assert kubectl("GET", f"{CONFIGMAPS}/training-config-{name}").status == 404


def test_lists_are_filtered_and_come_in_pages(kubectl: Kubectl, name: str) -> None:
    for index in range(5):
        body = configmap(f"{name}-{index}")
        body["metadata"]["labels"] = {"list": name, "even": str(index % 2 == 0)}
        kubectl("POST", CONFIGMAPS, body)
    first = kubectl("GET", CONFIGMAPS, labelSelector=f"list%3D{name}", limit="2").body
    assert first["kind"] == "ConfigMapList"
    assert first["metadata"]["remainingItemCount"] == 3
    names = [each["metadata"]["name"] for each in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = kubectl("GET", CONFIGMAPS, labelSelector=f"list%3D{name}", limit="2", **{"continue": token}).body
        names += [each["metadata"]["name"] for each in page["items"]]
        token = page["metadata"].get("continue", "")
    assert names == [f"training-config-{name}-{index}" for index in range(5)]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=a", {"a", "b"}),
        ("tier==a,stage=one", {"a"}),
        ("tier!=a", {"c", "d"}),
        ("tier in (b, c)", {"c"}),
        ("tier notin (a,b)", {"d"}),
        ("stage", {"a", "c"}),
        ("!tier", {"d"}),
    ],
)
def test_every_form_of_label_selector_is_understood(kubectl: Kubectl, selector: str, found: set[str]) -> None:
    labels = {"a": {"tier": "a", "stage": "one"}, "b": {"tier": "a"}, "c": {"tier": "b", "stage": "two"}, "d": {}}
    for key, given in labels.items():
        body = configmap(f"sel-{key}")
        body["metadata"]["labels"] = given | {"sel": "yes"}
        kubectl("POST", CONFIGMAPS, body)
    query = urlencode({"labelSelector": f"sel=yes,{selector}"})
    items = kubectl("GET", f"{CONFIGMAPS}?{query}").body["items"]
    assert {each["metadata"]["name"].rpartition("-")[2] for each in items} == found


def test_a_selector_that_is_none_is_a_bad_request(kubectl: Kubectl) -> None:
    for query in ({"labelSelector": "a%3D%3D%3Db"}, {"fieldSelector": "spec.image%3Dx"}, {"limit": "x"}):
        assert kubectl("GET", PODS, **query).status == 400
    assert kubectl("GET", CONFIGMAPS, **{"continue": "x"}).status == 400
    named = kubectl("GET", "/api/v1/namespaces", fieldSelector="metadata.name%3Dkubeflow").body["items"]
    assert [each["metadata"]["name"] for each in named] == ["kubeflow"]


def test_a_list_can_be_a_table(kubectl: Kubectl, name: str) -> None:
    made = kubectl("POST", JOBS, job(name)).body
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io, application/json"}
    kubectl.cloud.clock.sleep(2)
    answer = kubectl("GET", JOBS, labelSelector=f"app%3D{name}", headers=accept).body
    assert answer["kind"] == "Table"
    assert [each["name"] for each in answer["columnDefinitions"]] == ["Name", "State", "Age"]
    (row,) = answer["rows"]
    assert row["cells"][:2] == [name, "Created"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert int(row["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    pods = kubectl("GET", PODS, headers=accept).body
    assert [each["name"] for each in pods["columnDefinitions"]][2] == "Status"


def test_nodes_carry_the_labels_that_affinity_asks_for(kubectl: Kubectl) -> None:
    selector = "sagemaker.amazonaws.com/instance-group-type%3DRestricted"
    nodes = kubectl("GET", "/api/v1/nodes", labelSelector=selector).body["items"]
    types = [each["metadata"]["labels"]["node.kubernetes.io/instance-type"] for each in nodes]
    assert types.count("ml.p5.48xlarge") == 8
    assert types.count("ml.p4d.24xlarge") == 24
    assert all(each["metadata"]["name"].startswith("hyperpod-i-") for each in nodes)
    p5 = next(each for each in nodes if types[nodes.index(each)] == "ml.p5.48xlarge")
    assert p5["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert p5["spec"]["taints"][0]["key"] == "sagemaker.amazonaws.com/RestrictedNode"


def test_without_a_token_one_is_anonymous(kubectl: Kubectl) -> None:
    answer = kubectl("GET", JOBS, token="")
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert 'User "system:anonymous" cannot list resource "pytorchjobs"' in answer.message


def signed(url: str, changes: dict[str, str], *, host: str = "sts.us-east-1.amazonaws.com") -> str:
    """The URL with other parameters or another host, and a signature that covers them."""
    query = dict(parse_qsl(urlsplit(url).query)) | changes
    del query["X-Amz-Signature"]
    query["X-Amz-Signature"] = _signature(query, host, "research-eks", LOCAL_KEYS.secret_key)
    return f"https://{host}/?{urlencode(query)}"


def tampered(now: datetime) -> dict[str, str]:
    def unfold(token: str) -> str:
        text = token.removeprefix("k8s-aws-v1.")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()

    def fold(url: str) -> str:
        return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")

    good = sign_token(LOCAL_KEYS, cluster="research-eks", region="us-east-1", now=now)
    url = unfold(good)
    return {
        "no prefix": good.removeprefix("k8s-aws-v1."),
        "padded": good + "=" * (-len(good.removeprefix("k8s-aws-v1.")) % 4 or 4),
        "not base64": "k8s-aws-v1.*****",
        "too long": fold(signed(url, {"X-Amz-Security-Token": "x" * 4096})),
        "http": fold(url.replace("https://", "http://")),
        "other host": fold(signed(url, {}, host="sts.us-east-1.amazonaws.com.example.com")),
        "other path": fold(url.replace(".com/?", ".com/x?")),
        "other action": fold(signed(url, {"Action": "GetSessionToken"})),
        "extra parameter": fold(signed(url, {"Extra": "1"})),
        "parameter twice": fold(url + "&X-Amz-Expires=60"),
        "too long a life": fold(signed(url, {"X-Amz-Expires": "901"})),
        "header not signed": fold(signed(url, {"X-Amz-SignedHeaders": "host"})),
        "broken signature": fold(url[:-1] + ("0" if url[-1] != "0" else "1")),
        "other cluster": sign_token(LOCAL_KEYS, cluster="research", region="us-east-1", now=now),
        "other keys": sign_token(Keys("AKIAOTHER", "x"), cluster="research-eks", region="us-east-1", now=now),
        "other access key": sign_token(
            Keys("AKIAOTHER", LOCAL_KEYS.secret_key), cluster="research-eks", region="us-east-1", now=now
        ),
        "other secret": sign_token(
            Keys(LOCAL_KEYS.access_key, "x"), cluster="research-eks", region="us-east-1", now=now
        ),
        "expired": sign_token(LOCAL_KEYS, cluster="research-eks", region="us-east-1", now=now - timedelta(minutes=16)),
        "from the future": sign_token(
            LOCAL_KEYS, cluster="research-eks", region="us-east-1", now=now + timedelta(minutes=16)
        ),
        "no date": fold(url.replace("X-Amz-Date=", "X-Amz-Date=x")),
        "no parameters": fold("https://sts.us-east-1.amazonaws.com/"),
    }


@pytest.mark.parametrize("case", tampered(datetime.now(timezone.utc)))
def test_a_token_that_eks_would_refuse_is_refused(kubectl: Kubectl, case: str) -> None:
    answer = kubectl("GET", JOBS, token=tampered(kubectl.cloud.clock.now())[case])
    assert (answer.status, answer.reason) == (401, "Unauthorized")
    assert answer.message == "Unauthorized"


def test_a_token_of_temporary_credentials_is_accepted(kubectl: Kubectl) -> None:
    token = kubectl.cloud.kubernetes_token().removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    longer = signed(url, {"X-Amz-Security-Token": "x" * 1000})
    folded = base64.urlsafe_b64encode(longer.encode()).decode().rstrip("=")
    assert kubectl("GET", JOBS, token=f"k8s-aws-v1.{folded}").status == 200


def test_only_bearer_tokens_are_known(kubectl: Kubectl) -> None:
    assert kubectl("GET", JOBS, token="", headers={"Authorization": "Basic dXNlcjpwYXNz"}).status == 401


def test_a_token_lives_fifteen_minutes_of_the_clouds_clock(kubectl: Kubectl) -> None:
    token = kubectl.cloud.kubernetes_token()
    kubectl.cloud.clock.sleep(14 * 60)
    assert kubectl("GET", JOBS, token=token).status == 200
    kubectl.cloud.clock.sleep(61)
    assert kubectl("GET", JOBS, token=token).status == 401
    assert kubectl("GET", JOBS).status == 200


def botocore_token(session: Any, cluster_name: str, region: str) -> str:
    """The token as the AWS command line makes it."""
    sts = session.client("sts", region_name=region, endpoint_url=f"https://sts.{region}.amazonaws.com")
    header = "x-k8s-aws-id"

    def keep(params: Any, context: Any, **_: Any) -> None:
        if header in params:
            context[header] = params.pop(header)

    def sign(request: Any, **_: Any) -> None:
        if header in request.context:
            request.headers[header] = request.context[header]

    sts.meta.events.register("provide-client-params.sts.GetCallerIdentity", keep)
    sts.meta.events.register("before-sign.sts.GetCallerIdentity", sign)
    url = sts.generate_presigned_url(
        "get_caller_identity", Params={header: cluster_name}, ExpiresIn=60, HttpMethod="GET"
    )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def test_a_token_signed_by_botocore_is_accepted() -> None:
    with LocalCloud(FakeClock(), account="210987654321", bucket="acme-botocore") as running:
        client = Kubectl(running)
        session = running.session()
        assert client("GET", JOBS, token=botocore_token(session, "research-eks", "us-east-1")).status == 200
        assert client("GET", JOBS, token=botocore_token(session, "research", "us-east-1")).status == 401
        client.close()


@pytest.mark.parametrize(
    ("role", "verb", "path", "allowed"),
    [
        ("namespaced", "GET", JOBS, True),
        ("namespaced", "GET", f"{JOBS}?watch=1", False),
        ("namespaced", "PATCH", f"{JOBS}/x", False),
        ("namespaced", "GET", CONFIGMAPS, True),
        ("namespaced", "GET", PODS, False),
        ("namespaced", "GET", f"{PODS}/x", True),
        ("namespaced", "GET", "/api/v1/namespaces/kubeflow/events", False),
        ("namespaced", "GET", "/api/v1/nodes", False),
        ("namespaced", "GET", "/apis/kubeflow.org/v1/pytorchjobs", False),
        ("scientist", "GET", PODS, True),
        ("scientist", "GET", "/api/v1/nodes", True),
        ("team", "GET", JOBS, False),
        ("team", "GET", JOBS.replace("kubeflow/", "hyperpod-ns-a/"), True),
        ("team", "PATCH", JOBS.replace("kubeflow/", "hyperpod-ns-a/") + "/x", False),
        ("team", "GET", CONFIGMAPS.replace("kubeflow/", "hyperpod-ns-a/"), False),
        ("team", "GET", PODS.replace("kubeflow/", "hyperpod-ns-a/"), True),
        ("team", "GET", PODS.replace("kubeflow/", "hyperpod-ns-a/") + "/x", False),
        ("team", "GET", "/api/v1/namespaces/hyperpod-ns-a/events", False),
        ("team", "GET", "/api/v1/namespaces/hyperpod-ns-a", True),
    ],
)
def test_roles_may_do_what_the_charts_grant(kubectl: Kubectl, role: str, verb: str, path: str, allowed: bool) -> None:
    kubectl.cloud.role = role
    answer = kubectl(verb, path, None if verb == "GET" else {})
    assert (answer.status != 403) is allowed
    if not allowed:
        assert answer.reason == "Forbidden"
        assert "cannot" in answer.message


def test_somebody_without_an_access_entry_is_unauthorized(kubectl: Kubectl) -> None:
    kubectl.cloud.role = "unmapped"
    assert kubectl("GET", JOBS).status == 401


def test_a_role_of_ones_own_can_be_given(kubectl: Kubectl) -> None:
    kubectl.cloud.role = Role("readers", (Grant("pytorchjobs", frozenset({"get"}), "kubeflow"),))
    assert kubectl("GET", JOBS).status == 403
    assert kubectl("GET", f"{JOBS}/none").status == 404
    with pytest.raises(ValueError, match="none of administrator"):
        kubectl.cloud.role = "adminstrator"


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("create", "pytorchjobs", "kubeflow", True),
        ("patch", "pytorchjobs", "kubeflow", False),
        ("list", "pods", "kubeflow", False),
        ("create", "pytorchjobs", "default", False),
    ],
)
def test_one_may_ask_what_one_may_do(kubectl: Kubectl, verb: str, resource: str, namespace: str, allowed: bool) -> None:
    kubectl.cloud.role = "namespaced"
    group = "kubeflow.org" if resource == "pytorchjobs" else ""
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = kubectl("POST", REVIEWS, review)
    assert answer.status == 201
    assert answer.body["status"]["allowed"] is allowed


def test_faults_meet_verbs_and_targets(kubectl: Kubectl, name: str) -> None:
    faults = kubectl.cloud.faults
    faults.answer("create", 429, code="TooManyRequests", target="pytorchjobs/*", headers={"Retry-After": "3"})
    assert kubectl("POST", CONFIGMAPS, configmap(name)).status == 201
    busy = kubectl("POST", JOBS, job(name))
    assert (busy.status, busy.reason, busy.headers["Retry-After"]) == (429, "TooManyRequests", "3")
    faults.hang_up("create", target="pytorchjobs/*", after=True)
    with pytest.raises(urllib3.exceptions.HTTPError):
        kubectl("POST", JOBS, job(name))
    assert kubectl("POST", JOBS, job(name)).reason == "AlreadyExists"


def test_requests_to_the_cluster_are_counted(kubectl: Kubectl, name: str) -> None:
    kubectl("POST", JOBS, job(name))
    kubectl("GET", f"{JOBS}/{name}")
    kubectl("GET", JOBS)
    seen = [(each.service, each.operation, each.target) for each in kubectl.cloud.requests]
    assert seen == [
        ("kubernetes", "create", "pytorchjobs/kubeflow"),
        ("kubernetes", "get", f"pytorchjobs/kubeflow/{name}"),
        ("kubernetes", "list", "pytorchjobs/kubeflow"),
    ]
    assert kubectl.cloud.kubernetes_token() not in json.dumps([repr(each) for each in kubectl.cloud.requests])

"""What the package relies on a cluster for, checked on the rehearsal cluster or on a real API server (see `places`)."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from places import (
    ADMINISTRATOR,
    NAMESPACED,
    OPERATOR,
    TEAM,
    Caller,
    LocalPlace,
    Place,
    RealPlace,
    config_map,
    job,
    jobs_in,
    maps_in,
    pod,
    pods_in,
    stamp,
)

from nova_dpo_sdk import DPORecipe, HyperPodBackend, JobStatus, LoRA, NovaClient, NovaModel
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, NODES, PODS, PYTORCHJOBS
from nova_dpo_sdk.backends._manifests import DIGEST_LABEL
from nova_dpo_sdk.backends._rights import NEEDED, Rights
from nova_dpo_sdk.backends._tables import AS_TABLE
from nova_dpo_sdk.errors import ClusterError, ConfigurationError, JobNotFinishedError

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
MIB = 1024 * 1024
ROLES = [TEAM, NAMESPACED]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    kubeconfig = os.environ.get("NOVA_DPO_TEST_KUBECONFIG")
    made: Place = (
        RealPlace(
            kubeconfig,
            os.environ.get("NOVA_DPO_TEST_OPERATOR_KUBECONFIG"),
            os.environ.get("NOVA_DPO_TEST_NAMESPACE", "kubeflow"),
        )
        if kubeconfig
        else LocalPlace()
    )
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"contract-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def namespace(place: Place) -> str:
    return place.namespaces[NAMESPACED]


@pytest.fixture
def admin(place: Place) -> Iterator[Caller]:
    caller = place.caller(ADMINISTRATOR)
    yield caller
    place.caller(ADMINISTRATOR).clear()


def master(body: Json) -> Json:
    return body["spec"]["pytorchReplicaSpecs"]["Master"]


def spec_of(body: Json) -> Json:
    return master(body)["template"]["spec"]


def conditions(*kinds: tuple[str, str]) -> Json:
    return {
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": f"PyTorchJob{kind}",
                "message": f"{kind} it is",
                "lastUpdateTime": stamp(),
                "lastTransitionTime": stamp(),
            }
            for kind, value in kinds
        ],
        "startTime": stamp(),
    }


def write_status(place: Place, path: str, status: Json) -> None:
    operator = place.caller(OPERATOR)
    held = operator("GET", path).body
    answer = operator("PUT", f"{path}/status", {**held, "status": {**held.get("status", {}), **status}})
    assert answer.status == 200, answer.body


# --- names, versions, fields ---------------------------------------------------------------------------------------


def test_the_same_name_twice_and_a_stale_version_differ_in_reason_only(admin, namespace, name):
    first = admin("POST", jobs_in(namespace), job(namespace, name))
    assert first.status == 201
    assert {"uid", "resourceVersion", "creationTimestamp", "generation"} <= first.body["metadata"].keys()
    assert admin("POST", jobs_in(namespace), job(namespace, name)).said == (409, "AlreadyExists")
    held = admin("GET", f"{jobs_in(namespace)}/{name}").body
    held["metadata"]["labels"]["a"] = "b"
    assert admin("PUT", f"{jobs_in(namespace)}/{name}", held).status == 200
    held["metadata"]["labels"]["a"] = "c"
    assert admin("PUT", f"{jobs_in(namespace)}/{name}", held).said == (409, "Conflict")


def test_a_custom_resource_is_not_overwritten_without_its_version(admin, namespace, name):
    admin("POST", jobs_in(namespace), job(namespace, name))
    assert admin("PUT", f"{jobs_in(namespace)}/{name}", job(namespace, name)).said == (422, "Invalid")


@pytest.mark.parametrize(("bad", "status"), [("Upper", 422), ("under_score", 422), ("-a", 422), ("x" * 254, 422)])
def test_bad_names_are_invalid(admin, namespace, bad, status):
    assert admin("POST", maps_in(namespace), config_map(namespace, bad)).said == (status, "Invalid")


@pytest.mark.parametrize("length", [64, 253])
def test_a_long_name_passes_as_a_name_and_fails_as_a_label(admin, namespace, length):
    long = f"{uuid.uuid4().hex[:8]}.{'n' * length}"[:length]
    body = job(namespace, long)
    assert admin("POST", jobs_in(namespace), body).said == (422, "Invalid")
    body["metadata"]["labels"]["app"] = long[:63]
    assert admin("POST", jobs_in(namespace), body).status == 201


def test_an_unknown_field_is_dropped_unless_the_server_is_strict(place, admin, namespace, name):
    body = job(namespace, name)
    body["spec"]["surprise"] = 1
    spec_of(body)["another"] = {"x": 1}
    if place.strict:
        strict = admin("POST", jobs_in(namespace), body, fieldValidation="Strict")
        assert strict.said == (400, "BadRequest")
        assert 'unknown field "spec.surprise"' in strict.body["message"]
        assert "another" in strict.body["message"]
    kept = admin("POST", jobs_in(namespace), body)
    assert kept.status == 201
    assert "surprise" not in kept.body["spec"]
    assert "another" not in spec_of(kept.body)
    if place.strict:
        assert "unknown field" in kept.headers["Warning"]


def test_the_objects_of_a_plan_are_taken_as_they_are(place, admin, namespace, pairs):
    backend, plan = planned(place, ADMINISTRATOR, pairs)
    for path, body in zip((maps_in(namespace), jobs_in(namespace)), plan.objects, strict=True):
        answer = admin("POST", path, body, fieldValidation="Strict")
        assert answer.status == 201, answer.body
        for part in ("spec", "data"):
            assert answer.body.get(part) == body.get(part)
    assert backend.namespace == namespace


@pytest.mark.parametrize(
    ("role", "replicas", "status"),
    [
        ("Master", "2", 422),
        ("Worker", "2", 422),
        ("Worker", -1, 422),
        ("Master", -1, 201),
        ("Worker", 0, 201),
        ("Worker", None, 201),
    ],
)
def test_replica_counts_are_hardly_checked(admin, namespace, name, role, replicas, status):
    body = job(namespace, name)
    body["spec"]["pytorchReplicaSpecs"][role]["replicas"] = replicas
    answer = admin("POST", jobs_in(namespace), body)
    assert answer.status == status
    if replicas is None:
        assert "replicas" not in answer.body["spec"]["pytorchReplicaSpecs"][role]


@pytest.mark.parametrize("value", [1, True])
def test_an_environment_value_must_be_a_text(admin, namespace, name, value):
    body = job(namespace, name)
    spec_of(body)["containers"][0]["env"][0]["value"] = value
    assert admin("POST", jobs_in(namespace), body).said == (422, "Invalid")


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_label_and_an_annotation_must_be_texts(admin, namespace, name, field):
    body = job(namespace, name)
    body["metadata"].setdefault(field, {})["number"] = 1
    assert admin("POST", jobs_in(namespace), body).said == (400, "BadRequest")


def _without_master(body: Json) -> None:
    del body["spec"]["pytorchReplicaSpecs"]["Master"]


def _other_role(body: Json) -> None:
    body["spec"]["pytorchReplicaSpecs"]["Foo"] = body["spec"]["pytorchReplicaSpecs"]["Worker"]


def _twice(part: str) -> Any:
    def double(body: Json) -> None:
        held = spec_of(body) if part == "volumes" else spec_of(body)["containers"][0]
        held[part] = [*held[part], held[part][0]]

    return double


ACCEPTED = {
    "no spec": lambda body: body.pop("spec"),
    "no Master": _without_master,
    "replica type Foo": _other_role,
    "restartPolicy Sometimes": lambda body: master(body).update(restartPolicy="Sometimes"),
    "container of another name": lambda body: spec_of(body)["containers"][0].update(name="main"),
    "no image": lambda body: spec_of(body)["containers"][0].pop("image"),
    "env twice": _twice("env"),
    "volume twice": _twice("volumes"),
    "a mount without its volume": lambda body: spec_of(body).update(volumes=[]),
    "requests that differ from limits": lambda body: spec_of(body)["containers"][0]["resources"]["requests"].update(
        {"nvidia.com/gpu": 1}
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_the_server_takes_what_no_pod_can_live_with(admin, namespace, name, what):
    body = job(namespace, name)
    ACCEPTED[what](body)
    assert admin("POST", jobs_in(namespace), body).status == 201


def test_namespace_kind_and_version_must_be_those_of_the_path(place, admin, namespace, name):
    nowhere = f"nowhere-{name}"
    assert admin("POST", maps_in(nowhere), config_map(nowhere, name)).said == (404, "NotFound")
    assert admin("POST", maps_in(namespace), config_map("default", name)).said == (400, "BadRequest")
    body = job(namespace, name)
    assert admin("POST", jobs_in(namespace), {**body, "kind": "Foo"}).status in (400, 422)
    for missing in ("kind", "apiVersion"):
        cut = {key: value for key, value in body.items() if key != missing}
        said = admin("POST", jobs_in(namespace), cut).said
        assert said == (400, "BadRequest") if place.strict else said[0] in (400, 500)  # old servers stumble over it


def test_a_missing_content_type_is_read_as_json(admin, namespace, name):
    body = job(namespace, name)
    assert admin("POST", jobs_in(namespace), body, headers={"Content-Type": None}).status == 201


@pytest.mark.parametrize("wrong", [5, ["a"], {"a": "b"}])
def test_a_name_must_be_a_text(admin, namespace, wrong):
    for field in ("name", "generateName"):
        body = config_map(namespace, "x")
        body["metadata"][field] = wrong
        assert admin("POST", maps_in(namespace), body).said == (400, "BadRequest")


def test_requests_that_cannot_be_read_are_bad_ones(admin, namespace, name):
    assert admin("GET", maps_in(namespace), watch="1", timeoutSeconds="abc").status == 400
    assert admin("GET", maps_in(namespace), limit="1", **{"continue": "bnVsbA=="}).status == 400
    for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview"):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": "x"}
        assert admin("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", review).status == 400
    admin("POST", maps_in(namespace), config_map(namespace, name))
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": "x"}
    assert admin("DELETE", f"{maps_in(namespace)}/{name}", options).status == 400
    deep = b'{"apiVersion": "v1", "kind": "ConfigMap", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    headers = {"Content-Type": "application/json"}
    assert admin("POST", maps_in(namespace), deep, headers=headers).status == 400
    assert admin("GET", f"{maps_in(namespace)}/{name}").status == 200


def test_an_immutable_config_map_keeps_its_data(admin, namespace, name):
    body = config_map(namespace, name, a="b") | {"immutable": True}
    path = f"{maps_in(namespace)}/{name}"
    assert admin("POST", maps_in(namespace), body).status == 201
    assert admin("PUT", path, body | {"data": {"a": "c"}}).said == (422, "Invalid")
    assert admin("PUT", path, body | {"immutable": False}).said == (422, "Invalid")
    body["metadata"]["labels"] = {"a": "b"}
    assert admin("PUT", path, body).status == 200


def test_sizes_are_limited_in_three_ways(admin, namespace, name):
    def said(size: int) -> Any:
        try:
            return admin("POST", maps_in(namespace), config_map(namespace, f"{name}-{size}", key="x" * size)).said
        except Exception as error:  # noqa: BLE001 - a broken connection, whatever the library calls it
            return type(error).__name__

    assert said(MIB)[0] == 201
    assert said(MIB + 1) == (422, "Invalid")
    assert said(3 * MIB + MIB // 2) in [(413, "RequestEntityTooLarge"), "ProtocolError", "SSLError"]
    body = job(namespace, name)
    body["metadata"]["annotations"] = {"long": "x" * (256 * 1024 + 1)}
    assert admin("POST", jobs_in(namespace), body).said == (422, "Invalid")
    body["metadata"]["annotations"] = {}
    spec_of(body)["containers"][0]["args"] = ["x" * (MIB // 4)] * 7
    answer = admin("POST", jobs_in(namespace), body)
    assert answer.status == 500
    assert "too large" in answer.body["message"]


def test_the_client_refuses_what_the_server_would_break_the_connection_for(admin, namespace, name):
    with pytest.raises(ConfigurationError):
        admin.api.create(CONFIGMAPS, namespace, config_map(namespace, name, key="x" * 4 * MIB))


# --- status, deletion, owners --------------------------------------------------------------------------------------


def test_a_status_is_written_through_its_own_path_only(place, admin, namespace, name):
    body = job(namespace, name) | {"status": conditions(("Succeeded", "True"))}
    assert "conditions" not in admin("POST", jobs_in(namespace), body).body.get("status", {})
    path = f"{jobs_in(namespace)}/{name}"
    held = admin("GET", path).body
    held["status"] = conditions(("Failed", "True"))
    assert "conditions" not in admin("PUT", path, held).body.get("status", {})
    write_status(place, path, conditions(("Created", "True")))
    after = place.caller(ADMINISTRATOR)("GET", path).body
    assert [each["type"] for each in after["status"]["conditions"]] == ["Created"]
    assert after["metadata"]["generation"] == held["metadata"]["generation"]


def test_a_background_delete_is_done_at_once_and_a_foreground_one_waits(place, admin, namespace, name):
    path = f"{jobs_in(namespace)}/{name}"
    admin("POST", jobs_in(namespace), job(namespace, name))
    gone = admin("DELETE", path, propagationPolicy="Background")
    assert (gone.status, gone.body["kind"], gone.body["status"]) == (200, "Status", "Success")
    assert admin("GET", path).said == (404, "NotFound")
    assert admin("DELETE", path).said == (404, "NotFound")
    admin("POST", jobs_in(namespace), job(namespace, name))
    marked = admin("DELETE", path, propagationPolicy="Foreground")
    assert (marked.status, marked.body["kind"]) == (200, "PyTorchJob")
    assert marked.body["metadata"]["deletionTimestamp"]
    assert admin("GET", path).status == 200
    if not place.collects:
        held = admin("GET", path).body
        held["metadata"]["finalizers"] = []
        admin("PUT", path, held)
    place.pass_time(60)
    assert admin("GET", path).status == 404


def test_what_a_job_owned_is_collected_after_it(place, admin, namespace, name):
    if not place.collects:
        pytest.skip("nobody follows owner references here: no controller manager runs")
    made = admin("POST", jobs_in(namespace), job(namespace, name)).body
    body = config_map(namespace, name, key="value")
    owner = {"apiVersion": made["apiVersion"], "kind": made["kind"], "name": name, "uid": made["metadata"]["uid"]}
    body["metadata"]["ownerReferences"] = [owner]
    assert admin("POST", maps_in(namespace), body).status == 201
    admin("DELETE", f"{jobs_in(namespace)}/{name}", propagationPolicy="Background")
    for _ in range(20):
        place.pass_time(2)
        if admin("GET", f"{maps_in(namespace)}/{name}").status == 404:
            return
    pytest.fail("the ConfigMap outlived its job")


# --- lists, tables, watches ----------------------------------------------------------------------------------------


def test_lists_are_chosen_by_label_and_come_in_pages(admin, namespace, name):
    for index in range(5):
        body = job(namespace, f"{name}-{index}")
        body["metadata"]["labels"] |= {"run": name, "odd": str(index % 2)}
        assert admin("POST", jobs_in(namespace), body).status == 201
    names: list[str] = []
    query = {"labelSelector": f"run={name}", "limit": "2"}
    for _ in range(4):
        page = admin("GET", jobs_in(namespace), **query).body
        names += [each["metadata"]["name"] for each in page["items"]]
        if not page["metadata"].get("continue"):
            break
        query["continue"] = page["metadata"]["continue"]
    assert names == [f"{name}-{index}" for index in range(5)]
    chosen = admin("GET", jobs_in(namespace), labelSelector=f"run={name},odd in (1,2)").body["items"]
    assert len(chosen) == 2
    assert len(admin("GET", jobs_in(namespace), labelSelector=f"run in ({name}),odd").body["items"]) == 5
    apps = admin("GET", jobs_in(namespace), labelSelector=f"app in ({name}-0,{name}-4)").body["items"]
    assert [each["metadata"]["name"] for each in apps] == [f"{name}-0", f"{name}-4"]


@pytest.mark.parametrize("include", ["None", "Metadata"])
def test_a_list_as_a_table_has_the_columns_that_changes_are_seen_in(place, admin, namespace, name, include):
    admin("POST", jobs_in(namespace), job(namespace, name))
    write_status(place, f"{jobs_in(namespace)}/{name}", conditions(("Created", "True"), ("Running", "True")))
    admin = place.caller(ADMINISTRATOR)
    query = {"labelSelector": f"app={name}", "includeObject": include, "resourceVersion": "0"}
    told = admin("GET", jobs_in(namespace), headers=dict(AS_TABLE) | {"Accept-Encoding": "identity"}, **query).body
    assert told["kind"] == "Table"
    columns = [each["name"] for each in told["columnDefinitions"]]
    assert {"Name", "State", "Age"} <= set(columns)
    (row,) = told["rows"]
    shown = dict(zip(columns, row["cells"], strict=True))
    assert (shown["Name"], shown["State"]) == (name, "Running")
    version = (row.get("object") or {}).get("metadata", {}).get("resourceVersion")
    assert bool(version) is (include == "Metadata")
    pods = admin("GET", pods_in(namespace), headers=dict(AS_TABLE) | {"Accept-Encoding": "identity"}).body
    assert {"Name", "Ready", "Status", "Restarts", "Age"} <= {each["name"] for each in pods["columnDefinitions"]}


def test_a_watch_tells_every_change_and_where_it_stands(admin, namespace, name):
    listed = admin("GET", jobs_in(namespace)).body["metadata"]["resourceVersion"]
    path = f"{jobs_in(namespace)}/{name}"
    held = admin("POST", jobs_in(namespace), job(namespace, name)).body
    held["metadata"]["labels"]["a"] = "b"
    admin("PUT", path, held)
    admin("DELETE", path, propagationPolicy="Background")
    told = admin.watch(jobs_in(namespace), 3, resourceVersion=listed, labelSelector=f"app={name}")
    assert [each["type"] for each in told] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in told]
    assert versions == sorted(versions)
    assert versions[0] > int(listed)


def test_a_watch_with_a_selector_tells_who_comes_into_it_and_who_leaves(admin, namespace, name):
    def colored(color: str, at: int) -> Json:
        body = config_map(namespace, name, at=str(at))
        body["metadata"]["labels"] = {"run": name, "color": color}
        return body

    listed = admin("GET", maps_in(namespace)).body["metadata"]["resourceVersion"]
    path = f"{maps_in(namespace)}/{name}"
    admin("POST", maps_in(namespace), colored("blue", 0))
    for at, color in enumerate(("red", "red", "blue", "blue", "red"), start=1):
        assert admin("PUT", path, colored(color, at)).status == 200
    admin("DELETE", path)
    told = admin.watch(maps_in(namespace), 5, resourceVersion=listed, labelSelector=f"run={name},color=red")
    seen = [(each["type"], each["object"]["data"]["at"]) for each in told]
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2"), ("ADDED", "5"), ("DELETED", "5")]
    assert {each["object"]["metadata"]["labels"]["color"] for each in told} == {"red"}
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in told]
    assert versions == sorted(set(versions))


def test_pods_are_chosen_by_phase_and_node(admin, namespace, name):
    made = f"{name}-master-0"
    assert admin("POST", pods_in(namespace), pod(namespace, name, made)).status == 201
    for field, found in (("status.phase!=Succeeded", 1), ("status.phase=Succeeded", 0), ("spec.nodeName=nowhere", 0)):
        chosen = admin("GET", pods_in(namespace), fieldSelector=f"metadata.name={made},{field}").body["items"]
        assert len(chosen) == found, field
    assert admin("GET", pods_in(namespace), fieldSelector="spec.nothing=x").status == 400
    assert admin("GET", maps_in(namespace), fieldSelector="status.phase=Running").status == 400


def test_a_watch_from_long_ago_is_expired(place, admin, namespace, name):
    admin("POST", jobs_in(namespace), job(namespace, name))
    if place.name != "real":
        place._cloud.history.expire()
    told = admin.watch(jobs_in(namespace), 1, resourceVersion="1")[0]
    assert told["type"] in ("ERROR", "REFUSED")
    assert (told["object"]["code"], told["object"]["reason"]) == (410, "Expired")


# --- who may do what -----------------------------------------------------------------------------------------------


def test_no_token_and_a_wrong_one_are_told_apart_from_missing_rights(place, admin, namespace):
    anonymous = admin("GET", jobs_in(namespace), headers={"Authorization": None})
    assert anonymous.said == (403, "Forbidden")
    assert "system:anonymous" in anonymous.body["message"]
    assert admin("GET", jobs_in(namespace), headers={"Authorization": "Bearer wrong"}).said == (401, "Unauthorized")
    assert place.caller(NAMESPACED)("GET", jobs_in("default")).said == (403, "Forbidden")


GRANTED = {
    TEAM: {
        "pytorchjobs": "get list watch create update delete",
        "configmaps": "get create update delete",
        "pods": "list watch",
    },
    NAMESPACED: {
        "pytorchjobs": "get list create update delete",
        "configmaps": "get list create update delete",
        "pods": "get create",
    },
}
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]
RESOURCES = {"pytorchjobs": PYTORCHJOBS, "configmaps": CONFIGMAPS, "pods": PODS}


@pytest.mark.parametrize("role", ROLES)
def test_an_access_review_tells_what_a_role_may_do(place, role):
    api = place.caller(role).api
    for plural, resource in RESOURCES.items():
        allowed = {verb for verb in VERBS if api.allowed(verb, resource, place.namespaces[role])}
        assert allowed == set(GRANTED[role].get(plural, "").split()), plural
    assert not api.allowed("list", NODES, "")
    assert not api.allowed("get", replace(PYTORCHJOBS, group=""), place.namespaces[role])


@pytest.mark.parametrize("role", [ADMINISTRATOR, *ROLES])
def test_one_review_of_all_rules_agrees_with_the_single_ones(place, role):
    wanted = [(verb, resource) for resource in (PYTORCHJOBS, CONFIGMAPS, PODS, NODES) for verb in VERBS]
    where = place.namespaces.get(role) or place.namespaces[NAMESPACED]
    api = place.caller(role).api
    missing = Rights(api, where).missing(wanted)
    assert missing == [right for right in wanted if not api.allowed(*right, where)]
    assert bool(missing) is (role != ADMINISTRATOR)
    assert not set(missing) & set(NEEDED)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_refused_what_it_was_not_granted(place, admin, role, name):
    where = place.namespaces[role]
    admin("POST", jobs_in(where), job(where, name))
    caller = place.caller(role)
    merge = {"Content-Type": "application/merge-patch+json"}
    patch = {"metadata": {"labels": {"a": "b"}}}
    assert caller("PATCH", f"{jobs_in(where)}/{name}", patch, headers=merge).said == (403, "Forbidden")
    assert caller("GET", f"/api/v1/namespaces/{where}/events").said == (403, "Forbidden")
    assert caller("GET", "/api/v1/nodes").said == (403, "Forbidden")
    watch = caller.watch(jobs_in(where), 1)
    assert (watch[0]["type"] == "REFUSED") is (role == NAMESPACED)
    assert (caller("GET", maps_in(where)).status == 403) is (role == TEAM)
    assert (caller("GET", pods_in(where)).status == 403) is (role == NAMESPACED)
    assert caller("GET", jobs_in(where), headers=dict(AS_TABLE) | {"Accept-Encoding": "identity"}).status == 200


@pytest.mark.parametrize("role", [ADMINISTRATOR, *ROLES])
def test_a_dry_run_passes_every_check_and_keeps_nothing(place, role, name):
    where = place.namespaces.get(role) or place.namespaces[NAMESPACED]
    api = place.caller(role).api
    api.create(PYTORCHJOBS, where, job(where, name), dry_run=True)
    assert api.get_or_none(PYTORCHJOBS, where, name) is None
    with pytest.raises(ClusterError) as error:
        api.create(PYTORCHJOBS, f"nowhere-{name}", job(f"nowhere-{name}", name), dry_run=True)
    assert error.value.status in (403, 404)


@pytest.mark.parametrize("role", [ADMINISTRATOR, *ROLES])
def test_a_dry_run_of_an_update_or_a_delete_changes_nothing(place, admin, role, name):
    where = place.namespaces.get(role) or place.namespaces[NAMESPACED]
    path = f"{jobs_in(where)}/{name}"
    held = admin("POST", jobs_in(where), job(where, name)).body
    held["metadata"]["labels"]["a"] = "b"
    caller = place.caller(role)
    tried = caller("PUT", path, held, dryRun="All")
    assert (tried.status, tried.body["metadata"]["labels"]["a"]) == (200, "b")
    for policy in ("Background", "Foreground"):
        assert caller("DELETE", path, dryRun="All", propagationPolicy=policy).status == 200
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
    assert caller("DELETE", path, options).status == 200
    after = caller("GET", path).body["metadata"]
    assert "a" not in after["labels"]
    assert "deletionTimestamp" not in after
    assert after["resourceVersion"] == held["metadata"]["resourceVersion"]


# --- the package's own sentences, under each role ------------------------------------------------------------------


class Reached(HyperPodBackend):
    """A backend that was told where its cluster is, in place of asking SageMaker and EKS."""

    poll_interval = 0.5

    def __init__(self, place: Place, role: str) -> None:
        where = place.namespaces.get(role) or place.namespaces[NAMESPACED]
        super().__init__("contract", namespace=where, region="us-east-1", account="123456789012", clock=place.clock)
        self._given = place.caller(role).api

    def api(self, described: Any = None) -> Any:  # noqa: ARG002 - the signature is the backend's
        return self._given


def planned(place: Place, role: str, pairs: Any) -> tuple[Reached, Any]:
    backend = Reached(place, role)
    recipe = DPORecipe(
        name=f"contract-{uuid.uuid4().hex[:6]}", model=NovaModel.MICRO, replicas=2, tuning=LoRA(), warmup_steps=1
    )
    return backend, NovaClient(backend, output="s3://acme-nova/runs").plan(recipe, pairs)


@pytest.fixture(params=[ADMINISTRATOR, *ROLES])
def role(request, place):
    yield request.param
    place.caller(ADMINISTRATOR)


@pytest.fixture
def sent(place, role, pairs):
    """A job that was submitted in a role's name."""
    backend, plan = planned(place, role, pairs)
    assert backend.submit(plan) is False
    yield backend, plan
    place.caller(role)
    backend.cancel(backend.ref(plan.name))


def tell(place: Place, role: str, backend: Reached, plan: Any, *kinds: tuple[str, str]) -> None:
    """Let the operator write conditions, then go on in the role's name."""
    write_status(place, f"{jobs_in(backend.namespace)}/{plan.name}", conditions(*kinds))
    place.caller(role)


CREATED, RUNNING, ENDED = ("Created", "True"), ("Running", "True"), ("Running", "False")


def test_a_job_is_sent_once_owned_and_found_again(sent):
    backend, plan = sent
    assert backend.submit(plan) is True
    held = backend.api().get(CONFIGMAPS, backend.namespace, f"training-config-{plan.name}")
    made = backend.api().get(PYTORCHJOBS, backend.namespace, plan.name)
    (owner,) = held["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("PyTorchJob", made["metadata"]["uid"])
    assert held["data"] == plan.objects[0]["data"]
    assert plan.ref in [each.ref for each in backend.find_jobs()]


def test_what_the_operator_writes_is_told_and_what_it_does_not_write_too(place, role, sent):
    backend, plan = sent
    ref = backend.ref(plan.name)
    assert backend.snapshot(ref).status is JobStatus.PENDING
    tell(place, role, backend, plan, CREATED, ("Suspended", "True"))
    assert backend.snapshot(ref).status is JobStatus.QUEUED
    tell(place, role, backend, plan, CREATED, RUNNING)
    seen = backend.snapshot(ref)
    assert seen.status is JobStatus.RESTARTING  # it has no pods, whatever the operator says
    assert seen.reason == "NoPods"
    tell(place, role, backend, plan, CREATED, ENDED, ("Succeeded", "True"))
    assert backend.snapshot(ref).status is JobStatus.SUCCEEDED


def test_a_crash_loop_is_seen_by_every_role(place, role, sent):
    backend, plan = sent
    tell(place, role, backend, plan, CREATED, RUNNING)
    operator = place.caller(OPERATOR)
    try:
        for suffix in ("master-0", "worker-0"):
            pod_name = f"{plan.name}-{suffix}"
            where = pods_in(backend.namespace)
            assert operator("POST", where, pod(backend.namespace, plan.name, pod_name)).status == 201
            held = operator("GET", f"{where}/{pod_name}").body
            held["status"] = {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "pytorch",
                        "image": "example.org/nova:1",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 7,
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
                        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such file"}},
                    }
                ],
            }
            answer = operator("PUT", f"{where}/{pod_name}/status", held)
            assert answer.status == 200, answer.body
        place.caller(role)
        seen = backend.snapshot(backend.ref(plan.name))
        assert (seen.status, seen.reason, seen.restarts) == (JobStatus.DEGRADED, "CrashLoopBackOff", 14)
        assert "no such file" in seen.message
        (many,) = [each for each in backend.find_jobs() if each.ref == plan.ref]
        assert many.status is (JobStatus.RUNNING if role == NAMESPACED else JobStatus.DEGRADED)
    finally:
        place.caller(OPERATOR).clear()


def test_a_job_is_followed_to_its_end_with_or_without_a_watch(place, role, sent):
    backend, plan = sent
    told = []
    for snapshot in backend.follow([backend.ref(plan.name)], interval=0.5, timeout=60):
        told.append(snapshot.status)
        if snapshot.status is JobStatus.PENDING:
            tell(place, role, backend, plan, CREATED, ("Suspended", "True"))
        elif snapshot.status is JobStatus.QUEUED:
            tell(place, role, backend, plan, CREATED, ENDED, ("Succeeded", "True"))
    assert told == [JobStatus.PENDING, JobStatus.QUEUED, JobStatus.SUCCEEDED]


def test_cancel_and_delete_leave_nothing(place, role, sent):
    backend, plan = sent
    ref = backend.ref(plan.name)
    with pytest.raises(JobNotFinishedError):
        backend.delete(ref)
    tell(place, role, backend, plan, CREATED, ENDED, ("Succeeded", "True"))
    backend.cancel(ref)
    assert backend.snapshot(ref).status is JobStatus.SUCCEEDED
    backend.delete(ref)
    backend.delete(ref)
    backend.cancel(ref)
    assert backend.snapshot(ref).status is JobStatus.DELETED
    assert backend.api().get_or_none(CONFIGMAPS, backend.namespace, f"training-config-{plan.name}") is None


def test_a_run_of_another_recipe_under_the_same_name_is_refused(sent):
    backend, plan = sent
    config, body = plan.objects
    body["metadata"]["labels"] = {**body["metadata"]["labels"], DIGEST_LABEL: "0" * 40}
    with pytest.raises(ClusterError, match="is another run") as error:
        backend.submit(replace(plan, digest="1" * 64))
    assert error.value.reason == "AlreadyExists"
    assert config["metadata"]["name"].endswith(plan.name)

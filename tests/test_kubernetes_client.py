from __future__ import annotations

import gzip
import pickle
import socket
import ssl
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from scripted import Asked, Authority, Reply, ScriptedServer, make_authority

from nova_dpo_sdk._time import FakeClock, RetryPolicy
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, NODES, PODS, PYTORCHJOBS, KubernetesAPI, Resource
from nova_dpo_sdk.backends._transport import NoAnswerError, Transport
from nova_dpo_sdk.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = "k8s-aws-v1.Q0FOQVJZ-secret_token"
JOB = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "support-dpo-3f9a1"}}


@dataclass(frozen=True)
class Secret:
    expires_at: datetime
    value: str = field(repr=False)


class Issuer:
    """Makes tokens of 14 minutes and counts them."""

    def __init__(self, clock: FakeClock, value: str = CANARY) -> None:
        self.clock = clock
        self.value = value
        self.made = 0

    def __call__(self) -> Secret:
        self.made += 1
        return Secret(self.clock.now() + timedelta(minutes=14), f"{self.value}-{self.made}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Cluster:
    def __init__(self, server: ScriptedServer, authority: Authority, clock: FakeClock, **options: Any) -> None:
        self.server = server.with_tls(authority.certificate, authority.key)
        self.issuer = Issuer(clock)
        self.api = KubernetesAPI(
            f"https://127.0.0.1:{server.port}", authority.ca_pem, self.issuer, clock=clock, **options
        )

    def __enter__(self) -> Cluster:  # noqa: PYI034 - Self is not in typing before 3.11
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()
        self.server.__exit__()

    @property
    def asked(self) -> list[Asked]:
        return self.server.asked


@pytest.fixture
def cluster(authority: Authority, clock: FakeClock) -> Callable[..., Cluster]:
    def make(*replies: Reply, answer: Callable[[Asked], Reply] | None = None, **options: Any) -> Cluster:
        return Cluster(ScriptedServer(*replies, answer=answer), authority, clock, **options)

    return make


def refused(code: int, reason: str, message: str = "", **details: str) -> Reply:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return Reply(code, {**status, "details": details})


def test_building_a_client_opens_nothing_and_makes_no_token(clock: FakeClock) -> None:
    issuer = Issuer(clock)
    KubernetesAPI("https://nowhere.invalid", "no certificate", issuer, clock=clock)
    assert issuer.made == 0


def test_get_asks_for_one_object_with_the_token(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "support-dpo-3f9a1") == JOB
    (asked,) = it.asked
    assert (asked.method, asked.path) == (
        "GET",
        "/apis/kubeflow.org/v1/namespaces/kubeflow/pytorchjobs/support-dpo-3f9a1",
    )
    assert asked.headers["authorization"] == f"Bearer {CANARY}-1"


def test_core_and_cluster_wide_objects_have_their_own_paths() -> None:
    assert CONFIGMAPS.path("kubeflow", "a") == "/api/v1/namespaces/kubeflow/configmaps/a"
    assert NODES.path("", "n1") == "/api/v1/nodes/n1"
    assert str(PYTORCHJOBS) == "pytorchjobs.kubeflow.org"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "A", "a b", "-a", "a" * 254])
def test_a_name_that_means_something_else_in_a_url_is_refused_before_sending(
    cluster: Callable[..., Cluster], name: str
) -> None:
    with cluster() as it, pytest.raises(ConfigurationError, match="cannot be a Kubernetes name"):
        it.api.delete(CONFIGMAPS, "kubeflow", name)
    assert it.asked == []


def test_deleting_without_a_name_is_refused_because_it_would_delete_everything(
    cluster: Callable[..., Cluster],
) -> None:
    with cluster(Reply(body={})) as it, pytest.raises(ConfigurationError, match="give its name"):
        it.api.delete(CONFIGMAPS, "kubeflow", "")
    assert it.asked == []


def test_create_and_update_ask_for_strict_field_validation(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(201, JOB), Reply(200, JOB)) as it:
        it.api.create(PYTORCHJOBS, "kubeflow", JOB)
        it.api.update(PYTORCHJOBS, "kubeflow", "support-dpo-3f9a1", JOB)
    assert [(a.method, a.query) for a in it.asked] == [
        ("POST", {"fieldValidation": "Strict"}),
        ("PUT", {"fieldValidation": "Strict"}),
    ]
    assert it.asked[0].path == "/apis/kubeflow.org/v1/namespaces/kubeflow/pytorchjobs"
    assert it.asked[0].json == JOB
    assert it.asked[0].headers["content-type"] == "application/json"


def test_list_reads_every_page(cluster: Callable[..., Cluster]) -> None:
    with cluster(
        Reply(body={"items": [{"n": 1}], "metadata": {"continue": "next"}}), Reply(body={"items": [{"n": 2}]})
    ) as it:
        assert it.api.list(PODS, "kubeflow", label_selector="app=a,b!=c") == [{"n": 1}, {"n": 2}]
    assert [a.query for a in it.asked] == [
        {"labelSelector": "app=a,b!=c", "limit": "500"},
        {"labelSelector": "app=a,b!=c", "limit": "500", "continue": "next"},
    ]


def test_a_list_whose_pages_grew_too_old_is_asked_for_at_once(cluster: Callable[..., Cluster]) -> None:
    with cluster(
        Reply(body={"items": [{"n": 1}], "metadata": {"continue": "next"}}),
        refused(410, "Expired"),
        Reply(body={"items": [{"n": 1}, {"n": 2}]}),
    ) as it:
        assert it.api.list(PODS, "") == [{"n": 1}, {"n": 2}]
    assert it.asked[2].query == {}


def test_delete_says_whether_the_object_was_there(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(body={"kind": "Status"}), refused(404, "NotFound")) as it:
        assert it.api.delete(PYTORCHJOBS, "kubeflow", "a") is True
        assert it.api.delete(PYTORCHJOBS, "kubeflow", "a", propagation="Foreground") is False
    assert [a.query["propagationPolicy"] for a in it.asked] == ["Background", "Foreground"]


def test_get_or_none_is_none_only_when_the_object_is_missing(cluster: Callable[..., Cluster]) -> None:
    with cluster(refused(404, "NotFound"), Reply(404, b"404 page not found\n"), refused(403, "Forbidden")) as it:
        assert it.api.get_or_none(PYTORCHJOBS, "kubeflow", "a") is None
        with pytest.raises(ClusterError, match=r"does not serve pytorchjobs\.kubeflow\.org v1.*operator"):
            it.api.get_or_none(PYTORCHJOBS, "kubeflow", "a")
        with pytest.raises(ClusterError):
            it.api.get_or_none(PYTORCHJOBS, "kubeflow", "a")


def test_allowed_is_a_self_review(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(201, {"status": {"allowed": True}}), Reply(201, {"status": {"allowed": False}})) as it:
        assert it.api.allowed("create", PYTORCHJOBS, "kubeflow") is True
        assert it.api.allowed("watch", PYTORCHJOBS, "kubeflow") is False
    assert it.asked[0].path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert it.asked[0].json["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "kubeflow.org",
        "version": "v1",
        "resource": "pytorchjobs",
        "namespace": "kubeflow",
    }


def test_a_table_can_be_asked_for(cluster: Callable[..., Cluster]) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    packed = gzip.compress(b'{"kind": "Table"}')
    with cluster(Reply(body=packed, headers={"Content-Encoding": "gzip"})) as it:
        table = it.api.request("list", "GET", PYTORCHJOBS, "kubeflow", headers={"Accept": accept})
    assert table == {"kind": "Table"}
    assert it.asked[0].headers["accept"] == accept


def test_a_busy_server_is_asked_again(cluster: Callable[..., Cluster], clock: FakeClock) -> None:
    with cluster(Reply(503), Reply(502), Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "a") == JOB
    assert clock.monotonic() > 0


def test_retry_after_is_honoured_in_seconds_and_as_a_date(cluster: Callable[..., Cluster], clock: FakeClock) -> None:
    with cluster(Reply(429, headers={"Retry-After": "33"}), Reply(body=JOB)) as it:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert 33 <= clock.monotonic() < 34
    date = format_datetime(clock.now() + timedelta(seconds=40), usegmt=True)
    with cluster(Reply(429, headers={"Retry-After": date}), Reply(body=JOB)) as it:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert 72 <= clock.monotonic() < 75


def test_a_server_that_asks_for_more_time_than_there_is_is_reported_as_busy(
    cluster: Callable[..., Cluster], clock: FakeClock
) -> None:
    with cluster(Reply(429, headers={"Retry-After": "3600"})) as it, pytest.raises(ClusterError, match="busy") as told:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert told.value.status == 429
    assert clock.monotonic() == 0


def test_a_server_that_stays_down_is_given_up(cluster: Callable[..., Cluster]) -> None:
    with cluster(answer=lambda _: Reply(503)) as it, pytest.raises(ClusterError) as told:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert len(it.asked) == RetryPolicy().attempts
    assert (told.value.verb, told.value.target, told.value.status) == ("get", "pytorchjobs/kubeflow/a", 503)


def test_a_connection_that_is_reset_before_the_answer_is_tried_again(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(drop=True), Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "a") == JOB
    assert len(it.asked) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        Reply(body=JOB, cut=5),
        Reply(body=b'{"kind": "PyTor', headers={"Content-Length": "15"}),
        Reply(body=b"<html>sign in</html>"),
        Reply(body=b"[]"),
    ],
    ids=["cut short", "half an object", "a web page", "not an object"],
)
def test_a_damaged_answer_is_tried_again_and_then_an_error(cluster: Callable[..., Cluster], damaged: Reply) -> None:
    with cluster(damaged, Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "a") == JOB
    with cluster(answer=lambda _: damaged) as it, pytest.raises(ClusterError, match=r"cut short|broke before") as told:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert told.value.may_pass


def test_a_create_whose_answer_was_lost_ends_in_already_exists(cluster: Callable[..., Cluster]) -> None:
    with cluster(Reply(drop=True), refused(409, "AlreadyExists")) as it, pytest.raises(ClusterError) as told:
        it.api.create(PYTORCHJOBS, "kubeflow", JOB)
    assert told.value.reason == "AlreadyExists"
    assert told.value.target == "pytorchjobs/kubeflow/support-dpo-3f9a1"


def test_the_token_is_renewed_before_its_end_without_a_refused_request(
    cluster: Callable[..., Cluster], clock: FakeClock
) -> None:
    started = clock.now()
    renewed_at: list[float] = []

    def answer(asked: Asked) -> Reply:
        number = int(asked.headers["authorization"].rpartition("-")[2])
        if number > len(renewed_at):
            renewed_at.append((clock.now() - started).total_seconds() / 60)
        return Reply(body=JOB)

    with cluster(answer=answer) as it:
        for _ in range(60 * 2):
            it.api.get(PYTORCHJOBS, "kubeflow", "a")
            clock.advance(30)
    gaps = [later - sooner for sooner, later in pairwise(renewed_at)]
    assert len(gaps) == 4
    assert all(10 <= gap <= 13 for gap in gaps)
    assert it.issuer.made == 5


def test_a_refused_token_is_renewed_once(cluster: Callable[..., Cluster]) -> None:
    with cluster(refused(401, "Unauthorized"), Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "a") == JOB
    assert [a.headers["authorization"][-1] for a in it.asked] == ["1", "2"]


def test_a_second_refusal_explains_the_access_entry(cluster: Callable[..., Cluster]) -> None:
    with cluster(answer=lambda _: refused(401, "Unauthorized")) as it, pytest.raises(ClusterError) as told:
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert len(it.asked) == 2
    assert told.value.status == 401
    assert "create-access-entry" in str(told.value)


def test_a_refusal_by_a_wrong_clock_says_so(cluster: Callable[..., Cluster], clock: FakeClock) -> None:
    clock.advance(20 * 60)
    with (
        cluster(answer=lambda _: refused(401, "Unauthorized")) as it,
        pytest.raises(ClusterError, match="20 minutes ahead"),
    ):
        it.api.get(PYTORCHJOBS, "kubeflow", "a")


def test_threads_that_meet_a_refusal_together_renew_the_token_once(authority: Authority, clock: FakeClock) -> None:
    together = threading.Barrier(4)

    def answer(asked: Asked) -> Reply:
        if asked.headers["authorization"].endswith("-1"):
            together.wait(10)
            return refused(401, "Unauthorized")
        return Reply(body=JOB)

    with Cluster(ScriptedServer(answer=answer), authority, clock) as it:
        workers = [threading.Thread(target=it.api.get, args=(PYTORCHJOBS, "kubeflow", "a")) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(it.asked) == 8
    assert it.issuer.made == 2


@pytest.mark.parametrize(
    ("reply", "reason", "words"),
    [
        (refused(409, "AlreadyExists"), "AlreadyExists", "an object of this name is there already"),
        (refused(409, "Conflict"), "Conflict", "changed by somebody else"),
        (
            refused(403, "Forbidden", "User x cannot"),
            "Forbidden",
            "may not `create` `pytorchjobs.kubeflow.org` in name",
        ),
        (refused(404, "NotFound", kind="namespaces", name="kubeflow"), "NotFound", "no namespace kubeflow"),
        (Reply(404, b"404 page not found\n"), "", "Is the training operator installed?"),
        (refused(422, "Invalid", "metadata.name: bad"), "Invalid", "The API server says: metadata.name: bad"),
        (refused(400, "BadRequest", 'unknown field "spec.x"'), "BadRequest", 'unknown field "spec.x"'),
        (Reply(413, b"too large"), "", "the object is too large"),
        (Reply(302, b"", {"Location": "https://elsewhere.invalid/"}), "", "no answer of a Kubernetes API server"),
    ],
)
def test_each_refusal_has_its_own_words(cluster: Callable[..., Cluster], reply: Reply, reason: str, words: str) -> None:
    with cluster(reply) as it, pytest.raises(ClusterError) as told:
        it.api.create(PYTORCHJOBS, "kubeflow", JOB)
    assert told.value.reason == reason
    assert told.value.status == reply.status
    assert words in str(told.value)
    assert "support-dpo-3f9a1" in str(told.value)
    assert len(it.asked) == 1
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # noqa: S301 - our own bytes


def test_an_object_over_three_mebibytes_is_not_sent(cluster: Callable[..., Cluster]) -> None:
    with cluster() as it, pytest.raises(ConfigurationError, match="at most 3,145,728"):
        it.api.create(CONFIGMAPS, "kubeflow", {"data": {"a": "x" * (3 << 20)}})
    assert it.asked == []


def test_an_object_that_etcd_does_not_store_is_not_sent_again_and_again(cluster: Callable[..., Cluster]) -> None:
    large = {"data": {"a": "x" * (1700 << 10)}}
    with cluster(Reply(500)) as it, pytest.raises(ClusterError, match=r"etcd stores 1,572,864"):
        it.api.create(CONFIGMAPS, "kubeflow", large)
    assert len(it.asked) == 1


@pytest.mark.parametrize("secret", [CANARY, "canary.of-another+kind/of=token"])
def test_no_secret_is_in_any_error(
    cluster: Callable[..., Cluster], caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level("DEBUG")

    def echo(asked: Asked) -> Reply:
        return refused(int(asked.path.rpartition("/")[2]), "Odd", f"you sent {asked.headers['authorization']}")

    with cluster(answer=echo) as it:
        it.issuer.value = secret
        for status in (400, 401, 403, 404, 409, 422, 429, 500, 302):
            with pytest.raises(ClusterError) as told:
                it.api.get(PYTORCHJOBS, "kubeflow", str(status))
            shown = "".join(traceback.format_exception(told.value)) + repr(told.value) + repr(vars(told.value))
            assert "you sent" in shown
            assert secret not in shown
            assert secret.encode() not in pickle.dumps(told.value)
    assert secret not in caplog.text
    assert secret not in repr(it.api)


def test_a_certificate_of_another_authority_is_refused_at_once(
    cluster: Callable[..., Cluster], tmp_path: Path, clock: FakeClock
) -> None:
    stranger = make_authority(tmp_path)
    with cluster(Reply(body=JOB)) as it:
        api = KubernetesAPI(f"https://127.0.0.1:{it.server.port}", stranger.ca_pem, it.issuer, clock=clock)
        with pytest.raises(ClusterError, match=r"certificate of 127\.0\.0\.1 was not accepted") as told:
            api.get(PYTORCHJOBS, "kubeflow", "a")
    assert (told.value.verb, told.value.status) == ("connect", 0)
    assert it.asked == []
    assert clock.monotonic() == 0


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    elsewhere = make_authority(tmp_path, names=("elsewhere",))
    with Cluster(ScriptedServer(Reply(body=JOB)), elsewhere, clock) as it:
        api = KubernetesAPI(f"https://localhost:{it.server.port}", elsewhere.ca_pem, it.issuer, clock=clock)
        with pytest.raises(ClusterError, match="certificate of localhost was not accepted"):
            api.get(PYTORCHJOBS, "kubeflow", "a")
    assert it.asked == []


def test_certificates_of_eks_are_accepted_by_python_3_13_too(authority: Authority) -> None:
    transport = Transport("https://localhost", authority.ca_pem, connect_timeout=1, read_timeout=1)
    context = transport._trust()
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_an_authority_that_is_no_certificate_is_a_configuration_error(clock: FakeClock) -> None:
    api = KubernetesAPI("https://127.0.0.1:1", "moto", Issuer(clock), clock=clock)
    with pytest.raises(ConfigurationError, match="not PEM"):
        api.get(PYTORCHJOBS, "kubeflow", "a")


def test_a_closed_port_says_that_the_connection_was_refused(authority: Authority, clock: FakeClock) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        api = KubernetesAPI(f"https://127.0.0.1:{free.getsockname()[1]}", authority.ca_pem, Issuer(clock), clock=clock)
        with pytest.raises(ClusterError, match="refused the connection") as told:
            api.get(PYTORCHJOBS, "kubeflow", "a")
    assert told.value.verb == "connect"
    assert told.value.target.startswith("https://127.0.0.1:")


def test_an_unknown_name_speaks_of_private_endpoints(authority: Authority, clock: FakeClock) -> None:
    api = KubernetesAPI("https://abc.gr7.eks.invalid", authority.ca_pem, Issuer(clock), clock=clock)
    with pytest.raises(ClusterError, match="private endpoint") as told:
        api.get(PYTORCHJOBS, "kubeflow", "a")
    assert told.value.verb == "connect"


def test_a_port_that_takes_no_connection_runs_into_the_limit(authority: Authority, clock: FakeClock) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.settimeout(0)
                each.connect_ex(("127.0.0.1", port))
            api = KubernetesAPI(
                f"https://127.0.0.1:{port}",
                authority.ca_pem,
                Issuer(clock),
                clock=clock,
                connect_timeout=0.05,
                read_timeout=0.05,
                retry=RetryPolicy(attempts=1),
            )
            with pytest.raises(ClusterError, match=r"did not take a connection within 0\.05 s"):
                api.get(PYTORCHJOBS, "kubeflow", "a")
        finally:
            for each in waiting:
                each.close()


def test_a_server_that_says_nothing_runs_into_the_limit(cluster: Callable[..., Cluster]) -> None:
    with (
        cluster(answer=lambda _: Reply(silent=True), read_timeout=0.05, retry=RetryPolicy(attempts=2)) as it,
        pytest.raises(ClusterError, match=r"sent nothing for 0\.05 s") as told,
    ):
        it.api.get(PYTORCHJOBS, "kubeflow", "a")
    assert (told.value.verb, told.value.target) == ("get", "pytorchjobs/kubeflow/a")
    assert len(it.asked) == 2


@pytest.mark.parametrize("endpoint", ["", "http://10.0.0.1", "https://", "https://user:hunter2@host", "ftp://host"])
def test_an_endpoint_that_would_leak_the_token_is_refused(endpoint: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigurationError) as told:
        KubernetesAPI(endpoint, "", Issuer(clock), clock=clock)
    assert "hunter2" not in str(told.value)


def test_loopback_is_never_proxied(cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with cluster(Reply(body=JOB)) as it:
        assert it.api.get(PYTORCHJOBS, "kubeflow", "a") == JOB


def test_a_proxy_is_used_with_its_login_and_a_refusal_by_it_is_told(
    authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = bytearray()
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.extend(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{proxy.getsockname()[1]}")
        api = KubernetesAPI(
            "https://abc.gr7.eks.invalid",
            authority.ca_pem,
            Issuer(clock),
            clock=clock,
            retry=RetryPolicy(attempts=1),
        )
        with pytest.raises(ClusterError, match="the proxy did not connect") as told:
            api.get(PYTORCHJOBS, "kubeflow", "a")
        thread.join()
    assert heard.startswith(b"CONNECT abc.gr7.eks.invalid:443")
    assert b"Basic bWU6aHVudGVyMg==" in heard
    assert "hunter2" not in "".join(traceback.format_exception(told.value))


def test_no_proxy_is_honoured(authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", ".eks.invalid")
    api = KubernetesAPI("https://abc.gr7.eks.invalid", authority.ca_pem, Issuer(clock), clock=clock)
    with pytest.raises(ClusterError, match="was not found"):
        api.get(PYTORCHJOBS, "kubeflow", "a")


def test_a_socks_proxy_is_named_as_unusable(
    authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    api = KubernetesAPI("https://abc.gr7.eks.invalid", authority.ca_pem, Issuer(clock), clock=clock)
    with pytest.raises(ConfigurationError, match="socks5 proxy"):
        api.get(PYTORCHJOBS, "kubeflow", "a")


def test_any_resource_can_be_named() -> None:
    assert Resource("kueue.x-k8s.io", "v1beta1", "workloads").path("a", "b") == (
        "/apis/kueue.x-k8s.io/v1beta1/namespaces/a/workloads/b"
    )


REACHES_CLOSED = pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "shutdown"), reason="needs urllib3 2.3")


@pytest.mark.parametrize(
    "headers", [{}, pytest.param({"Connection": "close"}, marks=REACHES_CLOSED)], ids=["kept", "closed"]
)
def test_an_answer_that_does_not_go_on_is_given_up_from_another_thread(
    authority: Authority, headers: dict[str, str]
) -> None:
    with ScriptedServer(Reply(held=True, headers=headers)).with_tls(authority.certificate, authority.key) as server:
        transport = Transport(f"https://localhost:{server.port}", authority.ca_pem, connect_timeout=5, read_timeout=5)
        stream = transport.open("/", headers={}, silence=9)

        def read() -> None:
            with suppress(NoAnswerError):
                list(stream.lines())

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.2)  # until it waits for more
        assert reader.is_alive()
        stream.interrupt()
        reader.join(3)
        assert not reader.is_alive()
        stream.close()
        transport.close()

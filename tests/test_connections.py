"""Tokens and connections of clients that live together in one process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from scripted import Asked, Reply, ScriptedServer, make_authority

from nova_dpo_sdk import NovaClient
from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.backends._kubernetes import CONFIGMAPS, PYTORCHJOBS, KubernetesAPI
from nova_dpo_sdk.errors import ClusterError
from nova_dpo_sdk.local import LocalCloud

if TYPE_CHECKING:
    from pathlib import Path

    from scripted import Authority

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Secret:
    expires_at: datetime
    value: str = field(repr=False)


class Issuer:
    """Makes tokens of 14 minutes that say whose they are and when they were made."""

    def __init__(self, name: str, clock: FakeClock) -> None:
        self.name = name
        self.clock = clock
        self.made = 0
        self.lock = threading.Lock()

    def __call__(self) -> Secret:
        with self.lock:
            self.made += 1
        now = self.clock.now()
        return Secret(now + timedelta(minutes=14), f"{self.name}/{(now - START).total_seconds()}")


def in_threads(work, count: int) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Authority]:
    return [make_authority(tmp_path_factory.mktemp(name)) for name in ("east", "west")]


def test_a_token_is_renewed_under_threads_without_a_refused_request(authorities: list[Authority]) -> None:
    clock = FakeClock(START)
    refused: list[float] = []

    def answer(asked: Asked) -> Reply:
        made = float(asked.headers["authorization"].rpartition("/")[2])
        age = (clock.now() - START).total_seconds() - made
        if age > 14 * 60:
            refused.append(age)
            return Reply(401, {"kind": "Status", "reason": "Unauthorized"})
        return Reply(body={"metadata": {}})

    authority = authorities[0]
    issuer = Issuer("east", clock)
    with ScriptedServer(answer=answer).with_tls(authority.certificate, authority.key) as server:
        api = KubernetesAPI(f"https://127.0.0.1:{server.port}", authority.ca_pem, issuer, clock=clock)

        together = threading.Barrier(4, action=lambda: clock.advance(60))

        def work(_: int) -> None:
            for _ in range(25):
                together.wait(120)
                api.get(CONFIGMAPS, "kubeflow", "a")

        in_threads(work, 4)
        api.close()
    assert len(server.asked) == 100
    assert refused == []
    assert issuer.made == 3  # 25 minutes pass; a token is used for 12 of its 14


def test_two_clients_of_two_clusters_keep_to_their_own_tokens_and_authorities(authorities: list[Authority]) -> None:
    clock = FakeClock(START)
    names = ("east", "west")
    servers = [
        ScriptedServer(answer=lambda _: Reply(body={"metadata": {}})).with_tls(each.certificate, each.key)
        for each in authorities
    ]
    with servers[0], servers[1]:
        clients = [
            KubernetesAPI(f"https://127.0.0.1:{server.port}", authority.ca_pem, Issuer(name, clock), clock=clock)
            for name, server, authority in zip(names, servers, authorities, strict=True)
        ]

        def work(number: int) -> None:
            for _ in range(10):
                clients[number % 2].get(CONFIGMAPS, names[number % 2], "a")
                clock.advance(20)

        in_threads(work, 6)
        for name, server in zip(names, servers, strict=True):
            assert len(server.asked) == 30
            assert all(asked.headers["authorization"].startswith(f"Bearer {name}/") for asked in server.asked)
            assert all(f"/namespaces/{name}/" in asked.path for asked in server.asked)
        stranger = KubernetesAPI(
            f"https://127.0.0.1:{servers[1].port}", authorities[0].ca_pem, Issuer("east", clock), clock=clock
        )
        with pytest.raises(ClusterError, match="certificate"):
            stranger.get(CONFIGMAPS, "west", "a")
        assert len(servers[1].asked) == 30
        for client in [*clients, stranger]:
            client.close()


def test_two_clients_of_two_clouds_see_only_their_own(clock: FakeClock, tmp_path: Path) -> None:
    with (
        LocalCloud(clock=clock, account="111111111111", bucket="acme-east", cluster="east") as east,
        LocalCloud(clock=clock, account="222222222222", bucket="acme-west", cluster="west", region="us-west-2") as west,
    ):
        clouds = (east, west)
        novas = [NovaClient(cloud.hyperpod(), output=cloud.output) for cloud in clouds]

        def work(number: int) -> None:
            api = novas[number % 2].backend.api()
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"map-{number}"}}
            api.create(CONFIGMAPS, "kubeflow", body)
            for _ in range(5):
                clock.advance(60)
                api.list(PYTORCHJOBS, "kubeflow")

        in_threads(work, 6)
        for number, nova in enumerate(novas):
            found = {each["metadata"]["name"] for each in nova.backend.api().list(CONFIGMAPS, "kubeflow")}
            assert found == {f"map-{each}" for each in range(number, 6, 2)}
            assert nova.backend.aws.account() == clouds[number].account
            assert nova.backend.aws.describe_hyperpod(nova.backend.cluster).arn == clouds[number].cluster.arn
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import gc
import json
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from botocore.exceptions import BotoCoreError, ClientError
from rehearsal import JOBS, Kubectl, job, put_pairs, recipe

from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.local import FakeClock, LocalCloud, Script
from nova_dpo_sdk.local._server import LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path


def test_building_a_cloud_does_nothing() -> None:
    before = threading.active_count()
    cloud = LocalCloud(FakeClock())
    assert threading.active_count() == before
    assert (cloud.region, cloud.account, cloud.output) == ("us-east-1", "123456789012", "s3://acme-nova/runs")
    assert (cloud.cluster_name, cloud.eks_name) == ("research", "research-eks")
    for ask in (lambda: cloud.aws_endpoint, cloud.session, cloud.kubernetes_token, lambda: cloud.add_bucket("x")):
        with pytest.raises(ConfigurationError, match="does not run"):
            ask()
    cloud.stop()


@pytest.mark.parametrize("wrong", [{"account": "1234"}, {"namespaces": ()}, {"role": "owner"}])
def test_a_cloud_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        LocalCloud(FakeClock(), **wrong)


def test_a_stopped_cloud_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with LocalCloud(FakeClock()) as cloud:
            put_pairs(cloud)
            put_pairs(cloud)
            client = Kubectl(cloud)
            assert client("GET", JOBS).status == 200
            endpoints = (cloud.aws_endpoint, cloud.kubernetes_endpoint)
        client.close()
        gc.collect()
    assert set(threading.enumerate()) == before
    for endpoint in endpoints:
        port = int(endpoint.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    cloud.stop()


def test_connections_that_clients_left_open_do_not_hold_up_the_stop() -> None:
    before = set(threading.enumerate())
    cloud = LocalCloud(FakeClock())
    cloud.start()
    ports = [int(each.rpartition(":")[2]) for each in (cloud.aws_endpoint, cloud.kubernetes_endpoint)]
    idle = [socket.create_connection(("127.0.0.1", port)) for port in ports]
    half = socket.create_connection(("127.0.0.1", ports[0]))
    half.sendall(b"PUT /acme-nova/k HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    started = time.monotonic()
    cloud.stop()
    assert time.monotonic() - started < 5
    for connection in (*idle, half):
        connection.close()
    assert set(threading.enumerate()) == before


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class HeldUp(ssl.SSLContext):
    """Lets a connection wait between the moment it is made secure and the moment the server can know of it."""

    def __init__(self, *_: object) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        secured = super().wrap_socket(*given, **named)
        self.reached.set()
        assert self.released.wait(30)
        return secured


def test_a_connection_that_is_just_made_secure_does_not_hold_up_the_stop() -> None:
    tls = HeldUp(ssl.PROTOCOL_TLS_SERVER)
    server = LoopbackServer(lambda _environ, _start: [], tls)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)):
        assert tls.reached.wait(30)
        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()
        # The server has seen every connection it will close when its port is closed and the stop waits for threads.
        while is_open(server.port):
            pass
        stopping.join(0.05)
        tls.released.set()
        stopping.join(5)
        assert not stopping.is_alive()


@pytest.mark.parametrize(
    "ending", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"]
)
def test_a_broken_off_upload_stores_nothing(ending: bytes) -> None:
    with LocalCloud(FakeClock()) as cloud:
        with socket.create_connection(("127.0.0.1", int(cloud.aws_endpoint.rpartition(":")[2]))) as connection:
            connection.sendall(b"PUT /acme-nova/broken HTTP/1.1\r\nHost: 127.0.0.1\r\n" + ending)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1000) == b""
        assert cloud.session().client("s3").list_objects_v2(Bucket="acme-nova")["KeyCount"] == 0


def test_a_chunked_upload_arrives_whole() -> None:
    with LocalCloud(FakeClock()) as cloud:
        pool = urllib3.PoolManager(retries=False)
        url = f"{cloud.aws_endpoint}/acme-nova/chunked"
        assert pool.request("PUT", url, body=iter([b"one ", b"two"]), chunked=True).status == 200
        assert cloud.session().client("s3").get_object(Bucket="acme-nova", Key="chunked")["Body"].read() == b"one two"
        pool.clear()


def test_a_defect_of_the_cloud_is_an_answer_and_a_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with LocalCloud(FakeClock()) as cloud:
        client = Kubectl(cloud)
        cloud.store.listeners.append(lambda *_: 1 / 0)
        with pytest.raises(json.JSONDecodeError):
            client("POST", JOBS, job("x"))
        cloud.store.listeners.pop()
        assert client("GET", JOBS).status == 200
        client.close()
    assert "ZeroDivisionError" in caplog.text


def test_who_is_held_up_until_the_cloud_stops_is_no_defect_of_it(caplog: pytest.LogCaptureFixture) -> None:
    with LocalCloud(FakeClock()) as cloud:
        eks = cloud.hyperpod().aws.client("eks")
        held = cloud.faults.slow("DescribeCluster", 60, service="eks")

        def ask() -> None:
            with suppress(BotoCoreError, ClientError):
                eks.describe_cluster(name=cloud.eks_name)

        thread = threading.Thread(target=ask)
        thread.start()
        while held.times:
            thread.join(0.01)
    thread.join(10)
    assert "failed to answer" not in caplog.text


def test_a_cloud_runs_once() -> None:
    cloud = LocalCloud(FakeClock())
    with cloud:
        pass
    with pytest.raises(ConfigurationError, match="runs once"):
        cloud.start()


def test_the_next_cloud_finds_empty_buckets() -> None:
    for _ in range(2):
        with LocalCloud(FakeClock()) as cloud:
            s3 = cloud.session().client("s3")
            assert s3.list_objects_v2(Bucket=cloud.bucket)["KeyCount"] == 0
            assert "made-by-the-user" not in {each["Name"] for each in s3.list_buckets()["Buckets"]}
            put_pairs(cloud)
            s3.create_bucket(Bucket="made-by-the-user")


def test_two_clouds_live_side_by_side() -> None:
    with (
        LocalCloud(FakeClock()) as one,
        LocalCloud(FakeClock(), account="210987654321", bucket="acme-2", region="us-west-2") as two,
    ):
        put_pairs(one)
        assert one.session().client("sts").get_caller_identity()["Account"] == "123456789012"
        assert two.session().client("sts").get_caller_identity()["Account"] == "210987654321"
        assert [each["Name"] for each in two.session().client("s3").list_buckets()["Buckets"]] == [
            "acme-2",
            two.cluster.escrow,
            two.cluster.training_escrow,
        ]
        assert two.session().client("s3").list_objects_v2(Bucket="acme-2")["KeyCount"] == 0
        client = Kubectl(one)
        assert client("GET", JOBS, token=two.kubernetes_token()).status == 200  # the same cluster's name
        client.close()
        stranger = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=two.ca_pem), retries=False)
        with pytest.raises(urllib3.exceptions.SSLError):
            stranger.request("GET", one.kubernetes_endpoint + JOBS)
    assert one.cluster.escrow != two.cluster.escrow


def test_the_buckets_of_another_cloud_are_another_accounts() -> None:
    with (
        LocalCloud(FakeClock()) as one,
        LocalCloud(FakeClock(), account="210987654321", bucket="acme-2") as two,
    ):
        put_pairs(one)
        foreign = two.session().client("s3")
        calls: list[tuple[Any, dict[str, Any], str]] = [
            (foreign.put_object, {"Key": "k", "Body": b"x"}, "AccessDenied"),
            (foreign.list_objects_v2, {}, "AccessDenied"),
            (foreign.delete_bucket, {}, "AccessDenied"),
            (foreign.create_bucket, {}, "BucketAlreadyExists"),
        ]
        for call, arguments, code in calls:
            with pytest.raises(ClientError, match=code):
                call(Bucket=one.bucket, **arguments)
        with pytest.raises(ClientError, match="NoSuchBucket"):
            foreign.put_object(Bucket="nobodys", Key="k", Body=b"x")
        foreign.create_bucket(Bucket="nobodys")
        foreign.put_object(Bucket="nobodys", Key="k", Body=b"x")
    with LocalCloud(FakeClock()) as next_one:
        next_one.session().client("s3").create_bucket(Bucket="nobodys")


def test_two_clouds_cannot_have_one_bucket_and_the_first_is_not_hurt() -> None:
    with LocalCloud(FakeClock()) as one:
        put_pairs(one)
        other = LocalCloud(FakeClock(), account="210987654321")
        with pytest.raises(ConfigurationError, match="'acme-nova' exists already in this process"):
            other.start()
        assert one.session().client("s3").list_objects_v2(Bucket="acme-nova")["KeyCount"] == 1
    half = LocalCloud(FakeClock(), bucket="acme-half")
    with LocalCloud(FakeClock()), pytest.raises(ConfigurationError, match="customer-escrow"):
        half.start()
    with LocalCloud(FakeClock(), bucket="acme-half"):
        pass


def test_the_machines_clock_moves_a_cloud_too() -> None:
    with LocalCloud(script=Script(pace=0.01)) as cloud:
        put_pairs(cloud)
        client = Kubectl(cloud)
        client.submit("live", parsed=recipe("live"), body=job("live"))
        end = time.monotonic() + 10
        while "Succeeded" not in client.conditions("live") and time.monotonic() < end:
            threading.Event().wait(0.02)
        assert client.conditions("live")["Succeeded"] == "True"
        client.close()


def test_another_process_can_attach(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import json, sys
        from nova_dpo_sdk.local import LocalCloud
        cloud = LocalCloud.attach(json.load(open(sys.argv[1], encoding="utf-8")))
        s3 = cloud.session().client("s3")
        s3.put_object(Bucket="acme-nova", Key="from-there", Body=b"x")
        print(cloud.output, cloud.session().client("sts").get_caller_identity()["Account"])
        print(cloud.kubernetes_token().startswith("k8s-aws-v1."))
        """
    )
    file = tmp_path / "connection.json"
    with LocalCloud() as cloud:
        file.write_text(json.dumps(cloud.connection().to_dict()), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.split() == ["s3://acme-nova/runs", "123456789012", "True"]
        found = cloud.session().client("s3").get_object(Bucket="acme-nova", Key="from-there")
        assert found["Body"].read() == b"x"


@pytest.mark.parametrize("wrong", ["cloud.json", {}, {"region": "us-east-1"}, None])
def test_what_tells_no_cloud_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tells no cloud\. Pass what connection\(\)\.to_dict\(\) gave"):
        LocalCloud.attach(wrong)


def test_an_attached_cloud_makes_tokens_and_backends_of_its_own() -> None:
    with LocalCloud(FakeClock()) as cloud:
        attached = LocalCloud.attach(cloud.connection().to_dict(), clock=cloud.clock)
        assert attached == cloud.connection()
        client = Kubectl(cloud)
        assert client("GET", JOBS, token=attached.kubernetes_token()).status == 200
        client.close()
        backend = attached.hyperpod(instance_type="ml.p4d.24xlarge")
        assert backend.identity()["cluster"] == "research"
        assert backend.instance_type == "ml.p4d.24xlarge"


def test_nothing_secret_shows() -> None:
    with LocalCloud(FakeClock()) as cloud:
        shown = repr(cloud) + repr(cloud.connection()) + repr(cloud.session()) + repr(cloud._access)
        assert "not-a-secret" not in shown
        assert "BEGIN" not in shown

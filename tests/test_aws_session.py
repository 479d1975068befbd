from __future__ import annotations

import subprocess
import sys
import threading
from typing import cast

import pytest
from aws_loopback import ACCOUNT, LoopbackSession, moto_server
from scripted import Reply, ScriptedServer

from nova_dpo_sdk.aws import AWS
from nova_dpo_sdk.errors import ConfigurationError

IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def test_neither_importing_nor_building_imports_boto3() -> None:
    program = (
        "import sys, nova_dpo_sdk.aws as a; aws = a.AWS(region='us-east-1'); repr(aws); aws.region; "
        "a.S3Uri.parse('s3://acme-attic/a'); sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], check=False)
    assert run.returncode == 0


def test_the_given_region_is_stronger_than_the_sessions() -> None:
    session = LoopbackSession("http://127.0.0.1:1", region="us-west-2")
    assert AWS(session).region == "us-west-2"
    aws = AWS(session, region="us-east-1")
    assert aws.region == "us-east-1"
    assert aws.client("s3").meta.region_name == "us-east-1"


def test_the_region_of_the_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert AWS().region == "eu-west-2"


@pytest.mark.parametrize("account", ["", "12345678901", "acme", "1234567890123", cast("str", 123456789012)])
def test_an_account_that_is_not_twelve_digits_is_refused(account: str) -> None:
    with pytest.raises(ConfigurationError, match="twelve digits"):
        AWS(account=account)


def test_no_attempt_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_attempts=0"):
        AWS(max_attempts=0)


def test_the_account_is_asked_once_by_however_many_threads() -> None:
    with ScriptedServer(answer=lambda _: Reply(200, IDENTITY)) as sts:
        aws = AWS(LoopbackSession(sts.url))
        assert aws.known_account is None
        seen: list[str] = []
        threads = [threading.Thread(target=lambda: seen.append(aws.account())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [ACCOUNT] * 8
    assert aws.known_account == ACCOUNT
    assert len(sts.asked) == 1


def test_a_given_account_is_not_asked_for() -> None:
    with ScriptedServer() as sts:
        aws = AWS(LoopbackSession(sts.url), account="210987654321")
        assert aws.account() == aws.known_account == "210987654321"
    assert sts.asked == []


def test_the_account_is_what_sts_says() -> None:
    with moto_server() as url:
        assert AWS(LoopbackSession(url)).account() == ACCOUNT


def test_the_given_session_makes_each_client_once_for_all_threads() -> None:
    session = LoopbackSession("http://127.0.0.1:1")
    aws = AWS(session)
    together = threading.Barrier(8)
    made: list[object] = []

    def ask() -> None:
        together.wait()
        made.append(aws.client("s3"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.made == ["s3"]
    assert len({id(client) for client in made}) == 1
    assert aws.client("s3", region="eu-west-1") is not made[0]


def test_a_call_is_tried_as_often_as_was_said() -> None:
    with ScriptedServer(Reply(500), Reply(200, IDENTITY)) as sts:
        assert AWS(LoopbackSession(sts.url), max_attempts=2).account() == ACCOUNT
    assert len(sts.asked) == 2
    assert "nova-dpo-sdk/" in sts.asked[0].headers["user-agent"]

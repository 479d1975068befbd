from __future__ import annotations

import datetime as dt
import logging
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from aws_loopback import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, quick_core

from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.aws import AWS, Token
from nova_dpo_sdk.aws._token import sts_host
from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError

MOMENT = dt.datetime(2026, 11, 23, 4, 5, 6, tzinfo=dt.timezone.utc)


@pytest.fixture(autouse=True)
def regional_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older botocores name the global host of STS by default."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")


def session(region: str = "us-east-1", token: str | None = SESSION_TOKEN) -> boto3.Session:
    return boto3.Session(
        botocore_session=quick_core(),
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        aws_session_token=token,
        region_name=region,
    )


def url_of(token: Token) -> str:
    prefix, _, text = token.value.partition(".")
    assert prefix == "k8s-aws-v1"
    assert "=" not in text
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def by_botocore(session: boto3.Session, cluster: str) -> str:
    """The URL that botocore itself presigns, with the cluster's header put in by its events."""
    sts: Any = session.client("sts")
    sts.meta.events.register(
        "before-sign.sts.GetCallerIdentity",
        lambda request, **_: request.headers.add_header("x-k8s-aws-id", cluster),
    )
    return str(sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET"))


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-2", "cn-north-1"])
@pytest.mark.parametrize("session_token", [SESSION_TOKEN, None], ids=["role", "user"])
def test_a_token_says_what_botocore_would_sign(region: str, session_token: str | None) -> None:
    theirs = urlsplit(by_botocore(session(region, session_token), "research"))
    facts = dict(parse_qsl(theirs.query))
    moment = dt.datetime.strptime(facts["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.timezone.utc)
    aws = AWS(session(region, session_token), clock=FakeClock(moment))
    ours = urlsplit(url_of(aws.eks_token("research")))
    assert dict(parse_qsl(ours.query)) == facts
    assert len(parse_qsl(ours.query)) == len(facts)
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)


def test_a_token_is_signed_at_the_moment_of_the_clock_and_lives_fourteen_minutes() -> None:
    clock = FakeClock(MOMENT)
    aws = AWS(session(), clock=clock)
    first = aws.eks_token("research")
    facts = dict(parse_qsl(urlsplit(url_of(first)).query))
    assert facts["X-Amz-Date"] == "20261123T040506Z"
    assert facts["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    assert first.expires_at == MOMENT + dt.timedelta(minutes=14)
    clock.advance(60)
    assert aws.eks_token("research").expires_at == MOMENT + dt.timedelta(minutes=15)


def test_a_token_names_its_cluster() -> None:
    aws = AWS(session(), clock=FakeClock(MOMENT))
    assert aws.eks_token("research").value != aws.eks_token("production").value


def test_a_token_is_not_shown() -> None:
    token = AWS(session(), clock=FakeClock(MOMENT)).eks_token("research")
    assert token.value not in repr(token)
    assert token.value not in str(token)
    assert len(token.value) < 4096


def test_nothing_is_logged_while_signing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = AWS(session(), clock=FakeClock(MOMENT)).eks_token("research")
    signature = dict(parse_qsl(urlsplit(url_of(token)).query))["X-Amz-Signature"]
    assert SESSION_TOKEN not in caplog.text
    assert signature not in caplog.text


def test_a_token_longer_than_eks_accepts_is_refused() -> None:
    with pytest.raises(AccessDeniedError, match="EKS accepts 4096") as told:
        AWS(session(token="s" * 4000)).eks_token("research")
    assert "sss" not in str(told.value)


@pytest.mark.parametrize("name", ["", "a b", "a\r\nx-evil: 1", "-a", "a" * 101])
def test_a_name_that_no_cluster_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of an EKS cluster"):
        AWS(session()).eks_token(name)


@pytest.mark.parametrize(
    "region",
    [
        "us-east-1",
        "ap-northeast-1",
        "us-gov-west-1",
        "cn-north-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "us-isof-south-1",
        "eu-isoe-west-1",
        "eusc-de-east-1",
    ],
)
def test_the_host_is_that_of_the_regions_own_partition(region: str) -> None:
    assert f"https://{sts_host(region)}" == session(region).client("sts").meta.endpoint_url

"""boto3 sessions that talk to a server on loopback, and moto as that server."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer

from nova_dpo_sdk.aws import AWS

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOADER = create_loader()  # reading the descriptions of services is most of what a client costs

ACCOUNT = "123456789012"
ACCESS_KEY = "AKIAQ0FOQVJZ0ACCESS0"
SECRET_KEY = "c2VjcmV0canary/KEY+abcdefghijk"
SESSION_TOKEN = "FwoGZXIvYXdzEcanary//TOKEN+0123456789=="


def quick_core() -> botocore.session.Session:
    """A botocore session that shares what it reads from disk with the others of its kind."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _LOADER)
    return core


class LoopbackSession(boto3.Session):
    """A session whose every client talks to `url`."""

    def __init__(self, url: str, *, region: str | None = "us-east-1", keys: bool = True) -> None:
        credentials = (
            {
                "aws_access_key_id": ACCESS_KEY,
                "aws_secret_access_key": SECRET_KEY,
                "aws_session_token": SESSION_TOKEN,
            }
            if keys
            else {}
        )
        super().__init__(botocore_session=quick_core(), region_name=region, **credentials)
        self.url = url
        self.made: list[str] = []

    def client(self, service_name: str, **options: Any) -> Any:  # type: ignore[override]
        self.made.append(service_name)
        return super().client(service_name, endpoint_url=self.url, **options)  # type: ignore[call-overload]


def loopback_aws(url: str, **options: Any) -> AWS:
    """An account whose services are all at `url`, tried once."""
    return AWS(LoopbackSession(url), **{"account": ACCOUNT, "max_attempts": 1, **options})


@contextmanager
def moto_server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()

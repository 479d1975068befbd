"""A boto3 session that reaches the rehearsal cloud and nothing else."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory, ConfigValueStore
from botocore.loaders import create_loader

if TYPE_CHECKING:
    from ._token import Keys


class LocalSession(boto3.Session):
    """Makes clients of the cloud on loopback.

    Profiles, `AWS_*` variables, shared files and proxies of the user's own environment have no say. An
    `endpoint_url` that the caller names stands, since presigning for STS needs the real host in the URL.

    Args:
        endpoint: URL of the cloud's AWS front.
        region: The Region of clients that name none.
        keys: The credentials.
    """

    def __init__(self, endpoint: str, region: str, keys: Keys) -> None:
        self._endpoint = endpoint
        super().__init__(
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            region_name=region,
            botocore_session=_secluded(),
        )

    def client(  # pyright: ignore[reportIncompatibleMethodOverride] - one per service
        self, service_name: str, *args: Any, **options: Any
    ) -> Any:
        """A client as `boto3.Session.client` makes it, aimed at loopback, with path-style S3 addresses."""
        given: Config = options.pop("config", None) or Config()
        asked: Any = getattr(given, "s3", None) or {}
        s3: Any = {**asked, "addressing_style": "path"}
        options["config"] = given.merge(Config(s3=s3, proxies={}))
        options["endpoint_url"] = options.get("endpoint_url") or self._endpoint
        return super().client(service_name, *args, **options)  # type: ignore[call-overload]


@cache
def _loader() -> Any:
    """One for all sessions: reading the service descriptions is most of what making a client costs."""
    return create_loader()


def _secluded() -> botocore.session.Session:
    session = botocore.session.Session()
    chains = ConfigChainFactory(session=session, environ={})
    store = ConfigValueStore()
    variables: dict[str, Any] = BOTOCORE_DEFAUT_SESSION_VARIABLES
    for name, (in_files, in_environment, default, convert) in variables.items():
        chain = chains.create_config_chain(
            instance_name=name,
            env_var_names=in_environment,
            config_property_names=in_files,
            default=default,
            conversion_func=convert,
        )
        store.set_config_provider(name, chain)
    session.register_component("config_store", store)
    session.register_component("data_loader", _loader())
    for file in ("config_file", "credentials_file"):
        session.set_config_variable(file, os.devnull)
    return session

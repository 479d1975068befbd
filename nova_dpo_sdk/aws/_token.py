"""The bearer token that an EKS cluster takes: a presigned STS request, made without asking the network."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

LIFETIME = timedelta(minutes=14)
"""EKS takes a token for 15 minutes after it was signed; the last one is left for slow clocks."""

_LONGEST = 4096
_URL_SECONDS = 60  # of no effect on EKS, which counts 15 minutes from the signature whatever stands here
_CLUSTER_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}


@dataclass(frozen=True)
class Token:
    """A bearer token for a cluster's Kubernetes API.

    Attributes:
        value: What follows `Bearer `; a secret, so it is left out of the repr.
        expires_at: When it must have been replaced (aware, UTC).
    """

    value: str = field(repr=False)
    expires_at: datetime


def sts_host(region: str) -> str:
    """The Regional STS host, in the Region's own partition.

    Args:
        region: Name of a Region, such as `us-east-1`.
    """
    domain = next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), "amazonaws.com")
    return f"sts.{region}.{domain}"


def eks_token(cluster_name: str, *, region: str, credentials: ReadOnlyCredentials, moment: datetime) -> Token:
    """Sign a token for one cluster, as `aws eks get-token` does.

    Args:
        cluster_name: The EKS cluster's name (not the HyperPod cluster's).
        region: Whose STS is named in the token.
        credentials: Who asks. They must outlive the token: EKS shows it to STS each time.
        moment: When the token counts as signed (aware, UTC); its life starts there.

    Raises:
        ConfigurationError: `cluster_name` cannot be the name of an EKS cluster.
        AccessDeniedError: The token is longer than EKS accepts.
    """
    if not _CLUSTER_NAME.fullmatch(cluster_name):
        raise ConfigurationError(
            f"{cluster_name!r} cannot be the name of an EKS cluster: 1 to 100 letters, digits, hyphens and "
            "underscores, starting with a letter or digit. The HyperPod cluster's Orchestrator.Eks.ClusterArn "
            "ends in it."
        )
    url = _presigned(cluster_name, region, credentials, moment)
    value = "k8s-aws-v1." + urlsafe_b64encode(url.encode()).decode().rstrip("=")
    if len(value) > _LONGEST:
        raise AccessDeniedError(
            f"The token for EKS cluster {cluster_name} would be {len(value)} bytes long; EKS accepts {_LONGEST}. "
            "The session token inside is too long: use a role session with fewer session tags and policies.",
            operation="GetCallerIdentity",
            target=cluster_name,
        )
    return Token(value, moment + LIFETIME)


def _presigned(cluster_name: str, region: str, credentials: ReadOnlyCredentials, moment: datetime) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    # botocore's own query signer takes the machine's time and writes the session token to its debug log,
    # so its steps are taken one by one here.
    signer = SigV4Auth(credentials, "sts", region)
    url = f"https://{sts_host(region)}/"
    request = AWSRequest(method="GET", url=url, headers={"x-k8s-aws-id": cluster_name})
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    request.params = {
        "Action": "GetCallerIdentity",
        "Version": "2011-06-15",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": signer.scope(request),
        "X-Amz-Date": request.context["timestamp"],
        "X-Amz-Expires": str(_URL_SECONDS),
        "X-Amz-SignedHeaders": signer.signed_headers(signer.headers_to_sign(request)),
    }
    if credentials.token:
        request.params["X-Amz-Security-Token"] = credentials.token
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    query = urlencode(request.params, quote_via=quote, safe="-_.~")
    return f"{url}?{query}&X-Amz-Signature={signer.signature(to_sign, request)}"

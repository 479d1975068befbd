"""EKS bearer tokens: signing one, and checking one as aws-iam-authenticator and STS do."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl, quote, urlsplit

PREFIX = "k8s-aws-v1."
_LONGEST = 4096
_LIFETIME = timedelta(minutes=15)
_SKEW = timedelta(minutes=5)
_PARAMETERS = frozenset(
    {
        "action",
        "version",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
_HOST = re.compile(r"sts(\.[a-z]{2}(-[a-z]+)+-\d)?\.amazonaws\.com(\.cn)?")
_DATE = "%Y%m%dT%H%M%SZ"


class TokenRefusedError(Exception):
    """A bearer token that the cluster does not accept; the text says why, without the token."""


@dataclass(frozen=True)
class Keys:
    """One pair of access keys that the rehearsal cloud knows."""

    access_key: str
    secret_key: str = field(repr=False)


LOCAL_KEYS = Keys("AKIALOCALCLOUD000000", "local-cloud-not-a-secret")


def sign_token(keys: Keys, *, cluster: str, region: str, now: datetime) -> str:
    """Presign a GetCallerIdentity request and wrap it as a bearer token.

    Args:
        keys: Who signs.
        cluster: The EKS cluster's name.
        region: The Region whose STS endpoint is named.
        now: The moment of signing, aware.

    Returns:
        The token: `k8s-aws-v1.` and the URL in unpadded base64url.
    """
    host = f"sts.{region}.amazonaws.com"
    date = now.astimezone(timezone.utc).strftime(_DATE)
    query = {
        "Action": "GetCallerIdentity",
        "Version": "2011-06-15",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{keys.access_key}/{date[:8]}/{region}/sts/aws4_request",
        "X-Amz-Date": date,
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host;x-k8s-aws-id",
    }
    signature = _signature(query, host, cluster, keys.secret_key)
    url = f"https://{host}/?{_canonical(query)}&X-Amz-Signature={signature}"
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def signed_at(token: str) -> datetime:
    """When a token that `check_token` accepts was signed."""
    return datetime.strptime(_parts(_url(token))[1]["X-Amz-Date"], _DATE).replace(tzinfo=timezone.utc)


def check_token(token: str, keys: Keys, *, cluster: str, now: datetime) -> None:
    """Refuse a token that a cluster of this name would refuse.

    Args:
        token: What stood behind `Bearer`.
        keys: The only keys that are known.
        cluster: The EKS cluster's name that must have been signed.
        now: The present moment, aware.

    Raises:
        TokenRefusedError: Saying which rule the token breaks.
    """
    host, query = _parts(_url(token))
    if query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256" or query["Action"] != "GetCallerIdentity":
        raise TokenRefusedError("not a presigned GetCallerIdentity request")
    _check_dates(query, now)
    if set(query["X-Amz-SignedHeaders"].split(";")) != {"host", "x-k8s-aws-id"}:
        raise TokenRefusedError("host and x-k8s-aws-id must be the signed headers")
    if query["X-Amz-Credential"].split("/")[0] != keys.access_key:
        raise TokenRefusedError("STS does not know the access key")
    unsigned = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
    expected = _signature(unsigned, host, cluster, keys.secret_key)
    if not hmac.compare_digest(expected, query["X-Amz-Signature"]):
        raise TokenRefusedError("STS finds another signature: other secret key, or signed for another cluster")


def _url(token: str) -> str:
    if not token.startswith(PREFIX):
        raise TokenRefusedError(f"a token begins with {PREFIX}")
    if len(token) > _LONGEST:
        raise TokenRefusedError(f"a token has at most {_LONGEST} characters")
    text = token[len(PREFIX) :]
    if "=" in text:
        raise TokenRefusedError("base64url without padding is expected")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise TokenRefusedError("not base64url text") from error


def _parts(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not _HOST.fullmatch(parts.netloc) or parts.path != "/":
        raise TokenRefusedError("the URL must be https, at an STS endpoint, with the path /")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name.lower() for name, _ in pairs]
    if len(set(names)) != len(names):
        raise TokenRefusedError("a query parameter stands twice")
    unknown = set(names) - _PARAMETERS
    missing = _PARAMETERS - set(names) - {"x-amz-security-token", "version"}
    if unknown or missing:
        raise TokenRefusedError(f"query parameters unknown: {sorted(unknown)}, missing: {sorted(missing)}")
    return parts.netloc, dict(pairs)


def _check_dates(query: dict[str, str], now: datetime) -> None:
    try:
        signed = datetime.strptime(query["X-Amz-Date"], _DATE).replace(tzinfo=timezone.utc)
        expires = int(query["X-Amz-Expires"])
    except (KeyError, ValueError) as error:
        raise TokenRefusedError("X-Amz-Date or X-Amz-Expires is malformed") from error
    if not 0 <= expires <= 900:
        raise TokenRefusedError("X-Amz-Expires must be 0 to 900 seconds")
    if now > signed + _LIFETIME:
        raise TokenRefusedError(f"expired: signed {int((now - signed).total_seconds())} s ago")
    if signed > now + _SKEW:
        raise TokenRefusedError("signed in the future")


def _canonical(query: dict[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def _signature(query: dict[str, str], host: str, cluster: str, secret: str) -> str:
    try:
        _, day, region, service, end = query["X-Amz-Credential"].split("/")
    except ValueError as error:
        raise TokenRefusedError("X-Amz-Credential is malformed") from error
    request = "\n".join(
        [
            "GET",
            "/",
            _canonical(query),
            f"host:{host}",
            f"x-k8s-aws-id:{cluster}",
            "",
            "host;x-k8s-aws-id",
            hashlib.sha256(b"").hexdigest(),
        ]
    )
    scope = f"{day}/{region}/{service}/{end}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()

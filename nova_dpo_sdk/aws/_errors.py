"""What botocore and AWS complain about, said in our words and classes."""

from __future__ import annotations

import re
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk._words import plural
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    AWSError,
    ConfigurationError,
    NotFoundError,
    NovaError,
    ServiceError,
    ThrottledError,
)

if TYPE_CHECKING:
    from collections.abc import Generator

SIGN_IN = (
    "Sign in (`aws sso login`, `aws login`), name a profile in AWS_PROFILE, or pass AWS(session=boto3.Session(...))."
)
_NETWORK = "Check the network, the proxy settings and the spelling of the Region, then run it again."
_CLOCK = "Set this machine's clock (chrony, NTP) and run it again."

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_STALE = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_UNKNOWN_IDENTITY = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "MissingSecurityHeader",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "Forbidden", "UnauthorizedOperation"}
)
_MISSING = frozenset(
    {
        "404",
        "ImageNotFoundException",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchKey",
        "NoSuchUpload",
        "NotFound",
        "RepositoryNotFoundException",
        "ResourceNotFound",
        "ResourceNotFoundException",
    }
)
_THROTTLED = frozenset(
    {
        "429",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_HINTS = {
    "400": "A request without an answer's body is refused so when the credentials have expired: sign in again.",
    "BadDigest": "The bytes were damaged on their way; run it again.",
    "XAmzContentSHA256Mismatch": "The bytes were damaged on their way; run it again.",
    "KMS.NotFoundException": "Check kms_key_id: the key must exist in the bucket's Region.",
    "KMS.DisabledException": "Enable the KMS key, or give another kms_key_id.",
    "NoSuchBucket": "Check the bucket's name, or create the bucket.",
    "ResourceLimitExceeded": "Ask Service Quotas for more (SageMaker, <instance type> for training job usage), wait "
    "for running jobs to end, or use another instance type.",
}

_KMS = (
    "It is under a KMS key that the caller may not use: have kms:Decrypt (to read) or kms:GenerateDataKey (to write) "
    "on that key allowed, then ask again; nothing is lost."
)

# Texts that quote a signed request quote the session token with it, so they are not passed on.
_SECRETIVE = re.compile(
    r"security-token|x-amz-signature|x-amz-credential|aws4-hmac|canonical|secret|authorization:|//[^/\s]*@|[A-Za-z0-9+/=]{80}",
    re.IGNORECASE,
)
_CLOCK_TOLERANCE_MINUTES = 5.0
_FAULT_OF_AWS = 500
"""HTTP statuses from here on are no fault of the caller."""
_LONGEST_TEXT = 400
_FILE_NAME = re.compile(r"[\w./\\: -]{1,200}")
"""Names that may be shown: a program's may begin with a variable and its value."""
DAMAGED = "DamagedAnswer"
"""The code of an error for an answer that could not be read."""


@contextmanager
def aws_errors(operation: str, target: str) -> Generator[None]:
    """Raise our errors for botocore's, naming the operation and the object.

    Args:
        operation: The API operation, such as `PutObject`.
        target: The object it is about, such as an S3 URI.

    Raises:
        AccessDeniedError: The credentials are missing, expired, unknown or not allowed to do this.
        NotFoundError: The object does not exist.
        ThrottledError: AWS asked to slow down until the retries were used up.
        ServiceError: Anything else that AWS or the network did.
        ConfigurationError: No Region, an unknown profile, or values that botocore refuses to send.
    """
    try:
        yield
    except _client_error() as error:
        # Python prints the cause with its text, so a cause that quotes secrets is left behind.
        raise _from_answer(error, operation, target) from (error if _may_be_shown(error) else None)
    except _botocore_error() as error:
        raise _from_botocore(error, operation, target) from (error if _may_be_shown(error) else None)
    except _parser_error():
        # It quotes the answer, and botocore raises it outside its own errors and its own retries.
        raise ServiceError(
            f"{operation} on {target} failed: the answer was damaged on its way. Run it again.",
            operation=operation,
            target=target,
            code=DAMAGED,
            may_pass=True,
        ) from None


@contextmanager
def credential_errors(operation: str) -> Generator[None]:
    """Raise our error for what botocore lets through of the programs, files and terminals that it asks for credentials.

    Only for blocks that load credentials and do nothing else.

    Args:
        operation: What they are needed for.

    Raises:
        AccessDeniedError: A source of credentials failed.
    """
    try:
        yield
    except _botocore_error():
        raise
    except (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError) as error:
        # What a program printed may be credentials, and a JSON error keeps all of it.
        raise AccessDeniedError(
            f"{operation} needs AWS credentials and their source failed: {_source_fault(error)}. Check "
            f"`credential_process`, `web_identity_token_file` and `mfa_serial` in ~/.aws/config. {SIGN_IN}",
            operation=operation,
            target="your credentials",
        ) from None


def _source_fault(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it asks for an MFA code, and there is no terminal"
    if not isinstance(error, OSError):
        return "what it gave are no credentials in JSON"
    name = str(error.filename or "")
    shown = _FILE_NAME.fullmatch(name) and _may_be_shown(error)
    return f"{name}: {error.strerror}" if shown else error.strerror or type(error).__name__


@contextmanager
def settings_errors() -> Generator[None]:
    """Raise our error for what botocore lets through of an endpoint or a file of settings that it cannot use.

    Only for blocks that make a client and do nothing else.

    Raises:
        ConfigurationError: botocore cannot use its settings.
    """
    try:
        yield
    except _botocore_error():
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The AWS configuration cannot be used{_tail(error)} Check AWS_PROFILE and ~/.aws/config: an endpoint "
            "(AWS_ENDPOINT_URL, `endpoint_url`) is written https://host:port, and the settings of `s3 =` stand "
            "indented below it."
        ) from (error if _may_be_shown(error) else None)


def _parser_error() -> type[Exception]:
    from botocore.parsers import ResponseParserError

    return ResponseParserError


def retries_before(error: AWSError) -> int:
    """How often botocore had sent the request before the answer that became `error`."""
    response: Any = getattr(error.__cause__, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    return ClientError


def _botocore_error() -> type[Exception]:
    from botocore.exceptions import BotoCoreError

    return BotoCoreError


def _from_answer(error: Any, operation: str, target: str) -> AWSError:
    answer: Any = error.response
    code = str(answer.get("Error", {}).get("Code") or "")
    meta: Any = answer.get("ResponseMetadata", {})
    skew = _skew_minutes(meta.get("HTTPHeaders", {}).get("date"))
    status = int(meta.get("HTTPStatusCode", 0) or 0)
    cls, what = _verdict(code, status, skew)
    text = _shown(str(answer.get("Error", {}).get("Message") or ""), error)
    if operation.startswith("Head"):
        text = ""  # a HEAD has no body: the text is no more than the status's name
    if operation == "HeadBucket" and code == "404":
        code = "NoSuchBucket"
    hint = _KMS if cls is AccessDeniedError and "kms:" in text else _HINTS.get(code, "")
    sentence = f"{operation} on {target} failed: " + " ".join(part for part in (what, text, hint) if part)
    request_id = str(meta.get("RequestId", "") or "")
    return cls(sentence, operation=operation, target=target, code=code, request_id=request_id, status=status)


def _verdict(code: str, status: int, skew: float) -> tuple[type[AWSError], str]:
    if code in _STALE or (code in _UNKNOWN_IDENTITY and abs(skew) > _CLOCK_TOLERANCE_MINUTES):
        return ServiceError, f"{_clock_sentence(skew)} ({code}). {_CLOCK}"
    if code in _EXPIRED:
        return AccessDeniedError, f"the credentials have expired ({code}). {SIGN_IN}"
    if code in _UNKNOWN_IDENTITY:
        return AccessDeniedError, f"AWS does not accept the credentials ({code}). {SIGN_IN}"
    if code in _DENIED:
        return AccessDeniedError, f"access denied ({code}): the caller's policies do not allow it on this object."
    if code in _MISSING:
        return NotFoundError, f"it does not exist ({code})."
    if code in _THROTTLED or status == 429:
        return ThrottledError, f"AWS asks to slow down ({code}), also after several tries. Try again in a minute."
    if status >= _FAULT_OF_AWS:
        return ServiceError, f"AWS failed ({code or status}), also after several tries. Try again in a minute."
    return ServiceError, f"AWS answered {code or status}."


def _clock_sentence(skew: float) -> str:
    if abs(skew) < 1:
        return "this machine's clock and AWS's disagree"
    return f"this machine's clock is {plural(round(abs(skew)), 'minute')} {'ahead of' if skew > 0 else 'behind'} AWS's"


def _skew_minutes(date: object) -> float:
    """Minutes by which this machine's clock, which botocore signs with, is ahead of the answer's."""
    try:
        theirs = parsedate_to_datetime(str(date))
    except (TypeError, ValueError):
        return 0.0
    if theirs.tzinfo is None:
        return 0.0
    return (SystemClock().now() - theirs).total_seconds() / 60


def _shown(text: str, error: Exception) -> str:
    if not text or not _may_be_shown(error):
        return ""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
    return f"AWS says: {line}" + ("" if line.endswith((".", "…")) else ".")


def _may_be_shown(error: Exception) -> bool:
    response: Any = getattr(error, "response", None) or {}
    if str(response.get("Error", {}).get("Code", "")) in _UNKNOWN_IDENTITY | _EXPIRED:
        return False
    if type(error).__name__ == "CredentialRetrievalError" or _is_bad_header(error):
        return False
    return not _SECRETIVE.search(str(error))


def _is_bad_header(error: Exception) -> bool:
    """Whether a header could not be written: only credentials get into one as somebody typed them."""
    cause = getattr(error, "kwargs", {}).get("error")
    return type(cause) is ValueError and "header value" in str(cause)


def _from_botocore(error: Exception, operation: str, target: str) -> NovaError:
    from botocore import exceptions as boto

    facts: Any = {"operation": operation, "target": target}
    told = _about_identity(error, operation)
    if told:
        return AccessDeniedError(told, **facts)
    told = _about_settings(error, operation)
    if told:
        return ConfigurationError(told)
    start = f"{operation} on {target} failed: "
    if isinstance(error, (boto.ConnectTimeoutError, boto.ReadTimeoutError)):
        return ServiceError(f"{start}AWS did not answer in time. {_NETWORK}", **facts, may_pass=True)
    if isinstance(error, boto.SSLError) and _is_untrusted(error):
        return ServiceError(
            f"{start}the TLS certificate was not accepted. Check the proxy, and AWS_CA_BUNDLE for its certificate.",
            **facts,
        )
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError)):
        return ServiceError(f"{start}{_unreachable(error)}. {_NETWORK}", **facts, may_pass=True)
    if isinstance(error, (boto.ChecksumError, boto.FlexibleChecksumError, boto.IncompleteReadError)):
        return ServiceError(f"{start}the answer was damaged on its way. Run it again.", **facts, may_pass=True)
    return ServiceError(f"{start}{type(error).__name__}{_tail(error)}", **facts)


def _about_identity(error: Exception, operation: str) -> str:
    from botocore import exceptions as boto

    if isinstance(error, (boto.NoCredentialsError, boto.NoAuthTokenError)):
        return f"{operation} needs AWS credentials and none were found. {SIGN_IN}"
    if isinstance(error, boto.PartialCredentialsError):
        return f"{operation} needs AWS credentials and only a part of them was found{_tail(error)} {SIGN_IN}"
    if isinstance(error, boto.RefreshWithMFAUnsupportedError):
        return f"{operation} needs AWS credentials, and these need a new MFA code, which is asked for once. {SIGN_IN}"
    if _is_bad_header(error):
        return (
            f"{operation} was not sent: the AWS credentials hold a line break. "
            "Copy the access key and the session token again, without it."
        )
    if isinstance(error, (boto.CredentialRetrievalError, boto.MetadataRetrievalError)):
        provider = str(getattr(error, "kwargs", {}).get("provider", "the instance"))
        return f"{operation} needs AWS credentials and {provider} did not give any. {SIGN_IN}"
    login = getattr(boto, "LoginError", boto.SSOError)  # LoginError came with botocore 1.41
    if isinstance(error, (boto.SSOError, boto.TokenRetrievalError, login)):
        return f"{operation} needs AWS credentials and the login session has expired. {SIGN_IN}"
    return ""


def _about_settings(error: Exception, operation: str) -> str:
    from botocore import exceptions as boto

    if isinstance(error, boto.NoRegionError):
        return no_region()
    if isinstance(error, (boto.ProfileNotFound, boto.ConfigParseError, boto.ConfigNotFound)):
        return f"The AWS configuration cannot be used{_tail(error)} Check AWS_PROFILE and ~/.aws/config."
    if isinstance(
        error, (boto.ParamValidationError, boto.ValidationError, boto.UnknownRegionError, boto.EndpointProviderError)
    ):
        return f"{operation} was not sent, because a value cannot be right{_tail(error)}"
    return ""


def no_region() -> str:
    """The sentence for a missing Region."""
    return (
        "No AWS Region is known. Pass AWS(region='us-east-1'), set AWS_REGION or AWS_DEFAULT_REGION, "
        "or write `region` into the profile in ~/.aws/config."
    )


def _is_untrusted(error: Exception) -> bool:
    """Whether it is the certificate: a handshake that breaks is an SSL error as well, and passes."""
    said = str(getattr(error, "kwargs", {}).get("error", "")).lower()
    return "certificate" in said or "hostname" in said


def _unreachable(error: Exception) -> str:
    url = str(getattr(error, "kwargs", {}).get("endpoint_url", "") or "").partition("?")[0]
    return f"{url or 'the endpoint'} cannot be reached, or broke the connection"


def _tail(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f": {text[:_LONGEST_TEXT].rstrip('.')}." if text and _may_be_shown(error) else "."

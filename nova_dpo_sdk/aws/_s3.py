"""Objects in S3: their addresses, and reading and writing them on condition."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import Retryable, RetryPolicy
from nova_dpo_sdk.aws._errors import aws_errors, retries_before
from nova_dpo_sdk.errors import AccessDeniedError, AWSError, ConfigurationError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from nova_dpo_sdk._time import Clock

MIB = 1024 * 1024
READ_LIMIT = 8 * MIB

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LONGEST_KEY = 1024
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRECONDITION = frozenset({"412", "PreconditionFailed"})
_RACE = frozenset({"409", "ConditionalRequestConflict"})
_BODY_RETRY = RetryPolicy(attempts=3)


@dataclass(frozen=True)
class S3Uri:
    """The address of an object or a prefix in S3.

    Attributes:
        bucket: The bucket's name.
        key: The object's key or prefix; empty for the bucket itself.

    Raises:
        ConfigurationError: The bucket's name or the key cannot exist in S3.
    """

    bucket: str
    key: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self.bucket, self.key)
        if problem:
            raise ConfigurationError(f"{str(self)!r} is not a usable S3 address: {problem}. Write s3://bucket/key.")

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """Read `s3://bucket/key`.

        Raises:
            ConfigurationError: The text is anything else.
        """
        scheme, found, rest = str(text).partition("://")  # None and its like are no addresses either
        if not found or scheme != "s3":
            raise ConfigurationError(f"{text!r} is not an S3 address. Write s3://bucket/key.")
        bucket, _, key = rest.partition("/")
        return cls(bucket, key)

    def join(self, *parts: str) -> S3Uri:
        """The address below this one; slashes at the joints are made single."""
        pieces = [self.key.rstrip("/"), *(part.strip("/") for part in parts)]
        return S3Uri(self.bucket, "/".join(piece for piece in pieces if piece))

    @property
    def name(self) -> str:
        """What stands after the last slash of the key."""
        return self.key.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


def _problem(bucket: str, key: str) -> str:
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        return (
            f"a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens, and {bucket!r} is no such name"
        )
    if _CONTROL.search(key):
        return "the key contains control characters"
    if _SURROGATE.search(key):
        return "the key contains bytes that are no text in UTF-8"
    if len(key.encode()) > _LONGEST_KEY:
        return f"a key has at most {_LONGEST_KEY} bytes"
    if any(segment in {".", ".."} for segment in key.split("/")):
        return "`.` and `..` mean nothing in a key, and tools disagree on them"
    return ""


@dataclass(frozen=True)
class StoredObject:
    """One object as S3 keeps it.

    Attributes:
        uri: Where it lies.
        size: Its size in bytes.
        etag: Its entity tag, with the quotes, as conditional writes take it.
        last_modified: When it was stored (aware, UTC).
        sha256: SHA-256 of the bytes in hex; empty when S3 does not know it.
        body: The bytes, when they were read.
    """

    uri: S3Uri
    size: int
    etag: str
    last_modified: datetime
    sha256: str
    body: bytes = field(default=b"", repr=False)


class ObjectStore:
    """S3 as one account sees it: every request names the account that must own the bucket.

    Args:
        client: A boto3 S3 client; the only layer that retries requests.
        owner: The account that must own every bucket.
        region: Where buckets must lie.
        clock: Passes the time between tries to read a body that broke.
        kms_key_id: KMS key to encrypt what is written with; None for the bucket's default.
    """

    def __init__(self, client: Any, *, owner: str, region: str, clock: Clock, kms_key_id: str | None = None) -> None:
        self.client = client
        self._owner = owner
        self._region = region
        self.clock = clock
        self._kms_key_id = kms_key_id

    def address(self, uri: S3Uri) -> dict[str, str]:
        """The arguments that name an object and the account that must own its bucket."""
        return {"Bucket": uri.bucket, "Key": uri.key, "ExpectedBucketOwner": self._owner}

    def encryption(self) -> dict[str, str]:
        """The arguments that ask for encryption with the KMS key; empty without one."""
        if self._kms_key_id is None:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._kms_key_id}

    def check_bucket(self, uri: S3Uri) -> None:
        """Make sure that the bucket exists, belongs to the account and lies in the Region.

        Raises:
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look (s3:ListBucket).
            ConfigurationError: It belongs to another account, or lies in another Region.
        """
        bucket = f"s3://{uri.bucket}"
        try:
            region = self._bucket_region(uri.bucket, {"ExpectedBucketOwner": self._owner})
        except AccessDeniedError as error:
            if not error.status:
                raise  # S3 was not asked: there are no credentials
            if not self._seen_without_owner(uri.bucket):
                raise AccessDeniedError(
                    f"{error} Or the bucket belongs to another account than {self._owner}: S3 answers both alike.",
                    operation=error.operation,
                    target=error.target,
                    code=error.code,
                    request_id=error.request_id,
                    status=error.status,
                ) from error
            raise ConfigurationError(
                f"{bucket} belongs to another account than {self._owner}. Use a bucket of this account, or credentials "
                "of the account that owns it."
            ) from None
        if region and region != self._region:
            raise ConfigurationError(
                f"{bucket} lies in {region}, and this client works in {self._region}. Use a bucket in {self._region}, "
                f"or AWS(region={region!r})."
            )

    def _bucket_region(self, bucket: str, owner: Mapping[str, str]) -> str:
        with aws_errors("HeadBucket", f"s3://{bucket}"):
            answer: Any = self.client.head_bucket(Bucket=bucket, **owner)
        return str(answer.get("BucketRegion") or "")

    def _seen_without_owner(self, bucket: str) -> bool:
        # S3 refuses another owner's bucket and a missing permission with the same 403: asking again
        # without the owner tells them apart.
        try:
            self._bucket_region(bucket, {})
        except AWSError:
            return False
        return True

    def head(self, uri: S3Uri) -> StoredObject | None:
        """What S3 knows about an object, without its bytes; None when it is not there."""
        try:
            with aws_errors("HeadObject", str(uri)):
                answer: Any = self.client.head_object(**self.address(uri), ChecksumMode="ENABLED")
        except NotFoundError:
            return None
        return _stored(uri, answer, sha256=_known_sha256(answer))

    def read(self, uri: S3Uri, *, limit: int = READ_LIMIT) -> StoredObject:
        """Read a small object whole.

        Args:
            uri: Where it lies.
            limit: Largest size in bytes that is accepted.

        Raises:
            NotFoundError: There is no such object or bucket.
            ServiceError: It is larger than `limit`, or could not be read whole after several tries.
        """
        return _BODY_RETRY.call(self.clock, lambda: self._read_once(uri, limit))

    def read_or_none(self, uri: S3Uri, *, limit: int = READ_LIMIT) -> StoredObject | None:
        """Read a small object whole; None when the bucket is there and the object is not."""
        try:
            return self.read(uri, limit=limit)
        except NotFoundError as error:
            if error.code == "NoSuchBucket":
                raise
            return None

    def _read_once(self, uri: S3Uri, limit: int) -> StoredObject:
        with aws_errors("GetObject", str(uri)):
            answer: Any = self.client.get_object(**self.address(uri), ChecksumMode="ENABLED")
        size = int(answer["ContentLength"])
        if size > limit:
            answer["Body"].close()
            raise ServiceError(
                f"{uri} has {size:,} bytes; at most {limit:,} are read here, so it is not what was looked for.",
                operation="GetObject",
                target=str(uri),
            )
        try:
            with aws_errors("GetObject", str(uri)):
                body: bytes = answer["Body"].read()
        except ServiceError as broken:
            # botocore retries a request until its headers are there; a body that breaks afterwards is ours.
            raise Retryable(broken) from broken
        return _stored(uri, answer, sha256=hashlib.sha256(body).hexdigest(), body=body)

    @contextmanager
    def stream(self, uri: S3Uri) -> Generator[Any]:
        """An object's bytes as a file to read once from front to end, whatever its size."""
        with aws_errors("GetObject", str(uri)):
            answer: Any = self.client.get_object(**self.address(uri))
        body = answer["Body"]
        try:
            yield body
        finally:
            body.close()

    def write(
        self,
        uri: S3Uri,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        only_if_absent: bool = False,
        only_if_etag: str | None = None,
    ) -> str | None:
        """Store a small object, on condition if asked.

        A condition is decided by S3, so of many writers at once one wins. Let each writer's bytes be its own:
        when an answer is lost and the second try finds the object there, equal bytes are taken for ours.

        Args:
            uri: Where to.
            body: The bytes.
            content_type: Their media type.
            only_if_absent: Write only when nothing is there.
            only_if_etag: Write only over the object with this entity tag.

        Returns:
            The new entity tag; None when the condition did not hold.
        """
        if only_if_absent and only_if_etag is not None:
            raise ConfigurationError("only_if_absent and only_if_etag exclude each other: give one of them.")
        condition = {"IfNoneMatch": "*"} if only_if_absent else {"IfMatch": only_if_etag} if only_if_etag else {}
        arguments = {**self.address(uri), **self.encryption(), **condition, "ContentType": content_type}
        try:
            return _BODY_RETRY.call(self.clock, lambda: self._put(uri, body, arguments))
        except AWSError as error:
            if only_if_etag and error.code == "NoSuchKey":
                return None
            if error.code not in _PRECONDITION:
                raise
            return self._written_before(uri, body) if retries_before(error) else None

    def _put(self, uri: S3Uri, body: bytes, arguments: Mapping[str, Any]) -> str:
        digest = hashlib.sha256(body).digest()
        try:
            with aws_errors("PutObject", str(uri)):
                answer: Any = self.client.put_object(
                    **arguments, Body=body, ChecksumAlgorithm="SHA256", ChecksumSHA256=b64encode(digest).decode()
                )
        except ServiceError as error:
            if error.code in _RACE:
                # Two conditional writes met; S3 asks to try again, and botocore does not.
                raise Retryable(error) from error
            raise
        return str(answer["ETag"])

    def _written_before(self, uri: S3Uri, body: bytes) -> str | None:
        stored = self.head(uri)
        ours = stored is not None and stored.sha256 == hashlib.sha256(body).hexdigest()
        return stored.etag if stored is not None and ours else None

    def has(self, uri: S3Uri, *, sha256: str, size: int) -> bool:
        """Whether exactly these bytes lie there already; False when the caller may not look."""
        try:
            stored = self.head(uri)
        except AccessDeniedError:
            return False
        return stored is not None and stored.size == size and stored.sha256 == sha256


def _stored(uri: S3Uri, answer: Any, *, sha256: str, body: bytes = b"") -> StoredObject:
    return StoredObject(
        uri=uri,
        size=int(answer["ContentLength"]),
        etag=str(answer["ETag"]),
        last_modified=answer["LastModified"].astimezone(timezone.utc),
        sha256=sha256,
        body=body,
    )


def _known_sha256(answer: Any) -> str:
    """The whole object's SHA-256 from S3's checksum, or from our metadata when it was sent in parts."""
    checksum = str(answer.get("ChecksumSHA256") or "")
    in_parts = "-" in str(answer.get("ETag", "")) or answer.get("ChecksumType") == "COMPOSITE" or "-" in checksum
    if checksum and not in_parts:
        try:
            return b64decode(checksum, validate=True).hex()
        except Base64Error:
            return ""
    metadata: Any = answer.get("Metadata", {})
    noted = str(metadata.get("sha256", ""))
    return noted if _HEX_SHA256.fullmatch(noted) else ""

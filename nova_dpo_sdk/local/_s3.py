"""S3's rules that moto does not enforce: owners, Regions, checksums; and times that follow the cloud's clock."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import TYPE_CHECKING

from ._aws_protocol import AWSCall, AWSRefusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ._buckets import Buckets

_WRITES = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload"})
_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
}
_ACCOUNT = re.compile(r"\d{12}")


class S3Rules:
    """What S3 checks before it acts, and what it notes down after.

    Args:
        buckets: The cloud's buckets.
        account: The account of the caller.
        escrow: The service's own buckets, closed to the caller.
        locked: Tells the keys of objects under a KMS key that the caller may not use.
    """

    def __init__(
        self, buckets: Buckets, account: str, *escrow: str, locked: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._buckets = buckets
        self._account = account
        self._escrow = escrow
        self._locked = locked

    def check(self, call: AWSCall, headers: Mapping[str, str], body: bytes) -> None:
        """Refuse what S3 would refuse.

        Args:
            call: The request.
            headers: Its headers, with lower-case names.
            body: Its body.

        Raises:
            AWSRefusal: Access denied, no such bucket or upload, another Region, or a wrong checksum.
        """
        if call.bucket:
            self._check_bucket(call, headers)
        if call.upload:
            self._check_upload(call)
        if call.operation == "GetObject" and self._locked(call.key):
            raise AWSRefusal(
                403,
                "AccessDenied",
                f"User: arn:aws:iam::{self._account}:user/rehearsal is not authorized to perform: kms:Decrypt on the "
                "resource associated with this ciphertext because no identity-based policy allows the kms:Decrypt "
                "action",
            )
        if call.operation in {"PutObject", "UploadPart"}:
            _check_checksums(headers, body)

    def note(self, call: AWSCall, status: int, now: datetime) -> None:
        """Take down what a request has changed: times of objects follow the cloud's clock."""
        if not 200 <= status < 300:
            return
        if call.operation == "CreateBucket":
            self._buckets.adopt(call.bucket, region=call.region, account=self._account)
        elif call.operation in _WRITES:
            self._buckets.stamp(call.bucket, call.key, now)

    def _check_bucket(self, call: AWSCall, headers: Mapping[str, str]) -> None:
        bucket = self._buckets.find(call.bucket)
        if bucket is None:
            self._check_absent(call)
            return
        owner = headers.get("x-amz-expected-bucket-owner")
        if owner is not None and not _ACCOUNT.fullmatch(owner):
            raise AWSRefusal(
                400, "InvalidBucketOwnerAWSAccountID", "The value of the expected bucket owner must be an account ID."
            )
        where = {"x-amz-bucket-region": bucket.region} if call.operation == "HeadBucket" else {}
        foreign = bucket.account != self._account or call.bucket in self._escrow
        if foreign or (owner is not None and owner != bucket.account):
            raise AWSRefusal(403, "AccessDenied", "Access Denied", where)
        if call.region != bucket.region and call.operation != "CreateBucket":
            raise AWSRefusal(
                301,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
                {"x-amz-bucket-region": bucket.region},
            )

    def _check_upload(self, call: AWSCall) -> None:
        named = call.bucket, call.key, call.upload
        again = call.operation == "CompleteMultipartUpload" and self._buckets.is_made_of(*named)
        if not again and not self._buckets.holds_upload(*named):
            raise AWSRefusal(404, "NoSuchUpload", "The specified upload does not exist")

    def _check_absent(self, call: AWSCall) -> None:
        """A bucket that this cloud has not is another cloud's of this process, or none."""
        creates, taken = call.operation == "CreateBucket", self._buckets.is_taken(call.bucket)
        if creates and taken:
            raise AWSRefusal(409, "BucketAlreadyExists", "The requested bucket name is not available.")
        if taken:
            raise AWSRefusal(403, "AccessDenied", "Access Denied")
        if not creates:
            raise AWSRefusal(404, "NoSuchBucket", "The specified bucket does not exist")


def _check_checksums(headers: Mapping[str, str], body: bytes) -> None:
    if "aws-chunked" in headers.get("content-encoding", ""):
        return
    for name, digest in _CHECKSUMS.items():
        given = headers.get(name)
        if given is None:
            continue
        if base64.b64encode(digest(body)).decode() != given:
            label = name.rpartition("-")[2].upper()
            raise AWSRefusal(400, "BadDigest", f"The {label} you specified did not match the calculated checksum.")

"""How requests to AWS are read, and how AWS words a refusal in each of its protocols."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed.wsgi import WSGIEnvironment

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/([^/,]+)/([^/,]+)/aws4_request")


@dataclass(frozen=True)
class AWSCall:
    """One request to AWS, parsed.

    Attributes:
        service: Signing name, such as `s3`.
        region: The Region that was signed for.
        operation: Such as `PutObject`.
        target: An S3 URI or a cluster's name; empty when there is none.
        bucket: The bucket, for S3.
        key: The key, for S3.
        upload: The id of the multipart upload it belongs to, for S3.
    """

    service: str
    region: str
    operation: str
    target: str = ""
    bucket: str = ""
    key: str = ""
    upload: str = ""


class AWSRefusal(Exception):  # noqa: N818 - an answer on its way to the client, never seen by users
    """An error that AWS answers with.

    Attributes:
        status: HTTP status.
        code: Error code, such as `AccessDenied`.
        message: The sentence for people.
        headers: HTTP headers that go with it.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(message)


def read_call(environ: WSGIEnvironment, body: bytes) -> AWSCall:
    """Find service, operation and target of a request, from its signature and its form."""
    path, query = str(environ["PATH_INFO"]), str(environ.get("QUERY_STRING", ""))
    service, region = _scope(environ, query)
    if path.startswith("/moto-api/"):  # moto's own settings: no bucket has this name
        return AWSCall("moto", region, "")
    if service == "s3":
        return _s3_call(environ, path, query, region)
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        operation = target.rpartition(".")[2]
        return AWSCall(service, region, operation, _named(body))
    if service == "eks":
        name = path.removeprefix("/clusters").strip("/")
        described = path.startswith("/clusters/") and environ["REQUEST_METHOD"] == "GET" and "/" not in name
        return AWSCall(service, region, "DescribeCluster" if described else "", name)
    form = parse_qs(body.decode("latin-1")) or parse_qs(query)
    return AWSCall(service, region, form.get("Action", [""])[0])


def write_refusal(call: AWSCall, refusal: AWSRefusal) -> tuple[str, list[tuple[str, str]], bytes]:
    """A refusal as the service's protocol words it: status line, headers and body."""
    request_id = str(uuid.uuid4())
    headers = [("x-amzn-RequestId", request_id), ("x-amz-request-id", request_id), *refusal.headers.items()]
    if call.service == "s3":
        media, body = "application/xml", _s3_error(call, refusal, request_id)
    elif call.service in ("sts", "iam"):
        media, body = "text/xml", _query_error(refusal, request_id)
    else:
        media = "application/json" if call.service == "eks" else "application/x-amz-json-1.1"
        body = json.dumps({"__type": refusal.code, "message": refusal.message}).encode()
        headers.append(("x-amzn-errortype", refusal.code))
    headers.append(("Content-Type", media))
    return f"{refusal.status} {HTTPStatus(refusal.status).phrase}", headers, body


def _scope(environ: WSGIEnvironment, query: str) -> tuple[str, str]:
    match = _SCOPE.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    if match is None:
        credential = parse_qs(query).get("X-Amz-Credential", [""])[0]
        match = _SCOPE.search(f"Credential={credential}")
    return (match[2], match[1]) if match is not None else ("s3", "us-east-1")


def _named(body: bytes) -> str:
    try:
        given: Any = json.loads(body)
        return str(given.get("ClusterName") or given.get("TrainingJobName") or given.get("logGroupName") or "")
    except (ValueError, AttributeError):
        return ""


_S3_OPERATIONS = {
    ("PUT", "object"): "PutObject",
    ("PUT", "partNumber"): "UploadPart",
    ("PUT", "copy"): "CopyObject",
    ("GET", "object"): "GetObject",
    ("HEAD", "object"): "HeadObject",
    ("DELETE", "object"): "DeleteObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("HEAD", "bucket"): "HeadBucket",
    ("PUT", "bucket"): "CreateBucket",
    ("DELETE", "bucket"): "DeleteBucket",
    ("GET", "bucket"): "ListObjects",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "location"): "GetBucketLocation",
    ("POST", "delete"): "DeleteObjects",
    ("GET", "service"): "ListBuckets",
}
_S3_MARKS = ("partNumber", "uploadId", "uploads", "list-type", "location", "delete")
_S3_OTHERS = ("tagging", "acl", "policy", "versioning", "encryption", "lifecycle", "publicAccessBlock", "cors")


def _s3_call(environ: WSGIEnvironment, path: str, query: str, region: str) -> AWSCall:
    method = str(environ["REQUEST_METHOD"])
    bucket, _, key = path.lstrip("/").encode("latin-1").decode("utf-8", "replace").partition("/")
    given = dict(parse_qsl(query, keep_blank_values=True))
    form = "object" if key else "bucket" if bucket else "service"
    form = next((mark for mark in _S3_MARKS if mark in given), form)
    if form == "object" and method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        form = "copy"
    other = next((mark for mark in _S3_OTHERS if mark in given), "")
    operation = f"{method} {other}" if other else _S3_OPERATIONS.get((method, form), method)
    target = f"s3://{bucket}/{key}" if key else f"s3://{bucket}" if bucket else ""
    return AWSCall("s3", region, operation, target, bucket, key, given.get("uploadId", ""))


def _s3_error(call: AWSCall, refusal: AWSRefusal, request_id: str) -> bytes:
    resource = escape(f"/{call.bucket}/{call.key}" if call.key else f"/{call.bucket}")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
        f"<Resource>{resource}</Resource><RequestId>{request_id}</RequestId></Error>"
    ).encode()


def _query_error(refusal: AWSRefusal, request_id: str) -> bytes:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(refusal.code)}</Code>"
        f"<Message>{escape(refusal.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()

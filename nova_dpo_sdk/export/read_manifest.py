"""AWS Lambda function: the checkpoint that the manifest inside a training job's output.tar.gz names.

It stands alone: upload this one file as the function's code (Python 3.10 or later, handler `read_manifest.handler`).
It needs s3:GetObject on the output of the runs. The archive is read as a stream and never unpacked.
"""

from __future__ import annotations

import json
import tarfile
from typing import Any, cast

KEYS = ("checkpoint_s3_bucket", "checkpoint_s3_path", "checkpoint_s3_uri")
LARGEST = 1024 * 1024


def handler(event: dict[str, str], context: Any, s3: Any = None) -> dict[str, str]:
    """Answer `{"checkpoint": "s3://..."}` for `{"bucket": ..., "key": ...}`.

    Args:
        event: Where the archive is.
        context: Lambda's own; not used.
        s3: A boto3 client of S3; a new one when left out.

    Raises:
        ValueError: There is no manifest in the archive, or it names no whole S3 path.
    """
    del context
    body = (s3 or _client()).get_object(Bucket=event["bucket"], Key=event["key"])["Body"]
    where = f"s3://{event['bucket']}/{event['key']}"
    manifest = _manifest(body, where)
    for key in KEYS:
        value = manifest.get(key)
        if isinstance(value, str) and value.startswith("s3://"):
            return {"checkpoint": value.rstrip("/")}
    raise ValueError(f"The manifest in {where} names no checkpoint as a whole S3 path: it has {sorted(manifest)}.")


def _client() -> Any:
    import boto3  # pyright: ignore[reportMissingTypeStubs] - Lambda brings it, untyped

    return boto3.client("s3")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped


def _manifest(body: Any, where: str) -> dict[str, Any]:
    with tarfile.open(fileobj=body, mode="r|gz") as archive:
        for member in archive:
            if member.isfile() and member.name.rpartition("/")[2] == "manifest.json" and member.size <= LARGEST:
                held = archive.extractfile(member)
                found: Any = json.loads(held.read()) if held is not None else None
                if isinstance(found, dict):
                    return cast("dict[str, Any]", found)
    raise ValueError(f"{where} holds no manifest.json.")

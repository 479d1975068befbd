"""Objects in S3 as bytes to be read in ranges, and finding them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import Clock, Retryable, RetryPolicy
from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.aws._s3 import ObjectStore, S3Uri
from nova_dpo_sdk.errors import AWSError, DatasetError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BODY_RETRY = RetryPolicy(attempts=3)
_CHANGED = frozenset({"412", "PreconditionFailed"})


@dataclass(frozen=True)
class RangedObject:
    """One object in S3, to be read in ranges from several threads.

    Attributes:
        name: Its address, `s3://bucket/key`.
        size: Its bytes.
        version: Its entity tag; a range of any other version is refused.
    """

    name: str
    size: int
    version: str
    store: ObjectStore = field(repr=False, compare=False)
    clock: Clock = field(repr=False, compare=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> RangedObject:
        """The same: it is a value, and the connection behind it is nothing to copy."""
        return self

    def __reduce__(self) -> Any:
        raise DatasetError(
            f"{self.name} cannot be pickled: data in S3 hold a connection to AWS and its credentials. Pass the address "
            "on, and open it with from_s3() in the other process."
        )

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, that one not included.

        Raises:
            DatasetError: The object has changed since it was found, or is gone.
            AWSError: S3 refused, or the range could not be read whole after several tries.
        """
        try:
            return _BODY_RETRY.call(self.clock, lambda: self._read_once(start, end))
        except AWSError as error:
            if error.code in _CHANGED or isinstance(error, NotFoundError):
                raise DatasetError(
                    f"{self.name} changed while it was read: it is no longer the object with the entity tag "
                    f"{self.version}. Open it again with from_s3()."
                ) from error
            raise

    def _read_once(self, start: int, end: int) -> bytes:
        with aws_errors("GetObject", self.name):
            answer: Any = self.store.client.get_object(
                **self.store.address(S3Uri.parse(self.name)), Range=f"bytes={start}-{end - 1}", IfMatch=self.version
            )
        try:
            with aws_errors("GetObject", self.name):
                body: bytes = answer["Body"].read()
        except ServiceError as broken:
            # botocore retries a request until its headers are there; a body that breaks afterwards is ours.
            raise Retryable(broken) from broken
        if len(body) != end - start:
            short = f"GetObject on {self.name} gave {len(body):,} bytes of the {end - start:,} asked for."
            raise Retryable(ServiceError(short, operation="GetObject", target=self.name, may_pass=True))
        return body


def ranged(store: ObjectStore, uri: S3Uri, clock: Clock) -> RangedObject:
    """One object, to be read in ranges.

    Raises:
        NotFoundError: There is no such object.
    """
    held = store.head(uri)
    if held is None:
        raise NotFoundError(
            f"{uri} does not exist; check the key.", operation="HeadObject", target=str(uri), code="NoSuchKey"
        )
    return RangedObject(str(uri), held.size, held.etag, store, clock)


def below(store: ObjectStore, prefix: S3Uri, clock: Clock, endings: tuple[str, ...] = ("",)) -> Iterator[RangedObject]:
    """Every object below a prefix whose key ends so, in capitals or not, in the order of their keys.

    Raises:
        ConfigurationError: The key of such an object is no usable address.
    """
    folder = prefix.key.rstrip("/") + "/" if prefix.key else ""
    arguments = {key: value for key, value in store.address(prefix).items() if key != "Key"}
    with aws_errors("ListObjectsV2", str(prefix)):
        pages: Any = store.client.get_paginator("list_objects_v2").paginate(**arguments, Prefix=folder)
        for page in pages:
            for each in page.get("Contents", ()):
                key = str(each["Key"])
                if not key.lower().endswith(endings):
                    continue
                name = str(S3Uri(prefix.bucket, key))
                yield RangedObject(name, int(each["Size"]), str(each["ETag"]), store, clock)

"""The buckets of one rehearsal cloud, inside moto; the only room that knows moto's insides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime

_PARTITION = "aws"


@dataclass(frozen=True)
class Bucket:
    """Where a bucket is, and whose it is."""

    name: str
    region: str
    account: str


class Buckets:
    """Buckets and objects, read and written in-process.

    moto's state belongs to the whole process. Bucket names are unique in it, as they are in AWS, and so a cloud
    only ever touches, and at the end removes, the buckets that it made or saw being made.
    """

    def __init__(self) -> None:
        self._known: dict[str, Bucket] = {}

    def create(self, name: str, *, region: str, account: str) -> None:
        """Make a bucket.

        Raises:
            ConfigurationError: Another cloud of this process has a bucket of that name.
        """
        from moto.s3.models import s3_backends

        if self.is_taken(name):
            raise ConfigurationError(
                f"Bucket {name!r} exists already in this process: another LocalCloud, or moto's own mock, has it. "
                "Stop that one first, or give this cloud names of its own: LocalCloud(account=..., bucket=...)."
            )
        s3_backends[account][_PARTITION].create_bucket(name, region)
        self._known[name] = Bucket(name, region, account)

    def adopt(self, name: str, *, region: str, account: str) -> None:
        """Remember a bucket that was made through the front door."""
        self._known.setdefault(name, Bucket(name, region, account))

    def find(self, name: str) -> Bucket | None:
        """Where the bucket is; None when this cloud has none of that name."""
        return self._known[name] if self._bucket(name) is not None else None

    def is_taken(self, name: str) -> bool:
        """Whether anybody in this process has a bucket of that name."""
        from moto.s3.models import s3_backends

        return name in s3_backends.bucket_accounts

    def holds_upload(self, name: str, key: str, upload: str) -> bool:
        """Whether there is such an unfinished multipart upload."""
        bucket = self._bucket(name)
        found = None if bucket is None else bucket.multiparts.get(upload)
        return found is not None and found.key_name == key

    def is_made_of(self, name: str, key: str, upload: str) -> bool:
        """Whether the object came to be by that multipart upload."""
        made = getattr(self._object(name, key), "multipart", None)
        return made is not None and made.id == upload

    def read(self, name: str, key: str) -> bytes | None:
        """An object's bytes; None when there is no such object or bucket."""
        item = self._object(name, key)
        return None if item is None else bytes(item.value)

    def holds(self, name: str, key: str) -> bool:
        """Whether there is such an object."""
        return self._object(name, key) is not None

    def write(self, name: str, key: str, body: bytes, at: datetime) -> None:
        """Store an object as of a moment."""
        from moto.s3.models import s3_backends

        bucket = self._known[name]
        item: Any = s3_backends[bucket.account][_PARTITION].put_object(name, key, body)
        item.set_metadata({"Content-Type": "application/json"})
        self.stamp(name, key, at)

    def stamp(self, name: str, key: str, at: datetime) -> None:
        """Set the moment at which an object was last changed."""
        item = self._object(name, key)
        if item is not None:
            item.last_modified = at.astimezone(timezone.utc).replace(tzinfo=None)

    def remove_all(self) -> None:
        """Remove every bucket of this cloud, and close the files that hold its objects."""
        from moto.s3.models import s3_backends

        for known in self._known.values():
            bucket = self._inside(known)
            if bucket is None:
                continue
            for key in list(bucket.keys):
                bucket.keys.pop(key)
            for upload in bucket.multiparts.values():
                upload.dispose()
            s3_backends[known.account][_PARTITION].delete_bucket(known.name)
        self._known.clear()

    def _object(self, name: str, key: str) -> Any:
        bucket = self._bucket(name)
        return None if bucket is None else bucket.keys.get(key)

    def _bucket(self, name: str) -> Any:
        known = self._known.get(name)
        return None if known is None else self._inside(known)

    def _inside(self, known: Bucket) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends[known.account][_PARTITION].buckets.get(known.name)

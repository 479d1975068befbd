"""One file to one S3 key, hashed while it is read, so that what arrives is what was checked."""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from nova_dpo_sdk._time import Retryable, RetryPolicy
from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.aws._s3 import MIB, ObjectStore, S3Uri
from nova_dpo_sdk.errors import AccessDeniedError, AWSError, DatasetError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

_log = logging.getLogger(__name__)

SINGLE_PUT = 64 * MIB
"""Files up to this size, in bytes, go in one request; larger ones in parts."""
PART = 16 * MIB
"""Size of a part in bytes; larger only where S3's limit of 10,000 parts asks for it."""
WORKERS = 4
"""Parts on their way at once. Memory: two parts more than this."""

CONTENT_TYPE = "application/jsonl"

_MOST_PARTS = 10_000
_PIECE = 256 * 1024
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
_DAMAGE_RETRY = RetryPolicy(attempts=3)


@dataclass(frozen=True)
class Measured:
    """What a file's bytes come to.

    Attributes:
        size: How many there are.
        sha256: Hash of all of them, in hex.
    """

    size: int
    sha256: str


def measure(file: BinaryIO) -> Measured:
    """Count and hash the bytes of a file, from where it stands to its end.

    Nothing can be sent before that is done, so nothing else is done meanwhile; pieces that fit the processor's cache
    are hashed a third faster than large ones.
    """
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return Measured(size, digest.hexdigest())


@dataclass(frozen=True)
class _Begun:
    """An upload in parts that S3 knows of.

    Attributes:
        upload_id: S3's name for it.
        parts: What S3 holds of it from an earlier try, by the parts' numbers.
    """

    upload_id: str
    parts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict[int, "Mapping[str, Any]"])


@dataclass
class Upload:
    """One file on its way to S3.

    A file in parts under a key that contains its SHA-256 is resumed: its parts stay when a try is interrupted, and
    the next one sends only what S3 does not hold yet, or holds differently. Not so where a KMS key is asked for,
    because S3 does not tell which key an unfinished upload was begun with.

    Attributes:
        store: Where objects go.
        path: The file.
        uri: Its key.
        sha256: What the bytes must hash to, in hex: that of the bytes that were checked.
        size: How many bytes there must be.
        on_progress: Told of bytes that have arrived, from the calling thread.
        part_size: Size of a part in bytes.
        single_put: Largest size in bytes that goes in one request.
        content_type: Media type of the bytes.
        may_finish: Asked when all parts are there; the object comes to be only when it returns, not when it raises.
    """

    store: ObjectStore
    path: Path
    uri: S3Uri
    sha256: str
    size: int
    on_progress: Callable[[int], None] | None = None
    part_size: int = PART
    single_put: int = SINGLE_PUT
    content_type: str = CONTENT_TYPE
    may_finish: Callable[[], None] | None = None
    _told: int = field(default=0, init=False, repr=False)

    def send(self) -> bool:
        """Send the file unless S3 has it.

        Returns:
            True when it was sent, False when the same bytes were there.

        Raises:
            DatasetError: The file cannot be read, or is no longer what was checked; nothing is left under the key.
            AWSError: S3 refused or failed; nothing is left under the key.
        """
        self._told = 0
        if self.store.has(self.uri, sha256=self.sha256, size=self.size):
            self._permitted()
            self._arrived(self.size)
            return False
        with self._opened() as file:
            if self.size <= self.single_put:
                self._send_whole(file)
            else:
                self._send_parts(file)
        return True

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> DatasetError:
        return DatasetError(f"{self.path} cannot be read: {error.strerror or error}.")

    def _read(self, file: BinaryIO, size: int) -> bytes:
        try:
            return _read_full(file, size)
        except OSError as error:
            raise self._unreadable(error) from error

    def _send_whole(self, file: BinaryIO) -> None:
        data = b"".join(self._checked(file, max(self.size, 1)))
        self._permitted()
        with aws_errors("PutObject", str(self.uri)):
            self.store.client.put_object(
                **self.store.address(self.uri), **self._properties(), **_checksum(data), Body=data
            )
        self._arrived(len(data))

    @property
    def resumable(self) -> bool:
        """Whether what an interrupted try sent is kept for the next one."""
        return self.sha256 in self.uri.key and not self.store.encryption()

    def _send_parts(self, file: BinaryIO) -> None:
        begun = self._begun_before() if self.resumable else None
        try:
            self._fill(file, begun or self._begin())
        except NotFoundError as error:
            if error.code != "NoSuchUpload":
                raise
            # Somebody who sends the same bytes finished first, or took the parts away.
            if self.store.has(self.uri, sha256=self.sha256, size=self.size):
                self._permitted()
                self._arrived(self.size)
                return
            if begun is None:
                raise
            file.seek(0)
            self._fill(file, self._begin())

    def _fill(self, file: BinaryIO, begun: _Begun) -> None:
        """Send the parts that are missing, and make the object of them."""
        with ExitStack() as undo:
            undo.push(partial(self._interrupted, begun))
            parts = self._send_all(file, begun)
            self._permitted()
            with aws_errors("CompleteMultipartUpload", str(self.uri)):
                self.store.client.complete_multipart_upload(
                    **self.store.address(self.uri), UploadId=begun.upload_id, MultipartUpload={"Parts": parts}
                )

    def _permitted(self) -> None:
        if self.may_finish is not None:
            self.may_finish()

    def _interrupted(
        self, begun: _Begun, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, NotFoundError) and error.code == "NoSuchUpload"):
            return
        if self.resumable and not isinstance(error, DatasetError):
            _log.info("the parts that reached %s stay there, so that the next try sends only the rest", self.uri)
            return
        self._abort(begun.upload_id)

    def _begun_before(self) -> _Begun | None:
        """The latest unfinished upload of these bytes; None when there is none, or none may be looked for."""
        try:
            with aws_errors("ListMultipartUploads", str(self.uri)):
                answer: Any = self.store.client.list_multipart_uploads(**self._bucket(), Prefix=self.uri.key)
            known = [each for each in answer.get("Uploads", ()) if self._is_ours(each)]
            if not known:
                return None
            upload_id = str(max(known, key=lambda each: each["Initiated"])["UploadId"])
            return _Begun(upload_id, self._held(upload_id))
        except (AccessDeniedError, NotFoundError):
            return None

    def _is_ours(self, each: Mapping[str, Any]) -> bool:
        return each.get("Key") == self.uri.key and each.get("ChecksumAlgorithm") in {None, "SHA256"}

    def _held(self, upload_id: str) -> dict[int, Mapping[str, Any]]:
        with aws_errors("ListParts", str(self.uri)):
            pages: Any = self.store.client.get_paginator("list_parts")
            return {
                int(part["PartNumber"]): part
                for page in pages.paginate(**self.store.address(self.uri), UploadId=upload_id)
                for part in page.get("Parts", ())
            }

    def _bucket(self) -> dict[str, str]:
        return {name: value for name, value in self.store.address(self.uri).items() if name != "Key"}

    def _begin(self) -> _Begun:
        with aws_errors("CreateMultipartUpload", str(self.uri)):
            answer: Any = self.store.client.create_multipart_upload(
                **self.store.address(self.uri),
                **self._properties(),
                ChecksumAlgorithm="SHA256",
                ChecksumType="COMPOSITE",
            )
        return _Begun(str(answer["UploadId"]))

    def _abort(self, upload_id: str) -> None:
        try:
            with aws_errors("AbortMultipartUpload", str(self.uri)):
                self.store.client.abort_multipart_upload(**self.store.address(self.uri), UploadId=upload_id)
        except AWSError as error:
            # What stopped the upload matters more; parts without an object cost money, so say that they are there.
            _log.warning("the parts of an unfinished upload to %s could not be removed: %s", self.uri, error)

    def _send_all(self, file: BinaryIO, begun: _Begun) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        # Leaving the pool waits for the parts on their way, so none arrives after an abort.
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="nova-upload") as pool:
            on_their_way: set[Future[dict[str, Any]]] = set()
            for number, data in enumerate(self._checked(file, self._part), start=1):
                if len(on_their_way) > WORKERS:  # one waits for its turn, so that no connection idles
                    done, on_their_way = wait(on_their_way, return_when=FIRST_COMPLETED)
                    sent += self._landed(done)
                on_their_way.add(pool.submit(self._send_part, begun, number, data))
            sent += self._landed(on_their_way)
        return sorted(
            ({key: part[key] for key in ("PartNumber", "ETag", "ChecksumSHA256")} for part in sent),
            key=lambda part: part["PartNumber"],
        )

    def _landed(self, parts: set[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
        landed = [part.result() for part in parts]
        self._arrived(sum(part["Size"] for part in landed))
        return landed

    @property
    def _part(self) -> int:
        return _part_size(self.part_size, self.size)

    def _send_part(self, begun: _Begun, number: int, data: bytes) -> dict[str, Any]:
        checksum = _checksum(data)
        held = begun.parts.get(number)
        if held is not None and _is_same(held, data, checksum["ChecksumSHA256"]):
            etag = held["ETag"]
        else:
            ask = partial(self._put_part, begun.upload_id, number, data, checksum)
            etag = _DAMAGE_RETRY.call(self.store.clock, ask)
        sent = {"ETag": etag, "ChecksumSHA256": checksum["ChecksumSHA256"]}
        return {"PartNumber": number, "Size": len(data), **sent}

    def _put_part(self, upload_id: str, number: int, data: bytes, checksum: Mapping[str, str]) -> str:
        try:
            with aws_errors("UploadPart", str(self.uri)):
                answer: Any = self.store.client.upload_part(
                    **self.store.address(self.uri), **checksum, UploadId=upload_id, PartNumber=number, Body=data
                )
        except ServiceError as error:
            if error.code in _DAMAGED:
                _log.warning("part %d of %s arrived damaged; sending it again", number, self.uri)
                raise Retryable(error) from error
            raise
        return str(answer["ETag"])

    def _checked(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        """The file's bytes in pieces of `size`; raises before the last piece unless all are as they were checked."""
        digest = hashlib.sha256()
        read = 0
        while data := self._read(file, size):
            read += len(data)
            digest.update(data)
            if read >= self.size:
                break
            yield data
        if read != self.size or self._read(file, 1) or digest.hexdigest() != self.sha256:
            raise self._changed()
        if data:
            yield data

    def _changed(self) -> DatasetError:
        return DatasetError(
            f"{self.path} changed since it was checked: its bytes are no longer those with SHA-256 "
            f"{self.sha256[:12]}… and {self.size:,} bytes. Nothing was left at {self.uri}. "
            "Make a new plan from the file as it is now."
        )

    def _properties(self) -> dict[str, Any]:
        return {
            **self.store.encryption(),
            "ContentType": self.content_type,
            "Metadata": {"sha256": self.sha256},
        }

    def _arrived(self, count: int) -> None:
        count = min(count, self.size - self._told)  # an upload that began anew has told of some bytes already
        self._told += count
        if self.on_progress is not None:
            self.on_progress(count)


def _is_same(held: Mapping[str, Any], data: bytes, sha256: str) -> bool:
    """Whether a part that S3 holds is made of these bytes; by its MD5 where S3 does not tell the SHA-256."""
    told = held.get("ChecksumSHA256")
    if told:
        return bool(told == sha256)
    return str(held["ETag"]).strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _read_full(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or what is left: a raw file may give less than asked."""
    pieces: list[bytes] = []
    left = size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _part_size(least: int, size: int) -> int:
    return max(least, -(-size // _MOST_PARTS))


def _sha256(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


def _checksum(data: bytes) -> dict[str, str]:
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _sha256(data)}

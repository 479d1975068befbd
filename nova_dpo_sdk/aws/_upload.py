"""One file to one S3 key, hashed while it is read, so that what arrives is what was checked."""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from nova_dpo_sdk.aws._errors import aws_errors
from nova_dpo_sdk.aws._s3 import MIB, ObjectStore, S3Uri
from nova_dpo_sdk.errors import AWSError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

SINGLE_PUT = 64 * MIB
"""Files up to this size, in bytes, go in one request; larger ones in parts."""
PART = 16 * MIB
"""Size of a part in bytes; larger only where S3's limit of 10,000 parts asks for it."""
WORKERS = 4
"""Parts on their way at once. Memory: one part more than this."""

_MOST_PARTS = 10_000
_CONTENT_TYPE = "application/jsonl"


@dataclass(frozen=True)
class Upload:
    """One file on its way to S3.

    Attributes:
        store: Where objects go.
        path: The file.
        uri: Its key.
        sha256: What the bytes must hash to, in hex: that of the bytes that were checked.
        size: How many bytes there must be.
        on_progress: Told of bytes that have arrived, from the calling thread.
        part_size: Size of a part in bytes.
        single_put: Largest size in bytes that goes in one request.
    """

    store: ObjectStore
    path: Path
    uri: S3Uri
    sha256: str
    size: int
    on_progress: Callable[[int], None] | None = None
    part_size: int = PART
    single_put: int = SINGLE_PUT

    def send(self) -> bool:
        """Send the file unless S3 has it.

        Returns:
            True when it was sent, False when the same bytes were there.

        Raises:
            DatasetError: The file cannot be read, or is no longer what was checked; nothing is left under the key.
            AWSError: S3 refused or failed; nothing is left under the key.
        """
        if self.store.has(self.uri, sha256=self.sha256, size=self.size):
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
            raise DatasetError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def _send_whole(self, file: BinaryIO) -> None:
        data = b"".join(self._checked(file, max(self.size, 1)))
        with aws_errors("PutObject", str(self.uri)):
            self.store.client.put_object(
                **self.store.address(self.uri), **self._properties(), **_checksum(data), Body=data
            )
        self._arrived(len(data))

    def _send_parts(self, file: BinaryIO) -> None:
        with ExitStack() as undo:
            upload_id = self._begin()
            undo.callback(self._abort, upload_id)
            parts = self._send_all(file, upload_id)
            with aws_errors("CompleteMultipartUpload", str(self.uri)):
                self.store.client.complete_multipart_upload(
                    **self.store.address(self.uri), UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
            undo.pop_all()

    def _begin(self) -> str:
        with aws_errors("CreateMultipartUpload", str(self.uri)):
            answer: Any = self.store.client.create_multipart_upload(
                **self.store.address(self.uri),
                **self._properties(),
                ChecksumAlgorithm="SHA256",
                ChecksumType="COMPOSITE",
            )
        return str(answer["UploadId"])

    def _abort(self, upload_id: str) -> None:
        try:
            with aws_errors("AbortMultipartUpload", str(self.uri)):
                self.store.client.abort_multipart_upload(**self.store.address(self.uri), UploadId=upload_id)
        except AWSError as error:
            # What stopped the upload matters more; parts without an object cost money, so say that they are there.
            _log.warning("the parts of an unfinished upload to %s could not be removed: %s", self.uri, error)

    def _send_all(self, file: BinaryIO, upload_id: str) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        # Leaving the pool waits for the parts on their way, so none arrives after an abort.
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="nova-upload") as pool:
            on_their_way: set[Future[dict[str, Any]]] = set()
            size = max(self.part_size, -(-self.size // _MOST_PARTS))
            for number, data in enumerate(self._checked(file, size), start=1):
                if len(on_their_way) == WORKERS:
                    done, on_their_way = wait(on_their_way, return_when=FIRST_COMPLETED)
                    sent += self._landed(done)
                on_their_way.add(pool.submit(self._send_part, upload_id, number, data))
            sent += self._landed(on_their_way)
        return sorted(
            ({key: part[key] for key in ("PartNumber", "ETag", "ChecksumSHA256")} for part in sent),
            key=lambda part: part["PartNumber"],
        )

    def _landed(self, parts: set[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
        landed = [part.result() for part in parts]
        self._arrived(sum(part["Size"] for part in landed))
        return landed

    def _send_part(self, upload_id: str, number: int, data: bytes) -> dict[str, Any]:
        checksum = _checksum(data)
        with aws_errors("UploadPart", str(self.uri)):
            answer: Any = self.store.client.upload_part(
                **self.store.address(self.uri), **checksum, UploadId=upload_id, PartNumber=number, Body=data
            )
        return {
            "PartNumber": number,
            "ETag": answer["ETag"],
            "ChecksumSHA256": checksum["ChecksumSHA256"],
            "Size": len(data),
        }

    def _checked(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        """The file's bytes in pieces of `size`; raises before the last piece unless all are as they were checked."""
        digest = hashlib.sha256()
        read = 0
        while data := _read_full(file, size):
            read += len(data)
            digest.update(data)
            if read >= self.size:
                break
            yield data
        if read != self.size or file.read(1) or digest.hexdigest() != self.sha256:
            raise DatasetError(
                f"{self.path} changed since it was checked: its bytes are no longer those with SHA-256 "
                f"{self.sha256[:12]}… and {self.size:,} bytes. Nothing was left at {self.uri}. "
                "Make a new plan from the file as it is now."
            )
        if data:
            yield data

    def _properties(self) -> dict[str, Any]:
        return {
            **self.store.encryption(),
            "ContentType": _CONTENT_TYPE,
            "Metadata": {"sha256": self.sha256},
        }

    def _arrived(self, count: int) -> None:
        if self.on_progress is not None:
            self.on_progress(count)


def _read_full(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or what is left: a raw file may give less than asked."""
    pieces: list[bytes] = []
    left = size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _checksum(data: bytes) -> dict[str, str]:
    return {
        "ChecksumAlgorithm": "SHA256",
        "ChecksumSHA256": b64encode(hashlib.sha256(data).digest()).decode(),
    }

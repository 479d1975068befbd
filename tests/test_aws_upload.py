from __future__ import annotations

import hashlib
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_loopback import ACCOUNT, loopback_aws, moto_server
from scripted import Asked, Reply, ScriptedServer

from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.aws._s3 import MIB
from nova_dpo_sdk.aws._upload import PART, WORKERS, Measured, Upload, measure
from nova_dpo_sdk.errors import AccessDeniedError, DatasetError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URI = S3Uri("acme-attic", "data/pairs.jsonl")
SMALL = b'{"a": 1}\n' * 100
LARGE = bytes(range(256)) * (11 * MIB // 256)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(moto: str) -> AWS:
    aws = loopback_aws(moto)
    client = aws.client("s3")
    client.create_bucket(Bucket="acme-attic")
    client.delete_object(Bucket="acme-attic", Key=URI.key)
    return aws


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(SMALL)
    return path


def hashed(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def in_parts(aws: AWS, path: Path, *, part: int = 5 * MIB, on_progress: Callable[[int], None] | None = None) -> Upload:
    """The upload that `aws.upload` makes, with parts small enough for a test."""
    data = hashed(path.read_bytes())
    return Upload(aws._store(), path, URI, data["sha256"], data["size"], on_progress, part, part)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file that opens and cannot be read")
def test_a_file_that_opens_and_cannot_be_read_is_named(aws: AWS) -> None:
    with pytest.raises(DatasetError, match="/proc/self/mem cannot be read: Input/output error"):
        aws.upload(Path("/proc/self/mem"), URI, **hashed(SMALL))
    assert aws.head(URI) is None


def test_a_file_is_sent_once_and_then_found(aws: AWS, file: Path) -> None:
    progress: list[int] = []
    assert aws.upload(file, URI, **hashed(SMALL), on_progress=progress.append) is True
    assert aws.read(URI).body == SMALL
    assert aws.upload(file, URI, **hashed(SMALL), on_progress=progress.append) is False
    assert progress == [len(SMALL), len(SMALL)]


def test_other_bytes_under_the_key_are_replaced(aws: AWS, file: Path) -> None:
    aws.write(URI, b"x" * len(SMALL))
    assert aws.upload(file, URI, **hashed(SMALL)) is True
    assert aws.read(URI).body == SMALL


def test_an_empty_file_can_be_sent(aws: AWS, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert aws.upload(tmp_path / "empty", URI, **hashed(b"")) is True
    assert aws.read(URI).body == b""


@pytest.mark.parametrize(
    "now",
    [SMALL.replace(b"1", b"2", 1), SMALL + b"\n", SMALL[:-1], b""],
    ids=["changed", "grown", "shrunk", "emptied"],
)
def test_a_file_that_changed_since_it_was_checked_is_not_sent(aws: AWS, file: Path, now: bytes) -> None:
    file.write_bytes(now)
    with pytest.raises(DatasetError, match="changed since it was checked") as told:
        aws.upload(file, URI, **hashed(SMALL))
    assert str(file) in str(told.value)
    assert aws.head(URI) is None


def test_a_file_that_is_gone_is_named(aws: AWS, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jsonl cannot be read: No such file"):
        aws.upload(tmp_path / "gone.jsonl", URI, **hashed(SMALL))
    with pytest.raises(DatasetError, match="cannot be read"):
        aws.upload(tmp_path, URI, **hashed(SMALL))


def test_a_large_file_goes_in_parts_and_is_found_again(aws: AWS, file: Path) -> None:
    file.write_bytes(LARGE)
    progress: list[int] = []
    assert in_parts(aws, file, on_progress=progress.append).send() is True
    stored = aws.read(URI, limit=len(LARGE))
    assert stored.body == LARGE
    assert stored.etag.endswith('-3"')
    assert sum(progress) == len(LARGE)
    head = aws.head(URI)
    assert head is not None
    assert head.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert in_parts(aws, file).send() is False


def test_a_large_file_that_changed_leaves_nothing_behind(aws: AWS, file: Path) -> None:
    file.write_bytes(LARGE)
    upload = in_parts(aws, file)
    file.write_bytes(LARGE[:-1] + b"!")
    with pytest.raises(DatasetError, match="changed since it was checked"):
        upload.send()
    assert aws.head(URI) is None
    assert "Uploads" not in aws.client("s3").list_multipart_uploads(Bucket="acme-attic")


class Parts:
    """An S3 that takes parts; the first few are only answered once `together` of them are on their way."""

    def __init__(self, *, refuse: int = 0, refuse_abort: bool = False, together: int = 1) -> None:
        self.refuse = refuse
        self.refuse_abort = refuse_abort
        self.together = threading.Barrier(together)

    def __call__(self, asked: Asked) -> Reply:
        asked.body = b""
        if asked.method == "HEAD":
            return Reply(404)
        if "uploads" in asked.query:
            return Reply(200, b"<R><UploadId>U1</UploadId></R>")
        if asked.method == "DELETE":
            return Reply(500 if self.refuse_abort else 204)
        if "partNumber" in asked.query:
            return self.part(int(asked.query["partNumber"]))
        return Reply(200, b"<R><ETag>e</ETag></R>")

    def part(self, number: int) -> Reply:
        if number <= self.together.parties:
            self.together.wait(5)
        if number == self.refuse:
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
        return Reply(200, headers={"ETag": f'"p{number}"'})


def test_a_refused_part_takes_the_others_back(file: Path) -> None:
    file.write_bytes(LARGE)
    with ScriptedServer(answer=Parts(refuse=2)) as s3, pytest.raises(AccessDeniedError, match="UploadPart"):
        in_parts(loopback_aws(s3.url), file, part=MIB).send()
    last = s3.asked[-1]
    assert (last.method, last.query["uploadId"]) == ("DELETE", "U1")
    assert not any(asked.method == "POST" and "uploadId" in asked.query for asked in s3.asked)


def test_parts_that_cannot_be_taken_back_are_told_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(LARGE)
    parts = Parts(refuse=1, refuse_abort=True)
    with ScriptedServer(answer=parts) as s3, pytest.raises(AccessDeniedError, match="UploadPart"):
        in_parts(loopback_aws(s3.url), file, part=MIB).send()
    assert "unfinished upload to s3://acme-attic/data/pairs.jsonl" in caplog.text


def test_an_interrupted_upload_is_taken_back(file: Path) -> None:
    file.write_bytes(LARGE)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with ScriptedServer(answer=Parts()) as s3, pytest.raises(KeyboardInterrupt):
        in_parts(loopback_aws(s3.url), file, part=MIB, on_progress=interrupt).send()
    assert s3.asked[-1].method == "DELETE"


def test_memory_does_not_grow_with_the_file(file: Path) -> None:
    file.write_bytes(b"\0" * (48 * MIB))
    with ScriptedServer(answer=Parts()) as s3:
        upload = in_parts(loopback_aws(s3.url), file, part=MIB)
        upload.store.client.list_buckets  # noqa: B018 - loads what botocore loads once
        tracemalloc.start()
        try:
            assert upload.send() is True
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 24 * MIB


def test_parts_travel_at_the_same_time(file: Path) -> None:
    file.write_bytes(LARGE)
    with ScriptedServer(answer=Parts(together=WORKERS)) as s3:
        assert in_parts(loopback_aws(s3.url), file, part=MIB).send() is True


def test_every_part_carries_its_checksum_owner_and_order(file: Path) -> None:
    file.write_bytes(LARGE)
    bodies: list[bytes] = []
    parts = Parts()

    def answer(asked: Asked) -> Reply:
        if asked.method == "POST" and "uploadId" in asked.query:
            bodies.append(asked.body)
        return parts(asked)

    with ScriptedServer(answer=answer) as s3:
        in_parts(loopback_aws(s3.url, kms_key_id="alias/nova"), file, part=MIB).send()
    assert {asked.headers.get("x-amz-expected-bucket-owner") for asked in s3.asked} == {ACCOUNT}
    sent = [asked for asked in s3.asked if "partNumber" in asked.query]
    assert len(sent) == 11
    assert all(asked.headers["x-amz-checksum-sha256"] for asked in sent)
    begun = next(asked for asked in s3.asked if "uploads" in asked.query)
    assert begun.headers["x-amz-meta-sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert begun.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert s3.asked[-1].method == "POST"
    numbers = [int(piece.partition(b"<")[0]) for piece in bodies[0].split(b"<PartNumber>")[1:]]
    assert numbers == list(range(1, 12))


def test_who_may_write_but_not_read_can_still_upload(file: Path) -> None:
    with ScriptedServer(Reply(403), Reply(200, headers={"ETag": '"e"'})) as s3:
        assert loopback_aws(s3.url).upload(file, URI, **hashed(SMALL)) is True
    assert [asked.method for asked in s3.asked] == ["HEAD", "PUT"]
    assert s3.asked[1].body == SMALL


def test_bytes_that_s3_received_damaged_are_an_error(file: Path) -> None:
    damaged = Reply(400, b"<Error><Code>BadDigest</Code><Message>The SHA256 differs</Message></Error>")
    with ScriptedServer(Reply(404), damaged) as s3, pytest.raises(ServiceError, match="damaged on their way"):
        loopback_aws(s3.url).upload(file, URI, **hashed(SMALL))


def test_a_checksum_of_parts_is_not_taken_for_the_whole(file: Path) -> None:
    digest = hashed(SMALL)["sha256"]
    composite = {
        "ETag": '"e-2"',
        "Last-Modified": "Mon, 23 Nov 2026 01:57:45 GMT",
        "Content-Length": str(len(SMALL)),
        "x-amz-checksum-type": "COMPOSITE",
        "x-amz-checksum-sha256": "AAAA-2",
    }
    for noted, sent in ((digest, False), ("0" * 64, True), ("", True)):
        head = Reply(200, headers={**composite, **({"x-amz-meta-sha256": noted} if noted else {})})
        with ScriptedServer(head, Reply(200, headers={"ETag": '"e"'})) as s3:
            assert loopback_aws(s3.url).upload(file, URI, **hashed(SMALL)) is sent


def test_a_file_is_measured_whole(file: Path) -> None:
    data = bytes(range(256)) * (3 * MIB // 256) + b"end"
    file.write_bytes(data)
    with file.open("rb") as stream:
        assert measure(stream) == Measured(len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("at", [0, PART, 40 * MIB - 1], ids=["first part", "second part", "last byte"])
def test_a_file_that_is_no_longer_what_was_measured_leaves_nothing(aws: AWS, file: Path, at: int) -> None:
    file.write_bytes(bytes(40 * MIB))
    with file.open("rb") as stream:
        measured = measure(stream)
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"!")
    with pytest.raises(DatasetError, match="changed since it was checked"):
        aws.upload(file, URI, sha256=measured.sha256, size=measured.size)
    assert aws.head(URI) is None
    assert "Uploads" not in aws.client("s3").list_multipart_uploads(Bucket="acme-attic")


@pytest.mark.parametrize("size", [40 * MIB - 1, 40 * MIB + 1, PART], ids=["shorter", "longer", "one part left"])
def test_a_file_of_another_length_than_was_measured_leaves_nothing(aws: AWS, file: Path, size: int) -> None:
    file.write_bytes(bytes(40 * MIB))
    with file.open("rb") as stream:
        measured = measure(stream)
    file.write_bytes(bytes(size))
    with pytest.raises(DatasetError, match="changed since it was checked"):
        aws.upload(file, URI, sha256=measured.sha256, size=measured.size, may_finish=lambda: None)
    assert aws.head(URI) is None

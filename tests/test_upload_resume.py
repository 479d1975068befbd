from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from aws_loopback import loopback_aws, moto_server
from scripted import Asked, Reply, ScriptedServer

from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.aws._s3 import MIB
from nova_dpo_sdk.aws._upload import Upload
from nova_dpo_sdk.errors import DatasetError, ServiceError
from nova_dpo_sdk.local import LocalCloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PART = 5 * MIB
BYTES = b"".join(bytes([n]) * PART for n in range(3)) + b"the end"
SHA256 = hashlib.sha256(BYTES).hexdigest()
URI = S3Uri("acme-attic", f"datasets/{SHA256}/pairs.jsonl")


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
    for each in unfinished(aws):
        client.abort_multipart_upload(Bucket="acme-attic", Key=each["Key"], UploadId=each["UploadId"])
    return aws


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(BYTES)
    return path


def unfinished(aws: AWS) -> list[dict[str, Any]]:
    return aws.client("s3").list_multipart_uploads(Bucket="acme-attic").get("Uploads", [])


def upload(aws: AWS, path: Path, *, uri: S3Uri = URI, part: int = PART, **options: Any) -> Upload:
    return Upload(aws._store(), path, uri, SHA256, len(BYTES), part_size=part, single_put=part, **options)


def sent_parts(aws: AWS) -> list[int]:
    """Numbers of the parts that this client sends from now on."""
    numbers: list[int] = []

    def note(params: Any, **_: Any) -> None:
        numbers.append(params["PartNumber"])

    aws.client("s3").meta.events.register("provide-client-params.s3.UploadPart", note)
    return numbers


def interrupt_after(parts: int) -> Callable[[int], None]:
    left = [parts]

    def stop(count: int) -> None:
        left[0] -= 1 if count else 0
        if left[0] <= 0:
            raise KeyboardInterrupt

    return stop


def test_an_interrupted_upload_sends_only_what_is_missing(aws: AWS, file: Path, moto: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        upload(aws, file, on_progress=interrupt_after(1)).send()
    begun = unfinished(aws)
    held = aws.client("s3").list_parts(Bucket="acme-attic", Key=URI.key, UploadId=begun[0]["UploadId"])["Parts"]
    assert held
    assert aws.head(URI) is None

    again = loopback_aws(moto)
    numbers, progress = sent_parts(again), []
    assert upload(again, file, on_progress=progress.append).send() is True
    assert set(numbers).isdisjoint({part["PartNumber"] for part in held})
    assert len(numbers) + len(held) == 4
    assert sum(progress) == len(BYTES)
    stored = again.read(URI, limit=len(BYTES))
    assert stored.body == BYTES
    assert again.head(URI).sha256 == SHA256
    assert unfinished(again) == []


def test_a_part_that_differs_is_sent_again(aws: AWS, file: Path) -> None:
    client = aws.client("s3")
    begun = client.create_multipart_upload(
        Bucket="acme-attic", Key=URI.key, ChecksumAlgorithm="SHA256", Metadata={"sha256": SHA256}
    )
    for number, body in ((1, BYTES[:PART]), (2, b"x" * PART), (3, BYTES[2 * PART :][: PART - 1])):
        client.upload_part(Bucket="acme-attic", Key=URI.key, UploadId=begun["UploadId"], PartNumber=number, Body=body)
    numbers = sent_parts(aws)
    assert upload(aws, file).send() is True
    assert sorted(numbers) == [2, 3, 4]
    assert aws.read(URI, limit=len(BYTES)).body == BYTES


def test_a_key_without_the_digest_is_never_resumed(aws: AWS, file: Path) -> None:
    other = S3Uri("acme-attic", "datasets/pairs.jsonl")
    with pytest.raises(KeyboardInterrupt):
        upload(aws, file, uri=other, on_progress=interrupt_after(1)).send()
    assert unfinished(aws) == []


def test_a_file_that_changed_leaves_no_parts_to_resume(aws: AWS, file: Path) -> None:
    begun = upload(aws, file)
    file.write_bytes(BYTES[:-1] + b"!")
    with pytest.raises(DatasetError, match="changed since it was checked"):
        begun.send()
    assert unfinished(aws) == []


def test_data_that_may_not_finish_leave_no_object(aws: AWS, file: Path) -> None:
    def refuse() -> None:
        raise DatasetError("the data are bad")

    with pytest.raises(DatasetError, match="the data are bad"):
        upload(aws, file, may_finish=refuse).send()
    assert aws.head(URI) is None
    assert unfinished(aws) == []


class Parts:
    """An S3 that knows of an unfinished upload `U0`, and whose `damaged` parts arrive damaged once."""

    def __init__(
        self, *, gone: bool = False, damaged: dict[int, int] | None = None, finished: bool = False, after: int = 0,
        held: bytes | None = None,
    ) -> None:  # fmt: skip
        self.gone = gone
        self.after = after
        self.held = held
        self.damaged = dict(damaged or {})
        self.finished = finished
        self.heads = 0

    def __call__(self, asked: Asked) -> Reply:
        asked.body = b""
        query = asked.query
        if asked.method == "HEAD":
            self.heads += 1
            found = self.finished and self.heads > 1
            stored = {"x-amz-meta-sha256": SHA256, "ETag": '"e-4"', "Content-Length": str(len(BYTES))}
            when = {"Last-Modified": "Mon, 23 Nov 2026 01:57:45 GMT"}
            return Reply(200, headers=stored | when) if found else Reply(404)
        if asked.method == "GET" and "uploads" in query:
            each = f"<Key>{URI.key}</Key><UploadId>U0</UploadId><Initiated>2026-11-22T01:00:00Z</Initiated>"
            return Reply(200, f"<R>{f'<Upload>{each}</Upload>' if self.gone or self.held else ''}</R>".encode())
        if asked.method == "GET":
            return Reply(200, self.held or b"<R></R>")
        if "uploads" in query:
            return Reply(200, b"<R><UploadId>U1</UploadId></R>")
        if self.gone and query.get("uploadId") == "U0" and int(query.get("partNumber", 99)) > self.after:
            return Reply(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        if "partNumber" in query:
            return self.part(int(query["partNumber"]))
        return Reply(200, b"<R><ETag>e</ETag></R>")

    def part(self, number: int) -> Reply:
        if self.damaged.get(number):
            self.damaged[number] -= 1
            return Reply(400, b"<Error><Code>BadDigest</Code><Message>The SHA256 differs</Message></Error>")
        return Reply(200, headers={"ETag": f'"p{number}"'})


def test_a_part_that_arrived_damaged_is_sent_again(file: Path) -> None:
    with ScriptedServer(answer=Parts(damaged={2: 2})) as s3:
        assert upload(loopback_aws(s3.url, clock=FakeClock()), file).send() is True
    numbers = [asked.query["partNumber"] for asked in s3.asked if "partNumber" in asked.query]
    assert sorted(numbers) == ["1", "2", "2", "2", "3", "4"]
    parts = [asked for asked in s3.asked if "partNumber" in asked.query]
    assert all(asked.headers["x-amz-checksum-sha256"] for asked in parts)


def test_a_part_that_is_always_damaged_is_an_error(file: Path) -> None:
    aws_clock = FakeClock()
    with ScriptedServer(answer=Parts(damaged={2: 99})) as s3, pytest.raises(ServiceError, match="damaged on their way"):
        upload(loopback_aws(s3.url, clock=aws_clock), file).send()
    assert not any(asked.method == "POST" and "uploadId" in asked.query for asked in s3.asked)


def test_an_unfinished_upload_that_is_gone_is_begun_anew(file: Path) -> None:
    progress: list[int] = []
    with ScriptedServer(answer=Parts(gone=True)) as s3:
        assert upload(loopback_aws(s3.url), file, on_progress=progress.append).send() is True
    assert s3.asked[-1].query["uploadId"] == "U1"
    assert sum(progress) == len(BYTES)


def test_progress_of_an_upload_begun_anew_adds_up_to_the_file(file: Path) -> None:
    progress: list[int] = []
    with ScriptedServer(answer=Parts(gone=True, after=8)) as s3:
        assert upload(loopback_aws(s3.url), file, part=MIB, on_progress=progress.append).send() is True
    resumed = [asked for asked in s3.asked if asked.query.get("uploadId") == "U0" and asked.method == "PUT"]
    assert len(resumed) > 8
    assert sum(progress) == len(BYTES)


def test_a_part_is_told_by_its_sha256_where_s3_knows_it(file: Path) -> None:
    """Under SSE-KMS an entity tag is no MD5, and an equal MD5 proves less."""
    first, second = BYTES[:PART], BYTES[PART : 2 * PART]
    right = b64encode(hashlib.sha256(first).digest()).decode()
    rows = ((1, "opaque", right), (2, hashlib.md5(second, usedforsecurity=False).hexdigest(), right))
    held = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{PART}</Size>"
        f"<ChecksumSHA256>{sha256}</ChecksumSHA256></Part>"
        for number, etag, sha256 in rows
    )
    with ScriptedServer(answer=Parts(held=f"<R>{held}</R>".encode())) as s3:
        assert upload(loopback_aws(s3.url), file).send() is True
    sent = [asked.query["partNumber"] for asked in s3.asked if "partNumber" in asked.query]
    assert sorted(sent) == ["2", "3", "4"]


def test_somebody_who_finished_the_same_upload_first_is_enough(file: Path) -> None:
    progress: list[int] = []
    asked_to_finish: list[bool] = []
    with ScriptedServer(answer=Parts(gone=True, finished=True)) as s3:
        begun = upload(
            loopback_aws(s3.url),
            file,
            on_progress=progress.append,
            may_finish=lambda: asked_to_finish.append(True),
        )
        assert begun.send() is True
    assert asked_to_finish
    assert not any("uploads" in asked.query and asked.method == "POST" for asked in s3.asked)
    assert sum(progress) == len(BYTES)


def test_of_several_threads_that_send_one_file_one_finishes_it_and_that_is_enough(file: Path) -> None:
    uri = S3Uri("acme-nova", URI.key)
    begun, finished = threading.Semaphore(0), threading.Event()

    def send_late() -> tuple[bool, int]:
        aws, progress = cloud.hyperpod().aws, list[int]()

        def hold(**_: Any) -> None:
            begun.release()
            finished.wait(30)

        aws.client("s3").meta.events.register("provide-client-params.s3.UploadPart", hold)
        return upload(aws, file, uri=uri, on_progress=progress.append).send(), sum(progress)

    with LocalCloud() as cloud, ThreadPoolExecutor(3) as pool:
        aws = cloud.hyperpod().aws
        aws.client("s3").create_multipart_upload(
            Bucket=uri.bucket, Key=uri.key, ChecksumAlgorithm="SHA256", Metadata={"sha256": SHA256}
        )
        late = [pool.submit(send_late) for _ in range(3)]
        for _ in range(3 * 4):
            assert begun.acquire(timeout=30)
        assert upload(aws, file, uri=uri).send() is True
        finished.set()
        assert [each.result() for each in late] == [(True, len(BYTES))] * 3
        operations = [each.operation for each in cloud.requests]
        assert operations.count("CompleteMultipartUpload") == operations.count("CreateMultipartUpload") == 1
        assert aws.read(uri, limit=len(BYTES)).body == BYTES


def test_an_upload_under_a_kms_key_is_not_resumed(file: Path) -> None:
    with ScriptedServer(answer=Parts(gone=True)) as s3:
        assert upload(loopback_aws(s3.url, kms_key_id="alias/data"), file).send() is True
    assert not any(asked.method == "GET" for asked in s3.asked)

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import timezone
from typing import TYPE_CHECKING

import pytest
from aws_loopback import ACCOUNT, loopback_aws, moto_server
from scripted import Asked, Reply, ScriptedServer

from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

URI = S3Uri("acme-attic", "runs/intent.json")
DATE = "Mon, 23 Nov 2026 01:57:45 GMT"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(moto: str) -> AWS:
    aws = loopback_aws(moto)
    client = aws.client("s3")
    client.create_bucket(Bucket="acme-attic")
    for found in client.list_objects_v2(Bucket="acme-attic").get("Contents", []):
        client.delete_object(Bucket="acme-attic", Key=found["Key"])
    return aws


def error(status: int, code: str, message: str = "no") -> Reply:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>R1</RequestId></Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"})


def stored(body: bytes = b"{}", **headers: str) -> Reply:
    return Reply(200, body, {"ETag": '"e1"', "Last-Modified": DATE, **headers})


def wrote() -> Reply:
    return Reply(200, headers={"ETag": '"e1"'})


def checksum(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://acme-attic", "acme-attic", ""),
        ("s3://acme-attic/", "acme-attic", ""),
        ("s3://acme-attic/a/b.jsonl", "acme-attic", "a/b.jsonl"),
        ("s3://acme-attic/a?b#c d", "acme-attic", "a?b#c d"),
    ],
)
def test_an_address_is_read(text: str, bucket: str, key: str) -> None:
    assert S3Uri.parse(text) == S3Uri(bucket, key)
    assert S3Uri.parse(str(S3Uri(bucket, key))) == S3Uri(bucket, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme/a",
        "https://acme-attic/a",
        "S3://acme-attic",
        "s3://",
        "s3://ab",
        "s3://Acme-nova",
        "s3://acme_nova",
        "s3://acme..nova",
        "s3://acme-attic/a/../b",
        "s3://acme-attic/a\nb",
        "s3://acme-attic/" + "ä" * 513,
    ],
)
def test_an_address_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/key"):
        S3Uri.parse(text)


def test_addresses_are_joined_with_single_slashes() -> None:
    assert str(S3Uri.parse("s3://acme-attic/runs/").join("/job/", "manifest.json")) == (
        "s3://acme-attic/runs/job/manifest.json"
    )
    assert str(S3Uri("acme-attic").join("a")) == "s3://acme-attic/a"
    assert S3Uri.parse("s3://acme-attic/runs/a.jsonl").name == "a.jsonl"


def test_what_was_written_is_read_back(aws: AWS) -> None:
    etag = aws.write(URI, b'{"a": 1}', content_type="application/json")
    read = aws.read(URI)
    assert (read.body, read.size, read.etag) == (b'{"a": 1}', 8, etag)
    assert read.sha256 == hashlib.sha256(b'{"a": 1}').hexdigest()
    assert read.last_modified.tzinfo is timezone.utc
    head = aws.head(URI)
    assert head is not None
    assert (head.sha256, head.etag, head.body) == (read.sha256, etag, b"")
    assert "body" not in repr(read)


def test_what_is_absent_is_none_or_an_error(aws: AWS) -> None:
    assert aws.head(URI) is None
    assert aws.read_or_none(URI) is None
    with pytest.raises(NotFoundError, match=r"s3://acme-attic/runs/intent\.json") as told:
        aws.read(URI)
    assert (told.value.operation, told.value.code) == ("GetObject", "NoSuchKey")
    assert told.value.request_id


def test_a_missing_bucket_is_not_taken_for_a_missing_object(aws: AWS) -> None:
    with pytest.raises(NotFoundError, match="bucket's name"):
        aws.read_or_none(S3Uri("no-such-bucket-here", "a"))


def test_of_two_claims_the_first_wins(aws: AWS) -> None:
    assert aws.write(URI, b"mine", only_if_absent=True)
    assert aws.write(URI, b"yours", only_if_absent=True) is None
    assert aws.read(URI).body == b"mine"


def test_an_object_is_replaced_only_while_it_is_what_was_read(aws: AWS) -> None:
    first = aws.write(URI, b"1")
    assert first is not None
    second = aws.write(URI, b"2", only_if_etag=first)
    assert second not in {None, first}
    assert aws.write(URI, b"3", only_if_etag=first) is None
    assert aws.write(URI.join("absent"), b"3", only_if_etag=first) is None
    assert aws.read(URI).body == b"2"


def test_two_conditions_at_once_are_refused(aws: AWS) -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        aws.write(URI, b"", only_if_absent=True, only_if_etag='"e"')


@pytest.mark.parametrize(("there", "etag"), [(b"mine", '"e1"'), (b"yours", None)])
def test_a_claim_whose_answer_was_lost_is_recognised_by_its_bytes(there: bytes, etag: str | None) -> None:
    head = stored(**{"x-amz-checksum-sha256": checksum(there)})
    with ScriptedServer(Reply(drop=True), error(412, "PreconditionFailed"), head) as s3:
        assert loopback_aws(s3.url, max_attempts=2).write(URI, b"mine", only_if_absent=True) == etag
    assert [asked.method for asked in s3.asked] == ["PUT", "PUT", "HEAD"]


def test_a_lost_claim_is_not_looked_into_when_no_answer_was_lost() -> None:
    with ScriptedServer(error(412, "PreconditionFailed")) as s3:
        assert loopback_aws(s3.url).write(URI, b"mine", only_if_absent=True) is None
    assert len(s3.asked) == 1


def test_conditional_writes_that_meet_are_tried_again() -> None:
    clock = FakeClock()
    with ScriptedServer(error(409, "ConditionalRequestConflict"), wrote()) as s3:
        assert loopback_aws(s3.url, clock=clock).write(URI, b"mine", only_if_absent=True) == '"e1"'
    assert clock.monotonic() > 0
    assert [asked.headers["if-none-match"] for asked in s3.asked] == ["*", "*"]


def test_a_body_that_breaks_is_read_again() -> None:
    clock = FakeClock()
    with ScriptedServer(stored(b"0123456789"), stored(b"0123456789")) as s3:
        s3._replies[0].cut = 4
        assert loopback_aws(s3.url, clock=clock).read(URI).body == b"0123456789"
    assert clock.monotonic() > 0


def test_a_body_that_always_breaks_is_an_error() -> None:
    broken = stored(b"0123456789")
    broken.cut = 4
    with ScriptedServer(answer=lambda _: broken) as s3, pytest.raises(ServiceError, match="GetObject on s3://"):
        loopback_aws(s3.url, clock=FakeClock()).read(URI)
    assert len(s3.asked) == 3


def test_bytes_that_do_not_match_their_checksum_are_read_again() -> None:
    with ScriptedServer(
        stored(b"damaged", **{"x-amz-checksum-sha256": checksum(b"as sent")}),
        stored(b"as sent", **{"x-amz-checksum-sha256": checksum(b"as sent")}),
    ) as s3:
        assert loopback_aws(s3.url, clock=FakeClock()).read(URI).body == b"as sent"


def test_an_object_larger_than_the_limit_is_not_read(aws: AWS) -> None:
    aws.write(URI, b"x" * 100)
    with pytest.raises(ServiceError, match="100 bytes; at most 99"):
        aws.read(URI, limit=99)
    assert aws.read(URI, limit=100).size == 100


def test_every_request_names_the_owner_of_the_bucket() -> None:
    with ScriptedServer(answer=lambda asked: wrote() if asked.method == "PUT" else stored()) as s3:
        aws = loopback_aws(s3.url)
        aws.check_bucket(URI)
        aws.head(URI)
        aws.read(URI)
        aws.write(URI, b"")
    assert [asked.headers.get("x-amz-expected-bucket-owner") for asked in s3.asked] == [ACCOUNT] * 4


def test_a_key_of_kms_is_asked_for_when_given() -> None:
    with ScriptedServer(wrote(), wrote()) as s3:
        loopback_aws(s3.url, kms_key_id="alias/nova").write(URI, b"")
        loopback_aws(s3.url).write(URI, b"")
    with_key, without = (asked.headers for asked in s3.asked)
    assert with_key["x-amz-server-side-encryption"] == "aws:kms"
    assert with_key["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/nova"
    assert "x-amz-server-side-encryption" not in without


def test_a_bucket_of_this_account_and_region_is_fine(aws: AWS) -> None:
    aws.check_bucket(URI)


def test_a_bucket_that_does_not_exist_is_named(aws: AWS) -> None:
    with pytest.raises(NotFoundError, match="s3://no-such-bucket-here"):
        aws.check_bucket(S3Uri("no-such-bucket-here"))


def test_a_bucket_in_another_region_is_named_with_both(aws: AWS) -> None:
    aws.client("s3").create_bucket(Bucket="acme-dublin", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    with pytest.raises(
        ConfigurationError, match="s3://acme-dublin lies in eu-west-1, and this client works in us-east-1"
    ):
        aws.check_bucket(S3Uri("acme-dublin"))


def test_a_bucket_of_another_account_is_told_from_a_missing_permission() -> None:
    def others(asked: Asked) -> Reply:
        return Reply(403 if "x-amz-expected-bucket-owner" in asked.headers else 200)

    with ScriptedServer(answer=others) as s3, pytest.raises(ConfigurationError, match="another account than 1234"):
        loopback_aws(s3.url).check_bucket(URI)
    with ScriptedServer(answer=lambda _: Reply(403)) as s3, pytest.raises(AccessDeniedError, match="HeadBucket"):
        loopback_aws(s3.url).check_bucket(URI)

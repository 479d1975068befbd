from __future__ import annotations

import copy
import gzip
import hashlib
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from aws_loopback import ACCESS_KEY, ACCOUNT, SECRET_KEY, LoopbackSession, loopback_aws, moto_server
from dataset_records import chat, line, pair
from scripted import Asked, Reply, ScriptedServer

from nova_dpo_sdk import ChatDataset, DPORecipe, NovaModel, PreferenceDataset
from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.datasets._remote import RangedStream
from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError, DatasetError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "acme-attic"
ROOT = f"s3://{BUCKET}/pairs"
GOOD = [line(pair(f"Question {n}?", f"Good {n}.", f"Poor {n}.")) for n in range(300)]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(moto: str) -> AWS:
    aws = loopback_aws(moto)
    client = aws.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    return aws


def put(aws: AWS, name: str, *lines: bytes) -> bytes:
    body = b"".join(lines)
    aws.write(S3Uri.parse(f"{ROOT}/{name}"), body)
    return body


class Held:
    """A byte source in memory that remembers what it was asked."""

    version = '"v"'

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data, self.size = name, data, len(data)
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return self.data[start:end]


def test_data_in_s3_are_copied_and_refuse_to_be_pickled(aws: AWS, tmp_path: Path) -> None:
    put(aws, "all.jsonl", *GOOD)
    data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=aws)
    copied = copy.deepcopy(data)
    assert copied == data
    assert copied.report().good == 300
    with pytest.raises(DatasetError, match=r"all\.jsonl cannot be pickled: .* from_s3\(\)"):
        pickle.dumps(data)
    here = PreferenceDataset.from_jsonl(tmp_path / "all.jsonl", rules={"few-records": "off"})
    assert pickle.loads(pickle.dumps(here)) == here  # noqa: S301 - our own bytes


def test_an_object_is_checked_where_it_is(aws: AWS, tmp_path: Path) -> None:
    body = put(aws, "all.jsonl", *GOOD, b"broken")
    data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=aws)
    report = data.report()
    (tmp_path / "all.jsonl").write_bytes(body)
    here = PreferenceDataset.from_jsonl(tmp_path / "all.jsonl").report()
    assert (report.records, report.good, report.size, report.sha256) == (301, 300, len(body), here.sha256)
    assert report.counts == here.counts == {"bad-json": 1, "no-final-newline": 1}
    assert report.problems == here.problems
    assert str(report).startswith(f"{ROOT}/all.jsonl: 1 bad")
    assert data.name == "all.jsonl"
    with pytest.raises(DatasetError, match=r"s3://acme-attic/pairs/all.jsonl: 1 of 301 records is bad"):
        data.check()


def test_an_address_alone_is_enough_where_boto3_finds_the_account(
    aws: AWS, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(aws, "all.jsonl", *GOOD)
    put(aws, "chats.jsonl", *[line(chat())] * 2)
    for name, value in {
        "AWS_ENDPOINT_URL": moto,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CONFIG_FILE": "nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert PreferenceDataset.from_s3(f"{ROOT}/all.jsonl").report().records == 300
    assert ChatDataset.from_s3(f"{ROOT}/chats.jsonl").report().records == 2
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with pytest.raises(ConfigurationError, match="us-east-1"):
        PreferenceDataset.from_s3(f"{ROOT}/all.jsonl")


def test_chats_in_s3_are_checked_too(aws: AWS) -> None:
    put(aws, "chats.jsonl", line(chat()))
    data = ChatDataset.from_s3(f"{ROOT}/chats.jsonl", aws=aws, nova2=True)
    assert data.check().records == 1
    assert data.nova2


def test_a_prefix_is_one_data_set_and_problems_name_their_file(aws: AWS) -> None:
    put(aws, "b.jsonl", *GOOD[100:200], b"broken\n")
    put(aws, "a.jsonl", *GOOD[:100], GOOD[200].rstrip(b"\n"))  # its last line has no newline
    put(aws, "c/d.jsonl", GOOD[0])
    put(aws, "_SUCCESS", b"")
    put(aws, "readme.txt", b"not data")
    for uri in (ROOT, f"{ROOT}/"):
        data = PreferenceDataset.from_s3(uri, aws=aws)
        report = data.report()
        assert (report.records, report.good) == (203, 202)
        broken = next(each for each in report.problems if each.code == "bad-json")
        assert broken.message.endswith(f"({ROOT}/b.jsonl line 101)")
        assert (broken.line, broken.offset) == (202, sum(map(len, GOOD[:200])) + len(GOOD[200]))
        repeated = next(each for each in report.problems if each.code == "duplicate-record")
        assert repeated.message.endswith(f"line 1. ({ROOT}/c/d.jsonl line 1)")
    assert data.name == "pairs.jsonl"
    assert data.profile().records == 202


def test_compressed_objects_below_a_prefix_are_unpacked_and_told_of(aws: AWS, tmp_path: Path) -> None:
    put(aws, "a.jsonl.gz", gzip.compress(b"".join(GOOD[:100]).rstrip(b"\n")))  # its last line has no newline
    put(aws, "b.jsonl", *GOOD[100:200])
    put(aws, "d.jsonl.gz", gzip.compress(b"".join([*GOOD[200:], b"broken\n"])))
    data = PreferenceDataset.from_s3(ROOT, aws=aws)
    report = data.report()
    assert (report.records, report.good, report.size) == (301, 300, sum(map(len, GOOD)) + len(b"broken\n"))
    assert report.counts == {"compressed": 2, "bad-json": 1}
    told = {each.message.rpartition("(")[2]: (each.line, each.code) for each in report.problems}
    assert told == {
        f"{ROOT}/a.jsonl.gz line 1)": (1, "compressed"),
        f"{ROOT}/d.jsonl.gz line 1)": (201, "compressed"),
        f"{ROOT}/d.jsonl.gz line 101)": (301, "bad-json"),
    }
    assert data.profile().records == 300
    done = data.write_clean(tmp_path / "plain.jsonl")
    assert (done.dataset.path.read_bytes(), done.dataset.check().ok) == (b"".join(GOOD), True)


def test_a_compressed_object_without_a_line_is_named_itself(aws: AWS) -> None:
    put(aws, "a.jsonl.gz", gzip.compress(b""))
    put(aws, "b.jsonl", *GOOD[:3])
    (note,) = PreferenceDataset.from_s3(ROOT, aws=aws).report().problems
    assert note.message.endswith(f"({ROOT}/a.jsonl.gz line 1)")


def test_a_damaged_object_below_a_prefix_is_named(aws: AWS) -> None:
    put(aws, "a.jsonl", *GOOD)
    put(aws, "b.jsonl.gz", gzip.compress(b"".join(GOOD))[:-9])
    with pytest.raises(DatasetError, match=f"{ROOT}/b.jsonl.gz is gzip that cannot be unpacked to its end"):
        PreferenceDataset.from_s3(ROOT, aws=aws).report()


def test_a_data_set_in_s3_can_be_split_and_profiled(aws: AWS, tmp_path: Path) -> None:
    put(aws, "all.jsonl", *GOOD)
    data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=aws)
    done = data.split(tmp_path / "train.jsonl", tmp_path / "val.jsonl", fraction=0.2)
    assert done.read == 300
    assert done.train.check().records == done.train_records
    assert f"{ROOT}/all.jsonl: 300 preference records" in str(data.profile())
    assert data.report(profile=True).profile == data.profile()


def test_nothing_there_is_said(aws: AWS) -> None:
    put(aws, "empty.jsonl", b"")
    put(aws, "readme.txt", b"x")
    with pytest.raises(DatasetError, match="is empty"):
        PreferenceDataset.from_s3(f"{ROOT}/empty.jsonl", aws=aws)
    with pytest.raises(DatasetError, match=r"there is no \.jsonl"):
        PreferenceDataset.from_s3(f"s3://{BUCKET}/gone", aws=aws)
    with pytest.raises(NotFoundError, match="does not exist"):
        PreferenceDataset.from_s3("s3://acme-nowhere/x.jsonl", aws=aws)
    with pytest.raises(ConfigurationError, match="not an S3 address"):
        PreferenceDataset.from_s3("pairs.jsonl", aws=aws)
    with pytest.raises(NotFoundError, match=r"gone\.jsonl does not exist"):
        aws.ranged(f"{ROOT}/gone.jsonl")


def test_an_odd_key_that_is_no_data_file_is_passed_over(aws: AWS) -> None:
    put(aws, "all.jsonl", *GOOD[:3])
    client = aws.client("s3")
    for odd in ("Icon\r", "x/./_SUCCESS", "x/../b.txt"):
        client.put_object(Bucket=BUCKET, Key=f"pairs/{odd}", Body=b"x")
    assert PreferenceDataset.from_s3(f"{ROOT}/", aws=aws).check().records == 3
    client.put_object(Bucket=BUCKET, Key="pairs/x/../b.JSONL", Body=b"x")
    with pytest.raises(ConfigurationError, match=r"pairs/x/\.\./b\.JSONL' is not a usable S3 address"):
        PreferenceDataset.from_s3(f"{ROOT}/", aws=aws)


def test_an_address_that_is_no_text_is_refused(aws: AWS) -> None:
    with pytest.raises(ConfigurationError, match=r"a\\udcff\.jsonl.*no text in UTF-8"):
        PreferenceDataset.from_s3(f"{ROOT}/a\udcff.jsonl", aws=aws)


def test_any_single_object_may_be_named(aws: AWS) -> None:
    put(aws, "export.txt", *GOOD[:3])
    assert PreferenceDataset.from_s3(f"{ROOT}/export.txt", aws=aws).check().records == 3


def test_region_and_account_are_looked_at_first(aws: AWS, moto: str) -> None:
    put(aws, "all.jsonl", *GOOD)
    elsewhere = AWS(LoopbackSession(moto, region="eu-west-1"), account=ACCOUNT, max_attempts=1)
    with pytest.raises(ConfigurationError, match="lies in us-east-1"):
        PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=elsewhere)
    foreign = Reply(403)
    with ScriptedServer(foreign, Reply(200)) as s3, pytest.raises(ConfigurationError, match="another account"):
        PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=loopback_aws(s3.url))
    assert [asked.method for asked in s3.asked] == ["HEAD", "HEAD"]
    with ScriptedServer(Reply(403), Reply(403)) as s3, pytest.raises(AccessDeniedError):
        PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=loopback_aws(s3.url))


def test_an_object_that_changes_while_it_is_read_is_an_error(aws: AWS) -> None:
    put(aws, "all.jsonl", *GOOD)
    data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=aws)
    put(aws, "all.jsonl", *GOOD[::-1])
    for use in (data.report, data.profile):
        with pytest.raises(DatasetError, match="changed while it was read"):
            use()


def test_an_object_that_is_deleted_while_it_is_read_is_an_error(aws: AWS) -> None:
    put(aws, "all.jsonl", *GOOD)
    data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=aws)
    aws.client("s3").delete_object(Bucket=BUCKET, Key="pairs/all.jsonl")
    with pytest.raises(DatasetError, match="changed while it was read"):
        data.report()


def test_a_range_that_breaks_off_is_read_again() -> None:
    body = b"".join(GOOD)
    broken = [True]

    def answer(asked: Asked) -> Reply:
        head = {"ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 01:57:45 GMT", "x-amz-bucket-region": "us-east-1"}
        if asked.method == "HEAD":
            return Reply(200, body, headers=head)
        first, last = (int(each) for each in asked.headers["range"].removeprefix("bytes=").split("-"))
        cut, broken[0] = (100 if broken[0] else 0), False
        return Reply(206, body[first : last + 1], headers=head, cut=cut)

    with ScriptedServer(answer=answer) as s3:
        data = PreferenceDataset.from_s3(f"{ROOT}/all.jsonl", aws=loopback_aws(s3.url, clock=FakeClock()))
        assert data.check(hashed=True).sha256 == hashlib.sha256(body).hexdigest()
    ranges = [asked for asked in s3.asked if asked.method == "GET"]
    assert len(ranges) == 2
    assert all(asked.headers["if-match"] == '"e"' for asked in ranges)
    assert all(asked.headers["x-amz-expected-bucket-owner"] == ACCOUNT for asked in s3.asked)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_ranges_put_together_are_the_bytes(size: int) -> None:
    sources = [Held("a", b"one\ntwo"), Held("b", b"three\n"), Held("c", b"four")]
    with RangedStream(sources, size=size) as stream:
        assert stream.read() == b"one\ntwo\nthree\nfour"
        assert [(each.name, each.offset, each.line) for each in stream.begins] == [
            ("a", 0, 1),
            ("b", 8, 3),
            ("c", 14, 4),
        ]


def test_ranges_are_read_in_parallel_and_memory_is_bounded() -> None:
    together = threading.Barrier(4)
    held = Held("a", bytes(1000))

    class Slow(Held):
        def read(self, start: int, end: int) -> bytes:
            if start < 400:
                together.wait(5)
            return super().read(start, end)

    slow = Slow("a", bytes(1000))
    with RangedStream([slow], size=100, ahead=4) as stream:
        assert stream.read(1) == b"\0"
        deadline = time.monotonic() + 5
        while len(slow.asked) < 5 and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        assert len(slow.asked) == 5  # the one at hand, and four on their way
    with RangedStream([held], size=100) as stream:
        assert len(stream.read()) == 1000


def test_an_error_in_a_range_reaches_the_reader() -> None:
    class Broken(Held):
        def read(self, start: int, end: int) -> bytes:
            if start:
                raise ServiceError("the wire broke")
            return super().read(start, end)

    with RangedStream([Broken("a", bytes(100))], size=10) as stream, pytest.raises(ServiceError, match="the wire"):
        stream.read()


def test_a_plan_uses_an_object_where_it_is(cloud: Any, nova: Any) -> None:
    aws, uri = nova.backend.aws, S3Uri.parse(f"s3://{cloud.bucket}/mine/all.jsonl")
    aws.write(uri, b"".join(GOOD))
    data = PreferenceDataset.from_s3(str(uri), aws=aws)
    recipe = DPORecipe(name="there", model=NovaModel.MICRO, replicas=2)
    plan = nova.plan(recipe, data, validation=data)
    assert plan.ok, plan
    assert plan.recipe.data_s3_path == str(uri)
    assert [each.in_place for each in plan.uploads] == [True, True]
    assert "stays where it is" in str(plan)
    assert nova.check(plan).ok, nova.check(plan)
    sent: list[str] = []
    aws.client("s3").meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: sent.append(params["Key"])
    )
    job = nova.submit(plan)
    assert not any("datasets/" in key for key in sent)
    assert not job.adopted


def test_an_object_that_changed_since_the_plan_is_not_trained_on(cloud: Any, nova: Any) -> None:
    aws, uri = nova.backend.aws, S3Uri.parse(f"s3://{cloud.bucket}/mine/all.jsonl")
    aws.write(uri, b"".join(GOOD))
    plan = nova.plan(
        DPORecipe(name="there", model=NovaModel.MICRO, replicas=2), PreferenceDataset.from_s3(str(uri), aws=aws)
    )
    aws.write(uri, b"".join(GOOD[::-1]))
    assert "data-changed" in [each.code for each in nova.check(plan).errors]
    with pytest.raises(DatasetError, match="no longer what was checked"):
        nova.submit(plan, check=False)
    assert aws.client("s3").delete_object(Bucket=uri.bucket, Key=uri.key)
    assert not nova.check(plan).ok


def test_a_prefix_of_many_files_is_planned_as_an_error_that_says_what_to_do(cloud: Any, nova: Any) -> None:
    aws = nova.backend.aws
    for name, lines in (("a", GOOD[:100]), ("b", GOOD[100:])):
        aws.write(S3Uri.parse(f"s3://{cloud.bucket}/mine/{name}.jsonl"), b"".join(lines))
    data = PreferenceDataset.from_s3(f"s3://{cloud.bucket}/mine", aws=aws)
    plan = nova.plan(DPORecipe(name="there", model=NovaModel.MICRO, replicas=2), data)
    (error,) = plan.errors
    assert error.code == "data-in-many-files"
    assert "The records lie in 2 files. A run reads one file. Join the files" in str(error)


def test_a_prefix_of_many_objects_is_short_to_read(aws: AWS) -> None:
    for n in range(3):
        aws.client("s3").put_object(Bucket=BUCKET, Key=f"short/{n}.jsonl", Body=line(pair()))
    shown = repr(PreferenceDataset.from_s3(f"s3://{BUCKET}/short/", aws=aws, rules={"few-records": "off"}))
    assert shown == f"PreferenceDataset('s3://{BUCKET}/short/0.jsonl and 2 more', rules={{'few-records': 'off'}})"

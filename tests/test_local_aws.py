from __future__ import annotations

import base64
import hashlib
import re
import sys
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from nova_dpo_sdk.local import FakeClock, InstanceGroup, LocalCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCloud]:
    with LocalCloud(FakeClock(START)) as running:
        running.add_bucket("elsewhere", region="eu-west-1")
        running.add_bucket("not-ours", account="999999999999")
        yield running


@pytest.fixture
def rehearsal(shared: LocalCloud) -> LocalCloud:
    shared.requests.clear()
    shared.faults.clear()
    return shared


@pytest.fixture
def s3(rehearsal: LocalCloud) -> Any:
    return rehearsal.session().client("s3", config=Config(retries={"total_max_attempts": 1}))


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_objects_come_back_as_they_were_put(s3: Any) -> None:
    s3.put_object(Bucket="acme-nova", Key="a/ä b+c.txt", Body=b"hello", Metadata={"who": "me"})
    got = s3.get_object(Bucket="acme-nova", Key="a/ä b+c.txt")
    assert got["Body"].read() == b"hello"
    assert got["Metadata"] == {"who": "me"}


def test_the_users_environment_has_no_say(rehearsal: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_DEFAULT_REGION": "ap-northeast-1",
        "AWS_REGION": "ap-northeast-1",
        "AWS_ACCESS_KEY_ID": "AKIAREALPERSON",
        "AWS_SECRET_ACCESS_KEY": "real-secret",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_CONFIG_FILE": "/no/such/file",
        "AWS_CA_BUNDLE": "/no/such/bundle.pem",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    session = rehearsal.session()
    assert session.region_name == "us-east-1"
    assert session.client("sts").get_caller_identity()["Account"] == rehearsal.account
    assert session.client("s3").head_bucket(Bucket="acme-nova")["BucketRegion"] == "us-east-1"
    assert "AKIAREALPERSON" not in str(session.get_credentials().access_key)


def test_an_endpoint_that_the_caller_names_stands(rehearsal: LocalCloud) -> None:
    sts = rehearsal.session().client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com")
    assert sts.generate_presigned_url("get_caller_identity").startswith("https://sts.us-east-1.amazonaws.com/?")


def test_a_resource_reaches_the_cloud_too(rehearsal: LocalCloud) -> None:
    rehearsal.session().resource("s3").Object("acme-nova", "by-resource").put(Body=b"x")
    assert rehearsal.session().resource("s3").Object("acme-nova", "by-resource").content_length == 1


def test_last_modified_follows_the_clock(rehearsal: LocalCloud, s3: Any) -> None:
    s3.put_object(Bucket="acme-nova", Key="first", Body=b"1")
    before = rehearsal.clock.now()
    rehearsal.clock.sleep(3600)
    s3.put_object(Bucket="acme-nova", Key="second", Body=b"2")
    s3.copy_object(Bucket="acme-nova", Key="third", CopySource="acme-nova/first")
    times = {each["Key"]: each["LastModified"] for each in s3.list_objects_v2(Bucket="acme-nova")["Contents"]}
    assert times["first"] == before.replace(microsecond=0)
    assert times["second"] == times["third"] == times["first"] + timedelta(hours=1)
    assert s3.head_object(Bucket="acme-nova", Key="second")["LastModified"] == times["second"]


def test_a_multipart_upload_is_stamped_and_can_be_conditional(rehearsal: LocalCloud, s3: Any) -> None:
    def upload(**conditions: Any) -> None:
        made = s3.create_multipart_upload(Bucket="acme-nova", Key="big")
        part = s3.upload_part(Bucket="acme-nova", Key="big", PartNumber=1, UploadId=made["UploadId"], Body=b"x" * 10)
        s3.complete_multipart_upload(
            Bucket="acme-nova",
            Key="big",
            UploadId=made["UploadId"],
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
            **conditions,
        )

    upload(IfNoneMatch="*")
    head = s3.head_object(Bucket="acme-nova", Key="big")
    assert head["LastModified"] == rehearsal.clock.now().replace(microsecond=0)
    assert refused(lambda: upload(IfNoneMatch="*")) == (412, "PreconditionFailed")


def test_an_upload_that_is_unknown_or_done_is_not_found(s3: Any) -> None:
    made = s3.create_multipart_upload(Bucket="acme-nova", Key="one")
    for key, upload in (("one", "no-such-upload"), ("another", made["UploadId"])):
        named = {"Bucket": "acme-nova", "Key": key, "UploadId": upload}
        parts = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}
        assert refused(s3.upload_part, PartNumber=1, Body=b"x", **named) == (404, "NoSuchUpload")
        assert refused(s3.complete_multipart_upload, MultipartUpload=parts, **named) == (404, "NoSuchUpload")
        assert refused(s3.list_parts, **named) == (404, "NoSuchUpload")
        assert refused(s3.abort_multipart_upload, **named) == (404, "NoSuchUpload")


@pytest.mark.parametrize("owner", ["123456789012", "999999999999"])
def test_the_expected_owner_is_compared(s3: Any, owner: str) -> None:
    s3.put_object(Bucket="acme-nova", Key="owned", Body=b"x")
    calls = {
        s3.put_object: {"Key": "owned", "Body": b"y"},
        s3.get_object: {"Key": "owned"},
        s3.list_objects_v2: {},
    }
    for call, arguments in calls.items():
        if owner == "123456789012":
            call(Bucket="acme-nova", ExpectedBucketOwner=owner, **arguments)
        else:
            found = refused(call, Bucket="acme-nova", ExpectedBucketOwner=owner, **arguments)
            assert found == (403, "AccessDenied")


def test_an_owner_that_is_no_account_is_a_bad_request(s3: Any) -> None:
    found = refused(s3.get_object, Bucket="acme-nova", Key="x", ExpectedBucketOwner="me")
    assert found == (400, "InvalidBucketOwnerAWSAccountID")


def test_a_bucket_of_another_account_is_closed(s3: Any) -> None:
    assert refused(s3.put_object, Bucket="not-ours", Key="k", Body=b"") == (403, "AccessDenied")
    assert refused(s3.head_bucket, Bucket="not-ours") == (403, "403")


def test_a_bucket_in_another_region_says_where_it_is(rehearsal: LocalCloud, s3: Any) -> None:
    # botocore follows the redirect by itself, and tells the bucket's Region.
    assert s3.head_bucket(Bucket="elsewhere")["BucketRegion"] == "eu-west-1"
    there = rehearsal.session().client("s3", region_name="eu-west-1")
    there.put_object(Bucket="elsewhere", Key="k", Body=b"x")
    assert [each.operation for each in rehearsal.requests][:2] == ["HeadBucket", "HeadBucket"]


def test_a_missing_bucket_and_a_missing_key_are_told_apart(s3: Any) -> None:
    assert refused(s3.get_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    assert refused(s3.get_object, Bucket="acme-nova", Key="no-such-key") == (404, "NoSuchKey")
    assert refused(s3.head_bucket, Bucket="no-such-bucket") == (404, "404")


def test_the_escrow_bucket_is_closed_to_the_customer(rehearsal: LocalCloud, s3: Any) -> None:
    escrow = rehearsal.cluster.escrow
    assert re.fullmatch(r"customer-escrow-123456789012-hp-[a-z0-9]{8}", escrow)
    for call, arguments in ((s3.list_objects_v2, {}), (s3.get_object, {"Key": "x"}), (s3.head_bucket, {})):
        assert refused(call, Bucket=escrow, **arguments)[0] == 403


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("ChecksumSHA256", lambda body: hashlib.sha256(body).digest()),
        ("ContentMD5", lambda body: hashlib.md5(body, usedforsecurity=False).digest()),
    ],
)
def test_a_wrong_checksum_stores_nothing(s3: Any, algorithm: str, digest: Any) -> None:
    good = base64.b64encode(digest(b"body")).decode()
    wrong = base64.b64encode(digest(b"other")).decode()
    arguments = {"Bucket": "acme-nova", "Key": f"checked/{algorithm}", "Body": b"body"}
    assert refused(s3.put_object, **arguments, **{algorithm: wrong}) == (400, "BadDigest")
    assert refused(s3.head_object, Bucket="acme-nova", Key=arguments["Key"])[0] == 404
    s3.put_object(**arguments, **{algorithm: good})
    if algorithm == "ChecksumSHA256":
        head = s3.head_object(Bucket="acme-nova", Key=arguments["Key"], ChecksumMode="ENABLED")
        assert head["ChecksumSHA256"] == good


def test_a_conditional_put_is_refused_when_its_condition_does_not_hold(s3: Any) -> None:
    where = {"Bucket": "acme-nova", "Key": "intent.json"}
    assert refused(s3.put_object, **where, Body=b"0", IfMatch='"x"') == (404, "NoSuchKey")
    first = s3.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, **where, Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")
    second = s3.put_object(**where, Body=b"2", IfMatch=first)["ETag"]
    assert refused(s3.put_object, **where, Body=b"3", IfMatch=first) == (412, "PreconditionFailed")
    assert s3.get_object(**where)["ETag"] == second


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty_threads")
def test_of_many_writers_at_once_one_wins(rehearsal: LocalCloud) -> None:
    writers, rounds = 6, 15
    won: list[str] = []
    gate = threading.Barrier(writers)
    clients = [rehearsal.session().client("s3") for _ in range(writers)]

    def write(client: Any) -> None:
        for key in (f"race-{number}" for number in range(rounds)):
            gate.wait()
            try:
                client.put_object(Bucket="acme-nova", Key=key, Body=b"x", IfNoneMatch="*")
                won.append(key)
            except ClientError:
                continue

    threads = [threading.Thread(target=write, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"race-{number}" for number in range(rounds))


def test_describe_cluster_shows_restricted_groups_and_eks(rehearsal: LocalCloud) -> None:
    described = rehearsal.session().client("sagemaker").describe_cluster(ClusterName="research")
    groups = {each["InstanceGroupName"]: each for each in described["RestrictedInstanceGroups"]}
    assert groups["nova-p5"]["InstanceType"] == "ml.p5.48xlarge"
    assert groups["nova-p5"]["CurrentCount"] == groups["nova-p5"]["TargetCount"] == 8
    assert groups["nova-p5"]["Status"] == "InService"
    assert groups["nova-p4d"]["CurrentCount"] == 24
    assert groups["nova-p5"]["EnvironmentConfig"]["S3OutputPath"] == f"s3://{rehearsal.cluster.escrow}"
    assert re.fullmatch(r"arn:aws:sagemaker:us-east-1:123456789012:cluster/[a-z0-9]{12}", described["ClusterArn"])
    assert described["Orchestrator"]["Eks"]["ClusterArn"].endswith(":cluster/research-eks")
    assert [each["InstanceGroupName"] for each in described["InstanceGroups"]] == ["general"]


def test_a_group_may_be_changed_while_the_cloud_runs() -> None:
    groups = [InstanceGroup("nova", "ml.p5.48xlarge", 2, target=4, status="Updating")]
    with LocalCloud(
        FakeClock(), account="210987654321", bucket="acme-2", cluster="scaling", instance_groups=groups
    ) as running:
        sagemaker = running.session().client("sagemaker")
        shown = sagemaker.describe_cluster(ClusterName="scaling")["RestrictedInstanceGroups"][0]
        assert (shown["CurrentCount"], shown["TargetCount"], shown["Status"]) == (2, 4, "Updating")
        running.cluster.groups[0].status = "InService"
        running.cluster.status = "SystemUpdating"
        described = sagemaker.describe_cluster(ClusterName="scaling")
        assert described["RestrictedInstanceGroups"][0]["Status"] == "InService"
        assert described["ClusterStatus"] == "SystemUpdating"


def test_an_unknown_cluster_is_not_found(rehearsal: LocalCloud) -> None:
    session = rehearsal.session()
    assert refused(session.client("sagemaker").describe_cluster, ClusterName="reserach") == (400, "ResourceNotFound")
    elsewhere = session.client("sagemaker", region_name="us-west-2")
    assert refused(elsewhere.describe_cluster, ClusterName="research") == (400, "ResourceNotFound")
    found = refused(session.client("eks").describe_cluster, name="research")
    assert found == (404, "ResourceNotFoundException")


def test_eks_tells_the_way_to_the_kubernetes_api(rehearsal: LocalCloud) -> None:
    cluster = rehearsal.session().client("eks").describe_cluster(name="research-eks")["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["endpoint"] == rehearsal.kubernetes_endpoint
    assert base64.b64decode(cluster["certificateAuthority"]["data"]).decode() == rehearsal.ca_pem
    assert rehearsal.ca_pem.startswith("-----BEGIN CERTIFICATE-----")


def test_requests_are_counted_without_headers_or_tokens(rehearsal: LocalCloud, s3: Any) -> None:
    s3.put_object(Bucket="acme-nova", Key="counted", Body=b"secret body")
    rehearsal.session().client("sts").get_caller_identity()
    rehearsal.session().client("sagemaker").describe_cluster(ClusterName="research")
    rehearsal.session().client("eks").describe_cluster(name="research-eks")
    assert [(each.service, each.operation, each.target) for each in rehearsal.requests] == [
        ("s3", "PutObject", "s3://acme-nova/counted"),
        ("sts", "GetCallerIdentity", ""),
        ("sagemaker", "DescribeCluster", "research"),
        ("eks", "DescribeCluster", "research-eks"),
    ]
    assert "secret" not in repr(rehearsal.requests)


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("s3", "get_object", {"Bucket": "acme-nova", "Key": "k"}),
        ("sts", "get_caller_identity", {}),
        ("sagemaker", "describe_cluster", {"ClusterName": "research"}),
        ("eks", "describe_cluster", {"name": "research-eks"}),
    ],
)
def test_a_fault_is_worded_as_the_service_words_it(
    rehearsal: LocalCloud, service: str, call: str, arguments: Any
) -> None:
    rehearsal.faults.answer("*", 403, code="ExpiredToken", service=service)
    client = rehearsal.session().client(service)
    assert refused(getattr(client, call), **arguments) == (403, "ExpiredToken")


def test_a_fault_strikes_as_often_as_asked(rehearsal: LocalCloud, s3: Any) -> None:
    fault = rehearsal.faults.answer("PutObject", 503, code="SlowDown", target="s3://acme-nova/slow*", times=2)
    s3.put_object(Bucket="acme-nova", Key="fast", Body=b"")
    for _ in range(2):
        assert refused(s3.put_object, Bucket="acme-nova", Key="slow", Body=b"") == (503, "SlowDown")
    s3.put_object(Bucket="acme-nova", Key="slow", Body=b"")
    assert fault.times == 0


def test_an_answer_can_be_lost_after_the_deed(rehearsal: LocalCloud, s3: Any) -> None:
    rehearsal.faults.hang_up("PutObject", after=True)
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket="acme-nova", Key="done-unheard", Body=b"x")
    assert s3.get_object(Bucket="acme-nova", Key="done-unheard")["Body"].read() == b"x"
    rehearsal.faults.hang_up("PutObject")
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket="acme-nova", Key="never-done", Body=b"x")
    assert refused(s3.head_object, Bucket="acme-nova", Key="never-done")[0] == 404


def test_connections_are_kept_alive(s3: Any) -> None:
    names = {each.name for each in threading.enumerate()}
    for _ in range(5):
        s3.head_bucket(Bucket="acme-nova")
    fresh = [each.name for each in threading.enumerate() if each.name not in names]
    assert len(fresh) <= 1


def test_a_body_of_some_megabytes_arrives_whole(s3: Any) -> None:
    body = bytes(range(256)) * 40_000
    s3.put_object(Bucket="acme-nova", Key="large", Body=body)
    got = s3.get_object(Bucket="acme-nova", Key="large")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    assert s3.get_object(Bucket="acme-nova", Key="large", Range="bytes=256-259")["Body"].read() == b"\0\1\2\3"

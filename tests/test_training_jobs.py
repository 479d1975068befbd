"""Training jobs over real sockets: looked at, stopped, found again and read, with and without the SageMaker SDK."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from sagemaker_support import needs_sdk, without_sdk

from nova_dpo_sdk import (
    Checkpoint,
    DPORecipe,
    JobStatus,
    LoRA,
    NovaClient,
    NovaModel,
    Platform,
    SFTRecipe,
    Technique,
    TrainingJobBackend,
    TrainingJobOptions,
)
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import JobRef
from nova_dpo_sdk.backends import _archive as archives
from nova_dpo_sdk.backends._training_status import fold
from nova_dpo_sdk.catalog import TuningKind
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    CheckpointError,
    ConfigurationError,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    NotFoundError,
    PlanRejectedError,
    RecipeError,
    ServiceError,
)
from nova_dpo_sdk.local import LocalCloud, Script

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(alpha=64), warmup_steps=1)
DPO = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, beta=0.1, warmup_steps=1)
NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def nova(cloud):
    return NovaClient(cloud.training_jobs(), output=cloud.output)


def send(nova, plan):
    """What a submit sends, without the SageMaker SDK: the plan's own objects."""
    nova.backend.resolve()
    nova._upload(plan, None)
    nova._record(plan)
    upload, request = plan.objects
    s3, sagemaker = nova.backend.aws.client("s3"), nova.backend.aws.client("sagemaker")
    s3.put_object(**{**upload, "Body": upload["Body"].encode()})
    sagemaker.create_training_job(**request)
    return nova.job(plan.ref)


def created(cloud):
    return [each.target for each in cloud.requests if each.operation == "CreateTrainingJob"]


# ------------------------------------------------------------------------------------------------ looking at jobs


def test_a_job_goes_through_its_states_to_a_checkpoint(cloud, clock, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    seen = []
    for _ in range(60):
        snapshot = job.status()
        if snapshot.status not in seen:
            seen.append(snapshot.status)
        clock.advance(0.5)
    assert seen == [JobStatus.PENDING, JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED]
    checkpoint = job.checkpoint()
    assert checkpoint.uri == f"s3://{cloud.cluster.training_escrow}/{job.name}/10"
    assert (checkpoint.platform, checkpoint.job) == (Platform.TRAINING_JOBS, job.ref)


def test_looking_needs_no_sagemaker_sdk(nova, chats):
    import sys

    job = send(nova, nova.plan(SFT, chats))
    before = "sagemaker" in sys.modules
    job.result()
    nova.backend.find_jobs()
    assert ("sagemaker" in sys.modules) is before


def test_a_checkpoint_starts_the_next_run_on_this_platform_only(cloud, nova, chats, pairs):
    taught = send(nova, nova.plan(SFT, chats)).result()
    plan = nova.plan(DPO.starting_from(taught), pairs)
    assert plan.objects[1]["HyperParameters"]["base_model_location"] == taught.uri
    assert send(nova, plan).result().technique is Technique.DPO
    elsewhere = NovaClient(cloud.hyperpod(), output=cloud.output)
    refused = elsewhere.plan(DPO.starting_from(taught), pairs)
    assert not refused.ok
    with pytest.raises(RecipeError, match="platform"):
        DPO.starting_from(taught, platform=Platform.HYPERPOD)
    theirs = Checkpoint(uri="s3://customer-escrow-1-hp-x/j/1", model=NovaModel.LITE, tuning=TuningKind.LORA)
    assert not nova.plan(DPO.starting_from(theirs), pairs).ok


def test_a_plan_makes_no_request(cloud, nova, chats):
    before = len(cloud.requests)
    text = str(nova.plan(SFT, chats))
    assert len(cloud.requests) == before
    assert "TrainingJobName" in text
    assert "recipes/" in text


def test_a_job_is_found_again_from_its_reference(cloud, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    assert job.ref == f"training-jobs://us-east-1/{job.name}"
    other = NovaClient(cloud.training_jobs(), output=cloud.output).job(job.ref)
    assert other.result().job == job.ref
    with pytest.raises(ConfigurationError, match="does not live here"):
        nova.job(job.ref.replace("us-east-1", "us-west-2"))


@pytest.mark.parametrize("ref", ["training-jobs://us-west-2/x", "hyperpod://us-east-1/research/kubeflow/x"])
def test_a_job_of_another_place_is_not_asked_for(cloud, nova, ref):
    parsed, backend = JobRef.parse(ref), nova.backend
    before = len(cloud.requests)
    for ask in (backend.snapshot, backend.cancel, backend.to_sagemaker, lambda each: backend.snapshots([each])):
        with pytest.raises(ConfigurationError, match="does not live here"):
            ask(parsed)
    assert len(cloud.requests) == before


def test_a_job_that_never_was_is_deleted_not_failed(nova):
    job = nova.job("training-jobs://us-east-1/no-such-job")
    assert job.status().status is JobStatus.DELETED
    job.cancel()


def test_cancel_stops_a_job_and_may_be_called_twice(clock, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    job.cancel()
    assert job.status().status is JobStatus.STOPPING
    job.cancel()
    clock.advance(5)
    snapshot = job.status()
    assert snapshot.status is JobStatus.STOPPED
    assert "plan.again()" in snapshot.next_step
    job.cancel()
    with pytest.raises(JobStoppedError, match="no checkpoint"):
        job.checkpoint()


def test_cancel_of_a_job_that_ends_meanwhile_is_no_error(cloud, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    cloud.faults.answer("StopTrainingJob", 400, code="ValidationException", message="the job is in status Completed")
    with pytest.raises(ServiceError):
        job.cancel()
    job.wait()
    job.cancel()


def test_the_maximum_runtime_is_named_as_the_reason(cloud, chats):
    short = NovaClient(cloud.training_jobs(options=TrainingJobOptions(max_runtime_seconds=5)), output=cloud.output)
    job = send(short, short.plan(SFT, chats))
    snapshot = job.wait()
    assert (snapshot.status, snapshot.reason) == (JobStatus.STOPPED, "MaxRuntimeExceeded")
    assert "longer than max_runtime_seconds allows" in snapshot.message
    assert "max_runtime_seconds" in snapshot.next_step
    with pytest.raises(JobStoppedError, match="max_runtime_seconds"):
        job.result()


def test_a_job_without_capacity_says_what_to_do(cloud, nova, chats):
    cloud.training.capacity_error()
    job = send(nova, nova.plan(SFT, chats))
    snapshot = job.wait()
    assert (snapshot.status, snapshot.reason) == (JobStatus.FAILED, "CapacityError")
    assert "another instance type" in snapshot.next_step
    with pytest.raises(JobFailedError, match="Unable to provision"):
        job.result()


def test_data_that_the_container_cannot_read_fails_in_its_own_words(nova, chats):
    plan = nova.plan(SFT, chats)
    job = send(nova, plan)
    nova.backend.aws.write(S3Uri.parse(plan.uploads[0].uri), b'{"messages": []}\n', content_type="application/json")
    snapshot = job.wait()
    assert (snapshot.status, snapshot.reason) == (JobStatus.FAILED, "AlgorithmError")
    assert "line 1" in snapshot.message
    assert "log" in snapshot.next_step


def test_data_that_is_gone_fails_the_download(nova, chats):
    plan = nova.plan(SFT, chats)
    job = send(nova, plan)
    place = S3Uri.parse(plan.uploads[0].uri)
    nova.backend.aws.client("s3").delete_object(Bucket=place.bucket, Key=place.key)
    snapshot = job.wait()
    assert (snapshot.status, snapshot.reason) == (JobStatus.FAILED, "ClientError")
    assert "data lies" in snapshot.next_step


# ------------------------------------------------------------------------------------------------ many jobs at once


def test_many_jobs_are_looked_at_for_the_price_of_a_page_each_hundred(cloud, nova, chats):
    cloud.training.quotas["ml.p5.48xlarge"] = 10_000
    base = nova.plan(SFT, chats)
    send(nova, base)
    sagemaker = nova.backend.aws.client("sagemaker")
    names = [f"fleet-{n:03d}" for n in range(130)]
    for name in names:
        sagemaker.create_training_job(**{**base.objects[1], "TrainingJobName": name})
    before = len(cloud.requests)
    refs = [nova.backend.ref(name) for name in [*names, "never-was"]]
    found = nova.backend.snapshots(refs)
    assert len(cloud.requests) - before == 2
    assert [found[ref].status for ref in refs] == [JobStatus.PENDING] * 130 + [JobStatus.DELETED]
    assert nova.backend.snapshots([]) == {}


def test_a_failed_job_in_a_list_still_gives_its_reason(cloud, clock, nova, chats):
    cloud.training.capacity_error()
    ref = JobRef.parse(send(nova, nova.plan(SFT, chats)).ref)
    clock.advance(60)
    assert nova.backend.snapshots([ref])[ref].reason == "CapacityError"


def test_jobs_are_found_by_their_tags(clock, nova, chats, pairs):
    first = send(nova, nova.plan(SFT, chats))
    clock.advance(60)
    second = send(nova, nova.plan(DPO, pairs))
    request = nova.plan(SFT, chats).objects[1]
    stranger = {key: value for key, value in request.items() if key != "Tags"}
    nova.backend.aws.client("sagemaker").create_training_job(**{**stranger, "TrainingJobName": "not-ours"})
    find = nova.backend.find_jobs
    assert [each.ref for each in find()] == [second.ref, first.ref]
    assert [each.ref for each in find(name="support-sft")] == [first.ref]
    assert [each.ref for each in find(technique=Technique.DPO)] == [second.ref]
    assert [each.ref for each in find(since=clock.now() - timedelta(seconds=30))] == [second.ref]


def test_following_many_jobs_ends_when_all_have_ended(cloud, clock, nova, chats, pairs):
    cloud.training.capacity_error()
    refs = [JobRef.parse(send(nova, nova.plan(*each)).ref) for each in ((SFT, chats), (DPO, pairs))]
    last = {}
    for snapshot in nova.backend.follow(refs, interval=5, timeout=3600):
        last[snapshot.ref] = snapshot.status
    assert [last[str(ref)] for ref in refs] == [JobStatus.FAILED, JobStatus.SUCCEEDED]
    clock.advance(1)
    assert len(list(nova.backend.follow(refs, interval=5, timeout=0))) == 2


# ------------------------------------------------------------------------------------------------ status


def described(first, second, **more):
    transitions = [{"Status": second, "StartTime": NOW, "StatusMessage": "so it is said"}]
    return {"TrainingJobStatus": first, "SecondaryStatus": second, "SecondaryStatusTransitions": transitions,
            "CreationTime": NOW, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("InProgress", "Pending", JobStatus.QUEUED),
        ("InProgress", "Starting", JobStatus.PENDING),
        ("InProgress", "LaunchingMLInstances", JobStatus.STARTING),
        ("InProgress", "PreparingTrainingStack", JobStatus.STARTING),
        ("InProgress", "Downloading", JobStatus.STARTING),
        ("InProgress", "DownloadingTrainingImage", JobStatus.STARTING),
        ("InProgress", "Training", JobStatus.RUNNING),
        ("InProgress", "Uploading", JobStatus.RUNNING),
        ("InProgress", "Updating", JobStatus.RUNNING),
        ("InProgress", "Restarting", JobStatus.RESTARTING),
        ("InProgress", "Interrupted", JobStatus.RESTARTING),
        ("InProgress", "MaxRuntimeExceeded", JobStatus.STOPPING),
        ("InProgress", "Completed", JobStatus.RUNNING),
        ("InProgress", "Failed", JobStatus.RUNNING),
        ("InProgress", "", JobStatus.PENDING),
        ("InProgress", "Meditating", JobStatus.UNKNOWN),
        ("Completed", "Completed", JobStatus.SUCCEEDED),
        ("Failed", "Failed", JobStatus.FAILED),
        ("Stopping", "Stopping", JobStatus.STOPPING),
        ("Stopping", "Meditating", JobStatus.STOPPING),
        ("Stopped", "Stopped", JobStatus.STOPPED),
        ("Stopped", "MaxRuntimeExceeded", JobStatus.STOPPED),
        ("Deleting", "Completed", JobStatus.STOPPING),
        ("Hibernating", "Training", JobStatus.UNKNOWN),
        ("", "", JobStatus.UNKNOWN),
    ],
)
def test_every_pair_of_statuses(first, second, status):
    snapshot = fold("ref", described(first, second), NOW)
    assert snapshot.status is status
    terminal = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
    assert snapshot.status.is_terminal is (status in terminal)


def test_every_word_of_the_service_model_is_known():
    import botocore.session

    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for
    for second in shape("SecondaryStatus").enum:
        assert fold("ref", described("InProgress", second), NOW).status is not JobStatus.UNKNOWN, second
    for first in shape("TrainingJobStatus").enum:
        assert fold("ref", described(first, first), NOW).status in JobStatus


def test_an_unknown_word_is_named_and_is_neither_failed_nor_over():
    snapshot = fold("ref", described("InProgress", "Meditating"), NOW)
    assert not snapshot.status.is_terminal
    assert "Meditating" in str(snapshot)


@pytest.mark.parametrize(
    ("reason", "code", "step"),
    [
        ("CapacityError: Unable to provision requested ML compute capacity.", "CapacityError", "another instance type"),
        ("AlgorithmError: ExecuteUserScriptError: CUDA out of memory, exit code: 1", "AlgorithmError", "max_length"),
        ("AlgorithmError: something broke, exit code: 1", "AlgorithmError", "log"),
        ("ClientError: Data download failed:NoSuchKey: s3://b/k", "ClientError", "data lies"),
        ("ClientError: no space left on device", "ClientError", "volume_gb"),
        ("ClientError: User: arn is not authorized to perform: s3:GetObject", "ClientError", "role"),
        ("ClientError: The KMS key is disabled", "ClientError", "KMS"),
        ("ResourceLimitExceeded: The account-level service limit", "ResourceLimitExceeded", "Service Quotas"),
        ("InternalServerError: We encountered an internal error. Please try again.", "InternalServerError", "AWS's"),
        ("AlgorithmError: Incompatible model training techniques detected", "AlgorithmError", "same tuning"),
        ("it just failed", "", "Mend what the message names"),
        ("", "", "Mend what the message names"),
    ],
)
def test_a_failure_reason_becomes_a_next_step(reason, code, step):
    snapshot = fold("ref", described("Failed", "Failed", FailureReason=reason), NOW)
    assert (snapshot.reason, snapshot.status) == (code, JobStatus.FAILED)
    assert step in snapshot.next_step
    assert "plan.again()" in snapshot.next_step


# ------------------------------------------------------------------------------------------------ the archive


def packed(*members, fmt=tarfile.PAX_FORMAT):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz", format=fmt) as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            if isinstance(body, bytes):
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
            else:
                info.type, info.linkname = body
                tar.addfile(info)
    return held.getvalue()


def read(body, *names, largest=1024):
    return {key: each.body for key, each in archives.find_members(io.BytesIO(body), names, largest=largest).items()}


MANIFEST = b'{"checkpoint_s3_bucket": "s3://customer-escrow-1-smtj-x/j/1"}'


def test_a_file_is_found_in_any_folder_and_the_one_nearest_to_the_root_counts():
    body = packed(("./deep/er/manifest.json", b"deep"), ("../../etc/passwd", b"x"), ("./manifest.json", MANIFEST))
    assert read(body, "manifest.json") == {"manifest.json": MANIFEST}
    assert (
        read(packed(("a/b/manifest.json", b"1"), ("a/manifest.json", b"2")), "manifest.json")["manifest.json"] == b"2"
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_never_the_file(kind):
    assert read(packed(("manifest.json", (kind, "/etc/passwd"))), "manifest.json") == {}


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read(fmt):
    name = f"{'f' * 90}/{'g' * 90}/{'h' * 90}/manifest.json"
    assert read(packed((name, MANIFEST), fmt=fmt), "manifest.json") == {"manifest.json": MANIFEST}


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_long_name_is_of_one_member_only(fmt):
    body = packed((f"{'f' * 200}/x.csv", b"1"), ("manifest.json", MANIFEST), fmt=fmt)
    assert read(body, "manifest.json") == {"manifest.json": MANIFEST}


def test_a_file_that_is_too_long_is_passed_over():
    assert read(packed(("manifest.json", b"x" * 2000)), "manifest.json") == {}


def test_a_bomb_ends_early_and_in_little_memory(monkeypatch):
    import tracemalloc

    info = tarfile.TarInfo("bomb")
    info.size = 200 * 1024 * 1024
    held = io.BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb", compresslevel=1) as out:
        out.write(info.tobuf())
        for _ in range(40):
            out.write(bytes(5 * 1024 * 1024))
    monkeypatch.setattr(archives, "UNPACKED", 50 * 1024 * 1024)
    tracemalloc.start()
    with pytest.raises(archives.ArchiveError, match="unpacks to more"):
        read(held.getvalue(), "manifest.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read():
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 * 1024**3
    with pytest.raises(archives.ArchiveError, match="headers has"):
        read(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)), "manifest.json")


def test_too_many_members_are_not_counted_to_the_end(monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 10)
    with pytest.raises(archives.ArchiveError, match="more than 10 members"):
        read(packed(*((f"f{n}", b"") for n in range(20))), "manifest.json")


@pytest.mark.parametrize("body", [b"", b"not gzip", packed(("manifest.json", MANIFEST))[:60], gzip.compress(b"short")])
def test_what_is_no_archive_is_an_archive_error(body):
    with pytest.raises(archives.ArchiveError):
        read(body, "manifest.json")


def raw(*blocks):
    """An archive of hand-made blocks."""
    return gzip.compress(b"".join(blocks) + bytes(1024))


def header(name="x", size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def block(body):
    return body + bytes(-len(body) % 512)


def record(key, value):
    text = f" {key}={value}\n".encode()
    length = len(text) + len(str(len(text) + 2))
    return str(length).encode() + text


@pytest.mark.parametrize("name", ["/manifest.json", "../../manifest.json", "a/../manifest.json", "./manifest.json"])
def test_a_path_is_compared_and_never_opened(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.parent.rglob("*"))
    assert read(packed((name, MANIFEST)), "manifest.json") == {"manifest.json": MANIFEST}
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["manifest.json.exe", "xmanifest.json", "manifest.json/", "MANIFEST.JSON", "manifest.json "]
)
def test_a_name_that_only_looks_like_it_is_not_it(name):
    assert read(packed((name, MANIFEST)), "manifest.json") == {}


def test_the_first_of_two_files_of_the_same_name_counts():
    assert read(packed(("manifest.json", b"1"), ("manifest.json", b"2")), "manifest.json")["manifest.json"] == b"1"


def test_what_lies_inside_another_file_is_not_read_as_a_member():
    hidden = header("manifest.json", 3) + block(b"bad")
    for kind in (tarfile.REGTYPE, b"Z", tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE):
        body = raw(header("cover", len(hidden), kind), hidden, header("manifest.json", len(MANIFEST)), block(MANIFEST))
        assert read(body, "manifest.json") == {"manifest.json": MANIFEST}, kind


def test_a_link_that_claims_a_size_hides_nothing():
    body = raw(header("manifest.json", 10**6, tarfile.SYMTYPE), header("manifest.json", len(MANIFEST)), block(MANIFEST))
    assert read(body, "manifest.json") == {"manifest.json": MANIFEST}


def test_a_negative_size_is_refused():
    odd = bytearray(header("x"))
    odd[124:136] = b"\xff" * 12  # -1 in base 256
    odd[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(odd))[0]
    with pytest.raises(archives.ArchiveError, match="claims -1 bytes"):
        read(raw(bytes(odd)), "manifest.json")


def test_the_size_of_an_extended_header_counts():
    told = record("size", 3)
    body = raw(header("h", len(told), tarfile.XHDTYPE), block(told), header("manifest.json"), block(b"yes"))
    assert read(body, "manifest.json") == {"manifest.json": b"yes"}


def test_a_sparse_file_is_never_the_file():
    told = record("GNU.sparse.realsize", 10**12) + record("GNU.sparse.name", "manifest.json")
    body = raw(header("h", len(told), tarfile.XHDTYPE), block(told), header("manifest.json", 3), block(b"bad"))
    assert read(body, "manifest.json") == {}


@pytest.mark.parametrize("told", [b"9999999 path=x\n", b"0 path=x\n", b"x", b"5 a=b\n", b"\xff\xff 1", b" " * 600])
def test_a_torn_extended_header_says_nothing(told):
    body = raw(header("h", len(told), tarfile.XHDTYPE), block(told), header("manifest.json", 2), block(b"{}"))
    assert read(body, "manifest.json") == {"manifest.json": b"{}"}


def test_a_wrong_checksum_is_no_archive():
    odd = bytearray(header("manifest.json", 2))
    odd[0] ^= 1
    with pytest.raises(archives.ArchiveError):
        read(raw(bytes(odd), block(b"{}")), "manifest.json")


def test_a_file_that_ends_too_soon_is_an_archive_error():
    with pytest.raises(archives.ArchiveError, match="ends after"):
        read(gzip.compress(header("manifest.json", 900) + b"short"), "manifest.json")


def test_bytes_changed_at_random_are_an_archive_error_or_nothing():
    import random

    chosen = random.Random(7)  # noqa: S311 - not a secret
    whole = packed(("a/other.csv", b"1,2\n" * 300), ("manifest.json", MANIFEST))
    for _ in range(600):
        body = bytearray(gzip.decompress(whole) if chosen.random() < 0.5 else whole)
        is_packed = body[:2] == b"\x1f\x8b"
        for _ in range(chosen.randint(1, 4)):
            body[chosen.randrange(len(body))] = chosen.randrange(256)
        try:
            found = read(bytes(body) if is_packed else gzip.compress(bytes(body)), "manifest.json")
        except archives.ArchiveError:
            continue
        assert all(len(each) <= 1024 for each in found.values())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not gzip", "no manifest can be read"),
        (packed(("other.json", b"{}")), r"holds no manifest\.json"),
        (packed(("manifest.json", b"{}")), "names no checkpoint"),
        (packed(("manifest.json", b'{"checkpoint_s3_bucket": "relative/path"}')), "must not be guessed"),
    ],
)
def test_an_archive_that_says_nothing_is_never_made_up_for(nova, chats, body, says):
    job = send(nova, nova.plan(SFT, chats))
    job.wait()
    place = nova.output.join(job.name, "output", "output.tar.gz")
    nova.backend.aws.write(place, body, content_type="application/gzip")
    with pytest.raises(CheckpointError, match=says):
        job.checkpoint()


def test_the_serverless_layout_is_read_too(nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    job.wait()
    place = nova.output.join(job.name, "output", "output", "manifest.json")
    nova.backend.aws.write(place, MANIFEST, content_type="application/json")
    assert job.checkpoint().uri == "s3://customer-escrow-1-smtj-x/j/1"


def test_the_archive_s_metrics_are_rows_and_a_picture(nova, chats, tmp_path):
    job = send(nova, nova.plan(SFT, chats))
    job.wait()
    ref = JobRef.parse(job.ref)
    rows = nova.backend.saved_metrics(ref, nova.output)
    assert [row.step for row in rows] == list(range(1, 11))
    assert rows[-1].loss < rows[0].loss
    assert rows[-1].values["validation_loss"] > rows[-1].loss
    assert list(job.saved_metrics()) == list(rows)
    assert job.saved_metrics().plot(tmp_path / "loss.png").stat().st_size > 10_000
    place = nova.output.join(job.name, "output", "output.tar.gz")
    odd = b"step_number,training_loss,note\n1,0.5,x\n2,nan-ish,\n,0.1,\n3,inf,7\n"
    nova.backend.aws.write(place, packed(("a/step_wise_training_metrics.csv", odd)), content_type="application/gzip")
    rows = nova.backend.saved_metrics(ref, nova.output)
    assert [(row.step, row.loss) for row in rows] == [(1, 0.5), (2, None), (None, 0.1), (3, float("inf"))]
    assert rows[3].values == {"training_loss": float("inf"), "note": 7.0}


def test_metrics_of_an_archive_that_is_not_there_are_not_found(nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    with pytest.raises(NotFoundError, match="no archive"):
        nova.backend.saved_metrics(JobRef.parse(job.ref), nova.output)


# ------------------------------------------------------------------------------------------------ logs


def test_logs_are_merged_over_the_hosts(clock, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    with pytest.raises(JobNotFinishedError, match="no log lines yet"):
        job.logs()
    job.wait()
    clock.advance(60)
    lines = list(job.logs())
    assert {line.node for line in lines} == {"algo-1", "algo-2", "algo-3", "algo-4"}
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert lines[0].text.startswith("Starting SFT Job")
    assert {line.node for line in job.logs(node="algo-2")} == {"algo-2"}
    assert "TrainingJobs" in job.logs().source


@pytest.mark.parametrize("follow", [False, True])
def test_a_host_that_the_job_does_not_have_is_refused_with_those_it_has(clock, nova, chats, follow):
    job = send(nova, nova.plan(SFT, chats))
    told = r"node='algo-5' is no host of support-sft-\w+: algo-1, algo-2, algo-3, algo-4\."
    with pytest.raises(ConfigurationError, match=told):
        job.logs(node="algo-5", follow=follow)
    with pytest.raises(JobNotFinishedError, match="no log lines yet"):
        job.logs(node="algo-4")
    job.wait()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=told):
            job.logs(node="algo-5", follow=follow)
        clock.advance(3600)


def test_a_followed_log_gives_every_line_once_and_ends_with_the_job(nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    lines = list(job.logs(follow=True))
    assert len(lines) == len(set(lines)) == len(list(job.logs()))
    assert sum("completed" in line.text for line in lines) == 4


def test_a_log_shows_its_metrics(clock, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    job.wait()
    clock.advance(60)
    rows = job.metrics()
    assert [row.step for row in rows] == list(range(1, 11))
    assert rows[-1].loss < rows[0].loss


def test_a_job_that_waits_for_long_has_no_log_yet(clock, chats):
    with LocalCloud(clock, script=Script(noticing=7200)) as slow:
        nova = NovaClient(slow.training_jobs(), output=slow.output)
        job = send(nova, nova.plan(SFT, chats))
        clock.advance(3600)
        with pytest.raises(JobNotFinishedError, match="no log lines yet"):
            job.logs()


def test_a_job_that_never_ran_has_no_log(cloud, clock, nova, chats):
    cloud.training.capacity_error()
    job = send(nova, nova.plan(SFT, chats))
    job.wait()
    clock.advance(3600)
    with pytest.raises(NotFoundError, match="never ran"):
        job.logs()


# ------------------------------------------------------------------------------------------------ preflight


def answers(nova, plan):
    return {check.question: check for check in nova.check(plan).checks}


def test_a_preflight_asks_everything_and_sends_no_job(cloud, nova, chats):
    found = answers(nova, nova.plan(SFT, chats))
    assert {name for name, check in found.items() if check.state == "error"} <= {"sagemaker sdk"}
    assert found["image"].state == "warning"  # the registry is AWS's own and may not be looked at
    assert "64 ml.p5.48xlarge" in found["quota"].answer
    assert created(cloud) == []


def test_an_image_that_may_be_looked_at_is_looked_at(cloud, chats):
    cloud.training.images = True
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    assert answers(nova, nova.plan(SFT, chats))["image"].state == "ok"
    own = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    nova = NovaClient(cloud.training_jobs(options=TrainingJobOptions(image=own)), output=cloud.output)
    assert [each.code for each in answers(nova, nova.plan(SFT, chats))["image"].findings] == ["image-missing"]


def test_a_role_that_is_missing_or_trusts_nobody_stops_a_submit(cloud, chats):
    roles = {"gone": "role-missing", "untrusting": "role-not-trusting"}
    cloud.training.roles["arn:aws:iam::123456789012:role/untrusting"] = False
    for name, code in roles.items():
        backend = cloud.training_jobs(role=f"arn:aws:iam::123456789012:role/{name}")
        nova = NovaClient(backend, output=cloud.output)
        assert [each.code for each in answers(nova, nova.plan(SFT, chats))["role"].findings] == [code]


def test_a_role_of_another_account_is_refused(cloud, chats):
    nova = NovaClient(cloud.training_jobs(role="arn:aws:iam::210987654321:role/x"), output=cloud.output)
    assert [each.code for each in answers(nova, nova.plan(SFT, chats))["identity"].findings] == ["account-differs"]


def test_a_quota_that_is_too_small_stops_a_submit(cloud, nova, chats):
    cloud.training.quotas["ml.p5.48xlarge"] = 2
    check = answers(nova, nova.plan(SFT, chats))["quota"]
    assert check.state == "error"
    assert "Service Quotas" in check.findings[0].fix


def test_a_quota_that_is_not_listed_is_a_warning(cloud, nova, chats):
    cloud.faults.answer("ListServiceQuotas", 400, code="AccessDeniedException", times=2)
    assert answers(nova, nova.plan(SFT, chats))["quota"].state == "warning"


@pytest.mark.parametrize(("may_pass", "state"), [(True, "ok"), (False, "warning"), (None, "warning")])
def test_passing_the_role_is_simulated(cloud, nova, chats, may_pass, state):
    cloud.training.may_pass = may_pass
    assert answers(nova, nova.plan(SFT, chats))["pass role"].state == state


@pytest.mark.parametrize(
    ("operation", "question"),
    [
        ("GetRole", "role"),
        ("SimulatePrincipalPolicy", "pass role"),
        ("ListServiceQuotas", "quota"),
        ("DescribeImages", "image"),
        ("HeadBucket", "output bucket"),
    ],
)
def test_a_question_that_may_not_be_asked_is_a_warning_and_stops_nobody(cloud, nova, chats, operation, question):
    cloud.faults.answer(operation, 403, code="AccessDenied", times=9)
    found = answers(nova, nova.plan(SFT, chats))
    assert found[question].state == "warning"
    assert {name for name, check in found.items() if check.state == "error"} <= {"sagemaker sdk"}


def test_subnets_are_looked_up(cloud, chats):
    ec2 = cloud.session().client("ec2", region_name="us-east-1")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    torn = ec2.create_security_group(
        GroupName="t", Description="d", VpcId=ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    )["GroupId"]
    for subnets, groups, codes in (
        ((subnet,), (group,), []),
        ((subnet,), (torn,), ["network-torn"]),
        (("subnet-0123456789",), (group,), ["network-missing"]),
    ):
        options = TrainingJobOptions(subnets=subnets, security_groups=groups)
        nova = NovaClient(cloud.training_jobs(options=options), output=cloud.output)
        check = answers(nova, nova.plan(SFT, chats))["network"]
        assert [each.code for each in check.findings] == codes, check


def test_another_run_s_name_is_refused_before_anything_is_sent(nova, chats):
    plan = nova.plan(SFT, chats)
    theirs = {**plan.objects[1], "Tags": [{"Key": "nova-dpo-sdk/digest", "Value": "0" * 64}]}
    nova.backend.aws.client("sagemaker").create_training_job(**theirs)
    assert [each.code for each in answers(nova, plan)["job name"].findings] == ["job-name-taken"]
    with pytest.raises(PlanRejectedError, match="another run's"):
        nova.submit(plan)
    with pytest.raises(ConfigurationError, match="is another run"):
        nova.submit(plan, check=False)


# ------------------------------------------------------------------------------------------------ exactly once


def test_the_very_same_run_is_adopted(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    send(nova, plan)
    job = nova.submit(plan, check=False)
    assert job.adopted
    assert created(cloud) == [plan.name]


def test_without_the_right_to_read_tags_a_run_is_known_by_what_it_reads(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    send(nova, plan)
    cloud.faults.answer("ListTags", 400, code="AccessDeniedException", times=9)
    assert nova.submit(plan, check=False).adopted
    other = {**plan.objects[1], "HyperParameters": {"base_model": "nova-pro/prod"}}
    assert not nova.backend.is_same_run(
        plan, {**other, "TrainingJobArn": "arn:aws:sagemaker:us-east-1:1:training-job/x"}
    )


def test_a_finished_run_is_adopted_and_not_trained_again(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    before = send(nova, plan).result()
    again = nova.submit(plan, check=False)
    assert again.adopted
    assert again.result() == before
    assert created(cloud) == [plan.name]


def test_a_failed_or_stopped_run_is_not_adopted_and_names_the_next_attempt(cloud, clock, nova, chats, pairs):
    cloud.training.capacity_error()
    failed, stopped = nova.plan(SFT, chats), nova.plan(DPO, pairs)
    send(nova, failed).wait()
    with pytest.raises(JobFailedError, match=r"plan\.again\(\)") as error:
        nova.submit(failed, check=False)
    assert error.value.snapshot.reason == "CapacityError"
    job = send(nova, stopped)
    job.cancel()
    for _ in range(2):
        with pytest.raises(JobStoppedError, match=r"plan\.again\(\)"):
            nova.submit(stopped, check=False)
        clock.advance(60)
    assert failed.again().name != failed.name


@without_sdk
def test_without_the_sdk_a_submit_says_how_to_install_it(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    with pytest.raises(PlanRejectedError, match=r"nova-dpo-sdk\[sagemaker\]"):
        nova.submit(plan)
    with pytest.raises(ConfigurationError, match=r"nova-dpo-sdk\[sagemaker\]"):
        nova.submit(plan, check=False)
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        nova.backend.to_sagemaker(JobRef.parse(send(nova, nova.plan(SFT, chats, attempt=2)).ref))
    assert created(cloud) == [nova.plan(SFT, chats, attempt=2).name]


# ------------------------------------------------------------------------------------------------ through the SDK


@needs_sdk
def test_sft_then_dpo_through_the_sdk(nova, chats, pairs):
    taught = nova.submit(nova.plan(SFT, chats)).result()
    plan = nova.plan(DPO.starting_from(taught), pairs)
    aligned = nova.submit(plan).result()
    assert plan.name in aligned.uri
    sent = yaml.safe_load(nova.backend.aws.read(nova.output.join("plans", plan.name, "recipe.yaml")).body)
    assert sent["run"]["model_name_or_path"] == taught.uri


@needs_sdk
def test_what_was_printed_is_what_was_sent(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    upload, request = plan.objects
    assert cloud.training._jobs[plan.name].request == request
    assert nova.backend.aws.read(S3Uri(upload["Bucket"], upload["Key"])).body.decode() == upload["Body"]
    assert json.loads(nova.backend.aws.read(plan.folder.join("plan.json")).body)["objects"] == [upload, request]


@needs_sdk
def test_what_is_zero_or_false_is_left_out_as_the_sdk_leaves_it_out(cloud, chats):
    off = TrainingJobOptions(warm_pool_seconds=0, network_isolation=False)
    nova = NovaClient(cloud.training_jobs(options=off), output=cloud.output)
    plan = nova.plan(SFT, chats)
    nova.submit(plan)
    assert "KeepAlivePeriodInSeconds" not in cloud.training._jobs[plan.name].request["ResourceConfig"]


@needs_sdk
def test_a_lost_answer_does_not_create_a_second_job(cloud, nova, chats):
    cloud.faults.hang_up("CreateTrainingJob", after=True)
    plan = nova.plan(SFT, chats)
    job = nova.submit(plan)
    assert job.adopted  # the first try had arrived; the second found the name in use, with our digest
    assert list(cloud.training._jobs) == [plan.name]


@needs_sdk
def test_a_race_for_one_name_ends_with_one_job(cloud, nova, chats):
    plan = nova.plan(SFT, chats)
    cloud.faults.answer("DescribeTrainingJob", 400, code="ValidationException", message="Requested resource not found.")
    send(nova, plan)
    assert nova.submit(plan, check=False).adopted
    assert list(cloud.training._jobs) == [plan.name]


@needs_sdk
def test_a_refusal_of_sagemaker_is_an_error_of_ours(cloud, nova, chats):
    cloud.faults.answer("CreateTrainingJob", 400, code="ResourceLimitExceeded", message="the limit is 0 Instances")
    with pytest.raises(ServiceError, match="Service Quotas") as error:
        nova.submit(nova.plan(SFT, chats), check=False)
    assert error.value.code == "ResourceLimitExceeded"
    cloud.faults.answer(
        "CreateTrainingJob", 400, code="AccessDeniedException", message="no sagemaker:CreateTrainingJob"
    )
    with pytest.raises(AccessDeniedError):
        nova.submit(nova.plan(SFT, chats), check=False)


@needs_sdk
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ResourceConfig": {"InstanceType": "ml.p5.48xlarge", "Instances": 4}}, "refuses ResourceConfig"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": "a day"}}, "refuses StoppingCondition"),
        ({"QuantumConfig": {"Qubits": 3}}, "does not know QuantumConfig"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://b/k", "KmsKeyId": None}}, "would change OutputDataConfig"),
    ],
)
def test_a_request_that_the_sdk_would_not_send_as_it_is_is_not_sent(cloud, nova, chats, change, says):
    plan = nova.plan(SFT, chats)
    odd = dataclasses.replace(plan, objects=(plan.objects[0], {**plan.objects[1], **change}))
    with pytest.raises(ConfigurationError, match=says):
        nova.backend.submit(odd)
    assert created(cloud) == []


@needs_sdk
def test_the_sdk_s_own_training_job_is_handed_out(nova, chats):
    job = nova.submit(nova.plan(SFT, chats))
    ref = JobRef.parse(job.ref)
    assert nova.backend.to_sagemaker(ref).training_job_name == job.name
    assert job.to_sagemaker().training_job_name == job.name
    with pytest.raises(NotFoundError):
        nova.backend.to_sagemaker(nova.backend.ref("no-such-job"))


@needs_sdk
def test_a_session_of_the_sdk_is_taken_too(cloud, chats):
    from sagemaker.core.helper.session_helper import Session

    theirs = Session(boto_session=cloud.session(), default_bucket=cloud.bucket)
    nova = NovaClient(cloud.training_jobs(session=theirs), output=cloud.output)
    assert nova.submit(nova.plan(SFT, chats)).result().uri


@needs_sdk
def test_two_sessions_in_one_process_do_not_meet(cloud, clock, chats):
    with LocalCloud(clock, account="210987654321", bucket="acme-2", script=Script()) as other:
        for each in (cloud, other):
            nova = NovaClient(each.training_jobs(), output=each.output)
            nova.submit(nova.plan(SFT, chats))
        assert len(cloud.training._jobs) == len(other.training._jobs) == 1


@needs_sdk
def test_a_chain_runs_here_as_everywhere(nova, chats, pairs):
    chain = nova.chain("support-tone")
    taught = chain.run("sft", SFT, chats)
    aligned = chain.run("dpo", DPO.starting_from(taught), pairs)
    assert nova.chain("support-tone").run("dpo", DPO.starting_from(taught), pairs) == aligned


def test_importing_the_backend_loads_no_sagemaker():
    import subprocess
    import sys

    code = (
        "import sys; from nova_dpo_sdk import TrainingJobBackend, NovaClient; "
        "NovaClient(TrainingJobBackend('arn:aws:iam::123456789012:role/x', region='us-east-1'), output='s3://bucket/x'); "
        "print([m for m in ('boto3', 'sagemaker', 'moto') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HYPERPOD_RUN = """
import sys
from pathlib import Path
import nova_dpo_sdk
from nova_dpo_sdk import DPORecipe, NovaClient, NovaModel, PreferenceDataset, SFTRecipe, ChatDataset
from nova_dpo_sdk.local import FakeClock, LocalCloud

def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules} & {"sagemaker", "pandas", "scipy"})

seen = [loaded()]
samples = Path(nova_dpo_sdk.__file__).parent / "local" / "samples"
with LocalCloud(clock=FakeClock()) as cloud:
    nova = NovaClient(cloud.hyperpod(), output=cloud.output)
    sft = SFTRecipe(name="sft", model=NovaModel.LITE, global_batch_size=16, warmup_steps=1)
    job = nova.submit(nova.plan(sft, ChatDataset.from_jsonl(samples / "chats.jsonl")))
    taught = job.result()
    list(nova.watch([job]))
    dpo = DPORecipe(name="dpo", model=NovaModel.LITE, global_batch_size=16, warmup_steps=1).starting_from(taught)
    nova.submit(nova.plan(dpo, PreferenceDataset.from_jsonl(samples / "preferences.jsonl"))).result()
    seen.append(loaded())
    tried = NovaClient(cloud.training_jobs(), output=cloud.output)
    plan = tried.plan(sft, ChatDataset.from_jsonl(samples / "chats.jsonl"))
    tried.check(plan)
    tried.job(plan.ref).status()
    tried.backend.find_jobs()
    seen.append(loaded())
print(seen)
"""


def test_hyperpod_and_looking_at_jobs_load_nothing_of_the_sagemaker_sdk():
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", HYPERPOD_RUN], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[[], [], []]"


def test_a_backend_shows_no_secret():
    assert repr(TrainingJobBackend("arn:aws:iam::123456789012:role/x", region="us-east-1")) == (
        "TrainingJobBackend('arn:aws:iam::123456789012:role/x', instance_type='ml.p5.48xlarge')"
    )


def test_looking_at_jobs_needs_no_role_but_a_plan_does(cloud, nova, chats):
    job = send(nova, nova.plan(SFT, chats))
    looking = NovaClient(cloud.training_jobs(role=None), output=cloud.output)
    assert looking.job(job.ref).result().job == job.ref
    plan = looking.plan(SFT, chats)
    assert "role-missing" in {each.code for each in plan.errors}
    assert plan.objects == ()
    with pytest.raises(PlanRejectedError, match="role"):
        looking.submit(plan)

"""Images in S3 that a run could not read: said by the plan, asked by the check, and what ends a rehearsed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import changed, chat, document, image, pair, put, video, write
from test_images import jpeg, placed, png, shows

from nova_dpo_sdk import ChatDataset, DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset
from nova_dpo_sdk.backends._media import media_check
from nova_dpo_sdk.datasets import MediaPlace
from nova_dpo_sdk.datasets._media import MOST_PLACES, Places
from nova_dpo_sdk.errors import JobFailedError, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from nova_dpo_sdk.local import LocalCloud

DPO = DPORecipe(name="eyes", model=NovaModel.LITE, tuning=LoRA(), replicas=4, warmup_steps=1, global_batch_size=16)
MINE, OTHER = "123456789012", "999988887777"
M = "messages"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pairs.jsonl"


def seen(uri: str, owner: str | None = MINE) -> dict[str, Any]:
    item = image(uri)
    location = item["image"]["source"]["s3Location"]
    location.update(bucketOwner=owner)
    if owner is None:
        del location["bucketOwner"]
    return item


def showing(number: int, *items: dict[str, Any]) -> dict[str, Any]:
    return changed(pair(f"What is {number}?"), *(put(item, M, 2, "content", n + 1) for n, item in enumerate(items)))


def pairs(file: Path, *items: dict[str, Any], count: int = 70) -> PreferenceDataset:
    return PreferenceDataset.from_jsonl(write(file, *(showing(number, *items) for number in range(count))))


def client(cloud: LocalCloud, **options: Any) -> NovaClient:
    return NovaClient(cloud.hyperpod(**options), output=cloud.output)


def found(nova: NovaClient, data: PreferenceDataset, **more: Any) -> dict[str, Any]:
    return {each.code: each for each in nova.plan(DPO, data, **more).findings if each.code.startswith("media")}


def asked(nova: NovaClient, data: PreferenceDataset) -> Any:
    """The answer about media, whatever the plan itself says."""
    nova.backend.resolve()
    return media_check(nova.backend.aws, nova.plan(DPO, data))


def picture(cloud: LocalCloud, key: str, bucket: str = "") -> str:
    cloud.session().client("s3").put_object(Bucket=bucket or cloud.bucket, Key=key, Body=png())
    return f"s3://{bucket or cloud.bucket}/{key}"


# ---------------------------------------------------------------------------------------------- the report


def test_a_report_tells_where_the_media_lie(file: Path) -> None:
    here, there, nobody = seen("s3://here/a.png"), seen("s3://there/x/b.png", OTHER), seen("s3://here/c.png", None)
    broken = showing(9, seen("s3://lost/d.png", "me"))
    rows = [showing(1, here, here), pair("no media"), showing(2, here, there), broken, showing(3, nobody), pair("none")]
    report = PreferenceDataset.from_jsonl(write(file, *rows)).report()
    assert report.media == (
        MediaPlace("here", MINE, 2, "s3://here/a.png"),
        MediaPlace("there", OTHER, 1, "s3://there/x/b.png"),
        MediaPlace("here", "", 1, "s3://here/c.png"),
    )
    assert not report.more_media
    assert report.summary()["media"][1] == {
        "bucket": "there", "owner": OTHER, "records": 1, "example": "s3://there/x/b.png"
    }  # fmt: skip


def test_videos_and_documents_are_media_too(file: Path) -> None:
    for item in (video("s3://films/a.mp4"), document("s3://papers/a.pdf")):
        rows = changed(chat(), put(item, M, 0, "content", 1))
        (place,) = ChatDataset.from_jsonl(write(file, rows), nova2=True).report().media
        assert (place.bucket, place.owner) == (place.example.split("/")[2], "111122223333")


@pytest.mark.parametrize("workers", [2, 3])
def test_places_are_the_same_however_they_are_found(file: Path, workers: int) -> None:
    rows: list[Any] = [pair(f"Question {number}? " + "word " * 500) for number in range(2000)]
    for number in range(10, 2000, 7):
        item = seen(f"s3://bucket-{number % 5}/{number}.png", (MINE, OTHER, None)[number % 3])
        rows[number] = changed(
            rows[number], put(item, M, 2, "content", 1), put(1, *(["odd"] if number % 2 else [M, 0, "odd"]))
        )
    rows[500:900:2] = [
        changed(showing(n, seen("s3://clean/a.png")), put("word " * 300, M, 0, "content", 0, "text"))
        for n in range(200)
    ]
    data = PreferenceDataset.from_jsonl(write(file, *rows))
    alone = data.report(workers=1)
    assert len(alone.media) == 16
    assert data.report(workers=workers) == alone
    file.write_bytes(
        b"".join(each + b" \n" for each in file.read_bytes().splitlines())
    )  # no line as the quick look likes it
    assert data.report(workers=1).media == alone.media


def test_places_are_kept_within_bounds(file: Path) -> None:
    rows = [showing(number, seen(f"s3://bucket-{number}/a.png")) for number in range(MOST_PLACES)]
    data = PreferenceDataset.from_jsonl(write(file, *rows))
    assert (len(data.report().media), data.report().more_media) == (MOST_PLACES, False)
    write(file, *rows, showing(0, seen("s3://one-more/a.png")), rows[3])
    assert (len(data.report().media), data.report().more_media) == (MOST_PLACES, True)
    assert data.report().media[3].records == 2
    parts = [Places(), Places()]
    for number, part in enumerate(parts):
        for place in range(MOST_PLACES + number):
            part.add(((f"s3://bucket-{place}/a.png", MINE),))
    parts[0].merge(parts[1])
    assert parts[0].more
    assert {each.records for each in parts[0].kept()} == {2}


def test_a_plan_says_that_some_places_are_not_looked_at(file: Path, nova: NovaClient) -> None:
    rows = [showing(number, seen(f"s3://bucket-{number}/a.png")) for number in range(MOST_PLACES + 1)]
    data = PreferenceDataset.from_jsonl(write(file, *rows))
    assert found(nova, data)["media-in-many-places"].severity is Severity.NOTE


# ---------------------------------------------------------------------------------------------- the plan


def test_media_of_another_account_stop_the_plan(file: Path, cloud: LocalCloud) -> None:
    data = pairs(file, seen("s3://theirs/a.png", OTHER), seen("s3://more/b.png", OTHER), count=1000)
    told = found(client(cloud, account=MINE), data)
    assert told.keys() == {"media-of-another-account"}
    text = str(told["media-of-another-account"])
    for words in (
        "1,000 records",
        "s3://theirs ",
        OTHER,
        "s3://theirs/a.png",
        MINE,
        "s3://more",
        "Copy",
        "source: AWS",
    ):
        assert words in text
    fine = pairs(file.with_name("fine.jsonl"), seen("s3://ours/c.png"))
    for training, validation in ((fine, data), (data, fine)):
        assert found(client(cloud, account=MINE), training, validation=validation).keys() == told.keys()
    (both,) = found(client(cloud, account=MINE), data, validation=data).values()
    assert "In 2,000 records" in both.message
    assert "The same of 1 other place: s3://more of" in both.message


def test_the_role_of_a_training_job_tells_its_account(file: Path, cloud: LocalCloud) -> None:
    nova = NovaClient(cloud.training_jobs(), output=cloud.output)
    assert nova.backend.aws.known_account is None
    assert found(nova, pairs(file, seen("s3://theirs/a.png", OTHER))).keys() == {"media-of-another-account"}


def test_an_account_that_is_not_known_yet_is_a_warning_and_several_are_an_error(file: Path, nova: NovaClient) -> None:
    theirs = seen("s3://theirs/a.png", OTHER)
    (one,) = found(nova, pairs(file, theirs)).values()
    assert (one.code, one.severity) == ("media-owner-unknown", Severity.WARNING)
    assert not found(nova, pairs(file, theirs), allow=["media-owner-unknown"])
    (several,) = found(nova, pairs(file, theirs, seen("s3://ours/b.png"))).values()
    assert (several.code, several.severity) == ("media-of-several-accounts", Severity.ERROR)
    assert f"s3://ours of {MINE}" in several.message
    nova.backend.resolve()
    assert found(nova, pairs(file, theirs)).keys() == {"media-of-another-account"}


# ---------------------------------------------------------------------------------------------- the check


def test_every_bucket_with_media_is_asked_about(file: Path, cloud: LocalCloud, nova: NovaClient) -> None:
    cloud.add_bucket("acme-west", region="us-west-2")
    there = picture(cloud, "pictures/a.png")
    assert asked(nova, pairs(file, seen(there))).state == "ok"
    gone = there.replace("a.png", "b.png")
    answer = asked(
        nova, pairs(file, seen("s3://nobody-has-this/a.png"), seen("s3://acme-west/a.png"), seen(gone, None))
    )
    assert [each.code for each in answer.findings] == ["media-bucket-unusable"] * 2 + ["media-missing"]
    missing, west, lost = (each.message for each in answer.findings)
    assert "s3://nobody-has-this" in missing
    assert "us-west-2" in west
    assert f"{gone}, the first of them, does not exist" in lost
    assert all(each.is_error for each in answer.findings)


@pytest.mark.parametrize("platform", ["hyperpod", "training_jobs"])
def test_a_check_asks_about_media_and_stops_at_what_is_missing(file: Path, cloud: LocalCloud, platform: str) -> None:
    nova = NovaClient(getattr(cloud, platform)(), output=cloud.output)
    data = pairs(file, seen(f"s3://{cloud.bucket}/lost.png"))
    plan = nova.plan(DPO, data)
    assert plan.ok, plan
    (missing,) = [each for each in nova.check(plan).errors if each.code.startswith("media")]
    assert missing.code == "media-missing"
    assert "media" not in {each.question for each in nova.check(nova.plan(DPO, pairs(file))).checks}


def test_an_owner_that_only_the_check_can_compare_is_compared(file: Path, cloud: LocalCloud, nova: NovaClient) -> None:
    data = pairs(file, seen(picture(cloud, "a.png"), OTHER))
    plan = nova.plan(DPO, data)
    assert plan.ok
    assert "media-of-another-account" in {each.code for each in nova.check(plan).errors}


@pytest.mark.parametrize("operation", ["HeadBucket", "HeadObject"])
def test_who_may_not_look_is_warned_and_not_stopped(
    file: Path, cloud: LocalCloud, nova: NovaClient, operation: str
) -> None:
    cloud.add_bucket("pictures")
    data = pairs(file, seen(picture(cloud, "a.png", "pictures")))
    nova.backend.resolve()
    cloud.faults.answer(operation, 403, code="AccessDenied", times=9)
    answer = asked(nova, data)
    assert (answer.state, [each.code for each in answer.findings]) == ("warning", ["media-unknown"])


# ---------------------------------------------------------------------------------------------- the rehearsal


@pytest.mark.parametrize(
    ("uri", "owner", "says"),
    [
        ("s3://somebody-elses-bucket/a.png", MINE, "NoSuchBucket"),
        ("s3://theirs/a.png", MINE, "AccessDenied"),
        ("s3://{}/lost.png", MINE, "NoSuchKey"),
        ("s3://{}/there.png", OTHER, "AccessDenied"),
    ],
)
def test_a_run_that_cannot_read_its_images_fails(
    file: Path, cloud: LocalCloud, uri: str, owner: str, says: str
) -> None:
    cloud.add_bucket("theirs", account=OTHER)
    there, uri = picture(cloud, "there.png"), uri.format(cloud.bucket)
    rows = [showing(number, seen(there, None)) for number in range(70)]
    rows[69] = changed(rows[69], put(seen(uri, owner), M, 0, "content", 1))
    nova = client(cloud)
    job = nova.submit(nova.plan(DPO, PreferenceDataset.from_jsonl(write(file, *rows))), check=False)
    with pytest.raises(JobFailedError, match=says) as error:
        job.result()
    assert uri in str(error.value)


# ---------------------------------------------------------------------------------------------- what the SDK sends


def test_images_that_are_sent_along_are_never_found_fault_with(tmp_path: Path, cloud: LocalCloud) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(png())
    (tmp_path / "img" / "b.jpg").write_bytes(jpeg())
    rows = [shows("img/a.png", "img/b.jpg", prompt=f"Question {number}?") for number in range(70)]
    data = placed(tmp_path, *rows, output=str(cloud.output), owner=MINE)
    nova = client(cloud)
    plan = nova.plan(DPO, data)
    assert not [each for each in plan.findings if each.code.startswith("media")]
    before = len(cloud.requests)
    answers = nova.check(plan)
    assert answers.ok
    assert not [each for each in answers.findings if each.code.startswith("media")]
    assert not [each for each in cloud.requests[before:] if each.operation == "HeadObject" and "images" in str(each)]
    assert nova.submit(plan).result()
    sent = nova.upload(data)
    again = client(cloud).plan(DPO, sent)
    assert again.ok
    assert again.media == plan.media
    assert not [each for each in again.findings if each.code.startswith("media")]

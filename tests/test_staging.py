from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import line, pair, write

from nova_dpo_sdk import DPORecipe, NovaModel, PreferenceDataset
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.aws._upload import PART
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = DPORecipe(name="staged", model=NovaModel.MICRO, replicas=2)


def good(count: int, size: int = 10) -> list[bytes]:
    return [line(pair(f"Question {n}?", f"Good {n}." + "x" * size, f"Poor {n}.")) for n in range(count)]


def below(cloud: Any) -> list[str]:
    client = cloud.session().client("s3")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=cloud.bucket)
    return [each["Key"] for each in client.list_objects_v2(Bucket=cloud.bucket).get("Contents", [])]


def puts(nova: Any) -> list[str]:
    """Keys of what is sent from now on."""
    keys: list[str] = []
    for name in ("PutObject", "UploadPart"):
        events = nova.backend.aws.client("s3").meta.events
        events.register(f"provide-client-params.s3.{name}", lambda params, **_: keys.append(params["Key"]))
    return keys


def test_data_are_checked_and_sent_at_once_and_planned_where_they_are(tmp_path: Path, nova: Any) -> None:
    data = PreferenceDataset.from_jsonl(write(tmp_path / "pairs.jsonl", *good(100)))
    before = nova.plan(RECIPE, data)
    progress: list[int] = []
    staged = nova.upload(data, on_progress=progress.append)
    assert sum(progress) == data.path.stat().st_size
    assert staged.where == before.uploads[0].uri
    plan = nova.plan(RECIPE, staged)
    assert plan.ok, plan
    assert (plan.name, plan.digest) == (before.name, before.digest)
    assert plan.recipe == before.recipe
    keys = puts(nova)
    assert nova.submit(plan).ref == plan.ref
    assert not any("datasets/" in key for key in keys)


def test_a_plan_of_what_was_sent_reads_nothing(tmp_path: Path, nova: Any) -> None:
    staged = nova.upload(PreferenceDataset.from_jsonl(write(tmp_path / "pairs.jsonl", *good(80))))
    asked: list[str] = []
    nova.backend.aws.client("s3").meta.events.register(
        "provide-client-params.s3.GetObject", lambda params, **_: asked.append(params["Key"])
    )
    assert nova.plan(RECIPE, staged).ok
    assert asked == []
    assert staged.report(rules={"system-items": "off"}).records == 80
    assert asked


def test_bad_data_leave_nothing_in_s3(tmp_path: Path, nova: Any, cloud: Any) -> None:
    for name, size in (("small", 10), ("large", 60_000)):
        lines = good(300 if size > 10 else 50, size)
        data = PreferenceDataset.from_jsonl(write(tmp_path / f"{name}.jsonl", *lines, b"broken\n"))
        with pytest.raises(DatasetError, match=r"records is bad \(1 error\)") as told:
            nova.upload(data)
        assert told.value.findings[0].code == "bad-json"
        assert not any(key.endswith(".jsonl") for key in below(cloud))


def test_a_file_that_another_of_its_size_takes_the_place_of_is_not_left_in_s3(
    tmp_path: Path, nova: Any, cloud: Any
) -> None:
    lines = good(300, 60_000)
    data = PreferenceDataset.from_jsonl(write(tmp_path / "large.jsonl", *lines))
    other = write(tmp_path / "other.jsonl", *lines[::-1])

    def told(_: int) -> None:
        if other.exists():
            other.replace(data.path)

    with pytest.raises(DatasetError, match="changed while it was read"):
        nova.upload(data, on_progress=told)
    assert not any(key.endswith(".jsonl") for key in below(cloud))


def test_a_large_file_goes_in_parts_and_only_once(tmp_path: Path, nova: Any, cloud: Any) -> None:
    data = PreferenceDataset.from_jsonl(write(tmp_path / "large.jsonl", *good(300, 60_000)))
    keys = puts(nova)
    staged = nova.upload(data)
    assert len(keys) == -(-data.path.stat().st_size // PART)
    assert nova.upload(data).where == staged.where
    assert nova.upload(staged).where == staged.where
    assert len(keys) == -(-data.path.stat().st_size // PART)
    assert [key for key in below(cloud) if key.endswith(".jsonl")] == [S3Uri.parse(staged.where).key]


def test_a_file_that_changes_meanwhile_is_not_sent(tmp_path: Path, nova: Any, cloud: Any) -> None:
    path = write(tmp_path / "pairs.jsonl", *good(100))

    class Restless(PreferenceDataset):
        """Its file changes between two looks."""

        def check_measured(self, measured: Any) -> Any:
            write(path, *good(101))
            return super().check_measured(measured)

    with pytest.raises(DatasetError, match="changed"):
        nova.upload(Restless(path))
    assert not any(key.endswith(".jsonl") for key in below(cloud))


def test_files_that_cannot_be_sent_are_said(tmp_path: Path, nova: Any) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        nova.upload(PreferenceDataset.from_jsonl(tmp_path / "gone.jsonl"))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DatasetError, match="is empty"):
        nova.upload(PreferenceDataset.from_jsonl(tmp_path / "empty.jsonl"))


def test_the_bucket_is_looked_at_first(tmp_path: Path, cloud: Any) -> None:
    from nova_dpo_sdk import NovaClient
    from nova_dpo_sdk.errors import NotFoundError

    data = PreferenceDataset.from_jsonl(write(tmp_path / "pairs.jsonl", *good(3)))
    with pytest.raises((NotFoundError, ConfigurationError)):
        NovaClient(cloud.hyperpod(), output="s3://no-such-bucket-here/runs").upload(data)


def test_the_record_of_a_plan_says_what_stayed_where_it_was(tmp_path: Path, nova: Any) -> None:
    staged = nova.upload(PreferenceDataset.from_jsonl(write(tmp_path / "pairs.jsonl", *good(80))))
    plan = nova.plan(RECIPE, staged)
    (upload,) = json.loads(plan.to_json())["uploads"]
    assert (upload["role"], upload["in_place"], upload["file"]) == ("data", True, "pairs.jsonl")

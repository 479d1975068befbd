"""Images on this machine from a shell: kept by `data convert`, sent by `data upload`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import make_shell, overlong  # noqa: F401 - a fixture
from test_images import jpeg, png, ranking

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Said, Shell

    from nova_dpo_sdk.local import LocalCloud


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "img").mkdir(parents=True)
    for name, data in (("a.png", png()), ("again.png", png()), ("b.jpg", jpeg()), ("tiny.png", png(10, 10))):
        (folder / "img" / name).write_bytes(data)
    return folder


@pytest.fixture
def where(shell: Shell, cloud: LocalCloud) -> list[str]:
    return ["--output", f"s3://{cloud.bucket}/runs", *shell.local(cloud)]


def source(album: Path, *images: str) -> Path:
    records = [ranking(f"<image>What is this {number}?", [image]) for number, image in enumerate(images)]
    path = album / "source.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def local(shell: Shell, album: Path, *images: str) -> Path:
    """Records in Nova's layout that name their images by local path."""
    assert shell("data", "convert", source(album, *images), album / "local.jsonl", "--local-images").code == 0
    return album / "local.jsonl"


def stored(cloud: LocalCloud) -> dict[str, bytes]:
    client: Any = cloud.session().client("s3")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=cloud.bucket).get("Contents", [])]
    return {key: client.get_object(Bucket=cloud.bucket, Key=key)["Body"].read() for key in keys}


def flat(told: Said) -> str:
    return " ".join((told.out + told.err).split())


def test_a_conversion_names_the_flag_that_keeps_images_and_the_command_that_sends_them(shell, album):
    path = source(album, "img/a.png", "img/b.jpg")
    told = shell("data", "convert", path, album / "local.jsonl")
    assert (told.code, "nova-dpo data convert --local-images keeps" in flat(told)) == (1, True)
    told = shell("data", "convert", path, album / "local.jsonl", "--local-images")
    assert (told.code, "0 errors" in told.out) == (0, True)
    step = f"nova-dpo data upload {album / 'local.jsonl'} --local-images --to OUT.jsonl --output S3"
    assert told.out.splitlines()[-1] == f"Next: {step}"
    assert "because --local-images asked for it" in flat(told)
    assert shell("data", "convert", path, album / "local.jsonl", "--local-images", "--json").json["next"] == step
    elsewhere = shell("data", "convert", path, "local.jsonl", "--local-images")
    assert f"upload local.jsonl --local-images {album} --to" in elsewhere.out
    assert overlong(told.out) == []


def test_a_conversion_without_images_has_no_next_step(shell, album):
    path = album / "texts.json"
    path.write_text(json.dumps([ranking("Hi.", [])]), encoding="utf-8")
    told = shell("data", "convert", path, "out.jsonl", "--local-images")
    assert (told.code, "Next:" in told.out) == (0, False)


def test_each_picture_is_sent_once_and_then_never_again(shell, cloud, album, where):
    path = local(shell, album, "img/a.png", "img/a.png", "img/again.png", "img/b.jpg")
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert told.code == 0, told.err
    assert "2 images (121 B): 2 sent, 0 there before" in told.err
    assert "Next: nova-dpo submit --recipe RECIPE.yaml --data pairs.jsonl" in told.err
    held = stored(cloud)
    assert sorted(held.values(), key=len)[:2] == sorted([png(), jpeg()], key=len)
    assert len(held) == 3
    pairs = (shell.folder / "pairs.jsonl").read_bytes()
    assert held[told.out.strip().removeprefix(f"s3://{cloud.bucket}/")] == pairs
    for line in pairs.splitlines():
        place = json.loads(line)["messages"][0]["content"][0]["image"]["source"]["s3Location"]
        assert place["bucketOwner"] == cloud.connection().account
        assert place["uri"].removeprefix(f"s3://{cloud.bucket}/") in held
    again = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where, "--json").json
    assert (again["uri"], again["records"], again["file"]) == (told.out.strip(), 4, "pairs.jsonl")
    assert (again["images"], again["images_sent"]) == (2, 0)
    assert again["next"].startswith("nova-dpo submit")
    assert stored(cloud).keys() == held.keys()


def test_what_was_uploaded_is_submitted_without_being_sent_again(shell, album, where):
    path = local(shell, album, *["img/a.png"] * 70)
    uri = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where).out.strip()
    recipe = shell.recipe("dpo")
    told = shell("plan", "--recipe", recipe, "--data", "pairs.jsonl", *where, "--json")
    assert [each["uri"] for each in told.json["uploads"]] == [uri]
    assert shell("data", "check", uri, *where[2:]).code == 0


def test_paths_start_where_the_flag_says(shell, cloud, album, where):
    path = local(shell, album, "img/a.png").rename(shell.folder / "moved.jsonl")
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert (told.code, "[image-missing] line 1" in told.err) == (1, True)
    assert shell("data", "upload", path, "--local-images", album, "--to", "pairs.jsonl", *where).code == 0
    assert len(stored(cloud)) == 2


def test_images_that_cannot_be_used_are_listed_and_nothing_is_left(shell, cloud, album, where):
    (album / "img" / "text.png").write_text("hello")
    path = local(shell, album, "img/a.png", "img/tiny.png", "img/text.png", "img/gone.png", "../outside.png")
    (shell.folder / "pairs.jsonl").write_text("kept")
    before = sorted(shell.folder.rglob("*"))
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert (told.code, told.out) == (1, "")
    for number, code in enumerate(("image-too-small", "image-format", "image-missing", "image-outside"), 2):
        assert f"error [{code}] line {number} $.messages[0].content[0].image" in told.err
    assert "Name the images' folder: --local-images DIR." in flat(told)
    assert overlong(told.err) == []
    assert stored(cloud) == {}
    assert (shell.folder / "pairs.jsonl").read_text() == "kept"
    assert sorted(shell.folder.rglob("*")) == before


def test_an_upload_that_s3_refuses_halfway_leaves_no_file_and_goes_on_the_next_time(shell, cloud, album, where):
    path = local(shell, album, "img/a.png", "img/b.jpg")
    before = sorted(shell.folder.rglob("*"))
    cloud.faults.answer("PutObject", 403, code="AccessDenied", target="*pairs.jsonl")
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert (told.code, "PutObject" in told.err) == (1, True)
    assert sorted(each.rpartition(".")[2] for each in stored(cloud)) == ["jpeg", "png"]
    assert sorted(shell.folder.rglob("*")) == before
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert (told.code, "0 sent, 2 there before" in told.err) == (0, True)


def test_a_bad_record_is_named_by_its_line_before_anything_is_sent(shell, cloud, album, where):
    path = local(shell, album, "img/a.png")
    good = path.read_text(encoding="utf-8")
    path.write_text(f"{good}\n{good.replace('A cat.', 'User: a cat.')}", encoding="utf-8")
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert told.code == 1
    assert "[blank-line] data line 2" in told.err
    assert "[reserved-word] data line 3" in told.err
    assert f"{path}: 1 of 2 records is bad" in flat(told)
    odd = json.loads(good)
    odd["messages"][0]["content"][0]["image"]["source"]["path"] = "img/b.jpg"
    odd["messages"][0]["content"][0]["text"] = "two things in one item"
    path.write_text(good + json.dumps(odd) + "\n", encoding="utf-8")
    told = shell("data", "upload", path, "--local-images", "--to", "pairs.jsonl", *where)
    assert (told.code, "[content-item] data line 2" in told.err) == (1, True)
    assert stored(cloud) == {}
    assert not (shell.folder / "pairs.jsonl").exists()


def test_local_paths_without_the_flag_are_an_error_that_names_it(shell, cloud, album, where):
    path = local(shell, album, "img/a.png")
    told = shell("data", "upload", path, *where)
    assert (told.code, told.out, stored(cloud)) == (1, "", {})
    assert "[local-image] data line 1" in told.err
    assert "Bring the file to S3 with nova-dpo data upload --local-images." in flat(told)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--local-images"], "--local-images and --to OUT go together"),
        (["--to", "pairs.jsonl"], "--local-images and --to OUT go together"),
        (["--local-images", "--to", "-"], "--to names a file"),
        (["--local-images", "nowhere", "--to", "pairs.jsonl"], "--local-images: nowhere is no directory"),
    ],
)
def test_wrong_usage_of_the_flags_is_said(shell, album, where, words, says):
    told = shell("data", "upload", local(shell, album, "img/a.png"), *where, *words)
    assert (told.code, says in flat(told)) == (2, True)


def test_the_new_file_takes_the_place_of_no_source_and_needs_a_folder(shell, cloud, album, where):
    path = local(shell, album, "img/a.png")
    told = shell("data", "upload", path, "--local-images", "--to", path, *where)
    assert (told.code, "is the source itself" in told.err) == (1, True)
    told = shell("data", "upload", path, "--local-images", "--to", "nowhere/pairs.jsonl", *where)
    assert (told.code, "nowhere/pairs.jsonl cannot be written" in flat(told)) == (1, True)
    assert stored(cloud) == {}

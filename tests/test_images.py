from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aws_loopback import ACCOUNT
from dataset_records import changed, chat, image, line, pair, put, write
from hypothesis import given
from hypothesis import strategies as st

from nova_dpo_sdk import ChatDataset, DPORecipe, NovaModel, PreferenceDataset
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.datasets._images import MOST_BYTES, dimensions, image_format
from nova_dpo_sdk.errors import ConfigurationError, DatasetError, Severity

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT = "s3://acme-nova/runs"


def png(width: int = 64, height: int = 48, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes([colour]) * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int = 64, height: int = 48) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"\x3b"


def jpeg(width: int = 64, height: int = 48, marker: int = 0xC0) -> bytes:
    application = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    frame = bytes([0xFF, 0xFF, marker]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + application + frame + b"\xff\xda\xff\xd9"


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


LOSSY = webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 64 | 0x4000, 48))
LOSSLESS = webp(b"VP8L", b"\x2f" + struct.pack("<I", 63 | 47 << 14))
EXTENDED = webp(b"VP8X", bytes(4) + b"\x3f\0\0" + b"\x2f\0\0")


def local(path: str, **more: Any) -> dict[str, Any]:
    return {"image": {"source": {"path": path}, **more}}


def shows(*paths: str, prompt: str = "What is this?") -> dict[str, Any]:
    return changed(pair(prompt), *[put(local(each), "messages", 2, "content", n + 1) for n, each in enumerate(paths)])


@pytest.fixture
def album(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    for name, data in (("a.png", png()), ("b.jpg", jpeg()), ("c.gif", gif()), ("d.webp", LOSSY), ("again.png", png())):
        (tmp_path / "img" / name).write_bytes(data)
    return tmp_path


def placed(album: Path, *records: Any, **options: Any) -> PreferenceDataset:
    data = PreferenceDataset.from_jsonl(write(album / "pairs.jsonl", *records))
    return data.with_images(album / "out.jsonl", **{"output": OUTPUT, "owner": ACCOUNT, **options})


def refused(album: Path, *records: Any, **options: Any) -> DatasetError:
    with pytest.raises(DatasetError) as told:
        placed(album, *records, **options)
    assert not (album / "out.jsonl").exists()
    return told.value


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (png(), "png"), (gif(), "gif"), (jpeg(), "jpeg"), (jpeg(marker=0xC2), "jpeg"), (LOSSY, "webp"),
        (LOSSLESS, "webp"), (EXTENDED, "webp"),
    ],
)  # fmt: skip
def test_format_and_size_are_read_from_the_header(data: bytes, form: str) -> None:
    assert image_format(data) == form
    assert dimensions(data, form) == (64, 48)


@given(st.sampled_from([png(), gif(), jpeg(), LOSSY, LOSSLESS, EXTENDED]), st.integers(0, 80), st.binary(max_size=40))
def test_broken_headers_are_never_an_internal_error(data: bytes, cut: int, tail: bytes) -> None:
    data = data[:cut] + tail
    form = image_format(data)
    if form is not None:
        found = dimensions(data, form)
        assert found is None or all(side >= 0 for side in found)


def test_headers_agree_with_an_image_library() -> None:
    image_library = pytest.importorskip("PIL.Image")
    import io

    for form in ("png", "gif", "jpeg", "webp"):
        for options in ({}, {"lossless": True}) if form == "webp" else ({},):
            out = io.BytesIO()
            image_library.new("RGB", (301, 27), "red").save(out, form.upper(), **options)
            assert image_format(out.getvalue()) == form
            assert dimensions(out.getvalue(), form) == (301, 27)


def test_local_images_become_objects_in_s3(album: Path) -> None:
    data = placed(album, shows("img/a.png", "img/b.jpg"), pair(), shows("img/again.png", "img/c.gif", "img/d.webp"))
    assert data.check().image_records == 2
    records = [json.loads(each) for each in data.path.read_bytes().splitlines()]
    first = records[0]["messages"][2]["content"]
    assert first[0] == {"text": "What is this?"}
    assert first[1]["image"]["format"] == "png"
    place = first[1]["image"]["source"]["s3Location"]
    assert place["bucketOwner"] == ACCOUNT
    by_format = {each.format: each for each in data.images}
    assert sorted(by_format) == ["gif", "jpeg", "png", "webp"]
    assert place["uri"] == by_format["png"].uri == f"{OUTPUT}/images/{by_format['png'].sha256}.png"
    assert (by_format["png"].width, by_format["png"].height) == (64, 48)
    assert first[2]["image"]["format"] == "jpeg"
    assert [each.note for each in data.images] == ["", "", "", ""]


def test_other_lines_stay_byte_for_byte(album: Path) -> None:
    stored = line(changed(pair(), put(image(), "messages", 2, "content", 1)))
    other = [
        stored,
        b'{"path": "image", "image": 1}',
        b"nonsense",
        b'[{"image": "path"}]',
        b'{"messages":["image","path"]}',
    ]
    data = placed(album, *[each.rstrip(b"\n") + b"\n" for each in other], b'{"broken "path" "image"\n')
    assert data.path.read_bytes().splitlines()[:5] == [each.rstrip(b"\n") for each in other]
    assert data.images == ()


def test_blank_lines_alone_are_no_data_set(album: Path) -> None:
    with pytest.raises(DatasetError, match=r"no records.*nothing was written"):
        placed(album, b"\n", b"  \n")
    assert not (album / "out.jsonl").exists()


def test_chats_have_images_too(album: Path) -> None:
    record = changed(chat(), put(local("img/a.png", format="png"), "messages", 0, "content", 1))
    data = ChatDataset.from_jsonl(write(album / "chats.jsonl", record))
    shown = data.with_images(album / "out.jsonl", output=OUTPUT, owner=ACCOUNT)
    assert shown.check().image_records == 1
    assert len(shown.images) == 1


def test_everything_wrong_with_images_is_said_at_once(album: Path) -> None:
    (album / "img" / "text.png").write_text("hello")
    (album / "img" / "tiny.png").write_bytes(png(24, 400))
    (album / "img" / "cut.png").write_bytes(png()[:18])
    (album / "img" / "huge.png").write_bytes(png() + bytes(MOST_BYTES))
    (album / "img" / "none.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    names = ["img/text.png", "img/tiny.png", "img/cut.png", "img/huge.png", "img/none.jpg", "img/gone.png", "img",
             "https://example.com/a.png", "data:image/png;base64,AAAA", "../outside.png", "/etc/hostname", "a\0b"]  # fmt: skip
    told = refused(album, pair(), *[shows(each) for each in names], shows("img/tiny.png"))
    codes = [each.code for each in told.findings]
    assert codes == [
        "image-format", "image-too-small", "image-broken", "image-too-large", "image-broken", "image-missing",
        "image-missing", "image-not-local", "image-not-local", "image-outside", "image-outside", "image-missing",
        "image-too-small",
    ]  # fmt: skip
    assert told.findings[0].where == "line 2 $.messages[2].content[1].image"
    assert "13 images cannot be used" in str(told)
    assert "24 x 400" in told.findings[1].message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_for_an_image_is_refused_and_not_waited_for(album: Path) -> None:
    os.mkfifo(album / "img" / "pipe.png")
    (found,) = refused(album, shows("img/pipe.png")).findings
    assert "a directory, a pipe or a device, not a file" in found.message


def test_a_folder_of_images_that_is_not_there_is_said_once(album: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"base_dir is .*nowhere, which is no directory"):
        placed(album, shows("img/a.png"), base_dir=album / "nowhere")
    assert not (album / "out.jsonl").exists()


def test_a_local_path_that_was_not_brought_to_s3_says_how(album: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(album / "pairs.jsonl", shows("img/a.png")))
    (problem,) = data.report().problems
    assert (problem.code, problem.message) == ("local-image", '"img/a.png" is a local path.')
    assert problem.fix == "Bring the file to S3 with with_images()."


def test_a_link_that_leads_outside_is_refused(album: Path) -> None:
    (album / "in").mkdir()
    (album / "in" / "a.png").symlink_to(album / "img" / "a.png")
    assert refused(album, shows("a.png"), base_dir=album / "in").findings[0].code == "image-outside"
    assert placed(album, shows("in/a.png")).images


def test_the_declared_format_must_be_true(album: Path) -> None:
    record = changed(pair(), put(local("img/a.png", format="jpeg"), "messages", 2, "content", 1))
    assert refused(album, record).findings[0].code == "image-format-mismatch"
    right = changed(pair(), put(local("img/b.jpg", format="jpg"), "messages", 2, "content", 1))
    data = placed(album, right)
    assert json.loads(data.path.read_bytes())["messages"][2]["content"][1]["image"]["format"] == "jpeg"


def test_a_name_with_the_wrong_ending_is_noted(album: Path) -> None:
    (album / "img" / "really.png").write_bytes(jpeg())
    (shown,) = placed(album, shows("img/really.png")).images
    assert shown.format == "jpeg"
    assert shown.uri.endswith(".jpeg")
    assert "really.png is a jpeg file" in shown.note


@pytest.mark.parametrize("owner", ["", "12345678901", "1234567890123", "12345678901x", "\u0661" * 12])
def test_the_owner_is_an_account(album: Path, owner: str) -> None:
    with pytest.raises(ConfigurationError, match="12 digits"):
        placed(album, shows("img/a.png"), owner=owner)


@pytest.mark.parametrize(
    "output", ["", "acme", "s3://", "s3://UPPER/x", "s3://acme/with space", "https://acme/x", "s3://acme/x y"]
)
def test_the_output_is_an_address_that_nova_reads(album: Path, output: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/prefix"):
        placed(album, shows("img/a.png"), output=output)


def test_a_plan_lists_images_and_a_submit_sends_them_once(album: Path, cloud: Any, nova: Any) -> None:
    records = [shows("img/a.png", "img/b.jpg", prompt=f"Question {n}?") for n in range(70)]
    (album / "img" / "odd.png").write_bytes(jpeg(65))
    account = nova.backend.aws.account()
    data = placed(album, *records, shows("img/odd.png"), output=str(nova.output), owner=account)
    plan = nova.plan(DPORecipe(name="eyes", model=NovaModel.LITE, replicas=4), data)
    assert plan.ok, plan
    assert [each.role for each in plan.uploads] == ["data", "image", "image", "image"]
    assert "images" in str(plan)
    assert str(album / "img" / "a.png") not in str(plan)
    assert any(each.code == "image-extension" and each.severity is Severity.NOTE for each in plan.findings)
    told: list[tuple[str, int]] = []
    nova.submit(plan, on_upload=lambda uri, count: told.append((uri, count)))
    for each in data.images:
        held = nova.backend.aws.read(S3Uri.parse(each.uri))
        assert held.body == each.path.read_bytes()
        assert (each.uri, each.size) in told
    head = cloud.session().client("s3").head_object(Bucket=nova.output.bucket, Key=S3Uri.parse(data.images[0].uri).key)
    assert head["ContentType"].startswith("image/")


def test_an_upload_sends_the_images_of_good_data_before_them(album: Path, nova: Any) -> None:
    aws = nova.backend.aws
    records = [shows("img/a.png", "img/b.jpg", prompt=f"Question {n}?") for n in range(70)]
    data = placed(album, *records, output=str(nova.output), owner=aws.account())
    image = S3Uri.parse(data.images[0].uri)
    bad = replace(data, path=album / "bad.jsonl")
    bad.path.write_bytes(data.path.read_bytes() + b"{")
    with pytest.raises(DatasetError, match="bad-json"):
        nova.upload(bad)
    assert aws.head(image) is None

    kept = data.images[0].path.read_bytes()
    data.images[0].path.write_bytes(png(30, 30))
    with pytest.raises(DatasetError, match="changed"):
        nova.upload(data)
    data.images[0].path.write_bytes(kept)
    told: list[int] = []
    sent = nova.upload(data, on_progress=told.append)
    assert sum(told) == data.path.stat().st_size + sum(each.size for each in data.images)
    for each in data.images:
        assert aws.read(S3Uri.parse(each.uri)).body == each.path.read_bytes()
    there = PreferenceDataset.from_s3(sent.where, aws=aws)
    assert nova.plan(DPORecipe(name="eyes", model=NovaModel.LITE, replicas=4), there).ok

    other = shows("img/d.webp", prompt="And this?")
    more = placed(album, other, output=str(nova.output), owner=aws.account())
    assert nova.upload(replace(sent, images=more.images)).where == sent.where
    assert aws.head(S3Uri.parse(more.images[0].uri)) is not None


def test_images_that_go_to_another_bucket_than_the_data_are_a_warning(album: Path, nova: Any) -> None:
    data = placed(album, shows("img/a.png"), output="s3://other-bucket/x")
    plan = nova.plan(DPORecipe(name="eyes", model=NovaModel.LITE, replicas=4), data)
    (told,) = [str(each) for each in plan.warnings if each.code == "images-in-another-bucket"]
    assert f". Images lie in s3://{nova.output.bucket}/, as the data will. Write the records with" in told


def test_an_image_that_changed_since_it_was_checked_stops_the_submit(album: Path, nova: Any) -> None:
    data = placed(album, *[shows("img/a.png", prompt=f"Q {n}?") for n in range(70)], output=str(nova.output))
    plan = nova.plan(DPORecipe(name="eyes", model=NovaModel.LITE, replicas=4), data)
    (album / "img" / "a.png").write_bytes(png(colour=9))
    with pytest.raises(DatasetError, match="changed since it was checked"):
        nova.submit(plan)


def ranking(text: str, images: list[Any], *more: dict[str, str]) -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": text}, *more],
        "chosen": {"from": "gpt", "value": "A cat."},
        "rejected": {"from": "gpt", "value": "A dog."},
        "images": images,
    }


def converted(album: Path, *records: Any, kind: Any = PreferenceDataset, **options: Any) -> Any:
    source = write(album / "source.jsonl", *records)
    return kind.convert(source, album / "pairs.jsonl", layout="sharegpt-ranking", local_images=True, **options)


def contents(path: Path) -> list[list[Any]]:
    records = [json.loads(each)["messages"] for each in path.read_bytes().splitlines()]
    return [[item.get("text") or item["image"]["source"]["path"] for turn in record for item in turn.get("content", [])]
            for record in records]  # fmt: skip


def test_images_of_a_source_layout_stand_where_its_texts_want_them(album: Path) -> None:
    more = ({"from": "gpt", "value": "Which?"}, {"from": "human", "value": "The <image>, please."})
    done = converted(
        album,
        ranking("<image>What is this?", ["img/a.png"]),
        ranking("What is this?", ["img/a.png", "img/b.jpg"]),
        ranking("<image> <image>\nCompare.", ["img/a.png", "img/b.jpg"]),
        ranking("<image>Hm.", ["img/a.png", "img/b.jpg"], *more),
        ranking("<image>", ["img/c.gif"]),
        ranking("No picture.", []),
    )
    assert done.dropped == {}
    assert done.mended == {"image-placed": 5}
    assert contents(album / "pairs.jsonl") == [
        ["img/a.png", "What is this?"],
        ["img/a.png", "img/b.jpg", "What is this?"],
        ["img/a.png", "img/b.jpg", "\nCompare."],
        ["img/a.png", "Hm.", "Which?", "The ", "img/b.jpg", ", please."],
        ["img/c.gif"],
        ["No picture."],
    ]
    data = done.dataset.with_images(album / "out.jsonl", output=OUTPUT, owner=ACCOUNT)
    assert data.check().image_records == 5
    assert len(data.images) == 3


def test_images_without_a_place_or_without_a_file_drop_the_record(album: Path) -> None:
    done = converted(
        album,
        ranking("<image><image>", ["img/a.png"]),
        ranking("Look.", ["https://example.com/a.png"]),
        ranking("Look.", [{"bytes": "AAAA"}]),
        ranking("Look: <image>", []),
        ranking("Fine.", ["img/a.png"]),
    )
    assert done.dropped == {"image-not-in-s3": 2, "image-places": 1, "reserved-word": 1}
    assert done.written == 1


def test_images_are_dropped_unless_asked_for(album: Path) -> None:
    source = write(album / "source.jsonl", ranking("<image>Look.", ["img/a.png"]), ranking("Hi.", []))
    done = PreferenceDataset.convert(source, album / "pairs.jsonl")
    assert done.dropped == {"image-not-in-s3": 1}
    assert "local paths, which convert(..., local_images=True) keeps" in done.details[0].message


def test_chats_of_the_preferred_side_keep_their_images(album: Path) -> None:
    converted(album, ranking("<image>What is this?", ["img/a.png"]), kind=ChatDataset)
    assert contents(album / "pairs.jsonl") == [["img/a.png", "What is this?", "A cat."]]

from __future__ import annotations

import builtins
import json
import tracemalloc
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import changed, chat, document, drop, image, line, pair, put, tool_chat, video, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_datasets_fast import KINDS, some_line

from nova_dpo_sdk import ChatDataset, NovaModel, PreferenceDataset
from nova_dpo_sdk.datasets._census import Census, Spread, tokens_of
from nova_dpo_sdk.datasets._fast import QuickLook
from nova_dpo_sdk.datasets._histogram import Histogram, Sample
from nova_dpo_sdk.datasets._lines import Lines
from nova_dpo_sdk.datasets._plot import drawing
from nova_dpo_sdk.datasets._profile import profile_from
from nova_dpo_sdk.datasets._rules import LIMITS
from nova_dpo_sdk.datasets._workers import processes
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def pairs(path: Path, *records: Any, name: str = "pairs.jsonl") -> PreferenceDataset:
    return PreferenceDataset.from_jsonl(write(path / name, *records))


def bare(prompt: str, good: str = "yes", poor: str = "no") -> dict[str, Any]:
    return changed(pair(prompt, good, poor), drop("system"), drop("messages", 0), drop("messages", 0))


def many(count: int, **texts: str) -> list[bytes]:
    return [line(bare(f"Question {n}?", **texts)) for n in range(count)]


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=300), st.floats(0, 1))
def test_quantiles_are_right_to_two_percent(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.extend([value])
    found = histogram.distribution()
    near = found.quantile(share)
    slack = abs(near) * 0.017 + 1
    assert sum(value <= near + slack for value in values) >= share * len(values)
    assert sum(value < near - slack for value in values) <= share * len(values)
    assert min(values) <= near <= max(values)
    assert (found.count, found.minimum, found.maximum) == (len(values), min(values), max(values))
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_a_profile_counts_what_is_there(tmp_path: Path) -> None:
    picture = changed(pair("And this?"), put(image(), "messages", 0, "content", 1))
    profile = pairs(tmp_path, pair(), bare("Hi", "Hello there", "Go"), picture, b"\n", b"broken\n").profile()
    assert (profile.records, profile.unreadable, profile.prompts, profile.prompts_exact) == (3, 1, 3, True)
    assert (profile.system_records, profile.image_records, profile.images.maximum) == (2, 1, 1)
    assert (profile.turns.minimum, profile.turns.maximum) == (2, 4)
    assert profile.preferred_longer == 3
    assert (profile.margin.minimum, profile.margin.maximum) == (1, 9)
    assert (profile.prompt.minimum, profile.answer.maximum, profile.rejected.minimum) == (2, 11, 2)
    assert "1 line is no such record" in str(profile)


def test_tokens_are_estimated_from_bytes_of_the_prompt_and_the_longer_answer(tmp_path: Path) -> None:
    profile = pairs(tmp_path, bare("x" * 40, "yes", "n" * 400), bare("中" * 100, "是", "no")).profile()
    assert (profile.tokens.minimum, profile.tokens.maximum) == (76, 110)
    assert "estimated" in profile.token_method
    assert profile.token_method in str(profile)


def test_the_longer_answer_is_the_one_with_more_bytes(tmp_path: Path) -> None:
    answers = "n" * 401, "\u4e2d" * 400
    picture = changed(bare("x", *answers), put(image(), "messages", 0, "content", 1))  # measured alone
    for records in ([bare("x", *answers)], [bare("x", *reversed(answers))], [picture]):
        profile = pairs(tmp_path, *records).profile()
        assert (profile.tokens.maximum, profile.longest) == (301, 301)
        assert profile.recommend().values["max_length"] >= 1024


def test_data_with_media_are_not_advised_below_the_published_default(tmp_path: Path) -> None:
    picture = changed(bare("And this?"), put(image(), "messages", 0, "content", 1))
    profile = pairs(tmp_path, *many(3), picture).profile()
    assert (profile.media_records, profile.image_records) == (1, 1)
    assert profile.recommend().values["max_length"] == 16_384
    assert profile.recommend(instance_type="ml.p4d.24xlarge").values["max_length"] == 16_384
    said = str(profile.recommend())
    assert "from the published default of 16,384 on that holds the text of every record" in said
    assert "images, videos and documents are not counted" in str(profile)
    long = pairs(tmp_path, *many(3, good="x" * 100_000), picture).profile()
    assert long.recommend().values["max_length"] == 16_384  # no more with images
    assert "published default" not in str(pairs(tmp_path, *many(3)).profile())


def test_videos_and_documents_count_as_media(tmp_path: Path) -> None:
    seen, read = (changed(chat(), put(each, "messages", 0, "content", 1)) for each in (video(), document()))
    data = ChatDataset.from_jsonl(write(tmp_path / "c.jsonl", chat(), seen, read), nova2=True)
    profile = data.profile()
    assert profile == data.report(profile=True).profile
    assert (profile.media_records, profile.image_records) == (2, 0)
    assert "2 of 3 records have videos or documents" in str(profile)
    assert profile.recommend().values["max_length"] == 32_768
    assert profile.recommend(NovaModel.LITE).values["max_length"] == 32_768


def test_data_for_nova_2_get_the_advice_for_it(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", chat())
    data = ChatDataset.from_jsonl(path, nova2=True)
    for profile in (data.profile(), data.report(profile=True).profile):
        assert profile is not None
        assert profile.nova2
        assert profile.advice() == profile.recommend(NovaModel.LITE_2)
        assert profile.to_dict()["nova2"] is True
        assert profile.to_dict()["recommended"]["model"] == "nova-lite-2"
        assert "recommended for nova-lite-2 " in str(profile)
    assert ChatDataset.from_jsonl(path).profile().recommend().model is NovaModel.LITE


def test_what_stands_for_more_records_than_there_are_is_told_in_parts_of_those() -> None:
    census = Census(preference=True, spread=Spread(tiers=((0, 16),), stretch=1 << 20))
    data = b"".join(many(10, good="a longer answer"))
    census.take(Lines(data), QuickLook(KINDS["pair"]).look(Lines(data)), 8 << 20)
    profile = profile_from(census, "a.jsonl", "preference")
    assert (profile.records, profile.margin.count) == (10, 160)
    assert (profile.preferred_longer, profile.scripts) == (10, {"Latin": 10})
    assert "the longer one in 100% of the pairs" in str(profile)


def test_a_chat_has_an_answer_and_no_other_candidate(tmp_path: Path) -> None:
    data = ChatDataset.from_jsonl(write(tmp_path / "c.jsonl", chat(answer="Paris."), tool_chat()), nova2=True)
    profile = data.profile()
    assert (profile.records, profile.unreadable) == (2, 0)
    assert (profile.rejected.count, profile.margin.count, profile.answer.minimum) == (0, 0, 6)
    assert "rejected" not in str(profile)
    assert "nova-lite" in str(profile)


def test_scripts_are_told_by_most_letters(tmp_path: Path) -> None:
    texts = ["Hello", "Привет", "你好", "こんにちは世界", "안녕하세요", "مرحبا", "Ça va, là?", "1 + 1", "é: Привет"]
    profile = pairs(tmp_path, *[bare(text, text * 2, text * 3) for text in texts]).profile()
    assert profile.scripts == {
        "Latin": 3, "Cyrillic": 2, "Han": 1, "Japanese": 1, "Hangul": 1, "Arabic": 1,
    }  # fmt: skip


def lines_of(kind: str, rng: Random) -> bytes:
    """Whole lines, most of them good and of plain turns, with texts of many scripts."""
    texts = [
        "Hello",
        "Привет",
        "你好 there",
        "こんにちは世界",
        "Ça va, là?",
        '"quoted"\n',
        "1 + 1",
        "😀",
        "ª",
        "x" * 300,
        "aя",
    ]
    found: list[bytes] = []
    for _ in range(rng.randrange(1, 12)):
        if rng.random() < 0.3:
            found.append(some_line(kind, rng))
            continue
        asked, one, other = (rng.choice(texts) + str(rng.randrange(20)) for _ in range(3))
        record = pair(asked, one, "no " + other) if kind == "pair" else chat(asked, one)
        record = changed(record, *rng.choices([drop("system"), drop("schemaVersion")], k=rng.randrange(2)))
        found.append(json.dumps(record, ensure_ascii=rng.random() < 0.3).encode())
    return b"\n".join(found) + b"\n"


def counted(census: Census) -> dict[str, Any]:
    plain = {name: value for name, value in vars(census).items() if not isinstance(value, (Histogram, Sample))}
    found = {name: value for name, value in plain.items() if not name.startswith("_")}
    histograms = [
        vars(census)[name].distribution() for name in vars(census) if isinstance(vars(census)[name], Histogram)
    ]
    return {**found, "histograms": histograms, "prompts": census.prompts.kept}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_records_are_counted_alike_many_at_a_time_and_one_by_one(kind: str, seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - nothing secret hangs on it
    data = lines_of(kind, rng)
    many, single, first, second = (Census(preference=kind == "pair") for _ in range(4))
    look = QuickLook(KINDS[kind]).look
    known = many.take(Lines(data), look(Lines(data)), 1)
    assert sorted(known) == sorted(single.take(Lines(data), None, 1))
    assert counted(many) == counted(single)
    cut = data.index(b"\n", rng.randrange(len(data) - 1)) + 1
    for census, part, offset in ((first, data[:cut], 1), (second, data[cut:], 1 + cut)):
        if part:
            census.take(Lines(part), look(Lines(part)), offset)
    first.merge(second)
    assert counted(first) == counted(many)


tiers = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5)), max_size=3, unique_by=lambda tier: tier[0])
spreads = st.builds(
    lambda first, more, stretch: Spread(tuple(sorted([(0, first), *(each for each in more if each[0])])), stretch),
    st.integers(1, 5),
    tiers,
    st.integers(100, 600),
)


@given(spreads, st.integers(0, 3000), st.integers(1, 3000))
def test_the_measured_bytes_hang_on_their_place_alone(spread: Spread, start: int, size: int) -> None:
    counted = [0] * size
    for low, high, weight in spread.spans(start, start + size):
        assert start <= low < high <= start + size
        for place in range(low, high):
            assert not counted[place - start]
            counted[place - start] = weight
    assert counted == [spread.weight(at) for at in range(start, start + size)]


def test_one_stretch_in_so_many_is_measured() -> None:
    spread = Spread()
    for start, end, every in (0, 4 << 20, 1), (4 << 20, 64 << 20, 16), (64 << 20, 64 << 24, 64):
        spans = list(spread.spans(start, end))
        assert sum(high - low for low, high, _ in spans) * every == end - start
        assert {weight for _, _, weight in spans} == {every}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**64), spread=spreads)
def test_a_part_of_the_records_is_the_same_part_however_the_file_is_cut(kind: str, seed: int, spread: Spread) -> None:
    rng = Random(seed)  # noqa: S311 - nothing secret hangs on it
    data = lines_of(kind, rng)
    look = QuickLook(KINDS[kind]).look
    every, some, first, second = (
        Census(preference=kind == "pair", spread=each) for each in (None, spread, spread, spread)
    )
    every.take(Lines(data), look(Lines(data)), 1)
    some.take(Lines(data), look(Lines(data)), 1)
    cut = data.index(b"\n", rng.randrange(len(data) - 1)) + 1
    for census, part, offset in ((first, data[:cut], 1), (second, data[cut:], 1 + cut)):
        if part:
            census.take(Lines(part), look(Lines(part)), offset)
    first.merge(second)
    assert counted(first) == counted(some)
    exact = "records", "unreadable", "systems", "image_records"
    assert [counted(some)[name] for name in exact] == [counted(every)[name] for name in exact]
    assert some.prompts.kept == every.prompts.kept
    assert some.measured <= every.measured == every.records
    longest = max(some.tokens.distribution().maximum, tokens_of(some.longest))
    assert every.tokens.distribution().maximum <= longest
    if all(every == 1 for _, every in spread.tiers):
        assert counted(some) == counted(every)


def test_of_a_large_file_a_part_is_measured_and_said_to_be(tmp_path: Path) -> None:
    rng = Random(3)  # noqa: S311 - nothing secret hangs on it
    records = [line(bare(f"Question {n}?", "x" * rng.randrange(1, 9000))) for n in range(6_000)]
    records[5_000] = line(bare("Long?", "x" * 20_000))
    data = pairs(tmp_path, *records)
    report = data.report(profile=True, workers=1)
    part, whole = report.profile, data.profile()
    assert part is not None
    assert part == data.report(profile=True, workers=2).profile
    assert (part.records, part.prompts, part.system_records) == (6_000, 6_000, 0)
    assert (whole.measured, whole.longest) == (6_000, whole.tokens.maximum)
    assert 1_000 < part.measured < 1_500
    assert whole.longest <= part.longest <= whole.longest + 100
    assert abs(part.tokens.count - 6_000) < 400
    assert part.tokens.mean == pytest.approx(whole.tokens.mean, rel=0.05)
    assert part.tokens.quantile(0.9) == pytest.approx(whole.tokens.quantile(0.9), rel=0.05)
    assert f"measured on {part.measured:,} of 6,000 records" in str(part)
    assert "measured on" not in str(whole)
    assert part.recommend().values == whole.recommend().values


def test_advice_holds_the_longest_record_that_was_not_measured(tmp_path: Path) -> None:
    profile = pairs(tmp_path, *many(30)).profile()
    part = replace(profile, measured=10, longest=1_500)
    assert profile.recommend().values["max_length"] == 1024
    assert part.recommend().values["max_length"] == 2048
    assert "none above 1,500 estimated tokens" in str(part.recommend())
    assert f"longest {profile.longest} estimated tokens" in str(profile.recommend())


def test_a_record_that_advice_may_not_hold_is_not_called_held(tmp_path: Path) -> None:
    whole = pairs(tmp_path, *many(30)).profile()
    profile = replace(whole, measured=10, longest=40_000)
    assert "holds 99 of 100 records" in str(profile.recommend())
    assert "others may be" in str(profile.recommend())
    assert "others may be" not in str(whole.recommend())


def test_a_few_pairs_say_nothing_of_length(tmp_path: Path) -> None:
    few, more = (pairs(tmp_path, *many(count, good="a longer answer")).profile() for count in (49, 50))
    assert "the longer one in 100% of the pairs" in str(few)
    assert "may be length" not in str(few)
    assert "may be length" in str(more)


def test_there_are_not_more_prompts_than_records() -> None:
    census = Census(preference=True)
    census.records, census.prompts = 70, Sample(limit=8)
    census.prompts.update(range(0, 1 << 12, 64))
    census.prompts.update(range(0, 1 << 12, 32))
    assert census.prompts.distinct() > 70
    assert profile_from(census, "a.jsonl", "preference").prompts == 70


NOWHERE = Spread(tiers=((0, 1 << 40),), stretch=1)


def test_the_longest_record_is_known_whatever_is_in_it(tmp_path: Path) -> None:
    picture = changed(pair("x" * 5000), put(image(), "messages", 0, "content", 1))
    for records in ([line(pair("x" * 5000)), *many(3)], [line(picture), *many(3)]):
        data = b"".join(records)
        census = Census(preference=True, spread=NOWHERE)
        census.take(Lines(data), QuickLook(KINDS["pair"]).look(Lines(data)), 0)
        assert (census.records, census.measured) == (4, 0)
        assert 5000 < census.longest == len(records[0])
    text = json.dumps(bare("\u4e2d" * 10_000)).encode() + b"\n"
    data = pairs(tmp_path, *many(4_500, good="x" * 4_000), text, *many(3))
    profile = data.report(profile=True, workers=1).profile
    assert profile is not None
    assert profile.measured < 4_500
    assert profile.longest == 8 * 1024 > data.profile().longest  # its line would speak for 15,000 tokens


@pytest.mark.parametrize("more", [1, 400])
def test_a_longer_line_is_noticed_among_short_ones(more: int) -> None:
    census, offset = Census(preference=True, spread=NOWHERE), 0
    for size in (2_000, 2_000 + more):
        longest = line(bare("x" * size))
        data = b"".join([*many(60), longest, *many(60)])
        census.take(Lines(data), QuickLook(KINDS["pair"]).look(Lines(data)), offset)
        assert census.longest == len(longest)
        offset += len(data)


def test_a_report_and_a_profile_come_from_one_pass(tmp_path: Path) -> None:
    picture = changed(pair("And this?"), put(image(), "messages", 0, "content", 1))
    data = pairs(tmp_path, *many(40), picture, b"broken\n", bare("Hi\nUser: there"), *many(4))
    assert data.report().profile is None
    report = data.report(profile=True)
    assert report.profile == data.profile()
    assert replace(report, profile=None) == data.report()
    assert json.loads(report.to_json())["profile"]["records"] == 46
    assert json.loads(report.to_jsonl().splitlines()[0])["profile"]["unreadable"] == 1
    assert "profile" not in json.loads(data.report().to_json())


def test_processes_put_their_profiles_together(tmp_path: Path) -> None:
    data = pairs(tmp_path, *many(900, good="x" * 4_000))
    with data.open() as stream:
        assert processes(stream, 2) == 2
    assert data.report(profile=True, workers=2).profile == data.profile()


def test_a_line_too_long_and_a_byte_order_mark_are_counted_alike_in_both(tmp_path: Path) -> None:
    long = line(bare("x" * (LIMITS["line-bytes"].value + 1_000_000)))
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line(bare("Hi")) + b"\n" + line(bare("Ho")) + long)
    data = PreferenceDataset.from_jsonl(path)
    profile = data.profile()
    assert (profile.records, profile.unreadable) == (2, 1)
    assert data.report(profile=True).profile == profile
    with path.open("ab") as file:
        file.write(line(bare("What follows is too far from the beginning to be measured.")))
    profile, part = data.profile(), data.report(profile=True).profile
    assert part is not None
    for found in profile, part:
        assert (found.records, found.unreadable, found.prompts) == (3, 1, 3)
    assert (profile.measured, part.measured) == (3, 2)
    assert profile.longest < part.longest < 100


def test_prompts_that_are_trained_on_too_are_counted(tmp_path: Path) -> None:
    held = pairs(tmp_path, *many(20, good="A", poor="B"), name="held.jsonl")
    profile = pairs(tmp_path, *many(15), *many(5)).profile(held)
    assert profile.overlap is not None
    assert (profile.overlap.records, profile.overlap.prompts, profile.overlap.shared) == (20, 20, 15)
    assert profile.overlap.exact
    assert "15 of 20 prompts (75.0%) are trained on too" in str(profile)
    assert pairs(tmp_path, bare("else")).profile(held).overlap.shared == 0
    with pytest.raises(DatasetError, match="share no prompts"):
        held.profile(ChatDataset.from_jsonl(write(tmp_path / "c.jsonl", chat())))


def test_a_sample_of_prompts_stays_small_and_near_the_truth() -> None:
    sample = Sample(limit=500)
    for n in range(40_000):
        sample.update([n * 0x9E3779B97F4A7C15 >> 3 & 0xFFFFFFFFFFFFFFFF])
    assert len(sample.kept) <= 500
    assert sample.distinct() == pytest.approx(40_000, rel=0.25)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    few, lots = pairs(tmp_path, *many(500), name="few.jsonl"), pairs(tmp_path, *many(20_000, good="x" * 600))
    peaks: list[int] = []
    for data in (few, lots):
        data.profile()
        tracemalloc.start()
        try:
            data.profile()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4_000_000


@pytest.mark.parametrize(
    ("size", "expected"),
    [(100, 1024), (3_000, 1024), (3_400, 2048), (16_000, 5120), (400_000, 32_768)],
)
def test_max_length_is_the_least_step_that_holds_the_records(tmp_path: Path, size: int, expected: int) -> None:
    advice = pairs(tmp_path, *many(30, good="x" * size)).profile().recommend(NovaModel.LITE)
    assert advice.values["max_length"] == expected
    assert advice.values["max_length"] % 1024 == 0


def test_a_few_giants_do_not_set_max_length(tmp_path: Path) -> None:
    profile = pairs(tmp_path, *many(2000, good="x" * 1000), bare("big", "y" * 60_000, "no")).profile()
    length = profile.recommend().recommendations[0]
    assert (length.name, length.value) == ("max_length", 1024)
    assert "about 1 record is longer" in length.warning


def test_images_and_small_instances_cap_max_length(tmp_path: Path) -> None:
    picture = changed(bare("x" * 200_000), put(image(), "messages", 0, "content", 1))
    assert pairs(tmp_path, picture).profile().recommend().values["max_length"] == 16_384
    long = pairs(tmp_path, bare("x" * 200_000)).profile()
    assert long.recommend(instance_type="ml.p4d.24xlarge").values["max_length"] == 16_384
    assert long.recommend("nova-lite", instance_type="ml.g5.48xlarge").values["max_length"] == 4_096


@pytest.mark.parametrize(("records", "epochs"), [(100, 5), (500, 4), (999, 3), (1_000, 2), (5_000, 2), (5_001, 1)])
def test_small_data_takes_more_epochs(tmp_path: Path, records: int, epochs: int) -> None:
    assert pairs(tmp_path, *many(records)).profile().recommend().values["max_epochs"] == epochs


@pytest.mark.parametrize(("model", "steps"), [("nova-micro", 5), ("nova-lite", 19), ("nova-pro", 10)])
def test_warm_up_follows_the_model(tmp_path: Path, model: str, steps: int) -> None:
    advice = pairs(tmp_path, *many(3_100)).profile().recommend(model, global_batch_size=16)
    assert advice.values["warmup_steps"] == steps
    assert advice.total_steps == 388
    assert all(each.reason and each.source for each in advice.recommendations)


def test_a_warm_up_that_outlasts_the_training_is_said(tmp_path: Path) -> None:
    profile = pairs(tmp_path, *many(120)).profile()
    advice = profile.recommend(global_batch_size=64)
    assert advice.total_steps == 10
    assert advice.values["warmup_steps"] == 1
    assert "default of 10 would outlast the training of 10 steps" in str(advice)
    assert "outlast" not in str(profile.recommend(global_batch_size=64, warmup_steps=2))
    assert "your 50 would outlast" in str(profile.recommend(global_batch_size=64, warmup_steps=50))


def test_nova_2_has_its_own_steps_of_max_length_and_no_epochs(tmp_path: Path) -> None:
    data = ChatDataset.from_jsonl(write(tmp_path / "c.jsonl", chat("x" * 4000)), nova2=True)
    advice = data.profile().recommend(NovaModel.LITE_2)
    assert advice.values == {"max_length": 8192, "warmup_steps": 15}
    assert advice.total_steps is None


def test_what_cannot_be_recommended_is_an_error(tmp_path: Path) -> None:
    profile = pairs(tmp_path, bare("Hi")).profile()
    with pytest.raises(ConfigurationError, match="known: nova-micro"):
        profile.recommend("nova-large")
    with pytest.raises(ConfigurationError, match="not offered for DPO"):
        profile.recommend(NovaModel.LITE_2)
    with pytest.raises(ConfigurationError, match="global_batch_size is 0"):
        profile.recommend(global_batch_size=0)
    empty = pairs(tmp_path, b"{}\n").profile()
    with pytest.raises(ConfigurationError, match="no readable records"):
        empty.recommend()
    assert "0 preference records" in str(empty)
    with pytest.raises(DatasetError, match="no readable records to draw"):
        empty.plot(tmp_path / "p.png")


def test_html_is_escaped(tmp_path: Path) -> None:
    shown = pairs(tmp_path, bare("Hi"), name="<b>&.jsonl").profile()._repr_html_()
    assert "&lt;b&gt;&amp;.jsonl" in shown
    assert "<b>" not in shown


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    held = pairs(tmp_path, *many(20), name="held$x$_.jsonl")
    pairs(tmp_path, *many(200, good="longer answer")).profile(held).plot(tmp_path / "p.png")
    held.profile().plot(tmp_path / "p.svg")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    ChatDataset.from_jsonl(write(tmp_path / "c.jsonl", chat())).profile().plot(tmp_path / "c.png")
    with pytest.raises(DatasetError, match="cannot be written"):
        held.profile().plot(tmp_path / "gone" / "p.png")
    with pytest.raises(DatasetError, match="cannot be written"):
        held.profile().plot(tmp_path / "p.docx")


def test_answers_of_the_same_length_are_neither_longer_nor_shorter_in_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    margin = drawing(pairs(tmp_path, *many(9, good="A.", poor="B.")).profile(), None).axes[2]
    assert {each.get_text() for each in margin.texts} == {"0 %\nshorter", "100.0 %\nas long", "0 %\nlonger"}


@pytest.mark.parametrize("good", ["A.", "A. " * 400])
def test_no_mark_of_the_picture_is_written_twice_or_in_powers(tmp_path: Path, good: str) -> None:
    pytest.importorskip("matplotlib")
    figure = drawing(pairs(tmp_path, *many(9, good=good, poor="B.")).profile(), None)
    figure.draw_without_rendering()
    for axis in figure.axes:
        marks = [each.get_text() for which in ("major", "minor") for each in axis.get_xticklabels(which=which)]
        marks = [each for each in marks if each]
        assert marks
        assert len(set(marks)) == len(marks)
        assert not [each for each in marks if "10^" in each]


def test_of_a_part_that_stands_for_more_the_picture_shows_shares(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    profile = pairs(tmp_path, *many(20)).profile()
    part = replace(profile, records=7, measured=5)  # what was measured may stand for a few more or less than there are
    shown = {each.get_text() for each in drawing(part, None).axes[3].texts}
    assert shown == {"100.0 %", "0 %"}


def test_one_record_is_not_told_in_the_plural(tmp_path: Path) -> None:
    data = pairs(tmp_path, *many(1))
    assert "1 preference record, 1 different prompt" in data.profile().headline()
    assert "1 preference record, 0 errors" in str(data.report())


@pytest.mark.parametrize("words", [1, 100_000])
def test_the_legend_covers_no_data_and_stays_in_the_picture(tmp_path: Path, words: int) -> None:
    pytest.importorskip("matplotlib")
    figure = drawing(pairs(tmp_path, *many(5, good="word " * words)).profile(), None)
    figure.draw_without_rendering()
    [legend] = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    box = legend.get_window_extent()
    assert not [axis for axis in figure.axes if box.overlaps(axis.get_window_extent())]
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_a_picture_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **options)

    profile = pairs(tmp_path, bare("Hi")).profile()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"nova-dpo-sdk\[plots\]"):
        profile.plot(tmp_path / "p.png")


def test_lone_surrogates_and_odd_records_do_no_harm(tmp_path: Path) -> None:
    odd = json.dumps(bare("half \ud800 pair")).encode() + b"\n"
    one_candidate = line(changed(bare("Hi"), drop("messages", 1, "candidates", 1)))
    twice = line(changed(bare("Hi"), put("preferred", "messages", 1, "candidates", 1, "preferenceLabel")))
    profile = pairs(tmp_path, odd, one_candidate, twice, b"[]\n", b"\xff\n", b"[" * 5000 + b"\n").profile()
    assert profile.records + profile.unreadable == 6
    assert profile.unreadable >= 5


def test_a_picture_that_cannot_be_written_leaves_the_older_one(tmp_path):
    pytest.importorskip("matplotlib")
    data = pairs(tmp_path, *many(3))
    older = tmp_path / "older.nothing"
    older.write_text("older")
    with pytest.raises(DatasetError, match="cannot be written"):
        data.profile().plot(older)
    assert older.read_text() == "older"
    assert sorted(tmp_path.iterdir()) == [older, data.path]

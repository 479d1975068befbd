"""The quick look and the exact diagnosis agree, whatever stands in the file."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from dataset_records import changed, chat, document, drop, image, line, pair, put, tool_chat, video, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset
from nova_dpo_sdk.datasets._exact import Explainer
from nova_dpo_sdk.datasets._fast import QuickLook
from nova_dpo_sdk.datasets._lines import Lines
from nova_dpo_sdk.datasets._scan import Order, scan
from nova_dpo_sdk.datasets._seen import Seen
from nova_dpo_sdk.datasets._texts import is_utf8

if TYPE_CHECKING:
    from pathlib import Path

M = "messages"
KINDS = {
    "pair": Explainer(preference=True),
    "chat": Explainer(preference=False),
    "nova2": Explainer(preference=False, nova2=True),
}
TEXTS = [
    "", " ", "\n", "\t \r", "\u3000", "\u00a0\u2003", "\u200b", "x", "Paris.", "Paris. Or", "Par", "\u00e9t\u00e9", "日本語", "😀 fine", '"quoted"',
    "back\\slash", "\\", "a/b", "User: hi", "the user: hi", "SuperUser:", "x\nAssistant:", "[EOS]", "[eos]", "<image>",
    "<IMAGE>", "<unk>", "a: b", '{"role": "user", "role": 1}', '\\":', '":', "\x00\x1f", "\x7f", "\u2028", "“curly”", "Bot :", "thought:", "K:",
    "u\u017fer:", "long " * 900,
]  # fmt: skip
VALUES: list[Any] = [None, True, 0, -1.5, [], {}, [[]], "text", "user", "assistant", "preferred", "x", {"text": "x"}]
KEYS = [
    "text", "role", "content", "candidates", "messages", "system", "schemaVersion", "preferenceLabel", "image", "video",
    "document", "toolUse", "toolConfig", "reasoningContent", "extra", "te xt", 'q"uote', "format", "source", "uri", "bucketOwner", "name",
]  # fmt: skip
URIS = ["s3://b/k.png", "s3://b//k", "s3://b/a b", "https://x/y", "s3://b", "s3://B_1/x/y-z.png", "s3://b/User:x"]


def reasoned() -> dict[str, Any]:
    thought = {"reasoningContent": {"reasoningText": {"text": "Let me think."}}}
    return changed(chat(), put([thought, {"text": "Paris."}], M, 1, "content"))


SEEDS = {
    "pair": [pair(), changed(pair(), put(image(), M, 0, "content", 1)), changed(pair(), drop("system"), drop("schemaVersion")),
             {M: [*pair()[M][:1], *pair()[M][3:]]}],
    "chat": [chat(), changed(chat(), put(video(), M, 0, "content", 1)), changed(chat(), put([image(format="webp")], M, 0, "content")),
             changed(pair(), put(chat()[M][1], M, 3)), pair()],
    "nova2": [chat(), tool_chat(), reasoned(), changed(chat(), put(document(), M, 0, "content", 1)),
              changed(chat(), put(image(format="webp"), M, 0, "content", 1))],
}  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a value."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        found.extend(places(inner))
    return found


def mutate(record: Any, rng: Random) -> None:
    spots = places(record)
    holder, key = rng.choice(spots)
    old = holder[key]
    texts = [spot for spot in spots if isinstance(spot[0][spot[1]], str)]
    action = rng.randrange(9)
    if action <= 3 and texts:
        holder, key = rng.choice(texts)
        holder[key] = (
            rng.choice(URIS if key == "uri" else TEXTS) if rng.random() < 0.8 else copy.deepcopy(rng.choice(VALUES))
        )
    elif action == 4:
        del holder[key]
    elif action == 5:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif action == 6 and isinstance(old, dict):
        old[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
    elif action == 7 and isinstance(old, list) and old:
        old.append(copy.deepcopy(rng.choice(old)))
    elif action == 8 and isinstance(old, list):
        rng.shuffle(old)


def escaped(text: str, rng: Random) -> str:
    """Write some characters in a longer way than needed."""
    out = []
    for char in text:
        if char == "/" and rng.random() < 0.3:
            out.append("\\/")
        elif char.isalpha() and ord(char) < 0x10000 and rng.random() < 0.02:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return "".join(out)


def spliced(data: bytes, rng: Random) -> bytes:
    """Change bytes: spaces, keys that stand twice, broken ends, odd bytes."""
    at = rng.randrange(len(data) + 1)
    action = rng.randrange(9)
    colons = [index for index, byte in enumerate(data) if byte == ord(":")]
    if action == 0 and colons:
        at = rng.choice(colons)
        return data[:at] + b" " + data[at:]
    if action == 1:
        key = rng.choice(KEYS)
        for mark in (b'{"%s":' % key.encode(), b'"%s": ' % key.encode()):
            if mark in data:
                return data.replace(mark, mark + b'"x",' + mark.lstrip(b"{"), 1)
    if action == 2:
        return data[:at] + data[at + 1 :]
    if action == 3:
        return (
            data[:at]
            + rng.choice([b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0041", b"\\/", b"\x01", b" ", b"\r"])
            + data[at:]
        )
    if action == 4:
        return data.replace(b", ", b",", rng.randrange(4)).replace(b": ", b":", rng.randrange(4))
    if action == 5:
        return b"\xef\xbb\xbf" + data
    if action == 6:
        return data + rng.choice([b" ", b"\r", b"}", b",", data])
    if action == 7:
        return data.replace(b'"role": "user"', b'"role": "user", "role": "user"', 1)
    return data.replace(b'"text"', rng.choice([b'"te\\u0078t"', b'"Text"', b'"text" ']), 1)


def some_line(kind: str, rng: Random) -> bytes:
    record = json.loads(json.dumps(rng.choice(SEEDS[kind])))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        if places(record):
            mutate(record, rng)
    style = rng.randrange(4)
    separators = [(",", ":"), (", ", ": "), (",", ": "), (" ,", " :")][style]
    text = json.dumps(record, ensure_ascii=rng.random() < 0.3, separators=separators)
    if rng.random() < 0.3:
        text = escaped(text, rng)
    data = text.encode()
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        data = spliced(data, rng)
    return data.replace(b"\n", b"")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_what_the_quick_look_takes_in_the_exact_diagnosis_finds_clean(kind: str, seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - nothing secret hangs on it
    data = some_line(kind, rng)
    harvest = QuickLook(KINDS[kind]).look(Lines(data))
    assert len(harvest.rows) + len(harvest.doubtful) == 1
    if harvest.rows:
        diagnosis = KINDS[kind].explain(data)
        assert diagnosis.faults == []
        assert harvest.facts() == [diagnosis.facts()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_a_report_is_the_same_with_and_without_the_quick_look(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int
) -> None:
    rng = Random(seed)  # noqa: S311 - nothing secret hangs on it
    lines = [some_line(kind, rng) for _ in range(rng.randrange(1, 30))]
    lines += [rng.choice(lines) for _ in range(rng.randrange(3))]
    data = rng.choice([b"\n", b"\n", b"\r\n"]).join(lines) + rng.choice([b"", b"\n", b"\n\n"])
    path = tmp_path_factory.getbasetemp() / f"{kind}.jsonl"
    path.write_bytes(data or b"\n")
    order = Order(path, KINDS[kind], {}, max_details=rng.choice([0, 3, 1000]))
    reports = []
    for quick in (True, False):
        with path.open("rb") as stream:
            block = rng.choice([1, 100, 5_000, 1 << 20])
            reports.append(scan(stream, dataclasses.replace(order, quick=quick, block=block)))
    assert reports[0] == reports[1]


@pytest.mark.parametrize("kind", KINDS)
def test_good_records_are_taken_in_by_the_quick_look(kind: str) -> None:
    for seed in SEEDS[kind]:
        clean = not KINDS[kind].explain(line(seed)).faults
        usual = "toolConfig" not in seed and "document" not in json.dumps(seed)
        for separators in ((",", ":"), (", ", ": ")):
            data = json.dumps(seed, separators=separators).encode()
            assert bool(QuickLook(KINDS[kind]).look(Lines(data)).rows) is (clean and usual)


def test_lines_that_hide_a_second_key_are_never_taken_in() -> None:
    good = json.dumps(pair()).encode()
    twice = good.replace(b'"role": "user"', b'"role": "user", "role": "user"', 1)
    assert twice != good
    for other in (good, good.replace(b": ", b":"), good.replace(b": ", b" : ")):
        assert QuickLook(KINDS["pair"]).look(Lines(b"\n".join([other, twice, other]))).doubtful == [1]


def test_a_second_key_is_not_made_up_for_by_missing_spaces() -> None:
    good = json.dumps(pair()).encode()
    twice = good.replace(b'{"text": "Hello"}', b'{"text":"Hello","text":"Hello"}', 1)
    for count in range(20):
        tight = twice.replace(b", ", b",", count)
        assert QuickLook(KINDS["pair"]).look(Lines(tight + b"\n" + good)).doubtful == [0]
    wide = twice.replace(b'"role": ', b'"role" :', 1)
    assert QuickLook(KINDS["pair"]).look(Lines(wide)).doubtful == [0]


def test_a_record_over_two_lines_does_not_make_up_for_two_on_one() -> None:
    """As many values as lines, but not one on each; and as many keys in the other lines as in records of their own."""
    good = pair()
    odd = {M: [{**good[M][0], "role": "assistant"}, good[M][3]]}
    split = json.dumps({"system": good["system"], M: good[M]})
    cut = split.index('{"role": "assistant", "candidates"')
    head, tail = split[:cut], split[cut:]
    assert (head + json.dumps(odd)).count('":') == 2 * json.dumps(odd).count('":')
    lines = [json.dumps(good) + json.dumps(odd), head, tail]
    assert QuickLook(KINDS["pair"]).look(Lines("\n".join(lines).encode())).doubtful == [0, 1, 2]


@pytest.mark.parametrize("kind", ["pair", "chat"])
def test_lines_of_the_right_length_are_not_taken_in_when_they_end_elsewhere(kind: str) -> None:
    """Two records on one line save a newline, which stands at another place instead: as long as it should be."""
    good = json.dumps(SEEDS[kind][0], separators=(",", ":")).encode()
    look = QuickLook(KINDS[kind]).look
    assert look(Lines(b"\n".join([good] * 4) + b"\n")).rows == range(4)
    spots = (0, 1, good.index(b"["), good.rindex(b"]"), len(good) - 1)
    odd = [b"\n".join([good + good, good[:spot] + b"\n" + good[spot:], good, b""]) for spot in spots]
    assert {len(data) for data in odd} == {4 * len(good) + 4}
    for data in (*odd, good + good + b"\n\n", b"\n" + good + good + b"\n", good + b"\n\n" + good + b"\n"):
        lines = data.removesuffix(b"\n").split(b"\n")
        assert look(Lines(data)).doubtful == [row for row, each in enumerate(lines) if KINDS[kind].explain(each).faults]


def test_each_of_several_faults_in_a_block_is_noticed() -> None:
    blank = changed(pair(), put("  ", M, 0, "content", 0, "text"))
    same = changed(pair(), put(pair()[M][3]["candidates"][1]["content"], M, 3, "candidates", 0, "content"))
    word = changed(pair(), put("User: hi", M, 2, "content", 0, "text"))
    records = (pair(), blank, pair(), pair(), same, pair(), word, pair())
    data = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)
    assert QuickLook(KINDS["pair"]).look(Lines(data)).doubtful == [1, 4, 6]


def test_words_are_found_in_whatever_record_of_a_block() -> None:
    plain, other = changed(pair(), drop("system")), changed(pair(), put(image(), M, 0, "content", 1))
    said = changed(pair(), put([{"text": "ask the bot: hello"}, image()], M, 0, "content"))
    data = b"".join(
        json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in (plain, other, said, plain)
    )
    assert QuickLook(KINDS["pair"]).look(Lines(data)).doubtful == [2]


@pytest.mark.parametrize("char", ["\u00e9", "\u6771", "\U0001f680"])
def test_bytes_that_are_no_characters_are_noticed_wherever_they_stand(char: str) -> None:
    text = (char * 9000).encode()
    assert is_utf8(text)
    assert is_utf8(b"")
    assert not is_utf8(text[:-1])
    assert not is_utf8(text[1:])
    for at in range(0, len(text), 5000):
        assert not is_utf8(text[:at] + b"\xff" + text[at:])
    assert not is_utf8(text + "\ud800".encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("kind", ["pair", "chat"])
@pytest.mark.parametrize("gap", [b"{", b" {", b"\t{", b"\r{", b"{ ", b"{\t", b"{\r", b"{\n"])
def test_records_that_no_line_end_parts_are_not_taken_in(kind: str, gap: bytes) -> None:
    """With white space elsewhere, they are as long as records in lines of their own."""
    good = json.dumps(SEEDS[kind][0], separators=(",", ":")).encode()
    more = b" " * (2 - len(gap))
    data = good + gap + good[1:-1] + more + b"}\n"
    assert len(data) == 2 * len(good) + 2
    assert QuickLook(KINDS[kind]).look(Lines(data)).doubtful == list(range(data.count(b"\n")))
    alone = good + b"\n"
    assert QuickLook(KINDS[kind]).look(Lines(alone * 3 + data)).rows == [0, 1, 2]


def test_systems_of_every_kind_in_one_block() -> None:
    odd: list[Any] = [None, [], "Be brief.", [{"text": 7}], [{"text": "A"}, {"text": "B"}], [{"text": "A", "more": 1}]]
    fine: list[Any] = [[{"text": "Be brief."}], [{"text": "Be kind."}]]
    for systems in ([*fine, *odd, fine[0]], [*odd, *fine], [fine[0], odd[0]], [fine[0]] * 5, [odd[0]] * 5):
        records = [changed(pair(), put(system, "system")) for system in systems]
        records.insert(1, changed(pair(), drop("system")))
        systems.insert(1, fine[0])
        data = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)
        found = QuickLook(KINDS["pair"]).look(Lines(data))
        assert found.doubtful == [row for row, system in enumerate(systems) if system not in fine]
        assert list(found.rows) == [row for row, system in enumerate(systems) if system in fine]


def test_a_line_that_cannot_be_read_spoils_no_other_line() -> None:
    good, word = pair(), changed(pair(), put("User: hi", M, 2, "content", 0, "text"))
    seen = changed(pair(), put(image(), M, 0, "content", 1))
    kinds: dict[str, tuple[Any, bool]] = {"good": (good, True), "word": (word, False), "image": (seen, True)}
    rng = Random(5)  # noqa: S311 - draws no secrets
    for _ in range(60):
        names = rng.choices(["good", "word", "image", "broken", "blank"], [20, 1, 1, 1, 1], k=rng.randrange(1, 40))
        whole = {name: json.dumps(record, separators=(",", ":")).encode() for name, (record, _) in kinds.items()}
        whole |= {"broken": whole["good"][:-3], "blank": b""}
        found = QuickLook(KINDS["pair"]).look(Lines(b"".join(whole[name] + b"\n" for name in names)))
        clean = [name in kinds and kinds[name][1] for name in names]
        assert sorted(found.rows) == [row for row, stays in enumerate(clean) if stays]
        assert found.doubtful == [row for row, stays in enumerate(clean) if not stays]


def test_an_error_that_leads_to_the_wrong_line_spoils_no_other_line() -> None:
    """Errors count values and bytes: blank lines and several values on one line lead them astray."""
    good = json.dumps(pair(), separators=(",", ":")).encode()
    empty, label = b'{"messages":[]}', good.replace(b'"non-preferred"', b'"- at `$[0]`"')
    cut = good[:-1]
    starts: list[list[bytes]] = [
        [empty * 40, label], [b"", label], [b"", b"", good, label], [good, label, label, cut, label, cut, label],
        [cut, b"", good], [cut, b" ", cut], [b"}", good], [good, b"}", label], [good, b"]", cut], [cut, b"]}", label],
        [good[:-20], good], [good[: good.index(b",") + 1], good], [good, good + b"x"], [good + good, b"", label],
        [label, good + good, b"", good], [good, b"\xff", label], [b"[" * 5000, good], [good, b"{" + b"[" * 5000, label],
    ]  # fmt: skip
    for start in starts:
        for lines in ([*start, *[good] * 60], [*[good] * 30, *start, *[good] * 30], [*[good] * 60, *start]):
            data = b"\n".join(lines)
            for text in (data, data + b"\n"):
                whole = text.removesuffix(b"\n").split(b"\n")
                wanted = [row for row, each in enumerate(whole) if KINDS["pair"].explain(each).faults]
                found = QuickLook(KINDS["pair"]).look(Lines(text))
                assert found.doubtful == wanted
                assert sorted(found.rows) == [row for row in range(len(whole)) if row not in wanted]


def test_few_and_many_doubtful_records_are_left_out_alike() -> None:
    rng = Random(9)  # noqa: S311 - draws no secrets
    systems: list[Any] = [[{"text": "Be brief."}], [{"text": "Be kind."}]]
    for _ in range(60):
        records = [changed(pair(), put(rng.choice(systems), "system")) for _ in range(rng.randrange(1, 40))]
        bad = rng.sample(range(len(records)), k=rng.randrange(min(len(records), 20)))
        for place in range(0, len(records), 3):
            records[place] = {M: [pair()[M][0], pair()[M][3]]}
        for place in bad:
            records[place] = changed(records[place], put(f"User: {place}", M, 0, "content", 0, "text"))
        lines = [json.dumps(record, separators=(",", ":")).encode() for record in records]
        found = QuickLook(KINDS["pair"]).look(Lines(b"\n".join(lines)))
        assert found.doubtful == sorted(bad)
        assert found.facts() == [KINDS["pair"].explain(lines[row]).facts() for row in found.rows]


def test_the_collector_is_running_again_after_a_look(tmp_path: Path) -> None:
    data = PreferenceDataset.from_jsonl(write(tmp_path / "a.jsonl", pair()))
    assert gc.isenabled()
    data.report()
    assert gc.isenabled()
    gc.disable()
    try:
        data.report()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_bad_lines_leave_no_garbage_behind(tmp_path: Path) -> None:
    bad = [changed(tool_chat(), drop("toolConfig")), b"x\n", b'{"a":NaN}\n', changed(chat(), drop(M))]
    data = ChatDataset.from_jsonl(write(tmp_path / "a.jsonl", *bad * 20), nova2=True)
    data.report()
    gc.collect()
    data.report()
    assert gc.collect() < 40


@pytest.mark.parametrize("turns", [1, 3, 5])
@pytest.mark.parametrize("without", [[], ["system"], ["schemaVersion"], ["system", "schemaVersion"]])
@pytest.mark.parametrize("kind", ["pair", "chat"])
def test_the_shortest_length_of_a_record_is_known_to_the_byte(kind: str, without: list[str], turns: int) -> None:
    record = pair() if kind == "pair" else chat()
    said = [{"role": ("user", "assistant")[at % 2], "content": [{"text": f"{at}: été"}]} for at in range(turns)]
    record = changed(record, *map(drop, without), put([*said, record[M][-1]], M))
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    look = QuickLook(KINDS[kind])
    records = look._plain.decode_lines(data * 3)
    assert look._frame.length(records, look._columns(records, range(3))) == 3 * len(data)


def test_a_key_twice_is_not_hidden_by_what_other_records_have_less(tmp_path: Path) -> None:
    short = [changed(pair(f"Question {number}?"), drop("system")) for number in range(3)]
    lines = [json.dumps(each, separators=(",", ":")) for each in short]
    for spaces in range(40):
        twice = lines[0].replace('{"text":', '{"text":"x","text":', 1)
        spread = lines[1].replace(",", " " * spaces + ",", 1)
        path = write(tmp_path / "a.jsonl", "\n".join([twice, spread, lines[2], ""]).encode())
        assert PreferenceDataset.from_jsonl(path).report().counts["duplicate-key"] == 1, spaces


@pytest.mark.parametrize("quick", [True, False])
def test_a_repeat_is_the_same_in_every_text_and_in_its_place(tmp_path: Path, quick: bool) -> None:
    def record(system: str, asked: str, good: str, poor: str) -> dict[str, Any]:
        return changed(pair(asked, good, poor), put(system, "system", 0, "text"))

    apart = [
        ("A", "B", "C", "D"),
        ("C", "B", "A", "D"),
        ("D", "B", "C", "A"),
        ("B", "A", "C", "D"),
        ("A", "C", "B", "D"),
        ("E", "B", "C", "D"),
    ]
    path = write(
        tmp_path / "a.jsonl", *[record(*texts) for texts in apart], record("A", "B", "D", "C"), record(*apart[1])
    )
    order = Order(path, KINDS["pair"], {}, quick=quick)
    with path.open("rb") as stream:
        report = scan(stream, order)
    assert {(each.line, each.code) for each in report.problems} == {(7, "swapped-preference"), (8, "duplicate-record")}
    assert [each.message[each.message.lower().index("line") :].lower()[:7] for each in report.problems] == [
        "line 1 ",
        "line 2.",
    ]


def test_repeats_are_remembered_in_bounded_memory() -> None:
    seen = Seen(few=10, slots=64)
    assert list(seen.add(list(range(2, 82, 2)), list(range(1, 41)).copy)) == []
    assert list(seen.add([10, 200, 76, 200], [41, 42, 43, 44].copy)) == [(41, 5), (43, 38), (44, 42)]
    assert list(seen.add([302, 304, 302], [45, 46, 47].copy)) == [(47, 45)]  # twice at the same time
    many = Seen(few=10, slots=16)
    for start in range(0, 1000, 10):
        keys = list(range(2 * start, 2 * start + 20, 2))
        assert list(many.add(keys, list(range(start + 1, start + 11)).copy)) == []
    assert list(many.add([2 * 999], [2000].copy)) == [(2000, 1000)]


def test_all_repeats_among_few_records_are_found() -> None:
    keys = [number * 0x9E3779B97F4A7C15 % (1 << 64) for number in range(1, 61)]
    seen = Seen(few=200, slots=4)
    assert list(seen.add(keys, list(range(1, 61)).copy)) == []
    repeats = [*zip(range(61, 121), range(1, 61), strict=True), (122, 121)]
    assert list(seen.add([*keys, 7, 7], list(range(61, 123)).copy)) == repeats
    assert list(seen.add([keys[0], 8], [123, 124].copy)) == [(123, 1)]
    assert list(seen.add([8], [125].copy)) == [(125, 124)]


def test_numbers_are_not_asked_for_while_nothing_comes_twice() -> None:
    asked: list[int] = []

    def numbers(start: int) -> list[int]:
        asked.append(start)
        return [start, start + 1]

    seen = Seen(few=10, slots=64)
    for start in (1, 3):
        assert list(seen.add([10 * start, 10 * start + 1], partial(numbers, start))) == []
    assert asked == []
    assert list(seen.add([10, 90], partial(numbers, 5))) == [(5, 1)]
    assert sorted(asked) == [1, 3, 5]


@pytest.mark.parametrize("repeat", [False, True])
def test_keys_keep_their_numbers_when_they_become_many(*, repeat: bool) -> None:
    seen = Seen(few=10, slots=1 << 10)
    assert list(seen.add(list(range(2, 10)), list(range(1, 9)).copy)) == []
    if repeat:
        assert list(seen.add([5], [9].copy)) == [(9, 4)]
    assert list(seen.add(list(range(20, 28)), list(range(11, 19)).copy)) == []
    assert list(seen.add([9, 27, 30], [30, 31, 32].copy)) == [(30, 8), (31, 18)]


def test_texts_that_are_the_same_do_not_cancel_each_other_out(tmp_path: Path) -> None:
    off = dict.fromkeys(("candidates-identical", "few-records"), "off")
    said = ("One", "One", "other"), ("Two", "Two", "other"), ("Ask", "same", "same"), ("Ask", "twice", "twice")
    bare = drop("system"), drop("messages", 0), drop("messages", 0)
    echoes = [changed(pair(*texts), *bare) for texts in said]
    data = PreferenceDataset(write(tmp_path / "a.jsonl", *echoes), rules=off)
    assert "duplicate-record" not in data.report().counts
    again = PreferenceDataset(write(tmp_path / "b.jsonl", *echoes, *echoes), rules=off)
    assert again.report().counts["duplicate-record"] == 4


def test_keys_are_those_of_what_is_left() -> None:
    lines = Lines(line(pair("One")) + line(pair("Two")) + line(pair("Three")))
    harvest = QuickLook(KINDS["pair"]).look(lines)
    keys, turned = harvest.keys()
    harvest.drop([1])
    assert harvest.keys() == ([keys[0], keys[2]], [turned[0], turned[2]])

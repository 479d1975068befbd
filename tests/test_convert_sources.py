import gzip
import json
import sys
import tracemalloc
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from convert_support import pair, read_lines, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_dpo_sdk.datasets import _sources
from nova_dpo_sdk.datasets._convert import convert_preferences, detect_layout
from nova_dpo_sdk.datasets._sources import decode, open_source
from nova_dpo_sdk.errors import DatasetError

GOOD = {"prompt": "Q", "chosen": "A", "rejected": "B"}
LINE = json.dumps(GOOD).encode()
MADE = pair("Q", "A", "B")


def convert(tmp_path, source, **options):
    result = convert_preferences(source, tmp_path / "made.jsonl", **options)
    return result, read_lines(tmp_path / "made.jsonl")


def rows(path):
    return [
        (block.first + at, decode(row)) for block in open_source(path).blocks() for at, row in enumerate(block.rows)
    ]


def saved(tmp_path, data, name="source.jsonl"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize(
    "data",
    [
        LINE,
        LINE + b"\n",
        LINE + b"\r\n",
        b"\xef\xbb\xbf" + LINE,
        b"\n\n  \n" + LINE + b"\n\n",
        b"[" + LINE + b"]",
        b"\xef\xbb\xbf \n [\n" + LINE + b"\n]\n\n",
        b"[" + LINE + b",]",
        gzip.compress(LINE + b"\n"),
        gzip.compress(b"[" + LINE + b"]"),
        gzip.compress(LINE[:9]) + gzip.compress(LINE[9:]),
    ],
)
def test_a_record_is_found_however_the_file_is_written(tmp_path, data):
    result, made = convert(tmp_path, saved(tmp_path, data))
    assert (result.read, made) == (1, [MADE])


def test_zstd_is_read(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.compress(LINE + b"\n") + zstandard.compress(LINE + b"\n")
    assert convert(tmp_path, saved(tmp_path, packed))[1] == [MADE, MADE]


def test_zstd_that_breaks_off_is_named(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    with pytest.raises(DatasetError, match="cannot be unpacked to its end"):
        convert(tmp_path, saved(tmp_path, zstandard.compress(LINE * 5000)[:-8] + b"\xff" * 40))


def test_zstd_that_is_cut_off_is_not_taken_for_a_whole_file(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    lines = b"".join(LINE.replace(b"Q", b"Q%d" % n, 1) + b"\n" for n in range(20_000))
    packed = zstandard.compress(lines)
    for end in (len(packed) // 2, len(packed) - 1, 9):
        with pytest.raises(DatasetError, match="ends inside a frame"):
            convert(tmp_path, saved(tmp_path, packed[:end]))
    assert convert(tmp_path, saved(tmp_path, packed + packed))[0].read == 40_000


def test_zstd_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    for name in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DatasetError, match=r"nova-dpo-sdk\[zstd\]"):
        convert(tmp_path, saved(tmp_path, b"\x28\xb5\x2f\xfd1234"))


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    record = {"messages": messages, "rejected_response": "B", "images": None}
    parquet.write_table(pyarrow.Table.from_pylist([record] * 3), tmp_path / "source.parquet")
    result, made = convert(tmp_path, tmp_path / "source.parquet")
    assert (result.layout, made) == ("rejected-response", [MADE] * 3)


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        convert(tmp_path, saved(tmp_path, b"PAR1 and nothing else"))


def test_parquet_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DatasetError, match=r"nova-dpo-sdk\[parquet\]"):
        convert(tmp_path, saved(tmp_path, b"PAR1 and nothing else"))


def test_a_generator_is_read_once_and_whole(tmp_path):
    result, made = convert(tmp_path, (dict(GOOD, id=at) for at in range(1500)))
    assert result.read == len(made) == 1500


class Frame:
    """Looks like a pandas frame, with numpy's arrays and not-a-number in it."""

    columns = ("prompt", "chosen", "rejected", "system")

    def itertuples(self, *, index, name):
        assert (index, name) == (False, None)
        said = SimpleNamespace(tolist=lambda: [{"role": "assistant", "content": "A"}])
        yield "Q", said, "B", float("nan")

    def __iter__(self):
        return iter(self.columns)


def test_a_frame_is_read_by_rows(tmp_path):
    result, made = convert(tmp_path, Frame())
    assert made == [MADE]
    assert result.mended == {"null-field": 1}


def test_a_pandas_frame_is_read(tmp_path):
    pandas = pytest.importorskip("pandas")
    assert convert(tmp_path, pandas.DataFrame([GOOD, GOOD]))[1] == [MADE, MADE]


class Labelled(Frame):
    """Looks like a pandas frame whose index was a column once."""

    columns = ("chosen", "rejected", "system")
    index = SimpleNamespace(names=("prompt",))

    def reset_index(self, *, level):
        assert level == ["prompt"]
        return Frame()


def test_an_index_with_a_name_is_read_as_the_column_that_it_was(tmp_path):
    assert convert(tmp_path, Labelled())[1] == [MADE]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([GOOD, GOOD])
    assert convert(tmp_path, frame.set_index("prompt"))[1] == [MADE, MADE]
    assert convert(tmp_path, frame.set_index("prompt", drop=False))[1] == [MADE, MADE]


def test_two_columns_of_one_name_are_refused(tmp_path):
    class Twice(Frame):
        columns = ("prompt", "chosen", "rejected", "prompt")

    with pytest.raises(DatasetError, match=r"several columns called prompt\. Keep one of each"):
        convert(tmp_path, Twice())


@pytest.mark.parametrize("nothing", [type("NAType", (), {})(), type("NaTType", (), {})(), float("nan"), None])
def test_what_is_missing_in_a_frame_is_null_by_whatever_name(tmp_path, nothing):
    result, made = convert(tmp_path, [GOOD, dict(GOOD, chosen=nothing)])
    assert (made, result.dropped) == ([MADE], {"missing-field": 1})


def test_a_data_set_that_hands_out_tables_is_read_by_rows(tmp_path):
    class HuggingFace(list):
        format = MappingProxyType({"type": "pandas"})

        def with_format(self, kind):
            assert kind is None
            return [GOOD]

    assert convert(tmp_path, HuggingFace([object()]))[1] == [MADE]


def test_rows_in_memory_that_are_no_records_are_not_told_to_be_lines(tmp_path):
    with pytest.raises(DatasetError, match=r"of the list .2. can be read as a record.*Pass an iterable of mappings"):
        convert(tmp_path, ["a", "b"])


def test_several_splits_are_refused_with_a_hint(tmp_path):
    with pytest.raises(DatasetError, match=r"keys train, test.*pass one split"):
        convert(tmp_path, {"train": [GOOD], "test": [GOOD]})


def test_something_else_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="The source is a int"):
        convert(tmp_path, 5)


def test_detection_does_not_eat_a_list():
    records = [GOOD] * 3
    assert detect_layout(records) == detect_layout(records) == "prompt-chosen-rejected"


def test_bad_lines_are_counted_with_their_numbers(tmp_path):
    data = b"\n".join([LINE, b"{broken", b"", LINE, b'{"prompt": "\xff"}', b"[1]", b"[" * 200_000, LINE])
    result, made = convert(tmp_path, saved(tmp_path, data))
    assert made == [MADE] * 3
    assert result.read == 7
    assert {detail.record: detail.code for detail in result.details} == {
        2: "broken-json",
        5: "not-utf8",
        6: "not-an-object",
        7: "nested-too-deep",
    }


def test_many_bad_lines_at_the_start_do_not_hide_the_good_ones(tmp_path):
    result, made = convert(tmp_path, saved(tmp_path, b"// comment\n" * 300 + LINE))
    assert (result.dropped, made) == ({"broken-json": 300}, [MADE])


def test_only_bad_lines_are_an_error_with_the_first_line(tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)line 2: The row is not JSON.*one JSON object per line"):
        convert(tmp_path, saved(tmp_path, b"\n// no\n// no\n"))


def test_json_that_only_python_writes_is_read(tmp_path):
    data = b'{"prompt": "Q", "chosen": "A", "rejected": "B", "score": NaN, "id": %b}' % (b"9" * 400)
    assert convert(tmp_path, saved(tmp_path, data))[1] == [MADE]
    assert convert(tmp_path, saved(tmp_path, b"[" + data + b"," + data + b"]"))[1] == [MADE, MADE]


def test_a_deep_element_of_an_array_is_dropped_alone(tmp_path):
    deep = b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    result, made = convert(tmp_path, saved(tmp_path, b"[" + LINE + b"," + deep + b"," + LINE + b"]"))
    assert (result.dropped, made) == ({"nested-too-deep": 1}, [MADE, MADE])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "has no records"),
        (b"[]", "has no records"),
        (b"[" + LINE, "line 1.*cut off|cut off.*line 1"),
        (b"[\n" + LINE + b",\n" + LINE[:-5], r"cut off \(line 3\)|cut off.*line 3"),
        (b"[" + LINE + b"]\n[" + LINE + b"]", "goes on after the array"),
        (b"[" + LINE + b"}]", "stray bracket"),
        (LINE.decode().encode("utf-16"), "is UTF-16"),
        (gzip.compress(LINE * 1000)[:-9], "cannot be unpacked to its end"),
        (b"\x1f\x8b\x08 and no more", "cannot be unpacked to its end"),
        (gzip.compress(b"PAR1\x15\x04\x15"), "is a Parquet file that was compressed once more. Unpack it first"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, data, says):
    with pytest.raises(DatasetError, match=rf"(?s)source\.jsonl.*({says})"):
        convert(tmp_path, saved(tmp_path, data))
    assert not (tmp_path / "made.jsonl").exists()


@pytest.mark.parametrize("uri", ["s3://acme/d.jsonl", Path("s3://acme/d.jsonl")])
def test_an_address_in_s3_is_no_file_here(tmp_path, uri):
    with pytest.raises(DatasetError, match=r"is in S3; conversion reads files on this machine .* Fetch it first"):
        convert(tmp_path, uri)


def test_strings_of_another_library_are_texts(tmp_path):
    class Text(str):
        __slots__ = ()

        def __str__(self):
            return "of no use"

    texts = json.loads(json.dumps(MADE), object_hook=lambda made: made | {"text": Text(made.get("text", "unused"))})
    kept = json.loads(json.dumps(texts))
    assert convert(tmp_path, [texts], layout="nova-preference")[1] == [kept]


def test_no_records_in_memory_are_an_error(tmp_path):
    with pytest.raises(DatasetError, match="The list is empty"):
        convert(tmp_path, [])


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        convert(tmp_path, tmp_path / "absent.jsonl")
    with pytest.raises(DatasetError, match="is a directory"):
        convert(tmp_path, tmp_path)


def test_an_array_is_not_loaded_whole(tmp_path):
    path = saved(tmp_path, b"[\n" + b",\n".join([LINE] * 20_000) + b"\n]")
    sizes = [len(block.rows) for block in open_source(path).blocks()]
    assert sum(sizes) == 20_000
    assert max(sizes) * len(LINE) < 4 * _sources.BLOCK


def test_a_huge_element_is_not_looked_at_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_sources, "BLOCK", 64)
    huge = json.dumps({"prompt": "Q", "chosen": ["x"] * 60_000})
    path = saved(tmp_path, f"[{huge}, {huge}]".encode())
    assert [number for number, _ in rows(path)] == [1, 2]  # takes minutes otherwise


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab{}[]",:\\\n é😀', max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"}{,', max_size=3), inner, max_size=3),
    max_leaves=9,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, min_size=1, max_size=30), st.sampled_from([None, 1, "\t"]), st.integers(1, 64))
def test_an_array_is_cut_where_its_elements_end(tmp_path_factory, elements, indent, block):
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(elements, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sources, "BLOCK", block)
        assert rows(path) == list(enumerate(elements, 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=30), st.sampled_from(["\n", "\r\n"]), st.integers(1, 64))
def test_lines_keep_their_numbers(tmp_path_factory, elements, newline, block):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    text = newline.join(["{}", *(json.dumps(element) for element in elements)])
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sources, "BLOCK", block)
        assert rows(path) == list(enumerate([{}, *elements], 1))


def test_the_same_array_gives_the_same_lines_as_jsonl(tmp_path):
    records = [{"prompt": f"Q{at}\n{{", "chosen": 'A"}],' * (at % 40 + 1), "rejected": "B"} for at in range(3000)]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=2))
    _, from_array = convert(tmp_path, tmp_path / "a.json")
    _, from_lines = convert(tmp_path, write_lines(tmp_path / "a.jsonl", records))
    assert from_array == from_lines


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_too_long_to_be_held_is_dropped_and_counted(tmp_path, end):
    longest = _sources.LONGEST
    fits = b'{"pad":"' + b"a" * (longest - len(LINE) - 10) + b'",' + LINE[1:]  # with its end just short enough
    assert len(fits + b"\n") == longest
    path = saved(tmp_path, b"".join([LINE, b"\n", fits, b"\n", b'{"a":"' + b"b" * (longest * 2), b"\n", LINE, end]))
    result, made = convert(tmp_path, path)
    assert made == [MADE] * 3
    assert result.dropped == {"source-too-long": 1}
    assert (result.details[0].record, f"{longest * 2 + 7:,} bytes" in result.details[0].message) == (3, True)


def test_a_file_of_one_endless_line_takes_little_memory(tmp_path):
    path = tmp_path / "endless.jsonl"
    with path.open("wb") as file:
        file.write(b'{"messages":"')
        for _ in range(150):
            file.write(b"a" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"more than 32 MiB.*150,000,013 bytes"):
        convert(tmp_path, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000

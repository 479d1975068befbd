import json
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap

import pytest
from convert_support import chat, pair, read_lines, write_lines

from nova_dpo_sdk.datasets import PreferenceDataset
from nova_dpo_sdk.datasets._convert import Conversion, convert_chats, convert_preferences
from nova_dpo_sdk.datasets._sources import open_source
from nova_dpo_sdk.errors import DatasetError

GOOD = {"prompt": "Q", "chosen": "A", "rejected": "B"}


def test_an_older_file_is_replaced(tmp_path):
    to = tmp_path / "made.jsonl"
    to.write_text("older")
    convert_preferences([GOOD], to)
    assert read_lines(to) == [pair("Q", "A", "B")]
    assert list(tmp_path.iterdir()) == [to]


def test_the_new_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    convert_preferences([GOOD], tmp_path / "made.jsonl")
    assert stat.S_IMODE((tmp_path / "made.jsonl").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize("way", ["same", "link", "hard"])
def test_the_source_is_never_overwritten(tmp_path, way):
    source = write_lines(tmp_path / "source.jsonl", [GOOD])
    before = source.read_bytes()
    to = source if way == "same" else tmp_path / "link.jsonl"
    if way == "link":
        to.symlink_to(source)
    if way == "hard":
        to.hardlink_to(source)
    with pytest.raises(DatasetError, match="is the source itself"):
        convert_preferences(source, to)
    assert source.read_bytes() == before


def failing():
    yield from [GOOD] * 2000
    raise ValueError("the source broke")


@pytest.mark.parametrize("older", [None, "older"])
def test_a_failure_on_the_way_leaves_what_was_there(tmp_path, older):
    to = tmp_path / "made.jsonl"
    if older:
        to.write_text(older)
    with pytest.raises(ValueError, match="the source broke"):
        convert_preferences(failing(), to)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == ([("made.jsonl", older)] if older else [])


def test_nothing_is_written_when_no_record_can_be_kept(tmp_path):
    bad = {"prompt": "Q", "chosen": "A", "rejected": "A"}
    with pytest.raises(DatasetError, match=r"None of the records of .* .2. can be kept.*equal-pair 2.*record 1"):
        convert_preferences([bad, bad], tmp_path / "made.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"absent.*cannot be written: No such file"):
        convert_preferences([GOOD], tmp_path / "absent" / "made.jsonl")


def test_a_folder_is_no_target(tmp_path):
    with pytest.raises(DatasetError, match="is a directory"):
        convert_preferences([GOOD], tmp_path)


FULL = """
    import itertools, resource, signal, sys
    from nova_dpo_sdk.datasets._convert import convert_preferences
    from nova_dpo_sdk.errors import DatasetError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    record = {"prompt": "Q", "chosen": "A" * 500, "rejected": "B"}
    try:
        convert_preferences(itertools.repeat(record, 1000), sys.argv[1])
    except DatasetError as error:
        sys.exit(0 if "cannot be written" in str(error) else 2)
    sys.exit(3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on the size of files")
@pytest.mark.parametrize("older", ["", "older"])
def test_a_full_disk_leaves_what_was_there(tmp_path, older):
    assert resource.RLIM_INFINITY  # the program below limits itself, as a full disk would
    if older:
        (tmp_path / "made.jsonl").write_text(older)
    program = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "made.jsonl")]
    assert subprocess.run(program, check=False).returncode == 0
    assert [path.read_text() for path in tmp_path.iterdir()] == ([older] if older else [])


KILLED = """
    import os, signal, sys
    from nova_dpo_sdk.datasets._convert import convert_preferences
    def records():
        for _ in range(2000):
            yield {"prompt": "Q", "chosen": "A", "rejected": "B"}
        os.kill(os.getpid(), signal.SIGKILL)
    convert_preferences(records(), sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_process_leaves_nothing_under_the_name(tmp_path):
    program = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "made.jsonl")]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "made.jsonl").exists()


QUESTION = '{"role":"user","content":[{"text":"\\u00e9"}]}'
SIDES = (
    '{"content":[{"text":"A"}],"preferenceLabel":"preferred"}',
    '{"content":[{"text":"B"}],"preferenceLabel":"non-preferred"}',
)


def own(*sides):
    return '{ "messages" : [ ' + QUESTION + ',{"role":"assistant","candidates":[' + ",".join(sides) + "]}]}"


def test_good_nova_records_are_copied_byte_for_byte(tmp_path):
    line = own(*SIDES).encode()
    (tmp_path / "source.jsonl").write_bytes(line + b"\r\n\n" + line)
    result = convert_preferences(tmp_path / "source.jsonl", tmp_path / "made.jsonl")
    assert result.layout == "nova-preference"
    assert (tmp_path / "made.jsonl").read_bytes() == line + b"\n" + line + b"\n"


@pytest.mark.parametrize("from_file", [False, True])
def test_nulls_of_a_table_are_taken_as_missing_in_nova_records(tmp_path, from_file):
    record = pair(["Q", "A", "Q"], "A", "B")
    filled = record | {"system": None, "messages": [{"candidates": None, **turn} for turn in record["messages"]]}
    filled["messages"][-1]["content"] = None
    rows = write_lines(tmp_path / "source.jsonl", [filled]) if from_file else [filled]
    result = convert_preferences(rows, tmp_path / "made.jsonl")
    assert (read_lines(tmp_path / "made.jsonl"), result.mended) == ([record], {"null-field": 1})
    result = convert_chats(rows, tmp_path / "made.jsonl")
    assert (read_lines(tmp_path / "made.jsonl"), result.mended) == ([chat("Q", "A", "Q", "A")], {"null-field": 1})


def test_bad_nova_records_are_dropped_and_counted(tmp_path):
    lines = [own(*SIDES), own(), own(SIDES[0], SIDES[0]), "{", own(*SIDES).replace('"A"', '"User: A"')]
    (tmp_path / "source.jsonl").write_text("\n".join(lines))
    result = convert_preferences(tmp_path / "source.jsonl", tmp_path / "made.jsonl")
    assert (result.read, result.written, result.dropped) == (5, 1, {"bad-record": 3, "broken-json": 1})
    assert PreferenceDataset.from_jsonl(tmp_path / "made.jsonl").report().bad == 0
    assert "reserved-word at $.messages[1].candidates[0].content[0].text" in result.details[-1].message


def test_whatever_is_dropped_of_nova_records_is_what_a_cleaning_rejects(tmp_path):
    lines = [own(*SIDES), own(), '{"messages":[]}', own(*SIDES).replace("user", "narrator"), own(*SIDES[::-1])]
    (tmp_path / "source.jsonl").write_text("\n".join(lines))
    result = convert_preferences(tmp_path / "source.jsonl", tmp_path / "made.jsonl")
    PreferenceDataset.from_jsonl(tmp_path / "source.jsonl").write_clean(tmp_path / "clean.jsonl")
    assert result.written == 2
    assert (tmp_path / "made.jsonl").read_bytes() == (tmp_path / "clean.jsonl").read_bytes()


def test_reserved_words_are_removed_from_nova_records_where_that_is_asked_for(tmp_path):
    line = own(*SIDES).replace('"A"', '"User: A"').replace('"\\u00e9"', '"Bot: \\u00e9"')
    (tmp_path / "source.jsonl").write_text(own(*SIDES) + "\n" + line)
    result = convert_preferences(tmp_path / "source.jsonl", tmp_path / "made.jsonl", clean_reserved=True)
    assert (result.written, result.mended) == (2, {"reserved-prefix": 1})
    one, two = (tmp_path / "made.jsonl").read_bytes().splitlines()
    assert one == own(*SIDES).encode()
    assert json.loads(two) == json.loads(own(*SIDES))


def test_a_chat_for_nova_2_is_kept(tmp_path):
    answer = {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "A"}]}
    record = {"messages": [{"role": "user", "content": [{"text": "Q"}]}, answer]}
    result = convert_chats([record], tmp_path / "made.jsonl", "nova-chat")
    assert (result.written, read_lines(tmp_path / "made.jsonl")) == (1, [record])


def test_an_array_of_nova_records_becomes_lines(tmp_path):
    record = {"messages": [*chat("Q", "A")["messages"]]}
    (tmp_path / "source.json").write_text(json.dumps([record], indent=1))
    convert_chats(tmp_path / "source.json", tmp_path / "made.jsonl")
    assert read_lines(tmp_path / "made.jsonl") == [record]


def test_a_conversion_says_what_was_done(tmp_path):
    bad = {"prompt": "Q", "chosen": "A", "rejected": "A"}
    result = convert_preferences([GOOD, bad, GOOD | {"system": None}], tmp_path / "made.jsonl")
    conversion = Conversion.of("the data set", result)
    assert conversion.dataset == "the data set"
    assert (conversion.read, conversion.written) == (3, 2)
    shown = str(conversion)
    assert shown.startswith("3 records read as prompt-chosen-rejected, 2 written")
    assert "dropped       1  equal-pair" in shown
    assert "mended        1  null-field" in shown


def test_a_device_is_never_replaced_by_the_new_file(tmp_path):
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(DatasetError, match="never replaced"):
        convert_preferences([{"prompt": "Q", "chosen": "A", "rejected": "B"}], device)
    assert device.is_fifo()


def test_a_source_that_grows_while_it_is_read_is_refused(tmp_path):
    line = b'{"prompt":"Q","chosen":"A","rejected":"B"}\n'
    source, to = tmp_path / "source.jsonl", tmp_path / "made.jsonl"
    source.write_bytes(line * 5000)
    blocks = open_source(source).blocks()
    assert next(blocks).rows
    with source.open("ab") as file:
        file.write(line)
    with pytest.raises(DatasetError, match="changed while it was read"):
        list(blocks)
    assert not to.exists()


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n \n\n"])
def test_a_line_that_is_cut_off_is_told_by_its_own_column(tmp_path, end):
    good = json.dumps({"prompt": "Q", "chosen": "A", "rejected": "B"})
    source = tmp_path / "source.jsonl"
    source.write_bytes(f'{good}\n{{"prompt": NaN, "chosen": 1'.encode() + end.encode())
    result = convert_preferences(source, tmp_path / "made.jsonl", layout="prompt-chosen-rejected")
    assert (result.read, result.written, result.dropped) == (2, 1, {"broken-json": 1})
    assert "line 1 column" in result.details[0].message

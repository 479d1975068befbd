"""Every program in the README and the documentation runs; so does every `nova-dpo` line of their shell sessions.

A page is one session: its blocks run in order, in one folder with the sample data. `python` blocks are run as they
stand, but for the arguments that lead a backend to the rehearsal cloud and its clock. ```` ```py ```` marks programs for
other packages: they must be Python, no more. Blocks marked `sagemaker` run where the SageMaker SDK is installed. In `console` blocks lines that begin with `$ nova-dpo` run, and must exit
as they say (`# exits 1`), `NAME=$(nova-dpo ...)` keeps what was printed.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import CHATS, PAIRS, make_shell  # noqa: F401 - a fixture
from sagemaker_support import needs_sdk

from nova_dpo_sdk.local import FakeClock, LocalCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli_support import Shell

TREE = Path(__file__).parents[1]
PAGES = [TREE / "README.md", *sorted((TREE / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"generated", "_build"} & {*page.parts}]
PAGES.remove(TREE / "docs" / "sessions.md")  # recorded: run, word for word, by a test of its own
PAGES.remove(TREE / "docs" / "hand-over.md")  # files that import each other: run by tests/test_examples.py
FENCE = re.compile(r"^( *)```(\w+)( sagemaker)?[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *, sagemaker: bool = False) -> Iterator[tuple[str, int, str]]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start(4)) + 1
        if sagemaker or not found[3]:
            yield found[2], line, re.sub(f"^{found[1]}", "", found[4], flags=re.MULTILINE)


class Leading(ast.NodeTransformer):
    """Leads backends and clouds to the page's own cloud and clock; changes nothing else."""

    def __init__(self, line: int) -> None:
        self._line = line
        self.asks_cloud = False

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("HyperPodBackend", "TrainingJobBackend"):
            self.asks_cloud = True
            self._add(node, session="page.cloud.session()", region="page.cloud.region", clock="page.cloud.clock")
        if name == "LocalCloud":
            unique = self._line * 100 + node.lineno
            self._add(node, clock="page.clock()", bucket=f"'docs-{unique}'", account=f"'{unique:012d}'")
        return node

    @staticmethod
    def _add(node: ast.Call, **given: str) -> None:
        there = {each.arg for each in node.keywords}
        for name, value in given.items():
            if name not in there:
                node.keywords.append(ast.keyword(name, ast.parse(value, mode="eval").body))


class Page:
    """One page's session."""

    def __init__(self, request: pytest.FixtureRequest, shell: Shell, folder: Path, stack: ExitStack) -> None:
        self._request = request
        self._shell = shell
        self._folder = folder
        self._stack = stack
        self._cloud: LocalCloud | None = None
        self._kept: dict[str, str] = {}
        self._names: dict[str, Any] = {"__name__": "docs", "page": self}

    def clock(self) -> FakeClock:
        return self._shell.clock

    @property
    def cloud(self) -> LocalCloud:
        if self._cloud is None:
            self._cloud = self._stack.enter_context(LocalCloud(clock=self.clock()))
        return self._cloud

    def python(self, source: str, line: int, place: str) -> None:
        leading = Leading(line)
        tree = ast.fix_missing_locations(leading.visit(ast.parse(source)))
        code = compile(ast.increment_lineno(tree, line - 1), place, "exec", dont_inherit=True)
        before = {*self._names}
        exec(code, self._names)  # noqa: S102 - our own documentation
        for name in {*self._names} - before:
            if name.startswith("test_"):
                test = self._names[name]
                wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
                test(**{each: self._request.getfixturevalue(each) for each in wanted})

    def console(self, source: str) -> None:
        for command in re.findall(r"^\$ (.*)$", source.replace("\\\n", " "), re.MULTILINE):
            keep = re.fullmatch(r"(\w+)=\$\((nova-dpo .*)\)", command)
            line = keep[2] if keep else command
            if not line.startswith("nova-dpo "):
                continue
            line, _, remark = line.partition("  # ")
            wanted = int(remark.removeprefix("exits ")) if remark.startswith("exits ") else 0
            words = [self._filled(word) for word in shlex.split(line)[1:]]
            assert _names_its_place(words), f"{command}: whoever has no rehearsal cloud would be refused"
            said = self._shell(*words, *self._leading(words))
            assert said.code == wanted, f"{command}\n{said.out}{said.err}"
            if keep:
                self._kept[keep[1]] = said.out.strip()

    def _filled(self, word: str) -> str:
        return re.sub(r"\$(\w+)", lambda name: self._kept[name[1]], word)

    def _leading(self, words: list[str]) -> list[str]:
        at_cloud = ("plan", "submit", "jobs", "status", "wait", "logs", "cancel", "delete", "checkpoint", "doctor")
        if words[0] in (*at_cloud, "chain", "lineage") or words[:2] == ["data", "upload"]:
            return self._shell.local(self.cloud)
        return []


def _names_its_place(words: list[str]) -> bool:
    """Whether a command as it is printed says where; here the rehearsal cloud would answer in any case."""
    if words[0] not in ("plan", "submit", "jobs") or "--local" in words or "--help" in words:
        return True
    needed = {"--output"} if words[0] != "jobs" else set()
    place = {"--role"} if "training-jobs" in words else {"--cluster"}
    return (needed | (place if needed or "training-jobs" not in words else set())) <= {*words}


@pytest.fixture
def page(request: pytest.FixtureRequest, shell: Shell, tmp_path: Path) -> Iterator[Page]:
    shutil.copy(CHATS, tmp_path / "support_chats.jsonl")
    shutil.copy(PAIRS, tmp_path / "support_preferences.jsonl")
    rows = [
        {"prompt": f"Where is order {n}?", "chosen": f"Order {n} is on its way.", "rejected": "No idea."}
        for n in range(64)
    ]
    (tmp_path / "hf_preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ExitStack() as stack:
        yield Page(request, shell, tmp_path, stack)


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(TREE)) for path in PAGES])
def test_what_a_page_shows_runs(path: Path, page: Page):
    run(path, page)


@needs_sdk
def test_what_needs_the_sagemaker_sdk_runs_with_it(page: Page):
    path = TREE / "docs" / "guides" / "training-jobs.md"
    assert len([*blocks(path, sagemaker=True)]) > len([*blocks(path)])
    run(path, page, sagemaker=True)


def test_a_program_that_says_its_plan_is_good_needs_no_settings(page: Page, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    names: dict[str, Any] = {"page": page}
    for language, _, source in blocks(TREE / "docs" / "guides" / "training-jobs.md"):
        if language == "python":
            exec(source, names)  # noqa: S102 - our own documentation
    assert names["plan"].ok


def run(path: Path, page: Page, *, sagemaker: bool = False) -> None:
    for language, line, source in blocks(path, sagemaker=sagemaker):
        place = f"{path.name}:{line}"
        if language == "python":
            page.python(source, line, str(path))
        elif language == "console":
            page.console(source)
        elif language == "py":
            compile(source, place, "exec")
        else:
            assert language in ("text", "{eval", "json", "yaml", "toml", "bash", "ini"), (
                f"{place}: {language} is not run"
            )


def test_recorded_sessions_say_what_the_commands_say_today():
    page = (TREE / "docs" / "sessions.md").read_text(encoding="utf-8")
    again = runpy.run_path(str(TREE / "tools" / "sessions.py"))["replayed"](page)
    assert timeless(again) == timeless(page), "record them anew: python tools/sessions.py docs/sessions.md"
    assert timeless(page).count("$ nova-dpo") > 20
    assert [line for line in page.splitlines() if line.startswith("$ ") and len(line) > 80] == []


def timeless(page: str) -> str:
    """A page without what depends on how fast the machine is: when a wait saw what of a job under way."""
    under_way = re.sub(r"^\d\d:\d\d:\d\d  (?:pending|starting|running)\n", "", page, flags=re.MULTILINE)
    return re.sub(r"^\d\d:\d\d:\d\d(?=  )", "", under_way, flags=re.MULTILINE)


@pytest.mark.parametrize("path", PAGES[1:], ids=[str(path.relative_to(TREE)) for path in PAGES[1:]])
def test_programs_fit_the_page(path: Path):
    lines = [line for _, _, source in blocks(path, sagemaker=True) for line in source.splitlines()]
    assert [line for line in lines if len(line) > 105] == []


LINK = re.compile(r"""\]\((?P<to>[^)\s]+)|(?:src|srcset|href)="(?P<of_html>[^"]+)\"""")
WRITTEN = [*TREE.glob("*.md"), *(TREE / "docs").rglob("*.md"), *(TREE / "examples").rglob("*.md")]
WRITTEN = [page for page in WRITTEN if not {"generated", "_build"} & {*page.relative_to(TREE).parts}]


def dead_links(page: Path) -> list[str]:
    """Relative links that lead to no file which everybody has who has the repository."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    files = [(found["to"] or found["of_html"]).partition("#")[0] for found in LINK.finditer(text)]
    near = [file for file in files if file and ":" not in file]
    return [file for file in near if "generated" in Path(file).parts or not (page.parent / file).exists()]


def test_every_relative_link_leads_to_a_file_of_the_repository():
    assert len(WRITTEN) > 20
    assert {str(page.relative_to(TREE)): dead for page in WRITTEN if (dead := dead_links(page))} == {}


def test_a_dead_link_is_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text('[a](page.md#x) [b](https://x.y) [c](gone.md) [d](generated/cli.md)\n<img src="gone.svg">\n')
    assert dead_links(page) == ["gone.md", "generated/cli.md", "gone.svg"]


def test_a_block_that_fails_is_noticed(page: Page):
    with pytest.raises(ZeroDivisionError):
        page.python("1 / 0", 1, "x.md")
    with pytest.raises(AssertionError, match=r"nova-dpo data check nothing\.jsonl"):
        page.console("$ nova-dpo data check nothing.jsonl\n")

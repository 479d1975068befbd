"""Hold the programs in this folder against mypy and pyright, both strict, as a user without our settings has them.

`passes.py` must pass; `fails.py` must fail in each marked line with the named codes, and nowhere else. Run it with the
Python whose environment has the package installed: `python tests/typing/check.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("passes.py", "fails.py")
MARK = re.compile(r"# refused: (\S+) (\S+)")
Complaints = dict[tuple[str, int], set[str]]


def expected(tool: int) -> Complaints:
    lines = (HERE / "fails.py").read_text(encoding="utf-8").splitlines()
    marks = {number: MARK.search(line) for number, line in enumerate(lines, 1)}
    return {("fails.py", number): set(mark[tool].split(",")) for number, mark in marks.items() if mark}


def run(*words: str, folder: Path) -> str:
    command = str(Path(sysconfig.get_path("scripts")) / words[0])
    done = subprocess.run([command, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{words[0]} did not run: {done.stdout}{done.stderr}")
    return done.stdout


def mypy(folder: Path) -> Complaints:
    found: Complaints = {}
    told = run("mypy", "--strict", "--config-file=", "--no-error-summary", "--show-error-codes", *FILES, folder=folder)
    for line in told.splitlines():
        place = re.match(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", line)
        if place:
            found.setdefault((place[1], int(place[2])), set()).add(place[3])
        elif ": note:" not in line:
            sys.exit(f"mypy complains about more than a user's program: {line}")
    return found


def pyright(folder: Path) -> Complaints:
    settings = {"typeCheckingMode": "strict", "include": list(FILES)}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    told = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, folder=folder))
    found: Complaints = {}
    for each in told["generalDiagnostics"]:
        place = Path(each["file"]).name, each["range"]["start"]["line"] + 1
        found.setdefault(place, set()).add(each.get("rule", each["message"]))
    return found


def differences(name: str, wanted: Complaints, found: Complaints) -> list[str]:
    places = sorted({*wanted, *found})
    return [
        f"{name}: {file}:{line}: expected {sorted(wanted.get((file, line), ()))}, found {sorted(found.get((file, line), ()))}"
        for file, line in places
        if not _agree(wanted.get((file, line), set()), found.get((file, line), set()))
    ]


def _agree(wanted: set[str], found: set[str]) -> bool:
    return bool(wanted & found) and found <= wanted if wanted else not found


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in FILES:
            (folder / file).write_bytes((HERE / file).read_bytes())
        wrong = [*differences("mypy", expected(1), mypy(folder)), *differences("pyright", expected(2), pyright(folder))]
    print("\n".join(wrong) or f"{len(expected(1))} mistakes refused, nothing else")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

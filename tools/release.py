"""Build what would be published, twice, and look at it as a stranger would; nothing is published.

    python tools/release.py --out dist

Writes the wheel, the source archive and a bill of materials (CycloneDX) to the folder, and fails when
- two builds of the same commit differ, or the wheel made from the source archive is another one,
- the metadata would be refused by PyPI, or its description shown with pictures or links that lead nowhere,
- a dependency of a user's installation has a licence that is not on the list below,
- a file is in the wheel that should not be, or one is missing,
- an installed version has a known vulnerability (where the advisory service can be reached; otherwise it says so).

Needs the extra `release`, and git for the date of the commit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
LICENCES = (
    "Apache", "MIT", "BSD", "ISC", "PSF", "Python Software Foundation", "MPL-2.0", "Mozilla Public License 2.0",
    "HPND", "Unlicense", "0BSD", "Zlib", "CC0",
)  # fmt: skip
"""What a licence's name may contain: permissive, or limited to its own files (MPL)."""
LOOKED_AT: dict[str, str] = {
    "antlr4-python3-runtime": "BSD-3-Clause, says LICENSE.txt of its repository; its metadata only says BSD",
}
"""Packages whose metadata names no licence, and what was found instead."""
_PLACES = re.compile(r"(?:\]\(|src=\"|srcset=\"|href=\")([^)\"\s]+)")
MUST_HOLD = ("nova_dpo_sdk/py.typed", "nova_dpo_sdk/catalog.json", "nova_dpo_sdk/local/samples/preferences.jsonl")


def say(text: str) -> None:
    print(f"release: {text}", flush=True)


def run(*words: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"release: {' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def commit_date() -> str:
    """Seconds of the last commit, as reproducible builds want them; outside of git those of the changelog."""
    if (TREE / ".git").exists():
        return run("git", "-C", TREE, "log", "-1", "--format=%ct").strip()
    return os.environ.get("SOURCE_DATE_EPOCH", "1767225600")


def build(source: Path, out: Path, *kinds: str) -> None:
    run(sys.executable, "-m", "build", *kinds, "--outdir", out, source, SOURCE_DATE_EPOCH=commit_date())


def hashes(folder: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}


def build_twice(out: Path, scratch: Path) -> tuple[Path, Path]:
    """The wheel and the source archive, when every way of building them gives the same bytes."""
    build(TREE, out, "--sdist", "--wheel")
    build(TREE, scratch / "again", "--sdist", "--wheel")
    if hashes(out) != hashes(scratch / "again"):
        sys.exit(f"release: two builds differ: {hashes(out)} and {hashes(scratch / 'again')}")
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    (unpacked,) = (scratch / "unpacked").iterdir()
    build(unpacked, scratch / "from-sdist", "--wheel")
    if hashes(scratch / "from-sdist")[wheel.name] != hashes(out)[wheel.name]:
        sys.exit("release: the wheel that the source archive gives is another one")
    for name, digest in hashes(out).items():
        say(f"{digest}  {name}, twice the same")
    return wheel, sdist


def look_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    odd = [each for each in names if not each.startswith(("nova_dpo_sdk/", "nova_dpo_sdk-"))]
    odd += [each for each in names if each.endswith((".pyc", ".ipynb", ".orig")) or "/tests/" in each]
    missing = [each for each in MUST_HOLD if each not in names]
    if odd or missing:
        sys.exit(f"release: the wheel holds {odd}, and lacks {missing}")
    say(f"the wheel holds {len(names)} files, all of them the package's")


def check_description(wheel: Path) -> None:
    """What is shown beside the download button stands alone: no picture and no link leads to a file of the tree."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        text = message_from_bytes(archive.read(name)).get_payload()
    astray = [place for place in _PLACES.findall(str(text)) if not place.startswith(("https://", "#"))]
    if astray or "nova-dpo demo" not in str(text):
        sys.exit(f"release: the description is not the README, or leads nowhere: {astray}")
    say("the description leads to no file that is not there")


def install(wheel: Path, where: Path) -> Path:
    venv.create(where, with_pip=True, clear=True)
    python = where / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[local,plots]")
    return python


def check_licences(python: Path) -> None:
    told = run(sys.executable, "-m", "piplicenses", "--python", python, "--format=json", "--from=mixed")
    bad = [
        f"{each['Name']} {each['Version']}: {each['License']}"
        for each in json.loads(told)
        if each["Name"] not in LOOKED_AT and not any(known in each["License"] for known in LICENCES)
    ]
    if bad:
        sys.exit("release: these licences were never looked at:\n  " + "\n  ".join(bad))
    say(f"{len(json.loads(told))} packages of a user's installation have licences that were looked at")


def bill_of_materials(python: Path, place: Path) -> None:
    run(
        sys.executable, "-m", "cyclonedx_py", "environment", python, "--pyproject", TREE / "pyproject.toml",
        "--output-reproducible", "--output-file", place,
    )  # fmt: skip
    parts = json.loads(place.read_text(encoding="utf-8"))["components"]
    say(f"{place.name} names {len(parts)} components")


def audit(python: Path) -> None:
    """Look for known vulnerabilities; a package that could not be looked up counts as not looked at, not as good."""
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    words = [sys.executable, "-m", "pip_audit", "--path", site, "--format=json", "--progress-spinner=off"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        packages = []
    bad = [f"{each['name']} {each['version']}: {each['vulns']}" for each in packages if each.get("vulns")]
    asked = [each for each in packages if "skip_reason" not in each]
    if bad:
        sys.exit("release: known vulnerabilities:\n  " + "\n  ".join(bad))
    if asked:
        say(f"pip-audit knows of no vulnerability in {len(asked)} of {len(packages)} packages")
    else:
        say("pip-audit NOT RUN: the advisory service cannot be reached from here")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=TREE / "dist", help="folder to write to; emptied first")
    words.add_argument(
        "--python", type=Path, help="Python of an environment to look at that has the package with extras"
    )
    arguments = words.parse_args()
    out: Path = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        wheel, sdist = build_twice(out, scratch)
        look_inside(wheel)
        check_description(wheel)
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
        say("PyPI would take the metadata and show the README")
        python = arguments.python or install(wheel, scratch / "user")
        check_licences(python)
        bill_of_materials(python, out / "sbom.cdx.json")
        audit(python)
    return 0


if __name__ == "__main__":
    sys.exit(main())

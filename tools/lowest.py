"""Print constraints that hold every dependency at the lowest version that pyproject.toml allows.

`PIP_CONSTRAINT=lowest.txt pip install -e '.[dev]'` then shows whether those bounds are true. Tools that only developers
need (linters, type checkers, generators of documents) are left alone; what a user's environment may hold is not.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("completion", "local", "parquet", "plots", "zstd")
TOGETHER = ("pytest",)
"""Of the extra `dev`: the fixture that ships with the package runs under the user's own."""
BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def main() -> int:
    """Read pyproject.toml beside this folder and print one line for each dependency."""
    with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as stream:
        project = tomllib.load(stream)["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for extra in EXTRAS for each in optional[extra])]
    wanted += [each for each in optional["dev"] if each.startswith(TOGETHER)]
    for requirement in wanted:
        bound = BOUND.match(requirement)
        if bound is None:
            sys.exit(f"{requirement!r} has no lower bound")
        print(f"{bound[1]}=={bound[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rooms import downwards only, inside functions too; and the front door stays light."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nova_dpo_sdk

PACKAGE = Path(nova_dpo_sdk.__file__).parent
FLOORS = [
    {"_version", "_defaults"},
    {"errors"},
    {"_time", "_words", "catalog"},
    {"recipes", "datasets", "aws"},
    {"backends"},
    {"backends.*"},
    {"jobs"},
    {"chain"},
    {"sweep"},
    {"client"},
    {"export", "permissions"},
    {"local"},
    {"__init__"},
    {"cli", "pytest_plugin"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# backends/__init__ and its private parts are the contract; these modules, private ones included, are backends.
BACKENDS = ("hyperpod", "training")


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return "__init__"
    if parts[0] == "backends":
        return "backends.*" if len(parts) > 1 and parts[1].lstrip("_").startswith(BACKENDS) else "backends"
    return parts[0]


def imported(path: Path, module: str) -> set[str]:
    found: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            found.add(base)
            found |= {
                f"{base}.{alias.name}" for alias in node.names if (PACKAGE.parent / base.replace(".", "/")).is_dir()
            }
    return {name for name in found if name.split(".")[0] == "nova_dpo_sdk"}


def modules() -> list[tuple[str, Path]]:
    named = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return named


def is_module(name: str) -> bool:
    path = PACKAGE.parent / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_point_down(module, path):
    room = room_of(module)
    if module == "nova_dpo_sdk":
        return  # the front door names every room, for type checkers
    for name in imported(path, module):
        target = name if is_module(name) else name.rpartition(".")[0]
        other = room_of(target)
        if other == room:
            continue
        if target == "nova_dpo_sdk":
            assert room == "cli", f"{module} imports the front door"
        assert HEIGHT[other] < HEIGHT[room], f"{module} ({room}) imports {target} ({other})"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


HEAVY = "boto3 botocore pydantic urllib3 kubernetes lightkube moto sagemaker tenacity yaml rich"


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, nova_dpo_sdk; print([m for m in '{HEAVY}'.split() if m in sys.modules])"
    assert run(code) == "[]"


def test_building_a_backend_and_a_client_loads_no_boto3():
    code = (
        "import sys; from nova_dpo_sdk import *; "
        "NovaClient(HyperPodBackend('c', region='us-east-1'), output='s3://bucket/runs'); "
        "print([m for m in ('boto3', 'sagemaker', 'moto') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_the_public_names_are_these():
    assert sorted(nova_dpo_sdk.__all__) == [
        "Catalog", "Chain", "ChatDataset", "Checkpoint", "DPORecipe", "Finding", "FullRank", "HyperPodBackend",
        "HyperPodOptions", "Job", "JobSnapshot", "JobStatus", "LoRA", "Nova2SFTRecipe", "NovaClient", "NovaError",
        "NovaModel", "Patience", "Plan", "Platform", "PreferenceDataset", "Recipe", "SFTRecipe", "Technique",
        "TrainingJobBackend", "TrainingJobOptions", "__version__",
    ]  # fmt: skip
    for name in nova_dpo_sdk.__all__:
        assert getattr(nova_dpo_sdk, name) is not None
        assert name in dir(nova_dpo_sdk)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nova3'"):
        _ = nova_dpo_sdk.Nova3


CALLED = {
    "yaml": "pyyaml",
    "ahocorasick_rs": "ahocorasick-rs",
    "pydantic_core": "pydantic-core",
    "sagemaker": "sagemaker-core",
}
"""Modules whose distribution has another name."""
LATER = {"compression"}
"""Of the standard library in a newer Python than the oldest."""
READ_ONLY = {"_typeshed", "typing_extensions"}
"""What only type checkers read."""
BY_NAME = {"import_module", "find_spec", "_module", "_optional"}
"""Functions that import what they are called with."""


@functools.cache
def declared():
    """What pyproject.toml asks pip for, without the extras for those who develop the package."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # pytest brings the latter
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for name, each in project["optional-dependencies"].items() if name not in ("dev", "docs", "release")]
    wanted = [requirement for each in [project["dependencies"], *extras] for requirement in each]
    return {re.match(r"[\w.-]+", each)[0].lower() for each in wanted} | {"pytest"}  # who loads the plugin runs pytest


def asked_for(tree):
    """Every module that a file imports, with whether it runs or is only read by type checkers."""
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for each in node.body
        for inner in ast.walk(each)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in BY_NAME:
            names = [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
        for name in names:
            yield name.partition(".")[0], id(node) not in checked


@pytest.mark.parametrize("path", [path for _, path in modules()], ids=[name for name, _ in modules()])
def test_whatever_is_imported_is_declared(path):
    ours = {*sys.stdlib_module_names, *LATER, "nova_dpo_sdk"}
    for name, runs in asked_for(ast.parse(path.read_text(encoding="utf-8"))):
        if name in ours or (name in READ_ONLY and not runs):
            continue
        assert CALLED.get(name, name) in declared(), f"{name} is imported and not declared in pyproject.toml"

"""Dependencies are declared where they are used, each with a reason."""

import ast
import contextlib
import itertools
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
OWN = {
    "benchmarks", "sdoml_cli", "sdoml_core", "sdoml_dagster", "sdoml_demo", "sdoml_view", "tests",
    "tools",
}  # fmt: skip
WITH_OTHERS = {"llvmlite": "numba"}
"""Modules whose names differ from that of their declared package."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~! ]", requirement)[0] for requirement in requirements}


EXTRAS = {extra: names(listed) for extra, listed in PROJECT["optional-dependencies"].items()}
CORE = names(PROJECT["dependencies"])
FOR_PACKAGE = {
    "sdoml_core": CORE | EXTRAS["loader"] | EXTRAS["pipeline"] | EXTRAS["export"],
    "sdoml_dagster": CORE.union(
        *(EXTRAS[extra] for extra in ("pipeline", "s3", "postgres", "celery"))
    ),
    "sdoml_demo": CORE | EXTRAS["pipeline"],
    "sdoml_view": CORE | EXTRAS["view"],
    "sdoml_cli": CORE,
    "tests": CORE.union(*EXTRAS.values()),
}


def test_dependencies_state_their_reason() -> None:
    listed = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    without = [
        requirement
        for requirement in itertools.chain(*listed)
        if not requirement.startswith(PROJECT["name"])
        and not re.search(rf'"{re.escape(requirement)}",?\s+#\s\S+', TEXT)
    ]
    assert without == []


def imported(folder: str) -> set[str]:
    """Return the third-party packages that the files in a folder import."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    here = {path.stem for path in (ROOT / folder).rglob("*.py")}
    return modules - set(sys.stdlib_module_names) - OWN - here


@pytest.mark.parametrize("folder", FOR_PACKAGE)
def test_imports_are_declared_dependencies(folder: str) -> None:
    owners = packages_distributions()
    declared = {package.lower() for package in FOR_PACKAGE[folder]}
    undeclared = {
        module
        for module in imported(folder)
        if not {owner.lower() for owner in owners.get(module, ())} & declared
        and WITH_OTHERS.get(module) not in declared
    }
    # These packages are optional for plots and maps. If one is missing, the error names it.
    optional = {"matplotlib", "sunpy"} if folder == "sdoml_core" else set()
    assert undeclared - optional == set()


def test_declared_dependencies_are_used() -> None:
    owners = packages_distributions()
    modules = imported("sdoml_core") | imported("sdoml_dagster") | imported("sdoml_demo")
    used = {owner.lower() for module in modules for owner in owners.get(module, ())}
    loaded_by_others = {"dagster-webserver"}
    assert (CORE | EXTRAS["pipeline"]) - loaded_by_others <= used


def test_viewer_dependencies_are_used() -> None:
    owners = packages_distributions()
    used = {owner.lower() for module in imported("sdoml_view") for owner in owners.get(module, ())}
    loaded_by_others = {"aiohttp"}  # imported by fsspec
    assert EXTRAS["view"] - loaded_by_others <= used


def test_pinned_packages_support_the_debian_12_python() -> None:
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    refusing = {}
    for name in pinned:
        with contextlib.suppress(PackageNotFoundError):  # packages of other extras
            needed = metadata(name).get("Requires-Python", "")
            if not SpecifierSet(needed).contains("3.11.2"):
                refusing[name] = needed
    assert refusing == {}

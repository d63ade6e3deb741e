"""Each dependency is declared, and weighed in docs/dependencies.md."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"sdoml_core", "sdoml_dagster", "tests", "benchmarks"}
WITH_OTHERS = {"llvmlite": "numba"}
"""Modules of packages that come with a declared one, as a part of it."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~! ]", requirement)[0] for requirement in requirements}


EXTRAS = {extra: names(listed) for extra, listed in PROJECT["optional-dependencies"].items()}
DECLARED = {
    (extra, package)
    for extra, listed in {"": names(PROJECT["dependencies"]), **EXTRAS}.items()
    for package in listed - {PROJECT["name"]}
}


def rows() -> dict[tuple[str, str], list[str]]:
    """Cells of the page's tables by extra and package."""
    found = {}
    for line in (ROOT / "docs/dependencies.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        marked = [re.findall(r"`([\w.-]+)`", cell) for cell in cells[:2]]
        if line.startswith("| `") and len(cells) >= 4:
            extra, package = ("", marked[0][0]) if len(cells) == 4 else (marked[0][0], marked[1][0])
            found[extra, package] = cells[-3:]
    return found


def test_each_dependency_has_its_reason_its_alternative_and_its_licence() -> None:
    weighed = rows()
    assert weighed.keys() == DECLARED
    assert [name for name, cells in weighed.items() if not all(cells)] == []


def imported(folder: str) -> set[str]:
    """Packages from elsewhere that the files of a folder import."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    here = {path.stem for path in (ROOT / folder).rglob("*.py")}
    return modules - set(sys.stdlib_module_names) - OWN - here


@pytest.mark.parametrize("folder", ["sdoml_core", "sdoml_dagster", "tests"])
def test_nothing_is_imported_that_is_not_declared(folder: str) -> None:
    owners = packages_distributions()
    declared = {package.lower() for _, package in DECLARED}
    undeclared = {
        module
        for module in imported(folder)
        if not {owner.lower() for owner in owners.get(module, ())} & declared
        and WITH_OTHERS.get(module) not in declared
    }
    assert undeclared == set()


def test_what_is_declared_for_the_program_is_used() -> None:
    owners = packages_distributions()
    modules = imported("sdoml_core") | imported("sdoml_dagster")
    used = {owner.lower() for module in modules for owner in owners.get(module, ())}
    loaded_by_others = {"dagster-webserver"}
    assert names(PROJECT["dependencies"]) - loaded_by_others <= used

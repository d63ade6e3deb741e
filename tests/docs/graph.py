"""The import pictures of docs/architecture.md: ``python tests/docs/graph.py`` writes them anew."""

import re
import sys
from pathlib import Path

import grimp

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
PICTURE = re.compile(r"<!-- imports of ([\w.]+): (.*?) -->\n```text\n(.*?)```", re.DOTALL)


def draw(package: str, modules: list[str]) -> str:
    """A line per module with those of the others that it imports, each below what it needs."""
    graph = grimp.build_graph(package.partition(".")[0], cache_dir=None)
    needs: dict[str, set[str]] = {module: set() for module in modules}

    def module_of(full: str) -> str:
        """The module of the package that another lies in, or is."""
        inside = full.removeprefix(f"{package}.")
        return "" if inside == full else inside.split(".")[0]

    for full in graph.modules:
        if (module := module_of(full)) in needs:
            targets = map(module_of, graph.find_modules_directly_imported_by(full))
            needs[module] |= {other for other in targets if other in needs and other != module}
    lines: list[str] = []
    width = max(map(len, modules))
    placed: set[str] = set()
    while needs:
        free = [module for module in modules if module in needs and needs[module] <= placed]
        if not free:
            raise ValueError(f"a circle of imports among {', '.join(needs)}")
        for module in free:
            found = ", ".join(sorted(needs.pop(module)))
            lines.append(f"{module:{width}} ─▶ {found}" if found else module)
        placed |= set(free)
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text()

    def replace(match: re.Match[str]) -> str:
        drawn = draw(match[1], match[2].split())
        return match[0].replace(f"```text\n{match[3]}", f"```text\n{drawn}")

    PAGE.write_text(PICTURE.sub(replace, text))


if __name__ == "__main__":
    sys.exit(main())

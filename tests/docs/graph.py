"""The import pictures of docs/architecture.md: ``python tests/docs/graph.py`` writes them anew."""

import re
import sys
from pathlib import Path

import grimp

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
PICTURE = re.compile(r"<!-- imports of (\w+): (.*?) -->\n```text\n(.*?)```", re.DOTALL)


def draw(package: str, modules: list[str]) -> str:
    """A line per module with those of the others that it imports, each below what it needs."""
    graph = grimp.build_graph(package, cache_dir=None)
    needs: dict[str, set[str]] = {module: set() for module in modules}
    for full in graph.modules:
        parts = full.split(".")
        if len(parts) > 1 and parts[1] in needs:
            for target in graph.find_modules_directly_imported_by(full):
                other = target.split(".")[1] if "." in target else ""
                if other in needs and other != parts[1]:
                    needs[parts[1]].add(other)
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

"""Format numbers, sizes and Markdown tables."""

import math
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def size_category(samples: int) -> str:
    """Return the size category used by dataset hubs, such as ``1K<n<10K``."""
    bounds = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    if samples < 1000:
        return "n<1K"
    power = int(math.log10(samples) + 1e-9) - 3
    return f"{bounds[power]}<n<{bounds[power + 1]}"


def size_text(size: int) -> str:
    """Format a number of bytes in powers of 1024, such as ``738 MiB``."""
    amount, units = float(size), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def counted(number: int, what: str) -> str:
    """Format a number with its noun: ``1 day``, ``2 days``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def percent(part: int, whole: int) -> str:
    """Format a percentage. It is rounded down, so that 100% always means complete."""
    if not whole:
        return "–"
    return "100%" if part == whole else f"{math.floor(10000 * part / whole) / 100:.2f}%"

"""Coverage calendar: one square per day, with a color that shows how complete the day is."""

from calendar import monthrange
from collections.abc import Mapping
from datetime import date, timedelta

from PIL import Image

from sdoml_dagster.previews.canvas import (
    MUTED,
    PANEL,
    Canvas,
    Color,
    shorten,
    text_width,
)

CLASSES: tuple[tuple[float, str, Color], ...] = (
    (0.0, "none", (122, 38, 52)),
    (0.5, "< 50%", (191, 87, 48)),
    (0.9, "< 90%", (229, 160, 60)),
    (1.0, "< 100%", (158, 190, 106)),
    (float("inf"), "complete", (58, 166, 118)),
)
"""Upper limit (exclusive, except for "none"), name and color of each class, from bad to good."""

_CELL, _GAP, _MARGIN = 12, 3, 28
_STEP = _CELL + _GAP
_LEFT, _RIGHT = 96, 84
_HEADER, _MONTHS = 64, 22
_YEAR = 7 * _STEP + 22


def coverage_calendar(days: Mapping[date, float], *, title: str = "Coverage") -> Image.Image:
    """Draw years as rows and weeks as columns, with Monday at the top.

    Parameters
    ----------
    days
        Fraction (0 to 1) of the expected frames that each day has. Days that are not in the mapping
        were not requested and are drawn dark.
    """
    years = sorted({day.year for day in days})
    width = _LEFT + 54 * _STEP + _RIGHT
    height = _HEADER + _MONTHS + max(len(years), 1) * _YEAR + _MARGIN // 2
    canvas = Canvas(width, height)
    canvas.text((_MARGIN, 42), shorten(title, 22, width * 0.4), 22)
    _legend(canvas, width - _MARGIN)
    if not years:
        canvas.text((width / 2, _HEADER + 60), "no days", 14, MUTED, anchor="mm")
    for number, year in enumerate(years):
        _draw_year(canvas, year, _HEADER + _MONTHS + number * _YEAR, days)
    return canvas.render()


def _draw_year(canvas: Canvas, year: int, top: int, days: Mapping[date, float]) -> None:
    first = date(year, 1, 1)
    canvas.text((_MARGIN, top + 3.5 * _STEP - 8), str(year), 16, anchor="lm")
    fractions = [fraction for day, fraction in days.items() if day.year == year]
    count = f"{len(fractions)} day{'s' * (len(fractions) != 1)}"
    canvas.text((_MARGIN, top + 3.5 * _STEP + 10), count, 11, MUTED, anchor="lm")
    for month in range(1, 13):
        middle = date(year, month, monthrange(year, month)[1] // 2)
        x = _LEFT + (_week(middle) + 0.5) * _STEP
        canvas.text((x, top - 7), f"{middle:%b}", 11, MUTED, anchor="ms")
    for offset in range(365 + (monthrange(year, 2)[1] == 29)):
        day = first + timedelta(days=offset)
        x, y = _LEFT + _week(day) * _STEP, top + day.weekday() * _STEP
        box = (x, y, x + _CELL, y + _CELL)
        color = coverage_class(days[day])[1] if day in days else PANEL
        canvas.rectangle(box, color, radius=2.5)
    mean = sum(fractions) / len(fractions)
    # Round down, so that 100% always means a complete year.
    text = "100%" if mean >= 1 else f"{int(mean * 1000) / 10:.1f}%"
    canvas.text((_LEFT + 54 * _STEP + 14, top + 3.5 * _STEP - 1), text, 14, anchor="lm")


def coverage_class(fraction: float) -> tuple[str, Color]:
    """Return the name and color for a day's coverage."""
    return next((name, color) for end, name, color in CLASSES if fraction < end or fraction <= 0)


def _week(day: date) -> int:
    """Return the column of a day. Weeks start on Monday, and the first week may be partial."""
    first = date(day.year, 1, 1)
    return ((day - first).days + first.weekday()) // 7


def _legend(canvas: Canvas, right: int) -> None:
    x: float = right
    classes = [(name, color) for _, name, color in CLASSES]
    for name, color in [*reversed(classes), ("not requested", PANEL)]:
        canvas.text((x, 36), name, 11, MUTED, anchor="rm")
        x -= text_width(name, 11) + 6 + _CELL
        canvas.rectangle((x, 30, x + _CELL, 30 + _CELL), color, radius=2.5)
        x -= 16

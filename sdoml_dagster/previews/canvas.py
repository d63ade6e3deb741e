"""One look for all pictures: a dark page, type in a few sizes and shades, smooth edges."""

from collections.abc import Sequence
from functools import cache
from typing import cast

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

PAGE: Colour = (11, 13, 18)
PANEL: Colour = (20, 23, 31)
LINE: Colour = (44, 49, 62)
TEXT: Colour = (236, 239, 244)
MUTED: Colour = (148, 156, 172)

_FINE = 2  # drawn so much larger and then reduced: smooth edges, evenly spaced letters


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, the same on every machine; beyond ASCII it has few letters."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # so where a size is given


def text_width(text: str, size: int) -> float:
    """Width of one line of text, in pixels."""
    return _font(size * _FINE).getlength(text) / _FINE


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Lines of a text, broken between words so that they fit into a width where words do."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, size: int, width: float) -> str:
    """The text, or as much of its beginning as fits into a width, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text.rstrip()}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


class Canvas:
    """A page to draw on, in pixels from its upper left."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), PAGE)
        self._draw = ImageDraw.Draw(self._image)

    def finished(self) -> Image.Image:
        """The picture."""
        return self._image.reduce(_FINE)

    def text(
        self, at: Point, text: str, size: int, colour: Colour = TEXT, *, anchor: str = "ls"
    ) -> None:
        """One line of text at an anchor (Pillow's codes, ``ls``: left end of the baseline)."""
        position = (at[0] * _FINE, at[1] * _FINE)
        self._draw.text(position, text, colour, _font(size * _FINE), anchor)

    def power_of_ten(self, at: Point, exponent: int, size: int, *, anchor: str) -> None:
        """10 to a power, with ``at`` its top middle (``mt``) or its right end (``rm``)."""
        small = size * 3 // 4
        raised = str(exponent)
        width = text_width("10", size) + 1 + text_width(raised, small)
        right, baseline = (
            (at[0] + width / 2, at[1] + size) if anchor == "mt" else (at[0], at[1] + size * 0.36)
        )
        self.text((right - width, baseline), "10", size, MUTED)
        self.text((right, baseline - size * 0.4), raised, small, MUTED, anchor="rs")

    def rectangle(
        self, box: Box, fill: Colour, outline: Colour | None = None, *, radius: float = 0
    ) -> None:
        """A filled rectangle: left, top, right, bottom, the last two excluded."""
        left, top, right, bottom = (edge * _FINE for edge in box)
        inclusive = (left, top, right - 1, bottom - 1)
        self._draw.rounded_rectangle(inclusive, radius * _FINE, fill, outline, _FINE)

    def circle(self, centre: Point, radius: float, colour: Colour) -> None:
        """The outline of a circle."""
        middle = (centre[0] * _FINE, centre[1] * _FINE)
        self._draw.circle(middle, radius * _FINE, outline=colour, width=_FINE)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1) -> None:
        """A line through points."""
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(scaled, colour, round(width * _FINE), "curve")

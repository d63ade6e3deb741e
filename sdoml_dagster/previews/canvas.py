"""Drawing primitives and colors that all preview images share."""

from collections.abc import Sequence
from functools import cache
from typing import cast

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

PAGE: Color = (11, 13, 18)
PANEL: Color = (20, 23, 31)
LINE: Color = (44, 49, 62)
TEXT: Color = (236, 239, 244)
MUTED: Color = (148, 156, 172)

_FINE = 2  # supersampling factor, for smooth edges and evenly spaced letters


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load Pillow's built-in font, which is the same everywhere and covers little beyond ASCII."""
    # Pillow returns a FreeType font if a size is given.
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


def text_width(text: str, size: int) -> float:
    """Measure the width of one line of text in pixels."""
    return _font(size * _FINE).getlength(text) / _FINE


def wrap_text(text: str, size: int, width: float) -> list[str]:
    """Wrap text at word boundaries into lines of at most ``width`` pixels.

    A longer word gets a line of its own.
    """
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shorten(text: str, size: int, width: float) -> str:
    """Shorten text that does not fit into ``width`` pixels, and end it with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text.rstrip()}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


class Canvas:
    """A drawing surface, with coordinates in pixels from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), PAGE)
        self._draw = ImageDraw.Draw(self._image)

    def render(self) -> Image.Image:
        """Return the drawn image."""
        return self._image.reduce(_FINE)

    def text(
        self, at: Point, text: str, size: int, color: Color = TEXT, *, anchor: str = "ls"
    ) -> None:
        """Draw one line of text. The anchor ``ls`` is the left end of the baseline (see Pillow)."""
        position = (at[0] * _FINE, at[1] * _FINE)
        self._draw.text(position, text, color, _font(size * _FINE), anchor)

    def power_of_ten(self, at: Point, exponent: int, size: int, *, anchor: str) -> None:
        """Draw a power of 10. ``at`` is its top center (``mt``) or its right end (``rm``)."""
        small = size * 3 // 4
        raised = str(exponent)
        width = text_width("10", size) + 1 + text_width(raised, small)
        right, baseline = (
            (at[0] + width / 2, at[1] + size) if anchor == "mt" else (at[0], at[1] + size * 0.36)
        )
        self.text((right - width, baseline), "10", size, MUTED)
        self.text((right, baseline - size * 0.4), raised, small, MUTED, anchor="rs")

    def rectangle(
        self, box: Box, fill: Color, outline: Color | None = None, *, radius: float = 0
    ) -> None:
        """Draw a filled rectangle.

        ``box`` contains the left, top, right and bottom edges. The last two are exclusive.
        """
        left, top, right, bottom = (edge * _FINE for edge in box)
        inclusive = (left, top, right - 1, bottom - 1)
        self._draw.rounded_rectangle(inclusive, radius * _FINE, fill, outline, _FINE)

    def circle(self, center: Point, radius: float, color: Color) -> None:
        """Draw the outline of a circle."""
        middle = (center[0] * _FINE, center[1] * _FINE)
        self._draw.circle(middle, radius * _FINE, outline=color, width=_FINE)

    def line(self, points: Sequence[Point], color: Color, width: float = 1) -> None:
        """Draw a line through the points."""
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(scaled, color, round(width * _FINE), "curve")

"""A static page about a dataset: calendar, contact sheets and light curves in one HTML file.

The page can be opened from disk or on a dataset hub, without a server, scripts or other files.
"""

import base64
import io
from collections.abc import Iterable
from datetime import date, timedelta
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.colormaps import colormap
from sdoml_view.coverage import Calendar, read_calendar
from sdoml_view.curves import Curve, from_index, from_pixels
from sdoml_view.movie import MovieOptions, compose, label
from sdoml_view.release import Release

SHEETS: Final = 4
"""Number of contact sheets, evenly spaced over the range."""

TILE: Final = 224
"""Side length of each channel in a contact sheet, in pixels."""

_STYLE = """
:root{color-scheme:dark light;--back:#0b0d12;--text:#eceff5;--muted:#9aa4b6;--line:#2c3444}
@media(prefers-color-scheme:light){:root{--back:#f5f6f9;--text:#161b26;--muted:#566076;--line:#cfd5e0}}
body{font:15px/1.5 system-ui,sans-serif;background:var(--back);color:var(--text);
max-width:1120px;margin:0 auto;padding:24px 16px}
h1{margin:0}h2{margin:32px 0 8px}p,figcaption,td,th{color:var(--muted)}text{fill:var(--muted)}
img{max-width:100%;height:auto;display:block;border-radius:6px}
.year{display:grid;grid-template-columns:3.5em 1fr;align-items:center;gap:2px 8px;margin:6px 0}
.year img{width:100%;image-rendering:pixelated;border-radius:2px}
figure{margin:12px 0}svg{width:100%;height:auto;display:block}
table{border-collapse:collapse}td,th{text-align:left;padding:2px 18px 2px 0}
"""

# Cividis at equal steps, which is readable with color blindness. Dark means no frames.
_HEAT = np.array(
    [(0, 34, 78), (24, 54, 111), (66, 78, 108), (101, 103, 112),
     (133, 128, 120), (168, 154, 114), (205, 183, 98), (253, 231, 55)], float,
)  # fmt: skip
_UNKNOWN = (128, 128, 128)


def static_page(release: Release) -> str:
    """Return the page as HTML.

    All text is escaped, so names of files and folders cannot become markup.
    """
    calendar = read_calendar(release)
    slots = release.catalog.slots
    first, last = (f"{release.slot(row):%Y-%m-%d %H:%M}" for row in (0, len(slots) - 1))
    facts = {
        "Time": f"{first} to {last} UTC, every {release.cadence / 60:g} min",
        "Samples": f"{len(slots):,} in {len(release.catalog.shards):,} shards",
        "Channels": ", ".join(label(name) for name in release.channels),
        "Pixels": f"{release.resolution} × {release.resolution}",
        "Constants": release.catalog.normalization_version or "unknown",
    }
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items()
    )
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "img-src data:; style-src 'unsafe-inline'\">",
            f"<title>{escape(release.name)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(release.name)}</h1><table>{rows}</table>",
            "<h2>Coverage</h2>",
            "<p>Each row is a channel, in the order listed above, and each column is a day. "
            "Yellow is complete, dark blue is empty, and gray is outside the dataset.</p>",
            *_years(calendar),
            "<h2>Samples</h2>",
            *_sheets(release),
            "<h2>Light curves</h2>",
            *_curves(release),
            "<p>NASA/SDO and the AIA and HMI science teams.</p></body></html>\n",
        )
    )


def _years(calendar: Calendar) -> Iterable[str]:
    last = calendar.first + timedelta(days=calendar.found.shape[1] - 1)
    for year in range(calendar.first.year, last.year + 1):
        start = (date(year, 1, 1) - calendar.first).days
        length = (date(year + 1, 1, 1) - date(year, 1, 1)).days
        pixels = np.full((len(calendar.channels), length, 3), _UNKNOWN, np.uint8)
        low, high = max(start, 0), min(start + length, calendar.found.shape[1])
        expected, found = calendar.expected[:, low:high], calendar.found[:, low:high]
        pixels[:, low - start : high - start][expected > 0] = _heat(
            found[expected > 0] / expected[expected > 0]
        )
        image = Image.fromarray(pixels).resize((length * 3, len(pixels) * 8), 0)
        text = f"{year}: {int(found.sum()):,} of {int(expected.sum()):,} frames"
        yield f'<div class="year"><b>{year}</b>{_image(image, text, "PNG")}</div>'


def _heat(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    place = np.clip(shares, 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    colors = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (place - low)[:, None]
    rounded: NDArray[np.uint8] = np.rint(colors).astype(np.uint8)
    return rounded


def _sheets(release: Release) -> Iterable[str]:
    options = MovieOptions(release.channels, tile=TILE)
    count = min(SHEETS, len(release.catalog))
    for row in np.unique(np.linspace(0, len(release.catalog) - 1, count).astype(int)).tolist():
        time = f"{release.slot(row):%Y-%m-%d %H:%M} UTC"
        image = _image(compose(release, row, options), f"All channels at {time}", "WEBP")
        yield f"<figure>{image}<figcaption>{time}</figcaption></figure>"


def _image(image: Image.Image, alt: str, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{kind.lower()};base64,{data}">'


def _curves(release: Release) -> Iterable[str]:
    rows = range(len(release.catalog))
    curves = from_index(release, rows, release.channels)
    if curves is None:
        curves = from_pixels(release, rows, release.channels)
    for curve in curves:
        known = np.isfinite(curve.mean)
        if known.any():
            yield _curve(curve, known)


def _curve(curve: Curve, known: NDArray[np.bool_]) -> str:
    """Draw a light curve as an SVG of 1000 × 90 units."""
    times, values = curve.times[known].astype(float), curve.mean[known]
    low, high = float(values.min()), float(values.max())
    x = 130 + 860 * (times - times[0]) / max(times[-1] - times[0], 1)
    y = 78 - 66 * (values - low) / ((high - low) or 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    red, green, blue = colormap(curve.channel)[150].tolist()
    short = label(curve.channel).removesuffix(" magnetogram")
    name = f"{label(curve.channel)}: mean from {low:.4g} to {high:.4g} {curve.unit}"
    return (
        f'<svg viewBox="0 0 1000 90" role="img" aria-label="{escape(name)}" font-size="12">'
        f'<text x="0" y="24" font-size="14">{escape(short)}</text>'
        f'<text x="124" y="18" text-anchor="end">{high:.4g}</text>'
        f'<text x="124" y="80" text-anchor="end">{low:.4g}</text>'
        f'<text x="124" y="50" text-anchor="end">{escape(curve.unit)}</text>'
        '<rect x="130" y="8" width="860" height="74" fill="none" stroke="currentColor" '
        'opacity=".2"/>'
        f'<polyline points="{points}" fill="none" stroke="rgb({red} {green} {blue})" '
        'stroke-width="1.6"/></svg>'
    )

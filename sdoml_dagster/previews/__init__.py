"""Preview images, drawn only with Pillow.

The same input gives the same bytes on any machine. This package draws and encodes images. The
caller attaches them to an asset, a check or a file.
"""

from sdoml_dagster.previews.contact_sheet import INLINE_TILE, Panel, contact_sheet
from sdoml_dagster.previews.coverage_calendar import coverage_calendar
from sdoml_dagster.previews.histograms import histograms
from sdoml_dagster.previews.png import data_uri_markdown, inline_markdown, png

__all__ = [
    "INLINE_TILE",
    "Panel",
    "contact_sheet",
    "coverage_calendar",
    "data_uri_markdown",
    "histograms",
    "inline_markdown",
    "png",
]

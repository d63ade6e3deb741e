"""Pictures for people: made from arrays and sketches with Pillow alone, the same bytes each time.

Here belongs what is drawn and how it is encoded. What a picture is attached to (an asset, a
check, a file of the demo) does not.
"""

from sdoml_dagster.previews.contact_sheet import INLINE_TILE, Panel, contact_sheet
from sdoml_dagster.previews.coverage_calendar import coverage_calendar
from sdoml_dagster.previews.encoding import data_uri_markdown, inline_markdown, png
from sdoml_dagster.previews.histograms import histograms

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

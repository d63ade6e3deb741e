"""Draw contact sheets of a day's processed frames and of its shard.

Each sheet shows the slot with the most channels. If several slots are tied, it shows the slot
nearest noon.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from PIL import Image

from sdoml_core.channels import Channel
from sdoml_core.formats.index import Index
from sdoml_core.slots import midnight
from sdoml_dagster.previews import Panel, contact_sheet
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay


def processed_contact_sheet(
    stored: StoredDay, channels: Sequence[Channel], *, settings: Settings, tile: int
) -> Image.Image | None:
    """Draw the processed frames, or return ``None`` if no frame of these channels exists."""
    rows = {
        (row.slot, row.channel): row
        for instrument in sorted({channel.instrument for channel in channels})
        for row in stored.frame_table(instrument) or []
    }
    slot = _best_slot((row.slot for row in rows.values() if row.status == "ok"), stored.day)
    if slot is None:
        return None
    panels = []
    for channel in channels:
        row = rows.get((slot, channel.name))
        if row is not None and row.status == "ok":
            image = stored.frame(row, resolution=settings.resolution)
            panels.append(Panel(channel.name, image, observed=row.observed))
        else:
            reason = "not processed" if row is None else f"{row.status}: {row.reason}"
            panels.append(Panel(channel.name, None, reason=reason))
    return contact_sheet(
        panels, title="SDOML-lite", subtitle=f"{slot:%Y-%m-%d %H:%M} UTC", tile=tile
    )


def shard_contact_sheet(
    stored: StoredDay, index: Index, channels: Sequence[Channel], *, tile: int
) -> Image.Image | None:
    """Draw the normalized frames of the shard, or return ``None`` if the shard is empty."""
    rows = index.table.drop_columns(["holes"]).to_pylist()
    slot = _best_slot((row["slot"] for row in rows), stored.day)
    if slot is None:
        return None
    found = {row["channel"]: row for row in rows if row["slot"] == slot}
    panels = [
        Panel(name, stored.shard_frame(found[name]), observed=found[name]["observed"])
        if (name := channel.name) in found
        else Panel(name, None, reason="not in this sample")
        for channel in channels
    ]
    return contact_sheet(
        panels,
        title="SDOML-lite",
        subtitle=f"{slot:%Y-%m-%d %H:%M} UTC",
        tile=tile,
        normalized=True,
    )


def _best_slot(slots: Iterable[datetime], day: date) -> datetime | None:
    """Return the slot that occurs most often. In a tie, return the slot nearest noon."""
    counts = Counter(slots)
    noon = midnight(day) + timedelta(hours=12)
    return min(counts, key=lambda slot: (-counts[slot], abs(slot - noon)), default=None)

"""The contact sheet of a processed day: the sample nearest noon that has the most channels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from PIL import Image

from sdoml_core.channels import Channel
from sdoml_core.slots import midnight
from sdoml_dagster.previews import Panel, contact_sheet
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day_tables import read_frame_table
from sdoml_dagster.store.frame_files import read_frame
from sdoml_dagster.store.store import Store


def day_sheet(
    store: Store, day: date, channels: Sequence[Channel], *, settings: Settings, tile: int
) -> Image.Image | None:
    """A day's contact sheet, or ``None`` where no frame of these channels is there."""
    rows = {
        (row.slot, row.channel): row
        for instrument in sorted({channel.instrument for channel in channels})
        for row in read_frame_table(store, day, instrument) or []
    }
    slot = best_slot((row.slot for row in rows.values() if row.status == "ok"), day)
    if slot is None:
        return None
    panels = []
    for channel in channels:
        row = rows.get((slot, channel.name))
        if row is not None and row.status == "ok":
            image = read_frame(store, day, row, resolution=settings.resolution)
            panels.append(Panel(channel.name, image, observed=row.observed))
        else:
            reason = "not processed" if row is None else f"{row.status}: {row.reason}"
            panels.append(Panel(channel.name, None, reason=reason))
    return contact_sheet(
        panels, title="SDOML-lite", subtitle=f"{slot:%Y-%m-%d %H:%M} UTC", tile=tile
    )


def best_slot(slots: Iterable[datetime], day: date) -> datetime | None:
    """The slot of the most frames, given that of each; of several the one nearest noon."""
    counts = Counter(slots)
    noon = midnight(day) + timedelta(hours=12)
    return min(counts, key=lambda slot: (-counts[slot], abs(slot - noon)), default=None)

"""The contact sheet of a shard: what lies in the tar, normalised, of the sample nearest noon."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.channels import Channel
from sdoml_core.formats.index import Index
from sdoml_dagster.pipeline.day_sheet import best_slot
from sdoml_dagster.previews import Panel, contact_sheet
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def shard_sheet(
    store: Store, day: date, index: Index, channels: Sequence[Channel], *, tile: int
) -> Image.Image | None:
    """A shard's contact sheet, or ``None`` where it is empty."""
    wanted = ["slot", "channel", "observed", "data_offset", "dtype", "resolution"]
    rows = index.table.select(wanted).to_pylist()
    slot = best_slot((row["slot"] for row in rows), day)
    if slot is None:
        return None
    found = {row["channel"]: row for row in rows if row["slot"] == slot}
    panels = [
        Panel(
            name,
            shard_frame(store, layout.shard(day), found[name]),
            observed=found[name]["observed"],
        )
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


def shard_frame(store: Store, shard: str, row: Mapping[str, Any]) -> NDArray[np.floating[Any]]:
    """The frame of one row of a shard's index, (n, n), as it was packed.

    Parameters
    ----------
    store
        Where the shard is.
    shard
        Its path.
    row
        ``data_offset``, ``dtype`` and ``resolution`` of the frame.
    """
    side, dtype = row["resolution"], np.dtype(row["dtype"]).newbyteorder("<")
    start = row["data_offset"]
    data = store.read_range(shard, start, start + side * side * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(side, side)

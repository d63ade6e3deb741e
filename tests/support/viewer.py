"""A small release with gaps, stand-ins and flags, and a running viewer."""

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdoml_core.formats.shard import FrameFacts
from sdoml_core.frames.flags import flag_mask
from sdoml_view.app import Application
from sdoml_view.release import Release
from sdoml_view.series import UserSeries
from sdoml_view.server import listen, make_server, url_of
from tests.support.synthetic_shards import FIRST, facts, frame, write_release

SIDE = 64
CHANNELS = ("AIA_0171", "AIA_0211", "AIA_1700", "HMI_M")
DAYS = 3
CONSTANT = 250_000.0
"""Constant of the AIA channels: up to 1,000 DN/s."""


def viewer_facts(slot: datetime, channel: str) -> FrameFacts:
    """Return metadata. The 171 Å frame is a stand-in at 01:00 and provisional at 01:15."""
    known = facts(slot, channel)
    if channel.startswith("AIA"):
        known = dataclasses.replace(known, constant=CONSTANT)
    if day(0) < slot.date():  # the first day's index lacks these columns, as in an earlier version
        pixels = frame(slot, channel, SIDE).astype(np.float64)
        processed = pixels**2 * CONSTANT if channel.startswith("AIA") else pixels
        saturated = float((pixels == 1).mean())
        known = dataclasses.replace(known, mean=float(processed.mean()), saturated=saturated)
    if channel != "AIA_0171" or slot.hour != 1:
        return known
    if slot.minute == 0:
        return dataclasses.replace(known, observed=slot + timedelta(minutes=2, seconds=4))
    if slot.minute == 15:
        return dataclasses.replace(known, flags=flag_mask(["provisional"]))
    return known


def make_release(folder: Path) -> Path:
    """Write a release of `DAYS` days with 6 hours each, and its coverage table."""
    write_release(folder, DAYS, channels=CHANNELS, side=SIDE, facts_of=viewer_facts)
    rows = [
        {
            "day": FIRST + timedelta(days=number), "channel": channel, "expected": 24,
            "ok": 18 if channel == "AIA_1700" else 20 if channel == "AIA_0211" else 24,
            "quality": 6 if channel == "AIA_1700" else 0,
            "missing": 4 if channel == "AIA_0211" else 0,
        }
        for number in range(DAYS)
        for channel in CHANNELS
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "coverage.parquet")
    return folder


@contextmanager
def serving(
    release: Path | str, *, at: str | None = None, series: Sequence[UserSeries] = ()
) -> Iterator[str]:
    """Run the viewer in a thread and yield its address."""
    when = None if at is None else np.datetime64(at, "s")
    listener = listen(0)
    opened = Release(release)
    server = make_server(Application(lambda: opened, at=when, series=series).asgi())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def day(number: int) -> date:
    """Return a day of the release."""
    return FIRST + timedelta(days=number)

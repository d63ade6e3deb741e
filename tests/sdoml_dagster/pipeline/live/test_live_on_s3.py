"""The near-real-time window on S3, with a publisher and readers that use a local S3 server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sdoml_core.loader import LiveDataset
from sdoml_dagster.pipeline.live.window import GRACE
from sdoml_dagster.store import layout
from tests.support.live import MINUTE

pytestmark = pytest.mark.slow  # these tests start an S3 server


def read(live, stop):
    """Read the newest window until ``stop`` is set. Return all versions of each frame's bytes."""
    now = live.now + timedelta(hours=3)
    dataset = LiveDataset(live.url, live.settings.channels, now=lambda: now)
    seen, newest = {}, []
    while not stop.is_set():
        window = dataset.latest(past=3)
        newest.append(window.times[-1])
        for time, frames, mask in zip(window.times, window.frames, window.mask, strict=True):
            for channel, frame, present in zip(dataset.channels, frames, mask, strict=True):
                if present:
                    seen.setdefault((time, channel), set()).add(frame.numpy().tobytes())
    return seen, newest


def test_readers_of_a_bucket_see_complete_and_current_slots(follow, s3):
    live = follow(store="s3://data/sun", live_hours=1)
    local = follow(live_hours=1)
    for deployment in (live, local):
        deployment.tick()
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, live, stop) for _ in range(3)]
        try:
            live.run(24 * MINUTE, 6 * MINUTE)
        finally:
            stop.set()
        results = [reader.result() for reader in readers]
    local.run(24 * MINUTE, 6 * MINUTE)
    assert live.files() == local.files()
    for seen, newest in results:
        assert seen
        assert all(len(pixels) == 1 for pixels in seen.values())
        assert newest == sorted(newest)


def test_new_slot_in_a_bucket_is_visible_immediately(follow, s3):
    live = follow(store="s3://data/sun", live_hours=1, channels=("AIA_0171",))
    live.tick()
    dataset = LiveDataset(live.url, ["AIA_0171"], now=lambda: live.now)
    assert not dataset.refresh()
    before = dataset.latest(past=1).times
    live.run(24 * MINUTE, 12 * MINUTE)
    assert dataset.latest(past=1).times > before
    live.run(timedelta(hours=2), 30 * MINUTE)
    live.archive.clock.advance(GRACE)
    live.tick()
    dataset.refresh()
    left = layout.live_shards(live.store)
    named = {f"{layout.LIVE}/{name}" for name in dataset._reader.catalog.shards}
    assert named <= left
    assert len(left) <= len(named) + 2  # recently replaced shards may be left
    frames = [path for path in live.store.find(layout.LIVE_FRAMES) if path.endswith(".npy")]
    assert len(frames) == len(dataset)

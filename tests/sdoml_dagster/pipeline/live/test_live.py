"""The near-real-time window, with a simulated archive that publishes frames within minutes."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import requests

from sdoml_core.channels import CHANNELS
from sdoml_core.formats.live_table import LIVE_TABLE
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.flags import is_provisional
from sdoml_core.loader import LiveDataset, SDOMLlite
from sdoml_core.normalization.transform import normalize
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.tree import live_path
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.live.compare_with_definitive import read_report
from sdoml_dagster.pipeline.live.window import GRACE
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.faults import Fault, FaultPlan
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.render.fits_file import read_file, write_file
from tests.support.live import MINUTE, START, constants_for

pytestmark = pytest.mark.slow  # each test fetches from a simulated archive

HOUR = timedelta(hours=1)
SLOT = datetime(2026, 3, 30, 19, 15, tzinfo=UTC)


def rows_of(deployment, hour):
    table = deployment.store.read(layout.live_table(hour))
    return {(row.slot, row.channel): row for row in LIVE_TABLE.decode(table)}


def row_at(deployment, slot, channel):
    return rows_of(deployment, slot.replace(minute=0))[slot, channel]


def paths(deployment, since=0):
    return [request.path for request in deployment.archive.log.requests[since:]]


def test_first_update_fills_the_window(follow):
    live = follow()
    done = live.tick()
    dataset = LiveDataset(live.folder, live.settings.channels, now=lambda: live.now)
    assert str(dataset.times[0]) == "2026-03-30T18:00:00"
    assert str(dataset.times[-1]) == "2026-03-30T19:30:00"
    assert done.frames["HMI_M"] == 4  # HMI frames appear an hour after AIA frames
    row = row_at(live, SLOT, "AIA_0171")
    assert is_provisional(row.flags)
    assert row.file == "AIA20260330_191500_0171.fits"
    assert row.url.endswith(f"/nrt/2026/03/30/H1900/{row.file}")
    assert row.observed == SLOT + timedelta(seconds=9.34)
    assert row.published == live.archive.live.appears(CHANNELS["AIA_0171"], SLOT)


def test_live_frames_have_the_pixels_of_the_dataset(follow):
    live = follow()
    live.tick()
    url = f"{live.archive.aia_root}/{live_path(CHANNELS['AIA_0193'], SLOT)}"
    frame = decode_aia(requests.get(url, timeout=30).content)
    factor = DegradationTable.default().factor(SLOT.date(), 193)
    pixels = process_aia(frame, resolution=64, degradation=factor)
    expected = np.empty_like(pixels)
    normalize(pixels, constants_for(live.settings).constant("AIA_0193"), expected)
    image, _ = SDOMLlite(live.folder, ["AIA_0193"])["2026-03-30T19:15"]
    np.testing.assert_array_equal(image[0].numpy(), expected)


def test_compact_window_has_the_same_frames_within_half_a_step(follow):
    whole = follow()
    silent = {"AIA_0193": [(START - 4 * HOUR, START + 4 * HOUR)]}  # a channel without frames
    live = follow(LivePlan(silent=silent), encoding="compact")
    whole.tick()
    live.tick()
    assert len(LiveDataset(live.folder, live.settings.channels, now=lambda: live.now))
    dataset = SDOMLlite(live.folder, ["AIA_0171"])
    assert dataset.reader.catalog.encoding == "compact"
    step = dataset.reader.catalog.constants["AIA_0171"]["step"]
    exact, _ = SDOMLlite(whole.folder, ["AIA_0171"])["2026-03-30T19:15"]
    image, _ = dataset["2026-03-30T19:15"]
    assert float((image - exact).abs().max()) <= step / 2 + 1e-7


def test_update_without_new_frames_makes_one_request_per_tree(follow):
    live = follow(LivePlan(silent={"AIA_0193": [(SLOT, SLOT + 4 * HOUR)]}))
    live.tick()
    for _ in range(20):
        live.archive.clock.advance(3 * MINUTE)
        before = len(live.archive.log.requests)
        news = live.look()
        assert len(live.archive.log.requests) - before <= 2
        if news:
            live.tick()
    statuses = [request.status for request in live.archive.log.requests]
    assert statuses.count(404) + statuses.count(403) < 8
    assert statuses.count(304) > 10


def test_slot_grows_as_channels_arrive(follow):
    live = follow()
    live.tick()
    dataset = LiveDataset(live.folder, live.settings.channels, now=lambda: live.now)
    seen = []
    for _ in range(30):
        live.archive.clock.advance(3 * MINUTE)
        live.tick()
        dataset.refresh()
        rows = rows_of(live, START) if live.store.exists(layout.live_table(START)) else {}
        found = [key[1] for key, row in rows.items() if key[0] == START and row.status == "ok"]
        if found and (not seen or seen[-1] != found):
            seen.append(found)
    assert seen[-1] == ["AIA_0171", "AIA_0193", "HMI_M"]
    assert len(seen) > 1


def test_partial_file_is_read_again_when_complete(follow):
    live = follow()
    channel = CHANNELS["AIA_0171"]
    whole = live.archive.live.appears(channel, SLOT)
    live.archive.clock.advance(whole - timedelta(seconds=10) - live.now)
    live.tick()
    row = row_at(live, SLOT, "AIA_0171")
    assert row.status == "invalid"
    assert "32484 bytes" in row.reason
    live.run(6 * MINUTE)
    assert row_at(live, SLOT, "AIA_0171").status == "ok"


def test_stand_in_replaces_a_frame_that_does_not_appear(follow):
    live = follow(LivePlan(silent={"AIA_0171": [(START, START + MINUTE)]}))
    live.tick()
    live.run(36 * MINUTE)
    assert row_at(live, START, "AIA_0171").status == "missing"
    live.run(12 * MINUTE)
    row = row_at(live, START, "AIA_0171")
    assert row.file == "AIA20260330_200300_0171.fits"
    assert row.reason == "stands in: 20:00 not in the archive"


def test_frame_with_bad_quality_is_not_requested_again(follow):
    live = follow(LivePlan(uncompressed=0))

    def dark(path, body):
        if "191500_0171" not in path:
            return body
        return write_file(read_file(body), {"IMG_TYPE": "DARK"})

    live.archive.alter = dark
    live.tick()
    assert row_at(live, SLOT, "AIA_0171").rejected == "AIA20260330_191500_0171.fits"
    live.run(30 * MINUTE)
    assert row_at(live, SLOT, "AIA_0171").file == "AIA20260330_191800_0171.fits"
    assert sum("191500_0171" in path for path in paths(live)) == 1


def test_stale_frame_is_rejected(follow):
    live = follow(LivePlan(uncompressed=0))
    first = live_path(CHANNELS["AIA_0171"], SLOT)

    def stale(path, body):
        if "193000_0171" not in path:
            return body
        old = live.archive.live.respond(f"/data/aia/synoptic/{first}").body
        times = {"DATE-OBS": "2026-03-30T19:30:09.34", "T_OBS": "2026-03-30T19:30:10.34Z"}
        return write_file(read_file(old), times)

    live.archive.alter = stale
    live.archive.clock.advance(6 * MINUTE)
    live.tick()
    row = row_at(live, SLOT + 15 * MINUTE, "AIA_0171")
    assert row.status == "invalid"
    assert "stale" in row.reason
    assert row_at(live, SLOT, "AIA_0171").status == "ok"


def test_no_frame_is_lost_in_an_outage(follow):
    plan = LivePlan(down=[(START + 6 * MINUTE, START + 100 * MINUTE)])
    live, undisturbed = follow(plan), follow()
    for deployment in (live, undisturbed):
        deployment.tick()
        deployment.run(99 * MINUTE)
    asked = [r for r in live.archive.log.requests if r.status == 503]
    assert 0 < len(asked) < 40  # 31 ticks for two trees
    for deployment in (live, undisturbed):
        deployment.run(81 * MINUTE)
    assert live.files() == undisturbed.files()


def test_archive_without_listings_works(follow):
    live, other = follow(LivePlan(listings=False)), follow()
    for deployment in (live, other):
        deployment.tick()
        deployment.run(HOUR)
    assert live.files() == other.files()


def test_transport_faults_do_not_affect_the_window(follow):
    live, good = follow(), follow()
    kinds = (Fault.HTML, Fault.SHORT, Fault.FLIP, Fault.WRONG, Fault.RESET, Fault.SERVER_ERROR)
    rates = dict.fromkeys(kinds, 1 / len(kinds))
    live.archive.faults = FaultPlan(rates=rates, seed=3, match="2026")
    for deployment in (live, good):
        deployment.tick()
        deployment.run(54 * MINUTE)
    assert len({request.fault for request in live.archive.log.requests}) > 4
    assert live.files() == good.files()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("writes", [1, 6, 14])
def test_killed_update_produces_the_same_window_after_a_restart(follow, monkeypatch, writes):
    live, other = follow(), follow()
    other.tick()
    other.run(30 * MINUTE)
    left = [writes]
    write = Store.write

    def dying(self, path, data):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dying)
        with pytest.raises(Killed):
            live.tick()
    live.tick()
    left[0] = writes
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dying)
        with pytest.raises(Killed):
            live.run(HOUR)
    passed = live.now - START
    live.tick()
    live.run(30 * MINUTE - passed if passed < 30 * MINUTE else timedelta(0))
    assert live.now <= other.now
    live.archive.clock.advance(other.now - live.now)
    live.tick()
    assert live.files() == other.files()


def test_ten_readers_never_see_an_incomplete_slot(follow):
    live = follow()
    live.tick()
    stop = threading.Event()
    now = live.now + 2 * HOUR

    def read():
        dataset = LiveDataset(live.folder, live.settings.channels, now=lambda: now)
        seen = {}
        while not stop.wait(0.005):
            window = dataset.latest(past=4)
            for time, frames, mask in zip(window.times, window.frames, window.mask, strict=True):
                for channel, frame, present in zip(dataset.channels, frames, mask, strict=True):
                    if present:
                        seen.setdefault((time, channel), set()).add(frame.numpy().tobytes())
        return seen

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(10)]
        try:
            live.run(36 * MINUTE)
        finally:
            stop.set()
        seen = [reader.result() for reader in readers]
    final = SDOMLlite(live.folder, ["AIA_0171"])
    assert all(len(pixels) == 1 for frames in seen for pixels in frames.values())
    last = seen[0]["2026-03-30T20:00:00", "AIA_0171"]
    expected = LiveDataset(live.folder, ["AIA_0171"], now=lambda: now).latest(past=2)
    place = expected.times.index("2026-03-30T20:00:00")
    assert last == {expected.frames[place, 0].numpy().tobytes()}
    assert len(final) > 4


def test_losing_the_state_file_changes_nothing(follow):
    live = follow()
    live.tick()
    before = live.files()
    live.store.delete(layout.LIVE_STATE)
    live.tick()
    assert live.files() == before


def test_old_slots_and_files_are_removed(follow):
    live = follow(live_hours=1, channels=("AIA_0171",))
    live.tick()
    live.run(3 * HOUR + 27 * MINUTE, 9 * MINUTE)
    dataset = LiveDataset(live.folder, ["AIA_0171"], now=lambda: live.now)
    assert str(dataset.times[0]) == "2026-03-30T22:00:00"
    frames = list(live.folder.rglob("*.npy"))
    assert len(frames) == len(dataset)
    live.archive.clock.advance(GRACE)
    live.tick()
    dataset.refresh()
    left = {path.name for path in live.folder.rglob("*.tar")}
    assert {Path(name).name for name in dataset._reader.catalog.shards} <= left
    assert len(left) <= len(dataset) + 2  # recently replaced shards may be left


def test_new_constants_republish_the_window_without_downloads(follow):
    live = follow()
    live.tick()
    old = LiveDataset(live.folder, live.settings.channels, now=lambda: live.now)
    constants = constants_for(live.settings)
    newer = dataclasses.replace(constants, days=2)
    live.store.write(layout.CURRENT_NORMALIZATION, newer.to_json())
    live.archive.clock.advance(15 * MINUTE)
    live.run(6 * MINUTE)
    new = LiveDataset(live.folder, live.settings.channels, now=lambda: live.now)
    assert new.normalization_version == newer.version != old.normalization_version
    assert len(new) >= len(old)
    complete = [path for path in paths(live) if "/H1800/" in path and path.endswith(".fits")]
    assert len(complete) == len(set(complete)) == 8


def test_definitive_frames_are_compared_with_provisional_ones_and_replace_them(follow, monkeypatch):
    start = datetime(2026, 3, 30, 22, 0, tzinfo=UTC)
    live = follow(start=start, cadence_minutes=60, live_hours=6)
    live.tick()
    live.run(HOUR, 15 * MINUTE)
    live.archive.clock.advance(3 * HOUR)
    day = START.date()
    daily = live.settings.model_copy(update={"start": START - 4 * HOUR, "end": START + 4 * HOUR})
    lines = []
    for instrument, root in (("AIA", live.archive.aia_root), ("HMI", live.archive.hmi_root)):
        with ArchiveClient([root], attempts=2, pause=0.01) as client:
            fetch_day(
                day,
                instrument,
                settings=daily,
                store=live.store,
                client=client,
                report=lines.append,
            )
        process_day(day, instrument, settings=daily, store=live.store, report=lines.append)
    pack_day(day, settings=daily, store=live.store, report=lines.append)
    live.tick()
    row = row_at(live, START, "AIA_0171")
    assert row.reason == "definitive"
    assert not is_provisional(row.flags)
    published = SDOMLlite(live.folder, ["AIA_0171"])["2026-03-30T20:00"][0]
    shard = SDOMLlite(live.store.root + "/shards", ["AIA_0171"])["2026-03-30T20:00"][0]
    np.testing.assert_array_equal(published.numpy(), shard.numpy())
    report = {entry.channel: entry for entry in read_report(live.store)}
    assert set(report) == {"AIA_0171", "AIA_0193", "HMI_M"}
    assert report["AIA_0171"].pairs >= 5
    # On the hour, both trees contain the same exposure, so the simulated pixels are equal.
    assert report["AIA_0171"].same_time == report["AIA_0171"].pairs
    assert abs(report["AIA_0171"].bias) < 1e-6
    assert abs(report["HMI_M"].bias) < 1e-3

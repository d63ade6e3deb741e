"""After disturbed near-real-time updates, the window equals an undisturbed window."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from sdoml_core.errors import StoreError
from sdoml_core.formats.live_table import LIVE_TABLE
from sdoml_core.loader import LiveDataset
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.live_tree import LivePlan
from tests.support.live import MINUTE, START, LiveDeployment, constants_for

pytestmark = pytest.mark.slow  # each test fetches from a simulated archive

HOUR = timedelta(hours=1)
ONE = ("AIA_0171",)


def times(live):
    return [str(time) for time in LiveDataset(live.url, live.settings.channels).times]


def test_new_store_receives_the_complete_window(follow):
    live = follow(channels=ONE, cadence_minutes=360, live_hours=72)
    live.tick()
    assert times(live)[0] == "2026-03-28T00:00:00"
    assert len(times(live)) == 12


def test_no_frame_is_lost_in_an_outage_of_more_than_a_day(follow):
    # The first tick requests the frame of the slot at the start, which is not available yet.
    begin = START + 13 * MINUTE
    plan = LivePlan(down=[(begin + MINUTE, START + 27 * HOUR)])
    options = {"channels": ONE, "cadence_minutes": 240, "live_hours": 48, "start": begin}
    live, undisturbed = follow(plan, **options), follow(**options)
    for deployment in (live, undisturbed):
        deployment.tick()
        deployment.run(30 * HOUR, 30 * MINUTE)
    assert "2026-03-30T20:00:00" in times(live)
    assert live.files() == undisturbed.files()


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 128},
        {"dtype": "float16"},
        {"encoding": "compact"},
        {"channels": ("AIA_0193", "HMI_M")},
        {"live_hours": 4},
        {"live_hours": 1},
    ],
    ids=str,
)
def test_changed_settings_produce_the_window_of_a_new_store(follow, change):
    settings = {"channels": ("AIA_0171", "HMI_M"), "cadence_minutes": 30}
    live = follow(**settings)
    live.tick()
    live.settings = live.settings.model_copy(update=change)
    freeze(live.store, constants_for(live.settings), replace=True)
    live.run(6 * MINUTE)
    new = follow(**settings | change)
    new.archive.clock.advance(6 * MINUTE)
    new.tick()
    assert live.files() == new.files()


def test_lost_frames_are_fetched_again_when_they_are_needed(follow):
    live, undisturbed = (follow(channels=ONE, cadence_minutes=30) for _ in range(2))
    live.tick()
    live.store.delete(layout.live_frame(START - HOUR, "AIA_0171"))
    path = layout.live_frame(START - 2 * HOUR, "AIA_0171")
    live.store.write(path, live.store.read(path)[:-4] + b"flip")
    newer = dataclasses.replace(constants_for(live.settings), days=2)
    for deployment in (live, undisturbed):
        deployment.store.write(layout.CURRENT_NORMALIZATION, newer.to_json())
        deployment.run(36 * MINUTE, 12 * MINUTE)
    assert LiveDataset(live.url, ONE).normalization_version == newer.version
    assert live.files() == undisturbed.files()


def test_window_is_complete_after_a_clock_was_days_ahead(follow):
    options = {"channels": ONE, "cadence_minutes": 30}
    # After the outage, the client's next request is scheduled by the wrong clock, days ahead.
    down = [(START + MINUTE, START + 8 * MINUTE)]
    live, undisturbed = follow(LivePlan(down=down), **options), follow(**options)
    for deployment in (live, undisturbed):
        deployment.tick()
    live.clock_error = timedelta(days=5)
    live.run(6 * MINUTE)
    live.clock_error = timedelta(0)
    undisturbed.run(6 * MINUTE)
    for deployment in (live, undisturbed):
        deployment.run(30 * MINUTE, 6 * MINUTE)
    assert live.files() == undisturbed.files()


def test_window_is_complete_after_a_clock_is_set_back(follow):
    live, undisturbed = (follow(channels=ONE, cadence_minutes=30) for _ in range(2))
    for deployment in (live, undisturbed):
        deployment.tick()
    live.clock_error = -2 * HOUR
    live.run(12 * MINUTE, 6 * MINUTE)
    live.clock_error = timedelta(0)
    undisturbed.run(12 * MINUTE, 6 * MINUTE)
    for deployment in (live, undisturbed):
        deployment.run(30 * MINUTE, 6 * MINUTE)
    assert live.files() == undisturbed.files()


def test_two_schedulers_produce_the_same_window_as_one(follow):
    live, undisturbed = follow(), follow()
    other = LiveDeployment(live.settings, live.archive)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(6):
            for tick in [pool.submit(deployment.tick) for deployment in (live, other)]:
                tick.result()
            live.archive.clock.advance(6 * MINUTE)
    undisturbed.tick()
    undisturbed.run(36 * MINUTE, 6 * MINUTE)
    for deployment in (live, undisturbed):
        deployment.run(72 * MINUTE, 6 * MINUTE)
    assert live.files() == undisturbed.files()


def test_slot_that_another_update_removed_from_the_index_is_published_again(follow):
    live = follow(channels=ONE, cadence_minutes=30)
    live.tick()
    earlier = live.store.read(layout.LIVE_INDEX)
    live.run(30 * MINUTE, 6 * MINUTE)
    found = times(live)
    assert len(found) > 4
    live.store.write(layout.LIVE_INDEX, earlier)
    live.run(66 * MINUTE, 6 * MINUTE)
    assert set(found[2:]) <= set(times(live))


def test_update_frees_space_on_a_full_disk(follow, monkeypatch):
    live = follow(channels=ONE, cadence_minutes=30, live_hours=1)
    undisturbed = follow(channels=ONE, cadence_minutes=30, live_hours=1)
    for deployment in (live, undisturbed):
        deployment.tick()
    old = {path for path in live.store.find(layout.LIVE_FRAMES) if path.endswith(".npy")}

    def full(self, path, data):
        raise StoreError(f"cannot write {path}: No space left on device")

    live.archive.clock.advance(3 * HOUR)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            live.tick()
    assert old
    assert not old & set(live.store.find(layout.LIVE_FRAMES))
    undisturbed.archive.clock.advance(3 * HOUR)
    for deployment in (live, undisturbed):
        deployment.tick()
        deployment.run(6 * MINUTE)
    assert live.files() == undisturbed.files()


@pytest.mark.parametrize("midnight", ["2028-01-01", "2028-02-29", "2028-03-01"])
def test_window_can_span_midnight(follow, midnight):
    start = datetime.fromisoformat(midnight).replace(tzinfo=UTC) + 90 * MINUTE
    live = follow(start=start, channels=("AIA_0171", "HMI_M"), cadence_minutes=30)
    live.tick()
    expected = [start - 120 * MINUTE + n * 30 * MINUTE for n in range(4)]
    dataset = LiveDataset(live.url, live.settings.channels, now=lambda: start)
    for slot in expected[1:]:
        assert f"{slot:%Y-%m-%dT%H:%M:%S}" in times(live)
    window = dataset.latest(past=4, stride=timedelta(minutes=30))
    assert window.mask[:, 0].all()
    assert window.mask[:2, 1].all()


def test_late_hmi_frame_is_found_although_another_never_appears(follow, monkeypatch):
    live = follow(channels=("HMI_M",), cadence_minutes=30, live_hours=6)
    appears = live.archive.live.appears

    def late(channel, minute):
        if minute == START:
            return None
        return START + 3 * HOUR if minute == START + 30 * MINUTE else appears(channel, minute)

    monkeypatch.setattr(live.archive.live, "appears", late)
    live.tick()
    live.run(5 * HOUR, 15 * MINUTE)
    rows = LIVE_TABLE.decode(live.store.read(layout.live_table(START)))
    assert {row.slot: row.status for row in rows} == {
        START: "missing",
        START + 30 * MINUTE: "ok",
    }

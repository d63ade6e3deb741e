"""The simulated near-real-time tree, with real sockets and a simulated clock."""

from datetime import UTC, datetime, timedelta

import pytest
import requests

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import TruncatedFrameError
from sdoml_core.frames.aia import decode_aia
from sdoml_core.frames.judge_hmi import inspect_hmi
from sdoml_dagster.archive.tree import archive_path, live_folder, live_path
from sdoml_demo.clock import Clock
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive

MINUTE = datetime(2026, 3, 30, 19, 15, tzinfo=UTC)
AIA, HMI = CHANNELS["AIA_0171"], CHANNELS["HMI_M"]


@pytest.fixture
def serve(frame_cache):
    running = []

    def make(**plan):
        archive = Archive(
            cache=frame_cache, clock=Clock(MINUTE, speed=0), live=LivePlan(**plan), absences=False
        )
        running.append(archive)
        return archive.__enter__()

    yield make
    for archive in running:
        archive.__exit__(None, None, None)


def get(root, path, **headers):
    return requests.get(f"{root}/{path}", headers=headers, timeout=60)


def test_aia_frame_is_partial_then_complete_then_removed(serve):
    archive = serve(uncompressed=0)
    whole = archive.live.appears(AIA, MINUTE)
    assert timedelta(minutes=15) <= whole - MINUTE <= timedelta(minutes=26)
    path = live_path(AIA, MINUTE)
    assert get(archive.aia_root, path).status_code in {403, 404}
    archive.clock.advance(whole - MINUTE - timedelta(seconds=20))
    with pytest.raises(TruncatedFrameError):
        decode_aia(get(archive.aia_root, path).content)
    archive.clock.advance(timedelta(seconds=20))
    answer = get(archive.aia_root, path)
    assert decode_aia(answer.content).quality == 1 << 30
    assert answer.headers["Last-Modified"].endswith("GMT")
    archive.clock.advance(timedelta(days=14))
    assert get(archive.aia_root, path).status_code == 404


def test_missing_frames_return_403_or_404(serve):
    archive = serve()
    codes = {
        get(archive.aia_root, live_path(AIA, MINUTE + k * timedelta(minutes=3))).status_code
        for k in range(12)
    }
    assert codes == {403, 404}


def test_uncompressed_variant_has_the_same_image(serve):
    packed, plain = serve(uncompressed=0), serve(uncompressed=1)
    for archive in (packed, plain):
        archive.clock.advance(timedelta(hours=1))
    one, other = (get(a.aia_root, live_path(AIA, MINUTE)).content for a in (packed, plain))
    assert len(other) > 4_000_000 > len(one)
    assert (decode_aia(one).image == decode_aia(other).image).all()


def test_newest_time_supports_conditional_requests(serve):
    archive = serve()
    first = get(archive.aia_root, "nrt/image_times")
    assert first.text.startswith("Time     20260330_18")
    again = get(archive.aia_root, "nrt/image_times", **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    archive.clock.advance(timedelta(minutes=15))
    newer = get(archive.aia_root, "nrt/image_times", **{"If-None-Match": first.headers["ETag"]})
    assert newer.status_code == 200
    assert newer.text > first.text


def test_listing_contains_frames_that_have_appeared(serve):
    archive = serve(silent={"AIA_0171": [(MINUTE, MINUTE + timedelta(hours=1))]})
    archive.clock.advance(timedelta(minutes=40))
    page = get(archive.aia_root, live_folder(MINUTE)).text
    assert "AIA20260330_191500_0193.fits" in page
    assert "AIA20260330_191200_0171.fits" in page
    assert "AIA20260330_191500_0171.fits" not in page
    assert "AIA20260330_195400" not in page
    later = live_folder(MINUTE + timedelta(hours=3))
    assert get(archive.aia_root, later).status_code == 404


def test_hmi_image_appears_an_hour_later_and_is_replaced_by_a_definitive_one(serve):
    archive = serve()
    path = archive_path(HMI, MINUTE)
    archive.clock.advance(timedelta(minutes=50))
    assert get(archive.hmi_root, path).status_code in {403, 404}
    archive.clock.advance(timedelta(minutes=25))
    assert inspect_hmi(get(archive.hmi_root, path).content, rsun_obs=961.0).provisional
    archive.clock.advance(timedelta(days=2))
    assert not inspect_hmi(get(archive.hmi_root, path).content, rsun_obs=961.0).provisional


def test_server_can_be_down(serve):
    archive = serve(down=[(MINUTE, MINUTE + timedelta(hours=1))])
    assert get(archive.aia_root, "nrt/image_times").status_code == 503
    assert get(archive.hmi_root, archive_path(HMI, MINUTE)).status_code == 503
    archive.clock.advance(timedelta(hours=1))
    assert get(archive.aia_root, "nrt/image_times").status_code == 200

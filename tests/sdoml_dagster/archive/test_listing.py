"""Folder listings, and the file that states the newest time."""

from datetime import UTC, datetime

import pytest

from sdoml_core.errors import FrameMissingError, FrameRefusedError, OutageError
from sdoml_dagster.archive.client import ArchiveClient, Page
from sdoml_dagster.archive.listing import listed_names, newest_time
from tests.support.scripted_server import serving

APACHE = b"""<table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><a href="/data/aia/synoptic/nrt/2026/03/30/">Parent Directory</a></td></tr>
<tr><td><a href="AIA20260330_204500_1700.fits">AIA20260330_204500_1..&gt;</a></td></tr>
<tr><td><A HREF='AIA20260330_204500_0094.fits'>x</A></td></tr></table>"""


def test_listing_contains_frame_names():
    assert listed_names(Page(APACHE)) == {
        "AIA20260330_204500_1700.fits",
        "AIA20260330_204500_0094.fits",
    }


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        (b"Time     20260330_204800_UTC\n", 48),
        (b"Time 20260330_204500_TAI\nsynoptic http://x/AIA20260330_204200_", 45),
    ],
)
def test_newest_time_is_parsed(text, minute):
    assert newest_time(Page(text)) == datetime(2026, 3, 30, 20, minute, tzinfo=UTC)


@pytest.mark.parametrize("text", [b"<html>Maintenance</html>", b"Time 99999999_999999", b""])
def test_maintenance_page_is_reported_as_an_outage(text):
    with pytest.raises(OutageError):
        newest_time(Page(text))
    with pytest.raises(OutageError):
        listed_names(Page(text))


def test_unchanged_listing_is_not_sent_again():
    def behave(handler):
        if handler.headers.get("If-None-Match") == '"a"':
            handler.answer(304, b"")
        else:
            handler.answer(200, b"Time", {"ETag": '"a"'})

    with serving(behave) as server, ArchiveClient([server.root]) as client:
        first = client.poll("image_times")
        assert client.poll("image_times", first) is first
        assert len(server.asked) == 2


def test_listing_is_fetched_from_the_next_mirror_after_a_failure():
    with (
        serving(lambda handler: handler.answer(500)) as bad,
        serving(lambda handler: handler.answer(200, b"Time")) as good,
        ArchiveClient([bad.root, good.root]) as client,
    ):
        assert client.poll("image_times").data == b"Time"
        assert len(bad.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(404, FrameMissingError), (403, FrameRefusedError), (503, OutageError)]
)
def test_listing_that_no_mirror_has_is_requested_once(status, error):
    with serving(lambda handler: handler.answer(status)) as server:
        with ArchiveClient([server.root]) as client, pytest.raises(error):
            client.poll("image_times")
        assert len(server.asked) == 1

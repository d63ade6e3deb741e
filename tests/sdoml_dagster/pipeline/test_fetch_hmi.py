"""Fetching HMI images: provisional and stale images, web pages, refusals, and units."""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from sdoml_core.errors import MissingInputError, NormalizationError, OutageError
from sdoml_core.formats.ledger import RawRow
from sdoml_core.frames.flags import flag_names
from sdoml_core.loader import SDOMLlite
from sdoml_dagster.pipeline.completeness import is_complete
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.store.day import StoredDay
from sdoml_demo.absences import Condition
from sdoml_demo.render.hmi import render_hmi
from tests.support.day_deployment import DAY, Deploy, Deployment
from tests.support.scripted_server import Handler, Server, serving

SMALL: dict[str, Any] = {"channels": ("HMI_M",), "cadence_minutes": 360, "resolution": 64}
_GOOD: dict[tuple[str, bool], bytes] = {}


def picture(path: str, *, quicklook: bool = False) -> bytes:
    """Return the image at a path. Each image is rendered only once."""
    name = path.rpartition("/")[2][:15]
    if (name, quicklook) not in _GOOD:
        minute = datetime.strptime(name, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        _GOOD[name, quicklook] = render_hmi(minute, Condition(quicklook_label=quicklook))
    return _GOOD[name, quicklook]


@dataclass
class Script:
    """The archive's behavior: bad responses for some hours, or for every request."""

    odd: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    everything: Callable[[Handler], None] | None = None

    def __call__(self, handler: Handler) -> None:
        hour = handler.path.rpartition("/")[2][9:11]
        answer = self.everything or self.odd.get(hour)
        if answer is None:
            handler.answer(body=picture(handler.path))
        else:
            answer(handler)


def page(handler: Handler) -> None:
    handler.answer(body=b"<html>The archive is being repaired.</html>")


def forbidden(handler: Handler) -> None:
    handler.answer(403, b"no")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(script: Script) -> Iterator[Server]:
    with serving(script) as running:
        yield running


@pytest.fixture
def day(server: Server, deploy: Deploy) -> Deployment:
    return deploy(hmi_roots=(server.root,), read_timeout=120.0, **SMALL)


def fetched(day: Deployment) -> list[RawRow]:
    day.fetch()
    return rows(day)


def rows(day: Deployment) -> list[RawRow]:
    return StoredDay(day.store, DAY).ledger("HMI") or []


def expire(day: Deployment) -> None:
    """Age the ledger until its 404s are no longer trusted."""
    then = time.time() - 21 * 3600
    for ledger in day.folder.glob("raw/**/*.parquet"):
        os.utime(ledger, (then, then))


def statuses(day: Deployment) -> list[str]:
    return [row.status for row in rows(day)]


def test_html_page_in_place_of_one_file_is_an_invalid_frame(
    day: Deployment, script: Script
) -> None:
    script.odd["06"] = page
    assert [row.status for row in fetched(day)] == ["ok", "invalid", "ok", "ok"]


def test_refusal_of_one_file_does_not_fail_the_day(day: Deployment, script: Script) -> None:
    script.odd["06"] = forbidden
    found = fetched(day)
    assert [row.status for row in found] == ["ok", "missing", "ok", "ok"]
    assert "HTTP 403" in (found[1].reason or "")


@pytest.mark.parametrize("answer", [page, forbidden])
def test_day_with_only_html_pages_or_refusals_is_reported_as_an_outage(
    day: Deployment,
    script: Script,
    server: Server,
    answer: Callable[[Handler], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.PATIENCE", 0.3)
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.FIRST_REST", 0.1)
    script.everything = answer
    with pytest.raises(OutageError, match="4 of 4 HMI frames"):
        day.fetch()
    assert statuses(day) == ["outage"] * 4
    assert len(server.asked) < 4 * day.settings.attempts
    script.everything = None
    assert [row.status for row in fetched(day)] == ["ok"] * 4


def test_provisional_image_is_replaced_by_the_definitive_one(
    day: Deployment, script: Script, server: Server
) -> None:
    script.odd["06"] = lambda handler: handler.answer(body=picture(handler.path, quicklook=True))
    early = fetched(day)
    assert [flag_names(row.flags) for row in early] == [(), ("provisional",), (), ()]
    day.process()
    day.pack()
    stored = StoredDay(day.store, DAY)
    assert not is_complete(day.settings, stored), "the definitive image may still appear"
    count = len(server.asked)
    assert fetched(day) == early, "a provisional image is trusted for some hours"
    assert len(server.asked) == count

    expire(day)
    script.odd["06"] = forbidden
    assert fetched(day) == early, "the image is kept until the definitive image is available"

    expire(day)
    del script.odd["06"]
    late = fetched(day)
    assert [flag_names(row.flags) for row in late] == [()] * 4
    assert late[1].sha256 != early[1].sha256
    assert not is_complete(day.settings, stored), "the shard still has the provisional image"
    day.process()
    day.pack()
    assert is_complete(day.settings, stored)


def test_image_in_two_slots_is_used_for_the_earlier_slot(
    day: Deployment, script: Script, server: Server
) -> None:
    stale = picture("20240308_060000_M_1k.jpg")
    script.odd["12"] = lambda handler: handler.answer(body=stale)
    found = fetched(day)
    assert [row.status for row in found] == ["ok", "ok", "invalid", "ok"]
    assert "stale" in (found[2].reason or "")
    expire(day)
    del script.odd["12"]
    assert [row.status for row in fetched(day)] == ["ok"] * 4, "the frame must be requested again"


def test_image_in_all_slots_is_rejected(day: Deployment, script: Script) -> None:
    stale = picture("20240308_060000_M_1k.jpg")
    script.everything = lambda handler: handler.answer(body=stale)
    assert {row.status for row in fetched(day)} == {"invalid"}


def test_damaged_image_is_fetched_again(day: Deployment, script: Script) -> None:
    good = picture("20240308_060000_M_1k.jpg")
    answers = iter([good[: len(good) // 2] + good[len(good) // 2 + 100 :], good])
    script.odd["06"] = lambda handler: handler.answer(body=next(answers))
    found = fetched(day)
    assert [row.status for row in found] == ["ok"] * 4
    assert (day.folder / "raw/2024/03/08/20240308_060000_M_1k.jpg").read_bytes() == good


def test_disk_measures_are_in_frame_table_and_index(day: Deployment) -> None:
    day.fetch()
    day.process()
    day.pack()
    table = StoredDay(day.store, DAY).frame_table("HMI") or []
    for row in table:
        assert row.radius == pytest.approx(203.33 / 8, abs=0.05)
        assert abs(row.center_x or 1) < 0.02
        assert abs(row.center_y or 1) < 0.02
        assert row.visible == pytest.approx(1, abs=0.03)
        assert row.level == pytest.approx(0.498, abs=0.02)
        assert row.values == "level"
    index = StoredDay(day.store, DAY).shard_index()
    assert index is not None
    assert index.table["radius"].to_pylist() == [row.radius for row in table]


def test_gauss_values_are_preserved_from_raw_file_to_loader(
    day: Deployment, server: Server, deploy: Deploy
) -> None:
    gauss = deploy(hmi_roots=(server.root,), hmi_values="gauss", **SMALL | {"resolution": 256})
    gauss.fetch()
    gauss.process()
    gauss.pack()
    index = StoredDay(gauss.store, DAY).shard_index()
    assert index is not None
    assert set(index.table["transform"].to_pylist()) == {"field"}
    assert set(index.table["constant"].to_pylist()) == {300.0}
    dataset = SDOMLlite(gauss.folder / "shards", ["HMI_M"], units="gauss")
    field = dataset[0][0][0].numpy()
    known = np.isfinite(field)
    assert known.mean() == pytest.approx(np.pi * 0.397**2, abs=0.01)
    assert abs(float(field[known].mean())) < 2
    assert np.abs(field[known]).max() <= 271
    stored = SDOMLlite(gauss.folder / "shards", ["HMI_M"])[0][0][0].numpy()
    np.testing.assert_array_equal(stored == 0, ~known)


def test_levels_and_gauss_are_not_mixed(day: Deployment) -> None:
    day.fetch()
    day.process()
    day.pack()
    day.settings = day.settings.model_copy(update={"hmi_values": "gauss"})
    with pytest.raises(NormalizationError, match="were not fitted with SDOML_HMI_VALUES=gauss"):
        day.pack()
    from sdoml_dagster.pipeline.frozen_constants import freeze

    freeze(day.store, fit_store(day.settings, day.store).normalization, replace=True)
    with pytest.raises(
        MissingInputError, match="was not made with SDOML_HMI_VALUES=gauss: run ingest"
    ):
        day.pack()
    process_day(DAY, "HMI", settings=day.settings, store=day.store, report=day.lines.append)
    day.pack()


def test_fit_without_frames_explains_what_to_do(day: Deployment, script: Script) -> None:
    script.everything = lambda handler: handler.answer(404)
    day.fetch()
    day.process()
    with pytest.raises(MissingInputError) as error:
        fit_store(day.settings, day.store)
    message = str(error.value)
    assert re.search("processed day 2024-03-08 has no frame", message)
    assert "SDOML_HMI_ROOTS and SDOML_START" in message
    assert message.endswith("run ingest for days with data, then run fit_normalization")
    assert not (day.folder / "normalization").exists()

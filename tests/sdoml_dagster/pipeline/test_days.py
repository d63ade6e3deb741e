"""A day's pipeline from raw frames to a shard, step by step, with the simulated archive."""

import io
import os
import tarfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.errors import (
    DamagedFileError,
    MissingInputError,
    NormalizationError,
    SettingError,
    StoreError,
)
from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_core.formats.shard import decode_data, read_data
from sdoml_core.formats.sketch_file import decode_sketches
from sdoml_core.frames.degradation import V10_FILE
from sdoml_core.frames.flags import flag_names
from sdoml_core.loader import SDOMLlite
from sdoml_core.normalization.constants import from_json
from sdoml_core.normalization.fit import fit as fit_sketches
from sdoml_core.normalization.transform import normalize
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.checks.shards import judge_shard
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.contact_sheets import processed_contact_sheet, shard_contact_sheet
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import (
    current_normalization,
    freeze,
    refuse_unasked_fit,
)
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.previews import Panel, contact_sheet
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map
from sdoml_demo.server import Archive
from tests.support.response_table import HAND_MADE

DAY = date(2024, 3, 8)
NEXT = date(2024, 3, 9)


THE_171 = """\
2020-11-19T19:00:00Z 10  171_THIN 171 2010-03-24T00:00:00Z 2014-05-01T12:00:00Z 0.0e0 0e+0 0.0e+0 0.4000 171.1
2020-11-19T19:00:00Z 10  171_THIN 171 2014-05-01T12:00:00Z 2030-01-01T00:00:00Z 0.0e0 0e+0 0.0e+0 0.1000 171.1
"""  # noqa: E501 - a row of such a table is as long as that


def quiet(_: str) -> None:
    pass


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.store)


@pytest.fixture
def fetched(settings: Settings, store: Store, archive: Archive) -> Store:
    fetch(settings, store, archive, DAY)
    return store


def fetch(settings: Settings, store: Store, archive: Archive, day: date) -> None:
    for instrument, root in (("AIA", archive.aia_root), ("HMI", archive.hmi_root)):
        with ArchiveClient([root]) as client:
            fetch_day(
                day,
                instrument,  # type: ignore[arg-type]
                settings=settings,
                store=store,
                client=client,
                report=quiet,
            )


def process(settings: Settings, store: Store, day: date = DAY) -> None:
    for instrument in INSTRUMENTS:
        process_day(day, instrument, settings=settings, store=store, report=quiet)


def fit(settings: Settings, store: Store) -> str:
    return freeze(store, fit_store(settings, store).normalization, replace=True).version


def pack(settings: Settings, store: Store, day: date = DAY) -> bytes:
    pack_day(day, settings=settings, store=store, report=quiet)
    return store.read(layout.shard(day))


def member(tar: tarfile.TarFile, name: str) -> NDArray[np.floating]:
    file = tar.extractfile(name)
    assert file is not None
    return np.load(io.BytesIO(file.read()), allow_pickle=False)


def test_frames_tables_and_sketches_agree(settings: Settings, fetched: Store) -> None:
    process(settings, fetched)
    for instrument in INSTRUMENTS:
        rows = StoredDay(fetched, DAY).frame_table(instrument)
        assert rows
        sketches = decode_sketches(fetched.read(layout.sketches(DAY, instrument)))
        for channel in settings.channels_of(instrument):
            frames = np.load(
                io.BytesIO(fetched.read(layout.processed_frames(DAY, channel))), allow_pickle=False
            )
            mine = [row for row in rows if row.channel == channel.name]
            assert frames.shape == (len(mine), 64, 64)
            assert frames.dtype == np.float32
            assert [row.row for row in mine] == list(range(len(mine)))
            assert sketches[channel.name].frames == len(mine)
            assert sketches[channel.name].maximum == frames.max()
            for row, frame in zip(mine, frames, strict=True):
                assert row.mean == pytest.approx(frame.mean(dtype=np.float64))
                assert np.array_equal(StoredDay(fetched, DAY).frame(row, resolution=64), frame)


def test_thread_count_does_not_change_the_bytes(settings: Settings, fetched: Store) -> None:
    outcomes = []
    for threads in (1, 2, 5):
        chosen = settings.model_copy(update={"threads": threads})
        process(chosen, fetched)
        fit(chosen, fetched)
        pack(chosen, fetched)
        paths = [path for path in fetched.find("") if not path.startswith("raw/")]
        outcomes.append({path: fetched.read(path) for path in paths})
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0]) == 11


def test_missing_frames_keep_their_reason(settings: Settings, fetched: Store) -> None:
    ledger = StoredDay(fetched, DAY).ledger("AIA")
    assert ledger
    lost = replace(
        ledger[0], status="missing", file=None, bytes=None, sha256=None, reason="00:00 absent"
    )
    fetched.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode([lost, *ledger[1:]]))
    process(settings, fetched)
    rows = StoredDay(fetched, DAY).frame_table("AIA")
    assert rows
    (row,) = [row for row in rows if row.status != "ok"]
    assert (row.slot, row.channel, row.row, row.reason) == (
        lost.slot,
        lost.channel,
        None,
        "00:00 absent",
    )


def test_rejected_frame_is_left_out_of_the_processed_file(
    settings: Settings, fetched: Store
) -> None:
    strict = settings.model_copy(update={"max_missing_fraction": 0.0})
    ledger = StoredDay(fetched, DAY).ledger("AIA")
    assert ledger
    # By default, a frame with a hole is accepted. Here, no missing pixels are tolerated.
    holed = _with_blank_cells(fetched, ledger[0].file or "")
    changed = replace(ledger[0], sha256=holed, bytes=None)
    fetched.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode([changed, *ledger[1:]]))
    process(strict, fetched)
    rows = StoredDay(fetched, DAY).frame_table("AIA")
    assert rows
    (rejected,) = [row for row in rows if row.status != "ok"]
    assert rejected.status == "blank"
    assert "have no data" in (rejected.reason or "")
    frames = np.load(
        io.BytesIO(fetched.read(layout.processed_frames(DAY, CHANNELS[rejected.channel])))
    )
    assert len(frames) == 3


@pytest.mark.parametrize(("tolerated", "status"), [(0.05, "blank"), (0.5, "ok")])
def test_missing_pixels_are_tolerated_up_to_the_setting(
    settings: Settings, fetched: Store, tolerated: float, status: str
) -> None:
    ledger = StoredDay(fetched, DAY).ledger("AIA")
    assert ledger
    holed = _with_blank_cells(fetched, ledger[0].file or "", rows=100)  # 9.8% of the pixels
    changed = replace(ledger[0], sha256=holed, bytes=None)
    fetched.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode([changed, *ledger[1:]]))
    process(settings.model_copy(update={"max_missing_fraction": tolerated}), fetched)
    row, *_ = StoredDay(fetched, DAY).frame_table("AIA") or []
    assert (row.slot, row.channel, row.status) == (changed.slot, changed.channel, status)


def test_pixels_without_data_are_in_the_index_and_the_mask(
    settings: Settings, fetched: Store
) -> None:
    ledger = StoredDay(fetched, DAY).ledger("AIA")
    assert ledger
    holed = _with_blank_cells(fetched, ledger[0].file or "", block=np.s_[400:600, 500:700])
    changed = replace(ledger[0], sha256=holed, bytes=None)
    fetched.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode([changed, *ledger[1:]]))
    process(settings, fetched)
    row, *others = _rows(fetched, "AIA")
    assert row.missing == 200 * 200 + 16
    assert flag_names(row.flags) == ("missing_pixels",)
    assert {other.holes for other in others} == {None}
    fit(settings, fetched)
    pack(settings, fetched)
    folder = Path(settings.store, "shards")
    dataset = SDOMLlite(folder, [row.channel], metadata=True)
    image, _, facts = dataset[0]
    assert facts[row.channel]["missing"] == row.missing
    assert facts[row.channel]["flags"] == ("missing_pixels",)
    valid = dataset.mask(0).numpy()
    # Pixels that are partly in the hole are computed from the part outside it.
    edge = 200 * 976 / (row.rsun_obs or 0) * settings.resolution / 1024
    assert (edge - 2) ** 2 <= (~valid).sum() <= edge**2
    assert not image.numpy()[~valid].any()
    assert len(SDOMLlite(folder, [row.channel], exclude_flags=["missing_pixels"])) == 3


def _with_blank_cells(
    store: Store, name: str, *, rows: int = 0, block: tuple[slice, slice] = np.s_[:4, :4]
) -> str:
    """Blank some pixels of a raw frame; return the SHA-256 of the new file."""
    from astropy.io import fits

    path = f"{layout.raw_folder(DAY)}/{name}"
    with fits.open(io.BytesIO(store.read(path)), output_verify="silentfix") as hdus:
        header = {
            key: hdus[1].header[key]
            for key in (
                *("DATE-OBS", "WAVELNTH", "EXPTIME", "QUALITY", "RSUN_OBS"),
                *("CRPIX1", "CRPIX2", "CDELT1", "CDELT2"),
            )
        }
        image = np.array(hdus[1].data, np.float32)
    image[:4, :4] = np.nan
    image[:rows] = np.nan
    image[block] = np.nan
    hdu = fits.PrimaryHDU(image, fits.Header(header))
    sink = io.BytesIO()
    hdu.writeto(sink)
    store.write(path, sink.getvalue())
    return store.sha256_and_size(path)[0]


def test_error_names_a_changed_or_missing_raw_file(settings: Settings, fetched: Store) -> None:
    ledger = StoredDay(fetched, DAY).ledger("HMI")
    assert ledger
    path = f"{layout.raw_folder(DAY)}/{ledger[0].file}"
    fetched.write(path, fetched.read(path)[:-1])
    with pytest.raises(DamagedFileError, match=r"does not match the ledger: materialize the raw"):
        process_day(DAY, "HMI", settings=settings, store=fetched, report=quiet)
    fetched.delete(path)
    with pytest.raises(MissingInputError, match=r"is missing: materialize the raw"):
        process_day(DAY, "HMI", settings=settings, store=fetched, report=quiet)


def test_error_names_the_missing_step(settings: Settings, fetched: Store) -> None:
    with pytest.raises(MissingInputError, match="raw_aia of 2024-03-09 is not in"):
        process(settings, fetched, NEXT)
    with pytest.raises(MissingInputError, match="no processed day"):
        fit_store(settings, fetched)
    process(settings, fetched)
    with pytest.raises(MissingInputError, match="run fit_normalization first"):
        pack(settings, fetched)
    fit(settings, fetched)
    with pytest.raises(MissingInputError, match="processed_aia of 2024-03-09 is not in"):
        pack(settings, fetched, NEXT)


def test_days_with_other_settings_are_not_complete(settings: Settings, fetched: Store) -> None:
    finer = settings.model_copy(update={"cadence_minutes": 180})
    others = (
        r"made with other settings: 8 of 16 frames are not in its table \(first: AIA_0171 at 03"
    )
    with pytest.raises(MissingInputError, match=f"raw_aia of 2024-03-08 was {others}"):
        process(finer, fetched)
    process(settings, fetched)
    fit(settings, fetched)
    with pytest.raises(MissingInputError, match=f"processed_aia of 2024-03-08 was {others}"):
        pack(finer, fetched)
    wider = settings.model_copy(update={"channels": (*settings.channels, "AIA_0304")})
    with pytest.raises(MissingInputError, match=r"4 of 12 frames .*first: AIA_0304 at 00:00"):
        pack(wider, fetched)
    larger = settings.model_copy(update={"resolution": 128})
    with pytest.raises(NormalizationError, match="not all of these days were processed at 128"):
        fit_store(larger, fetched)
    with pytest.raises(NormalizationError, match="at a resolution of 64, not 128"):
        pack(larger, fetched)


def test_killed_run_leaves_no_index_of_another_shard(
    settings: Settings, fetched: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("killed between the two writes")

    process(settings, fetched)
    fit(settings, fetched)
    before = pack(settings, fetched)
    monkeypatch.setattr("sdoml_dagster.pipeline.pack.encode_index", fail)
    with pytest.raises(StoreError):
        pack(settings.model_copy(update={"dtype": "float16"}), fetched)
    assert fetched.read(layout.shard(DAY)) != before
    assert not fetched.exists(layout.shard_index(DAY))


def test_coarser_cadence_packs_only_its_slots(settings: Settings, fetched: Store) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    pack(settings.model_copy(update={"cadence_minutes": 720}), fetched)
    index = StoredDay(fetched, DAY).shard_index()
    assert {slot.hour for slot in index.table["slot"].to_pylist()} == {0, 12}


def test_shard_contains_the_normalized_frames_at_indexed_positions(
    settings: Settings, fetched: Store
) -> None:
    process(settings, fetched)
    version = fit(settings, fetched)
    shard = pack(settings, fetched)
    index = StoredDay(fetched, DAY).shard_index()
    assert index.normalization_version == version
    assert index.shard_bytes == len(shard)
    constants = from_json(fetched.read(layout.CURRENT_NORMALIZATION))
    rows = {(row.channel, row.slot): row for i in INSTRUMENTS for row in _rows(fetched, i)}
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        assert tar.getnames() == sorted(tar.getnames())
        for entry in index.table.to_pylist():
            pixels = member(tar, entry["member"])
            row = rows[entry["channel"], entry["slot"]]
            frame = StoredDay(fetched, DAY).frame(row, resolution=64)
            transform = "linear" if entry["channel"] == "HMI_M" else "sqrt"
            expected = normalize(
                frame,
                constants.constant(entry["channel"]),
                np.empty_like(frame),
                transform=transform,  # type: ignore[arg-type]
            )
            assert np.array_equal(pixels, expected)
            assert 0 <= pixels.min() <= pixels.max() <= 1
            assert entry["observed"] == row.observed
            assert entry["constant"] == constants.constant(entry["channel"])
            assert entry["mean"] == pytest.approx(frame.mean(dtype="float64"), rel=1e-6)
            assert entry["saturated"] == pytest.approx((pixels == 1).mean(), rel=1e-6)
    assert len(index.table) == 12


def _rows(store: Store, instrument: str) -> list:  # type: ignore[type-arg]
    return StoredDay(store, DAY).frame_table(instrument) or []  # type: ignore[arg-type]


def test_half_precision_and_lowercase_names_can_be_configured(
    settings: Settings, fetched: Store
) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    whole = pack(settings, fetched)
    half = pack(settings.model_copy(update={"dtype": "float16", "member_case": "lower"}), fetched)
    with tarfile.open(fileobj=io.BytesIO(half)) as tar:
        name = "2024/03/08/0000.aia_0171.npy"
        assert tar.getnames()[0] == name
        pixels = member(tar, name)
    assert pixels.dtype == np.float16
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        exact = member(tar, "2024/03/08/0000.AIA_0171.npy")
    assert np.array_equal(pixels, exact.astype(np.float16))


def test_compact_shards_hold_the_same_frames_within_half_a_step(
    settings: Settings, fetched: Store
) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    whole = pack(settings, fetched)
    exact = StoredDay(fetched, DAY).shard_index()
    frames = {
        row["member"]: decode_data(read_data(io.BytesIO(whole), row), row)
        for row in exact.table.to_pylist()
    }
    compact = settings.model_copy(update={"encoding": "compact"})
    shard = pack(compact, fetched)
    index = StoredDay(fetched, DAY).shard_index()
    assert index.inputs != exact.inputs
    for row in index.table.to_pylist():
        pixels = decode_data(read_data(io.BytesIO(shard), row), row)
        exact_pixels = frames[row["member"].replace(".fits", ".npy")]
        assert np.abs(pixels - exact_pixels).max() <= row["step"] / 2 + 1e-7
        np.testing.assert_array_equal(pixels, StoredDay(fetched, DAY).shard_frame(row))
    finding = judge_shard(fetched, DAY, compact)
    assert finding.passed, finding.description
    # A shard that is rebuilt from scratch is identical byte for byte.
    fetched.delete(layout.shard(DAY))
    assert pack(compact, fetched) == shard


def test_damaged_processed_frames_never_reach_a_shard(settings: Settings, fetched: Store) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    path = fetched.local_path(layout.processed_frames(DAY, CHANNELS["AIA_1700"]))
    assert path is not None
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="materialize the processed assets of 2024-03-08"):
        pack(settings, fetched)
    assert not fetched.exists(layout.shard(DAY))
    assert not fetched.exists(layout.shard_index(DAY))


def flip_bit_of_disk(path: Path) -> bytes:
    """Flip a bit but keep the modification time, as a failing disk does; return the old bytes."""
    good, status = path.read_bytes(), path.stat()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return good


def test_second_run_does_not_read_unchanged_files(
    settings: Settings, fetched: Store, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    pack(settings, fetched)
    read, allowed = Store._read, (".parquet", ".json", ".sketch.arrow")

    def tables_only(store: Store, path: str, start: int, end: int | None) -> bytes:
        assert path.endswith(allowed), path
        return read(store, path, start, end)

    monkeypatch.setattr(Store, "_read", tables_only)
    monkeypatch.setattr(Store, "open", None)
    fetch(settings, fetched, archive, DAY)
    for instrument in INSTRUMENTS:
        kept = process_day(DAY, instrument, settings=settings, store=fetched, report=quiet)
        assert kept.unchanged
    assert pack_day(DAY, settings=settings, store=fetched, report=quiet).unchanged


def test_disk_damage_is_repaired_after_it_is_detected(
    settings: Settings, fetched: Store, archive: Archive
) -> None:
    """If a step finds damage, it marks the file, and the previous step then rebuilds the file."""
    process(settings, fetched)
    fit(settings, fetched)
    pixels = fetched.local_path(layout.processed_frames(DAY, CHANNELS["AIA_1700"]))
    assert pixels is not None
    good = flip_bit_of_disk(pixels)
    with pytest.raises(DamagedFileError, match="materialize the processed assets"):
        pack(settings, fetched)
    process(settings, fetched)
    assert pixels.read_bytes() == good
    shard = pack(settings, fetched)

    raw = min(Path(fetched.root, layout.raw_folder(DAY)).glob("*.jpg"))
    good = flip_bit_of_disk(raw)
    fetched.delete(layout.frame_table(DAY, "HMI"))
    with pytest.raises(DamagedFileError, match="materialize the raw assets"):
        process(settings, fetched)
    fetch(settings, fetched, archive, DAY)
    assert raw.read_bytes() == good
    process(settings, fetched)
    assert pack(settings, fetched) == shard


def test_failed_packing_keeps_the_previous_shard(settings: Settings, fetched: Store) -> None:
    process(settings, fetched)
    fit(settings, fetched)
    shard = pack(settings, fetched)
    index = fetched.read(layout.shard_index(DAY))
    fetched.write(layout.processed_frames(DAY, CHANNELS["HMI_M"]), b"damaged")
    with pytest.raises(DamagedFileError):
        pack(settings.model_copy(update={"dtype": "float16"}), fetched)
    assert fetched.read(layout.shard(DAY)) == shard
    assert fetched.read(layout.shard_index(DAY)) == index


def test_constants_are_kept_unless_replaced(
    settings: Settings, fetched: Store, archive: Archive
) -> None:
    process(settings, fetched)
    first = fit(settings, fetched)
    fetch(settings, fetched, archive, NEXT)
    process(settings, fetched, NEXT)
    both = fit_store(settings, fetched).normalization
    assert (both.days, both.first_day, both.last_day) == (2, DAY, NEXT)
    assert both.version != first
    assert freeze(fetched, both, replace=False).version == first
    assert freeze(fetched, both, replace=True).version == both.version
    current = current_normalization(fetched)
    assert current is not None
    assert current.version == both.version
    assert fetched.exists(layout.normalization(first))


def test_constants_from_a_concurrent_run_are_used(settings: Settings, fetched: Store) -> None:
    assert refuse_unasked_fit(fetched) is None
    process(settings, fetched)
    version = fit(settings, fetched)
    pack(settings, fetched)
    found = refuse_unasked_fit(fetched)
    assert found is not None
    assert found.version == version
    fetched.delete(layout.CURRENT_NORMALIZATION)
    with pytest.raises(MissingInputError, match="is missing, but there are shards: restore it"):
        pack(settings, fetched)


def test_days_outside_the_fit_range_are_excluded(
    settings: Settings, fetched: Store, archive: Archive
) -> None:
    process(settings, fetched)
    alone = fit_store(settings, fetched).normalization
    fetch(settings, fetched, archive, NEXT)
    process(settings, fetched, NEXT)
    assert (
        fit_store(settings, fetched, days=DayRange(last=DAY)).normalization.version == alone.version
    )
    with pytest.raises(MissingInputError, match="from 2025-01-01"):
        fit_store(settings, fetched, days=DayRange(first=date(2025, 1, 1)))
    assert fit_store(settings, fetched).left_out == ()
    fetched.delete(layout.sketches(NEXT, "HMI"))
    in_part = fit_store(settings, fetched)
    assert in_part.normalization.version == alone.version
    assert in_part.left_out == (NEXT,)
    assert fit_store(settings, fetched, days=DayRange(last=DAY)).left_out == ()


def test_fit_ignores_unrelated_files(settings: Settings, fetched: Store) -> None:
    process(settings, fetched)
    alone = fit_store(settings, fetched)
    fetched.write("processed/README.md", b"mine")
    fetched.write("processed/notes/2024/x.txt", b"mine")
    fetched.write("processed/2024/02/30/aia.sketch.arrow", b"of no day")
    again = fit_store(settings, fetched)
    assert again.normalization.version == alone.normalization.version
    assert again.left_out == ()


def test_error_names_the_ledger_that_lacks_rsun_obs(settings: Settings, fetched: Store) -> None:
    first, *others = StoredDay(fetched, DAY).ledger("HMI") or []
    ledger = RAW_LEDGER.encode([replace(first, rsun_obs=None), *others])
    fetched.write(layout.raw_ledger(DAY, "HMI"), ledger)
    with pytest.raises(DamagedFileError, match="HMI ledger of 2024-03-08 has no RSUN_OBS for 2024"):
        process_day(DAY, "HMI", settings=settings, store=fetched, report=quiet)


@pytest.mark.parametrize("channels", [("AIA_0171",), ("HMI_M",)])
def test_dataset_with_a_single_instrument_works(
    settings: Settings, store: Store, archive: Archive, channels: tuple[str, ...]
) -> None:
    alone = settings.model_copy(update={"channels": channels})
    fetch(alone, store, archive, DAY)
    process(alone, store)
    fit(alone, store)
    with tarfile.open(fileobj=io.BytesIO(pack(alone, store))) as tar:
        assert [name.split(".")[1] for name in tar.getnames()] == [channels[0]] * 4


def test_day_without_frames_has_an_empty_shard(settings: Settings, store: Store) -> None:
    nothing = settings.model_copy(update={"start": settings.start.replace(year=2030)})
    for instrument in INSTRUMENTS:
        store.write(layout.raw_ledger(DAY, instrument), RAW_LEDGER.encode([]))
    process(nothing, store)
    with pytest.raises(MissingInputError, match="nothing to fit constants to"):
        fit(nothing, store)
    constants = fit_sketches(
        {}, method="max", resolution=nothing.resolution, first_day=DAY, last_day=DAY, days=1
    )
    version = freeze(store, constants, replace=True).version
    assert pack(nothing, store) == bytes(10240)
    index = StoredDay(store, DAY).shard_index()
    assert (len(index.table), index.normalization_version) == (0, version)
    channels = [CHANNELS[name] for name in nothing.channels]
    stored = StoredDay(store, DAY)
    assert shard_contact_sheet(stored, index, channels, tile=64) is None
    assert processed_contact_sheet(stored, channels, settings=nothing, tile=64) is None


def test_custom_degradation_table_is_used_and_recorded(
    settings: Settings, fetched: Store, tmp_path: Path
) -> None:
    process(settings, fetched)
    before = _rows(fetched, "AIA")
    table = tmp_path / "double.csv"
    table.write_text("date,171,1700\n2024-01-01,2.0,2.0\n")
    process(settings.model_copy(update={"degradation_table": str(table)}), fetched)
    after = _rows(fetched, "AIA")
    assert before[0].degradation_table.startswith("V9 (")
    assert before[0].degradation_table.endswith("frozen after 2020-06-02")
    assert after[0].degradation_table.startswith("double (")
    assert after[0].mean == pytest.approx(before[0].mean * before[0].degradation / 2, rel=1e-5)
    other = settings.model_copy(update={"degradation_table": str(Path(__file__))})
    with pytest.raises(SettingError, match=r"^SDOML_DEGRADATION_TABLE=.*: degradation table: "):
        process(other, fetched)
    process_day(DAY, "HMI", settings=other, store=fetched, report=quiet)
    absent = settings.model_copy(update={"degradation_table": "absent.csv"})
    with pytest.raises(SettingError, match=r"SDOML_DEGRADATION_TABLE=absent\.csv"):
        process(absent, fetched)


def test_version_10_table_is_read_from_the_store_and_verified(
    settings: Settings, fetched: Store
) -> None:
    other = settings.model_copy(update={"degradation_table": "V10"})
    path = f"calibration/{V10_FILE}"
    with pytest.raises(
        SettingError, match=r"^SDOML_DEGRADATION_TABLE=V10: .* is missing. Download htt"
    ):
        process(other, fetched)
    fetched.write(path, HAND_MADE.encode())
    with pytest.raises(
        SettingError, match=r"^SDOML_DEGRADATION_TABLE=V10: .* download the file again"
    ):
        process(other, fetched)


def test_aia_team_response_table_is_read(
    settings: Settings, fetched: Store, tmp_path: Path
) -> None:
    process(settings, fetched)
    before = _rows(fetched, "AIA")
    table = tmp_path / "aia_V10_response_table.txt"
    table.write_text(HAND_MADE.replace(" 1600   1600 ", " 1700   1700 ") + THE_171)
    process(settings.model_copy(update={"degradation_table": str(table)}), fetched)
    after = _rows(fetched, "AIA")
    factors = {row.channel: row.degradation for row in after}
    assert factors == {"AIA_0171": pytest.approx(0.25), "AIA_1700": pytest.approx(0.5)}
    assert after[0].degradation_table.startswith("V10 (")
    assert after[0].mean == pytest.approx(before[0].mean * before[0].degradation / 0.25, rel=1e-5)


def test_contact_sheet_shows_missing_channels_and_reasons(
    settings: Settings, fetched: Store
) -> None:
    ledger = [
        replace(row, status="missing", file=None, sha256=None, reason="404")
        if row.channel == "AIA_1700"
        else row
        for row in StoredDay(fetched, DAY).ledger("AIA") or []
    ]
    fetched.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode(ledger))
    process(settings, fetched)
    channels = [CHANNELS[name] for name in ("AIA_0171", "AIA_1700", "AIA_0304")]
    sheet = processed_contact_sheet(StoredDay(fetched, DAY), channels, settings=settings, tile=128)
    assert sheet is not None
    (noon,) = [r for r in _rows(fetched, "AIA") if r.channel == "AIA_0171" and r.slot.hour == 12]
    expected = contact_sheet(
        [
            Panel("AIA_0171", StoredDay(fetched, DAY).frame(noon, resolution=64), noon.observed),
            Panel("AIA_1700", None, reason="missing: 404"),
            Panel("AIA_0304", None, reason="not processed"),
        ],
        title="SDOML-lite",
        subtitle="2024-03-08 12:00 UTC",
        tile=128,
    )
    assert sheet.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (3, 6)])
def test_ordered_map_keeps_order_and_bounds_items_in_flight(threads: int, ahead: int) -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number * number

    results = ordered_map(work, range(100), threads=threads, name="test")
    for expected in range(100):
        assert next(results) == expected**2
        assert len(started) <= expected + 1 + ahead
    assert list(results) == []


def test_ordered_map_works_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def open_library(name: None) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr("sdoml_dagster.threads.ctypes.CDLL", open_library)
    assert list(ordered_map(abs, [-1, 2], threads=2, name="test")) == [1, 2]
    assert asked == [None]


@pytest.mark.parametrize("threads", [1, 2])
def test_ordered_map_stops_at_the_first_error(threads: int) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 5:
            raise DamagedFileError("five")
        done.append(number)

    with pytest.raises(DamagedFileError, match="five"):
        list(ordered_map(work, range(1000), threads=threads, name="test"))
    assert len(done) < 20

"""Paths of all files in the store. ``docs/format.md`` documents the layout."""

import re
from datetime import date, datetime

from sdoml_core.channels import INSTRUMENTS, Channel, Instrument
from sdoml_core.formats.release_files import RELEASE_INDEX
from sdoml_dagster.days import parse_day
from sdoml_dagster.store.store import Store

RAW = "raw"
PROCESSED = "processed"
NORMALIZATION = "normalization"
SHARDS = "shards"
RELEASES = "releases"
LIVE = "live"
CALIBRATION = "calibration"
"""Folder for calibration files that users add to the store."""

CACHE = "cache"
"""Folder for cached files. They may be deleted at any time."""

DAMAGED = "damaged"
"""Folder that keeps damaged files, under their original paths."""

CURRENT_NORMALIZATION = f"{NORMALIZATION}/current.json"

_NAMES = "|".join(instrument.lower() for instrument in INSTRUMENTS)
_PROCESSED_PATH = re.compile(rf"{PROCESSED}/(\d{{4}}/\d\d/\d\d)/(?:({_NAMES})\.sketch\.arrow|.*)")
_SHARD_PATH = re.compile(rf"{SHARDS}/\d{{4}}/sdoml-lite-(\d{{4}}-\d{{2}}-\d{{2}})\.(tar|parquet)")


def raw_folder(day: date) -> str:
    """Folder of a day's raw frames, in the layout of the original dataset."""
    return f"{RAW}/{day:%Y/%m/%d}"


def raw_ledger(day: date, instrument: Instrument) -> str:
    """Ledger of one instrument's raw frames for a day."""
    return f"{raw_folder(day)}/{instrument.lower()}.parquet"


def processed_folder(day: date) -> str:
    """Folder of a day's processed frames."""
    return f"{PROCESSED}/{day:%Y/%m/%d}"


def processed_frames(day: date, channel: Channel) -> str:
    """One channel's processed frames for a day: ``.npy``, (frames, n, n) float32."""
    return f"{processed_folder(day)}/{channel.name}.npy"


def frame_table(day: date, instrument: Instrument) -> str:
    """Table of one instrument's processed frames for a day, with the position of each frame."""
    return f"{processed_folder(day)}/{instrument.lower()}.parquet"


def sketches(day: date, instrument: Instrument) -> str:
    """Sketches of a day's pixel values, one per channel of the instrument."""
    return f"{processed_folder(day)}/{instrument.lower()}.sketch.arrow"


def normalization(version: str) -> str:
    """Normalization constants of one version."""
    return f"{NORMALIZATION}/{version}.json"


def shard(day: date) -> str:
    """A day's shard."""
    return f"{SHARDS}/{day:%Y}/sdoml-lite-{day:%Y-%m-%d}.tar"


def shard_index(day: date) -> str:
    """Index of a day's shard."""
    return f"{SHARDS}/{day:%Y}/sdoml-lite-{day:%Y-%m-%d}.parquet"


def processed_files(store: Store) -> dict[date, set[str]]:
    """For each day with processed files, find the instruments (lowercase) that have sketches."""
    found: dict[date, set[str]] = {}
    for path in store.find(PROCESSED):
        match = _PROCESSED_PATH.fullmatch(path)
        if match and (day := parse_day(match[1].replace("/", "-"))):
            instruments = found.setdefault(day, set())
            if match[2]:
                instruments.add(match[2])
    return found


def shard_files(store: Store) -> dict[date, set[str]]:
    """For each day with a shard or an index, find which of ``tar`` and ``parquet`` exist."""
    found: dict[date, set[str]] = {}
    for path in store.find(SHARDS):
        if (match := _SHARD_PATH.fullmatch(path)) and (day := parse_day(match[1])):
            found.setdefault(day, set()).add(match[2])
    return found


def release_folder(name: str) -> str:
    """Folder of a release."""
    return f"{RELEASES}/{name}"


def days_in(store: Store) -> list[date]:
    """Return all days that have any file in the store, in order."""
    found = {
        f"{year}-{month}-{day}"
        for root in (RAW, PROCESSED)
        for year in store.folders(root)
        for month in store.folders(f"{root}/{year}")
        for day in store.folders(f"{root}/{year}/{month}")
    }
    return sorted({*filter(None, map(parse_day, found)), *shard_files(store)})


def shard_name(day: date) -> str:
    """Return the name of a day's shard, relative to the shards folder, as in its index."""
    return shard(day).removeprefix(f"{SHARDS}/")


def year_of_shards(year: int) -> str:
    """Folder of one year's shards."""
    return f"{SHARDS}/{year:04d}"


def release_record(name: str) -> str:
    """Record of the last build of a release: see `sdoml_dagster.release.record`."""
    return f"{CACHE}/releases/{name}.json.z"


def release_names(store: Store) -> list[str]:
    """Return the sorted names of the releases in the store that have an index."""
    paths = store.find(RELEASES)
    return sorted({path.split("/")[1] for path in paths if path.endswith(f"/{RELEASE_INDEX}")})


def damaged(path: str) -> str:
    """Path where a damaged file is kept."""
    return f"{DAMAGED}/{path}"


def damaged_shards(store: Store) -> set[date]:
    """Return the days whose shard or index was moved aside as damaged, even if it was rebuilt."""
    found = set()
    for path in store.find(damaged(SHARDS)):
        match = _SHARD_PATH.match(path.removeprefix(f"{DAMAGED}/"))
        if match and (day := parse_day(match[1])):
            found.add(day)
    return found


LIVE_INDEX = f"{LIVE}/{RELEASE_INDEX}"
"""Index of the near-real-time window. Replacing it publishes new slots."""

LIVE_STATE = f"{LIVE}/state.json"
LIVE_REPORT = f"{LIVE}/report.json"
LIVE_FRAMES = f"{LIVE}/frames"

_LIVE_SHARD = re.compile(rf"{LIVE}/(\d{{4}}/sdoml-lite-(\d{{4}}-\d\d-\d\dT\d{{4}})-\w+\.tar)")


def live_table(hour: datetime) -> str:
    """Table of the near-real-time frames of one hour."""
    return f"{LIVE_FRAMES}/{hour:%Y/%m/%d/%H}.parquet"


def live_frame(slot: datetime, channel: str) -> str:
    """One processed near-real-time frame: ``.npy``, (n, n) float32."""
    return f"{LIVE_FRAMES}/{slot:%Y/%m/%d/%H%M}.{channel}.npy"


def live_shard(slot: datetime, sha256: str) -> str:
    """Shard of one near-real-time slot. Its content never changes."""
    return f"{LIVE}/{slot:%Y}/sdoml-lite-{slot:%Y-%m-%dT%H%M}-{sha256[:12]}.tar"


def live_shard_name(path: str) -> str:
    """File name of a near-real-time shard in the index of the window."""
    return path.removeprefix(f"{LIVE}/")


def live_shards(store: Store) -> set[str]:
    """Return the paths of all near-real-time shards, including shards outside the window."""
    years = [name for name in store.folders(LIVE) if re.fullmatch(r"\d{4}", name)]
    found = (f"{LIVE}/{year}/{name}" for year in years for name in store.sizes(f"{LIVE}/{year}"))
    return {path for path in found if _LIVE_SHARD.fullmatch(path)}

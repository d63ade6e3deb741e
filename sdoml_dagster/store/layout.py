"""Where everything lies in the store; the layout that ``docs/format.md`` documents."""

import re
from datetime import date

from sdoml_core.channels import INSTRUMENTS, Channel, Instrument
from sdoml_dagster.store.store import Store

CURRENT_NORMALIZATION = "normalization/current.json"

_NAMES = "|".join(instrument.lower() for instrument in INSTRUMENTS)
_PROCESSED_PATH = re.compile(rf"processed/(\d{{4}}/\d\d/\d\d)/(?:({_NAMES})\.sketch\.arrow|.*)")
_SHARD_PATH = re.compile(r"shards/\d{4}/sdoml-lite-(\d{4}-\d{2}-\d{2})\.(tar|parquet)")


def raw_folder(day: date) -> str:
    """Folder of a day's raw frames, as the original dataset lays them out."""
    return f"raw/{day:%Y/%m/%d}"


def raw_ledger(day: date, instrument: Instrument) -> str:
    """Ledger of a day's raw frames of one instrument."""
    return f"{raw_folder(day)}/{instrument.lower()}.parquet"


def processed_folder(day: date) -> str:
    """Folder of a day's processed frames."""
    return f"processed/{day:%Y/%m/%d}"


def processed_frames(day: date, channel: Channel) -> str:
    """A day's processed frames of one channel: ``.npy``, (frames, n, n) float32."""
    return f"{processed_folder(day)}/{channel.name}.npy"


def frame_table(day: date, instrument: Instrument) -> str:
    """Which slot each processed frame belongs to, and what became of the others."""
    return f"{processed_folder(day)}/{instrument.lower()}.parquet"


def sketches(day: date, instrument: Instrument) -> str:
    """Sketches of a day's pixel values, one per channel of the instrument."""
    return f"{processed_folder(day)}/{instrument.lower()}.sketch.arrow"


def normalization(version: str) -> str:
    """Normalisation constants of one version."""
    return f"normalization/{version}.json"


def shard(day: date) -> str:
    """A day's shard."""
    return f"shards/{day:%Y}/sdoml-lite-{day:%Y-%m-%d}.tar"


def shard_index(day: date) -> str:
    """The index beside a day's shard."""
    return f"shards/{day:%Y}/sdoml-lite-{day:%Y-%m-%d}.parquet"


def processed_files(store: Store) -> dict[date, set[str]]:
    """Instruments whose sketches are there, in lower case, for each day with a processed file."""
    found: dict[date, set[str]] = {}
    for path in store.find("processed"):
        match = _PROCESSED_PATH.fullmatch(path)
        if match and (day := parse_day(match[1].replace("/", "-"))):
            instruments = found.setdefault(day, set())
            if match[2]:
                instruments.add(match[2])
    return found


def shard_files(store: Store) -> dict[date, set[str]]:
    """Which of ``tar`` and ``parquet`` are there, for each day that has a shard or an index."""
    found: dict[date, set[str]] = {}
    for path in store.find("shards"):
        if (match := _SHARD_PATH.fullmatch(path)) and (day := parse_day(match[1])):
            found.setdefault(day, set()).add(match[2])
    return found


def release_folder(name: str) -> str:
    """Folder of a release."""
    return f"releases/{name}"


def days_in(store: Store) -> list[date]:
    """All days that have anything in the store, in order."""
    found = {
        f"{year}-{month}-{day}"
        for root in ("raw", "processed")
        for year in store.folders(root)
        for month in store.folders(f"{root}/{year}")
        for day in store.folders(f"{root}/{year}/{month}")
    }
    return sorted({*filter(None, map(parse_day, found)), *shard_files(store)})


def parse_day(text: str) -> date | None:
    """The day of a name such as ``2024-03-08``; ``None`` for a name that is not ours."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None

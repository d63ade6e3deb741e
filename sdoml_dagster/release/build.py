"""A release: daily shards under numbers, with one index and everything that describes them.

The index goes first and SHA256SUMS comes last, so that a release that is being made, or whose
making was killed, never looks whole; making it again gives the same bytes. Where a shard of the
release is a day's shard, it is a hard link: a release of a year costs no disk. A day that is
packed anew gets a new file, and the release keeps the old one.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import MissingInputError, SettingError
from sdoml_core.formats.index import Index
from sdoml_core.formats.parquet import SHARD_NAME
from sdoml_core.formats.release_files import RELEASE_CONSTANTS, RELEASE_INDEX, RELEASE_SUMS
from sdoml_core.formats.release_index import consolidate
from sdoml_dagster.days import ALL_DAYS, DayRange, days_between
from sdoml_dagster.previews import Panel, contact_sheet, png
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.card import Card
from sdoml_dagster.release.coverage import ReleaseCoverage, count_frames
from sdoml_dagster.release.inputs import (
    BuiltDay,
    built_days,
    common_normalization,
    complete_rows,
)
from sdoml_dagster.release.shards import ShardMaker, number_shards
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import read_shard_frame
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What a release shall be."""

    name: str = "sdoml-lite"
    """Of its folder."""

    prefix: str | None = None
    """Of its shards; the name where not given."""

    days_per_shard: int = 1
    """Built days that one shard takes."""

    days: DayRange = ALL_DAYS
    """Days to release; by default all days that have a shard."""

    complete_only: bool = False
    """Keep only samples that have every channel of the settings, and only these channels."""

    def __post_init__(self) -> None:
        for name in (self.name, self.shard_prefix):
            if "/" in name or not SHARD_NAME.fullmatch(f"{name}-1.tar"):
                raise SettingError(
                    f"{name!r} cannot name a release: use letters, digits, . _ and -"
                )
        if self.days_per_shard < 1:
            raise SettingError(f"run config days_per_shard={self.days_per_shard} must be 1 or more")
        if self.days.first and self.days.last and self.days.first > self.days.last:
            raise SettingError(f"first_day {self.days.first} is after last_day {self.days.last}")

    @property
    def shard_prefix(self) -> str:
        """What the names of shards begin with."""
        return self.prefix or self.name


@dataclass(frozen=True, slots=True)
class Release:
    """A finished release."""

    folder: str
    card: Card
    coverage: ReleaseCoverage
    sums: bytes
    """Content of SHA256SUMS, which stands for the content of the whole release."""


def publish(
    request: ReleaseRequest, *, settings: Settings, store: Store, report: Callable[[str], None]
) -> Release:
    """Write a release, or write it again.

    Raises
    ------
    MissingInputError
        Where the range has no frames, or a shard lacks its index.
    NormalizationError
        Where the shards were normalised by different constants.
    DamagedFileError
        Where a shard is not what its index says.
    """
    built = built_days(store, days=request.days, threads=settings.threads)
    normalization, constants = common_normalization(store, built)
    released = _select(built, request, settings)
    plans = number_shards(
        released, prefix=request.shard_prefix, days_per_shard=request.days_per_shard
    )

    folder = layout.release_folder(request.name)
    for name in (RELEASE_SUMS, RELEASE_INDEX):
        store.delete(f"{folder}/{name}")
    store.sweep(folder)
    # First, so that shards without an index can be told for a release that is not finished.
    store.write(f"{folder}/{RELEASE_CONSTANTS}", constants)
    names = {plan.name for plan in plans}
    for name in store.sizes(folder):
        if name.endswith(".tar") and name not in names:
            store.delete(f"{folder}/{name}")

    progress = Progress(f"release {request.name}", sum(plan.frames for plan in plans), report)
    linked = request.days_per_shard == 1 and not request.complete_only
    writer = ShardMaker(folder, store, case=settings.member_case, linked=linked)
    indexes: list[Index] = []
    for index in ordered_map(writer, plans, threads=settings.threads, name="release"):
        indexes.append(index)
        for _ in range(index.table.num_rows):
            progress.step("ok")

    coverage = _coverage(request, settings, store, built, released)
    slots = Counter(slot for index in indexes for slot in index.table["slot"].to_pylist())
    present = {name for index in indexes for name in index.table["channel"].unique().to_pylist()}
    channels = tuple(name for name in CHANNELS if name in present)
    first = indexes[0].table
    card = Card(
        name=request.name,
        settings=settings,
        normalization=normalization,
        coverage=coverage,
        channels=channels,
        dtype=first["dtype"][0].as_py(),
        resolution=first["resolution"][0].as_py(),
        member=first["member"][0].as_py(),
        shards=tuple(index.shard for index in indexes),
        bytes=sum(index.shard_bytes for index in indexes),
        first=min(slots),
        last=max(slots),
        samples=len(slots),
        complete=sum(count == len(channels) for count in slots.values()),
        alike=_alike(first),
        complete_only=request.complete_only,
        days_per_shard=request.days_per_shard,
    )
    files = {
        "coverage.parquet": coverage.to_parquet(),
        "contact_sheet.png": _picture(store, folder, indexes, slots, card),
        "README.md": card.markdown().encode(),
        RELEASE_INDEX: consolidate(indexes),
    }
    hashes = {index.shard: index.shard_sha256 for index in indexes}
    hashes[RELEASE_CONSTANTS] = hashlib.sha256(constants).hexdigest()
    for name, data in files.items():
        store.write(f"{folder}/{name}", data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    sums = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()
    store.write(f"{folder}/{RELEASE_SUMS}", sums)
    return Release(folder, card, coverage, sums)


def _select(
    built: Sequence[BuiltDay], request: ReleaseRequest, settings: Settings
) -> list[BuiltDay]:
    """The days with the rows that go into the release; days without any have no shard."""
    days = list(built)
    if request.complete_only:
        days = [
            replace(
                day,
                index=replace(day.index, table=complete_rows(day.index.table, settings.channels)),
            )
            for day in built
        ]
    released = [day for day in days if day.index.table.num_rows]
    if not released:
        counts = Counter(name for day in built for name in day.index.table["channel"].to_pylist())
        each = ", ".join(f"{name} {counts[name]}" for name in settings.channels)
        which = "sample with every channel" if request.complete_only else "frame"
        raise MissingInputError(
            f"the shards from {built[0].day} to {built[-1].day} have no {which}; frames: {each}"
        )
    return released


def _alike(table: pa.Table) -> bool:
    """Whether the first five samples have the same channels, which Hugging Face's builder wants."""
    samples: dict[datetime, set[str]] = {}
    for slot, channel in zip(table["slot"].to_pylist(), table["channel"].to_pylist(), strict=True):
        samples.setdefault(slot, set()).add(channel)
    first = list(samples.values())[:5]
    return all(channels == first[0] for channels in first)


def _coverage(
    request: ReleaseRequest,
    settings: Settings,
    store: Store,
    built: Sequence[BuiltDay],
    released: Sequence[BuiltDay],
) -> ReleaseCoverage:
    """Counts of all days of the range, of which the dataset may have less than was asked for."""
    there = {day.day: day.index.frames() for day in built}
    kept = {day: set[tuple[datetime, str]]() for day in there}
    kept |= {day.day: day.index.frames() for day in released}
    first = max(request.days.first or built[0].day, min(settings.start.date(), built[0].day))
    last = request.days.last or built[-1].day
    if settings.last_day is not None:
        last = min(last, max(settings.last_day, built[-1].day))
    days = [
        day for day in days_between(first, last) if day in there or settings.expected_slots(day)
    ]
    occurring = {channel for frames in there.values() for _, channel in frames}
    channels = [name for name in CHANNELS if name in occurring or name in settings.channels]
    return count_frames(store, settings, days=days, built=there, released=kept, channels=channels)


def _picture(
    store: Store, folder: str, indexes: Sequence[Index], slots: Counter[datetime], card: Card
) -> bytes:
    """A contact sheet of the sample in the middle of those that have the most channels."""
    most = max(slots.values())
    candidates = sorted(slot for slot, count in slots.items() if count == most)
    chosen = candidates[len(candidates) // 2]
    panels: dict[str, Panel] = {}
    for index in indexes:
        table = index.table
        mine = pa.array([slot == chosen for slot in table["slot"].to_pylist()], pa.bool_())
        for row in table.filter(mine).to_pylist():
            image = read_shard_frame(store, f"{folder}/{index.shard}", row)
            panels[row["channel"]] = Panel(row["channel"], image, row["observed"])
    sheet = contact_sheet(
        [panels.get(name, Panel(name, None)) for name in card.channels],
        title=f"{chosen:%Y-%m-%d %H:%M} UTC",
        subtitle=card.name,
        normalized=True,
    )
    return png(sheet)

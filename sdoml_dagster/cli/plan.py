"""The plan of a build: which days need work, and an estimate of the disk space and time."""

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import SettingError
from sdoml_core.normalization.constants import Normalization
from sdoml_dagster.days import DayRange, days_between
from sdoml_dagster.formatting import counted, size_text
from sdoml_dagster.pipeline.degradation_table import load_degradation
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.pipeline.unchanged import is_finished
from sdoml_dagster.progress import duration_text
from sdoml_dagster.release.splits import Splits
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

FRAME_BYTES = {"AIA": 1_100_000, "HMI": 400_000}
"""Typical size of a raw file, in bytes."""

BYTES_PER_SECOND = 2_000_000
"""Assumed speed of one connection to the archive. The real speed varies and was not measured."""

SECONDS_PER_FRAME = 0.015
"""Time to process and pack one frame in one process, as measured for docs/costs.md."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The work that a build will do."""

    days: tuple[date, ...]
    """All days in the range."""

    unprocessed: tuple[date, ...]
    """Days that the job `ingest` must fetch or process."""

    constants: Normalization | None
    """Constants in use, or None if none have been fitted yet."""

    fit_days: DayRange | None
    """Days to fit constants to, or None if the current constants are kept."""

    unpacked: tuple[date, ...]
    """Days whose shard must be packed."""

    frames_per_day: int
    raw_bytes: int
    """Estimated size of the files to fetch."""

    derived_bytes: int
    """Estimated size of the processed frames, shards and release to write."""

    free_bytes: int | None
    """Free space on the store's disk, or None for a remote store."""

    seconds: float

    @property
    def needed_bytes(self) -> int:
        """Estimated disk space that the build needs."""
        return self.raw_bytes + self.derived_bytes

    @property
    def range(self) -> DayRange:
        """The first and the last day."""
        return DayRange(self.days[0], self.days[-1])

    @property
    def has_work(self) -> bool:
        """Whether any day must be fetched, processed or packed, or constants must be fitted."""
        return bool(self.unprocessed or self.unpacked or self.fit_days)

    @property
    def fits(self) -> bool:
        """Whether the disk has enough free space."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes


def make_plan(
    settings: Settings,
    store: Store,
    *,
    code_versions: Mapping[str, str],
    fit_days: DayRange | None,
    linked: bool,
    workers: int,
) -> BuildPlan:
    """Compare the store with the settings, and plan the missing work.

    Parameters
    ----------
    settings, store
        Settings and store of the dataset.
    code_versions
        Code versions of the daily assets, by asset name.
    fit_days
        Days to fit the constants to, as requested by the user. None means the default.
    linked
        Whether the release can use hard links.
    workers
        Number of days that are built in parallel.
    """
    days = days_to_build(settings)
    constants = current_normalization(store)
    degradation = load_degradation(settings, store).sha256

    def unfinished(
        candidates: Sequence[date], with_constants: Normalization | None
    ) -> tuple[date, ...]:
        return tuple(
            day
            for day in candidates
            if not is_finished(
                StoredDay(store, day),
                settings,
                with_constants,
                code_versions=code_versions,
                degradation=degradation,
            )
        )

    refit = _refit(constants, days, fit_days, settings)
    unpacked = tuple(days) if refit else unfinished(days, constants)
    unprocessed = unfinished(unpacked, None)  # a day with an up-to-date shard needs no processing
    per_day = {
        name: len(settings.expected_slots(days[len(days) // 2])) for name in settings.channels
    }
    raw = sum(count * FRAME_BYTES[CHANNELS[name].instrument] for name, count in per_day.items())
    frames = sum(per_day.values())
    fetched = sum(1 for day in unprocessed if not store.sizes(layout.raw_folder(day)))
    pixels = settings.resolution**2
    item = 2 if settings.dtype == "float16" else 4
    if settings.encoding != "npy":
        item = 1  # an upper bound: most channels need less
    derived = frames * pixels * (len(unprocessed) * 4 + len(unpacked) * item * (1 if linked else 2))
    connections = settings.max_connections * min(workers, 2)
    return BuildPlan(
        tuple(days),
        unprocessed,
        constants,
        refit,
        unpacked,
        frames_per_day=frames,
        raw_bytes=raw * fetched,
        derived_bytes=derived,
        free_bytes=free_space(settings.store),
        seconds=raw * fetched / (BYTES_PER_SECOND * connections)
        + frames * SECONDS_PER_FRAME * max(len(unprocessed), len(unpacked)) / workers,
    )


def days_to_build(settings: Settings) -> Sequence[date]:
    """Return the days of the dataset that the archive may already have published.

    Raises
    ------
    SettingError
        If there are no such days.
    """
    published = datetime.now(UTC).date() - timedelta(days=1)
    if settings.last_day is None:
        published = datetime.now(UTC).date() - timedelta(days=settings.publication_lag_days)
    last = published if settings.last_day is None else min(settings.last_day, published)
    days = [
        day for day in days_between(settings.start.date(), last) if settings.expected_slots(day)
    ]
    if not days:
        raise SettingError(f"there are no days to build between {settings.start:%F} and {last}")
    return days


def free_space(store: str) -> int | None:
    """Return the free bytes on the disk of a store, or None for a remote store."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _refit(
    constants: Normalization | None,
    days: Sequence[date],
    wanted: DayRange | None,
    settings: Settings,
) -> DayRange | None:
    """Return the days to fit to, or None to keep the current constants."""
    if wanted and not any(day in wanted for day in days):
        raise SettingError(
            f"the constants cannot be fitted to the frames{wanted}: the dataset has no days in "
            "this range"
        )
    target = wanted or DayRange(days[0], days[-1])
    if constants is None or (constants.resolution != settings.resolution):
        return target
    inside = [day for day in days if day in target]
    if wanted is None or not inside:
        return None
    same = (constants.first_day, constants.last_day) == (inside[0], inside[-1])
    return None if same else target


def describe(plan: BuildPlan, settings: Settings, splits: Splits) -> list[str]:
    """Format the plan as lines for a terminal."""
    frames = plan.frames_per_day
    pixels = settings.dtype if settings.encoding == "npy" else settings.encoding
    return [
        f"Dataset    {plan.days[0]} to {plan.days[-1]}: {counted(len(plan.days), 'day')} with "
        f"{counted(frames, 'frame')} each, {counted(len(settings.channels), 'channel')} every "
        f"{settings.cadence_minutes} minutes at {settings.resolution}×{settings.resolution} "
        f"({pixels})",
        f"To do      fetch and process {counted(len(plan.unprocessed), 'day')}, pack "
        f"{counted(len(plan.unpacked), 'day')}"
        + ("" if plan.unprocessed or plan.unpacked else ": everything is finished"),
        f"Constants  {describe_constants(plan)}",
        *([f"Splits     {_describe_splits(plan, splits)}"] if splits else []),
        f"Disk       about {size_text(plan.needed_bytes)} more in {settings.store}"
        + (
            ""
            if plan.free_bytes is None
            else f", {size_text(plan.free_bytes)} free" + ("" if plan.fits else ": NOT ENOUGH")
        ),
        f"Time       about {duration_text(math.ceil(plan.seconds))}, at an assumed "
        f"{BYTES_PER_SECOND / 1e6:g} MB/s per connection",
    ]


def _describe_splits(plan: BuildPlan, splits: Splits) -> str:
    """Count the days in each split, and say if the constants will use days from other splits."""
    days = Counter(part.name for day in plan.days if (part := splits.of(day)))
    text = ", ".join(f"{part.name} {counted(days[part.name], 'day')}" for part in splits.parts)
    if splits.guard_days:
        text += f", with a gap of {counted(splits.guard_days, 'day')} between splits"
    if plan.fit_days is not None:
        used = {part.name for day in plan.days if day in plan.fit_days and (part := splits.of(day))}
        others = ", ".join(sorted(used - {splits.train.name}))
        text += f"; the constants also use days from {others}" if others else ""
    return text


def describe_constants(plan: BuildPlan) -> str:
    """Describe the constants that the shards will be packed with."""
    if plan.fit_days is not None:
        new = f"will be fitted to the frames{plan.fit_days}"
        if plan.constants is None:
            return new
        return f"{new}, replacing {plan.constants.version}: all days will be packed again"
    assert plan.constants is not None  # noqa: S101 a plan without constants has days to fit
    return announce(plan.constants)


def announce(constants: Normalization) -> str:
    """Describe the constants that are reused, in one line."""
    return (
        f"using {constants.version}, fitted to {counted(constants.days, 'day')} from "
        f"{constants.first_day} to {constants.last_day}"
    )

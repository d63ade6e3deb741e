"""Checks of processed days: coverage, pixel values, disk geometry and flags."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING

import dagster as dg

from sdoml_core.channels import Instrument
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.frames.flags import flag_names
from sdoml_core.frames.grid import DISK_RADIUS, FIELD, GEOMETRIC_SCALE, TARGET_RADIUS
from sdoml_dagster import asset_names
from sdoml_dagster.checks.days import DayCheck, DayChecks, Finding, build_day_checks, listed
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store

if TYPE_CHECKING:  # slow to import, and definitions need only names and descriptions
    from sdoml_dagster.store.day import StoredDay

VALUES = "values"
"""Name of the check that reads every frame."""

PHOTOSPHERE = {"AIA_1600", "AIA_1700", "HMI_M"}
"""Channels with a sharp limb. In other channels, the corona extends above the limb."""

CORONA_RADIUS = (0.98, 1.10)
"""Allowed range of the limb's radius in the other channels, in solar radii."""

SHARP_RADIUS = 0.01
"""Allowed deviation of the radius in channels with a sharp limb, as a fraction of the radius."""

BRIGHTEST = 1e7
"""Pixel value above the range of any instrument: 14 bits in 1 s, summed over 16×16 samples."""


def build_processed_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Build the checks of ``processed_aia`` and ``processed_hmi``, if they exist."""
    return [
        build_day_checks(
            asset_names.processed(instrument), processed_checks(instrument, settings), settings
        )
        for instrument in settings.instruments
    ]


def processed_checks(instrument: Instrument, settings: Settings) -> DayChecks:
    """Return the checks of one instrument's processed days, by name."""

    def rows_of(store: Store, day: date) -> list[FrameRow]:
        from sdoml_dagster.store.day import StoredDay

        stored = StoredDay(store, day)
        rows = stored.frame_table(instrument)
        if rows is None:
            raise stored.missing(asset_names.processed(instrument))
        return rows

    def coverage(store: Store, day: date, settings: Settings) -> Finding:
        return judge_coverage(rows_of(store, day), settings)

    def values(store: Store, day: date, settings: Settings) -> Finding:
        return judge_values(store, day, rows_of(store, day), settings)

    def disk(store: Store, day: date, settings: Settings) -> Finding:
        return judge_disk(store, day, rows_of(store, day), settings)

    def flags(store: Store, day: date, settings: Settings) -> Finding:  # noqa: ARG001
        return judge_flags(store, day, rows_of(store, day))

    return {
        "coverage": DayCheck(
            f"Each channel has at least {settings.coverage_warn:.0%} of its frames. A smaller "
            f"fraction is a warning. A fraction below {settings.coverage_error:.0%} is an error, "
            "unless the archive has a gap in all channels.",
            coverage,
            reads_pixels=False,
        ),
        VALUES: DayCheck("All pixels are intact, finite and in range.", values),
        "disk": DayCheck("The solar disk in every frame is centered and has the right size.", disk),
        "flags": DayCheck(
            "No frame is off center, has an unusual size or brightness, or looks unlike its "
            "neighbors. No channel's brightness differs from the previous days by more than a "
            f"factor of {DRIFT:g}.",
            flags,
            reads_pixels=False,
        ),
    }


def judge_coverage(rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """Judge the coverage. A gap in the archive is a warning; one bad channel may be an error.

    At the edge of a gap, a neighboring frame may still be used for the slot at midnight. A day is
    therefore treated as a gap if all channels are below the error level and every absent frame is
    missing from the archive.
    """
    expected = Counter(row.channel for row in rows)
    found = Counter(row.channel for row in rows if row.status == "ok")
    fractions = {name: found[name] / expected[name] for name in expected}
    if not fractions:
        return Finding(passed=True, description="no frames are expected")
    low = {name: share for name, share in fractions.items() if share < settings.coverage_warn}
    gap = max(fractions.values()) < settings.coverage_error and all(
        row.status in {"ok", "missing"} for row in rows
    )
    worst = min(fractions.values())
    complaints = [f"{name} has {share:.0%} of its frames" for name, share in low.items()]
    return Finding(
        passed=not low,
        severe=worst < settings.coverage_error and not gap,
        description=("the archive has a gap: " if gap else "") + listed(complaints)
        if low
        else "every channel has enough frames",
        metadata={"coverage": worst, **{f"coverage_{n}": f for n, f in fractions.items()}},
    )


def judge_values(store: Store, day: date, rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """Read every frame from the store and check its values."""
    import numpy as np

    from sdoml_dagster.store.day import StoredDay

    wrong: list[str] = []
    good = [row for row in rows if row.status == "ok"]
    for row in good:
        try:
            pixels = StoredDay(store, day).frame(row, resolution=settings.resolution)
        except (DamagedFileError, FileNotFoundError) as error:
            wrong.append(f"{row.channel} {row.slot:%H:%M}: {error}")
            continue
        low, high = float(pixels.min()), float(pixels.max())
        ceiling = 1.0 if row.channel == "HMI_M" else BRIGHTEST
        # NaN fails every comparison, so this also finds NaN.
        if not (low >= 0 and 0 < high <= ceiling and np.isfinite(high)):
            wrong.append(f"{row.channel} {row.slot:%H:%M}: values range from {low:g} to {high:g}")
    return Finding(
        passed=not wrong,
        severe=True,
        description=listed(wrong) or f"{len(good)} frames are intact and in range",
        metadata={"frames_read": len(good), "frames_wrong": len(wrong)},
    )


def judge_disk(store: Store, day: date, rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """Measure every processed frame, independently of the frame table.

    A frame that shows less than 90% of the disk is skipped, because the edge of a shadow is not
    the limb.
    """
    from sdoml_core.frames.judge_aia import LIMB_VISIBLE
    from sdoml_dagster.store.day import StoredDay
    from sdoml_dagster.threads import ordered_map

    whole = [
        row
        for row in rows
        if row.status == "ok" and (row.visible is None or row.visible >= LIMB_VISIBLE)
    ]
    judge = _DiskJudge(StoredDay(store, day), {row.channel for row in whole}, settings)
    found = ordered_map(judge, whole, threads=settings.threads, name="disk")
    wrong = [
        f"{row.channel} {row.slot:%H:%M}: {complaint}"
        for row, complaint in zip(whole, found, strict=True)
        if complaint is not None
    ]
    return Finding(
        passed=not wrong,
        severe=True,
        description=listed(wrong)
        or f"the disk is centered and has the right size in {len(whole)} frames",
        metadata=judge.metadata(),
    )


class _DiskJudge:
    """Measures the disks of frames. Thread-safe."""

    def __init__(self, day: "StoredDay", channels: Iterable[str], settings: Settings) -> None:
        self._day = day
        self._side = settings.resolution
        scale = settings.hmi_scale
        self._hmi = 1.0 if scale == "geometric" else scale / GEOMETRIC_SCALE
        self._radii: dict[str, list[float]] = {channel: [] for channel in sorted(channels)}
        self._offsets: dict[str, list[float]] = {channel: [] for channel in sorted(channels)}

    def __call__(self, row: FrameRow) -> str | None:
        """Describe what is wrong with the disk in a frame. Returns None if nothing is wrong."""
        from sdoml_core.frames.limb import measure_disk

        side, sharp = self._side, row.channel in PHOTOSPHERE
        expected = self._hmi if row.channel == "HMI_M" else 1.0
        try:
            frame = self._day.frame(row, resolution=side)
        except (DamagedFileError, FileNotFoundError) as error:
            return str(error)
        pixels = DISK_RADIUS * side * expected
        disk = measure_disk(frame, finest=256 if sharp else 128, radius=pixels)
        if disk is None or disk.scatter > 0.05 * disk.radius:
            return "no disk is visible"
        radius = disk.radius / pixels
        self._radii[row.channel].append(radius * expected * TARGET_RADIUS)
        self._offsets[row.channel].append(disk.offset * FIELD / side)
        slack = max(SHARP_RADIUS, 0.5 / disk.radius)
        low, high = (1 - slack, 1 + slack) if sharp else CORONA_RADIUS
        if disk.offset > max(0.005 * side, 0.5) * (1 if sharp else 2):
            return (
                f"the center is {disk.offset:.1f} pixels from the middle "
                f"({disk.x:+.1f} right, {disk.y:+.1f} down)"
            )
        if not low <= radius <= high:
            return (
                f"the radius is {radius * expected * TARGET_RADIUS:.0f}″, "
                f"not {expected * TARGET_RADIUS:.0f}″"
            )
        return None

    def metadata(self) -> dict[str, float]:
        """Return the median radius and the largest offset of each channel, in arcseconds."""
        return {
            key: value
            for channel in self._radii
            if self._radii[channel]
            for key, value in (
                (f"radius_{channel}", median(self._radii[channel])),
                (f"offset_{channel}", max(self._offsets[channel])),
            )
        }


UNEXPLAINED = ("off_center", "odd_radius", "bright", "dim", "unlike_neighbors", "bright_sky")
"""Flags for which a person should inspect the frame. The causes of all other flags are known."""

HISTORY_DAYS = 7
"""Number of previous days with which a day's brightness is compared."""

DRIFT = 2.0
"""Maximum ratio of a day's brightness to the median of the previous days. Within a week, solar
activity changes the brightness by a smaller factor."""


def judge_flags(store: Store, day: date, rows: Sequence[FrameRow]) -> Finding:
    """Count the flags of all frames, and compare the brightness with that of the previous days.

    Previous days that are not in the store are skipped, so the first day is not compared.
    """
    from sdoml_dagster.store.day import StoredDay

    instrument: Instrument = "HMI" if rows and rows[0].channel == "HMI_M" else "AIA"
    flagged = Counter(name for row in rows if row.status == "ok" for name in flag_names(row.flags))
    complaints = [
        f"{row.channel} {row.slot:%H:%M} is flagged {name}"
        for row in rows
        if row.status == "ok"
        for name in flag_names(row.flags)
        if name in UNEXPLAINED
    ]
    past: defaultdict[str, list[float]] = defaultdict(list)
    for before in range(1, HISTORY_DAYS + 1):
        earlier = StoredDay(store, day - timedelta(days=before)).frame_table(instrument) or ()
        for channel, level in _levels(earlier).items():
            past[channel].append(level)
    ratios = {
        channel: level / median(past[channel])
        for channel, level in _levels(rows).items()
        if past[channel]
    }
    complaints += [
        f"{channel} is {ratio:.2g} times as bright as on the previous days"
        for channel, ratio in ratios.items()
        if not 1 / DRIFT <= ratio <= DRIFT
    ]
    return Finding(
        passed=not complaints,
        description=listed(complaints) or "nothing unusual was found",
        metadata={
            **{f"flagged_{name}": count for name, count in sorted(flagged.items())},
            **{f"brightness_{channel}": ratio for channel, ratio in ratios.items()},
        },
    )


def _levels(rows: Iterable[FrameRow]) -> dict[str, float]:
    """Return the median level of each measured channel's good frames."""
    levels: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.status == "ok" and row.level is not None and row.level > 0:
            levels[row.channel].append(row.level)
    return {channel: median(values) for channel, values in levels.items()}

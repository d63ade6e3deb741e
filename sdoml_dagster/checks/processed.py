"""Checks of processed days: enough frames, sound values, the disk where it should be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime

import dagster as dg

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.frames.grid import DISK_RADIUS, FIELD, TARGET_RADIUS
from sdoml_dagster import asset_names
from sdoml_dagster.checks.days import Finding, build_day_checks, listed
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store

PHOTOSPHERE = {"AIA_1600", "AIA_1700", "HMI_M"}
"""Channels that see a sharp limb; in the others, the corona ends above it."""

CORONA_RADIUS = (0.98, 1.10)
"""Where brightness may fall in the other channels, in solar radii."""

SHARP_RADIUS = 0.01
"""Deviation of the radius from 976″ that the sharp ones may have, as a fraction of it."""

BRIGHTEST = 1e7
"""DN/s per pixel that no instrument reaches: 14 bits, summed over 16×16 pixels in 1 s."""


def build_processed_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Checks of ``processed_aia`` and ``processed_hmi``."""
    return [_checks_of(instrument, settings) for instrument in INSTRUMENTS]


def _checks_of(instrument: Instrument, settings: Settings) -> dg.AssetChecksDefinition:
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

    return build_day_checks(
        asset_names.processed(instrument),
        {
            "coverage": (
                f"Each channel has at least {settings.coverage_warn:.0%} of its frames (else a "
                f"warning) and {settings.coverage_error:.0%} (else an error, but for gaps of the "
                "archive in all channels).",
                coverage,
            ),
            "values": ("All pixels are as they were written, finite and in range.", values),
            "disk": ("The solar disk is in the middle and 976″ in radius.", disk),
        },
        settings,
    )


def judge_coverage(rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """A day that the archive does not have warns; a channel that falls behind may be an error.

    At the edge of a gap a neighbour's frame still stands in for midnight, so a day counts as a
    gap where all its channels are below the error level and all that is absent is missing there.
    """
    expected = Counter(row.channel for row in rows)
    found = Counter(row.channel for row in rows if row.status == "ok")
    fractions = {name: found[name] / expected[name] for name in expected}
    if not fractions:
        return Finding(passed=True, description="no frame is expected")
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
        else "complete enough",
        metadata={"coverage": worst, **{f"coverage_{n}": f for n, f in fractions.items()}},
    )


def judge_values(store: Store, day: date, rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """Reads every frame back from the store."""
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
        # NaN fails every comparison, so this finds it too.
        if not (low >= 0 and 0 < high <= ceiling and np.isfinite(high)):
            wrong.append(f"{row.channel} {row.slot:%H:%M}: values from {low:g} to {high:g}")
    return Finding(
        passed=not wrong,
        severe=True,
        description=listed(wrong) or f"{len(good)} frames are sound",
        metadata={"frames_read": len(good), "frames_wrong": len(wrong)},
    )


def judge_disk(store: Store, day: date, rows: Sequence[FrameRow], settings: Settings) -> Finding:
    """Measures one frame of each channel, the good one next to noon."""
    from sdoml_core.frames.limb import measure_disk
    from sdoml_dagster.store.day import StoredDay

    side = settings.resolution
    wrong: list[str] = []
    metadata: dict[str, float] = {}
    for row in _next_to_noon(rows):
        sharp = row.channel in PHOTOSPHERE
        try:
            frame = StoredDay(store, day).frame(row, resolution=side)
        except (DamagedFileError, FileNotFoundError) as error:
            wrong.append(f"{row.channel} {row.slot:%H:%M}: {error}")
            continue
        disk = measure_disk(frame) if sharp else measure_disk(frame, finest=128)
        if disk is None or disk.scatter > 0.05 * disk.radius:
            wrong.append(f"{row.channel} {row.slot:%H:%M}: no disk to be seen")
            continue
        radius = disk.radius / (DISK_RADIUS * side)
        metadata[f"radius_{row.channel}"] = radius * TARGET_RADIUS
        metadata[f"offset_{row.channel}"] = disk.offset * FIELD / side
        slack = max(SHARP_RADIUS, 0.5 / disk.radius)
        low, high = (1 - slack, 1 + slack) if sharp else CORONA_RADIUS
        if disk.offset > max(0.005 * side, 0.5) * (1 if sharp else 2):
            wrong.append(
                f"{row.channel} {row.slot:%H:%M}: centre is {disk.offset:.1f} pixels from the "
                f"middle ({disk.x:+.1f} right, {disk.y:+.1f} down)"
            )
        elif not low <= radius <= high:
            wrong.append(
                f"{row.channel} {row.slot:%H:%M}: radius is {radius * TARGET_RADIUS:.0f}″, "
                f"not {TARGET_RADIUS:.0f}″"
            )
    return Finding(
        passed=not wrong,
        severe=True,
        description=listed(wrong) or "in the middle, of the right size",
        metadata=metadata,
    )


def _next_to_noon(rows: Sequence[FrameRow]) -> Iterator[FrameRow]:
    """Of each channel the good frame that is closest to noon."""

    def distance(slot: datetime) -> int:
        return abs(slot.hour * 60 + slot.minute - 720)

    good = [row for row in rows if row.status == "ok"]
    for name in dict.fromkeys(row.channel for row in good):
        yield min((r for r in good if r.channel == name), key=lambda row: distance(row.slot))

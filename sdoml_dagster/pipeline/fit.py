"""Fit constants to the sketches of processed days, without reading pixels."""

from dataclasses import dataclass
from datetime import date

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.errors import MissingInputError, NormalizationError
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch, merge_channels
from sdoml_dagster.days import ALL_DAYS, DayRange
from sdoml_dagster.formatting import counted
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants and the sketches to which they were fitted."""

    normalization: Normalization
    sketches: dict[str, Sketch]
    left_out: tuple[date, ...]
    """Requested days that are only partly processed: the sketches of an instrument are missing."""


def fit_store(settings: Settings, store: Store, *, days: DayRange = ALL_DAYS) -> Fitted:
    """Fit constants to the processed days in a range.

    Raises
    ------
    MissingInputError
        If no day in the range is processed, or if the processed days have no frames.
    NormalizationError
        If days were processed at different resolutions.
    """
    found = {
        day: complete for day, complete in _processed_days(store, settings).items() if day in days
    }
    chosen = [day for day, complete in found.items() if complete]
    if not chosen:
        part = f" ({counted(len(found), 'day')} partly processed)" if found else ""
        raise MissingInputError(f"{store.url} has no processed day{days}{part}: run ingest first")
    sketches = merge_channels(
        StoredDay(store, day).sketches(instrument)
        for day in chosen
        for instrument in INSTRUMENTS
        if settings.channels_of(instrument)
    )
    wanted = {name: sketches[name] for name in settings.channels if name in sketches}
    for name, sketch in wanted.items():
        if sketch.pixels != sketch.frames * settings.resolution**2:
            raise NormalizationError(
                f"{name}: not all of these days were processed at {settings.resolution}×"
                f"{settings.resolution} pixels: run ingest again for the other days"
            )
    if not any(sketch.pixels for sketch in wanted.values()):
        roots = ", ".join(f"SDOML_{i}_ROOTS" for i in INSTRUMENTS if settings.channels_of(i))
        raise MissingInputError(
            f"{store.url}: the processed {_span(chosen)} no frames, so there is nothing to fit "
            f"constants to: check {roots} and SDOML_START, run ingest for days with data, then "
            "run fit_normalization"
        )
    normalization = fit(
        wanted,
        method=settings.normalization,
        resolution=settings.resolution,
        first_day=chosen[0],
        last_day=chosen[-1],
        days=len(chosen),
        hmi_values=settings.hmi_values,
    )
    partial = tuple(day for day, complete in found.items() if not complete)
    return Fitted(normalization, wanted, partial)


def _span(days: list[date]) -> str:
    """Format the days as the subject of a message, with its verb."""
    if len(days) == 1:
        return f"day {days[0]} has"
    return f"{len(days)} days from {days[0]} to {days[-1]} have"


def _processed_days(store: Store, settings: Settings) -> dict[date, bool]:
    """Return the days with any processed file, and whether their sketches are complete."""
    found = layout.processed_files(store)
    needed = {i.lower() for i in INSTRUMENTS if settings.channels_of(i)}
    return {day: needed <= found[day] for day in sorted(found)}

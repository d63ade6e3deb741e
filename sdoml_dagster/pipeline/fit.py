"""Constants of a store's processed days, from their sketches: no pixel is read."""

from dataclasses import dataclass
from datetime import date

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.errors import MissingInputError, NormalizationError
from sdoml_core.formats.sketch_file import decode_sketches
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch, merge_channels
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants, and the sketches that they were fitted to."""

    normalization: Normalization
    sketches: dict[str, Sketch]
    left_out: tuple[date, ...]
    """Days asked for that are processed in part: the sketches of an instrument are not there."""


def fit_store(
    settings: Settings, store: Store, *, first: date | None = None, last: date | None = None
) -> Fitted:
    """Fit constants to all processed days, or to those from ``first`` to ``last`` inclusive.

    Raises
    ------
    MissingInputError
        Where no such day is processed.
    NormalizationError
        Where days were processed at different resolutions.
    """
    days = {
        day: whole
        for day, whole in _processed_days(store, settings).items()
        if (first is None or day >= first) and (last is None or day <= last)
    }
    chosen = [day for day, whole in days.items() if whole]
    if not chosen:
        asked = f" from {first or 'the first'} to {last or 'the last'}" if first or last else ""
        part = f" ({len(days)} in part)" if days else ""
        raise MissingInputError(f"no processed day{asked} in {store.url}{part}: run ingest first")
    sketches = merge_channels(
        day_sketches(store, day, instrument)
        for day in chosen
        for instrument in INSTRUMENTS
        if settings.channels_of(instrument)
    )
    wanted = {name: sketches[name] for name in settings.channels if name in sketches}
    for name, sketch in wanted.items():
        if sketch.pixels != sketch.frames * settings.resolution**2:
            raise NormalizationError(
                f"{name}: not all of these days were processed at {settings.resolution}×"
                f"{settings.resolution} pixels: run ingest for the others again"
            )
    normalization = fit(
        wanted,
        method=settings.normalization,
        resolution=settings.resolution,
        first_day=chosen[0],
        last_day=chosen[-1],
        days=len(chosen),
    )
    return Fitted(normalization, wanted, tuple(day for day, whole in days.items() if not whole))


def day_sketches(store: Store, day: date, instrument: Instrument) -> dict[str, Sketch]:
    """The sketches of a processed day, by channel."""
    made_by = f"processed_{instrument.lower()} of {day}"
    path = layout.sketches(day, instrument)
    sketches = store.read_as(path, decode_sketches, made_by=made_by)
    if sketches is None:
        raise MissingInputError(f"{store.locate(path)} has gone: materialise {made_by} again")
    return sketches


def _processed_days(store: Store, settings: Settings) -> dict[date, bool]:
    """Days with any processed file, in order; whether every instrument's sketches are there."""
    found = layout.processed_files(store)
    needed = {i.lower() for i in INSTRUMENTS if settings.channels_of(i)}
    return {day: needed <= found[day] for day in sorted(found)}

"""`sdoml export`: write a release in the formats of other projects' loaders."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sdoml_core.errors import MissingInputError
from sdoml_core.formats.release_files import RELEASE_CONSTANTS
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.normalization import constants
from sdoml_dagster.cli.errors import CommandError
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

if TYPE_CHECKING:
    from sdoml_core.loader.dataset import SDOMLlite

Say = Callable[[str], None]


def export_for_surya(
    settings: Settings,
    store: Store,
    *,
    release: str,
    days: DayRange,
    target: Path,
    channels: Sequence[str],
    say: Say,
) -> None:
    """Write the index, NetCDF files and scalers that Surya reads.

    The scalers are computed from the days that the release's constants were fitted to. With splits,
    these are the training days.

    Raises
    ------
    MissingInputError
        If the release or the sketches of these days do not exist.
    """
    normalization = store.read_as(
        f"{layout.release_folder(release)}/{RELEASE_CONSTANTS}",
        constants.from_json,
        made_by="sdoml release",
    )
    if normalization is None:
        raise MissingInputError(
            f"{store.locate(layout.release_folder(release))} is not a release: run sdoml release"
        )
    fitted = DayRange(normalization.first_day, normalization.last_day)
    sketches = fit_store(settings, store, days=fitted).sketches
    say(
        "scalers    computed from the sketches of "
        f"{normalization.first_day} to {normalization.last_day}"
    )
    with _extra():
        from sdoml_core.exporters.signum_log import signum_log_statistics
        from sdoml_core.exporters.surya import export_surya

        statistics = {
            name: signum_log_statistics(
                sketches[name], normalization.channels[name], resolution=normalization.resolution
            )
            for name in channels
            if name in sketches and name in normalization.channels
        }
        dataset = _open(store, release, channels, days)
        count = export_surya(
            dataset, target, statistics, progress=lambda day: say(f"day        {day}")
        )
    say(f"exported   {count} samples to {target}")


def export_as_zarr(
    settings: Settings,
    store: Store,
    *,
    release: str,
    days: DayRange,
    target: Path,
    channels: Sequence[str],
    say: Say,
) -> None:
    """Write one zarr array per year and channel."""
    scale = settings.hmi_scale
    with _extra():
        from sdoml_core.exporters.sdoml_zarr import export_zarr

        for channel in channels:
            export_zarr(
                _open(store, release, [channel], days),
                target,
                hmi_scale=GEOMETRIC_SCALE if scale == "geometric" else scale,
                progress=lambda line: say(f"array      {line}"),
            )
    say(f"exported   {', '.join(channels)} to {target}")


def _open(store: Store, release: str, channels: Sequence[str], days: DayRange) -> "SDOMLlite":
    """Open the days of a release."""
    from sdoml_core.loader.dataset import SDOMLlite

    folder = store.locate(layout.release_folder(release))
    end = None if days.last is None else days.last + timedelta(days=1)
    return SDOMLlite(folder, channels, date_start=days.first, date_end=end)


@contextmanager
def _extra() -> Iterator[None]:
    """Report a missing package in one line that names the pip command for the extra."""
    try:
        yield
    except ImportError as error:
        raise CommandError(f"{error}: run pip install 'sdoml-lite[export]'") from error

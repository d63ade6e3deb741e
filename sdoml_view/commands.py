"""The commands ``sdoml view`` and ``sdoml movie``. They do not need Dagster."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdoml_core.errors import SdomlError, SettingError

if TYPE_CHECKING:
    from sdoml_view.release import Release


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """Look at datasets of full-disk solar images."""


@commands.command()
@click.argument("source", metavar="PATH_OR_URL")
@click.option("--at", metavar="TIME", help="Time to show first, such as 2024-03-08T12:00.")
@click.option(
    "--series",
    "series_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or Parquet table of a time series to draw below the light curves. Repeatable.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port on 127.0.0.1; 0 selects a free port. Default: 8420, or a free port if it is in use.",
)
@click.option("--no-browser", is_flag=True, help="Print the address without opening a browser.")
@click.option(
    "--write-page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a static page with the calendar, samples and light curves to FILE, and stop.",
)
def view(
    *, source: str, at: str | None, series_files: tuple[Path, ...], port: int | None,
    no_browser: bool, write_page: Path | None,
) -> None:  # fmt: skip
    """Show a release or a folder of shards in the browser.

    PATH_OR_URL is a release, or a folder with daily shards or tar files. The viewer reads only the
    byte ranges of the frames that it shows. It never writes to the dataset.
    """
    with _one_line_errors():
        opening = _opening(source)  # while the server is imported and the page loads
        if write_page is not None:
            from sdoml_core.loader.storage.local import write_atomically
            from sdoml_view.page import static_page

            write_atomically(write_page, static_page(opening.result()).encode())
            click.echo(f"{write_page}: {write_page.stat().st_size / 1e6:.1f} MB")
            return
        from sdoml_core.loader.times import parse_time
        from sdoml_view.app import Application
        from sdoml_view.series import read_series_file
        from sdoml_view.server import listen, serve, url_of

        series = [found for path in series_files for found in read_series_file(path)]
        listener = listen(port)
        application = Application(
            opening.result, at=None if at is None else parse_time(at, "--at"), series=series
        )

        def announce() -> None:
            release = opening.result()
            click.echo(f"{release.name}: {len(release.catalog):,} samples. Press Ctrl-C to stop.")
            sys.stdout.flush()

        if opening.done():
            opening.result()  # a wrong path fails before the browser opens
        click.echo(f"Viewer at {url_of(listener)}")
        sys.stdout.flush()
        serve(application.asgi(), listener, opened=announce, open_browser=not no_browser)
        opening.result()  # raises the error that ended the server


@commands.command()
@click.argument("source", metavar="PATH_OR_URL")
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--start", metavar="TIME", help="First slot. Default: the start of the dataset.")
@click.option(
    "--end", metavar="TIME", help="End of the movie, not included. Default: the end of the dataset."
)
@click.option("--channels", metavar="NAME,NAME", help="Channels in this order. Default: all.")
@click.option("--fps", type=click.IntRange(1, 60), default=12, show_default=True,
              help="Frames per second.")  # fmt: skip
@click.option(
    "--size",
    type=click.IntRange(64, 1024),
    help="Side of each channel in pixels. Default: the resolution of the frames, at most 512.",
)
def movie(
    *, source: str, target: Path, start: str | None, end: str | None, channels: str | None,
    fps: int, size: int | None,
) -> None:  # fmt: skip
    """Write a movie to OUT, which ends in .mp4 (H.264) or .webp (animated WebP).

    \b
    sdoml movie data/releases/sdoml-lite --start 2024-03-08 --end 2024-03-09 \\
        --channels AIA_0171,AIA_0193 sun.mp4
    """  # noqa: D301 click reads the backspace
    with _one_line_errors():
        import numpy as np

        from sdoml_core.channels import parse_channels
        from sdoml_core.loader.times import parse_time
        from sdoml_view.movie import MovieOptions, format_of, write_movie
        from sdoml_view.release import Release

        kind = format_of(target)
        release = Release(source)
        names = release.channels
        if channels is not None:
            parse_channels(channels.split(","))
            names = tuple(name.strip().upper() for name in channels.split(",") if name.strip())
        options = MovieOptions(
            release.check_channels(names), format=kind, fps=fps,
            tile=size or max(min(release.resolution, 512), 64),
        )  # fmt: skip
        slots = release.catalog.slots
        first = slots[0] if start is None else parse_time(start, "--start")
        last = slots[-1] + np.timedelta64(1, "s") if end is None else parse_time(end, "--end")
        rows = release.rows(first, last)
        partial = target.with_name(f".{target.stem}.partial.{kind}")
        try:
            with click.progressbar(length=len(rows), label=target.name) as bar:
                write_movie(release, rows, options, partial, progress=lambda _: bar.update(1))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        click.echo(f"{target}: {len(rows)} frames, {target.stat().st_size / 1e6:.1f} MB")


def _opening(source: str) -> "Future[Release]":
    """Start opening a dataset in a thread."""
    from sdoml_view.release import Release

    future: Future[Release] = Future()

    def run() -> None:
        try:
            future.set_result(Release(source))
        except BaseException as error:  # noqa: BLE001 result() raises it
            future.set_exception(error)

    # Use a daemon thread, so that Ctrl-C does not wait for a slow server.
    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Show expected errors as one line, and name a missing extra."""
    try:
        yield
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    except SdomlError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
    except ImportError as error:
        click.echo(
            f"Error: {error}. The viewer needs: pip install 'sdoml-lite[view]' "
            "(in a checkout: pip install -e '.[view]')",
            err=True,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None

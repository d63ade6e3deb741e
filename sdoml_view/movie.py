"""Movies: frames of several channels side by side, as MP4 (H.264) or animated WebP."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sdoml_core.channels import CHANNELS
from sdoml_core.colormaps import colormap
from sdoml_core.errors import DatasetError
from sdoml_view.display import to_levels
from sdoml_view.release import Release

FORMATS: Final = ("mp4", "webp")
MAX_FRAMES: Final = {"mp4": 20_000, "webp": 400}
"""Maximum number of frames by format. An animated WebP is kept in memory until it is complete."""

_BACKGROUND = (10, 12, 17)
_TEXT, _MUTED = (240, 242, 246), (150, 156, 168)


@dataclass(frozen=True, slots=True)
class MovieOptions:
    """Options for a movie."""

    channels: tuple[str, ...]
    format: str = "mp4"
    fps: int = 12
    tile: int = 512
    """Side length of each channel in pixels."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DatasetError(
                f"the format of a movie must be {' or '.join(FORMATS)}, not {self.format}"
            )
        if not 1 <= self.fps <= 60:
            raise DatasetError(f"fps must be between 1 and 60, not {self.fps}")
        if not 64 <= self.tile <= 1024:
            raise DatasetError(f"size must be between 64 and 1024, not {self.tile}")


def format_of(path: Path) -> str:
    """Return the format of a movie from its file name.

    Raises
    ------
    DatasetError
        If the name does not end in .mp4 or .webp.
    """
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise DatasetError(f"{path.name} must end in .mp4 or .webp")
    return suffix


def write_movie(
    release: Release,
    rows: Sequence[int],
    options: MovieOptions,
    target: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Encode a movie.

    Parameters
    ----------
    release, rows
        Dataset and its samples, in order.
    options
        Channels, format and size.
    target
        File to write. It is complete when the function returns.
    progress
        Called with the number of finished frames.

    Raises
    ------
    DatasetError
        If there are no samples, or too many for the format.
    """
    if not rows:
        raise DatasetError("there are no samples in this range")
    if len(rows) > MAX_FRAMES[options.format]:
        raise DatasetError(
            f"a movie in the format {options.format} can have at most "
            f"{MAX_FRAMES[options.format]} frames, not {len(rows)}; choose a shorter range"
        )
    images = _images(release, rows, options, progress)
    if options.format == "mp4":
        _write_mp4(images, options.fps, target)
    else:
        first, *rest = images
        first.save(
            target,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=round(1000 / options.fps),
            loop=0,
            quality=80,
            method=2,
        )


def movie_bytes(
    release: Release,
    rows: Sequence[int],
    options: MovieOptions,
    *,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """Encode a movie in memory; see `write_movie`."""
    # FFmpeg moves the MP4 index to the front in a second pass, for which it needs a file.
    with tempfile.TemporaryDirectory(prefix="sdoml-view-") as folder:
        path = Path(folder, f"movie.{options.format}")
        write_movie(release, rows, options, path, progress=progress)
        return path.read_bytes()


def _images(
    release: Release,
    rows: Sequence[int],
    options: MovieOptions,
    progress: Callable[[int], None] | None,
) -> Iterator[Image.Image]:
    for done, row in enumerate(rows, start=1):
        yield compose(release, row, options)
        if progress is not None:
            progress(done)


def compose(release: Release, row: int, options: MovieOptions) -> Image.Image:
    """Draw a sample: channels in a grid, with their names and the time."""
    tile, count = options.tile, len(options.channels)
    columns = _columns(count)
    lines = -(-count // columns)
    band = max(tile // 14, 18)
    # H.264 with 4:2:0 chroma needs even sizes.
    width, height = columns * tile, lines * tile + band
    canvas = Image.new("RGB", (width + width % 2, height + height % 2), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(band * 0.6, 11))
    frames = release.frames(row, options.channels)
    for number, name in enumerate(options.channels):
        left, top = number % columns * tile, number // columns * tile
        if name in frames:
            levels = Image.fromarray(to_levels(frames[name], release.level_table(name)))
            fitted = np.asarray(levels.resize((tile, tile), Image.Resampling.LANCZOS))
            canvas.paste(Image.fromarray(colormap(name)[fitted]), (left, top))
        else:
            edge = tile * 0.103
            draw.ellipse((left + edge, top + edge, left + tile - edge, top + tile - edge),
                         outline=(60, 64, 74))  # fmt: skip
            draw.text((left + tile / 2, top + tile / 2), "no frame", _MUTED, font, anchor="mm")
        caption = label(name).removesuffix(" Å")  # Pillow's font has no Å
        draw.text((left + band * 0.4, top + band * 0.3), caption, _TEXT, font)
    slot = release.slot(row)
    middle = lines * tile + band / 2
    draw.text((band * 0.4, middle), f"{slot:%Y-%m-%d %H:%M} UTC", _TEXT, font, anchor="lm")
    if width > 12 * band:
        draw.text((width - band * 0.4, middle), "NASA/SDO", _MUTED, font, anchor="rm")
    return canvas


def label(channel: str) -> str:
    """Return the display name of a channel."""
    known = CHANNELS[channel]
    return f"AIA {known.wavelength} Å" if known.instrument == "AIA" else "HMI magnetogram"


def _columns(count: int) -> int:
    return {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(count, min(4, math.ceil(math.sqrt(count)) + 1))


def _write_mp4(images: Iterator[Image.Image], fps: int, target: Path) -> None:
    import av

    # Put the MP4 index first, so that browsers can start playback before the whole file arrives.
    options = {"movflags": "faststart"}
    with av.open(str(target), "w", format="mp4", options=options) as container:
        stream = None
        for number, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "18"})
                stream.width, stream.height = image.size
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))

"""Create wrong frames in intact files. Checksums cannot detect them.

Each kind changes an archive file, real or rendered, in such a way that every reader still accepts
it: CHECKSUM and DATASUM are valid, and JPEG files can be decoded. Tests and
``benchmarks/corrupted_frames`` apply these changes with ``Archive(alter=…)`` or directly to the
bytes.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_demo.absences import Condition
from sdoml_demo.files import parse_path
from sdoml_demo.render.fits_file import BLANK, FitsFile, Number, read_file, write_file
from sdoml_demo.render.geometry import CENTER, SIZE
from sdoml_demo.render.hmi import render_hmi
from sdoml_demo.render.solar_state import digest

Pixels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way in which a frame can be wrong."""

    name: str
    meaning: str
    """Description of the error, as a sentence for reports."""
    change: Callable[[bytes], bytes]
    """Function that corrupts an intact file."""


def _aia(
    change: Callable[[Pixels], Pixels] | None = None,
    cards: Mapping[str, str | int | float] | None = None,
) -> Callable[[bytes], bytes]:
    """Change the pixels, the header, or both."""

    def corrupt(data: bytes) -> bytes:
        file = read_file(data)
        pixels = file.pixels if change is None else change(file.pixels.copy())
        return write_file(FitsFile(file.primary, file.cards, pixels), dict(cards or {}))

    return corrupt


def resample(
    pixels: Pixels, *, zoom: float = 1.0, turn: float = 0.0, shift: tuple[float, float] = (0, 0)
) -> Pixels:
    """Enlarge, rotate and shift an image with bilinear interpolation.

    Parameters
    ----------
    pixels
        Shape (1024, 1024), south up.
    zoom
        Factor by which the disk grows.
    turn
        Degrees, counterclockwise.
    shift
        Pixels to the west and north.
    """
    angle = np.radians(turn)
    y, x = np.mgrid[:SIZE, :SIZE] - CENTER
    x, y = x - shift[0], y - shift[1]
    source_x = (x * np.cos(angle) + y * np.sin(angle)) / zoom + CENTER
    source_y = (y * np.cos(angle) - x * np.sin(angle)) / zoom + CENTER
    column = np.clip(np.floor(source_x).astype(int), 0, SIZE - 2)
    row = np.clip(np.floor(source_y).astype(int), 0, SIZE - 2)
    p, q = np.clip(source_x - column, 0, 1), np.clip(source_y - row, 0, 1)
    low = pixels[row, column] * (1 - p) + pixels[row, column + 1] * p
    high = pixels[row + 1, column] * (1 - p) + pixels[row + 1, column + 1] * p
    result: Pixels = np.rint(low * (1 - q) + high * q).astype(np.int32)
    return result


def _noise(scale: float, key: str) -> NDArray[np.float64]:
    """Return normal deviates in sixteenths of a DN. ``scale`` is in DN."""
    return np.random.default_rng(digest(key)).normal(0.0, scale * 16, (SIZE, SIZE))


def _dark(pixels: Pixels) -> Pixels:
    return np.rint(_noise(0.3, "dark") + 0 * pixels).astype(np.int32)


def _half_dark(pixels: Pixels) -> Pixels:
    """Cover the western half of the Sun with the Moon."""
    y, x = np.mgrid[:SIZE, :SIZE] - CENTER
    moon = np.hypot(x - 400, y) < 400
    return np.where(moon, _dark(pixels), pixels).astype(np.int32)


def _block(value: int) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        pixels[400:600, 350:560] = value  # 4% of the image, on the disk
        return pixels

    return change


def _scan_lines(pixels: Pixels) -> Pixels:
    """Fill every eighth row of the readout with noise."""
    noisy = np.random.default_rng(digest("lines")).integers(0, 16 * 4000, (SIZE // 8, SIZE))
    pixels[::8] = noisy
    return pixels


def _shifted_rows(pixels: Pixels) -> Pixels:
    """Shift the northern half sideways by 100 pixels, as after a loss of synchronization."""
    pixels[512:] = np.roll(pixels[512:], 100, axis=1)
    return pixels


def _storm(pixels: Pixels) -> Pixels:
    """Add particle hits to 2% of the pixels."""
    random = np.random.default_rng(digest("storm"))
    hit = random.random((SIZE, SIZE)) < 0.02
    return np.where(hit, pixels + random.integers(1600, 160000, (SIZE, SIZE)), pixels).astype(
        np.int32
    )


def _cards(**cards: str | float) -> Callable[[bytes], bytes]:
    return _aia(cards=cards)


def _scaled(factor: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.clip(np.rint(pixels * factor), -(2**20), 16383 * 16).astype(np.int32)


def shifted(west: float, north: float) -> Callable[[bytes], bytes]:
    """Return a change that moves the Sun by a number of pixels without changing the header."""
    return _aia(lambda pixels: resample(pixels, shift=(west, north)))


AIA = (
    Corruption(
        "roll 180°, in the header",
        "The spacecraft is upside down, as CROTA2 says.",
        _aia(lambda p: np.ascontiguousarray(p[::-1, ::-1]), {"CROTA2": 180.0}),
    ),
    Corruption(
        "roll 0.5°, in the header",
        "A small roll, as CROTA2 says.",
        _aia(lambda p: resample(p, turn=-0.5), {"CROTA2": 0.5}),
    ),
    Corruption(
        "roll 180°, not in the header",
        "The picture is upside down, but the header does not say so.",
        _aia(lambda p: np.ascontiguousarray(p[::-1, ::-1])),
    ),
    Corruption(
        "off center, in the header",
        "The Sun is 120 pixels to the west and 40 to the north, and CRPIX says so.",
        _aia(lambda p: resample(p, shift=(120, 40)), {"CRPIX1": 632.5, "CRPIX2": 552.5}),
    ),
    Corruption(
        "off center by 2.5 pixels, in the header",
        "A small offset, as CRPIX says.",
        _aia(lambda p: resample(p, shift=(2, -1.5)), {"CRPIX1": 514.5, "CRPIX2": 511.0}),
    ),
    Corruption(
        "off center, not in the header",
        "The Sun is 23 pixels to the west, but the header does not say so.",
        shifted(23, 0),
    ),
    Corruption(
        "scale 1.2″, in the header",
        "The Sun is twice as large, as CDELT says.",
        _aia(lambda p: resample(p, zoom=2.0), {"CDELT1": 1.2, "CDELT2": 1.2}),
    ),
    Corruption(
        "scale, not in the header",
        "The Sun is 5% too large, but the header does not say so.",
        _aia(lambda p: resample(p, zoom=1.05)),
    ),
    Corruption(
        "RSUN_OBS wrong",
        "RSUN_OBS is 1000″, which cannot be the radius of the Sun.",
        _cards(RSUN_OBS=1000.0),
    ),
    Corruption("EXPTIME 0", "EXPTIME is 0.", _cards(EXPTIME=0.0)),
    Corruption("EXPTIME negative", "EXPTIME is −1 s.", _cards(EXPTIME=-1.0)),
    Corruption("EXPTIME nan", "EXPTIME is not a number.", _cards(EXPTIME=Number("nan"))),
    Corruption("EXPTIME 600 s", "EXPTIME is absurdly long.", _cards(EXPTIME=600.0)),
    Corruption(
        "EXPTIME ten times too short",
        "EXPTIME is 0.2 s, as in a flare, but the exposure was not short.",
        _cards(EXPTIME=0.2),
    ),
    Corruption(
        "brightness ×8",
        "All pixels are eight times too bright.",
        _aia(_scaled(8.0)),
    ),
    Corruption(
        "brightness ÷8",
        "All pixels are eight times too dark.",
        _aia(_scaled(0.125)),
    ),
    Corruption("no Sun", "The frame is dark, but QUALITY is good.", _aia(_dark)),
    Corruption("all zero", "All pixels are 0.", _aia(lambda p: p * 0)),
    Corruption(
        "saturated",
        "All pixels are at the largest value of the camera.",
        _aia(lambda p: p * 0 + 16383 * 16),
    ),
    Corruption("half dark", "The Moon covers half of the disk. QUALITY is good.", _aia(_half_dark)),
    Corruption("block without data", "4% of the pixels are BLANK.", _aia(_block(BLANK))),
    Corruption("block of zeros", "4% of the pixels are 0. They are on the disk.", _aia(_block(0))),
    Corruption("scan lines", "Every eighth row contains noise.", _aia(_scan_lines)),
    Corruption("shifted half", "The northern half is shifted by 100 pixels.", _aia(_shifted_rows)),
    Corruption("particle storm", "2% of the pixels were hit by particles.", _aia(_storm)),
    Corruption("IMG_TYPE DARK", "The header says that the shutter was closed.",
               _cards(IMG_TYPE="DARK")),
    Corruption("ACS_ECLP YES", "The header says eclipse, but QUALITY does not.",
               _cards(ACS_ECLP="YES")),
    Corruption("PERCENTD 60", "The header says that 40% of the data are lost.",
               _cards(PERCENTD=60.0)),
    Corruption("QUALITY bit 30", "A near-real-time frame, which a definitive frame will replace.",
               _cards(QUALITY=1 << 30)),
)  # fmt: skip
"""Corruptions of a single AIA frame. See also `with_pixels_of`."""


def with_pixels_of(data: bytes, other: bytes) -> bytes:
    """Combine a frame's header with the pixels of another AIA frame.

    Pixels from an earlier slot simulate a stale image. Pixels from another channel simulate a
    wrong filter.
    """
    file = read_file(data)
    return write_file(FitsFile(file.primary, file.cards, read_file(other).pixels), {})


def near_real_time(path: str, data: bytes) -> bytes:
    """Return the near-real-time version of a frame, which the definitive version replaces later.

    AIA frames have bit 30 in QUALITY, and the label of HMI frames reads "Quick-Look". Pass this
    function to `Archive` as ``alter``.
    """
    place = parse_path(path)
    if place is None:  # change only frames
        raise AssertionError
    channel, minute = place
    if channel.instrument == "HMI":
        return render_hmi(minute, Condition(quicklook_label=True))
    return _cards(QUALITY=1 << 30)(data)


def _gray(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Callable[[bytes], bytes]:
    """Change the gray levels of a JPEG file, which have the shape (1024, 1024), north up."""

    def corrupt(data: bytes) -> bytes:
        with Image.open(io.BytesIO(data)) as image:
            levels = np.array(image.convert("L"))
        return encode_jpg(np.repeat(change(levels)[..., None], 3, axis=2))

    return corrupt


def encode_jpg(rgb: NDArray[np.uint8]) -> bytes:
    """Encode like the catalog, as an RGB JPEG with quality 95."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "JPEG", quality=95)
    return file.getvalue()


def flip_pixel_bits(data: bytes, *, seed: int, bits: int = 1) -> bytes:
    """Flip bits in the compressed pixels of a JPEG file."""
    damaged = bytearray(data)
    start = data.index(b"\xff\xda") + 14
    for k in range(bits):
        place = start + digest("place", seed, k) % (len(data) - 2 - start)
        damaged[place] ^= 1 << digest("bit", seed, k) % 8
    return bytes(damaged)


def _half_scan(data: bytes) -> bytes:
    """End the scan in the middle, and add the end marker."""
    return (
        data[: data.index(b"\xff\xda") + (len(data) - data.index(b"\xff\xda")) // 2] + b"\xff\xd9"
    )


def _half_scan_filled(data: bytes) -> bytes:
    """Make the missing half gray, as if a truncated scan had been decoded and saved again."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = np.array(image)
    rgb[512:] = 128
    return encode_jpg(rgb)


def _continuum(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    y, x = np.mgrid[:SIZE, :SIZE] - CENTER
    radius = np.sqrt(np.count_nonzero(levels[:980]) / np.pi)
    square = 1 - (x * x + y * y) / radius**2
    bright = 235 * (1 - 0.6 * (1 - np.sqrt(np.maximum(square, 0))))
    return np.where(square > 0, bright + _noise(0.1, "granules"), 0).clip(0, 255).astype(np.uint8)


def _colored(data: bytes) -> bytes:
    """Color a magnetogram: blue to green for negative fields, yellow to red for positive ones."""
    with Image.open(io.BytesIO(data)) as image:
        levels = np.array(image.convert("L")).astype(int)
    field = levels - 127
    weak = 127 + 0 * levels
    red = np.where(field > 8, 255, np.where(field < -8, 20, weak))
    green = np.where(field > 8, 255 - field, np.where(field < -8, 127 + field, weak))
    blue = np.where(field > 8, 20, np.where(field < -8, 255, weak))
    rgb = np.stack([red, green, blue], axis=2) * (levels[..., None] > 0)
    return encode_jpg(rgb.clip(0, 255).astype(np.uint8))


def _placard(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    placard = np.full_like(levels, 128)
    placard[400:600:20, 200:800] = 220
    return placard


def _moved(levels: NDArray[np.uint8], **how: object) -> NDArray[np.uint8]:
    return resample(levels.astype(np.int32), **how).clip(0, 255).astype(np.uint8)  # type: ignore[arg-type]


def _black_corner(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels[:480, :480] = 0
    return levels


def _shrunk(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return encode_jpg(np.array(image.reduce(2)))


HMI = (
    Corruption("one bit flipped", "One bit in the compressed pixels is flipped.",
               lambda data: flip_pixel_bits(data, seed=1)),
    Corruption("half a scan", "The compressed pixels end in the middle.", _half_scan),
    Corruption("half a scan, gray", "The southern half is gray.", _half_scan_filled),
    Corruption("continuum picture", "A visible-light image has the name of a magnetogram.",
               _gray(_continuum)),
    Corruption("colored magnetogram", "The image has the colors of the catalog.", _colored),
    Corruption("gray placard", "The image is a placard on gray.", _gray(_placard)),
    Corruption("black", "The image is black.", _gray(lambda levels: levels * 0)),
    Corruption("off center", "The disk is shifted sideways by 15 pixels.",
               _gray(lambda levels: _moved(levels, shift=(15, 0)))),
    Corruption("scale", "The disk is 5% too large.",
               _gray(lambda levels: _moved(levels, zoom=1.05))),
    Corruption("quarter black", "A quarter of the disk is black.", _gray(_black_corner)),
    Corruption("inverted", "Black and white are swapped, so the field has the wrong sign.",
               _gray(lambda levels: np.where(levels > 0, 254 - levels, 0).astype(np.uint8))),
    Corruption("turned 180°", "South is up.",
               _gray(lambda levels: np.ascontiguousarray(levels[::-1, ::-1]))),
    Corruption("half the size", "The image is 512 pixels wide.", _shrunk),
)  # fmt: skip
"""Corruptions of a single HMI image. For a stale image, serve another image under its name."""

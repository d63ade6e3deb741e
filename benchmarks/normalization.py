"""Measure how long a refit over the mission takes, and how the constants change pixels.

    python benchmarks/normalization.py                 the two reports below
    python benchmarks/normalization.py --days 6000     the refit over another number of days
    python benchmarks/normalization.py --picture FILE  the histograms of the second report

**Refit**: encoded sketches of 8 channels for each day, in one file per instrument and day, as in a
store. A new process decodes and merges all of them and fits the constants. Its targets are 5 s of
wall time (with imports) and 200 MiB of peak memory. Days differ in brightness and noise. There are
200 distinct days; the files of the other days are links to theirs.

**Quality**: the real 193 Å frame, and the same frame with the brightness and contrast of the other
wavelengths, over a solar cycle of 24 frames with one hot pixel in one of them. The report compares
the constants of `max` with those of the default: the normalized value of a typical disk pixel, the
part of [0, 1] that the central 98% of the disk pixels span, how many of 256 gray levels occur on
the disk, and the fraction of saturated pixels.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdoml_core.formats.sketch_file import decode_sketches, encode_sketches
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch, merge, merge_channels
from sdoml_core.normalization.transform import normalize

FRAME = Path(__file__).parents[1] / "sdoml_demo/data/AIA20180820_1248_0193.fits"
BRIGHTNESS = {
    # Median DN/s of a 512² disk pixel relative to 193 Å, and the power that gives its contrast.
    "AIA_0094": (0.006, 1.25),
    "AIA_0131": (0.03, 1.05),
    "AIA_0171": (1.0, 0.95),
    "AIA_0193": (1.0, 1.0),
    "AIA_0211": (0.35, 1.05),
    "AIA_1600": (0.3, 0.25),
    "AIA_1700": (2.5, 0.2),
}
HOT_PIXEL = 3.0e6  # DN/s, as large as the original's constants for the mission
FIRST = date(2010, 5, 13)
DISTINCT_DAYS = 200


def real_frame(resolution: int = 512) -> NDArray[np.float64]:
    """Return the real 193 Å frame in DN/s, summed to a resolution. Negative pixels are set to 0."""
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(FRAME) as file:
        warnings.simplefilter("ignore")
        image = np.nan_to_num(np.asarray(file[1].data, np.float64))
        exposure = float(file[1].header["EXPTIME"])
    block = 1024 // resolution
    image = np.maximum(image, 0).reshape(resolution, block, resolution, block).sum(axis=(1, 3))
    return image[::-1] / exposure


def frame_of(channel: str, base: NDArray[np.float64], cycle: float) -> NDArray[np.float32]:
    """Return the frame as it would be in a channel, at a phase (0 to 1) of the solar cycle."""
    level, power = BRIGHTNESS[channel]
    middle = float(np.median(base[base > 0]))
    activity = 1 + 0.8 * np.sin(np.pi * cycle) * (base / middle > 2)
    return (level * middle * (base / middle) ** power * activity).astype(np.float32)


def write_days(folder: Path, days: int) -> int:
    """Write the sketch files of a store with the given number of days; return their total size."""
    base = real_frame(256)
    rng = np.random.default_rng(0)
    total = 0
    for number in range(days):
        day = folder / f"{FIRST + timedelta(days=number):%Y/%m/%d}"
        day.mkdir(parents=True)
        twin = folder / f"{FIRST + timedelta(days=number % DISTINCT_DAYS):%Y/%m/%d}"
        if number < DISTINCT_DAYS:
            noisy = base * rng.gamma(50, 1 / 50, base.shape)
            phase = number / DISTINCT_DAYS
            aia = {name: Sketch.of(frame_of(name, noisy, phase)) for name in BRIGHTNESS}
            levels = np.clip(rng.normal(0.5, 0.1, base.shape), 0, 1).astype(np.float32)
            (day / "aia.sketch.arrow").write_bytes(encode_sketches(aia))
            (day / "hmi.sketch.arrow").write_bytes(encode_sketches({"HMI_M": Sketch.of(levels)}))
        else:
            for name in ("aia.sketch.arrow", "hmi.sketch.arrow"):
                os.link(twin / name, day / name)
        total += sum(file.stat().st_size for file in day.iterdir())
    return total


def refit(folder: Path, days: int) -> Normalization:
    """Merge the sketches of all days and fit the constants."""
    last = FIRST + timedelta(days=days - 1)
    files = (
        f"{folder}/{FIRST + timedelta(days=number):%Y/%m/%d}/{instrument}.sketch.arrow"
        for number in range(days)
        for instrument in ("aia", "hmi")
    )
    return fit(
        merge_channels(decode_sketches(Path(file).read_bytes()) for file in files),
        method="quantile:0.9999",
        resolution=512,
        first_day=FIRST,
        last_day=last,
        days=days,
    )


def peak_memory() -> float:
    """Return the peak memory of this process in MiB (getrusage would include its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def report_refit(days: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        size = write_days(Path(name), days)
        octaves = np.mean(
            [
                np.ptp(sketch.bins.astype(int)) / 128
                for file in list(Path(name).glob("*/*/*/*.arrow"))[:200]
                for sketch in decode_sketches(file.read_bytes()).values()
            ]
        )
        print(f"Refit over {days} days × 8 channels: {size / 1e6:.0f} MB of sketches")
        print(f"a sketch spans {octaves:.1f} octaves on average")
        for _ in range(2):
            start = time.perf_counter()
            command = [sys.executable, __file__, "--refit", name, "--days", str(days)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"fresh process: {time.perf_counter() - start:.2f} s wall, {done.stdout.strip()}")


def report_quality(picture: Path | None) -> None:
    base = real_frame()
    y, x = np.mgrid[:512, :512] - 255.5
    disk = np.hypot(x, y) < 0.95 * 197.6  # RSUN_OBS / CDELT1 of this frame, halved
    print("\n24 frames through a solar cycle, one hot pixel in one of them")
    print("channel   method           constant  median  span of 98%  levels  saturated")
    for method in ("max", "quantile:0.9999"):
        sketches = {}
        for name in BRIGHTNESS:
            frames = [frame_of(name, base, phase) for phase in np.linspace(0, 1, 24)]
            frames[5][100, 100] = HOT_PIXEL
            sketches[name] = merge(Sketch.of(frame) for frame in frames)
        fitted = fit(
            sketches, method=method, resolution=512, first_day=FIRST, last_day=FIRST, days=1
        )
        for name, statistics in fitted.channels.items():
            frame = frame_of(name, base, 0.5)
            pixels = normalize(frame, fitted.constant(name), np.empty_like(frame))[disk]
            low, median, high = np.quantile(pixels, [0.01, 0.5, 0.99])
            print(
                f"{name}  {method:15}  {fitted.constant(name):8.4g}  {median:6.4f}  "
                f"{high - low:12.4f}  {len(np.unique(np.round(pixels * 255))):6d}  "
                f"{(statistics.saturated or 0) * 100:.4f}%"
            )
    if picture is not None:
        from sdoml_dagster.previews import histograms, png

        picture.write_bytes(png(histograms(fitted, sketches)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=6000)
    parser.add_argument("--picture", type=Path, help="write the histograms to this file")
    parser.add_argument("--refit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.refit:
        version = refit(options.refit, options.days).version
        print(f"{time.process_time():.2f} s of CPU, {peak_memory():.0f} MiB peak, {version}")
        return
    report_refit(options.days)
    report_quality(options.picture)


if __name__ == "__main__":
    main()

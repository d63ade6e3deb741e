"""Draw the pictures of README.md, docs/index.md and docs/calibration.md.

    python -m tools.docs_pictures [--folder docs/images] [--only NAME]

``real-sample`` shows the six real AIA frames of 2014-01-01. ``contact-sheet`` shows frames of the
simulated archive. The other pictures use the real 193 Å frame of 2018-08-20, the HMI catalog JPEG
that was reconstructed from the real magnetogram of that day, and a rendered 1700 Å frame for the
limb of the photosphere.
"""

import argparse
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.normalization import HOT_PIXEL, frame_of, real_frame
from sdoml_core.channels import CHANNELS, parse_channels
from sdoml_core.ephemeris import solar_radius
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.grid import DISK_RADIUS, GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.magnetogram import gauss_to_level, level_to_gauss
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch, merge
from sdoml_core.normalization.transform import normalize
from sdoml_dagster.archive.tree import archive_path
from sdoml_dagster.previews import Panel, contact_sheet
from sdoml_dagster.settings.model import Settings
from sdoml_demo.files import AIA_TREE, HMI_TREE, Frames, default_cache

ROOT = Path(__file__).parents[1]
AIA = ROOT / "sdoml_demo/data/AIA20180820_1248_0193.fits"
HMI = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"
MAGNETOGRAM = ROOT / "sdoml_demo/data/hmi.M_720s_nrt.20180820_090000_TAI.fits"
REAL = ROOT / "sdoml_demo/data/real_2014"
TAKEN = datetime(2018, 8, 20, 9, tzinfo=UTC)
SAMPLE = datetime(2024, 3, 8, 6, tzinfo=UTC)
SIDE = 512
ORIGINAL_SCALE = 0.85


def processed_aia() -> NDArray[np.float32]:
    """Return the real 193 Å frame, processed by the pipeline."""
    frame = decode_aia(AIA.read_bytes())
    factor = DegradationTable.default().factor(frame.observed.date(), frame.wavelength)
    return process_aia(frame, resolution=SIDE, degradation=factor)


def rendered_1700() -> NDArray[np.float32]:
    """Return a processed frame of the simulated archive, at the time of the magnetogram."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = Frames(default_cache(), absences=False).get(
            AIA_TREE + archive_path(CHANNELS["AIA_1700"], TAKEN)
        )
    return process_aia(decode_aia(data), resolution=SIDE, degradation=1.0)


def processed_hmi(scale: float) -> NDArray[np.float32]:
    """Return the reconstructed JPEG, processed by the pipeline."""
    return process_hmi(
        decode_hmi(HMI.read_bytes()), resolution=SIDE, rsun_obs=solar_radius(TAKEN), scale=scale
    )


def radial_mean(frame: NDArray[np.float32], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over position angle at each radius, scaled to a maximum of 1."""
    angle = np.radians(np.arange(0, 360, 0.25))[:, None]
    middle = (frame.shape[0] - 1) / 2
    rows = np.rint(middle + radii * np.sin(angle)).astype(int)
    columns = np.rint(middle + radii * np.cos(angle)).astype(int)
    mean = frame[rows, columns].mean(axis=0, dtype=np.float64)
    return mean / mean.max()


def sheet(title: str, files: dict[str, bytes], columns: int) -> Image.Image:
    """Process files as the pipeline does, and draw them side by side."""
    panels = []
    for channel, data in files.items():
        if channel == "HMI_M":
            image = process_hmi(
                decode_hmi(data),
                resolution=SIDE,
                rsun_obs=solar_radius(SAMPLE),
                scale=GEOMETRIC_SCALE,
            )
            panels.append(Panel(channel, image, SAMPLE))
            continue
        frame = decode_aia(data)
        factor = DegradationTable.default().factor(frame.observed.date(), frame.wavelength)
        image = process_aia(frame, resolution=SIDE, degradation=factor)
        panels.append(Panel(channel, image, frame.observed))
    return contact_sheet(panels, title=title, tile=280, columns=columns)


def real_sample() -> Image.Image:
    files = {
        f"AIA_{wavelength:04d}": (REAL / f"AIA20140101_0000_{wavelength:04d}.fits").read_bytes()
        for wavelength in (94, 131, 171, 193, 211, 335)
    }
    return sheet("Real frames, 2014-01-01 00:00 UTC", files, columns=3)


def rendered_sample() -> Image.Image:
    frames = Frames(default_cache(), absences=False)
    files = {}
    for channel in parse_channels(Settings().channels):
        tree = AIA_TREE if channel.instrument == "AIA" else HMI_TREE
        files[channel.name] = frames.get(tree + archive_path(channel, SAMPLE))
    return sheet("Simulated frames, 2024-03-08 06:00 UTC", files, columns=4)


def bare(axis: Axes, image: NDArray[np.floating], title: str, **options: object) -> None:
    axis.imshow(image, origin="upper", **options)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def coregistration() -> Figure:
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    aia, hmi = processed_aia(), processed_hmi(GEOMETRIC_SCALE)
    bare(left, np.sqrt(aia), "AIA 193 Å, real, 2018-08-20 12:48", cmap="gray", vmax=90)
    bare(middle, hmi, "HMI, reconstructed, 2018-08-20 09:00 TAI", cmap="gray", vmin=0, vmax=1)
    radius, center = DISK_RADIUS * SIDE, (SIDE - 1) / 2
    turn = np.linspace(0, 2 * np.pi, 400)
    for axis in (left, middle):
        axis.plot(
            center + radius * np.cos(turn), center + radius * np.sin(turn), "r--", linewidth=0.8
        )
    radii = np.arange(190, 218, 0.25)
    right.plot(radii, radial_mean(aia, radii), label="AIA 193 Å (real)")
    right.plot(radii, radial_mean(rendered_1700(), radii), label="AIA 1700 Å (rendered)")
    right.plot(radii, radial_mean(hmi, radii), label="HMI, 0.8403")
    right.plot(radii, radial_mean(processed_hmi(ORIGINAL_SCALE), radii), "--", label="HMI, 0.85")
    right.axvline(radius, color="r", linestyle="--", linewidth=0.8)
    right.set(xlabel="pixels from the middle, at 512²", title="mean around the limb")
    right.title.set_fontsize(9)
    right.legend(fontsize=8)
    return figure


def inversion() -> Figure:
    from astropy.io import fits

    with fits.open(MAGNETOGRAM) as hdus:
        truth = np.asarray(hdus[1].data)[::-1]
    field = level_to_gauss(decode_hmi(HMI.read_bytes()).mean(axis=2) / 255)
    y, x = np.mgrid[:1024, :1024] - 511.5
    disk = np.isfinite(truth) & (np.hypot(x, y) < 0.99 * 470)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    gauss = np.linspace(-400, 400, 801)
    left.plot(gauss, 255 * gauss_to_level(gauss))
    left.set(xlabel="field, G", ylabel="gray level", title="the catalog's rendering")
    right.hist2d(
        truth[disk], field[disk], bins=160, range=[(-320, 320)] * 2, norm="log", cmap="viridis"
    )
    right.plot([-264, 271], [-264, 271], "r--", linewidth=0.8)
    right.set(xlabel="real magnetogram, G", ylabel="from the gray level, G", title="inverted")
    return figure


def degradation() -> Figure:
    table = DegradationTable.default()
    first = datetime(2010, 5, 13, tzinfo=UTC).date().toordinal()
    days = [datetime.fromordinal(n).date() for n in range(first, first + 5300, 5)]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    for channel in CHANNELS.values():
        if channel.instrument == "AIA":
            factors = [table.factor(day, channel.wavelength) for day in days]
            axis.plot(days, factors, label=f"{channel.wavelength} Å", linewidth=1)
    axis.axvline(table.calibrated_until, color="r", linestyle="--", linewidth=0.8)
    axis.set(ylabel="factor", title=f"table {table.version}; frozen from the dashed line on")
    axis.legend(fontsize=7, ncols=3)
    return figure


def normalization() -> Figure:
    base = real_frame()
    frames = [frame_of("AIA_0193", base, phase) for phase in np.linspace(0, 1, 24)]
    frames[5][100, 100] = HOT_PIXEL
    sketch = merge(Sketch.of(frame) for frame in frames)
    day = TAKEN.date()
    frame = frame_of("AIA_0193", base, 0.5)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for axis, method in zip(figure.subplots(1, 2), ("max", "quantile:0.9999"), strict=True):
        fitted = fit(
            {"AIA_0193": sketch},
            method=method,
            resolution=SIDE,
            first_day=day,
            last_day=day,
            days=1,
        )
        constant = fitted.constant("AIA_0193")
        pixels = normalize(frame, constant, np.empty_like(frame))
        bare(axis, pixels, f"{method}: c = {constant:,.0f} DN/s", cmap="gray", vmin=0, vmax=1)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--only", metavar="NAME", help="draw only this picture")
    options = parser.parse_args()
    pictures = {
        "real-sample": real_sample,
        "contact-sheet": rendered_sample,
        "coregistration": coregistration,
        "inversion": inversion,
        "degradation": degradation,
        "normalization": normalization,
    }
    for name, draw in pictures.items():
        if options.only not in {None, name}:
            continue
        path = options.folder / f"{name}.png"
        picture = draw()
        if isinstance(picture, Figure):
            picture.savefig(path, dpi=90)
        else:
            picture.save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()

"""Render the dataset card of a release: README.md with a metadata block for dataset hubs.

The card describes the content and configuration of the release. It has no creation date, so equal
releases have equal cards.
"""

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from sdoml_core import __version__
from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.formats.release_files import RELEASE_SPLITS
from sdoml_core.frames.grid import FIELD, TARGET_RADIUS, samples_per_pixel
from sdoml_core.normalization.noise import ADDED_NOISE
from sdoml_dagster.archive.address import public
from sdoml_dagster.days import list_days
from sdoml_dagster.formatting import counted, percent, size_category, size_text, table
from sdoml_dagster.release.coverage import MEANINGS, REASONS
from sdoml_dagster.release.description import ReleaseDescription
from sdoml_dagster.release.reading_examples import reading_examples

TAGS = (
    "webdataset",
    "astronomy",
    "heliophysics",
    "solar-physics",
    "space-weather",
    "sun",
    "sdo",
    "aia",
    "hmi",
    "magnetogram",
)
TASKS = ("image-feature-extraction", "image-to-image", "unconditional-image-generation")
THIS_MACHINE = {"127.0.0.1", "::1", "localhost"}


def render_card(release: ReleaseDescription) -> str:
    """Render the whole card."""
    sections = (
        _metadata(release),
        _summary(release),
        *((_splits(release),) if release.splits else ()),
        reading_examples(release),
        _channels(release),
        _inverse(release),
        _coverage(release),
        _making(release),
        _files(release),
        CREDIT,
    )
    return "\n".join(sections)


def _metadata(release: ReleaseDescription) -> str:
    files = [(split.name, _wildcard(split.shards)) for split in release.splits]
    lines = [
        "---",
        f"pretty_name: {json.dumps(f'{release.name}: full-disk images of the Sun from SDO')}",
        "license: cc0-1.0",
        "size_categories:",
        f"- {size_category(release.samples)}",
        "task_categories:",
        *(f"- {task}" for task in TASKS),
        "tags:",
        *(f"- {tag}" for tag in TAGS),
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(
            line
            for split, path in files or [("train", "*.tar")]
            for line in (f"  - split: {split}", f'    path: "{path}"')
        ),
        "---",
        "",
    ]
    return "\n".join(lines)


def _wildcard(shards: Sequence[str]) -> str:
    """Return a pattern for the shards of one split."""
    return shards[0].rpartition("-")[0] + "-*.tar"


def _summary(release: ReleaseDescription) -> str:
    side = release.resolution
    scale = FIELD / side
    pattern = (
        "every sample has all channels"
        if release.all_complete
        else f"{release.complete:,} have all channels; a sample has no member for a missing channel"
    )
    rows = [
        ("Range", f"{release.first:%Y-%m-%d %H:%M} to {release.last:%Y-%m-%d %H:%M} UTC"),
        ("Cadence", f"{release.settings.cadence_minutes} minutes"),
        ("Channels", ", ".join(release.channels)),
        ("Samples", f"{release.samples:,}; {pattern}"),
        ("Pixels", f"{side}×{side} {release.encoding or release.dtype}, values in [0, 1], "
         "north up"),
        ("Scale", f"{scale:g}″ · RSUN_OBS/{TARGET_RADIUS:g}″ per pixel; the radius of the Sun is "
         f"{TARGET_RADIUS / scale:.2f} pixels on every date"),
        ("Shards", f"{counted(len(release.shards), 'tar file')}, {size_text(release.bytes)}"),
        ("Normalization", f"version `{release.normalization.version}`"),
    ]  # fmt: skip
    instruments = " and ".join(
        {"AIA": "ultraviolet images (AIA)", "HMI": "line-of-sight magnetograms (HMI)"}[known]
        for known in INSTRUMENTS
        if any(CHANNELS[name].instrument == known for name in release.channels)
    )
    return (
        f"# {release.name}\n\n"
        f"Full-disk {instruments} of the Sun from NASA's Solar Dynamics Observatory, ready for "
        "machine learning. The Sun has the same size and orientation in all frames. The shards are "
        "in the SDOML-lite format: plain tar files with "
        f"{'NumPy arrays' if release.encoding is None else 'compressed FITS images'} (WebDataset), "
        "and an index.\n\n![One sample](contact_sheet.png)\n\n" + table(("", ""), rows)
    )


def _splits(release: ReleaseDescription) -> str:
    rows = [
        (
            f"`{split.name}`",
            ", ".join(str(one) for one in split.ranges),
            f"{split.samples:,}",
            f"`{split.shards[0]}` …" if len(split.shards) > 1 else f"`{split.shards[0]}`",
        )
        for split in release.splits
    ]
    gap = (
        f"There is a gap of at least {counted(release.guard_days, 'day')} between the splits.\n"
        if release.guard_days
        else "There is no gap between the splits.\n"
    )
    return "## Splits\n\n" + table(("split", "days", "samples", "shards"), rows) + f"\n{gap}"


def _channels(release: ReleaseDescription) -> str:
    rows: list[tuple[str, ...]] = []
    for name in release.channels:
        statistics = release.normalization.channels[name]
        aia = statistics.transform == "sqrt"
        factor = samples_per_pixel(release.resolution)
        unit = f"1/{factor:g} DN/s/pixel" if aia else "level"
        rows.append(
            (
                f"`{name}`",
                f"{CHANNELS[name].wavelength} Å" if aia else "magnetic field, Fe I 6173 Å",
                f"{release.normalization.constant(name):.6g}",
                unit,
                "y = √(min(x, c)/c)" if aia else "y = x",
                ""
                if statistics.saturated is None or not aia
                else f"{100 * statistics.saturated:.2g}%",
                *([f"1/{1 / release.steps[name]:.0f}"] if release.steps else []),
            )
        )
    header: tuple[str, ...] = (
        "channel",
        "observes",
        "constant c",
        "unit of x",
        "transform",
        "above c",
    )
    if release.steps:
        header += ("step of y",)
    fitted = release.normalization
    seen = ""
    if release.splits:
        seen = (
            f" They were fitted to the `{release.fitted_to}` split only."
            if release.fitted_to
            else " **They were also fitted to days outside the training split**, as requested."
        )
    return (
        "## Channels and normalization\n\n"
        + table(header, rows)
        + f"\nThe constants (version `{fitted.version}`) were fitted with `{fitted.method}` to "
        f"{counted(fitted.days, 'day')} from {fitted.first_day} to {fitted.last_day}.{seen}\n"
        "`normalization.json` contains the constants at full precision, and each channel's "
        "quantiles, mean and standard deviation.\n"
    )


def _inverse(release: ReleaseDescription) -> str:
    aia = any(CHANNELS[name].instrument == "AIA" for name in release.channels)
    hmi = "HMI_M" in release.channels
    lines = ["### Back to physical units", ""]
    if aia:
        lines += [
            f"- **AIA**: x = c·y² is the sum of {samples_per_pixel(release.resolution):g} samples "
            "in DN/s per camera pixel (0.6″), corrected for exposure time and for the instrument's "
            f"degradation. x/{samples_per_pixel(release.resolution):g} is in DN/s per camera "
            "pixel, the unit of AIA's response functions. Values above c were clipped to c.",
        ]
    if hmi:
        lines += [
            "- **HMI**: y is the gray level of the catalog image, divided by 255. With s = "
            "3000·y·255/253 − "
            "1500, the field B in gauss solves 400·B/(|B| + 30)^0.75 = s "
            "(`sdoml_core.frames.magnetogram.level_to_gauss`). It saturates at +271 G and "
            "−264 G; y = 127/255 is about zero field, and y = 0 is off the disk or under the "
            "label. y is interpolated at the edges of these areas.",
        ]
    lines += [
        '- With the loader: `SDOMLlite(..., units="dn")` and `units="gauss"`.',
        "",
    ]
    return "\n".join(lines)


def _coverage(release: ReleaseDescription) -> str:
    sums = release.coverage.by_channel()
    shown = ["ok", *(n for n in REASONS[1:] if any(count[n] for count in sums.values()))]
    rows = [
        (
            f"`{name}`",
            f"{count['expected']:,}",
            percent(count["ok"], count["expected"]),
            *(f"{count[reason]:,}" for reason in shown),
        )
        for name, count in sums.items()
    ]
    header = ("channel", "expected", "coverage", *(n.replace("_", " ") for n in shown))
    absent = release.coverage.days_without_shard
    days = (
        f"{len(absent):,} of {len(release.coverage.by_day()):,} days in this range were not built: "
        f"{list_days(absent)}."
        if absent
        else f"All {len(release.coverage.by_day()):,} days in this range were built."
    )
    meanings = "".join(f"- *{n.replace('_', ' ')}*: {MEANINGS[n]}\n" for n in shown)
    return (
        "## Coverage\n\n"
        + table(header, rows)
        + f"\n{meanings}\n{days} `coverage.parquet` has these counts for each day and "
        "channel.\n"
    )


def _making(release: ReleaseDescription) -> str:
    settings = release.settings
    lines = ["## How it was built", ""]
    hosts = set()
    for instrument, roots in (("AIA", settings.aia_roots), ("HMI", settings.hmi_roots)):
        if any(CHANNELS[name].instrument == instrument for name in release.channels):
            hosts |= {urlsplit(root).hostname for root in roots}
            listed = ", ".join(f"<{public(root)}>" for root in roots)
            lines.append(f"- {instrument} archive roots, in order of use: {listed}.")
    if release.hosts - hosts:
        others = ", ".join(sorted(release.hosts - hosts))
        lines.append(f"- Other hosts that frames were fetched from: {others}.")
    if (hosts | release.hosts) & THIS_MACHINE:
        lines.append(
            "- **An archive on the machine that built this release may be the simulator that comes "
            "with sdoml-lite.** Its frames are rendered, not observed."
        )
    lines += [
        f"- The Sun is scaled about the center of the frame by {TARGET_RADIUS:g}″/RSUN_OBS "
        "(bilinear).",
    ]
    if any(CHANNELS[name].instrument == "AIA" for name in release.channels):
        lines.append(
            "- AIA: Negative pixels are set to 0. Frames are divided by the exposure time and by "
            f"the degradation factor, and summed in blocks to {release.resolution}×"
            f"{release.resolution}. Frames whose QUALITY marks them as unfit for science are left "
            "out. If the paired minute has no good frame, the nearest good frame within "
            f"{settings.aia_tolerance_minutes} minutes replaces it. "
            "`observed` in the index is the true time of each frame."
        )
    if "HMI_M" in release.channels:
        lines.append(
            "- HMI: The JPEG image from the catalog is resampled to the AIA grid (scale "
            f"{settings.hmi_scale}) and averaged in blocks. Its label is masked."
        )
    lines += [f"- AIA degradation: {text}." for text in release.coverage.degradation_tables]
    if release.encoding is not None:
        lines.append(
            f"- Pixels are stored as integers ({release.encoding}): y is BSCALE times the integer. "
            "The error is at most half a step. Rounding adds at most "
            f"{ADDED_NOISE[release.encoding]:.0%} to the photon noise of the quiet disk."
        )
    if release.dtype == "float16":
        lines.append("- Pixels are rounded to float16 (11 bits). The error is at most 0.05%.")
    lines += [f"- Built by sdoml-lite {__version__}.", ""]
    return "\n".join(lines)


def _files(release: ReleaseDescription) -> str:
    days = counted(release.days_per_shard, "built day")
    only = " Only samples with every channel were released." if release.complete_only else ""
    split_row = []
    if release.splits:
        split_row = [(f"`{RELEASE_SPLITS}`", "ranges and shards of each split")]
    rows = [
        (
            f"`{release.shards[0]}` …" if len(release.shards) > 1 else f"`{release.shards[0]}`",
            f"shards with {days} each; days without samples have no shard. An example of a member "
            f"name is `{release.member}`. The time in the name (UTC) is the HMI minute.{only}",
        ),
        ("`index.parquet`",
         "one row per sample: the shard, and for each channel the position of the frame, "
         "crc32, true time, exposure, QUALITY, RSUN_OBS and degradation factor"),
        ("`normalization.json`", "constants and statistics of each channel"),
        ("`coverage.parquet`", "status of the expected frames, by day and channel"),
        ("`contact_sheet.png`", "the picture above"),
        *split_row,
        ("`SHA256SUMS`", "checksums of all files: `sha256sum -c SHA256SUMS`"),
    ]  # fmt: skip
    return "## Files\n\n" + table(("file", "content"), rows)


CREDIT = """## License and credit

SDO data are public. The JSOC at Stanford waives its rights to the AIA and HMI data that it
distributes ([CC0-1.0](http://jsoc.stanford.edu/JSOC_Data_Policy.html)); NASA asks users to follow
its [rules for data use](https://sdo.gsfc.nasa.gov/data/rules.php) and to give credit:

> Courtesy of NASA/SDO and the AIA and HMI science teams.

This is a derived product and differs from the original data. Frames are rescaled, corrected,
clipped and normalized. The HMI frames come from browse images, not from calibrated magnetograms.
"""

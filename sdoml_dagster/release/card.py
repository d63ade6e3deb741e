"""The dataset card of a release: README.md with the metadata block that dataset hubs read.

It states what the release holds and what it was configured to be made from, nothing that it
cannot know; no date of its making, so that the same release has the same card.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from sdoml_core import __version__
from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.frames.grid import FIELD, TARGET_RADIUS
from sdoml_core.normalization.constants import Normalization
from sdoml_dagster.archive.circuit_breaker import public
from sdoml_dagster.days import list_days
from sdoml_dagster.formatting import counted, percent, size_category, size_text, table
from sdoml_dagster.release.coverage import MEANINGS, REASONS, ReleaseCoverage
from sdoml_dagster.release.reading_examples import loading
from sdoml_dagster.settings.model import Settings

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


@dataclass(frozen=True, slots=True)
class Card:
    """What a card tells, and its text."""

    name: str
    settings: Settings
    normalization: Normalization
    coverage: ReleaseCoverage
    channels: tuple[str, ...]
    """Those that occur, in canonical order."""
    dtype: str
    resolution: int
    member: str
    """Name of one member, as an example."""
    shards: tuple[str, ...]
    bytes: int
    """Of all shards."""
    first: datetime
    last: datetime
    """Slots of the first and the last sample."""
    samples: int
    complete: int
    """Samples that have all of `channels`."""
    alike: bool
    """Whether the first samples have the same channels."""
    complete_only: bool
    days_per_shard: int

    def markdown(self) -> str:
        """The whole card."""
        sections = (
            self._metadata(),
            self._summary(),
            loading(
                self.name,
                channels=self.channels,
                shards=self.shards,
                member=self.member,
                whole=self.complete == self.samples,
                alike=self.alike,
            ),
            self._channels(),
            self._inverse(),
            self._coverage(),
            self._making(),
            self._files(),
            CREDIT,
        )
        return "\n".join(sections)

    def _metadata(self) -> str:
        lines = [
            "---",
            f"pretty_name: {json.dumps(f'{self.name}: full-disk images of the Sun from SDO')}",
            "license: cc0-1.0",
            "size_categories:",
            f"- {size_category(self.samples)}",
            "task_categories:",
            *(f"- {task}" for task in TASKS),
            "tags:",
            *(f"- {tag}" for tag in TAGS),
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            '    path: "*.tar"',
            "---",
            "",
        ]
        return "\n".join(lines)

    def _summary(self) -> str:
        side = self.resolution
        scale = FIELD / side
        pattern = (
            "every sample has all of them"
            if self.complete == self.samples
            else (
                f"{self.complete:,} have all of them; a channel that is missing is a missing member"
            )
        )
        rows = [
            ("Range", f"{self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC"),
            ("Cadence", f"{self.settings.cadence_minutes} minutes"),
            ("Channels", ", ".join(self.channels)),
            ("Samples", f"{self.samples:,}; {pattern}"),
            ("Pixels", f"{side}×{side} {self.dtype}, values in [0, 1], north up"),
            ("Scale", f"{scale:g}″ · RSUN_OBS/{TARGET_RADIUS:g}″ per pixel: on every date the "
             f"Sun's radius is {TARGET_RADIUS / scale:.2f} pixels"),
            ("Shards", f"{counted(len(self.shards), 'tar file')}, {size_text(self.bytes)}"),
            ("Normalisation", f"version `{self.normalization.version}`"),
        ]  # fmt: skip
        instruments = " and ".join(
            {"AIA": "ultraviolet images (AIA)", "HMI": "line-of-sight magnetograms (HMI)"}[known]
            for known in INSTRUMENTS
            if any(CHANNELS[name].instrument == known for name in self.channels)
        )
        return (
            f"# {self.name}\n\n"
            f"Full-disk {instruments} of the Sun from NASA's Solar Dynamics Observatory, brought "
            "to one size and orientation and ready for machine learning. The shards are in the "
            "format of SDOML-lite: plain tar files of NumPy arrays (WebDataset), here with an "
            "index.\n\n![One sample](contact_sheet.png)\n\n" + table(("", ""), rows)
        )

    def _channels(self) -> str:
        rows = []
        for name in self.channels:
            statistics = self.normalization.channels[name]
            aia = statistics.transform == "sqrt"
            unit = "DN/s" if aia else "level"
            rows.append(
                (
                    f"`{name}`",
                    f"{CHANNELS[name].wavelength} Å" if aia else "line-of-sight field, Fe I 6173 Å",
                    f"{self.normalization.constant(name):.6g}",
                    unit,
                    "y = √(min(x, c)/c)" if aia else "y = x",
                    ""
                    if statistics.saturated is None or not aia
                    else f"{100 * statistics.saturated:.2g} %",
                )
            )
        fitted = self.normalization
        return (
            "## Channels and normalisation\n\n"
            + table(("channel", "what", "constant c", "unit of x", "transform", "above c"), rows)
            + f"\nFitted by `{fitted.method}` to {counted(fitted.days, 'day')} from "
            f"{fitted.first_day} to {fitted.last_day}; version `{fitted.version}`. "
            "`normalization.json` has the constants\nto the last digit, and quantiles, mean and "
            "standard deviation.\n"
        )

    def _inverse(self) -> str:
        aia = any(CHANNELS[name].instrument == "AIA" for name in self.channels)
        hmi = "HMI_M" in self.channels
        lines = ["### Back to physical units", ""]
        if aia:
            lines += [
                f"- **AIA**: x = c·y², in DN/s per pixel of this {self.resolution}×"
                f"{self.resolution} grid, corrected for exposure time and for the instrument's "
                "degradation. What was above c is c.",
            ]
        if hmi:
            lines += [
                "- **HMI**: y is grey/255 of the catalogue's rendering. With s = 3000·y·255/253 − "
                "1500, the field B in gauss solves 400·B/(|B| + 30)^0.75 = s "
                "(`sdoml_core.frames.magnetogram.level_to_gauss`). It saturates at +271 G and "
                "−264 G; y = 127/255 is about zero field, and y = 0 is off the disk or under the "
                "label. Between such pixels and their neighbors y is interpolated.",
            ]
        lines += [
            '- With the loader: `SDOMLlite(..., units="dn")` and `units="gauss"`.',
            "",
        ]
        return "\n".join(lines)

    def _coverage(self) -> str:
        sums = self.coverage.by_channel()
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
        absent = sorted({count.day for count in self.coverage.counts if count.not_built})
        days = (
            f"Days of this range that were not built, {len(absent):,} of "
            f"{len(self.coverage.by_day()):,}: {list_days(absent)}."
            if absent
            else f"Days of this range: {len(self.coverage.by_day()):,}, all of them built."
        )
        meanings = "".join(f"- *{n.replace('_', ' ')}*: {MEANINGS[n]}\n" for n in shown)
        return (
            "## Coverage\n\n"
            + table(header, rows)
            + f"\n{meanings}\n{days} `coverage.parquet` has these counts for each day and "
            "channel.\n"
        )

    def _making(self) -> str:
        settings = self.settings
        lines = ["## How it was made", ""]
        hosts = set()
        for instrument, roots in (("AIA", settings.aia_roots), ("HMI", settings.hmi_roots)):
            if any(CHANNELS[name].instrument == instrument for name in self.channels):
                hosts |= {urlsplit(root).hostname for root in roots}
                listed = ", ".join(f"<{public(root)}>" for root in roots)
                lines.append(f"- {instrument} archive roots that this build was configured with, "
                             f"in the order asked: {listed}.")  # fmt: skip
        if hosts & THIS_MACHINE:
            lines.append(
                "- **Roots on the machine that built it need not be the archive.** The server that "
                "comes with sdoml-lite gives frames that are rendered, not observed."
            )
        lines += [
            f"- The Sun is scaled about the centre of the frame by {TARGET_RADIUS:g}″/RSUN_OBS "
            "(bilinear).",
        ]
        if any(CHANNELS[name].instrument == "AIA" for name in self.channels):
            lines.append(
                "- AIA: negative pixels set to 0, divided by exposure time and degradation factor, "
                f"summed in blocks to {self.resolution}×{self.resolution}. Frames whose QUALITY "
                "says that they are no science images are left out. Where the paired minute has no "
                "good frame, the nearest within "
                f"{settings.aia_tolerance_minutes} minutes stands in; "
                "`observed` in the index is the true time of each frame."
            )
        if "HMI_M" in self.channels:
            lines.append(
                f"- HMI: JPG of the image catalogue on the grid of AIA (scale "
                f"{settings.hmi_scale}), its label masked, averaged in blocks."
            )
        lines += [f"- AIA degradation: {text}." for text in self.coverage.degradation_tables]
        if self.dtype == "float16":
            lines.append("- Pixels are rounded to float16: 11 bits, 0.05 % at the most.")
        lines += [f"- Written by sdoml-lite {__version__}.", ""]
        return "\n".join(lines)

    def _files(self) -> str:
        days = counted(self.days_per_shard, "built day")
        only = " Only samples with every channel were kept." if self.complete_only else ""
        rows = [
            (
                f"`{self.shards[0]}` …" if len(self.shards) > 1 else f"`{self.shards[0]}`",
                f"shards, {days} each, without a number for days that have no sample; members such "
                f"as `{self.member}`, whose time (UTC) is the HMI minute.{only}",
            ),
            ("`index.parquet`",
             "one row per sample: shard, and per channel the place of its frame, "
             "crc32, true time, exposure, QUALITY, RSUN_OBS, degradation factor"),
            ("`normalization.json`", "constants and statistics of each channel"),
            ("`coverage.parquet`", "what became of the expected frames, by day and channel"),
            ("`contact_sheet.png`", "the picture above"),
            ("`SHA256SUMS`", "checksums of all files: `sha256sum -c SHA256SUMS`"),
        ]  # fmt: skip
        return "## Files\n\n" + table(("file", "content"), rows)


CREDIT = """## Licence and credit

SDO data are public. The JSOC at Stanford waives its rights to the AIA and HMI data that it
distributes ([CC0-1.0](http://jsoc.stanford.edu/JSOC_Data_Policy.html)); NASA asks users to follow
its [rules for data use](https://sdo.gsfc.nasa.gov/data/rules.php) and to give credit:

> Courtesy of NASA/SDO and the AIA and HMI science teams.

This is a derived product, different from the original data: frames are rescaled, corrected,
clipped and normalised. The HMI frames come from browse images, not from calibrated magnetograms.
"""

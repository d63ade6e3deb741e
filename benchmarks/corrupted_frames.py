"""Count the corrupted frames that are rejected, corrected, flagged or passed, and false alarms.

``python -m benchmarks.corrupted_frames --output benchmarks/results/corrupted_frames.md``

Each kind of corruption in `sdoml_demo.corruptions`, and a few kinds that need a second frame, go
through the pipeline: the simulated archive serves the corrupted frames over HTTP, some hours are
fetched and processed, and their frame table is read.

- AIA: hourly frames of 2014-01-01 from 00:00 to 09:00. The real frames at 00:00 and the rendered
  frames at 06:00 are corrupted.
- HMI: images of 2018-08-20, every 15 minutes from 08:00 to 17:00. The JPEG at 09:00 TAI, which was
  reconstructed from the real magnetogram, and five rendered images are corrupted.

The other frames stay intact. False alarms are good frames that are rejected or flagged. They are
counted next to corrupted frames, in the same hours of an intact day, and in six hours each of many
days of a rendered year. True flags, such as a short exposure in a simulated flare, do not count.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS, Channel, Instrument
from sdoml_core.errors import FrameError
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.frames.flags import VOCABULARY
from sdoml_core.frames.grid import SIZE
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.inspection import inspect_frame
from sdoml_dagster.archive.tree import archive_path
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo import corruptions
from sdoml_demo.files import AIA_TREE, HMI_TREE, Frames, default_cache
from sdoml_demo.render.fits_file import FitsFile, read_file, split_header, write_file
from sdoml_demo.server import Archive

ROOT = Path(__file__).parents[1]
REAL_2014 = ROOT / "sdoml_demo/data/real_2014"
REAL_2018 = ROOT / "sdoml_demo/data/AIA20180820_1248_0193.fits"
RECONSTRUCTED = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"

AIA_DAY, HMI_DAY = date(2014, 1, 1), date(2018, 8, 20)
AIA_CHANNELS = tuple(name for name in CHANNELS if name.startswith("AIA") and name != "AIA_0304")
AIA_HOURS, HMI_HOURS = (0, 9), (8, 17)
RESOLUTION = 256
FLIPS = 200

TRUE_FLAGS = {"short_exposure"}
"""Flags that good rendered frames can have, because simulated flares shorten the exposure."""

SAME = 0.02
"""Maximum median relative difference of the pixels of a frame that is considered correct."""

Alter = Callable[[str, bytes], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """The processed frames of a day."""

    rows: dict[tuple[datetime, str], FrameRow]
    pixels: dict[tuple[datetime, str], NDArray[np.float32]]


@dataclass
class Outcome:
    """The results for one kind of corruption."""

    refused: int = 0
    corrected: int = 0
    flagged: int = 0
    passed: int = 0
    alarms: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    reason: str = ""

    @property
    def total(self) -> int:
        """Number of corrupted frames."""
        return self.refused + self.corrected + self.flagged + self.passed


class Bench:
    """Serves frames, builds days, and caches rendered frames."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self.frames = Frames(cache, absences=False)

    def good(self, channel: Channel, slot: datetime) -> bytes:
        """Return the intact frame from the archive."""
        tree = AIA_TREE if channel.instrument == "AIA" else HMI_TREE
        data = self.frames.get(tree + archive_path(channel, slot))
        assert data is not None
        return data

    def build(
        self,
        day: date,
        channels: Sequence[str],
        cadence: int,
        alter: Alter | None = None,
        *,
        hours: tuple[int, int] = (0, 24),
    ) -> Day:
        """Fetch and process some hours of a day."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        settings = Settings(
            start=midnight + timedelta(hours=hours[0]),
            end=midnight + timedelta(hours=hours[1]),
            channels=tuple(channels),
            cadence_minutes=cadence,
            resolution=RESOLUTION,
            aia_tolerance_minutes=0,
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            Archive(cache=self._cache, absences=False, alter=alter) as archive,
        ):
            store = Store(folder)
            rows: dict[tuple[datetime, str], FrameRow] = {}
            pixels: dict[tuple[datetime, str], NDArray[np.float32]] = {}
            stored = StoredDay(store, day)
            for instrument in sorted({CHANNELS[name].instrument for name in channels}):
                for row in self._one(day, instrument, settings, store, archive):
                    rows[row.slot, row.channel] = row
                    if row.row is not None:
                        frame = stored.frame(row, resolution=RESOLUTION)
                        pixels[row.slot, row.channel] = np.array(frame)
        return Day(rows, pixels)

    @staticmethod
    def _one(
        day: date, instrument: Instrument, settings: Settings, store: Store, archive: Archive
    ) -> Iterable[FrameRow]:
        root = archive.aia_root if instrument == "AIA" else archive.hmi_root
        with ArchiveClient([root], read_timeout=60, attempts=1) as client:
            fetch_day(
                day,
                instrument,
                settings=settings,
                store=store,
                client=client,
                report=lambda _: None,
            )
        process_day(day, instrument, settings=settings, store=store, report=lambda _: None)
        return StoredDay(store, day).frame_table(instrument) or ()


def flag_names(flags: int | None) -> set[str]:
    return {flag.name for flag in VOCABULARY if (flags or 0) >> flag.bit & 1}


def judge(kind: Outcome, corrupted: set[tuple[datetime, str]], day: Day, good: Day) -> None:
    """Compare a day that has corrupted frames with the good day, and count the results."""
    for key, row in day.rows.items():
        added = flag_names(row.flags) - flag_names(good.rows[key].flags)
        if key not in corrupted:
            kind.alarms += row.status != good.rows[key].status or bool(added)
        elif row.status != "ok":
            kind.refused += 1
            kind.reason = row.reason or row.status
        else:
            kind.flags.update(added)
            if _same(day.pixels[key], good.pixels[key]):
                kind.corrected += 1
            elif added:
                kind.flagged += 1
            else:
                kind.passed += 1


def _same(pixels: NDArray[np.float32], truth: NDArray[np.float32]) -> bool:
    """Return whether nearly all bright pixels are correct, with a small median difference."""
    bright = truth > np.median(truth)
    difference = np.abs(pixels[bright] - truth[bright]) / truth[bright]
    return float(np.median(difference)) < SAME and float((difference > 0.5).mean()) < 0.005


def aia_kinds(bench: Bench) -> dict[str, tuple[str, Callable[[Channel, datetime, bytes], bytes]]]:
    """Return the corruptions of AIA frames by name, each with its meaning."""

    def alone(kind: corruptions.Corruption) -> Callable[[Channel, datetime, bytes], bytes]:
        return lambda _channel, _slot, data: kind.change(data)

    def stale(hours: int) -> Callable[[Channel, datetime, bytes], bytes]:
        return lambda channel, slot, data: corruptions.with_pixels_of(
            data, bench.good(channel, slot + timedelta(hours=hours))
        )

    def other_channel(channel: Channel, slot: datetime, data: bytes) -> bytes:
        place = AIA_CHANNELS.index(channel.name)
        other = CHANNELS[AIA_CHANNELS[(place + 1) % len(AIA_CHANNELS)]]
        return corruptions.with_pixels_of(data, bench.good(other, slot))

    kinds = {kind.name: (kind.meaning, alone(kind)) for kind in corruptions.AIA}
    kinds["stale, one hour"] = (
        "The header is from this slot, but the pixels are from the previous slot.",
        stale(-1),
    )
    kinds["stale, a day"] = (
        "The header is from this day, but the pixels are from the previous day.",
        stale(-24),
    )
    kinds["wrong channel"] = (
        "The header is from this channel, but the pixels are from another channel.",
        other_channel,
    )
    kinds["cut off"] = "The file ends at 60%.", lambda _c, _s, data: data[: len(data) * 3 // 5]
    kinds["bit flipped"] = "One bit of the compressed pixels is flipped.", _one_bit
    return kinds


def _later(data: bytes, real: bytes, hours: int) -> bytes:
    """Combine a rendered frame's header with a real frame's pixels and new noise.

    A real frame then has similar neighbors. The noise is a sixteenth of a DN: more noise would
    change the statistics, and without noise the frame would be stale.
    """
    noise = np.random.default_rng(hours).integers(-1, 2, (SIZE, SIZE), dtype=np.int32)
    return write_file(FitsFile(*split_header(data), read_file(real).pixels + noise), {})


def _one_bit(_channel: Channel, _slot: datetime, data: bytes) -> bytes:
    return data[:400_000] + bytes([data[400_000] ^ 4]) + data[400_001:]


def aia(bench: Bench, only: str | None) -> dict[str, tuple[str, Outcome]]:
    """Apply each kind of corruption to real and rendered frames of `AIA_DAY`."""
    real = {
        AIA_TREE + archive_path(channel, datetime.fromisoformat(f"{AIA_DAY}T00:00+00:00")): path
        for channel in CHANNELS.values()
        if channel.instrument == "AIA"
        and (path := REAL_2014 / f"AIA20140101_0000_{channel.wavelength:04d}.fits").exists()
    }

    after = {
        path.replace("0000_", f"0{hours}00_").replace("H0000", f"H0{hours}00"): (path, hours)
        for path in real
        for hours in (1, 2)
    }

    def with_real(path: str, data: bytes) -> bytes:
        if path in after:
            source, hours = after[path]
            return _later(data, real[source].read_bytes(), hours)
        return real[path].read_bytes() if path in real else data

    good = bench.build(AIA_DAY, AIA_CHANNELS, 60, with_real, hours=AIA_HOURS)
    results = {}
    alone = Outcome(alarms=count_alarms(good))
    results["(none)"] = "The good day, with six real frames.", alone
    for name, (meaning, change) in aia_kinds(bench).items():
        if only is not None and only not in name:
            continue
        corrupted = {
            (slot, channel)
            for slot, channel in good.rows
            if slot.hour % 6 == 0 and (slot.hour or CHANNELS[channel].wavelength < 1000)
        }
        by_path = {
            AIA_TREE + archive_path(CHANNELS[channel], slot): (CHANNELS[channel], slot)
            for slot, channel in corrupted
        }

        def alter(
            path: str,
            data: bytes,
            by_path: Mapping[str, tuple[Channel, datetime]] = by_path,
            change: Callable[[Channel, datetime, bytes], bytes] = change,
        ) -> bytes:
            data = with_real(path, data)
            return change(*by_path[path], data) if path in by_path else data

        outcome = Outcome()
        day = bench.build(AIA_DAY, AIA_CHANNELS, 60, alter, hours=AIA_HOURS)
        judge(outcome, corrupted, day, good)
        results[name] = meaning, outcome
        print(f"{name}: {outcome}", flush=True)
    return results


def hmi(bench: Bench, only: str | None) -> dict[str, tuple[str, Outcome]]:
    """Apply each kind of corruption to the reconstructed and rendered images of `HMI_DAY`."""
    reconstructed = HMI_TREE + f"{HMI_DAY:%Y/%m/%d}/{HMI_DAY:%Y%m%d}_090000_M_1k.jpg"

    def with_reconstructed(path: str, data: bytes) -> bytes:
        return RECONSTRUCTED.read_bytes() if path == reconstructed else data

    good = bench.build(HMI_DAY, ["HMI_M"], 15, with_reconstructed, hours=HMI_HOURS)
    slots = sorted(slot for slot, _ in good.rows)
    corrupted = {(slot, "HMI_M") for slot in slots[4::6]}
    paths = {HMI_TREE + archive_path(CHANNELS["HMI_M"], slot): slot for slot, _ in corrupted}
    assert reconstructed in paths
    kinds: dict[str, tuple[str, Callable[[str, bytes], bytes]]] = {
        kind.name: (kind.meaning, lambda _path, data, kind=kind: kind.change(data))  # type: ignore[misc]
        for kind in corruptions.HMI
    }

    def stale(path: str, _data: bytes) -> bytes:
        return bench.good(CHANNELS["HMI_M"], paths[path] - timedelta(minutes=15))

    kinds["stale"] = "The image is that of the previous slot.", stale
    kinds["cut off"] = "The file ends at 60%.", lambda _path, data: data[: len(data) * 3 // 5]
    results = {"(none)": ("The good day, with the reconstructed JPEG.",
                          Outcome(alarms=count_alarms(good)))}  # fmt: skip
    for name, (meaning, change) in kinds.items():
        if only is not None and only not in name:
            continue

        def alter(path: str, data: bytes, change: Callable[[str, bytes], bytes] = change) -> bytes:
            data = with_reconstructed(path, data)
            return change(path, data) if path in paths else data

        outcome = Outcome()
        day = bench.build(HMI_DAY, ["HMI_M"], 15, alter, hours=HMI_HOURS)
        judge(outcome, corrupted, day, good)
        results[name] = meaning, outcome
        print(f"{name}: {outcome}", flush=True)
    return results


def count_alarms(day: Day) -> int:
    """Count the good frames that are rejected or have a false flag."""
    return sum(
        row.status != "ok" or bool(flag_names(row.flags) - TRUE_FLAGS) for row in day.rows.values()
    )


def bit_flips(bench: Bench) -> dict[str, dict[str, int]]:
    """Flip one bit of a JPEG's compressed pixels, `FLIPS` times; count rejected and doubted files.

    A flip is harmful if more than 1% of the processed pixels change by more than one gray level.
    """
    slot = datetime.fromisoformat(f"{HMI_DAY}T09:00+00:00")
    channel = CHANNELS["HMI_M"]
    results = {}
    for name, data in (
        ("reconstructed", RECONSTRUCTED.read_bytes()),
        ("rendered", bench.good(channel, slot)),
    ):
        truth = _levels(data)
        counts: Counter[str] = Counter()
        for seed in range(FLIPS):
            damaged = corruptions.flip_pixel_bits(data, seed=seed)
            try:
                pixels = _levels(damaged)
                wrong = float((np.abs(pixels - truth) > 1).mean())
            except OSError:
                wrong = 1.0
            refused = _caught(damaged, channel, slot)
            harmful = wrong > 0.01
            counts["caught"] += refused
            counts["harmful"] += harmful
            counts["harmful and caught"] += harmful and refused
            counts["unchanged pixels"] += wrong == 0
        results[name] = dict(counts)
        print(name, results[name], flush=True)
    return results


def _levels(data: bytes) -> NDArray[np.float32]:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        levels = np.asarray(image.convert("L"), np.float32).copy()
    levels[988:, :400] = 0  # the label
    return levels


def _caught(data: bytes, channel: Channel, slot: datetime) -> bool:
    """Return whether a file is rejected, or doubted and therefore fetched again."""
    try:
        facts = inspect_frame(data, channel, slot, max_missing_fraction=0.05)
    except FrameError:
        return True
    return facts.flaw is not None or getattr(facts, "doubt", None) is not None


def year(bench: Bench, days: int, names: Sequence[str]) -> tuple[int, Counter[str], list[str]]:
    """Judge good rendered frames over a year. Return their number, flags and false alarms."""
    found: Counter[str] = Counter()
    examples: list[str] = []
    total = 0
    first = date(2023, 7, 1)
    for number in range(days):
        day = first + timedelta(days=round(number * 365 / days))
        built = bench.build(day, names, 60, hours=(6, 12))
        for (slot, channel), row in sorted(built.rows.items()):
            total += 1
            what = [row.status] if row.status != "ok" else sorted(flag_names(row.flags))
            found.update(what)
            if set(what) - TRUE_FLAGS and len(examples) < 40:
                examples.append(
                    f"{slot:%Y-%m-%d %H:%M} {channel}: {', '.join(what)} {row.reason or ''}"
                )
        print(f"{day}: {total} frames, {dict(found)}", flush=True)
    return total, found, examples


def table(results: dict[str, tuple[str, Outcome]], before: dict[str, str]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| kind | what is wrong | frames | rejected | correct pixels | flagged | passed "
        "| flags | false alarms | passed in an earlier version |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (meaning, o) in results.items():
        flags = ", ".join(f"{flag} {count}" for flag, count in sorted(o.flags.items()))
        lines.append(
            f"| {name} | {meaning} | {o.total} | {o.refused} | {o.corrected} | {o.flagged} "
            f"| {o.passed} | {flags} | {o.alarms} | {before.get(name, '')} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="cache of rendered frames"
    )
    parser.add_argument("--only", help="run only kinds whose name contains this text")
    parser.add_argument(
        "--days", type=int, default=52, help="number of days of the year to check (%(default)s)"
    )
    parser.add_argument(
        "--channels",
        default=",".join(CHANNELS),
        help="channels to check over the year (%(default)s)",
    )
    parser.add_argument("--part", choices=("aia", "hmi", "flips", "year"), action="append")
    parser.add_argument("--before", type=Path, help="outcomes of an earlier version, from --save")
    parser.add_argument("--save", type=Path, help="write the outcomes as JSON")
    parser.add_argument("--output", type=Path, help="write the report")
    options = parser.parse_args()
    parts = options.part or ["aia", "hmi", "flips", "year"]
    bench = Bench(options.cache)
    started = time.monotonic()
    before = json.loads(options.before.read_text()) if options.before else {}
    saved: dict[str, dict[str, str]] = {}
    lines = ["# Corrupted frames", "", "`python -m benchmarks.corrupted_frames`", ""]
    for part, run in (("aia", aia), ("hmi", hmi)):
        if part in parts:
            results = run(bench, options.only)
            saved[part] = {name: f"{o.passed} of {o.total}" for name, (_, o) in results.items()}
            lines += [f"## {part.upper()}", "", *table(results, before.get(part, {})), ""]
    if "flips" in parts:
        flips = bit_flips(bench)
        saved["flips"] = {
            name: f"{c['caught']} of {FLIPS}, {c['harmful and caught']} of {c['harmful']}"
            for name, c in flips.items()
        }
        lines += ["## Flipped bits of an HMI JPEG", ""]
        lines += [
            "| JPEG | rejected or doubted | harmful flips found | in an earlier version |",
            "|---|---|---|---|",
        ]
        for name, c in flips.items():
            lines.append(
                f"| {name} | {c['caught']} of {FLIPS} "
                f"| {c['harmful and caught']} of {c['harmful']} "
                f"| {before.get('flips', {}).get(name, '')} |"
            )
        lines.append("")
    if "year" in parts:
        names = options.channels.split(",")
        total, found, examples = year(bench, options.days, names)
        alarms = sum(count for name, count in found.items() if name not in TRUE_FLAGS)
        lines += ["## Good frames over a rendered year", ""]
        lines += [f"{total:,} frames of {options.days} days, hourly from 06:00 to 12:00, "
                  f"{len(names)} channels: "
                  f"**{alarms} false alarms**. True flags: "
                  + (", ".join(f"{n} {found[n]}" for n in TRUE_FLAGS & set(found)) or "none")
                  + ".", "", *(f"- {example}" for example in examples), ""]  # fmt: skip
    lines += [f"*{time.monotonic() - started:.0f} s.*", ""]
    print("\n".join(lines))
    if options.save:
        options.save.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    if options.output:
        options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()

"""Build a release: numbered shards, one index, and their description.

The old index is removed first and SHA256SUMS is written last, so an unfinished release never looks
complete. A second build writes the same bytes. A release shard with the same content as a daily
shard is a hard link, so a release needs no extra disk space. If a day is packed again with
different content, it gets a new file, and the release keeps the old file.

Days are read one at a time, so memory use does not grow with the number of days. Files that have
not changed since the last build are not read again: see `sdoml_dagster.release.record`.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sdoml_core import __version__
from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, MissingInputError, NormalizationError, SettingError
from sdoml_core.formats.encoding import ENCODINGS, Encoding
from sdoml_core.formats.parquet import SHARD_NAME
from sdoml_core.formats.release_files import (
    RELEASE_CONSTANTS,
    RELEASE_INDEX,
    RELEASE_SPLITS,
    RELEASE_SUMS,
)
from sdoml_core.formats.release_index import ShardFacts, release_inputs, release_shards
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_dagster.archive.address import public
from sdoml_dagster.days import ALL_DAYS, DayRange, days_between
from sdoml_dagster.previews import Panel, contact_sheet, png
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.built_days import (
    BuiltDay,
    archive_hosts,
    built_days,
    common_normalization,
    recorded_shards,
)
from sdoml_dagster.release.card import render_card
from sdoml_dagster.release.coverage import DayCounts, ReleaseCoverage, count_frames
from sdoml_dagster.release.description import ReleaseDescription, SplitDescription
from sdoml_dagster.release.index import (
    KeptRows,
    Samples,
    read_sample,
    read_samples,
    utc,
    write_index,
)
from sdoml_dagster.release.previous import set_aside
from sdoml_dagster.release.record import ReleaseRecord, read_record, write_record
from sdoml_dagster.release.shards import ShardMaker, ShardPlan, number_shards
from sdoml_dagster.release.splits import NO_SPLITS, Split, Splits
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import read_shard_frame
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map

_SETTINGS_OF_A_RELEASE = (
    "start",
    "end",
    "cadence_minutes",
    "channels",
    "resolution",
    "member_case",
    "aia_tolerance_minutes",
    "hmi_scale",
)
"""Settings that affect the card, the coverage or the shards of a release, in addition to the
roots."""

FOREIGN_INDEXES = ("tar_files_index", "dates_index_")
"""Prefixes of the index files that the original SDOML-lite loader leaves among shards. That loader
never checks them against the shards, so after a rebuild it would read wrong samples."""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """The days and options of a release."""

    name: str = "sdoml-lite"
    """Name of the release and of its folder."""

    prefix: str | None = None
    """Prefix of shard file names. Defaults to `name`."""

    days_per_shard: int = 1
    """Number of built days in one shard."""

    days: DayRange = ALL_DAYS
    """Days to release. The default is all days that have a shard."""

    complete_only: bool = False
    """Keep only samples that have every channel in the settings, and only these channels."""

    splits: Splits = NO_SPLITS
    """Splits of the release. Days outside all splits are left out."""

    any_constants: bool = False
    """Accept constants that were fitted to days outside the training split."""

    encoding: Encoding | None = field(default=None, repr=False)
    """Encoding of the shards. Defaults to the encoding of the daily shards."""

    def __post_init__(self) -> None:
        if self.encoding is not None and self.encoding not in ENCODINGS:
            raise SettingError(
                f"the encoding of a release must be one of {', '.join(ENCODINGS)}, not "
                f"{self.encoding!r}"
            )
        for name in (self.name, self.shard_prefix):
            if "/" in name or not SHARD_NAME.fullmatch(f"{name}-1.tar"):
                raise SettingError(
                    f"{name!r} is not a valid release name: use letters, digits, . _ and -"
                )
        if self.days_per_shard < 1:
            raise SettingError(
                f"run config days_per_shard must be 1 or more, not {self.days_per_shard}"
            )
        if self.days.first and self.days.last and self.days.first > self.days.last:
            raise SettingError(f"first_day {self.days.first} is after last_day {self.days.last}")

    @property
    def shard_prefix(self) -> str:
        """Prefix of shard file names."""
        return self.prefix or self.name


@dataclass(frozen=True, slots=True)
class Release:
    """A finished release."""

    folder: str
    description: ReleaseDescription
    card: str
    """Text of README.md."""

    sums: bytes
    """Content of SHA256SUMS, which identifies the content of the whole release."""


def publish(
    request: ReleaseRequest, *, settings: Settings, store: Store, report: Callable[[str], None]
) -> Release:
    """Write or rewrite a release.

    Raises
    ------
    MissingInputError
        If the range has no frames, or if a shard has no index.
    NormalizationError
        If the shards were normalized with different constants, or the constants were fitted to
        days outside the training split.
    DamagedFileError
        If a shard does not match its index.
    """
    record = read_record(store, request.name)
    built = _built(request, settings, store, record, report)
    normalization, constants = common_normalization(store, built)
    fitted_to = _fitted_split(request, normalization)
    released = _select(built, settings)
    plans = _plan_shards(released, request)

    folder = layout.release_folder(request.name)
    previous = set_aside(store, folder)
    store.sweep(folder)
    # Write the constants before the shards. A folder that contains them, but no index, is
    # recognized as an incomplete release.
    store.write(f"{folder}/{RELEASE_CONSTANTS}", constants)
    shard_names = {plan.name for group in plans.values() for plan in group}
    for name in store.sizes(folder):
        stale = name.endswith(".tar") and name not in shard_names
        if stale or name == RELEASE_SPLITS or name.startswith(FOREIGN_INDEXES):
            store.delete(f"{folder}/{name}")

    every = [plan for group in plans.values() for plan in group]
    with TemporaryDirectory() as temporary:
        spool = Path(temporary)
        maker = ShardMaker(
            folder,
            store,
            every,
            case=settings.member_case,
            encoder=request.encoding and FrameEncoder(request.encoding, normalization),
            previous=previous.hashes,
            known=record.shards,
            spool=spool,
        )
        shards = _write_shards(every, maker, request, settings, report)
        coverage = _coverage(request, settings, store, built, known=record.counts, report=report)
        inputs = _inputs(request, settings, [(d.day, d.facts.sha256, d.inputs) for d in built])
        with previous.index(record.sums, spool) as rows:
            write_index(
                spool / RELEASE_INDEX,
                maker=maker,
                shards=shards,
                inputs=inputs,
                kept=KeptRows(rows, record.shards),
                report=report,
            )
        samples = read_samples(spool / RELEASE_INDEX)
        first = next(shard for shard in shards if shard.shard == every[0].name)
        channels = tuple(n for n in CHANNELS if any(n in shard.frames for shard in shards))
        description = ReleaseDescription(
            name=request.name,
            settings=settings,
            normalization=normalization,
            coverage=coverage,
            hosts=archive_hosts(store, [day.day for day in built]),
            channels=channels,
            dtype=str(first.dtype),
            encoding=first.encoding,
            steps=_steps(shards),
            resolution=first.resolution or 0,
            member=maker.first_member(every[0].name),
            shards=tuple(shard.shard for shard in shards),
            bytes=sum(shard.bytes for shard in shards),
            first=samples.first,
            last=samples.last,
            samples=samples.count,
            complete=samples.complete,
            uniform_start=samples.uniform_start(first.shard),
            complete_only=request.complete_only,
            days_per_shard=request.days_per_shard,
            splits=_describe_splits(request, plans, samples),
            guard_days=request.splits.guard_days,
            fitted_to=fitted_to,
        )
        card = render_card(description)
        files = {
            "coverage.parquet": coverage.to_parquet(),
            "contact_sheet.png": _picture(store, spool / RELEASE_INDEX, samples, description),
            "README.md": card.encode(),
        }
        if description.splits:
            files[RELEASE_SPLITS] = _splits_file(description)
        hashes = {shard.shard: shard.sha256 for shard in shards}
        hashes[RELEASE_CONSTANTS] = hashlib.sha256(constants).hexdigest()
        for name, data in files.items():
            store.write(f"{folder}/{name}", data)
            hashes[name] = hashlib.sha256(data).hexdigest()
        with (
            (spool / RELEASE_INDEX).open("rb") as source,
            store.writer(f"{folder}/{RELEASE_INDEX}") as target,
        ):
            hashes[RELEASE_INDEX] = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
            shutil.copyfileobj(source, target, 1 << 20)
    sums = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()
    store.write(f"{folder}/{RELEASE_SUMS}", sums)
    record = ReleaseRecord(
        hashlib.sha256(sums).hexdigest(),
        {day.day: day for day in built},
        coverage.by_key,
        {maker.fingerprint(shard.shard): shard for shard in shards},
    )
    write_record(store, request.name, record)
    previous.delete()
    return Release(folder, description, card, sums)


def is_current(request: ReleaseRequest, *, settings: Settings, store: Store) -> bool:
    """Return whether a finished release matches this request and the current daily shards.

    This function reads only index footers and file sizes. It does not compute shard hashes.
    """
    folder = layout.release_folder(request.name)
    sizes = store.sizes(folder)
    if RELEASE_SUMS not in sizes:
        return False
    try:
        recorded = recorded_shards(store, days=request.days, threads=settings.threads)
        if request.splits:
            recorded = [shard for shard in recorded if request.splits.of(shard[0])]
        with store.open(f"{folder}/{RELEASE_INDEX}") as index:
            listed, inputs = release_shards(index), release_inputs(index)
        if inputs != _inputs(request, settings, recorded):
            return False
    except (DamagedFileError, MissingInputError, FileNotFoundError):
        return False
    return all(sizes.get(name) == size for name, size in listed.items())


def _built(
    request: ReleaseRequest,
    settings: Settings,
    store: Store,
    record: ReleaseRecord,
    report: Callable[[str], None],
) -> list[BuiltDay]:
    """Return the days of the request that have a shard."""
    built = built_days(
        store,
        days=request.days,
        threads=settings.threads,
        report=report,
        complete=settings.channels if request.complete_only else None,
        known=record.days,
    )
    if not request.splits:
        return built
    inside = [day for day in built if request.splits.of(day.day)]
    if not inside:
        raise MissingInputError(
            f"no day in the splits has a shard in {store.url}: run build_shards for these days "
            "first"
        )
    return inside


def _inputs(
    request: ReleaseRequest,
    settings: Settings,
    recorded: Iterable[tuple[date, str, str | None]],
) -> str:
    """Return the fingerprint of all inputs of a release.

    ``recorded`` contains the day, SHA-256 and inputs of each daily shard.
    """
    options = [str(getattr(settings, name)) for name in _SETTINGS_OF_A_RELEASE]
    options += [public(root) for root in (*settings.aia_roots, *settings.hmi_roots)]
    shards = [(f"{day}", sha256, inputs) for day, sha256, inputs in recorded]
    parts: tuple[object, ...] = (repr(request), options, shards, __version__)
    if request.encoding is not None:
        parts += (request.encoding,)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _fitted_split(request: ReleaseRequest, constants: Normalization) -> str | None:
    """Return the split that the constants were fitted to, or None if other days were used too."""
    if not request.splits:
        return None
    train = request.splits.train
    if any(
        one.first <= constants.first_day and constants.last_day <= one.last
        for one in request.splits.kept_ranges(train)
    ):
        return train.name
    if request.any_constants:
        return None
    raise NormalizationError(
        f"constants {constants.version} were fitted to days from {constants.first_day} to "
        f"{constants.last_day}, which are not all in the split {train.name} "
        f"({', '.join(str(one) for one in request.splits.kept_ranges(train))}). Run sdoml build "
        "with the same --splits to fit constants to that split and pack the shards again, or "
        "accept these constants with --any-constants (run config any_constants: true)"
    )


def _plan_shards(
    released: Sequence[BuiltDay], request: ReleaseRequest
) -> dict[str, list[ShardPlan]]:
    """Plan the shards of each split, in order. Without splits, the only key is ""."""
    groups: dict[Split | None, list[BuiltDay]] = {part: [] for part in request.splits.parts}
    for day in released:
        groups.setdefault(request.splits.of(day.day), []).append(day)
    return {
        part.name if part else "": number_shards(
            days,
            prefix=f"{request.shard_prefix}-{part.name}" if part else request.shard_prefix,
            days_per_shard=request.days_per_shard,
        )
        for part, days in groups.items()
        if days
    }


def _write_shards(
    plans: Sequence[ShardPlan],
    maker: ShardMaker,
    request: ReleaseRequest,
    settings: Settings,
    report: Callable[[str], None],
) -> list[ShardFacts]:
    """Link or write all shards of the release."""
    title = f"release {request.name}, linking and checking shards"
    progress = Progress(title, sum(plan.frames for plan in plans), report)
    shards: list[ShardFacts] = []
    for shard in ordered_map(maker, plans, threads=settings.threads, name="release"):
        shards.append(shard)
        progress.step("ok", steps=sum(shard.frames.values()))
    return shards


def _describe_splits(
    request: ReleaseRequest, plans: Mapping[str, Sequence[ShardPlan]], samples: Samples
) -> tuple[SplitDescription, ...]:
    numbers = samples.by_shard()
    return tuple(
        SplitDescription(
            part.name,
            request.splits.kept_ranges(part),
            tuple(plan.name for plan in plans[part.name]),
            sum(numbers[plan.name] for plan in plans[part.name]),
        )
        for part in request.splits.parts
        if part.name in plans
    )


def _steps(shards: Sequence[ShardFacts]) -> dict[str, float]:
    """Return each channel's quantization step for compact shards. Empty for npy."""
    return {
        name: constants["step"]
        for shard in shards
        for name, constants in shard.constants.items()
        if constants["step"] is not None
    }


def _splits_file(release: ReleaseDescription) -> bytes:
    """Encode splits as JSON: half-open ranges for `SDOMLlite.split`, and shards by split."""
    constants = release.normalization
    content = {
        "ranges": {
            split.name: [
                [f"{one.first}T00:00:00", f"{one.last + timedelta(days=1)}T00:00:00"]
                for one in split.ranges
            ]
            for split in release.splits
        },
        "shards": {split.name: list(split.shards) for split in release.splits},
        "guard_days": release.guard_days,
        "constants": {
            "version": constants.version,
            "first_day": f"{constants.first_day}",
            "last_day": f"{constants.last_day}",
            "fitted_to": release.fitted_to,
        },
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _select(built: Sequence[BuiltDay], settings: Settings) -> list[BuiltDay]:
    """Select the days that have rows in the release. Other days get no shard."""
    released = [day for day in built if day.facts.frames]
    if not released:
        counts: Counter[str] = Counter()
        for day in built:
            counts.update(day.frames)
        each = ", ".join(f"{name} {counts[name]}" for name in settings.channels)
        which = "sample with every channel" if built[0].complete else "frame"
        raise MissingInputError(
            f"the shards from {built[0].day} to {built[-1].day} contain no {which} (frames: {each})"
        )
    return released


def _coverage(
    request: ReleaseRequest,
    settings: Settings,
    store: Store,
    built: Sequence[BuiltDay],
    *,
    known: Mapping[date, DayCounts],
    report: Callable[[str], None],
) -> ReleaseCoverage:
    """Count the frames of all days in the range, including days that were not built."""
    there = {day.day: day for day in built}
    first = max(request.days.first or built[0].day, min(settings.start.date(), built[0].day))
    last = request.days.last or built[-1].day
    if settings.last_day is not None:
        last = min(last, max(settings.last_day, built[-1].day))
    days = [
        day
        for day in days_between(first, last)
        if (day in there or settings.expected_slots(day))
        and (not request.splits or request.splits.of(day))
    ]
    occurring = {channel for day in built for channel in day.frames}
    channels = [name for name in CHANNELS if name in occurring or name in settings.channels]
    return count_frames(
        store,
        settings,
        days=days,
        built=there,
        channels=channels,
        known=known,
        report=report,
    )


def _picture(store: Store, index: Path, samples: Samples, release: ReleaseDescription) -> bytes:
    """Draw a contact sheet of the middle sample among those with the most channels."""
    number = samples.example
    shard, slot = samples.shard(number), samples.slots[number]
    folder = layout.release_folder(release.name)
    panels: dict[str, Panel] = {}
    for channel, row in read_sample(index, number).items():
        pixels = {
            "dtype": release.dtype,
            "encoding": release.encoding,
            "resolution": release.resolution,
            "step": release.steps.get(channel),
            "data_size": None,
        }
        image = read_shard_frame(store, f"{folder}/{shard}", pixels | row)
        panels[channel] = Panel(channel, image, row["observed"])
    sheet = contact_sheet(
        [panels.get(name, Panel(name, None)) for name in release.channels],
        title=f"{utc(slot):%Y-%m-%d %H:%M} UTC",
        subtitle=release.name,
        normalized=True,
    )
    return png(sheet)

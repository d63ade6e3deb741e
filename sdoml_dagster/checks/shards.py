"""Checks that shards are readable by other tools and agree with the index and the constants."""

import hashlib
import io
import itertools
import tarfile
from collections.abc import Iterator
from datetime import date
from typing import IO, TYPE_CHECKING, Any

import dagster as dg
from zlib_ng.zlib_ng import crc32

from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_dagster import asset_names
from sdoml_dagster.checks.days import DayCheck, DayChecks, Finding, build_day_checks, listed
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

if TYPE_CHECKING:  # slow to import, and definitions need only names and descriptions
    from numpy.typing import NDArray

SATURATED = 0.01
"""Maximum fraction of a channel's pixels that may exceed its constant on one day. Flares stay below
this limit."""

DRIFT = 2.0
"""Maximum factor by which a day's median may differ from the median in the fit."""


def build_shard_checks(settings: Settings) -> dg.AssetChecksDefinition:
    """Build the checks of ``shards``."""
    return build_day_checks(asset_names.SHARDS, SHARD_CHECKS, settings)


def judge_shard(store: Store, day: date, _settings: Settings) -> Finding:
    """Read the whole shard in one pass without seeking, and compare it with its index."""
    from sdoml_dagster.store.day import StoredDay

    index = StoredDay(store, day).shard_index()
    if index is None:
        raise MissingInputError(
            f"{store.locate(layout.shard_index(day))} is missing: materialize shards of {day}"
        )
    wrong: list[str] = []
    try:
        rows = index.table.to_pylist()
        with store.open(layout.shard(day)) as file:
            source = _Hashing(file)
            found = {}
            for name, member in _members(source):
                if name in found:
                    wrong.append(f"{name} occurs twice")
                found[name] = _facts(name, member)
            source.finish()
    except (DamagedFileError, FileNotFoundError, tarfile.TarError) as error:
        return Finding(passed=False, severe=True, description=str(error))
    expected = {
        row["member"]: (row["dtype"], (row["resolution"],) * 2, row["crc32"]) for row in rows
    }
    wrong += [
        f"{name} is {'missing' if name not in found else 'different from the index'}"
        for name in sorted(expected.keys() | found.keys())
        if found.get(name) != expected.get(name)
    ]
    # Adjacent members with the same key are one sample. If the key occurs again later, it starts a
    # second sample.
    keys = [key for key, _ in itertools.groupby(name.partition(".")[0] for name in found)]
    if keys != sorted(set(keys)):
        wrong.append("samples are split or not in chronological order")
    if source.sha256 != index.shard_sha256:
        wrong.append("the shard's SHA-256 differs from the one in the index")
    return Finding(
        passed=not wrong,
        severe=True,
        description=listed(wrong) or f"all {len(keys)} samples match the index",
        metadata={"samples": len(keys), "frames": len(rows)},
    )


class _Hashing:
    """A stream that hashes the bytes read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def finish(self) -> None:
        """Read the bytes after the last member."""
        while self.read(1 << 20):
            pass

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _members(source: _Hashing) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the members, in order and without seeking."""
    with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]
        for info in tar:
            member = tar.extractfile(info)
            if member is None:
                raise DamagedFileError(f"{info.name} is not a file")
            yield info.name, member.read()
            tar.members = []  # otherwise tarfile would keep all members in memory


def _facts(name: str, member: bytes) -> tuple[str, tuple[int, ...], int]:
    """Return the type, shape and CRC-32 of a member's data. Check that pixels are in [0, 1]."""
    import numpy as np

    from sdoml_core.formats.compact import HEADER_BYTES, decode_compact, parse_compact_header
    from sdoml_core.formats.encoding import COMPACT_DTYPE

    pixels: NDArray[Any]
    if name.endswith(".fits"):
        side, step, size = parse_compact_header(name, member, len(member))
        data = member[HEADER_BYTES : HEADER_BYTES + size]
        pixels = decode_compact(data, step, np.empty((side, side), np.float32))
        found = COMPACT_DTYPE, pixels.shape, crc32(data)
    else:
        try:
            pixels = np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)
        except ValueError as error:
            raise DamagedFileError(f"{name} is not a .npy file: {error}") from error
        found = pixels.dtype.name, pixels.shape, crc32(pixels.data)
    # NaN fails every comparison, so this also finds NaN.
    if pixels.size == 0 or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DamagedFileError(f"{name} has values outside [0, 1]")
    return found


def judge_saturation(store: Store, day: date, settings: Settings) -> Finding:
    """Check the fraction of saturated pixels, using the day's sketches."""
    from sdoml_dagster.pipeline.compare_to_fit import saturated_fractions

    fractions = saturated_fractions(store, day, settings)
    over = {name: share for name, share in fractions.items() if share > SATURATED}
    return Finding(
        passed=not over,
        description=listed(
            [f"{share:.1%} of the {name} pixels are saturated" for name, share in over.items()]
        )
        or "few pixels are saturated",
        metadata={f"saturated_{name}": share for name, share in fractions.items()},
    )


def judge_drift(store: Store, day: date, settings: Settings) -> Finding:
    """Check the drift of the disk brightness, using the day's sketches and the constants."""
    from sdoml_dagster.pipeline.compare_to_fit import compare_day

    compared = compare_day(store, day, settings)
    drifts = {name: channel.drift for name, channel in compared.items()}
    far = {name: drift for name, drift in drifts.items() if not 1 / DRIFT <= drift <= DRIFT}
    return Finding(
        passed=not far,
        description=listed(
            [
                f"the disk of {name} is {drift:.2g} times as bright as in the fit"
                for name, drift in far.items()
            ]
        )
        or "the disks are about as bright as in the fit",
        metadata={f"drift_{name}": drift for name, drift in drifts.items()},
    )


READABLE = "readable"

SHARD_CHECKS: DayChecks = {
    READABLE: DayCheck(
        "The tar file, read sequentially as by webdataset, matches its index.",
        judge_shard,
    ),
    "saturation": DayCheck(
        f"At most {SATURATED:.0%} of each channel's pixels exceed its constant.",
        judge_saturation,
        reads_pixels=False,
    ),
    "drift": DayCheck(
        "No channel's median disk brightness differs from the fit by more than a factor of "
        f"{DRIFT:g}.",
        judge_drift,
        reads_pixels=False,
    ),
}
"""The checks of a day's shard, by name."""

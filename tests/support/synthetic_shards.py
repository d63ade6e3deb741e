"""Shards of small synthetic frames, written with the project's own writer."""

import dataclasses
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS, MemberCase
from sdoml_core.formats.compact import encode_compact
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.formats.index import Index, decode_index, encode_index
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.slots import day_slots

FIRST = date(2022, 11, 1)
SIDE = 32
CONSTANT = 250.0
VERSION = "00112233aabbccdd"
STEPS = 1020
"""Quantization steps of compact shards; a multiple of 255."""


def frame(slot: datetime, channel: str, side: int = SIDE) -> NDArray[np.float32]:
    """Return a disk with noise that depends only on slot and channel."""
    seed = [int(slot.timestamp()) // 60, list(CHANNELS).index(channel)]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disk = (np.hypot(x, y) < 0.4 * side) * 0.5
    noise = np.random.default_rng(seed).random((side, side)) * 0.5
    return (disk + noise).astype(np.float32)


def missing(slot: datetime, channel: str) -> bool:
    """Return whether a frame is missing: 1700 Å on the hour, 211 Å from 03:00 to 04:00."""
    return (channel == "AIA_1700" and slot.minute == 0) or (
        channel == "AIA_0211" and slot.hour == 3
    )


def facts(slot: datetime, channel: str) -> FrameFacts:
    aia = channel.startswith("AIA")
    return FrameFacts(
        observed=slot - timedelta(seconds=7.25),
        exposure=2.9 if aia else None,
        quality=0,
        rsun_obs=962.5,
        degradation=0.8 if aia else None,
        constant=CONSTANT if aia else 1.0,
        transform="sqrt" if aia else "linear",
    )


def write_day(
    folder: Path,
    day: date,
    *,
    channels: Iterable[str] = DEFAULT_CHANNELS,
    dtype: str = "float32",
    encoding: CompactEncoding | None = None,
    case: MemberCase = "upper",
    version: str = VERSION,
    index: bool = True,
    hours: int = 6,
    side: int = SIDE,
    facts_of: Callable[[datetime, str], FrameFacts] = facts,
    frame_of: Callable[[datetime, str, int], NDArray[np.float32]] | None = None,
) -> Index:
    """Write a daily shard and its index as the pipeline does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sdoml-lite-{day}.tar"
    with path.open("wb") as file:
        writer = ShardWriter(file, dtype=dtype, case=case, encoding=encoding)
        for slot in day_slots(day, cadence_minutes=15):
            for channel in channels:
                if slot.hour < hours and not missing(slot, channel):
                    pixels = (frame_of or frame)(slot, channel, side).astype(dtype)
                    about = facts_of(slot, channel)
                    if encoding is None:
                        writer.add(slot, CHANNELS[channel], pixels, about)
                    else:
                        encoded = encode_compact(pixels, STEPS, encoding)
                        writer.add_encoded(slot, CHANNELS[channel], encoded, about)
        summary = writer.close()
    data = encode_index(
        summary.table,
        shard=path.name,
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version=version,
    )
    if index:
        path.with_suffix(".parquet").write_bytes(data)
    return decode_index(data)


def write_release(folder: Path, days: int, **options: object) -> Path:
    """Write a release of consecutive days: numbered shards and one index."""
    indexes = []
    for number in range(days):
        index = write_day(folder, FIRST + timedelta(days=number), index=False, **options)  # type: ignore[arg-type]
        name = f"sdoml-lite-{number + 1:03d}.tar"
        (folder / index.shard).rename(folder / name)
        indexes.append(dataclasses.replace(index, shard=name))
    (folder / "index.parquet").write_bytes(consolidate(indexes))
    return folder


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)

"""Read mutated files of every kind and check for typed errors, bounded memory and no hangs.

``python -m tests.fuzz.campaign --inputs 100000 --output benchmarks/results/fuzz.md``

Each kind of file is read in its own process. The process may use ``HEADROOM`` more address space
than an intact file needs. It exits if an input takes longer than ``PATIENCE``.
"""

import argparse
import faulthandler
import io
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import SdomlError
from sdoml_core.formats.compact import decode_compact, encode_compact
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.formats.shard_scan import scan_shard
from sdoml_core.formats.sketch_file import decode_sketches, encode_sketches
from sdoml_core.frames.aia import decode_aia
from sdoml_core.frames.hmi import decode_hmi
from sdoml_core.normalization.constants import from_json
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch
from sdoml_demo.absences import PERFECT
from sdoml_demo.render.aia_file import render_aia
from sdoml_demo.render.hmi import render_hmi

HEADROOM = 1 << 30
PATIENCE = 60.0
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """A kind of file: how to create and read it, and its share of the inputs."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    share: float


def fits_seeds() -> list[bytes]:
    """Return a frame with checksums, which detect most damage, and copies without checksums."""
    whole = render_aia(NOON, 171, PERFECT)
    bare = re.sub(rb"(CHECKSUM|DATASUM )=", rb"HIERARCH ", whole)
    return [whole, bare, bare, bare]


def shard(encoding: CompactEncoding | None = None) -> tuple[bytes, bytes]:
    """Return a small shard and its index."""
    file = io.BytesIO()
    writer = ShardWriter(file, encoding=encoding)
    for hour in range(4):
        for name in ("AIA_0171", "AIA_0193", "HMI_M"):
            slot, channel = NOON + timedelta(hours=hour), CHANNELS[name]
            facts = FrameFacts(observed=NOON, exposure=2.0, constant=9.0, transform="sqrt")
            if encoding is None:
                writer.add(slot, channel, np.full((8, 8), hour, np.float32), facts)
            else:
                pixels = np.full((16, 16), hour / 4, np.float32)
                writer.add_encoded(slot, channel, encode_compact(pixels, 100, encoding), facts)
    summary = writer.close()
    index = encode_index(
        summary.table,
        shard="2024/sdoml-lite-2024-03-08.tar",
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version="0" * 16,
    )
    return file.getvalue(), index


def ledgers() -> list[bytes]:
    times = [NOON + timedelta(hours=hour) for hour in range(8)]
    raw = [RawRow(t, "HMI_M", "ok", file="f.jpg", bytes=7, sha256="0" * 64) for t in times]
    frames = [FrameRow(t, "HMI_M", "ok", row=n, crc32=n, mean=0.5) for n, t in enumerate(times)]
    return [RAW_LEDGER.encode(raw), FRAME_TABLE.encode(frames)]


def read_ledger(data: bytes) -> object:
    try:
        return RAW_LEDGER.decode(data)
    except SdomlError:
        return FRAME_TABLE.decode(data)


def sketches() -> dict[str, Sketch]:
    pixels = np.random.default_rng(1).gamma(2.0, 50.0, (32, 32)).astype(np.float32)
    return {"AIA_0171": Sketch.of(pixels), "HMI_M": Sketch.of(pixels / pixels.max())}


def compact_data() -> bytes:
    """Return the compressed pixels of a compact frame."""
    pixels = np.random.default_rng(2).random((32, 32), np.float32)
    return bytes(encode_compact(pixels, 1000, "compact").data)


def read_compact_data(data: bytes) -> object:
    return decode_compact(data, 0.001, np.empty((32, 32), np.float32))


def constants() -> bytes:
    return fit(
        sketches(),
        method="quantile:0.99",
        resolution=64,
        first_day=date(2024, 3, 8),
        last_day=date(2024, 3, 8),
        days=1,
    ).to_json()


KINDS = {
    "FITS": Kind(fits_seeds, decode_aia, 0.15),
    "JPG": Kind(lambda: [render_hmi(NOON, PERFECT)], decode_hmi, 0.1),
    "tar with npy": Kind(lambda: [shard()[0]], lambda data: scan_shard(io.BytesIO(data)), 0.2),
    "tar with FITS": Kind(
        lambda: [shard("compact")[0]], lambda data: scan_shard(io.BytesIO(data)), 0.1
    ),
    "compact frame": Kind(lambda: [compact_data()], read_compact_data, 0.1),
    "index": Kind(lambda: [shard()[1], shard("compact")[1]], decode_index, 0.15),
    "ledger": Kind(ledgers, read_ledger, 0.15),
    "sketch": Kind(lambda: [encode_sketches(sketches())], decode_sketches, 0.15),
    "normalization": Kind(lambda: [constants()], from_json, 0.1),
}

DIGITS = re.compile(rb"\d+")
LARGE = (b"0", b"-1", b"99999999", b"2147483648", b"9223372036854775807", b"1e309", b"nan")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Make one to four changes: alter bits, bytes or numbers, or cut, repeat or move parts."""
    for _ in range(chance.randint(1, 4)):
        # Prefer the headers, where damage has more diverse effects than in the pixels.
        near = chance.random() < 0.6
        place = chance.randrange(min(len(data), 6000) if near else len(data)) if data else 0
        span = chance.choice((1, 8, 80, 512, 2880))
        match chance.randrange(8):
            case 0 | 1:
                changed = bytes([data[place] ^ 1 << chance.randrange(8)]) if data else b"x"
                data = data[:place] + changed + data[place + 1 :]
            case 2:
                data = data[:place] + chance.randbytes(span) + data[place + span :]
            case 3:
                found = DIGITS.search(data, place)
                if found:
                    data = data[: found.start()] + chance.choice(LARGE) + data[found.end() :]
            case 4:
                data = data[:place]
            case 5:
                data = data[:place] + data[place + span :]
            case 6:
                data = data[:place] + data[place : place + span] * 2 + data[place + span :]
            case _:
                other = chance.randrange(len(data) + 1)
                part = data[other : other + span]
                data = data[:place] + part + data[place + len(part) :]
    return data


def attack(name: str, inputs: int, seed: int) -> None:
    """Read mutated files of a kind and print the outcomes; raise an error if a read fails."""
    kind = KINDS[name]
    seeds = kind.seeds()
    for data in seeds:
        kind.read(data)
    status = Path("/proc/self/status").read_text()
    used = int(re.findall(r"VmSize:\s+(\d+) kB", status)[0]) * 1024
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(inputs):
        chance = random.Random(f"{name} {seed} {number}")
        data = mutate(chance.choice(seeds), chance)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        began = time.perf_counter()
        try:
            kind.read(data)
            outcomes["read"] += 1
        except SdomlError as error:
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            raise RuntimeError(f"{name} {number} of seed {seed}: {error!r}") from error
        slowest = max(slowest, time.perf_counter() - began)
    faulthandler.cancel_dump_traceback_later()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    said = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"| {name} | {inputs} | {said} | {slowest:.2f} | {grown:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="read only this kind, in this process"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.kind:
        for name in options.kind:
            attack(name, round(options.inputs * KINDS[name].share), options.seed)
        return
    rows, failures = [], []
    for name in KINDS:
        command = [sys.executable, "-m", "tests.fuzz.campaign", "--kind", name]
        command += ["--inputs", str(options.inputs), "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout, end="", flush=True)
        rows.append(done.stdout.strip())
        if done.returncode:
            failures.append(f"{name}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
            print(failures[-1], flush=True)
    lines = [
        "# Mutated files",
        "",
        f"`python -m tests.fuzz.campaign --inputs {options.inputs} --seed {options.seed}`",
        "",
        f"The address space is limited to {HEADROOM >> 20} MiB more than an intact file needs, and "
        f"each input to {PATIENCE:.0f} s.",
        "",
        "| kind | inputs | outcomes | slowest (s) | memory beyond an intact file (MiB) |",
        "|---|---|---|---|---|",
        *filter(None, rows),
        "",
        f"**{len(failures)} failures** (errors of other types, hangs, crashes or exhausted "
        "memory).",
        "",
    ]
    if options.output:
        options.output.write_text("\n".join(lines))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

"""Compare encodings of frames: size, speed, noise, loading and training.

    python -m benchmarks.encoding codecs      RICE_1 in FITS compared with 16-bit PNG
    python -m benchmarks.encoding sizes       bytes per frame, by channel and solar activity
    python -m benchmarks.encoding noise       computed noise, and measured noise of real frames
    python -m benchmarks.encoding rounding    rounding errors, and their means over regions
    python -m benchmarks.encoding loading     samples per second from a warm page cache
    python -m benchmarks.encoding crossing    samples per second from slow stores
    python -m benchmarks.encoding training    a small model on each encoding, with five seeds
    python -m benchmarks.encoding mission     gigabytes per year and for the mission

The frames are the packaged real frames (2014-01-01 and 2018-08-20) and rendered frames. CPU times
are those of one thread and hardly depend on other load. Rates are the best of several passes that
alternate between the encodings.
"""

import argparse
import io
import math
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.loader import SIX, Reference, consume
from sdoml_core.channels import CHANNELS
from sdoml_core.formats.compact import decode_compact, encode_compact
from sdoml_core.formats.encoding import COMPACT, ENCODINGS, Encoding, encode_npy
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.loader import BatchLoader, SDOMLlite
from sdoml_core.loader.storage.local import LocalFiles
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.noise import pixel_noise, steps_of
from sdoml_core.normalization.sketch import Sketch, merge
from sdoml_core.normalization.transform import normalize
from sdoml_demo.absences import PERFECT
from sdoml_demo.render.aia_file import render_aia
from sdoml_demo.render.hmi import render_hmi

DATA = Path(__file__).parents[1] / "sdoml_demo/data"
MINIMUM, MAXIMUM = date(2019, 12, 1), date(2014, 4, 1)
CYCLE = (date(2010, 7, 1), date(2012, 3, 1), MAXIMUM, date(2016, 6, 1), MINIMUM, date(2023, 10, 1))
DEFAULT = ("AIA_0094", "AIA_0131", "AIA_0171", "AIA_0193", "AIA_0211", "AIA_1600", "AIA_1700",
           "HMI_M")  # fmt: skip
TAR = 512
Frame = NDArray[np.float32]


def at_noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@cache
def rendered(channel: str, time: datetime, resolution: int = 512) -> Frame:
    """Return a rendered frame, processed as in the pipeline."""
    if channel == "HMI_M":
        rsun = decode_aia(render_aia(time, 193, PERFECT)).rsun_obs
        rgb = decode_hmi(render_hmi(time, PERFECT))
        return process_hmi(rgb, resolution=resolution, rsun_obs=rsun, scale=GEOMETRIC_SCALE)
    wavelength = CHANNELS[channel].wavelength
    frame = decode_aia(render_aia(time, wavelength, PERFECT))
    factor = DegradationTable.default().factor(time.date(), wavelength)
    return process_aia(frame, resolution=resolution, degradation=factor)


@cache
def real(resolution: int = 512) -> dict[str, tuple[str, Frame]]:
    """Return the channel and the processed pixels of each packaged real frame, by label."""
    paths = [*sorted((DATA / "real_2014").glob("*.fits")), DATA / "AIA20180820_1248_0193.fits"]
    frames = {}
    for path in paths:
        frame = decode_aia(path.read_bytes())
        channel = f"AIA_{frame.wavelength:04d}"
        factor = DegradationTable.default().factor(frame.observed.date(), frame.wavelength)
        pixels = process_aia(frame, resolution=resolution, degradation=factor)
        frames[f"{frame.wavelength} Å, {path.name[3:7]}"] = channel, pixels
    return frames


def fitted(frames: Mapping[str, Iterable[Frame]], resolution: int) -> Normalization:
    """Fit constants to the frames of each channel."""
    sketches = {name: merge(Sketch.of(frame) for frame in each) for name, each in frames.items()}
    return fit(sketches, method="quantile:0.9999", resolution=resolution, first_day=CYCLE[0],
               last_day=CYCLE[-1], days=len(CYCLE))  # fmt: skip


@cache
def constants_of_cycle(resolution: int = 512) -> Normalization:
    frames = {
        name: [rendered(name, at_noon(day), resolution) for day in CYCLE] for name in CHANNELS
    }
    return fitted(frames, resolution)


@cache
def constants_of_real() -> Normalization:
    """Fit constants to the frames of 2014, at solar maximum."""
    return fitted({name: [frame] for label, (name, frame) in real().items() if "2014" in label},
                  512)  # fmt: skip


def normalized(channel: str, frame: Frame, constants: Normalization) -> Frame:
    transform = constants.transform(channel)
    out = np.empty_like(frame)
    return normalize(frame, constants.constant(channel), out, transform=transform)


def test_frames() -> dict[str, tuple[str, Frame, Normalization]]:
    """Return the channel, normalized pixels and constants of each test frame, by label."""
    frames = {
        label: (name, normalized(name, frame, constants_of_real()), constants_of_real())
        for label, (name, frame) in real().items()
    }
    for what, day in (("minimum", MINIMUM), ("maximum", MAXIMUM)):
        for name in ("AIA_0171", "AIA_1600", "HMI_M"):
            frame = normalized(name, rendered(name, at_noon(day)), constants_of_cycle())
            frames[f"{name}, rendered, {what}"] = name, frame, constants_of_cycle()
    return frames


def cpu_ms(task: Callable[[], object], passes: int = 5) -> float:
    """Return the lowest CPU time of this thread in several passes, in milliseconds."""
    task()
    best = math.inf
    for _ in range(passes):
        begin = time.thread_time()
        task()
        best = min(best, time.thread_time() - begin)
    return 1000 * best


def codecs() -> None:
    """Print sizes and speeds of both codecs for the same integers."""
    print("| frame | encoding | steps | RICE_1: bits/pixel | decode (ms) | encode (ms) "
          "| PNG: bits/pixel | decode (ms) | encode (ms) |\n" + "|---" * 9 + "|")  # fmt: skip
    ratios: dict[str, list[float]] = {"size": [], "decode": [], "encode": []}
    for label, (name, pixels, constants) in test_frames().items():
        for encoding in COMPACT:
            steps = steps_of(name, encoding, constants)
            frame = encode_compact(pixels, steps, encoding)
            assert frame.step is not None
            data, step, out = frame.data, frame.step, np.empty_like(pixels)
            rice = (
                8 * frame.size / pixels.size,
                cpu_ms(lambda data=data, step=step, out=out: decode_compact(data, step, out)),
                cpu_ms(lambda p=pixels, s=steps, e=encoding: encode_compact(p, s, e)),
            )
            png = _png(pixels, steps)
            print(f"| {label} | {encoding} | {steps} | {rice[0]:.2f} | {rice[1]:.2f} "
                  f"| {rice[2]:.1f} | {png[0]:.2f} | {png[1]:.2f} | {png[2]:.0f} |")  # fmt: skip
            for key, one, other in zip(ratios, png, rice, strict=True):
                ratios[key].append(one / other)
    each = ", ".join(f"{key} {statistics.median(r):.1f}×" for key, r in ratios.items())
    print(f"\nPNG relative to RICE_1 (medians): {each}")


def _png(pixels: Frame, steps: int) -> tuple[float, float, float]:
    """Return bits per pixel, and CPU time of decoding to float32 and of encoding, with Pillow."""
    integers = np.rint(pixels * np.float64(steps)).astype(np.uint16)

    def encode() -> bytes:
        file = io.BytesIO()
        Image.fromarray(integers).save(file, "PNG", compress_level=6)
        return file.getvalue()

    data = encode()

    def decode() -> Frame:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image, np.float32) * np.float32(1 / steps)

    np.testing.assert_allclose(decode(), pixels, atol=0.51 / steps + 1e-6)
    return 8 * len(data) / pixels.size, cpu_ms(decode), cpu_ms(encode, 1)


def member_bytes(size: int) -> int:
    """Return the bytes that a member takes in a shard."""
    return TAR + size + -size % TAR


@cache
def bytes_of(channel: str, day: date, resolution: int, encoding: Encoding) -> int:
    constants = constants_of_cycle(resolution)
    pixels = normalized(channel, rendered(channel, at_noon(day), resolution), constants)
    return member_bytes(FrameEncoder(encoding, constants)(channel, pixels).size)


def sizes() -> None:
    """Print kilobytes per frame and the factor by which float32 is larger, with headers."""
    whole = member_bytes(encode_npy(np.zeros((512, 512), np.float32)).size)
    columns = [(encoding, what) for encoding in COMPACT for what in ("minimum", "maximum")]
    print("| 512×512 | steps (compact, fine) | "
          + " | ".join(f"{encoding}, {what} (kB)" for encoding, what in columns)
          + " |\n" + "|---" * (2 + len(columns)) + "|")  # fmt: skip
    days = {"minimum": MINIMUM, "maximum": MAXIMUM}
    totals = dict.fromkeys(columns, 0)
    for name in CHANNELS:
        steps = ", ".join(str(steps_of(name, one, constants_of_cycle())) for one in COMPACT)
        cells = []
        for column in columns:
            size = bytes_of(name, days[column[1]], 512, column[0])
            totals[column] += size
            cells.append(f"{size / 1e3:.0f} ({whole / size:.1f}×)")
        print(f"| {name} | {steps} | {' | '.join(cells)} |")
    cells = [f"{totals[c] / 1e3:.0f} ({len(CHANNELS) * whole / totals[c]:.1f}×)" for c in columns]
    print(f"| **all** | | {' | '.join(cells)} |\n")
    print("| real frame | compact (kB) | compact-fine (kB) |\n|---|---|---|")
    sums = dict.fromkeys(COMPACT, 0)
    for label, (name, frame) in real().items():
        pixels = normalized(name, frame, constants_of_real())
        cells = []
        for encoding in COMPACT:
            size = member_bytes(FrameEncoder(encoding, constants_of_real())(name, pixels).size)
            sums[encoding] += size
            cells.append(f"{size / 1e3:.0f} ({whole / size:.1f}×)")
        print(f"| {label} | {' | '.join(cells)} |")
    cells = [f"{sums[e] / 1e3:.0f} ({len(real()) * whole / sums[e]:.1f}×)" for e in COMPACT]
    print(f"| **all** | {' | '.join(cells)} |")


def noise() -> None:
    """Print the computed noise of the quiet disk, and the noise measured in the real frames.

    The computed noise is that of the frame: its degradation factor d increases the photon noise by
    1/√d and the read noise by 1/d. The measure is the median absolute value of mixed second
    differences in the blocks of the disk with the least structure, divided by its value for white
    noise after the same interpolation. Remaining structure makes it larger.
    """
    print("| real frame | photon noise at launch | total at launch | total of the frame "
          "| measured |\n|---|---|---|---|---|")  # fmt: skip
    white = _roughness(process_white())
    days = {"2014": date(2014, 1, 1), "2018": date(2018, 8, 20)}
    for label, (name, frame) in real().items():
        constants = constants_of_real()
        photon, total = pixel_noise(name, constants)
        factor = DegradationTable.default().factor(days[label[-4:]], CHANNELS[name].wavelength)
        own = math.hypot(photon / math.sqrt(factor), math.sqrt(total**2 - photon**2) / factor)
        measured = _roughness(normalized(name, frame, constants)) / white
        print(f"| {label} | {photon:.2e} | {total:.2e} | {own:.2e} | {measured:.2e} |")


def process_white() -> Frame:
    """Return white noise after the processing of a frame, with a standard deviation of 1."""
    path = next((DATA / "real_2014").glob("*0193.fits"))
    frame = decode_aia(path.read_bytes())
    image = np.random.default_rng(1).normal(1000, 10, frame.image.shape).astype(np.float32)
    from dataclasses import replace

    pixels = process_aia(replace(frame, image=image), resolution=512, degradation=1.0)
    inner = pixels[128:-128, 128:-128]
    return np.asarray((pixels - inner.mean()) / inner.std(), np.float32)


def _roughness(pixels: Frame) -> float:
    """Return the 0.05 quantile, over blocks of the disk, of the local noise estimate."""
    middle = pixels[136:376, 136:376].astype(np.float64)
    mixed = np.diff(np.diff(middle, 2, axis=0), 2, axis=1)
    blocks = mixed[:224, :224].reshape(14, 16, 14, 16).swapaxes(1, 2).reshape(-1, 256)
    return float(np.quantile(np.median(np.abs(blocks), axis=1), 0.05))


def rounding() -> None:
    """Print the largest error in steps, and the mean error over regions of 1,000 pixels.

    The errors of 1,000 rounded pixels have a mean of 0 ± step/√12/√1000 if rounding is unbiased.
    """
    print("| frame | encoding | largest error (steps) | mean of region means (steps) "
          "| their scatter / expected |\n|---|---|---|---|---|")  # fmt: skip
    y, x = np.mgrid[:512, :512] - 255.5
    disk = np.hypot(x, y) < 0.38 * 512
    for label, (name, pixels, constants) in test_frames().items():
        for encoding in COMPACT:
            frame = FrameEncoder(encoding, constants)(name, pixels)
            assert frame.step is not None
            out = decode_compact(frame.data, frame.step, np.empty_like(pixels))
            error = (out.astype(np.float64) - pixels) / frame.step
            inside = error[disk & (pixels < 1)]
            means = inside[: len(inside) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
            expected = 1 / math.sqrt(12 * 1000)
            print(f"| {label} | {encoding} | {np.abs(error).max():.3f} | {means.mean():+.4f} "
                  f"| {means.std() / expected:.2f} |")  # fmt: skip


def write_release(
    folder: Path, encoding: Encoding, channels: Sequence[str], *, samples: int, distinct: int,
    resolution: int,
) -> Path:  # fmt: skip
    """Write a release of rendered frames, which repeat after `distinct` samples."""
    folder.mkdir(parents=True)
    start = at_noon(MAXIMUM)
    times = [start + timedelta(hours=7 * number) for number in range(distinct)]
    frames = {name: [rendered(name, t, resolution) for t in times] for name in channels}
    constants = fitted(frames, resolution)
    encode = FrameEncoder(encoding, constants)
    encoded = {
        name: [encode(name, normalized(name, frame, constants)) for frame in each]
        for name, each in frames.items()
    }
    path = folder / "sdoml-lite-1.tar"
    with path.open("wb") as file:
        writer = ShardWriter(file, encoding=encode.compact)
        for number in range(samples):
            slot = start + number * timedelta(minutes=15)
            for name in sorted(channels):
                facts = FrameFacts(
                    observed=slot,
                    constant=constants.constant(name),
                    transform=constants.transform(name),
                )
                writer.add_encoded(slot, CHANNELS[name], encoded[name][number % distinct], facts)
        summary = writer.close()
    data = encode_index(
        summary.table,
        shard=path.name,
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version=constants.version,
    )
    (folder / "index.parquet").write_bytes(consolidate([decode_index(data)]))
    return folder


def write_releases(
    folder: Path, encodings: Sequence[Encoding] = ENCODINGS, *, samples: int = 96
) -> dict[Encoding, Path]:
    """Write the releases for timing: six channels at 512×512."""
    return {
        encoding: write_release(
            folder / encoding, encoding, SIX, samples=samples, distinct=4, resolution=512
        )
        for encoding in encodings
    }


def alternate(readers: dict[str, Callable[[], int]], passes: int) -> dict[str, tuple[float, float]]:
    """Return the best rate of each reader, and its lowest CPU time per sample in ms."""
    best = dict.fromkeys(readers, (0.0, math.inf))
    for number in range(passes + 1):
        for name, read in readers.items():
            begin, cpu = time.perf_counter(), time.process_time()
            count = read()
            rate = count / (time.perf_counter() - begin)
            used = 1000 * (time.process_time() - cpu) / count
            if number:  # skip the first pass, which warms up caches
                best[name] = max(best[name][0], rate), min(best[name][1], used)
    return best


def loading(passes: int) -> None:
    """Print the rates and CPU times of the original loader and of BatchLoader."""
    with tempfile.TemporaryDirectory() as folder:
        releases = write_releases(Path(folder))
        original = Reference(releases["npy"])
        readers: dict[str, Callable[[], int]] = {
            "the original loader, batches of 4": lambda: consume(
                DataLoader(original, batch_size=4, shuffle=True)
            )
        }
        for encoding, path in releases.items():
            batches = BatchLoader(SDOMLlite(path, SIX), batch_size=4, shuffle=True, threads=2)
            readers[f"`BatchLoader`, {encoding}"] = lambda batches=batches: consume(batches)
        results = alternate(readers, passes)
        base, base_cpu = next(iter(results.values()))
        print("| reader | samples/s | CPU per sample (ms) | rate | CPU |\n|---|---|---|---|---|")
        for name, (rate, cpu) in results.items():
            print(f"| {name} | {rate:.0f} | {cpu:.1f} | {rate / base:.1f}× | "
                  f"{base_cpu / cpu:.1f}× |")  # fmt: skip
        cold(releases, passes)


def cold(releases: dict[Encoding, Path], passes: int) -> None:
    """Print rates for files that are not in the page cache, if the system can drop them."""

    def read(path: Path) -> int:
        for file in path.glob("*.tar"):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return consume(BatchLoader(SDOMLlite(path, SIX), batch_size=4, threads=2))

    readers = {encoding: lambda path=path: read(path) for encoding, path in releases.items()}
    print("\n| cold files | samples/s |\n|---|---|")
    for name, (rate, _) in alternate(readers, passes).items():  # type: ignore[arg-type]
        print(f"| {name} | {rate:.0f} |")


class _Throttled(BaseHTTPRequestHandler):
    """Serves ranges of a folder's files, at a limited rate for all connections together."""

    protocol_version = "HTTP/1.1"
    folder: Path
    rate: float
    lock = threading.Lock()
    free_at = 0.0

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if not body:
            return
        with self.lock:  # all connections share one queue, as on one network link
            now = time.perf_counter()
            kind = type(self)
            kind.free_at = max(now, kind.free_at) + (stop - start) / self.rate
            wait = kind.free_at - now
        time.sleep(wait)
        with path.open("rb") as file:
            os.sendfile(self.wfile.fileno(), file.fileno(), start, stop - start)

    def log_message(self, *_: object) -> None:
        pass


def _serve(folder: Path, rate: float, ready: object) -> None:
    handler = type("Handler", (_Throttled,), {"folder": folder, "rate": rate})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    ready.send(server.server_address[1])  # type: ignore[attr-defined]
    server.serve_forever()


def _rate(loader: BatchLoader, samples: int) -> float:
    """Return samples per second over the first `samples` of a loader."""
    begin, count = time.perf_counter(), 0
    for batch, _ in loader:
        count += len(batch)
        if count >= samples:
            break
    return count / (time.perf_counter() - begin)


def from_server(folder: Path, rate: float, samples: int) -> float:
    """Return samples per second from a server that sends at most `rate` bytes per second."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(folder, rate, there), daemon=True)
    process.start()
    try:
        dataset = SDOMLlite(f"http://127.0.0.1:{here.recv()}", SIX)
        loader = BatchLoader(dataset, batch_size=2, threads=4, prefetch=4)
        return _rate(loader, samples)
    finally:
        process.terminate()
        process.join()


class SlowFiles(LocalFiles):
    """Local shards that are read with at most `rate` bytes per second in total."""

    def __init__(self, root: str, rate: float):
        super().__init__(root)
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Wait as long as the bytes take at this rate, and read them."""
        with self._lock:
            now = time.perf_counter()
            self._free_at = max(now, self._free_at) + sum(map(len, buffers)) / self._rate
            wait = self._free_at - now
        time.sleep(wait)
        super().read_into(name, start, buffers, size=size, tag=tag)


def from_disk(folder: Path, rate: float, samples: int) -> float:
    """Return samples per second from shards that are read at up to `rate` bytes per second."""
    dataset = SDOMLlite(folder, SIX)
    dataset.reader.files = SlowFiles(str(folder), rate)
    loader = BatchLoader(dataset, batch_size=4, threads=3, prefetch=3)
    return _rate(loader, samples)


SERVER_RATES = (10, 30, 100, 300, 1000, 3000)  # MB/s
DISK_RATES = (10, 30, 100, 300, 600, 1000, 2000, 4000, 8000)  # MB/s


def crossing(picture: Path | None, passes: int, *, server: bool) -> None:
    """Print and plot rates from a throttled disk, and print those from a throttled server."""
    with tempfile.TemporaryDirectory() as folder:
        releases = write_releases(Path(folder))
        print("Disk:\n")
        rates = throttled(releases, DISK_RATES, from_disk, passes)
        if picture is not None:
            draw(rates, picture)
        if server:
            print("\nHTTP server on loopback:\n")
            throttled(releases, SERVER_RATES, from_server, passes)


def throttled(
    releases: Mapping[Encoding, Path],
    limits: Sequence[int],
    read: Callable[[Path, float, int], float],
    passes: int,
) -> dict[Encoding, list[float]]:
    """Print and return the samples per second of each encoding at each limit."""
    rates: dict[Encoding, list[float]] = {encoding: [] for encoding in releases}
    for limit in limits:
        samples = min(96, max(8, 2 * limit // 6))
        best = dict.fromkeys(releases, 0.0)
        for _ in range(passes):
            for encoding, path in releases.items():
                best[encoding] = max(best[encoding], read(path, limit * 1e6, samples))
        for encoding, rate in best.items():
            rates[encoding].append(rate)
    print("| store (MB/s) | " + " | ".join(rates) + " | compact / npy |\n" + "|---:" * 5 + "|")
    for number, limit in enumerate(limits):
        cells = [f"{rates[encoding][number]:.1f}" for encoding in rates]
        factor = rates["compact"][number] / rates["npy"][number]
        print(f"| {limit} | {' | '.join(cells)} | {factor:.1f}× |")
    return rates


def draw(rates: dict[Encoding, list[float]], picture: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for encoding, line in rates.items():
        axes.loglog(DISK_RATES, line, marker="o", label=encoding)
    axes.axvline(300, color="gray", linestyle=":", label="300 MB/s")
    axes.set(xlabel="rate of the store (MB/s)", ylabel="samples of six 512×512 channels per second",
             title="BatchLoader from a throttled disk, two cores")  # fmt: skip
    axes.legend()
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def training(seeds: int) -> None:
    """Train a small model to predict 193 Å from 171 Å with each encoding."""
    channels = ("AIA_0171", "AIA_0193")
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for encoding in ENCODINGS:
            path = write_release(
                Path(folder, encoding), encoding, channels, samples=64, distinct=64, resolution=128
            )
            losses[encoding] = [train(path, channels, seed) for seed in range(seeds)]
    print("| encoding | validation loss, mean | scatter between seeds | difference from npy |\n"
          "|---|---|---|---|")  # fmt: skip
    base = statistics.mean(losses["npy"])
    for encoding, each in losses.items():
        mean = statistics.mean(each)
        print(f"| {encoding} | {mean:.4e} | {statistics.stdev(each):.1e} | {mean - base:+.1e} |")


def train(folder: Path, channels: Sequence[str], seed: int) -> float:
    """Return the validation loss of a small network after 10 epochs."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    parts = SDOMLlite(folder, channels)
    split = parts.times[47] + np.timedelta64(1, "s")
    first, last = parts.times[0], parts.times[-1] + np.timedelta64(1, "s")
    known, unknown = parts.within([(first, split)]), parts.within([(split, last)])
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 5, padding=2), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for images, _ in BatchLoader(known, batch_size=4, shuffle=True, seed=seed):
            loss = torch.nn.functional.mse_loss(model(images[:, :1]), images[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        images, _ = next(iter(BatchLoader(unknown, batch_size=len(unknown))))
        return float(torch.nn.functional.mse_loss(model(images[:, :1]), images[:, 1:]))


def mission(resolutions: Sequence[int]) -> None:
    """Print gigabytes for the default channels every 15 minutes, averaged over a solar cycle."""
    years = (date(2027, 1, 1) - date(2010, 5, 13)).days / 365.25
    print("| resolution | encoding | GB per day | GB per year | 2010–2026 (GB) |\n"
          "|---|---|---|---|---|")  # fmt: skip
    for resolution in resolutions:
        for encoding in ENCODINGS:
            sample = sum(
                statistics.mean(bytes_of(name, day, resolution, encoding) for day in CYCLE)
                for name in DEFAULT
            )
            day = 96 * sample / 1e9
            print(f"| {resolution} | {encoding} | {day:.3f} | {365.25 * day:,.0f} | "
                  f"{365.25 * years * day:,.0f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "codecs": lambda _: codecs(),
        "sizes": lambda _: sizes(),
        "noise": lambda _: noise(),
        "rounding": lambda _: rounding(),
        "loading": lambda options: loading(options.passes),
        "crossing": lambda options: crossing(
            options.picture, options.passes, server=options.server
        ),
        "training": lambda options: training(options.seeds),
        "mission": lambda options: mission(options.resolutions),
    }
    parser.add_argument("what", choices=commands, nargs="+")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--server", action="store_true", help="also read from an HTTP server")
    options = parser.parse_args()
    for name in options.what:
        print(f"\n## {name}\n", flush=True)
        commands[name](options)


if __name__ == "__main__":
    main()

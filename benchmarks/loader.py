"""Compare the speed of the loader with that of other readers.

``python -m benchmarks.loader`` writes synthetic shards to a temporary folder, reads them with
each reader in one run and prints a table. The page cache is warm. litdata and Mosaic Streaming
are included if they are installed; they read their own formats, written from the same frames. They
are not dependencies of this project. Install them in a copy of the environment, one after the
other: ``pip install litdata==0.2.76 torch==2.13.0``, ``pip install mosaicml-streaming==0.13.0
torch==2.13.0``. Mosaic imports torchvision. If no build of torchvision matches the build of torch,
an empty module with this name on the path is sufficient.

The reference loader works like the original SDOML-lite loader: it has an index of members, opens
the tar for each member, and decodes all channels of a sample.
"""

import argparse
import dataclasses
import gc
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import webdataset
from torch.utils.data import DataLoader, Dataset

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.loader import BatchLoader, SDOMLlite, shard_dataset

SIX = ("HMI_M", "AIA_0131", "AIA_0171", "AIA_0193", "AIA_0211", "AIA_1600")
SIDE = 512
ORIGINAL = "original's method"
ONE_COPY = "one copy in memory"
OURS = ("BatchLoader, shuffled", "shard_dataset, in sequence")
START = datetime(2022, 11, 1, tzinfo=UTC)


def write_release(folder: Path, channels: Iterable[str], samples: int, shards: int = 2) -> Path:
    """Write shards of noise with their index, as in a release."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = sorted(channels)
    indexes = []
    for number in range(shards):
        path = folder / f"sdoml-lite-{number + 1}.tar"
        with path.open("wb") as file:
            writer = ShardWriter(file)
            for i in range(number * samples // shards, (number + 1) * samples // shards):
                for name in names:
                    slot = START + i * timedelta(minutes=15)
                    pixels = rng.random((SIDE, SIDE), np.float32)
                    writer.add(slot, CHANNELS[name], pixels, FrameFacts(observed=slot))
            summary = writer.close()
        data = encode_index(
            summary.table,
            shard=path.name,
            shard_bytes=summary.bytes,
            shard_sha256=summary.sha256,
            normalization_version="benchmark",
        )
        indexes.append(decode_index(data))
    (folder / "index.parquet").write_bytes(consolidate(indexes))
    return folder


class Reference(Dataset):
    """Reads samples in the same way as the original SDOML-lite loader."""

    def __init__(self, folder: Path):
        self.members = {}
        for path in sorted(folder.glob("*.tar")):
            with tarfile.open(path) as archive:
                self.members |= {info.name: (path, info) for info in archive.getmembers()}
        self.samples: dict[str, list[str]] = {}
        for name in self.members:
            self.samples.setdefault(name.split(".", 1)[0], []).append(name)
        self.keys = list(self.samples)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, str]:
        frames = {}
        for name in self.samples[self.keys[number]]:
            path, info = self.members[name]
            with tarfile.open(path) as archive:
                body = io.BytesIO(archive.extractfile(info).read())
            frames[name.split(".")[1]] = np.load(body)
        return torch.from_numpy(np.stack([frames[name] for name in SIX])), self.keys[number]


class BarePread(Dataset):
    """Reads each sample with one pread into a new tensor, as fast as disk and kernel allow."""

    def __init__(self, folder: Path):
        table = SDOMLlite(folder, SIX).reader
        self.places = [
            (folder / table.catalog.shards[shard], int(start))
            for shard, start in zip(
                table.catalog.shard, np.sort(table.offsets, axis=1)[:, 0], strict=True
            )
        ]
        self.files: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        path, start = self.places[number]
        if path not in self.files:
            self.files[path] = os.open(path, os.O_RDONLY)
        tensor = torch.empty((len(SIX), SIDE, SIDE))
        os.preadv(self.files[path], [memoryview(tensor.numpy()).cast("B")], start)
        return tensor, number


def one_copy(folder: Path, size: int, threads: int = 2) -> Callable[[], int]:
    """Return a reader that copies each batch once, from mapped files to memory in use."""
    places = BarePread(folder).places
    frames = len(SIX) * SIDE * SIDE * 4
    maps = {path: np.memmap(path, np.uint8, "r") for path, _ in places}
    sources = [maps[path][start : start + frames] for path, start in places]
    ring = [np.ones((size, frames), np.uint8) for _ in range(3)]

    def read() -> int:
        with ThreadPoolExecutor(threads) as pool:
            for batch, first in zip(cycle(ring), range(0, len(sources), size), strict=False):
                list(pool.map(np.copyto, batch, sources[first : first + size]))
        return len(sources)

    return read


def stack(sample: dict) -> tuple[torch.Tensor, str]:
    frames = np.stack([sample[f"{name.lower()}.npy"] for name in SIX])
    return torch.from_numpy(frames), sample["__key__"]


def plain_webdataset(folder: Path) -> webdataset.WebDataset:
    urls = sorted(map(str, folder.glob("*.tar")))
    options = {"shardshuffle": False, "empty_check": False}
    return webdataset.WebDataset(urls, **options).decode().map(stack)


def installed(module: str) -> bool:
    """Return whether a reader is installed, and print a line if it is not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"\n{module} is not installed, so it is skipped")
    return found


def rate(read: Callable[[], int], passes: int) -> float:
    """Return the samples per second of the best pass, after a warm-up."""
    read()
    best = 0.0
    for _ in range(passes):
        gc.collect()
        begin = time.perf_counter()
        count = read()
        best = max(best, count / (time.perf_counter() - begin))
    return best


def consume(batches: Iterable) -> int:
    """Read one pixel of each batch, and count the samples."""
    count = 0
    for batch in batches:
        tensor = batch[0] if isinstance(batch, list | tuple) else batch
        tensor = tensor["x"] if isinstance(tensor, dict) else tensor
        float(tensor[0, 0, 0, 0])
        count += len(tensor)
    return count


def litdata_dataset(folder: Path, source: Path) -> Callable[[], Dataset]:
    import litdata

    code = (
        "import sys, litdata, numpy as np; from sdoml_core.loader import SDOMLlite\n"
        f"ds = SDOMLlite({str(source)!r})\n"
        "def sample(i): return {'x': ds[i][0].clone()}\n"
        "if __name__ == '__main__':\n"
        f"    litdata.optimize(sample, list(range(len(ds))), output_dir={str(folder)!r}, "
        "chunk_bytes='256MB', num_workers=1)\n"
    )
    script = folder.parent / "write_litdata.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
    return lambda: litdata.StreamingDataset(str(folder))


def mosaic_dataset(folder: Path, source: Path) -> Callable[[], Dataset]:
    from streaming import MDSWriter, StreamingDataset

    dataset = SDOMLlite(source, SIX)
    columns = {"x": f"ndarray:float32:{len(SIX)},{SIDE},{SIDE}"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=256 << 20) as writer:
        for tensor, _ in dataset:
            writer.write({"x": tensor.numpy()})
    return lambda: StreamingDataset(local=str(folder), shuffle=False, batch_size=4)


def big_index(folder: Path, shards: int) -> Path:
    """Write the index of a release of many days, and sparse shards with a few frames."""
    folder.mkdir()
    file = io.BytesIO()
    writer = ShardWriter(file)
    pixels = np.zeros((SIDE, SIDE), np.float32)
    rng = np.random.default_rng(0)
    rows, position = [], 0
    for i in range(96):
        slot = START + i * timedelta(minutes=15)
        for name in DEFAULT_CHANNELS:
            if rng.random() < 0.005:
                continue
            rows.append((slot, name, position))
            position += 1
    # Write only one member, because all have the same size and a whole day would take 800 MB.
    writer.add(START, CHANNELS["HMI_M"], pixels, FrameFacts(START, 2.9, 0, 962.0, 0.8, 1.0, "sqrt"))
    one = writer.close().table.to_pylist()[0]
    step = one["size"] + 512 + (-one["size"] % 512)
    day = pa.Table.from_pylist(
        [
            one
            | {
                "slot": slot,
                "channel": name,
                "member": f"{slot:%Y/%m/%d/%H%M}.{name}.npy",
                "offset": 512 + place * step,
                "data_offset": 640 + place * step,
            }
            for slot, name, place in rows
        ],
        schema=writer.close().table.schema,
    )
    size = position * step + 10240
    indexes = []
    template = decode_index(
        encode_index(
            day,
            shard="a.tar",
            shard_bytes=size,
            shard_sha256="0" * 64,
            normalization_version="benchmark",
        )
    )
    slots = day["slot"].cast(pa.int64()).to_numpy()
    for number in range(shards):
        moved = pa.array(slots + number * 86_400_000).cast(day.schema.field("slot").type)
        checks = pa.array(rng.integers(0, 1 << 32, len(day), dtype=np.uint32))
        table = template.table.set_column(0, day.schema.field(0), moved)
        table = table.set_column(6, day.schema.field(6), checks)
        name = f"sdoml-lite-{number + 1:04d}.tar"
        indexes.append(dataclasses.replace(template, table=table, shard=name))
        with (folder / name).open("wb") as tar:
            tar.truncate(size)  # create the shards, because the loader checks that they exist
    (folder / "index.parquet").write_bytes(consolidate(indexes))
    member = file.getvalue()[: one["offset"] + one["size"]]
    with (folder / "sdoml-lite-0001.tar").open("r+b") as tar:
        for _, _, place in rows[:8]:
            tar.seek(place * step)
            tar.write(member)
    return folder


COLD = """
import time, psutil, sys
import torch, pyarrow.parquet
import sdoml_core.loader
process = psutil.Process()
before = process.memory_info().rss
begin, busy = time.perf_counter(), time.process_time()
dataset = sdoml_core.loader.SDOMLlite(sys.argv[1])
sample = dataset[0]
took, cpu = time.perf_counter() - begin, time.process_time() - busy
rss = process.memory_info().rss
print(took, cpu, (rss - before) / 1e6, before / 1e6, len(dataset))
"""


def cold_start(folder: Path) -> list[float]:
    """Measure the time and memory that a new process needs to read its first sample."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", COLD, str(folder)], check=True, capture_output=True, text=True
        ).stdout.split()
        for _ in range(3)
    ]
    return [float(value) for value in min(runs, key=lambda run: float(run[0]))]


def steady_memory(folder: Path) -> float:
    """Return the growth of resident memory in MB over two passes of batches."""
    import psutil

    loader = BatchLoader(SDOMLlite(folder), 4, shuffle=True)
    consume(loader)
    before = psutil.Process().memory_info().rss
    consume(loader)
    consume(loader)
    return (psutil.Process().memory_info().rss - before) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--days", type=int, default=6000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    root = Path(tempfile.mkdtemp(prefix="sdoml-benchmark-"))
    try:
        run(root, options)
    finally:
        shutil.rmtree(root)


def run(root: Path, options: argparse.Namespace) -> None:
    six = write_release(root / "six", SIX, options.samples)
    print(
        f"{options.samples} samples of six {SIDE}² float32 channels, {os.cpu_count()} cores "
        f"(load {os.getloadavg()[0]:.1f}), torch {torch.__version__}, best of {options.passes} "
        "passes, warm page cache"
    )
    compare_samples(root, six, options)
    compare_batches(root, six, options)
    print(f"\nMemory: grows by {steady_memory(six):.0f} MB in two more passes of BatchLoader")
    took, cpu, grown, imports, count = cold_start(big_index(root / "big", options.days))
    print(
        f"Release of {options.days} shards, {count:.0f} samples: first sample after {took:.2f} s "
        f"({cpu:.2f} s of one core); {grown:.0f} MB more than the {imports:.0f} MB that importing "
        "torch and pyarrow takes"
    )


def compare_samples(root: Path, six: Path, options: argparse.Namespace) -> None:
    """Compare readers on single samples in random order."""
    eight = write_release(root / "eight", DEFAULT_CHANNELS, options.samples)
    order = np.random.default_rng(1).permutation(options.samples).tolist()

    def each(dataset: Dataset) -> float:
        return rate(lambda: consume([dataset[n][0][None]] for n in order), options.passes)

    rows = {
        "original's method": each(Reference(six)),
        "bare pread, fresh tensor": each(BarePread(six)),
        "SDOMLlite": each(SDOMLlite(six)),
        "SDOMLlite, verify=True": each(SDOMLlite(six, verify=True)),
    }
    print("\nSingle samples in random order (samples/s, relative to the original's method)")
    for name, value in rows.items():
        print(f"  {name:<28}{value:>7.0f} /s {value / rows[ORIGINAL]:>8.2f} ×")
    part = rows["SDOMLlite"] / rows["bare pread, fresh tensor"]
    print(f"  SDOMLlite / bare pread: {100 * part:.0f}%")
    adjacent = each(SDOMLlite(eight, ["AIA_0171", "AIA_0193"]))
    apart = each(SDOMLlite(eight, ["AIA_0094", "HMI_M"]))
    whole = each(SDOMLlite(eight, DEFAULT_CHANNELS))
    print("\nTwo channels of eight (time relative to all eight; they have 0.25 of the bytes)")
    print(f"  adjacent {whole / adjacent:.2f}, apart {whole / apart:.2f}")


def compare_batches(root: Path, six: Path, options: argparse.Namespace) -> None:
    """Compare readers on batches, each with several settings."""
    size = options.batch_size
    results: dict[str, dict[str, float]] = {}

    def measure(name: str, setting: str, read: Callable[[], int]) -> None:
        results.setdefault(name, {})[setting] = rate(read, options.passes)

    def loaders(name: str, make: Callable[[], Dataset]) -> None:
        for workers in (0, 1, 2):
            loader = DataLoader(make(), size, num_workers=workers)
            measure(name, f"{workers} workers", partial(consume, loader))

    loaders(ORIGINAL, lambda: Reference(six))
    loaders("bare pread", lambda: BarePread(six))
    measure(ONE_COPY, "2 threads", one_copy(six, size))
    loaders("webdataset", lambda: plain_webdataset(six))
    if installed("litdata"):
        import litdata

        make = litdata_dataset(root / "litdata", six)
        loaders("litdata", make)
        for workers in (0, 1, 2):
            loader = litdata.StreamingDataLoader(make(), batch_size=size, num_workers=workers)
            measure("litdata", f"{workers} in its own loader", partial(consume, loader))
    if installed("streaming"):
        loaders("streaming", mosaic_dataset(root / "streaming", six))
    loaders("SDOMLlite in a DataLoader", lambda: SDOMLlite(six))
    for threads in (0, 1, 2, 3):
        ahead = BatchLoader(SDOMLlite(six), size, shuffle=True, threads=threads)
        measure(OURS[0], f"{threads} threads", partial(consume, ahead))
    for workers in (0, 1, 2):
        stream = shard_dataset(six, batch_size=size, shuffle=False)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        measure(OURS[1], f"{workers} workers", partial(consume, loader))
    show(results, size)


def show(results: dict[str, dict[str, float]], size: int) -> None:
    print(f"\nBatches of {size} (samples/s)")
    for name, values in results.items():
        told = ", ".join(f"{setting} {value:.0f}" for setting, value in values.items())
        print(f"  {name:<28}{max(values.values()):>7.0f}   ({told})")
    best = {name: max(values.values()) for name, values in results.items()}
    peers = [name for name in (ORIGINAL, "webdataset", "litdata", "streaming") if name in best]
    for ours in OURS:
        ratios = ", ".join(f"{name} {best[ours] / best[name]:.1f} ×" for name in peers)
        print(f"  {ours}, best settings: {ratios}; {best[ours] / best[ONE_COPY]:.0%} of {ONE_COPY}")


if __name__ == "__main__":
    main()

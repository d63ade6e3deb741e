"""Other tools can read shards without this package, and the loader can read webdataset shards."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.channels import DEFAULT_CHANNELS
from sdoml_core.loader import SDOMLlite
from tests.support.synthetic_shards import FIRST, at, frame, missing, write_day, write_release


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_day(folder, FIRST, hours=2)
    return folder


def expected(slot):
    return {name for name in DEFAULT_CHANNELS if not missing(slot, name)}


def test_tarfile_and_numpy_read_shards(folder):
    count = 0
    with tarfile.open(next(folder.glob("*.tar"))) as archive:
        for member in archive:
            day, name = member.name[:10], member.name[11:]
            slot = at(f"{day.replace('/', '-')}T{name[:2]}:{name[2:4]}")
            pixels = np.frombuffer(archive.extractfile(member).read()[128:], "<f4")
            channel = name.split(".")[1]
            np.testing.assert_array_equal(pixels, frame(slot, channel).ravel())
            count += 1
    assert count == 8 * len(DEFAULT_CHANNELS) - 2


@pytest.mark.filterwarnings(
    # webdataset does not close its files, and the garbage collector warns about them.
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)
def test_webdataset_groups_channels_by_slot(folder):
    import webdataset

    urls = [str(path) for path in folder.glob("*.tar")]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert len(samples) == 8
    for sample in samples:
        slot = at(f"{sample['__key__'][:10].replace('/', '-')}T{sample['__key__'][11:]}")
        # webdataset converts extensions to lowercase.
        names = {key for key in sample if not key.startswith("__")}
        assert names == {f"{name.lower()}.npy" for name in expected(slot)}
        np.testing.assert_array_equal(sample["hmi_m.npy"], frame(slot, "HMI_M"))


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_reads_local_shards(tmp_path):
    import datasets

    # The webdataset builder infers the columns from the first samples, so these must all have the
    # same members.
    write_day(tmp_path, FIRST, hours=2, channels=["AIA_0193", "HMI_M"])
    rows = datasets.load_dataset(
        "webdataset",
        data_files={"train": str(tmp_path / "*.tar")},
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(rows) == 8
    row = rows[3]
    assert row["__key__"] == "2022/11/01/0045"
    columns = {name.lower(): name for name in row}
    pixels = np.array(row[columns["hmi_m.npy"]], np.float32)
    np.testing.assert_array_equal(pixels, frame(at("2022-11-01T00:45"), "HMI_M"))


def test_loader_reads_webdataset_shards(tmp_path):
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "sdoml-lite-0.tar")) as sink:
        for slot in (at("2022-11-01T00:15"), at("2022-11-01T00:30")):
            frames = {f"{n.lower()}.npy": frame(slot, n) for n in DEFAULT_CHANNELS}
            sink.write({"__key__": f"{slot:%Y/%m/%d/%H%M}", **frames})
    dataset = SDOMLlite(tmp_path)
    assert len(dataset) == 2
    for tensor, time in dataset:
        for pixels, name in zip(tensor, dataset.channels, strict=True):
            np.testing.assert_array_equal(pixels.numpy(), frame(at(time), name))


def test_import_error_for_missing_torch_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import sdoml_core.formats.shard, sdoml_core.formats.index\n"
        "from sdoml_core.loader import SDOMLlite"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError: sdoml_core.loader needs PyTorch" in run.stderr
    assert "pip install -e '.[loader]'" in run.stderr


def test_frame_is_read_without_torch(tmp_path: Path):
    write_release(tmp_path, 1, dtype="float16")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from sdoml_core.loader.reading.reader import FrameReader\n"
        "from sdoml_core.loader.storage.open_folder import open_catalog, open_files\n"
        "files = open_files(sys.argv[1])\n"
        "reader = FrameReader(files, open_catalog(files), ['AIA_0193'], units='normalized', "
        "verify=True)\n"
        "out = np.empty(reader.shape, np.float32)\n"
        "reader.read(1, out)\n"
        "print(out.sum(dtype='float64'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    expected = frame(at("2022-11-01T00:15"), "AIA_0193").astype(np.float16).sum(dtype="float64")
    assert float(run.stdout) == pytest.approx(float(expected), rel=1e-12)


def test_shards_and_indexes_do_not_need_torch_or_astropy():
    code = (
        "import sys, sdoml_core.formats.shard, sdoml_core.formats.index\n"
        "import sdoml_core.loader.reading.reader, sdoml_core.loader.storage.open_folder\n"
        "print(sorted({'torch', 'astropy', 'numba', 'pandas', 'fsspec'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""A store on a full disk, and a read-only store."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdoml_core.errors import StoreError
from sdoml_demo.server import Archive
from tests.support.day_deployment import Deploy

pytestmark = pytest.mark.needs("mounts")


def mount(folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A 3 MiB file system."""
    folder = tmp_path / "disk"
    mount(folder, "size=3m")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_full_disk_error_names_path_and_size(disk: Path, archive: Archive, deploy: Deploy) -> None:
    small, large = deploy(archive, store=str(disk / "store")), deploy(archive)
    large.build()
    expected = large.files()
    error = rf"^cannot write {disk}/store/\S+: No space left on device "
    need = r"\([0-9.]+ MiB needed, [0-9.]+ MiB free in \S+\); free some space and run again$"
    with pytest.raises(StoreError, match=error + need):
        small.fetch()
    for thread in threading.enumerate():
        if thread.name.startswith("raw-"):
            thread.join(timeout=60)  # a failed fetch does not wait for its other threads
    found = small.files()
    assert found, "at least one file must fit on the disk"
    assert found.items() <= expected.items()
    # The disk has enough space for the raw frames, but not for the processed frames.
    raw = sum(path.stat().st_size for path in (large.folder / "raw").rglob("*") if path.is_file())
    remount(disk, f"size={raw + (96 << 10)}")
    small.fetch()
    with pytest.raises(StoreError, match=error + need):
        small.process()
    assert small.files().items() <= expected.items()
    remount(disk, "size=100m")
    small.build()
    assert small.files() == expected


def test_read_only_store_is_reported_in_one_line(
    disk: Path, archive: Archive, deploy: Deploy
) -> None:
    day = deploy(archive, store=str(disk / "store"))
    remount(disk, "ro")
    with pytest.raises(
        StoreError,
        match=rf"^cannot write {disk}/store\S*: Read-only file system; is SDOML_STORE=.* right[?]$",
    ):
        day.fetch()

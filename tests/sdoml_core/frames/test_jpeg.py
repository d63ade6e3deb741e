"""The structure of JPEG files. Damage is detected if it makes a file inconsistent."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.errors import CorruptFrameError, FrameError, NotAnImageError, TruncatedFrameError
from sdoml_core.frames.jpeg import Blocks, read_scan, read_structure

ROOT = Path(__file__).parents[3]
RECONSTRUCTED = (ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg").read_bytes()


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def scan(data: bytes) -> tuple[Blocks, ...]:
    return read_scan(data, read_structure(data))


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def assert_means(data: bytes) -> None:
    """Check the mean luminance of blocks against the pixels that Pillow decodes."""
    with Image.open(io.BytesIO(data)) as picture:
        luma = np.asarray(picture.convert("L") if picture.mode == "L" else picture.convert("YCbCr"))
    luma = luma if luma.ndim == 2 else luma[..., 0]
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    means = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean((1, 3))
    found = scan(data)[0].mean[:rows, :columns] / 8 + 128
    inside = (found > 20) & (found < 235)  # compare only blocks without clipped pixels
    assert inside.sum() > 10
    assert np.abs(found - means)[inside].max() < 3


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("interval", [0, 7])
def test_block_means_match_pillow(subsampling: int, interval: int) -> None:
    smooth = np.linspace(40, 220, 104 * 88).reshape(104, 88).astype(np.uint8)
    pixels = np.stack([smooth, smooth, smooth], axis=2) + noise((104, 88, 3)) // 16
    options = {"restart_marker_blocks": interval} if interval else {}
    assert_means(jpeg(pixels, quality=95, subsampling=subsampling, **options))


def test_gray_file_has_one_component() -> None:
    data = jpeg(np.linspace(40, 220, 64 * 72).reshape(64, 72).astype(np.uint8), quality=95)
    assert len(scan(data)) == 1
    assert_means(data)


def test_flat_blocks_have_zero_contrast() -> None:
    light, *color = scan(jpeg(np.zeros((32, 32, 3), np.uint8), quality=95))
    assert (light.mean == -1024).all()
    assert not light.energy.any()
    assert not any(part.mean.any() or part.energy.any() for part in color)


def test_progressive_file_is_not_decoded() -> None:
    assert not read_structure(jpeg(noise((64, 64, 3)), progressive=True)).baseline


def test_missing_or_extra_data_is_detected() -> None:
    data = jpeg(noise((64, 64, 3)), quality=95)
    structure = read_structure(data)
    end = structure.data_end
    short = data[: end - 40].rstrip(b"\xff") + data[end:]
    with pytest.raises(CorruptFrameError, match="damaged"):
        scan(short)
    with pytest.raises(CorruptFrameError, match="left over"):
        scan(data[:end] + bytes(4) + data[end:])


def test_restart_markers_must_be_complete_and_ordered() -> None:
    data = jpeg(noise((64, 64, 3)), quality=95, restart_marker_blocks=4)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    with pytest.raises(CorruptFrameError, match="restart markers, not"):
        scan(data[:first] + data[first + 2 :])
    swapped = bytearray(data)
    swapped[first + 1], swapped[second + 1] = 0xD1, 0xD0
    with pytest.raises(CorruptFrameError, match="out of order"):
        scan(bytes(swapped))


def test_bytes_after_the_end_are_rejected_unless_they_are_padding() -> None:
    data = jpeg(noise((64, 64, 3)))
    scan(data + bytes(100) + b"\r\n")
    with pytest.raises(CorruptFrameError, match="6 bytes follow the end"):
        scan(data + b"<html>")


@pytest.mark.parametrize("data", [b"", b"<html>", b"GIF89a" + bytes(100)])
def test_bytes_that_are_not_a_jpeg_are_rejected(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        read_structure(data)


def test_truncations_are_detected() -> None:
    for length in np.linspace(3, len(RECONSTRUCTED) - 1, 200).astype(int).tolist():
        with pytest.raises(FrameError):
            scan(RECONSTRUCTED[:length])
    with pytest.raises(TruncatedFrameError):
        scan(RECONSTRUCTED[:-2])


def test_random_changes_raise_only_frame_errors() -> None:
    data = jpeg(noise((64, 64, 3)), quality=95)
    random = np.random.default_rng(1)
    for _ in range(500):
        changed = bytearray(data)
        for place in random.integers(0, len(data), 3).tolist():
            changed[place] = int(random.integers(256))
        try:
            structure = read_structure(bytes(changed))
            if structure.baseline and structure.width * structure.height < 1 << 20:
                read_scan(bytes(changed), structure)
        except FrameError:
            continue

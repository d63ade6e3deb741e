"""The RICE_1 encoder, compared with CFITSIO's output and checked with astropy's decoder."""

import io
from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits

from sdoml_core.fits.rice_encoder import encode_rows
from sdoml_demo.render.aia_file import _template

KEPT = ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "GCOUNT", "TFIELDS", "TTYPE1")


def decoded(image):
    """Write a compressed image to a file and read it with astropy."""
    heap, descriptors = encode_rows(image)
    rows, columns = image.shape
    table = descriptors.astype(">i4").tobytes()
    values = {
        "NAXIS2": rows,
        "PCOUNT": heap.size,
        "TFORM1": f"'1PB({descriptors[:, 0].max()})'",
        "ZNAXIS1": columns,
        "ZNAXIS2": rows,
        "ZTILE1": columns,
    }
    primary, cards = _template()
    header = b""
    for card in cards:
        keyword = card[:8].decode().strip()
        if keyword in values:
            value = str(values[keyword])
            value = f"{value:<20}" if value.startswith("'") else f"{value:>20}"
            header += f"{keyword:<8}= {value}".encode().ljust(80)
        elif keyword[0] == "Z" or keyword in KEPT:
            header += card
    header += b"END".ljust(80)
    header += b" " * (-len(header) % 2880)
    data = table + heap.tobytes()
    data += bytes(-len(data) % 2880)
    with fits.open(io.BytesIO(primary + header + data)) as hdus:
        return np.array(hdus[1].data)


def test_real_frame_compresses_to_the_archive_bytes():
    path = files("sdoml_demo") / "data" / "AIA20180820_1248_0193.fits"
    data = path.read_bytes()
    with fits.open(io.BytesIO(data), do_not_scale_image_data=True) as hdus:
        image = np.array(hdus[1].data, np.int32)
    heap, descriptors = encode_rows(image)
    start = 2880 + 17280
    assert data[start : start + 8192] == descriptors.astype(">i4").tobytes()
    assert data[start + 8192 : start + 8192 + 1076347] == heap.tobytes()


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("bits", [0, 1, 4, 12, 24, 28, 31])
def test_images_round_trip(columns, bits):
    rng = np.random.default_rng(bits * 1000 + columns)
    image = rng.integers(-(2**bits), 2**bits, (7, columns), dtype=np.int64).astype(np.int32)
    np.testing.assert_array_equal(decoded(image), image)


def test_constant_rows_and_blank_pixels_round_trip():
    image = np.zeros((4, 96), np.int32)
    image[1] = 77
    image[2, 5:40] = -(2**31)
    image[3, ::2], image[3, 1::2] = 2**31 - 1, -(2**31)
    np.testing.assert_array_equal(decoded(image), image)

"""Locating, checking and reading the image in a FITS file, compared with astropy."""

import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdoml_core.errors import (
    CorruptFrameError,
    FrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)
from sdoml_core.fits import header as fits
from sdoml_core.fits.pixels import read_pixels

REAL_AIA = Path(__file__).parents[3] / "sdoml_demo/data/AIA20180820_1248_0193.fits"
REAL = REAL_AIA.read_bytes()

ILLEGAL_CARDS = {"RSUN_LF": b"nan", "OSCNMEAN": b"-nan", "HCIEC_X": b"nan"}


def compressed(
    image: NDArray[np.generic],
    kind: str = "RICE_1",
    cards: dict[str, bytes] | None = None,
    *,
    checksum: bool = False,
) -> bytes:
    """Return a file with a compressed image in HDU 1, and cards that astropy may not accept."""
    hdu = astropy_fits.CompImageHDU(image, compression_type=kind)
    return _written([astropy_fits.PrimaryHDU(), hdu], cards, checksum=checksum)


def plain(
    image: NDArray[np.generic], cards: dict[str, bytes] | None = None, *, checksum: bool = False
) -> bytes:
    """Return a file with the image in HDU 0, as in near-real-time files."""
    return _written([astropy_fits.PrimaryHDU(image)], cards, checksum=checksum)


def _written(hdus: list[object], cards: dict[str, bytes] | None, *, checksum: bool) -> bytes:
    file = io.BytesIO()
    astropy_fits.HDUList(hdus).writeto(file, checksum=checksum)
    data = file.getvalue()
    if not cards:
        return data
    end = data.rindex(b"END".ljust(80))
    start = max(data.rfind(b"XTENSION=", 0, end), 0)
    header = data[start:end]
    header += b"".join((f"{key:8}= ".encode() + value).ljust(80) for key, value in cards.items())
    header += b"END".ljust(80)
    header = header.ljust(-(-len(header) // 2880) * 2880)
    return data[:start] + header + data[start + -(-(end + 80 - start) // 2880) * 2880 :]


def read(data: bytes) -> tuple[NDArray[np.float32], int]:
    hdu = fits.find_image(data)
    fits.verify_checksum(data, hdu)
    return read_pixels(data, hdu)


def read_by_astropy(data: bytes) -> NDArray[np.float32]:
    with astropy_fits.open(io.BytesIO(data)) as hdus:
        pixels = next(hdu.data for hdu in hdus if hdu.header["NAXIS"] == 2)
        return np.asarray(pixels).astype(np.float32)


def replace_card(data: bytes, key: str, value: bytes) -> bytes:
    """Return the file with a different value in the last card with this keyword."""
    start = data.rindex(f"{key:8}=".encode())
    return data[:start] + (f"{key:8}= ".encode() + value).ljust(80) + data[start + 80 :]


def without_checksums(data: bytes) -> bytes:
    return data.replace(b"CHECKSUM=", b"CHECKXXX=").replace(b"DATASUM =", b"DATAXXX =")


SMALL = compressed(
    np.random.default_rng(5).normal(50, 300, (40, 70)).astype(np.int32), checksum=True
)
SMALL_BARE = without_checksums(SMALL)


def test_real_frame_matches_astropy() -> None:
    image, missing = read(REAL)
    assert missing == 0
    np.testing.assert_array_equal(image, read_by_astropy(REAL))


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([np.int16, np.int32]),
    st.integers(1, 130),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(b"1.0", b"0.0"), (b"0.0625", b"0."), (b"2.5E-1", b"-17.3"), (b"1.D1", b"3")]),
)
def test_scaled_rice_image_with_blanks_matches_astropy(
    dtype: type[np.integer], columns: int, rows: int, seed: int, scaling: tuple[bytes, bytes]
) -> None:
    random = np.random.default_rng(seed)
    image = random.normal(0, 2.0 ** random.uniform(0, 14), (rows, columns)).astype(dtype)
    blank = np.iinfo(dtype).min
    image[random.random(image.shape) < 0.1] = blank
    data = compressed(
        image,
        cards={"BSCALE": scaling[0], "BZERO": scaling[1], "BLANK": str(blank).encode()},
    )
    pixels, missing = read(data)
    expected = float(scaling[0].replace(b"D", b"E")) * image.astype(np.float64) + float(scaling[1])
    expected[image == blank] = np.nan
    np.testing.assert_array_equal(pixels, expected.astype(np.float32))
    assert missing == (image == blank).sum()
    # astropy scales 16-bit pixels in float32
    np.testing.assert_allclose(pixels, read_by_astropy(data), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_other_compressions_match_astropy_despite_illegal_cards(
    kind: str, dtype: type[np.generic]
) -> None:
    image = np.random.default_rng(2).integers(0, 99, (32, 64)).astype(dtype)
    data = compressed(image, kind, cards=ILLEGAL_CARDS)
    np.testing.assert_array_equal(read(data)[0], read_by_astropy(data))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_uncompressed_image_in_hdu_0_is_read_despite_illegal_cards(
    dtype: type[np.generic],
) -> None:
    image = np.random.default_rng(2).integers(0, 99, (32, 64)).astype(dtype)
    np.testing.assert_array_equal(read(plain(image, ILLEGAL_CARDS))[0], image)


def test_nonfinite_pixels_count_as_missing() -> None:
    image = np.ones((16, 16), np.float64)
    image[3, 4:8] = [np.nan, np.inf, -np.inf, 1e300]
    pixels, missing = read(plain(image))
    assert missing == 4
    assert np.isnan(pixels[3, 4:8]).all()
    assert np.isfinite(pixels).sum() == pixels.size - 4


def test_blank_pixels_of_an_uncompressed_image_count_as_missing() -> None:
    image = np.arange(256, dtype=np.int16).reshape(16, 16)
    pixels, missing = read(plain(image, {"BLANK": b"7"}))
    assert missing == 1
    assert np.isnan(pixels[0, 7])


def test_image_after_a_table_is_found() -> None:
    table = astropy_fits.BinTableHDU.from_columns(
        [astropy_fits.Column("a", "J", array=np.arange(1000))]
    )
    image = np.arange(64, dtype=np.int32).reshape(8, 8)
    file = io.BytesIO()
    astropy_fits.HDUList(
        [astropy_fits.PrimaryHDU(), table, astropy_fits.CompImageHDU(image)]
    ).writeto(file)
    np.testing.assert_array_equal(read(file.getvalue())[0], image)


def test_first_card_with_a_repeated_keyword_is_used() -> None:
    image = np.ones((4, 4), np.float32)
    data = plain(
        image, {"NUMBER": b"1", "COMMENT": b"the END     of it", "NUMBER ": b"2", "LAST": b"3"}
    )
    assert data.count(b"NUMBER") == 2
    header = fits.find_image(data).header
    assert (header.integer("NUMBER"), header.integer("LAST")) == (1, 3)
    np.testing.assert_array_equal(read(data)[0], image)


def test_card_values_are_parsed() -> None:
    header = fits.Header(
        {
            "A": b"'O''Neill''s'  / with quotes",
            "B": b"  3.5D2 / a number",
            "C": b" nan",
            "D": b"'unclosed",
            "E": b"   ",
            "F": b"'a/b ' / slash",
            "G": b" 12",
            "H": b"''",
        }
    )
    assert header.text("A") == "O'Neill's"
    assert header.number("B") == 350
    assert np.isnan(header.number("C") or 0)
    assert header.text("D") is None
    assert header.text("E") is None
    assert header.text("F") == "a/b"
    assert header.integer("G") == 12
    assert header.integer("B") is None
    assert header.text("H") == ""
    assert header.text("none") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>404</body></html>",
        b"\n<!DOCTYPE html>",
        b"\xff\xd8\xff\xe0" * 99,
        b"x" * 9999,
    ],
)
def test_files_in_other_formats_are_rejected(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        fits.find_image(data)


def test_fits_without_an_image_is_rejected() -> None:
    file = io.BytesIO()
    astropy_fits.HDUList(
        [astropy_fits.PrimaryHDU(), astropy_fits.ImageHDU(np.zeros((2, 3, 4)))]
    ).writeto(file)
    with pytest.raises(NotAnImageError):
        fits.find_image(file.getvalue())


@pytest.mark.parametrize(
    "length",
    [5, 9, 80, 2879, 2880, 2881, 2960, 9000, 20159, 20160, 30000, 700_000, 1_104_000],
)
def test_truncated_file_is_detected(length: int) -> None:
    with pytest.raises(TruncatedFrameError):
        fits.find_image(REAL[:length])


def test_missing_padding_is_accepted() -> None:
    hdu = fits.find_image(REAL)
    data = REAL[: hdu.data_start + hdu.data_size]
    assert len(data) < len(REAL)
    np.testing.assert_array_equal(read(data)[0], read(REAL)[0])


def test_flipped_bits_after_the_primary_header_are_detected() -> None:
    hdu = fits.find_image(REAL)
    random = np.random.default_rng(11)
    inside = random.integers(2880, hdu.data_start + hdu.data_size, 60)
    for position in (*inside, hdu.data_start, hdu.data_start + hdu.data_size - 1):
        damaged = bytearray(REAL)
        damaged[position] ^= 1 << int(random.integers(8))
        with pytest.raises(FrameError):
            read(bytes(damaged))


def test_optional_checksums_agree_with_astropy() -> None:
    expected = read_by_astropy(SMALL)
    for data in (
        SMALL,
        SMALL_BARE,
        replace_card(SMALL, "CHECKSUM", b"'" + b"0" * 16 + b"'"),
    ):
        np.testing.assert_array_equal(read(data)[0], expected)
    with pytest.raises(CorruptFrameError, match="DATASUM"):
        read(replace_card(SMALL, "DATASUM", b"'12345'"))
    with pytest.raises(CorruptFrameError, match="CHECKSUM"):
        read(replace_card(SMALL, "TTYPE1", b"'COMPRESSED_DATA'    / another comment"))


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("NAXIS1", b"9" * 60, TruncatedFrameError),
        ("NAXIS2", b"1000000000000", TruncatedFrameError),
        ("PCOUNT", b"9223372036854775807", TruncatedFrameError),
        ("GCOUNT", b"99999999999", TruncatedFrameError),
        ("NAXIS", b"999999999", CorruptFrameError),
        ("NAXIS", b"-1", CorruptFrameError),
        ("NAXIS1", b"-8", CorruptFrameError),
        ("NAXIS1", b"nan", CorruptFrameError),
        ("PCOUNT", b"'many'", CorruptFrameError),
        ("BITPIX", b"7", CorruptFrameError),
        ("ZNAXIS1", b"1000000000", WrongFrameError),
        ("ZNAXIS2", b"5000", WrongFrameError),
        ("ZNAXIS", b"-2", CorruptFrameError),
        ("THEAP", b"99999999", CorruptFrameError),
        ("BSCALE", b"nan", CorruptFrameError),
    ],
)
def test_impossible_header_values_are_rejected_before_allocation(
    key: str, value: bytes, error: type[FrameError]
) -> None:
    free = "DATAXXX"  # the keyword of an unused card
    known = f"{key:8}=".encode() in SMALL_BARE
    data = replace_card(SMALL_BARE, key if known else free, value)
    if not known:
        data = data.replace(f"{free:8}= ".encode() + value, f"{key:8}= ".encode() + value)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_empty_image_is_skipped() -> None:
    image = np.arange(64, dtype=np.int32).reshape(8, 8)
    for shape in ((0, 8), (8, 0)):
        cards = dict(zip(("NAXIS2", "NAXIS1"), shape, strict=True))
        header = "".join(
            f"{key:8}= {value:>20}".ljust(80)
            for key, value in {"SIMPLE": "T", "BITPIX": 8, "NAXIS": 2, **cards}.items()
        )
        first = (header + "END".ljust(80)).ljust(2880).encode()
        np.testing.assert_array_equal(read(first + compressed(image)[2880:])[0], image)
        with pytest.raises(NotAnImageError, match="without a 2-D image"):
            fits.find_image(first)


@pytest.mark.parametrize("axis", [1, 2])
def test_oversized_tiles_are_rejected_before_astropy_allocates_them(axis: int) -> None:
    data = compressed(np.zeros((8, 8), np.int32), "GZIP_1")
    with pytest.raises(CorruptFrameError, match="tiles are larger than the image"):
        read(replace_card(data, f"ZTILE{axis}", b"9"))


@pytest.mark.parametrize(
    ("card", "shape"), [("Znaxis1", r"\(8, 4\)"), ("Znaxis2", r"\(4, 8\)"), ("Znaxis", r"\(8,\)")]
)
def test_lowercase_keywords_cannot_change_the_image_shape(card: str, shape: str) -> None:
    # astropy ignores the case of keywords.
    value = b"1" if card == "Znaxis" else b"4"
    data = compressed(np.zeros((8, 8), np.int32), "GZIP_1", cards={card: value})
    with pytest.raises(WrongFrameError, match=rf"shape {shape}, but the header says \(8, 8\)"):
        read(data)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(3, 0, 10**9), (3, 0, 0), (3, 0, -5), (7, 1, 10**9), (7, 1, -1)]
)
def test_error_names_the_row_that_points_outside_the_data(
    row: int, column: int, value: int
) -> None:
    data = bytearray(SMALL_BARE)
    at = fits.find_image(bytes(data)).data_start + 8 * row + 4 * column
    data[at : at + 4] = value.to_bytes(4, "big", signed=True)
    with pytest.raises(CorruptFrameError, match=f"row {row} points outside"):
        read(bytes(data))


@settings(deadline=None, max_examples=400)
@given(st.data())
@pytest.mark.slow
def test_damaged_files_raise_frame_errors_or_decode_like_astropy(data: st.DataObject) -> None:
    damaged = bytearray(SMALL_BARE)
    heap = fits.find_image(SMALL).data_start
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, len(damaged) - 1), st.integers(heap, heap + 4000)))
        damaged[min(at, len(damaged) - 1)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        pixels, missing = read(bytes(damaged))
    except FrameError:
        return
    assert missing == np.isnan(pixels).sum()
    if damaged[:heap] == SMALL_BARE[:heap] and len(damaged) == len(SMALL_BARE):
        np.testing.assert_array_equal(pixels, read_by_astropy(bytes(damaged)))


@settings(deadline=None, max_examples=150)
@given(st.data())
@pytest.mark.slow
def test_damaged_files_with_other_layouts_raise_only_frame_errors(data: st.DataObject) -> None:
    image = np.arange(32 * 64).reshape(32, 64).astype(np.int32)
    kind = data.draw(st.sampled_from(["GZIP_1", "RICE_1", "plain"]))
    whole = plain(image) if kind == "plain" else compressed(image.astype(np.float32), kind)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(damaged))
    except FrameError:
        return


def test_archive_files_are_read_without_astropy() -> None:
    program = (
        "import sys; from sdoml_core.frames.aia import decode_aia;"
        f"decode_aia(open({str(REAL_AIA)!r}, 'rb').read());"
        "sys.exit(any(name.startswith('astropy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

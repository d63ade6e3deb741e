"""Readers raise typed errors and use bounded memory for arbitrary bytes.

`campaign.py` tries many more inputs.
"""

import io
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdoml_core.errors import DamagedFileError, FrameError, SdomlError
from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_core.formats.shard_scan import scan_shard
from tests.fuzz.campaign import KINDS


def test_mutated_files_raise_typed_errors_with_bounded_memory() -> None:
    """Run the campaign in a process with limited memory."""
    kinds = [word for name in KINDS for word in ("--kind", name)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.campaign", *kinds, "--inputs", "1500", "--seed", "7"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Error") >= len(KINDS)


STARTS = (b"", b"SIMPLE  =", b"\xff\xd8\xff", b"PAR1", b"ARROW1\0\0", b"{", b"<")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(STARTS), st.binary(max_size=6000))
@pytest.mark.parametrize("name", KINDS)
def test_arbitrary_bytes_are_rejected(name: str, start: bytes, rest: bytes) -> None:
    try:
        KINDS[name].read(start + rest)
    except SdomlError:
        return
    assert name.startswith("tar with"), "only an empty tar archive may be readable"


def card(key: str, value: object) -> bytes:
    return f"{key:8s}= {value!s:>20s}".ljust(80).encode()


@pytest.mark.parametrize(
    "axes",
    [(2**31 - 1, 2**31 - 1), (10**18, 10**18), (65536, 65536), (1024, -1), (0, 0), ("nan", 4)],
)
@pytest.mark.parametrize("bits", [8, -32, 64])
def test_huge_fits_images_are_rejected_before_allocation(
    axes: tuple[object, object], bits: int
) -> None:
    cards = [
        card("SIMPLE", "T"),
        card("BITPIX", bits),
        card("NAXIS", 2),
        card("NAXIS1", axes[0]),
        card("NAXIS2", axes[1]),
        b"END".ljust(80),
    ]
    with pytest.raises(FrameError):
        KINDS["FITS"].read(b"".join(cards).ljust(2880) + bytes(2880))


def test_parquet_bomb_is_rejected_based_on_its_footer() -> None:
    sink = io.BytesIO()
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int8)), ["x"])
    pq.write_table(pa.table({"slot": many}), sink, compression="zstd")
    assert len(sink.getvalue()) < 100_000
    with pytest.raises(DamagedFileError, match="states an impossible size"):
        RAW_LEDGER.decode(sink.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"6"])
def test_links_and_devices_in_a_shard_are_rejected(kind: bytes) -> None:
    info = tarfile.TarInfo("2024/03/08/1200.AIA_0171.npy")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(DamagedFileError):
        scan_shard(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10240)))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../2024/03/08/1200.AIA_0171.npy",
        "2024/03/08/../1200.AIA_0171.npy",
        "2024/03/08/1200.AIA_0171.npy/../../x.npy",
        "C:\\x.npy",
        "",
    ],
)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_member_names_outside_the_layout_are_rejected(name: str, form: int) -> None:
    info = tarfile.TarInfo(name + "é" if form == tarfile.PAX_FORMAT else name)
    with pytest.raises(DamagedFileError):
        scan_shard(io.BytesIO(info.tobuf(form) + bytes(10240)))


def test_flipped_bits_never_change_ledger_rows() -> None:
    data = KINDS["ledger"].seeds()[0]
    rows = RAW_LEDGER.decode(data)
    for place in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 1 << zlib.crc32(bytes([place % 256])) % 8
        try:
            assert RAW_LEDGER.decode(bytes(damaged)) == rows
        except DamagedFileError:
            continue

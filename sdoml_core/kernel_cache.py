"""Compile all Numba kernels before they are needed: ``python -m sdoml_core.kernel_cache``.

Numba compiles a kernel when it is first called and caches the machine code on disk. If
``NUMBA_CACHE_DIR`` is set, the cache is in that folder. Compilation takes about 15 seconds, once
per machine and version.
"""

import io
from collections.abc import Callable

import numpy as np
from numba.core import event
from PIL import Image

from sdoml_core.fits import header as fits
from sdoml_core.fits import rice
from sdoml_core.fits.pixels import NO_BLANK
from sdoml_core.frames.content import measure_content
from sdoml_core.frames.field_blocks import mean_field_blocks
from sdoml_core.frames.grid import SIZE
from sdoml_core.frames.jpeg import read_scan, read_structure
from sdoml_core.frames.pointing import REGISTERED
from sdoml_core.frames.resample import Warp, mean_gray_blocks, sum_blocks
from sdoml_core.normalization.sketch import Sketch


def prepare_kernels(report: Callable[[str], None]) -> None:
    """Load all kernels from Numba's cache. Compile those that are missing.

    Parameters
    ----------
    report
        Called with one line before the first compilation. Not called if all kernels are cached.
    """
    with event.install_listener("numba:compile", _Announcer(report)):
        stream = np.frombuffer(bytes(8), np.uint8)
        tiles = np.array([[0, 5]])
        rice.decode_image(stream, tiles, (32, 4), (1.0, 0.0, NO_BLANK), _frame(1))
        fits.ones_complement(stream, 0, 8)
        for warp in (Warp(1.0), Warp(1.0, roll=1.0)):
            for complete in (True, False):
                sum_blocks(_frame(4), resolution=2, warp=warp, divisor=1.0, complete=complete)
        rgb = np.asarray(Image.new("RGB", (4, 4)))
        mean_gray_blocks(rgb, resolution=2, scale=1.0, label=(4, 0))
        mean_field_blocks(
            rgb,
            resolution=2,
            scale=1.0,
            label=(4, 0),
            table=np.ones(766),
            disk=(1.5, 1.5, 2.0),
            least=0.5,
        )
        jpeg = _jpeg()
        read_scan(jpeg, read_structure(jpeg))
        holed = _frame(SIZE)
        holed[:8, :8] = np.nan
        measure_content(holed, pointing=REGISTERED, rsun_obs=960.0, wavelength=193)
        Sketch.of(_frame(2))


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


def _frame(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.ones((size, size), np.float32)


class _Announcer(event.Listener):
    """Report the first event only."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report: Callable[[str], None] | None = report

    def on_start(self, event: object) -> None:  # noqa: ARG002
        if self._report is not None:
            report, self._report = self._report, None
            report(
                "compiling the pixel kernels; this happens once per machine and takes about 15 s"
            )

    def on_end(self, event: object) -> None:
        pass


if __name__ == "__main__":
    prepare_kernels(print)

"""The common grid of processed frames, in which the Sun has the same size on every date.

A pixel of AIA's synoptic frames is the **mean** of 4×4 camera pixels, in DN per camera pixel
(0.6″). A processed pixel is the **sum** of k×k synoptic pixels, where k = 1024/n. Its value is
therefore k² times DN/s per camera pixel, and 16·k² camera pixels (before scaling) contribute to it.
"""

SIZE = 1024
"""Pixels along each side of the archive's frames."""

PIXEL = 2.4
"""Arcseconds per pixel of AIA's synoptic frames."""

FIELD = SIZE * PIXEL
"""Arcseconds along each side of AIA's synoptic frames."""

TARGET_RADIUS = 976.0
"""Photospheric radius in every processed frame, in arcseconds of the common grid (`PIXEL`)."""

DISK_RADIUS = TARGET_RADIUS / FIELD
"""Photospheric radius as a fraction of the frame's side, at any resolution."""

JPG_PIXEL = 4 * 0.5042
"""Arcseconds per pixel of the JPEG files in the HMI catalog (four camera pixels)."""

GEOMETRIC_SCALE = 2.0168 / PIXEL
"""Ratio of the pixel size of the HMI catalog's JPEG files to that of AIA's synoptic frames."""


def samples_per_pixel(resolution: int) -> float:
    """Return k² = (1024/n)². Divide a processed AIA frame by it to get DN/s per camera pixel.

    Parameters
    ----------
    resolution
        n, pixels along each side of the frame.
    """
    return (SIZE / resolution) ** 2

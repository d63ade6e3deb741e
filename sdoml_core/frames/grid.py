"""The grid that processed frames share: one field of view, one size of the Sun on every date."""

SIZE = 1024
"""Pixels along each side of the archive's frames."""

PIXEL = 2.4
"""Arcseconds per pixel of AIA's synoptic frames."""

FIELD = SIZE * PIXEL
"""Arcseconds along each side of them."""

TARGET_RADIUS = 976.0
"""Arcseconds, in pixels of `PIXEL`, that the photospheric radius has in every processed frame."""

DISK_RADIUS = TARGET_RADIUS / FIELD
"""The same as a fraction of the frame's edge, whatever its resolution."""

GEOMETRIC_SCALE = 2.0168 / PIXEL
"""Pixel size of the catalogue's JPGs over that of AIA's synoptic frames."""

"""Encode images as PNG files, or as small inline Markdown images for Dagster's UI."""

import base64
import io

from PIL import Image

INLINE_LIMIT = 20_000
"""Maximum length of an inline image in characters. Each materialization stores one in the event
log."""


def png(image: Image.Image) -> bytes:
    """Encode an image as lossless PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri_markdown(data: bytes, mime: str, alt: str) -> str:
    """Return Markdown with the image embedded, for ``MetadataValue.md``."""
    return f"![{alt}](data:{mime};base64,{base64.b64encode(data).decode()})"


def inline_markdown(image: Image.Image, alt: str, *, limit: int = INLINE_LIMIT) -> str:
    """Encode an image as Markdown with at most ``limit`` characters, as sharp as possible.

    The image is WebP with the best quality that fits. If no quality fits, the image is scaled
    down.
    """
    while True:
        for quality in (90, 80, 70, 60, 50, 40, 30, 20):
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality, method=4)
            markdown = data_uri_markdown(buffer.getvalue(), "image/webp", alt)
            if len(markdown) <= limit:
                return markdown
        smaller = (max(image.width * 4 // 5, 1), max(image.height * 4 // 5, 1))
        image = image.resize(smaller, Image.Resampling.LANCZOS)

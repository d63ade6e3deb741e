"""Bytes of a picture: a PNG for a file, or a small one inside the Markdown of Dagster's UI."""

import base64
import io

from PIL import Image

INLINE_LIMIT = 20_000
"""Characters of a picture inside metadata: each materialisation keeps its own in the event log."""


def png(image: Image.Image) -> bytes:
    """The picture as PNG, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri_markdown(data: bytes, mime: str, alt: str) -> str:
    """Markdown that shows a picture without a file: what ``MetadataValue.md`` renders."""
    return f"![{alt}](data:{mime};base64,{base64.b64encode(data).decode()})"


def inline_markdown(image: Image.Image, alt: str, *, limit: int = INLINE_LIMIT) -> str:
    """A picture as Markdown of at most ``limit`` characters, as sharp as that allows.

    WebP, first at the best quality that fits; a picture that is too large for any quality loses
    size instead.
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

"""The transform between physical values and [0, 1], and its inverse.

For AIA, y = sqrt(min(x, c) / c), as in the original SDOML-lite. HMI frames are already in [0, 1].
For levels, y = min(x, c) / c with c = 1. Fields have already been mapped to y = 1/2 + B / (2c)
during processing, with 0 for pixels without a field value.
"""

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.frames.magnetogram import stored_to_gauss

Transform = Literal["sqrt", "linear", "field"]


def transform_of(channel: str, hmi_values: str = "level") -> Transform:
    """Return the transform of a channel.

    Parameters
    ----------
    channel
        Name of the channel.
    hmi_values
        ``SDOML_HMI_VALUES``: ``level`` or ``gauss``.

    Returns
    -------
    ``sqrt`` for AIA. For HMI, ``linear`` (levels) or ``field`` (gauss).
    """
    if CHANNELS[channel].instrument == "AIA":
        return "sqrt"
    return "field" if hmi_values == "gauss" else "linear"


Pixels = TypeVar("Pixels", NDArray[np.float32], NDArray[np.float16])


def normalize(
    frame: NDArray[np.float32], constant: float, out: Pixels, *, transform: Transform = "sqrt"
) -> Pixels:
    """Write normalized pixels in [0, 1] to `out`, and return it. Releases the GIL.

    Division and square root of float32 are correctly rounded, so the result is the same on every
    machine and never exceeds 1. NaN stays NaN.

    Parameters
    ----------
    frame
        float32, any shape, in the unit of ``constant``. Negative pixels become 0.
    constant
        Value that is mapped to 1; see `Normalization.constant`.
    out
        float32 or float16, with the shape of the frame. It may be the frame itself.
    transform
        ``sqrt`` is sqrt(min(x, c) / c), ``linear`` is min(x, c) / c, and ``field`` leaves x
        unchanged.
    """
    scale = np.float32(1 if transform == "field" else constant)
    scratch = out if out.dtype == np.float32 else np.empty(frame.shape, np.float32)
    np.clip(frame, np.float32(0), scale, out=scratch)
    np.divide(scratch, scale, out=scratch)
    if transform == "sqrt":
        np.sqrt(scratch, out=scratch)
    if scratch is not out:
        out[...] = scratch
    return out


def denormalize(
    normalized: NDArray[np.floating[Any]],
    constant: float,
    out: NDArray[np.float32],
    *,
    transform: Transform = "sqrt",
) -> NDArray[np.float32]:
    """Write physical values to `out`, and return it. This is the inverse of `normalize`.

    Saturated pixels are returned as the constant.

    Parameters
    ----------
    normalized
        float32 or float16, any shape.
    constant, transform
        As in `normalize`. With ``field``, the result is in gauss, and NaN for pixels without a
        field value.
    out
        float32, with the same shape. It may be the normalized pixels themselves.
    """
    if transform == "field":
        stored_to_gauss(normalized, out, field_range=constant)
        return out
    values = normalized
    if transform == "sqrt":
        values = np.square(normalized, out=out, dtype=np.float32)
    np.multiply(values, np.float32(constant), out=out, dtype=np.float32)
    return out

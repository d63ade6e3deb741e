"""The method by which normalization constants are chosen, as a setting names it.

A module of its own because settings need it, and reading settings must not import NumPy.
"""

import re
from dataclasses import dataclass

from sdoml_core.errors import SettingError

_METHOD = re.compile(r"quantile:(?P<q>[0-9.eE+-]+)")


@dataclass(frozen=True, slots=True)
class Method:
    """How the constants of AIA channels are chosen."""

    q: float
    """Quantile of a channel's pixels, over all frames and the whole image; 1 is the maximum."""

    def __str__(self) -> str:
        return "max" if self.q == 1 else f"quantile:{self.q!r}"


def parse_method(text: str) -> Method:
    """Method of a setting such as ``quantile:0.9999`` or ``max``.

    Raises
    ------
    SettingError
        For anything else, and for a quantile that is not in (0, 1].
    """
    text = text.strip().lower()
    if text == "max":
        return Method(1.0)
    match = _METHOD.fullmatch(text)
    try:
        q = float(match["q"]) if match else 0.0
    except ValueError:
        q = 0.0
    if not 0 < q <= 1:
        raise SettingError(
            f"normalization {text!r} is not 'max' or 'quantile:Q' with Q above 0 and at most 1"
        )
    return Method(q)

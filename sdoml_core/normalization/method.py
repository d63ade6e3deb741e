"""The method that determines the normalization constants, and the parser of its setting.

This is a separate module because settings need it, and reading settings must not import NumPy.
"""

import re
from dataclasses import dataclass

from sdoml_core.errors import SettingError

_METHOD = re.compile(r"quantile:(?P<q>[0-9.eE+-]+)")


@dataclass(frozen=True, slots=True)
class Method:
    """Method that determines the constants of AIA channels."""

    q: float
    """Quantile of all pixels of a channel. 1 is the maximum."""

    def __str__(self) -> str:
        return "max" if self.q == 1 else f"quantile:{self.q!r}"


def parse_method(text: str) -> Method:
    """Parse a setting such as ``quantile:0.9999`` or ``max``.

    Raises
    ------
    SettingError
        If the text has any other form, or if the quantile is not in (0, 1].
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
            f"the normalization must be 'max' or 'quantile:Q' with 0 < Q ≤ 1, not {text!r}"
        )
    return Method(q)

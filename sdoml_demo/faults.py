"""Faults of transport, on request: what a slow, broken or lying archive answers.

A plan says which paths are hit, how, and how often; it depends on the seed and the path alone, so
that a test can foretell each fault. Only frames that the archive has are hit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Self

from sdoml_core.errors import SettingError
from sdoml_demo.render.solar_state import digest, uniform


class Fault(Enum):
    """Ways to fail; the values are the names for the command line."""

    NOT_FOUND = "404"
    TOO_MANY_REQUESTS = "429"
    """With Retry-After."""
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    """With Retry-After."""
    RESET = "reset"
    """The connection is reset in the middle of the body."""
    SHORT = "short"
    """A part of the file, with the Content-Length of that part."""
    CUT = "cut"
    """A part of the file, with the whole Content-Length, then the connection is closed."""
    HTML = "html"
    """A web page with status 200."""
    STALL = "stall"
    """The body stops in the middle and the connection stays open."""
    TRICKLE = "trickle"
    """The body comes in a few bytes at a time."""
    FLIP = "flip"
    """Flipped bits where checks can see them: see `flip`."""
    WRONG = "wrong"
    """An intact frame, but another one than the name says."""
    EMPTY = "empty"
    """No bytes, with status 200."""


@dataclass(frozen=True)
class FaultPlan:
    """Which answers are faulty.

    Raises
    ------
    SettingError
        Where rates are negative or sum to more than 1, or a number is out of range.
    """

    rates: Mapping[Fault, float] = field(default_factory=lambda: MappingProxyType({}))
    """For each kind the share of paths that it hits."""

    seed: int = 0

    attempts: int | None = 1
    """How many answers for a hit path are faulty, from the first on; None: all."""

    retry_after: int = 1
    """Seconds, for 429 and 503."""

    stall_seconds: float = 120.0
    """After this time a stalled or trickling connection is closed."""

    def __post_init__(self) -> None:
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1 + 1e-9:
            raise SettingError("fault rates must not be negative, nor sum to more than 1")
        if (self.attempts is not None and self.attempts < 1) or self.retry_after < 0:
            raise SettingError("attempts must be 1 or more, retry_after 0 or more")

    def choose(self, path: str, attempt: int) -> Fault | None:
        """The fault of an answer, or None.

        Parameters
        ----------
        path
            As requested.
        attempt
            1 for the first answer for that path.
        """
        if self.attempts is not None and attempt > self.attempts:
            return None
        draw = uniform("fault", self.seed, path)
        for fault in Fault:  # the order of the enumeration, not that of the mapping
            draw -= self.rates.get(fault, 0.0)
            if draw < 0:
                return fault
        return None

    @classmethod
    def parse(cls, text: str) -> Self:
        """A plan from text such as ``500=0.1,reset=0.05,seed=3,attempts=2``.

        Keys are the kinds of `Fault`, ``seed``, ``attempts`` (a number or ``always``) and
        ``retry_after``. The key ``all`` shares its rate among all kinds evenly.

        Raises
        ------
        SettingError
            For an unknown key or a value that is no number.
        """
        rates: dict[Fault, float] = {}
        numbers: dict[str, int | None] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            key, _, value = item.partition("=")
            try:
                if key in ("seed", "attempts", "retry_after"):
                    always = key == "attempts" and value == "always"
                    numbers[key] = None if always else int(value)
                elif key == "all":
                    rates |= {fault: float(value) / len(Fault) for fault in Fault}
                else:
                    rates[Fault(key)] = float(value)
            except ValueError:
                kinds = ", ".join(fault.value for fault in Fault)
                raise SettingError(
                    f"faults: cannot read {item!r}; write KIND=RATE with {kinds} or all, "
                    "and seed=N, attempts=N or always, retry_after=N"
                ) from None
        return cls(rates=MappingProxyType(rates), **numbers)  # type: ignore[arg-type]


def flip(path: str, body: bytes) -> bytes:
    """Flip bits of a file.

    In a FITS file three, anywhere in the image's header or data, which CHECKSUM covers. A JPG has
    no checksum, and a bit amid its pixels goes unnoticed by anyone; there it is one bit of the
    start or end marker.
    """
    damaged = bytearray(body)
    if path.endswith(".jpg"):
        place = (0, 1, -2, -1)[digest("byte", path) % 4]
        damaged[place] ^= 1 << digest("bit", path) % 8
        return bytes(damaged)
    for k in range(3):
        place = 2880 + digest("byte", path, k) % (len(body) - 2880)
        damaged[place] ^= 1 << digest("bit", path, k) % 8
    return bytes(damaged)

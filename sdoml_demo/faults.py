"""Simulated transport faults: a slow, broken or incorrect archive.

A plan says which paths are faulty, how, and how often. Its choices depend only on the seed and the
path, so that a test can predict each fault. Only frames that the archive has are affected. For
intact files with wrong content, see `corruptions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Self

from sdoml_core.errors import SettingError
from sdoml_demo.render.solar_state import digest, uniform


class Fault(Enum):
    """Kinds of faults. The values are the names on the command line."""

    NOT_FOUND = "404"
    FORBIDDEN = "403"
    TOO_MANY_REQUESTS = "429"
    """With Retry-After."""
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    """With Retry-After."""
    RESET = "reset"
    """The connection is reset in the middle of the body."""
    SHORT = "short"
    """Part of the file, with the Content-Length of that part."""
    CUT = "cut"
    """Part of the file, with the Content-Length of the whole file. The connection is then
    closed."""
    HTML = "html"
    """A web page with status 200."""
    STALL = "stall"
    """The body stops in the middle and the connection stays open."""
    TRICKLE = "trickle"
    """The body arrives a few bytes at a time."""
    FLIP = "flip"
    """Flipped bits that checks can detect; see `flip`."""
    WRONG = "wrong"
    """An intact frame that does not match the file name."""
    EMPTY = "empty"
    """No bytes, with status 200."""
    GZIP = "gzip"
    """The frame with ``Content-Encoding: gzip``, which was not requested."""


RETRIED = tuple(fault for fault in Fault if fault is not Fault.FORBIDDEN)
"""Faults after which clients retry. A 403 is not retried."""


@dataclass(frozen=True)
class FaultPlan:
    """Decides which responses are faulty.

    Raises
    ------
    SettingError
        If rates are negative or sum to more than 1, or if a number is out of range.
    """

    rates: Mapping[Fault, float] = field(default_factory=lambda: MappingProxyType({}))
    """Fraction of paths that each kind affects."""

    seed: int = 0

    attempts: int | None = 1
    """Number of faulty responses for an affected path, from the first response on. None means
    all."""

    retry_after: int = 1
    """Retry-After in seconds, for 429 and 503."""

    stall_seconds: float = 120.0
    """Time after which a stalled or trickling connection is closed."""

    match: str = ""
    """Only paths that contain this text are affected, for example ``0193.fits``."""

    def __post_init__(self) -> None:
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1 + 1e-9:
            raise SettingError("fault rates must not be negative or sum to more than 1")
        if (self.attempts is not None and self.attempts < 1) or self.retry_after < 0:
            raise SettingError("attempts must be at least 1, and retry_after at least 0")

    def choose(self, path: str, attempt: int) -> Fault | None:
        """Return the fault for a response, or None.

        Parameters
        ----------
        path
            Requested path.
        attempt
            Number of the response for this path, starting with 1.
        """
        if self.attempts is not None and attempt > self.attempts:
            return None
        if self.match not in path:
            return None
        draw = uniform("fault", self.seed, path)
        for fault in Fault:  # iterate in the order of the enumeration, not of the mapping
            draw -= self.rates.get(fault, 0.0)
            if draw < 0:
                return fault
        return None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a plan from text such as ``500=0.1,reset=0.05,seed=3,attempts=2``.

        Keys are the kinds of `Fault`, ``seed``, ``attempts`` (a number or ``always``),
        ``retry_after`` and ``match``. The key ``all`` shares its rate evenly among `RETRIED`.

        Raises
        ------
        SettingError
            If a key is unknown or a value is not a number.
        """
        rates: dict[Fault, float] = {}
        numbers: dict[str, int | str | None] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            key, _, value = item.partition("=")
            try:
                if key in ("seed", "attempts", "retry_after"):
                    always = key == "attempts" and value == "always"
                    numbers[key] = None if always else int(value)
                elif key == "match":
                    numbers[key] = value
                elif key == "all":
                    rates |= {fault: float(value) / len(RETRIED) for fault in RETRIED}
                else:
                    rates[Fault(key)] = float(value)
            except ValueError:
                kinds = ", ".join(fault.value for fault in Fault)
                raise SettingError(
                    f"cannot read {item!r} in --faults. Write KIND=RATE, where KIND is {kinds} or "
                    "all. Other items are seed=N, attempts=N, attempts=always, retry_after=N and "
                    "match=TEXT"
                ) from None
        return cls(rates=MappingProxyType(rates), **numbers)  # type: ignore[arg-type]


def flip(path: str, body: bytes) -> bytes:
    """Flip bits of a file where structural checks can detect the damage.

    In a FITS file, three bits are flipped anywhere in the image's header or data, which CHECKSUM
    covers. A JPEG file has no checksum, so one bit of the start or end marker is flipped. To flip
    bits in the pixels of a JPEG file, see `corruptions.flip_pixel_bits`.
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

"""The channels of the dataset: which exist, what they are called, how members are named."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sdoml_core.errors import SettingError

Instrument = Literal["AIA", "HMI"]
INSTRUMENTS: tuple[Instrument, ...] = ("AIA", "HMI")
MemberCase = Literal["upper", "lower"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: an AIA wavelength or the HMI line-of-sight magnetogram."""

    name: str
    """As in settings, indexes and shards: ``AIA_0193``, ``HMI_M``."""

    instrument: Instrument

    wavelength: int
    """In ångström; for HMI the Fe I line that it observes, 6173."""

    def __str__(self) -> str:
        return self.name


CHANNELS: dict[str, Channel] = {
    **{
        f"AIA_{wavelength:04d}": Channel(f"AIA_{wavelength:04d}", "AIA", wavelength)
        for wavelength in (94, 131, 171, 193, 211, 304, 335, 1600, 1700)
    },
    "HMI_M": Channel("HMI_M", "HMI", 6173),
}
"""All channels that exist, by name, in the order of every listing and shard."""

DEFAULT_CHANNELS = (
    "AIA_0094",
    "AIA_0131",
    "AIA_0171",
    "AIA_0193",
    "AIA_0211",
    "AIA_1600",
    "AIA_1700",
    "HMI_M",
)


def parse_channels(names: Iterable[str]) -> tuple[Channel, ...]:
    """Channels by name, in canonical order and without repetition.

    Parameters
    ----------
    names
        Such as ``AIA_0193`` or ``hmi_m``; case does not matter.

    Raises
    ------
    SettingError
        For a name that does not exist or an empty list.
    """
    wanted = {name.strip().upper() for name in names if name.strip()}
    unknown = sorted(wanted - CHANNELS.keys())
    if unknown:
        hint = "; separate them by commas" if any(" " in name for name in unknown) else ""
        raise SettingError(
            f"unknown channel {', '.join(unknown)}; there are {', '.join(CHANNELS)}{hint}"
        )
    if not wanted:
        raise SettingError(f"no channel given; there are {', '.join(CHANNELS)}")
    return tuple(channel for name, channel in CHANNELS.items() if name in wanted)

"""Channels of the dataset: their names, instruments and wavelengths."""

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
    """Name in settings, indexes and shards, such as ``AIA_0193`` or ``HMI_M``."""

    instrument: Instrument

    wavelength: int
    """Wavelength in ångström. For HMI, this is the wavelength of the observed Fe I line."""

    def __str__(self) -> str:
        return self.name


CHANNELS: dict[str, Channel] = {
    **{
        f"AIA_{wavelength:04d}": Channel(f"AIA_{wavelength:04d}", "AIA", wavelength)
        for wavelength in (94, 131, 171, 193, 211, 304, 335, 1600, 1700)
    },
    "HMI_M": Channel("HMI_M", "HMI", 6173),
}
"""All supported channels by name, in the order used in listings and shards."""

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
    """Parse channel names, and return the channels in canonical order without duplicates.

    Parameters
    ----------
    names
        Names such as ``AIA_0193`` or ``hmi_m``. Case is ignored.

    Raises
    ------
    SettingError
        If a name is unknown or the list is empty.
    """
    wanted = {name.strip().upper() for name in names if name.strip()}
    unknown = sorted(wanted - CHANNELS.keys())
    if unknown:
        hint = "; separate names with commas" if any(" " in name for name in unknown) else ""
        raise SettingError(
            f"unknown channel{'s' * (len(unknown) > 1)} {', '.join(unknown)}; "
            f"choose from {', '.join(CHANNELS)}{hint}"
        )
    if not wanted:
        raise SettingError(f"no channel given; choose from {', '.join(CHANNELS)}")
    return tuple(channel for name, channel in CHANNELS.items() if name in wanted)

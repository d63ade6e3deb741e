"""Names of the assets that exist once per instrument."""

from sdoml_core.channels import Instrument


def raw(instrument: Instrument) -> str:
    """``raw_aia`` or ``raw_hmi``."""
    return f"raw_{instrument.lower()}"


def processed(instrument: Instrument) -> str:
    """``processed_aia`` or ``processed_hmi``."""
    return f"processed_{instrument.lower()}"

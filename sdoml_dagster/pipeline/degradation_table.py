"""Load the degradation table that is named in the settings."""

from pathlib import Path

from sdoml_core.errors import SettingError
from sdoml_core.frames.degradation import V10_FILE, V10_URL, DegradationTable
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def load_degradation(settings: Settings, store: Store) -> DegradationTable:
    """Load the degradation table that is named in the settings, or the built-in one.

    Raises
    ------
    SettingError
        If the file is missing, or is not a valid table.
    """
    name = settings.degradation_table
    if name is None:
        return DegradationTable.default()
    try:
        if name == "V10":
            return DegradationTable.from_v10(_read_v10(store))
        path = Path(name)
        data = path.read_bytes()
        if path.suffix == ".csv":
            return DegradationTable.from_csv(data, version=path.stem)
        return DegradationTable.from_response_table(data)
    except OSError as error:
        raise SettingError(f"SDOML_DEGRADATION_TABLE={name}: {error.strerror}") from error
    except SettingError as error:
        raise SettingError(f"SDOML_DEGRADATION_TABLE={name}: {error}") from error


def _read_v10(store: Store) -> bytes:
    """Read the version 10 response table from the store, where every machine can read it."""
    path = f"{layout.CALIBRATION}/{V10_FILE}"
    data = store.read_if_exists(path)
    if data is None:
        raise SettingError(
            f"{store.locate(path)} is missing. Download {V10_URL} and save it there; its hash will "
            "be verified"
        )
    return data

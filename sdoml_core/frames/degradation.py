"""Degradation of the AIA channels: the remaining sensitivity on each UTC day.

The factors come from the packaged table or from one of the AIA team's response tables
(``aia_V10_…_response_table.txt``). The packaged table is version 9 with one row per day, as in the
original SDOML-lite. A response table is evaluated at the start of each UTC day with the published
formula. Values are validated only when they are used, because tables contain zero and negative
values for channels and dates that may never be requested.
"""

import csv
import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import MissingInputError, SettingError

_DAY = timedelta(days=1)
_WITHOUT_FILTER = ("1600", "1700", "4500")  # the other channels have names such as ``94_THIN``


V10_FILE: Final = "aia_V10_20201119_190000_response_table.txt"
"""Name of the current calibration file, in the SolarSoft folder ``sdo/aia/response``."""

V10_URL: Final = f"https://soho.nascom.nasa.gov/solarsoft/sdo/aia/response/{V10_FILE}"

V10_SHA256: Final = "0a3f2db39d05c44185f6fdeec928089fb55d1ce1e0a805145050c6356cbc6e98"
"""SHA-256 of the file. aiapy expects the same value."""


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """Factors of one wavelength, one per day. NaN for days without a value in the table."""

    first: int
    """Ordinal of the first day."""

    factors: NDArray[np.float64]

    def at(self, day: int) -> float:
        """Return the factor for a day. For a day outside the series, use the nearest day."""
        return float(self.factors[min(max(day - self.first, 0), len(self.factors) - 1)])


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One row of a response table."""

    made: datetime
    start: datetime
    stop: datetime
    polynomial: tuple[float, float, float]
    area: float


@dataclass(frozen=True, slots=True, eq=False)
class DegradationTable:
    """Degradation factors by UTC day and wavelength. Pixel values are divided by them."""

    version: str
    """Version of the table, such as ``V9``."""

    sha256: str
    """SHA-256 of the file. It is part of the fingerprint of all data that use the table."""

    calibrated_until: date
    """The last calibrated day. The factors of later days are extrapolated."""

    _series: dict[int, _Series]

    @classmethod
    def default(cls) -> "DegradationTable":
        """Return the packaged table: version 9, 2010-05-01 to 2020-06-03."""
        return _default()

    @classmethod
    def from_csv(cls, data: bytes, *, version: str) -> Self:
        """Read a table with a ``date`` column, one column per wavelength and one row per day.

        Parameters
        ----------
        data
            The file's bytes.
        version
            Name of the table, such as ``V9``.

        Raises
        ------
        SettingError
            If the table is invalid.
        """
        rows = list(csv.reader(_text(data).splitlines()))
        try:
            wavelengths = [int(name) for name in rows[0][1:]]
            days = [date.fromisoformat(row[0]).toordinal() for row in rows[1:]]
            factors = np.array([row[1:] for row in rows[1:]], dtype=np.float64)
        except (IndexError, ValueError) as error:
            raise SettingError(f"degradation table: {error}") from error
        if factors.shape != (len(days), len(wavelengths)) or not days or not wavelengths:
            raise SettingError("degradation table: a row has no date or no value for a wavelength")
        if days != list(range(days[0], days[0] + len(days))):
            raise SettingError("degradation table: the days must be consecutive and in order")
        changes = np.flatnonzero((factors[1:] != factors[:-1]).any(axis=1))
        frozen = days[int(changes[-1]) + 1 if changes.size else 0]
        return cls(
            version=version,
            sha256=hashlib.sha256(data).hexdigest(),
            calibrated_until=date.fromordinal(frozen),
            _series={
                wavelength: _Series(days[0], np.ascontiguousarray(factors[:, column]))
                for column, wavelength in enumerate(wavelengths)
            },
        )

    @classmethod
    def from_response_table(cls, data: bytes) -> Self:
        """Read one of the AIA team's response tables, and evaluate it for every day.

        The factor at time t is EFF_AREA / EFF_AREA₀ · (1 + P1·d + P2·d² + P3·d³) with d = t −
        T_START in days (Barnes et al. 2020, aiapy). EFF_AREA, P1 … P3 (EFFA_P1 …) and T_START are
        the values of the epoch with T_START <= t < T_STOP, and EFF_AREA₀ is the value of the first
        epoch of the channel. If epochs overlap, the row with the latest DATE is used. If there are
        several versions, the highest version is used.

        Parameters
        ----------
        data
            Content of the file: a header line, then columns separated by whitespace.

        Raises
        ------
        SettingError
            If the table is invalid.
        """
        version, channels = _read_epochs(_text(data))
        for epochs in channels.values():
            epochs.sort(key=lambda epoch: (epoch.start, epoch.made))
        return cls(
            version=f"V{version}",
            sha256=hashlib.sha256(data).hexdigest(),
            calibrated_until=max(rows[-1].start for rows in channels.values()).date(),
            _series={wavelength: _evaluate(rows) for wavelength, rows in channels.items()},
        )

    @classmethod
    def from_v10(cls, data: bytes) -> Self:
        """Read version 10 of the AIA team's response table, and verify the file's SHA-256.

        Raises
        ------
        SettingError
            If the file has a different SHA-256.
        """
        digest = hashlib.sha256(data).hexdigest()
        if digest != V10_SHA256:
            raise SettingError(
                f"degradation table: the SHA-256 is {digest[:16]}…, but that of {V10_FILE} is "
                f"{V10_SHA256[:16]}…: download the file again"
            )
        return cls.from_response_table(data)

    def factor(self, day: date, wavelength: int) -> float:
        """Return the degradation factor for a UTC day.

        Parameters
        ----------
        day
            Days before the first row of the table (the first weeks of the mission) use the first
            row. Days after the last row use the last row.
        wavelength
            In ångström.

        Raises
        ------
        MissingInputError
            If the table does not include the wavelength.
        SettingError
            If the table has no factor above 0 for this day and wavelength.
        """
        series = self._series.get(wavelength)
        if series is None:
            raise MissingInputError(
                f"degradation table {self.version} has no factors for {wavelength} Å, "
                f"only for {', '.join(map(str, sorted(self._series)))} Å"
            )
        factor = series.at(day.toordinal())
        if not (math.isfinite(factor) and factor > 0):
            reason = "no epoch" if math.isnan(factor) else f"the factor {factor:g} (not above 0)"
            raise SettingError(
                f"degradation table {self.version} has {reason} for {wavelength} Å on {day}"
            )
        return factor

    def extrapolated(self, day: date) -> bool:
        """Return whether a day is after the last calibrated day (its factor is extrapolated)."""
        return day.toordinal() > self.calibrated_until.toordinal()


@lru_cache(maxsize=1)
def _default() -> DegradationTable:
    data = files("sdoml_core").joinpath("data", "degradation_v9.csv").read_bytes()
    return DegradationTable.from_csv(data, version="V9")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(
            f"degradation table: the file is not UTF-8 text ({error.reason})"
        ) from error


def _wavelength(channel: str) -> int | None:
    """Return the wavelength of a science-mode WAVE_STR, or None for other values."""
    name, _, suffix = channel.partition("_")
    if not name.isdecimal() or (suffix != ("" if name in _WITHOUT_FILTER else "THIN")):
        return None
    return int(name)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text.removesuffix("Z"))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _read_epochs(text: str) -> tuple[int, dict[int, list[_Epoch]]]:
    """Return the highest version in a response table and its epochs by wavelength."""
    lines = [line.split() for line in text.splitlines() if line.strip(" -|+=\t")]
    heads = [number for number, words in enumerate(lines) if "WAVE_STR" in words]
    if not heads:
        raise SettingError("degradation table: no header line contains WAVE_STR")
    names = lines[heads[0]]
    rows: list[tuple[int, int, dict[str, str]]] = []
    for words in lines[heads[0] + 1 :]:
        if words[0].startswith("#"):
            continue
        row = dict(zip(names, words, strict=False))
        wavelength = _wavelength(row.get("WAVE_STR", ""))
        if wavelength is None:
            continue
        try:
            rows.append((int(float(row["VER_NUM"])), wavelength, row))
        except (KeyError, ValueError) as error:
            problem = f"no column {error}" if isinstance(error, KeyError) else error
            raise SettingError(f"degradation table: {problem} in row {' '.join(words)}") from error
    if not rows:
        raise SettingError("degradation table: no rows for AIA science channels")
    version = max(number for number, _, _ in rows)
    channels: dict[int, list[_Epoch]] = {}
    for number, wavelength, row in rows:
        if number == version:
            channels.setdefault(wavelength, []).append(_epoch(row))
    return version, channels


def _epoch(row: dict[str, str]) -> _Epoch:
    try:
        epoch = _Epoch(
            made=_time(row["DATE"]),
            start=_time(row["T_START"]),
            stop=_time(row["T_STOP"]),
            polynomial=(float(row["EFFA_P1"]), float(row["EFFA_P2"]), float(row["EFFA_P3"])),
            area=float(row["EFF_AREA"]),
        )
    except (KeyError, ValueError) as error:
        problem = f"no column {error}" if isinstance(error, KeyError) else error
        text = " ".join(row.values())
        raise SettingError(f"degradation table: {problem} in row {text}") from error
    if not epoch.start < epoch.stop:
        raise SettingError(
            f"degradation table: T_STOP is not after T_START in row {' '.join(row.values())}"
        )
    return epoch


def _evaluate(epochs: list[_Epoch]) -> _Series:
    """Compute the factors at the start of each day, from a channel's first epoch to its last.

    There are no measurements after the start of the last epoch, but its polynomial is evaluated
    until the end of this epoch.
    """
    first = -(-(epochs[0].start - datetime.min.replace(tzinfo=UTC)) // _DAY) + 1
    last = (max(epoch.stop for epoch in epochs) - datetime.min.replace(tzinfo=UTC)) // _DAY
    midnights = np.arange(first, max(last, first) + 1)
    factors = np.full(midnights.size, np.nan)
    # Where epochs overlap, later DATEs overwrite earlier ones.
    for epoch in sorted(epochs, key=lambda epoch: epoch.made):
        start = (epoch.start - datetime.min.replace(tzinfo=UTC)) / _DAY + 1
        stop = (epoch.stop - datetime.min.replace(tzinfo=UTC)) / _DAY + 1
        inside = (midnights >= start) & (midnights < stop)
        elapsed = midnights[inside] - start
        one, two, three = epoch.polynomial
        polynomial = 1 + one * elapsed + two * elapsed**2 + three * elapsed**3
        # Values are validated when they are used.
        with np.errstate(divide="ignore", invalid="ignore"):
            factors[inside] = np.divide(epoch.area, epochs[0].area) * polynomial
    return _Series(first, factors)

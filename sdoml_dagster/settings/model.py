"""The settings of a deployment. Only this module reads, validates and documents them.

Settings come from environment variables (``SDOML_RESOLUTION``) or from ``sdoml.toml``
(``resolution``). ``SDOML_CONFIG`` can name a different file. The environment takes precedence.
"""

import os
import re
import tomllib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sdoml_core.channels import (
    DEFAULT_CHANNELS,
    INSTRUMENTS,
    Channel,
    Instrument,
    MemberCase,
    parse_channels,
)
from sdoml_core.errors import SettingError
from sdoml_core.formats.encoding import Encoding
from sdoml_core.normalization.method import parse_method
from sdoml_core.slots import DAY_MINUTES, day_slots
from sdoml_dagster.asset_names import DEFAULT_DATASET
from sdoml_dagster.settings.errors import CONFIG, PREFIX, describe_problem, refuse_unknown_variables

RESOLUTIONS = (64, 128, 256, 512, 1024)

Names = Annotated[tuple[str, ...], NoDecode]
"""Written as comma-separated text in the environment, and as a list in TOML."""


class Settings(BaseSettings):
    """Settings of one deployment. They are immutable and always valid.

    Create them with :meth:`load`, which raises a :class:`SettingError` that lists all mistakes.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    name: str = DEFAULT_DATASET
    """Name of the dataset and of its releases. If set, it is also the name of the asset group, and
    the prefix of the asset keys and of the pool name. This lets several datasets share a Dagster
    instance."""

    store: str = "./data"
    """Folder or fsspec URL (``s3://bucket/prefix``) of the store, which contains all files of the
    dataset."""

    start: datetime = datetime(2022, 11, 1, tzinfo=UTC)
    """Start of the dataset (UTC), inclusive."""

    end: datetime | None = None
    """End of the dataset (UTC), exclusive. If unset, the dataset grows daily."""

    cadence_minutes: int = Field(15, ge=2, le=DAY_MINUTES)
    """Time between slots, in minutes. The grid of slots restarts at each UTC midnight."""

    channels: Names = DEFAULT_CHANNELS
    """Names of the channels to build."""

    resolution: int = 512
    """Width and height of a frame, in pixels."""

    dtype: Literal["float32", "float16"] = "float32"
    """Pixel type of the shards. Compact encodings store integers instead."""

    encoding: Encoding = "npy"
    """Encoding of the frames in shards: `npy` arrays, or quantized and compressed FITS files that
    add at most 10% (`compact`) or 1% (`compact-fine`) to the photon noise."""

    aia_roots: Names = (
        "http://jsoc.stanford.edu/data/aia/synoptic",
        "http://jsoc1.stanford.edu/data/aia/synoptic",
        "http://jsoc2.stanford.edu/data/aia/synoptic",
    )
    """Root URLs of the AIA tree and its mirrors. They are tried in this order."""

    hmi_roots: Names = (
        "http://jsoc.stanford.edu/data/hmi/images",
        "http://jsoc1.stanford.edu/data/hmi/images",
    )
    """Root URLs of the HMI tree and its mirrors. They are tried in this order."""

    max_connections: int = Field(4, ge=1, le=64)
    """Maximum number of connections to the archive per process."""

    connect_timeout: float = Field(10.0, gt=0)
    """Timeout for establishing a connection, in seconds."""

    read_timeout: float = Field(30.0, gt=0)
    """Timeout for receiving the next bytes, in seconds. A download slower than 20 kB/s also times
    out."""

    attempts: int = Field(5, ge=1, le=20)
    """Attempts per mirror before a frame is recorded as an outage."""

    missing_recheck_hours: float = Field(20.0, ge=0)
    """Time in hours after which a frame is requested again if the archive returned 404 for it."""

    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Number of threads that one run uses for decoding, resampling and packing."""

    aia_tolerance_minutes: int = Field(4, ge=0, le=60)
    """Maximum distance of a stand-in AIA frame from the paired minute, in minutes. 0 allows no
    stand-ins."""

    hmi_scale: float | Literal["geometric"] = "geometric"
    """Size of an HMI JPEG pixel in AIA pixels: `geometric` (2.0168/2.4) or a number such as 0.85.
    """

    hmi_values: Literal["level", "gauss"] = "level"
    """Values of HMI frames: `level` (gray, as in the original) or `gauss` (magnetic field)."""

    max_missing_fraction: float = Field(0.05, ge=0, le=1)
    """Maximum fraction of pixels without data. Frames that exceed it are rejected."""

    degradation_table: str | None = None
    """AIA degradation table that replaces the built-in V9: `V10`, or the path of a file."""

    normalization: str = "quantile:0.9999"
    """Method that determines the normalization constants: `quantile:Q` or `max`."""

    member_case: MemberCase = "upper"
    """Case of the channel names in shard members: `upper` or `lower`."""

    publication_lag_days: int = Field(8, ge=0)
    """Age in days at which the schedule first requests a day."""

    lookback_days: int = Field(28, ge=1)
    """Length of the look-back window: number of days before the publication lag that the schedule
    keeps complete."""

    schedule_hour: int = Field(6, ge=0, le=23)
    """Hour of the daily update (UTC)."""

    automation: Literal["schedule", "declarative"] = "schedule"
    """With `schedule`, the daily schedule builds shards. With `declarative`, Dagster also rebuilds
    a shard when its processed frames change, and makes a weekly release."""

    live_hours: int = Field(72, ge=1, le=13 * 24)
    """Length of the rolling window of the near-real-time dataset, in hours."""

    failure_webhook: str | None = None
    """URL that receives a JSON message when a run fails. If unset, no message is sent."""

    event_log_days: int = Field(0, ge=0)
    """Number of days after which log messages and step events of ended runs are deleted. 0 keeps
    them."""

    days_per_run: int = Field(1, ge=0)
    """Days per backfill run. 0 puts the whole range into one run."""

    run_retries: int = Field(3, ge=0, le=20)
    """Number of retries of an asset after an outage or a full disk."""

    retry_delay: float = Field(30.0, ge=0)
    """Delay before the first retry, in seconds. It doubles with each retry and has jitter."""

    coverage_warn: float = Field(0.95, ge=0, le=1)
    """The coverage check warns if a channel has a smaller fraction of its frames."""

    coverage_error: float = Field(0.5, ge=0, le=1)
    """The coverage check reports an error below this fraction."""

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Load settings from the environment and ``sdoml.toml``. Keyword arguments override both.

        Raises
        ------
        SettingError
            If a setting is invalid. The one-line message names the setting.
        """
        refuse_unknown_variables(cls.model_fields)
        try:
            return cls(**overrides)
        except ValidationError as error:
            problems = error.errors()
            file = _config_file()
            raise SettingError(
                "; ".join(describe_problem(one, cls.model_fields, file) for one in problems)
            ) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 part of pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Set the precedence: keyword arguments, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())

    @field_validator("store")
    @classmethod
    def _folder_or_url(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must be a folder or a URL")
        if re.match(r"[a-z0-9]{2,}:/(?!/)", value):
            raise ValueError("a URL needs two slashes after the colon, as in s3://bucket/prefix")
        return value

    @field_validator("channels", "aia_roots", "hmi_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("start", "end", mode="before")
    @classmethod
    def _utc(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueError(
                    f"{value!r} is not an ISO date or datetime such as 2022-11-01 or "
                    "2022-11-01T06:30"
                ) from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if isinstance(value, datetime):
            value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            if value.second or value.microsecond:
                raise ValueError(f"{value.isoformat()} must be a whole minute")
        return value

    @field_validator("channels")
    @classmethod
    def _known_channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(channel.name for channel in parse_channels(value))

    @field_validator("aia_roots", "hmi_roots")
    @classmethod
    def _http_roots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one root is required")
        for root in value:
            if not root.startswith(("http://", "https://")):
                raise ValueError("each root must be an http:// or https:// address")
        return tuple(root.rstrip("/") for root in value)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", value):
            raise ValueError(
                "must contain only letters and digits, optionally separated by single hyphens"
            )
        return value

    @field_validator("failure_webhook")
    @classmethod
    def _http_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// address")
        return value

    @field_validator("resolution")
    @classmethod
    def _known_resolution(cls, value: int) -> int:
        if value not in RESOLUTIONS:
            raise ValueError(f"{value} is not one of {', '.join(map(str, RESOLUTIONS))}")
        return value

    @field_validator("hmi_scale", mode="before")
    @classmethod
    def _plausible_scale(cls, value: float | str) -> float | str:
        if value == "geometric":
            return value
        try:
            if 0.1 <= float(value) <= 2:
                return float(value)
        except ValueError:
            pass
        raise ValueError("must be 'geometric' or a number between 0.1 and 2")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        if isinstance(value, bool):  # pydantic would convert a bool to 0 or 1
            raise ValueError("must not be true or false")  # noqa: TRY004 pydantic needs a ValueError
        return value

    @field_validator("normalization")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return str(parse_method(value))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"{PREFIX}END={self.end:%Y-%m-%dT%H:%M} must be later than "
                f"{PREFIX}START={self.start:%Y-%m-%dT%H:%M}"
            )
        cadence = self.cadence_minutes
        if cadence % 15 and ("HMI_M" in self.channels or cadence % 2 or DAY_MINUTES % cadence):
            raise ValueError(
                f"{PREFIX}CADENCE_MINUTES={cadence}: must be a multiple of 15, "
                "or, without HMI_M, an even divisor of 1440"
            )
        if self.encoding != "npy" and self.dtype != "float32":
            raise ValueError(
                f"{PREFIX}DTYPE={self.dtype} applies only to npy shards: unset it to use "
                f"{PREFIX}ENCODING={self.encoding}"
            )
        if self.coverage_error > self.coverage_warn:
            raise ValueError(f"{PREFIX}COVERAGE_ERROR must not exceed {PREFIX}COVERAGE_WARN")
        return self

    def channels_of(self, instrument: Instrument) -> tuple[Channel, ...]:
        """Return the configured channels of an instrument."""
        return tuple(c for c in parse_channels(self.channels) if c.instrument == instrument)

    def expected_slots(self, day: date) -> tuple[datetime, ...]:
        """Return the slots of a UTC day that are within the dataset's range."""
        return day_slots(day, cadence_minutes=self.cadence_minutes, start=self.start, end=self.end)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The instruments that observe at least one configured channel."""
        return tuple(i for i in INSTRUMENTS if self.channels_of(i))

    @property
    def last_day(self) -> date | None:
        """The last UTC day with a slot in the range, or ``None`` if the dataset has no end."""
        return None if self.end is None else (self.end - timedelta(minutes=1)).date()


def _config_file() -> Path | None:
    """Return the TOML file to read. A file that ``SDOML_CONFIG`` names must exist."""
    named = os.environ.get(CONFIG)
    path = Path(named or "sdoml.toml")
    if not path.is_file():
        if named:
            raise SettingError(f"{CONFIG}={named}: the file does not exist")
        return None
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from None
    return path

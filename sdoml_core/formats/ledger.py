"""Ledgers: the outcome of each expected frame of a day.

There are two Parquet tables with one row per expected slot and channel. The *raw ledger* records
what the archive returned, and the *frame table* records the result of processing. They contain no
wall-clock times, so the same frames give the same bytes at any time and on any machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from zlib_ng.zlib_ng import crc32

from sdoml_core.errors import DamagedFileError

if TYPE_CHECKING:
    import pyarrow as pa

Status = Literal["ok", "missing", "quality", "invalid", "blank", "outage"]
"""``ok``, or why there is no frame: the archive does not have the frame, QUALITY is bad, the file
is not a valid image, the image is blank, or the archive was unavailable (the only status that a
retry can fix)."""

STATUSES: tuple[Status, ...] = ("ok", "missing", "quality", "invalid", "blank", "outage")


@dataclass(frozen=True, slots=True)
class RawRow:
    """An expected frame in the raw ledger."""

    slot: datetime
    channel: str
    status: Status
    file: str | None = None
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    observed: datetime | None = None
    exposure: float | None = None
    quality: int | None = None
    rsun_obs: float | None = None
    candidates: int | None = None
    reason: str | None = None
    flags: int | None = None
    data_crc32: int | None = None


@dataclass(frozen=True, slots=True)
class FrameRow:
    """An expected frame in the frame table."""

    slot: datetime
    channel: str
    status: Status
    row: int | None = None
    observed: datetime | None = None
    exposure: float | None = None
    quality: int | None = None
    rsun_obs: float | None = None
    degradation: float | None = None
    degradation_table: str | None = None
    missing: int | None = None
    mean: float | None = None
    maximum: float | None = None
    crc32: int | None = None
    reason: str | None = None
    flags: int | None = None
    center_x: float | None = None
    center_y: float | None = None
    radius: float | None = None
    visible: float | None = None
    level: float | None = None
    brightness: float | None = None
    similarity: float | None = None
    sky: float | None = None
    shift_x: float | None = None
    shift_y: float | None = None
    roll: float | None = None
    holes: bytes | None = None
    values: str | None = None


_CHECKSUM = b"sdoml_crc32"
_INPUTS = b"sdoml_inputs"


def _checksum(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return the CRC-32 of the content of all rows, as text."""
    return str(crc32(repr(columns).encode())).encode()


Row = TypeVar("Row", bound=RawRow | FrameRow)


@dataclass(frozen=True)
class Column:
    """One column. Its description appears in the Parquet schema, the docs and Dagster's UI."""

    name: str
    type: str
    description: str
    optional: bool = False
    """Whether tables of earlier versions may lack the column. A missing column is read as null."""


@dataclass(frozen=True)
class TableFormat(Generic[Row]):
    """Format of a raw ledger or a frame table."""

    name: str
    row: type[Row]
    columns: tuple[Column, ...]

    def schema(self) -> "pa.Schema":
        """Return the Arrow schema, with each column's description as field metadata."""
        import pyarrow as pa  # slow to import, but definitions need only the descriptions

        types = {
            "string": pa.string(),
            "int64": pa.int64(),
            "float64": pa.float64(),
            "timestamp": pa.timestamp("ms", tz="UTC"),
            "binary": pa.binary(),
        }
        return pa.schema(
            [
                pa.field(c.name, types[c.type], metadata={"description": c.description})
                for c in self.columns
            ]
        )

    def encode(self, rows: Iterable[Row], *, inputs: str | None = None) -> bytes:
        """Encode rows as Parquet, sorted by slot and channel. The same rows give the same bytes.

        Parameters
        ----------
        rows
            The rows of a day.
        inputs
            Fingerprint of the inputs of the day, to record in the file.
        """
        import pyarrow as pa

        from sdoml_core.formats.parquet import write_parquet

        ordered = sorted(rows, key=lambda row: (row.slot, row.channel))
        columns = {c.name: [getattr(row, c.name) for row in ordered] for c in self.columns}
        table = pa.Table.from_pydict(columns, schema=self.schema())
        facts = {b"sdoml_table": self.name.encode(), _CHECKSUM: _checksum(table.to_pydict())}
        if inputs is not None:
            facts[_INPUTS] = inputs.encode()
        return write_parquet(table.replace_schema_metadata(facts))

    def inputs(self, data: bytes) -> str | None:
        """Return the recorded fingerprint of the day's inputs, or None if none was recorded.

        Raises
        ------
        DamagedFileError
            If the bytes are not a Parquet file.
        """
        from sdoml_core.formats.parquet import MAX_ROWS_OF_A_DAY, open_parquet

        schema = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY).schema_arrow
        recorded = (schema.metadata or {}).get(_INPUTS)
        return None if recorded is None else recorded.decode(errors="replace")

    def decode(self, data: bytes) -> list[Row]:
        """Decode rows from Parquet. Missing optional columns are read as None.

        Raises
        ------
        DamagedFileError
            If the bytes are not a valid table of this format.
        """
        import pyarrow as pa

        from sdoml_core.formats.parquet import MAX_ROWS_OF_A_DAY, open_parquet, read_columns

        try:
            file = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY)
            present = set(file.schema_arrow.names)
            names = [c.name for c in self.columns if c.name in present or not c.optional]
            table = read_columns(file).select(names)
            known = self.schema()
            schema = pa.schema([known.field(name) for name in names])
            columns: Mapping[str, Sequence[Any]] = table.cast(schema).to_pydict()
        except (DamagedFileError, pa.ArrowException, KeyError, ValueError, OverflowError) as error:
            raise DamagedFileError(f"unreadable {self.name}: {error}") from error
        # Parquet's own checksums do not cover the footer, where a flipped bit can drop rows.
        if (table.schema.metadata or {}).get(_CHECKSUM) != _checksum(columns):
            raise DamagedFileError(f"unreadable {self.name}: its checksum is wrong")
        unknown = set(columns["status"]) - set(STATUSES)
        if unknown:
            listed = ", ".join(sorted(map(repr, unknown)))
            raise DamagedFileError(f"unreadable {self.name}: unknown status {listed}")
        if None in columns["slot"] or None in columns["channel"]:
            raise DamagedFileError(f"unreadable {self.name}: a row has no slot or channel")
        make = cast("type[Any]", self.row)
        return [
            make(**dict(zip(names, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ]

    def read(self, data: bytes, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read the given columns as lists, by name. The checksum of the rows is not verified.

        Raises
        ------
        DamagedFileError
            If the bytes are not a valid table of this format.
        """
        from sdoml_core.formats.parquet import MAX_ROWS_OF_A_DAY, open_parquet, read_columns

        file = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY)
        absent = set(names) - set(file.schema_arrow.names)
        if absent:
            raise DamagedFileError(f"unreadable {self.name}: missing columns: {', '.join(absent)}")
        table = read_columns(file, list(names))
        return {name: table.column(name).to_pylist() for name in names}


_SHARED = (
    Column("slot", "timestamp", "Time of the slot (UTC): the HMI minute, key of the sample"),
    Column("channel", "string", "AIA_0193 … HMI_M"),
    Column("status", "string", f"One of {', '.join(STATUSES)}"),
)
_OBSERVATION = (
    Column("observed", "timestamp", "When the frame was really taken (UTC)"),
    Column("exposure", "float64", "EXPTIME in seconds (AIA)"),
    Column("quality", "int64", "QUALITY of the FITS header (AIA); 0 is good"),
    Column("rsun_obs", "float64", "Apparent solar radius in arcsec"),
)
_REASON = Column("reason", "string", "Why there is no frame, or why another one stands in")
_FLAGS = Column("flags", "int64", "Flags of the frame: a sum of powers of 2", optional=True)

RAW_LEDGER = TableFormat(
    "raw ledger",
    RawRow,
    (
        *_SHARED,
        Column("file", "string", "File name in the day's raw folder"),
        Column("url", "string", "Its address at the first root; any mirror may have served it"),
        Column("bytes", "int64", "Size of the file"),
        Column("sha256", "string", "SHA-256 of the file, in hex"),
        *_OBSERVATION,
        Column("candidates", "int64", "Minutes that could serve the slot, by the tolerance (AIA)"),
        _REASON,
        _FLAGS,
        Column(
            "data_crc32",
            "int64",
            "CRC-32 of the pixels as the file has them, without its header",
            optional=True,
        ),
    ),
)

FRAME_TABLE = TableFormat(
    "frame table",
    FrameRow,
    (
        *_SHARED,
        Column(
            "row", "int64", "Index of the frame in the channel's .npy; null where there is none"
        ),
        *_OBSERVATION,
        Column("degradation", "float64", "Degradation factor that the frame was divided by (AIA)"),
        Column("degradation_table", "string", "Its table, and whether the day lies past it"),
        Column("missing", "int64", "Pixels of the raw frame without data"),
        Column("mean", "float64", "Mean pixel of the processed frame"),
        Column("maximum", "float64", "Largest pixel of the processed frame"),
        Column("crc32", "int64", "CRC-32 of the processed frame's pixels (little-endian float32)"),
        _REASON,
        _FLAGS,
        *(
            Column(name, type_, description, optional=True)
            for name, type_, description in (
                ("center_x", "float64", "Measured center of the disk, pixels right of the middle"),
                ("center_y", "float64", "Measured center of the disk, pixels below the middle"),
                ("radius", "float64", "Measured radius of the disk in pixels of the frame"),
                ("visible", "float64", "Fraction of the disk that is not dark"),
                (
                    "level",
                    "float64",
                    "Median of the disk: DN/s per pixel of 0.6″, or level (HMI)",
                ),
                ("brightness", "float64", "Level over that of the neighboring frames"),
                ("similarity", "float64", "Correlation with the neighboring frames"),
                ("sky", "float64", "Median of the sky over the bright quarter of the disk (AIA)"),
                ("shift_x", "float64", "Correction: raw pixels that the Sun was moved right"),
                ("shift_y", "float64", "Correction: raw pixels that the Sun was moved down"),
                ("roll", "float64", "Correction: CROTA2 in degrees"),
                ("holes", "binary", "Pixels of the frame without data, as runs"),
                ("values", "string", "`level` or `gauss` (HMI); null in earlier tables: `level`"),
            )
        ),
    ),
)

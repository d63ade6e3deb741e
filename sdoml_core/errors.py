"""All errors that sdoml-lite raises.

::

    SdomlError
    ├── SettingError (ValueError)           a setting is invalid; the message names it
    ├── FrameError (ValueError)             a frame is unusable; recorded in the ledger
    │   ├── NotAnImageError                 empty, HTML, or not the type that its name indicates
    │   ├── TruncatedFrameError             cut off before the end of the image
    │   ├── CorruptFrameError               checksum, structure or pixels are wrong
    │   ├── WrongFrameError                 intact, but the wrong size, channel or time
    │   ├── BadQualityError                 QUALITY says that it is not a science image
    │   ├── BlankFrameError                 black, or too many pixels are missing
    │   └── DoubtfulFrameError              may be damaged; downloaded again to check
    ├── FrameMissingError (LookupError)     no mirror has the frame; recorded in the ledger
    │   └── FrameRefusedError               the archive refuses the file (403)
    ├── OutageError (ConnectionError)       the archive is unavailable; retrying can help
    ├── StoreError (OSError)                the store cannot be read or written
    │   └── StorePathError                  the store path is unusable as configured
    ├── MissingInputError (LookupError)     an upstream product is missing; run its step first
    ├── DamagedFileError (ValueError)       a ledger, sketch, shard or index is damaged
    ├── NormalizationError (ValueError)     constants are missing, mixed, or do not match
    └── DatasetError (ValueError)           the dataset does not contain what was requested

Whether an operation is retried depends on the type of the error, never on its message. Each type
also inherits from the closest builtin type, so that callers can catch the builtin type instead.
"""

from typing import ClassVar, Literal


class SdomlError(Exception):
    """Base class of all errors in this package."""

    may_pass: ClassVar[bool] = False
    """Whether the error may be temporary, so that a retry can help."""


class SettingError(SdomlError, ValueError):
    """A setting is invalid. The one-line message names the setting."""


class FrameError(SdomlError, ValueError):
    """A frame is unusable. The day is processed without this frame."""

    status: ClassVar[Literal["invalid", "quality", "blank"]] = "invalid"
    """Status of the frame in the ledger."""


class NotAnImageError(FrameError):
    """The file is empty, an HTML page, or not the image type that its name indicates."""


class TruncatedFrameError(FrameError):
    """The file ends before the image is complete."""


class CorruptFrameError(FrameError):
    """The checksum, the structure or the compressed pixels are wrong."""


class WrongFrameError(FrameError):
    """The image is intact, but has the wrong size, channel or time."""


class BadQualityError(FrameError):
    """QUALITY says that the frame is not a science image."""

    status = "quality"


class BlankFrameError(FrameError):
    """The image is black, or too many of its pixels have no data."""

    status = "blank"


class DoubtfulFrameError(FrameError):
    """The file may be damaged. It is downloaded again to check.

    Parameters
    ----------
    message
        Description of the possible damage.
    value
        Result to return to the caller if the file turns out to be good.
    """

    def __init__(self, message: str, value: object) -> None:
        super().__init__(message)
        self.value = value


class FrameMissingError(SdomlError, LookupError):
    """No mirror has the file. The message becomes the reason in the ledger."""


class FrameRefusedError(FrameMissingError):
    """Every mirror refuses the file, for example with 403. The message contains the response.

    A single refused file is recorded as missing. If most files of a day are refused, the day counts
    as an outage.
    """


class OutageError(SdomlError, ConnectionError):
    """The archive did not respond, even after all retries. Retrying later can help."""

    may_pass = True


class StoreError(SdomlError, OSError):
    """The store cannot be read or written: disk full, permission denied, or no such bucket."""

    may_pass = True


class StorePathError(StoreError):
    """The store path is unusable as configured. Retrying will not help."""

    may_pass = False


class MissingInputError(SdomlError, LookupError):
    """An upstream product is missing from the store. The message says what to materialize."""


class DamagedFileError(SdomlError, ValueError):
    """A ledger, sketch, shard or index is damaged."""


class NormalizationError(SdomlError, ValueError):
    """Normalization constants are missing, mixed, or do not match the data."""


class DatasetError(SdomlError, ValueError):
    """The dataset does not contain what was requested."""

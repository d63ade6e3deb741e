"""Every error that sdoml-lite raises on purpose.

::

    SdomlError
    ├── SettingError (ValueError)           a setting is wrong; one line that names it
    ├── FrameError (ValueError)             a frame cannot be used; becomes a row of the ledger
    │   ├── NotAnImageError                 empty, HTML, or another thing than the name says
    │   ├── TruncatedFrameError             shorter than its own header or markers promise
    │   ├── CorruptFrameError               checksum, structure or pixels are wrong
    │   ├── WrongFrameError                 intact, but another size, channel or time than asked for
    │   ├── BadQualityError                 QUALITY says that it is not a science image
    │   └── BlankFrameError                 nothing on it (black image, too many pixels missing)
    ├── FrameMissingError (LookupError)     no mirror has the frame; becomes a row of the ledger
    ├── OutageError (ConnectionError)       the archive cannot answer now; a later try can mend it
    ├── StoreError (OSError)                the store cannot be read or written
    │   └── StorePathError                  its place is none that can be used so
    ├── MissingInputError (LookupError)     an upstream product is not there; names the remedy
    ├── DamagedFileError (ValueError)       a ledger, sketch, shard or index is not what was written
    ├── NormalizationError (ValueError)     constants are missing, mixed or do not fit
    └── DatasetError (ValueError)           the loader was asked for what is not there

Error types, never message texts, decide what is retried. Each also inherits the builtin that
fits, so that code which knows nothing of this package still catches the right thing.
"""

from typing import ClassVar, Literal


class SdomlError(Exception):
    """Base of all errors raised on purpose."""

    may_pass: ClassVar[bool] = False
    """Whether a later try can mend it by itself."""


class SettingError(SdomlError, ValueError):
    """A setting has a bad value; the message is one line that names it."""


class FrameError(SdomlError, ValueError):
    """The bytes of one frame cannot be used; the day goes on without it."""

    status: ClassVar[Literal["invalid", "quality", "blank"]] = "invalid"
    """What the ledger records for such a frame."""


class NotAnImageError(FrameError):
    """The bytes are empty, an HTML page, or no image of the kind the name promises."""


class TruncatedFrameError(FrameError):
    """The bytes end before the image does."""


class CorruptFrameError(FrameError):
    """A checksum, the structure or the compressed pixels are wrong."""


class WrongFrameError(FrameError):
    """An intact image, but not of the size, channel or time that was asked for."""


class BadQualityError(FrameError):
    """QUALITY says that this is not a science image."""

    status = "quality"


class BlankFrameError(FrameError):
    """Nothing to see: an all-black image, or too many pixels without data."""

    status = "blank"


class FrameMissingError(SdomlError, LookupError):
    """No mirror of the archive has the file; the message is the reason for the ledger."""


class OutageError(SdomlError, ConnectionError):
    """The archive could not answer after all retries; asking again later can mend it."""

    may_pass = True


class StoreError(SdomlError, OSError):
    """The store cannot be read or written: disk full, no permission, no such bucket."""

    may_pass = True


class StorePathError(StoreError):
    """The store's place is none that can be used so; no later try mends it by itself."""

    may_pass = False


class MissingInputError(SdomlError, LookupError):
    """An upstream product is not in the store; the message says what to materialise."""


class DamagedFileError(SdomlError, ValueError):
    """A ledger, sketch, shard or index does not hold what was once written to it."""


class NormalizationError(SdomlError, ValueError):
    """Normalisation constants are missing, mixed, or do not fit the data."""


class DatasetError(SdomlError, ValueError):
    """The loader was asked for something that the dataset does not have."""

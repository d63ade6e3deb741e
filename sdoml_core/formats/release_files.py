"""Names of the files of a release.

A release writes the constants first, the index nearly last and the checksums last.
"""

RELEASE_INDEX = "index.parquet"
RELEASE_CONSTANTS = "normalization.json"
RELEASE_SUMS = "SHA256SUMS"

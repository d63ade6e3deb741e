"""Names of the files in a release.

When a release is built, the constants are written first, the index near the end, and the checksums
last.
"""

RELEASE_INDEX = "index.parquet"
RELEASE_CONSTANTS = "normalization.json"
RELEASE_SUMS = "SHA256SUMS"
RELEASE_SPLITS = "splits.json"
"""File with the ranges and shards of the splits. Only a release with splits has it."""

"""File names in a release.

Building a release writes the constants first, the index near the end and the checksums last.
"""

RELEASE_INDEX = "index.parquet"
RELEASE_CONSTANTS = "normalization.json"
RELEASE_SUMS = "SHA256SUMS"
RELEASE_SPLITS = "splits.json"
"""Ranges and shards of the splits; only in a release with splits."""

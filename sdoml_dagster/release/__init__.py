"""Releases: numbered shards with an index, coverage, checksums and a dataset card."""

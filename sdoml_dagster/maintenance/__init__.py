"""Maintenance of a whole store: verify files and prune raw frames."""

"""Dagster assets. Each one reads its partition, calls the library, and returns metadata."""

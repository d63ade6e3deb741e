"""Dagster assets. Each asset reads its partition, calls the library, and returns metadata."""

"""Dagster sensors: automation, freshness, the dataset's range, dead runs, and failure messages."""

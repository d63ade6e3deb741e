"""Dagster sensors: freshness, the range of the dataset, and messages about failures."""

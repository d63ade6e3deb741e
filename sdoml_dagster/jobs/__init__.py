"""Dagster jobs: selections of assets, and maintenance jobs."""
